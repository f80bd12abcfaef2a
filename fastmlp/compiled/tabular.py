"""What a network for tables has in front of its dense layers, as RealMLP (Holzmueller et al., 2024) has it.

    numbers     x -> [h W + b, x],  h = cos(2 pi w x + v): 16 frequencies w, 3 outputs; each column has its own
    categories  the number of a category -> a row of 8 numbers, of a table that each column has
    scales      A_0 = [all numbers, the columns that stay as they are, all categories] * s

All of it is learnt. With delta_0 = delta_1 W_1' the gradients of what is embedded are those of any layer. That of the
scales needs no delta_0: in W_1 * dW_1, which is s_i ds_i in the sum of row i, stands all of it.

The parameters of a column of numbers are a block of P: w, v, the three columns of W, b. Columns of X and numbers of
categories are kept beside A_0, where other layers keep f'.
"""

import math

import numpy as np

from fastmlp.compiled.dense import gradient_item, pack
from fastmlp.compiled.jit import inlined
from fastmlp.compiled.records import EMBEDDINGS, TABLES, WEIGHTS
from fastmlp.compiled.storage import at, kernel, padded
from fastmlp.compiled.tile import (
    ROWS,
    VECS,
    call,
    cos_of_turns,
    lanes,
    load,
    multiply_add,
    number,
    sin_of_turns,
    store,
    total,
    zeros,
)
from fastmlp.compiled.updates import summed

# frequencies of a column; outputs of a number and of a category; numbers in a block of parameters
FREQUENCIES, OF_NUMBER, OF_CATEGORY = 16, 4, 8
BLOCK_OF_NUMBER = 6 * FREQUENCIES
_W_1, _W_2, _W_3, _BIASES = (i * FREQUENCIES for i in range(2, 6))
_TURN = 1 / (2 * math.pi)


@inlined
def scale(job, first, rows):
    """A_0 *= s"""
    input_, A, panel, width = job.layers[0], job.A, VECS * lanes(job), lanes(job)
    if input_.scales >= 0:
        for r in range(first, first + rows):
            for c in range(0, input_.units, width):
                o = at(input_.values, job.height, r, c, panel)
                store(load(A, o, 0, 1, 1) * load(job.P, input_.scales + c, 0, 1, 1), A, o, 0)


@kernel
def fill_scaled(job, X, start, count, first):
    """A_0 = X * s for rows of X, those that `pack` takes."""
    pack(job, X, start, count, first)
    scale(job, first, padded(count, ROWS))


@kernel
def fill_embedded(job, X, start, count, first):
    """A_0 = [numbers embedded, columns as they are, rows of tables] * s, and beside it numbers and categories."""
    input_, A, P, x, panel, width = job.layers[0], job.A, job.P, job.x, VECS * lanes(job), lanes(job)
    numbers, categories, height, slopes = input_.numbers, input_.categories, job.height, input_.slopes
    of_tables, turn = input_.columns - categories, number(P, _TURN)
    for r in range(first, first + padded(count, ROWS)):
        row = start + min(r - first, count - 1)  # rows that are not there are the last one again
        if job.ordered > 0:
            row = job.order[row]
        source = x[0] + row * x[1]
        for j in range(numbers):
            value, block = number(P, X[source + j * x[2]]), input_.embeddings + j * BLOCK_OF_NUMBER
            out = zeros(P, 1, 1), zeros(P, 1, 1), zeros(P, 1, 1)
            for o in range(block, block + FREQUENCIES, width):
                h = cos_of_turns(load(P, o, 0, 1, 1) * value + load(P, o + FREQUENCIES, 0, 1, 1) * turn)
                out = (
                    multiply_add(h, load(P, o + _W_1, 0, 1, 1), out[0]),
                    multiply_add(h, load(P, o + _W_2, 0, 1, 1), out[1]),
                    multiply_add(h, load(P, o + _W_3, 0, 1, 1), out[2]),
                )
            c, b = OF_NUMBER * j, block + _BIASES
            A[at(input_.values, height, r, c, panel)] = total(out[0]) + P[b]
            A[at(input_.values, height, r, c + 1, panel)] = total(out[1]) + P[b + 1]
            A[at(input_.values, height, r, c + 2, panel)] = total(out[2]) + P[b + 2]
            A[at(input_.values, height, r, c + 3, panel)] = value
            if slopes >= 0:
                A[at(slopes, height, r, j, panel)] = value
        c = OF_NUMBER * numbers
        for j in range(numbers, of_tables):
            A[at(input_.values, height, r, c, panel)] = X[source + j * x[2]]
            c += 1
        for j in range(categories):
            value, code = X[source + (of_tables + j) * x[2]], 0
            if value > 0:  # as no integer stands for NaN or infinity
                code = np.int64(min(value, input_.category_counts[j]))
            for m in range(OF_CATEGORY):
                A[at(input_.values, height, r, c, panel)] = P[input_.tables[j] + code * OF_CATEGORY + m]
                c += 1
            if slopes >= 0:
                A[at(slopes, height, r, numbers + j, panel)] = code
    scale(job, first, padded(count, ROWS))


# ---- gradients --------------------------------------------------------------------------------------------------


@inlined
def error(job, r, c):
    """The gradient of the loss by number c of what is embedded, in row r."""
    input_, panel = job.layers[0], VECS * lanes(job)
    delta = job.D[at(input_.deltas, job.height, r, c, panel)]
    if input_.scales >= 0:
        delta *= job.P[input_.scales + c]
    return delta


@kernel
def embedded_gradient(job, item, first, last, G, g):
    """The gradient of a column of numbers, or of some rows of a table, over rows of the batch; to G, from g on."""
    input_, P, A, panel, width, start = job.layers[0], job.P, job.A, VECS * lanes(job), lanes(job), item.start
    if item.kind == TABLES:
        for k in range(g, g + item.count):
            G[k] = 0
        c = OF_NUMBER * input_.numbers + input_.columns - input_.categories - input_.numbers
        c += OF_CATEGORY * item.column
        for r in range(first, last):
            code = np.int64(A[at(input_.slopes, job.height, r, input_.numbers + item.column, panel)])
            if item.first <= code < item.last:
                for m in range(OF_CATEGORY):
                    G[g + (code - item.first) * OF_CATEGORY + m] += error(job, r, c + m)
        return
    c, turn = OF_NUMBER * item.column, number(P, _TURN)
    for k in range(0, FREQUENCIES, width):
        w, v = load(P, start + k, 0, 1, 1), load(P, start + FREQUENCIES + k, 0, 1, 1) * turn
        w_1, w_2 = load(P, start + _W_1 + k, 0, 1, 1), load(P, start + _W_2 + k, 0, 1, 1)
        w_3, dw, dv = load(P, start + _W_3 + k, 0, 1, 1), zeros(P, 1, 1), zeros(P, 1, 1)
        dw_1, dw_2, dw_3 = zeros(P, 1, 1), zeros(P, 1, 1), zeros(P, 1, 1)
        for r in range(first, last):
            x = A[at(input_.slopes, job.height, r, item.column, panel)]
            e_1, e_2, e_3 = error(job, r, c), error(job, r, c + 1), error(job, r, c + 2)
            t = w * x + v
            h = cos_of_turns(t)
            dw_1, dw_2 = multiply_add(h, e_1, dw_1), multiply_add(h, e_2, dw_2)
            dw_3, dh = multiply_add(h, e_3, dw_3), multiply_add(w_3, e_3, multiply_add(w_2, e_2, w_1 * e_1))
            slope = dh * sin_of_turns(t)  # the other way round
            dw, dv = multiply_add(slope, x, dw), dv + slope
        store(dw * number(P, -1 / _TURN), G, g + k, 0)
        store(dv * number(P, -1), G, g + FREQUENCIES + k, 0)
        store(dw_1, G, g + _W_1 + k, 0)
        store(dw_2, G, g + _W_2 + k, 0)
        store(dw_3, G, g + _W_3 + k, 0)
    for k in range(FREQUENCIES):
        G[g + _BIASES + k] = 0
    for r in range(first, last):
        for k in range(OF_NUMBER - 1):
            G[g + _BIASES + k] += error(job, r, c + k)


@inlined
def gradient_item_of_tables(job, item, first, last, batch, G, g):
    """The gradient of a work item, of what is embedded too."""
    if item.kind == EMBEDDINGS or item.kind == TABLES:
        call(job.layers[0].embedded_gradient, (job, item, first, min(last, batch), G, g))
    else:
        gradient_item(job, item, first, last, batch, G, g)


@kernel
def sum_scales(job, item, G, g):
    """scale_sums[panel, row] = the sum of W_1 dW_1 along a row of a work item, whose gradients are in G from g on."""
    input_, layer, panel, width = job.layers[0], job.layers[1], VECS * lanes(job), lanes(job)
    if item.kind != WEIGHTS or item.layer != 1 or input_.scales < 0:
        return
    sums = item.column // panel * padded(input_.units, panel) + item.first
    columns = min(panel, padded(layer.units - item.column, width))
    for r in range(item.last - item.first):
        sum_ = zeros(G, 1, 1)
        for v in range(r * panel, r * panel + columns, width):
            w = load(job.P, item.start + v, 0, 1, 1)
            sum_ = multiply_add(w, summed(G, g + v, job.groups, job.size), sum_)
        job.scale_sums[sums + r] = total(sum_)


@inlined
def step_scales(job, scratch):
    """ds = (sum of W_1 dW_1 along a row) / s, and the step. A factor that has become 0 stays 0."""
    panel, height = VECS * lanes(job), padded(job.layers[0].units, VECS * lanes(job))
    panels = padded(job.layers[1].units, panel) // panel
    for j in range(job.scale_item_count):
        item = job.scale_items[j]
        for k in range(item.count):
            s, sum_ = job.P[item.start + k], 0.0
            for i in range(panels):
                sum_ += job.scale_sums[i * height + item.column + k]
            scratch[k] = sum_ / s if s != 0 else 0.0
        call(job.step_item, (job, item, scratch, 0))
