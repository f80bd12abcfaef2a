"""What tests of `MLP` share: lists of what is tested, networks and their data, and the twins they are compared with."""

import functools
import itertools

import naive
import naive_tabular
import numpy as np
import pytest

from fastmlp.compiled import activations, losses
from fastmlp.network import MLP
from fastmlp.optimizers import SGD, Adam

# ---- what is tested ---------------------------------------------------------------------------------------------

HIDDEN, GOALS = list(activations.HIDDEN), list(losses.LOSSES)  # a goal is a loss, or an output for that which fits it


def steady(t):
    """A learning rate that changes from batch to batch in name only: then momentum is PyTorch's."""
    return 1.0


ADAMS_FACTORS = {"weights": (2.0, 0.5), "biases": (0.5, 1.5)}  # of rates, and of decay

# name: (ours, its twin), of equal parameters
OPTIMIZERS = {
    "adam": (
        functools.partial(Adam, learning_rate_init=0.01),
        functools.partial(naive.Adam, learning_rate=0.01),
    ),
    "adam, other constants": (
        functools.partial(Adam, learning_rate_init=0.02, beta_1=0.8, beta_2=0.95, epsilon=1e-2),
        functools.partial(naive.Adam, learning_rate=0.02, beta_1=0.8, beta_2=0.95, epsilon=1e-2),
    ),
    "adam, epsilon inside": (
        functools.partial(Adam, learning_rate_init=0.01, epsilon=1e-2, epsilon_inside=True),
        functools.partial(naive.Adam, learning_rate=0.01, epsilon=1e-2, epsilon_inside=True),
    ),
    "adam, factors": (
        functools.partial(Adam, learning_rate_init=0.01, epsilon=1e-2, fan_in=True, factors=ADAMS_FACTORS),
        functools.partial(naive.Adam, learning_rate=0.01, epsilon=1e-2, fan_in=True, factors=ADAMS_FACTORS),
    ),
    "sgd": (
        functools.partial(SGD, learning_rate_init=0.02, momentum=0.0),
        functools.partial(naive.SGD, learning_rate=0.02, momentum=0.0, nesterov=False),
    ),
    "momentum": (
        functools.partial(SGD, learning_rate_init=0.02, momentum=0.7, nesterov=False),
        functools.partial(naive.SGD, learning_rate=0.02, momentum=0.7, nesterov=False),
    ),
    "nesterov": (
        functools.partial(SGD, learning_rate_init=0.02, momentum=0.7),
        functools.partial(naive.SGD, learning_rate=0.02, momentum=0.7, nesterov=True),
    ),
}
OPTIMIZERS |= {
    f"{name}, PyTorch's": (
        functools.partial(OPTIMIZERS[name][0], lr_schedule=steady),
        functools.partial(OPTIMIZERS[name][1], of_gradients=True),
    )
    for name in ("momentum", "nesterov")
}
OPTIMIZERS |= {
    f"{name}, decayed": tuple(functools.partial(make, weight_decay=0.8) for make in OPTIMIZERS[name])
    for name in list(OPTIMIZERS)
    if name != "adam, other constants"
}
OPTIMIZERS |= {
    f"{name}, clipped": tuple(functools.partial(make, clipnorm=0.3) for make in OPTIMIZERS[name])
    for name in ("adam", "sgd", "nesterov, decayed")
}

# (hidden, goal, optimizer): as few as have each of them, for what takes too long for all that there may be
_LISTS = HIDDEN, GOALS, list(OPTIMIZERS)
EVERY_ONE = [tuple(names[i % len(names)] for names in _LISTS) for i in range(max(map(len, _LISTS)))]

# each activation with each goal, and the optimizers in turn
EVERY_TWO = [(*both, _LISTS[2][i % len(OPTIMIZERS)]) for i, both in enumerate(itertools.product(HIDDEN, GOALS))]

hidden_activations = pytest.mark.parametrize("hidden", HIDDEN)
goals = pytest.mark.parametrize("goal", GOALS)
optimizers = pytest.mark.parametrize("optimizer", OPTIMIZERS)


def unaligned(X):
    """Rows that start a byte after a multiple of their numbers' size."""
    records = np.zeros(len(X), np.dtype([("before", "i1"), ("row", X.dtype, (X.shape[1],))]))
    records["row"] = X
    return records["row"]


def read_only(X):
    X.flags.writeable = False
    return X


# The same numbers, or those that the type has, in another form.
LAYOUTS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "every second row": lambda X: np.repeat(X, 2, axis=0)[::2],
    "every third column": lambda X: np.repeat(X, 3, axis=1)[:, ::3],
    "rows backwards": lambda X: X[::-1].copy()[::-1],
    "columns backwards": lambda X: X[:, ::-1].copy()[:, ::-1],
    "both backwards, Fortran": lambda X: np.asfortranarray(X[::-1, ::-1])[::-1, ::-1],
    "one row for all": lambda X: np.broadcast_to(X[:1].copy(), X.shape),
    "one column for all": lambda X: np.broadcast_to(X[:, :1].copy(), X.shape),
    "unaligned": unaligned,
    "read-only": read_only,
    "other byte order": lambda X: X.astype(X.dtype.newbyteorder()),
    "float16": lambda X: X.astype(np.float16),
    "float32": lambda X: X.astype(np.float32),
    "float64": lambda X: X.astype(np.float64),
    "float64, Fortran": lambda X: np.asfortranarray(X, np.float64),
    "integers": lambda X: (4 * X).astype(np.int64),
    "bool": lambda X: X > 0.2,
    "list": lambda X: X.tolist(),
}

# ---- networks and data ------------------------------------------------------------------------------------------


def make_network(layer_units, activation="tanh", goal="softmax", dtype=np.float64, sparse=False, dropout=0.0):
    loss = naive.FITTING.get(goal, goal)
    parameter = {"huber": naive.HUBER_DELTA, "quantile": naive.QUANTILE}.get(loss, 1.0)
    return MLP(layer_units, activation, losses.LOSSES[loss].output, dtype, sparse, loss, parameter, dropout)


def draw_network(rng, *args, **kwargs):
    made = make_network(*args, **kwargs)
    made.initialize(rng)
    return made


def draw_data(rng, layer_units, goal, n):
    """X and Y as the network takes them: Gaussian rows, and targets that suit the goal."""
    return rng.normal(size=(n, layer_units[0])), draw_targets(rng, goal, (n, layer_units[-1]))


def draw_targets(rng, goal, shape):
    """Those of a loss with a kink are far from what a network puts out, on either side: rounding decides nothing."""
    row = losses.LOSSES[naive.FITTING.get(goal, goal)]
    if row.output == "logistic":
        return rng.randint(2, size=shape)
    if row.targets == "classes":
        return rng.randint(shape[1], size=shape[0])
    if row.targets == "probabilities":
        return rng.dirichlet(np.ones(shape[1]), shape[0])
    if row.targets == "not negative":
        return rng.poisson(1.5, shape)
    if row.targets == "positive":
        return rng.gamma(3.0, 0.5, shape)
    Y = rng.normal(size=shape)
    return Y + 9 * np.sign(Y) if goal in ("absolute_error", "quantile") else Y


def order_with_repeats(rng, n, rows):
    """Numbers of `rows` rows of n, some never, some twice."""
    return rng.randint(n, size=rows)


def bits(network):
    """All parameters, as bytes."""
    return b"".join(p.tobytes() for p in network.weights + network.biases)


# ---- their twins ------------------------------------------------------------------------------------------------


class Twin:
    """What `naive.py` computes with a network's parameters, in float64, on rows as they are in the network's dtype."""

    def __init__(self, network):
        self.dropout = naive.Dropout(network.dropout) if any(network.dropout) else None
        self.dtype, self.activations, self.loss = network.dtype, network.activations, network.loss_function.name
        self.weights = [W.astype(np.float64) for W in network.weights]
        self.biases = [b.astype(np.float64) for b in network.biases]

    def rows(self, X):
        return np.asarray(X).astype(self.dtype).astype(np.float64)

    def targets(self, Y):
        Y = np.asarray(Y)
        if losses.LOSSES[self.loss].targets == "classes":
            return np.eye(len(self.biases[-1]))[Y]
        return Y.reshape(len(Y), -1).astype(self.dtype).astype(np.float64)

    def weights_of_rows(self, sample_weight):
        return None if sample_weight is None else sample_weight.astype(self.dtype).astype(np.float64)

    def forward(self, X):
        return naive.forward(self.rows(X), self.weights, self.biases, self.activations)

    def gradients(self, X, Y, sample_weight=None, alpha=0.0):
        row_weights = self.weights_of_rows(sample_weight)
        return naive.gradients(
            self.rows(X), self.targets(Y), self.weights, self.biases, self.activations, row_weights, alpha, self.loss
        )

    def train_epoch(self, X, Y, optimizer, batch_size, alpha=0.0, order=None, sample_weight=None, rates=()):
        order = np.arange(len(X)) if order is None else order
        return naive.epoch(
            self.rows(X), self.targets(Y), order, batch_size, self.weights, self.biases, self.activations, optimizer,
            alpha, self.weights_of_rows(sample_weight), self.loss, rates, self.dropout,
        )  # fmt: skip


def tabular_parameters(network):
    """All parameters of a network for tables as `naive_tabular` has them: in float64, factors that are not there 1."""
    beside = network.beside
    w, v, W_1, W_2, W_3, b = np.split(beside["embeddings"], 6, axis=1)
    p = {"frequencies": w, "phases": v, "projections": np.stack([W_1, W_2, W_3], axis=2), "offsets": b[:, :3]}
    p["scale"] = beside["scales"] if network.tabular.scaled else np.ones(network.layer_units[0])
    for name, arrays in (
        ("embedding", beside["tables"]), ("weights", network.weights), ("biases", network.biases),
        ("blends", beside["blends"]),
    ):  # fmt: skip
        p |= {f"{name}_{i}": array for i, array in enumerate(arrays, start=1)}
    return {name: array.astype(np.float64) for name, array in p.items()}


def set_tabular_parameters(network, p):
    """The other way round."""
    layers, beside = range(1, len(network.layer_units)), network.beside
    network.set_parameters([p[f"weights_{i}"] for i in layers], [p[f"biases_{i}"] for i in layers])
    blocks = [p["frequencies"], p["phases"], *np.moveaxis(p["projections"], 2, 0)]
    beside["embeddings"][:, : 16 * len(blocks)] = np.hstack(blocks)
    beside["embeddings"][:, 80:83] = p["offsets"]
    if network.tabular.scaled:
        beside["scales"][:] = p["scale"]
    for name, arrays in ("blends", beside["blends"]), ("embedding", beside["tables"]):
        for i, array in enumerate(arrays, start=1):
            array[:] = p[f"{name}_{i}"]


class TabularTwin:
    """What `naive_tabular.py` computes with the parameters of a network for tables."""

    def __init__(self, network):
        self.network, self.p = network, tabular_parameters(network)
        self.activation = network.activations[0] if len(network.activations) > 1 else None

    def split(self, X):
        """Numbers, and the codes of categories."""
        X = np.asarray(X).astype(self.network.dtype).astype(np.float64)
        codes = len(self.network.tabular.categories)
        return X[:, : X.shape[1] - codes], X[:, X.shape[1] - codes :].astype(int)

    def forward(self, X):
        """A_0 and the outputs."""
        _, Zs, As = naive_tabular.forward(*self.split(X), self.p, self.activation)
        return As[0], naive.softmax(Zs[-1]) if self.network.activations[-1] == "softmax" else Zs[-1]

    def gradients(self, X, Y, factors=None):
        """Loss and gradients."""
        Y = np.asarray(Y).astype(self.network.dtype).astype(np.float64)
        name = self.network.loss_function.name
        return naive_tabular.gradients(*self.split(X), Y, self.p, self.activation, name, factors)

    def train_epoch(self, X, Y, batch_size, step, factors=lambda n: None):
        """The loss of an epoch; `step` moves the parameters by gradients, `factors` tells a batch's of dropout."""
        total = 0.0
        for start in range(0, len(X), batch_size):
            rows = slice(start, min(start + batch_size, len(X)))
            loss, g = self.gradients(X[rows], Y[rows], factors(rows.stop - start))
            step(self.p, g)
            if not self.network.tabular.scaled:  # they would decay
                self.p["scale"][:] = 1
            total += loss * (rows.stop - start)
        return total / len(X)


# how near a network must be to its twin, which computes in float64
NEAR = {np.float32: {"rtol": 2e-4, "atol": 2e-5}, np.float64: {"rtol": 1e-12, "atol": 1e-12}}


def assert_near(found, expected, dtype, **tolerances):
    """Lists of arrays of this dtype, equal in shape, near in value."""
    tolerances = NEAR[np.dtype(dtype).type] | tolerances
    for i, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        assert (ours.shape, ours.dtype) == (theirs.shape, dtype)
        np.testing.assert_allclose(ours, theirs, **tolerances, err_msg=f"array {i}")


def assert_near_twin(network, twin, **tolerances):
    assert_near(network.weights + network.biases, twin.weights + twin.biases, network.dtype, **tolerances)


def assert_loss_near(loss, expected, dtype):
    """Near; a probability of 1 may count as 1 - eps of the network's dtype."""
    assert loss == pytest.approx(expected, rel=NEAR[dtype]["rtol"], abs=2 * float(np.finfo(dtype).eps))


def kinks_near(ours, X, distance):
    """Whether a sum that a hidden layer takes is so near a kink for some row."""
    values = Twin(ours).forward(X)
    layers = zip(values[:-1], ours.weights, ours.biases, ours.activations, strict=True)
    return any(f in naive.KINKED and np.abs(A @ W + b).min() < distance for A, W, b, f in layers)
