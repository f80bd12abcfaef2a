"""Update rules: a table, a row for each, and the step of a work item.

A row is a function of vectors: of parameters w and their gradient g, at offset o of P and of the moments M and V.
"""

from typing import NamedTuple

from fastmlp.compiled import jit
from fastmlp.compiled.jit import inlined
from fastmlp.compiled.records import SCALES, WEIGHTS
from fastmlp.compiled.storage import at, kernel, padded
from fastmlp.compiled.tile import ROWS, VECS, lanes, load, number, sqrt, store, store_transposed, total, zeros

# what a pass over the data is for
LOSS, GRADIENT, STEP = range(3)


class Rule(NamedTuple):
    """A row of the table."""

    name: str
    # the kernel for a work item
    kernel: jit.Kernel
    # how many numbers it keeps for each parameter
    moments: int = 0
    # whether the rate has Adam's correction, for moments that start at 0
    corrected: bool = False
    goal: int = STEP


@inlined
def rule(o, w, g, rate, keep, beta_1, rest_1, beta_2, rest_2, epsilon, P, M, V):
    """Stands for a row's function."""


@inlined
def summed(G, g, groups, size):
    """The sum of the groups' gradients, in G from g on, `size` apart."""
    sum_ = load(G, g, 0, 1, 1)
    for group in range(1, groups):
        sum_ = sum_ + load(G, g + group * size, 0, 1, 1)
    return sum_


@kernel
def step_item(job, item, G, g):
    """The step of a work item with the sum of the groups' gradients, in G from g on.

    dW = (sum of gradients + alpha W) * scale, of all else (sum of gradients) * scale; both times `clip`. squares[place]
    becomes the sum of the squares of the old weights.
    """
    step, layer, panel, width = job.step, job.layers[item.layer], VECS * lanes(job), lanes(job)
    part = step.parts[item.part]
    P, Q, M, V, k_first, c, o = job.P, job.Q, job.M, job.V, item.first, item.column, item.start
    scale, rate, alpha = number(P, step.scale * step.clip), number(P, step.rate * part.rate), number(P, step.alpha)
    keep, epsilon = number(P, 1 - step.decay * part.decay), number(P, step.epsilon * part.epsilon * step.shrunk)
    beta_1, rest_1 = number(P, step.beta_1), number(P, 1 - step.beta_1)
    beta_2, rest_2 = number(P, step.beta_2), number(P, 1 - step.beta_2)
    square_sum, groups, size = zeros(P, 1, 1), job.groups, job.size
    m = layer.units  # columns of W_i, or of W_i' if that stands in P
    if layer.transposed:
        m = job.layers[item.layer - 1].units
    rows, columns = item.last - k_first, min(panel, padded(m - c, width))
    if item.kind != WEIGHTS:  # no penalty
        alpha, rows, columns = number(P, 0), 1, item.count
    if item.kind == SCALES:
        groups = 1
    for r in range(0, rows * panel, panel):
        for v in range(r, r + columns, width):
            w = load(P, o + v, 0, 1, 1)
            if alpha != 0:
                square_sum = square_sum + w * w
            gradient = (summed(G, g + v, groups, size) + alpha * w) * scale
            rule(o + v, w, gradient, rate, keep, beta_1, rest_1, beta_2, rest_2, epsilon, P, M, V)
    if item.kind == WEIGHTS and job.goal == STEP and layer.copy >= 0:
        for k in range(k_first, item.last, ROWS):
            for v in range(0, columns, width):
                copy = at(layer.copy, padded(m, width), c + v, k, panel)
                store_transposed(load(P, o + (k - k_first) * panel + v, panel, ROWS, 1), Q, copy, panel)
    job.squares[item.place] = total(square_sum)


@kernel
def measure_item(job, item):
    """gradient_squares[place] = the sum of the squares of dW, or db, of a work item.

    The padding has the gradient 0, and adds nothing.
    """
    step, layer, panel, width = job.step, job.layers[item.layer], VECS * lanes(job), lanes(job)
    P, G, scale, alpha = job.P, job.G, number(job, step.scale), number(job, step.alpha)
    groups, size, m, square_sum = job.groups, job.size, layer.units, zeros(P, 1, 1)
    if layer.transposed:
        m = job.layers[item.layer - 1].units
    rows, columns = item.last - item.first, min(panel, padded(m - item.column, width))
    if item.kind != WEIGHTS:
        alpha, rows, columns = number(job, 0), 1, item.count
    for r in range(item.start, item.start + rows * panel, panel):
        for v in range(r, r + columns, width):
            gradient = (summed(G, v, groups, size) + alpha * load(P, v, 0, 1, 1)) * scale
            square_sum = square_sum + gradient * gradient
    job.gradient_squares[item.place] = total(square_sum)


# ---- rows -------------------------------------------------------------------------------------------------------


@inlined
def keep_gradient(o, w, g, rate, keep, beta_1, rest_1, beta_2, rest_2, epsilon, P, M, V):
    """m = g, and w stays."""
    store(g, M, o, 0)


@inlined
def sgd(o, w, g, rate, keep, beta_1, rest_1, beta_2, rest_2, epsilon, P, M, V):
    """w -= rate g"""
    store(w - rate * g, P, o, 0)


@inlined
def momentum(o, w, g, rate, keep, beta_1, rest_1, beta_2, rest_2, epsilon, P, M, V):
    """v = beta_1 v - rate g,  w += v"""
    v = beta_1 * load(M, o, 0, 1, 1) - rate * g
    store(v, M, o, 0)
    store(w + v, P, o, 0)


@inlined
def nesterov(o, w, g, rate, keep, beta_1, rest_1, beta_2, rest_2, epsilon, P, M, V):
    """v = beta_1 v - rate g,  w += beta_1 v - rate g, with the new v"""
    v = beta_1 * load(M, o, 0, 1, 1) - rate * g
    store(v, M, o, 0)
    v = beta_1 * v - rate * g
    store(w + v, P, o, 0)


@inlined
def momentum_of_gradients(o, w, g, rate, keep, beta_1, rest_1, beta_2, rest_2, epsilon, P, M, V):
    """m = beta_1 m + g,  w -= rate m: that of PyTorch, all of whose velocity has the rate of the last batch"""
    m = beta_1 * load(M, o, 0, 1, 1) + g
    store(m, M, o, 0)
    store(w - rate * m, P, o, 0)


@inlined
def nesterov_of_gradients(o, w, g, rate, keep, beta_1, rest_1, beta_2, rest_2, epsilon, P, M, V):
    """m = beta_1 m + g,  w -= rate (g + beta_1 m), with the new m"""
    m = beta_1 * load(M, o, 0, 1, 1) + g
    store(m, M, o, 0)
    store(w - rate * (g + beta_1 * m), P, o, 0)


@inlined
def adam(o, w, g, rate, keep, beta_1, rest_1, beta_2, rest_2, epsilon, P, M, V):
    """m = beta_1 m + (1 - beta_1) g,  v = beta_2 v + (1 - beta_2) g^2,  w -= rate m / (sqrt(v) + epsilon)"""
    m = beta_1 * load(M, o, 0, 1, 1) + rest_1 * g
    v = beta_2 * load(V, o, 0, 1, 1) + rest_2 * (g * g)
    store(m, M, o, 0)
    store(v, V, o, 0)
    store(w - rate * m / (sqrt(v) + epsilon), P, o, 0)


@inlined
def decayed(o, w, g, rate, keep, beta_1, rest_1, beta_2, rest_2, epsilon, P, M, V):
    """Any of them with decoupled weight decay (Loshchilov and Hutter, 2019): first w *= 1 - rate * weight_decay."""
    undecayed(o, keep * w, g, rate, keep, beta_1, rest_1, beta_2, rest_2, epsilon, P, M, V)


undecayed = rule


def _rows(name, function, *others):
    """A rule, and the same with weight decay."""
    with_decay = jit.variant(decayed, f"_{name}", undecayed=function)
    yield Rule(name, jit.variant(step_item, f"_{name}", rule=function), *others)
    yield Rule(f"{name}_decayed", jit.variant(step_item, f"_{name}_decayed", rule=with_decay), *others)


RULES = {
    row.name: row
    for row in [
        Rule("loss", step_item, goal=LOSS),
        Rule("gradient", jit.variant(step_item, "_gradient", rule=keep_gradient), goal=GRADIENT),
        *_rows("sgd", sgd),
        *_rows("momentum", momentum, 1),
        *_rows("nesterov", nesterov, 1),
        *_rows("momentum_of_gradients", momentum_of_gradients, 1),
        *_rows("nesterov_of_gradients", nesterov_of_gradients, 1),
        *_rows("adam", adam, 2, True),
    ]
}
