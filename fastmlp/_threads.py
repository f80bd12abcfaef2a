"""Which threads the parallel kernels run on. A leaf: it knows nothing of networks.

OpenMP comes first: its threads wait for the next region awake and keep their rows from batch to batch, where oneTBB's
fall asleep and take whatever comes (20-100-2, two threads: 23 us a batch against 31). It has one fault, a forked child
that uses it dies if its parent has used it; such children compute on one thread. oneTBB is for machines without an
OpenMP library; Numba's own workqueue is not used at all: two Python threads in it abort the process.
"""

import ctypes
import importlib.metadata
import os

import numba
from numba.np.ufunc import parallel

_forked = False


def count():
    """How many threads a parallel kernel called from here should run on."""
    if _forked:
        return 1
    _choose_layer()
    threads = numba.get_num_threads()  # starts the layer
    return 1 if numba.threading_layer() == "workqueue" else threads


def _choose_layer():
    """Prefer OpenMP, unless the user chose a layer or one is running; let oneTBB be found where it is needed."""
    if parallel._is_initialized:
        return
    if numba.config.THREADING_LAYER == "default" and numba.config.THREADING_LAYER_PRIORITY[0] == "tbb":
        numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]
        try:
            from numba.np.ufunc import omppool  # noqa: F401
        except ImportError:
            pass
        else:
            return
    _load_tbb()


def _load_tbb():
    """Load oneTBB from where pip puts it, which the dynamic loader does not search; what is loaded Numba finds."""
    try:
        files = importlib.metadata.files("tbb") or ()
    except importlib.metadata.PackageNotFoundError:
        return
    for file in files:
        if file.name in ("libtbb.so.12", "tbb12.dll"):
            try:
                ctypes.CDLL(str(file.locate()))
            except OSError:
                pass


def _after_fork():
    global _forked
    _forked = parallel._is_initialized and numba.threading_layer() == "omp"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
