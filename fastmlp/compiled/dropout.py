"""Dropout (Srivastava et al., 2014): units of a hidden layer that are left out of a step, chosen row by row.

    A_i *= r,  f_i'(Z_i) *= r,  where r is 0 with probability p, else 1 / (1 - p)

The choice is a function of seed, batch, layer, row and unit, so it does not matter who makes it, and in what order: the
same on any number of threads, for tiles of any shape. f_i' is kept beside A_i for the way back.
"""

import numpy as np

from fastmlp.compiled.activations import KEPT, OF_LOGISTIC, OF_RELU, OF_TANH
from fastmlp.compiled.storage import at, fade_of, kernel
from fastmlp.compiled.tile import VECS, lanes, load, mixed, number, one_or_none, store, where_nonzero, zeros


@kernel
def drop(job, i, c_first, c_last, first, last):
    """Leave out units of layer i, in rows first..last and the panels from column c_first to c_last."""
    layer, A, panel, width, derivative = job.layers[i], job.A, VECS * lanes(job), lanes(job), job.layers[i].undropped
    p = layer.dropout * fade_of(job)
    one, scale, dropped = number(A, 1), number(A, 1 / (1 - p)), min(np.int64(p * 2**32 + 0.5), 2**32 - 1)
    batch, columns = mixed(mixed(job.step.seed) ^ job.step.batches), min(c_last, layer.units)
    for r in range(first, last):
        row = mixed(batch ^ (i << 32 | r))
        for c in range(c_first, columns, width):
            o = at(layer.values, job.height, r, c, panel)
            slope, a = at(layer.slopes, job.height, r, c, panel), load(A, o, 0, 1, 1)
            kept = one_or_none(a, row, c, dropped) * scale
            if derivative == KEPT:
                f = load(A, slope, 0, 1, 1)
            elif derivative == OF_RELU:
                f = where_nonzero(a, one)
            elif derivative == OF_LOGISTIC:
                f = a * (one - a)
            elif derivative == OF_TANH:
                f = one - a * a
            else:
                f = zeros(A, 1, 1) + one
            store(f * kept, A, slope, 0)
            if layer.differences >= 0:
                difference = at(layer.differences, job.height, r, c, panel)
                store(load(A, difference, 0, 1, 1) * kept, A, difference, 0)
            store(a * kept, A, o, 0)
