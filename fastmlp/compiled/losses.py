"""Losses: a table, a row for each, and the kernels that compute loss and delta_L = dloss/dZ_L of the output.

A row is two functions of a tile, of predictions p = A_L, targets y and the loss's parameter c: the loss, and its
derivative with respect to Z_L. One that fits its output has p - y. Of what fills a tile y is 0, and so is p where it
is a unit, not a row: the derivative must then be 0, and the loss finite. Cross-entropy, whose targets are classes, has
a kernel of its own.

The loss of each tile of rows goes to its first row's place in `losses`: summed over outputs and rows, times the rows'
weights. delta_L is 0 in the rows that fill the last tile.
"""

from typing import NamedTuple

import numpy as np

from fastmlp.compiled import jit
from fastmlp.compiled.jit import inlined
from fastmlp.compiled.storage import FEW, at, kernel
from fastmlp.compiled.tile import (
    ROWS,
    VECS,
    column,
    eps,
    first_of,
    gather,
    lanes,
    load,
    load_column,
    load_part,
    log,
    maximum,
    minimum,
    number,
    store,
    store_column,
    total,
    where_nonzero,
    zeros,
)


class Loss(NamedTuple):
    """A row of the table."""

    name: str
    # the activation of the output
    output: str
    # the kernel for rows first..last of a batch
    kernel: jit.Kernel
    # whether the loss of a row is the mean over its outputs or their sum; deltas are of the sum
    mean: bool = False
    # what the estimators call the parameter c; without one it is the distance from 1 to the next number
    parameter: str | None = None
    # it is > 0, and less than this
    below: float = np.inf
    # what its targets are: a row of `_data.TARGETS`
    targets: str = "numbers"


# ---- kernels ----------------------------------------------------------------------------------------------------


@inlined
def loss_of(p, y, c):
    """Stands for a row's loss, number by number."""
    return p


@inlined
def difference(p, y, c):
    """dloss/dZ_L where loss and output fit: p - y."""
    return p - y


delta_of = difference


@kernel
def element_losses_of_few(job, tile, start, batch):
    """`element_losses` for a tile of rows of a layer of few units, unit by unit."""
    output, panel, rows = job.layers[job.layer_count], VECS * lanes(job), batch - tile
    A, D, order, n, c = job.A, job.D, job.order, output.units, number(job, job.loss_parameter)
    a, d = at(output.values, job.height, tile, 0, panel), at(output.deltas, job.height, tile, 0, panel)
    sample_weights = gather(job.sample_weights, job.sample_weight_stride, 0, order, start + tile, rows)
    loss = column(A, 0)
    for j in range(n):
        # Always so, but this is not known: else the constants of logarithms would be put on the stack before the loop,
        # which takes as long as the loss of one unit.
        if job.batch_size > 0:
            p, y = load_column(A, a + j, panel), gather(job.Y, n, j, order, start + tile, rows)
            loss = loss + loss_of(p, y, c)
            store_column(delta_of(p, y, c) * sample_weights, D, d + j, panel)
    job.losses[tile] = total(loss * sample_weights)


@kernel
def element_losses(job, first, last, start, batch):
    """Loss and deltas, number by number, for rows first..last of the batch from row `start` of the order on."""
    output, panel, width, height = job.layers[job.layer_count], VECS * lanes(job), lanes(job), job.height
    A, D, Y, losses, n, c = job.A, job.D, job.Y, job.losses, output.units, number(job, job.loss_parameter)
    for tile in range(first, last, ROWS):
        if n <= FEW and tile < batch:
            element_losses_of_few(job, tile, start, batch)
            continue
        tile_loss = 0.0
        for r in range(tile, tile + ROWS):
            if r >= batch:
                no_deltas(job, r)
                continue
            row, loss = job.order[start + r], zeros(D, 1, 1)
            sample_weight = job.sample_weights[row * job.sample_weight_stride]
            for k in range(0, n, width):
                p = load(A, at(output.values, height, r, k, panel), 0, 1, 1)
                y = load_part(A, Y, row * n + k, n - k)
                store(delta_of(p, y, c) * sample_weight, D, at(output.deltas, height, r, k, panel), 0)
                loss = loss + first_of(loss_of(p, y, c), n - k)
            tile_loss += np.float64(total(loss)) * sample_weight
        losses[tile] = tile_loss


@inlined
def no_deltas(job, r):
    """0 in a row that fills the last tile."""
    output, panel = job.layers[job.layer_count], VECS * lanes(job)
    for k in range(0, output.units, lanes(job)):
        store(zeros(job, 1, 1), job.D, at(output.deltas, job.height, r, k, panel), 0)


@inlined
def log_clipped(p, eps, one):
    """ln of a probability as scikit-learn's loss takes it: in [eps, 1 - eps], but NaN stays."""
    return log(minimum(maximum(p, eps), one - eps))


@kernel
def cross_entropy_of_few(job, tile, start, batch):
    """`cross_entropy` for a tile of rows of a layer of few units, unit by unit."""
    output, panel, one = job.layers[job.layer_count], VECS * lanes(job), number(job, 1)
    A, D, order, rows = job.A, job.D, job.order, batch - tile
    a, d = at(output.values, job.height, tile, 0, panel), at(output.deltas, job.height, tile, 0, panel)
    sample_weights = gather(job.sample_weights, job.sample_weight_stride, 0, order, start + tile, rows)
    chosen = column(A, 0)
    for j in range(output.units):
        p, label = load_column(A, a + j, panel), gather(job.Y, 1, 0, order, start + tile, rows)
        y = one - where_nonzero(label - number(A, j), column(A, 1))
        chosen = chosen + p * y
        store_column((p - y) * sample_weights, D, d + j, panel)
    loss = column(A, 0) - log_clipped(chosen, number(A, eps(A)), one)
    job.losses[tile] = total(loss * sample_weights)


@kernel
def cross_entropy(job, first, last, start, batch):
    """-ln of the probability of each row's class; p - y, y = 1 for the class, else 0."""
    output, panel, width, height = job.layers[job.layer_count], VECS * lanes(job), lanes(job), job.height
    A, D, losses, n = job.A, job.D, job.losses, output.units
    for tile in range(first, last, ROWS):
        if n <= FEW and tile < batch:
            cross_entropy_of_few(job, tile, start, batch)
            continue
        for r in range(tile, tile + ROWS):
            losses[r] = 1  # of no loss
            if r >= batch:
                no_deltas(job, r)
                continue
            row = job.order[start + r]
            sample_weight, label = job.sample_weights[row * job.sample_weight_stride], np.int64(job.Y[row])
            for k in range(0, n, width):
                p = load(A, at(output.values, height, r, k, panel), 0, 1, 1)
                store(p * sample_weight, D, at(output.deltas, height, r, k, panel), 0)
            D[at(output.deltas, height, r, label, panel)] -= sample_weight
            losses[r] = A[at(output.values, height, r, label, panel)]
        logs = log_clipped(load_column(losses, tile, 1), eps(A), 1.0)
        store_column(number(losses, -1) * logs, losses, tile, 1)
        tile_loss = 0.0
        for r in range(tile, min(tile + ROWS, batch)):
            tile_loss += losses[r] * job.sample_weights[job.order[start + r] * job.sample_weight_stride]
        losses[tile] = tile_loss


# ---- rows -------------------------------------------------------------------------------------------------------


@inlined
def squared_error(p, y, c):
    """(p - y)^2 / 2"""
    return (p - y) * (p - y) * 0.5


@inlined
def soft_cross_entropy(p, y, c):
    """-y ln p"""
    return (0.0 - y) * log_clipped(p, c, 1.0)


@inlined
def binary_log_loss(p, y, c):
    """-y ln p - (1 - y) ln(1 - p), for each output."""
    return (y - 1.0) * log_clipped(1.0 - p, c, 1.0) - y * log_clipped(p, c, 1.0)


@inlined
def poisson(p, y, c):
    """Half the Poisson deviance: y ln(y / p) - y + p"""
    return where_nonzero(y, y * log(y / p)) - y + p


@inlined
def gamma(p, y, c):
    """Half the gamma deviance: ln(p / y) + y / p - 1. No target is 0; what fills a tile is."""
    return where_nonzero(y, log(p / y) + y / p - 1.0)


@inlined
def gamma_delta(p, y, c):
    """1 - y / p"""
    return where_nonzero(y, 1.0 - y / p)


@inlined
def absolute_error(p, y, c):
    """|p - y|"""
    return maximum(p - y, y - p)


@inlined
def absolute_error_delta(p, y, c):
    """The sign of p - y."""
    return where_nonzero(p - y, (p - y) / absolute_error(p, y, c))


@inlined
def quantile(p, y, c):
    """The pinball loss: c (y - p) below the target, (1 - c) (p - y) above it."""
    return maximum((1.0 - c) * (p - y), c * (y - p))


@inlined
def quantile_delta(p, y, c):
    """-c below, 1 - c above"""
    return where_nonzero(p - y, maximum(p - y, 0.0) / absolute_error(p, y, c) - c)


@inlined
def huber(p, y, c):
    """(p - y)^2 / 2 up to an error of c, beyond as steep as there: q (e - q / 2), e = |p - y|, q = min(e, c)."""
    error = absolute_error(p, y, c)
    near = minimum(error, c)
    return near * (error - near * 0.5)


@inlined
def huber_delta(p, y, c):
    """p - y within [-c, c]"""
    return maximum(minimum(p - y, c), 0.0 - c)


def _row(name, output, loss, delta=difference, **others):
    functions = {"loss_of": loss, "delta_of": delta}
    return Loss(name, output, jit.variant(element_losses, f"_{name}", **functions), **others)


# The first one that goes with an output is its default.
LOSSES = {
    row.name: row
    for row in [
        Loss("cross_entropy", "softmax", cross_entropy, targets="classes"),
        _row("binary_log_loss", "logistic", binary_log_loss),
        _row("squared_error", "identity", squared_error, mean=True),
        _row("poisson", "exp", poisson, targets="not negative"),
        _row("huber", "identity", huber, huber_delta, mean=True, parameter="huber_delta"),
        _row("absolute_error", "identity", absolute_error, absolute_error_delta, mean=True),
        _row("quantile", "identity", quantile, quantile_delta, mean=True, parameter="quantile", below=1.0),
        _row("gamma", "exp", gamma, gamma_delta, targets="positive"),
        _row("soft_cross_entropy", "softmax", soft_cross_entropy, targets="probabilities"),
    ]
}
