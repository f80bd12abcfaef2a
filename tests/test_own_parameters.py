"""What the estimators have that scikit-learn's have not: activations of each layer, dropout, schedules and so on.

Their numbers are those of `naive.py`, whose formulas test_naive.py checks, of PyTorch, or of a network and an optimizer
that are trained step by step. Class weights and validation rows have tests of their own.
"""

import copy
import pickle
import warnings

import naive
import numpy as np
import pytest
import sklearn.metrics
import sklearn.neural_network
from models import IN_ORDER, REGRESSOR_LOSSES, SMALL, TARGETS, X, bits, both_estimators, make, outputs, state
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastmlp
from fastmlp.compiled.activations import HIDDEN
from fastmlp.compiled.shuffle import shuffle
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


def square(t):
    """A schedule that a user may write; it can be pickled."""
    return (1 - t) ** 2


# name: parameters of an estimator; those with a list have two hidden layers
OPTIONS = {
    "activation of each layer": {"activation": ["tanh", "logistic"], "hidden_layer_sizes": (5, 4)},
    "dropout": {"dropout": 0.3},
    "dropout of each layer": {"dropout": [0.5, 0.0], "hidden_layer_sizes": (5, 4)},
    "clipnorm": {"clipnorm": 0.05},
    **{schedule: {"learning_rate": schedule} for schedule in naive.FACTORS},
    "a function": {"learning_rate": square},
}
OPTIONS["all"] = {
    "activation": ("silu", "relu"), "hidden_layer_sizes": [5, 4], "dropout": np.array([0.1, 0.3]), "clipnorm": 0.2,
    "learning_rate": "cosine", "weight_decay": 0.4,
}  # fmt: skip
each_option = pytest.mark.parametrize("option", OPTIONS)
ADAM_AND_SGD = {"adam": {"learning_rate_init": 0.02}, "sgd": {"solver": "sgd", "learning_rate_init": 0.05}}
adam_and_sgd = pytest.mark.parametrize("solver", ADAM_AND_SGD)

LEVELS = np.digitize(X[:, 0] + X[:, 1], [-0.5, 0.5])
MANY = np.column_stack([LEVELS == 1, X[:, 2] > 0, X[:, 3] > 0.5]).astype(int)
# name: estimator, its parameters, y, y as the network takes it, and the network's output
TASKS = {
    "two classes": ("MLPClassifier", {}, LEVELS > 1, (LEVELS > 1)[:, np.newaxis], "logistic"),
    "three words": ("MLPClassifier", {}, np.array(["ant", "bee", "cow"])[LEVELS], LEVELS, "softmax"),
    "many labels": ("MLPClassifier", {}, MANY, MANY, "logistic"),
    "number": ("MLPRegressor", {}, y, y, "identity"),
    "numbers": ("MLPRegressor", {"loss": "absolute_error"}, X[:, :2], X[:, :2], "identity"),
    "counts": ("MLPRegressor", {"loss": "poisson"}, LEVELS, LEVELS, "exp"),
}
each_task = pytest.mark.parametrize("task", TASKS)


def of_task(task, **parameters):
    """A model, y, y as the network takes it, and the network's output."""
    name, own, *targets = TASKS[task]
    return make(name, **({"batch_size": 7} | own | parameters)), *targets


def by_steps(model, rows, Y, output):
    """A network that is trained epoch by epoch by what a model consists of, and its losses."""
    random_state, sizes = np.random.RandomState(model.random_state), list(model.hidden_layer_sizes)
    units = [rows.shape[1], *sizes, {1: 3}.get(Y.ndim, 0) if output == "softmax" else Y.reshape(len(Y), -1).shape[1]]
    hidden = [model.activation] * len(sizes) if isinstance(model.activation, str) else list(model.activation)
    loss = None if output in ("softmax", "logistic") else model.loss
    network = fastmlp.MLP(units, hidden, output, rows.dtype, loss=loss, dropout=model.dropout)
    factors = [2.0 if f == "logistic" else 6.0 for f in hidden]
    network.initialize(random_state, factors + factors[-1:])
    own = {name: getattr(model, name) for name in ("weight_decay", "clipnorm", "max_iter", "learning_rate_init")}
    own["lr_schedule"] = model.learning_rate
    if np.any(model.dropout):
        own["seed"] = random_state.randint(1, 2**31 - 1)
    optimizer = Adam(network, **own) if model.solver == "adam" else SGD(network, **own)
    data, order = network.data(rows, Y), np.arange(len(rows))
    curve = []
    for _ in range(model.max_iter):
        shuffle(random_state, order)
        curve.append(network.train_epoch(data, optimizer, 7, model.alpha, order))
    return network, curve


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@adam_and_sgd
@each_task
@each_option
def test_as_network_and_optimizer(option, task, solver, dtype):
    """The same bits as by hand from the same start, and others than without."""
    model, targets, Y, output = of_task(task, **ADAM_AND_SGD[solver], **OPTIONS[option])
    rows = X.astype(dtype)
    network, curve = by_steps(model, rows, Y, output)
    model.fit(rows, targets)
    assert learnt(model).dtype == dtype
    assert np.array_equal(learnt(model), np.concatenate([p.ravel() for p in network.weights + network.biases]))
    np.testing.assert_allclose(model.loss_curve_, curve, rtol=1e-6 if dtype == np.float32 else 0)
    found = outputs(model, rows)
    assert np.array_equal(found[:, -1] if task == "two classes" else found, np.squeeze(network.predict(rows)))
    default = of_task(task, hidden_layer_sizes=model.hidden_layer_sizes, **ADAM_AND_SGD[solver])[0].fit(rows, targets)
    assert not np.array_equal(learnt(default), learnt(model))


@each_option
@both_estimators
def test_sparse_rows_too(name, option):
    """To rounding they train like dense ones."""
    rows = np.where(X > 0.3, X, 0)
    dense, sparse = (make(name, **OPTIONS[option]).fit(form(rows), TARGETS[name]) for form in (np.array, csr_array))
    np.testing.assert_allclose(learnt(sparse), learnt(dense), atol=1e-10)


# ---- label smoothing ----

SMOOTHED = ["two classes", "three words", "many labels"]
SMOOTHING = 0.3


def smoothed(Y, output):
    """1 becomes 1 - s + s/K and 0 becomes s/K: of K classes, or of the two that a label has."""
    Y = np.eye(3)[Y] if output == "softmax" else Y
    return Y * (1 - SMOOTHING) + SMOOTHING / (3 if output == "softmax" else 2)


@pytest.mark.parametrize("weights", [None, np.arange(30) % 4 + 0.5], ids=["", "weighted"])
@adam_and_sgd
@pytest.mark.parametrize("task", SMOOTHED)
def test_label_smoothing(task, solver, weights):
    """Losses, on validation rows too, and weights are those of the twin with such targets."""
    model, targets, Y, output = of_task(task, **ADAM_AND_SGD[solver], **IN_ORDER, alpha=0.1, activation="tanh")
    model.set_params(label_smoothing=SMOOTHING).fit(X, targets, weights, X_val=X[:9], y_val=targets[:9])
    Y = smoothed(Y, output)
    W, b = initial(X, Y.shape[1])
    optimizer = naive.Adam(0.02) if solver == "adam" else naive.SGD(0.05, 0.9, True)
    activations, loss = ["tanh", output], "soft_cross_entropy" if output == "softmax" else "binary_log_loss"
    curve, validation = [], []
    for _ in range(3):
        curve.append(naive.epoch(X, Y, np.arange(30), 10, W, b, activations, optimizer, 0.1, weights, loss))
        validation.append(naive.loss(Y[:9], naive.forward(X[:9], W, b, activations)[-1], loss))
    np.testing.assert_allclose(model.loss_curve_, curve, rtol=1e-12)
    np.testing.assert_allclose(model.validation_loss_curve_, validation, rtol=1e-12)
    np.testing.assert_allclose(learnt(model), np.concatenate([p.ravel() for p in W + b]), atol=1e-12)
    assert model.loss_ == model.loss_curve_[-1]
    assert model.validation_scores_[-1] == model.score(X[:9], targets[:9])


@pytest.mark.parametrize("task", SMOOTHED)
def test_label_smoothing_by_lbfgs(task):
    """loss_ is what is minimised, and nothing near is less: probabilities are those that were asked for."""
    model, targets, Y, output = of_task(task, solver="lbfgs", max_iter=5000, max_fun=50_000, hidden_layer_sizes=())
    model.set_params(label_smoothing=SMOOTHING, alpha=0.0, tol=1e-8).fit(X[:, :1] * 0, targets)
    share = smoothed(Y, output).mean(axis=0)
    found = model.predict_proba(X[:1, :1] * 0)[0]
    np.testing.assert_allclose(found[-1:] if task == "two classes" else found, share, atol=1e-5)
    loss = -(share * np.log(share)).sum() - (0 if output == "softmax" else ((1 - share) * np.log(1 - share)).sum())
    assert model.loss_ == pytest.approx(loss, rel=1e-9)


HALF = {"label_smoothing": 0.5}


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("task", SMOOTHED)
def test_no_smoothing_is_none(task, solver):
    """label_smoothing=0 leaves every bit, and steps go on from one loss with the other."""
    model, targets, *_ = of_task(task, solver=solver)
    plain, none, some = (clone(model).set_params(**own).fit(X, targets) for own in ({}, {"label_smoothing": 0}, HALF))
    assert np.array_equal(learnt(plain), learnt(none)) and plain.loss_ == none.loss_
    assert not np.array_equal(learnt(plain), learnt(some)) and some.loss_ != plain.loss_
    if solver != "lbfgs":
        plain.set_params(**HALF).partial_fit(X, targets)
        assert not np.array_equal(learnt(plain), learnt(none.partial_fit(X, targets)))


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
REFUSED += [("MLPRegressor", "quantile", value) for value in (0.0, 1.0, -1, np.nan, None, "0.5")]
REFUSED += [("MLPClassifier", "label_smoothing", value) for value in (-0.1, 1.0, np.nan, None, "0.1")]
REFUSED += [(name, "clipnorm", value) for name in TARGETS for value in (0, -1, np.nan, np.inf, "1", [1.0])]
REFUSED += [
    (name, "dropout", value)
    for name in TARGETS
    for value in (-0.1, 1.0, 1, np.nan, None, "0.1", [1.0], [None], [[0.1]], {0.1})
]


@pytest.mark.parametrize("name, parameter, value", REFUSED)
def test_values_that_make_no_sense(name, parameter, value):
    """In scikit-learn's words, by fit and by partial_fit."""
    model = make(name, **{parameter: value})
    for train in model.fit, model.partial_fit:
        with pytest.raises(InvalidParameterError, match=f"The '{parameter}' parameter of {name} must be a float in"):
            train(X, TARGETS[name])
    assert not hasattr(model, "coefs_")


@pytest.mark.parametrize("value", ["nonsense", None, 0.1, ["relu", "nonsense"], [None], [["relu"]], {"relu"}], ids=str)
@pytest.mark.parametrize("parameter", ["activation", "learning_rate"])
@both_estimators
def test_names_that_there_are_not(name, parameter, value):
    model = make(name, **{parameter: value})
    for train in model.fit, model.partial_fit:
        with pytest.raises(InvalidParameterError, match=f"The '{parameter}' parameter of {name} must be a str among"):
            train(X, TARGETS[name])
    assert not hasattr(model, "coefs_")


@pytest.mark.parametrize("parameter, value", [("activation", "tanh"), ("dropout", 0.1)])
@both_estimators
def test_a_value_for_each_hidden_layer(name, parameter, value):
    """No fewer and no more, of the layers that are there; the model stays as it was."""
    first = {"classes": [0, 1, 2]} if name == "MLPClassifier" else {}
    for sizes, count in ((5,), 0), ((5,), 2), ((), 1), (5, 2), ((5, 4), 1):
        model, layers = make(name, hidden_layer_sizes=sizes, **{parameter: [value] * count}), np.size(sizes)
        for train in model.fit, lambda *data, model=model: model.partial_fit(*data, **first):
            with pytest.raises(ValueError, match=f"{parameter} must have a value for each of the {layers} hidden"):
                train(X, TARGETS[name])
        assert vars(model).keys() == vars(make(name)).keys()
    model = make(name, hidden_layer_sizes=(5, 4), warm_start=True, **{parameter: [value] * 2}).fit(X, TARGETS[name])
    model.set_params(hidden_layer_sizes=(5,), **{parameter: [value]})  # a warm start has the layers that it has
    before = state(model)
    for train in model.fit, model.partial_fit:
        with pytest.raises(ValueError, match=f"{parameter} must have a value for each of the 2 hidden layers"):
            train(X, TARGETS[name])
    assert state(model) == before
    model.set_params(**{parameter: [value] * 2}).fit(X, TARGETS[name])
    for sizes, values in ((), []), (5, [value]), (np.array([5, 4]), np.array([value] * 2)):
        model = make(name, hidden_layer_sizes=sizes, **{parameter: values}).fit(X, TARGETS[name])
        model.partial_fit(X, TARGETS[name])
        assert np.isfinite(outputs(model)).all()


@both_estimators
def test_a_schedule_that_gives_no_rate(name):
    """Whenever it does: the model stays as it was."""
    for bad in np.nan, -0.1, np.inf, None, "0.1":
        model = make(name, warm_start=True).fit(X, TARGETS[name])
        model.set_params(learning_rate=lambda t, bad=bad: 1.0 if t < 0.5 else bad)
        before = copy.deepcopy(vars(model))
        with pytest.raises(ValueError, match="learning_rate must return a finite number >= 0, got"):
            model.fit(X, TARGETS[name])
        assert vars(model).keys() - {"_network"} == before.keys() - {"_network"}
        assert model.loss_curve_ == before["loss_curve_"] and model.t_ == before["t_"]
        assert all(np.array_equal(a, b) for a, b in zip(model.coefs_, before["coefs_"], strict=True))


NOT_FOR_LBFGS = [("weight_decay", 0.1), ("dropout", 0.1), ("dropout", [0.1]), ("clipnorm", 1.0)]
NOT_FOR_LBFGS += [("learning_rate", schedule) for schedule in (*naive.FACTORS, square)]


@pytest.mark.parametrize("parameter, value", NOT_FOR_LBFGS, ids=lambda value: getattr(value, "__name__", str(value)))
@both_estimators
def test_lbfgs_takes_no_steps_of_ours(name, parameter, value):
    """What is about them is refused before anything is trained."""
    model, twin = (make(name).fit(X, TARGETS[name]) for _ in range(2))
    for one in model, twin:
        one.set_params(solver="lbfgs", **{parameter: value})
    with pytest.raises(ValueError, match=f"{parameter}.* needs solver='adam' or 'sgd', got solver='lbfgs'"):
        model.fit(X, TARGETS[name])
    assert state(model) == state(twin) and bits(model) == bits(twin)
    unfitted = make(name, solver="lbfgs", **{parameter: value})
    with pytest.raises(ValueError, match=f"{parameter}.* needs"):
        unfitted.fit(X, TARGETS[name])
    assert vars(unfitted).keys() == vars(make(name)).keys()


@both_estimators
def test_lbfgs_has_what_is_not_about_steps(name):
    """Activations for each layer; scikit-learn's schedules, which it ignores."""
    parameters = {"solver": "lbfgs", "hidden_layer_sizes": (5, 4), "dropout": [0.0, 0.0], "scoring": "loss"}
    model = make(name, activation=["silu", "tanh"], **parameters).fit(X, TARGETS[name])
    output = model.out_activation_
    expected = naive.forward(X, model.coefs_, model.intercepts_, ["silu", "tanh", output])[-1]
    np.testing.assert_allclose(outputs(model), np.squeeze(expected), atol=1e-12)
    other = make(name, activation=["silu", "tanh"], learning_rate="adaptive", **parameters).fit(X, TARGETS[name])
    assert bits(other) == bits(model)


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


# ---- copies, conversions and tools ----


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


@pytest.mark.parametrize("solver", ADAM_AND_SGD)
@each_option
@both_estimators
def test_piece_by_piece(name, option, solver):
    """partial_fit, pickled between the calls, takes the steps of a fit with so many epochs: its bits."""
    parameters = OPTIONS[option] | ADAM_AND_SGD[solver] | IN_ORDER | {"max_iter": 6, "n_iter_no_change": np.inf}
    if name == "MLPClassifier":
        parameters["label_smoothing"] = 0.1
    model, at_once = make(name, **parameters), make(name, **parameters).fit(X, TARGETS[name])
    first = {"classes": [0, 1, 2]} if name == "MLPClassifier" else {}
    for _ in range(6):
        model = pickle.loads(pickle.dumps(model)).partial_fit(X, TARGETS[name], **first)
    assert bits(model) == bits(at_once) and model.loss_curve_ == at_once.loss_curve_


@each_option
@both_estimators
def test_copies_know_them(name, option):
    """clone, repr, pickle and deepcopy, before and after a fit."""
    model = make(name, **OPTIONS[option])
    default = type(model)()
    for _ in range(2):
        twin = clone(model)
        assert vars(twin).keys() == vars(make(name)).keys()
        assert repr(twin.get_params()) == repr(model.get_params()) and repr(twin) == repr(model)
        for parameter in OPTIONS[option]:
            assert f"{parameter}=" in repr(model) and repr(getattr(default, parameter)) != repr(
                getattr(model, parameter)
            )
        for one in copy.deepcopy(model), pickle.loads(pickle.dumps(model)):
            assert state(one) == state(model)
        model.fit(X, TARGETS[name])
    assert bits(twin.fit(X, TARGETS[name])) == bits(model)
    for one in copy.deepcopy(model), pickle.loads(pickle.dumps(model)):
        assert bits(one) == bits(model)
        assert state(one.partial_fit(X, TARGETS[name])) == state(copy.deepcopy(model).partial_fit(X, TARGETS[name]))


SAME_FOR_ALL = {"activation": ["tanh", "tanh"], "hidden_layer_sizes": (5, 4)}


@pytest.mark.parametrize("solver", ADAM_AND_SGD)
@pytest.mark.parametrize("option", sorted(OPTIONS.keys() - {"all", "activation of each layer"}) + ["the same for all"])
@both_estimators
def test_what_training_needed_is_left_out(name, option, solver):
    """scikit-learn's estimator predicts the same without it, and can be trained on."""
    own = OPTIONS.get(option, SAME_FOR_ALL) | ({"label_smoothing": 0.1} if name == "MLPClassifier" else {})
    model = make(name, **ADAM_AND_SGD[solver], **own)
    unfitted = model.to_sklearn()
    model.fit(X, TARGETS[name])
    theirs = model.to_sklearn()
    for one in theirs, unfitted:
        assert type(one).__module__.startswith("sklearn.") and not vars(one).keys() & OWN_PARAMETERS.keys()
        assert one.learning_rate == "constant"
    np.testing.assert_allclose(outputs(theirs), outputs(model), rtol=0, atol=1e-12)
    theirs.partial_fit(X, TARGETS[name])
    unfitted.fit(X, TARGETS[name])
    assert bits(type(model).from_sklearn(model.to_sklearn())) == bits(model)


@both_estimators
def test_searches(name):
    """Each value is tried, and the best is the one that a fit with it gives."""
    grids = [{key: [getattr(type(make(name))(), key), value]} for key, value in {
        "activation": ["silu", "tanh"], "dropout": [0.5, 0.1], "clipnorm": 1e-3, "learning_rate": "onecycle",
        "weight_decay": 5.0, "scoring": "loss",
    }.items()]  # fmt: skip
    grids += [{"label_smoothing": [0.0, 0.5]}] if name == "MLPClassifier" else [{"loss": ["squared_error", "huber"]}]
    for grid in grids:
        model = make(
            name, hidden_layer_sizes=(5, 4), learning_rate_init=0.05, max_iter=9, early_stopping="scoring" in grid
        )
        scoring = "neg_log_loss" if name == "MLPClassifier" else "r2"
        search = GridSearchCV(model, grid, cv=3, scoring=scoring).fit(X, TARGETS[name])
        first, second = search.cv_results_["mean_test_score"]
        assert first != second or "scoring" in grid
        best = clone(model).set_params(**search.best_params_).fit(X, TARGETS[name])
        assert state(best) == state(search.best_estimator_)


@pytest.mark.parametrize("scoring", [None, "loss", "name"])
@adam_and_sgd
@each_task
def test_early_stopping_with_all_of_them(task, solver, scoring):
    """The weights are those of partial_fit after the best epoch; dropout is not for validation rows."""
    name = TASKS[task][0]
    own = {"label_smoothing": 0.1} if name == "MLPClassifier" else {}
    if scoring == "name":
        scoring = "accuracy" if name == "MLPClassifier" else "neg_mean_squared_error"
    parameters = OPTIONS["all"] | ADAM_AND_SGD[solver] | {"max_iter": 40, "shuffle": False, "scoring": scoring} | own
    model, targets, *_ = of_task(task, early_stopping=True, n_iter_no_change=4, **parameters)
    model.set_params(learning_rate_init=0.2).fit(X, targets, X_val=X[::-2], y_val=targets[::-2])
    parts = clone(model).set_params(early_stopping=False)
    first = {"classes": np.arange(3) if targets.ndim == 2 else np.unique(targets)} if name == "MLPClassifier" else {}
    for epoch in range(1, model.n_iter_ + 1):
        parts.partial_fit(X, targets, **first)
        if epoch == model.best_iter_:
            assert np.array_equal(learnt(parts), learnt(model))
    assert parts.loss_curve_ == model.loss_curve_ and 1 <= model.best_iter_ <= model.n_iter_
    assert model.best_validation_score_ == max(model.validation_scores_)
    if scoring is None:
        best = model.score(X[::-2], targets[::-2])
    elif scoring == "loss":
        best = -model.validation_loss_curve_[model.best_iter_ - 1]
    else:
        best = sklearn.metrics.get_scorer(scoring)(model, X[::-2], targets[::-2])
    assert model.best_validation_score_ == pytest.approx(best, rel=1e-12)


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


# each of them is on in one
CHECKED = [
    {
        "hidden_layer_sizes": (40, 20), "activation": ["silu", "tanh"], "clipnorm": 1.0, "learning_rate": "cosine",
        "learning_rate_init": 0.01, "weight_decay": 0.01, "dtype": "float64", "scoring": "loss",
    },
    {"solver": "sgd", "learning_rate_init": 0.1, "learning_rate": "flat_cos", "dropout": 0.1, "n_jobs": 1},
]  # fmt: skip


@parametrize_with_checks(
    [
        estimator(max_iter=100, **parameters, **own)
        for parameters in CHECKED
        for estimator, own in (
            (fastmlp.MLPClassifier, {"label_smoothing": 0.1}),
            (fastmlp.MLPRegressor, {"loss": "huber"}),
        )
    ]
)
def test_scikit_learns_checks_of_estimators(estimator, check):
    """All of them pass; one that leaves out rows does not go with dropout, which is drawn row by row."""
    if "check_sample_weight_equivalence" in str(check):
        estimator = clone(estimator).set_params(dropout=0.0, tol=1e-2, random_state=42)
    with warnings.catch_warnings():
        for category in FutureWarning, ConvergenceWarning, UserWarning:
            warnings.simplefilter("ignore", category)
        check(estimator)


@both_estimators
def test_own_numbers_of_steps_count_in_later_calls(name):
    """clipnorm, weight_decay and dropout are those of each partial_fit; scikit-learn's are those of the first."""
    first = {"classes": [0, 1, 2]} if name == "MLPClassifier" else {}
    model = make(name).partial_fit(X, TARGETS[name], **first)
    same = copy.deepcopy(model).set_params(learning_rate_init=0.5).partial_fit(X, TARGETS[name])
    plain = copy.deepcopy(model).partial_fit(X, TARGETS[name])
    assert bits(same) == bits(plain)
    for changes in {"clipnorm": 1e-3}, {"weight_decay": 5.0}, {"dropout": 0.5}:
        assert bits(copy.deepcopy(model).set_params(**changes).partial_fit(X, TARGETS[name])) != bits(plain), changes
    seeds = set()
    for random_state in 1, 2:
        later = copy.deepcopy(model).set_params(dropout=0.5, random_state=random_state).partial_fit(X, TARGETS[name])
        seeds.add(later._optimizer.seed)
        assert later.partial_fit(X, TARGETS[name])._optimizer.seed in seeds
    assert len(seeds) == 2 and 0 not in seeds
