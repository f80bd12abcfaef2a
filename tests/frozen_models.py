"""Makes frozen_models_2.gz: small models as this version saves them, for test_frozen_models.py to load for ever.

Run `python tests/frozen_models.py` where the format of an estimator's state has grown by one, and add the new file; a
file that a release has been made with stays as it is: 0.1.0 has saved the first, 0.2.0 the second.
"""

import gzip
import pickle
import warnings
from pathlib import Path

import numpy as np

import fastmlp
from fastmlp._base import FORMAT

HERE = Path(__file__).parent

X = np.random.RandomState(0).normal(size=(24, 3))
LABELS = np.arange(24) % 3
WORDS = np.array(["ant", "bee", "cow"])[LABELS]
INDICATOR = np.eye(3, dtype=int)[LABELS]
NUMBERS = X[:, 0] - X[:, 1] * X[:, 2]
# numbers, some missing, three and ten categories, some missing
TABLE = np.array(
    [[x if i % 5 else None, y, WORDS[i], f"c{i % 10}" if i % 7 else None] for i, (x, y, _) in enumerate(X.tolist())],
    dtype=object,
)
SMALL = {"hidden_layer_sizes": (4,), "max_iter": 3, "random_state": 0}

# name: (model, X, y)
MODELS = {
    "adam": (fastmlp.MLPClassifier(**SMALL), X, WORDS),
    "adam, float32": (fastmlp.MLPClassifier(activation="tanh", **SMALL), X.astype(np.float32), LABELS),
    "adam, labels": (fastmlp.MLPClassifier(activation="logistic", **SMALL), X, INDICATOR),
    "sgd": (fastmlp.MLPRegressor(solver="sgd", learning_rate="invscaling", **SMALL), X, NUMBERS),
    "sgd without momentum": (fastmlp.MLPClassifier(solver="sgd", momentum=0.0, **SMALL), X, LABELS > 0),
    "lbfgs": (fastmlp.MLPClassifier(solver="lbfgs", warm_start=True, **SMALL), X, LABELS),
    "poisson": (fastmlp.MLPRegressor("poisson", **SMALL), X, LABELS),
    "early stopping": (
        fastmlp.MLPRegressor(early_stopping=True, warm_start=True, learning_rate_init=0.02, **SMALL),
        X,
        NUMBERS,
    ),
    "silu with weight decay": (fastmlp.MLPClassifier(activation="silu", weight_decay=0.1, **SMALL), X, LABELS),
    "huber": (fastmlp.MLPRegressor("huber", huber_delta=0.5, solver="sgd", weight_decay=0.1, **SMALL), X, NUMBERS),
    "all at once": (
        fastmlp.MLPClassifier(
            **SMALL | {"hidden_layer_sizes": (4, 3)}, activation=["gelu", "mish"], dropout=[0.2, 0.1], clipnorm=0.5,
            weight_decay=0.1, label_smoothing=0.1, class_weight={0: 2.0},
            learning_rate_init=0.02, dtype="float64", n_jobs=2, max_time=1e6,
        ),
        X,
        LABELS,
    ),
    "validation loss": (
        fastmlp.MLPRegressor(
            **SMALL, loss="quantile", quantile=0.3, solver="sgd", learning_rate="onecycle", learning_rate_init=0.1,
            early_stopping=True, scoring="loss", warm_start=True,
        ),
        X,
        NUMBERS,
    ),
    "realmlp": (fastmlp.RealMLPClassifier(n_estimators=2, dtype="float64", **SMALL), TABLE, WORDS),
    "realmlp td-s": (fastmlp.RealMLPClassifier("td-s", dtype="float64", **SMALL), TABLE, LABELS > 0),
    "realmlp, numbers": (fastmlp.RealMLPRegressor(dtype="float64", **SMALL), TABLE, NUMBERS),
    "realmlp td-s, numbers": (
        fastmlp.RealMLPRegressor("td-s", dtype="float64", refit=True, **SMALL), TABLE, X[:, :2],
    ),
}  # fmt: skip
# name: the first format whose file has it, if that is not the first of all
SINCE = dict.fromkeys(["silu with weight decay", "huber", "all at once", "validation loss"], 2)
SINCE |= {name: 2 for name in MODELS if name.startswith("realmlp")}


def outputs(model, X):
    return model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)


def go_on(model, X, y):
    """What is called on a model that was loaded: another step, or another fit where there are no steps."""
    if hasattr(model, "networks_"):
        return model.set_params(random_state=1).fit(X, y)
    steps = hasattr(model, "_optimizer") and not model.early_stopping
    return model.partial_fit(X, y) if steps else model.fit(X, y)


def freeze():
    """The models, what they put out, and what they put out after they have gone on."""
    content = {}
    for name, (model, rows, y) in MODELS.items():
        model.fit(rows, y)
        saved, first = pickle.dumps(model, 4), outputs(model, rows)
        content[name] = saved, first, outputs(go_on(model, rows, y), rows)
    return content


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (HERE / f"frozen_models_{FORMAT}.gz").write_bytes(gzip.compress(pickle.dumps(freeze(), 4), mtime=0))
