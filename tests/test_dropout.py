"""Dropout: its random numbers, and a training that leaves out units, beside the twin that leaves out the same."""

import copy
import pickle

import naive
import numba
import numpy as np
import pytest
import scipy.sparse
from helpers import dtypes
from hypothesis import given
from hypothesis import strategies as st
from networks import (
    Twin,
    assert_near_twin,
    bits,
    draw_data,
    draw_network,
    hidden_activations,
)

import fastmlp.network
from fastmlp.optimizers import SGD, Adam

# ---- the generator ----


def factors(p=0.3, n=2000, units=300, seed=1, batch=1, layer=1):
    return naive.dropout_factors(p, n, units, seed, batch, layer) > 0


@pytest.mark.parametrize("p", [0.01, 0.3, 0.5, 0.9])
def test_as_many_are_left_out_as_are_asked_for(p):
    """Within 5 standard deviations: of all, of each row and of each unit."""
    kept = factors(p, 4000, 500)
    for part, count in (kept.mean(), kept.size), (kept.mean(axis=1), 500), (kept.mean(axis=0), 4000):
        assert np.abs(part - (1 - p)).max() < 5 * np.sqrt(p * (1 - p) / count)


def correlation(a, b):
    """In standard deviations of what independent ones would have."""
    a, b = a - a.mean(), b - b.mean()
    return np.mean(a * b) / a.std() / b.std() * np.sqrt(a.size)


def test_rows_units_batches_layers_and_seeds_are_independent():
    """Neighbours and those that are powers of two apart."""
    kept = factors().astype(float)
    for k in (1, 2, 3, 4, 8, 16, 64, 128, 256):
        assert abs(correlation(kept[:, k:], kept[:, :-k])) < 5, f"units {k} apart"
        assert abs(correlation(kept[k:], kept[:-k])) < 5, f"rows {k} apart"
        for other in {"batch": 1 + k}, {"layer": 1 + k}, {"seed": 1 + k}, {"seed": 1 + (k << 40)}:
            assert abs(correlation(kept, factors(**other).astype(float))) < 5, other


def test_no_pair_of_units_or_rows_is_too_alike():
    """The largest of many correlations is as large as that of NumPy's numbers, about."""
    kept = factors(n=1000, units=200).astype(float)
    theirs = (np.random.default_rng(0).random(kept.shape) > 0.3).astype(float)
    for a, b in (kept, theirs), (kept.T, theirs.T):
        ours, expected = (np.abs(np.triu(np.corrcoef(some), 1)).max() for some in (a, b))
        assert ours < 1.3 * expected


def test_counts_are_binomial():
    """How many units rows keep is spread as it should be: chi-square, 5 standard deviations."""
    counts, n, m, p = factors(0.5, 20000, 64).sum(axis=1), 20000, 64, 0.5
    assert counts.var() == pytest.approx(m * p * (1 - p), rel=5 * np.sqrt(2 / n))


# ---- training ----

SHAPES = {
    "few rows": ((7, 21, 6, 3), 13),
    "all rows": ((7, 21, 6, 3), 43),
    "one unit": ((5, 1, 2, 3), 10),
    "wide, by layers": ((16, 100, 130, 3), 20),
    "groups of rows": ((3, 5, 2), 600),
}
OPTIMIZERS = {"adam": (Adam, naive.Adam, 0.01), "sgd": (SGD, naive.SGD, 0.1)}


@pytest.fixture
def parallel(monkeypatch):
    monkeypatch.setattr(fastmlp.network, "_TRAIN_IN_PARALLEL", 0)


def trained(units, batch, hidden, dtype, dropout, optimizer="sgd", sparse=False, epochs=3, seed=0):
    """A network and its twin after some epochs, and the losses of both."""
    rng, n = np.random.RandomState(0), max(43, 2 * batch)
    network = draw_network(rng, units, hidden, "softmax", dtype, sparse, dropout=dropout)
    twin = Twin(network)
    X, Y = draw_data(rng, units, "softmax", n)
    weights = rng.uniform(0.5, 2, n)
    X = X * (rng.uniform(size=X.shape) < 0.5) if sparse else X
    ours, theirs, rate = OPTIMIZERS[optimizer]
    ours, theirs = ours(network, rate, seed=seed), theirs(rate)
    twin.dropout.seed = seed
    data = network.data(scipy.sparse.csr_array(X) if sparse else X, Y, weights)
    found = [network.train_epoch(data, ours, batch, 0.1) for _ in range(epochs)]
    expected = [twin.train_epoch(X, Y, theirs, batch, 0.1, sample_weight=weights) for _ in range(epochs)]
    return network, twin, found, expected


@dtypes
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_training_is_that_of_the_twin(shape, sparse, dtype, parallel):
    units, batch = SHAPES[shape]
    network, twin, found, expected = trained(units, batch, "tanh", dtype, 0.4, sparse=sparse)
    assert_near_twin(network, twin)
    np.testing.assert_allclose(found, expected, rtol=1e-4 if dtype == np.float32 else 1e-12)


@hidden_activations
def test_every_activation(hidden):
    """One after the other, of another part of the units each."""
    for dropout in (0.3, 0.0), (0.0, 0.6), (0.2, 0.7):
        network, twin, *_ = trained((7, 21, 6, 3), 13, hidden, np.float64, dropout, "adam", seed=2**40 + 3)
        assert_near_twin(network, twin, rtol=1e-9, atol=1e-9)


@hidden_activations
def test_gradients_by_finite_differences(hidden):
    """Under a fixed choice of units: that of the first batch of an optimizer that is new each time."""
    rng, units, h = np.random.RandomState(1), (3, 6, 5, 2), 1e-6
    network = draw_network(rng, units, hidden, "squared_error", dropout=(0.5, 0.3))
    X, Y = draw_data(rng, units, "squared_error", 9)
    data, start = network.data(X, Y), (network.weights, network.biases)

    def loss(rate=1e-300):
        """Before the step, which moves the parameters by rate * gradient."""
        return network.train_epoch(data, SGD(network, rate, momentum=0.0, seed=5), 9, 0.2)

    loss(1.0)
    gradients = [a - b for a, b in zip(sum(start, []), network.weights + network.biases, strict=True)]
    assert all(np.abs(g).max() > 0 for g in gradients)
    for k, g in enumerate(gradients):
        for place in np.ndindex(g.shape):
            losses = []
            for step in h, -h:
                moved = copy.deepcopy(sum(start, []))
                moved[k][place] += step
                network.set_parameters(moved[:3], moved[3:])
                losses.append(loss())
            # as in scikit-learn, the loss is the mean over outputs, the gradient that of their sum; so is the penalty's
            penalty = 0.2 / 9 * start[0][k][place] if k < 3 else 0.0
            expected = ((losses[0] - losses[1]) / (2 * h) - penalty) * 2 + penalty
            assert g[place] == pytest.approx(expected, rel=2e-5, abs=2e-7), (k, place)


@dtypes
def test_the_same_bits_on_any_number_of_threads(dtype, parallel):
    for shape in SHAPES:
        found = []
        for threads in 1, *[2] * 5:
            numba.set_num_threads(threads)
            found.append(bits(trained(*SHAPES[shape], "relu", dtype, 0.5)[0]))
        assert len(set(found)) == 1, shape


@given(
    p=st.floats(0, 1, exclude_max=True), seed=st.integers(0, 2**63 - 1), units=st.integers(1, 40), n=st.integers(1, 30)
)
def test_any_part_seed_and_shape(p, seed, units, n):
    rng = np.random.RandomState(0)
    network = draw_network(rng, (2, units, 1), "tanh", "squared_error", dropout=p)
    twin = Twin(network)
    X, Y = draw_data(rng, (2, units, 1), "squared_error", n)
    network.train_epoch(network.data(X, Y), SGD(network, 1e-3, momentum=0.0, seed=seed), n)
    if twin.dropout:
        twin.dropout.seed = seed
    twin.train_epoch(X, Y, naive.SGD(1e-3, 0.0), n)
    assert_near_twin(network, twin, rtol=1e-9, atol=1e-9)


@dtypes
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_dropout_and_decay_that_fade(schedule, dtype):
    """Whether the rate changes or not, a batch has its part of both; a copy goes on from where it is."""
    rng, units, epochs = np.random.RandomState(0), (7, 21, 6, 3), 4
    network = draw_network(rng, units, "tanh", "softmax", dtype, dropout=0.4)
    twin, (X, Y) = Twin(network), draw_data(rng, units, "softmax", 40)
    options = {"lr_schedule": schedule, "fade": "flat_cos", "max_iter": epochs}
    ours, theirs = Adam(network, 0.01, epsilon=1e-2, weight_decay=0.5, **options), naive.Adam(0.01, epsilon=1e-2)
    for epoch in range(epochs):
        loss, expected = network.train_epoch(network.data(X, Y), ours, 10), 0
        for k in range(4 * epoch, 4 * epoch + 4):
            fade, rows = naive.FACTORS["flat_cos"](k, 4 * epochs), np.arange(40)[10 * (k % 4) :][:10]
            twin.dropout.probabilities, theirs.weight_decay = (0.4 * fade,) * 2, 0.5 * fade
            rate = 0.01 * (naive.FACTORS["cosine"](k, 4 * epochs) if schedule == "cosine" else 1)
            expected += twin.train_epoch(X, Y, theirs, 10, order=rows, rates=[rate]) / 4
        assert loss == pytest.approx(expected, rel=1e-4 if dtype == np.float32 else 1e-12)
        ours = pickle.loads(pickle.dumps(ours))
    assert_near_twin(network, twin)


def test_none_is_none():
    """dropout=0 leaves every bit, whatever the seed; predictions and losses never leave out anything."""
    rng, units = np.random.RandomState(0), (7, 21, 6, 3)
    X, Y = draw_data(rng, units, "softmax", 43)
    networks = [draw_network(np.random.RandomState(0), units, "relu", dropout=p) for p in (0.0, 0.0, 0.5)]
    data = networks[0].data(X, Y)
    for network in networks:
        assert network.predict(X).tolist() == networks[0].predict(X).tolist()
        assert network.loss(data) == networks[0].loss(data)
        assert network.gradients(data)[0] == networks[0].gradients(data)[0]
    for seed, network in enumerate(networks):
        network.train_epoch(data, Adam(network, seed=seed), 10)
    assert bits(networks[0]) == bits(networks[1]) != bits(networks[2])


def test_seeds_and_batches_count():
    """Another seed is another training; the state of an optimizer goes on where it was."""
    rng, units = np.random.RandomState(0), (7, 21, 6, 3)
    X, Y = draw_data(rng, units, "softmax", 43)

    def train(seed, stops):
        network = draw_network(np.random.RandomState(0), units, "relu", dropout=0.5)
        optimizer = Adam(network, seed=seed)
        for epoch in range(4):
            if epoch in stops:
                network, optimizer = pickle.loads(pickle.dumps((network, optimizer)))
            network.train_epoch(network.data(X, Y), optimizer, 10)
        assert optimizer.batches == 20
        return bits(network)

    assert train(0, []) == train(0, [1, 2, 3]) != train(1, [])


@pytest.mark.parametrize("bad", [-0.1, 1.0, np.nan, np.inf, (0.1,), (0.1, 0.2, 0.3), (0.5, 1.0)])
def test_parts_that_make_no_sense(bad):
    with pytest.raises(ValueError, match=r"dropout must be a number in \[0, 1\) for each hidden layer"):
        fastmlp.MLP([2, 3, 3, 1], output="identity", dropout=bad)


@pytest.mark.parametrize("bad", [-1, 2**63])
def test_seeds_that_make_no_sense(bad):
    with pytest.raises(ValueError, match="seed must be an integer from 0"):
        Adam(fastmlp.MLP([2, 1], output="identity"), seed=bad)
