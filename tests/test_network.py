"""The MLP computes what its formulas say: activations, losses, gradients and steps are those of `naive.py`.

For any shape and any memory layout, with the same bits for any number of threads; and whatever goes wrong leaves the
parameters as they were.
"""

import concurrent.futures
import copy
import itertools
import math
import pickle
import tracemalloc
from itertools import pairwise, product

import naive
import numba
import numpy as np
import pytest
import scipy.sparse
from helpers import DTYPES, before_a_forbidden_page, dtypes, needs_mprotect, run_code, run_python
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import (
    EVERY_ONE,
    EVERY_TWO,
    GOALS,
    HIDDEN,
    LAYOUTS,
    OPTIMIZERS,
    Twin,
    assert_loss_near,
    assert_near,
    assert_near_twin,
    bits,
    draw_data,
    draw_network,
    goals,
    hidden_activations,
    kinks_near,
    make_network,
    optimizers,
    order_with_repeats,
)

from fastmlp import _panels, _plan, _threads, network, training
from fastmlp.compiled import activations, losses, updates
from fastmlp.compiled.tile import VECS, lanes_of
from fastmlp.network import MLP, NotFiniteError
from fastmlp.optimizers import SGD, Adam
from fastmlp.training import History

# ---- the twin's numbers ------------------------------------------------------------------------------------------


def draw_weights(rng, n):
    """A weight for each row; some are 0, no two neighbours are."""
    return np.where(np.arange(n) % 5 == 3, 0, rng.uniform(0.5, 2, n))


SHAPES = [(5, 3), (7, 21, 4), (19, 5, 37, 1), (6, 3, 9, 5, 2)]


@dtypes
@goals
@hidden_activations
def test_forward_and_predict(hidden, goal, dtype):
    """A_0 = X, A_i = f(A_{i-1} W_i + b_i); `predict` is A_L of the rows that were asked for, in their order."""
    for layer_units in SHAPES:
        rng = np.random.RandomState(0)
        ours = draw_network(rng, layer_units, hidden, goal, dtype)
        X, _ = draw_data(rng, layer_units, goal, 43)
        expected = Twin(ours).forward(X)
        assert_near(ours.forward(X), expected, dtype)
        assert_near([ours.predict(X)], [expected[-1]], dtype)
        order = order_with_repeats(rng, 43, 60)
        assert_near([ours.predict(X, order)], [expected[-1][order]], dtype)
        assert_near([ours.predict(X, order[:1])], [expected[-1][order[:1]]], dtype)
        assert ours.predict(X, order[:0]).shape == (0, layer_units[-1])


@dtypes
@goals
@hidden_activations
def test_loss_and_gradients(hidden, goal, dtype):
    """The twin's loss, dW_i = (A_{i-1}' delta_i + alpha W_i) / S, db_i = sum of delta_i / S; rows weighted or not."""
    for layer_units in SHAPES:
        rng = np.random.RandomState(1)
        ours = draw_network(rng, layer_units, hidden, goal, dtype)
        X, Y = draw_data(rng, layer_units, goal, 29)
        for sample_weight, alpha in (None, 0.0), (None, 0.3), (draw_weights(rng, 29), 0.3):
            data, before = ours.data(X, Y, sample_weight), bits(ours)
            loss, dW, db = ours.gradients(data, alpha)
            expected, expected_dW, expected_db = Twin(ours).gradients(X, Y, sample_weight, alpha)
            assert_loss_near(loss, expected, dtype)
            assert ours.loss(data, alpha) == pytest.approx(loss, rel=1e-12) and isinstance(loss, float)
            assert_near(dW + db, expected_dW + expected_db, dtype)
            assert bits(ours) == before


@dtypes
@pytest.mark.parametrize("hidden, goal, optimizer", EVERY_TWO)
def test_train_epoch(hidden, goal, optimizer, dtype):
    """Four epochs, a short last batch each: the twin's losses, parameters and moments."""
    rng, layer_units, n = np.random.RandomState(2), (7, 21, 6, 3), 43
    ours = draw_network(rng, layer_units, hidden, goal, dtype)
    twin, (make, make_twin) = Twin(ours), OPTIMIZERS[optimizer]
    theirs = make_twin()
    our_optimizer = make(ours)
    X, Y = draw_data(rng, layer_units, goal, n)
    sample_weight = draw_weights(rng, n)
    data, weighted = ours.data(X, Y), ours.data(X, Y, sample_weight)
    epochs = [
        (data, None, 10, 0.0, None),
        (data, None, 16, 0.1, rng.permutation(n)),
        (weighted, sample_weight, 10, 0.1, None),
        (weighted, sample_weight, 13, 0.0, order_with_repeats(rng, n, 30)),
    ]
    for rows, row_weights, batch_size, alpha, order in epochs:
        loss = ours.train_epoch(rows, our_optimizer, batch_size, alpha, order)
        expected = twin.train_epoch(X, Y, theirs, batch_size, alpha, order, row_weights)
        assert_loss_near(loss, expected, dtype)
    assert_near_twin(ours, twin)
    if isinstance(our_optimizer, Adam):
        assert our_optimizer.t == theirs.t
        assert_near(our_optimizer.ms, theirs.ms, dtype)
        assert_near(our_optimizer.vs, theirs.vs, dtype)
    elif not optimizer.startswith("sgd"):
        assert_near(our_optimizer.velocities, theirs.velocities, dtype)


def test_every_rule_is_tested():
    """Those of the table that move the parameters."""
    made = {make(MLP([2, 1])).rule.name for make, _ in OPTIMIZERS.values()}
    assert made == {name for name, row in updates.RULES.items() if row.goal == updates.STEP}


# (layer_units, rows, batch size): batches that are worth several threads or several partial sums, and short ones;
# layers that are wider than high and the reverse
LARGE = [
    ((64, 100, 10), 450, 200),
    ((37, 53, 29, 3), 200, 77),
    ((300, 200, 100), 256, 128),
    ((4, 8, 1), 2100, 1024),
    ((3, 5), 3, 2),
    ((130, 1, 40), 90, 33),
    ((9, 250, 210, 20), 70, 16),
]


@dtypes
@pytest.mark.parametrize("copies", [True, False])
@pytest.mark.parametrize("layer_units, n, batch_size", LARGE, ids=str)
def test_large_batches(layer_units, n, batch_size, copies, dtype, monkeypatch):
    """The twin's losses and parameters, rows weighted or not; with transposed copies and, as large layers, without."""
    monkeypatch.setattr(_panels, "_NO_COPY", _panels._NO_COPY if copies else 0)
    rng, output = np.random.RandomState(19), "identity" if layer_units[-1] > 1 else "logistic"
    ours = draw_network(rng, layer_units, "tanh", output, dtype)
    twin, optimizer, theirs = Twin(ours), SGD(ours, 0.01, momentum=0.5), naive.SGD(0.01, 0.5, True)
    X, Y = draw_data(rng, layer_units, output, n)
    for sample_weight in None, draw_weights(rng, n):
        data, order = ours.data(X, Y, sample_weight), order_with_repeats(rng, n, n)
        loss = ours.train_epoch(data, optimizer, batch_size, 0.1, order)
        expected = twin.train_epoch(X, Y, theirs, batch_size, 0.1, order, sample_weight)
        assert_loss_near(loss, expected, dtype)
    assert_near_twin(ours, twin)
    assert_near([ours.predict(X)], [twin.forward(X)[-1]], dtype)


@dtypes
def test_all_weights_are_trained(dtype):
    """Each piece of the parameters is dealt to one thread, by layers or not; also where a layer is stored transposed
    that has fewer panels of inputs than of units."""
    panel = lanes_of(np.dtype(dtype)) * VECS
    for layer_units in (panel, 1000, 20), (20, 1000, panel, 3), (9, panel + 1), (panel, panel + 1, 1), (4, 1):
        plan = draw_network(np.random.RandomState(0), layer_units, dtype=dtype).plan
        every_way = product([1, 2, 3, 4, 64], [False, True], [plan.costs, plan.step_costs])
        for threads, by_layers, costs in every_way:
            items, shares = plan.shares(threads, by_layers, costs)
            assert sorted(map(tuple, items)) == sorted(map(tuple, plan.items))
            assert (shares[0], shares[-1], len(shares)) == (0, len(items), threads + 1)
    rng = np.random.RandomState(0)
    networks = (draw_network(rng, (n, 1001, 20), dtype=dtype) for n in range(1, 100))
    ours = next(ours for ours in networks if ours.panels.layout["transposed"][1])
    assert ours.plan.by_layers(4)
    X, Y = draw_data(rng, ours.layer_units, "softmax", 4)
    _, dW, db = ours.gradients(ours.data(X, Y))
    _, expected_dW, expected_db = Twin(ours).gradients(X, Y)
    assert_near(dW + db, expected_dW + expected_db, dtype)


@pytest.mark.parametrize("layer_units", [(4, 3), (4, 5, 3), (4, 6, 2, 3)], ids=str)
@goals
@hidden_activations
def test_gradients_are_central_differences_of_the_loss(hidden, goal, layer_units):
    """dW and db are d loss / d parameter; those of the squared error belong to the sum over outputs, not their mean."""
    rng = np.random.RandomState(3)
    while True:
        ours = draw_network(rng, layer_units, hidden, goal)
        X, Y = draw_data(rng, layer_units, goal, 9)
        if not kinks_near(ours, X, 1e-3):
            break
    data = ours.data(X, Y, draw_weights(rng, 9))
    alpha, h, per_output = 0.3, 1e-5, layer_units[-1] if losses.LOSSES[goal].mean else 1
    _, dW, db = ours.gradients(data, alpha)
    weights, biases = ours.weights, ours.biases

    def objective():
        ours.set_parameters(weights, biases)
        error = ours.loss(data)
        return per_output * error + (ours.loss(data, alpha) - error)

    for parameter, gradient in zip(weights + biases, dW + db, strict=True):
        for index in np.ndindex(parameter.shape):
            kept = parameter[index]
            parameter[index] = kept + h
            above = objective()
            parameter[index] = kept - h
            below = objective()
            parameter[index] = kept
            assert gradient[index] == pytest.approx((above - below) / (2 * h), rel=1e-7, abs=1e-8)


# ---- three lessons ----------------------------------------------------------------------------------------------


def test_one_neuron():
    """Logistic regression: A = 1 / (1 + e^-(XW + b)), dW = X'(A - Y) / n, db = mean of A - Y, W -= rate dW."""
    rng = np.random.RandomState(4)
    neuron = draw_network(rng, (3, 1), goal="logistic")
    X, Y = draw_data(rng, (3, 1), "logistic", 50)
    (W,), (b,) = neuron.weights, neuron.biases

    A = 1 / (1 + np.exp(-(X @ W + b)))
    dW = X.T @ (A - Y) / 50
    db = np.mean(A - Y, axis=0)

    np.testing.assert_allclose(neuron.predict(X), A, rtol=1e-13)
    loss, (found_dW,), (found_db,) = neuron.gradients(neuron.data(X, Y))
    np.testing.assert_allclose(found_dW, dW, rtol=1e-12)
    np.testing.assert_allclose(found_db, db, rtol=1e-12)
    assert loss == pytest.approx(-np.mean(np.log(np.where(Y == 1, A, 1 - A))), rel=1e-13)
    neuron.train_epoch(neuron.data(X, Y), SGD(neuron, 0.5, momentum=0.0), batch_size=50)
    np.testing.assert_allclose(neuron.weights[0], W - 0.5 * dW, rtol=1e-12)
    np.testing.assert_allclose(neuron.biases[0], b - 0.5 * db, rtol=1e-12)


def test_two_layers():
    """The error goes back through the second layer's weights: delta_1 = delta_2 W_2' * (1 - A_1^2)."""
    rng = np.random.RandomState(5)
    two = draw_network(rng, (3, 6, 2), "tanh", "logistic")
    X, Y = draw_data(rng, (3, 6, 2), "logistic", 50)
    (W_1, W_2), (b_1, b_2) = two.weights, two.biases

    A_1 = np.tanh(X @ W_1 + b_1)
    A_2 = 1 / (1 + np.exp(-(A_1 @ W_2 + b_2)))
    delta_2 = A_2 - Y
    delta_1 = delta_2 @ W_2.T * (1 - A_1**2)
    dW = X.T @ delta_1 / 50, A_1.T @ delta_2 / 50
    db = delta_1.mean(axis=0), delta_2.mean(axis=0)

    assert_near(two.forward(X), [X, A_1, A_2], np.float64)
    _, found_dW, found_db = two.gradients(two.data(X, Y))
    assert_near(found_dW + found_db, dW + db, np.float64)
    two.train_epoch(two.data(X, Y), SGD(two, 0.5, momentum=0.0), batch_size=50)
    expected = [p - 0.5 * g for p, g in zip((W_1, W_2, b_1, b_2), dW + db, strict=True)]
    assert_near(two.weights + two.biases, expected, np.float64)


def test_many_layers_use_the_weights_from_before_the_step():
    """Each W_i' sends delta_i back before its step; a loop that steps first trains all layers below another way."""
    rng, layer_units, rate = np.random.RandomState(6), (4, 9, 8, 7, 6, 3), 0.5
    many = draw_network(rng, layer_units, "tanh", "softmax")
    X, Y = draw_data(rng, layer_units, "softmax", 50)
    twin = Twin(many)
    A, n = twin.forward(X), len(X)

    def step_through_all_layers(step_first):
        weights, delta = [W.copy() for W in twin.weights], A[-1] - np.eye(3)[Y]
        for i in reversed(range(len(weights))):
            old = weights[i].copy()
            weights[i] -= rate * A[i].T @ delta / n
            delta = delta @ (weights[i] if step_first else old).T * (1 - A[i] ** 2)
        return weights

    right, wrong = step_through_all_layers(step_first=False), step_through_all_layers(step_first=True)
    many.train_epoch(many.data(X, Y), SGD(many, rate, momentum=0.0), batch_size=n)
    assert_near(many.weights, right, np.float64)
    differences = [np.abs(ours - W).max() for ours, W in zip(many.weights, wrong, strict=True)]
    assert min(differences[:-1]) > 1e-4 and differences[-1] < 1e-12  # the last layer has none above it


# ---- any shape, any memory --------------------------------------------------------------------------------------


@given(
    layer_units=st.lists(st.integers(1, 5) | st.integers(1, 70), min_size=2, max_size=5).map(tuple),
    n=st.integers(1, 80),
    batch_size=st.integers(1, 60),
    rows=st.integers(1, 80),
    dtype=st.sampled_from(DTYPES),
    hidden=st.tuples(*[st.sampled_from(HIDDEN)] * 3),
    goal=st.sampled_from(GOALS),
    optimizer=st.sampled_from(sorted(set(OPTIMIZERS) - {"adam"})),
    layout=st.sampled_from(sorted(LAYOUTS)),
    weighted=st.booleans(),
    seed=st.integers(0, 2**31),
)
@settings(deadline=None, max_examples=150, derandomize=True, database=None)
def test_odd_shapes(layer_units, n, batch_size, rows, dtype, hidden, goal, optimizer, layout, weighted, seed):
    """Whatever the widths, rows, batches and the memory of X, a network is its twin, before and after training."""
    rng = np.random.RandomState(seed)
    ours = draw_network(rng, layer_units, hidden[: len(layer_units) - 2], goal, dtype)
    X, Y = draw_data(rng, layer_units, goal, n)
    X = LAYOUTS[layout](X.astype(dtype) / 8)
    twin, (make, make_twin) = Twin(ours), OPTIMIZERS[optimizer]
    near = {np.float32: {"rtol": 2e-3, "atol": 2e-4}, np.float64: {"rtol": 1e-9, "atol": 1e-10}}[dtype]
    assert_near(ours.forward(X), twin.forward(X), dtype, **near)

    sample_weight = rng.uniform(0.1, 2, n) if weighted else None
    rate = 0.001 if goal == "poisson" else 0.01  # no step may explode
    data = ours.data(X, Y, sample_weight)
    our_optimizer, theirs = make(ours, learning_rate_init=rate), make_twin(learning_rate=rate)
    for order in None, order_with_repeats(rng, n, rows):
        loss = ours.train_epoch(data, our_optimizer, batch_size, 0.1, order)
        expected = twin.train_epoch(X, Y, theirs, batch_size, 0.1, order, sample_weight)
        assert loss == pytest.approx(expected, rel=near["rtol"], abs=near["atol"])
    assert_near_twin(ours, twin, **near)
    assert_near([ours.predict(X)], [twin.forward(X)[-1]], dtype, **near)


@dtypes
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("hidden", [(100,), (128,), (17,), (5,), (300, 40), (400,)])
def test_what_is_read_in_place_is_what_would_be_copied(hidden, threads, dtype, monkeypatch):
    """In rows that are contiguous, X is read where it is, but for some columns; others are copied: the same bits.

    So they are for a wide first layer.
    """
    monkeypatch.setattr(_plan, "_COPIED_FOR", 400)
    monkeypatch.setattr(network, "_TRAIN_IN_PARALLEL", 0)
    monkeypatch.setattr(_threads, "count", lambda: threads)
    columns = 0
    for n, batch_size in product([33, 64, 100, 257, 784], [1, 7, 32, 128]):
        rng, parameters = np.random.RandomState(0), []
        X, y, order = rng.standard_normal((150, n)).astype(dtype), rng.randint(3, size=150), rng.randint(150, size=70)
        for memory in X, X[::-1].copy()[::-1], np.asfortranarray(X), np.repeat(X, 2, axis=1)[:, ::2]:
            ours = MLP((n, *hidden, 3), dtype=dtype)
            ours.initialize(np.random.RandomState(0))
            data, optimizer = ours.data(memory, y), Adam(ours)
            losses = [ours.train_epoch(data, optimizer, batch_size, 0.01) for _ in range(2)]
            predictions = ours.predict(memory).tobytes(), ours.predict(memory, order).tobytes()
            parameters.append((losses, ours.parameters.tobytes(), predictions))
        assert parameters.count(parameters[0]) == len(parameters)
        columns += ours.plan.in_place(ours.dtype, True, batch_size)
    assert (columns > 0) == (_plan._IN_PLACE and hidden[0] < 400)


@dtypes
@goals
@hidden_activations
def test_padding_stays_neutral(hidden, goal, dtype):
    """Nothing gathers where no unit and no row is: a fresh network with the same parameters goes on the same way."""
    for layer_units in (3, 5, 2), (17, 33, 1, 9, 5), (1, 1, 1):
        rng = np.random.RandomState(7)
        ours = draw_network(rng, layer_units, hidden, goal, dtype)
        X, Y = draw_data(rng, layer_units, goal, 31)
        for batch_size in 31, 7, 40, 1:
            data = ours.data(X, Y)
            for _ in range(3):
                ours.train_epoch(data, Adam(ours, 0.05), batch_size, 0.1)
            fresh = make_network(layer_units, hidden, goal, dtype)
            fresh.set_parameters(ours.weights, ours.biases)
            assert ours.predict(X).tobytes() == fresh.predict(X).tobytes()
            fresh.train_epoch(fresh.data(X, Y), Adam(fresh, 0.05), batch_size, 0.1)
            ours.train_epoch(data, Adam(ours, 0.05), batch_size, 0.1)
            assert bits(ours) == bits(fresh)
        assert_near([ours.predict(X)], [Twin(ours).forward(X)[-1]], dtype)


@dtypes
def test_rows_that_order_does_not_name_are_not_used(dtype):
    """NaN in them does no harm."""
    rng = np.random.RandomState(8)
    X, Y = draw_data(rng, (5, 7, 3), "identity", 40)
    ours, expected = (draw_network(np.random.RandomState(0), (5, 7, 3), "tanh", "identity", dtype) for _ in range(2))
    order = rng.permutation(40)[:25]
    others = np.setdiff1d(np.arange(40), order)
    expected.train_epoch(expected.data(X, Y), Adam(expected), 10, 0.0, order)
    predicted = expected.predict(X, order)
    X[others], Y[others] = np.nan, np.nan
    ours.train_epoch(ours.data(X, Y), Adam(ours), 10, 0.0, order)
    assert bits(ours) == bits(expected)
    assert ours.predict(X, order).tobytes() == predicted.tobytes()


def train_before_forbidden_pages():
    """Train and predict from arrays whose last number is the last one before a page that kills whoever touches it."""
    for dtype, X_dtype, output in (np.float32, np.float32, "identity"), (np.float64, np.float32, "logistic"):
        for layer_units in (3, 2), (16, 5, 3), (35, 4, 17):
            rng = np.random.RandomState(9)
            ours = draw_network(rng, layer_units, "relu", output, dtype)
            X, Y = draw_data(rng, layer_units, output, 21)
            arrays = X.astype(X_dtype), Y.astype(dtype), rng.uniform(1, 2, 21).astype(dtype)
            X, Y, sample_weight = map(before_a_forbidden_page, arrays)
            for rows in X, X[:, ::-1], X[::-1]:
                ours.train_epoch(ours.data(rows, Y, sample_weight), Adam(ours), 8)
                assert np.isfinite(ours.predict(rows)).all()


@needs_mprotect
def test_nothing_beyond_the_data_is_read():
    run_code("import test_network; test_network.train_before_forbidden_pages()")


READ_IN_PLACE = {
    "memmap": lambda X: X,
    "Fortran": lambda X: np.asfortranarray(X),
    "strided": lambda X: np.repeat(X, 2, axis=1)[::-1, ::2],
    "float64 rows": lambda X: X.astype(np.float64),
}


@pytest.mark.parametrize("form", READ_IN_PLACE)
def test_rows_are_read_in_place(form, tmp_path):
    """Training and predicting take far less memory than the rows have, which may lie in a file."""
    rng, n = np.random.RandomState(10), 50_000
    X, Y = draw_data(rng, (64, 8, 1), "identity", n)
    X.astype(np.float32).tofile(tmp_path / "X")
    X = READ_IN_PLACE[form](np.memmap(tmp_path / "X", np.float32, "r", shape=(n, 64)))
    Y = Y.astype(np.float32)
    ours, order = draw_network(rng, (64, 8, 1), "relu", "identity", np.float32), rng.permutation(n)
    optimizer = Adam(ours)

    def use(X, Y, order):
        ours.train_epoch(ours.data(X, Y), optimizer, 200, 0.0, order)
        return ours.predict(X)

    use(X, Y, order)  # compiles
    tracemalloc.start()
    try:
        predicted = use(X, Y, order)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < X.nbytes / 10
    assert_near([predicted], [Twin(ours).forward(X)[-1]], np.float32)


# ---- parameters in and out --------------------------------------------------------------------------------------


def test_initialize_draws_in_scikit_learns_order():
    """Layer by layer, weights first, uniformly from +-sqrt(factor / (units in + units out)), however many."""
    assert network._DRAWN * 2 < 600 * 401 and 3 < network._DRAWN < 3 * 70_000  # in several parts
    for layer_units, factor in ((4, 7, 3), 6.0), ((4, 7, 3), 2.0), ((600, 401, 3), 6.0), ((3, 70_000, 1), 2.0):
        ours, rng, expected = MLP(layer_units, dtype=np.float64), np.random.RandomState(11), []
        ours.initialize(np.random.RandomState(11), factor)
        for n, m in pairwise(layer_units):
            bound = math.sqrt(factor / (n + m))
            expected.append((rng.uniform(-bound, bound, (n, m)), rng.uniform(-bound, bound, m)))
        for W, b, (expected_W, expected_b) in zip(ours.weights, ours.biases, expected, strict=True):
            np.testing.assert_array_equal(W, expected_W)
            np.testing.assert_array_equal(b, expected_b)


@dtypes
def test_parameters_come_back_as_they_went_in(dtype):
    """In shape, order and bits; at first they are 0."""
    for layer_units in (1, 1), (70, 3), (3, 70), (31, 32, 33), (2, 65, 1, 129):
        ours = MLP(layer_units, dtype=dtype)
        assert not np.concatenate([p.ravel() for p in ours.weights + ours.biases]).any()
        rng = np.random.RandomState(12)
        weights = [rng.normal(size=shape).astype(dtype) for shape in pairwise(layer_units)]
        biases = [rng.normal(size=m).astype(dtype) for m in layer_units[1:]]
        ours.set_parameters([np.asfortranarray(W) for W in weights], biases)
        for found, expected in zip(ours.weights + ours.biases, weights + biases, strict=True):
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, expected)


@dtypes
@pytest.mark.parametrize("width", [1, 2, 4, 8, 12, 16, 24, 32, 48, 64])
def test_what_comes_back_is_a_copy(width, dtype):
    """Weights, biases, gradients and activations stay as they are whatever the network does next, and it as it is."""
    for layer_units in (1, width), (8, width, width):
        rng = np.random.RandomState(20)
        ours = draw_network(rng, layer_units, "tanh", "identity", dtype)
        X, Y = draw_data(rng, layer_units, "identity", 16)
        data = ours.data(X, Y)
        _, dW, db = ours.gradients(data)
        arrays = [*ours.weights, *ours.biases, *dW, *db, *ours.forward(X)[1:], ours.predict(X)]
        before = [array.copy() for array in arrays]
        ours.train_epoch(data, Adam(ours), 16)
        ours.forward(X + 1)
        ours.gradients(data)
        for array, expected in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(array, expected)
        trained = bits(ours)
        for array in [*arrays, *ours.weights, *ours.biases]:
            array[...] = np.nan
        assert bits(ours) == trained and np.isfinite(ours.predict(X)).all()


COPIES = {
    "pickle": lambda pair: pickle.loads(pickle.dumps(pair)),
    "oldest pickle": lambda pair: pickle.loads(pickle.dumps(pair, protocol=2)),
    "deepcopy": copy.deepcopy,
    "one by one": lambda pair: tuple(pickle.loads(pickle.dumps(x)) for x in pair),
}


@dtypes
@pytest.mark.parametrize("how", COPIES)
@optimizers
def test_training_goes_on_after_a_copy(optimizer, how, dtype):
    """A copied network and optimizer predict and train on with the same bits, and leave the first ones alone."""
    rng = np.random.RandomState(13)
    ours = draw_network(rng, (5, 7, 3), ["relu"], "softmax", dtype)
    X, Y = draw_data(rng, (5, 7, 3), "softmax", 40)
    our_optimizer = OPTIMIZERS[optimizer][0](ours)
    ours.train_epoch(ours.data(X, Y), our_optimizer, 16, 0.1)
    theirs, their_optimizer = COPIES[how]((ours, our_optimizer))
    before = bits(ours)
    assert bits(theirs) == before and theirs.predict(X).tobytes() == ours.predict(X).tobytes()
    losses = [theirs.train_epoch(theirs.data(X, Y), their_optimizer, 16, 0.1) for _ in range(3)]
    assert bits(ours) == before
    assert losses == [ours.train_epoch(ours.data(X, Y), our_optimizer, 16, 0.1) for _ in range(3)]
    assert bits(theirs) == bits(ours) != before


# ---- threads ----------------------------------------------------------------------------------------------------


def train_and_predict(layer_units, n, batch_size, dtype, hidden, goal, optimizer):
    """All bits that training and predicting give."""
    rng = np.random.RandomState(14)
    ours = draw_network(rng, layer_units, hidden, goal, dtype)
    X, Y = draw_data(rng, layer_units, goal, n)
    X = X.astype(dtype)
    rate = 0.001 if goal == "poisson" else 0.01  # no step may explode
    our_optimizer = OPTIMIZERS[optimizer][0](ours, learning_rate_init=rate)
    data = ours.data(X, Y, rng.uniform(0.5, 2, n))
    losses = [ours.train_epoch(data, our_optimizer, batch_size, 0.1, rng.permutation(n)) for _ in range(2)]
    loss, dW, db = ours.gradients(data, 0.1)
    arrays = [np.array([*losses, loss, ours.loss(data, 0.1)]), ours.predict(X), *dW, *db]
    assert all(np.isfinite(array).all() for array in arrays)
    return bits(ours), *(array.tobytes() for array in arrays)


def compare_numbers_of_threads(always_parallel):
    """For the process of the next test: 1, 2, 3 and 4 threads, serial kernels where they are chosen."""
    if always_parallel:
        for name in "_TRAIN_IN_PARALLEL", "_PREDICT_IN_PARALLEL":
            if hasattr(network, name):
                setattr(network, name, 0)
    goals = ["cross_entropy" if layer_units[-1] > 1 else "binary_log_loss" for layer_units, *_ in LARGE]
    shapes = [(*shape, dtype, "tanh", goal) for shape, goal in zip(LARGE, goals, strict=True) for dtype in DTYPES]
    cases = [(*shape, optimizer) for shape in shapes for optimizer in ("adam", "nesterov")]
    cases += [(*shape, dtype, *case) for shape in LARGE[:2] for dtype in DTYPES for case in EVERY_ONE]
    found = {}
    for threads in 1, 2, 3, 4:
        numba.set_num_threads(threads)
        for case in cases:
            seen = train_and_predict(*case)
            assert found.setdefault(case, seen) == seen, f"{threads} threads: {case}"
    assert _threads.workers() == 3
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for case, seen in zip(cases, pool.map(lambda case: train_and_predict(*case), cases), strict=True):
            assert seen == found[case], f"in a thread of Python: {case}"


@pytest.mark.parametrize("always_parallel", [False, True], ids=["where it pays", "always"])
def test_any_number_of_threads_gives_the_same_bits(always_parallel):
    """Weights, losses, gradients and predictions, with 1 to 4 threads, and from several threads of Python at once."""
    code = f"import test_network; test_network.compare_numbers_of_threads({always_parallel})"
    run_code(code, NUMBA_NUM_THREADS="4")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("output", activations.OUTPUTS)
@pytest.mark.parametrize("activation", HIDDEN)
@dtypes
def test_rows_predicted_from_matrices(dtype, activation, output, threads, monkeypatch):
    """The bits of `predict`, whatever the network holds; nothing where the matrices are not as they should be."""
    monkeypatch.setattr("fastmlp.network._ROW_IN_PARALLEL", 0)
    monkeypatch.setattr("fastmlp._threads.count", lambda: threads)
    rng = np.random.RandomState(0)
    for units in (5, 3), (40, 150, 37, 2), (33, 64, 70, 5), (300, 3), (17, 4, 40), (65, 1):
        network, other = (MLP(units, activation, output, dtype) for _ in range(2))
        network.initialize(rng)
        weights, biases, before = network.weights, network.biases, other.parameters.copy()
        X = rng.normal(size=(3, units[0]))
        np.testing.assert_array_equal(other.predict_with(X, weights, biases), network.predict(X))
        np.testing.assert_array_equal(other.parameters, before)
        assert other.predict_with(X, [W.astype(np.float16) for W in weights], biases) is None
        assert other.predict_with(X, weights, [b[:, np.newaxis] for b in biases]) is None
        assert other.predict_with(X, [W.repeat(2, axis=1)[:, ::2] for W in weights], biases) is None


@dtypes
def test_several_threads_of_python_may_use_one_network(dtype):
    """Predictions, losses and gradients have the bits that they have alone."""
    rng = np.random.RandomState(15)
    ours = draw_network(rng, (6, 11, 3), "relu", "softmax", dtype)
    X, Y = draw_data(rng, (6, 11, 3), "softmax", 300)
    data = ours.data(X, Y)

    def use(n):
        loss, dW, db = ours.gradients(data)
        return loss, *(a.tobytes() for a in [ours.predict(X[:n]), ours.predict(X, np.arange(n)), *dW, *db])

    sizes = [1, 5, 8, 64, 300] * 40
    alone = {n: use(n) for n in set(sizes)}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(use, sizes)) == [alone[n] for n in sizes]


# ---- what goes wrong --------------------------------------------------------------------------------------------

# what is asked for: (exception, part of its message)
BAD_NETWORKS = {
    "no layers": (([],), ValueError, "layer_units"),
    "one layer": (([3],), ValueError, "layer_units"),
    "an empty layer": (([3, 0, 2],), ValueError, "layer_units"),
    "a negative width": (([3, -1],), ValueError, "layer_units"),
    "a fractional width": (([3, 2.5],), TypeError, "integer"),
    "an unknown activation": (([3, 4, 2], "swish"), ValueError, "activation"),
    "an output's activation": (([3, 4, 2], "softmax"), ValueError, "activation"),
    "too few activations": (([3, 4, 4, 2], ["relu"]), ValueError, "activation"),
    "too many activations": (([3, 4, 2], ["relu", "relu"]), ValueError, "activation"),
    "an unknown output": (([3, 2], "relu", "relu"), ValueError, "output"),
    "half precision": (([3, 2], "relu", "softmax", np.float16), ValueError, "dtype"),
    "another order of bytes": (([3, 2], "relu", "softmax", np.dtype(np.float32).newbyteorder()), ValueError, "dtype"),
    "whole numbers": (([3, 2], "relu", "softmax", int), ValueError, "dtype"),
}


@pytest.mark.parametrize("case", BAD_NETWORKS)
def test_bad_networks_are_refused(case):
    arguments, error, message = BAD_NETWORKS[case]
    with pytest.raises(error, match=message):
        MLP(*arguments)


# output, X, Y, sample_weight, part of the message; the network has 3 inputs and 2 outputs
BAD_DATA = {
    "X is too narrow": ("identity", np.ones((5, 2)), np.ones((5, 2)), None, "X must"),
    "X is too wide": ("identity", np.ones((5, 4)), np.ones((5, 2)), None, "X must"),
    "X is flat": ("identity", np.ones(3), np.ones((1, 2)), None, "X must"),
    "X has three dimensions": ("identity", np.ones((5, 3, 1)), np.ones((5, 2)), None, "X must"),
    "no rows": ("identity", np.ones((0, 3)), np.ones((0, 2)), None, "Y must"),
    "too few targets": ("identity", np.ones((5, 3)), np.ones((4, 2)), None, "Y must"),
    "targets too narrow": ("exp", np.ones((5, 3)), np.ones((5, 1)), None, "Y must"),
    "flat targets": ("logistic", np.ones((5, 3)), np.ones(5), None, "Y must"),
    "one-hot classes": ("softmax", np.ones((5, 3)), np.ones((5, 2)), None, "Y must"),
    "a class too high": ("softmax", np.ones((5, 3)), np.array([0, 1, 0, 1, 2]), None, "classes"),
    "a negative class": ("softmax", np.ones((5, 3)), np.array([0, 1, 0, 1, -1]), None, "classes"),
    "no class": ("softmax", np.ones((5, 3)), np.array([0, 1, 0, 1, np.nan]), None, "classes"),
    "too few weights": ("identity", np.ones((5, 3)), np.ones((5, 2)), np.ones(4), "sample_weight"),
    "weights as a column": ("identity", np.ones((5, 3)), np.ones((5, 2)), np.ones((5, 1)), "sample_weight"),
    "a weight for all": ("identity", np.ones((5, 3)), np.ones((5, 2)), np.float64(1), "sample_weight"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data_are_refused(case):
    output, X, Y, sample_weight, message = BAD_DATA[case]
    with pytest.raises(ValueError, match=message):
        MLP([3, 2], output=output).data(X, Y, sample_weight)


def test_one_output_takes_flat_targets():
    """As a column of them."""
    ours, X, Y = MLP([3, 1], output="identity"), np.ones((5, 3)), np.arange(5.0)
    assert ours.loss(ours.data(X, Y)) == ours.loss(ours.data(X, Y[:, np.newaxis])) == 3.0


@pytest.fixture(params=DTYPES, ids=lambda dtype: dtype.__name__)
def trained(request):
    """A network that has been trained, its optimizer, and X and Y."""
    rng = np.random.RandomState(16)
    ours = draw_network(rng, (3, 8, 2), "tanh", "identity", request.param)
    X, Y = draw_data(rng, (3, 8, 2), "identity", 20)
    optimizer = Adam(ours)
    ours.train_epoch(ours.data(X, Y), optimizer, 5)
    return ours, optimizer, X, Y


def weigh_nothing(n, rows):
    """Weights of n rows, those of some of them 0."""
    weights = np.ones(n)
    weights[rows] = 0
    return weights


# name: (exception, sample_weight, batch_size, order)
BAD_EPOCHS = {
    "no batch": (ValueError, None, 0, None),
    "a negative batch": (ValueError, None, -1, None),
    "a row too high": (IndexError, None, 4, [0, 1, 2, 3, 4, 20]),
    "a negative row": (IndexError, None, 4, [0, 1, 2, 3, 4, -1]),
    "nothing weighs": (ZeroDivisionError, np.zeros(20), 5, None),
    "the rows of the order weigh nothing": (ZeroDivisionError, weigh_nothing(20, [3, 7]), 1, [7, 3]),
    "the weights of a batch sum to zero": (ZeroDivisionError, np.where(np.arange(20) == 4, -1.0, 0.5), 3, [1, 2, 4]),
}


@pytest.mark.parametrize("case", BAD_EPOCHS)
def test_a_bad_epoch_changes_nothing(case, trained):
    """Parameters and optimizer stay as they were, whichever batch is to blame, and good epochs go on as if alone."""
    error, sample_weight, batch_size, order = BAD_EPOCHS[case]
    ours, optimizer, X, Y = trained
    untouched, untouched_optimizer = copy.deepcopy((ours, optimizer))
    with pytest.raises(error):
        ours.train_epoch(ours.data(X, Y, sample_weight), optimizer, batch_size, 0.1, order)
    assert bits(ours) == bits(untouched)
    loss = ours.train_epoch(ours.data(X, Y), optimizer, 5, 0.1)
    assert loss == untouched.train_epoch(untouched.data(X, Y), untouched_optimizer, 5, 0.1)
    assert bits(ours) == bits(untouched)


# rows without weight, batch_size, order, and the order without the batches that weigh nothing
LEFT_OUT = {
    "the first batch": (slice(0, 5), 5, None, range(5, 20)),
    "the last batch": (slice(18, 20), 6, None, range(18)),
    "a batch of the order": ([3, 7], 2, [1, 2, 7, 3, 4, 5], [1, 2, 4, 5]),
    "batches of one row": ([7], 1, None, [*range(7), *range(8, 20)]),
}


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("case", LEFT_OUT)
def test_a_batch_that_weighs_nothing_is_left_out(case, optimizer, sparse):
    """No step is taken, none is counted, and the loss is that of the other rows."""
    rows, batch_size, order, others = LEFT_OUT[case]
    rng = np.random.RandomState(17)
    X, Y = draw_data(rng, (3, 8, 2), "identity", 20)
    X = scipy.sparse.csr_matrix(X) if sparse else X
    found = []
    for names in order, others:
        ours = MLP((3, 8, 2), "tanh", "identity", np.float64, sparse)
        ours.initialize(np.random.RandomState(0))
        ours_optimizer = OPTIMIZERS[optimizer][0](ours)
        order_of_all = range(20) if names is None else names
        data = ours.data(X, Y, weigh_nothing(20, rows))
        losses = [ours.train_epoch(data, ours_optimizer, batch_size, 0.1, np.array(order_of_all)) for _ in range(2)]
        found.append((losses, bits(ours), getattr(ours_optimizer, "t", None)))
    assert found[0] == found[1]


def made_for_others(ours, X):
    """Data, optimizer and parameters that belong to networks of other shapes, dtypes and outputs."""
    n, other = len(X), np.dtype(np.float32 if ours.dtype == np.float64 else np.float64)
    wide, narrow = np.ones((n, 9)), np.zeros((n, 2))
    yield "width", lambda: MLP((9, 8, 2), "tanh", "identity", ours.dtype).data(wide, narrow), None
    yield "outputs", lambda: MLP((3, 8, 1), "tanh", "identity", ours.dtype).data(X, narrow[:, :1]), None
    yield "labels", lambda: MLP((3, 8, 2), "tanh", "softmax", ours.dtype).data(X, np.zeros(n)), None
    yield "dtype", lambda: MLP((3, 8, 2), "tanh", "identity", other).data(X, narrow), None
    yield "layers", None, lambda: Adam(MLP((3, 9, 2), "tanh", "identity", ours.dtype))
    yield "same size", None, lambda: Adam(MLP((3, 7, 2), "tanh", "identity", ours.dtype))
    yield "moments of another dtype", None, lambda: Adam(MLP((3, 8, 2), "tanh", "identity", other))
    yield "sparse", None, lambda: Adam(MLP((3, 8, 2), "tanh", "identity", ours.dtype, True))


def test_what_was_made_for_another_network_is_refused(trained):
    """With ValueError, and before anything is computed."""
    ours, optimizer, X, Y = trained
    before = bits(ours)
    for what, data, others_optimizer in made_for_others(ours, X):
        given = data() if data else ours.data(X, Y), others_optimizer() if others_optimizer else optimizer
        with pytest.raises(ValueError, match="made for another network"):
            ours.train_epoch(*given, 5)
        if data:
            for compute in ours.loss, ours.gradients:
                with pytest.raises(ValueError, match="made for another network"):
                    compute(given[0])
        assert bits(ours) == before, what


def test_parameters_are_replaced_by_their_like_alone(trained):
    ours, _, X, _ = trained
    expected, other = ours.predict(X), MLP(ours.layer_units, "tanh", "identity", ours.dtype)
    for flat in ours.parameters[:10], ours.parameters.astype(np.float16), list(ours.parameters):
        with pytest.raises(ValueError, match="parameters must be an array of shape"):
            ours.parameters = flat
    other.parameters = ours.parameters
    assert other.parameters is not ours.parameters
    assert other.predict(X).tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_data_keeps_the_labels_that_it_was_given(dtype):
    """Those that the caller changes later would lead out of the array."""
    rng = np.random.RandomState(18)
    ours, (X, labels) = draw_network(rng, (3, 8, 5), "relu", "softmax", dtype), draw_data(rng, (3, 8, 5), "softmax", 20)
    labels = labels.astype(dtype)
    data, expected = ours.data(X, labels), ours.loss(ours.data(X, labels))
    labels += 1e6
    assert ours.loss(data) == expected


def test_labels_are_checked_as_the_kernels_read_them():
    ours = MLP([2, 3], dtype=np.float32)
    for label in 2.9999999999, np.nan, 3, -1:
        with pytest.raises(ValueError, match="classes from 0 to 2"):
            ours.data(np.ones((1, 2)), np.array([label]))
    ours.data(np.ones((1, 2)), np.array([-1e-300]))  # which is 0 in float32


@pytest.mark.parametrize("layer_units", [(10, 10**11), (10, 2**31, 2**31, 1), (2**62, 2**62)], ids=str)
def test_layers_that_no_memory_holds(layer_units):
    """At once, not after minutes of looking for the work."""
    code = f"from fastmlp import MLP\ntry: MLP({layer_units})\nexcept MemoryError: pass\nelse: raise SystemExit(1)"
    run_python("-c", code, timeout=60)


def test_columns_that_no_index_names():
    """Indices of sparse X have 32 bits in the kernels."""
    with pytest.raises(ValueError, match="2147483647 columns"):
        MLP([2**31, 1], sparse=True)
    X = scipy.sparse.csr_matrix((np.ones(1), [2**31], [0, 1]), (1, 2**31 + 1))
    ours = MLP([2, 1])
    ours.columns = 2**31 + 1
    with pytest.raises(ValueError, match="2147483647 columns"):
        ours.rows(X)


@pytest.mark.parametrize("flat", [(5, 1), (1, 5), (0, 1), (1, 0), (5, 5), (-5, 1), (1, -5)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_number_that_is_not_finite_is_found(dtype, flat):
    """Wherever it stands, however X lies in memory; and nothing beyond the rows is looked at."""
    rng = np.random.RandomState(19)
    for n, m in (1, 1), (3, 70), (200, 5), (300, 33):
        ours = MLP([m, 4, 2], dtype=dtype)
        ours.initialize(rng)
        around = np.full((n * 5 + 9, m * 5 + 9), np.nan, dtype)
        X = around[4 : 4 + n * max(1, abs(flat[0])), 4 : 4 + m * max(1, abs(flat[1]))]
        X = X[:: flat[0]] if flat[0] else np.lib.stride_tricks.as_strided(X, (n, X.shape[1]), (0, X.strides[1]))
        X = X[:, :: flat[1]] if flat[1] else np.lib.stride_tricks.as_strided(X, (n, m), (X.strides[0], 0))
        X = X[:n, :m]
        X[:] = rng.normal(size=X.shape)
        expected = ours.predict(X, finite=True)
        assert expected.tobytes() == ours.predict(np.array(X), finite=True).tobytes()
        assert expected.tobytes() == ours.predict_with(X, ours.weights, ours.biases, finite=True).tobytes()
        for i, j in {(0, 0), (n - 1, m - 1), (n // 2, m // 3), (n - 1, 0)}:
            for bad in np.nan, np.inf, -np.inf:
                X[i, j], before = bad, X[i, j]
                with pytest.raises(NotFiniteError):
                    ours.predict(X, finite=True)
                with pytest.raises(NotFiniteError):
                    ours.predict_with(X, ours.weights, ours.biases, finite=True)
                ours.predict(X)  # who does not ask gets what comes out
                X[i, j] = before
        X[:] = np.finfo(dtype).max  # large, but finite
        with np.errstate(all="ignore"):
            ours.predict(X, finite=True)


def test_weights_that_sum_to_zero_have_no_loss(trained):
    ours, _, X, Y = trained
    for n in 20, 1:
        data = ours.data(X[:n], Y[:n], np.zeros(n))
        for compute in ours.loss, ours.gradients:
            with pytest.raises(ZeroDivisionError, match="sum to zero"):
                compute(data)


def test_predictions_of_no_rows(trained):
    ours, _, X, _ = trained
    for out in ours.predict(X[:0]), ours.predict_with(X[:0], ours.weights, ours.biases, finite=True):
        assert out.shape == (0, 2) and out.dtype == ours.dtype


def test_a_batch_that_weighs_nothing_has_no_loss_though_its_rows_have_none(trained):
    """Its rows overflow, and a workspace that NaN has been in is used again."""
    ours, optimizer, X, Y = trained
    weights, biases, weights_of_rows = ours.weights, ours.biases, weigh_nothing(20, slice(0, 5))
    huge = Y.copy()
    huge[:5] = np.finfo(ours.dtype).max
    with np.errstate(all="ignore"):
        assert not np.isfinite(ours.train_epoch(ours.data(X, huge), optimizer, 5, 0.1))
    ours.set_parameters(weights, biases)
    assert np.isfinite(ours.train_epoch(ours.data(X, huge, weights_of_rows), Adam(ours), 5, 0.1))


@pytest.mark.parametrize("order", [[0, 19], [0, -1], [0, -20]], ids=str)
def test_predict_refuses_rows_that_are_not_there(order, trained):
    ours, _, X, _ = trained
    with pytest.raises(IndexError):
        ours.predict(X[1:], np.array(order))


@pytest.mark.parametrize("shape", [(5, 2), (5, 4), (3,), (5, 3, 1)], ids=str)
def test_predict_refuses_rows_of_another_width(shape, trained):
    ours, *_ = trained
    for compute in ours.predict, ours.forward:
        with pytest.raises(ValueError, match="X must"):
            compute(np.ones(shape))


# what the network of 3, 8 and 2 units does not take
BAD_PARAMETERS = {
    "a transposed matrix": lambda W, b: ([W[0].T, W[1]], b),
    "a layer less": lambda W, b: (W[:1], b[:1]),
    "a layer more": lambda W, b: ([*W, W[1]], [*b, b[1]]),
    "a bias less": lambda W, b: (W, b[:1]),
    "a short bias": lambda W, b: (W, [b[0], b[1][:1]]),
    "a bias as a row": lambda W, b: (W, [b[0], b[1][np.newaxis]]),
    "a flat matrix": lambda W, b: ([W[0], W[1].ravel()], b),
}


@pytest.mark.parametrize("case", BAD_PARAMETERS)
def test_bad_parameters_change_nothing(case, trained):
    ours, optimizer, X, Y = trained
    untouched, untouched_optimizer = copy.deepcopy((ours, optimizer))
    with pytest.raises(ValueError, match="shapes"):
        ours.set_parameters(*BAD_PARAMETERS[case]([W + 1 for W in ours.weights], [b + 1 for b in ours.biases]))
    for mlp, its_optimizer in (ours, optimizer), (untouched, untouched_optimizer):
        mlp.train_epoch(mlp.data(X, Y), its_optimizer, 5)
    assert bits(ours) == bits(untouched)


# ---- imports ----------------------------------------------------------------------------------------------------


def test_a_network_needs_no_scikit_learn():
    """Importing it and training it imports neither scikit-learn nor SciPy's optimizers."""
    run_code(
        "import sys\n"
        "import numpy as np\n"
        "import fastmlp.network\n"
        "from fastmlp.training import Adam\n"
        "network = fastmlp.network.MLP([3, 4, 2])\n"
        "network.initialize(np.random.RandomState(0))\n"
        "data = network.data(np.ones((5, 3), np.float32), np.array([0, 1, 0, 1, 1]))\n"
        "network.train_epoch(data, Adam(network), 5)\n"
        "assert not {'sklearn', 'scipy.optimize'} & sys.modules.keys()\n"
    )


# ---- from epoch to epoch ----------------------------------------------------------------------------------------


def training_case(optimizer="adam"):
    """A function that makes the same untrained network with its data and optimizer at every call."""

    def make():
        rng = np.random.RandomState(17)
        ours = draw_network(rng, (4, 6, 3), "tanh", "softmax")
        X, Y = draw_data(rng, (4, 6, 3), "softmax", 50)
        return ours, ours.data(X, Y), OPTIMIZERS[optimizer][0](ours)

    return make


def epochs_by_hand(make, count, batch_size=20, alpha=0.1, shuffle=True):
    """What `train` does, without its bookkeeping: the network and its losses."""
    ours, data, optimizer = make()
    rng, rows, losses = np.random.RandomState(18), np.arange(50), []
    for _ in range(count):
        if shuffle:
            permutation = np.arange(50)
            rng.shuffle(permutation)
            rows = rows[permutation]
        losses.append(ours.train_epoch(data, optimizer, batch_size, alpha, rows))
    return ours, losses


def train(make, history=None, **options):
    """`training.train` with some defaults: (network, history, why it ended)."""
    ours, data, optimizer = make()
    history = History() if history is None else history
    common = {"batch_size": 20, "max_iter": 7, "alpha": 0.1, "random_state": np.random.RandomState(18), "tol": -1.0}
    return ours, history, training.train(ours, data, optimizer, history, **(common | options))


@pytest.mark.parametrize("shuffle", [True, False])
@optimizers
def test_train_is_a_loop_of_epochs(optimizer, shuffle):
    """Rows are shuffled anew on top of the last shuffle, or not at all; the history has every loss."""
    make = training_case(optimizer)
    ours, history, why = train(make, shuffle=shuffle)
    expected, losses = epochs_by_hand(make, 7, shuffle=shuffle)
    assert bits(ours) == bits(expected) and history.loss_curve == losses
    assert (history.n_iter, history.t, history.best_loss, why) == (7, 350, min(losses), "max_iter")
    assert history.validation_scores is None and history.best_parameters is None


def test_train_stops_where_nothing_improves():
    """After more than n_iter_no_change epochs not better than the best by tol; a warm start goes on counting."""
    make = training_case()
    ours, history, why = train(make, max_iter=50, tol=1e3, n_iter_no_change=3)
    assert why == "converged" and history.n_iter == 5 == len(history.loss_curve)  # the first is better than infinity
    assert history.no_improvement_count == 4
    expected, losses = epochs_by_hand(make, 5)
    assert bits(ours) == bits(expected) and history.loss_curve == losses
    *_, why = train(make, history, tol=1e3, n_iter_no_change=3)
    assert why == "converged" and history.n_iter == 1 and len(history.loss_curve) == 6 and history.t == 300


def test_train_on_some_rows():
    """Only those that `rows` names, in its order."""
    make, rows = training_case(), np.array([3, 1, 4, 1, 5, 9, 2, 6])
    ours, history, _ = train(make, rows=rows, shuffle=False, batch_size=3, max_iter=2)
    expected, data, optimizer = make()
    for _ in range(2):
        expected.train_epoch(data, optimizer, 3, 0.1, rows)
    assert bits(ours) == bits(expected) and history.t == 16


def test_validation_scores_decide():
    """With scores the losses do not count, and the history keeps the parameters of the best."""
    make, scores = training_case(), iter([0.1, 0.5, 0.2, 0.5, 0.4, 0.3, 0.2, 0.1])
    history = History(best_loss=None, validation_losses=[], validation_scores=[], best_validation_score=-np.inf)
    _, history, why = train(make, history, measure=lambda: (2.0, next(scores)), tol=0.0, n_iter_no_change=2)
    best, _ = epochs_by_hand(make, 2)
    assert why == "converged" and history.validation_scores == [0.1, 0.5, 0.2, 0.5, 0.4, 0.3, 0.2]
    assert history.best_validation_score == 0.5 and history.best_loss is None and history.best_iter == 2
    assert history.validation_losses == [2.0] * 7
    assert history.best_parameters.tobytes() == best.parameters.tobytes()


def test_validation_rows_that_do_not_decide():
    """Are measured; training ends as without them."""
    make, history = training_case(), History(validation_losses=[], validation_scores=[])
    ours, history, why = train(make, history, measure=lambda: (2.0, 0.5))
    expected, losses = epochs_by_hand(make, 7)
    assert bits(ours) == bits(expected) and history.loss_curve == losses and why == "max_iter"
    assert (history.validation_losses, history.validation_scores, history.best_iter) == ([2.0] * 7, [0.5] * 7, None)


@pytest.mark.parametrize("seconds, rows", [(0.05, 20), (0.25, 40), (0.55, 50), (100.0, 50)])
def test_train_until_a_deadline(seconds, rows, monkeypatch):
    """The epoch that is under way ends between two batches, after one at least; its rows count, and its loss."""
    ticks = itertools.count()
    monkeypatch.setattr(network.time, "perf_counter", lambda: next(ticks) / 10)
    monkeypatch.setattr(network, "_PIECE_SECONDS", 1e-9)  # Python looks at the clock after each batch
    make = training_case()
    ours, history, why = train(make, deadline=seconds, shuffle=False, max_iter=1)
    monkeypatch.undo()
    assert why == ("max_time" if seconds < 100 else "max_iter")
    assert history.t == rows and history.n_iter == 1
    theirs, data, optimizer = make()
    assert history.loss_curve == [theirs.train_epoch(data, optimizer, 20, 0.1, np.arange(history.t))]
    assert bits(ours) == bits(theirs)


@pytest.mark.parametrize("stop_at", [1, 3, 7])
def test_who_is_told_of_epochs_may_stop_them(stop_at):
    """Before and after each of them."""
    make, told = training_case(), []
    options = {
        "before_epoch": lambda: told.append("before"),
        "after_epoch": lambda: told.append("after") or len(told) == 2 * stop_at,
    }
    ours, history, why = train(make, **options)
    assert why == "stopped" and history.n_iter == stop_at and told == ["before", "after"] * stop_at
    assert bits(ours) == bits(epochs_by_hand(make, stop_at)[0])


def test_interrupted_training_keeps_what_was_learnt(monkeypatch):
    """Control-C in the third epoch: a warning, and the network and the history of two epochs."""
    make, epoch, calls = training_case(), MLP.train_epoch, []

    def interrupted(self, *arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return epoch(self, *arguments)

    monkeypatch.setattr(MLP, "train_epoch", interrupted)
    with pytest.warns(UserWarning, match="interrupted by user"):
        ours, history, _ = train(make)
    monkeypatch.undo()
    expected, losses = epochs_by_hand(make, 2)
    assert bits(ours) == bits(expected)
    assert (history.n_iter, history.t, history.loss_curve) == (2, 100, losses)


# name: (schedule, options, learning rates after each epoch of 50 rows)
SCHEDULES = {
    "constant": ("constant", {}, [0.4, 0.4, 0.4]),
    "invscaling": ("invscaling", {"tol": -1.0}, [0.4 / (50 * k + 1) ** 0.5 for k in (1, 2, 3)]),
    "adaptive": ("adaptive", {"tol": 1e3, "n_iter_no_change": 0}, [0.4, 0.08, 0.016]),
}


@pytest.mark.parametrize("case", SCHEDULES)
def test_learning_rate_schedules(case):
    """'invscaling' follows the rows seen, 'adaptive' divides by 5 where nothing improves and stops at 1e-6."""
    schedule, options, expected = SCHEDULES[case]
    ours, data, _ = training_case()()
    optimizer, history, rates = SGD(ours, 0.4, schedule), History(), []
    options = {"batch_size": 20, "random_state": np.random.RandomState(0)} | options
    for _ in range(3):
        training.train(ours, data, optimizer, history, max_iter=1, **options)
        rates.append(optimizer.learning_rate)
    np.testing.assert_allclose(rates, expected, rtol=1e-12)
    if schedule == "adaptive":
        assert training.train(ours, data, optimizer, history, max_iter=100, **options) == "converged"
        assert 2e-7 < optimizer.learning_rate <= 1e-6
