"""Every compiled loop: forward, deltas, update, loss; a whole epoch; prediction.

Layer i of a network computes A_i = f(A_{i-1} W_i + b_i) from A_0 = X. One batch of training is two passes:

    rows     each block of rows goes forward through all layers and back through all deltas,
                 delta_L     = (A_L - Y) * weight of the row
                 delta_{i-1} = delta_i W_i' * f'(A_{i-1})
    weights  each tile of each W_i sums A_{i-1}' delta_i over the batch in registers and takes its step there

Rows do not depend on each other, nor do tiles; every delta is made from the weights before the step, which no thread
touches until all rows are done. Each number has one owner and one order of summation, so the results have the same
bits for any number of threads, and no gradient is stored.

A matrix is stored as panels: as many columns as a tile is wide, row after row; `at` is the whole rule. Heights are
padded to whole tiles and widths to whole panels with numbers that change nothing (0, or a bias of -1e30 where f(0) is
not 0), so that no loop has a mask or a remainder. `layout` is a table with a line for each layer, its columns below.

Memory, passed on as pointers (T is float32 or float64)
    P            T, weights and biases of all layers, as panels         Q     T, W_i' of layers 2..L, as panels
    M, V         T, like P: velocity or first moments, second moments   A, D  T, activations and deltas of a batch
    X            float32 or float64, a flat view of the user's matrix; `x` holds its start and strides, in elements
    Y            T, targets, row by row; for softmax the number of the class of each row
    weights      T, a weight for each row, or one for all
    order        int64, the rows of X in the order they are used
"""

import math

import numpy as np
from numba import prange

from fastmlp._jit import entry, inlined, inner
from fastmlp._tile import (
    ROWS,
    VECS,
    exp,
    lanes,
    largest,
    load,
    load_part,
    logistic,
    maximum,
    number,
    outer,
    pointer,
    sqrt,
    store,
    store_part,
    store_transposed,
    tanh,
    total,
    where_nonzero,
    zeros,
)

# columns of the layout: units of layer i, where A_i starts in A, delta_i in D, W_i and b_i in P, W_i' in Q, and f
UNITS, VALUES, DELTAS, WEIGHTS, BIASES, TRANSPOSED, ACTIVATION, COLUMNS = range(8)
IDENTITY, LOGISTIC, TANH, RELU, SOFTMAX, EXP = range(6)
# what the pass over the weights does with a gradient
NOTHING, STORE, SGD, MOMENTUM, NESTEROV, ADAM = range(6)
# columns of the work items of that pass: layer, first column of a panel, first and last row
LAYER, COLUMN, FIRST, LAST = range(4)
# columns of `step`
LEARNING_RATE, ALPHA, DECAY_1, DECAY_2, EPSILON, STEPS = range(6)


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


@inner
def gather(layout, X, x, order, ordered, start, count, first, height, A):
    """A_0[first + r] = X[order[start + r]], or X[start + r], for r < count; 0 in what is left of the last tile."""
    n, panel, width = cell(layout, 0, UNITS), VECS * lanes(A), lanes(A)
    for r in range(padded(count, ROWS)):
        to = at(cell(layout, 0, VALUES), height, first + r, 0, panel)
        row = start + r
        if r < count and ordered:
            row = order[row]
        source, units = x[0] + row * x[1], n if r < count else 0
        for c in range(0, n, width):
            if x[2] == 1 or units == 0:
                store(load_part(A, X, source + c, units - c), A, at(to, height, 0, c, panel), 0)
            else:
                for k in range(c, min(n, c + width)):
                    A[at(to, height, 0, k, panel)] = X[source + k * x[2]]


def _forward(vecs):
    @inner
    def forward(layout, i, c, first, last, height, P, A):
        """A_i = f(A_{i-1} W_i + b_i) for rows first..last and the tile's columns from c; softmax comes after."""
        n, f, panel = cell(layout, i - 1, UNITS), cell(layout, i, ACTIVATION), VECS * lanes(A)
        floor = number(A, 0 if f == RELU else -np.inf)
        w = at(cell(layout, i, WEIGHTS), padded(n, ROWS), 0, c, panel)
        for r in range(first, last, ROWS):
            z = load(P, cell(layout, i, BIASES) + c, 0, ROWS, vecs)
            z = product(z, A, at(cell(layout, i - 1, VALUES), height, r, 0, panel), height, P, w, n, panel)
            out = at(cell(layout, i, VALUES), height, r, c, panel)
            store(maximum(z, floor), A, out, panel)
            if f == LOGISTIC or f == TANH or f == EXP:
                for o in range(out, out + ROWS * panel, panel):
                    for v in range(o, o + vecs * lanes(A), lanes(A)):
                        a = load(A, v, 0, 1, 1)
                        if f == LOGISTIC:
                            a = logistic(a)
                        elif f == TANH:
                            a = tanh(a)
                        else:
                            a = exp(a)
                        store(a, A, v, 0)

    return forward


def _backward(vecs):
    @inner
    def backward(layout, i, c, first, last, height, Q, A, D):
        """delta_{i-1} = delta_i W_i' * f'(A_{i-1}) for rows first..last and the tile's columns from c."""
        n, f, panel, one = cell(layout, i, UNITS), cell(layout, i - 1, ACTIVATION), VECS * lanes(A), number(A, 1)
        w = at(cell(layout, i, TRANSPOSED), padded(n, lanes(A)), 0, c, panel)
        for r in range(first, last, ROWS):
            delta = zeros(D, ROWS, vecs)
            delta = product(delta, D, at(cell(layout, i, DELTAS), height, r, 0, panel), height, Q, w, n, panel)
            a = load(A, at(cell(layout, i - 1, VALUES), height, r, c, panel), panel, ROWS, vecs)
            if f == RELU:
                delta = where_nonzero(a, delta)
            elif f == LOGISTIC:
                delta = delta * a * (one - a)
            elif f == TANH:
                delta = delta * (one - a * a)
            store(delta, D, at(cell(layout, i - 1, DELTAS), height, r, c, panel), panel)

    return backward


_forward_wide, _forward_narrow = _forward(VECS), _forward(1)
_backward_wide, _backward_narrow = _backward(VECS), _backward(1)


@inner
def forward_layers(layout, layers, first, last, height, P, A):
    """A_1 .. A_L for rows first..last."""
    width = lanes(A)
    for i in range(1, layers + 1):
        n = cell(layout, i, UNITS)
        for c in range(0, n, VECS * width):
            if n - c > (VECS - 1) * width:
                _forward_wide(layout, i, c, first, last, height, P, A)
            else:
                for v in range(c, n, width):
                    _forward_narrow(layout, i, v, first, last, height, P, A)
    if cell(layout, layers, ACTIVATION) == SOFTMAX:
        softmax(layout, layers, first, last, height, A)


@inner
def backward_layers(layout, layers, first, last, height, Q, A, D):
    """delta_{L-1} .. delta_1 for rows first..last."""
    width = lanes(A)
    for i in range(layers, 1, -1):
        n = cell(layout, i - 1, UNITS)
        for c in range(0, n, VECS * width):
            if n - c > (VECS - 1) * width:
                _backward_wide(layout, i, c, first, last, height, Q, A, D)
            else:
                for v in range(c, n, width):
                    _backward_narrow(layout, i, v, first, last, height, Q, A, D)


@inner
def softmax(layout, layers, first, last, height, A):
    """A_L = e^(Z - max Z) / sum of e^(Z - max Z), row by row."""
    panel, width = VECS * lanes(A), lanes(A)
    n = cell(layout, layers, UNITS)
    for r in range(first, last):
        row = at(cell(layout, layers, VALUES), height, r, 0, panel)
        top, sum_ = number(A, -np.inf), number(A, 0)
        for c in range(0, n, width):
            top = max(top, largest(load(A, at(row, height, 0, c, panel), 0, 1, 1)))
        for c in range(0, n, width):
            o = at(row, height, 0, c, panel)
            e = exp(load(A, o, 0, 1, 1) - top)
            store(e, A, o, 0)
            sum_ += total(e)
        for c in range(0, n, width):
            o = at(row, height, 0, c, panel)
            store(load(A, o, 0, 1, 1) / sum_, A, o, 0)


@inner
def output_deltas(layout, layers, Y, weights, weight_stride, order, start, batch, first, last, height, eps, A, D, losses):
    """delta_L = (A_L - Y) * weight for rows first..last (0 beyond the batch); each tile's loss goes to `losses`.

    The losses are scikit-learn's: half the squared error, the Poisson deviance by halves, the cross-entropy of
    probabilities clipped to [eps, 1 - eps]; summed over outputs and rows, times the rows' weights.
    """
    panel, width = VECS * lanes(A), lanes(A)
    n, f = cell(layout, layers, UNITS), cell(layout, layers, ACTIVATION)
    values, deltas = cell(layout, layers, VALUES), cell(layout, layers, DELTAS)
    for tile in range(first, last, ROWS):
        tile_loss = 0.0
        for r in range(tile, tile + ROWS):
            if r >= batch:
                for c in range(0, n, width):
                    store(zeros(D, 1, 1), D, at(deltas, height, r, c, panel), 0)
                continue
            row, loss = order[start + r], 0.0
            weight = weights[row * weight_stride]
            if f == SOFTMAX:
                for c in range(0, n, width):
                    o = at(deltas, height, r, c, panel)
                    store(load(A, at(values, height, r, c, panel), 0, 1, 1) * weight, D, o, 0)
                label = np.int64(Y[row])
                p = A[at(values, height, r, label, panel)]
                D[at(deltas, height, r, label, panel)] -= weight
                loss = -math.log(min(max(np.float64(p), eps), 1 - eps))
            else:
                for c in range(0, n, width):
                    a = load(A, at(values, height, r, c, panel), 0, 1, 1)
                    delta = a - load_part(A, Y, row * n + c, n - c)
                    store(delta * weight, D, at(deltas, height, r, c, panel), 0)
                for c in range(n):
                    p, y = np.float64(A[at(values, height, r, c, panel)]), np.float64(Y[row * n + c])
                    if f == IDENTITY:
                        loss += (y - p) * (y - p) * 0.5
                    elif f == LOGISTIC:
                        p = min(max(p, eps), 1 - eps)
                        loss -= (y * math.log(p) if y != 0 else 0.0) + ((1 - y) * math.log(1 - p) if y != 1 else 0.0)
                    else:
                        loss += (y * math.log(y / p) if y != 0 else 0.0) - y + p
            tile_loss += loss * weight
        losses[tile // ROWS] = tile_loss


@inner
def train_rows(
    layout, layers, X, x, Y, weights, weight_stride, order, start, batch, first, last, height, kind, eps, P, Q, A, D, losses
):
    """The pass over rows first..last of a batch."""
    gather(layout, X, x, order, True, start + first, min(last, batch) - first, first, height, A)
    forward_layers(layout, layers, first, last, height, P, A)
    output_deltas(layout, layers, Y, weights, weight_stride, order, start, batch, first, last, height, eps, A, D, losses)
    if kind != NOTHING:
        backward_layers(layout, layers, first, last, height, Q, A, D)


@inner
def predict_rows(layout, layers, X, x, order, ordered, start, count, first, height, P, A, out):
    """The outputs of `count` rows, computed in rows of A from `first`."""
    panel, width, units = VECS * lanes(A), lanes(A), cell(layout, layers, UNITS)
    gather(layout, X, x, order, ordered, start, count, first, height, A)
    forward_layers(layout, layers, first, first + padded(count, ROWS), height, P, A)
    for r in range(count):
        for c in range(0, units, width):
            a = load(A, at(cell(layout, layers, VALUES), height, first + r, c, panel), 0, 1, 1)
            store_part(a, out, (start + r) * units + c, units - c)


# ---- the pass over the weights ----------------------------------------------------------------------------------


def _update(vecs):
    @inlined
    def step_row(o, g, kind, rate, decay_1, rest_1, decay_2, rest_2, epsilon, P, M, V):
        """One step of the parameters from offset o with their gradient g, by scikit-learn's rules.

        SGD       w -= rate g
        momentum  v  = momentum v - rate g,  w += v;  Nesterov: w += momentum v - rate g, with the new v
        Adam      m  = beta_1 m + (1 - beta_1) g,  v = beta_2 v + (1 - beta_2) g^2,  w -= rate m / (sqrt(v) + epsilon)
        """
        if kind == STORE:
            store(g, M, o, 0)
        elif kind == ADAM:
            m = decay_1 * load(M, o, 0, 1, vecs) + rest_1 * g
            v = decay_2 * load(V, o, 0, 1, vecs) + rest_2 * (g * g)
            store(m, M, o, 0)
            store(v, V, o, 0)
            store(load(P, o, 0, 1, vecs) - rate * m / (sqrt(v) + epsilon), P, o, 0)
        elif kind == SGD:
            store(load(P, o, 0, 1, vecs) - rate * g, P, o, 0)
        else:
            v = decay_1 * load(M, o, 0, 1, vecs) - rate * g
            store(v, M, o, 0)
            if kind == NESTEROV:
                v = decay_1 * v - rate * g
            store(load(P, o, 0, 1, vecs) + v, P, o, 0)

    @inner
    def update(layout, i, c, k_first, k_last, batch, height, scale, kind, step, rate, P, Q, M, V, A, D, scratch):
        """dW_i = (A_{i-1}' delta_i + alpha W_i) * scale, db_i = (sum of delta_i) * scale, and their step.

        For rows k_first..k_last of W_i and the tile's columns from c; the bias goes with the first rows. Returns the
        sum of the squares of the old weights.
        """
        n, panel, width = cell(layout, i - 1, UNITS), VECS * lanes(A), lanes(A)
        alpha, epsilon = number(P, step[ALPHA]), number(P, step[EPSILON])
        decay_1, rest_1 = number(P, step[DECAY_1]), number(P, 1 - step[DECAY_1])
        decay_2, rest_2 = number(P, step[DECAY_2]), number(P, 1 - step[DECAY_2])
        d = at(cell(layout, i, DELTAS), height, 0, c, panel)
        squares = zeros(P, 1, vecs)
        for k in range(k_first, k_last, ROWS):
            o = at(cell(layout, i, WEIGHTS), padded(n, ROWS), k, c, panel)
            if kind != NOTHING:
                a, g = at(cell(layout, i - 1, VALUES), height, 0, k, panel), zeros(P, ROWS, vecs)
                for r in range(0, batch * panel, panel):
                    g = outer(g, A, a + r, 1, D, d + r)
                store(g, scratch, 0, panel)
            for r in range(0, ROWS * panel, panel):
                w = load(P, o + r, 0, 1, vecs)
                squares = squares + w * w
                if kind != NOTHING:
                    g = (load(scratch, r, 0, 1, vecs) + alpha * w) * scale
                    step_row(o + r, g, kind, rate, decay_1, rest_1, decay_2, rest_2, epsilon, P, M, V)
            if i > 1 and kind > STORE:
                q = at(cell(layout, i, TRANSPOSED), padded(cell(layout, i, UNITS), width), c, k, panel)
                store_transposed(load(P, o, panel, ROWS, vecs), Q, q, panel)
        if k_first == 0 and kind != NOTHING:
            sums, g = zeros(P, ROWS, vecs), zeros(P, 1, vecs)
            for r in range(0, padded(batch, ROWS) * panel, ROWS * panel):
                sums = sums + load(D, d + r, panel, ROWS, vecs)
            store(sums, scratch, 0, panel)
            for r in range(0, ROWS * panel, panel):
                g = g + load(scratch, r, 0, 1, vecs)
            o = cell(layout, i, BIASES) + c
            step_row(o, g * scale, kind, rate, decay_1, rest_1, decay_2, rest_2, epsilon, P, M, V)
        return total(squares)

    return update


_update_wide, _update_narrow = _update(VECS), _update(1)


@inner
def update_item(layout, items, j, batch, height, scale, kind, step, rate, P, Q, M, V, A, D, scratch):
    """`update` for all columns of a panel."""
    i, c, k, k_last = items[4 * j + LAYER], items[4 * j + COLUMN], items[4 * j + FIRST], items[4 * j + LAST]
    width = lanes(A)
    n, squares = cell(layout, i, UNITS), number(A, 0)
    if n - c > (VECS - 1) * width:
        return _update_wide(layout, i, c, k, k_last, batch, height, scale, kind, step, rate, P, Q, M, V, A, D, scratch)
    for v in range(c, n, width):
        squares += _update_narrow(
            layout, i, v, k, k_last, batch, height, scale, kind, step, rate, P, Q, M, V, A, D, scratch
        )
    return squares


@inner
def update_items(
    layout, items, count, first, threads, batch, height, scale, kind, step, rate, P, Q, M, V, A, D, scratch, squares
):
    """Every `threads`-th work item from `first` on; what `update` returns goes to `squares`."""
    scale, rate = number(P, scale), number(P, rate)
    for j in range(first, count, threads):
        squares[j] = update_item(
            layout, items, j, batch, height, scale, kind, step, rate, P, Q, M, V, A, D, scratch
        )


# ---- what Python calls ------------------------------------------------------------------------------------------


@inlined
def sum_weights(weights, weight_stride, order, first, last):
    """S: the sum of the weights of rows order[first:last]."""
    if weight_stride == 0:
        return np.float64(last - first) * weights[0]
    weight = 0.0
    for r in range(first, last):
        weight += weights[order[r]]
    return weight


def _epoch(
    layout, items, X, x, Y, weights, rows, order, batch_size, height, kind, step, P, Q, M, V, A, D, scratch, losses, threads
):
    """Train on the rows of X that `order` names, a batch after the other. Returns the epoch's loss.

    The loss is scikit-learn's: (sum over batches of (batch loss + alpha / 2 * sum of W^2 / S) * rows of the batch) / n,
    S the sum of the weights of the batch's rows.
    """
    layers, n, loss, eps = layout.shape[0] - 1, len(order), 0.0, np.finfo(A.dtype).eps
    weight_stride, own = min(1, len(weights) - 1), ROWS * VECS * lanes(A)
    for r in range(n):
        if not 0 <= order[r] < rows:
            raise IndexError("order names a row that the data does not have.")
    for start in range(0, n, batch_size * weight_stride or n):
        if sum_weights(weights, weight_stride, order, start, min(n, start + batch_size)) == 0:
            raise ZeroDivisionError("Weights sum to zero, can't be normalized")
    for start in range(0, n, batch_size):
        batch = min(batch_size, n - start)
        tiles = (batch + ROWS - 1) // ROWS
        for p in prange(threads):
            first, last = tiles * np.int64(p) // threads * ROWS, tiles * (np.int64(p) + 1) // threads * ROWS
            train_rows(
                pointer(layout), layers, pointer(X), pointer(x), pointer(Y), pointer(weights), weight_stride,
                pointer(order), start, batch, first, last, height, kind, eps,
                pointer(P), pointer(Q), pointer(A), pointer(D), pointer(losses),
            )  # fmt: skip
        weight = sum_weights(weights, weight_stride, order, start, start + batch)
        rate, scale = step[LEARNING_RATE], 1 / weight
        if kind == ADAM:
            step[STEPS] += 1
            rate *= math.sqrt(1 - step[DECAY_2] ** step[STEPS]) / (1 - step[DECAY_1] ** step[STEPS])
        for p in prange(threads):
            update_items(
                pointer(layout), pointer(items), items.shape[0], np.int64(p), threads, batch, height, scale, kind,
                pointer(step), rate, pointer(P), pointer(Q), pointer(M), pointer(V), pointer(A), pointer(D),
                pointer(scratch[np.int64(p) * own :]), pointer(losses[tiles:]),
            )  # fmt: skip
        batch_loss, squares = 0.0, 0.0
        for t in range(tiles):
            batch_loss += losses[t]
        for j in range(items.shape[0]):
            squares += losses[tiles + j]
        if layout[layers, ACTIVATION] == IDENTITY:
            batch_loss /= layout[layers, UNITS]
        loss += (batch_loss + 0.5 * step[ALPHA] * squares) / weight * batch
    return loss / n


def _predict(layout, X, x, order, n, height, P, A, out, threads):
    """out[r] = A_L of row order[r] of X, or of row r: each thread has its own block of rows of A."""
    layers, block = layout.shape[0] - 1, height // threads
    for p in prange(threads):
        first = np.int64(p) * block
        for start in range(first, n, threads * block):
            predict_rows(
                pointer(layout), layers, pointer(X), pointer(x), pointer(order), len(order) > 0, start,
                min(block, n - start), first, height, pointer(P), pointer(A), pointer(out),
            )  # fmt: skip


epoch_serial, epoch_parallel = entry(parallel=False)(_epoch), entry(parallel=True)(_epoch)
predict_serial, predict_parallel = entry(parallel=False)(_predict), entry(parallel=True)(_predict)
