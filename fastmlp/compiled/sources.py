"""The text of all that is compiled, as a number: machine code on disk counts for this text alone."""

import hashlib
import importlib.util
import types

_MODULES = (
    "activations", "dense", "dropout", "jit", "llvm_thread", "losses", "numba_cache", "numba_hooks", "passes",
    "records", "row", "session", "shipped", "shuffle", "sparse", "storage", "tabular", "team", "tile", "updates"
)  # fmt: skip


def _content(module):
    """The source of a module; what its bytecode holds where that is all there is, as in a frozen application."""
    name = f"{__package__}.{module}"
    loader = importlib.util.find_spec(name).loader
    return loader.get_source(name) or _of_code(loader.get_code(name))


def _of_code(value):
    """A code object as a text that is the same in all processes, which the bytes that Python writes need not be."""
    if isinstance(value, frozenset):
        return str(sorted(map(repr, value)))
    if not isinstance(value, types.CodeType):
        return repr(value)
    names = value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars, value.co_argcount, value.co_flags
    return repr((value.co_code, names, [_of_code(constant) for constant in value.co_consts]))


SOURCES = hashlib.sha256("".join(map(_content, _MODULES)).encode()).hexdigest()
