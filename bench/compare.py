"""Compare fastmlp with scikit-learn on this machine: the losses first, then the time; print README's tables."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

START, END = "<!-- speed table -->", "<!-- end -->"
SPEED_HEADER = [
    "| case | layers | batch | rows | dtype | scikit-learn, ms | fastmlp, ms | fastmlp, GFLOP/s | times faster |",
    "|---|---|---:|---:|---|---:|---:|---:|---|",
]
COLD_HEADER = ["| new process | dtype | import, s | first fit, s |", "|---|---|---:|---:|"]
DTYPES = ("float32", "float64")
TOLERANCE = {"float32": 1e-3, "float64": 1e-6}  # largest relative difference of two loss curves that is rounding
COLD_CASE, COLD_RUNS = "digits", 3


class Case(NamedTuple):
    """A network, its data, and how many epochs one timed fit runs (few, where scikit-learn's take long)."""

    layers: tuple
    batch: int
    rows: int
    epochs: int


CASES = {
    "default": Case((20, 100, 2), 200, 10_000, 20),
    "digits": Case((64, 100, 10), 200, 20_000, 10),
    "tabular": Case((54, 256, 128, 7), 256, 20_000, 5),
    "mnist": Case((784, 128, 10), 128, 12_800, 5),
    "mnist512": Case((784, 512, 512, 10), 128, 12_800, 2),
}


def data(case, dtype):
    """Return normal features, and labels that a noisy linear teacher gives: they can be learnt, but not perfectly."""
    rng = np.random.default_rng(0)
    features, classes = case.layers[0], case.layers[-1]
    X = rng.standard_normal((case.rows, features))
    scores = X @ rng.standard_normal((features, classes)) / np.sqrt(features)
    y = np.argmax(scores + 0.3 * rng.standard_normal(scores.shape), axis=1)
    return X.astype(dtype), y


def classifier(package, case):
    """Return an unfitted MLPClassifier of `package` ("fastmlp" or "scikit-learn") that runs exactly case.epochs."""
    if package == "fastmlp":
        from fastmlp import MLPClassifier
    else:
        from sklearn.neural_network import MLPClassifier
    return MLPClassifier(
        hidden_layer_sizes=case.layers[1:-1],
        batch_size=case.batch,
        max_iter=case.epochs,
        tol=0.0,
        n_iter_no_change=np.inf,
        random_state=0,
    )


def flops_per_epoch(model, rows):
    """Return the multiplications and additions of one epoch of training; the input layer needs no gradient."""
    weights = [coef.size for coef in model.coefs_]
    return rows * (6 * sum(weights) - 2 * weights[0])


def speed_row(name, dtype, repeats):
    """Return one line of the speed table, and whether both sides computed the same losses."""
    from fastmlp.__main__ import curve_difference, timed_fit

    case = CASES[name]
    X, y = data(case, dtype)
    ours, theirs = classifier("fastmlp", case), classifier("scikit-learn", case)
    timed_fit(ours, X, y)  # warm up both
    timed_fit(theirs, X, y)
    layers = "-".join(map(str, case.layers))
    start = f"| {name} | {layers} | {case.batch} | {case.rows:,} | {dtype} |"
    difference = curve_difference(ours, theirs)
    if not difference <= TOLERANCE[dtype]:
        return f"{start} losses differ: {difference:.1e} | | | |", False

    rounds = [(timed_fit(ours, X, y), timed_fit(theirs, X, y)) for _ in range(repeats)]
    our_epoch, their_epoch = (median(seconds) / case.epochs for seconds in zip(*rounds, strict=True))
    ratios = [b / a for a, b in rounds]
    gflops = flops_per_epoch(ours, case.rows) / our_epoch / 1e9
    return (
        f"{start} {1e3 * their_epoch:.2f} | {1e3 * our_epoch:.2f} | {gflops:.0f} "
        f"| **{median(ratios):.1f}** ({min(ratios):.1f} to {max(ratios):.1f}) |"
    ), True


def first_fit(package, dtype):
    """Print the seconds that importing `package` and its first fit, of one epoch, take in this process."""
    case = CASES[COLD_CASE]._replace(epochs=1)
    X, y = data(case, dtype)
    start = time.perf_counter()
    model = classifier(package, case)
    imported = time.perf_counter()
    model.fit(X, y)
    print(imported - start, time.perf_counter() - imported)


def first_fit_in_new_process(package, dtype, cache):
    """Return the seconds (import, first fit) in a new process that keeps its compiled kernels in `cache`."""
    command = [sys.executable, "-W", "ignore", __file__, "--first-fit", package, dtype]
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return [float(seconds) for seconds in done.stdout.split()]


def cold_rows(dtype):
    """Return the lines of the cold-start table for one dtype."""
    runs = {"fastmlp, empty kernel cache": [], "fastmlp, warm kernel cache": [], "scikit-learn": []}
    for _ in range(COLD_RUNS):
        with tempfile.TemporaryDirectory() as cache:
            for name, seconds in runs.items():  # in this order: the first run fills the cache for the second
                seconds.append(first_fit_in_new_process(name.partition(",")[0], dtype, cache))
    rows = {name: [median(column) for column in zip(*seconds, strict=True)] for name, seconds in runs.items()}
    return [f"| {name} | {dtype} | {imported:.2f} | {fit:.2f} |" for name, (imported, fit) in rows.items()]


def write(path, lines):
    """Replace what stands between the two markers in the file at `path`."""
    before, found_start, rest = path.read_text(encoding="utf-8").partition(START)
    _, found_end, after = rest.partition(END)
    if not (found_start and found_end):
        sys.exit(f"{path}: no {START} followed by {END}")
    path.write_text("\n".join([before + START, "", *lines, "", END + after]), encoding="utf-8")


def main(argv=None):
    """Print both tables; return 0 if all losses agree, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="measure only these")
    parser.add_argument("--repeats", type=int, default=7, metavar="N", help="rounds of ours, theirs (default: 7)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="also put the tables between the markers of FILE")
    parser.add_argument("--first-fit", nargs=2, metavar=("PACKAGE", "DTYPE"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.first_fit:
        return first_fit(*args.first_fit)
    if args.repeats < 1:
        parser.error("--repeats must be at least 1")
    if args.write and args.cases != list(CASES):
        parser.error("--write takes all cases, not some")
    if slowed := {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"} & set(os.environ):
        parser.error(f"unset {', '.join(sorted(slowed))} first: scikit-learn would not run at its own speed")

    from fastmlp.__main__ import machine

    lines = []

    def emit(*new):
        print(*new, sep="\n", flush=True)
        lines.extend(new)

    emit(
        f"{machine()}.",
        "",
        "One epoch of `MLPClassifier.fit` with Adam and ReLU (whole fits, divided by their epochs): medians of "
        f"{args.repeats} alternating rounds, and the median, least and greatest ratio of a round.",
        "",
        *SPEED_HEADER,
    )
    agree = True
    for name in args.cases:
        for dtype in DTYPES:
            row, same = speed_row(name, dtype, args.repeats)
            emit(row)
            agree &= same
    emit(
        "",
        f"Cold start: import and the first fit (case {COLD_CASE}, one epoch) in a new process, medians of {COLD_RUNS}.",
        "",
        *COLD_HEADER,
    )
    for dtype in DTYPES:
        emit(*cold_rows(dtype))
    if not agree:
        print("The losses of some case differ: nothing is written.", file=sys.stderr)
        return 1
    if args.write:
        write(args.write, lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
