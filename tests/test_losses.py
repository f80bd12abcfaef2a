"""The losses that scikit-learn's MLP does not have are those of its metrics, its linear models and PyTorch.

That each is its twin's for all shapes and layouts is in test_network.py, test_sparse.py and test_bounds.py.
"""

import naive
import numpy as np
import pytest
import scipy.sparse
from helpers import DTYPES, dtypes
from models import TARGETS, X, bits, make, state
from networks import draw_data, draw_network, goals, make_network
from sklearn.linear_model import GammaRegressor, QuantileRegressor
from sklearn.metrics import mean_absolute_error, mean_gamma_deviance, mean_pinball_loss
from sklearn.utils._param_validation import InvalidParameterError

import fastmlp
from fastmlp.compiled.losses import LOSSES
from fastmlp.network import MLP
from fastmlp.optimizers import SGD

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

EPS = {dtype: float(np.finfo(dtype).eps) for dtype in DTYPES}
OWN = ["absolute_error", "quantile", "gamma"]
own_losses = pytest.mark.parametrize("loss", OWN)
weighted_or_not = pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
# outputs of a layer of few units, and of one panel and several
widths = pytest.mark.parametrize("outputs", [1, 3, 40])

# ---- values and slopes ----

# goal: its value for targets, outputs and weights of rows
METRICS = {
    "absolute_error": lambda Y, P, weights: mean_absolute_error(Y, P, sample_weight=weights),
    "quantile": lambda Y, P, weights: mean_pinball_loss(Y, P, sample_weight=weights, alpha=naive.QUANTILE),
    "gamma": lambda Y, P, weights: sum(
        mean_gamma_deviance(y, p, sample_weight=weights) / 2 for y, p in zip(Y.T, P.T, strict=True)
    ),
    "soft_cross_entropy": lambda Y, P, weights: np.average(-(Y * np.log(P)).sum(axis=1), weights=weights),
}


@dtypes
@weighted_or_not
@widths
@pytest.mark.parametrize("goal", METRICS)
def test_values_are_those_of_metrics(goal, outputs, weighted, dtype):
    """scikit-learn's, for the network's own outputs; cross-entropy by its formula."""
    rng = np.random.RandomState(0)
    network = draw_network(rng, (4, 7, outputs), "tanh", goal, dtype)
    X, Y = draw_data(rng, network.layer_units, goal, 53)
    weights = rng.uniform(0, 2, 53).astype(dtype) if weighted else None
    P = network.predict(X).astype(np.float64)
    expected = METRICS[goal](Y.astype(dtype).astype(np.float64), P, None if weights is None else weights.astype(float))
    assert network.loss(network.data(X, Y, weights)) == pytest.approx(expected, rel=30 * EPS[dtype], abs=2 * EPS[dtype])


@dtypes
@widths
@pytest.mark.parametrize("goal, below, above", [("absolute_error", 1, 1), ("quantile", naive.QUANTILE, 0.7)])
def test_slopes_are_constant_and_0_where_the_error_is(goal, below, above, outputs, dtype):
    """For small errors as for large ones; the loss is error times slope."""
    network = make_network((1, outputs), goal=goal, dtype=dtype)
    for error in 0.0, -1e-30, -1.0, -1e30, 1e-30, 1.0, 1e30:
        loss, dW, db = network.gradients(network.data(np.ones((1, 1)), np.full((1, outputs), -error)))
        slope = np.sign(error) * (below if error < 0 else above)
        np.testing.assert_allclose([*dW[0].ravel(), *db[0]], slope, rtol=EPS[dtype])
        assert loss == pytest.approx(error * slope, rel=4 * EPS[dtype], abs=0)


@dtypes
def test_the_median_is_half_the_absolute_error(dtype):
    """Bit for bit, at twice the rate."""
    rng = np.random.RandomState(0)
    absolute, median = (
        MLP((4, 7, 3), "tanh", "identity", dtype, loss=loss, loss_parameter=0.5)
        for loss in ("absolute_error", "quantile")
    )
    X, Y = draw_data(rng, (4, 7, 3), "squared_error", 53)
    for network in absolute, median:
        network.initialize(np.random.RandomState(1))
    for network, rate in (absolute, 0.01), (median, 0.02):
        optimizer, data = SGD(network, rate), network.data(X, Y)
        network.losses = [network.train_epoch(data, optimizer, 10) for _ in range(5)]
    assert absolute.losses == [2 * loss for loss in median.losses]
    assert absolute.parameters.tobytes() == median.parameters.tobytes()


@dtypes
@widths
def test_cross_entropy_of_certain_probabilities_is_that_of_classes(outputs, dtype):
    """Loss and gradients."""
    rng = np.random.RandomState(0)
    soft = draw_network(rng, (4, 7, outputs), "tanh", "soft_cross_entropy", dtype)
    hard = make_network((4, 7, outputs), "tanh", "cross_entropy", dtype)
    hard.parameters = soft.parameters
    X, labels = draw_data(rng, (4, 7, outputs), "cross_entropy", 53)
    loss, dW, db = soft.gradients(soft.data(X, np.eye(outputs)[labels]))
    expected, expected_dW, expected_db = hard.gradients(hard.data(X, labels))
    assert loss == pytest.approx(expected, rel=8 * EPS[dtype])
    for found, gradient in zip(dW + db, expected_dW + expected_db, strict=True):
        np.testing.assert_allclose(found, gradient, atol=8 * EPS[dtype])


# ---- what is no number, and what fills tiles ----


@dtypes
@widths
@goals
def test_nan_stays(goal, outputs, dtype):
    """Of one output for one row; loss and gradient are NaN, too, and where nothing is, all of them are finite."""
    rng = np.random.RandomState(0)
    network = draw_network(rng, (4, outputs), goal=goal, dtype=dtype)
    X, Y = draw_data(rng, (4, outputs), goal, 21)
    loss, dW, db = network.gradients(network.data(X, Y))
    assert np.isfinite([loss, *dW[0].ravel(), *db[0]]).all()
    X[13, 2] = np.nan
    loss, dW, db = network.gradients(network.data(X, Y))
    assert np.isnan([loss, *dW[0].ravel(), *db[0]]).all()
    assert np.isnan(network.train_epoch(network.data(X, Y), SGD(network), 21))


@dtypes
@widths
@goals
def test_what_fills_tiles_stays(goal, outputs, dtype):
    """Rows and units that are none give no gradient: what pads the parameters is as it was."""
    rng = np.random.RandomState(0)
    network = draw_network(rng, (4, outputs), goal=goal, dtype=dtype)
    X, Y = draw_data(rng, (4, outputs), goal, 13)
    for _ in range(2):
        network.train_epoch(network.data(X, Y), SGD(network), 5, 0.1)
    again = make_network((4, outputs), goal=goal, dtype=dtype)
    again.set_parameters(network.weights, network.biases)
    assert network.parameters.tobytes() == again.parameters.tobytes()


@dtypes
def test_gamma_of_outputs_that_are_too_large(dtype):
    """The loss is infinite, the slope 1, which leads back."""
    network = make_network((1, 2), goal="gamma", dtype=dtype)
    network.set_parameters([np.zeros((1, 2))], [np.full(2, 1e4)])
    loss, _, db = network.gradients(network.data(np.ones((1, 1)), np.ones((1, 2))))
    assert loss == np.inf and db[0].tolist() == [1, 1]


# ---- where training ends ----

RNG = np.random.RandomState(7)
ROWS = RNG.normal(size=(300, 3))
NOISY = ROWS @ [1.0, -2.0, 0.5] + RNG.gumbel(size=300) * (1 + 0.3 * np.abs(ROWS[:, 0]))
POSITIVE = np.exp(ROWS @ [0.3, -0.5, 0.2]) * RNG.gamma(2.0, 0.5, 300)
WEIGHTS = RNG.uniform(0.1, 3, 300)
LINEAR = {"hidden_layer_sizes": (), "alpha": 0.0, "random_state": 0}


@weighted_or_not
@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("q", [0.1, 0.5, 0.9])
def test_a_linear_network_finds_the_quantiles(q, solver, weighted):
    """The objective is that of scikit-learn's QuantileRegressor, which solves a linear program."""
    weights = WEIGHTS if weighted else None
    theirs = QuantileRegressor(quantile=q, alpha=0.0).fit(ROWS, NOISY, weights)
    model = fastmlp.MLPRegressor(
        "quantile", quantile=q, solver=solver, **LINEAR, batch_size=300, max_iter=400, n_iter_no_change=400,
        warm_start=True,
    )  # fmt: skip
    for rate in 0.1, 0.01, 0.001:
        model.set_params(learning_rate_init=rate).fit(ROWS, NOISY, weights)
    least, found = (
        mean_pinball_loss(NOISY, one.predict(ROWS), sample_weight=weights, alpha=q) for one in (theirs, model)
    )
    assert least * (1 - 1e-9) <= found < least * (1 + 5e-4)


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@weighted_or_not
def test_a_linear_network_is_a_gamma_regression(weighted, sparse):
    """Coefficients and intercept of scikit-learn's GammaRegressor."""
    weights, rows = WEIGHTS if weighted else None, scipy.sparse.csr_array(ROWS) if sparse else ROWS
    theirs = GammaRegressor(alpha=0.0, tol=1e-9, max_iter=1000).fit(ROWS, POSITIVE, weights)
    model = fastmlp.MLPRegressor("gamma", solver="lbfgs", **LINEAR, tol=1e-9, max_iter=1000)
    model.fit(rows, POSITIVE, weights)
    np.testing.assert_allclose(model.coefs_[0].ravel(), theirs.coef_, atol=1e-5)
    np.testing.assert_allclose(model.intercepts_[0], theirs.intercept_, atol=1e-5)
    assert model.loss_ == pytest.approx(mean_gamma_deviance(POSITIVE, theirs.predict(ROWS), sample_weight=weights) / 2)


@own_losses
def test_float32_beside_float64(loss):
    """The same fit to the rounding of float32."""
    parameters = {"max_iter": 30, "learning_rate_init": 0.01, "n_iter_no_change": 30}
    single, double = (
        make("MLPRegressor", loss=loss, **parameters).fit(ROWS.astype(dtype), POSITIVE.astype(dtype))
        for dtype in DTYPES
    )
    assert single.coefs_[0].dtype == np.float32 and double.coefs_[0].dtype == np.float64
    np.testing.assert_allclose(single.loss_curve_, double.loss_curve_, rtol=1e-4)
    np.testing.assert_allclose(single.predict(ROWS.astype(np.float32)), double.predict(ROWS), rtol=1e-2, atol=1e-3)


@own_losses
def test_several_outputs(loss):
    """Each is trained as if it were alone: the gradient is that of the sum over outputs."""
    Y = np.column_stack([POSITIVE, POSITIVE[::-1]])
    parameters = {"solver": "sgd", "batch_size": 50, "shuffle": False, **LINEAR, "max_iter": 1, "warm_start": True}
    both, *alone = (fastmlp.MLPRegressor(loss, **parameters).fit(ROWS, targets) for targets in (Y, *Y.T))
    for one, column in zip(alone, range(2), strict=True):
        one.coefs_, one.intercepts_ = [both.coefs_[0][:, [column]]], [both.intercepts_[0][[column]]]
    losses = []
    for one, targets in zip([both, *alone], [Y, *Y.T], strict=True):
        losses.append(one.set_params(max_iter=20).fit(ROWS, targets).loss_)
    np.testing.assert_allclose(both.coefs_[0], np.column_stack([one.coefs_[0] for one in alone]), atol=1e-12)
    assert losses[0] == pytest.approx((losses[1] + losses[2]) / (2 if LOSSES[loss].mean else 1))


# ---- PyTorch ----

Y_OF_TORCH = {
    "absolute_error": TARGETS["MLPRegressor"][:, np.newaxis],
    "quantile": TARGETS["MLPRegressor"][:, np.newaxis],
    "gamma": np.exp(TARGETS["MLPRegressor"])[:, np.newaxis],
    "soft_cross_entropy": np.eye(3)[np.arange(len(X)) % 3],
}
SMOOTHING = 0.1
each_of_torch = pytest.mark.parametrize("goal", Y_OF_TORCH)


def start(goal):
    """A network before its first step."""
    return draw_network(np.random.RandomState(0), (2, 2, Y_OF_TORCH[goal].shape[1]), "tanh", goal)


def by_torch(goal):
    """All weights, then all biases, after 20 epochs of three batches by Nesterov's momentum."""
    import torch

    network = start(goal)
    weights, biases = (
        [torch.tensor(array, requires_grad=True) for array in arrays] for arrays in (network.weights, network.biases)
    )
    optimizer = torch.optim.SGD(weights + biases, 0.05, momentum=0.9, nesterov=True)
    losses = {
        "absolute_error": torch.nn.L1Loss(),
        "quantile": lambda Z, Y: torch.maximum(naive.QUANTILE * (Y - Z), (naive.QUANTILE - 1) * (Y - Z)).mean(),
        "gamma": lambda Z, Y: (Z + Y * torch.exp(-Z)).mean(),
        "soft_cross_entropy": lambda Z, Y: torch.nn.functional.cross_entropy(
            Z, Y.argmax(dim=1), label_smoothing=SMOOTHING
        ),
    }
    for first in [0, 10, 20] * 20:
        rows, targets = torch.tensor(X[first : first + 10, :2]), torch.tensor(Y_OF_TORCH[goal][first : first + 10])
        optimizer.zero_grad()
        hidden = torch.tanh(rows @ weights[0] + biases[0])
        losses[goal](hidden @ weights[1] + biases[1], targets).backward()
        optimizer.step()
    return np.concatenate([parameter.detach().numpy().ravel() for parameter in weights + biases])


# PyTorch 2.13's
BY_TORCH = {
    "absolute_error": [
        0.642466353536, 1.399602998979, 0.516265038147, -0.201922224555, 0.720361715590, 0.841641090384,
        0.453857739731, -0.711564294841, -0.033297544340,
    ],
    "quantile": [
        0.571321613130, 1.431845238188, 0.504040684484, -0.267856936644, 0.766255343897, 1.053399820856,
        0.269377646100, -0.419885614790, -0.275245219151,
    ],
    "gamma": [
        -0.005560888307, 1.280012301164, 0.307712242401, 0.113781198688, -0.080302044798, 1.429870004136,
        0.007068714017, -0.445411751932, 0.288131832145,
    ],
    "soft_cross_entropy": [
        -1.142635046561, 0.376225316504, -0.324152264171, -0.567516504394, -0.211485326541, 0.796099922378,
        1.152811686895, 0.000107385756, 0.713929067632, -0.266960157848, 0.425090900386, 0.035895144993,
        0.070714991207, 0.117445026389, -0.046459245849,
    ],
}  # fmt: skip


@each_of_torch
def test_numbers_of_pytorch(goal):
    """Losses of PyTorch, its label smoothing, and the pinball loss and the gamma deviance by its derivatives."""
    network, Y = start(goal), Y_OF_TORCH[goal]
    if goal == "soft_cross_entropy":
        Y = (1 - SMOOTHING) * Y + SMOOTHING / Y.shape[1]
    data, optimizer = network.data(X[:, :2], Y), SGD(network, 0.05)
    for _ in range(20):
        network.train_epoch(data, optimizer, 10)
    learnt = np.concatenate([parameter.ravel() for parameter in network.weights + network.biases])
    np.testing.assert_allclose(learnt, BY_TORCH[goal], rtol=0, atol=1e-9)


@each_of_torch
def test_pytorch_gives_these_numbers(goal):
    """Where it is installed."""
    pytest.importorskip("torch")
    np.testing.assert_allclose(by_torch(goal), BY_TORCH[goal], rtol=0, atol=1e-9)


# ---- what is refused ----

EVEN = np.full((5, 2), 0.5)
# loss, Y of a network of two outputs and five rows, part of the message
BAD_TARGETS = {
    "gamma of 0": ("gamma", np.array([1.0, 2.0, 0.0, 1.0, 1.0])[:, np.newaxis] * EVEN, "Y must be > 0"),
    "gamma of a denormal": ("gamma", EVEN * np.finfo(np.float32).tiny, "Y must be > 0"),
    "gamma of what is 0 in float32": ("gamma", EVEN * 1e-50, "Y must be > 0"),
    "gamma of less": ("gamma", -EVEN, "Y must be > 0"),
    "gamma of NaN": ("gamma", EVEN * [1, np.nan], "Y must be > 0"),
    "gamma of flat targets": ("gamma", EVEN[:, 0], "Y must have 5 rows of 2 targets"),
    "poisson of less": ("poisson", -EVEN, "Y must be >= 0"),
    "poisson of NaN": ("poisson", EVEN * [1, np.nan], "Y must be >= 0"),
    "classes for probabilities": ("soft_cross_entropy", np.arange(5) % 2, "Y must have 5 rows of 2 targets"),
    "too many probabilities": ("soft_cross_entropy", np.full((5, 3), 1 / 3), "Y must have 5 rows of 2 targets"),
    "too few rows": ("soft_cross_entropy", EVEN[1:], "Y must have 5 rows of 2 targets"),
    "a sum below 1": ("soft_cross_entropy", EVEN * 0.999, "Y must be probabilities"),
    "a sum above 1": ("soft_cross_entropy", EVEN * 1.001, "Y must be probabilities"),
    "a probability below 0": ("soft_cross_entropy", EVEN + [0.6, -0.6], "Y must be probabilities"),
    "a probability of NaN": ("soft_cross_entropy", EVEN * [1, np.nan], "Y must be probabilities"),
    "an infinite probability": ("soft_cross_entropy", EVEN * [1, np.inf], "Y must be probabilities"),
    "probabilities for classes": ("cross_entropy", EVEN, "Y must have 5 rows, got"),
    "an absolute error of too few": ("absolute_error", EVEN[:, :1], "Y must have 5 rows of 2 targets"),
}


@pytest.mark.parametrize("case", BAD_TARGETS)
def test_bad_targets_are_refused(case):
    goal, Y, message = BAD_TARGETS[case]
    with pytest.raises(ValueError, match=message):
        make_network((3, 2), goal=goal, dtype=np.float32).data(np.ones((5, 3)), Y)


def test_probabilities_may_be_rounded():
    """As float32 has them; those of one output are all 1."""
    P = np.random.RandomState(0).dirichlet(np.ones(1000), 5).astype(np.float32)
    for dtype in DTYPES:
        make_network((3, 1000), goal="soft_cross_entropy", dtype=dtype).data(np.ones((5, 3)), P)
        one = make_network((3, 1), goal="soft_cross_entropy", dtype=dtype)
        assert abs(one.loss(one.data(np.ones((5, 3)), np.ones(5)))) < 2 * EPS[dtype]


def test_data_of_classes_and_of_probabilities_are_told_apart():
    """ValueError, before the kernels read a matrix as labels."""
    soft, hard = (make_network((3, 2), goal=goal) for goal in ("soft_cross_entropy", "cross_entropy"))
    rows = np.ones((5, 3))
    for network, data in (soft, hard.data(rows, np.zeros(5))), (hard, soft.data(rows, EVEN)):
        for use in network.loss, network.gradients, lambda data: network.train_epoch(data, SGD(network), 5):  # noqa: B023
            with pytest.raises(ValueError, match="made for another network"):
                use(data)


@pytest.mark.parametrize("bad", [0.0, 1.0, -0.1, 1.5, np.nan, np.inf])
def test_networks_check_the_quantile(bad):
    with pytest.raises(ValueError, match="loss_parameter must be a number > 0 and < 1, got"):
        MLP([2, 1], output="identity", loss="quantile", loss_parameter=bad)


def test_the_first_loss_of_an_output_is_its_default():
    """The same as before there were others."""
    assert {output: MLP([2, 2], output=output).loss_function.name for output in naive.FITTING} == naive.FITTING


@pytest.mark.parametrize("bad", [0, 1, 0.0, 1.0, -0.1, 1.1, np.nan, None, "0.5"])
def test_estimators_check_the_quantile(bad):
    """In scikit-learn's words, whatever the loss."""
    for loss in "quantile", "squared_error":
        model = make("MLPRegressor", loss=loss, quantile=bad)
        for train in model.fit, model.partial_fit:
            with pytest.raises(InvalidParameterError, match="The 'quantile' parameter of MLPRegressor must be a float"):
                train(X, TARGETS["MLPRegressor"])
        assert not hasattr(model, "coefs_")


@pytest.mark.parametrize("bad", [0, -1, 1e-310, np.nan, np.inf])
def test_estimators_check_the_targets_of_gamma(bad):
    """In the words of scikit-learn's GammaRegressor; what was learnt before stays as it was."""
    y = np.abs(TARGETS["MLPRegressor"])
    model, twin = (make("MLPRegressor", loss="gamma").fit(X, y) for _ in range(2))
    y[7] = bad
    words = "valid range of the loss 'gamma': y must be > 0" if np.isfinite(bad) else "Input y contains"
    for train in model.fit, model.partial_fit:
        with pytest.raises(ValueError, match=words):
            train(X, y)
        with pytest.raises(ValueError, match=words):
            train(X, np.column_stack([y, y]))
    assert state(model) == state(twin) and bits(model) == bits(twin)


def test_targets_that_are_0_in_float32():
    """What is > 0 in float64 need not be for rows of float32."""
    y = np.abs(TARGETS["MLPRegressor"])
    y[7] = 1e-50
    make("MLPRegressor", loss="gamma", solver="lbfgs").fit(X, y)
    for solver in "adam", "lbfgs":
        with pytest.raises(ValueError, match="Y must be > 0"):
            make("MLPRegressor", loss="gamma", solver=solver).fit(X.astype(np.float32), y)


def test_the_quantile_counts_for_its_loss_alone():
    """And a later one in later steps."""
    y = np.abs(TARGETS["MLPRegressor"])
    for loss in "squared_error", "huber", "absolute_error", "gamma":
        one, other = (make("MLPRegressor", loss=loss, quantile=q).fit(X, y) for q in (0.1, 0.9))
        assert bits(one) == bits(other)
    low, high = (make("MLPRegressor", loss="quantile", quantile=q).fit(X, y) for q in (0.1, 0.9))
    assert bits(low) != bits(high)
    low, changed = (make("MLPRegressor", loss="quantile", quantile=0.1).fit(X, y) for _ in range(2))
    assert bits(low.partial_fit(X, y)) != bits(changed.set_params(quantile=0.9).partial_fit(X, y))


def test_a_warm_start_keeps_the_output():
    """From the mean to the median, from counts to gamma; not from one output to another."""
    y = np.abs(TARGETS["MLPRegressor"])
    for first, second in ("squared_error", "absolute_error"), ("poisson", "gamma"), ("gamma", "poisson"):
        model = make("MLPRegressor", loss=first, warm_start=True).fit(X, y)
        before = bits(model)
        assert bits(model.set_params(loss=second).fit(X, y)) != before
    with pytest.raises(ValueError, match="loss='quantile' needs another output"):
        model.set_params(loss="quantile").fit(X, y)
