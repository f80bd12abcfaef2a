"""Sparse X gives the numbers of the same X made dense, in any form that SciPy has, and is never made dense itself.

Also in forms that SciPy's own functions leave behind: indices out of order, places named twice, arrays with room at
their end. What would lead out of the arrays is refused.
"""

import copy
import functools
import pickle
import tracemalloc

import numba
import numpy as np
import pytest
import scipy.sparse
from helpers import DTYPES, before_a_forbidden_page, dtypes, needs_mprotect, run_code
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import (
    EVERY_ONE,
    GOALS,
    HIDDEN,
    OPTIMIZERS,
    Twin,
    assert_loss_near,
    assert_near,
    assert_near_twin,
    bits,
    draw_data,
    optimizers,
    order_with_repeats,
)
from networks import draw_network as draw_any_network

from fastmlp import _threads, network
from fastmlp.network import MLP
from fastmlp.optimizers import SGD, Adam

draw_network = functools.partial(draw_any_network, sparse=True)


def draw_rows(rng, layer_units, goal, n, density=0.2):
    """Dense rows of which about this part is not 0, and targets; a few rows and columns are all 0."""
    X, Y = draw_data(rng, layer_units, goal, n)
    X[rng.uniform(size=X.shape) >= density] = 0
    X[1::7], X[:, 2::5] = 0, 0
    return X, Y


def with_index_type(index_type):
    def convert(X):
        X.indices, X.indptr = X.indices.astype(index_type), X.indptr.astype(index_type)
        return X

    return convert


def shuffled(X):
    """Indices of each row in another order."""
    X, rng = X.copy(), np.random.RandomState(0)
    for first, last in zip(X.indptr[:-1], X.indptr[1:], strict=True):
        permutation = first + rng.permutation(last - first)
        X.indices[first:last], X.data[first:last] = X.indices[permutation], X.data[permutation]
    X.has_sorted_indices = False
    return X


def twice(X):
    """Each entry in two parts, at the same place, that are exact halves."""
    return type(X)((np.repeat(X.data / 2, 2), np.repeat(X.indices, 2), 2 * X.indptr), shape=X.shape)


def with_zeros(X):
    """Each row has an entry of 0 besides, in its first column."""
    zero = scipy.sparse.csr_array((np.zeros(X.shape[0], X.dtype), (np.arange(X.shape[0]), np.zeros(X.shape[0], int))))
    zero.resize(X.shape)
    zero.data[:] = 1
    ones = zero + X
    ones[:, [0]] = X[:, [0]].toarray()
    return ones.tocsr()


def with_room(X):
    """Data and indices go on beyond the last row, with what must not be used."""
    longer = X.copy()
    longer.data, longer.indices = np.append(X.data, [np.nan] * 9), np.append(X.indices, [2**30] * 9)
    return longer


def with_other_bytes(X):
    X.data = X.data.astype(X.dtype.newbyteorder())
    return X


def read_only(X):
    for array in X.data, X.indices, X.indptr:
        array.flags.writeable = False
    return X


csr, csc = scipy.sparse.csr_array, scipy.sparse.csc_array
# The same numbers in another form.
FORMS = {
    "csr_array": csr,
    "csr_matrix": scipy.sparse.csr_matrix,
    "csc_array": csc,
    "csc_matrix": scipy.sparse.csc_matrix,
    "csr, int32": lambda X: with_index_type(np.int32)(csr(X)),
    "csr, int64": lambda X: with_index_type(np.int64)(csr(X)),
    "csc, int32": lambda X: with_index_type(np.int32)(csc(X)),
    "csc, int64": lambda X: with_index_type(np.int64)(csc(X)),
    "csr, shuffled": lambda X: shuffled(csr(X)),
    "csc, shuffled": lambda X: shuffled(csc(X)),
    "csr, twice": lambda X: twice(csr(X)),
    "csc, twice": lambda X: twice(csc(X)),
    "csr, with zeros": lambda X: with_zeros(csr(X)),
    "csr, with room": lambda X: with_room(csr(X)),
    "csc, with room": lambda X: with_room(csc(X)),
    "csr, read-only": lambda X: read_only(csr(X)),
    "csr, transposed csc": lambda X: csc(np.ascontiguousarray(X.T)).T,
    "csr, other byte order": lambda X: with_other_bytes(csr(X)),
    "coo_array": scipy.sparse.coo_array,
    "coo_matrix": scipy.sparse.coo_matrix,
    "lil_array": scipy.sparse.lil_array,
    "dok_array": scipy.sparse.dok_array,
    "bsr_array": scipy.sparse.bsr_array,
    "dia_array": scipy.sparse.dia_array,
    "float32": lambda X: csr(X.astype(np.float32)),
    "float64": lambda X: csr(X.astype(np.float64)),
}


@pytest.mark.parametrize("form", FORMS)
@dtypes
def test_forms(form, dtype):
    """Training and predicting are the twin's, and leave X as it is."""
    rng, layer_units = np.random.RandomState(0), (45, 21, 3)
    ours = draw_network(rng, layer_units, dtype=dtype)
    dense, Y = draw_rows(rng, layer_units, "softmax", 37)
    dense = dense.astype(np.float32).astype(dtype)
    X = FORMS[form](dense)
    if X.format in ("csr", "csc"):
        before = X.data.copy(), X.indices.copy(), X.indptr.copy()
    if form not in ("csr, with room", "csc, with room"):
        np.testing.assert_array_equal(X.toarray(), dense)
    twin = Twin(ours)
    assert_near([ours.predict(X)], [twin.forward(dense)[-1]], dtype)
    loss = ours.train_epoch(ours.data(X, Y), Adam(ours, 0.01), 10, 0.1)
    expected = twin.train_epoch(dense, Y, OPTIMIZERS["adam"][1](), 10, 0.1)
    assert_loss_near(loss, expected, dtype)
    assert_near_twin(ours, twin)
    if X.format in ("csr", "csc"):
        for array, old in zip((X.data, X.indices, X.indptr), before, strict=True):
            assert array.dtype == old.dtype
            np.testing.assert_array_equal(array, old)


def test_integers_and_bools():
    """Are converted to the network's dtype."""
    rng, layer_units = np.random.RandomState(0), (45, 21, 3)
    ours = draw_network(rng, layer_units)
    dense, _ = draw_rows(rng, layer_units, "softmax", 37)
    for X in np.round(9 * dense).astype(np.int64), dense > 0:
        assert_near([ours.predict(csr(X))], [Twin(ours).forward(X)[-1]], np.float64)


@given(
    layer_units=st.tuples(st.integers(1, 9) | st.integers(1, 900), st.integers(1, 70)).flatmap(
        lambda first: st.lists(st.integers(1, 40), max_size=2).map(lambda rest: (*first, *rest))
    ),
    n=st.integers(1, 80),
    batch_size=st.integers(1, 60),
    rows=st.integers(1, 80),
    density=st.sampled_from([0.0, 0.002, 0.05, 0.5, 1.0]),
    dtype=st.sampled_from(DTYPES),
    X_dtype=st.sampled_from(DTYPES),
    activations=st.tuples(*[st.sampled_from(HIDDEN)] * 2),
    goal=st.sampled_from(GOALS),
    optimizer=st.sampled_from(sorted(set(OPTIMIZERS) - {"adam"})),
    form=st.sampled_from(sorted(set(FORMS) - {"float32", "float64", "csr, with zeros"})),
    weighted=st.booleans(),
    seed=st.integers(0, 2**31),
)
@settings(deadline=None, max_examples=150, derandomize=True, database=None)
def test_odd_shapes(
    layer_units, n, batch_size, rows, density, dtype, X_dtype, activations, goal, optimizer, form, weighted, seed
):
    """Whatever the shape and the density, forward, gradients and epochs are those of the twin."""
    rng = np.random.RandomState(seed)
    ours = draw_network(rng, layer_units, activations[: len(layer_units) - 2], goal, dtype)
    dense, Y = draw_rows(rng, layer_units, goal, n, density)
    dense = (dense / 8).astype(np.float32).astype(X_dtype)
    X, twin, (make, make_twin) = FORMS[form](dense), Twin(ours), OPTIMIZERS[optimizer]
    near = {np.float32: {"rtol": 2e-3, "atol": 2e-4}, np.float64: {"rtol": 1e-9, "atol": 1e-10}}[dtype]
    assert_near(ours.forward(X), twin.forward(dense)[1:], dtype, **near)

    sample_weight = rng.uniform(0.1, 2, n) if weighted else None
    data = ours.data(X, Y, sample_weight)
    _, dW, db = ours.gradients(data, 0.1)
    _, expected_dW, expected_db = twin.gradients(dense, Y, sample_weight, 0.1)
    assert_near(dW + db, expected_dW + expected_db, dtype, **near)
    rate = 0.001 if goal == "poisson" else 0.01  # no step may explode
    our_optimizer, theirs = make(ours, learning_rate_init=rate), make_twin(learning_rate=rate)
    for order in None, order_with_repeats(rng, n, rows):
        loss = ours.train_epoch(data, our_optimizer, batch_size, 0.1, order)
        expected = twin.train_epoch(dense, Y, theirs, batch_size, 0.1, order, sample_weight)
        assert loss == pytest.approx(expected, rel=near["rtol"], abs=near["atol"])
    assert_near_twin(ours, twin, **near)
    order = order_with_repeats(rng, n, rows)
    assert_near([ours.predict(X, order)], [twin.forward(dense)[-1][order]], dtype, **near)


@dtypes
@optimizers
def test_batches_of_zeros(optimizer, dtype):
    """A batch without a nonzero steps weights by penalty and momentum alone, as a dense one does."""
    rng, layer_units = np.random.RandomState(1), (300, 11, 3)
    ours = draw_network(rng, layer_units, dtype=dtype)
    dense, Y = draw_rows(rng, layer_units, "softmax", 40)
    dense[10:20] = 0
    twin, (make, make_twin) = Twin(ours), OPTIMIZERS[optimizer]
    our_optimizer, theirs = make(ours), make_twin()
    for rows in dense, np.zeros_like(dense):
        for _ in range(2):
            loss = ours.train_epoch(ours.data(csr(rows), Y), our_optimizer, 10, 0.1)
            assert_loss_near(loss, twin.train_epoch(rows, Y, theirs, 10, 0.1), dtype)
    assert_near_twin(ours, twin)


# a layer without hidden ones, narrow ones, more than a block of columns and more than a panel of units
WIDE = [((3000, 100, 10), 300, 128), ((700, 3), 64, 64), ((260, 150, 40, 1), 210, 100), ((5, 2), 9, 4)]


@dtypes
@pytest.mark.parametrize("layer_units, n, batch_size", WIDE, ids=str)
def test_dense_X_gives_the_same(layer_units, n, batch_size, dtype):
    """In a network for sparse X, and in one for dense X, which may predict from sparse X."""
    rng, output = np.random.RandomState(2), "softmax" if layer_units[-1] > 1 else "logistic"
    dense, Y = draw_rows(rng, layer_units, output, n, 0.05)
    dense, sample_weight = dense.astype(dtype), rng.uniform(0.5, 2, n)
    networks = [draw_network(np.random.RandomState(3), layer_units, "relu", output, dtype, sparse=s) for s in (1, 1, 0)]
    for ours, X in zip(networks, (csr(dense), dense, dense), strict=True):
        optimizer = Adam(ours)
        for _ in range(3):
            ours.train_epoch(ours.data(X, Y, sample_weight), optimizer, batch_size, 0.1)
    first, *others = networks
    for other in others:
        assert_near(first.weights + first.biases, other.weights + other.biases, dtype)
        assert_near([first.predict(dense)], [other.predict(csr(dense))], dtype)
        assert_near(other.forward(csr(dense)), other.forward(dense)[1:], dtype)


# ---- threads and memory -----------------------------------------------------------------------------------------


def train_and_predict(layer_units, n, batch_size, dtype, hidden, goal, optimizer):
    """All bits that training and predicting give."""
    rng = np.random.RandomState(4)
    ours = draw_network(rng, layer_units, hidden, goal, dtype)
    dense, Y = draw_rows(rng, layer_units, goal, n, 0.1)
    X = twice(csr(dense.astype(dtype)))
    rate = 0.001 if goal == "poisson" else 0.01  # no step may explode
    our_optimizer = OPTIMIZERS[optimizer][0](ours, learning_rate_init=rate)
    data = ours.data(X, Y, rng.uniform(0.5, 2, n))
    losses = [ours.train_epoch(data, our_optimizer, batch_size, 0.1, rng.permutation(n)) for _ in range(2)]
    loss, dW, db = ours.gradients(data, 0.1)
    arrays = [np.array([*losses, loss, ours.loss(data, 0.1)]), ours.predict(X), *dW, *db]
    assert all(np.isfinite(array).all() for array in arrays)
    return bits(ours), *(array.tobytes() for array in arrays)


def compare_numbers_of_threads():
    """For the process of the next test."""
    network._TRAIN_IN_PARALLEL = network._PREDICT_IN_PARALLEL = 0
    goals = ["cross_entropy" if layer_units[-1] > 1 else "binary_log_loss" for layer_units, *_ in WIDE]
    shapes = [(*shape, dtype, "tanh", goal) for shape, goal in zip(WIDE, goals, strict=True) for dtype in DTYPES]
    cases = [(*shape, optimizer) for shape in shapes for optimizer in ("adam", "sgd")]
    cases += [((260, 150, 40, 3), 210, 100, dtype, *case) for dtype in DTYPES for case in EVERY_ONE]
    for case in cases:
        seen = []
        for threads in 1, 2, 3, 4:
            numba.set_num_threads(threads)
            seen.append(train_and_predict(*case))
        assert seen[1:] == seen[:-1], case
    assert _threads.workers() == 3


def test_any_number_of_threads_gives_the_same_bits():
    """Weights, losses, gradients and predictions, with 1 to 4 threads."""
    run_code("import test_sparse; test_sparse.compare_numbers_of_threads()", NUMBA_NUM_THREADS="4")


@dtypes
@pytest.mark.parametrize("form", ["csr", "csc"])
def test_X_is_never_dense(form, dtype):
    """Training and predicting take less memory than a hundredth of dense X; CSR is read in place."""
    n, features = 4000, 20_000
    rng, layer_units = np.random.RandomState(5), (features, 4, 1)
    X = scipy.sparse.random(n, features, 1e-3, form, dtype, random_state=rng)
    Y = rng.normal(size=n).astype(dtype)
    ours = draw_network(rng, layer_units, "relu", "identity", dtype)
    optimizer, order = Adam(ours), rng.permutation(n)

    def use():
        ours.train_epoch(ours.data(X, Y), optimizer, 200, 0.0, order)
        return ours.predict(X)

    use()  # compiles
    tracemalloc.start()
    try:
        use()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    room = 200_000 if form == "csr" else 2 * (X.data.nbytes + X.indices.nbytes + X.indptr.nbytes)
    assert peak < room < n * features * X.dtype.itemsize / 100


def train_before_forbidden_pages():
    """Train and predict from arrays whose last number is the last one before a page that kills whoever touches it."""
    for dtype, X_dtype in (np.float32, np.float32), (np.float64, np.float32), (np.float32, np.float64):
        for layer_units in (3, 2), (16, 5, 3), (35, 40, 17):
            rng = np.random.RandomState(6)
            ours = draw_network(rng, layer_units, "relu", "identity", dtype)
            dense, Y = draw_rows(rng, layer_units, "identity", 21, 0.4)
            X = csr(dense.astype(X_dtype))
            X = csr(tuple(map(before_a_forbidden_page, (X.data, X.indices, X.indptr.astype(np.int64)))), X.shape)
            X.indices = before_a_forbidden_page(X.indices.astype(np.int32))
            ours.train_epoch(ours.data(X, Y), Adam(ours), 8)
            assert np.isfinite(ours.predict(X)).all()


@needs_mprotect
def test_nothing_beyond_the_data_is_read():
    run_code("import test_sparse; test_sparse.train_before_forbidden_pages()")


# ---- copies -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_training_goes_on_after_a_copy(how):
    """Of network, data and optimizer, together, with the same bits; one for dense X would store W_1 transposed."""
    rng, layer_units = np.random.RandomState(7), (90, 8, 3)
    ours = draw_network(rng, layer_units)
    dense, Y = draw_rows(rng, layer_units, "softmax", 40)
    mine = ours, ours.data(csr(dense), Y), Adam(ours)
    ours.train_epoch(*mine[1:], 16)
    theirs = how(mine)
    for _ in range(2):
        for made, data, optimizer in mine, theirs:
            made.train_epoch(data, optimizer, 16)
    assert bits(theirs[0]) == bits(ours)


def test_an_optimizer_goes_on_with_the_other_kind_of_rows():
    """Its moments fit a network for dense X and one for sparse X, whose panels differ."""
    rng, layer_units = np.random.RandomState(8), (90, 3, 3)
    dense, Y = draw_rows(rng, layer_units, "softmax", 40)
    trained = []
    for kinds in (True, True), (True, False), (False, True):
        ours = draw_network(np.random.RandomState(9), layer_units, sparse=kinds[0])
        optimizer = Adam(ours)
        for kind in kinds:
            other = MLP(layer_units, "tanh", dtype=np.float64, sparse=kind)
            other.set_parameters(ours.weights, ours.biases)
            ours, optimizer = other, optimizer.copy_for(other)
            ours.train_epoch(ours.data(csr(dense) if kind else dense, Y), optimizer, 16)
        trained.append(ours)
    assert [ours.panels.layout["transposed"][1] for ours in trained] == [0, 1, 0]
    for other in trained[1:]:
        assert_near(other.weights + other.biases, trained[0].weights + trained[0].biases, np.float64)


# ---- what goes wrong --------------------------------------------------------------------------------------------


def broken(form, **changes):
    """A matrix of 5 x 5 with other arrays than SciPy would have made."""
    X = form(np.eye(5))
    for name, change in changes.items():
        setattr(X, name, change(getattr(X, name)))
    return X


def put(position, value):
    def change(array):
        array = array.copy()
        array[position] = value
        return array

    return change


# what has changed, and part of the message
BROKEN = {
    "an index too high": ({"indices": put(2, 5)}, "indices"),
    "an index far too high": ({"indices": put(2, 2**31 - 1)}, "indices"),
    "an index beyond 32 bits": ({"indices": lambda a: put(2, 2**32 + 1)(a.astype(np.int64))}, "indices"),
    "a negative index": ({"indices": put(0, -1)}, "indices"),
    "a line that ends before it starts": ({"indptr": put(2, 0)}, "indptr"),
    "a line that goes back": ({"indptr": put(3, 1)}, "indptr"),
    "a first line that starts later": ({"indptr": put(0, 1)}, "indptr"),
    "a first line that starts before": ({"indptr": put(0, -1)}, "indptr"),
    "an end beyond the entries": ({"indptr": put(5, 6)}, "indptr"),
    "a negative end": ({"indptr": put(5, -1)}, "indptr"),
    "too few lines": ({"indptr": lambda a: a[:-1]}, "indptr"),
    "too many lines": ({"indptr": lambda a: np.append(a, 5)}, "indptr"),
    "too few indices": ({"indices": lambda a: a[:-1]}, "indptr"),
    "too few numbers": ({"data": lambda a: a[:-1]}, "indptr"),
    "no lines": ({"indptr": lambda a: a[:0]}, "indptr"),
}


@pytest.mark.parametrize("form", [csr, csc], ids=["csr", "csc"])
@pytest.mark.parametrize("case", BROKEN)
def test_broken_matrices_are_refused(case, form):
    """With a ValueError that says what is wrong, before anything is read through them."""
    changes, message = BROKEN[case]
    ours = MLP([5, 3, 2], output="identity", sparse=True)
    for use in ours.predict, ours.forward, lambda X: ours.data(X, np.ones((5, 2))):
        with pytest.raises(ValueError, match=message):
            use(broken(form, **changes))


@pytest.mark.parametrize("other", [MLP([90, 3, 3]), MLP([40, 3, 3], sparse=True)], ids=["dense", "narrower"])
def test_data_of_another_network_is_refused(other):
    """Its nonzeros would lead elsewhere; the parameters stay as they were."""
    X, before = csr(np.eye(5, 90)), bits(other)
    data = MLP([90, 3, 3], sparse=True).data(X, np.zeros(5, int))
    for use in other.loss, other.gradients, lambda data: other.train_epoch(data, SGD(other), 2):
        with pytest.raises(ValueError, match="another network"):
            use(data)
    assert bits(other) == before


BAD_SHAPES = {"too narrow": (5, 2), "too wide": (5, 4), "no rows, too wide": (0, 4)}


@pytest.mark.parametrize("case", BAD_SHAPES)
def test_bad_shapes_are_refused(case):
    ours, X = MLP([3, 2], output="identity", sparse=True), csr(BAD_SHAPES[case])
    for use in ours.predict, ours.forward, lambda X: ours.data(X, np.ones((5, 2))):
        with pytest.raises(ValueError, match="X must"):
            use(X)


def test_no_rows():
    """Nothing is predicted from them, and nothing learnt."""
    ours = MLP([3, 2], output="identity", sparse=True)
    assert ours.predict(csr((0, 3))).shape == (0, 2)
    with pytest.raises(ValueError, match="Y must"):
        ours.data(csr((0, 3)), np.ones((0, 2)))


def test_a_network_for_dense_rows_does_not_train_on_sparse_ones():
    ours = MLP([3, 2], output="identity")
    with pytest.raises(ValueError, match="sparse=True"):
        ours.data(csr((5, 3)), np.ones((5, 2)))


@pytest.mark.parametrize("order", [[0, 1, 2, 5], [0, -1], [0, -5]], ids=str)
def test_rows_that_are_not_there(order):
    """An IndexError, and the network stays as it was."""
    ours = draw_network(np.random.RandomState(0), (5, 3, 2), goal="identity")
    before, X, order = bits(ours), csr(np.eye(5)), np.array(order)
    with pytest.raises(IndexError):
        ours.predict(X, order)
    with pytest.raises(IndexError):
        ours.train_epoch(ours.data(X, np.ones((5, 2))), SGD(ours), 2, 0.0, order)
    assert bits(ours) == before


def test_checked_rows_are_not_checked_again():
    """What `rows` returns predicts and trains, and is returned as it is."""
    ours = draw_network(np.random.RandomState(0), (5, 3, 2), goal="identity")
    X = csr(np.eye(5))
    rows = ours.rows(X)
    assert ours.rows(rows) is rows and (rows.shape, rows.dtype) == (X.shape, X.dtype)
    np.testing.assert_array_equal(ours.predict(rows), ours.predict(X))
    assert ours.loss(ours.data(rows, np.ones((5, 2)))) == ours.loss(ours.data(X, np.ones((5, 2))))
    with pytest.raises(ValueError, match="X must"):
        MLP([4, 2], sparse=True).rows(rows)


def test_matrices_are_not_for_sparse_rows():
    """`predict_with` takes dense rows; of others it says so, and reads nothing."""
    ours = draw_network(np.random.RandomState(0), (5, 3, 2))
    assert ours.predict_with(csr(np.eye(5)), ours.weights, ours.biases) is None
