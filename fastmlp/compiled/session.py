"""Numba's settings while it compiles our functions, and LLVM in a thread of its own meanwhile.

Numba makes machine code in two halves: Python finds the types of a function and writes it down for LLVM, then LLVM
reads it, optimises it and translates it, for half as long again. Numba does one after the other, function by function.
Here the second half goes to a second thread, as Python is free to go on while LLVM works, and what does not change is
asked for once: the first fit of all takes two thirds of the time. Nobody else's functions are compiled like this, and
ours are not either where Numba's insides are not as they were (see `numba_hooks`).
"""

import contextlib
import gc
import logging
import os
import sys
import threading

from fastmlp.compiled.llvm_thread import queue

try:
    from fastmlp.compiled import numba_hooks as hooks
except Exception as error:  # another Numba than this was written for
    logging.getLogger("fastmlp").debug("kernels are compiled without changes to Numba: %r", error)
    hooks = None

# how long a thread that runs Python goes on while another one waits, in seconds: LLVM is called for many small things
_SWITCH_INTERVAL = 1e-4
# how long a thread that forks waits until another one has compiled, in seconds
_FORK_PATIENCE = 60

# what `hooks` is if it can be imported but does not work
_failed = None


class Interrupted(Exception):
    """A signal came while our functions were compiled, and it is time to answer it."""


class Failed(Exception):
    """Something was raised while our functions were compiled, and no handler of a signal raised it."""

    def __init__(self, hooked):
        self.hooked = hooked


def give_up(failed):
    """Do without the hooks from now on if they may be why this failed, and return whether they may."""
    global hooks, _failed
    if not failed.hooked:
        hooks, _failed = hooks or _failed, None  # they were not the reason
        return False
    if hooks is not None and isinstance(failed.__cause__, hooks.SIGNS):
        logging.getLogger("fastmlp").debug("kernels are compiled without changes to Numba: %r", failed.__cause__)
        hooks, _failed = None, hooks
    return hooks is None


def _change(undo, owner, name, value):
    undo.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)


@contextlib.contextmanager
def compiling(vectorize, signals):
    """Have our functions compiled like this; LLVM looks for vectors in loops if `vectorize`.

    Interrupted ends it, other exceptions become the cause of Failed.
    """
    global _undo
    with contextlib.ExitStack() as locks, contextlib.ExitStack() as undo:
        locks.enter_context(lock)  # no other thread compiles
        if hooks is not None:
            locks.enter_context(hooks.global_compiler_lock)
        locks.callback(_forget_undo)
        _undo = undo
        undo.enter_context(signals.put_off())
        try:
            if hooks is not None:
                for change in hooks.changes(vectorize):
                    _change(undo, *change)
                undo.callback(sys.setswitchinterval, sys.getswitchinterval())
                sys.setswitchinterval(_SWITCH_INTERVAL)
            if gc.isenabled():  # all that Numba makes stays, so Python need not look for garbage (a tenth of the time)
                undo.callback(_collect_again)
                gc.disable()
            if hooks is not None:
                queue.open()
            yield
            queue.wait()
        except Interrupted:
            pass
        except Exception as error:
            raise Failed(hooks is not None) from error
        finally:
            queue.close()


def _forget_undo():
    global _undo
    _undo = None


def _collect_again():
    if gc.get_freeze_count() == 0:  # all objects become old without a look at each, a twentieth of the time
        gc.freeze()
        gc.unfreeze()
    gc.enable()


# ---- forks ------------------------------------------------------------------------------------------------------
# A child has one of its parent's threads. What another one was changing when it was forked stays half changed, and the
# locks around it stay locked. So a fork waits until our functions are compiled. Others' are not ours to wait for, nor
# do we wait for ever: then the child is told that it cannot compile, as it would hang or crash.

lock, _undo, _forking, _usable = threading.RLock(), None, threading.local(), True


def check():
    """Raise RuntimeError in a child in which nothing can be compiled or loaded."""
    if not _usable:
        raise RuntimeError(
            "fastmlp cannot compile or load its kernels in this process, as it was forked while another thread of its "
            "parent was compiling with Numba. Call fastmlp.precompile() before you fork, or start processes by "
            "'spawn' or 'forkserver'."
        )


def _before_fork():
    _forking.waited = False  # should an exception end the wait
    _forking.waited = lock.acquire(timeout=_FORK_PATIENCE)


def _after_fork_in_parent():
    if _forking.waited:
        lock.release()


def _after_fork_in_child():
    global lock, _usable
    if _forking.waited:
        lock.release()
    free = [_is_free(other) for other in _locks()]
    if _undo is not None or not all(free):
        lock, _usable = threading.RLock(), False
        queue.__init__()
        if _undo is not None:
            _undo.close()


def _locks():
    try:
        return (hooks or _failed).locks()
    except AttributeError:  # this Numba has none, or others
        return []


def _is_free(other):
    if free := other.acquire(blocking=False):
        other.release()
    return free


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
