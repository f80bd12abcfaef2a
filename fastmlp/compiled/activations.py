"""Activations: a table, a row for each.

The four of scikit-learn have their derivatives from the output a = f(z), inline in `dense.backward`. Any other is two
functions of a tile, f(z) and f'(z): a kernel of its own is compiled from them when the first network uses it, which
keeps f' beside f for the way back.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fastmlp.compiled import jit
from fastmlp.compiled.jit import inlined
from fastmlp.compiled.storage import FEW, at, kernel
from fastmlp.compiled.tile import (
    ROWS,
    VECS,
    call,
    column,
    exp,
    lanes,
    load,
    load_column,
    load_like,
    logistic,
    maximum,
    number,
    row_max,
    row_sum,
    store,
    store_column,
    tanh,
    two_columns,
    zeros,
)

# where f'(z) comes from: it is 1; the output a, as 1 if a > 0, a (1 - a), 1 - a^2; or it is kept
ONE, OF_RELU, OF_LOGISTIC, OF_TANH, KEPT = range(5)


class Activation(NamedTuple):
    """A row of the table."""

    name: str
    # f(z) = rest(max(z, floor)); kernels for the rest, alone and with the derivative, which is kept
    floor: float = -np.inf
    activate: jit.Kernel | None = None
    activate_and_keep: jit.Kernel | None = None
    # instead, for what takes whole rows
    normalize: jit.Kernel | None = None
    derivative: int = ONE
    # the bias of the units that pad a layer: they put out 0
    padded_bias: float = 0.0
    # weights start uniform in +-sqrt(factor / (units in + units out))
    factor: float = 6.0
    # the node of ONNX, or what makes such nodes: of `node(name, *inputs)` and z
    onnx: str | Callable = "Identity"


# ---- kernels ----------------------------------------------------------------------------------------------------


@inlined
def f(z):
    """Stands for a row's function."""
    return z


@inlined
def slope(z, a):
    """Stands for its derivative, of z and a = f(z)."""
    return z


@kernel
def activate(A, start, rows, columns, apart):
    """f of the numbers of a tile that is in the first-level cache, a vector at a time."""
    panel = VECS * lanes(A)
    for row in range(start, start + rows * panel, panel):
        for o in range(row, row + columns, lanes(A)):
            store(f(load(A, o, 0, 1, 1)), A, o, 0)


@kernel
def activate_and_keep(A, start, rows, columns, apart):
    """The same, and f' of each number so far behind it."""
    panel = VECS * lanes(A)
    for row in range(start, start + rows * panel, panel):
        for o in range(row, row + columns, lanes(A)):
            z = load(A, o, 0, 1, 1)
            a = f(z)
            store(a, A, o, 0)
            store(slope(z, a), A, o + apart, 0)


@inlined
def activated(layer, z, A, start, stride):
    """f of a column: a vector serves as many rows as it has numbers. If f' is kept, it goes to the column `start`."""
    z = maximum(z, number(A, layer.floor))
    if layer.activate != 0:
        size, few = max(ROWS, lanes(A)), two_columns(A)
        store(z, few, 0, 0)
        call(layer.activate, (few, 0, 1, size, size))
        z = load_like(z, few, 0)
        if layer.slopes >= 0:
            store_column(load_like(z, few, size), A, start, stride)
    return z


@kernel
def softmax(job, first, last):
    """A_L = e^(Z - max Z) / sum of e^(Z - max Z), row by row, for rows first..last."""
    A, output, height = job.A, job.layers[job.layer_count], job.height
    n, panel, width = output.units, VECS * lanes(A), lanes(A)
    for r in range(first, last, ROWS):
        z = at(output.values, height, r, 0, panel)
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


# ---- rows -------------------------------------------------------------------------------------------------------


def _row(name, f, slope=None, **others):
    """An activation by its function of a tile, and by its derivative f'(z), of z and a, if that is to be kept."""
    if slope is not None:
        others |= {
            "activate_and_keep": jit.variant(activate_and_keep, f"_{name}", f=f, slope=slope),
            "derivative": KEPT,
        }
    return Activation(name, activate=jit.variant(activate, f"_{name}", f=f), **others)


@inlined
def silu(z):
    """z / (1 + e^-z)"""
    return z * logistic(z)


@inlined
def silu_slope(z, a):
    s = logistic(z)
    return s + a * (1.0 - s)


# 0 at this bias for all that are not 0 at 0
NEVER = -1e30

HIDDEN = {
    row.name: row
    for row in [
        Activation("identity"),
        _row("logistic", logistic, derivative=OF_LOGISTIC, padded_bias=NEVER, factor=2.0, onnx="Sigmoid"),
        _row("tanh", tanh, derivative=OF_TANH, onnx="Tanh"),
        Activation("relu", floor=0.0, derivative=OF_RELU, onnx="Relu"),
        _row("silu", silu, silu_slope, onnx=lambda node, z: node("Mul", z, node("Sigmoid", z))),
    ]
}
OUTPUTS = {
    row.name: row
    for row in [
        HIDDEN["identity"],
        HIDDEN["logistic"],
        Activation("softmax", normalize=softmax, padded_bias=NEVER, onnx="Softmax"),
        _row("exp", exp, padded_bias=NEVER, onnx="Exp"),
    ]
}
