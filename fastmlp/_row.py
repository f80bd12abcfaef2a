"""Prediction of a row from the weights as NumPy keeps them: the kernels for a few rows of a large network.

To look whether panels still hold the user's matrices takes several times as long as to predict one row from these
directly, which reads each weight once. Every sum has the order that it has in `_kernels`, and so the same bits.

The row is row 0 of the panels in A, of ROWS rows. `matrices` holds the addresses of W_1 .. W_L, then b_1 .. b_L; in
the job it has the place of the order of rows, as there is none.
"""

import numpy as np
from numba import prange

from fastmlp import _jit
from fastmlp._kernels import (
    A_AT,
    ACTIVATION,
    BIASES,
    COPY,
    EXP,
    FEW,
    LAYERS,
    LAYOUT_AT,
    LOGISTIC,
    ORDER_AT,
    RELU,
    SOFTMAX,
    TANH,
    TYPES,
    UNITS,
    VALUES,
    activated,
    at,
    cell,
    columns_of,
    gather,
    kernel,
    padded,
    put_out,
    softmax,
)
from fastmlp._tile import (
    ROWS,
    VECS,
    address,
    lanes,
    load,
    load_part,
    maximum,
    memory,
    multiply_add,
    number,
    outer,
    pointer,
    row_totals,
    store,
    store_column,
    store_part,
    zeros,
)

# so many rows of W_i are read side by side: in few pages of memory, but sums are not loaded and stored for each
GROUP = 8
# threads share a layer that has so many units for each
SHARED = 64


@kernel
def forward_row(layout, matrices, layers, i, c_first, c_last, height, P, A):
    """A_i = f(A_{i-1} W_i + b_i), before softmax, for the panels from column c_first to c_last."""
    n, m, f = cell(layout, i - 1, UNITS), cell(layout, i, UNITS), cell(layout, i, ACTIVATION)
    panel, width = VECS * lanes(A), lanes(A)
    floor, values = number(A, 0 if f == RELU else -np.inf), cell(layout, i - 1, VALUES)
    W, b = memory(A, matrices[i - 1]), memory(A, matrices[layers + i - 1])
    first = cell(layout, i, VALUES)
    if m <= FEW and cell(layout, i, COPY) >= 0:
        for j in range(m):
            for k in range(n):  # row 1 serves as scratch
                A[at(values, height, 1, k, panel)] = W[k * m + j]
            for k in range(n, padded(n, width)):
                A[at(values, height, 0, k, panel)] = 0
                A[at(values, height, 1, k, panel)] = 0
            sum_ = zeros(A, ROWS, 1)
            for k in range(0, n, width):
                a = at(values, height, 0, k, panel)
                sum_ = multiply_add(load(A, a, 0, ROWS, 1), load(A, a + panel, 0, ROWS, 1), sum_)
            z = maximum(row_totals(sum_) + b[j], floor)
            store_column(activated(f, z), A, at(first, height, 0, j, panel), panel)
        return
    for v in range(c_first, c_last, width):  # beyond b, what pads it
        o = at(first, height, 0, v, panel)
        store(load(P, cell(layout, i, BIASES) + v, 0, 1, 1), A, o, 0)
        store_part(load_part(A, b, v, m - v), A, o, m - v)
    for q in range(0, n, panel):  # inputs of one panel of A_{i-1} stand side by side
        for k in range(q, min(n, q + panel), GROUP):
            count = min(GROUP, min(n, q + panel) - k)
            a = at(values, height, 0, k, panel)
            for c in range(c_first, c_last, panel):
                o, w = at(first, height, 0, c, panel), k * m + c
                if m - c >= panel:
                    z = load(A, o, 0, 1, VECS)
                    for j in range(count):
                        z = outer(z, A, a + j, 0, W, w + j * m)
                    store(z, A, o, 0)
                else:
                    for v in range(0, m - c, width):
                        y = load(A, o + v, 0, 1, 1)
                        for j in range(count):
                            y = multiply_add(load_part(A, W, w + j * m + v, m - c - v), A[a + j], y)
                        store(y, A, o + v, 0)
    for v in range(c_first, c_last, width):
        o = at(first, height, 0, v, panel)
        y = maximum(load(A, o, 0, 1, 1), floor)
        if f == LOGISTIC or f == TANH or f == EXP:
            y = activated(f, y)
        store(y, A, o, 0)


@kernel
def share_of_row(job, i, p, threads, P):
    """Thread p's panels of a layer."""
    layout, A = memory(job, job[LAYOUT_AT]), memory(P, job[A_AT])
    c_first, c_last = columns_of(p, threads, cell(layout, i, UNITS), VECS * lanes(P))
    if c_first < c_last:
        forward_row(layout, memory(job, job[ORDER_AT]), job[LAYERS], i, c_first, c_last, ROWS, P, A)


@_jit.parallel
def share_row(job, i, threads, P):
    """A layer on all threads."""
    for p in prange(threads):
        share_of_row(pointer(job), i, np.int64(p), threads, pointer(P))


@_jit.entry(TYPES)
def predict(job, X, x, matrices, n, P, out, threads):
    """out[r] = A_L of row r of X, r < n. The job is one that `workspace_to_predict` has made."""
    layout, A, layers = memory(pointer(job), job[LAYOUT_AT]), memory(pointer(P), job[A_AT]), job[LAYERS]
    job[ORDER_AT] = address(matrices)
    for row in range(n):
        gather(layout, pointer(X), pointer(x), pointer(matrices), 0, row, 1, 0, ROWS, A)
        for i in range(1, layers + 1):
            if threads > 1 and cell(layout, i, UNITS) >= SHARED * threads:
                share_row(job, i, threads, P)
            else:
                share_of_row(pointer(job), i, 0, 1, pointer(P))
        if cell(layout, layers, ACTIVATION) == SOFTMAX:
            softmax(layout, layers, 0, ROWS, ROWS, A)
        put_out(layout, layers, row, 1, 0, ROWS, A, pointer(out))
