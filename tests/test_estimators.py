"""MLPClassifier and MLPRegressor keep scikit-learn's manners: errors, output, inputs, copies, tools; and lose nothing.

A case that both libraries can run is a line in a table and runs in both: what one says the other must say.
"""

import copy
import inspect
import os
import pickle
import re
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

import joblib
import numpy as np
import pytest
import scipy.sparse
import sklearn.metrics
import sklearn.neural_network
from helpers import run_python
from models import (
    HUGE,
    IN_ORDER,
    INDICATOR,
    LABELS,
    NUMBER,
    OTHERS,
    REGRESSOR_LOSSES,
    TARGETS,
    WORDS,
    N,
    Trouble,
    X,
    bits,
    both_estimators,
    common_parameters,
    frame,
    frozen,
    make,
    outputs,
    put,
    state,
)
from sklearn.base import clone, is_classifier
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neural_network._base import ACTIVATIONS, LOSS_FUNCTIONS
from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastmlp
from fastmlp.compiled import activations, losses
from fastmlp.conversion import OWN_PARAMETERS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ROOT = Path(fastmlp.__file__).resolve().parents[1]

SOLVERS = {
    "adam": {"solver": "adam", "learning_rate_init": 0.01},
    "nesterov": {"solver": "sgd", "learning_rate_init": 0.05, "batch_size": 10},
}

both_solvers = pytest.mark.parametrize("solver", SOLVERS)


# ---- bad input ----

NO_SUM = (-1.0) ** NUMBER  # weights that sum to 0

# E makes an estimator, y is a target that suits it.
BAD_INPUT = {
    "NaN in X": lambda E, y: E().fit(put(X, np.nan), y),
    "infinity in X": lambda E, y: E().fit(put(X, np.inf), y),
    "infinity in X, float32": lambda E, y: E().fit(put(X, -np.inf).astype(np.float32), y),
    "None in X": lambda E, y: E().fit(put(X, None, object), y),
    "a word in X": lambda E, y: E().fit(put(X, "word", object), y),
    "X of words": lambda E, y: E().fit(X.astype(str)[:, :1] + "x", y),
    "complex X": lambda E, y: E().fit(X + 1j, y),
    "no rows": lambda E, y: E().fit(X[:0], y[:0]),
    "no features": lambda E, y: E().fit(X[:, :0], y),
    "X of dimension 0": lambda E, y: E().fit(1.0, y),
    "X of dimension 1": lambda E, y: E().fit(X[:, 0], y),
    "X of dimension 3": lambda E, y: E().fit(X[np.newaxis], y),
    "ragged X": lambda E, y: E().fit([[1, 2], [3]], y[:2]),
    "X is None": lambda E, y: E().fit(None, y),
    "y is None": lambda E, y: E().fit(X, None),
    "NaN in y": lambda E, y: E().fit(X, put(y, np.nan, float)),
    "infinity in y": lambda E, y: E().fit(X, put(y, np.inf, float)),
    "None in y": lambda E, y: E().fit(X, put(y, None, object)),
    "a word in y": lambda E, y: E().fit(X, put(y, "word", object)),
    "complex y": lambda E, y: E().fit(X, y + 1j),
    "y of dimension 0": lambda E, y: E().fit(X, 1),
    "y of dimension 3": lambda E, y: E().fit(X, y.reshape(-1, 1, 1)),
    "y without columns": lambda E, y: E().fit(X, np.empty((N, 0))),
    "y shorter than X": lambda E, y: E().fit(X, y[:-1]),
    "X shorter than y": lambda E, y: E().fit(X[:-1], y),
    "unknown parameter": lambda E, y: E(nonsense=1),
    "unknown parameter in set_params": lambda E, y: E().set_params(nonsense=1),
    "unknown argument": lambda E, y: E().partial_fit(X, y, nonsense=1),
    "early stopping with partial_fit": lambda E, y: E(early_stopping=True).fit(X, y).partial_fit(X, y),
    "validation set of 1 row": lambda E, y: E(early_stopping=True).fit(X[:3], y[:3]),
    "validation set of 0 rows": lambda E, y: E(early_stopping=True, validation_fraction=0.0).fit(X, y),
    "validation set of all rows": lambda E, y: E(early_stopping=True, validation_fraction=0.99).fit(X, y),
    "one row, early stopping": lambda E, y: E(early_stopping=True).fit(X[:1], y[:1]),
    "other width at predict": lambda E, y: E().fit(X, y).predict(X[:, :3]),
    "other width at score": lambda E, y: E().fit(X, y).score(X[:, :3], y),
    "other width at partial_fit": lambda E, y: E().fit(X, y).partial_fit(X[:, :3], y),
    "other width at warm start": lambda E, y: E(warm_start=True).fit(X, y).fit(X[:, :3], y),
    "one row of dimension 1 at predict": lambda E, y: E().fit(X, y).predict(X[0]),
    "no rows at predict": lambda E, y: E().fit(X, y).predict(X[:0]),
    "NaN at predict": lambda E, y: E().fit(X, y).predict(put(X, np.nan)),
    "complex X at predict": lambda E, y: E().fit(X, y).predict(X + 1j),
    "a word at predict": lambda E, y: E().fit(X, y).predict(put(X, "word", object)),
    "y shorter than X at score": lambda E, y: E().fit(X, y).score(X, y[:-1]),
    "columns of other names": lambda E, y: E().fit(frame("abcd"), y).predict(frame("abce")),
    "columns in other order": lambda E, y: E().fit(frame("abcd"), y).predict(frame("abdc")),
    "columns in other order, partial_fit": lambda E, y: E().fit(frame("abcd"), y).partial_fit(frame("abdc"), y),
    "columns named by words and numbers": lambda E, y: E().fit(frame(["a", 1, 2, 3]), y),
    "all weights 0": lambda E, y: E().fit(X, y, sample_weight=np.zeros(N)),
    "weights that sum to 0": lambda E, y: E(**IN_ORDER).fit(X, y, sample_weight=(-1) ** NUMBER),
    "too few weights": lambda E, y: E().fit(X, y, sample_weight=np.ones(N - 1)),
    "weights of dimension 2": lambda E, y: E().fit(X, y, sample_weight=np.ones((N, 1))),
    "NaN among the weights": lambda E, y: E().fit(X, y, sample_weight=put(np.ones(N), np.nan)),
    "infinity among the weights": lambda E, y: E().fit(X, y, sample_weight=put(np.ones(N), np.inf)),
    "words as weights": lambda E, y: E().fit(X, y, sample_weight=["a"] * N),
    "complex weights": lambda E, y: E().fit(X, y, sample_weight=np.ones(N) + 1j),
    "predict before fit": lambda E, y: E().predict(X),
    "score before fit": lambda E, y: E().score(X, y),
    "decision_function": lambda E, y: E().fit(X, y).decision_function,
    "transform": lambda E, y: E().fit(X, y).transform,
    "divergence": lambda E, y: E().fit(HUGE, y),
    "divergence in partial_fit": lambda E, y: E().fit(X, y).partial_fit(HUGE, y),
}

BAD_INPUT_CLASSIFIER = {
    "predict_proba before fit": lambda E, y: E().predict_proba(X),
    "predict_log_proba before fit": lambda E, y: E().predict_log_proba(X),
    "other width at predict_proba": lambda E, y: E().fit(X, y).predict_proba(X[:, :2]),
    "no classes in first partial_fit": lambda E, y: E().partial_fit(X, y),
    "unknown label in first partial_fit": lambda E, y: E().partial_fit(X, y, classes=[0, 1]),
    "unknown label in later partial_fit": lambda E, y: E().fit(X, y).partial_fit(X, y + 1),
    "words in partial_fit after numbers": lambda E, y: E().fit(X, y).partial_fit(X, WORDS),
    "words in first partial_fit, classes are numbers": lambda E, y: E().partial_fit(X, WORDS, classes=[0, 1, 2]),
    "other classes in later partial_fit": lambda E, y: E().fit(X, y).partial_fit(X, y, classes=[0, 1]),
    "more classes in later partial_fit": lambda E, y: E().fit(X, y).partial_fit(X, y, classes=[0, 1, 2, 3]),
    "classes empty": lambda E, y: E().partial_fit(X, y, classes=[]),
    "classes of dimension 0": lambda E, y: E().partial_fit(X, y, classes=1),
    "classes of dimension 2": lambda E, y: E().partial_fit(X, y, classes=[[0, 1, 2]]),
    "NaN among the classes": lambda E, y: E().partial_fit(X, y, classes=[0, 1, np.nan]),
    "classes are words": lambda E, y: E().partial_fit(X, y, classes=["a", "b", "c"]),
    "too few classes for labels": lambda E, y: E().partial_fit(X, INDICATOR, classes=[0, 1]),
    "more labels in later partial_fit": lambda E, y: E().fit(X, INDICATOR).partial_fit(X, np.eye(4, dtype=int)[y]),
    "fewer labels in later partial_fit": lambda E, y: E().fit(X, INDICATOR).partial_fit(X, INDICATOR[:, :2]),
    "labels in partial_fit after classes": lambda E, y: E().fit(X, y).partial_fit(X, INDICATOR),
    "early stopping in first partial_fit": lambda E, y: E(early_stopping=True).partial_fit(X, y, classes=[0, 1, 2]),
    "other classes at warm start": lambda E, y: E(warm_start=True).fit(X, y).fit(X, y + 1),
    "fewer classes at warm start": lambda E, y: E(warm_start=True).fit(X, y).fit(X, y % 2),
    "more classes at warm start": lambda E, y: E(warm_start=True).fit(X, y % 2).fit(X, y),
    "words at warm start": lambda E, y: E(warm_start=True).fit(X, y).fit(X, WORDS),
    "fewer classes in partial_fit with warm_start": lambda E, y: E(warm_start=True).fit(X, y).partial_fit(X, y % 2),
    "labels at warm start after classes": lambda E, y: E(warm_start=True).fit(X, y).fit(X, INDICATOR),
    "several multiclass outputs": lambda E, y: E().fit(X, np.column_stack([y, y[::-1]])),
    "several multiclass outputs, partial_fit": lambda E, y: E().partial_fit(X, np.column_stack([y, y]), classes=[0, 1]),
    "continuous y": lambda E, y: E().fit(X, y + 0.5),
    "continuous y of two columns": lambda E, y: E().fit(X, np.column_stack([y + 0.5, y])),
    "continuous y, partial_fit": lambda E, y: E().fit(X, y).partial_fit(X, y + 0.5),
    "objects as labels": lambda E, y: E().fit(X, np.array([{}] * N)),
    "bytes as labels": lambda E, y: E().fit(X, np.array([b"a", b"b", b"c"])[y]),
    "stratification of a single row": lambda E, y: E(early_stopping=True).fit(X, np.where(NUMBER == 3, 1, 0)),
    "stratification of a single word": lambda E, y: E(early_stopping=True).fit(X, np.where(NUMBER == 3, "a", "b")),
    "stratification of too few rows": lambda E, y: E(early_stopping=True, validation_fraction=0.03).fit(X, y % 2),
    "loss is no parameter": lambda E, y: E(loss="log_loss"),
}

BAD_INPUT_REGRESSOR = {
    "no predict_proba": lambda E, y: E().fit(X, y).predict_proba,
    "classes in partial_fit": lambda E, y: E().partial_fit(X, y, classes=[0, 1]),
    "divergence from y": lambda E, y: E().fit(X, y * 1e308),
    "early stopping in first partial_fit": lambda E, y: E(early_stopping=True).partial_fit(X, y),
}

# Odd, but accepted: no error, and the same warnings.
ACCEPTED = {
    "one row": lambda E, y: E().fit(X[:1], y[:1]),
    "one feature": lambda E, y: E().fit(X[:, :1], y),
    "X of digits in strings": lambda E, y: E().fit(X.astype(str), y),
    "constant y": lambda E, y: E(early_stopping=True).fit(X, np.ones(N)),
    "y as a column": lambda E, y: E().fit(X, y[:, np.newaxis]),
    "negative weights": lambda E, y: E().fit(X, y, sample_weight=-np.ones(N)),
    "one weight for all rows": lambda E, y: E().fit(X, y, sample_weight=2.0),
    "a batch larger than the data": lambda E, y: E(batch_size=100).fit(X, y),
    "a batch larger than what early stopping leaves": lambda E, y: E(batch_size=29, early_stopping=True).fit(X, y),
    "names at fit only": lambda E, y: E().fit(frame("abcd"), y).predict(X),
    "names at predict only": lambda E, y: E().fit(X, y).predict(frame("abcd")),
    "hidden_layer_sizes changed at warm start": lambda E, y: (
        E(warm_start=True).fit(X, y).set_params(hidden_layer_sizes=(9,)).fit(X, y)
    ),
}

ACCEPTED_CLASSIFIER = {
    "classes in other order": lambda E, y: E().fit(X, y).partial_fit(X, y, classes=[2, 1, 0]),
    "a class twice": lambda E, y: E().partial_fit(X, y, classes=[0, 1, 2, 2]),
    "a single class": lambda E, y: E().fit(X, y * 0),
    "a single class in partial_fit": lambda E, y: E().partial_fit(X, y * 0, classes=[0]),
    "classes after labels": lambda E, y: E().fit(X, INDICATOR).partial_fit(X, y),
    "sparse labels": lambda E, y: E().fit(X, scipy.sparse.csr_array(INDICATOR)),
    "weights by position in partial_fit": lambda E, y: E().partial_fit(X, y, np.ones(N), [0, 1, 2]),
}

ACCEPTED_REGRESSOR = {
    "poisson with y of zeros": lambda E, y: E(loss="poisson").fit(X, y * 0),
    "loss by position": lambda E, y: type(E())("poisson", (3,), max_iter=1, random_state=0).fit(X, abs(y)),
    "numbers as objects in y": lambda E, y: E().fit(X, y.astype(object)),
    "truth values in y": lambda E, y: E().fit(X, y > 0),
    "sparse y": lambda E, y: E().fit(X, scipy.sparse.csr_array(INDICATOR)),
}


def for_each(everyone, classifier, regressor):
    """Parametrize by estimator and case."""
    tables = {"MLPClassifier": everyone | classifier, "MLPRegressor": everyone | regressor}
    return pytest.mark.parametrize(
        "name, case", [pytest.param(name, table[c], id=f"{name}-{c}") for name, table in tables.items() for c in table]
    )


# what is ours alone, as messages list it: tests of their own are in test_own_parameters.py
OWN = {repr(name) for name in {*activations.HIDDEN, *losses.LOSSES, *OWN_PARAMETERS} - {*ACTIVATIONS, *LOSS_FUNCTIONS}}


def outcome(name, library, case):
    """Type and text of the exception; if there is none, of the warnings. NumPy's own warnings are not ours to give.

    A set in the text is sorted, as how one is printed differs from set to set, and in lists of names ours are left out.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            case(lambda **parameters: make(name, library, **parameters), TARGETS[name])
        except Exception as error:
            names = r"(?<=\{).*?(?=\})|(?<=Valid parameters are: \[).*?(?=\])"
            return type(error), re.sub(names, lambda match: str(sorted({*match[0].split(", ")} - OWN)), str(error))
    return [(w.category, str(w.message)) for w in caught if w.category is not RuntimeWarning]


@for_each(BAD_INPUT, BAD_INPUT_CLASSIFIER, BAD_INPUT_REGRESSOR)
def test_bad_input_raises_what_scikit_learn_raises(name, case):
    """The exception's type and text are the same."""
    ours, theirs = outcome(name, fastmlp, case), outcome(name, sklearn.neural_network, case)
    assert isinstance(theirs, tuple), "the case is not bad at all"
    assert ours == theirs


@for_each(ACCEPTED, ACCEPTED_CLASSIFIER, ACCEPTED_REGRESSOR)
def test_odd_input_is_taken_as_scikit_learn_takes_it(name, case):
    """No exception, and the same warnings in the same order."""
    ours, theirs = outcome(name, fastmlp, case), outcome(name, sklearn.neural_network, case)
    assert isinstance(theirs, list), "the case is bad"
    assert ours == theirs


# Wrong for some parameter, right for others.
VALUES = [
    None, "nonsense", "", b"adam", True, -1, -0.5, 0, 0.0, 0.5, 1, 1.0, 1.5, 3, 1e9, 1 + 0j, np.nan, np.inf, -np.inf,
    np.int64(2), np.float32(0.25), [], [2], {}, object, np.random.RandomState, np.random.default_rng(0), len,
]  # fmt: skip
# Those that may be more than scikit-learn's: its words up to what they may be.
WIDER = "activation", "learning_rate"


def cut(result):
    return tuple(str(part).split(" must be ")[0] for part in result) if isinstance(result, tuple) else result


@both_estimators
@pytest.mark.parametrize("parameter", sorted(sklearn.neural_network.MLPRegressor().get_params()))
def test_every_parameter_is_checked_like_scikit_learns(name, parameter):
    """Each of many values, of any type, is accepted or refused with the same words by fit and by partial_fit."""
    if parameter not in make(name).get_params():
        pytest.skip("a parameter of the regressor")
    first = {"classes": [0, 1, 2]} if name == "MLPClassifier" else {}
    calls = {
        "fit": lambda E, y: E().fit(X, y),
        "partial_fit": lambda E, y: E().partial_fit(X, y, **first),
    }
    for method, call in calls.items():
        for value in VALUES:
            if parameter in WIDER and (callable(value) or isinstance(value, list)):
                continue
            given = {parameter: value}
            ours, theirs = (
                outcome(name, library, lambda E, y, call=call, given=given: call(lambda: E(**given), y))
                for library in (fastmlp, sklearn.neural_network)
            )
            if parameter in WIDER:
                ours, theirs = (cut(result) for result in (ours, theirs))
            assert ours == theirs, f"{method} with {parameter}={value!r}"


HIDDEN = [
    0, -1, 2.5, 3.0, 3 + 0j, True, None, "3", "ab", np.float64(3), np.int64(3), (), [], (3, 0), (3, -1), (2.5,), ("a",),
    (3, 2.5), (None,), (True,), [np.inf], np.array([3, 2]), np.array([3.0]), np.array([[3]]), range(1, 3), {3: 1}, {2},
]  # fmt: skip


@both_estimators
@pytest.mark.parametrize("value", HIDDEN, ids=repr)
def test_hidden_layer_sizes_are_checked_like_scikit_learns(name, value):
    """Sizes that are no positive whole numbers are refused with the same words, whatever they come in."""

    def case(E, y):
        E(hidden_layer_sizes=value).fit(X, y)

    assert outcome(name, fastmlp, case) == outcome(name, sklearn.neural_network, case)


# Here fastmlp differs on purpose. name: (estimator, case, our exception, our words, scikit-learn's exception or None)
ON_PURPOSE = {
    # scikit-learn gives what NumPy says when it stumbles over the shapes, or broadcasts y and trains on what comes out
    "more targets in partial_fit": (
        "MLPRegressor",
        lambda E, y: E().fit(X, y).partial_fit(X, np.column_stack([y, y])),
        (ValueError, "Y must have 30 rows of 1 targets, got shape (30, 2)."),
        ValueError,
    ),
    "other number of targets in partial_fit": (
        "MLPRegressor",
        lambda E, y: E().fit(X, np.column_stack([y, y])).partial_fit(X, np.column_stack([y, y, y])),
        (ValueError, "Y must have 30 rows of 2 targets, got shape (30, 3)."),
        ValueError,
    ),
    "one target in partial_fit after two": (
        "MLPRegressor",
        lambda E, y: E().fit(X, np.column_stack([y, y])).partial_fit(X, y),
        (ValueError, "Y must have 30 rows of 2 targets, got shape (30,)."),
        None,
    ),
    # scikit-learn lets NumPy's ufuncs find out that words are no numbers
    "words as targets": (
        "MLPRegressor",
        lambda E, y: E().fit(X, ["a"] * N),
        (ValueError, "could not convert string to float"),
        TypeError,
    ),
    "digits in strings as targets": (
        "MLPRegressor",
        lambda E, y: E().fit(X, y.astype(str)),
        (TypeError, "not supported between instances of"),
        TypeError,
    ),
    # a size that is no number: scikit-learn adds it or draws with it before it notices
    "hidden sizes in a tuple in a tuple": (
        "MLPClassifier",
        lambda E, y: E(hidden_layer_sizes=((3, 2),)).fit(X, y),
        (TypeError, "'tuple' object cannot be interpreted as an integer"),
        TypeError,
    ),
    "NaN as a hidden size": (
        "MLPClassifier",
        lambda E, y: E(hidden_layer_sizes=(np.nan,)).fit(X, y),
        (TypeError, "'float' object cannot be interpreted as an integer"),
        OverflowError,
    ),
}


@pytest.mark.parametrize("case", ON_PURPOSE)
def test_differs_on_purpose(case):
    """Both refuse, ours in its own words; once only ours does, where scikit-learn would train on nonsense."""
    name, call, (exception, words), their_exception = ON_PURPOSE[case]
    ours, theirs = outcome(name, fastmlp, call), outcome(name, sklearn.neural_network, call)
    assert ours[0] is exception and words in ours[1]
    if their_exception is None:
        assert isinstance(theirs, list)
    else:
        assert issubclass(theirs[0], their_exception) and theirs != ours


@both_estimators
def test_predict_before_fit(name):
    with pytest.raises(NotFittedError, match=f"This {name} instance is not fitted yet"):
        make(name).predict(X)


# ---- partial_fit ----


def test_partial_fit_is_there_as_in_scikit_learn():
    """With solver="lbfgs" the classifier has none and the regressor has one; with the others both have it."""
    for name, with_lbfgs in {"MLPClassifier": False, "MLPRegressor": True}.items():
        for library in fastmlp, sklearn.neural_network:
            assert hasattr(make(name, library, solver="lbfgs"), "partial_fit") is with_lbfgs
            assert all(hasattr(make(name, library, solver=solver), "partial_fit") for solver in ("adam", "sgd"))


# ---- sparse X ----

DOCUMENTS = np.where(np.random.RandomState(1).uniform(size=(60, 200)) < 0.1, np.random.RandomState(2).rand(60, 200), 0)
DOCUMENTS[7] = 0  # an empty one
TOPICS = np.arange(60) % 3
OF_DOCUMENTS = {"MLPClassifier": TOPICS, "MLPRegressor": DOCUMENTS[:, 0] - DOCUMENTS[:, 1]}
SPARSE_FORMATS = {
    "csr_array": scipy.sparse.csr_array,
    "csr_matrix": scipy.sparse.csr_matrix,
    "csc_array": scipy.sparse.csc_array,
    "csc_matrix": scipy.sparse.csc_matrix,
    "coo_array": scipy.sparse.coo_array,
    "lil_matrix": scipy.sparse.lil_matrix,
}


def with_64_bit_indices(X):
    X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    return X


SPARSE_FORMATS |= {
    f"{form}, 64 bits": lambda X, form=form: with_64_bit_indices(SPARSE_FORMATS[form](X))
    for form in ("csr_array", "csr_matrix", "csc_array", "csc_matrix")
}


# what is done with a model, X and y, and the parameters of the model
SPARSE_USES = {
    "fit": (lambda m, X, y: m.fit(X, y), {}),
    "sgd": (lambda m, X, y: m.fit(X, y), {"solver": "sgd", "batch_size": 25}),
    "weighted": (lambda m, X, y: m.fit(X, y, np.arange(60.0)), {"batch_size": 20}),
    "partial_fit": (lambda m, X, y: fit_partially(m, X, y), {}),
    "warm start": (lambda m, X, y: m.fit(X, y).fit(X, y), {"warm_start": True}),
    "warm start from dense X": (lambda m, X, y: m.fit(DOCUMENTS, y).fit(X, y), {"warm_start": True}),
    "warm start with dense X": (lambda m, X, y: m.fit(X, y).fit(DOCUMENTS, y), {"warm_start": True}),
    "early stopping": (lambda m, X, y: m.fit(X, y), {"early_stopping": True, "validation_fraction": 0.3}),
    "no hidden layer": (lambda m, X, y: m.fit(X, y), {"hidden_layer_sizes": ()}),
    "lbfgs": (lambda m, X, y: m.fit(X, y), {"solver": "lbfgs"}),
}


def fit_partially(model, X, y):
    first = {"classes": [0, 1, 2]} if is_classifier(model) else {}
    return model.partial_fit(X, y, **first).partial_fit(DOCUMENTS, y).partial_fit(X, y)


@pytest.mark.parametrize("form", SPARSE_FORMATS)
@pytest.mark.parametrize("use", SPARSE_USES)
@both_estimators
def test_sparse_X(name, use, form):
    """Losses, weights, predictions and scores are scikit-learn's; predictions from dense X are the same."""
    train, parameters = SPARSE_USES[use]
    y, sparse = OF_DOCUMENTS[name], SPARSE_FORMATS[form](DOCUMENTS)
    ours, theirs = (make(name, library, **parameters) for library in (fastmlp, sklearn.neural_network))
    for model in ours, theirs:
        train(model, sparse, y)
    np.testing.assert_allclose(ours.loss_, theirs.loss_, rtol=1e-10)
    if use != "lbfgs":
        np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-10)
    for found, expected in zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-10)
    np.testing.assert_allclose(outputs(ours, sparse), outputs(theirs, sparse), atol=1e-10)
    np.testing.assert_allclose(outputs(ours, sparse), outputs(ours, DOCUMENTS), atol=1e-12)
    assert ours.score(sparse, y) == pytest.approx(theirs.score(sparse, y), abs=1e-10)
    if use == "early stopping":
        np.testing.assert_allclose(ours.validation_scores_, theirs.validation_scores_, atol=1e-10)


@pytest.mark.parametrize("form", ["csr_array", "csc_matrix"])
@pytest.mark.parametrize("dtype", [np.float32, np.int64, bool])
@both_estimators
def test_dtypes_of_sparse_X(name, dtype, form):
    """float32 stays, all else becomes float64, as in scikit-learn."""
    y, sparse = OF_DOCUMENTS[name], SPARSE_FORMATS[form]((9 * DOCUMENTS).astype(dtype))
    ours, theirs = (make(name, library).fit(sparse, y) for library in (fastmlp, sklearn.neural_network))
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-4 if dtype is np.float32 else 1e-10)
    assert [W.dtype for W in ours.coefs_] == [W.dtype for W in theirs.coefs_]
    assert outputs(ours, sparse).dtype == outputs(theirs, sparse).dtype


def test_sparse_X_with_sparse_labels():
    """Multilabel targets, both sparse: predictions are sparse too."""
    sparse, y = scipy.sparse.csr_array(DOCUMENTS), scipy.sparse.csr_array(np.eye(3, dtype=int)[TOPICS])
    predicted = [make("MLPClassifier", lib).fit(sparse, y).predict(sparse) for lib in (fastmlp, sklearn.neural_network)]
    assert scipy.sparse.issparse(predicted[0])
    np.testing.assert_array_equal(*(labels.toarray() for labels in predicted))


def broken(X):
    X = scipy.sparse.csr_array(X)
    X.indices[5] = X.shape[1]
    return X


@both_estimators
def test_broken_sparse_X(name):
    """An index that names no column is a ValueError."""
    fitted = make(name).fit(DOCUMENTS, OF_DOCUMENTS[name])
    for use in make(name).fit, fitted.partial_fit, lambda X, y: fitted.predict(X):
        with pytest.raises(ValueError, match="not a valid sparse matrix"):
            use(broken(DOCUMENTS), OF_DOCUMENTS[name])


# ---- nothing lost ----


def trouble_in_epoch(number, monkeypatch, exception=Trouble, before=False):
    """Let MLP.train_epoch fail in the epoch of this number, counted from 1, when its steps are done, or before them."""
    original, calls = fastmlp.MLP.train_epoch, []

    def train_epoch(*args, **kwargs):
        calls.append(0)
        if len(calls) == number and before:
            raise exception
        loss = original(*args, **kwargs)
        if len(calls) == number:
            raise exception
        return loss

    monkeypatch.setattr(fastmlp.MLP, "train_epoch", train_epoch)


def fail_in_first_epoch(train, y, monkeypatch):
    trouble_in_epoch(1, monkeypatch)
    train(X, y)


def fail_in_second_epoch(train, y, monkeypatch):
    trouble_in_epoch(2, monkeypatch)
    train(X, y)


def fail_by_memory(train, y, monkeypatch):
    trouble_in_epoch(1, monkeypatch, MemoryError, before=True)
    train(X, y)


# name: (exception, its words, how it comes)
FAILURES = {
    "NaN": (ValueError, "NaN", lambda train, y, monkeypatch: train(put(X, np.nan), y)),
    "lengths": (ValueError, "inconsistent", lambda train, y, monkeypatch: train(X, y[:-1])),
    "sparse": (ValueError, "not a valid sparse", lambda train, y, monkeypatch: train(broken(X), y)),
    "weights": (ValueError, "sample_weight.shape", lambda train, y, monkeypatch: train(X, y, [1.0])),
    "divergence": (ValueError, "non-finite", lambda train, y, monkeypatch: train(HUGE, y)),
    "zero division": (ZeroDivisionError, "zero", lambda train, y, monkeypatch: train(X, y, NO_SUM)),
    "in the first epoch": (Trouble, "", fail_in_first_epoch),
    "in the second epoch": (Trouble, "", fail_in_second_epoch),
    "memory": (MemoryError, "", fail_by_memory),
}
NO_FAILURES = {  # (estimator, method, failure): "*" is any
    ("*", "partial_fit", "in the second epoch"): "it has a single epoch",
    ("MLPRegressor", "early fit", "divergence"): "it ends with the weights it began with: no score was a number",
}


def skip_if_no_failure(name, method, failure):
    for who in name, "*":
        if (who, method, failure) in NO_FAILURES:
            pytest.skip(NO_FAILURES[who, method, failure])


def fail(failure, train, y, monkeypatch):
    """The failing call, after which everything works again."""
    exception, words, call = FAILURES[failure]
    with monkeypatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(exception, match=words):
            call(train, y, patch)


def trained(name, **parameters):
    """A model with a past: a fit and two calls of partial_fit."""
    model, y = make(name, **(IN_ORDER | parameters)), TARGETS[name]
    model.fit(X, y)
    return model if model.early_stopping else model.partial_fit(X, y).partial_fit(X, y)


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("method", ["fit", "partial_fit", "warm fit", "early fit"])
@both_solvers
@both_estimators
def test_failing_call_changes_nothing(name, solver, method, failure, monkeypatch):
    """Predictions, attributes and what training goes on with are, bit for bit, as if the call had not been."""
    skip_if_no_failure(name, method, failure)
    y, extra = TARGETS[name], {"warm fit": {"warm_start": True}, "early fit": {"early_stopping": True}}.get(method, {})
    model, twin = (trained(name, **SOLVERS[solver], **extra) for _ in range(2))
    assert state(model) == state(twin)
    fail(failure, model.partial_fit if method == "partial_fit" else model.fit, y, monkeypatch)
    assert bits(model) == bits(twin)
    assert state(model) == state(twin)
    if not extra.get("early_stopping"):
        assert state(model.partial_fit(X, y)) == state(twin.partial_fit(X, y))
        assert bits(model) == bits(twin)
    assert state(model.fit(X, y)) == state(twin.fit(X, y))
    assert bits(model) == bits(twin)


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@both_solvers
@both_estimators
def test_failing_first_call_leaves_an_unfitted_estimator(name, solver, method, failure, monkeypatch):
    """It has its parameters and nothing more; training then goes as if the call had not been."""
    skip_if_no_failure(name, method, failure)
    parameters, y = IN_ORDER | SOLVERS[solver], TARGETS[name]
    model, twin = make(name, **parameters), make(name, **parameters)
    first = {"classes": [0, 1, 2]} if (name, method) == ("MLPClassifier", "partial_fit") else {}

    def train(*args):
        getattr(model, method)(*args, **first)

    fail(failure, train, y, monkeypatch)
    assert vars(model).keys() == vars(twin).keys()
    with pytest.raises(NotFittedError):
        model.predict(X)
    assert state(getattr(model, method)(X, y, **first)) == state(getattr(twin, method)(X, y, **first))
    assert bits(model) == bits(twin)


def test_failing_first_partial_fit_does_not_fix_the_classes():
    """After it the classes can be put right."""
    model = make("MLPClassifier")
    with pytest.raises(ValueError, match="classes not in"):
        model.partial_fit(X, LABELS, classes=[0, 1])
    model.partial_fit(X, LABELS, classes=[0, 1, 2])
    assert model.classes_.tolist() == [0, 1, 2]


@both_estimators
def test_failing_score_changes_nothing(name, monkeypatch):
    """Trouble between two epochs, where early stopping scores, is no different."""
    model, twin = (trained(name, early_stopping=True, warm_start=True) for _ in range(2))
    with monkeypatch.context() as patch:
        patch.setattr(type(model), "_score", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model.fit(X, TARGETS[name])
    assert state(model) == state(twin)
    assert state(model.fit(X, TARGETS[name])) == state(twin.fit(X, TARGETS[name]))


@both_estimators
def test_divergence_leaves_no_trace(name):
    """Where early stopping ends a training of infinities and NaN with finite weights, the next one is as the first."""
    y, parameters = TARGETS[name], {"early_stopping": True, "warm_start": True, "batch_size": 10, "max_iter": 5}
    model, twin = (make(name, **parameters).fit(X, y) for _ in range(2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name == "MLPClassifier":
            with pytest.raises(ValueError, match="non-finite"):
                model.set_params(warm_start=False).fit(HUGE, y)
        else:
            model.fit(HUGE, y)
    model, twin = (m.set_params(warm_start=False).fit(X, y) for m in (model, twin))
    assert state(model) == state(twin) and bits(model) == bits(twin)


@pytest.mark.parametrize("what", ["labels", "classes argument", "parameter"])
def test_refused_call_changes_nothing(what):
    """Nor does a call that is refused for its labels, its classes or a parameter."""
    model, twin = trained("MLPClassifier"), trained("MLPClassifier")
    with pytest.raises(ValueError):
        if what == "labels":
            model.partial_fit(X, LABELS + 1)
        elif what == "classes argument":
            model.partial_fit(X, LABELS, classes=[1, 2])
        else:
            model.set_params(momentum=2).fit(X, LABELS)
    model.set_params(momentum=0.9)
    assert state(model) == state(twin)
    assert state(model.partial_fit(X, LABELS)) == state(twin.partial_fit(X, LABELS))


# ---- Ctrl-C ----


def interrupted(name, library, epoch, monkeypatch, train, **parameters):
    """What a model shows after a KeyboardInterrupt at the start of this epoch, and the model."""
    model = make(name, library, **parameters)
    with monkeypatch.context() as patch, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if library is fastmlp:
            trouble_in_epoch(epoch, patch, KeyboardInterrupt, before=True)
        else:  # all rows are one batch
            original, calls = BaseMultilayerPerceptron._backprop, []

            def backprop(*args):
                calls.append(0)
                if len(calls) == epoch:
                    raise KeyboardInterrupt
                return original(*args)

            patch.setattr(BaseMultilayerPerceptron, "_backprop", backprop)
        train(model)
    names = ["n_iter_", "t_", "loss_", "loss_curve_", "best_loss_", "validation_scores_", "best_validation_score_"]
    seen = {name: getattr(model, name) for name in names if hasattr(model, name)}
    return seen | {"warnings": [(w.category, str(w.message)) for w in caught]}, model


INTERRUPTED = {
    "in the first epoch": (1, {}),
    "in the fourth epoch": (4, {}),
    "with early stopping": (7, {"early_stopping": True, "learning_rate_init": 0.3}),
    "with sgd": (4, {"solver": "sgd"}),
}


@pytest.mark.parametrize("case", INTERRUPTED)
@both_estimators
def test_interrupt_keeps_the_weights_of_that_moment(name, case, monkeypatch):
    """One warning; attributes and predictions are scikit-learn's, with early stopping those of the best epoch; what is
    called later goes on from there."""
    epoch, parameters = INTERRUPTED[case]
    parameters = {"max_iter": 20, "warm_start": True} | parameters
    y = TARGETS[name]
    (ours, our_model), (theirs, their_model) = (
        interrupted(name, library, epoch, monkeypatch, lambda model: model.fit(X, y), **parameters)
        for library in (fastmlp, sklearn.neural_network)
    )
    assert ours["warnings"] == theirs["warnings"] == [(UserWarning, "Training interrupted by user.")]
    assert ours.keys() == theirs.keys()
    for key in theirs.keys() - {"warnings"}:
        assert ours[key] == pytest.approx(theirs[key]), key
    np.testing.assert_allclose(our_model.predict(X), their_model.predict(X), atol=1e-6)
    if not our_model.early_stopping:
        for model in our_model, their_model:
            model.set_params(max_iter=2).fit(X, y).partial_fit(X, y)
        np.testing.assert_allclose(our_model.predict(X), their_model.predict(X), atol=1e-6)
    parameters = our_model.set_params(warm_start=False).get_params()
    assert state(our_model.fit(X, y)) == state(make(name, **parameters).fit(X, y))


@both_estimators
def test_interrupt_in_the_middle_of_an_epoch(name, monkeypatch):
    """The steps that were taken are kept, though the epoch does not count."""
    model, longer = make(name, max_iter=20), make(name, max_iter=4).fit(X, TARGETS[name])
    with monkeypatch.context() as patch:
        trouble_in_epoch(4, patch, KeyboardInterrupt)
        with pytest.warns(UserWarning, match="Training interrupted by user."):
            model.fit(X, TARGETS[name])
    assert model.n_iter_ == 3 and len(model.loss_curve_) == 3
    assert bits(model) == bits(longer)


@both_estimators
def test_interrupt_in_partial_fit(name, monkeypatch):
    """As in scikit-learn: a warning, no epoch counted."""
    first = {"classes": [0, 1, 2]} if name == "MLPClassifier" else {}
    (ours, model), (theirs, _) = (
        interrupted(name, library, 1, monkeypatch, lambda model: model.partial_fit(X, TARGETS[name], **first))
        for library in (fastmlp, sklearn.neural_network)
    )
    assert ours == theirs
    model.partial_fit(X, TARGETS[name])
    assert model.n_iter_ == 1


# ---- coefs_ and intercepts_ are the model ----


def change_in_place(model):
    model.coefs_[0] *= 0.5
    model.coefs_[1][0] = 0.25
    model.intercepts_[1] += 0.125


def replace_one(model):
    model.coefs_[0] = model.coefs_[0][::-1]
    model.intercepts_[0] = np.zeros(5)


def replace_lists(model):
    model.coefs_ = [np.asfortranarray(W * 0.75) for W in model.coefs_]
    model.intercepts_ = [b + 0.125 for b in model.intercepts_]


def widen(model):
    """Two of each hidden unit, each with half of its weight: the same function."""
    model.coefs_ = [np.hstack([model.coefs_[0]] * 2), np.vstack([model.coefs_[1]] * 2) / 2]
    model.intercepts_ = [np.tile(model.intercepts_[0], 2), model.intercepts_[1]]


CHANGES = [change_in_place, replace_one, replace_lists]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@both_solvers
@both_estimators
def test_changed_weights_are_the_model(name, solver, change):
    """Weights changed in place or replaced count at once in predict and in later training, as in scikit-learn."""
    models = [
        make(name, library, **SOLVERS[solver]).fit(X, TARGETS[name]) for library in (fastmlp, sklearn.neural_network)
    ]
    before = outputs(models[0])
    for model in models:
        change(model)
    ours, theirs = map(outputs, models)
    np.testing.assert_allclose(ours, theirs, atol=1e-10)
    assert np.abs(ours - before).max() > 1e-3
    for _ in range(2):
        for model in models:
            model.partial_fit(X, TARGETS[name])
            model.intercepts_[0][1] = 0.5
        ours, theirs = map(outputs, models)
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    for model in models:
        change(model)
        model.set_params(warm_start=True).fit(X, TARGETS[name])
    np.testing.assert_allclose(outputs(models[0]), outputs(models[1]), atol=1e-6)


@both_estimators
def test_a_wider_hidden_layer_can_be_put_in(name):
    """predict takes the sizes from coefs_."""
    model = make(name).fit(X, TARGETS[name])
    before = outputs(model)
    widen(model)
    np.testing.assert_allclose(outputs(model), before, atol=1e-12)
    model.set_params(warm_start=True).fit(X, TARGETS[name])
    assert model.coefs_[0].shape == (4, 10)


@both_solvers
def test_partial_fit_with_weights_that_the_optimizer_does_not_know(solver):
    """Where its moments have other shapes, scikit-learn raises ValueError; nothing may be read or written outside."""
    code = f"""
import numpy as np, sklearn.neural_network, fastmlp
X = np.random.RandomState(0).normal(size=(30, 4))
for library in sklearn.neural_network, fastmlp:
    model = library.MLPRegressor(hidden_layer_sizes=(5,), max_iter=2, random_state=0, **{SOLVERS[solver]})
    model.fit(X, X[:, 0])
    model.coefs_ = [np.hstack([model.coefs_[0]] * 40), np.vstack([model.coefs_[1]] * 40) / 40]
    model.intercepts_ = [np.tile(model.intercepts_[0], 40), model.intercepts_[1]]
    try:
        model.partial_fit(X, X[:, 0])
    except ValueError:
        print("ValueError")
    else:
        print("nothing")
"""
    assert run_python("-W", "ignore", "-c", code).split() == ["ValueError", "ValueError"]


@both_solvers
@both_estimators
def test_weights_of_another_type(name, solver):
    """float32 weights put into a float64 model predict, and partial_fit trains them, as in scikit-learn."""
    models = [
        make(name, library, **SOLVERS[solver]).fit(X, TARGETS[name]) for library in (fastmlp, sklearn.neural_network)
    ]
    for model in models:
        model.coefs_ = [W.astype(np.float32) for W in model.coefs_]
        model.intercepts_ = [b.astype(np.float32) for b in model.intercepts_]
    np.testing.assert_allclose(*map(outputs, models), atol=1e-5)
    for model in models:
        model.partial_fit(X, TARGETS[name])
    np.testing.assert_allclose(*map(outputs, models), atol=1e-5)


@both_estimators
def test_whole_numbers_as_weights(name):
    """Weights set to integers predict as in scikit-learn."""
    models = [make(name, library).fit(X, TARGETS[name]) for library in (fastmlp, sklearn.neural_network)]
    for model in models:
        model.coefs_[0] = np.ones(model.coefs_[0].shape, int)
    np.testing.assert_allclose(*map(outputs, models), atol=1e-10)


def set_by_hand(name, library):
    """A model that was never fitted: its attributes are set from outside, as scikit-learn's test_fit does."""
    model = make(name, library, solver="sgd", learning_rate_init=0.1, alpha=0.1, activation="logistic", momentum=0)
    model.coefs_ = [np.array([[0.1, 0.2], [0.3, 0.1], [0.5, 0], [0.2, -0.3]]), np.array([[0.1], [0.2]])]
    model.intercepts_ = [np.array([0.1, 0.1]), np.array([1.0])]
    model.n_outputs_, model.n_layers_, model.n_features_in_ = 1, 3, 4
    model.out_activation_ = "logistic" if name == "MLPClassifier" else "identity"
    model.n_iter_ = model.t_ = model._no_improvement_count = 0
    model.best_loss_, model.loss_curve_ = np.inf, []
    return model


@both_estimators
def test_attributes_set_by_hand(name):
    """partial_fit trains the weights that were set, with scikit-learn's result."""
    models = [set_by_hand(name, library) for library in (fastmlp, sklearn.neural_network)]
    y, first = (LABELS > 0, {"classes": [False, True]}) if name == "MLPClassifier" else (TARGETS[name], {})
    for model in models:
        model.partial_fit(X, y, **first).partial_fit(X, y)
    ours, theirs = models
    assert (ours.t_, ours.n_iter_) == (theirs.t_, theirs.n_iter_) == (2 * N, 1)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-10)
    for one, other in zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


@pytest.mark.parametrize("parameters", [{"activation": "tanh"}, {"alpha": 1.0}, {"hidden_layer_sizes": (9,)}], ids=str)
def test_parameters_changed_after_fit(parameters):
    """set_params counts where it counts in scikit-learn: predict and partial_fit agree."""
    y = TARGETS["MLPRegressor"]
    models = [make("MLPRegressor", library).fit(X, y) for library in (fastmlp, sklearn.neural_network)]
    for model in models:
        model.set_params(**parameters)
    np.testing.assert_allclose(*map(outputs, models), atol=1e-10)
    for model in models:
        model.partial_fit(X, y)
    np.testing.assert_allclose(*map(outputs, models), atol=1e-8)


# ---- scikit-learn's own tests ----


def test_scikit_learns_own_tests(tmp_path):
    """Its test_mlp.py, as installed, passes with one import changed."""
    source = Path(sklearn.neural_network.__file__).with_name("tests") / "test_mlp.py"
    text, changes = re.subn(
        r"^from sklearn\.neural_network import MLPClassifier, MLPRegressor$",
        "from fastmlp import MLPClassifier, MLPRegressor",
        source.read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    assert changes == 1
    (tmp_path / "test_mlp.py").write_text(text, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "sklearn.conftest", "--junitxml=report.xml"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    cases = list(ElementTree.parse(tmp_path / "report.xml").iter("testcase"))
    skipped = [case.get("name") for case in cases if case.find("skipped") is not None]
    assert len(cases) > 50 and not skipped, done.stdout[-5000:]


@parametrize_with_checks(
    [
        estimator(max_iter=100, **parameters)
        for estimator in (fastmlp.MLPClassifier, fastmlp.MLPRegressor)
        for parameters in ({}, {"solver": "lbfgs"}, {"solver": "sgd"})
    ]
)
def test_scikit_learns_checks_of_estimators(estimator, check):
    """All checks of check_estimator for each solver, with the settings of scikit-learn's own test of its estimators."""
    if "check_sample_weight_equivalence_on_dense_data" in str(check):
        estimator = clone(estimator).set_params(solver="sgd", tol=1e-2, random_state=42)
    with warnings.catch_warnings():
        for category in FutureWarning, ConvergenceWarning, UserWarning:
            warnings.simplefilter("ignore", category)
        check(estimator)


# ---- what it prints ----

VERBOSE = {
    "adam": {},
    "a tolerance that stops": {"tol": 0.5, "n_iter_no_change": 3},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling"},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.5, "n_iter_no_change": 1},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 3},
    "early stopping, adaptive": {
        "early_stopping": True, "solver": "sgd", "learning_rate": "adaptive", "tol": 5.0, "n_iter_no_change": 1,
    },
    "a number": {"verbose": 10},
    "silent": {"verbose": False},
}  # fmt: skip


@pytest.mark.parametrize("case", VERBOSE)
@both_estimators
def test_prints_what_scikit_learn_prints(name, case, capsys):
    """Line by line, for fit, for a warm start and for partial_fit."""
    printed = []
    for library in fastmlp, sklearn.neural_network:
        parameters = {"verbose": True, "max_iter": 40, "warm_start": True} | VERBOSE[case]
        model = make(name, library, **parameters).fit(X, TARGETS[name])
        model.set_params(max_iter=2).fit(X, TARGETS[name])
        if not model.early_stopping:
            model.partial_fit(X, TARGETS[name])
        printed.append(capsys.readouterr().out.splitlines())
    assert printed[0] == printed[1]
    text = "\n".join(printed[1])
    words = {
        "a tolerance that stops": "did not improve more than tol=0.500000 for 3 consecutive epochs. Stopping.",
        "adaptive": "Learning rate too small. Stopping.",
        "early stopping, adaptive": "Validation score did not improve more than tol=5.000000 for 1 consecutive epochs.",
        "early stopping": "Validation score: ",
    }
    assert (text == "") == (case == "silent") and words.get(case, "") in text
    assert ("Setting learning rate to 0.000200" in text) == ("adaptive" in case)


# ---- what X may come in ----


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def mapped(array, folder):
    path = folder / f"{id(array)}.npy"
    np.save(path, array)
    return np.load(path, mmap_mode="r")


def misaligned(array):
    raw = np.empty(array.nbytes + 1, np.uint8)
    moved = raw[1:].view(array.dtype).reshape(array.shape)
    moved[...] = array
    return moved


FORMS = {
    "Fortran order": lambda a, folder: np.asfortranarray(a),
    "read-only": lambda a, folder: read_only(a),
    "mapped file": mapped,
    "every other row": lambda a, folder: np.repeat(a, 2, axis=0)[::2],
    "rows and columns reversed": lambda a, folder: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
    "columns of a wider matrix": lambda a, folder: np.hstack([a, a])[:, : a.shape[1]],
    "misaligned": lambda a, folder: misaligned(a),
    "field of a record": lambda a, folder: np.array([(1, row) for row in a], [("k", "i1"), ("x", a.dtype, 4)])["x"],
    "other byte order": lambda a, folder: a.astype(a.dtype.newbyteorder()),
    "subclass": lambda a, folder: a.view(np.recarray),
    "frame": lambda a, folder: pytest.importorskip("pandas").DataFrame(a, columns=list("abcd")),
    "list": lambda a, folder: a.tolist(),
    "objects": lambda a, folder: a.astype(object),
}
FLOAT64_ONLY = {"list", "objects", "other byte order"}  # float32 becomes float64 here


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("form", FORMS)
@both_estimators
def test_the_form_of_X_does_not_matter(name, form, dtype, tmp_path):
    """Training and predictions are, bit for bit, those of a plain matrix; X stays as it was."""
    if dtype is np.float32 and form in FLOAT64_ONLY:
        pytest.skip("becomes float64")
    plain = X.astype(dtype)
    given = FORMS[form](plain, tmp_path)
    before = np.array(given, copy=True).tobytes()
    model, expected = make(name).fit(given, TARGETS[name]), make(name).fit(plain, TARGETS[name])
    assert [W.dtype for W in model.coefs_ + model.intercepts_] == [dtype] * 4
    assert bits(model, given) == bits(expected, plain)
    assert np.array(given, copy=True).tobytes() == before


@both_estimators
def test_names_of_features(name):
    """A frame's column names are kept, if they are all strings; y may be a Series."""
    pandas = pytest.importorskip("pandas")
    model = make(name).fit(frame("abcd"), pandas.Series(TARGETS[name], index=NUMBER[::-1]))
    assert model.feature_names_in_.tolist() == list("abcd")
    model.partial_fit(frame("abcd"), TARGETS[name])
    expected = make(name).fit(X, TARGETS[name]).partial_fit(X, TARGETS[name])
    assert bits(model, frame("abcd")) == bits(expected)
    assert not hasattr(make(name).fit(frame(range(4)), TARGETS[name]), "feature_names_in_")
    model.fit(X, TARGETS[name])
    assert not hasattr(model, "feature_names_in_")


@both_estimators
def test_column_vector_y(name):
    """scikit-learn's DataConversionWarning, then the same training as with a flat y."""
    with pytest.warns(DataConversionWarning, match="A column-vector y was passed when a 1d array was expec") as caught:
        model = make(name).fit(X, TARGETS[name][:, np.newaxis])
    assert len([w for w in caught if w.category is DataConversionWarning]) == 1
    assert bits(model) == bits(make(name).fit(X, TARGETS[name]))


@pytest.mark.parametrize("y_dtype", ["float32", "float64", "int8", "uint16", "bool", "str"])
@both_estimators
def test_the_type_of_y_does_not_matter(name, y_dtype):
    """Equal labels of another type give the same training; targets the same up to their own rounding."""
    if name == "MLPRegressor" and y_dtype == "str":
        pytest.skip("no numbers")
    y = LABELS > 0 if y_dtype == "bool" else LABELS
    plain = make(name).fit(X, y.astype(int))
    model = make(name).fit(X, y.astype(y_dtype))
    assert frozen(model.coefs_) == frozen(plain.coefs_)
    assert model.predict(X).dtype == make(name, sklearn.neural_network).fit(X, y.astype(y_dtype)).predict(X).dtype


@pytest.mark.parametrize("first, second", [(np.float32, np.float64), (np.float64, np.float32)])
@both_estimators
def test_float32_and_float64_meet(name, first, second):
    """A model of one predicts and trains on the other; dtypes and, up to float32, numbers are scikit-learn's."""
    models = [make(name, library).fit(X.astype(first), TARGETS[name]) for library in (fastmlp, sklearn.neural_network)]
    for model in models:
        model.partial_fit(X.astype(second), TARGETS[name])
    assert [W.dtype for W in models[0].coefs_] == [W.dtype for W in models[1].coefs_]
    for dtype in first, second:
        ours, theirs = (outputs(model, X.astype(dtype)) for model in models)
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


# ---- copies ----


def by_joblib(model, folder, **how):
    joblib.dump(model, folder / "model.joblib")
    return joblib.load(folder / "model.joblib", **how)


def by_cloudpickle(model, folder):
    return pickle.loads(pytest.importorskip("cloudpickle").dumps(model))


COPIES = {
    "pickle": lambda model, folder: pickle.loads(pickle.dumps(model)),
    "pickle, protocol 2": lambda model, folder: pickle.loads(pickle.dumps(model, 2)),
    "joblib": by_joblib,
    "joblib, compressed": lambda model, folder: joblib.load(*joblib.dump(model, folder / "model.joblib", 3)),
    "cloudpickle": by_cloudpickle,
    "deepcopy": lambda model, folder: copy.deepcopy(model),
    "copy of a copy": lambda model, folder: copy.deepcopy(pickle.loads(pickle.dumps(model))),
}


@pytest.mark.parametrize("how", COPIES)
@both_solvers
@both_estimators
def test_a_copy_is_the_model(name, solver, how, tmp_path):
    """It predicts the same bits and goes on training with the same bits, and neither disturbs the other."""
    y, model = TARGETS[name], trained(name, **SOLVERS[solver])
    twin = COPIES[how](model, tmp_path)
    assert state(twin) == state(model) and bits(twin) == bits(model)
    before = bits(model)
    for _ in range(2):
        twin.partial_fit(X, y)
    assert bits(model) == before != bits(twin)
    for _ in range(2):
        model.partial_fit(X, y)
    assert bits(model) == bits(twin) and state(model) == state(twin)
    for one in model, twin:
        one.set_params(warm_start=True).fit(X, y)
    assert state(model) == state(twin)


KINDS = [("MLPClassifier", "activation", f) for f in activations.HIDDEN]
KINDS += [("MLPRegressor", "loss", loss) for loss in REGRESSOR_LOSSES]
KINDS += [(name, key, value) for name in TARGETS for key, value in OTHERS.items() if hasattr(make(name), key)]


@pytest.mark.parametrize("name, parameter, value", KINDS)
def test_copies_and_clones_of_each_kind(name, parameter, value, tmp_path):
    """Each activation, each loss, and each parameter that scikit-learn does not have, at another value."""
    y, parameters = abs(TARGETS[name]), {parameter: value, **IN_ORDER}
    model = make(name, **parameters).fit(X, y).partial_fit(X, y)
    twins = [make_copy(model, tmp_path) for make_copy in COPIES.values()]
    again = clone(model).fit(X, y).partial_fit(X, y)
    assert state(again) == state(model) and bits(again) == bits(model)
    model.partial_fit(X, y)
    for twin in twins:
        assert bits(twin) == bits(again)
        assert state(twin.partial_fit(X, y)) == state(model) and bits(twin) == bits(model)


@both_solvers
@both_estimators
def test_a_copy_in_a_mapped_file(name, solver, tmp_path):
    """Loaded with mmap_mode="r" a model predicts the same bits, can be fitted and can go on."""
    model = trained(name, warm_start=True, **SOLVERS[solver])
    twin = by_joblib(model, tmp_path, mmap_mode="r")
    assert isinstance(twin.coefs_[0], np.memmap) and not twin.coefs_[0].flags.writeable
    assert bits(twin) == bits(model)
    assert state(twin.partial_fit(X, TARGETS[name])) == state(model.partial_fit(X, TARGETS[name]))
    twin = by_joblib(model, tmp_path, mmap_mode="r")
    assert state(twin.fit(X, TARGETS[name])) == state(model.fit(X, TARGETS[name]))


@both_estimators
def test_a_copy_after_early_stopping(name, tmp_path):
    """The best weights go along."""
    model = trained(name, early_stopping=True, max_iter=20)
    for how in COPIES:
        twin = COPIES[how](model, tmp_path)
        assert state(twin) == state(model) and bits(twin) == bits(model)


@both_estimators
def test_clone_is_unfitted(name):
    """It has the parameters alone, and fits to the same bits."""
    model = make(name, alpha=0.5).fit(X, TARGETS[name])
    twin = clone(model)
    assert twin.get_params() == model.get_params() and vars(twin).keys() == vars(make(name)).keys()
    assert state(twin.fit(X, TARGETS[name])) == state(model)


@pytest.mark.parametrize(
    "parameters, copies", [({}, 3), ({"solver": "sgd"}, 2), ({"early_stopping": True}, 3)], ids=["adam", "sgd", "early"]
)
@both_estimators
def test_a_pickle_has_no_network(name, parameters, copies):
    """Its size is that of coefs_, the best of them, and the moments (Adam's two, momentum's one)."""
    model = make(name, hidden_layer_sizes=(200, 200), max_iter=1, **parameters).fit(X, TARGETS[name])
    model.predict(X)
    content = pickle.dumps(model)
    assert b"fastmlp.network" not in content
    size = sum(array.nbytes for array in model.coefs_ + model.intercepts_)
    assert (copies - 0.1) * size < len(content) < copies * size + 20_000
    assert len(pickle.dumps(pickle.loads(content))) == pytest.approx(len(content), abs=200)


# ---- scikit-learn's tools ----


@both_estimators
def test_grid_search_in_a_pipeline(name):
    """A search over a pipeline picks what it picks with scikit-learn's estimator."""
    searches = []
    for library in fastmlp, sklearn.neural_network:
        pipeline = make_pipeline(StandardScaler(), make(name, library, max_iter=10))
        grid = {f"{name.lower()}__alpha": [1e-4, 10.0], f"{name.lower()}__learning_rate_init": [1e-4, 0.1]}
        searches.append(GridSearchCV(pipeline, grid, cv=3).fit(X, TARGETS[name]))
    ours, theirs = searches
    np.testing.assert_allclose(ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"], atol=1e-8)
    assert ours.best_params_ == theirs.best_params_
    assert state(ours.best_estimator_[-1]) == state(clone(ours.best_estimator_).fit(X, TARGETS[name])[-1])


def test_cross_validation_in_other_processes():
    """cross_val_score gives the same scores with one process and with two."""
    model, y = make("MLPRegressor"), TARGETS["MLPRegressor"]
    alone, together = (cross_val_score(model, X, y, cv=4, n_jobs=n_jobs) for n_jobs in (1, 2))
    assert alone.tobytes() == together.tobytes()


# ---- what does not matter ----


@both_estimators
def test_predict_changes_nothing(name):
    """Every attribute is the same object with the same content afterwards; a copy has but its network in addition."""
    for model in trained(name), pickle.loads(pickle.dumps(trained(name))):
        before, content = dict(vars(model)), state(model)
        model.predict(X), model.score(X, TARGETS[name]), outputs(model)
        assert vars(model).keys() == before.keys() | {"_network"}
        assert all(vars(model)[key] is value for key, value in before.items())
        assert state(model) == content


MANY = np.random.RandomState(1).normal(size=(700, 4))
NETWORKS = {
    "small": (X, {}),
    "small, float32": (X.astype(np.float32), {"activation": "tanh"}),
    "large": (MANY, {"hidden_layer_sizes": (150, 37), "activation": "logistic"}),
    "large, float32": (MANY.astype(np.float32), {"hidden_layer_sizes": (150, 37)}),
    "few rows from the matrices": (MANY, {"hidden_layer_sizes": (300, 350), "activation": "tanh"}),
    "few rows from the matrices, float32": (MANY.astype(np.float32), {"hidden_layer_sizes": (350, 300, 3)}),
}


@pytest.mark.parametrize("network", NETWORKS)
@both_estimators
def test_a_prediction_depends_on_its_row_alone(name, network):
    """Row by row, in pieces, reversed and all at once: the same bits."""
    rows, parameters = NETWORKS[network]
    y = np.arange(len(rows)) % 3 if name == "MLPClassifier" else rows[:, 0]
    predict = make(name, max_iter=2, **parameters).fit(rows, y)
    predict = predict.predict_proba if name == "MLPClassifier" else predict.predict
    together = predict(rows).tobytes()
    for size in 1, 7, 128, 129:
        parts = [predict(rows[i : i + size]) for i in range(0, len(rows), size)]
        assert np.concatenate(parts).tobytes() == together, size
    assert predict(rows[::-1])[::-1].tobytes() == together


@pytest.mark.parametrize("change", [None, *CHANGES], ids=lambda change: getattr(change, "__name__", "none"))
@both_estimators
def test_one_row_of_a_large_network(name, change):
    """The weights as they are now: changed in place, replaced, in another order of memory, unpickled; same bits."""
    parameters = {"hidden_layer_sizes": (300, 350), "max_iter": 2}
    y = np.arange(len(MANY)) % 3 if name == "MLPClassifier" else MANY[:, 0]
    model, theirs = (make(name, library, **parameters).fit(MANY, y) for library in (fastmlp, sklearn.neural_network))
    for one in model, pickle.loads(pickle.dumps(model)), theirs:
        outputs(one, MANY[:1])
        if change is replace_one:  # here for 300 units
            one.coefs_[0], one.intercepts_[0] = one.coefs_[0][::-1], np.zeros(300)
        elif change is not None:
            change(one)
        if one is not theirs:
            ours = outputs(one, MANY[:1])
            np.testing.assert_array_equal(ours, outputs(one, MANY[:9])[:1])
    np.testing.assert_allclose(ours, outputs(theirs, MANY[:1]), atol=1e-9)


@both_solvers
@both_estimators
def test_fit_forgets(name, solver):
    """A refit gives the same bits, whatever was fitted in between: other shapes, types, batches, partial fits."""
    y, model = TARGETS[name], make(name, **SOLVERS[solver])
    first = state(model.fit(X, y))
    assert state(model.fit(X, y)) == first
    model.partial_fit(X, y).fit(X[:12, :2], y[:12])
    model.set_params(hidden_layer_sizes=(40, 30, 20), activation="tanh", early_stopping=True)
    model.fit(np.hstack([X] * 5).astype(np.float32), (y > 0).astype(int) if name == "MLPClassifier" else y)
    model.set_params(early_stopping=False, batch_size=1).fit(X, INDICATOR)
    model.set_params(**(make(name, **SOLVERS[solver]).get_params()))
    assert state(model.fit(X, y)) == first
    assert state(make(name, **SOLVERS[solver]).fit(X, y)) == first


@both_estimators
def test_predict_in_several_threads(name):
    """One model predicts in many threads at once: the same bits."""
    rows, parameters = NETWORKS["large"]
    model = make(name, max_iter=1, **parameters).fit(rows, NUMBER[np.arange(len(rows)) % N] % 3)
    expected = bits(model, rows)
    with ThreadPoolExecutor(4) as pool:
        assert all(found == expected for found in pool.map(lambda _: bits(model, rows), range(40)))


def test_random_state_object_is_advanced_as_in_scikit_learn():
    """A RandomState given by the user is left where scikit-learn leaves it."""
    left = []
    for library in fastmlp, sklearn.neural_network:
        random_state = np.random.RandomState(5)
        make("MLPClassifier", library, random_state=random_state, early_stopping=True).fit(X, LABELS)
        left.append(random_state.randint(1 << 30))
    assert left[0] == left[1]


def test_warning_points_at_the_caller():
    """Where fit does not converge, the warning names the line that called it."""
    with pytest.warns(ConvergenceWarning) as caught:
        make("MLPClassifier").fit(X, LABELS)
    assert [w.filename for w in caught] == [__file__]


def test_repr_and_parameters():
    """scikit-learn's parameters with the same defaults in the same order, shown the same way; ours come after them."""
    for name in TARGETS:
        ours, theirs = getattr(fastmlp, name)(), getattr(sklearn.neural_network, name)()
        assert list(common_parameters(ours).items()) == list(theirs.get_params().items())
        names = [list(inspect.signature(type(model)).parameters) for model in (ours, theirs)]
        assert names[0][: len(names[1])] == names[1] and set(names[0][len(names[1]) :]) <= OWN_PARAMETERS.keys()
        assert repr(ours) == repr(theirs) and repr(make(name)) == repr(make(name, sklearn.neural_network))


def test_tags_and_routing():
    """scikit-learn's tools see the same estimator; metadata is routed the same way."""
    with sklearn.config_context(enable_metadata_routing=True):
        for name in TARGETS:
            ours, theirs = make(name), make(name, sklearn.neural_network)
            assert ours.__sklearn_tags__() == theirs.__sklearn_tags__()
            for method in "fit", "partial_fit", "score":
                asked, of_theirs = (getattr(one.get_metadata_routing(), method).requests for one in (ours, theirs))
                assert of_theirs.items() <= asked.items()


# ---- validation scores ------------------------------------------------------------------------------------------

CLASSES = {
    "binary": NUMBER % 2,
    "words": np.array(["b", "a", "c"])[NUMBER % 3],
    "binary words": np.array(["yes", "no"])[NUMBER % 2],
    "one class": np.full(len(NUMBER), 7),
    "labels": np.column_stack([NUMBER % 2, NUMBER % 3 == 1, NUMBER > 5]).astype(int),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", CLASSES)
def test_validation_score_of_a_classifier_is_the_accuracy(case, weighted):
    """scikit-learn's accuracy_score of the decisions, bit by bit."""
    model, y = fastmlp.MLPClassifier((5,), max_iter=1, random_state=0), CLASSES[case]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y)
    weights = np.linspace(0.5, 2, len(y)) if weighted else None
    _, targets = copy.deepcopy(model)._validate_input(X, y, incremental=False, reset=False)
    expected = sklearn.metrics.accuracy_score(y, model.predict(X), sample_weight=weights)
    assert model._score(model._forward_pass_fast(X), targets, weights) == expected


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", ["one", "two", "constant", "constant and met"])
def test_validation_score_of_a_regressor_is_the_r2_score(case, weighted):
    """scikit-learn's r2_score to rounding, and its values where all targets are the same."""
    outputs = np.random.RandomState(0).normal(size=(30, 2 if case == "two" else 1))
    y = outputs + np.random.RandomState(1).normal(size=outputs.shape)
    if case.startswith("constant"):
        y[:] = 0.3
        outputs = y.copy() if case == "constant and met" else outputs
    y = y if case == "two" else y.ravel()
    weights = np.linspace(0.5, 2, len(y)) if weighted else None
    score = fastmlp.MLPRegressor()._score(outputs, y, weights)
    assert score == pytest.approx(sklearn.metrics.r2_score(y, outputs, sample_weight=weights), rel=1e-12)
    assert np.isnan(fastmlp.MLPRegressor()._score(outputs * np.inf, y, weights))
