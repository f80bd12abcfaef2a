"""The cases that are measured: networks, their data, and the starting point and order of rows that all peers share.

One table for compare.py, the workers and asv's benchmarks. Everything is drawn from fixed seeds, so each process makes
its own copy.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np


class Case(NamedTuple):
    """A network and its data. One output is logistic, for two classes; more are a softmax."""

    layers: tuple
    batch: int
    rows: int
    epochs: int  # in a timed training of compare.py: far fewer than a user's 200 where the peers' take long
    steady: int  # epochs that keep fastmlp busy for 20 ms and more, for asv
    learning_rate: float = 1e-3  # scikit-learn's default


CASES = {
    "tiny": Case((4, 8, 1), 32, 4_096, 200, 200),
    "default": Case((20, 100, 1), 200, 10_000, 50, 30),
    "digits": Case((64, 100, 10), 200, 20_000, 20, 8),
    "tabular": Case((54, 256, 128, 7), 256, 20_000, 8, 2),
    "mnist": Case((784, 128, 10), 128, 12_800, 10, 2),
    "mnist512": Case((784, 512, 512, 10), 128, 12_800, 5, 1),
    "deep": Case((128, *[128] * 8, 10), 128, 12_800, 10, 1),
    # At 1e-3 Adam overshoots in these two: samples' losses pass 15.9, where scikit-learn clips what it reports.
    "large": Case((1024, 2048, 2048, 10), 512, 4_096, 5, 1, learning_rate=1e-4),
    "wide32": Case((1024, 4096, 4096, 10), 32, 640, 5, 1, learning_rate=1e-4),
}
# Rows to predict, and calls in a timed loop, of a network from the table above.
PREDICTIONS = {"default": (1, 2_000), "mnist512": (2_000, 5)}

# scikit-learn's defaults, which the other peers need to know.
MOMENTUM, BETA_1, BETA_2, EPSILON = 0.9, 0.9, 0.999, 1e-8
SEED = 0
TOLERANCE = {"float32": 1e-3, "float64": 1e-6}  # largest relative difference of two losses that is rounding


def data(case, dtype):
    """Return normal features, and labels that a noisy linear teacher gives: they can be learnt, but not perfectly."""
    rng = np.random.default_rng(SEED)
    features, classes = case.layers[0], max(2, case.layers[-1])
    X = rng.standard_normal((case.rows, features))
    scores = X @ rng.standard_normal((features, classes)) / np.sqrt(features)
    y = np.argmax(scores + 0.3 * rng.standard_normal(scores.shape), axis=1)
    return X.astype(dtype), y


def start(case, dtype):
    """Return the weights, biases and orders of rows, epoch by epoch, that scikit-learn draws from the seed."""
    random = np.random.RandomState(SEED)
    weights, biases = [], []
    for n, m in pairwise(case.layers):
        bound = np.sqrt(6 / (n + m))
        weights.append(random.uniform(-bound, bound, (n, m)).astype(dtype))
        biases.append(random.uniform(-bound, bound, m).astype(dtype))
    orders = [np.arange(case.rows)]
    for _ in range(case.epochs):
        shuffled = np.arange(case.rows)
        random.shuffle(shuffled)
        orders.append(orders[-1][shuffled])
    return weights, biases, orders[1:]


def classifier(package, case, solver="adam"):
    """Return an unfitted MLPClassifier of `package` ("fastmlp" or "scikit-learn") that runs exactly case.epochs."""
    if package == "fastmlp":
        from fastmlp import MLPClassifier
    else:
        from sklearn.neural_network import MLPClassifier
    return MLPClassifier(
        hidden_layer_sizes=case.layers[1:-1],
        solver=solver,
        alpha=0.0,
        batch_size=case.batch,
        learning_rate_init=case.learning_rate,
        max_iter=case.epochs,
        tol=0.0,
        n_iter_no_change=np.inf,
        random_state=SEED,
    )


def flops_per_epoch(case):
    """Return the multiplications and additions of one epoch of training; the input layer needs no gradient."""
    weights = [n * m for n, m in pairwise(case.layers)]
    return case.rows * (6 * sum(weights) - 2 * weights[0])


def difference(ours, theirs):
    """Return the largest relative difference of two lists of numbers; infinite if the lengths differ."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    return float(np.max(np.abs(ours - theirs) / np.abs(theirs))) if len(ours) == len(theirs) else float("inf")


def differ(solver, dtype, ours, theirs):
    """Return the largest relative difference of two runs' numbers if it is more than rounding, else 0.

    Rounding grows from step to step: after the first epoch trainings in float32 may go ways of their own.
    """
    count = 1 if dtype == "float32" and solver != "predict" else None
    far = difference(ours[:count], theirs[:count])
    return 0 if far <= TOLERANCE[dtype] else far  # a NaN is no rounding
