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
not 0), so that no loop has a mask or a remainder. Of each W_i there is a copy that is transposed, as the way forward
needs rows of W_i and the way back rows of W_i'; the one that is stored with the moments is the one with fewer tiles.
`layout` is a table with a line for each layer, its columns below.

Memory, passed on as pointers (T is float32 or float64)
    P            T, weights and biases of all layers, as panels         Q     T, the transposed copies
    M, V         T, like P: velocity or first moments, second moments   G     T, like P, for each group: gradients
    A, D         T, activations and deltas of a batch
    X            float32 or float64, a flat view of the user's matrix; `x` holds its start and strides, in elements
    Y            T, targets, row by row; for softmax the number of the class of each row
    weights      T, a weight for each row, or one for all
    order        int64, the rows of X in the order they are used
"""

import math

import numpy as np
from numba import prange, types

from fastmlp import _jit
from fastmlp._jit import inlined
from fastmlp._tile import (
    ROWS,
    VECS,
    address,
    column_sum,
    exp,
    flush_denormals,
    lanes,
    load,
    load_part,
    logistic,
    maximum,
    memory,
    multiply_add,
    number,
    outer,
    pointer,
    precision,
    restore_denormals,
    row_max,
    row_sum,
    set_column,
    skip,
    sqrt,
    store,
    store_part,
    store_transposed,
    tanh,
    ticks,
    total,
    where_nonzero,
    zeros,
)

# columns of the layout: units of layer i, its f, where A_i starts in A, delta_i in D, b_i in P, W_i in P or Q, W_i'
# in the other, and whether it is W_i' that stands in P
UNITS, ACTIVATION, VALUES, DELTAS, BIASES, WEIGHTS, COPY, TRANSPOSED, COLUMNS = range(9)
IDENTITY, LOGISTIC, TANH, RELU, SOFTMAX, EXP = range(6)
# layers of at most so many units go forward by dot products
DOTS = 4
# how far a sum runs at a time, in rows of a panel that stay in the first-level cache; a multiple of all panels
CHUNK = 192
# what the pass over the weights does with a gradient
NOTHING, STORE, SGD, MOMENTUM, NESTEROV, ADAM = range(6)
# columns of the work items of that pass: layer, first column of a panel of what stands in P, and a range of its rows;
# an empty one stands for the biases; last the item's place among all, however they are dealt out
LAYER, COLUMN, FIRST, LAST, PLACE, ITEM = range(6)
# columns of `step`
LEARNING_RATE, ALPHA, DECAY_1, DECAY_2, EPSILON, STEPS, RATE, SCALE, STEP = range(9)
# the passes, and the columns of a job, which tells a thread what it needs for them: where memory is, and numbers
ROWS_PASS, GATHER_PASS, FORWARD_PASS, OUTPUT_PASS, BACKWARD_PASS, WEIGHTS_PASS, PREDICTION = range(7)
(
    LAYOUT_AT, ITEMS_AT, SHARES_AT, STRIDES_AT, Y_AT, WEIGHTS_AT, ORDER_AT, Q_AT, M_AT, V_AT, A_AT, D_AT, G_AT,
    LOSSES_AT, OUT_AT, LAYERS, THIS_LAYER, ITEM_COUNT, WEIGHT_STRIDE, ORDERED, START, BATCH, HEIGHT, KIND, GROUPS, SIZE,
    ROOM, THREADS, ALONE, WAIT, TIME_ALONE, TIME_TOGETHER, JOB,
) = range(33)  # fmt: skip
# after how many batches at least it is tried whether one thread is faster than all, or the other way
FIRST_WAIT = 4

# What a parameter is called tells its type: memory of integers, of float64, of T, of X's numbers; else int64.
_T, _S = types.Dummy("T"), types.Dummy("S")
TYPES = {name: types.CPointer(types.int64) for name in "job layout items item x order".split()}
TYPES |= {name: types.CPointer(types.float64) for name in "step losses squares".split()}
TYPES |= {name: types.CPointer(_T) for name in "P Q M V G A D Y weights out".split()}
TYPES |= {"X": types.CPointer(_S)}
kernel = _jit.kernel(TYPES)


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
    """A_0[first + r] = X[order[start + r]], or X[start + r], for r < count; 0 in what is left of the last tile."""
    n, panel, width = cell(layout, 0, UNITS), VECS * lanes(A), lanes(A)
    for r in range(padded(count, ROWS)):
        to = at(cell(layout, 0, VALUES), height, first + r, 0, panel)
        row = start + r
        if r < count and ordered > 0:
            row = order[row]
        source, units = x[0] + row * x[1], n if r < count else 0
        for c in range(0, n, width):
            if x[2] == 1 or units == 0:
                store(load_part(A, X, source + c, units - c), A, at(to, height, 0, c, panel), 0)
            else:
                for k in range(c, min(n, c + width)):
                    A[at(to, height, 0, k, panel)] = X[source + k * x[2]]


@inlined
def weights_forward(layout, i, P, Q, width):
    """Where the panels of W_i are: memory, offset, height."""
    n = cell(layout, i - 1, UNITS)
    if cell(layout, i, TRANSPOSED):
        return Q, cell(layout, i, COPY), padded(n, width)
    return P, cell(layout, i, WEIGHTS), padded(n, ROWS)


@inlined
def weights_backward(layout, i, P, Q, width):
    """Where the panels of W_i' are: memory, offset, height."""
    n = cell(layout, i, UNITS)
    if cell(layout, i, TRANSPOSED):
        return P, cell(layout, i, WEIGHTS), padded(n, ROWS)
    return Q, cell(layout, i, COPY), padded(n, width)


@kernel
def activate(f, A, start, columns):
    """f of the numbers of a tile that is in the first-level cache, a vector at a time."""
    panel = VECS * lanes(A)
    for row in range(start, start + ROWS * panel, panel):
        for o in range(row, row + columns, lanes(A)):
            a = load(A, o, 0, 1, 1)
            if f == LOGISTIC:
                a = logistic(a)
            elif f == TANH:
                a = tanh(a)
            else:
                a = exp(a)
            store(a, A, o, 0)


def _forward(vecs):
    def forward(layout, i, c, first, last, height, P, Q, A):
        """A_i = f(A_{i-1} W_i + b_i) for rows first..last and the tile's columns from c; softmax comes after."""
        n, f, panel = cell(layout, i - 1, UNITS), cell(layout, i, ACTIVATION), VECS * lanes(A)
        floor = number(A, 0 if f == RELU else -np.inf)
        W, w, w_height = weights_forward(layout, i, P, Q, lanes(A))
        w = at(w, w_height, 0, c, panel)
        for k in range(0, n, CHUNK):
            for r in range(first, last, ROWS):
                out = at(cell(layout, i, VALUES), height, r, c, panel)
                if k == 0:
                    z = load(P, cell(layout, i, BIASES) + c, 0, ROWS, vecs)
                else:
                    z = load(A, out, panel, ROWS, vecs)
                a = at(cell(layout, i - 1, VALUES), height, r, k, panel)
                z = product(z, A, a, height, W, w + k * panel, min(CHUNK, n - k), panel)
                if k + CHUNK >= n:
                    z = maximum(z, floor)
                store(z, A, out, panel)
                if k + CHUNK >= n and (f == LOGISTIC or f == TANH or f == EXP):
                    activate(f, A, out, vecs * lanes(A))

    return _jit.kernel(TYPES, f"forward_{vecs}")(forward)


@kernel
def forward_dots(layout, i, first, last, height, P, Q, A):
    """A_i = f(A_{i-1} W_i + b_i) for rows first..last of a layer of few units: each a dot product along the inputs."""
    n, f, panel, width = cell(layout, i - 1, UNITS), cell(layout, i, ACTIVATION), VECS * lanes(A), lanes(A)
    floor = number(A, 0 if f == RELU else -np.inf)
    W, w, w_height = weights_backward(layout, i, P, Q, width)
    for r in range(first, last, ROWS):
        z = load(P, cell(layout, i, BIASES), 0, ROWS, 1)
        for j in range(cell(layout, i, UNITS)):
            sum_ = zeros(A, ROWS, 1)
            for k in range(0, n, width):
                a = load(A, at(cell(layout, i - 1, VALUES), height, r, k, panel), panel, ROWS, 1)
                sum_ = multiply_add(a, load(W, at(w, w_height, j, k, panel), 0, ROWS, 1), sum_)
            z = set_column(z, j, z + row_sum(sum_))
        out = at(cell(layout, i, VALUES), height, r, 0, panel)
        store(maximum(z, floor), A, out, panel)
        if f == LOGISTIC or f == TANH or f == EXP:
            activate(f, A, out, width)


def _backward(vecs):
    def backward(layout, i, c, first, last, height, P, Q, A, D):
        """delta_{i-1} = delta_i W_i' * f'(A_{i-1}) for rows first..last and the tile's columns from c."""
        n, f, panel, one = cell(layout, i, UNITS), cell(layout, i - 1, ACTIVATION), VECS * lanes(A), number(A, 1)
        W, w, w_height = weights_backward(layout, i, P, Q, lanes(A))
        w = at(w, w_height, 0, c, panel)
        for k in range(0, n, CHUNK):
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

    return _jit.kernel(TYPES, f"backward_{vecs}")(backward)


_forward_wide, _forward_narrow = _forward(VECS), _forward(1)
_backward_wide, _backward_narrow = _backward(VECS), _backward(1)


@inlined
def forward_panels(layout, i, c_first, c_last, first, last, height, P, Q, A):
    """A_i before the softmax, for rows first..last and the panels from column c_first to c_last."""
    n, width = cell(layout, i, UNITS), lanes(A)
    if n <= min(DOTS, width) and (i > 1 or cell(layout, i, TRANSPOSED)):
        forward_dots(layout, i, first, last, height, P, Q, A)
        return
    for c in range(c_first, c_last, VECS * width):
        if n - c > (VECS - 1) * width:
            _forward_wide(layout, i, c, first, last, height, P, Q, A)
        else:
            for v in range(c, n, width):
                _forward_narrow(layout, i, v, first, last, height, P, Q, A)


@inlined
def backward_panels(layout, i, c_first, c_last, first, last, height, P, Q, A, D):
    """delta_{i-1} for rows first..last and the panels from column c_first to c_last."""
    n, width = cell(layout, i - 1, UNITS), lanes(A)
    for c in range(c_first, c_last, VECS * width):
        if n - c > (VECS - 1) * width:
            _backward_wide(layout, i, c, first, last, height, P, Q, A, D)
        else:
            for v in range(c, n, width):
                _backward_narrow(layout, i, v, first, last, height, P, Q, A, D)


@inlined
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
def clipped(p, eps):
    """A probability as the loss takes it: in [eps, 1 - eps], but NaN stays."""
    p = np.float64(p)
    return eps if p < eps else 1 - eps if p > 1 - eps else p


@kernel
def output_deltas(layout, layers, Y, weights, weight_stride, order, start, batch, first, last, height, A, D, losses):
    """delta_L = (A_L - Y) * weight for rows first..last (0 beyond the batch); each tile's loss goes to `losses`.

    The losses are scikit-learn's: half the squared error, the Poisson deviance by halves, the cross-entropy of
    probabilities clipped to [eps, 1 - eps]; summed over outputs and rows, times the rows' weights.
    """
    panel, width = VECS * lanes(A), lanes(A)
    n, f = cell(layout, layers, UNITS), cell(layout, layers, ACTIVATION)
    values, deltas = cell(layout, layers, VALUES), cell(layout, layers, DELTAS)
    eps = precision(A)
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
                loss = -math.log(clipped(p, eps))
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
                        p = clipped(p, eps)
                        loss -= (y * math.log(p) if y != 0 else 0.0) + ((1 - y) * math.log(1 - p) if y != 1 else 0.0)
                    else:
                        loss += (y * math.log(y / p) if y != 0 else 0.0) - y + p
            tile_loss += loss * weight
        losses[tile // ROWS] = tile_loss


@kernel
def predict_rows(layout, layers, X, x, order, ordered, start, count, first, height, P, Q, A, out):
    """The outputs of `count` rows, computed in rows of A from `first`, to `out`."""
    panel, width, units = VECS * lanes(A), lanes(A), cell(layout, layers, UNITS)
    forward_rows(layout, layers, X, x, order, ordered, start, count, first, height, P, Q, A)
    for r in range(count):
        for c in range(0, units, width):
            a = load(A, at(cell(layout, layers, VALUES), height, first + r, c, panel), 0, 1, 1)
            store_part(a, out, (start + r) * units + c, units - c)


# ---- gradients --------------------------------------------------------------------------------------------------


def _gradient(vecs):
    def gradient(layout, i, c, k_first, k_last, first, last, height, A, D, G, g):
        """A_{i-1}' delta_i over rows first..last of the batch, or delta_i' A_{i-1} where W_i' stands in P.

        For rows k_first..k_last of it and the tile's columns from c; to G, from offset g on.
        """
        panel = VECS * lanes(A)
        values, deltas = cell(layout, i - 1, VALUES), cell(layout, i, DELTAS)
        left, at_left, right, at_right = A, values, D, deltas
        if cell(layout, i, TRANSPOSED):
            left, at_left, right, at_right = D, deltas, A, values
        for row in range(first, max(last, first + 1), CHUNK):
            b, rows = at(at_right, height, row, c, panel), min(CHUNK, last - row) * panel
            for k in range(k_first, k_last, ROWS):
                a, out = at(at_left, height, row, k, panel), g + (k - k_first) * panel
                if row == first:
                    sum_ = zeros(A, ROWS, vecs)
                else:
                    sum_ = load(G, out, panel, ROWS, vecs)
                for r in range(0, rows, panel):
                    sum_ = outer(sum_, left, a + r, 1, right, b + r)
                store(sum_, G, out, panel)

    return _jit.kernel(TYPES, f"gradient_{vecs}")(gradient)


_gradient_wide, _gradient_narrow = _gradient(VECS), _gradient(1)


@inlined
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
    elif n - c > (VECS - 1) * width:
        _gradient_wide(layout, i, c, k, k_last, first, min(last, batch), height, A, D, G, g)
    else:
        for v in range(c, n, width):
            _gradient_narrow(layout, i, v, k, k_last, first, min(last, batch), height, A, D, G, g + v - c)


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
    if item[FIRST] != item[LAST] and kind > STORE and (i > 1 or cell(layout, i, TRANSPOSED)):
        for k in range(k_first, k_last, ROWS):
            for v in range(0, columns, width):
                copy = at(cell(layout, i, COPY), padded(m, width), c + v, k, panel)
                store_transposed(load(P, o + (k - k_first) * panel + v, panel, ROWS, 1), Q, copy, panel)
    squares[0] = total(square_sum)


# ---- the two passes ---------------------------------------------------------------------------------------------


@kernel
def train_rows(
    layout, layers, items, item_count, X, x, Y, weights, weight_stride, order, start, batch, first, last, height, kind,
    P, Q, A, D, losses, G, grouped,
):  # fmt: skip
    """The pass over rows first..last of a batch: losses and deltas, and the gradients if these rows are a group."""
    count = min(last, batch) - first
    forward_rows(layout, layers, X, x, order, True, start + first, count, first, height, P, Q, A)
    output_deltas(layout, layers, Y, weights, weight_stride, order, start, batch, first, last, height, A, D, losses)
    if kind != NOTHING:
        for i in range(layers, 1, -1):
            backward_panels(layout, i, 0, cell(layout, i - 1, UNITS), first, last, height, P, Q, A, D)
        if grouped:
            for j in range(item_count):
                item = skip(items, j * ITEM)
                gradient_item(layout, item, first, last, batch, height, A, D, G, offset_of(layout, item, A))


@kernel
def train_weights(
    layout, items, first, last, batch, height, kind, step, P, Q, M, V, A, D, squares, G, groups, size,
):  # fmt: skip
    """The pass over the weights: work items first..last.

    With the gradients of the groups, or with that of the whole batch, which G has room for an item at a time.
    """
    for j in range(first, last):
        item, g = skip(items, j * ITEM), 0
        if groups > 1:
            g = offset_of(layout, item, P)
        elif kind != NOTHING:
            gradient_item(layout, item, 0, padded(batch, ROWS), batch, height, A, D, G, 0)
        step_item(layout, item, kind, step, P, Q, M, V, G, g, groups, size, skip(squares, item[PLACE]))


@inlined
def offset_of(layout, item, P):
    """Where the parameters of a work item start in P."""
    i, c, panel = item[LAYER], item[COLUMN], VECS * lanes(P)
    if item[FIRST] == item[LAST]:
        return cell(layout, i, BIASES) + c
    n = cell(layout, i if cell(layout, i, TRANSPOSED) else i - 1, UNITS)
    return at(cell(layout, i, WEIGHTS), padded(n, ROWS), item[FIRST], c, panel)


@kernel
def work(job, which, p, X, P, step):
    """What thread p does of a pass."""
    layout, items, shares = memory(job, job[LAYOUT_AT]), memory(job, job[ITEMS_AT]), memory(job, job[SHARES_AT])
    x, order, layers = memory(job, job[STRIDES_AT]), memory(job, job[ORDER_AT]), job[LAYERS]
    Q, A, D, G = memory(P, job[Q_AT]), memory(P, job[A_AT]), memory(P, job[D_AT]), memory(P, job[G_AT])
    losses, batch, height, threads = memory(step, job[LOSSES_AT]), job[BATCH], job[HEIGHT], job[THREADS]
    kind, groups, size, tiles = job[KIND], job[GROUPS], job[SIZE], padded(batch, ROWS) // ROWS
    denormals = flush_denormals() if which != PREDICTION else 0
    if which == ROWS_PASS:
        pieces = groups if groups > 1 else threads
        for piece in range(pieces * p // threads, pieces * (p + 1) // threads):
            train_rows(
                layout, layers, items, job[ITEM_COUNT], X, x, memory(P, job[Y_AT]), memory(P, job[WEIGHTS_AT]),
                job[WEIGHT_STRIDE], order, job[START], batch, tiles * piece // pieces * ROWS,
                tiles * (piece + 1) // pieces * ROWS, height, kind, P, Q, A, D, losses, skip(G, piece * size),
                groups > 1,
            )  # fmt: skip
    elif which == GATHER_PASS:
        first, last = tiles * p // threads * ROWS, tiles * (p + 1) // threads * ROWS
        gather(layout, X, x, order, True, job[START] + first, min(last, batch) - first, first, height, A)
    elif which == FORWARD_PASS or which == BACKWARD_PASS:
        i, panel = job[THIS_LAYER], VECS * lanes(P)
        n = cell(layout, i if which == FORWARD_PASS else i - 1, UNITS)
        panels, first, last, c_first, c_last = padded(n, panel) // panel, 0, tiles * ROWS, 0, n
        if panels >= threads:
            c_first, c_last = panels * p // threads * panel, min(n, panels * (p + 1) // threads * panel)
        else:
            first, last = tiles * p // threads * ROWS, tiles * (p + 1) // threads * ROWS
        if which == FORWARD_PASS:
            forward_panels(layout, i, c_first, c_last, first, last, height, P, Q, A)
        else:
            backward_panels(layout, i, c_first, c_last, first, last, height, P, Q, A, D)
    elif which == OUTPUT_PASS:
        first, last = tiles * p // threads * ROWS, tiles * (p + 1) // threads * ROWS
        if cell(layout, layers, ACTIVATION) == SOFTMAX:
            softmax(layout, layers, first, last, height, A)
        output_deltas(
            layout, layers, memory(P, job[Y_AT]), memory(P, job[WEIGHTS_AT]), job[WEIGHT_STRIDE], order, job[START],
            batch, first, last, height, A, D, losses,
        )  # fmt: skip
    elif which == WEIGHTS_PASS:
        train_weights(
            layout, items, shares[p], shares[p + 1], batch, height, kind, step, P, Q, memory(P, job[M_AT]),
            memory(P, job[V_AT]), A, D, skip(losses, tiles), skip(G, p * job[ROOM]), groups, size,
        )  # fmt: skip
    else:  # each thread has its own block of rows of A
        block, out = height // threads, memory(P, job[OUT_AT])
        for start in range(p * block, batch, threads * block):
            count = min(block, batch - start)
            predict_rows(layout, layers, X, x, order, job[ORDERED], start, count, p * block, height, P, Q, A, out)
    if which != PREDICTION:
        restore_denormals(denormals)


@_jit.parallel
def work_in_parallel(job, which, threads, X, P, step):
    """`work` for all threads, each on its own processor core."""
    for p in prange(threads):
        work(pointer(job), which, np.int64(p), pointer(X), pointer(P), pointer(step))


@inlined
def run(job, which, threads, X, P, step):
    """A pass: the work of all threads, on as many or on this one alone."""
    if threads > 1 and job[ALONE] == 0:
        work_in_parallel(job, which, threads, X, P, step)
    else:
        for p in range(threads):
            work(pointer(job), which, p, pointer(X), pointer(P), pointer(step))


@inlined
def choose_pace(job, time):
    """After a batch that took this time: do the threads' work together or alone next?

    Together is faster, unless something else wants the cores: threads then wait for one that is not running, a hundred
    times as long as the work takes. Whichever is slower is tried again so seldom that it costs a hundredth of the time.
    The numbers are the same either way.
    """
    if job[TIME_ALONE] == 0:  # the first batch of all
        job[TIME_TOGETHER], job[TIME_ALONE], job[WAIT] = time, time, FIRST_WAIT
        return
    trial = job[WAIT] == 0
    if job[ALONE] == 1:
        job[TIME_ALONE] = time
    else:
        job[TIME_TOGETHER] = time if trial else (job[TIME_TOGETHER] + time) // 2
    alone = 1 if job[TIME_TOGETHER] > job[TIME_ALONE] else 0
    if trial:
        lost, best = abs(job[TIME_TOGETHER] - job[TIME_ALONE]), min(job[TIME_TOGETHER], job[TIME_ALONE])
        job[WAIT] = FIRST_WAIT + 100 * lost // max(best, 1)
    else:
        job[WAIT] -= 1
        if alone != job[ALONE]:  # perhaps a single stall: try again soon
            job[WAIT] = min(job[WAIT], FIRST_WAIT)
    job[ALONE] = alone if job[WAIT] > 0 else 1 - alone


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


@_jit.entry(TYPES)
def epoch(
    job, layout, items, shares, X, x, Y, weights, rows, order, batch_size, height, kind, step, P, Q, M, V, A, D, G,
    groups, losses, threads, by_layers,
):  # fmt: skip
    """Train on the rows of X that `order` names, a batch after the other. Returns the epoch's loss.

    The loss is scikit-learn's: (sum over batches of (batch loss + alpha / 2 * sum of W^2 / S) * rows of the batch) / n,
    S the sum of the weights of the batch's rows.
    """
    layers, n, loss = layout.shape[0] - 1, len(order), 0.0
    weight_stride, count = min(1, len(weights) - 1), items.shape[0]
    for r in range(n):
        if not 0 <= order[r] < rows:
            raise IndexError("order names a row that the data does not have.")
    for start in range(0, n, batch_size * weight_stride or n):
        if sum_weights(weights, weight_stride, order, start, min(n, start + batch_size)) == 0:
            raise ZeroDivisionError("Weights sum to zero, can't be normalized")
    job[LAYOUT_AT], job[ITEMS_AT], job[SHARES_AT] = address(layout), address(items), address(shares)
    job[STRIDES_AT], job[Y_AT], job[WEIGHTS_AT], job[ORDER_AT] = (
        address(x),
        address(Y),
        address(weights),
        address(order),
    )
    job[Q_AT], job[M_AT], job[V_AT], job[G_AT] = address(Q), address(M), address(V), address(G)
    job[A_AT], job[D_AT], job[LOSSES_AT] = address(A), address(D), address(losses)
    job[LAYERS], job[ITEM_COUNT], job[WEIGHT_STRIDE], job[HEIGHT] = layers, count, weight_stride, height
    job[KIND], job[GROUPS], job[SIZE], job[THREADS] = kind, groups, len(P), threads
    job[ROOM] = 0 if groups > 1 else len(G) // threads
    for start in range(0, n, batch_size):
        batch, began = min(batch_size, n - start), ticks()
        job[START], job[BATCH] = start, batch
        if by_layers:
            run(job, np.int64(GATHER_PASS), threads, X, P, step)
            for i in range(1, layers + 1):
                job[THIS_LAYER] = i
                run(job, np.int64(FORWARD_PASS), threads, X, P, step)
            run(job, np.int64(OUTPUT_PASS), threads, X, P, step)
            for i in range(layers, 1, -1):
                job[THIS_LAYER] = i
                run(job, np.int64(BACKWARD_PASS), threads, X, P, step)
        else:
            run(job, np.int64(ROWS_PASS), threads, X, P, step)
        weight = sum_weights(weights, weight_stride, order, start, start + batch)
        step[RATE], step[SCALE] = step[LEARNING_RATE], 1 / weight
        if kind == ADAM:
            step[STEPS] += 1
            step[RATE] *= math.sqrt(1 - step[DECAY_2] ** step[STEPS]) / (1 - step[DECAY_1] ** step[STEPS])
        run(job, np.int64(WEIGHTS_PASS), threads, X, P, step)
        batch_loss, squares, tiles = 0.0, 0.0, padded(batch, ROWS) // ROWS
        for t in range(tiles):
            batch_loss += losses[t]
        for j in range(count):
            squares += losses[tiles + j]
        if layout[layers, ACTIVATION] == IDENTITY:
            batch_loss /= layout[layers, UNITS]
        loss += (batch_loss + 0.5 * step[ALPHA] * squares) / weight * batch
        if threads > 1 and batch == batch_size:
            choose_pace(job, ticks() - began)
    return loss / n


@_jit.entry(TYPES)
def predict(job, layout, X, x, order, n, height, step, P, Q, A, out, threads):
    """out[r] = A_L of row order[r] of X, or of row r."""
    job[LAYOUT_AT], job[STRIDES_AT], job[ORDER_AT], job[ORDERED] = (
        address(layout),
        address(x),
        address(order),
        len(order),
    )
    job[Q_AT], job[A_AT], job[OUT_AT] = address(Q), address(A), address(out)
    job[LAYERS], job[BATCH], job[HEIGHT], job[THREADS] = layout.shape[0] - 1, n, height, threads
    run(job, np.int64(PREDICTION), threads, X, P, step)
