"""Which threads the parallel kernels run on. A leaf: it knows nothing of networks.

OpenMP comes first: its threads wait for the next region awake and keep their rows from batch to batch, where oneTBB's
fall asleep and take whatever comes (20-100-2, two threads: 23 us a batch against 31). It has one fault, a forked child
that uses it dies if its parent has used it; such children compute on one thread. oneTBB is for machines without an
OpenMP library; Numba's own workqueue is not used at all: two Python threads in it abort the process.
"""

import ctypes
import functools
import importlib.metadata
import math
import os
import pathlib
import warnings

import numba
from numba.np.ufunc import parallel

_forked = False


def count():
    """How many threads a parallel kernel called from here should run on: as many as Numba is set to, if they are safe.

    Where nobody has asked for a number, not more than a container, or whatever else limits the process, has cores.
    """
    if _forked:
        return 1
    threads = start()
    if threads == numba.config.NUMBA_DEFAULT_NUM_THREADS:
        threads = min(threads, cpu_limit())
    if threads > 1 and numba.threading_layer() == "workqueue":
        _warn_of_workqueue()
        return 1
    return threads


def start():
    """Start the threading layer, if none runs. Returns how many threads Numba is set to."""
    _choose_layer()
    return numba.get_num_threads()


@functools.cache
def cpu_limit(membership="/proc/self/cgroup", root="/sys/fs/cgroup"):
    """How many cores' time Linux allows this process, by its control groups and those they are in, rounded up.

    A line of `membership` names a group: "0::/path" in version 2, "number:controllers:/path" in version 1.
    """
    limit = math.inf
    try:
        lines = pathlib.Path(membership).read_text().splitlines()
    except OSError:  # not Linux
        return limit
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = pathlib.Path(root, "cpu" if controllers else "")
        group = top / path.lstrip("/")
        for folder in [group, *group.parents[: len(group.parts) - len(top.parts)]]:
            try:
                if controllers:
                    quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
                else:
                    quota, period = (folder / "cpu.max").read_text().split()
                if quota != "max" and int(quota) > 0:
                    limit = min(limit, math.ceil(int(quota) / int(period)))
            except (OSError, ValueError):  # a container does not see the groups around it
                pass
    return limit


@functools.cache
def _warn_of_workqueue():
    """Once in a process."""
    warnings.warn(
        "fastmlp computes on one thread, as Numba finds no threading layer but its workqueue, which cannot be used from"
        " several threads of Python. Install the package tbb, or the library of OpenMP (libgomp1 on Debian, say), and"
        " do not set NUMBA_THREADING_LAYER to workqueue.",
        RuntimeWarning,
        stacklevel=2,
    )


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
