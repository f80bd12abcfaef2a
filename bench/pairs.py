"""Measure two commits in turns, in one run: what counts of instructions cannot see, on a machine that is never quiet.

    python bench/pairs.py main~1                  # main~1 and the checkout as it is
    python bench/pairs.py v0.1.0 main --jobs default "one row" --rounds 31

For each job, on all threads and on one, it prints the seconds of the second by those of the first: the median of the
rounds, and the interval that has it with 95 %. scikit-learn stands beside them in both places, as the control that must
stay 1. It exits with 1 if the lower end of an interval is above 1.05, and with 2 if the control moved.
"""

import argparse
import contextlib
import sys
import tempfile
from statistics import median

import scipy.stats
from cases import TOLERANCE, difference
from commits import ROOT, package_of
from jobs import JOBS
from workers import Absent, Worker, alternate, threads

SLOWER = 1.05  # the lower end of an interval above which a job is slower
CONTROL_JOB, MOVED = "default", 0.02  # how far from 1 the interval of scikit-learn's may stay
LEAST_ROUNDS = 6  # with fewer no interval has the median with 95 %
OURS, CONTROL = "fastmlp", "scikit-learn"


def interval(ratios):
    """Return the two ends of what has the median with 95 %, whatever the distribution."""
    return scipy.stats.quantile_test(ratios, q=1, p=0.5).confidence_interval(0.95)


def compare(folders, caches, name, job, count, rounds):
    """Return the ratios of seconds, round by round, of a job with two packages; and whether their numbers differ."""
    settings = dict.fromkeys(["NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"], str(count))
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(Worker(name, PYTHONPATH=str(folder), NUMBA_CACHE_DIR=cache, **settings))
            for folder, cache in zip(folders, caches, strict=True)
        ]
        (_, before), (_, after) = [worker.ask("open", job, "job") for worker in workers]
        base, head = alternate(dict(enumerate(workers)), rounds).values()
        return [b / a for a, b in zip(base, head, strict=True)], bool(difference(before, after) > TOLERANCE["float32"])


def verdict(measured):
    """Return the lines of a table, and the exit status, of (name, job, threads): (ratios, whether numbers differ)."""
    lines, slower, moved = [], False, False
    for (name, job, count), (ratios, differ) in measured.items():
        low, high = interval(ratios)
        word = ""
        if name == CONTROL and not (low <= 1 + MOVED and high >= 1 - MOVED):
            moved, word = True, "the control moved: this machine tells nothing now"
        elif name == OURS and low > SLOWER:
            slower, word = True, "SLOWER"
        elif differ:
            word = "other numbers"
        label = f"{job}, {name}" if name == CONTROL else job
        lines.append(f"{label:24}{count:8}{median(ratios):8.3f}{low:8.3f} to {high:5.3f}  {word}".rstrip())
    return lines, 2 if moved else int(slower)


def main(argv=None):
    """Measure and print; return 1 if a job is slower, 2 if the control moved, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", help="a commit")
    parser.add_argument("head", nargs="?", help="another one (default: the checkout, with what is not committed)")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS), metavar="JOB", help=", ".join(JOBS))
    parser.add_argument("--rounds", type=int, default=15, metavar="N", help="of all turns (default: 15)")
    arguments = parser.parse_args(argv)
    if arguments.rounds < LEAST_ROUNDS:
        parser.error(f"--rounds must be at least {LEAST_ROUNDS}")
    tasks = [(CONTROL, CONTROL_JOB)] + [(OURS, job) for job in arguments.jobs]
    measured = {}
    print(f"{'job':24}{'threads':>8}{'median':>8}{'95 %':>11}")
    with contextlib.ExitStack() as stack:
        commits = [commit for commit in (arguments.base, arguments.head) if commit]
        folders = [stack.enter_context(package_of(commit)) for commit in commits]
        folders += [ROOT] * (len(folders) < 2)
        caches = [stack.enter_context(tempfile.TemporaryDirectory()) for _ in folders]
        for name, job in tasks:
            for count in sorted({1, threads()}):
                try:
                    measured[name, job, count] = compare(folders, caches, name, job, count, arguments.rounds)
                except Absent as error:
                    print(f"{job:24}{count:8}  {error}")
                    continue
                print(verdict(measured)[0][-1], flush=True)
    return verdict(measured)[1]


if __name__ == "__main__":
    sys.exit(main())
