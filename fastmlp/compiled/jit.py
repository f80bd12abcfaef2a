"""How functions are compiled and kept on disk.

Numba compiles a function into each of its callers, and each of theirs: four floors of kernels would be optimised four
times. So a `kernel` is machine code of its own that other compiled code calls by a symbol, compiled once for each type
of numbers. An `entry` is what Python calls, and `inlined` is for what disappears in its callers.

All kernels and entries are kept in Numba's cache on disk, under a key that holds the source of all of them.
"""

import dis
import functools
import inspect
import logging
import os
import sys
import time
import types as python_types

import llvmlite.binding as llvm
import numba
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin

from fastmlp.compiled import session, shipped
from fastmlp.compiled.signals import Signals
from fastmlp.compiled.sources import SOURCES

if numba.config.DISABLE_JIT:
    raise ImportError("fastmlp's kernels cannot run as Python: unset NUMBA_DISABLE_JIT to import it.")
try:
    from fastmlp.compiled.numba_cache import Cache
except Exception as error:  # another Numba than this was written for: compiled anew in each process
    logging.getLogger("fastmlp").debug("kernels are not kept on disk: %r", error)
    Cache = None

_OPTIONS = {"nogil": True, "error_model": "numpy", "boundscheck": False}
_inlined, _kernels, _entries = [], [], []  # all there are, see `_forget`
# when the first compilation is told of, in seconds of compiling, and after how many the next process may do so
_TELL_AFTER, _TELL_AGAIN = 1, 60


def _njit(function, find=None, **options):
    """Numba's dispatcher; `find` returns what comes with the package of the function for types of arguments."""
    try:

        class Pipeline(numba.core.compiler.Compiler):
            def compile_extra(self, function):
                found = find(self.state.args) if find and session.hooks else None
                made = found and session.hooks.compiled_from(found, function, self.state)
                return made or super().compile_extra(function)

            def define_pipelines(self):
                managers = super().define_pipelines()
                if session.hooks is not None:
                    session.hooks.drop_needless_passes(managers)
                return managers

        return numba.njit(**_OPTIONS | options, pipeline_class=Pipeline)(function)
    except Exception:  # another Numba than this was written for: through all of its passes
        return numba.njit(**_OPTIONS | options)(function)


def inlined(function):
    """Decorate a function that disappears in its callers."""
    dispatcher = _njit(function, no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True)
    template = getattr(dispatcher, "get_call_template", None)
    if template is not None:  # Numba would compile it anew for each constant that it is called with
        dispatcher.get_call_template = lambda args, kws: template([types.unliteral(t) for t in args], kws)
    _inlined.append(dispatcher)
    return dispatcher


def _cached(function, find=None, **options):
    dispatcher = _njit(function, find, **options)
    try:
        dispatcher._cache = Cache(function)
    except Exception:  # no place can be written to, or Numba has no such cache: compiled anew in each process
        pass
    return dispatcher


def _named(function, name, **others):
    """The function under a name of its own, as the cache's files are named for it; some globals may be others."""
    names = function.__globals__ | others if others else function.__globals__
    copy = python_types.FunctionType(function.__code__, names, name, function.__defaults__, function.__closure__)
    copy.__qualname__, copy.__doc__, copy.__module__ = name, function.__doc__, function.__module__
    return copy


@functools.cache
def _globals_of(function):
    """What a function uses under names of its module: of `np.float64` this is `np`, whatever `float64` is there."""
    names = {one.argval for one in dis.get_instructions(function) if one.opname == "LOAD_GLOBAL"}
    return {name: function.__globals__.get(name) for name in sorted(names)}


def _kernels_in(function):
    """The kernels that a function calls, itself or in what is inlined into it."""
    for value in _globals_of(function).values():
        if isinstance(value, Kernel):
            yield value
        elif isinstance(value, numba.core.dispatcher.Dispatcher):
            yield from _kernels_in(value.py_func)


def threads_of_numba():
    """How many threads Numba is set to. Its own function would start them, where it does not say whether they run."""
    running = getattr(sys.modules.get("numba.np.ufunc.parallel"), "_is_initialized", False)
    return numba.get_num_threads() if running else numba.config.NUMBA_NUM_THREADS


def _forget():
    """All that was compiled, but machine code that others know by its symbol."""
    for dispatcher in _inlined:
        dispatcher.overloads.clear()
    for one in [*_kernels, *_entries]:
        one.forget()


_seconds, _told = 0.0, False


def _tell(seconds, bound, folder):
    """Why the first fit takes long: once in a process that compiles, and in one of several that do so at once."""
    global _seconds, _told
    _seconds += seconds
    if _told or _seconds < _TELL_AFTER:
        return
    _told = True
    if folder is not None:
        when = "once on this machine"
    else:
        when = "in each process, as no folder can be written to" if Cache else "in each process"
    if folder is None or _is_first(os.path.join(folder, f"fastmlp-{SOURCES[:16]}.compiling")):
        logging.getLogger("fastmlp").warning(
            "fastmlp: compiling kernels for %s, %s: this takes some seconds",
            " and ".join(sorted({str(t) for t in bound.values()})),
            when,
        )


def _is_first(mark):
    """Leave a file that tells the next process; return whether there was none, or an old one."""
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
        return True
    except FileExistsError:
        is_old = time.time() - os.stat(mark).st_mtime > _TELL_AGAIN
        if is_old:
            os.utime(mark)
        return is_old
    except OSError:
        return True


class Kernel:
    """A function that compiled code calls by a symbol. It returns nothing.

    The name of a parameter tells its type (`types_of_names`): so callers need not be at hand to compile it, nor it to
    compile them.
    """

    def __init__(self, function, types_of_names):
        self.name, self.function, self.types_of_names = function.__name__, function, types_of_names
        self._types = [types_of_names.get(name, types.int64) for name in inspect.signature(function).parameters]
        self._dispatcher, self._loaded = None, {}
        _kernels.append(self)
        kernel = self

        class Template(AbstractTemplate):
            key = kernel

            def generic(self, args, kws):
                return signature(types.void, *kernel._resolved(kernel._bound(args)))

        infer_global(self, types.Function(Template))

        @lower_builtin(self, types.VarArg(types.Any))
        def call(context, builder, sig, args):
            """Numba's own way to call a function, but without linking it into the caller."""
            function_type = context.call_conv.get_function_type(types.void, sig.args)
            symbol = kernel._symbol(kernel._bound(sig.args))
            function = cgutils.get_or_insert_function(builder.module, function_type, symbol)
            context.call_conv.call_function(builder, function, sig.return_type, sig.args, args)
            return context.get_dummy_value()

    def _bound(self, args):
        """What T and S are, by the types of the arguments."""
        return {ours.dtype: given.dtype for ours, given in zip(self._types, args, strict=True) if _is_open(ours)}

    def _resolved(self, bound):
        return [_of(t, bound[t.dtype]) if _is_open(t) else t for t in self._types]

    def _symbol(self, bound):
        return ".".join(["fastmlp", SOURCES[:16], self.name, *(f"{k}={bound[k]}" for k in sorted(bound, key=str))])

    def load(self, bound, signals):
        """Compile it, or load it from the cache, with all kernels it calls; give it its symbol.

        Raises `session.Interrupted` when it is time to answer a signal: the next call goes on from there.
        """
        bound = self._own(bound)
        symbol = self._symbol(bound)
        if symbol in self._loaded:
            return
        for other in _kernels_in(self.function):
            other.load(bound, signals)
        if self._dispatcher is None:
            self._dispatcher = _cached(self.function, self._shipped, no_cpython_wrapper=True, no_cfunc_wrapper=True)
        sig = signature(types.void, *self._resolved(bound))
        began = time.perf_counter()
        self._dispatcher.compile(sig)
        compiled = self._dispatcher.overloads[sig.args]
        session.queue.add(self._link, symbol, compiled)
        if self._dispatcher.stats.cache_misses:
            _tell(time.perf_counter() - began, bound, self._dispatcher.stats.cache_path)
        if signals.came:
            raise session.Interrupted

    def _shipped(self, args):
        return shipped.find(self._symbol(self._own(self._bound(args))))

    def _own(self, bound):
        return {t.dtype: bound[t.dtype] for t in self._types if _is_open(t)}

    def machine_code(self, bound):
        """The address at which it has been loaded."""
        return self._loaded[self._symbol(self._own(bound))]

    def forget(self):
        """What was compiled, but not all the way to machine code."""
        self._dispatcher = None

    def _link(self, symbol, compiled):
        """Give the machine code its symbol: callers can be loaded from then on."""
        self._loaded[symbol] = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
        llvm.add_symbol(symbol, self._loaded[symbol])


def _is_open(t):
    """Whether it is memory, or a record, for numbers of a type that is not said yet."""
    return isinstance(getattr(t, "dtype", None), types.Dummy)


def _of(t, dtype):
    return types.CPointer(dtype) if isinstance(t, types.CPointer) else t.record.of(dtype)


def kernel(types_of_names, name=None):
    """Decorate a function that becomes a `Kernel`."""
    return lambda function: Kernel(_named(function, name or function.__name__), types_of_names)


class Entry:
    """A function that Python calls. Before a call with arrays of new types, its kernels are compiled or loaded.

    LLVM looks for vectors in its loops if `vectorize`; other options are Numba's.
    """

    def __init__(self, function, types_of_names, vectorize=False, **options):
        self.function, self.types_of_names = function, types_of_names
        self._vectorize, self._options = vectorize, options
        self._kernels = list(_kernels_in(function))
        names = list(inspect.signature(function).parameters)
        opened = {t.dtype: names.index(n) for n, t in types_of_names.items() if n in names and _is_open(t)}
        self._open, self._positions = list(opened), list(opened.values())
        self.forget()
        _entries.append(self)

    def forget(self):
        """What was compiled."""
        self.dispatcher, self._loaded = _cached(self.function, **self._options), {}  # by dtypes: None, and kernels

    def prepare(self, *args, kernels=()):
        """Compile or load what a call with such arguments runs, if this has not been done.

        Kernels that it will call by their addresses, too; return these.
        """
        dtypes = tuple([args[i].dtype for i in self._positions])
        while not self._loaded.get(dtypes, set()).issuperset([None, *kernels]):
            session.check()
            signals = Signals()
            try:
                self._load(dtypes, args, kernels, signals)
            finally:
                signals.answer()
        return [kernel.machine_code(self._bound(dtypes)) for kernel in kernels]

    def _bound(self, dtypes):
        return {t: numba.from_dtype(dtype) for t, dtype in zip(self._open, dtypes, strict=True)}

    def _load(self, dtypes, args, kernels, signals):
        """As far as it goes without an answer to a signal, or with what we change of Numba if this does not work."""
        bound = self._bound(dtypes)
        try:
            with session.compiling(self._vectorize, signals):
                for kernel in [*kernels, *self._kernels]:
                    kernel.load(bound, signals)
                self.dispatcher.compile(tuple(map(numba.typeof, args)))
                session.queue.wait()
                self._loaded.setdefault(dtypes, {None}).update(kernels)
        except session.Failed as failed:
            with session.lock:
                if not session.give_up(failed):
                    raise failed.__cause__ from None
                _forget()

    def __call__(self, *args):
        # looked up here, too: for one row's prediction, calling `prepare` each time would cost 4 %
        if tuple([args[i].dtype for i in self._positions]) not in self._loaded:
            self.prepare(*args)
        return self.dispatcher(*args)


def entry(types_of_names, **options):
    """Decorate a function that becomes an `Entry`."""
    return lambda function: Entry(function, types_of_names, **options)


def variant(value, suffix, **others):
    """The same kernel or entry with a suffix to its name, and with other functions under some of the names it uses.

    What it calls becomes a variant too, as far as one of these names is used there. All else is shared.
    """
    made, unused = {}, set(others)

    def vary(value):
        compiled = isinstance(value, numba.core.dispatcher.Dispatcher)
        if not compiled and not isinstance(value, (Kernel, Entry)):
            return value
        if value not in made:
            function = value.py_func if compiled else value.function
            used = _globals_of(function)
            unused.difference_update(used)
            changed = {name: others.get(name) or vary(old) for name, old in used.items()}
            changed = {name: new for name, new in changed.items() if new is not used[name]}
            made[value] = value
            if changed:
                function = _named(function, function.__name__ + suffix, **changed)
                made[value] = inlined(function) if compiled else type(value)(function, value.types_of_names)
        return made[value]

    varied = vary(value)
    if unused:
        raise ValueError(f"{', '.join(sorted(unused))}: not used in what is to become {suffix!r}.")
    return varied
