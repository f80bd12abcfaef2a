"""What this machine can do, measured: multiply-adds, by fastmlp's register tile on all threads, fed from the cache; and
how long a cache line takes from one core to another and back.
"""

import functools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

from fastmlp import _threads
from fastmlp.compiled.tile import ROWS, VECS, atomic_add, atomic_load, lanes_of, outer, pointer, store, zeros

DEPTH, REPEATS = 64, 100_000
TURNS = 20_000


@numba.njit(nogil=True, error_model="numpy")
def _multiply_add(x, y, out, depth, repeats, width):
    left, right = pointer(x), pointer(y)
    tile = zeros(left, ROWS, VECS)
    for _ in range(repeats):
        for k in range(depth):
            tile = outer(tile, left, k, depth, right, k * width)
    store(tile, pointer(out), 0, width)


@functools.cache
def _setup(dtype):
    """A run of one thread, and its multiplications and additions; compiles."""
    width = VECS * lanes_of(np.dtype(dtype))
    x, y = (np.full(DEPTH * n, 1e-3, dtype) for n in (ROWS, width))

    def run():
        _multiply_add(x, y, np.empty(ROWS * width, dtype), DEPTH, REPEATS, width)

    run()
    return run, 2 * ROWS * width * DEPTH * REPEATS


def peak(dtype, runs=5):
    """Return multiplications and additions a second, the best of some runs."""
    run, flops = _setup(dtype)
    threads, seconds = _threads.count(), []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(runs):
            start = time.perf_counter()
            for done in [pool.submit(run) for _ in range(threads)]:
                done.result()
            seconds.append(time.perf_counter() - start)
    return threads * flops / min(seconds)


@numba.njit(nogil=True)
def _take_turns(counter, mine, turns):
    for k in range(turns):
        while atomic_load(pointer(counter), 0) != 2 * k + mine:
            pass
        atomic_add(pointer(counter), 0, 1)


def round_trip(runs=5):
    """Return the seconds that a cache line takes to another thread and back, the best of some runs; 0 on one thread."""
    if _threads.count() == 1:
        return 0.0
    seconds = []
    for _ in range(runs + 1):  # the first one compiles
        counter = np.zeros(1, np.int64)
        other = threading.Thread(target=_take_turns, args=(counter, 1, TURNS))
        start = time.perf_counter()
        other.start()
        _take_turns(counter, 0, TURNS)
        other.join()
        seconds.append((time.perf_counter() - start) / TURNS)
    return min(seconds)


if __name__ == "__main__":
    for dtype in "float32", "float64":
        print(f"{dtype}: {peak(dtype) / 1e9:.0f} GFLOP/s")
    print(f"from thread to thread and back: {round_trip() * 1e9:.0f} ns")
