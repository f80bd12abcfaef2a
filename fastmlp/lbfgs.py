"""Training by L-BFGS: SciPy looks for the step, the network gives it loss and gradient of all rows at once."""

import numpy as np


def flatten(weights, biases):
    """All parameters in one vector, weights of all layers before biases: what L-BFGS works on."""
    return np.concatenate([np.ravel(array) for array in [*weights, *biases]])


def unflatten(flat, shapes):
    """Weights and biases of layers of these shapes, two lists of views into such a vector."""
    sizes = [n * m for n, m in shapes] + [m for _, m in shapes]
    parts = np.split(flat, np.cumsum(sizes)[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=False)], parts[len(shapes) :]


def loss_and_gradient(flat, network, data, alpha=0.0):
    """Loss of all rows at these flattened parameters, which the network takes over, and its flattened gradient."""
    gradient, shapes = np.empty(flat.size, network.dtype), network.panels.shapes
    network.set_parameters(*unflatten(flat, shapes))
    loss, *_ = network.gradients(data, alpha, unflatten(gradient, shapes))
    return loss, gradient


def minimize(network, data, *, alpha=0.0, max_iter=200, max_fun=15000, tol=1e-4, stop=None):
    """Train by L-BFGS.

    SciPy's own numbers are float64; it asks for losses and gradients in the dtype of what it starts with.

    Parameters
    ----------
    network : MLP
        It starts with the parameters it has, and ends with the best.
    data : Data
        Made by `network.data`.
    alpha : float, default=0.0
        Weight of the L2 penalty.
    max_iter, max_fun : int
        Iterations, and evaluations of the loss, that are allowed.
    tol : float, default=1e-4
        It has converged when no element of the gradient is larger.
    stop : callable, optional
        After each iteration, of its loss, weights and biases: whether it was the last one.

    Returns
    -------
    result : scipy.optimize.OptimizeResult
        `status` is 0 if it has converged; `x` are the flattened parameters, in float64.
    """
    import scipy.optimize  # here, so that who trains with Adam does not wait for it

    def callback(intermediate_result):
        if stop(intermediate_result.fun, *unflatten(intermediate_result.x, network.panels.shapes)):
            raise StopIteration

    result = scipy.optimize.minimize(
        loss_and_gradient,
        flatten(network.weights, network.biases),
        args=(network, data, alpha),
        method="L-BFGS-B",
        jac=True,
        callback=callback if stop is not None else None,
        options={"maxfun": max_fun, "maxiter": max_iter, "gtol": tol},
    )
    network.set_parameters(*unflatten(result.x, network.panels.shapes))
    network.release()
    return result
