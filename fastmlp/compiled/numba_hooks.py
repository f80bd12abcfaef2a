"""What of Numba is otherwise while our functions are compiled, so that the first fit takes two thirds of the time.

All of this is private to Numba or llvmlite, and may be gone or changed in their next versions. A fit works without:

======================================================  ==================================================
what we change or use                                   if it is gone or no longer works
======================================================  ==================================================
`config.OPT`, `LOOP_VECTORIZE`, `SLP_VECTORIZE`         LLVM also looks for what is not there
`CPUCodeLibrary._optimize_functions`                    functions are optimised twice
`TypingContext._resolve_user_function_type`,            Numba asks for the same again and again
`BaseContext.get_abi_sizeof`, `target.magic_tuple`,
`llvm.get_process_triple`, `dump_refprune_stats`
`Compiler.define_pipelines`, `PassManager.passes`       Numba runs passes that our functions do not need
`Dispatcher.get_call_template` (in `jit`)               functions are compiled for each constant they get
`JITCodeLibrary`, `CodeLibrary`, `_dynfunc`, `cgutils`  LLVM works when Python has nothing to do, not meanwhile
`CPUContext.get_executable`, `target._library_class`,
`codegen.require_global_compiler_lock`
`Compiler.compile_extra`, `compile_result`,             kernels that come with the package are not used, but
`FunctionDescriptor`, `Environment`,                    compiled from Python
`_optimize_final_module`, `call_conv`
`global_compiler_lock`                                  only our own lock keeps other threads away
its `_lock`, and `llvm.ffi.lib._lock`                   a child forked while others compile waits for ever
`Dispatcher._cache`, `caching`, `rtsys` (here in        each process compiles anew
`numba_cache`)
`parallel._is_initialized` (in `jit`)                   `numba.set_num_threads` is not heard
======================================================  ==================================================

An attribute that is not there is not changed. If this module cannot be imported, or kernels do not compile with its
changes, `session` does without any of them. What nothing works without is not private, or old: the templates and
`lower_builtin` of Numba's extensions, `Dispatcher.overloads`, and the library and the name of what was compiled.
"""

import llvmlite.binding as llvm
from numba import _dynfunc, types
from numba.core import cgutils, codegen, config, errors
from numba.core.base import BaseContext
from numba.core.codegen import CodeLibrary, CPUCodeLibrary, JITCodeLibrary
from numba.core.compiler import compile_result
from numba.core.compiler_lock import global_compiler_lock
from numba.core.cpu import CPUContext
from numba.core.funcdesc import FunctionDescriptor
from numba.core.lowering import Environment
from numba.core.registry import cpu_target
from numba.core.typing import BaseContext as TypingContext
from numba.core.typing import signature

from fastmlp.compiled.llvm_thread import queue

# what Numba does to each function for closures, `with`, literal arguments and expressions of arrays: we have none
_NEEDLESS_PASSES = {
    "DeadBranchPrune", "InlineClosureLikes", "InlineInlinables", "InlineOverloads", "LiteralPropagationSubPipelinePass",
    "LiteralUnroll", "MakeFunctionToJitFunction", "NopythonRewrites", "WithLifting",
}  # fmt: skip

# what is raised if something is not as it was: no want of memory, nor what somebody else raises in this thread
SIGNS = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, RuntimeError, TypeError,
    ValueError, errors.NumbaError,
)  # fmt: skip


def drop_needless_passes(managers):
    """Leave out of Numba's way from a function to machine code what our functions do not need."""
    for manager in managers:
        manager.passes = [one for one in manager.passes if one[0].__name__ not in _NEEDLESS_PASSES]


class _Library(JITCodeLibrary):
    """Numba's place for the code of a function, but LLVM does not hear of it before machine code is asked for."""

    def __init__(self, codegen, name):
        CodeLibrary.__init__(self, codegen, name)
        self._linking_libraries, self._shared_module, self._texts, self._made = [], None, [], None
        self._optimized = False

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

    def add_optimized(self, name, text):
        """Take LLVM's text of a module that is to become machine code as it is."""
        self._texts.append((name, text))
        self._optimized = True

    def _optimize_final_module(self):
        if not self._optimized:
            super()._optimize_final_module()

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
        queue.wait()
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


def _executable(get_executable):
    """What Python calls of a function; where there is nothing, as compiled code alone calls it, without LLVM."""

    def executable(context, library, descriptor, env):
        if library.defines(descriptor.llvm_cpython_wrapper_name):
            return get_executable(context, library, descriptor, env)
        queue.add(get_executable, context, library, descriptor, env)
        return _dynfunc.make_function(descriptor.lookup_module(), descriptor.qualname, "", 0, env, (library,))

    return executable


def compiled_from(shipped, function, state):
    """What Numba would make of a function, from what came with the package; None if this Numba calls it otherwise."""
    target = state.targetctx
    if str(target.call_conv.get_function_type(types.void, state.args)) != shipped["type"]:
        return None
    library = target.codegen().create_library(function.__name__)
    library.enable_object_caching()
    library.add_optimized(shipped["name"], "\n".join(shipped["text"]))
    descriptor = FunctionDescriptor(
        native=True, modname=function.__module__, qualname=function.__qualname__, unique_name=function.__qualname__,
        doc="", typemap=None, restype=types.void, calltypes=None, args=(), kws=(), argtypes=state.args,
        mangler=lambda *args, **others: shipped["name"], env_name=shipped["environment"],
    )  # fmt: skip
    environment = Environment.from_fndesc(descriptor)
    return compile_result(
        typing_context=state.typingctx, target_context=target, library=library, fndesc=descriptor,
        entry_point=target.get_executable(library, descriptor, environment), environment=environment,
        signature=signature(types.void, *state.args), typing_error=None, type_annotation="", objectmode=False,
        lifted=(), metadata={}, reload_init=[],
    )  # fmt: skip


def _once(function, key=lambda *args: args):
    """The function, but what it has returned for a key it returns again."""
    known = {}

    def again(*args):
        k = key(*args)
        if k not in known:
            known[k] = function(*args)
        return known[k]

    return again


def _sizes_once(sizeof):
    return _once(sizeof, lambda context, type_: str(type_))


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


def changes(vectorize):
    """What is otherwise meanwhile: whose attribute, its name and value.

    Tiles are vectors already, so LLVM need mostly not look for others (a fifth of the time). Numba optimises functions
    by themselves and then all of a module: the second is enough (a twentieth). The lock that finalizing asks for is
    held by the thread that handed the work on. And Numba would ask again and again for what does not change; where it
    asks LLVM, it would wait for the second thread.
    """
    target = cpu_target.target_context.codegen()
    for owner, name, new in [
        (config, "OPT", lambda old: type(old)(1)),
        (config, "LOOP_VECTORIZE", lambda old: int(vectorize)),
        (config, "SLP_VECTORIZE", lambda old: 0),
        (CPUCodeLibrary, "_optimize_functions", lambda old: _set_data_layout),
        (CPUContext, "get_executable", _executable),
        (target, "_library_class", lambda old: _Library),
        (codegen, "require_global_compiler_lock", lambda old: lambda: None),
        (TypingContext, "_resolve_user_function_type", _resolving_once),
        (BaseContext, "get_abi_sizeof", _sizes_once),
        (target, "magic_tuple", _once),
        (llvm, "get_process_triple", _once),
        (getattr(llvm, "passmanagers", None), "dump_refprune_stats", _once),  # versions differ
        (getattr(llvm, "newpassmanagers", None), "dump_refprune_stats", _once),
    ]:
        if hasattr(owner, name):
            yield owner, name, new(getattr(owner, name))


def locks():
    """The locks within which Numba and LLVM are changing what they know."""
    return global_compiler_lock._lock, llvm.ffi.lib._lock._lock
