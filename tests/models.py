"""What tests of the estimators share: data, estimators of either library, and all that a model has as plain data."""

import numpy as np
import pytest
from sklearn.base import is_classifier

import fastmlp
from fastmlp.compiled.losses import LOSSES
from fastmlp.conversion import OWN_PARAMETERS

# ---- data -------------------------------------------------------------------------------------------------------

N = 30
X = np.random.RandomState(0).normal(size=(N, 4))
NUMBER = np.arange(N)
LABELS = NUMBER % 3
INDICATOR = np.eye(3, dtype=int)[LABELS]
WORDS = np.array(["ant", "bee", "cow"])[LABELS]
# Numbers, some missing, and categories: text, some missing; bool; integers; text among numbers.
TABLE = np.array(
    [
        [x, y if i % 5 else None, f"c{i % 12}" if i % 7 else None, i % 3 > 0, i % 4 * 10, "other" if i % 2 else i % 5]
        for i, (x, y, *_) in enumerate(X.tolist())
    ],
    dtype=object,
)
CATEGORICAL = [2, 3, 4, 5]
HUGE = X / np.abs(X).max() * np.finfo(float).max  # finite, but no sum over it is
TARGETS = {"MLPClassifier": LABELS, "MLPRegressor": X[:, 0] - X[:, 1] * X[:, 2]}


def put(array, value, dtype=None):
    """A copy with the value in second place."""
    array = np.array(array, dtype)
    array.flat[1] = value
    return array


def frame(columns):
    return pytest.importorskip("pandas").DataFrame(X, columns=list(columns))


# ---- estimators -------------------------------------------------------------------------------------------------

SMALL = {"hidden_layer_sizes": (5,), "max_iter": 3, "random_state": 0}
IN_ORDER = {"batch_size": 10, "shuffle": False}
REGRESSOR_LOSSES = [name for name, row in LOSSES.items() if row.output in ("identity", "exp")]

# What scikit-learn's estimators do not have, at another value than the default.
OTHERS = {
    "weight_decay": 0.3, "dropout": 0.3, "clipnorm": 0.1, "scoring": "loss", "dtype": "float32", "max_time": 1e6,
    "n_jobs": 2, "class_weight": {0: 2.0, 1: 0.5, 2: 1.0}, "label_smoothing": 0.3, "huber_delta": 0.3, "quantile": 0.3,
}  # fmt: skip
assert OTHERS.keys() == OWN_PARAMETERS.keys()

REALMLP = {"RealMLPClassifier": LABELS, "RealMLPRegressor": TARGETS["MLPRegressor"]}
both_estimators = pytest.mark.parametrize("name", TARGETS)


def make(name, library=fastmlp, **parameters):
    return getattr(library, name)(**(SMALL | parameters))


def common_parameters(model):
    """Those that both libraries' estimators have."""
    return {name: value for name, value in model.get_params().items() if name not in OWN_PARAMETERS}


def outputs(model, rows=X):
    return model.predict_proba(rows) if is_classifier(model) else model.predict(rows)


def bits(model, rows=X):
    """All predictions, byte for byte."""
    methods = ["predict", "predict_proba"] if is_classifier(model) else ["predict"]
    return [getattr(model, method)(rows).tobytes() for method in methods]


def frozen(value):
    """A value as plain data, in which == compares every bit."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tolist() if value.dtype.hasobject else value.tobytes()
    if isinstance(value, dict):
        return {key: frozen(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [frozen(item) for item in value]
    if isinstance(value, set):
        return sorted(map(repr, value))  # which come in another order in a copy, for some seeds of Python's hash
    if type(value).__module__.startswith(("fastmlp", "sklearn", "numpy.random")):
        return frozen(value.__reduce_ex__(4))
    return repr(value)


def state(model):
    """All that a model has: parameters, what it learnt and what the optimizer remembers."""
    return frozen(model.__getstate__())


class Trouble(Exception):
    """What no one foresaw."""
