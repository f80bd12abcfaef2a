"""Schedules that change the rate from batch to batch: the numbers of PyTorch and of `naive.py`."""

import copy
import math
import pickle
from fractions import Fraction

import naive
import numpy as np
import pytest
from helpers import dtypes
from hypothesis import given, settings
from hypothesis import strategies as st
from models import TARGETS, X
from networks import Twin, assert_loss_near, assert_near_twin, bits, draw_data, draw_network

import fastmlp
from fastmlp.optimizers import SGD, Adam
from fastmlp.schedules import ONLY_SGD, SCHEDULES, make_schedule

# Batches of an epoch, the last of them short, and the epochs of a schedule.
ROWS, BATCH_SIZE, BATCHES, EPOCHS = 28, 10, 3, 20
RATE, DECAY = 0.05, 0.4
SOME_NUMBERS = [*range(1, 12), EPOCHS * BATCHES, 1000]
OPTIMIZERS = {
    "adam": (Adam, {"epsilon": 1e-15}),  # in PyTorch epsilon has another place
    "nesterov": (SGD, {}),
    "momentum": (SGD, {"nesterov": False}),
    "plain sgd": (SGD, {"momentum": 0.0}),
}
schedules = pytest.mark.parametrize("schedule", naive.FACTORS)
each_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS)


def square(t):
    """What a user may write; it can be pickled."""
    return (1 - t) ** 2


# Whatever changes from batch to batch, each with the factor of batch k of n.
FACTORS = naive.FACTORS | {square: lambda k, n: (1 - k / n) ** 2}
all_schedules = pytest.mark.parametrize("schedule", FACTORS, ids=lambda value: getattr(value, "__name__", value))


def rates_of(schedule, epochs=EPOCHS, batches=BATCHES, max_iter=EPOCHS, rate=RATE):
    """Those of so many epochs."""
    made, rates = make_schedule(schedule, rate, 0.5, max_iter), []
    for _ in range(epochs):
        rates.append(made.rates(batches))
        made.advance(rates[-1])
    return np.concatenate(rates)


def small_network():
    network = fastmlp.MLP([2, 2, 1], "tanh", "identity", np.float64)
    network.initialize(np.random.RandomState(0))
    return network


def make(optimizer, network, schedule, **parameters):
    """One of OPTIMIZERS, with decay."""
    cls, others = OPTIMIZERS[optimizer]
    options = {"lr_schedule": schedule, "max_iter": EPOCHS, "weight_decay": DECAY} | others | parameters
    return cls(network, RATE, **options)


def flat(arrays):
    return np.concatenate([array.ravel() for array in arrays])


def train(network, optimizer, epochs):
    """The losses of so many epochs."""
    data = network.data(X[:ROWS, :2], TARGETS["MLPRegressor"][:ROWS])
    return [network.train_epoch(data, optimizer, BATCH_SIZE) for _ in range(epochs)]


# ---- PyTorch ----

# PyTorch 2.13's rates of all batches, and for each optimizer and schedule all weights, then all biases, of `by_torch`.
RATES_BY_TORCH = {
    "cosine": [
        0.050000000000, 0.049965738369, 0.049863047384, 0.049692208515, 0.049453690018, 0.049148145657, 0.048776412907,
        0.048339510662, 0.047838636441, 0.047275163105, 0.046650635095, 0.045966764199, 0.045225424859, 0.044428649036,
        0.043578620637, 0.042677669530, 0.041728265159, 0.040733009776, 0.039694631307, 0.038615975875, 0.037500000000,
        0.036349762493, 0.035168416077, 0.033959198739, 0.032725424859, 0.031470476128, 0.030197792270, 0.028910861626,
        0.027613211582, 0.026308398906, 0.025000000000, 0.023691601094, 0.022386788418, 0.021089138374, 0.019802207730,
        0.018529523872, 0.017274575141, 0.016040801261, 0.014831583923, 0.013650237507, 0.012500000000, 0.011384024125,
        0.010305368693, 0.009266990224, 0.008271734841, 0.007322330470, 0.006421379363, 0.005571350964, 0.004774575141,
        0.004033235801, 0.003349364905, 0.002724836895, 0.002161363559, 0.001660489338, 0.001223587093, 0.000851854343,
        0.000546309982, 0.000307791485, 0.000136952616, 0.000034261631,
    ],
    "onecycle": [
        0.002000000000, 0.002408645608, 0.003620666494, 0.005594788742, 0.008263785987, 0.011536768727, 0.015302279461,
        0.019432088238, 0.023785559373, 0.028214440627, 0.032567911762, 0.036697720539, 0.040463231273, 0.043736214013,
        0.046405211258, 0.048379333506, 0.049591354392, 0.050000000000, 0.049930095209, 0.049720771773, 0.049373200312,
        0.048889324587, 0.048271850629, 0.047524231601, 0.046650648492, 0.045655986734, 0.044545808879, 0.043326323491,
        0.042004350427, 0.040587282697, 0.039083045120, 0.037500050000, 0.035847150090, 0.034133589075, 0.032368949885,
        0.030563101097, 0.028726141750, 0.026868344867, 0.025000100000, 0.023131855133, 0.021274058250, 0.019437098903,
        0.017631250115, 0.015866610925, 0.014153049910, 0.012500150000, 0.010917154880, 0.009412917303, 0.007995849573,
        0.006673876509, 0.005454391121, 0.004344213266, 0.003349551508, 0.002475968399, 0.001728349371, 0.001110875413,
        0.000626999688, 0.000279428227, 0.000070104791, 0.000000200000,
    ],
}  # fmt: skip
BY_TORCH = {
    ("adam", "cosine"): [
        -0.415172497062, 0.843187869282, 0.290077682258, 0.033100030892, -0.617250607595, 0.914690826131,
        0.799994131301, -0.485670423352, 0.240082105481,
    ],
    ("adam", "onecycle"): [
        -0.407725835513, 0.803085380471, 0.268891314528, 0.010227113732, -0.497928757970, 0.900651444510,
        0.700648999575, -0.474904538831, 0.242353770886,
    ],
    ("adam", "coslog4"): [
        -0.406269320865, 0.758136273129, 0.247995273362, 0.014055955828, -0.673122288008, 0.966131324942,
        0.863932263526, -0.443351351230, 0.277638180202,
    ],
    ("adam", "flat_cos"): [
        -0.551753697627, 0.834946455790, 0.346546279202, 0.051606861032, -0.630378632646, 0.848691063156,
        0.703807320720, -0.458005437304, 0.139984267199,
    ],
    ("nesterov", "cosine"): [
        0.265234489871, 1.487052796408, 0.056038382079, 0.115279809172, 0.171865925760, 1.159948971975,
        0.214506554523, -0.250614321951, -0.233889743315,
    ],
    ("nesterov", "onecycle"): [
        0.933173711419, 2.014019352301, 0.364786979143, -0.031182681055, 0.827059924670, 0.698559513293,
        0.740984252297, -1.223303670840, -0.426847135438,
    ],
    ("nesterov", "coslog4"): [
        0.148743564359, 1.192802998544, 0.101613733323, 0.098139068973, 0.028970023596, 1.267355590988,
        0.125346633316, -0.011078665261, -0.281030101946,
    ],
    ("nesterov", "flat_cos"): [
        0.341874264791, 1.252831545733, 0.015116568958, 0.096320882092, 0.270685338443, 1.163909349608,
        0.255862762683, -0.015137556051, -0.321612001410,
    ],
    ("momentum", "cosine"): [
        0.558676281344, 1.729142835295, 0.162669192997, 0.096556990188, 0.375265050730, 1.010416747687,
        0.370825058674, -0.522046449181, -0.285188981443,
    ],
    ("momentum", "onecycle"): [
        1.141328194271, 2.264137526167, 0.403897587221, -0.075700422051, 0.851708725995, 0.608430970174,
        0.826708549027, -1.552982979496, -0.465034543632,
    ],
    ("momentum", "coslog4"): [
        0.373531281404, 1.345345670774, 0.097348893575, 0.086219359187, 0.194380654499, 1.166460913239,
        0.226081891751, -0.135280973124, -0.284992374695,
    ],
    ("momentum", "flat_cos"): [
        0.707603193381, 1.538200674967, 0.290834356606, 0.090876043662, 0.576343915694, 0.880872952290,
        0.515890475754, -0.290753829382, -0.334667797056,
    ],
    ("plain sgd", "cosine"): [
        0.031852606184, 0.620304006989, 0.147643209001, 0.002236977041, -0.002532215041, 0.926037003282,
        -0.103542269973, -0.314393253433, 0.131502517290,
    ],
    ("plain sgd", "onecycle"): [
        0.027865912357, 0.616631999717, 0.154335319751, -0.003898102909, -0.012778183632, 0.927315053930,
        -0.093657416703, -0.317146309694, 0.140407939798,
    ],
    ("plain sgd", "coslog4"): [
        0.026810158080, 0.616627716425, 0.156207594363, -0.006596172004, -0.015989692648, 0.925063951370,
        -0.090444361799, -0.317902011859, 0.142065111096,
    ],
    ("plain sgd", "flat_cos"): [
        0.025052045589, 0.633392643062, 0.107822279857, -0.011917481710, 0.013845024437, 0.904490709871,
        -0.104425377724, -0.316309344544, 0.004950297860,
    ],
}  # fmt: skip


def torch_schedule(schedule, optimizer, batches):
    """Its scheduler; what it has not is a LambdaLR of the formula."""
    from torch.optim import lr_scheduler

    if schedule == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, batches)
    if schedule == "onecycle":
        return lr_scheduler.OneCycleLR(optimizer, RATE, batches, cycle_momentum=False)
    return lr_scheduler.LambdaLR(optimizer, lambda k: naive.FACTORS[schedule](k, batches))


def torch_rates(schedule, batches):
    """The rates of all batches."""
    import torch

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], RATE)
    scheduler, rates = torch_schedule(schedule, optimizer, batches), []
    for k in range(batches):
        rates += scheduler.get_last_lr()
        optimizer.step()
        if k + 1 < batches:
            scheduler.step()
    return rates


def by_torch(name, schedule):
    """What PyTorch learns: AdamW, or SGD after a decay by hand, as its own is coupled."""
    import torch

    network, (_, parameters) = small_network(), OPTIMIZERS[name]
    weights, biases = (
        [torch.tensor(array, requires_grad=True) for array in arrays] for arrays in (network.weights, network.biases)
    )
    if name == "adam":
        groups = [{"params": weights, "weight_decay": DECAY}, {"params": biases, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, RATE, eps=parameters["epsilon"])
    else:
        momentum = parameters.get("momentum", 0.9)
        nesterov = momentum > 0 and parameters.get("nesterov", True)
        optimizer = torch.optim.SGD(weights + biases, RATE, momentum, nesterov=nesterov)
    scheduler = torch_schedule(schedule, optimizer, EPOCHS * BATCHES)
    for k in range(EPOCHS * BATCHES):
        start = k % BATCHES * BATCH_SIZE
        batch = slice(start, min(start + BATCH_SIZE, ROWS))
        rows, targets = torch.tensor(X[batch, :2]), torch.tensor(TARGETS["MLPRegressor"][batch])
        outputs = (torch.tanh(rows @ weights[0] + biases[0]) @ weights[1] + biases[1]).ravel()
        loss = torch.nn.functional.mse_loss(outputs, targets) / 2
        optimizer.zero_grad()
        loss.backward()
        if name != "adam":
            with torch.no_grad():
                for W in weights:
                    W *= 1 - scheduler.get_last_lr()[0] * DECAY
        optimizer.step()
        if k + 1 < EPOCHS * BATCHES:
            scheduler.step()
    return flat([parameter.detach().numpy() for parameter in weights + biases])


@pytest.mark.parametrize("schedule", RATES_BY_TORCH)
def test_rates_of_pytorch(schedule):
    """Those of its schedulers of that name."""
    np.testing.assert_allclose(rates_of(schedule), RATES_BY_TORCH[schedule], rtol=0, atol=1e-12)


@pytest.mark.parametrize("schedule", RATES_BY_TORCH)
def test_pytorch_gives_these_rates(schedule):
    """Where it is installed; ours are near for any number of batches, be they in one epoch or in one each."""
    pytest.importorskip("torch")
    np.testing.assert_allclose(torch_rates(schedule, EPOCHS * BATCHES), RATES_BY_TORCH[schedule], rtol=0, atol=1e-12)
    for batches in SOME_NUMBERS:
        expected = torch_rates(schedule, batches)
        np.testing.assert_allclose(rates_of(schedule, 1, batches, 1), expected, rtol=0, atol=1e-13)
        np.testing.assert_allclose(rates_of(schedule, batches, 1, batches), expected, rtol=0, atol=1e-13)


@schedules
@each_optimizer
def test_weights_of_pytorch(optimizer, schedule):
    """After 20 epochs."""
    network = small_network()
    train(network, make(optimizer, network, schedule), EPOCHS)
    found = flat(network.weights + network.biases)
    np.testing.assert_allclose(found, BY_TORCH[optimizer, schedule], rtol=0, atol=1e-9)


@schedules
@each_optimizer
def test_pytorch_gives_these_weights(optimizer, schedule):
    """Where it is installed."""
    pytest.importorskip("torch")
    np.testing.assert_allclose(by_torch(optimizer, schedule), BY_TORCH[optimizer, schedule], rtol=0, atol=1e-9)


# ---- the twin ----


def test_the_twin_has_every_row_of_the_table():
    """But those of scikit-learn, whose twin is scikit-learn."""
    assert naive.FACTORS.keys() == SCHEDULES.keys() - {"constant", *ONLY_SGD}


@all_schedules
def test_rates_of_the_twin(schedule):
    """For any number of batches, and in float64 also where learning_rate_init is not."""
    for batches in SOME_NUMBERS:
        for rate in RATE, np.float32(RATE), 1:
            expected = [float(rate) * FACTORS[schedule](k, batches) for k in range(batches)]
            np.testing.assert_allclose(rates_of(schedule, 1, batches, 1, rate), expected, rtol=1e-12, atol=1e-13)


# Batch sizes of six epochs; the schedules have four.
BATCH_SIZES = [10, 10, 7, ROWS, 10, 10]


@all_schedules
@each_optimizer
@dtypes
def test_epochs_of_the_twin(dtype, optimizer, schedule):
    """Losses and weights, where epochs have other numbers of batches, and after the schedule has come to its end."""
    layer_units, rng = (5, 20, 3), np.random.RandomState(1)
    ours = draw_network(rng, layer_units, dtype=dtype)
    features, labels = draw_data(rng, layer_units, "softmax", ROWS)
    twin, data = Twin(ours), ours.data(features, labels)
    if optimizer == "adam":
        trainer, theirs = make(optimizer, ours, schedule, max_iter=4, epsilon=1e-3), naive.Adam(epsilon=1e-3)
    else:
        trainer = make(optimizer, ours, schedule, max_iter=4)
        theirs = naive.SGD(momentum=trainer.momentum, nesterov=trainer.nesterov, of_gradients=True)
    theirs.weight_decay = DECAY
    for epoch, batch_size in enumerate(BATCH_SIZES):
        batches = -(-ROWS // batch_size)
        rates = [RATE * FACTORS[schedule](min(epoch + k / batches, 4) * batches, 4 * batches) for k in range(batches)]
        loss = ours.train_epoch(data, trainer, batch_size, 0.1)
        assert_loss_near(loss, twin.train_epoch(features, labels, theirs, batch_size, 0.1, rates=rates), dtype)
        rate = trainer.learning_rate
        if optimizer == "adam":
            rate /= np.sqrt(1 - trainer.beta_2**trainer.t) / (1 - trainer.beta_1**trainer.t)
        assert rate == pytest.approx(rates[-1], rel=1e-9, abs=1e-14) and trainer.epochs == epoch + 1
    assert_near_twin(ours, twin)


def test_coslog4_comes_down_to_zero_four_times():
    """Of 30 batches after 2, 6, 14 and 30: each time it takes twice as long. Halfway, as log2 goes, it is 1."""
    found = [make_schedule("coslog4", 1.0, 0.5, 30).factor(k, 30) for k in (0, 2, 6, 14, 30)]
    np.testing.assert_allclose(found, 0, atol=1e-12)
    assert SCHEDULES["coslog4"](1.0).factor(2 * (math.sqrt(2) - 1), 30) == pytest.approx(1)


# ---- properties ----


@schedules
@given(st.integers(1, 10**6), st.integers(1, 20), st.integers(0, 2 * 10**6))
@settings(deadline=None)
def test_factors_are_between_0_and_1(schedule, max_iter, batches, epochs):
    """Whatever the numbers are; the rate stays as it is after max_iter epochs."""
    made = make_schedule(schedule, 1.0, 0.5, max_iter)
    made.epochs = epochs
    rates = made.rates(batches)
    assert (rates.shape, rates.dtype) == ((batches,), np.float64) and 0 <= rates.min() <= rates.max() <= 1
    if epochs >= max_iter:
        made.epochs = max_iter
        assert set(rates) == {made.rates(1)[0]} and rates[0] <= 4e-6


@each_optimizer
@given(st.floats(1e-6, 1.0), st.integers(1, 10**9), st.integers(1, 4))
@settings(deadline=None, max_examples=20)
def test_constant_leaves_every_bit(optimizer, rate, max_iter, epochs):
    """Of weights, losses and rate; so does a function that is 1, but for PyTorch's momentum. Any other does not."""
    cls, parameters = OPTIMIZERS[optimizer]
    results = []
    for schedule in (
        {},
        {"lr_schedule": "constant", "max_iter": max_iter},
        {"lr_schedule": lambda t: 1},
        {"lr_schedule": lambda t: 0.5},
    ):
        network = small_network()
        trainer = cls(network, rate, **parameters, **schedule)
        losses = train(network, trainer, epochs)
        results.append((bits(network), losses, trainer.learning_rate))
    assert results[0] == results[1] != results[3]
    assert results[2] == results[0] or optimizer in ("nesterov", "momentum")
    np.testing.assert_allclose(results[2][1], results[0][1], rtol=1e-9)


# ---- copies ----


COPIES = {
    "pickle": lambda network, optimizer: pickle.loads(pickle.dumps((network, optimizer))),
    "deepcopy": lambda *both: copy.deepcopy(both),
    "copy_for": lambda network, optimizer: (copy.deepcopy(network), optimizer.copy_for(network)),
}


@all_schedules
@each_optimizer
@pytest.mark.parametrize("how", COPIES)
def test_a_copy_goes_on_from_where_it_is(how, optimizer, schedule):
    """In the middle of training: the same bits as without."""
    ours = small_network()
    our_optimizer = make(optimizer, ours, schedule, max_iter=6)
    train(ours, our_optimizer, 3)
    theirs, their_optimizer = COPIES[how](ours, our_optimizer)
    assert their_optimizer.learning_rate == our_optimizer.learning_rate
    assert (their_optimizer.lr_schedule, their_optimizer.max_iter, their_optimizer.epochs) == (schedule, 6, 3)
    assert train(theirs, their_optimizer, 5) == train(ours, our_optimizer, 5)
    assert bits(theirs) == bits(ours) and their_optimizer.learning_rate == our_optimizer.learning_rate


@each_optimizer
def test_a_state_from_before_there_were_such_schedules(optimizer):
    """Goes on with the bits that it had gone on with."""
    ours = small_network()
    our_optimizer = make(optimizer, ours, "constant", weight_decay=0.0)
    train(ours, our_optimizer, 3)
    state = our_optimizer.__getstate__()
    new = {"weight_decay", "max_iter", "epochs"} | ({"lr_schedule", "rate"} if optimizer == "adam" else set())
    assert new < state.keys()
    theirs, their_optimizer = copy.deepcopy(ours), type(our_optimizer).__new__(type(our_optimizer))
    their_optimizer.__setstate__({name: value for name, value in state.items() if name not in new})
    assert their_optimizer.learning_rate == our_optimizer.learning_rate
    assert train(theirs, their_optimizer, 2) == train(ours, our_optimizer, 2) and bits(theirs) == bits(ours)


def test_a_lambda_cannot_be_pickled():
    """As anywhere in Python; it can be copied."""
    network = small_network()
    optimizer = Adam(network, lr_schedule=lambda t: 1 - t)
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(optimizer)
    assert copy.deepcopy(optimizer).lr_schedule is optimizer.copy_for(network).lr_schedule is optimizer.lr_schedule


# ---- refusals ----

NO_FACTORS = [-1e-9, math.nan, math.inf, -math.inf, None, "0.5", 1j, [0.5], np.array([0.5]), np.array(0.5)]


@pytest.mark.parametrize("bad", NO_FACTORS, ids=repr)
@each_optimizer
def test_what_is_no_factor(optimizer, bad):
    """Is refused before the epoch trains, if only the last batch had it; all stays as it was."""
    network = small_network()
    trainer = make(optimizer, network, lambda t: bad if t > 0.03 else 1.0)
    before, state = bits(network), repr(trainer.__getstate__())
    with pytest.raises(ValueError, match="learning_rate must return a finite number >= 0, got .* for t=0.033"):
        train(network, trainer, 1)
    assert bits(network) == before and repr(trainer.__getstate__()) == state


@pytest.mark.parametrize("factor", [0, 0.5, 2, True, np.float32(0.5), np.int64(1), Fraction(1, 4)], ids=repr)
def test_what_is_a_factor(factor):
    """Any real number >= 0, also above 1."""
    assert rates_of(lambda t: factor, epochs=1).tolist() == [RATE * float(factor)] * BATCHES


def test_what_the_function_is_called_with():
    """t of each batch when it begins, as a float; 1 after the last epoch."""
    called = []
    rates_of(lambda t: called.append(t) or 1.0, epochs=3, batches=2, max_iter=2)
    assert called == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0] and {type(t) for t in called} == {float}


def test_an_exception_of_the_function_is_passed_on():
    network = small_network()
    before, optimizer = bits(network), SGD(network, lr_schedule=lambda t: 1 / t)
    with pytest.raises(ZeroDivisionError):
        train(network, optimizer, 1)
    assert bits(network) == before and optimizer.epochs == 0


@pytest.mark.parametrize("cls", [Adam, SGD])
def test_what_optimizers_refuse(cls):
    """Schedules that are not there, and numbers of epochs that are none."""
    network = small_network()
    for bad in "cosin", None, 1, []:
        with pytest.raises(ValueError, match="lr_schedule must be one of .* or a callable, got"):
            cls(network, lr_schedule=bad)
    for bad in 0, -1:
        with pytest.raises(ValueError, match=f"max_iter must be >= 1, got {bad}"):
            cls(network, max_iter=bad)
    with pytest.raises(TypeError):
        cls(network, max_iter=1.5)


@pytest.mark.parametrize("schedule", ONLY_SGD)
def test_what_adam_refuses(schedule):
    """scikit-learn's Adam ignores them: whoever calls ours says what he means."""
    with pytest.raises(ValueError, match=f"lr_schedule='{schedule}' is for SGD only"):
        Adam(small_network(), lr_schedule=schedule)


def test_an_epoch_that_fails_is_not_counted():
    """Where rows are not there, the next epoch has the same rates."""
    network = small_network()
    optimizer = make("adam", network, "cosine")
    data = network.data(X[:ROWS, :2], TARGETS["MLPRegressor"][:ROWS])
    with pytest.raises(IndexError):
        network.train_epoch(data, optimizer, BATCH_SIZE, order=np.array([ROWS]))
    assert optimizer.epochs == 0 and optimizer.learning_rate == RATE
