"""RealMLP's recipe (Holzmueller et al., NeurIPS 2024) over `network.MLP`: parts, starts, and one network's training.

Numbers are those of the authors' code. Rows that come in here are scaled and encoded; tables, targets and scikit-learn
are the business of `realmlp.py`.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from fastmlp._panels import Tabular
from fastmlp.compiled.tabular import FREQUENCIES, OF_CATEGORY, OF_NUMBER
from fastmlp.network import MLP
from fastmlp.optimizers import Adam
from fastmlp.training import History, train

# What rate and decay are multiplied by. The decay of an authors' parameter has the factor of its rate twice.
FACTORS = {"biases": (0.1, 0.0), "scales": (6.0, 36.0), "blends": (0.1, 0.01), "embeddings": (0.1, 0.01)}
# Rows that a start looks at.
_START_ROWS = 100_000


class Recipe(NamedTuple):
    """What a network is made of and trained with; the defaults are those that all variants share."""

    activation: str
    learning_rate: float
    dropout: float
    weight_decay: float
    # whether numbers are embedded, activations have parameters, and weights and biases look at the rows at first
    embedding: bool
    parametric: bool
    data_start: bool
    hidden_layer_sizes: tuple = (256, 256, 256)
    batch_size: int = 256
    max_iter: int = 256


class Columns(NamedTuple):
    """What the columns of X are: first numbers, then those that stay as they are, then codes of categories."""

    numbers: int
    plain: int
    category_counts: tuple = ()


def make_network(recipe, columns, n_outputs, output, loss, dtype):
    """A network for such rows; its input has a factor for each unit."""
    numbers = columns.numbers if recipe.embedding else 0
    units = OF_NUMBER * numbers + (columns.numbers - numbers) + columns.plain
    units += OF_CATEGORY * len(columns.category_counts)
    tabular = Tabular(True, recipe.parametric and bool(recipe.hidden_layer_sizes), numbers, columns.category_counts)
    layers = [units, *recipe.hidden_layer_sizes, n_outputs]
    return MLP(layers, recipe.activation, output, dtype, False, loss, 1.0, recipe.dropout, tabular)


def start(network, recipe, X, rng):
    """Draw all parameters; `X` are the rows to train on, which the data-dependent start looks at."""
    beside, shapes = network.beside, network.panels.shapes
    w, v, W, b = np.split(beside["embeddings"], np.cumsum([1, 1, 3]) * FREQUENCIES, axis=1)
    bound = 1 / np.sqrt(FREQUENCIES)
    w[:] = rng.normal(scale=0.1, size=w.shape)
    v[:] = rng.uniform(-np.pi, np.pi, v.shape)
    W[:] = rng.uniform(-bound, bound, W.shape)
    b[:, : OF_NUMBER - 1] = rng.uniform(-bound, bound, (len(b), OF_NUMBER - 1))
    for table in beside["tables"]:
        table[:] = rng.normal(size=table.shape)
    if recipe.data_start:
        network.set_parameters(*_data_start(network, X[:_START_ROWS], rng))
        return
    weights = [rng.normal(scale=n**-0.5, size=(n, m)) for n, m in shapes[:-1]]
    biases = [rng.normal(size=m) for _, m in shapes[:-1]]
    n, m = shapes[-1]
    network.set_parameters([*weights, np.zeros((n, m))], [*biases, np.zeros(m)])


def _data_start(network, X, rng):
    """Weights and biases that suit the rows, layer by layer.

    W = N / std(A N) with N of N(0, 1): each unit's A W has the standard deviation 1 over the rows ("std"). Then
    b = - sum of e_k (A W)[k] / sum of e_k over 5 rows k drawn for each unit, e_k of Exp(1) ("he+5").
    """
    weights, biases, dtype = [], [], network.dtype
    A = np.ascontiguousarray(network.forward(X)[0])
    for n, m in network.panels.shapes:
        layer = MLP([n, m], output="identity", dtype=dtype)
        W = rng.normal(size=(n, m))
        layer.set_parameters([W], [np.zeros(m)])
        Z = layer.predict(A).astype(np.float64)
        spread = Z.std(axis=0)
        spread[spread == 0] = 1
        rows, parts = rng.randint(len(A), size=(5, m)), rng.exponential(size=(5, m))
        b = -(parts * np.take_along_axis(Z / spread, rows, axis=0)).sum(axis=0) / parts.sum(axis=0)
        weights.append(W / spread)
        biases.append(b)
        hidden = len(weights) - 1
        if hidden < len(network.activations) - 1:
            layer = MLP([n, m, 1], network.activations[hidden], "identity", dtype)
            layer.set_parameters([weights[-1], np.zeros((m, 1))], [b, np.zeros(1)])
            A = layer.forward(A)[1]
    return weights, biases


def make_optimizer(network, recipe, seed=1):
    """Adam as PyTorch has it, on weights as if each layer were A V / sqrt(n) + b."""
    epsilon = 1e-8
    if network.loss_function.name == "squared_error":  # theirs is the whole, and a mean over outputs
        epsilon *= network.layer_units[-1] / 2
    return Adam(
        network,
        recipe.learning_rate,
        beta_2=0.95,
        epsilon=epsilon,
        weight_decay=recipe.weight_decay,
        seed=seed,
        lr_schedule="coslog4",
        max_iter=recipe.max_iter,
        factors=FACTORS,
        fan_in=True,
        fade="flat_cos",
        epsilon_inside=True,
    )


@dataclasses.dataclass(kw_only=True)
class LastBest(History):
    """Of the epochs with the best score, the last one is the best; without scores, the last one of all. 0 is none."""

    best_loss: float | None = None
    best_validation_score: float | None = -np.inf
    best_iter: int = 0

    def update(self, network, loss, measured, tol):
        self.loss_curve.append(loss)
        score = 0.0
        if measured is not None:
            validation_loss, score = measured
            self.validation_losses.append(validation_loss)
            self.validation_scores.append(score)
        if score >= self.best_validation_score and np.isfinite(loss):
            self.best_validation_score, self.best_iter = score, len(self.loss_curve)
            self.best_parameters = network.parameters.copy()


def train_network(network, recipe, data, rng, history, *, rows, epochs=None, **options):
    """Train; the history knows the best epoch's parameters then.

    Parameters
    ----------
    network : MLP
        As `start` has left it.
    recipe : Recipe
    data : Data
    rng : numpy.random.RandomState
    history : LastBest
    rows : ndarray of int64
        Numbers of the rows to train on.
    epochs : int, optional
        After how many training ends, if that is before the schedules do.
    options
        Of `training.train`: measure, verbose, deadline, before_epoch, after_epoch.

    Returns
    -------
    why : str
        Why training ended, as `training.train` has it.
    """
    optimizer = make_optimizer(network, recipe, int(rng.randint(1, 2**31 - 1)))
    return train(
        network,
        data,
        optimizer,
        history,
        batch_size=min(recipe.batch_size, len(rows)),
        max_iter=epochs or recipe.max_iter,
        random_state=rng,
        rows=rows,
        whole_batches=True,
        n_iter_no_change=np.inf,
        **options,
    )


def folded(network, parameters):
    """A network of these parameters, flat, without factors of the input: they are in W_1."""
    *hidden, output = network.activations
    loss = network.loss_function.name
    tabular = network.tabular._replace(scaled=False)
    plain = MLP(network.layer_units, hidden, output, network.dtype, False, loss, 1.0, 0.0, tabular)
    weights, biases = network.panels.unpack(parameters)
    scales, *beside = network.panels.arrays_beside(parameters)
    weights[0] *= scales[:, np.newaxis]
    plain.set_parameters(weights, biases)
    for ours, theirs in zip(plain.panels.arrays_beside(plain.parameters)[1:], beside, strict=True):
        ours[:] = theirs
    return plain
