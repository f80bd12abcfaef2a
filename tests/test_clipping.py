"""Clipping by the norm of the whole gradient: PyTorch's clip_grad_norm_, for rows, groups, layers and sparse X.

The twin's numbers, on any number of threads and every tile: "clipped" among the optimizers of networks.py.
"""

import naive
import numba
import numpy as np
import pytest
import scipy.sparse
from helpers import dtypes
from models import TARGETS, X
from networks import Twin, assert_near_twin, bits, draw_data, draw_network

import fastmlp
from fastmlp.optimizers import SGD, Adam

y = TARGETS["MLPRegressor"]
RATE, CLIPNORM, EPOCHS = 0.05, 1.0, 20
OPTIMIZERS = {"adam": (Adam, {"epsilon": 1e-15}), "nesterov": (SGD, {}), "plain sgd": (SGD, {"momentum": 0.0})}

# All weights, then all biases, of `by_torch`: PyTorch 2.13's.
BY_TORCH = {
    "adam": [
        -0.533933677735, -0.087526805343, 0.796644190670, 0.635098146283, -0.668093899620, 0.585151972426,
        -0.070614111445, 1.119455120304, 0.945051234863, 0.203067820677, 0.445177522918, 0.475490145124,
        -1.479877093188, -1.054965264269, 1.240828640304, 0.385021120978, 1.209980512031, 0.584050263722,
        0.557702693148,
    ],
    "nesterov": [
        -0.569622096389, -0.415184209775, 0.740877034185, 0.689409379439, 0.011134766844, 0.900473876967,
        0.064626942185, 0.625419616231, 0.990131556762, 0.098808371297, 0.737211006424, 0.529623474818,
        -0.937720525957, -1.114091576336, 1.221031809005, 0.222977286556, 0.745384528753, 0.421689891525,
        0.248678520515,
    ],
    "plain sgd": [
        -0.475560423655, -0.146649164331, 0.695042518591, 0.205147237574, -0.274136342778, 0.179347528261,
        -0.146859979789, 0.669087815242, 0.875215628554, -0.033055791724, 0.504025755722, 0.157620480714,
        -1.128648382106, -1.075161192971, 0.873681096994, 0.113211830112, 0.827217936906, -0.451869632899,
        0.681285850290,
    ],
}  # fmt: skip


def small_network():
    network = fastmlp.MLP([4, 3, 1], "tanh", "identity", np.float64)
    network.initialize(np.random.RandomState(0))
    return network


def flat(arrays):
    return np.concatenate([np.ravel(array) for array in arrays])


def by_torch(name):
    """Of 20 epochs of three batches; some of their gradients are longer than CLIPNORM, some are not."""
    import torch

    network, (_, parameters) = small_network(), OPTIMIZERS[name]
    arrays = [torch.tensor(array, requires_grad=True) for array in network.weights + network.biases]
    if name == "adam":
        optimizer = torch.optim.AdamW(arrays, RATE, eps=parameters["epsilon"], weight_decay=0.0)
    else:
        momentum = parameters.get("momentum", 0.9)
        optimizer = torch.optim.SGD(arrays, RATE, momentum, nesterov=momentum > 0)
    norms = []
    for start in [0, 10, 20] * EPOCHS:
        rows, targets = torch.tensor(X[start : start + 10]), torch.tensor(y[start : start + 10])
        outputs = (torch.tanh(rows @ arrays[0] + arrays[2]) @ arrays[1] + arrays[3]).ravel()
        optimizer.zero_grad()
        (torch.nn.functional.mse_loss(outputs, targets) / 2).backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(arrays, CLIPNORM)))
        optimizer.step()
    assert min(norms) < CLIPNORM < max(norms)
    return flat([array.detach().numpy() for array in arrays])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_numbers_of_pytorch(name):
    network, (cls, parameters) = small_network(), OPTIMIZERS[name]
    optimizer, data = cls(network, RATE, clipnorm=CLIPNORM, **parameters), network.data(X, y)
    for _ in range(EPOCHS):
        network.train_epoch(data, optimizer, 10)
    np.testing.assert_allclose(flat(network.weights + network.biases), BY_TORCH[name], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_pytorch_gives_these_numbers(name):
    """Where it is installed."""
    pytest.importorskip("torch")
    np.testing.assert_allclose(by_torch(name), BY_TORCH[name], rtol=0, atol=1e-9)


# name: (layers, rows of a batch, whether X is sparse)
SHAPES = {
    "rows": ((7, 21, 6, 3), 13, False),
    "groups of rows": ((3, 5, 2), 600, False),
    "wide, by layers": ((16, 100, 130, 3), 20, False),
    "sparse": ((40, 21, 3), 13, True),
    "sparse, by layers": ((40, 200, 3), 13, True),
}


@dtypes
@pytest.mark.parametrize("shape", SHAPES)
def test_training_is_that_of_the_twin(shape, dtype, monkeypatch):
    """With a penalty, decay and sample weights; the same bits on two threads as on one."""
    monkeypatch.setattr(fastmlp.network, "_TRAIN_IN_PARALLEL", 0)
    units, batch, sparse = SHAPES[shape]
    found = []
    for threads in 1, 2, 2:
        numba.set_num_threads(threads)
        rng, n = np.random.RandomState(0), 2 * batch + 5
        network = draw_network(rng, units, "tanh", "softmax", dtype, sparse)
        twin, (rows, targets) = Twin(network), draw_data(rng, units, "softmax", n)
        rows, weights = rows * (rng.uniform(size=rows.shape) < (0.3 if sparse else 1)), rng.uniform(0.5, 2, n)
        data = network.data(scipy.sparse.csr_array(rows) if sparse else rows, targets, weights)
        ours, theirs = SGD(network, 0.1, weight_decay=0.1, clipnorm=0.2), naive.SGD(0.1, 0.9, True, 0.1, 0.2)
        for _ in range(3):
            loss = network.train_epoch(data, ours, batch, 0.3)
            assert loss == pytest.approx(
                twin.train_epoch(rows, targets, theirs, batch, 0.3, sample_weight=weights), rel=1e-4
            )
        assert_near_twin(network, twin)
        found.append(bits(network))
    assert found[0] == found[1] == found[2]


def test_a_norm_that_is_allowed_changes_no_bit():
    networks = [small_network() for _ in range(3)]
    for network, clipnorm in zip(networks, (None, 1e6, 0.1), strict=True):
        optimizer = Adam(network, RATE, clipnorm=clipnorm)
        for _ in range(3):
            network.train_epoch(network.data(X, y), optimizer, 10, 0.1)
    assert bits(networks[0]) == bits(networks[1]) != bits(networks[2])


def test_a_gradient_that_is_no_number_stays_one():
    """Divergence is not hidden."""
    network = small_network()
    network.train_epoch(network.data(X, np.where(np.arange(len(y)) == 3, np.nan, y)), SGD(network, clipnorm=0.1), 10)
    assert all(np.isnan(W).any() for W in network.weights)


@pytest.mark.parametrize("bad", [0, -1.0, np.nan, np.inf])
def test_norms_that_make_no_sense(bad):
    for optimizer in Adam, SGD:
        with pytest.raises(ValueError, match="clipnorm must be a number > 0"):
            optimizer(small_network(), clipnorm=bad)
