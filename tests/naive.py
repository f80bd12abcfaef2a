"""The mathematics of fastmlp in plain NumPy, formulas first: the slow twin that the kernels are tested against.

A network of L layers is three lists of length L:

    weights      W_1 .. W_L, each (fan_in, fan_out)
    biases       b_1 .. b_L, each (fan_out,)
    activations  names of f_1 .. f_L; hidden: identity, logistic, tanh, relu, leaky_relu, elu, selu, softplus, silu,
                 gelu, mish; the last: logistic, softmax, identity, exp

X is (n, n_features), Y is always (n, n_outputs): one-hot for softmax, zeros and ones for logistic, real numbers for
identity, counts for exp. A loss that is not named is the one that fits the output: delta_L = A_L - Y. The definitions
are scikit-learn's where it has them.
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

HUBER_DELTA = 1.0
# dloss/dZ_L of the losses that do not fit their output.
DELTAS = {"huber": lambda Y, P: np.clip(P - Y, -HUBER_DELTA, HUBER_DELTA)}
FITTING = {"identity": "squared_error", "exp": "poisson", "softmax": "cross_entropy", "logistic": "binary_log_loss"}


def forward(X, weights, biases, activations):
    """[A_0 .. A_L] with A_0 = X and A_i = f_i(A_{i-1} W_i + b_i), (n, fan_out of layer i)."""
    values = [X]
    for W, b, activation in zip(weights, biases, activations, strict=True):
        values.append(ACTIVATIONS[activation](values[-1] @ W + b))
    return values


def loss(Y, output, name, sample_weight=None):
    """The loss of the output P, (n, n_outputs), without the penalty on the weights.

        squared_error     (Y - P)^2 / 2                          mean over the outputs
        huber             the same up to an error of d, then d (|Y - P| - d / 2)
        poisson           Y log(Y / P) - Y + P                   sum over the outputs
        cross_entropy     -Y log(P)                              sum over the outputs
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
    elif name == "poisson":
        losses = xlogy(Y, Y / P) - Y + P
    else:
        eps = np.finfo(P.dtype).eps
        P = np.clip(P, eps, 1 - eps)
        losses = -Y * np.log(P)
        if name == "binary_log_loss":
            losses -= (1 - Y) * np.log(1 - P)
    per_output = np.average(losses, axis=0, weights=sample_weight)
    return float(per_output.mean() if name in ("squared_error", "huber") else per_output.sum())


def deltas(Y, values, weights, biases, activations, sample_weight=None, loss=None):
    """[delta_1 .. delta_L], delta_i = d(sum of the rows' losses) / d(Z_i), (n, fan_out of layer i).

        delta_L     = (A_L - Y) * sample_weight, or what else dloss/dZ_L is
        delta_{i-1} = delta_i W_i' * f'(Z_{i-1})

    `values` is what `forward` returned. The deltas are those of the sum over the outputs, not the mean.
    """
    delta = DELTAS[loss](Y, values[-1]) if loss in DELTAS else values[-1] - Y
    if sample_weight is not None:
        delta = delta * sample_weight[:, None]
    found = [delta]
    for i in range(len(weights) - 1, 0, -1):
        Z = values[i - 1] @ weights[i - 1] + biases[i - 1]
        delta = delta @ weights[i].T * DERIVATIVES[activations[i - 1]](Z, values[i])
        found.insert(0, delta)
    return found


def gradients(X, Y, weights, biases, activations, sample_weight=None, alpha=0.0, loss_name=None):
    """(loss, [dW_1 .. dW_L], [db_1 .. db_L]) of one batch; S is its number of rows, or its sum of sample weights.

    loss = loss(Y, A_L) + alpha / 2 * (sum of all W^2) / S
    dW_i = (A_{i-1}' delta_i + alpha W_i) / S
    db_i = (sum of delta_i over the rows) / S
    """
    loss_name = loss_name or FITTING[activations[-1]]
    S = len(X) if sample_weight is None else sample_weight.sum()
    values = forward(X, weights, biases, activations)
    penalty = alpha / 2 * sum(np.sum(W**2) for W in weights) / S
    batch_loss = loss(Y, values[-1], loss_name, sample_weight) + float(penalty)
    D = deltas(Y, values, weights, biases, activations, sample_weight, loss_name)
    weight_gradients = [(A.T @ d + alpha * W) / S for A, d, W in zip(values[:-1], D, weights, strict=True)]
    bias_gradients = [d.sum(axis=0) / S for d in D]
    return batch_loss, weight_gradients, bias_gradients


def decay(parameters, rate, weight_decay):
    """W *= 1 - rate * weight_decay: of the parameters the first half, which are weights."""
    for W in parameters[: len(parameters) // 2]:
        W *= 1 - rate * weight_decay


class SGD:
    """v = momentum * v - learning_rate * g, then p += v, or with Nesterov p += momentum * v - learning_rate * g."""

    def __init__(self, learning_rate=0.001, momentum=0.9, nesterov=True, weight_decay=0.0):
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.momentum = momentum
        self.nesterov = nesterov
        self.velocities = None

    def step(self, parameters, gradients):
        """Move the parameters, a list of arrays, in place, against their gradients."""
        if self.velocities is None:
            self.velocities = [np.zeros_like(p) for p in parameters]
        decay(parameters, self.learning_rate, self.weight_decay)
        for i, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
            v = self.velocities[i] = self.momentum * self.velocities[i] - self.learning_rate * g
            p += self.momentum * v - self.learning_rate * g if self.nesterov else v


class Adam:
    """m = beta_1 m + (1 - beta_1) g,  v = beta_2 v + (1 - beta_2) g^2,  p -= rate * m / (sqrt(v) + epsilon)

    with rate = learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) at step t = 1, 2, ..: epsilon stands outside the
    bias correction.
    """

    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-8, weight_decay=0.0):
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
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
        decay(parameters, self.learning_rate, self.weight_decay)
        rate = self.learning_rate * (1 - self.beta_2**self.t) ** 0.5 / (1 - self.beta_1**self.t)
        for i, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
            m = self.ms[i] = self.beta_1 * self.ms[i] + (1 - self.beta_1) * g
            v = self.vs[i] = self.beta_2 * self.vs[i] + (1 - self.beta_2) * g**2
            p -= rate * m / (np.sqrt(v) + self.epsilon)


def epoch(X, Y, order, batch_size, weights, biases, activations, optimizer, alpha=0.0, sample_weight=None, loss=None):
    """One pass over the rows `order`, a step per batch, weights and biases moved in place; a short last batch is kept.

    Returns the sum of (batch loss * batch rows) / (all rows): each batch's loss is the one before its own step.
    """
    total = 0.0
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        row_weights = None if sample_weight is None else sample_weight[rows]
        batch_loss, weight_gradients, bias_gradients = gradients(
            X[rows], Y[rows], weights, biases, activations, row_weights, alpha, loss
        )
        optimizer.step([*weights, *biases], [*weight_gradients, *bias_gradients])
        total += batch_loss * len(rows)
    return total / len(order)
