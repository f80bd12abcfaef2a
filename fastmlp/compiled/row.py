"""Prediction of a row from the weights as NumPy keeps them: the layer for a few rows of a large network.

To look whether panels still hold the user's matrices takes several times as long as to predict one row from these
directly, which reads each weight once. Every sum has the order that it has in `dense`, and so the same bits.

The row is row 0 of the panels in A, of ROWS rows. `job.matrices` holds the addresses of W_1 .. W_L, then b_1 .. b_L.
"""

from fastmlp.compiled.activations import activated
from fastmlp.compiled.storage import FEW, at, kernel, padded
from fastmlp.compiled.tile import (
    ROWS,
    VECS,
    call,
    lanes,
    load,
    load_part,
    maximum,
    memory,
    multiply_add,
    number,
    outer,
    row_totals,
    store,
    store_column,
    store_part,
    zeros,
)

# so many rows of W_i are read side by side: in few pages of memory, but sums are not loaded and stored for each
GROUP = 8


@kernel
def forward_row(job, i, c_first, c_last):
    """A_i = f(A_{i-1} W_i + b_i), before softmax, for the panels from column c_first to c_last."""
    below, layer, A, height = job.layers[i - 1], job.layers[i], job.A, job.height
    n, m, panel, width, values = below.units, layer.units, VECS * lanes(A), lanes(A), below.values
    W, b, first = memory(A, job.matrices[i - 1]), memory(A, job.matrices[job.layer_count + i - 1]), layer.values
    if m <= FEW and layer.copy >= 0:
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
            z = activated(layer, row_totals(sum_) + b[j], A, 0, 0)
            store_column(z, A, at(first, height, 0, j, panel), panel)
        return
    for v in range(c_first, c_last, width):  # beyond b, what pads it
        o = at(first, height, 0, v, panel)
        store(load(job.P, layer.biases + v, 0, 1, 1), A, o, 0)
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
    floor = number(A, layer.floor)
    for v in range(c_first, c_last, width):
        o = at(first, height, 0, v, panel)
        store(maximum(load(A, o, 0, 1, 1), floor), A, o, 0)
        if layer.activate != 0:
            call(layer.activate, (A, o, 1, width, 0))
