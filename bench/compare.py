"""Compare fastmlp with its peers on this machine: the losses first, then the time; print README's tables."""

import argparse
import contextlib
import importlib.metadata
import importlib.util
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from cases import CASES, PREDICTIONS, differ, flops_per_epoch
from conditions import CONDITIONS, PRODUCT
from workers import Absent, Worker, alternate, threads

START, AS_RUN, END = "<!-- speed table -->", "<!-- as people run it -->", "<!-- end -->"
OURS = "fastmlp"
TRAINING = ("scikit-learn", "NumPy", "JAX", "torch", "torch compiled")
PREDICTION = ("scikit-learn", "ONNX Runtime")
PEERS = (*TRAINING, "ONNX Runtime")
# Solver, dtype, cases, peers, cases under all conditions; the solver "predict" stands for prediction.
TASKS = [
    ("adam", "float32", CASES, TRAINING, ("default", "digits", "tabular")),
    ("sgd", "float32", CASES, TRAINING, ()),
    ("adam", "float64", ("default", "digits", "mnist"), ("scikit-learn",), ()),
    ("predict", "float32", PREDICTIONS, PREDICTION, PREDICTIONS),
]
PACKAGES = {"JAX": "jax", "torch": "torch", "torch compiled": "torch", "ONNX Runtime": "onnxruntime"}
BUDGET = 25  # seconds of a row after which it takes no further round, if it has had three
WAIT = 20  # how many times a round looks whether all cores are there
COLD_CASE, COLD_RUNS = "digits", 3
COLD = [  # who, whether its kernel cache is empty, dtypes
    (OURS, "empty kernel cache", ("float32", "float64")),
    (OURS, "warm kernel cache", ("float32", "float64")),
    ("scikit-learn", "", ("float32", "float64")),
    ("JAX", "", ("float32",)),
    ("torch", "", ("float32",)),
    ("torch compiled", "empty kernel cache", ("float32",)),
]


def table_row(*cells):
    return f"| {' | '.join(cells)} |"


def table_head(columns):
    return [table_row(*columns), "|" + "---|" * len(columns)]


def digits(x):
    """Three of them: 0.0161, 1.82, 27.6, 1,305."""
    return f"{x:,.0f}" if x >= 99.95 else f"{x:#.3g}"


def ratio_cell(ratios):
    """The median in bold, the least and the greatest."""
    return f"**{digits(median(ratios))}** ({digits(min(ratios))} to {digits(max(ratios))})"


def log(*words):
    print(*words, file=sys.stderr, flush=True)


def open_case(workers, skipped, *task):
    """Give a case to each worker and let it run once; return who can run it, with the numbers that came out."""
    numbers = {}
    for name, worker in workers.items():
        try:
            seconds, numbers[name] = worker.ask("open", *task)
            log(f"  {name}: first run {seconds:.2f} s")
        except Absent as reason:
            skipped[name] = str(reason)
            log(f"  {name}: skipped, {reason}")
    return numbers


def all_cores(worker, dtype, peaks, trips):
    """Measure the peak and the round trip; wait a while, if one is far from the best so far.

    A host may take cores from its guests, or give them cores that have no cache in common. Returns the round trip.
    """
    for _ in range(WAIT):
        peaks.append(worker.ask("peak", dtype))
        trips.append(worker.ask("round trip"))
        if peaks[-1] > 0.85 * max(peaks) and trips[-1] <= 1.5 * min(trips):
            break
        time.sleep(1)
    return trips[-1]


def compared(seconds, runs):
    """Return the cells of what each library took, in milliseconds, the fastest peer in italics; then the ratio."""
    middle, ratio = {name: median(s) / runs for name, s in seconds.items()}, ""
    cells = dict.fromkeys((OURS, *PEERS), "") | {name: digits(1e3 * s) for name, s in middle.items()}
    ours = seconds[OURS]
    if peers := [name for name, s in seconds.items() if name != OURS and len(s) == len(ours)]:  # none that sat out
        fastest = min(peers, key=middle.get)
        ratio = ratio_cell([b / a for a, b in zip(ours, seconds[fastest], strict=True)])
        cells[fastest] = f"*{cells[fastest]}*"
    return [*cells.values(), ratio]


def speed_row(workers, rounds, peaks, trips, skipped, conditions, name, solver, dtype):
    """Return a line of the speed table, lines of the table as people run it, and whether all computed the same losses.

    The first condition is that of the speed table. Where there are others, the second table has a line for each.
    """
    case, predicts = CASES[name], solver == "predict"
    rows, runs = PREDICTIONS[name] if predicts else (case.rows, case.epochs)
    log(f"{name}, {solver}, {dtype}")
    start = [name, "-".join(map(str, case.layers)), f"{rows:,}" if predicts else f"{case.batch} of {rows:,}"]
    start.append(solver + ", float64" * (dtype == "float64"))

    numbers = open_case(workers, skipped, name, solver, dtype)
    if OURS not in numbers:
        sys.exit(f"fastmlp cannot run: {skipped[OURS]}")
    present = {peer: worker for peer, worker in workers.items() if peer in numbers}
    wrong = {peer: differ(solver, dtype, numbers[OURS], numbers[peer]) for peer in present}
    wrong = {peer: far for peer, far in wrong.items() if far}
    if wrong:
        cells = [f"{wrong[peer]:.0e}" if peer in wrong else "" for peer in (OURS, *PEERS)]
        return table_row(*start, *cells, "losses differ", "", ""), [], False

    seen, apart = peaks.setdefault(dtype, []), []
    ready = lambda: apart.append(all_cores(workers[OURS], dtype, seen, trips))  # noqa: E731
    seconds = alternate(present, rounds, BUDGET, ready)
    share = "" if predicts else f"{flops_per_epoch(case) * runs / median(seconds[OURS]) / max(peaks[dtype]):.0%}"
    trip = f"{1e9 * median(apart):.0f}"
    speed, as_run = compared(seconds, runs), []
    if others := conditions[1:]:
        what = f"{name}, {solver}" + f" {rows:,}" * predicts
        as_run.append(table_row(what, conditions[0], *speed))
        for condition in others:
            log(f"  {condition}")
            cells = compared(alternate(present, rounds, BUDGET, ready, condition), runs)
            as_run.append(table_row(what, condition, *cells))
    return table_row(*start, *speed, share, trip), as_run, True


def speed_table(emit, chosen, names, rounds):
    """Measure and emit the speed table; return lines of the table as people run it, and whether all losses agree."""
    skipped, peaks, trips, as_run, agree = {}, {}, [], [], True
    start = "case", "layers", "batch of rows", "task"
    emit(
        "Milliseconds for an epoch, or for a prediction; the fastest peer is in italics, and the ratio is its time by "
        f"that of fastmlp: median, least and greatest of up to {rounds} rounds. Last: nanoseconds that a cache line "
        "takes from one core to another and back; the more, the more threads lose on small networks.",
        "",
        *table_head([*start, OURS, *PEERS, "fastest peer / fastmlp", "of the peak", "cores apart, ns"]),
    )
    with contextlib.ExitStack() as stack:
        compiled = stack.enter_context(tempfile.TemporaryDirectory())
        settings = {"TORCHINDUCTOR_CACHE_DIR": compiled}
        workers = {name: stack.enter_context(Worker(name, **settings)) for name in (OURS, *chosen)}
        for solver, dtype, cases, peers, as_people_run in TASKS:
            taking_part = {name: w for name, w in workers.items() if name in (OURS, *peers) and name not in skipped}
            for name in cases:
                if name in names:
                    conditions = list(CONDITIONS) if name in as_people_run else ["quiet"]
                    task = conditions, name, solver, dtype
                    row, rows, same = speed_row(taking_part, rounds, peaks, trips, skipped, *task)
                    emit(row)
                    as_run += rows
                    agree &= same
    measured = [f"{digits(min(p) / 1e9)} to {digits(max(p) / 1e9)} ({dtype})" for dtype, p in peaks.items()]
    emit("", f"Multiply-add peak, measured before each round: {', '.join(measured)} GFLOP/s.")
    for name, reason in skipped.items():
        emit(f"Skipped: {name} ({reason}).")
    return as_run, agree


def as_run_table(rows, rounds):
    """Return the lines of the table as people run it."""
    size, columns = PRODUCT
    return [
        "Milliseconds for an epoch of a fit, or for a prediction; quiet is what the table above has. After BLAS: each "
        f"fit and each prediction directly follows a product of {size:,} x {columns} by {columns} x {columns} numbers "
        "in NumPy's BLAS, in the same process. Beside a busy process: one other process computes all the time. The "
        f"ratio: median, least and greatest of up to {rounds} rounds.",
        "",
        *table_head(["case", "condition", OURS, *PEERS, "fastest peer / fastmlp"]),
        *rows,
    ]


def cold_table(emit, chosen):
    """Measure and emit the cold-start table: each line in new processes, alternating, with caches of its own."""
    lines = [(*line[:2], dtype) for line in COLD if line[0] in (OURS, *chosen) for dtype in line[2]]
    seconds = {line: [] for line in lines}
    log("cold start")
    for _ in range(COLD_RUNS):
        with tempfile.TemporaryDirectory() as cache:
            for name, state, dtype in lines:  # in this order: the first run fills the cache for the second
                settings = {"NUMBA_CACHE_DIR": cache, "TORCHINDUCTOR_CACHE_DIR": cache}
                with contextlib.suppress(Absent), Worker(name, **settings) as worker:
                    seconds[name, state, dtype].append(worker.ask("first fit", COLD_CASE, dtype))
    emit(
        "",
        f"Cold start: import and the first training (case {COLD_CASE}, one epoch, Adam) in a new process, medians of "
        f"{COLD_RUNS}.",
        "",
        *table_head(["new process", "dtype", "import, s", "first training, s"]),
    )
    for (name, state, dtype), runs in seconds.items():
        if runs:
            imported, fit = (median(column) for column in zip(*runs, strict=True))
            emit(f"| {name}{', ' * bool(state)}{state} | {dtype} | {imported:.2f} | {fit:.2f} |")


def versions(chosen):
    """Return the machine and the versions of everything that takes part."""
    from fastmlp._machine import machine

    packages = dict.fromkeys(PACKAGES[name] for name in chosen if name in PACKAGES)
    found = [f"{name} {importlib.metadata.version(name)}" for name in packages if importlib.util.find_spec(name)]
    return f"{', '.join([machine(), *found])}; everyone on {threads()} threads."


def write(path, lines, marker=START):
    """Replace what stands between the marker and the end in the file at `path`."""
    before, found_start, rest = path.read_text(encoding="utf-8").partition(marker)
    _, found_end, after = rest.partition(END)
    if not (found_start and found_end):
        sys.exit(f"{path}: no {marker} followed by {END}")
    path.write_text("\n".join([before + marker, "", *lines, "", END + after]), encoding="utf-8")


def main(argv=None):
    """Print the tables; return 0 if all losses agree, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="measure only these")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), help="compare only with these")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds of everyone's turn (default: 5)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="also put the tables between the markers of FILE")
    args = parser.parse_args(argv)
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    if args.write and args.cases != list(CASES):
        parser.error("--write takes all cases, not some")

    lines, begin = [], time.perf_counter()

    def emit(*new):
        print(*new, sep="\n", flush=True)
        lines.extend(new)

    emit(versions(args.peers), "")
    rows, agree = speed_table(emit, args.peers, args.cases, args.rounds)
    cold_table(emit, args.peers)
    as_run = as_run_table(rows, args.rounds)
    if rows:
        print("", *as_run, sep="\n", flush=True)
    log(f"{time.perf_counter() - begin:.0f} seconds")
    if not agree:
        log("The losses of some case differ: nothing is written.")
        return 1
    if args.write:
        write(args.write, lines)
        if rows:
            write(args.write, as_run, AS_RUN)
    return 0


if __name__ == "__main__":
    sys.exit(main())
