"""The products of dense layers, and what goes into them: pack, forward, backward, gradient.

    forward     A_i = f_i(A_{i-1} W_i + b_i)
    backward    delta_{i-1} = delta_i W_i' * f'(Z_{i-1})
    gradient    dW_i = A_{i-1}' delta_i,  db_i = sum over rows of delta_i

A kernel takes some rows of the batch, or some columns of the layer, and knows nothing of threads.
"""

from fastmlp.compiled import jit
from fastmlp.compiled.activations import KEPT, OF_LOGISTIC, OF_RELU, OF_TANH, activated
from fastmlp.compiled.jit import inlined
from fastmlp.compiled.records import BLENDS, WEIGHTS
from fastmlp.compiled.storage import BLOCK, CHUNK, FEW, TYPES, at, kernel, padded
from fastmlp.compiled.tile import (
    ROWS,
    VECS,
    VECTOR_BITS,
    call,
    column_sum,
    lanes,
    load,
    load_part,
    maximum,
    multiply_add,
    number,
    outer,
    prefetch,
    row_totals,
    rows_at,
    store,
    store_column,
    store_part,
    store_transposed,
    where_nonzero,
    zeros,
)


@inlined
def product(tile, left, a, height, right, b, n, panel):
    """tile + left[rows, :n] right[:n, columns], both from panels, starting at offsets a and b."""
    for q in range(0, n, panel):
        for k in range(min(panel, n - q)):
            tile = outer(tile, left, a + k, panel, right, b + k * panel)
        a += height * panel
        b += panel * panel
    return tile


# ---- rows of X --------------------------------------------------------------------------------------------------


@kernel
def pack(job, X, start, count, first):
    """A_0[first + r] = X[order[start + r]], or X[start + r], for r < count; 0 in what is left of the last tile.

    Of columns that are read where X has them, only where each row is; rows that are not there are the last one again.
    """
    input_, A, x, order, ordered, height = job.layers[0], job.A, job.x, job.order, job.ordered, job.height
    n, panel, width, in_place, places = input_.units, VECS * lanes(A), lanes(A), input_.in_place, input_.places
    for tile in range(0, count, ROWS):
        if in_place > 0:
            for r in range(tile, tile + ROWS):
                row = start + min(r, count - 1)
                if ordered > 0:
                    row = order[row]
                places[first + r] = x[0] + row * x[1]
        for c in range(in_place, n, width):
            to = at(input_.values, height, first + tile, c, panel)
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
def fetch_rows(job, X, first, last):
    """Have rows order[first:last] of X brought to this core's cache, to be read soon."""
    x = job.x
    for r in range(first, last):
        row = x[0] + job.order[r] * x[1]
        for o in range(row, row + job.layers[0].units, lanes(X)):
            prefetch(X, o)


@kernel
def put_out(job, start, count, first):
    """out[start + r] = A_L[first + r] for r < count."""
    output, panel, width = job.layers[job.layer_count], VECS * lanes(job), lanes(job)
    for r in range(count):
        for c in range(0, output.units, width):
            a = load(job.A, at(output.values, job.height, first + r, c, panel), 0, 1, 1)
            store_part(a, job.out, (start + r) * output.units + c, output.units - c)


# ---- forward ----------------------------------------------------------------------------------------------------


@inlined
def weights_forward(job, i):
    """Where the panels of W_i are: memory, offset, height."""
    layer, n = job.layers[i], job.layers[i - 1].units
    if layer.transposed:
        return job.Q, layer.copy, padded(n, lanes(job))
    return job.P, layer.weights, padded(n, ROWS)


@inlined
def weights_backward(job, i):
    """Where the panels of W_i' are: memory, offset, height. Not for a layer without a copy."""
    layer = job.layers[i]
    if layer.transposed:
        return job.P, layer.weights, padded(layer.units, ROWS)
    return job.Q, layer.copy, padded(layer.units, lanes(job))


@inlined
def fetch(X, places, first, k, end):
    """Have the numbers k..end of a tile of rows of X brought to this core: it may not foresee that many streams."""
    for r in range(first, first + ROWS):
        for q in range(places[r] + k, places[r] + end, lanes(X)):
            prefetch(X, q)


def _forward(vecs):
    def forward(job, i, k, end, c, first, last):
        """A_i = f(A_{i-1} W_i + b_i) for rows first..last and the tile's columns from c; softmax comes after.

        Of the sums, the terms k..end; what they were before is in A_i, and f follows the last.
        """
        below, layer, P, A, height = job.layers[i - 1], job.layers[i], job.P, job.A, job.height
        n, panel, floor = below.units, VECS * lanes(A), number(A, layer.floor)
        W, w, w_height = weights_forward(job, i)
        w = at(w, w_height, 0, c, panel)
        X, places = below.X, below.places
        for r in range(first, last, ROWS):
            out = at(layer.values, height, r, c, panel)
            if k == 0:
                z = load(P, layer.biases + c, 0, ROWS, vecs)
            else:
                z = load(A, out, panel, ROWS, vecs)
            if k < below.in_place:
                rows = rows_at(places, r)
                if c == 0 and r + ROWS < last:
                    fetch(X, places, r + ROWS, k, end)
                for q in range(k, end):
                    z = outer(z, X, q, rows, W, w + q * panel)
            else:
                a = at(below.values, height, r, k, panel)
                z = product(z, A, a, height, W, w + k * panel, end - k, panel)
            if end == n:
                z = maximum(z, floor)
            store(z, A, out, panel)
            if end == n and layer.activate != 0:
                call(layer.activate, (A, out, ROWS, vecs * lanes(A), layer.slopes - layer.values))

    return jit.kernel(TYPES, f"forward_{vecs}")(forward)


_forward_wide, _forward_narrow = _forward(VECS), _forward(1)


@kernel
def forward_dots(job, i, first, last):
    """A_i = f(A_{i-1} W_i + b_i) for rows first..last of a layer of few units: each a dot product along the inputs."""
    below, layer, A, height = job.layers[i - 1], job.layers[i], job.A, job.height
    n, panel, width = below.units, VECS * lanes(A), lanes(A)
    W, w, w_height = weights_backward(job, i)
    for r in range(first, last, ROWS):
        for j in range(layer.units):
            sum_ = zeros(A, ROWS, 1)
            for k in range(0, n, width):
                a = load(A, at(below.values, height, r, k, panel), panel, ROWS, 1)
                sum_ = multiply_add(a, load(W, at(w, w_height, j, k, panel), 0, ROWS, 1), sum_)
            z = row_totals(sum_) + job.P[layer.biases + j]
            z = activated(layer, z, A, at(layer.slopes, height, r, j, panel), panel)
            store_column(z, A, at(layer.values, height, r, j, panel), panel)


@kernel
def forward_panels(job, i, c_first, c_last, first, last):
    """A_i before the softmax, for rows first..last and the panels from column c_first to c_last."""
    below, layer, width = job.layers[i - 1], job.layers[i], lanes(job)
    n, in_place = layer.units, below.in_place
    if n <= FEW and layer.copy >= 0:
        forward_dots(job, i, first, last)
    else:
        for r in range(first, last, BLOCK):
            r_end, end = min(r + BLOCK, last), 0
            while end < below.units:
                k, end = end, min(end + CHUNK, in_place if end < in_place else below.units)
                for c in range(c_first, c_last, VECS * width):
                    if n - c > (VECS - 1) * width:
                        _forward_wide(job, i, k, end, c, r, r_end)
                    else:
                        for v in range(c, n, width):
                            _forward_narrow(job, i, k, end, v, r, r_end)
    if layer.blend != 0:
        call(layer.blend, (job, i, c_first, c_last, first, last))
    if layer.drop != 0:
        call(layer.drop, (job, i, c_first, c_last, first, last))


@inlined
def normalize(job, first, last):
    """Softmax, where there is one, for rows first..last."""
    output = job.layers[job.layer_count]
    if output.normalize != 0:
        call(output.normalize, (job, first, last))


@inlined
def fill(job, X, start, count, first):
    """A_0 for rows of X, those that `pack` takes: X itself, or what a network for tables makes of it."""
    if job.layers[0].fill != 0:
        call(job.layers[0].fill, (job, X, start, count, first))
    else:
        pack(job, X, start, count, first)


@kernel
def forward_rows(job, X, start, count, first):
    """A_0 .. A_L for `count` rows of X, those that `pack` takes, in rows of A from `first`."""
    fill(job, X, start, count, first)
    last = first + padded(count, ROWS)
    for i in range(1, job.layer_count + 1):
        forward_panels(job, i, 0, job.layers[i].units, first, last)
    normalize(job, first, last)


# ---- backward ---------------------------------------------------------------------------------------------------


# Rows of W_i that are transposed at a time: no more than a vector of float64 has, as c may be any multiple of that and
# rows beyond the matrix may be beyond the memory.
_TRANSPOSED = min(ROWS, VECTOR_BITS // 64)


@kernel
def transpose(job, i, c, columns, k_first, k_last, scratch):
    """The rows k_first..k_last of W_i', so many columns from c, to `scratch`: as one panel, 0 beyond the matrix."""
    P, layer, panel, width = job.P, job.layers[i], VECS * lanes(job), lanes(job)
    height = padded(job.layers[i - 1].units, ROWS)
    for k in range(k_first, k_last, width):
        for row in range(0, columns, _TRANSPOSED):
            if c + row < height:
                tile = load(P, at(layer.weights, height, c + row, k, panel), panel, _TRANSPOSED, 1)
            else:
                tile = zeros(P, _TRANSPOSED, 1)
            store_transposed(tile, scratch, (k - k_first) * panel + row, panel)


def _backward(vecs):
    def backward(job, i, k, c, first, last, scratch):
        """delta_{i-1} = delta_i W_i' * f'(Z_{i-1}) for rows first..last and the tile's columns from c.

        Of the sums, CHUNK terms from k on; what they were before is in delta_{i-1}, and f' follows the last.
        """
        below, layer, A, D, height = job.layers[i - 1], job.layers[i], job.A, job.D, job.height
        n, panel, one, derivative = layer.units, VECS * lanes(A), number(A, 1), below.derivative
        W, w, w_height = weights_backward(job, i)
        w = at(w, w_height, 0, c, panel)
        if layer.copy < 0:
            transpose(job, i, c, vecs * lanes(A), k, min(k + CHUNK, n), scratch)
            W, w = scratch, -k * panel
        for r in range(first, last, ROWS):
            out = at(below.deltas, height, r, c, panel)
            if k == 0:
                delta = zeros(D, ROWS, vecs)
            else:
                delta = load(D, out, panel, ROWS, vecs)
            d = at(layer.deltas, height, r, k, panel)
            delta = product(delta, D, d, height, W, w + k * panel, min(CHUNK, n - k), panel)
            if k + CHUNK >= n:
                kept = below.slopes if derivative == KEPT else below.values
                a = load(A, at(kept, height, r, c, panel), panel, ROWS, vecs)
                if below.differences >= 0:  # what the gradient of a parametric activation is the sum of
                    o = at(below.differences, height, r, c, panel)
                    store(delta * load(A, o, panel, ROWS, vecs), A, o, panel)
                if derivative == OF_RELU:
                    delta = where_nonzero(a, delta)
                elif derivative == OF_LOGISTIC:
                    delta = delta * a * (one - a)
                elif derivative == OF_TANH:
                    delta = delta * (one - a * a)
                elif derivative == KEPT:
                    delta = delta * a
            store(delta, D, out, panel)

    return jit.kernel(TYPES, f"backward_{vecs}")(backward)


_backward_wide, _backward_narrow = _backward(VECS), _backward(1)


@kernel
def backward_panels(job, i, c_first, c_last, first, last, scratch):
    """delta_{i-1} for rows first..last and the panels from column c_first to c_last."""
    n, width = job.layers[i - 1].units, lanes(job)
    for r in range(first, last, BLOCK):
        end = min(r + BLOCK, last)
        for k in range(0, job.layers[i].units, CHUNK):
            for c in range(c_first, c_last, VECS * width):
                if n - c > (VECS - 1) * width:
                    _backward_wide(job, i, k, c, r, end, scratch)
                else:
                    for v in range(c, n, width):
                        _backward_narrow(job, i, k, v, r, end, scratch)


# ---- gradient ---------------------------------------------------------------------------------------------------


def _gradient(rows, vecs):
    def gradient(job, i, c, k_first, k_last, first, last, G, g):
        """A_{i-1}' delta_i over rows first..last of the batch, or delta_i' A_{i-1} where W_i' stands in P.

        For rows k_first..k_last of it and the tile's columns from c; to G, from offset g on.
        """
        below, layer, A, D, height = job.layers[i - 1], job.layers[i], job.A, job.D, job.height
        panel, transposed = VECS * lanes(A), layer.transposed
        in_place, X, places = below.in_place, below.X, below.places
        left, at_left, right, at_right = A, below.values, D, layer.deltas
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
def gradient_item(job, item, first, last, batch, G, g):
    """The gradient of a work item over the rows of the batch in first..last; to G, from offset g on."""
    i, c, k, k_last, panel, width = item.layer, item.column, item.first, item.last, VECS * lanes(job), lanes(job)
    layer = job.layers[i]
    n = job.layers[i - 1].units if layer.transposed else layer.units
    if item.kind != WEIGHTS:  # delta is 0 in the rows that fill the last tile
        terms, start = job.D, layer.deltas
        if item.kind == BLENDS:
            terms, start = job.A, layer.differences
        for v in range(0, item.count, width):
            sums, d = zeros(terms, ROWS, 1), at(start, job.height, 0, c, panel) + v
            for r in range(first, last, ROWS):
                sums = sums + load(terms, d + r * panel, panel, ROWS, 1)
            store(column_sum(sums), G, g + v, 0)
    else:
        end = min(last, batch)
        rest = (k_last - k) % ROWS
        k_low = k_last - rest if 0 < rest <= ROWS // 2 else k_last  # the last rows may be half a tile
        g_low = g + (k_low - k) * panel
        if n - c > (VECS - 1) * width:
            _gradient_wide(job, i, c, k, k_low, first, end, G, g)
            if k_low < k_last:
                _gradient_wide_low(job, i, c, k_low, k_last, first, end, G, g_low)
        else:
            for v in range(0, n - c, width):
                _gradient_narrow(job, i, c + v, k, k_low, first, end, G, g + v)
                if k_low < k_last:
                    _gradient_narrow_low(job, i, c + v, k_low, k_last, first, end, G, g_low + v)
