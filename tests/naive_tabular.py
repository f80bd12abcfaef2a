"""RealMLP's network and its training step in plain NumPy, formulas first: the slow twin for tables.

Holzmueller, Grinsztajn, Steinwart: Better by default, NeurIPS 2024. A network of L layers is a dict of arrays:

    frequencies  w1  (J, 16)       embeddings of the first J columns of X, which are numbers; J may be 0
    phases       b1  (J, 16)
    projections  W2  (J, 16, 3)
    offsets      b2  (J, 3)
    embedding_1 ..   (codes, 8)    one for each column of codes; row 0 stands for what is missing or unknown
    scale        s   (fan_in of layer 1,)
    weights_1 .. weights_L         (fan_in, fan_out)
    biases_1 .. biases_L           (fan_out,)
    blends_1 .. blends_{L-1}       (fan_out,), only where activations are parametric

X is (n, n_columns) of floats, codes (n, n_categories) of integers, Y (n, n_outputs): probabilities or standardised
targets.
"""

import numpy as np
from naive import ACTIVATIONS, DERIVATIVES, FACTORS, loss, softmax

FREQUENCIES, PROJECTED, EMBEDDED = 16, 3, 8
LABEL_SMOOTHING = 0.1

# What the learning rate is multiplied by for each kind of parameter; weights have it divided by sqrt(fan_in) besides.
RATE_FACTORS = {
    "weights": 1.0,
    "biases": 0.1,
    "scale": 6.0,
    "blends": 0.1,
    "frequencies": 0.1,
    "phases": 0.1,
    "projections": 0.1,
    "offsets": 0.1,
    "embedding": 1.0,
}


def kind(name):
    """weights of weights_1."""
    return name.split("_")[0]


def count(parameters, of_kind):
    return sum(kind(name) == of_kind for name in parameters)


def smooth(classes, n_classes, epsilon=LABEL_SMOOTHING):
    """(n, n_classes): 1 - epsilon + epsilon / n_classes for a row's class, epsilon / n_classes for the others."""
    return (1 - epsilon) * np.eye(n_classes)[classes] + epsilon / n_classes


def waves(X, p):
    """(n, J, 16): what the embeddings of numbers take the cosine of, 2 pi w1 x + b1."""
    return 2 * np.pi * p["frequencies"] * X[:, : len(p["frequencies"]), None] + p["phases"]


def inputs(X, codes, p):
    """H, (n, fan_in of layer 1), in front of the scale.

    For each embedded number x_j  [W2' cos(2 pi w1 x_j + b1) + b2, x_j], which are four columns; then the other columns
    of X as they are, then the embedding of each code.
    """
    J = len(p["frequencies"])
    E = np.einsum("njk,jkm->njm", np.cos(waves(X, p)), p["projections"]) + p["offsets"]
    numbers = np.concatenate([E, X[:, :J, None]], axis=2).reshape(len(X), -1 if J else 0)
    return np.hstack([numbers, X[:, J:], *(p[f"embedding_{i + 1}"][code] for i, code in enumerate(codes.T))])


def forward(X, codes, p, activation, factors=None):
    """(H, [Z_1 .. Z_L], [A_0 .. A_{L-1}]) with A_0 = H s, Z_i = A_{i-1} W_i + b_i.

    A_i = (Z_i + a_i (f(Z_i) - Z_i)) r_i: a_i are the blends, 1 if there are none; r_i the factors of dropout, if any.
    """
    H = inputs(X, codes, p)
    L = count(p, "weights")
    Zs, As = [], [H * p["scale"]]
    for i in range(1, L + 1):
        Z = As[-1] @ p[f"weights_{i}"] + p[f"biases_{i}"]
        Zs.append(Z)
        if i < L:
            A = Z + p.get(f"blends_{i}", 1.0) * (ACTIVATIONS[activation](Z) - Z)
            As.append(A * factors[i - 1] if factors else A)
    return H, Zs, As


def gradients(X, codes, Y, p, activation, loss_name, factors=None):
    """(loss, dict of gradients) of a batch; loss_name is soft_cross_entropy or squared_error, half of it for a row.

    delta_L  = (P - Y) / n                with P = softmax(Z_L) or Z_L
    dW_i     = A_{i-1}' delta_i           db_i = sum of delta_i over the rows
    dA_i     = delta_{i+1} W_{i+1}' r_i
    da_i     = sum of dA_i (f(Z_i) - Z_i) over the rows
    delta_i  = dA_i (1 + a_i (f'(Z_i) - 1))
    ds       = sum of dA_0 H over the rows
    dH       = dA_0 s
    """
    H, Zs, As = forward(X, codes, p, activation, factors)
    P = softmax(Zs[-1]) if loss_name == "soft_cross_entropy" else Zs[-1]
    delta = (P - Y) / len(X)
    g = {}
    for i in range(len(Zs), 0, -1):
        g[f"weights_{i}"] = As[i - 1].T @ delta
        g[f"biases_{i}"] = delta.sum(axis=0)
        dA = delta @ p[f"weights_{i}"].T
        if i > 1:
            Z, f, a = Zs[i - 2], ACTIVATIONS[activation](Zs[i - 2]), p.get(f"blends_{i - 1}")
            dA = dA * factors[i - 2] if factors else dA
            if a is not None:
                g[f"blends_{i - 1}"] = (dA * (f - Z)).sum(axis=0)
            delta = dA * (1 + (1.0 if a is None else a) * (DERIVATIVES[activation](Z, f) - 1))
    g["scale"] = (dA * H).sum(axis=0)
    g |= input_gradients(X, codes, dA * p["scale"], p)
    return loss(Y, P, loss_name), {name: g[name] for name in p}


def input_gradients(X, codes, dH, p):
    """The gradients of the embeddings, from dH, that of `inputs`.

        dW2 = cos(U)' dE              db2 = sum of dE over the rows
        dU  = -sin(U) (dE W2')        with U = 2 pi w1 x + b1
        dw1 = sum of 2 pi x dU        db1 = sum of dU

    and of the row of an embedding the sum over the rows with its code.
    """
    n, J = len(X), len(p["frequencies"])
    U, x = waves(X, p), X[:, :J, None]
    dE = dH[:, : 4 * J].reshape(n, J, 4)[:, :, :PROJECTED]
    dU = -np.sin(U) * np.einsum("njm,jkm->njk", dE, p["projections"])
    g = {
        "frequencies": (2 * np.pi * x * dU).sum(axis=0),
        "phases": dU.sum(axis=0),
        "projections": np.einsum("njk,njm->jkm", np.cos(U), dE),
        "offsets": dE.sum(axis=0),
    }
    start = 4 * J + X.shape[1] - J
    for i, code in enumerate(codes.T):
        g[f"embedding_{i + 1}"] = np.zeros_like(p[f"embedding_{i + 1}"])
        np.add.at(g[f"embedding_{i + 1}"], code, dH[:, start + EMBEDDED * i : start + EMBEDDED * (i + 1)])
    return g


class Adam:
    """p *= 1 - rate f^2 weight_decay, then p -= rate f / root * m^ / (sqrt(v^) + epsilon root).

    m^ = m / (1 - beta_1^t) and v^ = v / (1 - beta_2^t): epsilon stands inside the bias correction. f is the factor of
    the parameter's kind: it is squared in the decay. root is sqrt(fan_in) for weights, else 1: so a step moves
    sqrt(fan_in) W as Adam would if that were the parameter. Biases do not decay, all others do.
    """

    def __init__(self, beta_1=0.9, beta_2=0.95, epsilon=1e-8):
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon
        self.t, self.ms, self.vs = 0, {}, {}

    def step(self, parameters, gradients, rate, weight_decay=0.0):
        """Move the parameters, a dict of arrays, in place, against their gradients."""
        self.t += 1
        for name, p in parameters.items():
            g, f = gradients[name], RATE_FACTORS[kind(name)]
            root = np.sqrt(len(p)) if kind(name) == "weights" else 1.0
            m = self.ms[name] = self.beta_1 * self.ms.get(name, 0.0) + (1 - self.beta_1) * g
            v = self.vs[name] = self.beta_2 * self.vs.get(name, 0.0) + (1 - self.beta_2) * g**2
            if kind(name) != "biases":
                p *= 1 - rate * f**2 * weight_decay
            m_hat, v_hat = m / (1 - self.beta_1**self.t), v / (1 - self.beta_2**self.t)
            p -= rate * f / root * m_hat / (np.sqrt(v_hat) + self.epsilon * root)


def fit(
    X, codes, Y, orders, batch_size, parameters, activation, loss_name, learning_rate, weight_decay=0.0, epsilon=1e-8
):  # fmt: skip
    """Move the parameters through len(orders) epochs; the losses of the batches, each the one before its own step.

    An epoch goes over the rows of its order, without the incomplete last batch. The rate follows coslog4, the decay
    flat_cos, of the batches done when a batch begins.
    """
    adam, losses = Adam(epsilon=epsilon), []
    per_epoch = len(X) // batch_size
    n = per_epoch * len(orders)
    for order in orders:
        for rows in order[: per_epoch * batch_size].reshape(per_epoch, batch_size):
            k = len(losses)
            batch_loss, g = gradients(X[rows], codes[rows], Y[rows], parameters, activation, loss_name)
            rate, decay = learning_rate * FACTORS["coslog4"](k, n), weight_decay * FACTORS["flat_cos"](k, n)
            adam.step(parameters, g, rate, decay)
            losses.append(batch_loss)
    return np.array(losses)


def simple_start(rng, layer_units):
    """The parameters that TD-S starts with: weights N(0, 1 / fan_in), biases N(0, 1), the last layer 0."""
    p = draw_embeddings(rng, 0, []) | {"scale": np.ones(layer_units[0])}
    L = len(layer_units) - 1
    for i, (fan_in, fan_out) in enumerate(zip(layer_units[:-1], layer_units[1:], strict=True), start=1):
        p[f"weights_{i}"] = rng.normal(size=(fan_in, fan_out)) / np.sqrt(fan_in) * (i < L)
        p[f"biases_{i}"] = rng.normal(size=fan_out) * (i < L)
    return p


def draw_embeddings(rng, J, n_codes):
    """Of J numbers, and of columns with codes 0 .. n - 1 for each n of n_codes."""
    p = {
        "frequencies": 0.1 * rng.normal(size=(J, FREQUENCIES)),
        "phases": rng.uniform(-np.pi, np.pi, (J, FREQUENCIES)),
        "projections": rng.uniform(-1, 1, (J, FREQUENCIES, PROJECTED)) / np.sqrt(FREQUENCIES),
        "offsets": rng.uniform(-1, 1, (J, PROJECTED)) / np.sqrt(FREQUENCIES),
    }
    return p | {f"embedding_{i}": rng.normal(size=(n, EMBEDDED)) for i, n in enumerate(n_codes, start=1)}


def data_start(rng, X, codes, units, activation, J, n_codes):
    """The parameters that TD starts with, from the training rows; `units` are those of the layers 1 .. L.

    For each layer, the last too: W = N / std(A N) with N of N(0, 1), so that A W has a standard deviation of 1 (that of
    a population) for each unit; then b = -(sum of e_k (A W)[row k]) / (sum of e_k) over 5 rows drawn for each unit with
    replacement, e_k of Exp(1).
    """
    p = draw_embeddings(rng, J, n_codes)
    A = inputs(X, codes, p)
    p["scale"] = np.ones(A.shape[1])
    for i, fan_out in enumerate(units, start=1):
        N = rng.normal(size=(A.shape[1], fan_out))
        p[f"weights_{i}"] = N / (A @ N).std(axis=0)
        Z = A @ p[f"weights_{i}"]
        rows, e = rng.randint(len(X), size=(5, fan_out)), rng.exponential(size=(5, fan_out))
        p[f"biases_{i}"] = -(e * Z[rows, np.arange(fan_out)]).sum(axis=0) / e.sum(axis=0)
        if i < len(units):
            p[f"blends_{i}"] = np.ones(fan_out)
            A = ACTIVATIONS[activation](Z + p[f"biases_{i}"])
    return p
