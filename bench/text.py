"""Sparse X beside scikit-learn: texts as a bag of words, time of an epoch and memory of a fit; print a table.

Each fit runs in a new process, so that its memory is its own, and the two libraries take turns.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path
from statistics import median

import numpy as np
import scipy.sparse
from cases import TOLERANCE, difference
from compare import table_head, versions, write
from workers import environment

ROWS, WORDS, WORDS_A_ROW, CLASSES, HIDDEN, EPOCHS = 20_000, 50_000, 125, 20, 100, 3
LIBRARIES = "fastmlp", "scikit-learn"
MARKER = "<!-- text table -->"
COLUMNS = "dtype", "library", "epoch, ms", "times as fast", "memory before the fit, MB", "peak, MB", "rise, MB"


def texts(dtype, rows=ROWS, words=WORDS, words_a_row=WORDS_A_ROW):
    """Return tf-idf of texts that are drawn word by word, the k-th most frequent one as often as 1 / k, and classes.

    Words that come twice count once: 125 words a row leave about 100 nonzeros, 0.2 % of 50,000.
    """
    rng = np.random.default_rng(0)
    lengths = rng.poisson(words_a_row, rows)
    word = rng.permutation(words).astype(np.int32)[(words ** rng.random(lengths.sum())).astype(np.int32) - 1]
    row = np.repeat(np.arange(rows, dtype=np.int32), lengths)
    counts = scipy.sparse.coo_array((np.ones(len(word)), (row, word)), (rows, words))
    X = counts.tocsr()
    idf = np.log((1 + rows) / (1 + np.bincount(X.indices, minlength=words))) + 1
    X.data = (1 + np.log(X.data)) * idf[X.indices]
    X.data /= np.repeat(np.sqrt(X.power(2).sum(axis=1)), np.diff(X.indptr))
    scores = X @ rng.standard_normal((words, CLASSES))
    return X.astype(dtype), np.argmax(scores, axis=1)


def classifier(library, **parameters):
    """Return an unfitted MLPClassifier, of Adam and batches of 200 rows, that runs exactly EPOCHS."""
    if library == "fastmlp":
        from fastmlp import MLPClassifier
    else:
        from sklearn.neural_network import MLPClassifier
    common = {"max_iter": EPOCHS, "tol": 0.0, "n_iter_no_change": np.inf, "random_state": 0}
    return MLPClassifier((HIDDEN,), **(common | parameters))


def memory(name):
    """A line of this process's status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


def fit(library, dtype):
    """Fit once in this process; print what it took, and the losses."""
    warnings.simplefilter("ignore")  # that it has not converged
    X, y = texts(dtype)
    model = classifier(library)
    before, peak = memory("VmRSS:"), lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")  # from now on a new peak
        peak = lambda: memory("VmHWM:")  # noqa: E731
    begin = time.perf_counter()
    model.fit(X, y)
    seconds = time.perf_counter() - begin
    print(json.dumps([seconds / EPOCHS, before, peak(), model.loss_curve_], default=float))


def main():
    """Let both libraries take turns, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", type=Path, metavar="FILE", help="also put the table between the markers of FILE")
    parser.add_argument("--fit", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fit:
        return fit(*arguments.fit)

    def run(*task):
        command = [sys.executable, __file__, "--fit", *task]
        return json.loads(subprocess.run(command, env=environment(), check=True, capture_output=True).stdout)

    lines = [versions(()), "", f"Medians of {arguments.rounds} rounds.", "", *table_head(COLUMNS)]
    print(*lines, sep="\n", flush=True)
    for dtype in "float32", "float64":
        run("fastmlp", dtype)  # compiles
        found = {library: [] for library in LIBRARIES}
        for _ in range(arguments.rounds):
            for library in LIBRARIES:
                found[library].append(run(library, dtype))
        ours, theirs = found.values()
        differ = difference(ours[0][3], theirs[0][3])
        if not differ <= TOLERANCE[dtype]:
            sys.exit(f"{dtype}: the losses differ by {differ:.1e}, relative; nothing is written.")
        ratios = [b[0] / a[0] for a, b in zip(ours, theirs, strict=True)]
        ratio = f"**{median(ratios):.1f}** ({min(ratios):.1f} to {max(ratios):.1f})"
        for library, runs in found.items():
            seconds, before, peak, _ = zip(*runs, strict=True)
            sizes = [f"{median(size) / 1e6:.0f}" for size in (before, peak, np.subtract(peak, before))]
            cells = dtype, library, f"{1e3 * median(seconds):,.0f}", ratio if runs is ours else "", *sizes
            lines.append(f"| {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    if arguments.write:
        write(arguments.write, lines, MARKER)
    return 0


if __name__ == "__main__":
    sys.exit(main())
