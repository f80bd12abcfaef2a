"""Under what conditions turns are timed: alone on a quiet machine, and as people run it."""

import contextlib
import functools
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

PRODUCT = 5_000, 64  # rows and columns of a matrix that BLAS multiplies by a square one


class Condition(NamedTuple):
    """What happens directly before a timed call, in the same process, and what around a round of everyone's turns."""

    before: Callable
    around: Callable


def nothing():
    pass


@functools.cache
def _factors():
    rng, (rows, columns) = np.random.default_rng(0), PRODUCT
    return [rng.standard_normal((n, columns), np.float32) for n in (rows, columns)]


def product():
    """A product in NumPy's BLAS, as PCA makes it; its threads look for more work for a while before they sleep."""
    np.matmul(*_factors())


@contextlib.contextmanager
def busy():
    """One other process takes all the time that it can get."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


CONDITIONS = {
    "quiet": Condition(nothing, contextlib.nullcontext),
    "after BLAS": Condition(product, contextlib.nullcontext),
    "beside a busy process": Condition(nothing, busy),
}
