"""The mathematics of fastmlp in plain NumPy, formulas first: the slow twin that the kernels are tested against.

A network of L layers is three lists of length L:

    weights      W_1 .. W_L, each (fan_in, fan_out)
    biases       b_1 .. b_L, each (fan_out,)
    activations  names of f_1 .. f_L; hidden: identity, logistic, tanh, relu, leaky_relu, elu, selu, softplus, silu,
                 gelu, mish; the last: logistic, softmax, identity, exp

X is (n, n_features), Y is always (n, n_outputs): one-hot or probabilities for softmax, zeros and ones for logistic,
real numbers for identity, counts or numbers > 0 for exp. A loss that is not named is the first of its output, whose
delta_L = A_L - Y. The definitions are scikit-learn's where it has them.
"""

import numpy as np
import scipy.special


def logistic(Z):
    """1 / (1 + exp(-Z)), written so that exp never overflows."""
    e = np.exp(-np.abs(Z))
    return np.where(Z >= 0, 1 / (1 + e), e / (1 + e))


def softmax(Z):
    """exp(Z) / (sum of exp(Z) over the row), with the row's maximum taken off first so that exp never overflows."""
    E = np.exp(Z - Z.max(axis=1, keepdims=True))
    return E / E.sum(axis=1, keepdims=True)


def xlogy(x, y):
    """x log(y), and 0 where x is 0, whatever y is."""
    return x * np.log(np.where(x == 0, 1, y))


def softplus(Z):
    """ln(1 + exp(Z)), written so that exp never overflows."""
    return np.maximum(Z, 0) + np.log1p(np.exp(-np.abs(Z)))


def elu(Z, above=1.0, below=1.0):
    return np.where(Z > 0, above * Z, below * np.expm1(np.minimum(Z, 0)))


def elu_slope(Z, above=1.0, below=1.0):
    return np.where(Z > 0, above, below * np.exp(np.minimum(Z, 0)))


SELU = 1.0507009873554805, 1.0507009873554805 * 1.6732632423543772
normal = scipy.special.ndtr  # the normal distribution

ACTIVATIONS = {
    "identity": lambda Z: Z,
    "logistic": logistic,
    "tanh": np.tanh,
    "relu": lambda Z: np.maximum(Z, 0),
    "leaky_relu": lambda Z: np.where(Z > 0, Z, 0.01 * Z),
    "elu": elu,
    "selu": lambda Z: elu(Z, *SELU),
    "softplus": softplus,
    "silu": lambda Z: Z * logistic(Z),
    "gelu": lambda Z: Z * normal(Z),
    "mish": lambda Z: Z * np.tanh(softplus(Z)),
    "softmax": softmax,
    "exp": np.exp,
}

# f'(Z) of the hidden activations, written in terms of Z and the output A = f(Z).
DERIVATIVES = {
    "identity": lambda Z, A: np.ones_like(A),
    "logistic": lambda Z, A: A * (1 - A),
    "tanh": lambda Z, A: 1 - A**2,
    "relu": lambda Z, A: (A > 0).astype(A.dtype),
    "leaky_relu": lambda Z, A: np.where(Z > 0, 1, 0.01),
    "elu": lambda Z, A: elu_slope(Z),
    "selu": lambda Z, A: elu_slope(Z, *SELU),
    "softplus": lambda Z, A: logistic(Z),
    "silu": lambda Z, A: logistic(Z) * (1 + Z * (1 - logistic(Z))),
    "gelu": lambda Z, A: normal(Z) + Z * np.exp(-(Z**2) / 2) / np.sqrt(2 * np.pi),
    "mish": lambda Z, A: np.tanh(softplus(Z)) + Z * logistic(Z) * (1 - np.tanh(softplus(Z)) ** 2),
}

KINKED = "relu", "leaky_relu", "selu"  # f' is not continuous at 0

HUBER_DELTA, QUANTILE = 1.0, 0.3
# dloss/dZ_L of the losses that are not the first of their output.
DELTAS = {
    "huber": lambda Y, P: np.clip(P - Y, -HUBER_DELTA, HUBER_DELTA),
    "absolute_error": lambda Y, P: np.sign(P - Y),
    "quantile": lambda Y, P: (P > Y) * (1 - QUANTILE) - (P < Y) * QUANTILE,
    "gamma": lambda Y, P: 1 - Y / P,
    "soft_cross_entropy": lambda Y, P: P - Y,
}
# Of these the loss of a row is the mean over its outputs.
MEANS = "squared_error", "huber", "absolute_error", "quantile"
FITTING = {"identity": "squared_error", "exp": "poisson", "softmax": "cross_entropy", "logistic": "binary_log_loss"}


def forward(X, weights, biases, activations, factors=None):
    """[A_0 .. A_L] with A_0 = X and A_i = f_i(A_{i-1} W_i + b_i) * r_i, (n, fan_out of layer i).

    r_i are the factors of dropout, of hidden layers, if there are any.
    """
    values = [X]
    for i, (W, b, activation) in enumerate(zip(weights, biases, activations, strict=True)):
        A = ACTIVATIONS[activation](values[-1] @ W + b)
        values.append(A * factors[i] if factors and i < len(factors) else A)
    return values


def mixed(x):
    """SplitMix64's output for the state x."""
    z = np.uint64(x) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def dropout_factors(p, n, units, seed, batch, layer):
    """(n, units): 0 with probability p, else 1 / (1 - p); a hash of seed, batch, layer, row and unit says which."""
    with np.errstate(over="ignore"):
        rows = np.uint64(layer << 32) + np.arange(n, dtype=np.uint64)
        rows = mixed(mixed(mixed(np.uint64(seed)) ^ np.uint64(batch)) ^ rows)
        low, high = rows.astype(np.uint32)[:, None], (rows >> np.uint64(32)).astype(np.uint32)[:, None]
        x = np.arange(units, dtype=np.uint32) * np.uint32(0x9E3779B1) + low
        x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
        x = (x ^ (x >> np.uint32(15))) + high
        x = x * np.uint32(0x846CA68B)
    return np.where((x ^ (x >> np.uint32(16))) < round(p * 2**32), 0.0, 1 / (1 - p))


class Dropout:
    """The factors of hidden layers, batch after batch."""

    def __init__(self, probabilities, seed=0):
        self.probabilities, self.seed, self.batches = probabilities, seed, 0

    def next(self, n, units):
        """Of the next batch of n rows, for all hidden layers; `units` is the width of each."""
        self.batches += 1
        return [
            dropout_factors(p, n, m, self.seed, self.batches - 1, layer)
            for layer, (p, m) in enumerate(zip(self.probabilities, units, strict=True), start=1)
        ]


def loss(Y, output, name, sample_weight=None):
    """The loss of the output P, (n, n_outputs), without the penalty on the weights.

        squared_error     (Y - P)^2 / 2                          mean over the outputs
        huber             the same up to an error of d, then d (|Y - P| - d / 2)
        absolute_error    |Y - P|                                mean over the outputs
        quantile          q (Y - P) where Y > P, else (1 - q) (P - Y)
        poisson           Y log(Y / P) - Y + P                   sum over the outputs
        gamma             log(P / Y) + Y / P - 1                 sum over the outputs
        cross_entropy     -Y log(P)                              sum over the outputs; soft_cross_entropy too
        binary_log_loss   -Y log(P) - (1 - Y) log(1 - P)         sum over the outputs

    each averaged over the rows, with weights sample_weight, (n,), if given. Probabilities are clipped to
    [eps, 1 - eps] of their dtype.
    """
    P = output
    if name == "squared_error":
        losses = (Y - P) ** 2 / 2
    elif name == "huber":
        error = np.abs(Y - P)
        losses = np.where(error <= HUBER_DELTA, error**2 / 2, HUBER_DELTA * (error - HUBER_DELTA / 2))
    elif name == "absolute_error":
        losses = np.abs(Y - P)
    elif name == "quantile":
        losses = np.where(Y > P, QUANTILE * (Y - P), (1 - QUANTILE) * (P - Y))
    elif name == "poisson":
        losses = xlogy(Y, Y / P) - Y + P
    elif name == "gamma":
        losses = np.log(P / Y) + Y / P - 1
    else:
        eps = np.finfo(P.dtype).eps
        P = np.clip(P, eps, 1 - eps)
        losses = -Y * np.log(P)
        if name == "binary_log_loss":
            losses -= (1 - Y) * np.log(1 - P)
    per_output = np.average(losses, axis=0, weights=sample_weight)
    return float(per_output.mean() if name in MEANS else per_output.sum())


def deltas(Y, values, weights, biases, activations, sample_weight=None, loss=None, factors=None):
    """[delta_1 .. delta_L], delta_i = d(sum of the rows' losses) / d(Z_i), (n, fan_out of layer i).

        delta_L     = (A_L - Y) * sample_weight, or what else dloss/dZ_L is
        delta_{i-1} = delta_i W_i' * f'(Z_{i-1}) * r_{i-1}

    `values` is what `forward` returned. The deltas are those of the sum over the outputs, not the mean.
    """
    delta = DELTAS[loss](Y, values[-1]) if loss in DELTAS else values[-1] - Y
    if sample_weight is not None:
        delta = delta * sample_weight[:, None]
    found = [delta]
    for i in range(len(weights) - 1, 0, -1):
        Z, f = values[i - 1] @ weights[i - 1] + biases[i - 1], activations[i - 1]
        delta = delta @ weights[i].T * DERIVATIVES[f](Z, ACTIVATIONS[f](Z)) * (factors[i - 1] if factors else 1)
        found.insert(0, delta)
    return found


def gradients(X, Y, weights, biases, activations, sample_weight=None, alpha=0.0, loss_name=None, factors=None):
    """(loss, [dW_1 .. dW_L], [db_1 .. db_L]) of one batch; S is its number of rows, or its sum of sample weights.

    loss = loss(Y, A_L) + alpha / 2 * (sum of all W^2) / S
    dW_i = (A_{i-1}' delta_i + alpha W_i) / S
    db_i = (sum of delta_i over the rows) / S
    """
    loss_name = loss_name or FITTING[activations[-1]]
    S = len(X) if sample_weight is None else sample_weight.sum()
    values = forward(X, weights, biases, activations, factors)
    penalty = alpha / 2 * sum(np.sum(W**2) for W in weights) / S
    batch_loss = loss(Y, values[-1], loss_name, sample_weight) + float(penalty)
    D = deltas(Y, values, weights, biases, activations, sample_weight, loss_name, factors)
    weight_gradients = [(A.T @ d + alpha * W) / S for A, d, W in zip(values[:-1], D, weights, strict=True)]
    bias_gradients = [d.sum(axis=0) / S for d in D]
    return batch_loss, weight_gradients, bias_gradients


def decay(parameters, rate, weight_decay):
    """W *= 1 - rate * weight_decay: of the parameters the first half, which are weights."""
    for W in parameters[: len(parameters) // 2]:
        W *= 1 - rate * weight_decay


def clip(gradients, clipnorm):
    """Gradients whose norm, that of all of them together, is at most clipnorm: as PyTorch's clip_grad_norm_ has it."""
    if clipnorm is None:
        return gradients
    norm = np.sqrt(sum(np.sum(g**2) for g in gradients))
    return [g * min(1, clipnorm / (norm + 1e-6)) for g in gradients]


class SGD:
    """v = momentum * v - learning_rate * g, then p += v, or with Nesterov p += momentum * v - learning_rate * g.

    With `of_gradients` v = momentum * v + g, then p -= learning_rate * v, or learning_rate * (momentum * v + g).
    """

    def __init__(
        self, learning_rate=0.001, momentum=0.9, nesterov=True, weight_decay=0.0, clipnorm=None, of_gradients=False
    ):
        self.of_gradients = of_gradients
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.clipnorm = clipnorm
        self.momentum = momentum
        self.nesterov = nesterov
        self.velocities = None

    def step(self, parameters, gradients):
        """Move the parameters, a list of arrays, in place, against their gradients."""
        if self.velocities is None:
            self.velocities = [np.zeros_like(p) for p in parameters]
        decay(parameters, self.learning_rate, self.weight_decay)
        for i, (p, g) in enumerate(zip(parameters, clip(gradients, self.clipnorm), strict=True)):
            rate, after = (-1, -self.learning_rate) if self.of_gradients else (self.learning_rate, 1)
            v = self.velocities[i] = self.momentum * self.velocities[i] - rate * g
            p += after * (self.momentum * v - rate * g if self.nesterov else v)


class Adam:
    """m = beta_1 m + (1 - beta_1) g,  v = beta_2 v + (1 - beta_2) g^2,  p -= rate * m / (sqrt(v) + epsilon)

    with rate = learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) at step t = 1, 2, ..: epsilon stands outside the
    bias correction. With `epsilon_inside` it is epsilon * sqrt(1 - beta_2^t).

    `factors` are those of the rate and of decay, for weights and for biases. With `fan_in` a step moves sqrt(n) W as
    Adam would, for n units below: that of W has the rate divided by sqrt(n), and epsilon times sqrt(n).
    """

    def __init__(
        self, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-8, weight_decay=0.0, clipnorm=None,
        factors=None, fan_in=False, epsilon_inside=False,
    ):  # fmt: skip
        self.factors = {"weights": (1, 1), "biases": (1, 0)} | (factors or {})
        self.fan_in, self.epsilon_inside = fan_in, epsilon_inside
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.clipnorm = clipnorm
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.t = 0
        self.ms = self.vs = None

    def step(self, parameters, gradients):
        """Move the parameters, a list of arrays, in place, against their gradients."""
        if self.t == 0:
            self.ms = [np.zeros_like(p) for p in parameters]
            self.vs = [np.zeros_like(p) for p in parameters]
        self.t += 1
        corrected = (1 - self.beta_2**self.t) ** 0.5
        rate = self.learning_rate * corrected / (1 - self.beta_1**self.t)
        for i, (p, g) in enumerate(zip(parameters, clip(gradients, self.clipnorm), strict=True)):
            weights = i < len(parameters) // 2
            factor, of_decay = self.factors["weights" if weights else "biases"]
            root = np.sqrt(len(p)) if self.fan_in and weights else 1.0
            epsilon = self.epsilon * root * (corrected if self.epsilon_inside else 1.0)
            m = self.ms[i] = self.beta_1 * self.ms[i] + (1 - self.beta_1) * g
            v = self.vs[i] = self.beta_2 * self.vs[i] + (1 - self.beta_2) * g**2
            p *= 1 - self.learning_rate * self.weight_decay * of_decay
            p -= rate * factor / root * m / (np.sqrt(v) + epsilon)


def onecycle(k, n):
    """Half a cosine from 1/25 at k = 0 to 1 where 30 % of the batches end, then one down to 1/250,000 at the last."""
    k, top = min(k, n - 1), 0.3 * n - 1
    if k > top:
        return 4e-6 + (1 - 4e-6) * np.cos(np.pi / 2 * (k - top) / (n - 1 - top)) ** 2
    return 0.04 + 0.96 * np.sin(np.pi / 2 * k / top) ** 2


# What the rate is multiplied by after k of n batches, of schedules that change it from batch to batch.
FACTORS = {
    "cosine": lambda k, n: np.cos(np.pi / 2 * k / n) ** 2,
    "onecycle": onecycle,
    "coslog4": lambda k, n: np.sin(np.pi * np.log2(1 + 15 * k / n)) ** 2,
    "flat_cos": lambda k, n: 1.0 if 2 * k < n else np.sin(np.pi * k / n) ** 2,
}


def epoch(
    X, Y, order, batch_size, weights, biases, activations, optimizer, alpha=0.0, sample_weight=None, loss=None,
    rates=(), dropout=None,
):  # fmt: skip
    """One pass over the rows `order`, a step per batch, weights and biases moved in place; a short last batch is kept.

    `rates` are those of the batches; if there are none, all have the optimizer's. Returns the sum of (batch loss *
    batch rows) / (all rows): each batch's loss is the one before its own step.
    """
    total = 0.0
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        row_weights = None if sample_weight is None else sample_weight[rows]
        factors = dropout and dropout.next(len(rows), [len(b) for b in biases[:-1]])
        batch_loss, weight_gradients, bias_gradients = gradients(
            X[rows], Y[rows], weights, biases, activations, row_weights, alpha, loss, factors
        )
        if len(rates):
            optimizer.learning_rate = rates[start // batch_size]
        optimizer.step([*weights, *biases], [*weight_gradients, *bias_gradients])
        total += batch_loss * len(rows)
    return total / len(order)
