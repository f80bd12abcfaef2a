"""Small jobs, each some ten milliseconds of what users do: for counts of instructions, and for two commits in turns.

Only what the package exports is used, so that they run on commits of any age; a commit that lacks a feature raises.
"""

import importlib
import warnings
from typing import NamedTuple

import numpy as np


class Job(NamedTuple):
    """A network, its data and what is called."""

    layers: tuple
    rows: int
    batch: int = 200
    epochs: int = 1
    dtype: str = "float32"
    parameters: dict = {}
    predicts: int = 0  # rows of a prediction; 0: the job is a fit
    calls: int = 1
    density: float = 1.0  # below 1, X is sparse


OWN = {"activation": "mish", "dropout": 0.1, "weight_decay": 0.01, "clipnorm": 1.0, "learning_rate": "cosine"}
JOBS = {
    "dense": Job((128, 256, 128, 10), 256, 128),
    "dense, float64": Job((128, 256, 128, 10), 128, 128, dtype="float64"),
    "tiny": Job((4, 8, 1), 4_096, 32, epochs=2),
    "default": Job((20, 100, 1), 3_000, epochs=2),
    "digits": Job((64, 100, 10), 1_797),
    "wide": Job((256, 1024, 10), 64, 32),
    "deep": Job((64, *[64] * 8, 10), 400),
    "sparse": Job((2_000, 100, 20), 400, density=0.01),
    "own features": Job((64, 100, 10), 1_000, parameters=OWN),
    "table": Job((10, 64, 64, 1), 200, epochs=2),
    "many rows": Job((64, 100, 10), 1_000, predicts=1_000, calls=6),
    "one row": Job((20, 100, 1), 200, predicts=1, calls=200),
}


def data(job):
    """Return features, the last of a table's being a category, and classes that can be learnt from them."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((job.rows, job.layers[0]))
    y = np.argmax(X @ rng.standard_normal((job.layers[0], max(2, job.layers[-1]))), axis=1)
    X = X.astype(job.dtype)
    if job.density < 1:
        import scipy.sparse

        X = scipy.sparse.csr_array(np.where(rng.random(X.shape) < job.density, X, 0))
    return X, y


def prepare(name, package="fastmlp"):
    """Return a function that does the job; all that it needs is compiled, and its last fit's numbers are the same.

    Raises AttributeError, TypeError or ValueError where this version of the package cannot do it.
    """
    job = JOBS[name]
    X, y = data(job)
    package = importlib.import_module({"scikit-learn": "sklearn.neural_network"}.get(package, package))
    warnings.simplefilter("ignore")  # that it has not converged
    if name == "table":
        X = np.column_stack([X.astype(object), np.array(list("abcdefghijkl"))[y + np.arange(len(y)) % 11]])
        model = package.RealMLPClassifier(hidden_layer_sizes=job.layers[1:-1], max_iter=job.epochs, random_state=0)
    else:
        common = {"tol": 0.0, "n_iter_no_change": np.inf, "random_state": 0, "max_iter": job.epochs}
        common["warm_start"] = True  # epochs are measured, and no drawing of weights
        common |= {"batch_size": job.batch, "hidden_layer_sizes": job.layers[1:-1]}
        model = package.MLPClassifier(**common | job.parameters)
    model.fit(X, y)
    rows = X[: job.predicts]

    def run():
        """Return some numbers that came out."""
        for _ in range(job.calls):
            numbers = model.predict_proba(rows)[0] if job.predicts else model.fit(X, y).loss_curve_
        return numbers

    run()
    return run
