"""Numba's settings while it compiles our functions, and LLVM in a thread of its own meanwhile.

Numba makes machine code in two halves: Python finds the types of a function and writes it down for LLVM, then LLVM
reads it, optimises it and translates it, for half as long again. Numba does one after the other, function by function.
Here the second half goes to a second thread, as Python is free to go on while LLVM works, and what does not change is
asked for once: the first fit of all takes two thirds of the time. Nobody else's functions are compiled like this.
"""

import contextlib
import gc
import queue
import signal
import sys
import threading

import llvmlite.binding as llvm
from numba import _dynfunc, types
from numba.core import cgutils, codegen, config
from numba.core.base import BaseContext
from numba.core.codegen import CodeLibrary, CPUCodeLibrary, JITCodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.cpu import CPUContext
from numba.core.registry import cpu_target
from numba.core.typing import BaseContext as TypingContext

# how long a thread that runs Python goes on while another one waits, in seconds: LLVM is called for many small things
_SWITCH_INTERVAL = 1e-4
# how many pieces may wait for LLVM: they are done before a Ctrl-C is answered
_WAITING = 20


@contextlib.contextmanager
def uninterrupted():
    """A Ctrl-C waits for the end: LLVM calls Python back while it compiles, and an exception there ends the process."""
    handler, came = signal.getsignal(signal.SIGINT), []
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield  # no exception is to come, or not here
        return
    signal.signal(signal.SIGINT, lambda *args: came.append(args))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if came:
            handler(*came[0])


class _Line:
    """Pieces of work for a second thread, one after the other; done at once where there is none.

    After one that fails there are no others: the machine code of a function must not run before that of those it calls.
    """

    def __init__(self):
        self._pieces, self._thread, self._error = queue.Queue(_WAITING), None, None

    def add(self, function, *args):
        """Call the function in its turn."""
        if self._thread is None:
            function(*args)
        else:
            self._pieces.put((function, args))

    def wait(self):
        """Go on when all is done that was added, unless this is the second thread; raise what went wrong there."""
        if self._thread not in (None, threading.current_thread()):
            self._pieces.join()
            if self._error is not None:
                raise self._error

    def _work(self):
        while True:
            function, args = self._pieces.get()
            try:
                if function is None:
                    return
                if self._error is None:
                    function(*args)
            except BaseException as error:
                self._error = error
            finally:
                self._pieces.task_done()

    def open(self):
        """Start the second thread, if there is one to be had: not at the end of a process, for instance."""
        thread = threading.Thread(target=self._work, name="fastmlp-llvm")
        with uninterrupted(), contextlib.suppress(RuntimeError):
            thread.start()
            self._thread = thread

    def close(self):
        """End it when all is done."""
        with uninterrupted():
            if self._thread is not None:
                self._pieces.put((None, ()))
                self._thread.join()
            self._thread = self._error = None


line = _Line()


class _Library(JITCodeLibrary):
    """Numba's place for the code of a function, but LLVM does not hear of it before machine code is asked for."""

    def __init__(self, codegen, name):
        CodeLibrary.__init__(self, codegen, name)
        self._linking_libraries, self._shared_module, self._texts, self._made = [], None, [], None

    @property
    def _final_module(self):
        if self._made is None:
            self._made = llvm.parse_assembly(str(self._codegen._create_empty_module(self.name)))
            self._made.name = cgutils.normalize_ir_text(self.name)
        return self._made

    @_final_module.setter
    def _final_module(self, module):
        self._made = module

    def add_ir_module(self, ir_module):
        self._texts.append((ir_module.name, cgutils.normalize_ir_text(str(ir_module))))

    def add_linking_library(self, library):
        self._linking_libraries.append(library)

    def get_function(self, name):
        self._read()
        return super().get_function(name)

    def finalize(self):
        self._read()
        if not self._finalized:  # by the second thread, meanwhile
            super().finalize()

    def _read(self):
        line.wait()
        while self._texts:
            name, text = self._texts[0]
            module = llvm.parse_assembly(text)
            module.name = name
            module.verify()
            self.add_llvm_module(module)
            del self._texts[0]  # only now: what fails, for want of memory, say, is read by the next fit

    def defines(self, name):
        """Whether it has, or is going to have, a function of this name."""
        return self._finalized or any(name in text for _, text in self._texts)


_get_executable = CPUContext.get_executable


def _executable(context, library, descriptor, env):
    """What Python calls of a function; where there is nothing, as compiled code alone calls it, without LLVM."""
    if library.defines(descriptor.llvm_cpython_wrapper_name):
        return _get_executable(context, library, descriptor, env)
    line.add(_get_executable, context, library, descriptor, env)
    return _dynfunc.make_function(descriptor.lookup_module(), descriptor.qualname, "", 0, env, (library,))


def _once(function, key=lambda *args: args):
    """The function, but what it has returned for a key it returns again."""
    known = {}

    def again(*args):
        k = key(*args)
        if k not in known:
            known[k] = function(*args)
        return known[k]

    return again


def _resolving_once(resolve):
    """Numba looks through all that it knows to find what a function returns for arguments of some types."""
    once = _once(resolve, lambda context, function, args, kws: (function, tuple(args)))

    def again(context, function, args, kws, literals=None):
        known_by_types = isinstance(function, types.Function) or not isinstance(function, types.Type)
        if known_by_types and not kws and not literals:
            return once(context, function, args, kws)
        return resolve(context, function, args, kws, literals)

    return again


def _set_data_layout(library, module):
    """What is left of Numba's `_optimize_functions` without the optimisation."""
    module.data_layout = library.codegen._data_layout


def _changes(vectorize):
    """What is otherwise meanwhile: whose attribute, its name and value.

    Tiles are vectors already, so LLVM need mostly not look for others (a fifth of the time). Numba optimises functions
    by themselves and then all of a module: the second is enough (a twentieth). The lock that finalizing asks for is
    held by the thread that handed the work on. And Numba would ask again and again for what does not change; where it
    asks LLVM, it would wait for the second thread.
    """
    target, resolve = cpu_target.target_context.codegen(), TypingContext._resolve_user_function_type
    yield config, "OPT", type(config.OPT)(1)
    yield config, "LOOP_VECTORIZE", int(vectorize)
    yield config, "SLP_VECTORIZE", 0
    yield CPUCodeLibrary, "_optimize_functions", _set_data_layout
    yield CPUContext, "get_executable", _executable
    yield target, "_library_class", _Library
    yield codegen, "require_global_compiler_lock", lambda: None
    yield TypingContext, "_resolve_user_function_type", _resolving_once(resolve)
    yield BaseContext, "get_abi_sizeof", _once(BaseContext.get_abi_sizeof, lambda context, type_: str(type_))
    yield target, "magic_tuple", _once(target.magic_tuple)
    yield llvm, "get_process_triple", _once(llvm.get_process_triple)
    for name in "passmanagers", "newpassmanagers":  # versions differ
        if hasattr(getattr(llvm, name, None), "dump_refprune_stats"):
            yield getattr(llvm, name), "dump_refprune_stats", _once(getattr(llvm, name).dump_refprune_stats)


@contextlib.contextmanager
def _changed(owner, name, value):
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextlib.contextmanager
def compiling(vectorize):
    """Have our functions compiled like this; LLVM looks for vectors in loops if `vectorize`."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(global_compiler_lock)  # no other thread compiles
        for change in _changes(vectorize):
            stack.enter_context(_changed(*change))
        stack.callback(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(_SWITCH_INTERVAL)
        if gc.isenabled():  # all that Numba makes stays, so Python need not look for garbage (a tenth of the time)
            stack.callback(_collect_again)
            gc.disable()
        stack.callback(line.close)
        line.open()
        yield
        line.wait()


def _collect_again():
    if gc.get_freeze_count() == 0:  # all objects become old without a look at each, a twentieth of the time
        gc.freeze()
        gc.unfreeze()
    gc.enable()
