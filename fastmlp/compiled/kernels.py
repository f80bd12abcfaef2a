"""Every compiled loop: forward, deltas, update, loss; a whole epoch; prediction.

Layer i of a network computes A_i = f(A_{i-1} W_i + b_i) from A_0 = X. One batch of training is two passes:

    rows     each block of rows goes forward through all layers and back through all deltas,
                 delta_L     = (A_L - Y) * weight of the row
                 delta_{i-1} = delta_i W_i' * f'(A_{i-1})
    weights  each piece of each W_i gets its gradient A_{i-1}' delta_i and takes its step

Rows do not depend on each other, nor do weights; every delta is made from the weights before the step, which no thread
touches until all rows are done. Each number has one owner and one order of summation, so the results have the same
bits for any number of threads.

Moving numbers from one core to another can cost more than the arithmetic. Where the activations are many and the
weights few, the batch is cut into groups, as many as the shapes say and not the threads; the pass over the rows leaves
the gradient of each group, and the pass over the weights adds them up in order. Where the weights are many and the
activations few, the threads share the columns of a layer, one layer after the other, instead of the rows: then each
reads and steps its own panels alone.

A matrix is stored as panels: as many columns as a tile is wide, row after row; `at` is the whole rule. Heights are
padded to whole tiles and widths to whole panels with numbers that change nothing (0, or a bias of -1e30 where f(0) is
not 0), so that no loop has a mask or a remainder. Only gradients spare the padding, as small networks would spend much
of a batch on it: their last rows may be half a tile, and steps go as far as there are weights. The way forward needs
rows of W_i and the way back rows of W_i', so of each W_i there is a copy that is transposed; the one that is stored
with the moments is the one with fewer tiles. Of the largest there is none, as all that is moved costs more than
arithmetic there: the way back transposes some rows at a time. `layout` is a table with a line for each layer, its
columns below.

Memory, passed on as pointers (T is float32 or float64)
    P            T, weights and biases of all layers, as panels         Q     T, the transposed copies
    M, V         T, like P: velocity or first moments, second moments   G     T, like P, for each group: gradients
    room         T, for each piece of a pass, CHUNK rows of a panel: the gradient of a work item, or rows of W_i'
    A, D         T, activations and deltas of a batch
    X            float32 or float64, a flat view of the user's matrix; `x` holds its start and strides, in elements;
                 some of its columns may be read where they are, whole panels (IN_PLACE); A_0 has copies of the others
    Y            T, targets, row by row; for softmax the number of the class of each row
    weights      T, a weight for each row, or one for all
    order        int64, the rows of X in the order they are used
"""

import math

import numpy as np
from numba import types

from fastmlp.compiled import jit
from fastmlp.compiled.jit import inlined
from fastmlp.compiled.team import (
    DONE,
    LEAVE,
    P_GIVEN,
    PASSES,
    PATIENCE,
    PRESENT,
    TEAM_AT,
    TEAM_COLUMNS,
    THREADS,
    WORK_AT,
    X_GIVEN,
    begin,
    claim,
    end,
    hire,
    hire_or_dismiss,
    keep_pace,
    lose,
    wait,
)
from fastmlp.compiled.tile import (
    ROWS,
    VECS,
    address,
    atomic_add,
    atomic_load,
    column,
    column_sum,
    exp,
    first_of,
    flush_denormals,
    lanes,
    load,
    load_column,
    load_part,
    log,
    logistic,
    maximum,
    memory,
    memory_of_float64,
    minimum,
    multiply_add,
    number,
    outer,
    pick,
    pointer,
    precision,
    prefetch,
    restore_denormals,
    row_max,
    row_sum,
    row_totals,
    rows_at,
    skip,
    sqrt,
    store,
    store_column,
    store_part,
    store_transposed,
    tanh,
    ticks,
    total,
    where_nonzero,
    zeros,
)

# columns of the layout: units of layer i, its f, where A_i starts in A, delta_i in D, b_i in P, W_i in P or Q, W_i'
# in the other or -1 if nowhere, and whether it is W_i' that stands in P; of the input, how many columns are read where
# X has them, where X is, and where the places of a batch's rows in it are
UNITS, ACTIVATION, VALUES, DELTAS, BIASES, WEIGHTS, COPY, TRANSPOSED, IN_PLACE, X_AT, PLACES_AT, COLUMNS = range(12)
IDENTITY, LOGISTIC, TANH, RELU, SOFTMAX, EXP = range(6)
# layers of at most so many units are few columns: they go forward by dot products, and a vector serves as many rows
FEW = 4
# how far a sum runs at a time, in rows of a panel that stay in the first-level cache; a multiple of all panels
CHUNK = 192
# how many rows go through a layer at a time, so that they are still in a cache when the next panel of units needs them
BLOCK = 256
# what the pass over the weights does with a gradient
NOTHING, STORE, SGD, MOMENTUM, NESTEROV, ADAM = range(6)
# columns of the work items of that pass: layer, first column of a panel of what stands in P, and a range of its rows;
# an empty one stands for the biases; last the item's place among all, however they are dealt out
LAYER, COLUMN, FIRST, LAST, PLACE, ITEM = range(6)
# columns of `step`
LEARNING_RATE, ALPHA, DECAY_1, DECAY_2, EPSILON, STEPS, RATE, SCALE, LOSS, BATCH_LOSS, COUNTED, STEP = range(12)
# the passes over a batch
ROWS_PASS, GATHER_PASS, FORWARD_PASS, OUTPUT_PASS, BACKWARD_PASS, WEIGHTS_PASS = range(6)
# columns of a job after those of the team: where memory is, numbers, and what the caller notes from batch to batch
(
    LAYOUT_AT, ITEMS_AT, SHARES_AT, STRIDES_AT, Y_AT, WEIGHTS_AT, ORDER_AT, Q_AT, M_AT, V_AT, A_AT, D_AT, G_AT,
    LOSSES_AT, OUT_AT, STEP_AT, LAYERS, ITEM_COUNT, WEIGHT_STRIDE, ORDERED, BATCH, ALL, HEIGHT, KIND, GROUPS, SIZE,
    BY_LAYERS, FIRST_ROW, ROWS_A_CALL, CHECKED, NOT_FINITE, BEGAN, HELPERS,
) = range(TEAM_COLUMNS, TEAM_COLUMNS + 33)  # fmt: skip
if HELPERS >= DONE:
    raise ImportError("The columns of a job have run into those that threads tell each other in.")

# What a parameter is called tells its type: memory of integers, of float64, of T, of X's numbers; else int64.
_T, _S = types.Dummy("T"), types.Dummy("S")
TYPES = {name: types.CPointer(types.int64) for name in "job layout items item x order matrices".split()}
TYPES |= {name: types.CPointer(types.float64) for name in "step losses squares".split()}
TYPES |= {name: types.CPointer(_T) for name in "P Q M V G A D Y weights out room".split()}
TYPES |= {"X": types.CPointer(_S)}
kernel = jit.kernel(TYPES)


# ---- storage ----------------------------------------------------------------------------------------------------


@inlined
def at(start, height, row, column, panel):
    """Where the number (row, column) of a matrix lies whose panels have this height."""
    return start + (column // panel * height + row) * panel + column % panel


@inlined
def cell(layout, i, column):
    """What the layout says of layer i."""
    return layout[i * COLUMNS + column]


@inlined
def padded(n, multiple):
    return (n + multiple - 1) // multiple * multiple


# ---- the pass over the rows -------------------------------------------------------------------------------------


@inlined
def product(tile, left, a, height, right, b, n, panel):
    """tile + left[rows, :n] right[:n, columns], both from panels, starting at offsets a and b."""
    for q in range(0, n, panel):
        for k in range(min(panel, n - q)):
            tile = outer(tile, left, a + k, panel, right, b + k * panel)
        a += height * panel
        b += panel * panel
    return tile


@kernel
def gather(layout, X, x, order, ordered, start, count, first, height, A):
    """A_0[first + r] = X[order[start + r]], or X[start + r], for r < count; 0 in what is left of the last tile.

    Of columns that are read where X has them, only where each row is; rows that are not there are the last one again.
    """
    n, panel, width = cell(layout, 0, UNITS), VECS * lanes(A), lanes(A)
    in_place, places = cell(layout, 0, IN_PLACE), memory(x, cell(layout, 0, PLACES_AT))
    for tile in range(0, count, ROWS):
        if in_place > 0:
            for r in range(tile, tile + ROWS):
                row = start + min(r, count - 1)
                if ordered > 0:
                    row = order[row]
                places[first + r] = x[0] + row * x[1]
        for c in range(in_place, n, width):
            to = at(cell(layout, 0, VALUES), height, first + tile, c, panel)
            for r in range(tile, tile + ROWS):
                row, units = start + r, n - c if r < count else 0
                if r < count and ordered > 0:
                    row = order[row]
                source = x[0] + row * x[1]
                if x[2] == 1 or units == 0:
                    store(load_part(A, X, source + c, units), A, to, 0)
                else:
                    for k in range(c, min(n, c + width)):
                        A[to + k - c] = X[source + k * x[2]]
                to += panel


@inlined
def fetch_rows(X, x, order, first, last, n):
    """Have rows order[first:last] of X brought to this core's cache, to be read soon."""
    for r in range(first, last):
        row = x[0] + order[r] * x[1]
        for o in range(row, row + n, lanes(X)):
            prefetch(X, o)


@inlined
def weights_forward(layout, i, P, Q, width):
    """Where the panels of W_i are: memory, offset, height."""
    n = cell(layout, i - 1, UNITS)
    if cell(layout, i, TRANSPOSED):
        return Q, cell(layout, i, COPY), padded(n, width)
    return P, cell(layout, i, WEIGHTS), padded(n, ROWS)


@inlined
def weights_backward(layout, i, P, Q, width):
    """Where the panels of W_i' are: memory, offset, height. Not for a layer without a copy."""
    n = cell(layout, i, UNITS)
    if cell(layout, i, TRANSPOSED):
        return P, cell(layout, i, WEIGHTS), padded(n, ROWS)
    return Q, cell(layout, i, COPY), padded(n, width)


@inlined
def activated(f, z):
    """f of a tile, for the activations that take more than a comparison."""
    if f == LOGISTIC:
        z = logistic(z)
    elif f == TANH:
        z = tanh(z)
    elif f == EXP:
        z = exp(z)
    return z


@kernel
def activate(f, A, start, columns):
    """f of the numbers of a tile that is in the first-level cache, a vector at a time."""
    panel = VECS * lanes(A)
    for row in range(start, start + ROWS * panel, panel):
        for o in range(row, row + columns, lanes(A)):
            store(activated(f, load(A, o, 0, 1, 1)), A, o, 0)


def _forward(vecs):
    def forward(layout, i, c, first, last, height, P, Q, A):
        """A_i = f(A_{i-1} W_i + b_i) for rows first..last and the tile's columns from c; softmax comes after."""
        n, f, panel = cell(layout, i - 1, UNITS), cell(layout, i, ACTIVATION), VECS * lanes(A)
        floor = number(A, 0 if f == RELU else -np.inf)
        W, w, w_height = weights_forward(layout, i, P, Q, lanes(A))
        w = at(w, w_height, 0, c, panel)
        in_place, X = cell(layout, i - 1, IN_PLACE), memory(A, cell(layout, i - 1, X_AT))
        places, end = memory(layout, cell(layout, i - 1, PLACES_AT)), 0
        while end < n:
            k, end = end, min(end + CHUNK, in_place if end < in_place else n)
            for r in range(first, last, ROWS):
                out = at(cell(layout, i, VALUES), height, r, c, panel)
                if k == 0:
                    z = load(P, cell(layout, i, BIASES) + c, 0, ROWS, vecs)
                else:
                    z = load(A, out, panel, ROWS, vecs)
                if k < in_place:
                    rows = rows_at(places, r)
                    for q in range(k, end):
                        z = outer(z, X, q, rows, W, w + q * panel)
                else:
                    a = at(cell(layout, i - 1, VALUES), height, r, k, panel)
                    z = product(z, A, a, height, W, w + k * panel, end - k, panel)
                if end == n:
                    z = maximum(z, floor)
                store(z, A, out, panel)
                if end == n and (f == LOGISTIC or f == TANH or f == EXP):
                    activate(f, A, out, vecs * lanes(A))

    return jit.kernel(TYPES, f"forward_{vecs}")(forward)


@kernel
def forward_dots(layout, i, first, last, height, P, Q, A):
    """A_i = f(A_{i-1} W_i + b_i) for rows first..last of a layer of few units: each a dot product along the inputs."""
    n, f, panel, width = cell(layout, i - 1, UNITS), cell(layout, i, ACTIVATION), VECS * lanes(A), lanes(A)
    floor = number(A, 0 if f == RELU else -np.inf)
    W, w, w_height = weights_backward(layout, i, P, Q, width)
    for r in range(first, last, ROWS):
        for j in range(cell(layout, i, UNITS)):
            sum_ = zeros(A, ROWS, 1)
            for k in range(0, n, width):
                a = load(A, at(cell(layout, i - 1, VALUES), height, r, k, panel), panel, ROWS, 1)
                sum_ = multiply_add(a, load(W, at(w, w_height, j, k, panel), 0, ROWS, 1), sum_)
            z = maximum(row_totals(sum_) + P[cell(layout, i, BIASES) + j], floor)
            store_column(activated(f, z), A, at(cell(layout, i, VALUES), height, r, j, panel), panel)


@kernel
def transpose(layout, i, c, columns, k_first, k_last, P, room):
    """The rows k_first..k_last of W_i', so many columns from c, to `room`: as one panel, 0 beyond the matrix."""
    panel, width, height = VECS * lanes(P), lanes(P), padded(cell(layout, i - 1, UNITS), ROWS)
    for k in range(k_first, k_last, width):
        for row in range(0, columns, ROWS):
            if c + row < height:
                tile = load(P, at(cell(layout, i, WEIGHTS), height, c + row, k, panel), panel, ROWS, 1)
            else:
                tile = zeros(P, ROWS, 1)
            store_transposed(tile, room, (k - k_first) * panel + row, panel)


def _backward(vecs):
    def backward(layout, i, c, first, last, height, P, Q, A, D, room):
        """delta_{i-1} = delta_i W_i' * f'(A_{i-1}) for rows first..last and the tile's columns from c."""
        n, f, panel, one = cell(layout, i, UNITS), cell(layout, i - 1, ACTIVATION), VECS * lanes(A), number(A, 1)
        W, w, w_height = weights_backward(layout, i, P, Q, lanes(A))
        w = at(w, w_height, 0, c, panel)
        for k in range(0, n, CHUNK):
            if cell(layout, i, COPY) < 0:
                transpose(layout, i, c, vecs * lanes(A), k, min(k + CHUNK, n), P, room)
                W, w = room, -k * panel
            for r in range(first, last, ROWS):
                out = at(cell(layout, i - 1, DELTAS), height, r, c, panel)
                if k == 0:
                    delta = zeros(D, ROWS, vecs)
                else:
                    delta = load(D, out, panel, ROWS, vecs)
                d = at(cell(layout, i, DELTAS), height, r, k, panel)
                delta = product(delta, D, d, height, W, w + k * panel, min(CHUNK, n - k), panel)
                if k + CHUNK >= n:
                    a = load(A, at(cell(layout, i - 1, VALUES), height, r, c, panel), panel, ROWS, vecs)
                    if f == RELU:
                        delta = where_nonzero(a, delta)
                    elif f == LOGISTIC:
                        delta = delta * a * (one - a)
                    elif f == TANH:
                        delta = delta * (one - a * a)
                store(delta, D, out, panel)

    return jit.kernel(TYPES, f"backward_{vecs}")(backward)


_forward_wide, _forward_narrow = _forward(VECS), _forward(1)
_backward_wide, _backward_narrow = _backward(VECS), _backward(1)


@kernel
def forward_panels(layout, i, c_first, c_last, first, last, height, P, Q, A):
    """A_i before the softmax, for rows first..last and the panels from column c_first to c_last."""
    n, width = cell(layout, i, UNITS), lanes(A)
    if n <= FEW and cell(layout, i, COPY) >= 0:
        forward_dots(layout, i, first, last, height, P, Q, A)
        return
    for r in range(first, last, BLOCK):
        end = min(r + BLOCK, last)
        for c in range(c_first, c_last, VECS * width):
            if n - c > (VECS - 1) * width:
                _forward_wide(layout, i, c, r, end, height, P, Q, A)
            else:
                for v in range(c, n, width):
                    _forward_narrow(layout, i, v, r, end, height, P, Q, A)


@kernel
def backward_panels(layout, i, c_first, c_last, first, last, height, P, Q, A, D, room):
    """delta_{i-1} for rows first..last and the panels from column c_first to c_last."""
    n, width = cell(layout, i - 1, UNITS), lanes(A)
    for r in range(first, last, BLOCK):
        end = min(r + BLOCK, last)
        for c in range(c_first, c_last, VECS * width):
            if n - c > (VECS - 1) * width:
                _backward_wide(layout, i, c, r, end, height, P, Q, A, D, room)
            else:
                for v in range(c, n, width):
                    _backward_narrow(layout, i, v, r, end, height, P, Q, A, D, room)


@kernel
def forward_rows(layout, layers, X, x, order, ordered, start, count, first, height, P, Q, A):
    """A_0 .. A_L for `count` rows of X, those that `gather` takes, in rows of A from `first`."""
    gather(layout, X, x, order, ordered, start, count, first, height, A)
    last = first + padded(count, ROWS)
    for i in range(1, layers + 1):
        forward_panels(layout, i, 0, cell(layout, i, UNITS), first, last, height, P, Q, A)
    if cell(layout, layers, ACTIVATION) == SOFTMAX:
        softmax(layout, layers, first, last, height, A)


@kernel
def softmax(layout, layers, first, last, height, A):
    """A_L = e^(Z - max Z) / sum of e^(Z - max Z), row by row, for rows first..last."""
    n, panel, width = cell(layout, layers, UNITS), VECS * lanes(A), lanes(A)
    for r in range(first, last, ROWS):
        z = at(cell(layout, layers, VALUES), height, r, 0, panel)
        if n <= FEW:
            highest, sums = load_column(A, z, panel), column(A, 0)
            for j in range(1, n):
                highest = maximum(highest, load_column(A, z + j, panel))
            for j in range(n):
                e = exp(load_column(A, z + j, panel) - highest)
                store_column(e, A, z + j, panel)
                sums = sums + e
            for j in range(n):
                store_column(load_column(A, z + j, panel) / sums, A, z + j, panel)
        else:
            top, sum_ = load(A, z, panel, ROWS, 1), zeros(A, ROWS, 1)
            for c in range(width, n, width):
                top = maximum(top, load(A, at(z, height, 0, c, panel), panel, ROWS, 1))
            top = row_max(top)
            for c in range(0, n, width):
                o = at(z, height, 0, c, panel)
                e = exp(load(A, o, panel, ROWS, 1) - top)
                store(e, A, o, panel)
                sum_ = sum_ + e
            sum_ = row_sum(sum_)
            for c in range(0, n, width):
                o = at(z, height, 0, c, panel)
                store(load(A, o, panel, ROWS, 1) / sum_, A, o, panel)


@inlined
def log_clipped(p, eps, one):
    """ln of a probability as the loss takes it: in [eps, 1 - eps], but NaN stays."""
    return log(minimum(maximum(p, eps), one - eps))


@inlined
def loss_of(f, p, y, eps, one):
    """The loss that belongs to output f, number by number, but for softmax.

    scikit-learn's: half the squared error, the binary cross-entropy, half the Poisson deviance.
    """
    if f == IDENTITY:
        loss = (p - y) * (p - y) * (one / (one + one))
    elif f == LOGISTIC:
        loss = (y - one) * log_clipped(one - p, eps, one) - y * log_clipped(p, eps, one)
    else:
        loss = where_nonzero(y, y * log(y / p)) - y + p
    return loss


@kernel
def deltas_of_few(layout, layers, Y, weights, weight_stride, order, start, batch, tile, height, A, D, losses):
    """`output_deltas` for a tile of rows of a layer of few units, unit by unit."""
    panel, one, eps = VECS * lanes(A), number(A, 1), number(A, precision(A))
    n, f, rows = cell(layout, layers, UNITS), cell(layout, layers, ACTIVATION), batch - tile
    a = at(cell(layout, layers, VALUES), height, tile, 0, panel)
    d = at(cell(layout, layers, DELTAS), height, tile, 0, panel)
    row_weights, loss, chosen = pick(weights, weight_stride, 0, order, start, rows), column(A, 0), column(A, 0)
    for j in range(n):
        p = load_column(A, a + j, panel)
        if f == SOFTMAX:
            y = one - where_nonzero(pick(Y, 1, 0, order, start, rows) - number(A, j), column(A, 1))
            chosen = chosen + p * y
        else:
            y = pick(Y, n, j, order, start, rows)
            loss = loss + loss_of(f, p, y, eps, one)
        store_column((p - y) * row_weights, D, d + j, panel)
    if f == SOFTMAX:
        loss = loss - log_clipped(chosen, eps, one)
    losses[tile] = total(loss * row_weights)


@kernel
def output_deltas(layout, layers, Y, weights, weight_stride, order, start, batch, first, last, height, A, D, losses):
    """delta_L = (A_L - Y) * weight for rows first..last (0 beyond the batch).

    The loss of each tile of rows goes to its first row's place in `losses`: summed over outputs and rows, times the
    rows' weights. That of softmax is -ln of the probability of a row's class.
    """
    panel, width, one, eps = VECS * lanes(A), lanes(A), number(A, 1), precision(A)
    n, f = cell(layout, layers, UNITS), cell(layout, layers, ACTIVATION)
    values, deltas = cell(layout, layers, VALUES), cell(layout, layers, DELTAS)
    for tile in range(first, last, ROWS):
        if n <= FEW and tile < batch:
            deltas_of_few(
                layout, layers, Y, weights, weight_stride, order, start + tile, batch, tile, height, A, D, losses
            )
            continue
        for r in range(tile, tile + ROWS):
            losses[r] = 1 if f == SOFTMAX else 0  # of no loss
            if r >= batch:
                for c in range(0, n, width):
                    store(zeros(D, 1, 1), D, at(deltas, height, r, c, panel), 0)
                continue
            row = order[start + r]
            weight = weights[row * weight_stride]
            if f == SOFTMAX:
                for c in range(0, n, width):
                    o = at(deltas, height, r, c, panel)
                    store(load(A, at(values, height, r, c, panel), 0, 1, 1) * weight, D, o, 0)
                label = np.int64(Y[row])
                D[at(deltas, height, r, label, panel)] -= weight
                losses[r] = A[at(values, height, r, label, panel)]
            else:
                loss = zeros(D, 1, 1)
                for c in range(0, n, width):
                    p, y = load(A, at(values, height, r, c, panel), 0, 1, 1), load_part(A, Y, row * n + c, n - c)
                    store((p - y) * weight, D, at(deltas, height, r, c, panel), 0)
                    loss = loss + first_of(loss_of(f, p, y, number(A, eps), one), n - c)
                losses[r] = total(loss)
        if f == SOFTMAX:
            minus = number(losses, -1)
            store_column(minus * log_clipped(load_column(losses, tile, 1), eps, 1.0), losses, tile, 1)
        tile_loss = 0.0
        for r in range(tile, min(tile + ROWS, batch)):
            tile_loss += losses[r] * weights[order[start + r] * weight_stride]
        losses[tile] = tile_loss


@kernel
def put_out(layout, layers, start, count, first, height, A, out):
    """out[start + r] = A_L[first + r] for r < count."""
    panel, width, units = VECS * lanes(A), lanes(A), cell(layout, layers, UNITS)
    for r in range(count):
        for c in range(0, units, width):
            a = load(A, at(cell(layout, layers, VALUES), height, first + r, c, panel), 0, 1, 1)
            store_part(a, out, (start + r) * units + c, units - c)


@kernel
def predict_rows(layout, layers, X, x, order, ordered, start, count, first, height, P, Q, A, out):
    """The outputs of `count` rows, computed in rows of A from `first`, to `out`."""
    forward_rows(layout, layers, X, x, order, ordered, start, count, first, height, P, Q, A)
    put_out(layout, layers, start, count, first, height, A, out)


# ---- gradients --------------------------------------------------------------------------------------------------


def _gradient(rows, vecs):
    def gradient(layout, i, c, k_first, k_last, first, last, height, A, D, G, g):
        """A_{i-1}' delta_i over rows first..last of the batch, or delta_i' A_{i-1} where W_i' stands in P.

        For rows k_first..k_last of it and the tile's columns from c; to G, from offset g on.
        """
        panel, transposed = VECS * lanes(A), cell(layout, i, TRANSPOSED)
        in_place, X = cell(layout, i - 1, IN_PLACE), memory(A, cell(layout, i - 1, X_AT))
        places = memory(layout, cell(layout, i - 1, PLACES_AT))
        left, at_left, right, at_right = A, cell(layout, i - 1, VALUES), D, cell(layout, i, DELTAS)
        left_in_place, right_in_place = X, D
        if transposed:
            left, at_left, right, at_right = right, at_right, left, at_left
            left_in_place, right_in_place = D, X
        for row in range(first, max(last, first + 1), CHUNK):
            b, end = at(at_right, height, row, c, panel), min(CHUNK, last - row) * panel
            for k in range(k_first, k_last, rows):
                a, out = at(at_left, height, row, k, panel), g + (k - k_first) * panel
                if row == first:
                    sum_ = zeros(A, rows, vecs)
                else:
                    sum_ = load(G, out, panel, rows, vecs)
                if (c if transposed else k) >= in_place:
                    for r in range(0, end, panel):
                        sum_ = outer(sum_, left, a + r, 1, right, b + r)
                else:
                    for r in range(0, end, panel):
                        place = places[row + r // panel]
                        in_left, in_right = place + k, b + r
                        if transposed:
                            in_left, in_right = a + r, place + c
                        sum_ = outer(sum_, left_in_place, in_left, 1, right_in_place, in_right)
                store(sum_, G, out, panel)

    return jit.kernel(TYPES, f"gradient_{rows}_{vecs}")(gradient)


_gradient_wide, _gradient_narrow = _gradient(ROWS, VECS), _gradient(ROWS, 1)
_gradient_wide_low, _gradient_narrow_low = _gradient(ROWS // 2, VECS), _gradient(ROWS // 2, 1)


@kernel
def gradient_item(layout, item, first, last, batch, height, A, D, G, g):
    """The gradient of a work item over the rows of the batch in first..last; to G, from offset g on."""
    i, c, k, k_last, panel, width = item[LAYER], item[COLUMN], item[FIRST], item[LAST], VECS * lanes(A), lanes(A)
    n = cell(layout, i - 1 if cell(layout, i, TRANSPOSED) else i, UNITS)
    if k == k_last:  # biases: delta is 0 in the rows that fill the last tile
        for v in range(0, min(panel, cell(layout, i, UNITS) - c), width):
            sums, d = zeros(D, ROWS, 1), at(cell(layout, i, DELTAS), height, 0, c, panel) + v
            for r in range(first, last, ROWS):
                sums = sums + load(D, d + r * panel, panel, ROWS, 1)
            store(column_sum(sums), G, g + v, 0)
    else:
        end = min(last, batch)
        rest = (k_last - k) % ROWS
        k_low = k_last - rest if 0 < rest <= ROWS // 2 else k_last  # the last rows may be half a tile
        g_low = g + (k_low - k) * panel
        if n - c > (VECS - 1) * width:
            _gradient_wide(layout, i, c, k, k_low, first, end, height, A, D, G, g)
            if k_low < k_last:
                _gradient_wide_low(layout, i, c, k_low, k_last, first, end, height, A, D, G, g_low)
        else:
            for v in range(0, n - c, width):
                _gradient_narrow(layout, i, c + v, k, k_low, first, end, height, A, D, G, g + v)
                if k_low < k_last:
                    _gradient_narrow_low(layout, i, c + v, k_low, k_last, first, end, height, A, D, G, g_low + v)


# ---- steps ------------------------------------------------------------------------------------------------------


@inlined
def step_vector(o, g, kind, rate, decay_1, rest_1, decay_2, rest_2, epsilon, P, M, V):
    """One step of a vector of parameters at offset o with their gradient g, by scikit-learn's rules.

    SGD       w -= rate g
    momentum  v  = momentum v - rate g,  w += v;  Nesterov: w += momentum v - rate g, with the new v
    Adam      m  = beta_1 m + (1 - beta_1) g,  v = beta_2 v + (1 - beta_2) g^2,  w -= rate m / (sqrt(v) + epsilon)
    """
    if kind == STORE:
        store(g, M, o, 0)
    elif kind == ADAM:
        m = decay_1 * load(M, o, 0, 1, 1) + rest_1 * g
        v = decay_2 * load(V, o, 0, 1, 1) + rest_2 * (g * g)
        store(m, M, o, 0)
        store(v, V, o, 0)
        store(load(P, o, 0, 1, 1) - rate * m / (sqrt(v) + epsilon), P, o, 0)
    elif kind == SGD:
        store(load(P, o, 0, 1, 1) - rate * g, P, o, 0)
    else:
        v = decay_1 * load(M, o, 0, 1, 1) - rate * g
        store(v, M, o, 0)
        if kind == NESTEROV:
            v = decay_1 * v - rate * g
        store(load(P, o, 0, 1, 1) + v, P, o, 0)


@kernel
def step_item(layout, item, kind, step, P, Q, M, V, G, g, groups, size, squares):
    """The step of a work item with the sum of the groups' gradients, in G from g on, `size` apart.

    dW = (sum of gradients + alpha W) * scale, db = (sum of gradients) * scale. squares[0] becomes the sum of the
    squares of the old weights.
    """
    i, c, k_first, k_last = item[LAYER], item[COLUMN], item[FIRST], item[LAST]
    panel, width = VECS * lanes(P), lanes(P)
    scale, rate = number(P, step[SCALE]), number(P, step[RATE])
    alpha, epsilon = number(P, step[ALPHA]), number(P, step[EPSILON])
    decay_1, rest_1 = number(P, step[DECAY_1]), number(P, 1 - step[DECAY_1])
    decay_2, rest_2 = number(P, step[DECAY_2]), number(P, 1 - step[DECAY_2])
    square_sum = zeros(P, 1, 1)
    n, m = cell(layout, i - 1, UNITS), cell(layout, i, UNITS)  # of W_i, or of W_i' if that stands in P
    if cell(layout, i, TRANSPOSED):
        n, m = m, n
    if k_first == k_last:
        alpha, k_last, m, o = number(P, 0), 1, cell(layout, i, UNITS), cell(layout, i, BIASES) + c
    else:
        o = at(cell(layout, i, WEIGHTS), padded(n, ROWS), k_first, c, panel)
    columns = min(panel, padded(m - c, width))
    for r in range(0, (k_last - k_first) * panel, panel):
        for v in range(r, r + columns, width):
            w = load(P, o + v, 0, 1, 1)
            if alpha != 0:
                square_sum = square_sum + w * w
            if kind != NOTHING:
                gradient = load(G, g + v, 0, 1, 1)
                for group in range(1, groups):
                    gradient = gradient + load(G, g + v + group * size, 0, 1, 1)
                gradient = (gradient + alpha * w) * scale
                step_vector(o + v, gradient, kind, rate, decay_1, rest_1, decay_2, rest_2, epsilon, P, M, V)
    if item[FIRST] != item[LAST] and kind > STORE and cell(layout, i, COPY) >= 0:
        for k in range(k_first, k_last, ROWS):
            for v in range(0, columns, width):
                copy = at(cell(layout, i, COPY), padded(m, width), c + v, k, panel)
                store_transposed(load(P, o + (k - k_first) * panel + v, panel, ROWS, 1), Q, copy, panel)
    squares[0] = total(square_sum)


# ---- the two passes ---------------------------------------------------------------------------------------------


@kernel
def train_rows(
    layout, layers, items, item_count, X, x, Y, weights, weight_stride, order, start, batch, first, last, height, kind,
    P, Q, A, D, losses, G, grouped, room,
):  # fmt: skip
    """The pass over rows first..last of a batch: losses and deltas, and the gradients if these rows are a group."""
    count = min(last, batch) - first
    forward_rows(layout, layers, X, x, order, True, start + first, count, first, height, P, Q, A)
    output_deltas(layout, layers, Y, weights, weight_stride, order, start, batch, first, last, height, A, D, losses)
    if kind != NOTHING:
        for i in range(layers, 1, -1):
            backward_panels(layout, i, 0, cell(layout, i - 1, UNITS), first, last, height, P, Q, A, D, room)
        if grouped:
            for j in range(item_count):
                item = skip(items, j * ITEM)
                gradient_item(layout, item, first, last, batch, height, A, D, G, offset_of(layout, item, A))


@kernel
def train_weights(
    layout, items, first, last, batch, height, kind, step, P, Q, M, V, A, D, squares, G, groups, size, room, X, x,
    order, next_, count,
):  # fmt: skip
    """The pass over the weights: work items first..last.

    With the gradients of the groups, or with that of the whole batch, an item at a time. Meanwhile the rows
    order[next_:next_ + count] of X are fetched, which this thread will gather next.
    """
    for j in range(first, last):
        item, g, done, all_ = skip(items, j * ITEM), 0, j - first, last - first
        fetch_rows(
            X, x, order, next_ + count * done // all_, next_ + count * (done + 1) // all_, cell(layout, 0, UNITS)
        )
        if groups > 1:
            g = offset_of(layout, item, P)
        elif kind != NOTHING:
            gradient_item(layout, item, 0, padded(batch, ROWS), batch, height, A, D, room, 0)
        step_item(
            layout, item, kind, step, P, Q, M, V, G if groups > 1 else room, g, groups, size,
            skip(squares, item[PLACE]),
        )  # fmt: skip


@inlined
def offset_of(layout, item, P):
    """Where the parameters of a work item start in P."""
    i, c, panel = item[LAYER], item[COLUMN], VECS * lanes(P)
    if item[FIRST] == item[LAST]:
        return cell(layout, i, BIASES) + c
    n = cell(layout, i if cell(layout, i, TRANSPOSED) else i - 1, UNITS)
    return at(cell(layout, i, WEIGHTS), padded(n, ROWS), item[FIRST], c, panel)


@inlined
def columns_of(p, threads, n, panel):
    """Where thread p's share of n columns starts and ends: whole panels."""
    panels = padded(n, panel) // panel
    return panels * p // threads * panel, min(n, panels * (p + 1) // threads * panel)


@inlined
def room_of(p, panel, G):
    """Thread p's room: they stand one after the other, before the gradients of the groups."""
    return skip(G, p * CHUNK * panel)


@kernel
def piece(job, which, i, p, start, batch, X, P):
    """Piece p of a pass over the batch from row `start` of the order on; i is the layer, if it is one.

    Threads share rows by whole tiles, and weights as `shares` says.
    """
    step = memory_of_float64(job[STEP_AT])
    layout, items, shares = memory(job, job[LAYOUT_AT]), memory(job, job[ITEMS_AT]), memory(job, job[SHARES_AT])
    x, order, layers = memory(job, job[STRIDES_AT]), memory(job, job[ORDER_AT]), job[LAYERS]
    Q, A, D, losses = memory(P, job[Q_AT]), memory(P, job[A_AT]), memory(P, job[D_AT]), memory(step, job[LOSSES_AT])
    height, threads, kind, groups, size = job[HEIGHT], job[THREADS], job[KIND], job[GROUPS], job[SIZE]
    tiles, panel = padded(batch, ROWS) // ROWS, VECS * lanes(P)
    room, G = room_of(p, panel, memory(P, job[G_AT])), room_of(threads, panel, memory(P, job[G_AT]))
    first, last = tiles * p // threads * ROWS, tiles * (p + 1) // threads * ROWS
    if which == ROWS_PASS:
        pieces = groups if groups > 1 else threads
        for g in range(pieces * p // threads, pieces * (p + 1) // threads):
            train_rows(
                layout, layers, items, job[ITEM_COUNT], X, x, memory(P, job[Y_AT]), memory(P, job[WEIGHTS_AT]),
                job[WEIGHT_STRIDE], order, start, batch, tiles * g // pieces * ROWS,
                tiles * (g + 1) // pieces * ROWS, height, kind, P, Q, A, D, losses, skip(G, g * size),
                groups > 1, room,
            )  # fmt: skip
    elif which == GATHER_PASS:
        gather(layout, X, x, order, True, start + first, min(last, batch) - first, first, height, A)
    elif which == FORWARD_PASS or which == BACKWARD_PASS:
        n = cell(layout, i if which == FORWARD_PASS else i - 1, UNITS)
        c_first, c_last = 0, n
        if padded(n, panel) // panel >= threads:  # columns instead
            first, last = 0, tiles * ROWS
            c_first, c_last = columns_of(p, threads, n, panel)
        if which == FORWARD_PASS:
            forward_panels(layout, i, c_first, c_last, first, last, height, P, Q, A)
        else:
            backward_panels(layout, i, c_first, c_last, first, last, height, P, Q, A, D, room)
    elif which == OUTPUT_PASS:
        if cell(layout, layers, ACTIVATION) == SOFTMAX:
            softmax(layout, layers, first, last, height, A)
        output_deltas(
            layout, layers, memory(P, job[Y_AT]), memory(P, job[WEIGHTS_AT]), job[WEIGHT_STRIDE], order, start, batch,
            first, last, height, A, D, losses,
        )  # fmt: skip
    elif step[SCALE] != 0:
        next_ = start + batch + first
        train_weights(
            layout, items, shares[p], shares[p + 1], batch, height, kind, step, P, Q, memory(P, job[M_AT]),
            memory(P, job[V_AT]), A, D, skip(losses, height), G, groups, size, room, X, x, order, next_,
            min(last - first, max(0, job[ALL] - next_)),
        )  # fmt: skip


# ---- an epoch ---------------------------------------------------------------------------------------------------


@inlined
def sum_weights(weights, weight_stride, order, first, last):
    """S: the sum of the weights of rows order[first:last]."""
    if weight_stride == 0:
        return np.float64(last - first) * weights[0]
    weight = 0.0
    for r in range(first, last):
        weight += weights[order[r]]
    return weight


@inlined
def weigh_nothing(weights, weight_stride, order, first, last):
    """Whether the weight of each of these rows is 0."""
    if weight_stride == 0:
        return weights[0] == 0
    for r in range(first, last):
        if weights[order[r]] != 0:
            return False
    return True


@kernel
def prepare_step(job, start, batch, P, step):
    """The numbers of the step that follows a batch; a scale of 0 if its rows weigh nothing, and there is none."""
    weights, order = memory(P, job[WEIGHTS_AT]), memory(job, job[ORDER_AT])
    weight = sum_weights(weights, job[WEIGHT_STRIDE], order, start, start + batch)
    step[SCALE], step[RATE] = 1 / weight if weight != 0 else 0.0, step[LEARNING_RATE]
    if job[KIND] == ADAM and weight != 0:
        step[STEPS] += 1
        step[RATE] *= math.sqrt(1 - step[DECAY_2] ** step[STEPS]) / (1 - step[DECAY_1] ** step[STEPS])


@inlined
def close_batch(job, start):
    """After the last pass of a batch: its loss, and its time."""
    step, batch = memory_of_float64(job[STEP_AT]), min(job[BATCH], job[ALL] - start)
    layout, losses = memory(job, job[LAYOUT_AT]), memory_of_float64(job[LOSSES_AT])
    loss, squares, layers = step[BATCH_LOSS], 0.0, job[LAYERS]
    if cell(layout, layers, ACTIVATION) == IDENTITY:
        loss /= cell(layout, layers, UNITS)
    for j in range(job[ITEM_COUNT]):
        squares += losses[job[HEIGHT] + j]
    if step[SCALE] != 0:
        step[LOSS] += (loss + 0.5 * step[ALPHA] * squares) * step[SCALE] * batch
    if job[THREADS] > 1 and batch == job[BATCH]:
        now, helpers = ticks(), atomic_load(job, PRESENT)
        keep_pace(job, memory(job, job[TEAM_AT]), now - job[BEGAN], helpers if helpers == job[HELPERS] else -1, now)
        job[BEGAN], job[HELPERS] = now, helpers


@inlined
def passes_of(job):
    """How many passes a batch is done in."""
    return 2 * job[LAYERS] + 2 if job[BY_LAYERS] else 2


@kernel
def work(job, s, p, X, P):
    """Piece p of pass s. Of a batch: its rows, then its weights; by layers, several passes over its rows.

    Piece 0 is the caller's, who keeps the books while the others cannot need them: what he writes in one pass, they
    read in the next.
    """
    layers, passes = job[LAYERS], passes_of(job)
    k, start = s % passes, job[FIRST_ROW] + s // passes * job[BATCH]
    batch = min(job[BATCH], job[ALL] - start)
    if p == 0 and k == 0:
        if s > 0:
            close_batch(job, start - job[BATCH])
        prepare_step(job, start, batch, P, memory_of_float64(job[STEP_AT]))
    which, i = WEIGHTS_PASS, 0
    if k < passes - 1:
        which = ROWS_PASS
        if job[BY_LAYERS] and k == 0:
            which = GATHER_PASS
        elif job[BY_LAYERS] and k <= layers:
            which, i = FORWARD_PASS, k
        elif job[BY_LAYERS] and k == layers + 1:
            which = OUTPUT_PASS
        elif job[BY_LAYERS]:
            which, i = BACKWARD_PASS, passes - k
    piece(job, which, i, p, start, batch, X, P)
    if p == 0 and k == passes - 1:
        step, losses, loss = memory_of_float64(job[STEP_AT]), memory_of_float64(job[LOSSES_AT]), 0.0
        for tile in range(0, batch, ROWS):
            loss += losses[tile]
        step[BATCH_LOSS] = loss


@kernel
def take_part(job, p, X, P):
    """What thread p does of a job: its piece of each pass, and those that nobody has begun. See `team`."""
    threads, passes, spins = job[THREADS], job[PASSES], 0
    if threads == 1:
        for s in range(passes):
            work(job, s, 0, X, P)
        return
    s = atomic_load(job, DONE) // threads
    while s < passes and (p == 0 or atomic_load(job, LEAVE) == 0):
        if p == 0:
            hire_or_dismiss(job)
        if p == 0 or claim(job, p, s):
            work(job, s, p, X, P)
            atomic_add(job, DONE, 1)
        spins, all_done = 0, threads * (s + 1)
        while atomic_load(job, DONE) < all_done and (p == 0 or atomic_load(job, LEAVE) == 0):
            if spins >= PATIENCE or atomic_load(job, PRESENT) == 0:
                for q in range(1, threads):
                    if claim(job, q, s):
                        work(job, s, q, X, P)
                        atomic_add(job, DONE, 1)
            wait(spins)
            spins += 1
        s = max(s + 1, atomic_load(job, DONE) // threads)


@kernel
def train_batches(job, p, X, P):
    """What thread p does of an epoch."""
    denormals = flush_denormals()
    take_part(job, p, X, P)
    restore_denormals(denormals)


train_batches_at = train_batches.address


# ---- predictions ------------------------------------------------------------------------------------------------


@kernel
def find_not_finite(X, x, start, count, n, job):
    """job[NOT_FINITE] = 1 if one of the n columns of the rows start..start + count of X holds NaN or infinity.

    Only of these v - v is not 0. What stands side by side in memory is read side by side, rows or columns.
    """
    outer_count, outer_stride, inner_count, inner_stride = count, x[1], n, x[2]
    if abs(outer_stride) < abs(inner_stride):
        outer_count, outer_stride, inner_count, inner_stride = inner_count, inner_stride, outer_count, outer_stride
    wide, vector, few = zeros(X, 1, VECS), zeros(X, 1, 1), number(X, 0)
    for i in range(outer_count):
        o = x[0] + start * x[1] + i * outer_stride
        end = o + inner_count * inner_stride
        if inner_stride == 1:
            while end - o >= VECS * lanes(X):
                v = load(X, o, 0, 1, VECS)
                wide = wide + (v - v)
                o += VECS * lanes(X)
            while o < end:
                v = load_part(X, X, o, end - o)
                vector = vector + (v - v)
                o += lanes(X)
        else:
            for k in range(inner_count):
                v = X[o + k * inner_stride]
                few += v - v
    if not total(wide) + total(vector) + few == 0:
        job[NOT_FINITE] = 1


@kernel
def predict_blocks(job, p, X, P):
    """What thread p does: one block of rows after the other that nobody has taken, in its own part of A."""
    layout, x, order = memory(job, job[LAYOUT_AT]), memory(job, job[STRIDES_AT]), memory(job, job[ORDER_AT])
    Q, out, threads, height, n = memory(P, job[Q_AT]), memory(P, job[OUT_AT]), job[THREADS], job[HEIGHT], job[ALL]
    block = height // threads
    start = atomic_add(job, DONE, block) - block
    while start < n:
        if job[CHECKED] > 0:
            find_not_finite(X, x, start, min(block, n - start), cell(layout, 0, UNITS), job)
        predict_rows(
            layout, job[LAYERS], X, x, order, job[ORDERED], start, min(block, n - start), p * block, height, P, Q,
            memory(P, job[A_AT]), out,
        )  # fmt: skip
        start = atomic_add(job, DONE, block) - block


predict_blocks_at = predict_blocks.address


# ---- what Python calls ------------------------------------------------------------------------------------------


@jit.entry(TYPES)
def epoch(job, X, x, Y, weights, rows, order, first, until, batch_size, kind, step, P, Q, M, V):
    """Train on the rows of X that `order` names, a batch after the other. Returns the epoch's loss.

    The job is one that `workspace_to_train` has made: the rest of what it tells comes here.

    The loss is scikit-learn's: (sum over batches of (batch loss + alpha / 2 * sum of W^2 / S) * rows of the batch) / n,
    S the sum of the weights of the batch's rows and n all rows. A batch whose rows weigh nothing is left out. An epoch
    may be done in several calls, of rows order[first:until] and so of whole batches, the first of which looks whether
    all that `order` names is there.
    """
    n, weight_stride = len(order), min(1, len(weights) - 1)
    if first == 0:
        lowest, highest = order[0], order[0]
        for row in order:
            lowest, highest = min(lowest, row), max(highest, row)
        if not 0 <= lowest <= highest < rows:
            raise IndexError("order names a row that the data does not have.")
        step[LOSS], step[COUNTED] = 0, 0
        for start in range(0, n, batch_size):
            last = min(n, start + batch_size)
            if weigh_nothing(weights, weight_stride, order, start, last):
                continue
            if sum_weights(weights, weight_stride, order, start, last) == 0:
                raise ZeroDivisionError("Weights sum to zero, can't be normalized")
            step[COUNTED] += last - start
        if step[COUNTED] == 0:
            raise ZeroDivisionError("Weights sum to zero, can't be normalized")
    job[STRIDES_AT], job[Y_AT], job[WEIGHTS_AT] = address(x), address(Y), address(weights)
    job[ORDER_AT], job[Q_AT], job[M_AT], job[V_AT] = address(order), address(Q), address(M), address(V)
    job[X_GIVEN], job[P_GIVEN], job[STEP_AT] = address(X), address(P), address(step)
    job[WEIGHT_STRIDE], job[BATCH], job[ALL], job[KIND], job[SIZE] = weight_stride, batch_size, n, kind, len(P)
    passes = passes_of(pointer(job))
    job[FIRST_ROW], job[PASSES] = first, (until - first + batch_size - 1) // batch_size * passes
    memory(pointer(job), job[LAYOUT_AT])[X_AT] = address(X)
    job[WORK_AT] = train_batches_at(pointer(job), 0, pointer(X), pointer(P))
    job[BEGAN], job[HELPERS] = ticks(), -1
    if job[THREADS] > 1:
        begin(pointer(job))
    train_batches(pointer(job), 0, pointer(X), pointer(P))
    close_batch(pointer(job), first + (job[PASSES] // passes - 1) * batch_size)
    if job[THREADS] > 1:  # to wait for helpers that do nothing any more is lost time, too
        began = ticks()
        end(pointer(job))
        lose(pointer(job), memory(pointer(job), job[TEAM_AT]), ticks() - began, 0, ticks())
    return step[LOSS] / step[COUNTED]


@jit.entry(TYPES)
def predict(job, X, x, order, n, P, Q, out):
    """out[r] = A_L of row order[r] of X, or of row r. The job is one that `workspace_to_predict` has made."""
    job[STRIDES_AT], job[ORDER_AT], job[Q_AT], job[OUT_AT] = address(x), address(order), address(Q), address(out)
    job[ORDERED], job[ALL], job[NOT_FINITE], job[DONE] = len(order), n, 0, 0
    job[X_GIVEN], job[P_GIVEN] = address(X), address(P)
    memory(pointer(job), job[LAYOUT_AT])[X_AT] = address(X)
    if job[THREADS] > 1:
        job[WORK_AT] = predict_blocks_at(pointer(job), 0, pointer(X), pointer(P))
        begin(pointer(job))
        hire(pointer(job))
    predict_blocks(pointer(job), 0, pointer(X), pointer(P))
    if job[THREADS] > 1:
        end(pointer(job))
