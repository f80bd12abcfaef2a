"""Rows and targets as kernels read them: checks, dense and sparse. It knows nothing of a network but its width."""

import collections
import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fastmlp._panels import DTYPES

# The kernels read indices of 32 bits.
SPARSE_COLUMNS = 2**31 - 1


class NotFiniteError(ValueError):
    """X holds NaN or infinity, where it must not."""


class Data(collections.namedtuple("Data", "X x Y sample_weights n_samples sparse made_for")):
    """Rows and targets as the kernels read them, checked once; made by `MLP.data`.

    `made_for` tells the networks that they fit: width of X, outputs, what the targets are and dtype.
    """


class Targets(NamedTuple):
    """What targets may be."""

    # "Y must be ..."
    words: str
    # whether these are, a row for each sample, of a network of so many outputs
    hold: Callable


def _positive(Y, outputs):
    """Denormals are 0 to the kernels."""
    return Y.min() >= np.finfo(np.result_type(Y, np.float32)).tiny


def _probabilities(Y, outputs):
    """To the rounding of float32."""
    return Y.min() >= 0 and (np.abs(Y.sum(axis=1, dtype=np.float64) - 1) < 1e-5).all()


# The rows of the table of losses say which; NaN is none but a number.
TARGETS = {
    "numbers": Targets("numbers", lambda Y, outputs: True),
    "classes": Targets(
        "classes from 0 to {last}", lambda Y, outputs: Y.min() >= 0 and Y.max() < outputs and (Y % 1 == 0).all()
    ),
    "probabilities": Targets("probabilities, >= 0 and with the sum 1 in each row", _probabilities),
    "not negative": Targets(">= 0", lambda Y, outputs: Y.min() >= 0),
    "positive": Targets("> 0", _positive),
}


class SparseRows(collections.namedtuple("SparseRows", "values indices indptr shape")):
    """A CSR matrix as the kernels read it, checked once; made by `MLP.rows`."""

    @property
    def dtype(self):
        return self.values.dtype


def read_only(array):
    """A view that cannot be written to: the kernels are compiled for that, whatever the caller's array is."""
    view = array.view()
    view.setflags(write=False)
    return view


def sparse_rows(X, dtype):
    """A sparse matrix as `SparseRows`; numbers that are not floating-point are converted to this dtype.

    What would lead the kernels, or SciPy's conversion, out of the arrays is refused.
    """
    if X.shape[1] > SPARSE_COLUMNS:
        raise ValueError(f"Sparse X may have {SPARSE_COLUMNS} columns, got {X.shape[1]}.")
    X = X if X.format in ("csr", "csc") else X.tocsr()
    lines, places = X.shape if X.format == "csr" else X.shape[::-1]
    starts = X.indptr
    if len(starts) != lines + 1 or starts[0] != 0 or (starts[1:] < starts[:-1]).any():
        raise ValueError("X is not a valid sparse matrix: its indptr does not rise from 0, line by line.")
    if starts[-1] > min(len(X.indices), len(X.data)):
        raise ValueError("X is not a valid sparse matrix: its indptr ends beyond its entries.")
    used = X.indices[: starts[-1]]
    if used.size and not (0 <= used.min() and used.max() < places):
        raise ValueError(f"X is not a valid sparse matrix: it has indices that are not from 0 to {places - 1}.")
    X = X.tocsr()
    return SparseRows(
        np.ascontiguousarray(X.data, X.dtype if X.dtype in DTYPES else dtype),
        np.ascontiguousarray(X.indices, np.int32),
        np.ascontiguousarray(X.indptr, np.int64),
        X.shape,
    )


def nonzeros_before(rows, order):
    """How many nonzeros the rows order[:i] have, for each i from 0 on. Not all rows that are not there are noticed."""
    ends = np.zeros(len(order) + 1, np.int64)
    np.cumsum(np.diff(rows.indptr)[order], out=ends[1:])
    return ends


@functools.lru_cache
def _strides_of_rows(n):
    return np.array([0, n, 1], np.int64)


def flat_view(X):
    """A flat view of all memory between a matrix's first and last number, and its start and strides in elements.

    A matrix whose strides are no multiples of its numbers' size, or that is not aligned, is copied first. Of sparse
    rows: the values.
    """
    if isinstance(X, SparseRows):
        return read_only(X.values), _strides_of_rows(1)
    flags = X.flags
    if flags.c_contiguous and flags.aligned:
        view = X.ravel()  # a view of its own: read_only would make another, and one row is predicted in 9 us
        view.setflags(write=False)
        return view, _strides_of_rows(X.shape[1])
    if not X.flags.aligned or any(stride % X.itemsize for stride in X.strides):
        X = X.copy()
    strides = [stride // X.itemsize for stride in X.strides]
    reach = [stride * (n - 1) for stride, n in zip(strides, X.shape, strict=True)]
    lowest = X[tuple(slice(n - 1, n) if r < 0 else slice(0, 1) for r, n in zip(reach, X.shape, strict=True))]
    view = np.lib.stride_tricks.as_strided(lowest, (1 + sum(map(abs, reach)),), (X.itemsize,), writeable=False)
    return view, np.array([-sum(r for r in reach if r < 0), *strides], np.int64)
