"""Validation rows of one's own: losses and scores are those of models that were trained for so many epochs.

What a model is after k epochs a fit with max_iter=k says; the losses are scikit-learn's metrics, or stand here.
"""

import copy
import math
import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse
import sklearn
import sklearn.metrics as metrics
from helpers import dtypes
from models import TARGETS, N, X, both_estimators, frame, make, outputs, put, state
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning
from sklearn.model_selection import GridSearchCV, cross_validate, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import InvalidParameterError

import fastmlp

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# ---- data -------------------------------------------------------------------------------------------------------

M = 23
rng = np.random.RandomState(5)
X_VAL = rng.normal(size=(M, 4))
WEIGHTS_VAL = rng.uniform(0.2, 3, M) * (np.arange(M) % 4 != 0)
BOTH = np.concatenate([X, X_VAL])
NUMBERS = np.column_stack([BOTH[:, 0] - BOTH[:, 1] * BOTH[:, 2], BOTH[:, 3], 2 + BOTH[:, 0]])
LEVELS = np.digitize(BOTH[:, 0] + BOTH[:, 1], [-0.5, 0.5])
POSITIVE = np.exp(0.5 * BOTH[:, 0])
# targets of X and X_VAL, one after the other, and what a model of them is
TASKS = {
    "two classes": (LEVELS % 2, {}),
    "two words": (np.array(["no", "yes"])[LEVELS % 2], {}),
    "three classes": (LEVELS, {}),
    "three words": (np.array(["ant", "bee", "cow"])[LEVELS], {}),
    "many labels": ((NUMBERS > 0.3).astype(int), {}),
    "squared_error": (NUMBERS[:, 0], {}),
    "several targets": (NUMBERS, {}),
    "poisson": (np.floor(POSITIVE), {}),
    "gamma": (POSITIVE, {}),
    "huber": (NUMBERS[:, 0], {"huber_delta": 0.7}),
    "absolute_error": (NUMBERS[:, :2], {}),
    "quantile": (NUMBERS[:, 0], {"quantile": 0.3}),
}
CLASSIFIERS = [task for task in TASKS if "classes" in task or "words" in task or "labels" in task]
SOLVERS = {"adam": {"learning_rate_init": 0.02}, "sgd": {"solver": "sgd", "learning_rate_init": 0.02}}
FORMS = {
    "float64": lambda rows: rows,
    "float32": lambda rows: rows.astype(np.float32),
    "csr": scipy.sparse.csr_array,
    "csc": scipy.sparse.csc_matrix,
}
LARGE = (300, 350)  # more weights than network.FINGERPRINT_UP_TO

each_task = pytest.mark.parametrize("task", TASKS)
solvers = pytest.mark.parametrize("solver", SOLVERS)
weighted = pytest.mark.parametrize("weights", [None, WEIGHTS_VAL], ids=["", "weighted"])


def of_task(task, **parameters):
    """A model, y and y_val. Epochs differ in their loss, and the penalty is large."""
    y, own = TASKS[task]
    if task in CLASSIFIERS:
        name = "MLPClassifier"
    else:
        name, own = "MLPRegressor", own | {"loss": task if task != "several targets" else "squared_error"}
    parameters = {"alpha": 0.5, "batch_size": 10, "tol": 0.0, "n_iter_no_change": 1000} | own | parameters
    return make(name, **parameters), y[:N], y[N:]


def loss_of(model, rows, y, weights=None):
    """What validation_loss_curve_ tells of a model, by its predictions."""
    if y.ndim == 2 and hasattr(model, "classes_"):
        columns = zip(y.T, model.predict_proba(rows).T, strict=True)
        return sum(metrics.log_loss(labels, p, sample_weight=weights, labels=[0, 1]) for labels, p in columns)
    if hasattr(model, "classes_"):
        return metrics.log_loss(y, model.predict_proba(rows), sample_weight=weights, labels=model.classes_)
    predicted = model.predict(rows)
    if model.loss == "huber":
        error, delta = np.abs(y - predicted), model.huber_delta
        losses = np.where(error <= delta, error**2 / 2, delta * (error - delta / 2))
        return np.average(losses, weights=weights)
    metric = {
        "squared_error": lambda *args, **kwargs: metrics.mean_squared_error(*args, **kwargs) / 2,
        "poisson": lambda *args, **kwargs: metrics.mean_poisson_deviance(*args, **kwargs) / 2,
        "gamma": lambda *args, **kwargs: metrics.mean_gamma_deviance(*args, **kwargs) / 2,
        "absolute_error": metrics.mean_absolute_error,
        "quantile": lambda *args, **kwargs: metrics.mean_pinball_loss(*args, **kwargs, alpha=model.quantile),
    }[model.loss]
    return metric(y, predicted, sample_weight=weights)


def after_epochs(model, rows, y, epochs):
    """Models like this one that were trained for 1, 2, .. epochs, without validation rows."""
    parameters = {"early_stopping": False, "n_iter_no_change": 1000}
    return [clone(model).set_params(max_iter=k, **parameters).fit(rows, y) for k in range(1, epochs + 1)]


def parameters_of(model):
    return [parameter.tobytes() for parameter in model.coefs_ + model.intercepts_]


# ---- the curves -------------------------------------------------------------------------------------------------


@weighted
@pytest.mark.parametrize("form", FORMS)
@solvers
@each_task
def test_losses_and_scores(task, solver, form, weights):
    """Those of the models of each epoch, and nothing about training is another than without validation rows."""
    rows, rows_val = FORMS[form](X), FORMS[form](X_VAL)
    model, y, y_val = of_task(task, max_iter=4, **SOLVERS[solver])
    model.fit(rows, y, X_val=rows_val, y_val=y_val, sample_weight_val=weights)
    models = after_epochs(model, rows, y, 4)
    near = {"rtol": 2e-4} if form == "float32" else {"rtol": 1e-10}
    losses = [loss_of(one, rows_val, y_val, weights) for one in models]
    np.testing.assert_allclose(model.validation_loss_curve_, losses, **near)
    scores = [one.score(rows_val, y_val, weights) for one in models]
    np.testing.assert_allclose(model.validation_scores_, scores, atol=2e-6 if form == "float32" else 1e-12)
    assert {*map(type, model.validation_loss_curve_ + model.validation_scores_)} == {float}
    assert parameters_of(model) == parameters_of(models[-1]) and model.loss_curve_ == models[-1].loss_curve_
    assert model.t_ == 4 * N and model.best_validation_score_ is None and model.best_iter_ is None
    assert model.best_loss_ == models[-1].best_loss_


@each_task
def test_none_without_validation_rows(task):
    """After fit and partial_fit; a fit that is no warm start forgets."""
    model, y, y_val = of_task(task)
    for train in model.fit, model.partial_fit, lambda *data: model.fit(*data, X_val=X_VAL, y_val=y_val), model.fit:
        train(X, y)
        curves = model.validation_loss_curve_, model.validation_scores_
        assert (curves == (None, None)) == (train in (model.fit, model.partial_fit))
    assert model.best_validation_score_ is None and model.best_iter_ is None


@weighted
@dtypes
@pytest.mark.parametrize("task", ["three words", "many labels", "several targets"])
def test_many_rows(task, dtype, weights):
    """More than the network measures at a time, the first ones of weight 0."""
    y_of_all, count = TASKS[task][0], 9000
    numbers = np.random.RandomState(0).randint(N + M, size=count)
    rows, y_val = BOTH[numbers].astype(dtype), y_of_all[numbers]
    if weights is not None:
        weights = np.where(np.arange(count) < 4100, 0, 1 + np.arange(count) % 3)
    model, y, _ = of_task(task, max_iter=2)
    model.fit(X.astype(dtype), y, X_val=rows, y_val=y_val, sample_weight_val=weights)
    models = after_epochs(model, X.astype(dtype), y, 2)
    near = {"rtol": 2e-4} if dtype == np.float32 else {"rtol": 1e-10}
    losses = [loss_of(one, rows, y_val, weights) for one in models]
    np.testing.assert_allclose(model.validation_loss_curve_, losses, **near)
    np.testing.assert_allclose(model.validation_scores_, [one.score(rows, y_val, weights) for one in models], atol=2e-6)


@pytest.mark.parametrize("form_val", FORMS)
@pytest.mark.parametrize("form", FORMS)
@both_estimators
def test_X_val_in_another_form_than_X(name, form, form_val):
    """Dense or sparse, of either precision."""
    task = "three classes" if name == "MLPClassifier" else "squared_error"
    model, y, y_val = of_task(task)
    same = clone(model).fit(FORMS[form](X), y, X_val=FORMS[form](X_VAL), y_val=y_val)
    model.fit(FORMS[form](X), y, X_val=FORMS[form_val](X_VAL), y_val=y_val)
    assert parameters_of(model) == parameters_of(same)
    np.testing.assert_allclose(model.validation_loss_curve_, same.validation_loss_curve_, rtol=1e-5)
    np.testing.assert_allclose(model.validation_scores_, same.validation_scores_, rtol=1e-5)


@both_estimators
def test_dtype(name):
    """X_val is converted as X is."""
    task = "three classes" if name == "MLPClassifier" else "squared_error"
    model, y, y_val = of_task(task, dtype="float32")
    expected = clone(model).set_params(dtype=None).fit(np.float32(X), y, X_val=np.float32(X_VAL), y_val=y_val)
    model.fit(X, y, X_val=X_VAL, y_val=y_val)
    assert parameters_of(model) == parameters_of(expected)
    assert model.validation_loss_curve_ == expected.validation_loss_curve_
    assert model.validation_scores_ == expected.validation_scores_


def test_forms_of_y_val():
    """Lists, columns, series and sparse labels, as y may be."""
    pandas = pytest.importorskip("pandas")
    for task, forms in {
        "two words": [
            list,
            lambda y: pandas.Series(y.tolist()),
            lambda y: y.astype(object),
            lambda y: y[:, np.newaxis],
        ],
        "three classes": [list, pandas.Series, lambda y: y.astype(float), lambda y: y[:, np.newaxis]],
        "many labels": [np.ndarray.tolist, pandas.DataFrame, scipy.sparse.csr_array, scipy.sparse.csc_matrix],
        "squared_error": [list, pandas.Series, lambda y: y.astype(np.float32).astype(float)],
        "several targets": [np.ndarray.tolist, pandas.DataFrame],
    }.items():
        model, y, y_val = of_task(task)
        expected = clone(model).fit(X, y, X_val=X_VAL, y_val=y_val)
        for form in forms:
            model.fit(X.tolist(), y, X_val=X_VAL.tolist(), y_val=form(y_val))
            np.testing.assert_allclose(model.validation_loss_curve_, expected.validation_loss_curve_, rtol=1e-6)
            np.testing.assert_allclose(model.validation_scores_, expected.validation_scores_, rtol=1e-6)
    model, y, y_val = of_task("squared_error")
    with pytest.warns(DataConversionWarning):
        model.fit(X, y, X_val=X_VAL, y_val=y_val[:, np.newaxis])
    assert model.validation_loss_curve_ == clone(model).fit(X, y, X_val=X_VAL, y_val=y_val).validation_loss_curve_


def test_some_classes_only():
    """y_val need not have all of them."""
    model, y, y_val = of_task("three words")
    rows = y_val == "cow"
    model.fit(X, y, X_val=X_VAL[rows], y_val=y_val[rows])
    assert model.validation_scores_[-1] == model.score(X_VAL[rows], y_val[rows])
    np.testing.assert_allclose(model.validation_loss_curve_[-1], loss_of(model, X_VAL[rows], y_val[rows]), rtol=1e-10)


# ---- early stopping ---------------------------------------------------------------------------------------------

PATIENCE = {"early_stopping": True, "n_iter_no_change": 3, "tol": 1e-3, "max_iter": 60}


def stopping(scores, patience, tol):
    """Epochs until it stops, and the epoch of the best score: scikit-learn's rules, in words of their own."""
    best, since = -math.inf, 0
    for epoch, score in enumerate(scores, start=1):
        since = since + 1 if score < best + tol else 0
        if score > best:
            best, best_epoch = score, epoch
        if since > patience:
            break
    return epoch, best_epoch


def any_number(model, rows, y, sample_weight=None):
    """Will do as a score."""
    return -abs(float(np.sum(model.coefs_[0])) - 0.5)


@pytest.mark.parametrize("scoring", [None, "loss", "name", any_number], ids=["", "loss", "name", "callable"])
@weighted
@solvers
@each_task
def test_early_stopping(task, solver, weights, scoring):
    """No row is set aside, the score decides when to stop, and the weights of the best epoch stay."""
    if scoring == "name":
        scoring = "accuracy" if task in CLASSIFIERS else "neg_mean_absolute_error"
    model, y, y_val = of_task(task, **SOLVERS[solver], scoring=scoring)
    model.set_params(learning_rate_init=0.2 if solver == "adam" else 0.1)
    validation = {"X_val": X_VAL, "y_val": y_val, "sample_weight_val": weights}
    every_epoch = clone(model).set_params(max_iter=60).fit(X, y, **validation)
    epochs, best = stopping(every_epoch.validation_scores_, 3, 1e-3)
    model.set_params(**PATIENCE).fit(X, y, **validation)
    assert (model.n_iter_, model.best_iter_, model.t_) == (epochs, best, epochs * N)
    for curve in "loss_curve_", "validation_loss_curve_", "validation_scores_":
        assert getattr(model, curve) == getattr(every_epoch, curve)[:epochs]
    assert model.best_validation_score_ == model.validation_scores_[best - 1] and model.best_loss_ is None
    at_best = clone(model).set_params(early_stopping=False, n_iter_no_change=1000, max_iter=best).fit(X, y)
    assert parameters_of(model) == parameters_of(at_best)
    if scoring == "loss":
        assert model.validation_scores_ == [-loss for loss in model.validation_loss_curve_]


def test_early_stopping_stops():
    """The test above is one of trainings that end early, and of a best epoch that is neither first nor last."""
    ends = []
    for task in TASKS:
        model, y, y_val = of_task(task, **PATIENCE, learning_rate_init=0.2)
        model.fit(X, y, X_val=X_VAL, y_val=y_val)
        ends.append((model.n_iter_, model.best_iter_))
    assert all(epochs < 60 for epochs, _ in ends) and sum(1 < best < epochs for epochs, best in ends) > 6


@pytest.mark.parametrize("scoring", [None, "loss"])
@each_task
def test_rows_that_are_set_aside(task, scoring):
    """Without X_val it is as if they had been given: the losses on them are there too."""
    model, y, _ = of_task(task, **PATIENCE, validation_fraction=0.3, shuffle=False, scoring=scoring)
    model.fit(X, y)
    random_state, outputs = np.random.RandomState(0), model.n_outputs_
    fastmlp.MLP([4, 5, outputs]).initialize(random_state)
    stratify = y if task in CLASSIFIERS and outputs == 1 else None
    rows, rows_val = train_test_split(np.arange(N), random_state=random_state, test_size=0.3, stratify=stratify)
    twin = clone(model).fit(X[rows], y[rows], X_val=X[rows_val], y_val=y[rows_val])
    for attribute in "loss_curve_", "validation_loss_curve_", "validation_scores_", "best_iter_", "t_":
        assert getattr(model, attribute) == getattr(twin, attribute)
    assert parameters_of(model) == parameters_of(twin)
    assert len(model.validation_loss_curve_) == len(model.validation_scores_) == model.n_iter_


# ---- scorers ----------------------------------------------------------------------------------------------------

SCORERS = {
    "MLPClassifier": ["neg_log_loss", "f1_macro", "balanced_accuracy", "roc_auc_ovr", "accuracy"],
    "MLPRegressor": ["r2", "neg_root_mean_squared_error", "neg_mean_absolute_error"],
}


@pytest.mark.parametrize("hidden_layer_sizes", [(5,), LARGE], ids=str)
@pytest.mark.parametrize(
    "name, scoring, form",
    [(name, scoring, form) for name, names in SCORERS.items() for scoring in names for form in ("float64", "csr")],
)
def test_scorers_by_name(name, scoring, form, hidden_layer_sizes):
    """What the scorer says of the model of each epoch, with and without weights."""
    task = "three words" if name == "MLPClassifier" else "squared_error"
    rows, rows_val = FORMS[form](X), FORMS[form](X_VAL)
    parameters = {"scoring": scoring, "hidden_layer_sizes": hidden_layer_sizes, "learning_rate_init": 0.03}
    model, y, y_val = of_task(task, max_iter=3, **parameters)
    models = after_epochs(model, rows, y, 3)
    for weights in {}, {"sample_weight": WEIGHTS_VAL}:
        model.fit(rows, y, X_val=rows_val, y_val=y_val, sample_weight_val=weights.get("sample_weight"))
        scores = [metrics.get_scorer(scoring)(one, rows_val, y_val, **weights) for one in models]
        np.testing.assert_allclose(model.validation_scores_, scores, rtol=1e-12)
        assert parameters_of(model) == parameters_of(models[-1]) and len({*scores}) > 1


@pytest.mark.parametrize("inner", [False, True], ids=["X_val", "set aside"])
@pytest.mark.parametrize("warm", [False, True], ids=["", "warm start"])
@pytest.mark.parametrize("task", ["two words", "three words", "many labels", "several targets", "poisson"])
def test_what_a_callable_gets(task, warm, inner):
    """Rows, targets as they were given, and a model as after so many epochs, with which it may do what it likes."""
    seen = []

    def scoring(model, rows, targets):
        seen.append((outputs(model, rows), rows, targets.copy()))
        score = model.score(rows, targets)
        for parameter in model.coefs_ + model.intercepts_:
            parameter[...] = 0
        if hasattr(model, "classes_"):
            model.classes_[...] = model.classes_[0]
        model.random_state.rand(3)
        model._random_state.rand(3)
        model.hidden_layer_sizes.append(3)
        model.set_params(early_stopping=False, max_iter=1, warm_start=False, activation="tanh", batch_size=5)
        model.fit(rows, np.arange(len(rows)) % 2)
        del model.n_outputs_, model.n_features_in_
        return score

    model, y, y_val = of_task(task, random_state=np.random.RandomState(0), warm_start=warm, max_iter=3)
    model.set_params(hidden_layer_sizes=[5], validation_fraction=0.3, early_stopping=inner)
    if warm:  # where no score decides: those of another scoring are not compared with
        model.set_params(early_stopping=False).fit(X, y, X_val=X_VAL, y_val=y_val).set_params(early_stopping=inner)
    plain, model = model, copy.deepcopy(model).set_params(scoring=scoring)
    for one in plain, model:
        one.fit(X, y, **({} if inner else {"X_val": X_VAL, "y_val": y_val}))
    assert model.validation_scores_ == pytest.approx(plain.validation_scores_, rel=1e-12)
    assert model.loss_curve_ == plain.loss_curve_ and parameters_of(model) == parameters_of(plain)
    assert model.get_params()["hidden_layer_sizes"] == [5] and len(seen) == 3
    assert outputs(model).tobytes() == outputs(plain).tobytes()
    for _, rows, targets in seen:
        assert type(rows) is np.ndarray and targets.dtype == y.dtype and {*targets.flat} <= {*y.flat, *y_val.flat}
        if not inner:
            assert np.array_equal(rows, X_VAL) and np.array_equal(targets, y_val)
    if not inner and not warm:
        models = after_epochs(model.set_params(random_state=0), X, y, 3)
        for (found, *_), one in zip(seen, models, strict=True):
            assert np.array_equal(found, outputs(one, X_VAL))


@pytest.mark.parametrize("inner", [False, True], ids=["X_val", "set aside"])
@both_estimators
def test_a_scorer_that_raises(name, inner):
    """The model is what it was before, fitted or not."""

    def scoring(model, rows, targets):
        calls.append(None)
        if len(calls) == 2:
            raise ArithmeticError("no score")
        return 0.0

    y = TARGETS[name]
    arguments = {} if inner else {"X_val": X, "y_val": y}
    model = make(name, scoring=scoring, early_stopping=inner, warm_start=True, validation_fraction=0.3)
    for fitted in False, True:
        if fitted:
            model.set_params(scoring=None).fit(X, y, **arguments).set_params(scoring=scoring)
        calls, before = [], state(model)
        with pytest.raises(ArithmeticError, match="no score"):
            model.fit(X, y, **arguments)
        assert len(calls) == 2 and state(model) == before


class Unwilling:
    """A scorer that can neither be copied nor be pickled."""

    def __call__(self, model, rows, targets):
        return model.score(rows, targets)

    def __reduce_ex__(self, protocol):
        raise TypeError("cannot be copied")


@both_estimators
def test_a_scorer_that_cannot_be_copied(name):
    y = TARGETS[name]
    model = make(name, scoring=Unwilling()).fit(X, y, X_val=X, y_val=y)
    plain = make(name).fit(X, y, X_val=X, y_val=y)
    np.testing.assert_allclose(model.validation_scores_, plain.validation_scores_, rtol=1e-12)


@both_estimators
def test_what_is_no_scorer(name):
    """Refused before anything is trained: names that there are not, and metrics in the place of scorers."""
    for scoring in "nonsense", 3, ["accuracy"], True:
        model = make(name, scoring=scoring)
        with pytest.raises(InvalidParameterError, match=f"The 'scoring' parameter of {name} must be"):
            model.fit(X, TARGETS[name], X_val=X, y_val=TARGETS[name])
        assert vars(model).keys() == vars(make(name)).keys()
    model = make(name, scoring=metrics.mean_squared_error)
    with pytest.raises(ValueError, match="is a metric function"):
        model.fit(X, TARGETS[name], X_val=X, y_val=TARGETS[name])
    assert vars(model).keys() == vars(make(name)).keys()


# ---- warm starts ------------------------------------------------------------------------------------------------

MODES = [(own, early) for own in (False, True) for early in (False, True)]


@pytest.mark.parametrize("modes", [(a, b, c) for a in MODES for b in MODES for c in MODES], ids=str)
@both_estimators
def test_switched_on_and_off(name, modes):
    """X_val and early stopping from fit to fit: the losses have NaN where there was none, the scores have no place."""
    task = "three words" if name == "MLPClassifier" else "several targets"
    model, y, y_val = of_task(task, warm_start=True, validation_fraction=0.3, max_iter=2)
    measured = []
    for own, early in modes:
        model.set_params(early_stopping=early).fit(X, y, **({"X_val": X_VAL, "y_val": y_val} if own else {}))
        measured += [own or early] * 2
        if not early:
            model.partial_fit(X, y)
            measured.append(False)
        assert len(model.loss_curve_) == len(measured)
        if any(measured):
            assert np.isnan(model.validation_loss_curve_).tolist() == [not m for m in measured]
            assert len(model.validation_scores_) == sum(measured) and np.isfinite(model.validation_scores_).all()
        else:
            assert model.validation_loss_curve_ is model.validation_scores_ is None
        model = pickle.loads(pickle.dumps(model))
    once = any(early for _, early in modes)
    assert (model.best_iter_ is not None) == (model.best_validation_score_ is not None) == once
    if once:
        assert measured[model.best_iter_ - 1]


@solvers
@each_task
def test_a_warm_start_goes_on(task, solver):
    """The curves of two fits are those of the fits that they are."""
    model, y, y_val = of_task(task, warm_start=True, max_iter=2, **SOLVERS[solver])
    model.fit(X, y, X_val=X_VAL, y_val=y_val).fit(X, y, X_val=X_VAL, y_val=y_val, sample_weight_val=WEIGHTS_VAL)
    one = clone(model).fit(X, y)
    before = loss_of(one, X_VAL, y_val)
    one.fit(X, y)
    np.testing.assert_allclose(model.validation_loss_curve_[1], before, rtol=1e-10)
    np.testing.assert_allclose(model.validation_loss_curve_[3], loss_of(one, X_VAL, y_val, WEIGHTS_VAL), rtol=1e-10)
    assert len(model.validation_loss_curve_) == len(model.validation_scores_) == 4


# ---- what it prints ---------------------------------------------------------------------------------------------


@both_estimators
def test_verbose(name, capsys):
    """Scores are printed where they decide, as scikit-learn prints them, else nothing is."""
    task = "three words" if name == "MLPClassifier" else "squared_error"
    for early in False, True:
        printed = []
        for own in False, True:
            model, y, y_val = of_task(task, verbose=True, early_stopping=early, n_iter_no_change=3)
            model.fit(X, y, **({"X_val": X_VAL, "y_val": y_val} if own else {}))
            printed.append(capsys.readouterr().out.splitlines())
        if early:
            lines = zip(model.loss_curve_, model.validation_scores_, strict=True)
            expected = [
                line
                for i, (loss, score) in enumerate(lines, start=1)
                for line in (f"Iteration {i}, loss = {loss:.8f}", f"Validation score: {score:f}")
            ]
            assert printed[1] == expected and [line[:10] for line in printed[0]] == [line[:10] for line in expected]
        else:
            assert printed[0] == printed[1] and len(printed[0]) == 3


# ---- errors -----------------------------------------------------------------------------------------------------

RIGHT = {"X_val": X_VAL, "y_val": None, "sample_weight_val": None}
# of each estimator: arguments that differ from right ones, and words of the message
WRONG = {
    "y_val without X_val": ({"X_val": None}, "y_val is provided, but X_val was not provided"),
    "X_val without y_val": ({"y_val": None}, "X_val is provided, but y_val was not provided"),
    "sample_weight_val without X_val": (
        {"X_val": None, "y_val": None, "sample_weight_val": WEIGHTS_VAL},
        "sample_weight_val is provided, but X_val was not provided",
    ),
    "features": ({"X_val": X_VAL[:, :3]}, "X_val: X has 3 features, but MLP.* is expecting 4 features as input"),
    "NaN in X_val": ({"X_val": put(X_VAL, np.nan)}, "Input X_val contains NaN"),
    "infinity in X_val": ({"X_val": put(X_VAL, np.inf)}, "Input X_val contains infinity"),
    "NaN in sparse X_val": ({"X_val": scipy.sparse.csr_array(put(X_VAL, np.nan))}, "Input X_val contains NaN"),
    "one dimension": ({"X_val": X_VAL[:, 0]}, "Expected 2D array, got 1D array instead"),
    "no rows": ({"X_val": X_VAL[:0]}, r"Found array with 0 sample\(s\)"),
    "words in X_val": ({"X_val": put(X_VAL, "word", object)}, "could not convert string to float"),
    "length of X_val": ({"X_val": X_VAL[:-1]}, "y_val: Found input variables with inconsistent numbers of samples"),
    "NaN in sample_weight_val": (
        {"sample_weight_val": put(WEIGHTS_VAL, np.nan)},
        "sample_weight_val: Input sample_weight contains NaN",
    ),
    "length of sample_weight_val": (
        {"sample_weight_val": WEIGHTS_VAL[:-1]},
        r"sample_weight_val: sample_weight.shape == \(22,\), expected \(23,\)",
    ),
    "weights of dimension 2": ({"sample_weight_val": np.ones((M, 2))}, "sample_weight_val: Sample weights must be 1D"),
    "no weight": ({"sample_weight_val": np.zeros(M)}, "Weights sum to zero|at least one non-zero number"),
}
WRONG_Y = {
    "three words": {
        "unknown class": (put(np.array(["ant"] * M), "dog"), r"y_val has classes that y has not: \['dog'\]"),
        "numbers for words": (np.arange(M) % 2, "y_val has classes that y has not"),
        "labels": (np.eye(3, dtype=int)[np.arange(M) % 3], r"y_val must have the form of y, got the shape \(23, 3\)"),
        "NaN": (np.full(M, np.nan), "Input y_val contains NaN"),
    },
    "two classes": {
        "unknown class": (np.arange(M) % 3, r"y_val has classes that y has not: \[2\]"),
        "words for numbers": (np.array(["a", "b"])[np.arange(M) % 2], "y_val has classes that y has not"),
        "no classes": (np.arange(M) + 0.5, "Unknown label type"),
        "infinity": (put(np.ones(M), np.inf), "Input y_val contains infinity"),
    },
    "many labels": {
        "classes": (np.arange(M) % 3, r"y_val must have the form of y, got the shape \(23,\)"),
        "too few": (np.ones((M, 2), int), r"y_val must have the form of y, got the shape \(23, 2\)"),
        "numbers": (np.full((M, 3), 0.5), "Unknown label type"),
    },
    "squared_error": {
        "columns": (np.ones((M, 2)), r"y_val must have 1 columns, as y has, got the shape \(23, 2\)"),
        "NaN": (put(np.ones(M), np.nan), "Input y_val contains NaN"),
        "words": (np.array(["a"] * M), "not compatible with arrays of bytes/strings"),
    },
    "several targets": {
        "one": (np.ones(M), r"y_val must have 3 columns, as y has, got the shape \(23,\)"),
        "two": (np.ones((M, 2)), r"y_val must have 3 columns, as y has, got the shape \(23, 2\)"),
    },
    "poisson": {"negative": (put(np.ones(M), -1), "y_val are out of the valid range of the loss 'poisson'.*>= 0")},
    "gamma": {"zero": (put(np.ones(M), 0), "y_val are out of the valid range of the loss 'gamma'.*> 0")},
}
CASES = [(task, *WRONG[case]) for task in ("three words", "several targets") for case in WRONG]
CASES += [(task, {"y_val": y_val}, words) for task, wrong in WRONG_Y.items() for y_val, words in wrong.values()]
NAMES = [f"{task}-{case}" for task in ("three words", "several targets") for case in WRONG]
NAMES += [f"{task}-y_val, {case}" for task, wrong in WRONG_Y.items() for case in wrong]


@pytest.mark.parametrize("task, wrong, words", CASES, ids=NAMES)
def test_what_does_not_fit_is_refused(task, wrong, words):
    """Before anything is trained: the model is what it was, fitted or not."""
    model, y, y_val = of_task(task, warm_start=True)
    arguments = RIGHT | {"y_val": y_val} | wrong
    for fitted in False, True:
        if fitted:
            model.fit(X, y, X_val=X_VAL, y_val=y_val)
        before = state(model)
        model.verbose = True
        with pytest.raises((ValueError, ZeroDivisionError), match=words):
            model.fit(X, y, **arguments)
        model.verbose = False
        assert state(model) == before


@both_estimators
def test_lbfgs_has_no_validation_rows(name):
    model = make(name, solver="lbfgs")
    with pytest.raises(ValueError, match="X_val needs solver='adam' or 'sgd', got solver='lbfgs'"):
        model.fit(X, TARGETS[name], X_val=X, y_val=TARGETS[name])
    assert vars(model).keys() == vars(make(name)).keys()


@both_estimators
def test_partial_fit_has_none(name):
    with pytest.raises(TypeError, match="X_val"):
        make(name).partial_fit(X, TARGETS[name], X_val=X, y_val=TARGETS[name])
    with pytest.raises(TypeError):
        make(name).fit(X, TARGETS[name], None, X, TARGETS[name])  # by name only


# ---- scikit-learn's tools ---------------------------------------------------------------------------------------


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def asked_for(model, *more):
    return model.set_fit_request(**dict.fromkeys(["X_val", "y_val", *more], True))


@pytest.mark.parametrize("transform", ["default", "pandas"])
@weighted
@both_estimators
def test_pipeline(name, weights, transform, routing):
    """It transforms X_val like X where it is told to; in frames the names go along, and nothing warns."""
    if transform == "pandas":
        pytest.importorskip("pandas")
    task = "three words" if name == "MLPClassifier" else "squared_error"
    model, y, y_val = of_task(task, early_stopping=True, max_iter=5, scoring="accuracy" if "words" in task else "r2")
    more = {} if weights is None else {"sample_weight_val": weights}
    pipeline = make_pipeline(StandardScaler(), asked_for(clone(model), *more), transform_input=["X_val"])
    pipeline.set_output(transform=transform).fit(5 + 3 * X, y, X_val=5 + 3 * X_VAL, y_val=y_val, **more)
    scaler = StandardScaler().fit(5 + 3 * X)
    model.fit(scaler.transform(5 + 3 * X), y, X_val=scaler.transform(5 + 3 * X_VAL), y_val=y_val, **more)
    assert pipeline[-1].validation_loss_curve_ == model.validation_loss_curve_
    assert pipeline[-1].validation_scores_ == model.validation_scores_
    assert parameters_of(pipeline[-1]) == parameters_of(model)
    assert hasattr(pipeline[-1], "feature_names_in_") == (transform == "pandas")


@both_estimators
def test_searches(name, routing):
    """GridSearchCV and cross_validate hand the rows on to each fit."""
    task = "three words" if name == "MLPClassifier" else "squared_error"
    model, y, y_val = of_task(task)
    validation = {"X_val": X_VAL, "y_val": y_val, "sample_weight_val": WEIGHTS_VAL}
    # WEIGHTS_VAL and y_val have another length than X: they are no metadata of rows
    search = GridSearchCV(asked_for(model, "sample_weight_val"), {"hidden_layer_sizes": [(3,), (4,)]}, cv=3)
    search.fit(X, y, **validation)
    twin = clone(search.best_estimator_).fit(X, y, **validation)
    assert search.best_estimator_.validation_loss_curve_ == twin.validation_loss_curve_
    found = cross_validate(clone(twin), X, y, cv=3, params=validation, return_estimator=True)
    assert all(len(one.validation_loss_curve_) == 3 for one in found["estimator"])
    with pytest.raises(sklearn.exceptions.UnsetMetadataPassedError):
        cross_validate(make(name), X, y, cv=3, params={"X_val": X_VAL, "y_val": y_val})


@pytest.mark.parametrize("scoring", [None, "name"])
@both_estimators
def test_frames(name, scoring):
    """With the names of X nothing warns; others are refused, and none at all are remarked on, as by predict."""
    pandas = pytest.importorskip("pandas")
    scoring = scoring and ("neg_log_loss" if name == "MLPClassifier" else "r2")
    task = "three words" if name == "MLPClassifier" else "squared_error"
    for early in False, True:
        model, y, y_val = of_task(task, scoring=scoring, early_stopping=early, validation_fraction=0.3)
        named = {"X_val": pandas.DataFrame(X_VAL, columns=list("abcd")), "y_val": y_val}
        plain = clone(model).fit(X, y, X_val=X_VAL, y_val=y_val)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            warnings.simplefilter("ignore", sklearn.exceptions.ConvergenceWarning)
            model.fit(frame("abcd"), y, **named)
            clone(model).fit(frame("abcd"), y)
        assert model.validation_loss_curve_ == plain.validation_loss_curve_
        assert model.validation_scores_ == plain.validation_scores_
        for columns in "abce", "abdc":
            with pytest.raises(ValueError, match="(?s)X_val: The feature names should match"):
                model.fit(frame("abcd"), y, X_val=pandas.DataFrame(X_VAL, columns=list(columns)), y_val=y_val)
        with pytest.warns(UserWarning, match=f"X does not have valid feature names, but {name} was fitted with"):
            model.fit(frame("abcd"), y, X_val=X_VAL, y_val=y_val)
        with pytest.warns(UserWarning, match=f"X has feature names, but {name} was fitted without"):
            model.fit(X, y, **named)


@both_estimators
def test_conversions(name, routing):
    """scikit-learn's estimator has no such rows and asks for none; ours that comes from one has no curves."""
    model = asked_for(make(name, scoring="loss", early_stopping=True, warm_start=True), "sample_weight_val")
    model.fit(X, TARGETS[name], X_val=X, y_val=TARGETS[name])
    theirs = model.to_sklearn()
    assert not hasattr(theirs, "validation_loss_curve_") and theirs.validation_scores_ == model.validation_scores_
    assert {"X_val", "y_val", "sample_weight_val"}.isdisjoint(theirs.get_metadata_routing().fit.requests)
    assert model.get_metadata_routing().fit.requests["X_val"] is True
    np.testing.assert_allclose(outputs(theirs), outputs(model), atol=1e-10)
    ours = type(model).from_sklearn(theirs)
    assert ours.validation_loss_curve_ is ours.best_iter_ is None and ours.validation_scores_
    ours.fit(X, TARGETS[name], X_val=X, y_val=TARGETS[name])
    assert np.isnan(ours.validation_loss_curve_[:3]).all() and len(ours.validation_loss_curve_) == 6
    for one in copy.deepcopy(model), pickle.loads(pickle.dumps(model)):
        assert one.validation_loss_curve_ == model.validation_loss_curve_ and one.best_iter_ == model.best_iter_ > 0


@both_estimators
def test_another_scoring_in_a_warm_start(name):
    """Its scores are compared with those of its own kind only: the best is one of this fit, and so are the weights."""
    model = make(name, early_stopping=True, warm_start=True, max_iter=4).fit(X, TARGETS[name])
    before = len(model.loss_curve_)
    model.set_params(scoring="loss").fit(X, TARGETS[name])
    scores = model.validation_scores_[before:]
    assert len(scores) == 4 and model.best_validation_score_ == max(scores)
    assert model.best_iter_ == before + 1 + int(np.argmax(scores))
    again = copy.deepcopy(model).fit(X, TARGETS[name])  # of the same kind: it goes on
    assert again.best_validation_score_ >= model.best_validation_score_
    before = len(again.loss_curve_)
    again.set_params(scoring=None).fit(X, TARGETS[name])  # and back, twice
    scores = again.validation_scores_[before:]
    assert again.best_validation_score_ == max(scores) and again.best_iter_ > before
    best = again.best_validation_score_
    assert again.fit(X, TARGETS[name]).best_validation_score_ >= best


@both_estimators
def test_targets_without_a_dimension(name):
    with pytest.raises(ValueError, match="y_val"):
        make(name).fit(X, TARGETS[name], X_val=X, y_val=1.0)


@both_estimators
def test_scores_that_are_no_numbers(name):
    """There is no best epoch then: ValueError, and the model is as it was."""
    model, twin = (make(name).fit(X, TARGETS[name]) for _ in range(2))
    for one in model, twin:
        one.set_params(early_stopping=True, scoring=not_a_number)
    with pytest.raises(ValueError, match="No score by scoring=.* was a number"):
        model.fit(X, TARGETS[name])
    assert state(model) == state(twin)


def not_a_number(model, X, y):
    return math.nan


def test_one_row_has_no_r2():
    y = TARGETS["MLPRegressor"]
    for parameters in {}, {"early_stopping": True}:
        with pytest.raises(ValueError, match="X_val must have 2 rows or more for R2"):
            make("MLPRegressor", **parameters).fit(X, y, X_val=X[:1], y_val=y[:1])
    make("MLPRegressor", scoring="loss").fit(X, y, X_val=X[:1], y_val=y[:1])
    make("MLPClassifier").fit(X, TARGETS["MLPClassifier"], X_val=X[:1], y_val=TARGETS["MLPClassifier"][:1])


def test_scorers_get_no_class_weights():
    """A scorer of three arguments does where there are no sample weights."""
    y, seen = TARGETS["MLPClassifier"], []

    def scoring(model, rows, targets):
        seen.append(len(rows))
        return model.score(rows, targets)

    for rows in {}, {"X_val": X[:5], "y_val": y[:5]}:
        make("MLPClassifier", class_weight="balanced", early_stopping=True, scoring=scoring).fit(X, y, **rows)
    assert seen == [3, 3, 3, 5, 5, 5]


def test_targets_of_another_kind_are_named():
    with pytest.raises(ValueError, match="y_val: Unknown label type"):
        make("MLPClassifier").fit(X, TARGETS["MLPClassifier"], X_val=X, y_val=X[:, 0])
