"""Kernels that come with the package as LLVM's text, optimised: only machine code is left to be made of it.

A wheel brings them (`.ci/kernels.py` writes them), a checkout need not. There is a file for each system, tile shape
and version of LLVM, whatever the version of Python or Numba; a kernel is found in it by its symbol, which names the
source of all kernels. Where there is no such file, or it is not whole, Numba compiles kernels from Python.
"""

import functools
import json
import logging
import pkgutil

import llvmlite.binding as llvm

from fastmlp.compiled.tile import FUSED, VECTOR_BITS


def file_name():
    """Of the file for this process."""
    fused = "fused" if FUSED else "unfused"
    return f"{llvm.get_process_triple()}-{VECTOR_BITS}-{fused}-llvm{llvm.llvm_version_info[0]}.json.xz"


@functools.cache
def _kernels():
    try:
        import lzma  # not every Python has it

        return dict(json.loads(lzma.decompress(pkgutil.get_data(__package__, f"kernels/{file_name()}"))))
    except Exception as error:  # whatever a file raises that is not there or not whole
        logging.getLogger("fastmlp").debug("no kernels come with the package: %r", error)
        return {}


def find(symbol):
    """Name, environment and type of a kernel's function, and the lines of text that hold it; None if not there."""
    return _kernels().get(symbol)
