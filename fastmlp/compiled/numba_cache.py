"""How kernels are kept on disk: Numba's cache of a function, made safe. It is private to Numba, see `numba_hooks`."""

import hashlib
import os
import pickle

from numba.core import config
from numba.core.caching import AppDirs, CompileResultCacheImpl, FunctionCache, IndexDataCacheFile, _CacheLocator
from numba.core.runtime import rtsys

from fastmlp.compiled.llvm_thread import queue
from fastmlp.compiled.sources import SOURCES


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
        queue.wait()  # machine code must not be loaded before that of what it calls
        return overload

    def _load_index(self):
        try:
            return super()._load_index()
        except Exception:
            return {}


def _checksum(key, data):
    return hashlib.sha256(repr(key).encode() + data).digest()


class _NoFileLocator(_CacheLocator):
    """Where kernels are kept whose source is in no file of its own: from a zip, bytecode or a frozen application."""

    def __init__(self, py_func, py_file):
        self._py_file, self._line = py_file, py_func.__code__.co_firstlineno

    def get_cache_path(self):
        place = config.CACHE_DIR or AppDirs(appname="numba", appauthor=False).user_cache_dir
        return os.path.join(place, f"fastmlp_{SOURCES[:16]}")

    def get_source_stamp(self):
        return SOURCES

    def get_disambiguator(self):
        return str(self._line)

    @classmethod
    def from_function(cls, py_func, py_file):
        if os.path.exists(py_file) or not py_func.__module__.startswith(f"{__package__}."):
            return None
        locator = cls(py_func, py_file)
        try:
            locator.ensure_cache_path()
        except OSError:
            return None
        return locator


class _Places(CompileResultCacheImpl):
    # Numba's place for what is in a zip is not the one that `NUMBA_CACHE_DIR` names, and may be none that can be made
    _locator_classes = [
        _NoFileLocator,
        *(one for one in CompileResultCacheImpl._locator_classes if not one.__name__.endswith("ZipCacheLocator")),
    ]


class Cache(FunctionCache):
    """Numba's cache of a function looks at its file, older Numba at when it changed; here all kernels' text counts.

    Whatever goes wrong with it, a full disk, say, the function is compiled anew.
    """

    _impl_class = _Places

    def __init__(self, function):
        super().__init__(function)
        self._cache_file = _Files(self._cache_path, self._impl.filename_base, SOURCES)

    def _index_key(self, sig, codegen):
        return *super()._index_key(sig, codegen), SOURCES

    def load_overload(self, sig, target_context):
        """Numba would read up on all types and functions before; that takes 0.1 s, and only compiling needs them."""
        try:
            rtsys.initialize(target_context)
            return self._load_overload(sig, target_context)
        except Exception:
            return None

    def save_overload(self, sig, data):
        queue.add(self._save, sig, data)

    def _save(self, sig, data):
        try:
            super().save_overload(sig, data)
        except Exception:
            pass
