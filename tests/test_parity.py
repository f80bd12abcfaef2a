"""With the same random_state fastmlp gives scikit-learn's numbers: losses, weights, scores, predictions, warnings.

One table of tasks and one of solvers span the grid. A case trains both libraries with equal parameters, collects what
a user can see of each model in a dict, `ours` and `theirs`, and compares the two name by name.
"""

import warnings
from typing import NamedTuple

import numpy as np
import pytest
import sklearn
import sklearn.neural_network
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.fixes import parse_version

import fastmlp

ACTIVATIONS = ["identity", "logistic", "tanh", "relu"]
HIDDEN_LAYER_SIZES = [(), (7,), (19, 5, 11)]


class Task(NamedTuple):
    """Which estimator learns what; classes are what a first partial_fit of a classifier needs."""

    estimator: str
    X: np.ndarray
    y: np.ndarray
    classes: np.ndarray | None = None


def standardise(X):
    """Mean 0 and standard deviation 1 in every column; a constant column becomes 0."""
    spread = X.std(axis=0)
    return (X - X.mean(axis=0)) / np.where(spread == 0, 1, spread)


def make_tasks():
    """About 200 rows of real data each; the numbers of features and outputs differ from task to task.

    The binary task is kept hard and within 2 deviations: no probability comes so near 1 that log(1 - p) is rounding.
    """
    pixels, digit = (a[:210] for a in load_digits(return_X_y=True))
    cells, kind = (a[:190] for a in load_breast_cancer(return_X_y=True))
    patients, disease = (a[:230] for a in load_diabetes(return_X_y=True))
    pixels, cells, patients = standardise(pixels), standardise(cells[:, 9:20]).clip(-2, 2), standardise(patients)
    bits = (digit[:, np.newaxis] >> np.arange(4)) & 1  # of the digit, so that a 0 has no label at all
    pressure = patients[:, 3]
    others = np.delete(patients, 3, axis=1)
    # before 1.9 scikit-learn cannot score words for early stopping: its issue 33760
    names = np.array(["malignant", "benign"] if parse_version(sklearn.__version__) >= parse_version("1.9") else [4, 2])
    return {
        "multiclass": Task("MLPClassifier", pixels, digit, np.arange(10)),
        "binary": Task("MLPClassifier", cells, names[kind], np.sort(names)),
        "multilabel": Task("MLPClassifier", pixels[:, 20:57], bits, np.arange(4)),
        "one_output": Task("MLPRegressor", patients, standardise(disease)),
        "two_outputs": Task("MLPRegressor", others, np.column_stack([standardise(disease), pressure])),
        "counts": Task("MLPRegressor", patients, disease // 40),
        "two_counts": Task("MLPRegressor", others, np.column_stack([disease // 40, np.floor(pressure + 3)])),
    }


TASKS = make_tasks()
GRID_TASKS = ["multiclass", "binary", "multilabel", "one_output", "two_outputs"]


def fit(model, task):
    model.fit(task.X, task.y)


def fit_weighted(model, task):
    """A tenth of the rows weigh nothing."""
    rng = np.random.RandomState(0)
    model.fit(task.X, task.y, sample_weight=rng.uniform(0, 2, len(task.X)) * (rng.uniform(size=len(task.X)) > 0.1))


def fit_twice(model, task):
    """The second time on fewer rows."""
    model.fit(task.X, task.y)
    model.fit(task.X[20:], task.y[20:])


def partial_fits(model, task):
    """Five calls, each on fewer rows; the first one of a classifier gets the classes."""
    first = {} if task.classes is None else {"classes": task.classes}
    for i in range(5):
        model.partial_fit(task.X[10 * i :], task.y[10 * i :], **(first if i == 0 else {}))


COMMON = {"max_iter": 25, "random_state": 3, "alpha": 0.01}

ADAM = {"solver": "adam", "learning_rate_init": 0.01}
SGD = {"solver": "sgd", "learning_rate_init": 0.02, "batch_size": 50}
ADAPTIVE = SGD | {"learning_rate": "adaptive", "tol": 0.02, "n_iter_no_change": 2}
EARLY = {"early_stopping": True, "validation_fraction": 0.2, "n_iter_no_change": 3, "tol": 0.001}

# name: (how to train, parameters)
SOLVERS = {
    "adam": (fit, ADAM),
    "nesterov": (fit, SGD),
    "invscaling": (
        fit,
        SGD | {"learning_rate": "invscaling", "learning_rate_init": 0.1, "power_t": 0.2, "momentum": 0.0},
    ),
    "adaptive": (fit, ADAPTIVE),
    "early_stopping": (fit, ADAM | EARLY),
    "in_order": (fit, ADAM | {"batch_size": 33, "shuffle": False}),
    "sample_weight": (fit_weighted, ADAM | {"batch_size": 50}),
    "warm_start": (fit_twice, SGD | {"warm_start": True}),
    "partial_fit": (partial_fits, ADAM),
}

# Settings that meet each other, beyond the grid.
COMBINATIONS = {
    "momentum without nesterov": (fit, SGD | {"nesterovs_momentum": False}),
    "early stopping with sample weights": (fit_weighted, ADAM | EARLY),
    "early stopping with an adaptive rate": (fit, ADAPTIVE | EARLY),
    "invscaling with partial_fit": (partial_fits, SGD | {"learning_rate": "invscaling", "power_t": 0.1}),
    "other betas and epsilon": (fit, ADAM | {"beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-3}),
    "a batch larger than the data": (fit, ADAM | {"batch_size": 1000}),
    "batches of one row": (fit, SGD | {"batch_size": 1, "learning_rate_init": 0.001, "max_iter": 3}),
}

LOSS, WEIGHTS = {"rtol": 1e-8, "atol": 0}, {"rtol": 0, "atol": 1e-6}

# How near each number must be to scikit-learn's; whatever is not named here must be equal.
TOLERANCES = {
    "loss_curve_": LOSS,
    "loss_": LOSS,
    "best_loss_": LOSS,
    "validation_scores_": {"rtol": 1e-8, "atol": 1e-8},
    "best_validation_score_": {"rtol": 1e-8, "atol": 1e-8},
    "_optimizer.learning_rate": {"rtol": 1e-12, "atol": 0},
    "coefs_ and intercepts_": WEIGHTS,
    "predict": WEIGHTS,
    "predict_proba": WEIGHTS,
    "predict_log_proba": WEIGHTS,
    "score": WEIGHTS,
}

ATTRIBUTES = """
    n_iter_ t_ n_layers_ n_outputs_ out_activation_ n_features_in_ loss_ loss_curve_ best_loss_ validation_scores_
    best_validation_score_ _no_improvement_count
""".split()


def train(library, task, how, **parameters):
    """What a user can see, as a dict: the trained model's attributes, its predictions and the warnings given."""
    model = getattr(library, task.estimator)(**(COMMON | parameters))
    methods = ["predict", "predict_proba", "predict_log_proba"] if task.estimator == "MLPClassifier" else ["predict"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        how(model, task)
        seen = {name: getattr(model, name)(task.X) for name in methods}
        seen["score"] = model.score(task.X, task.y)
    seen |= {name: getattr(model, name) for name in ATTRIBUTES if hasattr(model, name)}
    if hasattr(model, "_optimizer"):
        seen["_optimizer.learning_rate"] = model._optimizer.learning_rate
    if task.estimator == "MLPClassifier":
        seen["classes_"] = model.classes_.tolist()
    seen["warnings"] = [(w.category, str(w.message)) for w in caught]
    seen["layers"] = [
        (W.shape, W.dtype, b.shape, b.dtype) for W, b in zip(model.coefs_, model.intercepts_, strict=True)
    ]
    seen["coefs_ and intercepts_"] = np.concatenate([p.ravel() for p in model.coefs_ + model.intercepts_])
    return seen


def assert_parity(ours, theirs):
    """Same names; equal, or as near as TOLERANCES asks, with the same shape and dtype."""
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        if name not in TOLERANCES or expected is None:
            assert ours[name] == expected, name
            continue
        assert isinstance(ours[name], list) == isinstance(expected, list), name
        found, expected = np.asarray(ours[name]), np.asarray(expected)
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype), name
        if expected.dtype.kind == "f":
            np.testing.assert_allclose(found, expected, **TOLERANCES[name], err_msg=name)
        else:
            np.testing.assert_array_equal(found, expected, err_msg=name)


def check(task, how, **parameters):
    ours = train(fastmlp, task, how, **parameters)
    theirs = train(sklearn.neural_network, task, how, **parameters)
    assert_parity(ours, theirs)


@pytest.mark.parametrize("hidden_layer_sizes", HIDDEN_LAYER_SIZES, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("task", GRID_TASKS)
def test_grid(task, solver, activation, hidden_layer_sizes):
    """After 25 epochs: equal n_iter_, losses within 1e-8, every weight and every prediction within 1e-6."""
    how, parameters = SOLVERS[solver]
    check(TASKS[task], how, activation=activation, hidden_layer_sizes=hidden_layer_sizes, **parameters)


@pytest.mark.parametrize("combination", COMBINATIONS)
@pytest.mark.parametrize("task", GRID_TASKS)
def test_combinations(task, combination):
    """The same where two settings meet."""
    how, parameters = COMBINATIONS[combination]
    check(TASKS[task], how, activation="tanh", hidden_layer_sizes=(7,), **parameters)


@pytest.mark.parametrize("hidden_layer_sizes", HIDDEN_LAYER_SIZES, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("solver", ["adam", "nesterov", "sample_weight"])
@pytest.mark.parametrize("task", ["counts", "two_counts"])
def test_poisson_regression(task, solver, activation, hidden_layer_sizes):
    """The same for loss="poisson", zero counts among the targets."""
    how, parameters = SOLVERS[solver]
    if parameters["solver"] == "sgd":
        parameters = parameters | {"learning_rate_init": 0.002}
    check(TASKS[task], how, loss="poisson", activation=activation, hidden_layer_sizes=hidden_layer_sizes, **parameters)


LBFGS = {"solver": "lbfgs", "max_iter": 10, "alpha": 1.0}

# name: (how to train, parameters). Few iterations and a penalty: where the loss of two outputs, whose gradient is not
# its own in scikit-learn, or that of dead ReLUs leads a line search nowhere, rounding decides where it ends.
LBFGS_SETTINGS = {
    "lbfgs": (fit, LBFGS),
    "sample_weight": (fit_weighted, LBFGS),
    "warm_start": (fit_twice, LBFGS | {"warm_start": True, "max_iter": 7}),
    "max_fun": (fit, LBFGS | {"max_fun": 6}),
    "tol": (fit, LBFGS | {"tol": 0.1}),
    "what it does not look at": (
        fit,
        LBFGS | {"early_stopping": True, "batch_size": 1000, "learning_rate": "adaptive", "shuffle": False},
    ),
}


@pytest.mark.parametrize("hidden_layer_sizes", HIDDEN_LAYER_SIZES, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("setting", LBFGS_SETTINGS)
@pytest.mark.parametrize("task", TASKS)
def test_lbfgs(task, setting, activation, hidden_layer_sizes):
    """Equal n_iter_ and warnings, loss within 1e-8, weights and predictions within 1e-6, the same attributes."""
    how, parameters = LBFGS_SETTINGS[setting]
    loss = {"loss": "poisson"} if "counts" in task else {}
    check(TASKS[task], how, activation=activation, hidden_layer_sizes=hidden_layer_sizes, **parameters, **loss)


@pytest.mark.parametrize("task", ["one_output", "two_outputs"])
def test_lbfgs_partial_fit(task):
    """Of the regressor: a whole fit that goes on from the weights there are, with early_stopping too."""
    check(TASKS[task], partial_fits, hidden_layer_sizes=(7,), activation="tanh", solver="lbfgs", max_iter=3)
    check(TASKS[task], partial_fits, hidden_layer_sizes=(7,), solver="lbfgs", max_iter=3, early_stopping=True)


@pytest.mark.parametrize("task", ["multiclass", "binary", "one_output"])
def test_lbfgs_converges(task):
    """Trained until the gradient is small: no warning, about as many iterations, losses within 1e-6."""
    parameters = {"solver": "lbfgs", "max_iter": 1000, "hidden_layer_sizes": (), "alpha": 1.0}
    ours, theirs = (train(library, TASKS[task], fit, **parameters) for library in (fastmlp, sklearn.neural_network))
    assert ours["warnings"] == theirs["warnings"] == []
    assert ours["n_iter_"] == theirs["n_iter_"]
    assert ours["loss_"] == pytest.approx(theirs["loss_"], rel=1e-6)


def dtypes(seen):
    return seen["layers"], {name: seen[name].dtype for name in seen if name.startswith("predict")}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("solver", ["adam", "nesterov", "sample_weight", "partial_fit"])
@pytest.mark.parametrize(
    "task, y_dtype",
    [
        ("multiclass", "int64"),
        ("binary", TASKS["binary"].y.dtype),
        ("multilabel", "int64"),
        ("one_output", "float32"),
        ("one_output", "float64"),
        ("two_outputs", "float32"),
        ("two_outputs", "float64"),
    ],
)
def test_float32(task, y_dtype, solver, activation):
    """X in float32: weights and predictions have scikit-learn's dtypes, the losses are within 1e-3 of its losses."""
    task = TASKS[task]
    task = task._replace(X=task.X.astype(np.float32), y=task.y.astype(y_dtype))
    how, parameters = SOLVERS[solver]
    parameters = parameters | {"activation": activation, "hidden_layer_sizes": (7,)}
    ours = train(fastmlp, task, how, **parameters)
    theirs = train(sklearn.neural_network, task, how, **parameters)
    assert dtypes(ours) == dtypes(theirs)
    np.testing.assert_allclose(ours["loss_curve_"], theirs["loss_curve_"], rtol=1e-3)


@pytest.mark.parametrize("y_dtype", [np.float32, np.float64])
@pytest.mark.parametrize("task", GRID_TASKS)
def test_lbfgs_float32(task, y_dtype):
    """X in float32: scikit-learn 1.9's dtypes (losses too; weights in float64) and n_iter_; losses within 1e-4.

    Both train in float32, whose rounding the line searches magnify: 1e-6 after a fit, 3e-5 after a warm start.
    """
    task = TASKS[task]
    y = task.y.astype(y_dtype) if task.estimator == "MLPRegressor" else task.y
    task = task._replace(X=task.X.astype(np.float32), y=y)
    for how, parameters in (fit, LBFGS), (fit_weighted, LBFGS), (fit_twice, LBFGS | {"warm_start": True}):
        parameters = parameters | {"activation": "tanh", "hidden_layer_sizes": (7,)}
        ours, theirs = (train(library, task, how, **parameters) for library in (fastmlp, sklearn.neural_network))
        assert dtypes(ours) == dtypes(theirs)
        assert type(ours["loss_"]) is type(theirs["loss_"])
        assert ours["n_iter_"] == theirs["n_iter_"]
        assert ours["loss_"] == pytest.approx(theirs["loss_"], rel=1e-4)


@pytest.mark.parametrize("how", [fit, fit_weighted])
@pytest.mark.parametrize("task", GRID_TASKS)
def test_types_of_losses(task, how):
    """Those of scikit-learn, whatever SciPy makes of float32: the first epoch's, the last one's and the best."""
    task = TASKS[task]
    y = task.y.astype(np.float32) if task.estimator == "MLPRegressor" else task.y
    task = task._replace(X=task.X.astype(np.float32), y=y)
    found = [train(library, task, how, max_iter=2) for library in (fastmlp, sklearn.neural_network)]
    ours, theirs = ([type(x[name]) for name in ("loss_", "best_loss_")] + [type(x["loss_curve_"][0])] for x in found)
    assert ours == theirs


@pytest.mark.parametrize("X_dtype", [np.float32, np.float16, np.int64, np.uint8, bool])
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("task", GRID_TASKS)
def test_dtypes(task, solver, X_dtype):
    """Weights and predictions have scikit-learn's dtypes, whatever X's: float64 for all but float32."""
    task = TASKS[task]
    task = task._replace(X=(task.X - task.X.min()).astype(X_dtype))
    parameters = {"solver": solver, "learning_rate_init": 0.001, "hidden_layer_sizes": (7,), "max_iter": 2}
    assert dtypes(train(fastmlp, task, fit, **parameters)) == dtypes(
        train(sklearn.neural_network, task, fit, **parameters)
    )


def test_warm_start_after_early_stopping_keeps_the_best_weights():
    """Better than scikit-learn, whose second fit trains the best weights of the first in place and returns them."""
    task = TASKS["multiclass"]
    parameters = COMMON | ADAM | EARLY | {"warm_start": True, "hidden_layer_sizes": (7,)}
    model = fastmlp.MLPClassifier(**parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(task.X, task.y)
        best, score = [W.copy() for W in model.coefs_], model.best_validation_score_
        model.set_params(learning_rate_init=10.0).fit(task.X, task.y)  # makes everything worse
    assert model.best_validation_score_ == score and max(model.validation_scores_[-3:]) < score
    assert all(np.array_equal(W, old) for W, old in zip(model.coefs_, best, strict=True))


def test_tables_hold_what_they_name():
    """In the grid losses fall, an adaptive rate is divided, early stopping ends some fits but not all."""
    seen = {
        (task, solver): train(
            sklearn.neural_network, TASKS[task], how, activation="tanh", hidden_layer_sizes=(7,), **parameters
        )
        for task in GRID_TASKS
        for solver, (how, parameters) in SOLVERS.items()
    }
    assert all(s["loss_curve_"][-1] < 0.9 * s["loss_curve_"][0] for s in seen.values())
    assert min(seen[task, "adaptive"]["_optimizer.learning_rate"] for task in GRID_TASKS) < 1e-3
    assert {seen[task, "early_stopping"]["n_iter_"] == 25 for task in GRID_TASKS} == {True, False}
