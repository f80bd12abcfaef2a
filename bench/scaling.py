"""What more threads can bring: a model of their shares and of the waits between passes; and what is measured here.

    python bench/scaling.py

On T threads a batch takes as long as the largest share of each of its passes, by the plan that the kernels follow, and
the waits between them, in which T threads count themselves at one place, whose cache line goes from core to core. Work
is counted in multiply-adds, a step as so many as the plan counts for it, at the speed of one thread, which is measured,
as is the way of a line. The model knows nothing of numbers that move between caches, nor of memory that cores share.
"""

import time
from itertools import pairwise
from statistics import median

import numba
import numpy as np
from cases import CASES, data
from compare import digits, table_head, table_row
from peak import round_trip

from fastmlp import MLP, _plan
from fastmlp.compiled.tile import ROWS
from fastmlp.compiled.updates import STEP
from fastmlp.training import Adam

COUNTS = 2, 4, 8, 16, 32, 64
ROUNDS = 9


def largest(pieces, threads):
    """The largest of contiguous shares of equal pieces, as a part of all."""
    return max(pieces * (p + 1) // threads - pieces * p // threads for p in range(threads)) / pieces


def work(plan, batch, threads):
    """Multiply-adds of the largest shares of a batch's passes, and how many passes there are."""
    units, panel, tiles, groups = plan.layer_units, plan.panels.panel, -(-batch // ROWS), plan.groups(batch)
    by_layers = threads > 1 and plan.by_layers(batch)

    def share(n):
        """Of a layer of n units, as all threads go through it together; else of all layers."""
        panels = -(-n // panel)
        if not by_layers:
            return largest(groups if groups > 1 else tiles, threads)
        return largest(panels if panels >= threads else tiles, threads)

    weights = [n * m for n, m in pairwise(units)]
    forward = sum(batch * n * m * share(m) for n, m in pairwise(units))
    back = sum(batch * n * m * share(n) for n, m in pairwise(units[1:]))
    gradient, step = batch * sum(weights), _plan._STEP_ROWS * sum(weights)
    costs = plan.costs if groups == 1 else plan.step_costs
    items, ends = plan.shares(threads, by_layers, costs)
    owned = max(costs[items["place"][first:last]].sum() for first, last in pairwise(ends)) / costs.sum()
    in_groups = gradient * share(0) if groups > 1 else gradient * owned
    return forward + back + in_groups + step * owned, len(plan.passes(False, by_layers, STEP, False, False))


def speed_up(plan, batch, threads, second, trip):
    """Time on one thread by that on so many; `second` is a multiply-add's, `trip` a line's to a core and back."""
    alone, _ = work(plan, batch, 1)
    most, passes = work(plan, batch, threads)
    return alone * second / (most * second + passes * (threads + 1) / 2 * trip)


def measured(case):
    """The plan, the seconds of a batch on one thread, and what all threads of this machine bring."""
    X, y = data(case, "float32")
    network = MLP(case.layers, output="logistic" if case.layers[-1] == 1 else "softmax", dtype="float32")
    network.initialize(np.random.RandomState(0))
    rows, optimizer, threads = network.data(X, y), Adam(network), numba.config.NUMBA_NUM_THREADS

    def seconds(count):
        numba.set_num_threads(count)
        begin = time.perf_counter()
        for _ in range(case.steady):
            network.train_epoch(rows, optimizer, case.batch)
        return (time.perf_counter() - begin) / case.steady / (case.rows / case.batch)

    seconds(1), seconds(threads)
    rounds = [(seconds(1), seconds(threads)) for _ in range(ROUNDS)]
    return network.plan, median(one for one, _ in rounds), median(one / all_ for one, all_ in rounds)


def main():
    """Print a table."""
    trip, threads = round_trip(), numba.config.NUMBA_NUM_THREADS
    print(f"A cache line's way to another core and back: {1e9 * trip:.0f} ns", "", sep="\n")
    columns = ["case", "batch, us", f"measured on {threads}", *(f"model, {count}" for count in COUNTS)]
    print(*table_head(columns), sep="\n")
    for name, case in CASES.items():
        plan, alone, brought = measured(case)
        second = alone / work(plan, case.batch, 1)[0]
        model = [digits(speed_up(plan, case.batch, count, second, trip)) for count in COUNTS]
        print(table_row(name, digits(1e6 * alone), digits(brought), *model), flush=True)


if __name__ == "__main__":
    main()
