"""Which threads the parallel kernels run on. A leaf: it knows nothing of networks."""

import ctypes
import importlib.metadata

import numba


def find_tbb():
    """Load oneTBB from where pip puts it, so that Numba finds the one threading layer that survives forks and threads.

    The dynamic loader does not search the environment's own `lib` folder; a library that is loaded already is found.
    """
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


def count():
    """How many threads a parallel kernel called from here runs on."""
    return numba.get_num_threads()


find_tbb()
