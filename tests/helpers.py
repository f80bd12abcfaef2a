"""What tests of every kind share: processes of their own, memory that must not be touched, the dtypes."""

import ctypes
import mmap
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

DTYPES = [np.float32, np.float64]
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)

# ---- processes --------------------------------------------------------------------------------------------------

TESTS = pathlib.Path(__file__).parent
OTHER_PROCESSOR = "FASTMLP_TEST_OTHER_PROCESSOR"  # set to its bits where these tests run for another processor


def run_python(*arguments, timeout=300, **environment):
    """What Python writes in a process of its own, beside the tests; fails if it does, or after so many seconds."""
    path = os.pathsep.join([str(TESTS.parent), str(TESTS), *sys.path])
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=TESTS,
        env=os.environ | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert result.returncode == 0, (
        f"exit status {result.returncode}\n{result.stdout[-10_000:]}\n{result.stderr[-10_000:]}"
    )
    return result.stdout


def run_code(code, **environment):
    """The same of some lines of code; warnings are errors."""
    return run_python("-W", "error", "-c", code, **environment)


# ---- memory -----------------------------------------------------------------------------------------------------

needs_mprotect = pytest.mark.skipif(os.name != "posix", reason="forbids pages with mprotect")


def before_a_forbidden_page(array, after=False):
    """The array, copied to the last bytes before a page that must not be touched, or to the first ones after one."""
    size = -(-array.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    pages = mmap.mmap(-1, size + 2 * mmap.PAGESIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    libc = ctypes.CDLL(None, use_errno=True)
    for page in start, start + mmap.PAGESIZE + size:
        if libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), 0):  # PROT_NONE
            raise OSError(ctypes.get_errno(), "mprotect failed")
    offset = mmap.PAGESIZE if after else mmap.PAGESIZE + size - array.nbytes
    copy = np.frombuffer(pages, array.dtype, array.size, offset=offset).reshape(array.shape)
    copy[...] = array
    return copy
