"""What the estimators have that scikit-learn's have not: silu, the Huber loss, decoupled weight decay.

Their numbers are those of `naive.py`, whose formulas test_naive.py checks, and of PyTorch.
"""

import copy
import pickle

import naive
import numpy as np
import pytest
import sklearn.neural_network
from models import IN_ORDER, REGRESSOR_LOSSES, SMALL, TARGETS, X, bits, both_estimators, make, outputs, state
from sklearn.utils._param_validation import InvalidParameterError

import fastmlp
from fastmlp.compiled.activations import HIDDEN
from fastmlp.conversion import OWN_PARAMETERS
from fastmlp.optimizers import SGD, Adam

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

y = TARGETS["MLPRegressor"]
SOLVERS = {
    "adam": {"solver": "adam"},
    "nesterov": {"solver": "sgd"},
    "momentum": {"solver": "sgd", "nesterovs_momentum": False},
    "plain sgd": {"solver": "sgd", "momentum": 0.0},
}
each_solver = pytest.mark.parametrize("solver", SOLVERS)


def initial(rows, targets=1):
    """Weights and biases before the first step of a model of these rows that `make` makes."""
    network = fastmlp.MLP([rows.shape[1], *SMALL["hidden_layer_sizes"], targets], dtype=np.float64)
    network.initialize(np.random.RandomState(SMALL["random_state"]))
    return network.weights, network.biases


def learnt(model):
    """All weights, then all biases, flat."""
    return np.concatenate([parameter.ravel() for parameter in model.coefs_ + model.intercepts_])


# ---- refusals of the network ----


@pytest.mark.parametrize("bad", [-0.1, np.nan, np.inf])
def test_optimizers_check_their_decay(bad):
    network = fastmlp.MLP([2, 1], output="identity")
    for optimizer in Adam, SGD:
        with pytest.raises(ValueError, match="weight_decay must be a number >= 0"):
            optimizer(network, weight_decay=bad)


# ---- the numbers ----


@pytest.mark.parametrize("targets", [1, 2])
@each_solver
def test_all_of_them_at_once(solver, targets, monkeypatch):
    """Loss curve and weights of the twin: errors on either side of huber_delta, and a penalty besides the decay."""
    monkeypatch.setattr(naive, "HUBER_DELTA", 0.3)
    own = {"activation": "silu", "loss": "huber", "huber_delta": 0.3, "weight_decay": 0.4}
    Y = np.column_stack([y, X[:, 3]])[:, :targets]
    model = make("MLPRegressor", **own, **SOLVERS[solver], **IN_ORDER, learning_rate_init=0.05, alpha=0.1)
    model.fit(X, Y[:, 0] if targets == 1 else Y)
    weights, biases = initial(X, targets)
    if solver == "adam":
        optimizer = naive.Adam(0.05, weight_decay=0.4)
    else:
        optimizer = naive.SGD(0.05, model.momentum, model.nesterovs_momentum, 0.4)
    rest = weights, biases, ["silu", "identity"], optimizer, 0.1, None, "huber"
    curve = [naive.epoch(X, Y, np.arange(len(X)), 10, *rest) for _ in range(3)]
    np.testing.assert_allclose(model.loss_curve_, curve, rtol=1e-12)
    np.testing.assert_allclose(learnt(model), np.concatenate([p.ravel() for p in weights + biases]), atol=1e-12)
    errors = np.abs(model.predict(X).reshape(Y.shape) - Y)
    assert errors.min() < 0.3 < errors.max()


# For each solver all weights, then all biases, of `by_torch`: PyTorch 2.13's.
BY_TORCH = {
    "adam": [
        -1.010420720069, 0.732132850023, 0.223877725885, -0.564761815183, -0.444494090804, -0.254579023729,
        -0.895586176661, 0.673494957327, 0.167372952967, 0.312227092309, 0.877091955764, 0.833673742212,
        -0.347615663258,
    ],
    "nesterov": [
        -0.093499507928, 0.962685525042, -0.095471710885, 0.003657347430, -0.009416288837, 0.008182365894,
        -0.071593512126, 1.000808658896, -0.133989925865, -0.053725872517, 0.942524618133, 1.015634610957,
        -0.834365466088,
    ],
    "momentum": [
        -0.094401607067, 0.966603836009, -0.099919052702, 0.006315981633, -0.006108842772, 0.005094140897,
        -0.068251680660, 1.002844613544, -0.125441058057, -0.053436412664, 0.933416903583, 1.009401732239,
        -0.827859890862,
    ],
    "plain sgd": [
        0.009771639570, 0.253621865021, 0.051581528345, 0.036887263596, -0.076895278768, 0.099173198447,
        -0.072092899736, 0.233283761770, -0.082288159955, -0.116269069264, 0.777105137789, 1.019175172724,
        -0.139619241992,
    ],
}  # fmt: skip

TWO = X[:, :2]
DECAYED = {"activation": "silu", "loss": "huber", "huber_delta": 0.3, "weight_decay": 0.4, "learning_rate_init": 0.05}
DECAYED |= {"hidden_layer_sizes": (3,), "max_iter": 20, "n_iter_no_change": 20, "alpha": 0.0, "epsilon": 1e-15}


def by_torch(solver):
    """What PyTorch learns in 20 epochs of three batches: AdamW, or SGD after a decay by hand, as its own is coupled."""
    import torch

    network = fastmlp.MLP([2, 3, 1], dtype=np.float64)
    network.initialize(np.random.RandomState(SMALL["random_state"]))
    weights, biases = (
        [torch.tensor(array, requires_grad=True) for array in arrays] for arrays in (network.weights, network.biases)
    )
    rate, decay = DECAYED["learning_rate_init"], DECAYED["weight_decay"]
    if solver == "adam":
        groups = [{"params": weights, "weight_decay": decay}, {"params": biases, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, rate, eps=DECAYED["epsilon"])
    else:
        momentum = SOLVERS[solver].get("momentum", 0.9)
        nesterov = momentum > 0 and SOLVERS[solver].get("nesterovs_momentum", True)
        optimizer = torch.optim.SGD(weights + biases, rate, momentum, nesterov=nesterov)
    loss = torch.nn.HuberLoss(delta=DECAYED["huber_delta"])
    for start in [0, 10, 20] * DECAYED["max_iter"]:
        rows, targets = torch.tensor(TWO[start : start + 10]), torch.tensor(y[start : start + 10])
        hidden = torch.nn.functional.silu(rows @ weights[0] + biases[0])
        optimizer.zero_grad()
        loss((hidden @ weights[1] + biases[1]).ravel(), targets).backward()
        if solver != "adam":
            with torch.no_grad():
                for W in weights:
                    W *= 1 - rate * decay
        optimizer.step()
    return np.concatenate([parameter.detach().numpy().ravel() for parameter in weights + biases])


@each_solver
def test_numbers_of_pytorch(solver):
    """Weight decay, silu and the Huber loss are PyTorch's, too."""
    model = make("MLPRegressor", **DECAYED, **SOLVERS[solver], **IN_ORDER).fit(TWO, y)
    np.testing.assert_allclose(learnt(model), BY_TORCH[solver], rtol=0, atol=1e-9)


@each_solver
def test_pytorch_gives_these_numbers(solver):
    """Where it is installed."""
    pytest.importorskip("torch")
    np.testing.assert_allclose(by_torch(solver), BY_TORCH[solver], rtol=0, atol=1e-9)


@each_solver
@both_estimators
def test_no_decay_is_none(name, solver):
    """weight_decay=0 leaves every bit; any other does not."""
    plain, none, some = (
        make(name, **SOLVERS[solver], **decay).fit(X, TARGETS[name])
        for decay in ({}, {"weight_decay": 0}, {"weight_decay": 1e-3})
    )
    assert bits(none) == bits(plain) != bits(some) and none.loss_curve_ == plain.loss_curve_ != some.loss_curve_


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_huber_without_large_errors_is_the_squared_error(solver):
    """Bit for bit, losses included; where there are some it is not."""
    squared, huber, small = (
        make("MLPRegressor", solver=solver, **loss).fit(X, y)
        for loss in ({}, {"loss": "huber", "huber_delta": 1e6}, {"loss": "huber", "huber_delta": 0.1})
    )
    assert bits(huber) == bits(squared) != bits(small)
    assert huber.loss_ == squared.loss_ != small.loss_


# ---- parameters ----

REFUSED = [(name, "weight_decay", value) for name in TARGETS for value in (-1e-9, np.nan, np.inf, None, "0.1")]
REFUSED += [("MLPRegressor", "huber_delta", value) for value in (0.0, -1, np.nan, np.inf, None, "1")]


@pytest.mark.parametrize("name, parameter, value", REFUSED)
def test_values_that_make_no_sense(name, parameter, value):
    """In scikit-learn's words, by fit and by partial_fit."""
    model = make(name, **{parameter: value})
    for train in model.fit, model.partial_fit:
        with pytest.raises(InvalidParameterError, match=f"The '{parameter}' parameter of {name} must be a float in"):
            train(X, TARGETS[name])
    assert not hasattr(model, "coefs_")


@both_estimators
def test_lbfgs_has_no_weight_decay(name):
    """It is refused before anything is trained."""
    model, twin = (make(name).fit(X, TARGETS[name]) for _ in range(2))
    for one in model, twin:
        one.set_params(solver="lbfgs", weight_decay=0.1)
    with pytest.raises(ValueError, match="weight_decay needs solver='adam' or 'sgd', got solver='lbfgs'"):
        model.fit(X, TARGETS[name])
    assert state(model) == state(twin) and bits(model) == bits(twin)
    unfitted = make(name, solver="lbfgs", weight_decay=0.1)
    with pytest.raises(ValueError, match="weight_decay needs"):
        unfitted.fit(X, TARGETS[name])
    assert vars(unfitted).keys() == vars(make(name)).keys()


# what is set after a fit, and the loss of the fit
CHANGED = {
    "silu": ("squared_error", {"activation": "silu"}),
    "silu, counts": ("poisson", {"activation": "silu"}),
    "huber after squared error": ("squared_error", {"loss": "huber"}),
    "squared error after huber": ("huber", {"loss": "squared_error"}),
    "huber after poisson": ("poisson", {"loss": "huber", "huber_delta": 2.0}),
    "poisson after huber": ("huber", {"loss": "poisson"}),
    "huber_delta": ("huber", {"huber_delta": 0.01}),
}


@pytest.mark.parametrize("hidden_layer_sizes", [(5,), (300, 350)], ids=str)
@pytest.mark.parametrize("case", CHANGED)
def test_parameters_changed_after_fit(case, hidden_layer_sizes):
    """The activation counts in what is predicted, the loss does not: out_activation_ is that of the fit."""
    loss, changes = CHANGED[case]
    model = make("MLPRegressor", loss=loss, hidden_layer_sizes=hidden_layer_sizes).fit(X, abs(y))
    model.predict(X)
    output = model.out_activation_
    for one in model, pickle.loads(pickle.dumps(model)):
        one.set_params(**changes)
        hidden = [one.activation] * len(hidden_layer_sizes)
        for rows in X, X[:1]:
            expected = naive.forward(rows, one.coefs_, one.intercepts_, [*hidden, output])[-1].ravel()
            np.testing.assert_allclose(one.predict(rows), expected, rtol=1e-10, atol=1e-10)
        assert one.out_activation_ == output


def test_predictions_ask_for_no_loss():
    """As with scikit-learn's, what only training needs does not matter to them, whatever it is."""
    model = make("MLPRegressor", loss="huber").fit(X, y)
    expected = model.predict(X).tolist()
    for parameters in {"loss": "poisson"}, {"loss": "nonsense"}, {"loss": "huber", "huber_delta": -1.0}:
        for one in copy.deepcopy(model), pickle.loads(pickle.dumps(model)):
            assert one.set_params(**parameters).predict(X).tolist() == expected


def test_loss_changed_after_fit_counts_in_later_steps():
    """Those of partial_fit are those of the loss and the delta as they are then."""
    model = make("MLPRegressor").fit(X, y)
    squared, wide, narrow, other = (copy.deepcopy(model) for _ in range(4))
    for one, delta in (wide, 1e6), (narrow, 0.1), (other, 0.2):
        one.set_params(loss="huber", huber_delta=delta)
    for one in squared, wide, narrow, other:
        one.partial_fit(X, y)
    assert bits(wide) == bits(squared) and len({*map(str, map(bits, (wide, narrow, other)))}) == 3
    narrow, other = copy.deepcopy(narrow), narrow
    for one in narrow.set_params(huber_delta=0.2), other:
        one.partial_fit(X, y)
    assert bits(narrow) != bits(other)


# ---- copies and conversions ----


@each_solver
@both_estimators
def test_weight_decay_goes_along(name, solver):
    """In pickles and from call to call of partial_fit, which has the steps of fit."""
    parameters = {"weight_decay": 0.5, "learning_rate_init": 0.05, **SOLVERS[solver], **IN_ORDER}
    model, without = make(name, **parameters), make(name, **(parameters | {"weight_decay": 0.0}))
    at_once = make(name, **parameters).fit(X, TARGETS[name])
    first = {"classes": [0, 1, 2]} if name == "MLPClassifier" else {}
    for _ in range(SMALL["max_iter"]):
        model = pickle.loads(pickle.dumps(model)).partial_fit(X, TARGETS[name], **first)
        without.partial_fit(X, TARGETS[name], **first)
    assert bits(model) == bits(at_once) != bits(without)
    assert model._optimizer.weight_decay == 0.5
    assert sum(np.abs(W).sum() for W in model.coefs_) < sum(np.abs(W).sum() for W in without.coefs_)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@both_estimators
def test_a_state_from_before_there_were_such_parameters(name, solver):
    """Is one with their defaults."""
    model = make(name, solver=solver).fit(X, TARGETS[name])
    old = {key: value for key, value in model.__getstate__().items() if key not in OWN_PARAMETERS}
    if solver != "lbfgs":
        optimizer = old["_optimizer"].__getstate__()
        assert optimizer.pop("weight_decay") == 0.0
        old["_optimizer"] = type(old["_optimizer"]).__new__(type(old["_optimizer"]))
        old["_optimizer"].__setstate__(optimizer)
    loaded = type(model).__new__(type(model))
    loaded.__setstate__(copy.deepcopy(old | {"_fastmlp_format": 1}))
    assert state(loaded) == state(model) and bits(loaded) == bits(model)
    assert state(loaded.fit(X, TARGETS[name])) == state(model.fit(X, TARGETS[name]))


NOT_IN_SKLEARN = [
    (name, "activation", value)
    for name in TARGETS
    for value in HIDDEN.keys() - {"identity", "logistic", "tanh", "relu"}
]
NOT_IN_SKLEARN += [("MLPRegressor", "loss", value) for value in {*REGRESSOR_LOSSES} - {"squared_error", "poisson"}]


@pytest.mark.parametrize("name, parameter, value", sorted(NOT_IN_SKLEARN))
def test_what_scikit_learn_does_not_know_is_not_converted(name, parameter, value):
    """ValueError with its name, fitted or not; at the default all goes over."""
    model, targets = make(name, **{parameter: value}), abs(TARGETS[name]) + 1
    for one in model, copy.deepcopy(model).fit(X, targets):
        with pytest.raises(ValueError, match=f"scikit-learn's {name} has no {parameter}={value!r}"):
            one.to_sklearn()
    default = getattr(type(model)(), parameter)
    theirs = model.set_params(**{parameter: default}).fit(X, targets).to_sklearn()
    np.testing.assert_allclose(outputs(theirs), outputs(model), atol=1e-10)
    assert not vars(theirs).keys() & OWN_PARAMETERS.keys()


@pytest.mark.parametrize("fitted", [False, True])
@both_estimators
def test_what_comes_from_scikit_learn_has_the_defaults(name, fitted):
    theirs = make(name, sklearn.neural_network)
    ours = type(make(name)).from_sklearn(theirs.fit(X, TARGETS[name]) if fitted else theirs)
    assert ours.get_params() == make(name).get_params()
    own = {parameter: value for parameter, value in ours.get_params().items() if parameter in OWN_PARAMETERS}
    assert own == {key: value for key, value in OWN_PARAMETERS.items() if key in own} and "weight_decay" in own
