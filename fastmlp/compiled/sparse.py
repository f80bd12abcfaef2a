"""Sparse X: the kernels of the first layer that touch its nonzeros only, and the passes with them in their place.

Rows of X are those of a CSR matrix: row i has the values X[k] in the columns indices[k], indptr[i] <= k < indptr[i+1];
several in one column add up. There is no A_0. Layer 1 goes forward by

    A_1[r] = f(b_1 + sum of X[k] * W_1[indices[k]] over the nonzeros of the row)

and a work item, the rows W_1[block] of a panel, sums up its gradient from the batch's nonzeros in these columns,

    dW_1[indices[k]] += X[k] * delta_1[r]

For that each thread sorts the nonzeros of its rows by blocks of columns before it takes these rows forward. In a block
they stand as in the batch, and an item takes them from one thread's list after the other: so every sum has the same
order for any number of threads. W_1, not W_1', must stand in P: see `Panels`. Where layer 1 has panels for all threads
they share those, layer by layer as with wide dense ones, so that each reads the weights that it steps.

Here `x` holds addresses and numbers, below, in place of strides. Of the batch's nonzeros in their new order `places`
has row and column in turns, `amounts` the values; those of block b that thread p has sorted are the ones from starts[b]
to starts[b + 1] in its line of `starts`. `ends` tells how many nonzeros the rows have that come before in `order`.
"""

import numpy as np

from fastmlp.compiled import jit, kernels
from fastmlp.compiled.jit import inlined
from fastmlp.compiled.kernels import (
    A_AT,
    ACTIVATION,
    BIASES,
    COLUMN,
    D_AT,
    DELTAS,
    EXP,
    FIRST,
    FORWARD_PASS,
    G_AT,
    GATHER_PASS,
    HEIGHT,
    ITEM,
    ITEMS_AT,
    KIND,
    LAST,
    LAYER,
    LAYOUT_AT,
    LOGISTIC,
    LOSSES_AT,
    M_AT,
    NOTHING,
    ORDER_AT,
    PLACE,
    Q_AT,
    RELU,
    ROWS_PASS,
    SCALE,
    SHARES_AT,
    SOFTMAX,
    STEP_AT,
    STRIDES_AT,
    TANH,
    UNITS,
    V_AT,
    VALUES,
    WEIGHTS_PASS,
    activate,
    at,
    cell,
    columns_of,
    forward_panels,
    gradient_item,
    kernel,
    padded,
    room_of,
    softmax,
    step_item,
    weights_forward,
)
from fastmlp.compiled.team import THREADS
from fastmlp.compiled.tile import (
    ROWS,
    VECS,
    lanes,
    load,
    maximum,
    memory,
    memory_of_float64,
    memory_of_int32,
    number,
    outer,
    skip,
    store,
    zeros,
)

# columns of x: where memory is; log2 of the columns in a block, how many blocks there are, and lists of nonzeros
INDPTR_AT, INDICES_AT, ENDS_AT, STARTS_AT, PLACES_AT, AMOUNTS_AT, SHIFT, BLOCKS, LISTS, COLUMNS = range(10)


@inlined
def product(tile, X, indices, first, last, W, w, panel):
    """tile + the sum of X[k] W[indices[k], columns] for k in first..last."""
    for k in range(first, last):
        tile = outer(tile, X, k, 0, W, w + indices[k] * panel)
    return tile


@kernel
def forward_nonzeros(layout, X, x, order, ordered, start, count, first, c_first, c_last, height, P, Q, A):
    """A_1 = f(X W_1 + b_1) for the rows order[start + r], or start + r, r < count, in rows of A from `first`.

    Of it the panels from column c_first to c_last. In the rows that fill the last tile it is f(b_1).
    """
    n, f, panel, width = cell(layout, 1, UNITS), cell(layout, 1, ACTIVATION), VECS * lanes(A), lanes(A)
    floor, b = number(A, 0 if f == RELU else -np.inf), cell(layout, 1, BIASES)
    W, w, w_height = weights_forward(layout, 1, P, Q, width)
    indptr, indices = memory(x, x[INDPTR_AT]), memory_of_int32(x[INDICES_AT])
    for r in range(padded(count, ROWS)):
        k, k_last = 0, 0
        if r < count:
            row = start + r
            if ordered > 0:
                row = order[row]
            k, k_last = indptr[row], indptr[row + 1]
        out = at(cell(layout, 1, VALUES), height, first + r, 0, panel)
        for c in range(c_first, c_last, panel):
            if n - c > (VECS - 1) * width:
                z = load(P, b + c, 0, 1, VECS)
                z = product(z, X, indices, k, k_last, W, at(w, w_height, 0, c, panel), panel)
                store(maximum(z, floor), A, at(out, height, 0, c, panel), 0)
            else:
                for v in range(c, n, width):
                    z = load(P, b + v, 0, 1, 1)
                    z = product(z, X, indices, k, k_last, W, at(w, w_height, 0, v, panel), panel)
                    store(maximum(z, floor), A, at(out, height, 0, v, panel), 0)
    if f == LOGISTIC or f == TANH or f == EXP:
        for r in range(first, first + padded(count, ROWS), ROWS):
            for c in range(c_first, c_last, panel):
                out = at(cell(layout, 1, VALUES), height, r, c, panel)
                activate(f, A, out, min(panel, padded(n - c, width)))


@kernel
def forward_rows_of_nonzeros(layout, layers, X, x, order, ordered, start, count, first, height, P, Q, A):
    """A_1 .. A_L for `count` rows of X, in rows of A from `first`."""
    forward_nonzeros(layout, X, x, order, ordered, start, count, first, 0, cell(layout, 1, UNITS), height, P, Q, A)
    last = first + padded(count, ROWS)
    for i in range(2, layers + 1):
        forward_panels(layout, i, 0, cell(layout, i, UNITS), first, last, height, P, Q, A)
    if cell(layout, layers, ACTIVATION) == SOFTMAX:
        softmax(layout, layers, first, last, height, A)


@kernel
def sort_nonzeros(job, p, start, batch, X, P):
    """The nonzeros of thread p's rows of the batch to `places` and `amounts`, by blocks of columns: counting sort."""
    x, order = memory(job, job[STRIDES_AT]), memory(job, job[ORDER_AT])
    indptr, indices, ends = memory(job, x[INDPTR_AT]), memory_of_int32(x[INDICES_AT]), memory(job, x[ENDS_AT])
    places, amounts, shift, blocks = memory_of_int32(x[PLACES_AT]), memory(P, x[AMOUNTS_AT]), x[SHIFT], x[BLOCKS]
    tiles, threads, starts = padded(batch, ROWS) // ROWS, job[THREADS], memory(job, x[STARTS_AT])
    starts = skip(starts, p * (blocks + 2))
    first, last = min(batch, tiles * p // threads * ROWS), min(batch, tiles * (p + 1) // threads * ROWS)
    for b in range(blocks + 2):
        starts[b] = 0
    for r in range(first, last):
        row = order[start + r]
        for k in range(indptr[row], indptr[row + 1]):
            starts[(indices[k] >> shift) + 2] += 1
    starts[0] = starts[1] = ends[start + first] - ends[start]
    for b in range(2, blocks + 2):
        starts[b] += starts[b - 1]
    for r in range(first, last):  # starts[b + 1] goes from where block b begins to where it ends
        row = order[start + r]
        for k in range(indptr[row], indptr[row + 1]):
            b = (indices[k] >> shift) + 1
            e = starts[b]
            places[2 * e], places[2 * e + 1], amounts[e] = r, indices[k], X[k]
            starts[b] = e + 1


@kernel
def gradient_nonzeros(layout, item, x, height, D, G):
    """X' delta_1 for the rows and columns of a work item of layer 1; to G."""
    c, k_first, k_last, panel, width = item[COLUMN], item[FIRST], item[LAST], VECS * lanes(D), lanes(D)
    places, amounts, blocks = memory_of_int32(x[PLACES_AT]), memory(D, x[AMOUNTS_AT]), x[BLOCKS]
    starts, d = skip(memory(x, x[STARTS_AT]), k_first >> x[SHIFT]), at(cell(layout, 1, DELTAS), height, 0, c, panel)
    for g in range(0, (k_last - k_first) * panel, width):
        store(zeros(G, 1, 1), G, g, 0)
    for p in range(x[LISTS]):
        line = p * (blocks + 2)
        for e in range(starts[line], starts[line + 1]):
            g = (places[2 * e + 1] - k_first) * panel
            sum_ = outer(load(G, g, 0, 1, VECS), amounts, e, 0, D, d + places[2 * e] * panel)
            store(sum_, G, g, 0)


@kernel
def train_weights_on_nonzeros(job, p, batch, P):
    """Thread p's part of the pass over the weights."""
    step = memory_of_float64(job[STEP_AT])
    layout, items, shares = memory(job, job[LAYOUT_AT]), memory(job, job[ITEMS_AT]), memory(job, job[SHARES_AT])
    Q, M, V, A = memory(P, job[Q_AT]), memory(P, job[M_AT]), memory(P, job[V_AT]), memory(P, job[A_AT])
    D, x = memory(P, job[D_AT]), memory(job, job[STRIDES_AT])
    room = room_of(p, VECS * lanes(P), memory(P, job[G_AT]))
    kind, height, rows = job[KIND], job[HEIGHT], padded(batch, ROWS)
    squares = skip(memory(step, job[LOSSES_AT]), height)
    for j in range(shares[p], shares[p + 1]):
        item = skip(items, j * ITEM)
        if kind != NOTHING:
            if item[LAYER] == 1 and item[FIRST] < item[LAST]:
                gradient_nonzeros(layout, item, x, height, D, room)
            else:
                gradient_item(layout, item, 0, rows, batch, height, A, D, room, 0)
        step_item(layout, item, kind, step, P, Q, M, V, room, 0, 1, 0, skip(squares, item[PLACE]))


_other_passes = jit.variant(kernels.piece, "_sparse", forward_rows=forward_rows_of_nonzeros)


@kernel
def piece_of_nonzeros(job, which, i, p, start, batch, X, P):
    """Piece p of a pass over the batch from row `start` of the order on; i is the layer, if it is one."""
    if job[KIND] != NOTHING and (which == ROWS_PASS or which == GATHER_PASS):
        sort_nonzeros(job, p, start, batch, X, P)
    if which == WEIGHTS_PASS and memory_of_float64(job[STEP_AT])[SCALE] != 0:
        train_weights_on_nonzeros(job, p, batch, P)
    elif which == FORWARD_PASS and i == 1:  # each thread has its own panels
        layout, x, order = memory(job, job[LAYOUT_AT]), memory(job, job[STRIDES_AT]), memory(job, job[ORDER_AT])
        Q, A = memory(P, job[Q_AT]), memory(P, job[A_AT])
        c_first, c_last = columns_of(p, job[THREADS], cell(layout, 1, UNITS), VECS * lanes(P))
        forward_nonzeros(layout, X, x, order, True, start, batch, 0, c_first, c_last, job[HEIGHT], P, Q, A)
    elif which != GATHER_PASS and which != WEIGHTS_PASS:
        _other_passes(job, which, i, p, start, batch, X, P)


epoch = jit.variant(kernels.epoch, "_sparse", piece=piece_of_nonzeros)
predict = jit.variant(kernels.predict, "_sparse", forward_rows=forward_rows_of_nonzeros)
