"""The register tile: every intrinsic gives NumPy's numbers, and touches no memory but what it names.

Each test compiles a few lines that use the intrinsic and compares all memory that they were given.
"""

import concurrent.futures
import functools
import math
import os
from itertools import product

import mpmath
import numpy as np
import pytest
import scipy.special
from helpers import DTYPES, OTHER_PROCESSOR, before_a_forbidden_page, dtypes, needs_mprotect, run_code
from numba import njit

from fastmlp.compiled import tile
from fastmlp.compiled.tile import (
    FUSED,
    ROWS,
    VECS,
    absolute,
    address,
    atomic_add,
    atomic_load,
    atomic_replace,
    column,
    column_sum,
    cos_of_turns,
    eps,
    exp,
    exp_of_minus,
    expm1_of_minus,
    first_of,
    gather,
    give_way,
    lanes,
    lanes_of,
    load,
    load_column,
    load_part,
    log,
    log1p,
    logistic,
    maximum,
    memory,
    minimum,
    multiply_add,
    normal_chord,
    number,
    outer,
    pause,
    pointer,
    row_max,
    row_sum,
    row_totals,
    rows_at,
    sin_of_turns,
    skip,
    sqrt,
    store,
    store_column,
    store_part,
    store_transposed,
    tanh,
    times_exp,
    total,
    where_greater,
    where_nonzero,
    zeros,
)

SHAPES = sorted({(1, 1), (1, VECS), (ROWS, 1), (ROWS, VECS)})  # rows and vectors of the tiles that kernels use

shapes = pytest.mark.parametrize("rows, vecs", SHAPES)


def columns_of(dtype, vecs):
    return vecs * lanes_of(np.dtype(dtype))


def counting(size, dtype):
    """1, 2, 3, ...: every place has a number of its own."""
    return np.arange(1, size + 1, dtype=dtype)


def special_numbers(dtype):
    """Zeros, infinities, NaN, the ends of the normal and the denormal numbers, with either sign."""
    info = np.finfo(dtype)
    positive = [0, 1, 2.5, 1e-3, 1e3, info.tiny, info.smallest_subnormal, info.max, info.eps, np.inf, np.nan]
    return np.array([sign * x for x in positive for sign in (1, -1)], dtype)


def assert_same(found, expected):
    """Equal numbers, zeros with equal signs, NaN where NaN is."""
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.signbit(found) & (found == 0), np.signbit(expected) & (expected == 0))


# ---- what the processor has -------------------------------------------------------------------------------------


def test_a_full_tile_leaves_registers_free():
    """There are 32 vector registers of 512 bits, 16 of 256 and, on some processors, 32 of 128."""
    assert tile.VECTOR_BITS in (128, 256, 512)
    assert ROWS * VECS + VECS + 1 <= {512: 32, 256: 16, 128: 32}[tile.VECTOR_BITS]
    assert tile.VECTOR_BITS == int(os.environ.get(OTHER_PROCESSOR, tile.VECTOR_BITS))


@dtypes
def test_a_full_tile_can_be_transposed(dtype):
    """Rows are a power of two, and as wide a matrix as a tile is cut into whole tiles the other way round."""
    assert ROWS & (ROWS - 1) == 0
    assert columns_of(dtype, VECS) % ROWS == 0


@dtypes
def test_lanes_number_pointer_and_skip(dtype):
    """`lanes` is what `lanes_of` says, `number` has the memory's type, `pointer` and `skip` name an array's numbers."""

    @njit
    def use(x, found):
        p = pointer(x)
        found[0] = lanes(p)
        found[1] = number(p, 1 / 3) == 1 / 3  # only in float64
        p[2] = p[1] + number(p, 1 / 3)
        skip(p, 1)[2] = skip(p, 3)[-3]
        return number(p, 7)

    x, found = counting(4, dtype), np.zeros(2)
    assert use(x, found) == 7
    assert found.tolist() == [lanes_of(np.dtype(dtype)), dtype is np.float64]
    assert_same(x, np.array([1, 2, dtype(2) + dtype(1 / 3), 1], dtype))


@dtypes
def test_addresses_and_eps(dtype):
    """`address` is NumPy's, `memory` makes the numbers of it again, `eps` is the machine epsilon as float64."""

    @njit
    def use(x, found):
        p = pointer(x)
        memory(p, address(x) + 8)[0] = number(p, 7)
        found[0] = eps(p)
        return address(x[1:])

    x, found = counting(4, dtype), np.zeros(1)
    assert use(x, found) == x[1:].ctypes.data
    assert found[0] == np.finfo(dtype).eps
    assert np.flatnonzero(x == 7).tolist() == [8 // x.itemsize]


# ---- memory -----------------------------------------------------------------------------------------------------


@dtypes
@shapes
def test_load_and_store(rows, vecs, dtype):
    """Any start and stride, down to 0, which repeats a row; nothing beside the tile is written."""

    @njit
    def copy(x, x_start, x_stride, y, y_start, y_stride):
        store(load(pointer(x), x_start, x_stride, rows, vecs), pointer(y), y_start, y_stride)

    width = columns_of(dtype, vecs)
    for start, x_stride, y_stride in product([0, 3], [0, 1, width, width + 5], [width, width + 3]):
        x, y = counting(start + rows * (width + 5), dtype), -counting(7 + rows * (width + 3), dtype)
        expected = y.copy()
        for r in range(rows):
            expected[7 + r * y_stride :][:width] = x[start + r * x_stride :][:width]
        copy(x, start, x_stride, y, 7, y_stride)
        assert_same(y, expected)


@dtypes
@shapes
def test_zeros(rows, vecs, dtype):
    """A tile of +0."""

    @njit
    def clear(x):
        store(zeros(pointer(x), rows, vecs), pointer(x), 0, vecs * lanes(pointer(x)))

    x, size = counting(rows * columns_of(dtype, vecs) + 3, dtype), rows * columns_of(dtype, vecs)
    clear(x)
    assert_same(x, np.append(np.zeros(size, dtype), counting(size + 3, dtype)[size:]))


@dtypes
@pytest.mark.parametrize("rows, vecs", sorted({*SHAPES, (2, 1), (4, VECS), (16, 1)}))
def test_store_transposed(rows, vecs, dtype):
    """Columns become rows, for more rows than a vector has lanes and for fewer; nothing else is written."""

    @njit
    def transpose(x, y, start, stride):
        tile = load(pointer(x), 0, vecs * lanes(pointer(x)), rows, vecs)
        store_transposed(tile, pointer(y), start, stride)

    width = columns_of(dtype, vecs)
    x = counting(rows * width, dtype).reshape(rows, width)
    for stride in rows, rows + 3:
        y = -counting(5 + width * stride + 2, dtype)
        expected = y.copy()
        expected[5 : 5 + width * stride].reshape(width, stride)[:, :rows] = x.T
        transpose(x.reshape(-1), y, 5, stride)
        assert_same(y, expected)


@njit
def part_of(x, start, count, y):
    """y = the vector that `load_part` makes of a part of x."""
    store(load_part(pointer(y), pointer(x), start, count), pointer(y), 0, 0)


@njit
def store_a_part(x, y, start, count):
    """`store_part` of the vector x to y."""
    store_part(load(pointer(x), 0, 0, 1, 1), pointer(y), start, count)


def counts_of(dtype):
    """Less than nothing, nothing, each number of lanes, more than all."""
    return range(-2, lanes_of(np.dtype(dtype)) + 3)


@dtypes
@pytest.mark.parametrize("source", DTYPES, ids=lambda dtype: "from_" + dtype.__name__)
def test_load_part(source, dtype):
    """`count` numbers, rounded to the tile's type, then zeros; start anywhere."""
    width, third = lanes_of(np.dtype(dtype)), source(1 / 3)
    x, y = counting(width + 5, source) * third, np.empty(width, dtype)
    for start, count in product([0, 3], counts_of(dtype)):
        y[:] = -1
        part_of(x, start, count, y)
        n = min(max(count, 0), width)
        assert_same(y, np.append(x[start : start + n].astype(dtype), np.zeros(width - n, dtype)))


@dtypes
def test_store_part(dtype):
    """`count` numbers are written, the next one is not; start anywhere."""
    width = lanes_of(np.dtype(dtype))
    x = counting(width, dtype)
    for start, count in product([0, 3], counts_of(dtype)):
        y = -counting(width + 5, dtype)
        expected, n = y.copy(), min(max(count, 0), width)
        expected[start : start + n] = x[:n]
        store_a_part(x, y, start, count)
        assert_same(y, expected)


def use_parts_before_a_forbidden_page():
    """Load and store parts whose last number is the last one before a page that kills the process if it is touched."""
    for dtype, source in product(DTYPES, DTYPES):
        width = lanes_of(np.dtype(dtype))
        for n in range(width + 1):
            x, y = before_a_forbidden_page(counting(n, source)), np.empty(width, dtype)
            part_of(x, 0, n, y)
            assert_same(y, np.append(x.astype(dtype), np.zeros(width - n, dtype)))
            if dtype is source:
                store_a_part(-y, x, 0, n)
                assert_same(x, -counting(n, dtype))


@needs_mprotect
def test_parts_end_where_memory_ends():
    """`load_part` and `store_part` touch no byte after `count` numbers, conversions included."""
    run_code("import test_tile; test_tile.use_parts_before_a_forbidden_page()")


# ---- several threads --------------------------------------------------------------------------------------------


def test_atomics_in_one_thread():
    """What they return and what they leave in memory."""

    @njit
    def run(x):
        m = pointer(x)
        pause()
        give_way()
        return (
            atomic_add(m, 1, 5),
            atomic_load(m, 1),
            atomic_replace(m, 2, 4, -1),
            atomic_replace(m, 0, 1, -2),
        )

    x = np.array([1, 2, 3])
    assert run(x) == (7, 7, False, True)
    assert x.tolist() == [-2, 7, 3]


def test_atomics_among_threads():
    """No addition is lost; of all that want to replace a number one does."""

    @njit(nogil=True)
    def run(x, times):
        replaced = 0
        for i in range(times):
            atomic_add(pointer(x), 0, 1)
            replaced += atomic_replace(pointer(x), 1, i, i + 1)
        return replaced

    x, times = np.zeros(2, np.int64), 100_000
    run(x, 0)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        replaced = sum(pool.map(lambda _: run(x, times), range(4)))
    assert x[0] == 4 * times and 0 < replaced == x[1] <= times


# ---- arithmetic -------------------------------------------------------------------------------------------------


@dtypes
@shapes
def test_outer(rows, vecs, dtype):
    """tile[r, c] + x[start + r * stride] * y[start + c], exact on whole numbers."""

    @njit
    def add_outer(tile, x, x_start, x_stride, y, y_start):
        t = pointer(tile)
        width = vecs * lanes(t)
        store(outer(load(t, 0, width, rows, vecs), pointer(x), x_start, x_stride, pointer(y), y_start), t, 0, width)

    width = columns_of(dtype, vecs)
    x, y = counting(5 + 3 * rows, dtype), counting(width + 4, dtype)
    for x_start, x_stride, y_start in product([0, 5], [0, 1, 3], [0, 4]):
        tile = counting(rows * width, dtype).reshape(rows, width)
        column = x[x_start + x_stride * np.arange(rows)]
        expected = tile + np.outer(column, y[y_start : y_start + width])
        add_outer(tile.reshape(-1), x, x_start, x_stride, y, y_start)
        assert_same(tile, expected)


@dtypes
@shapes
def test_outer_of_rows_anywhere(rows, vecs, dtype):
    """tile[r, c] + x[start + places[first + r]] * y[y_start + c], exact on whole numbers."""

    @njit
    def add_outer(tile, x, x_start, places, first, y, y_start):
        t = pointer(tile)
        width, at = vecs * lanes(t), rows_at(pointer(places), first)
        store(outer(load(t, 0, width, rows, vecs), pointer(x), x_start, at, pointer(y), y_start), t, 0, width)

    width, rng = columns_of(dtype, vecs), np.random.RandomState(0)
    x, y, places = counting(50, dtype), counting(width + 4, dtype), rng.randint(45, size=ROWS + 3)
    for x_start, first, y_start in product([0, 5], [0, 3], [0, 4]):
        tile = counting(rows * width, dtype).reshape(rows, width)
        expected = tile + np.outer(x[x_start + places[first:][:rows]], y[y_start : y_start + width])
        add_outer(tile.reshape(-1), x, x_start, places, first, y, y_start)
        assert_same(tile, expected)


@dtypes
def test_products_round_once_where_the_processor_can(dtype):
    """(1 + eps)(1 - eps) - 1 is -eps^2, where a product that is rounded first gives 0."""

    @njit
    def run(tile, x, y, found):
        t = pointer(tile)
        store(outer(load(t, 0, 0, 1, 1), pointer(x), 0, 0, pointer(y), 0), t, 0, 0)
        minus_one = load(pointer(found), 0, 0, 1, 1)
        store(multiply_add(load(pointer(x), 0, 0, 1, 1), y[0], minus_one), pointer(found), 0, 0)

    eps, width = np.finfo(dtype).eps, lanes_of(np.dtype(dtype))
    x, y = np.full(width, 1 + eps, dtype), np.full(width, 1 - eps, dtype)
    tile, found = np.full((2, width), -1, dtype)
    run(tile, x, y, found)
    assert_same(tile, np.full(width, -(eps**2) if FUSED else 0, dtype))
    assert_same(found, tile)


@dtypes
def test_multiply_add(dtype):
    """x * y + z, exact on whole numbers; each of them may be a scalar."""

    @njit
    def run(x, y, z, found):
        X, Y, Z, width = pointer(x), pointer(y), pointer(z), VECS * lanes(pointer(x))
        a, b = load(X, 0, width, ROWS, VECS), load(Y, 0, width, ROWS, VECS)
        c = load(Z, 0, width, ROWS, VECS)
        results = multiply_add(a, b, c), multiply_add(X[1], b, c), multiply_add(a, Y[1], c), multiply_add(a, b, Z[1])
        for i, result in enumerate(results):
            store(result, pointer(found), i * ROWS * width, width)

    size = ROWS * columns_of(dtype, VECS)
    x, y, z = np.random.RandomState(0).randint(-99, 99, (3, size)).astype(dtype)
    found = np.empty((4, size), dtype)
    run(x, y, z, found.reshape(-1))
    np.testing.assert_array_equal(found, [x * y + z, x[1] * y + z, x * y[1] + z, x * y + z[1]])


# written once, compiled for tiles and called with arrays
OPERATORS = {
    "x + y": lambda x, y: x + y,
    "x - y": lambda x, y: x - y,
    "x * y": lambda x, y: x * y,
    "x / y": lambda x, y: x / y,
}


def expected_maximum(x, y):
    return np.where(y > x, y, x)  # a NaN in y is not larger, nothing is larger than a NaN in x


def expected_minimum(x, y):
    return np.where(y < x, y, x)


def expected_where_nonzero(condition, x):
    return np.where(condition != 0, x, 0)


# name: (what is compiled, the same in NumPy)
FUNCTIONS = {name: (njit(f), f) for name, f in OPERATORS.items()} | {
    "maximum": (maximum, expected_maximum),
    "minimum": (minimum, expected_minimum),
    "where_nonzero": (where_nonzero, expected_where_nonzero),
}


@dtypes
@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_of_two_tiles(function, dtype):
    """Every special number with every other: NumPy's numbers, for tiles and for a scalar on either side."""
    compiled, formula = FUNCTIONS[function]

    @njit
    def tiles(x, y, both, left, right):
        X, Y, width = pointer(x), pointer(y), VECS * lanes(pointer(x))
        for i in range(0, len(x), ROWS * width):
            a, b = load(X, i, width, ROWS, VECS), load(Y, i, width, ROWS, VECS)
            store(compiled(a, b), pointer(both), i, width)
            store(compiled(X[i], b), pointer(left), i, width)
            store(compiled(a, Y[i]), pointer(right), i, width)

    size = ROWS * columns_of(dtype, VECS)
    pairs = np.array(list(product(special_numbers(dtype), repeat=2)), dtype)
    more = np.random.RandomState(0).normal(size=(-len(pairs) % size + 20 * size, 2))
    x, y = np.ascontiguousarray(np.concatenate([pairs, more.astype(dtype)])[::-1].T)
    both, left, right = np.empty((3, len(x)), dtype)
    tiles(x, y, both, left, right)
    first = np.arange(len(x)) // size * size
    with np.errstate(all="ignore"):
        assert_same(both, formula(x, y))
        assert_same(left, formula(x[first], y))
        assert_same(right, formula(x, y[first]))


@dtypes
def test_where_greater_and_absolute(dtype):
    """Every special number with every other; a NaN is not greater, and nothing is greater than one."""

    @njit
    def run(x, y, chosen, positive):
        X, Y = pointer(x), pointer(y)
        for i in range(0, len(x), lanes(X)):
            a, b = load(X, i, 0, 1, 1), load(Y, i, 0, 1, 1)
            store(where_greater(a, b, a, 7.0), pointer(chosen), i, 0)
            store(absolute(a), pointer(positive), i, 0)

    pairs = np.array(list(product(special_numbers(dtype), repeat=2)), dtype)
    x, y = np.ascontiguousarray(np.resize(pairs, (len(pairs) // 64 * 64 + 64, 2)).T)
    chosen, positive = np.empty((2, len(x)), dtype)
    run(x, y, chosen, positive)
    assert_same(chosen, np.where(x > y, x, dtype(7)))
    assert_same(positive, np.abs(x))


def apply(function, x):
    """function(x) of any number of numbers, through tiles of one vector."""

    @njit
    def run(x, y):
        for i in range(0, len(x), lanes(pointer(x))):
            store(function(load(pointer(x), i, 0, 1, 1)), pointer(y), i, 0)

    padded = np.append(x, np.zeros(-len(x) % lanes_of(x.dtype), x.dtype))
    y = np.empty_like(padded)
    run(padded, y)
    return y[: len(x)]


@dtypes
def test_sqrt_is_correctly_rounded(dtype):
    x = np.concatenate([special_numbers(dtype), np.random.RandomState(0).uniform(0, 10, 10_000).astype(dtype)])
    with np.errstate(invalid="ignore"):
        assert_same(apply(sqrt, x), np.sqrt(x))


# name: (what is compiled, the same in NumPy or SciPy, the same in mpmath)
ELEMENTARY = {
    "exp": (exp, np.exp, mpmath.exp),
    "log": (log, np.log, mpmath.log),
    "tanh": (tanh, np.tanh, mpmath.tanh),
    "logistic": (logistic, scipy.special.expit, lambda x: 1 / (1 + mpmath.exp(-x))),
}

elementary = pytest.mark.parametrize("function", ELEMENTARY)


@dtypes
@elementary
def test_ends_of_elementary_functions(function, dtype):
    """At 0, at infinity, beyond the range and at NaN: the very numbers of NumPy and SciPy, signs of zeros too."""
    compiled, theirs, _ = ELEMENTARY[function]
    huge, tiny = np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal
    x = np.array([0, np.inf, huge, 1e30, 1e3, 800, tiny, 1e-30, np.nan], dtype)
    x = np.concatenate([x, -x])
    with np.errstate(all="ignore"):
        assert_same(apply(compiled, x), theirs(x))


@elementary
def test_elementary_functions_in_float32(function):
    """Every 997th of all float32: within 2 units in the last place, denormal results and overflow included."""
    compiled, theirs, _ = ELEMENTARY[function]
    x = np.arange(0, 2**32, 997, dtype=np.uint32).view(np.float32)
    x = x[np.isfinite(x)]
    with np.errstate(all="ignore"):
        exact = theirs(x.astype(np.float64))
        rounded, found = exact.astype(np.float32), apply(compiled, x)
        error = np.abs(found - exact) / np.spacing(rounded)
    finite = np.isfinite(rounded)
    assert_same(found[~finite], rounded[~finite])
    worst = np.argmax(np.where(finite, error, 0))
    assert error[worst] <= 2, f"{function}({x[worst]!r}) is {found[worst]!r}, not {rounded[worst]!r}"


def float64_samples():
    """Some thousand numbers: all magnitudes, the range where results are neither 0, 1 nor infinity, its ends."""
    rng = np.random.RandomState(0)
    ends = [-745.1332191019412, -745.1332191019411, -708.3964185322641, 709.782712893384, 709.7827128933841]
    ends += [half * math.log(2) for half in (-1022.5, -1.5, -0.5, 0.5, 1.5, 1023.5)] + [-37.0, -36.7, 22.0, 19.06, 20.0]
    middle = np.concatenate([rng.uniform(-746, 711, 1000), rng.uniform(-40, 40, 1000), rng.uniform(-1, 1, 1000)])
    small = rng.choice([-1, 1], 1000) * 2.0 ** rng.uniform(-1074, 3, 1000)
    neighbours = [np.nextafter(x, towards) for x in ends for towards in (-np.inf, np.inf)]
    return np.concatenate([middle, small, ends, neighbours])


@elementary
def test_elementary_functions_in_float64(function):
    """Within 2 units in the last place of what mpmath finds with 100 digits more, over the whole range."""
    compiled, _, exactly = ELEMENTARY[function]
    x = np.abs(float64_samples()) if function == "log" else float64_samples()
    found, worst = apply(compiled, x), (0, None)
    with mpmath.workprec(400):
        for argument, value in zip(x.tolist(), found.tolist(), strict=True):
            exact = exactly(mpmath.mpf(argument))
            rounded = float(exact)
            if math.isinf(rounded):
                assert value == rounded, f"{function}({argument!r})"
            else:
                assert math.isfinite(value), f"{function}({argument!r})"
                error = float(abs(mpmath.mpf(value) - exact) / mpmath.mpf(float(np.spacing(rounded))))
                worst = max(worst, (abs(error), argument))
    assert worst[0] <= 2, f"{function}({worst[1]!r}) is {worst[0]} units in the last place off"


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="long double is no longer than float64")
@elementary
def test_elementary_functions_in_float64_densely(function):
    """The same on a million and a half numbers, where NumPy has 11 bits more."""
    compiled, _, _ = ELEMENTARY[function]
    longer = {"exp": np.exp, "tanh": np.tanh, "log": np.log, "logistic": lambda x: 1 / (1 + np.exp(-x))}[function]
    rng = np.random.RandomState(0)
    x = np.concatenate([rng.uniform(-end, end, 300_000) for end in (0.1, 0.3, 0.6, 2, 40)])
    x = np.abs(x) if function == "log" else x
    found, exact = apply(compiled, x), longer(x.astype(np.longdouble))
    error = np.abs(found - exact) / np.spacing(exact.astype(np.float64))
    worst = np.argmax(error)
    assert error[worst] <= 2, f"{function}({x[worst]!r}) is {error[worst]} units in the last place off"


@njit
def times_exp_of(x):
    """y e^x for one y whose rounding counts."""
    return times_exp(3.0, x)


def chord(x):
    return (0.5 - mpmath.ncdf(-x) * mpmath.exp(x * x / 2)) / x if x else mpmath.npdf(0)


# name: (what is compiled, the same in mpmath, where it is meant for)
ON_A_RANGE = {
    "exp_of_minus": (exp_of_minus, lambda x: mpmath.exp(-abs(x)), (-800, 800)),
    "expm1_of_minus": (expm1_of_minus, lambda x: mpmath.expm1(-abs(x)), (-800, 800)),
    "log1p": (log1p, mpmath.log1p, (0, 1)),
    "times_exp": (times_exp_of, lambda x: 3 * mpmath.exp(x), (-87, 87)),
    "normal_chord": (normal_chord, chord, (0, 1)),
}


@dtypes
@pytest.mark.parametrize("function", ON_A_RANGE)
def test_functions_on_a_range(function, dtype):
    """Within 2 units in the last place of mpmath's numbers."""
    compiled, exactly, (low, high) = ON_A_RANGE[function]
    rng = np.random.RandomState(0)
    x = np.concatenate([rng.uniform(low, high, 1000), rng.uniform(max(low, -2), min(high, 2), 1000)])
    x = np.concatenate([x, min(high, 2) * 2.0 ** rng.uniform(-60, 0, 1000), [low, high, 0]]).astype(dtype)
    found = apply(compiled, x)
    with mpmath.workprec(200):
        for argument, value in zip(x.tolist(), found.tolist(), strict=True):
            exact = exactly(mpmath.mpf(argument))
            unit = float(np.spacing(np.abs(dtype(float(exact)))))
            error = float(abs(mpmath.mpf(value) - exact))
            assert error <= 2 * unit, f"{function}({argument!r}) is {error / unit} units in the last place off"


@dtypes
def test_tail_of_the_normal_distribution(dtype):
    """e^(-t^2 / 2) (1/2 - t `normal_chord(t)`) is Phi(-t) to the digits of 1 / t, as far as it goes."""
    t = np.linspace(0, 13, 2000).astype(dtype)
    found = (0.5 - t.astype(float) * apply(normal_chord, t).astype(float)) * np.exp(-(t.astype(float) ** 2) / 2)
    assert np.max(np.abs(found - scipy.special.ndtr(-t.astype(float))) * np.maximum(1, t)) <= np.finfo(dtype).eps


# name: (what is compiled, the same in mpmath, how many eps it may be off, what a minus in front of x does)
OF_TURNS = {"cos": (cos_of_turns, mpmath.cospi, 6, 1), "sin": (sin_of_turns, mpmath.sinpi, 4, -1)}


@dtypes
@pytest.mark.parametrize("function", OF_TURNS)
def test_functions_of_turns(function, dtype):
    """Some eps off, of numbers up to 1000; exact at whole turns; even or odd; as long as a number has a fraction."""
    compiled, exactly, most, sign = OF_TURNS[function]
    rng, eps_ = np.random.RandomState(0), float(np.finfo(dtype).eps)
    x = np.concatenate([rng.uniform(-end, end, 1000) for end in (1e-3, 0.3, 1, 30, 1000)])
    x = np.concatenate([x, np.arange(-80, 80) / 8, 2.0 ** -np.arange(60)]).astype(dtype)
    found = apply(compiled, x)
    with mpmath.workprec(150):
        for argument, value in zip(x.tolist(), found.tolist(), strict=True):
            error = float(abs(mpmath.mpf(value) - exactly(2 * mpmath.mpf(argument))))
            assert error <= most * eps_, f"{function} of {argument!r} turns is {error / eps_} eps off"
    np.testing.assert_array_equal(apply(compiled, -x), sign * found)
    whole = np.array([0, 1, -3, 1000, 1e30, -1e30, np.finfo(dtype).max], dtype)
    np.testing.assert_array_equal(apply(compiled, whole), function == "cos")
    assert np.isnan(apply(compiled, np.array([np.nan, np.inf, -np.inf], dtype))).all()


@dtypes
@shapes
def test_total(rows, vecs, dtype):
    """Exact on whole numbers; of others within rounding, and NaN if one is NaN."""

    @njit
    def sum_up(x):
        return total(load(pointer(x), 0, vecs * lanes(pointer(x)), rows, vecs))

    size = rows * columns_of(dtype, vecs)
    assert sum_up(counting(size, dtype)) == size * (size + 1) // 2
    x = np.random.RandomState(0).normal(size=size).astype(dtype)
    bound = float(np.finfo(dtype).eps) * math.log2(4 * size) * math.fsum(np.abs(x.astype(float)))
    assert sum_up(x) == pytest.approx(math.fsum(x.astype(float)), rel=0, abs=bound)
    x[-1] = np.nan
    assert np.isnan(sum_up(x))


def rows_of(function, rows, vecs):
    """A compiled function that puts function(tile) in place of the tile."""

    @njit
    def run(x):
        p, width = pointer(x), vecs * lanes(pointer(x))
        store(function(load(p, 0, width, rows, vecs)), p, 0, width)

    return run


@dtypes
@shapes
def test_column_sum(rows, vecs, dtype):
    """Row after row is added to the first."""

    @njit
    def run(x, y):
        width = vecs * lanes(pointer(x))
        store(column_sum(load(pointer(x), 0, width, rows, vecs)), pointer(y), 0, 0)

    width = columns_of(dtype, vecs)
    x = np.random.RandomState(0).normal(size=(rows, width)).astype(dtype)
    found = np.empty(width, dtype)
    run(x.reshape(-1), found)
    assert_same(found, functools.reduce(np.add, x))


@dtypes
def test_first_of(dtype):
    """Numbers before `count` stay, NaN after it does not."""

    @njit
    def run(x, count):
        store(first_of(load(pointer(x), 0, 0, 1, 1), count), pointer(x), 0, 0)

    for count in counts_of(dtype):
        x, n = counting(columns_of(dtype, 1), dtype), max(count, 0)
        x[n:] = np.nan
        expected = np.where(np.isnan(x), 0, x)
        run(x, count)
        assert_same(x, expected)


# ---- columns ----------------------------------------------------------------------------------------------------


def column_size(dtype):
    """How many numbers a column is made of: ROWS, then zeros up to a whole vector."""
    return max(ROWS, columns_of(dtype, 1))


def with_zeros(numbers):
    return np.append(numbers, np.zeros(column_size(numbers.dtype) - len(numbers), numbers.dtype))


@dtypes
def test_columns_go_in_and_out(dtype):
    """Any stride; nothing but the ROWS numbers is read or written; beyond them a vector holds zeros."""

    @njit
    def run(x, start, stride, y, whole, value):
        numbers = load_column(pointer(x), start, stride)
        store(numbers, pointer(whole), 0, 0)
        store_column(numbers + column(pointer(x), value), pointer(y), start, stride)

    for start, stride in product([0, 3], [1, 2, 7]):
        x = before_a_forbidden_page(counting(start + stride * (ROWS - 1) + 1, dtype)) if os.name == "posix" else None
        x = counting(start + stride * (ROWS - 1) + 1, dtype) if x is None else x
        y, whole = -x, np.full(column_size(dtype), np.nan, dtype)
        expected = y.copy()
        expected[start::stride] = x[start::stride] + 5
        run(x, start, stride, y, whole, 5.0)
        assert_same(y, expected)
        assert_same(whole, with_zeros(x[start::stride]))


@dtypes
def test_gather(dtype):
    """Rows in any order; zeros from `count` on, and no row or number of the order beyond it is read."""

    @njit
    def run(x, stride, offset, order, start, count, y):
        store(gather(pointer(x), stride, offset, pointer(order), start, count), pointer(y), 0, 0)

    x, order = counting(40, dtype), np.random.RandomState(0).permutation(10)
    for stride, offset, start, count in product([0, 1, 4], [0, 3], [0, 2], range(1, ROWS + 3)):
        known = order[: start + min(count, ROWS)]
        known = before_a_forbidden_page(known) if os.name == "posix" else known
        y = np.full(column_size(dtype), np.nan, dtype)
        run(x, stride, offset, known, start, count, y)
        assert_same(y, with_zeros(x[known[start:] * stride + offset]))


@dtypes
@pytest.mark.parametrize("vecs", sorted({1, VECS}))
def test_row_totals(vecs, dtype):
    """The sum of each row: exact on whole numbers, of others within rounding; then zeros."""

    @njit
    def run(x, y):
        width = vecs * lanes(pointer(x))
        store(row_totals(load(pointer(x), 0, width, ROWS, vecs)), pointer(y), 0, 0)

    width, found = columns_of(dtype, vecs), np.full(column_size(dtype), np.nan, dtype)
    x = counting(ROWS * width, dtype).reshape(ROWS, width)
    run(x.reshape(-1), found)
    assert_same(found, with_zeros(x.sum(axis=1)))
    x = np.random.RandomState(0).normal(size=(ROWS, width)).astype(dtype)
    run(x.reshape(-1), found)
    bound = np.finfo(dtype).eps * 16 * np.abs(x).sum(axis=1)
    assert np.all(np.abs(found[:ROWS] - x.sum(axis=1, dtype=float)) <= bound) and not found[ROWS:].any()


@dtypes
@shapes
def test_row_sum(rows, vecs, dtype):
    """The sum of each row in each of its places: exact on whole numbers, of others within rounding."""
    width, run = columns_of(dtype, vecs), rows_of(row_sum, rows, vecs)
    x = counting(rows * width, dtype).reshape(rows, width)
    expected = np.repeat(x.sum(axis=1, keepdims=True), width, axis=1)
    run(x.reshape(-1))
    assert_same(x, expected)
    x = np.random.RandomState(0).normal(size=(rows, width)).astype(dtype)
    exact, bound = x.sum(axis=1, dtype=float), np.finfo(dtype).eps * 16 * np.abs(x).sum(axis=1)
    run(x.reshape(-1))
    assert np.all(x == x[:, :1]) and np.all(np.abs(x[:, 0] - exact) <= bound)


@dtypes
@shapes
def test_row_max(rows, vecs, dtype):
    """The largest number of each row in each of its places; infinities count, NaN only where nothing else stands."""
    width, run = columns_of(dtype, vecs), rows_of(row_max, rows, vecs)
    for place, number_there in product(range(width), [-0.5, np.inf, np.nan]):
        for others in -counting(rows * width, dtype), np.full(rows * width, -np.inf, dtype):
            x = others.reshape(rows, width)
            x[:, place] = number_there
            expected = np.repeat(np.fmax.reduce(x, axis=1, keepdims=True), width, axis=1)
            run(x.reshape(-1))
            np.testing.assert_array_equal(x, expected, err_msg=f"{number_there} in column {place}")
    x = np.full(rows * width, np.nan, dtype)
    run(x)
    assert np.isnan(x).all()
