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

`job.nonzeros` says where all this is. In their new order the batch's nonzeros have in `places` row and column in turns,
in `amounts` the values; those of block b that thread p has sorted are the ones from starts[b] to starts[b + 1] in its
line of `starts`.
"""

from fastmlp.compiled.dense import forward_panels, gradient_item, normalize, weights_forward
from fastmlp.compiled.jit import inlined
from fastmlp.compiled.records import WEIGHTS
from fastmlp.compiled.storage import at, kernel, padded, rows_of
from fastmlp.compiled.tile import ROWS, VECS, call, lanes, load, maximum, number, outer, skip, store, zeros


@inlined
def product(tile, X, indices, first, last, W, w, panel):
    """tile + the sum of X[k] W[indices[k], columns] for k in first..last."""
    for k in range(first, last):
        tile = outer(tile, X, k, 0, W, w + indices[k] * panel)
    return tile


@kernel
def forward_nonzeros(job, X, start, count, first, c_first, c_last):
    """A_1 = f(X W_1 + b_1) for the rows order[start + r], or start + r, r < count, in rows of A from `first`.

    Of it the panels from column c_first to c_last. In the rows that fill the last tile it is f(b_1).
    """
    layer, P, A, height, nonzeros = job.layers[1], job.P, job.A, job.height, job.nonzeros
    indptr, indices = nonzeros.indptr, nonzeros.indices
    n, panel, width, floor, b = layer.units, VECS * lanes(A), lanes(A), number(A, layer.floor), layer.biases
    W, w, w_height = weights_forward(job, 1)
    for r in range(padded(count, ROWS)):
        k, k_last = 0, 0
        if r < count:
            row = start + r
            if job.ordered > 0:
                row = job.order[row]
            k, k_last = indptr[row], indptr[row + 1]
        out = at(layer.values, height, first + r, 0, panel)
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
    if layer.activate != 0:
        for r in range(first, first + padded(count, ROWS), ROWS):
            for c in range(c_first, c_last, panel):
                out, columns = at(layer.values, height, r, c, panel), min(panel, padded(n - c, width))
                call(layer.activate, (A, out, ROWS, columns, layer.slopes - layer.values))
    if layer.drop != 0:
        call(layer.drop, (job, 1, c_first, c_last, first, first + padded(count, ROWS)))


@kernel
def forward_rows_of_nonzeros(job, X, start, count, first):
    """A_1 .. A_L for `count` rows of X, in rows of A from `first`."""
    forward_nonzeros(job, X, start, count, first, 0, job.layers[1].units)
    last = first + padded(count, ROWS)
    for i in range(2, job.layer_count + 1):
        forward_panels(job, i, 0, job.layers[i].units, first, last)
    normalize(job, first, last)


@inlined
def fetch_nothing(job, X, first, last):
    """In place of `fetch_rows`: nonzeros are not fetched ahead."""


@kernel
def sort_nonzeros(job, p, start, batch, X):
    """The nonzeros of thread p's rows of the batch to `places` and `amounts`, by blocks of columns: counting sort."""
    nonzeros, order = job.nonzeros, job.order
    indptr, indices, ends = nonzeros.indptr, nonzeros.indices, nonzeros.ends
    shift, blocks = nonzeros.shift, nonzeros.blocks
    places, amounts, starts = nonzeros.places, nonzeros.amounts, skip(nonzeros.starts, p * (blocks + 2))
    first, last = rows_of(p, job, batch)
    first, last = min(batch, first), min(batch, last)
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
def gradient_nonzeros(job, item, G):
    """X' delta_1 for the rows and columns of a work item of layer 1; to G."""
    nonzeros, D, k_first, k_last = job.nonzeros, job.D, item.first, item.last
    panel, width = VECS * lanes(D), lanes(D)
    places, amounts, lists, lines = nonzeros.places, nonzeros.amounts, nonzeros.lists, nonzeros.blocks + 2
    starts = skip(nonzeros.starts, k_first >> nonzeros.shift)
    d = at(job.layers[1].deltas, job.height, 0, item.column, panel)
    for g in range(0, (k_last - k_first) * panel, width):
        store(zeros(G, 1, 1), G, g, 0)
    for p in range(lists):
        for e in range(starts[p * lines], starts[p * lines + 1]):
            g = (places[2 * e + 1] - k_first) * panel
            sum_ = outer(load(G, g, 0, 1, VECS), amounts, e, 0, D, d + places[2 * e] * panel)
            store(sum_, G, g, 0)


@kernel
def gradient_item_of_nonzeros(job, item, first, last, batch, G, g):
    """In place of `gradient_item`."""
    if item.layer == 1 and item.kind == WEIGHTS:
        gradient_nonzeros(job, item, G)
    else:
        gradient_item(job, item, first, last, batch, G, g)
