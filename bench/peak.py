"""The multiply-add peak of this machine, measured: fastmlp's register tile on all threads, fed from the cache."""

import functools
import time

import numba
import numpy as np

from fastmlp import _threads
from fastmlp._tile import ROWS, VECS, lanes_of, outer, pointer, store, zeros

DEPTH, REPEATS = 64, 100_000


@numba.njit(parallel=True, error_model="numpy")
def _multiply_add(x, y, out, threads, depth, repeats, width):
    for t in numba.prange(threads):
        left, right = pointer(x), pointer(y)
        tile = zeros(left, ROWS, VECS)
        for _ in range(repeats):
            for k in range(depth):
                tile = outer(tile, left, k, depth, right, k * width)
        store(tile, pointer(out), np.int64(t) * ROWS * width, width)


@functools.cache
def _setup(dtype):
    """Threads, arguments and multiplications and additions of one run; compiles."""
    threads, width = _threads.count(), VECS * lanes_of(np.dtype(dtype))
    x, y = (np.full(DEPTH * n, 1e-3, dtype) for n in (ROWS, width))
    arguments = x, y, np.empty(threads * ROWS * width, dtype), threads, DEPTH, REPEATS, width
    _multiply_add(*arguments)
    return arguments, 2 * threads * ROWS * width * DEPTH * REPEATS


def peak(dtype, runs=5):
    """Return multiplications and additions a second, the best of some runs."""
    arguments, flops = _setup(dtype)
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        _multiply_add(*arguments)
        seconds.append(time.perf_counter() - start)
    return flops / min(seconds)


if __name__ == "__main__":
    for dtype in "float32", "float64":
        print(f"{dtype}: {peak(dtype) / 1e9:.0f} GFLOP/s")
