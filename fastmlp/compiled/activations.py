"""Activations: a table, a row for each.

The four of scikit-learn have their derivatives from the output a = f(z), inline in `dense.backward`. Any other is two
functions of a tile, f(z) and f'(z): a kernel of its own is compiled from them when the first network uses it, which
keeps f' beside f for the way back.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fastmlp.compiled import jit
from fastmlp.compiled.jit import inlined
from fastmlp.compiled.storage import FEW, at, kernel
from fastmlp.compiled.tile import (
    NORMAL_COEFFICIENTS,
    ROWS,
    VECS,
    absolute,
    call,
    column,
    exp,
    exp_of_minus,
    expm1_of_minus,
    lanes,
    load,
    load_column,
    load_like,
    log1p,
    logistic,
    maximum,
    minimum,
    multiply_add,
    normal_chord,
    number,
    row_max,
    row_sum,
    store,
    store_column,
    tanh,
    times_exp,
    two_columns,
    where_greater,
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
    # in place of all that, where the activation is parametric; not for those whose derivative is not kept
    blend: jit.Kernel | None = None
    derivative: int = ONE
    # the bias of the units that pad a layer: they put out 0
    padded_bias: float = 0.0
    # weights start uniform in +-sqrt(factor / (units in + units out))
    factor: float = 6.0
    # the node of ONNX, or what makes such nodes: of `node(name, *inputs)`, whose inputs may be numbers, and z
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


@kernel
def blend(job, i, c_first, c_last, first, last):
    """A_i = z + b (f(z) - z) with a parameter b of each unit, as RealMLP has it; on the way z stands in A.

    For rows first..last and the panels from column c_first to c_last. If they are wanted, the derivative and f(z) - z
    are kept.
    """
    layer, A, height, one = job.layers[i], job.A, job.height, number(job, 1)
    panel, width = VECS * lanes(job), lanes(job)
    for r in range(first, last):
        for c in range(c_first, min(c_last, layer.units), width):
            o, b = at(layer.values, height, r, c, panel), load(job.P, layer.blends + c, 0, 1, 1)
            z = load(A, o, 0, 1, 1)
            a = f(z)
            difference = a - z
            store(multiply_add(b, difference, z), A, o, 0)
            if layer.differences >= 0:
                store(difference, A, at(layer.differences, height, r, c, panel), 0)
                store(multiply_add(b, slope(z, a) - one, one), A, at(layer.slopes, height, r, c, panel), 0)


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
            "blend": jit.variant(blend, f"_{name}", f=f, slope=slope),
        }
    return Activation(name, activate=jit.variant(activate, f"_{name}", f=f), **others)


@inlined
def leaky_relu(z):
    """max(z, z / 100)"""
    return maximum(z, z * 0.01)


@inlined
def leaky_relu_slope(z, a):
    return where_greater(z, 0.0, 1.0, 0.01)


@inlined
def elu(z):
    """z, but e^z - 1 below 0"""
    return where_greater(z, 0.0, z, expm1_of_minus(z))


@inlined
def elu_slope(z, a):
    return where_greater(z, 0.0, 1.0, exp_of_minus(z))


# Klambauer et al. (2017), scale and scale times alpha: outputs keep mean 0 and variance 1 from layer to layer
SELU_SCALE, SELU_BELOW = 1.0507009873554804934193349852946, 1.7580993408473768599402175208123


@inlined
def selu(z):
    """scale z, but scale alpha (e^z - 1) below 0"""
    return where_greater(z, 0.0, z * SELU_SCALE, expm1_of_minus(z) * SELU_BELOW)


@inlined
def selu_slope(z, a):
    return where_greater(z, 0.0, SELU_SCALE, exp_of_minus(z) * SELU_BELOW)


@inlined
def softplus(z):
    """ln(1 + e^z)"""
    return maximum(z, 0.0) + log1p(exp_of_minus(z))


@inlined
def softplus_slope(z, a):
    return logistic(z)


# A sigmoid S with S(-z) = 1 - S(z) makes f(z) = z S(z) = max(z, 0) - t S(-t) for t = |z|, and f'(z) = 1 - f'(-z): so no
# digits are lost where S is almost 1. A kernel that keeps f' computes once what f and f' have in common.

DENSITY = 1 / math.sqrt(2 * math.pi)  # of normal numbers at 0


@inlined
def distance(z, far):
    """|z|, or what is far enough for f(-|z|) to be 0: infinity times 0 would be NaN."""
    return minimum(absolute(z), far)


@inlined
def silu(z):
    """z s(z) for the logistic function s"""
    t = distance(z, 1000.0)
    return multiply_add(t * -1.0, logistic(t * -1.0), maximum(z, 0.0))


@inlined
def silu_slope(z, a):
    t = distance(z, 1000.0)
    s = logistic(t * -1.0)
    below = s - t * s * (1.0 - s)
    return where_greater(z, 0.0, 1.0 - below, below)


@inlined
def gelu(z):
    """z Phi(z) for the normal distribution Phi"""
    t = distance(z, 13.0)
    return maximum(z, 0.0) - times_exp(multiply_add(t * t, normal_chord(t) * -1.0, t * 0.5), t * t * -0.5)


@inlined
def gelu_slope(z, a):
    """Phi(-t) - t Phi'(-t) below 0"""
    t = distance(z, 13.0)
    below = times_exp(multiply_add(t * -1.0, normal_chord(t) + DENSITY, 0.5), t * t * -0.5)
    return where_greater(z, 0.0, 1.0 - below, below)


# where h / (h + 1) is about 1/2: from there on mish is z - z / (h + 1), as 1 / (h + 1) is the smaller part of 1
MIDDLE = -0.3119


@inlined
def mish_parts(z):
    """z between ends where f(z) is z or 0; e = e^z; h = e + e^2 / 2; (f(z) - z) / z or f(z) / z; 1 / (h + 1)."""
    y = maximum(minimum(z, 25.0), -80.0)
    e = times_exp(1.0, y)
    h = multiply_add(e * 0.5, e, e)
    ratio = where_greater(z, MIDDLE, -1.0, h) / (h + 1.0)
    return y, e, h, ratio, where_greater(z, MIDDLE, 0.0, 1.0) - ratio


@inlined
def mish(z):
    """z tanh(ln(1 + e^z)) = z h / (h + 1)"""
    y, _, _, ratio, _ = mish_parts(z)
    return multiply_add(y, ratio, where_greater(z, MIDDLE, z, 0.0))


@inlined
def mish_slope(z, a):
    """h / (h + 1) + z (2 h - e) / (h + 1)^2"""
    y, e, h, _, rest = mish_parts(z)
    return multiply_add(y * rest, multiply_add(h, 2.0, e * -1.0) * rest, 1.0 - rest)


# ---- in ONNX ----
# Of nodes that ONNX Runtime has for float32 and for float64; it has Elu, Selu, Softplus and Erf for float32 alone.


def onnx_elu(node, z, above=1.0, below=1.0):
    negative = node("Sub", node("Exp", node("Min", z, 0.0)), 1.0)
    return node("Add", node("Mul", node("Max", z, 0.0), above), node("Mul", negative, below))


def onnx_softplus(node, z):
    return node("Add", node("Max", z, 0.0), node("Log", node("Add", node("Exp", node("Neg", node("Abs", z))), 1.0)))


def onnx_gelu(node, z):
    """max(z, 0) - t Phi(-t), see `normal_chord`"""
    t = node("Abs", z)
    v = node("Div", t, node("Add", t, 4.0))
    *rest, total = NORMAL_COEFFICIENTS[64]
    for coefficient in reversed(rest):
        total = node("Add", node("Mul", total, v), coefficient)
    ratio = node("Sub", 0.5, node("Mul", t, total))
    below = node("Mul", ratio, node("Exp", node("Mul", node("Mul", t, t), -0.5)))
    return node("Sub", node("Max", z, 0.0), node("Mul", t, below))


# ---- table ----

# 0 at this bias for all that are not 0 at 0
NEVER = -1e30

HIDDEN = {
    row.name: row
    for row in [
        Activation("identity"),
        _row("logistic", logistic, derivative=OF_LOGISTIC, padded_bias=NEVER, factor=2.0, onnx="Sigmoid"),
        _row("tanh", tanh, derivative=OF_TANH, onnx="Tanh"),
        Activation("relu", floor=0.0, derivative=OF_RELU, onnx="Relu"),
        _row("leaky_relu", leaky_relu, leaky_relu_slope, onnx=lambda node, z: node("Max", z, node("Mul", z, 0.01))),
        _row("elu", elu, elu_slope, onnx=onnx_elu),
        _row("selu", selu, selu_slope, onnx=lambda node, z: onnx_elu(node, z, SELU_SCALE, SELU_BELOW)),
        _row("softplus", softplus, softplus_slope, padded_bias=NEVER, onnx=onnx_softplus),
        _row("silu", silu, silu_slope, onnx=lambda node, z: node("Mul", z, node("Sigmoid", z))),
        _row("gelu", gelu, gelu_slope, onnx=onnx_gelu),
        _row("mish", mish, mish_slope, onnx=lambda node, z: node("Mul", z, node("Tanh", onnx_softplus(node, z)))),
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
