"""Where numbers lie: the rule of panels, what threads share, and what the parameters of kernels are called.

A matrix is stored as panels: as many columns as a tile is wide, row after row; `at` is the whole rule. Heights are
padded to whole tiles and widths to whole panels with numbers that change nothing (0, or a bias of -1e30 where f(0) is
not 0), so that no loop has a mask or a remainder.
"""

from numba import types

from fastmlp.compiled import jit
from fastmlp.compiled.jit import inlined
from fastmlp.compiled.records import ITEM, JOB
from fastmlp.compiled.tile import ROWS, VECS, T, lanes, skip

# layers of at most so many units are few columns: they go forward by dot products, and a vector serves as many rows
FEW = 4
# how far a sum runs at a time, in rows of a panel that stay in the first-level cache; a multiple of all panels
CHUNK = 192
# how many rows go through a layer at a time: CHUNK of their numbers, 200 kB in float32, are still in the second-level
# cache when the next panel of units needs them
BLOCK = 256

# What a parameter is called tells its type: a record, memory of T, of the type of X's numbers (S); else int64.
TYPES = {"job": JOB.of(T), "item": ITEM.of(), "X": types.CPointer(types.Dummy("S"))}
TYPES |= dict.fromkeys("A G P Q M V out scratch".split(), types.CPointer(T))
kernel = jit.kernel(TYPES)


@inlined
def at(start, height, row, column, panel):
    """Where the number (row, column) of a matrix lies whose panels have this height."""
    return start + (column // panel * height + row) * panel + column % panel


@inlined
def padded(n, multiple):
    return (n + multiple - 1) // multiple * multiple


@inlined
def rows_of(p, job, batch):
    """Where thread p's share of a batch's rows starts and ends: whole tiles."""
    tiles = padded(batch, ROWS) // ROWS
    return tiles * p // job.threads * ROWS, tiles * (p + 1) // job.threads * ROWS


@inlined
def columns_of(p, job, n):
    """Where thread p's share of n columns starts and ends: whole panels."""
    panel = VECS * lanes(job)
    panels = padded(n, panel) // panel
    return panels * p // job.threads * panel, min(n, panels * (p + 1) // job.threads * panel)


@inlined
def fade_of(job):
    """What is left of weight decay and dropout in this batch: 1 is all. To be read before the batch is counted."""
    if job.faded == 0:
        return 1.0
    return job.fades[job.step.batches - job.batches_before]


@inlined
def scratch_of(p, job):
    """Thread p's scratch."""
    return skip(job.scratch, p * CHUNK * VECS * lanes(job))
