"""RealMLPClassifier and RealMLPRegressor: what each parameter does, tables of every kind, extremes, errors, Ctrl-C."""

import importlib.util
import json
import os
import pickle
import signal
import threading
import time
import warnings

import numpy as np
import pytest
import scipy.sparse
import sklearn
from helpers import run_code
from models import Trouble, bits, frozen, outputs
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.inspection import permutation_importance
from sklearn.metrics import accuracy_score, log_loss, make_scorer, r2_score
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastmlp
from fastmlp import realmlp
from fastmlp.preprocessing import RobustScaleSmoothClip, TableEncoder
from fastmlp.recipe import Columns, LastBest, Recipe, folded, make_network, start, train_network

# ---- data -------------------------------------------------------------------------------------------------------

N = 60
rng = np.random.RandomState(0)
X = rng.normal(size=(N, 4))
NUMBERS = X[:, 0] - X[:, 1] * X[:, 2]
CLASSES = np.digitize(X[:, 0] + X[:, 1], [-0.7, 0.7])
TARGETS = {"RealMLPClassifier": CLASSES, "RealMLPRegressor": NUMBERS}
WEIGHTS = rng.uniform(0.5, 2, N)
SMALL = {"hidden_layer_sizes": 8, "max_iter": 4, "random_state": 0}
PLAIN = {"variant": "td-s", "label_smoothing": 0.0}

both = pytest.mark.parametrize("name", TARGETS)


def make(name, **parameters):
    return getattr(fastmlp, name)(**(SMALL | parameters))


def fit(name, table=X, y=None, *args, **parameters):
    of_fit = {key: parameters.pop(key) for key in ("X_val", "y_val", "sample_weight_val") if key in parameters}
    return make(name, **parameters).fit(table, TARGETS[name] if y is None else y, *args, **of_fit)


def table():
    """Numbers, some of them missing, and columns of 2, 3 and 12 categories, some of them missing too."""
    r = np.random.RandomState(1)
    missing = np.where(r.uniform(size=N) < 0.2, None, r.normal(size=N).round(3))
    words = r.choice(["red", "green", "blue"], N).astype(object)
    words[::7] = None
    many = np.array([f"k{i}" for i in r.randint(12, size=N)], object)
    columns = [X[:, 0], words, missing, many, r.choice(["yes", "no"], N)]
    return np.column_stack([column.astype(object) for column in columns])


def of_numbers(rows):
    """The same as lists of columns of one type each, None where something is missing."""
    return {f"c{i}": [None if value is None else value for value in column] for i, column in enumerate(rows.T)}


def learnt(model):
    """All that a fit leaves, to the last bit."""
    return {key: frozen(value) for key, value in model.__getstate__().items() if key.endswith("_")}


# ---- scikit-learn's checks --------------------------------------------------------------------------------------

BY_ROW = "minibatches and splits are drawn by row"
FAILS = {f"check_sample_weight_equivalence_on_{kind}_data": BY_ROW for kind in ("dense", "sparse")}
LONG_ENOUGH = {"hidden_layer_sizes": 8, "max_iter": 40, "random_state": 0}


@parametrize_with_checks(
    [getattr(fastmlp, name)(**LONG_ENOUGH) for name in TARGETS],
    expected_failed_checks=lambda model: FAILS,
)
def test_scikit_learns_checks(estimator, check):
    """All of them."""
    check(estimator)


# ---- what a fit is ----------------------------------------------------------------------------------------------


def splits(name, n_estimators, parts=5, n=N, state=0):
    """Rows to train on and rows held back of each network, and their seeds: as the docstrings tell it."""
    random, found = np.random.RandomState(state), []
    for i in range(n_estimators):
        if i % parts == 0:
            order = random.permutation(n)
            if name == "RealMLPClassifier":
                order = np.concatenate([[row for row in order if CLASSES[row] == c] for c in range(3)])
        found.append([np.sort(order[np.arange(n) % parts != i % parts]), np.sort(order[i % parts :: parts])])
    return found, random.randint(2**31 - 1, size=n_estimators)


def alone(name, train, held, seed, epochs=4, to=None):
    """The history and the predictions of a network, made by the recipe's own functions, without an estimator."""
    classes = name == "RealMLPClassifier"
    encoder = TableEncoder(max_one_hot=8).fit(X)
    recipe = Recipe("selu", 0.04, 0.15, 0.02, True, True, True, (8,), 256, epochs)
    recipe = recipe if classes else recipe._replace(activation="mish", learning_rate=0.2)
    random, rows = np.random.RandomState(seed), encoder.transform(X)
    scaled = RobustScaleSmoothClip(impute=True).fit(rows[train]).transform(rows).astype(np.float32)
    y, mean, spread = NUMBERS[:, None], NUMBERS[train].mean(), NUMBERS[train].std()
    head = (3, "softmax", "soft_cross_entropy") if classes else (1, "identity", "squared_error")
    targets = 0.9 * np.eye(3)[CLASSES] + 0.1 / 3 if classes else (y - mean) / spread
    network = make_network(recipe, Columns(4, 0), *head, np.float32)
    order = random.permutation(train)
    start(network, recipe, scaled[order], random)
    data, history = network.data(scaled, targets), LastBest()

    def decode(A):
        if classes:
            return A / A.sum(axis=1, keepdims=True, dtype=np.float64)
        return np.clip(A * spread + mean, NUMBERS[train].min(), NUMBERS[train].max())

    def measure():
        out = decode(network.predict(scaled[held]))
        score = accuracy_score(CLASSES[held], out.argmax(axis=1)) if classes else r2_score(y[held], out)
        return network.loss(data, order=held), score

    if len(held):
        history.validation_losses, history.validation_scores = [], []
    train_network(network, recipe, data, random, history, rows=order, epochs=to, measure=measure if len(held) else None)
    return history, decode(folded(network, history.best_parameters).predict(scaled))


@both
def test_n_estimators(name):
    """The mean of networks that were trained alone, each with a seed and a split of its own; rows are dealt anew after
    each round of splits."""
    model, parts = fit(name, n_estimators=3, validation_fraction=0.5), splits(name, 3, parts=2)
    members = [alone(name, *split, seed) for split, seed in zip(*parts, strict=True)]
    mean = sum(predicted for _, predicted in members) / 3
    np.testing.assert_allclose(outputs(model, X).reshape(N, -1), mean, rtol=1e-6, atol=1e-6)
    assert model.best_iters_ == [history.best_iter for history, _ in members]
    for found, of_history in {
        "loss_curve_": "loss_curve",
        "validation_loss_curve_": "validation_losses",
        "validation_scores_": "validation_scores",
    }.items():
        curves = [getattr(history, of_history) for history, _ in members]
        np.testing.assert_allclose(getattr(model, found), np.mean(curves, axis=0), rtol=1e-6)
    assert len(model.networks_) == len(model.scalers_) == 3 and model.n_iter_ == 4


def test_splits_are_disjoint_and_stratified(monkeypatch):
    """Of five networks each row is held back once, and each part has as many of a class as can be."""
    seen, own = [], realmlp.BaseRealMLP._splits

    def watch(self, random, rows):
        for train, held in own(self, random, rows):
            seen.append(held)
            assert np.array_equal(np.union1d(train, held), np.arange(N)) and len(train) + len(held) == N
            yield train, held

    monkeypatch.setattr(realmlp.BaseRealMLP, "_splits", watch)
    fit("RealMLPClassifier", n_estimators=5, max_iter=1)
    assert np.array_equal(np.sort(np.concatenate(seen)), np.arange(N))
    counts = np.array([np.bincount(CLASSES[held], minlength=3) for held in seen])
    assert (np.ptp(counts, axis=0) <= 1).all()


@both
@pytest.mark.parametrize("fraction, size", [(0.5, 30), (0.2, 12), (0.11, 7), (1e-9, 1), (1e-320, 1)])
def test_validation_fraction(name, fraction, size, monkeypatch):
    """1 / k of the rows, rounded up for the first network; one row at least."""
    seen = []
    monkeypatch.setattr(realmlp.BaseRealMLP, "_measure_of", lambda self, *args: seen.append(args[3]))
    fit(name, validation_fraction=fraction, max_iter=1)
    assert [len(held) for held in seen] == [size]


@both
def test_refit(name):
    """All rows, from the same seed, to the best epoch of the first training; its curves stay those of the first."""
    for state in range(20):  # one whose best epoch is not the last
        first = fit(name, random_state=state, max_iter=6)
        if first.best_iters_[0] < 6:
            break
    model = fit(name, random_state=state, max_iter=6, refit=True)
    _, (seed,) = splits(name, 1, state=state)
    _, expected = alone(name, np.arange(N), np.arange(0), seed, epochs=6, to=first.best_iters_[0])
    np.testing.assert_allclose(outputs(model, X).reshape(N, -1), expected, rtol=1e-6, atol=1e-6)
    assert not np.array_equal(outputs(model, X), outputs(first, X))
    for attribute in "loss_curve_", "validation_scores_", "validation_loss_curve_", "best_iters_", "n_iter_":
        assert getattr(model, attribute) == getattr(first, attribute)


@both
def test_refit_has_the_validation_rows_of_the_call_too(name):
    """It is what a refit on both would be."""
    y = TARGETS[name]
    model = fit(name, X[:40], y[:40], X_val=X[40:], y_val=y[40:], refit=True)
    best = model.best_iters_[0]
    seen = []
    own = realmlp.train_network

    def watch(network, recipe, data, random, history, *, rows, epochs=None, **options):
        seen.append((len(rows), epochs))
        return own(network, recipe, data, random, history, rows=rows, epochs=epochs, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(realmlp, "train_network", watch)
        again = fit(name, X[:40], y[:40], X_val=X[40:], y_val=y[40:], refit=True)
    assert seen == [(40, None), (60, best)] and bits(again, X) == bits(model, X)


# ---- which epoch is the best ------------------------------------------------------------------------------------


def best(values):
    """The last of the greatest, from 1."""
    return len(values) - int(np.argmax(values[::-1]))


LOSSES_CHOOSE = ["loss", "log_loss", "neg_log_loss", "roc_auc_ovr", "roc_auc", "neg_brier_score"]


@both
@pytest.mark.parametrize("scoring", [None, "accuracy", "r2", *LOSSES_CHOOSE])
def test_scoring_chooses_the_epoch(name, scoring):
    """The last one of the best scores; where probabilities are judged, and for "loss", that of the smallest loss."""
    if scoring in ("accuracy", "r2") and (scoring == "accuracy") != (name == "RealMLPClassifier"):
        pytest.skip("of the other kind")
    model = fit(name, scoring=scoring, max_iter=12, learning_rate_init=0.3)
    chooses = [-loss for loss in model.validation_loss_curve_] if scoring in LOSSES_CHOOSE else model.validation_scores_
    assert model.best_iters_ == [best(chooses)]
    if scoring in LOSSES_CHOOSE:
        assert model.validation_scores_ == chooses
    elif scoring is not None:
        assert bits(model, X) == bits(fit(name, max_iter=12, learning_rate_init=0.3), X)


@pytest.mark.parametrize("scoring, smoothed", [(None, True), ("accuracy", True), (lambda m, X, y: 0.0, True)] + [
    (name, False) for name in LOSSES_CHOOSE
])  # fmt: skip
def test_label_smoothing_is_off_where_probabilities_are_judged(scoring, smoothed):
    """'auto' is 0.1 or 0; a number is taken as it is."""
    model = fit("RealMLPClassifier", scoring=scoring)
    assert model.loss_curve_ == fit("RealMLPClassifier", label_smoothing=0.1 if smoothed else 0).loss_curve_
    assert model.loss_curve_ != fit("RealMLPClassifier", scoring=scoring, label_smoothing=0.3).loss_curve_


@both
def test_the_validation_loss_is_that_of_its_rows(name):
    """Without smoothing scikit-learn's log-loss; in regression half the squared error of standardised targets."""
    y = TARGETS[name]
    model = fit(name, X[:40], y[:40], X_val=X[40:], y_val=y[40:], max_iter=1, **(PLAIN if name[7] == "C" else {}))
    if name == "RealMLPClassifier":
        expected = log_loss(y[40:], model.predict_proba(X[40:]), labels=[0, 1, 2])
    else:
        model = fit(name, X[:40], y[:40], X_val=X[40:], y_val=y[40:], max_iter=1, clamp=False)
        expected = (((model.predict(X[40:]) - y[40:]) / y[:40].std()) ** 2).mean() / 2
    np.testing.assert_allclose(model.validation_loss_curve_, [expected], rtol=1e-5)


@both
def test_a_scorer_of_ones_own(name):
    """It sees rows and targets as they were given, predictions of the epoch, and may predict other rows too."""
    rows, y, seen = table(), TARGETS[name].astype(object).tolist(), []

    def scorer(model, X_held, y_held):
        assert isinstance(X_held, np.ndarray) and X_held.dtype == object and isinstance(y_held, list)
        seen.append(model.predict(X_held))
        assert model.predict(X_held[:5]).tolist() == pytest.approx(seen[-1][:5].tolist(), rel=1e-6)
        return float(len(seen) == 2)

    model = fit(name, rows, y, scoring=scorer)
    assert model.best_iters_ == [2] and model.validation_scores_ == [0, 1, 0, 0] and len(seen[0]) == 12
    held = splits(name, 1)[0][0][1]
    np.testing.assert_allclose(model.predict(rows[held]).astype(float), seen[1].astype(float), rtol=1e-5)


@pytest.mark.parametrize("format", ["csr", "csc", "coo", "dia", "lil"])
def test_a_scorer_and_sparse_rows(format):
    """In every format rows can be taken of."""
    rows = scipy.sparse.csr_matrix(X * (X > 0)).asformat(format)
    expected = fit("RealMLPClassifier", X * (X > 0), scoring="accuracy")
    assert bits(fit("RealMLPClassifier", rows, scoring="accuracy"), X) == bits(expected, X)


@both
def test_scorers_get_the_weights_of_rows(name):
    """But not those of classes; without weights of rows, none."""
    seen = []

    def scorer(model, X, y, **given):
        seen.append(given)
        return 0.0

    y = TARGETS[name]
    fit(name, X[:40], y[:40], WEIGHTS[:40], X_val=X[40:], y_val=y[40:], sample_weight_val=WEIGHTS[40:], scoring=scorer)
    assert seen[0]["sample_weight"].tolist() == WEIGHTS[40:].tolist()
    seen.clear()
    fit(name, scoring=scorer, **({"class_weight": "balanced"} if name == "RealMLPClassifier" else {}))
    assert seen == [{}] * 4
    seen.clear()
    if name == "RealMLPClassifier":
        fit(name, X, None, WEIGHTS, scoring=scorer, class_weight={0: 9, 1: 1, 2: 3})
        assert seen[0]["sample_weight"].tolist() == WEIGHTS[splits(name, 1)[0][0][1]].tolist()


@both
def test_epochs_without_a_score_are_not_the_best(name):
    """A score that is no number; if all are, that is said."""
    scores = iter([np.nan, 1.0, 0.5, np.nan])
    assert fit(name, scoring=lambda *_: next(scores)).best_iters_ == [2]
    with pytest.raises(ValueError, match="Training diverged"):
        fit(name, scoring=lambda *_: np.nan)


# ---- the other parameters ---------------------------------------------------------------------------------------

EFFECTS = {
    "variant": "td-s", "hidden_layer_sizes": (8, 4), "activation": "elu", "learning_rate_init": 0.01, "dropout": 0.5,
    "weight_decay": 0.5, "embedding": False, "parametric": False, "data_start": False, "batch_size": 16, "max_iter": 5,
    "validation_fraction": 0.5, "n_estimators": 2, "refit": True, "dtype": "float64", "random_state": 1,
    "categorical_features": [3],
}  # fmt: skip
NO_EFFECT_ON_BITS = {"verbose": True, "max_time": 1e6, "n_jobs": 2}
OF_ONE = {
    "RealMLPClassifier": {"label_smoothing": 0.3, "class_weight": {0: 3.0, 1: 1.0, 2: 0.5}, "scoring": "loss"},
    "RealMLPRegressor": {"clamp": False, "scoring": "neg_max_error"},
}


@both
def test_every_parameter_has_an_effect(name):
    """On the bits of the predictions; and those that must not have one have none."""
    rows = np.column_stack([X[:, :3], np.arange(N) % 11])
    base = {"learning_rate_init": 0.3, "max_iter": 12}
    expected = bits(fit(name, rows, **base), 9 * rows)
    effects = EFFECTS | OF_ONE[name]
    assert effects.keys() | NO_EFFECT_ON_BITS.keys() == make(name).get_params().keys()
    for parameter, value in effects.items():
        assert bits(fit(name, rows, **(base | {parameter: value})), 9 * rows) != expected, parameter
    for parameter, value in NO_EFFECT_ON_BITS.items():
        assert bits(fit(name, rows, **(base | {parameter: value})), 9 * rows) == expected, parameter


@both
@pytest.mark.parametrize("variant", ["td", "td-s"])
def test_auto_is_what_the_variant_has(name, variant):
    """The documented values."""
    td, classes = variant == "td", name == "RealMLPClassifier"
    documented = {
        "activation": "selu" if classes else "mish",
        "learning_rate_init": 0.04 if classes else 0.2 if td else 0.07,
        "dropout": 0.15 if td else 0,
        "weight_decay": 0.02 if td else 0,
        "embedding": td,
        "parametric": td,
        "data_start": td,
        **({"label_smoothing": 0.1} if classes else {"clamp": td}),
    }
    auto = {parameter for parameter, value in make(name).get_params().items() if isinstance(value, str)} & {
        parameter for parameter, value in make(name).get_params().items() if value == "auto"
    }
    assert documented.keys() == auto
    assert bits(fit(name, variant=variant, **documented), X) == bits(fit(name, variant=variant), X)


@both
@pytest.mark.parametrize("sizes", [(), 5, [5], np.array([5, 3]), (np.int64(5), 3)], ids=repr)
def test_hidden_layers(name, sizes):
    """None, a number, or any sequence."""
    model = fit(name, hidden_layer_sizes=sizes)
    expected = [sizes] if isinstance(sizes, int) else list(sizes)
    assert list(model.networks_[0].layer_units[1:-1]) == expected
    assert np.isfinite(outputs(model, X)).all()


@both
def test_one_for_each_layer(name):
    """Activations and dropout by a list; a list of equals is the same as one for all."""
    two = {"hidden_layer_sizes": (8, 4)}
    assert bits(fit(name, **two, activation=["mish", "mish"]), X) == bits(fit(name, **two, activation="mish"), X)
    assert fit(name, **two, activation=["elu", "mish"]).networks_[0].activations[:2] == ("elu", "mish")
    assert bits(fit(name, **two, dropout=[0.3, 0.3]), X) == bits(fit(name, **two, dropout=0.3), X)
    assert bits(fit(name, **two, dropout=[0.3, 0.0]), X) != bits(fit(name, **two, dropout=0.3), X)
    model = fit(name, activation="relu", parametric=False)
    assert model.networks_[0].activations[0] == "relu"


def test_an_incomplete_batch_is_left_out(monkeypatch):
    """Of 48 rows by 20 there are 2 steps; where all rows are fewer than a batch, they are one."""
    counts, own = [], realmlp.train_network

    def watch(network, recipe, data, random, history, **options):
        why = own(network, recipe, data, random, history, **options)
        counts.append(history.t)
        return why

    monkeypatch.setattr(realmlp, "train_network", watch)
    for batch_size in 20, 48, 49, 256:
        fit("RealMLPRegressor", batch_size=batch_size, max_iter=2)
    assert counts == [80, 96, 96, 96]


def test_clamp():
    """No prediction is outside of the targets that were seen; without it some are."""
    rows = 100 * X
    clamped, free = (fit("RealMLPRegressor", clamp=clamp, refit=True).predict(rows) for clamp in (True, False))
    assert NUMBERS.min() <= clamped.min() and clamped.max() <= NUMBERS.max()
    assert free.max() > NUMBERS.max() or free.min() < NUMBERS.min()
    np.testing.assert_array_equal(clamped, np.clip(free, NUMBERS.min(), NUMBERS.max()))


@both
def test_max_time(name):
    """A fit ends with what it has, and says so; networks share the time."""
    for parameters in {}, {"n_estimators": 3}, {"refit": True}, {"n_estimators": 3, "refit": True, "n_jobs": 2}:
        begin = time.perf_counter()
        with pytest.warns(ConvergenceWarning, match="Maximum time .* reached"):
            model = fit(name, max_iter=10**7, max_time=0.3, **parameters)
        assert time.perf_counter() - begin < 10
        assert len(model.networks_) == parameters.get("n_estimators", 1)
        assert model.n_iter_ == len(model.loss_curve_) == len(model.validation_scores_) >= max(model.best_iters_) > 0
    with pytest.warns(ConvergenceWarning):
        assert fit(name, max_time=1e-9, refit=True).n_iter_ == 1


@pytest.mark.parametrize(
    "parameters, expected",
    [
        ({"n_estimators": 3}, [333, 500, 1000]),
        ({"refit": True}, [400, 1000]),
        ({"refit": True, "validation_fraction": 0.5}, [300, 1000]),
        ({"refit": True, "n_estimators": 2}, [200, 500, 400, 1000]),
    ],
    ids=repr,
)
def test_parts_of_max_time(parameters, expected, monkeypatch):
    """What is left is shared by the networks to come; a refit has more rows than the first training, and needs more."""
    ends, own, begin = [], realmlp.train_network, time.perf_counter()

    def watch(*args, **options):
        ends.append(options["deadline"]._time - begin)
        return own(*args, **options)

    monkeypatch.setattr(realmlp, "train_network", watch)
    fit("RealMLPRegressor", max_time=1000, n_jobs=1, **parameters)
    assert ends == [pytest.approx(end, rel=0.1) for end in expected]


@both
def test_a_refit_that_is_cut_short_is_dropped(name, monkeypatch):
    """The network of the first training is kept, and predicts."""
    own = realmlp.train_network

    def cut(network, *args, epochs=None, **options):
        why = own(network, *args, epochs=epochs and 1, **options)
        return why if epochs is None else "max_time"

    monkeypatch.setattr(realmlp, "train_network", cut)
    with pytest.warns(ConvergenceWarning):
        model = fit(name, refit=True, max_time=100)
    assert bits(model, X) == bits(fit(name), X)


@both
def test_verbose(name, capsys):
    """A line for each epoch's loss, and one for its score."""
    model = fit(name, verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Iteration 1, loss = {model.loss_curve_[0]:.8f}"
    assert lines[1] == f"Validation score: {model.validation_scores_[0]:f}" and len(lines) == 8


@both
def test_random_state(name):
    """An instance goes on; None is another fit each time."""
    state = np.random.RandomState(0)
    assert bits(fit(name, random_state=state), X) == bits(fit(name), X) != bits(fit(name, random_state=state), X)
    assert bits(fit(name, random_state=None), X) != bits(fit(name, random_state=None), X)


# ---- the same bits ----------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("parameters", [{}, {"refit": True}, {"scoring": "loss"}], ids=repr)
def test_any_number_of_threads(name, parameters):
    """Nothing that is learnt depends on it; the first network is the same whatever comes after it."""
    of = [fit(name, table(), n_estimators=3, n_jobs=threads, **parameters) for threads in (1, 2, 3)]
    assert learnt(of[0]) == learnt(of[1]) == learnt(of[2])
    one = fit(name, table(), **parameters)
    assert frozen(one.networks_[0]) == frozen(of[0].networks_[0]) and one.best_iters_[0] == of[0].best_iters_[0]


def test_a_large_network_on_any_number_of_threads():
    """Where a network itself is worth several."""
    r = np.random.RandomState(0)
    rows, y = r.normal(size=(600, 40)), r.normal(size=600)
    parameters = {"hidden_layer_sizes": (128, 128), "max_iter": 1, "n_estimators": 2}
    of = [fit("RealMLPRegressor", rows, y, n_jobs=threads, **parameters) for threads in (1, 2, 3, 4)]
    assert [bits(model, rows) for model in of] == [bits(of[0], rows)] * 4


@both
def test_layouts(name):
    """C and Fortran order, strides, sparse, a list of lists, read-only."""
    expected = bits(fit(name), X)
    locked = X.copy()
    locked.flags.writeable = False
    for rows in [np.asfortranarray(X), np.repeat(X, 2, axis=0)[::2], X.tolist(), locked, X.astype(object)]:
        assert bits(fit(name, rows), rows) == expected
    for format in scipy.sparse.csr_matrix, scipy.sparse.csc_array, scipy.sparse.coo_matrix:
        assert bits(fit(name, format(X)), format(X)) == expected


@both
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames(name, library):
    """A frame of the same values; its names are kept and asked for."""
    module, rows = pytest.importorskip(library), table()
    frame = module.DataFrame(of_numbers(rows))
    model, plain = fit(name, frame), fit(name, rows)
    assert bits(model, frame) == bits(plain, rows) == bits(fit(name, rows.tolist()), rows.tolist())
    assert model.feature_names_in_.tolist() == [f"c{i}" for i in range(5)] and model.n_features_in_ == 5
    assert not hasattr(plain, "feature_names_in_")
    for scoring in "accuracy" if name == "RealMLPClassifier" else "r2", make_scorer(r2_score):
        y = module.Series(TARGETS[name])
        assert bits(fit(name, frame, y, scoring=scoring), frame) == bits(fit(name, rows, scoring=scoring), rows)
    with pytest.warns(UserWarning, match=f"X does not have valid feature names, but {name} was fitted"):
        assert bits(model, rows) == bits(plain, rows)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[["c1", "c0", "c2", "c3", "c4"]])
    model.fit(rows, TARGETS[name])
    assert not hasattr(model, "feature_names_in_")


@both
def test_dtypes_agree(name):
    """float32 and float64 networks of one seed say roughly the same, in float64; so do types of X."""
    of = [outputs(fit(name, dtype=dtype), X) for dtype in ("float32", np.float64, np.dtype(np.float32))]
    np.testing.assert_allclose(of[0], of[1], rtol=1e-2, atol=1e-2)
    assert np.array_equal(of[0], of[2]) and not np.array_equal(of[0], of[1])
    assert {one.dtype for one in of} == {np.dtype(np.float64)}
    assert fit(name, dtype="float64").networks_[0].dtype == np.float64
    whole = np.round(4 * X)
    assert bits(fit(name, whole), whole) == bits(fit(name, whole.astype(np.int8)), whole.astype(np.int8))


@both
def test_categorical_features(name):
    """A mask, positions, names, None; numbers that are said to be categories are."""
    rows = np.column_stack([X[:, 0], np.arange(N) % 3, np.arange(N) % 11]).astype(float)
    expected = bits(fit(name, rows, categorical_features=[1, 2]), rows)
    assert bits(fit(name, rows, categorical_features=[False, True, True]), rows) == expected
    assert bits(fit(name, rows, categorical_features=None), rows) == bits(fit(name, rows), rows) != expected
    text = rows.astype(object)
    text[:, 1:] = [[f"a{b:02}", f"a{c:02}"] for b, c in np.arange(N)[:, None] % [3, 11]]
    assert bits(fit(name, text), text) == expected
    model = fit(name, rows, categorical_features=[1, 2])
    assert model.networks_[0].tabular.categories == (11,) and model.networks_[0].tabular.numbers == 1
    unknown = rows + [0, 100, 100]
    assert np.isfinite(outputs(model, unknown)).all()
    pandas = pytest.importorskip("pandas").DataFrame(rows, columns=list("abc"))
    assert bits(fit(name, pandas, categorical_features=["b", "c"]), pandas) == expected


# ---- weights ----------------------------------------------------------------------------------------------------


def test_class_weight_is_a_weight_of_rows():
    """Of a dict, and 'balanced'; both multiply sample_weight."""
    of = {0: 3.0, 1: 0.5, 2: 1.0}
    counts = np.bincount(CLASSES)
    for weight, by_class in (of, [3, 0.5, 1]), ("balanced", N / (3 * counts)):
        rows = np.array(by_class)[CLASSES]
        model = fit("RealMLPClassifier", class_weight=weight)
        assert bits(model, X) == bits(fit("RealMLPClassifier", X, None, rows), X)
        model = fit("RealMLPClassifier", X, None, WEIGHTS, class_weight=weight)
        assert bits(model, X) == bits(fit("RealMLPClassifier", X, None, WEIGHTS * rows), X)


@both
def test_only_ratios_of_weights_count(name):
    """Equal ones are none; a power of 2 changes no bit, whatever it is, and float32 holds them."""
    np.testing.assert_allclose(outputs(fit(name, X, None, np.ones(N)), X), outputs(fit(name), X), rtol=1e-5)
    expected = bits(fit(name, X, None, WEIGHTS), X)
    assert expected != bits(fit(name), X)
    for factor in 2.0**-900, 4.0, 2.0**900:
        assert bits(fit(name, X, None, factor * WEIGHTS), X) == expected


@both
def test_rows_of_weight_0_are_left_out(name):
    """In training and in choosing the epoch; a single row that weighs something is enough."""
    y, some = TARGETS[name], np.arange(N) % 3 > 0
    model, twin = fit(name, X, None, some.astype(float)), fit(name, X[some], y[some], np.ones(some.sum()))
    assert bits(model, X) == bits(twin, X) and model.validation_scores_ == twin.validation_scores_
    for rows in (3,), (3, 7), range(5):
        weights = np.zeros(N)
        weights[list(rows)] = 1
        assert np.isfinite(outputs(fit(name, X, None, weights, batch_size=2, refit=True, n_estimators=3), X)).all()
    weights = WEIGHTS * some
    val = {"X_val": X, "y_val": y}
    model = fit(name, **val, sample_weight_val=weights)
    twin = fit(name, X_val=X[some], y_val=y[some], sample_weight_val=weights[some])
    np.testing.assert_allclose(outputs(model, X), outputs(twin, X), rtol=1e-5)


@pytest.mark.parametrize("weights, error", [
    (np.zeros(N), "must contain at least one non-zero|is 0 for all rows"), (np.full(N, np.nan), "NaN"),
    (np.ones(3), "sample_weight"),
])  # fmt: skip
@both
def test_bad_weights(name, weights, error):
    """In scikit-learn's words."""
    with pytest.raises(ValueError, match=error):
        fit(name, X, None, weights)
    with pytest.raises(ValueError, match="sample_weight_val"):
        fit(name, X_val=X, y_val=TARGETS[name], sample_weight_val=weights)


def test_no_row_weighs_anything():
    """By its class."""
    with pytest.raises(ValueError, match="class_weight is 0 for all rows"):
        fit("RealMLPClassifier", X, None, CLASSES == 1, class_weight={0: 1, 1: 0, 2: 1})
    with pytest.raises(ValueError, match="class_weight is 0 for all rows"):
        fit(
            "RealMLPClassifier",
            X_val=X[CLASSES == 1],
            y_val=np.ones((CLASSES == 1).sum()),
            class_weight={0: 1, 1: 0, 2: 1},
        )


# ---- targets ----------------------------------------------------------------------------------------------------

LABELS = {
    "str": np.array(["ant", "bee", "cow"]), "object": np.array(["ant", "bee", "cow"], object),
    "int": np.array([-5, 3, 10**12]), "float": np.array([-1.0, 2.0, 7.0]), "bool": np.array([False, True, True]),
    "uint8": np.array([0, 200, 255], np.uint8),
}  # fmt: skip


@pytest.mark.parametrize("kind", LABELS)
def test_labels(kind):
    """Any type; predictions have it."""
    y = LABELS[kind][CLASSES]
    model = fit("RealMLPClassifier", X, y)
    assert model.classes_.tolist() == np.unique(y).tolist() and model.predict(X).dtype == y.dtype
    numbers = fit("RealMLPClassifier", X, np.unique(y, return_inverse=True)[1])
    assert np.array_equal(model.predict_proba(X), numbers.predict_proba(X))
    np.testing.assert_array_equal(model.predict(X), model.classes_[model.predict_proba(X).argmax(axis=1)])
    np.testing.assert_array_equal(model.predict_log_proba(X), np.log(model.predict_proba(X)))
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1, rtol=1e-12)


def test_labels_of_pandas():
    """A series with any index, categories, a frame of one column; of a scorer, too."""
    pandas = pytest.importorskip("pandas")
    words = LABELS["str"][CLASSES]
    expected = fit("RealMLPClassifier", X, words).predict_proba(X)
    index = np.arange(N)[::-1] * 7
    for y in pandas.Series(words, index=index), pandas.Series(words, index=index, dtype="category"):
        for scoring in None, "accuracy":
            model = fit("RealMLPClassifier", X, y, scoring=scoring)
            assert np.array_equal(model.predict_proba(X), expected)
    assert np.array_equal(fit("RealMLPRegressor", X, pandas.Series(NUMBERS, index=index)).predict(X),
                          fit("RealMLPRegressor").predict(X))  # fmt: skip


@pytest.mark.parametrize("classes", [1, 2, 50])
def test_numbers_of_classes(classes):
    """One class, two, and fifty most of which have a single row."""
    y = np.minimum(np.arange(N), classes - 1)
    for parameters in {}, PLAIN, {"scoring": "roc_auc"}, {"n_estimators": 6, "refit": True}:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that classes are many for so few rows
            model = fit("RealMLPClassifier", X, y, **parameters)
        assert model.predict_proba(X).shape == (N, classes) and set(model.predict(X)) <= set(range(classes))


@both
@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("parameters", [{}, {"n_estimators": 7, "refit": True}, {"variant": "td-s"}], ids=repr)
def test_few_rows(name, rows, parameters):
    """They train; of a single one none is held back."""
    model = fit(name, X[:rows], TARGETS[name][:rows], **parameters)
    assert np.isfinite(outputs(model, X)).all()
    assert (model.validation_scores_ is None) == (rows == 1) == (model.validation_loss_curve_ is None)
    assert model.best_iters_[0] == 4 or rows > 1


@both
def test_columns(name):
    """A single one; a constant one; one that is all missing, beside others and alone."""
    assert np.isfinite(outputs(fit(name, X[:, :1]), X[:, :1])).all()
    missing = np.full((N, 1), np.nan)
    for rows in missing, np.ones((N, 2)), np.hstack([X, missing]), np.full((N, 1), None), np.full((N, 1), "a"):
        for variant in "td", "td-s":
            assert np.isfinite(outputs(fit(name, rows, variant=variant), rows)).all()
    with pytest.raises(ValueError, match="X holds nothing: all its values are missing"):
        fit(name, missing, categorical_features=[0])


def test_constant_targets():
    """They are predicted."""
    for value in 0.0, 0.1, -1e300, 1e-300:
        for variant in "td", "td-s":
            predicted = fit("RealMLPRegressor", X, np.full(N, value), variant=variant).predict(X)
            np.testing.assert_allclose(predicted, value, rtol=1e-6, atol=0 if value and variant == "td" else 20)


@pytest.mark.parametrize("factor", [1e300, 1e-200, 2.0**60])
def test_targets_of_any_size(factor):
    """What is learnt is the same; for a power of 2 to the last bit."""
    expected, found = (fit("RealMLPRegressor", X, k * NUMBERS) for k in (1, factor))
    np.testing.assert_allclose(found.predict(X) / factor, expected.predict(X), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.validation_scores_, expected.validation_scores_, rtol=1e-4)
    if factor == 2.0**60:
        assert np.array_equal(found.predict(X) / factor, expected.predict(X))


@pytest.mark.parametrize("variant", ["td", "td-s"])
def test_a_small_spread_around_a_large_mean(variant):
    """Is learnt as well as it is around 0."""
    expected, found = (fit("RealMLPRegressor", X, k + 1e-3 * NUMBERS, variant=variant) for k in (0, 1e9))
    np.testing.assert_allclose(found.predict(X) - 1e9, expected.predict(X), rtol=0, atol=2e-5)


@both
def test_huge_rows(name):
    """1e300 here and there, or all over, without a warning; a power of 2 changes no bit."""
    expected = bits(fit(name), X)
    assert bits(fit(name, X * 2.0**990), X * 2.0**990) == expected
    for rows in np.where(X > 1, 1e300, X), np.where(X > 1, np.sign(X) * np.finfo(float).max, X):
        assert np.isfinite(outputs(fit(name, rows), rows)).all()


def test_several_targets():
    """Each is learnt; one column is flat, as scikit-learn warns."""
    Y = np.column_stack([NUMBERS, 1e6 * X[:, 3], np.ones(N)])
    model = fit("RealMLPRegressor", X, Y, n_estimators=2)
    assert model.predict(X).shape == (N, 3) and model.n_outputs_ == 3
    assert np.isfinite(model.score(X, Y))
    np.testing.assert_allclose(model.predict(X)[:, 2], 1)
    with pytest.warns(UserWarning, match="A column-vector y was passed"):
        assert bits(fit("RealMLPRegressor", X, NUMBERS[:, None]), X) == bits(fit("RealMLPRegressor"), X)


# ---- errors -----------------------------------------------------------------------------------------------------

OBJECTS = {"a": "b", None: "c", np.nan: "d"}
BAD_LABELS = {
    "missing": (np.array(["a", None] * 30, object), "Input y contains NaN"),
    "NaN in objects": (np.array(["a", np.nan] * 30, object), "Input y contains NaN"),
    "NaN": (np.where(CLASSES > 0, np.nan, 1.0), "Input y contains NaN"),
    "text and numbers": (np.array(["a", 1] * 30, object), "y must hold text or numbers as labels, got both"),
    "numbers": (NUMBERS, "Unknown label type"),
    "many labels": (np.eye(3, dtype=int)[CLASSES], "one label for each row"),
    "sparse": (scipy.sparse.csr_matrix(np.eye(3, dtype=int)[CLASSES]), "one label for each row"),
    "short": (CLASSES[:5], "inconsistent numbers of samples"),
    "none": (3, "y|array-like"),
}
BAD_NUMBERS = {
    "NaN": (np.where(CLASSES > 0, np.nan, 1.0), "Input y contains NaN"),
    "infinity": (np.where(CLASSES > 0, np.inf, 1.0), "Input y contains infinity"),
    "text": (LABELS["str"][CLASSES], "could not convert string to float"),
    "short": (NUMBERS[:5], "inconsistent numbers of samples"),
    "dimensions": (np.zeros((N, 2, 2)), "dim 3"),
    "none": (3, "y must hold a target for each row, got 3"),
}
BAD = [("RealMLPClassifier", *case) for case in BAD_LABELS.values()]
BAD += [("RealMLPRegressor", *case) for case in BAD_NUMBERS.values()]


@pytest.mark.parametrize("name, y, error", BAD, ids=[*BAD_LABELS, *BAD_NUMBERS])
def test_bad_targets(name, y, error):
    """scikit-learn's words where it has some; validation targets are named."""
    with pytest.raises(ValueError, match=error):
        fit(name, X, y)
    with pytest.raises(ValueError, match="y_val"):
        fit(name, X_val=X, y_val=y)
    with pytest.raises(ValueError, match="requires y to be passed, but the target y is None"):
        make(name).fit(X, None)


def test_labels_that_pandas_misses():
    """NA of every dtype."""
    pandas = pytest.importorskip("pandas")
    for dtype in "string", "category", "object", "Int64", "boolean":
        values = [1, None] if dtype == "Int64" else [True, None] if dtype == "boolean" else ["a", None]
        with pytest.raises(ValueError, match="Input y contains NaN"):
            fit("RealMLPClassifier", X, pandas.Series(values * 30, dtype=dtype))


BAD_VALIDATION = {
    "columns": ({"X_val": X[:, :2], "y_val": CLASSES}, "X_val: X has 2 features, but {name} is expecting 4"),
    "rows": ({"X_val": X, "y_val": CLASSES[:5]}, "y_val: .*inconsistent numbers of samples"),
    "no rows": ({"X_val": X[:0], "y_val": CLASSES[:0]}, "X_val: Found array with 0 sample"),
    "infinity": ({"X_val": X * np.inf, "y_val": CLASSES}, "X_val: Input X contains infinity"),
    "no y_val": ({"X_val": X}, "X_val is provided, but y_val was not provided"),
    "no X_val": ({"y_val": CLASSES}, "y_val is provided, but X_val was not provided"),
    "weights alone": ({"sample_weight_val": CLASSES}, "sample_weight_val is provided, but X_val was not provided"),
}


@both
@pytest.mark.parametrize("case", BAD_VALIDATION)
def test_bad_validation_rows(name, case):
    """The argument is named."""
    arguments, error = BAD_VALIDATION[case]
    with pytest.raises(ValueError, match=error.format(name=name)):
        fit(name, **arguments)


def test_bad_validation_targets():
    """Classes that y has not, columns that y has not."""
    with pytest.raises(ValueError, match=r"y_val: there are classes that y has not: \[9\]. y has \[0 1 2\]"):
        fit("RealMLPClassifier", X_val=X, y_val=np.where(CLASSES, CLASSES, 9))
    with pytest.raises(ValueError, match="y_val: y has 1 columns, not 4"):
        fit("RealMLPRegressor", X_val=X, y_val=X)


@both
def test_validation_rows_may_have_unknown_categories(name):
    """And fewer classes; they are as unknown as in predictions."""
    rows = table()
    other = rows[:20].copy()
    other[:, 1] = "violet"
    y = np.zeros(20, int)
    for scoring in None, "loss", "accuracy" if name == "RealMLPClassifier" else "r2":
        model = fit(name, rows, X_val=other, y_val=y, scoring=scoring)
        assert len(model.validation_scores_) == 4
    one = fit(name, X_val=X[:1], y_val=TARGETS[name][:1])
    assert np.isfinite(one.validation_scores_).all()


BAD_PARAMETERS = [
    *[({"hidden_layer_sizes": v}, "hidden_layer_sizes") for v in ([0], (8, 2.5), [True], [[8]], [-1], 0, "8", None)],
    *[({"dropout": v}, "dropout") for v in (1.0, -0.1, [0.1, 0.2], [], "none", None)],
    *[({"activation": v}, "activation") for v in ("tanh", "what", ["selu", "selu"], [], None)],
    *[({"validation_fraction": v}, "validation_fraction") for v in (0, 0.6, None)],
    *[({"n_estimators": v}, "n_estimators") for v in (0, 1.5, None)],
    *[({"scoring": v}, "scoring") for v in ("what", 3)],
    *[({name: v}, name) for name in ("embedding", "parametric", "data_start") for v in ("yes", None, 2)],
    *[({name: v}, name) for name in ("batch_size", "max_iter") for v in (0, "auto", 2.5)],
    *[({"learning_rate_init": v}, "learning_rate_init") for v in (0, "what", None)],
    *[({"categorical_features": v}, "categorical_features") for v in ("what", [7], [0.5], [True], ["a"])],
    ({"variant": "tds"}, "variant"), ({"dtype": "float16"}, "dtype"), ({"max_time": 0}, "max_time"),
    ({"n_jobs": 0}, "n_jobs"), ({"refit": "no"}, "refit"), ({"weight_decay": -1}, "weight_decay"),
]  # fmt: skip


@both
@pytest.mark.parametrize("parameters, error", BAD_PARAMETERS, ids=[repr(case[0]) for case in BAD_PARAMETERS])
def test_bad_parameters(name, parameters, error):
    """The parameter is named."""
    with pytest.raises(ValueError, match=error):
        fit(name, **parameters)


def test_bad_parameters_of_one():
    for name, parameters in [
        ("RealMLPClassifier", {"label_smoothing": 1.0}),
        ("RealMLPClassifier", {"class_weight": "even"}),
        ("RealMLPClassifier", {"class_weight": {0: np.inf, 1: 1, 2: 1}}),
        ("RealMLPClassifier", {"class_weight": {0: 1, 7: 1}}),
        ("RealMLPRegressor", {"clamp": "no"}),
    ]:
        with pytest.raises(ValueError, match=next(iter(parameters))):
            fit(name, **parameters)


@both
def test_bad_rows(name):
    """In fit and in predictions; the estimator is named, not what it is made of."""
    with pytest.raises(NotFittedError):
        make(name).predict(X)
    model = fit(name)
    with pytest.raises(ValueError, match=f"X has 3 features, but {name} is expecting 4 features as input"):
        model.predict(X[:, :3])
    for bad in np.where(X > 1, np.inf, X), X[0], X[:0], X.astype(complex):
        with pytest.raises(ValueError):
            fit(name, bad)
        with pytest.raises(ValueError):
            model.predict(bad)
    with pytest.raises(ValueError, match="dates or times"):
        fit(name, np.arange(N).astype("M8[D]")[:, None])
    assert np.isfinite(outputs(model, np.where(X > 1, np.nan, X))).all()  # missing, where none were in fit


# ---- fits that fail, or are interrupted -------------------------------------------------------------------------

FAILURES = {
    "y": lambda name: {"y": np.full(N, np.nan)},
    "columns": lambda name: {"table": X[:, :2], "X_val": X, "y_val": TARGETS[name]},
    "divergence": lambda name: {"scoring": lambda *_: np.nan},
    "a scorer": lambda name: {"scoring": failing},
    "a scorer in a thread": lambda name: {"scoring": failing, "n_estimators": 4, "n_jobs": 2, "max_iter": 10**6},
}


def failing(*_):
    raise Trouble


@both
@pytest.mark.parametrize("failure", FAILURES)
def test_a_fit_that_fails(name, failure):
    """The exception comes through, at once, and all is as it was; before a first fit nothing is there."""
    arguments = FAILURES[failure](name)
    for model in fit(name, table()), make(name):
        before, keys = learnt(model), list(vars(model))
        parameters = {key: arguments[key] for key in arguments if key in model.get_params()}
        data = {key: arguments[key] for key in arguments if key not in parameters}
        rows, y = data.pop("table", X), data.pop("y", TARGETS[name])
        with pytest.raises(Trouble if "scorer" in failure else ValueError):
            model.set_params(**parameters).fit(rows, y, **data)
        assert learnt(model) == before and list(vars(model)) == keys


class InOneNetwork:
    """Raises, in the second epoch that any network trains."""

    def __init__(self, error, at=2):
        self.error, self.left, self.own = error, at, realmlp.train_network

    def __call__(self, *args, **options):
        measure = options["measure"]

        def measure_or_raise():
            self.left -= 1
            if self.left == 0:
                raise self.error
            return measure()

        return self.own(*args, **options | {"measure": measure_or_raise})


@both
@pytest.mark.parametrize("threads", [1, 2])
def test_one_of_several_networks_fails(name, threads, monkeypatch):
    """The others end soon, and its exception is the fit's."""
    monkeypatch.setattr(realmlp, "train_network", InOneNetwork(Trouble("no")))
    with pytest.raises(Trouble, match="no"):
        make(name, n_estimators=4, n_jobs=threads, max_iter=10**6).fit(X, TARGETS[name])


@both
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("at", [1, 2])
def test_an_interrupt_in_a_network(name, threads, at, monkeypatch):
    """What was learnt so far stays, of the networks that were begun: perhaps of no whole epoch."""
    monkeypatch.setattr(realmlp, "train_network", InOneNetwork(KeyboardInterrupt, at))
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        model = make(name, n_estimators=4, n_jobs=threads, max_iter=10**6).fit(X, TARGETS[name])
    assert 1 <= len(model.networks_) <= 4 and np.isfinite(outputs(model, X)).all()
    assert (0 in model.best_iters_) == (threads == at == 1)
    if threads == 1:
        assert model.n_iter_ == at and len(model.loss_curve_) == at - 1


def test_an_interrupt_before_an_epochs_end(monkeypatch):
    """Such a network is no part of the mean, if there are others."""
    monkeypatch.setattr(realmlp, "train_network", InOneNetwork(KeyboardInterrupt, 5))
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        model = make("RealMLPRegressor", n_estimators=2, n_jobs=1).fit(X, NUMBERS)
    assert bits(model, X) == bits(fit("RealMLPRegressor"), X)


def test_an_interrupt_of_a_refit():
    """The first network stays."""
    expected, own = fit("RealMLPRegressor"), realmlp.train_network

    def interrupted(*args, epochs=None, **options):
        if epochs is None:
            return own(*args, **options)
        warnings.warn("Training interrupted by user.", stacklevel=2)
        return "interrupted"

    with pytest.MonkeyPatch.context() as patch, pytest.warns(UserWarning, match="interrupted"):
        patch.setattr(realmlp, "train_network", interrupted)
        model = fit("RealMLPRegressor", refit=True)
    assert bits(model, X) == bits(expected, X)


def a_real_interrupt(threads):
    """A Ctrl-C while networks train that would take hours."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    model = make("RealMLPRegressor", n_estimators=3, n_jobs=threads).fit(X, NUMBERS)
    model.set_params(max_iter=10**7)
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    begin = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, NUMBERS)
    assert time.perf_counter() - begin < 5
    assert {str(warning.message) for warning in caught} == {"Training interrupted by user."}
    assert 0 < max(model.best_iters_) <= model.n_iter_ < 10**7
    assert len(model.networks_) == (1 if threads == 1 else 2)
    assert np.isfinite(model.predict(X)).all()
    model.set_params(max_iter=4).fit(X, NUMBERS)
    assert bits(model, X) == bits(fit("RealMLPRegressor", n_estimators=3), X)


@pytest.mark.skipif(os.name != "posix", reason="has no SIGINT from itself")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_real_interrupt(threads):
    """It is answered at once, and later fits work."""
    run_code(f"import test_realmlp; test_realmlp.a_real_interrupt({threads})", NUMBA_NUM_THREADS="2")


def an_interrupt_of_long_epochs():
    """A Ctrl-C in the first epoch of two networks side by side, which takes half a minute."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    r, own, sent = np.random.RandomState(0), fastmlp.MLP.train_epoch, []
    rows = r.normal(size=(500_000, 4))

    def interrupt():
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    def train_epoch(*args, **options):
        if not sent:
            sent.append(None)
            threading.Timer(0.5, interrupt).start()
        return own(*args, **options)

    model = make("RealMLPRegressor", variant="td-s", n_estimators=2, n_jobs=2, hidden_layer_sizes=(800, 800))
    model.fit(rows[:300], rows[:300, 0])
    fastmlp.MLP.train_epoch = train_epoch
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(rows, rows[:, 0], X_val=rows[:10], y_val=rows[:10, 0])
    assert time.perf_counter() - sent[1] < 3
    assert [str(warning.message) for warning in caught] == ["Training interrupted by user."]
    assert model.n_iter_ == 1 and len(model.networks_) == 2 and np.isfinite(model.predict(rows[:10])).all()


@pytest.mark.skipif(os.name != "posix", reason="has no SIGINT from itself")
def test_an_interrupt_of_long_epochs():
    """It does not wait for their end."""
    run_code("import test_realmlp; test_realmlp.an_interrupt_of_long_epochs()", NUMBA_NUM_THREADS="2")


def test_python_goes_on_meanwhile(monkeypatch):
    """Networks train without Python's lock: a thread of Python's counts while one of them is in an epoch."""
    r = np.random.RandomState(0)
    rows, y = r.normal(size=(3000, 20)), r.normal(size=3000)
    count, done, counted, own = 0, threading.Event(), [], fastmlp.MLP.train_epoch

    def train_epoch(*args, **options):
        before = count
        loss = own(*args, **options)
        counted.append(count - before)
        return loss

    def train():
        fit("RealMLPRegressor", rows, y, hidden_layer_sizes=(256, 256), max_iter=2, n_estimators=3, n_jobs=2)
        done.set()

    monkeypatch.setattr(fastmlp.MLP, "train_epoch", train_epoch)
    thread = threading.Thread(target=train)
    thread.start()
    while not done.wait(1e-4) and thread.is_alive():
        count += 1
    thread.join()
    assert len(counted) == 6 and max(counted) > 20


def test_networks_train_side_by_side(monkeypatch):
    """Two at a time with two threads: each waits in its first epoch until another one is there."""
    barrier, own = threading.Barrier(2, timeout=60), realmlp.train_network

    def meet(*args, **options):
        barrier.wait()
        return own(*args, **options)

    monkeypatch.setattr(realmlp, "train_network", meet)
    assert len(fit("RealMLPRegressor", n_estimators=4, n_jobs=2).networks_) == 4


# ---- callbacks --------------------------------------------------------------------------------------------------

needs_callbacks = pytest.mark.skipif(
    importlib.util.find_spec("sklearn.callback") is None, reason="this scikit-learn has no callbacks"
)


class Recorder:
    """Notes the hooks that are called, and the estimators that they are told of; may do something at an epoch's end."""

    def __init__(self, act=None):
        self.act, self.calls, self.fitted = act, [], []

    def setup(self, estimator, context):
        self.calls.append(("setup", context.task_name))
        self.max_subtasks = context.max_subtasks

    def teardown(self, estimator, context):
        self.calls.append(("teardown", context.task_name))

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None):
        self.calls.append(("begin", context.task_name))

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, fitted_estimator=None):
        self.calls.append(("end", context.task_name))
        if context.task_name == "epoch":
            self.fitted.append(fitted_estimator)
            return self.act(len(self.fitted)) if self.act else None


@needs_callbacks
@both
@pytest.mark.parametrize("networks", [1, 3])
@pytest.mark.parametrize("refit", [False, True])
def test_hooks(name, networks, refit):
    """In order; epochs of all networks and refits are told of, and no bit changes by it."""
    recorder = Recorder()
    model = make(name, n_estimators=networks, refit=refit).set_callbacks(recorder).fit(table(), TARGETS[name])
    epochs = 4 * networks + (sum(model.best_iters_) if refit else 0)
    inner = [("begin", "epoch"), ("end", "epoch")] * epochs
    assert recorder.calls == [("setup", "fit"), ("begin", "fit"), *inner, ("end", "fit"), ("teardown", "fit")]
    assert recorder.max_subtasks == 4 * networks * (1 + refit) >= epochs
    assert learnt(model) == learnt(fit(name, table(), n_estimators=networks, refit=refit))
    assert bits(recorder.fitted[-1], table()) == bits(model, table())


@needs_callbacks
@both
def test_estimators_that_callbacks_see(name):
    """They predict as the best epoch so far, whatever comes after, and have its attributes."""
    recorder = Recorder()
    parameters = {"learning_rate_init": 0.3, "max_iter": 8, "hidden_layer_sizes": (8, 8)}
    make(name, **parameters).set_callbacks(recorder).fit(X, TARGETS[name])
    for epoch, seen in enumerate(recorder.fitted, start=1):
        assert len(seen.loss_curve_) == seen.n_iter_ == epoch
        assert seen.best_iters_ == [best(seen.validation_scores_)]
    for one, before in zip(recorder.fitted[1:], recorder.fitted, strict=False):
        assert (bits(one, X) == bits(before, X)) == (one.best_iters_ == before.best_iters_)


@needs_callbacks
@both
def test_a_callback_before_there_is_a_best_epoch(name):
    """The estimator that it sees has what was learnt so far."""
    recorder, scores = Recorder(), iter([np.nan, 1.0, 0.5, 0.0])
    model = make(name, scoring=lambda *_: next(scores)).set_callbacks(recorder).fit(X, TARGETS[name])
    assert [seen.best_iters_ for seen in recorder.fitted] == [[0], [2], [2], [2]] and model.best_iters_ == [2]
    assert np.isfinite(outputs(recorder.fitted[0], X)).all()


@needs_callbacks
@both
@pytest.mark.parametrize("epoch", [1, 3, 6, 9])
def test_a_callback_that_stops(name, epoch):
    """After this epoch, of whichever network; networks that were not begun are not there."""
    recorder = Recorder(lambda count: count == epoch)
    model = make(name, n_estimators=2, refit=True).set_callbacks(recorder).fit(X, TARGETS[name])
    assert len(recorder.fitted) == epoch
    plain = fit(name, n_estimators=2, refit=False)
    first = 4 + plain.best_iters_[0]
    assert len(model.networks_) == (1 if epoch <= first else 2)
    assert model.n_iter_ == len(model.loss_curve_) == (epoch if epoch < 4 else 4)
    if 4 <= epoch < first:
        assert frozen(model.networks_[0]) == frozen(plain.networks_[0])


@needs_callbacks
@both
@pytest.mark.parametrize("error", [Trouble, KeyboardInterrupt])
def test_a_callback_that_raises(name, error):
    """An interrupt ends training; all else leaves things as they were."""

    def act(count):
        if count == 6:
            raise error

    model = fit(name, table()).set_params(n_estimators=2).set_callbacks(Recorder(act))
    before = learnt(model)
    if error is Trouble:
        with pytest.raises(Trouble):
            model.fit(X, TARGETS[name])
        assert learnt(model) == before
    else:
        with pytest.warns(UserWarning, match="Training interrupted by user"):
            assert len(model.fit(X, TARGETS[name]).networks_) == 2
    assert model._skl_callbacks[0].calls[-1] == ("teardown", "fit")


@needs_callbacks
def test_scikit_learns_callbacks():
    """ScoringMonitor's numbers are those of the estimators at these epochs; the bar reaches its end."""
    from sklearn.callback import ProgressBar, ScoringMonitor

    recorder, monitor = Recorder(), ScoringMonitor(scoring="accuracy")
    model = make("RealMLPClassifier", n_estimators=2).set_callbacks(recorder, monitor).fit(table(), CLASSES)
    found = [task["accuracy"] for task in monitor.get_logs().data if task["task_name"] == "epoch"]
    assert found == [seen.score(table(), CLASSES) for seen in recorder.fitted]
    if importlib.util.find_spec("rich") is not None:
        model.set_callbacks(ProgressBar()).fit(table(), CLASSES)


# ---- scikit-learn's tools ---------------------------------------------------------------------------------------


@both
def test_copies(name):
    """Pickles and clones; a pickle has plain values only, and one of a newer format is refused."""
    model = fit(name, table(), n_estimators=2, refit=True)
    again = pickle.loads(pickle.dumps(model))
    assert bits(again, table()) == bits(model, table()) and learnt(again) == learnt(model)
    assert bits(again.fit(table(), TARGETS[name]), table()) == bits(model, table())
    twin = clone(model)
    assert twin.get_params() == model.get_params() and vars(twin).keys() == vars(make(name)).keys()
    state = model.__getstate__()
    json.dumps([parts[0] for parts in state["networks_"]])  # what a network is made by
    with pytest.raises(ValueError, match="upgrade fastmlp"):
        twin.__setstate__(state | {"_fastmlp_format": 99})


@both
@pytest.mark.parametrize("settings", [{"transform_output": "pandas"}, {"enable_metadata_routing": True}], ids=repr)
def test_settings_of_scikit_learn(name, settings):
    """They change nothing."""
    pytest.importorskip("pandas")
    parameters = {"scoring": "accuracy" if name == "RealMLPClassifier" else "r2", "n_estimators": 2}
    expected = bits(fit(name, table(), None, WEIGHTS, **parameters), table())
    with sklearn.config_context(**settings):
        for threads in 1, 2:
            assert bits(fit(name, table(), None, WEIGHTS, n_jobs=threads, **parameters), table()) == expected


@both
def test_search_and_pipeline(name):
    """In processes of their own, behind a step that gives frames."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(of_numbers(table()))
    pipeline = make_pipeline(FunctionTransformer(), make(name, max_iter=2))
    search = GridSearchCV(pipeline, {f"{name.lower()}__n_estimators": [1, 2]}, cv=2, n_jobs=2)
    search.fit(frame, TARGETS[name])
    alone = [make(name, max_iter=2, n_estimators=k) for k in (1, 2)]
    best_one = alone[search.best_index_].fit(frame, TARGETS[name])
    assert np.array_equal(search.predict(frame), best_one.predict(frame))
    assert cross_val_predict(make(name), frame, TARGETS[name], cv=3).shape == (N,)
    importances = permutation_importance(best_one, frame, TARGETS[name], n_repeats=2, random_state=0)
    assert importances.importances_mean.shape == (5,)
