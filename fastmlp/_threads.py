"""How many threads a call may use, and the team of them that this process keeps. It knows nothing of networks."""

import ctypes
import functools
import math
import os
import pathlib
import sys
import threading

import numba
import numpy as np
import threadpoolctl

from fastmlp.compiled.jit import threads_of_numba
from fastmlp.compiled.records import JOB_ALIGNMENT, TEAM, WORKER
from fastmlp.compiled.team import serve
from fastmlp.compiled.tile import CORES


def count():
    """How many threads a call from here should use: as many as Numba is set to, if nothing else allows fewer.

    A limit is `OMP_NUM_THREADS`, or what threadpoolctl sets the libraries of OpenMP to that are there when scikit-learn
    is. Where nobody has asked for a number, not more than a container, or whatever else limits the process, has cores.
    """
    if wished() is not None:
        return wished()
    threads = threads_of_numba()
    if threads == numba.config.NUMBA_DEFAULT_NUM_THREADS:
        threads = min(threads, cpu_limit())
    return min(threads, openmp_limit(), JOB_ALIGNMENT - 1)


# how many threads this one of Python's wants to use, whatever else is set
_wish = threading.local()


def wished():
    """How many threads this one of Python's wants to use; None if it has not said so."""
    return getattr(_wish, "threads", None)


def threads_of(n_jobs):
    """How many threads that are, by joblib's convention: -1 is all cores, -2 all but one."""
    return min(max(1, n_jobs if n_jobs > 0 else _cores() + 1 + n_jobs), most())


@functools.cache
def _cores():
    """How many this process may use, as joblib counts them, which scikit-learn brings; `MLP` does without."""
    from joblib import cpu_count

    return cpu_count()


class use:
    """Within, use so many threads, as `threads_of` has it. None: as `count` has it."""

    def __init__(self, n_jobs):
        self._threads = None if n_jobs is None else threads_of(n_jobs)

    def __enter__(self):
        self._before = wished()
        if self._threads is not None:
            _wish.threads = self._threads

    def __exit__(self, *_):
        _wish.threads = self._before


def most():
    """How many threads there may be at all."""
    return min(max(numba.config.NUMBA_NUM_THREADS, os.cpu_count() or 1), JOB_ALIGNMENT - 1)


def openmp_limit():
    """How many threads OpenMP is limited to, in this thread of Python's; infinity where nobody has set a limit."""
    wished = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # a list has a number for each level
    limit = int(wished) if wished.isdecimal() and int(wished) > 0 else math.inf
    for library in _openmp_libraries("sklearn" in sys.modules):
        if (threads := library.num_threads) < _processors():
            limit = min(limit, threads)
    return limit


@functools.cache
def _openmp_libraries(sklearn):
    """threadpoolctl's controllers of the libraries of OpenMP that are loaded; scikit-learn loads one."""
    return threadpoolctl.ThreadpoolController().select(user_api="openmp").lib_controllers if sklearn else []


@functools.cache
def _processors():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@functools.cache
def cpu_limit(membership="/proc/self/cgroup", root="/sys/fs/cgroup"):
    """How many cores' time Linux allows this process, by its control groups and those they are in, rounded up.

    A line of `membership` names a group: "0::/path" in version 2, "number:controllers:/path" in version 1.
    """
    limit = math.inf
    try:
        lines = pathlib.Path(membership).read_text("utf-8", "surrogateescape").splitlines()
    except OSError:  # not Linux
        return limit
    for line in lines:
        _, controllers, path = (line + "::").split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = pathlib.Path(root, "cpu" if controllers else "")
        group = top / path.removesuffix("::").lstrip("/")
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


# ---- the team ---------------------------------------------------------------------------------------------------


class _Team:
    """The record TEAM, and the threads that serve there. They sleep where nothing is to be done."""

    def __init__(self):
        self.capacity = most() - 1
        self.record, self._workers = np.zeros(1, TEAM.dtype), np.zeros(self.capacity, WORKER.dtype)
        cores = np.zeros((self.capacity, 2 * CORES // 64), np.int64)
        self.record["workers"] = self._workers.ctypes.data
        self._workers["cores"] = cores.ctypes.data + cores.strides[0] * np.arange(self.capacity)
        for array in self._workers, cores:  # outlive this object: threads look until the end
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(array))
        self.address, self._growing = self.record.ctypes.data, threading.Lock()

    @property
    def workers(self):
        return int(self.record["worker_count"][0])

    def prepare(self):
        """Compile or load what a worker runs; the record as it is handed to it."""
        words = self.record.view(np.int64)
        serve.prepare(words, 0)
        return words

    def grow(self, workers):
        """Have so many workers, or as many as there can be: a system may allow no more threads."""
        words = self.prepare()
        with self._growing:
            while self.workers < min(workers, self.capacity):
                self._workers[self.workers]["lock"][0] = _new_lock()
                work = threading.Thread(target=serve, args=(words, self.workers), name="fastmlp", daemon=True)
                try:
                    work.start()
                    self._workers[self.workers]["thread"] = work.native_id
                except RuntimeError:  # can't start new thread
                    return
                except BaseException:  # a Ctrl-C meanwhile: it may be there, and a place that is not served is no harm
                    self.record["worker_count"] += 1
                    raise
                self.record["worker_count"] += 1


def team_for(threads):
    """The address of the team, with workers for so many threads in all as far as there are any; 0 for one thread."""
    if threads == 1:
        return 0
    if _current.workers < min(threads - 1, _current.capacity):
        _current.grow(threads - 1)
    return _current.address


def prepare():
    """Compile or load what threads of our own run."""
    _current.prepare()


def workers():
    """How many threads of our own this process has."""
    return _current.workers


def _new_lock():
    """A lock of CPython's own, which outlives the process's Python: the address of one that is held."""
    make, take = ctypes.pythonapi.PyThread_allocate_lock, ctypes.pythonapi.PyThread_acquire_lock
    make.restype, take.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_int)
    lock = make()
    take(lock, 1)
    return lock


def _after_fork():
    """A child has none of its parent's threads, but one."""
    global _current
    _current = _Team()


_current = _Team()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
