"""The plain NumPy twin keeps its promise: its gradients are derivatives, its epochs are scikit-learn's."""

import warnings
from itertools import pairwise

import naive
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.neural_network._base import ACTIVATIONS, DERIVATIVES, LOSS_FUNCTIONS
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

from fastmlp.compiled import activations
from fastmlp.compiled.losses import LOSSES

OUTPUTS = {name: row.output for name, row in LOSSES.items()}


def test_the_twin_has_every_row_of_the_tables():
    """Of activations, their derivatives and losses; none besides."""
    assert naive.ACTIVATIONS.keys() == activations.HIDDEN.keys() | activations.OUTPUTS.keys()
    assert naive.DERIVATIVES.keys() == activations.HIDDEN.keys()
    assert {*naive.FITTING.values(), *naive.DELTAS} == LOSSES.keys()
    assert all(LOSSES[loss].output == output for output, loss in naive.FITTING.items())


def draw_network(rng, layer_units, factor=6.0, dtype=np.float64):
    """Weights and biases as scikit-learn draws them: layer by layer, the weights first."""
    weights, biases = [], []
    for fan_in, fan_out in pairwise(layer_units):
        bound = np.sqrt(factor / (fan_in + fan_out))
        weights.append(rng.uniform(-bound, bound, (fan_in, fan_out)).astype(dtype))
        biases.append(rng.uniform(-bound, bound, fan_out).astype(dtype))
    return weights, biases


def draw_targets(rng, loss, shape):
    """A target matrix that suits the loss; the counts hold a zero."""
    output = OUTPUTS[loss]
    if loss == "soft_cross_entropy":
        return rng.dirichlet(np.ones(shape[1]), shape[0])
    if loss == "gamma":
        return rng.gamma(2.0, size=shape)
    if output == "softmax":
        return np.eye(shape[1])[rng.randint(shape[1], size=shape[0])]
    if output == "logistic":
        return rng.randint(2, size=shape).astype(float)
    if output == "exp":
        Y = rng.poisson(2.0, size=shape).astype(float)
        Y[0] = 0
        return Y
    return rng.normal(size=shape)


def draw_smooth_case(hidden, loss, layer_units, n_rows=8):
    """(X, Y, weights, biases, activations) where no sum or error is within 1e-3 of a kink, for any row."""
    activations = [hidden] * (len(layer_units) - 2) + [OUTPUTS[loss]]
    for seed in range(100):
        rng = np.random.RandomState(seed)
        X = rng.normal(size=(n_rows, layer_units[0]))
        Y = draw_targets(rng, loss, (n_rows, layer_units[-1]))
        weights, biases = draw_network(rng, layer_units)
        values = naive.forward(X, weights, biases, activations)
        hidden_sums = [A @ W + b for A, W, b in zip(values[:-1], weights, biases, strict=True)][:-1]
        kinks = [values[-1] - Y] + (hidden_sums if hidden in naive.KINKED else [])
        if all(np.abs(Z).min() > 1e-3 for Z in kinks):
            return X, Y, weights, biases, activations
    raise AssertionError("no smooth point found")


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("layer_units", [(4, 3), (4, 5, 3), (4, 5, 2, 3)], ids=str)
@pytest.mark.parametrize("loss", OUTPUTS)
@pytest.mark.parametrize("hidden", naive.DERIVATIVES)
def test_gradients_are_central_differences_of_the_loss(hidden, loss, layer_units, weighted):
    """dW and db are d loss / d parameter; the squared error's gradient is that of the sum over its outputs."""
    X, Y, weights, biases, activations = draw_smooth_case(hidden, loss, layer_units)
    sample_weight = np.random.RandomState(0).uniform(0.5, 2, len(X)) if weighted else None
    per_output = layer_units[-1] if LOSSES[loss].mean else 1
    alpha, h = 0.3, 1e-5

    def objective():
        data_loss, _, _ = naive.gradients(X, Y, weights, biases, activations, sample_weight, 0.0, loss)
        full_loss, _, _ = naive.gradients(X, Y, weights, biases, activations, sample_weight, alpha, loss)
        return per_output * data_loss + (full_loss - data_loss)

    _, weight_gradients, bias_gradients = naive.gradients(
        X, Y, weights, biases, activations, sample_weight, alpha, loss
    )
    for parameter, gradient in zip(weights + biases, weight_gradients + bias_gradients, strict=True):
        for index in np.ndindex(parameter.shape):
            kept = parameter[index]
            parameter[index] = kept + h
            above = objective()
            parameter[index] = kept - h
            below = objective()
            parameter[index] = kept
            assert gradient[index] == pytest.approx((above - below) / (2 * h), rel=1e-7, abs=1e-8)


def test_one_neuron_is_logistic_regression():
    """Without a hidden layer: A = logistic(XW + b), dW = X'(A - Y) / n, db = mean(A - Y)."""
    X, Y, (W,), (b,), activations = draw_smooth_case("relu", "binary_log_loss", (4, 1))
    A = 1 / (1 + np.exp(-(X @ W + b)))
    loss, (dW,), (db,) = naive.gradients(X, Y, [W], [b], activations)
    np.testing.assert_allclose(dW, X.T @ (A - Y) / len(X), rtol=1e-13)
    np.testing.assert_allclose(db, (A - Y).mean(axis=0), rtol=1e-13)
    assert loss == pytest.approx(-np.mean(np.log(np.where(Y == 1, A, 1 - A))), rel=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_and_derivatives_are_scikit_learns(dtype):
    """Same values and same dtype, from far below zero to far above."""
    Z = np.linspace(-120, 120, 97, dtype=dtype).reshape(-1, 1) + np.linspace(-0.3, 0.4, 4, dtype=dtype)
    rtol = 16 * np.finfo(dtype).eps
    for name, theirs in ACTIVATIONS.items():
        Z_here = Z / 2 if name == "exp" else Z
        expected = Z_here.copy()
        theirs(expected)
        A = naive.ACTIVATIONS[name](Z_here)
        assert A.dtype == dtype
        np.testing.assert_allclose(A, expected, rtol=rtol, atol=np.finfo(dtype).tiny)
        if name in DERIVATIVES:
            delta = np.ones_like(A)
            DERIVATIVES[name](A, delta)
            assert naive.DERIVATIVES[name](Z_here, A).dtype == dtype
            np.testing.assert_allclose(naive.DERIVATIVES[name](Z_here, A), delta, rtol=rtol)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("output", naive.FITTING)
def test_losses_are_scikit_learns(output, dtype, n_outputs):
    """With and without sample weights, saturated probabilities clipped, for one output (softmax: two) and three."""
    n_outputs += output == "softmax" and n_outputs == 1
    rng = np.random.RandomState(1)
    Y = draw_targets(rng, naive.FITTING[output], (20, n_outputs)).astype(dtype)
    Z = rng.normal(size=Y.shape)
    Z[:2] *= 1e3 if output in ("logistic", "softmax") else 1
    P = naive.ACTIVATIONS[output](Z.astype(dtype))
    for sample_weight in (None, rng.uniform(0, 3, 20).astype(dtype)):
        name = naive.FITTING[output]
        expected = LOSS_FUNCTIONS["log_loss" if name == "cross_entropy" else name](Y, P, sample_weight)
        assert naive.loss(Y, P, name, sample_weight) == pytest.approx(expected, rel=8 * float(np.finfo(dtype).eps))


@pytest.mark.parametrize("name", ["huber", "absolute_error", "quantile", "gamma"])
def test_other_losses_are_scikit_learns(name):
    """Of its gradient boosting, where Huber's delta is a quantile of the errors otherwise; gamma but for 1 + ln y."""
    from sklearn._loss import loss

    rng = np.random.RandomState(0)
    Y, Z = draw_targets(rng, name, (20, 1)), rng.normal(size=(20, 1)) * 3
    P = naive.ACTIVATIONS[OUTPUTS[name]](Z)
    theirs = {
        "huber": lambda: loss.HuberLoss(quantile=0.5, delta=naive.HUBER_DELTA),
        "absolute_error": loss.AbsoluteError,
        "quantile": lambda: loss.PinballLoss(quantile=naive.QUANTILE),
        "gamma": loss.HalfGammaLoss,
    }[name]()
    expected, gradient = theirs.loss_gradient(Y.ravel(), Z.ravel())
    constant = 1 + np.log(Y).mean() if name == "gamma" else 0
    assert naive.loss(Y, P, name) == pytest.approx(expected.mean() - constant, rel=1e-14)
    np.testing.assert_allclose(naive.DELTAS[name](Y, P).ravel(), gradient, rtol=1e-13)


@pytest.mark.parametrize("name", ["adam", "nesterov", "momentum", "plain"])
def test_optimizers_are_scikit_learns(name):
    """Equal parameters after ten steps along the same gradients."""
    rng = np.random.RandomState(2)
    ours = [rng.normal(size=(3, 2)), rng.normal(size=2)]
    theirs = [p.copy() for p in ours]
    if name == "adam":
        our_optimizer = naive.Adam(0.1, 0.8, 0.95, 1e-3)
        their_optimizer = AdamOptimizer(theirs, 0.1, 0.8, 0.95, 1e-3)
    else:
        momentum, nesterov = {"nesterov": (0.8, True), "momentum": (0.8, False), "plain": (0.0, True)}[name]
        our_optimizer = naive.SGD(0.1, momentum, nesterov)
        their_optimizer = SGDOptimizer(theirs, 0.1, "constant", momentum, nesterov)
    for _ in range(10):
        gradients = [rng.normal(size=p.shape) for p in ours]
        our_optimizer.step(ours, gradients)
        their_optimizer.update_params(theirs, gradients)
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p, q, rtol=1e-13)


def multiclass():
    X, y = load_digits(return_X_y=True)
    return X[:210] / 16, y[:210], np.eye(10)[y[:210]], "softmax"


def binary():
    X, y = load_breast_cancer(return_X_y=True)
    return (X[:210] - X.mean(axis=0)) / X.std(axis=0), y[:210], y[:210, None].astype(float), "logistic"


def multilabel():
    X, y, _, _ = multiclass()
    Y = (y[:, None] >> np.arange(4)) & 1
    return X, Y, Y.astype(float), "logistic"


def regression():
    X, y = load_diabetes(return_X_y=True)
    y = (y[:210] - y.mean()) / y.std()
    return X[:210] * 20, y, y[:, None], "identity"


def poisson():
    X, y = load_diabetes(return_X_y=True)
    y = y[:210] // 40
    return X[:210] * 20, y, y[:, None], "exp"


# (task, hidden activation, hidden layer sizes, scikit-learn's parameters, sample weights or not)
EPOCHS = {
    "softmax, adam": (multiclass, "relu", (7,), {"solver": "adam", "learning_rate_init": 0.01}, False),
    "binary, nesterov": (binary, "tanh", (9, 5), {"solver": "sgd", "learning_rate_init": 0.05}, False),
    "multilabel, momentum": (multilabel, "relu", (9,), {"solver": "sgd", "nesterovs_momentum": False}, False),
    "weighted regression, adam": (regression, "logistic", (19, 5, 11), {"solver": "adam"}, True),
    "weighted softmax, plain sgd": (multiclass, "identity", (), {"solver": "sgd", "momentum": 0.0}, True),
    "poisson, nesterov": (poisson, "tanh", (7,), {"solver": "sgd", "learning_rate_init": 0.003}, False),
}


@pytest.mark.parametrize("case", EPOCHS)
def test_epochs_are_scikit_learns(case):
    """Four epochs of 64 rows and a short last batch: loss curve, weights and biases within 1e-12 of scikit-learn's."""
    task, activation, hidden_layer_sizes, parameters, weighted = EPOCHS[case]
    X, y, Y, output = task()
    sample_weight = np.random.RandomState(5).uniform(0, 2, len(X)) if weighted else None
    alpha, batch_size, n_epochs, seed = 0.01, 64, 4, 3

    estimator = MLPRegressor if output in ("identity", "exp") else MLPClassifier
    loss = {"loss": "poisson"} if output == "exp" else {}
    theirs = estimator(
        **loss,
        **parameters,
        hidden_layer_sizes=hidden_layer_sizes,
        activation=activation,
        alpha=alpha,
        batch_size=batch_size,
        max_iter=n_epochs,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs.fit(X, y, sample_weight)

    rng = np.random.RandomState(seed)
    layer_units = (X.shape[1], *hidden_layer_sizes, Y.shape[1])
    weights, biases = draw_network(rng, layer_units, factor=2.0 if activation == "logistic" else 6.0)
    activations = [activation] * len(hidden_layer_sizes) + [output]
    if theirs.solver == "adam":
        optimizer = naive.Adam(theirs.learning_rate_init)
    else:
        optimizer = naive.SGD(theirs.learning_rate_init, theirs.momentum, theirs.nesterovs_momentum)
    loss_curve, order = [], np.arange(len(X))
    for _ in range(n_epochs):
        permutation = np.arange(len(X))
        rng.shuffle(permutation)
        order = order[permutation]
        loss_curve.append(
            naive.epoch(X, Y, order, batch_size, weights, biases, activations, optimizer, alpha, sample_weight)
        )

    np.testing.assert_allclose(loss_curve, theirs.loss_curve_, rtol=1e-12)
    for ours, expected in zip(weights + biases, theirs.coefs_ + theirs.intercepts_, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)
