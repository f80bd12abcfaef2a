"""No kernel reads or writes outside of what it was given, whatever the shapes, and what it computes is its twin's.

All arrays, the user's and the network's own, end where a page ends that kills the process if anything is done to the
next one, or start where one starts whose predecessor does: hence the processes of their own.
"""

import inspect
import types
from collections import Counter

import hypothesis
import numpy as np
import pytest
import scipy.sparse
from helpers import DTYPES, before_a_forbidden_page, needs_mprotect, run_code
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from networks import (
    GOALS,
    HIDDEN,
    LAYOUTS,
    OPTIMIZERS,
    Twin,
    assert_near,
    assert_near_twin,
    draw_data,
    kinks_near,
    make_network,
    order_with_repeats,
)

from fastmlp import _panels, _plan, _threads, network, optimizers
from fastmlp.compiled import passes
from fastmlp.compiled.storage import FEW
from fastmlp.network import SparseRows

NEAR = {np.float32: {"rtol": 5e-3, "atol": 5e-4}, np.float64: {"rtol": 1e-8, "atol": 1e-9}}
AT_THE_START = False
SEEN = Counter()


def guarded(array):
    """The same array in the same strides, its last byte the last one of its page, or its first byte the first one."""
    if not isinstance(array, np.ndarray) or array.size == 0:
        return array
    reach = [stride * (n - 1) for stride, n in zip(array.strides, array.shape, strict=True)]
    room = np.zeros(sum(map(abs, reach)) + array.itemsize, np.uint8)
    memory = before_a_forbidden_page(room, after=AT_THE_START)
    copy = np.ndarray(array.shape, array.dtype, memory, -sum(r for r in reach if r < 0), array.strides)
    copy[...] = array
    copy.flags.writeable = array.flags.writeable
    return copy


def guard_what_the_network_allocates():
    """Parameters, moments, workspaces and outputs; and what the kernels only read: layouts, work items, orders."""

    def zeros(shape, dtype=np.float64):
        return guarded(np.zeros(shape, dtype))

    def guarding(entry):
        names = list(inspect.signature(entry.function).parameters)
        tables = [names.index(name) for name in ("x", "order", "rates", "matrices") if name in names]

        def call(*args):
            return entry(*[guarded(arg) if i in tables else arg for i, arg in enumerate(args)])

        call.prepare = entry.prepare
        return call

    def guarding_all(method):
        return lambda *args: tuple(map(guarded, method(*args)))

    numpy = types.SimpleNamespace(**{name: getattr(np, name) for name in dir(np)} | {"zeros": zeros, "empty": zeros})
    network.np = _panels.np = _plan.np = optimizers.np = numpy
    _panels.zeros = _plan.zeros = zeros  # wherever a cache line starts
    _plan.Plan.shares = guarding_all(_plan.Plan.shares)
    for name in "epoch", "predict", "sparse_predict", "predict_row":
        setattr(passes, name, guarding(getattr(passes, name)))


@given(
    layer_units=st.lists(
        st.integers(1, FEW + 1) | st.integers(1, 40) | st.integers(1, 200), min_size=2, max_size=4
    ).map(tuple),
    n=st.integers(1, 20) | st.integers(1, 300),
    batch_size=st.integers(1, 20) | st.integers(1, 300),
    rows=st.integers(1, 20) | st.integers(1, 300),
    dtype=st.sampled_from(DTYPES),
    activations=st.tuples(*[st.sampled_from(HIDDEN)] * 2),
    goal=st.sampled_from(GOALS),
    optimizer=st.sampled_from(sorted(set(OPTIMIZERS) - {"adam"})),
    layout=st.sampled_from(sorted(set(LAYOUTS) - {"list"})),
    density=st.sampled_from([None, None, 0.02, 0.5]),
    weighted=st.booleans(),
    threads=st.sampled_from([1, 2, 3]),
    by_layers=st.booleans(),
    group_rows=st.sampled_from([8, 96]),
    copied=st.booleans(),
    by_rows=st.sampled_from([64, 1024]),
    at_a_time=st.sampled_from([0, 1]),
    at_the_start=st.booleans(),
    seed=st.integers(0, 2**31),
)
# the last rows of a matrix without a copy, two float64 of a vector where a tile has four rows
@example(
    layer_units=(4, 4, 36, 8), n=3, batch_size=2, rows=9, dtype=np.float64, activations=("relu", "relu"),
    goal="squared_error", optimizer="sgd", layout="C", density=None, weighted=False, threads=1, by_layers=False,
    group_rows=96, copied=False, by_rows=64, at_a_time=1, at_the_start=False, seed=0,
)  # fmt: skip
def check(
    layer_units, n, batch_size, rows, dtype, activations, goal, optimizer, layout, density, weighted, threads,
    by_layers, group_rows, copied, by_rows, at_a_time, at_the_start, seed,
):  # fmt: skip
    """One case: outputs, gradients and two epochs, in one piece or a batch at a time, against the naive twin."""
    global AT_THE_START
    rng, near, AT_THE_START = np.random.RandomState(seed), NEAR[dtype], at_the_start
    _threads.count, network._PIECE_SECONDS = lambda: threads, at_a_time
    _plan._BY_LAYERS = _plan._BY_LAYERS_LAYER = 0 if by_layers else 10**9
    _plan._GROUP_ROWS, _panels._NO_COPY, _plan._BY_ROWS = group_rows, 10**6 if copied else 0, by_rows
    ours = make_network(layer_units, activations[: len(layer_units) - 2], goal, dtype, sparse=density is not None)
    ours.initialize(rng)
    X, Y = draw_data(rng, layer_units, goal, n)
    X = (X / 8).astype(dtype)  # small, so that no step explodes and no probability is 0 or 1
    if density is None:
        X = dense = guarded(LAYOUTS[layout](X))
    else:
        dense = np.where(rng.uniform(size=X.shape) < density, X, 0).astype(dtype)
        parts = ours.rows(scipy.sparse.csr_array(dense))
        X = SparseRows(*map(guarded, parts[:3]), parts.shape)
    assume(dtype is np.float64 or not kinks_near(ours, dense, 1e-6))  # rounding would decide
    twin, (make, make_twin) = Twin(ours), OPTIMIZERS[optimizer]
    assert_near([ours.predict(X)], [twin.forward(dense)[-1]], dtype, **near)

    sample_weight = rng.uniform(0.1, 2, n).astype(dtype) if weighted else None
    data = ours.data(X, guarded(np.ascontiguousarray(Y, dtype)), guarded(sample_weight))
    loss, dW, db = ours.gradients(data, 0.1)
    expected, *gradients = twin.gradients(dense, Y, sample_weight, 0.1)
    assert loss == pytest.approx(expected, rel=near["rtol"], abs=near["atol"])
    assert_near(dW + db, sum(gradients, []), dtype, **near)
    rate = 0.001 if goal == "poisson" else 0.01
    our_optimizer, theirs = make(ours, learning_rate_init=rate), make_twin(learning_rate=rate)
    for order in None, guarded(order_with_repeats(rng, n, rows)):
        loss = ours.train_epoch(data, our_optimizer, batch_size, 0.1, order)
        expected = twin.train_epoch(dense, Y, theirs, batch_size, 0.1, order, sample_weight)
        assert loss == pytest.approx(expected, rel=near["rtol"], abs=near["atol"])
    assert_near_twin(ours, twin, **near)
    order = guarded(order_with_repeats(rng, n, rows))
    assert_near([ours.predict(X, order)], [twin.forward(dense)[-1][order]], dtype, **near)

    if density is None:
        matrices = [[guarded(array) for array in arrays] for arrays in (ours.weights, ours.biases)]
        few = ours.predict_with(X[:5], *matrices, finite=True)
        assert few.tobytes() == ours.predict(X[:5], finite=True).tobytes() == ours.predict(X)[:5].tobytes()

    groups = ours.plan.groups(min(batch_size, n))
    cases = {
        "few outputs": layer_units[-1] <= FEW,
        "a few units inside": min(layer_units[1:-1], default=99) <= FEW,
        "several panels": max(layer_units) > ours.panels.panel,
        "no copy": len(layer_units) > 2 and (ours.panels.layout["copy"][2:] < 0).any(),
        "a few rows, shared": density is None and max(layer_units[1:]) >= passes.SHARED * threads > passes.SHARED,
        "transposed": ours.panels.layout["transposed"].any(),
        "groups": density is None and groups > 1,
        "shared by layers": density is None and by_layers and threads > 1 and ours.plan.by_layers(batch_size),
        "sparse": density is not None,
        "sparse, shared by layers": density is not None and 1 < threads <= -(-layer_units[1] // ours.panels.panel),
        "one row": n == 1,
        "batches of one row": batch_size == 1,
        "weights": weighted,
        "X read in place": density is None and ours.plan.in_place(ours.dtype, data.x[2] == 1, min(batch_size, n)) > 0,
        "logistic regression": len(layer_units) == 2 and goal == "binary_log_loss",
    }
    SEEN.update(name for name, is_so in cases.items() if is_so)
    SEEN.update({*ours.activations[:-1], goal, optimizer})
    SEEN["all"] += 1


def check_many(count, seed):
    """So many cases; each kind of shape is among them, and each activation, loss and optimizer."""
    guard_what_the_network_allocates()
    network._TRAIN_IN_PARALLEL = network._PREDICT_IN_PARALLEL = network._ROW_IN_PARALLEL = 0
    checks = settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))(check)
    hypothesis.seed(seed)(checks)()
    assert SEEN["all"] >= count and {*HIDDEN, *GOALS, *OPTIMIZERS} - {"adam"} <= SEEN.keys()
    assert len(SEEN.keys() - {*HIDDEN, *GOALS, *OPTIMIZERS}) == 15 + _plan._IN_PLACE


CASES = [(300, 0), *(pytest.param(2_500, seed, marks=pytest.mark.long) for seed in range(1, 5))]


@needs_mprotect
@pytest.mark.parametrize("count, seed", CASES)
def test_kernels_keep_to_their_arrays_and_compute_what_their_twin_does(count, seed):
    run_code(f"import test_bounds; test_bounds.check_many({count}, {seed})", timeout=3600, NUMBA_NUM_THREADS="3")
