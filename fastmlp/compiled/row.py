"""Prediction of a row from the weights as NumPy keeps them: the kernels for a few rows of a large network.

To look whether panels still hold the user's matrices takes several times as long as to predict one row from these
directly, which reads each weight once. Every sum has the order that it has in `kernels`, and so the same bits.

The row is row 0 of the panels in A, of ROWS rows. `matrices` holds the addresses of W_1 .. W_L, then b_1 .. b_L; in
the job it has the place of the order of rows, as there is none.
"""

import numpy as np

from fastmlp.compiled import jit
from fastmlp.compiled.jit import inlined
from fastmlp.compiled.kernels import (
    A_AT,
    ACTIVATION,
    BIASES,
    CHECKED,
    COPY,
    EXP,
    FEW,
    LAYERS,
    LAYOUT_AT,
    LOGISTIC,
    NOT_FINITE,
    ORDER_AT,
    OUT_AT,
    RELU,
    SOFTMAX,
    STRIDES_AT,
    TANH,
    TYPES,
    UNITS,
    VALUES,
    activated,
    at,
    cell,
    columns_of,
    find_not_finite,
    gather,
    kernel,
    padded,
    put_out,
    softmax,
    take_part,
)
from fastmlp.compiled.team import P_GIVEN, PASSES, THREADS, WORK_AT, X_GIVEN, begin, end
from fastmlp.compiled.tile import (
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


@inlined
def put_row(job, row, P):
    """The outputs of a row that has gone through all layers."""
    layout, A, layers = memory(job, job[LAYOUT_AT]), memory(P, job[A_AT]), job[LAYERS]
    if cell(layout, layers, ACTIVATION) == SOFTMAX:
        softmax(layout, layers, 0, ROWS, ROWS, A)
    put_out(layout, layers, row, 1, 0, ROWS, A, memory(P, job[OUT_AT]))


@kernel
def work_on_row(job, s, p, X, P):
    """Piece p of pass s: of a row its numbers, then a layer after the other."""
    layers = job[LAYERS]
    layout, A, matrices = memory(job, job[LAYOUT_AT]), memory(P, job[A_AT]), memory(job, job[ORDER_AT])
    i, row, n = s % (layers + 1), s // (layers + 1), cell(layout, s % (layers + 1), UNITS)
    if i == 0:
        if p == 0:
            if row > 0:
                put_row(job, row - 1, P)
            gather(layout, X, memory(job, job[STRIDES_AT]), matrices, 0, row, 1, 0, ROWS, A)
    elif n >= SHARED * job[THREADS]:
        c_first, c_last = columns_of(p, job[THREADS], n, VECS * lanes(P))
        if c_first < c_last:
            forward_row(layout, matrices, layers, i, c_first, c_last, ROWS, P, A)
    elif p == 0:
        forward_row(layout, matrices, layers, i, 0, n, ROWS, P, A)


take_part_in_rows = jit.variant(take_part, "_in_rows", work=work_on_row)
take_part_in_rows_at = take_part_in_rows.address


@jit.entry(TYPES)
def predict(job, X, x, matrices, n, P, out):
    """out[r] = A_L of row r of X, r < n. The job is one that `workspace_to_predict` has made."""
    layout, layers = memory(pointer(job), job[LAYOUT_AT]), job[LAYERS]
    job[STRIDES_AT], job[ORDER_AT], job[OUT_AT] = address(x), address(matrices), address(out)
    job[X_GIVEN], job[P_GIVEN] = address(X), address(P)
    job[PASSES], job[NOT_FINITE] = n * (layers + 1), 0
    if job[CHECKED] > 0:
        find_not_finite(pointer(X), pointer(x), 0, n, cell(layout, 0, UNITS), pointer(job))
    if job[THREADS] > 1:
        job[WORK_AT] = take_part_in_rows_at(pointer(job), 0, pointer(X), pointer(P))
        begin(pointer(job))
    take_part_in_rows(pointer(job), 0, pointer(X), pointer(P))
    if job[THREADS] > 1:
        end(pointer(job))
    put_row(pointer(job), n - 1, pointer(P))
