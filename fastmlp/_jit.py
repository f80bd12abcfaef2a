"""How functions are compiled and kept on disk.

`inner` is for functions that only compiled code calls; `entry` for those that Python calls: their machine code goes to
Numba's cache, under a key that holds the source of everything compiled into them.
"""

import hashlib
import pathlib
import types

import numba
from numba.core.caching import FunctionCache

_OPTIONS = {"nogil": True, "error_model": "numpy", "boundscheck": False}
inner = numba.njit(**_OPTIONS, no_cpython_wrapper=True, no_cfunc_wrapper=True)
inlined = numba.njit(**_OPTIONS, no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True)


class _Cache(FunctionCache):
    """Numba's cache of a function, which looks at one file's time of change: here the text of all kernels counts."""

    sources = hashlib.sha256(
        b"".join(pathlib.Path(__file__).with_name(name).read_bytes() for name in ("_jit.py", "_kernels.py", "_tile.py"))
    ).hexdigest()

    def _index_key(self, sig, codegen):
        return *super()._index_key(sig, codegen), self.sources


def entry(parallel):
    """Decorate a function that Python calls; with `parallel`, its `prange` loops run on Numba's threads."""

    def decorate(function):
        name = f"{function.__name__}_{'parallel' if parallel else 'serial'}"  # the cache's file is named for it
        code = types.FunctionType(function.__code__, function.__globals__, name)
        code.__qualname__, code.__doc__ = name, function.__doc__
        dispatcher = numba.njit(**_OPTIONS, parallel=parallel)(code)
        try:
            dispatcher._cache = _Cache(code)
        except RuntimeError:  # no place can be written to: compiled anew in each process
            pass
        return dispatcher

    return decorate
