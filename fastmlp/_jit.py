"""How functions are compiled and kept on disk.

Numba compiles a function into each of its callers, and each of theirs: four floors of kernels would be optimised four
times. So a `kernel` is machine code of its own that other compiled code calls by a symbol, compiled once for each type
of numbers. An `entry` is what Python calls, and `inlined` is for what disappears in its callers.

All kernels and entries are kept in Numba's cache on disk, under a key that holds the source of all of them.
"""

import hashlib
import inspect
import pathlib
import pickle
import types as python_types

import llvmlite.binding as llvm
import numba
from numba import types
from numba.core import cgutils
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin

from fastmlp import _llvm

# what Numba does to each function for closures, `with`, literal arguments and expressions of arrays: we have none
_NEEDLESS_PASSES = {
    "DeadBranchPrune", "InlineClosureLikes", "InlineInlinables", "InlineOverloads", "LiteralPropagationSubPipelinePass",
    "LiteralUnroll", "MakeFunctionToJitFunction", "NopythonRewrites", "WithLifting",
}  # fmt: skip
_FILES = "_jit.py", "_kernels.py", "_llvm.py", "_row.py", "_shuffle.py", "_sparse.py", "_team.py", "_tile.py"
_SOURCES = hashlib.sha256(b"".join(pathlib.Path(__file__).with_name(name).read_bytes() for name in _FILES)).hexdigest()


class _Pipeline(CompilerBase):
    """Numba's way from a function to machine code, without the passes that our functions do not need."""

    def define_pipelines(self):
        manager = DefaultPassBuilder.define_nopython_pipeline(self.state)
        manager.passes = [one for one in manager.passes if one[0].__name__ not in _NEEDLESS_PASSES]
        return [manager]


_OPTIONS = {"nogil": True, "error_model": "numpy", "boundscheck": False, "pipeline_class": _Pipeline}


def inlined(function):
    """Decorate a function that disappears in its callers."""
    dispatcher = numba.njit(**_OPTIONS, no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True)(function)
    template = dispatcher.get_call_template  # Numba would compile it anew for each constant that it is called with
    dispatcher.get_call_template = lambda args, kws: template([types.unliteral(t) for t in args], kws)
    return dispatcher


class _Files(IndexDataCacheFile):
    """Numba's files of a function, with a checksum of what they hold and what for.

    Machine code is run unseen. It may have been cut off or overwritten; and where two processes fill an empty cache at
    once, the index may name the file of one for the types of the other. What is not as it was saved is not there.
    """

    def save(self, key, data):
        data = self._dump(data)
        super().save(key, (_checksum(key, data), data))

    def load(self, key):
        try:
            checksum, data = super().load(key)
            overload = pickle.loads(data) if checksum == _checksum(key, data) else None
        except Exception:  # whatever garbage raises when it is unpickled
            return None
        _llvm.line.wait()  # machine code must not be loaded before that of what it calls
        return overload

    def _load_index(self):
        try:
            return super()._load_index()
        except Exception:
            return {}


def _checksum(key, data):
    return hashlib.sha256(repr(key).encode() + data).digest()


class _Cache(FunctionCache):
    """Numba's cache of a function looks at its file, older Numba at when it changed; here all kernels' text counts."""

    def __init__(self, function):
        super().__init__(function)
        self._cache_file = _Files(self._cache_path, self._impl.filename_base, _SOURCES)

    def _index_key(self, sig, codegen):
        return *super()._index_key(sig, codegen), _SOURCES

    def save_overload(self, sig, data):
        _llvm.line.add(self._save, sig, data)

    def _save(self, sig, data):
        try:
            super().save_overload(sig, data)
        except OSError:  # a full disk, say: the next process compiles anew
            pass


def _cached(function, **options):
    dispatcher = numba.njit(**_OPTIONS | options)(function)
    try:
        dispatcher._cache = _Cache(function)
    except RuntimeError:  # no place can be written to: compiled anew in each process
        pass
    return dispatcher


def _named(function, name, **others):
    """The function under a name of its own, as the cache's files are named for it; some globals may be others."""
    names = function.__globals__ | others if others else function.__globals__
    copy = python_types.FunctionType(function.__code__, names, name, function.__defaults__, function.__closure__)
    copy.__qualname__, copy.__doc__, copy.__module__ = name, function.__doc__, function.__module__
    return copy


def _kernels_in(function):
    """The kernels that a function calls, itself or in what is inlined into it."""
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        if isinstance(value, Kernel):
            yield value
        elif isinstance(value, _Address):
            yield value.kernel
        elif isinstance(value, numba.core.dispatcher.Dispatcher):
            yield from _kernels_in(value.py_func)


class Kernel:
    """A function that compiled code calls by a symbol. It returns nothing.

    The name of a parameter tells its type (`types_of_names`): so callers need not be at hand to compile it, nor it to
    compile them.
    """

    def __init__(self, function, types_of_names):
        self.name, self.function, self.types_of_names = function.__name__, function, types_of_names
        self._types = [types_of_names.get(name, types.int64) for name in inspect.signature(function).parameters]
        self._dispatcher, self._loaded = None, set()
        kernel = self

        class Template(AbstractTemplate):
            key = kernel

            def generic(self, args, kws):
                return signature(types.void, *kernel._resolved(kernel._bound(args)))

        infer_global(self, types.Function(Template))

        @lower_builtin(self, types.VarArg(types.Any))
        def call(context, builder, sig, args):
            """Numba's own way to call a function, but without linking it into the caller."""
            symbol = kernel._symbol(kernel._bound(sig.args))
            convention = context.call_conv
            function_type = convention.get_function_type(sig.return_type, sig.args)
            function = cgutils.get_or_insert_function(builder.module, function_type, symbol)
            convention.call_function(builder, function, sig.return_type, sig.args, args)
            return context.get_dummy_value()

        self.address = _Address(self)

    def _bound(self, args):
        """What T and S are, by the types of the arguments."""
        return {ours.dtype: given.dtype for ours, given in zip(self._types, args, strict=True) if _is_open(ours)}

    def _resolved(self, bound):
        return [types.CPointer(bound[t.dtype]) if _is_open(t) else t for t in self._types]

    def _symbol(self, bound):
        return ".".join(["fastmlp", _SOURCES[:16], self.name, *(f"{k}={bound[k]}" for k in sorted(bound, key=str))])

    def load(self, bound):
        """Compile it, or load it from the cache, with all kernels it calls; give it its symbol."""
        bound = {t.dtype: bound[t.dtype] for t in self._types if _is_open(t)}
        symbol = self._symbol(bound)
        if symbol in self._loaded:
            return
        for other in _kernels_in(self.function):
            other.load(bound)
        if self._dispatcher is None:
            self._dispatcher = _cached(self.function, no_cpython_wrapper=True, no_cfunc_wrapper=True)
        sig = signature(types.void, *self._resolved(bound))
        with _llvm.uninterrupted():
            self._dispatcher.compile(sig)
        compiled = self._dispatcher.overloads[sig.args]
        _llvm.line.add(self._link, symbol, compiled)

    def _link(self, symbol, compiled):
        """Give the machine code its symbol: callers can be loaded from then on."""
        llvm.add_symbol(symbol, compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name))
        self._loaded.add(symbol)


class _Address:
    """`kernel.address(arguments)` in compiled code: where the machine code is that a call with these would run."""

    def __init__(self, kernel):
        self.kernel, address = kernel, self

        class Template(AbstractTemplate):
            key = address

            def generic(self, args, kws):
                return signature(types.int64, *kernel._resolved(kernel._bound(args)))

        infer_global(self, types.Function(Template))

        @lower_builtin(self, types.VarArg(types.Any))
        def lower(context, builder, sig, args):
            function_type = context.call_conv.get_function_type(types.void, sig.args)
            symbol = kernel._symbol(kernel._bound(sig.args))
            function = cgutils.get_or_insert_function(builder.module, function_type, symbol)
            return builder.ptrtoint(function, cgutils.intp_t)


def _is_open(t):
    return isinstance(t, types.CPointer) and isinstance(t.dtype, types.Dummy)


def kernel(types_of_names, name=None):
    """Decorate a function that becomes a `Kernel`."""
    return lambda function: Kernel(_named(function, name or function.__name__), types_of_names)


class Entry:
    """A function that Python calls. Before a call with arrays of new types, its kernels are compiled or loaded.

    LLVM looks for vectors in its loops if `vectorize`; other options are Numba's.
    """

    def __init__(self, function, types_of_names, vectorize=False, **options):
        self.dispatcher, self.function, self.types_of_names = _cached(function, **options), function, types_of_names
        self._vectorize = vectorize
        self._kernels, self._loaded = list(_kernels_in(function)), set()
        names = list(inspect.signature(function).parameters)
        opened = {t.dtype: names.index(n) for n, t in types_of_names.items() if n in names and _is_open(t)}
        self._open, self._positions = list(opened), list(opened.values())

    def prepare(self, *args):
        """Compile or load what a call with such arguments runs, if this has not been done."""
        dtypes = tuple([args[i].dtype for i in self._positions])
        if dtypes not in self._loaded:
            bound = {t: numba.from_dtype(dtype) for t, dtype in zip(self._open, dtypes, strict=True)}
            with _llvm.compiling(self._vectorize):
                for kernel in self._kernels:
                    kernel.load(bound)
                with _llvm.uninterrupted():
                    self.dispatcher.compile(tuple(map(numba.typeof, args)))
            self._loaded.add(dtypes)

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
    made = {}

    def vary(value):
        compiled = isinstance(value, numba.core.dispatcher.Dispatcher)
        if isinstance(value, _Address):
            return vary(value.kernel).address
        if not compiled and not isinstance(value, (Kernel, Entry)):
            return value
        if value not in made:
            function = value.py_func if compiled else value.function
            used = {name: function.__globals__.get(name) for name in function.__code__.co_names}
            changed = {name: others.get(name) or vary(old) for name, old in used.items()}
            changed = {name: new for name, new in changed.items() if new is not used[name]}
            made[value] = value
            if changed:
                function = _named(function, function.__name__ + suffix, **changed)
                options = value.targetoptions if compiled else value.types_of_names
                made[value] = numba.jit(**options)(function) if compiled else type(value)(function, options)
        return made[value]

    return vary(value)
