"""Draw the history that results/ has as one picture, history.svg: commits from left to right, the less, the better.

    python bench/history.py

asv's pages show each number alone, with the machine it was measured on; here stand ratios and counts, which machines
share, and cold start and memory of the machine that has most of them.
"""

import sys
from itertools import pairwise
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from asv.results import iter_results
from commits import git

RESULTS, PICTURE = Path(__file__).with_name("results"), Path(__file__).with_name("history.svg")
# title: (benchmark, what an unparametrised value is divided by or None for each line's last, scale, label)
PANELS = [
    ("Instructions by those of the newest commit", "counts.Counts.track_instructions", "log", True),
    ("Time of an epoch by the peer's", "peers.Training.track_ours_to_theirs", "log", False),
    ("Time of an epoch by that at the peak", "peers.Peak.track_time_to_time_at_peak", "log", False),
    ("First fit, empty kernel cache, seconds", "compilation.ColdStart.track_first_fit_empty_cache", "linear", False),
    ("Peak of memory of a fit, MB", "memory.Memory.peakmem_fit", "linear", False),
]
STEP = 0.04  # a change of the mean of the counts from which a commit is named
NAMED = 12  # of them, at most


def subjects():
    """Subject of each commit by its hash, the oldest first."""
    lines = git("log", "--first-parent", "--reverse", "--format=%H %s", "HEAD").decode().splitlines()
    return dict(line.split(" ", 1) for line in lines)


def load(benchmark):
    """Return {label: {commit: value}} of a benchmark, one label for each of its parameters' values."""
    lines = {}
    for results in iter_results(str(RESULTS)):
        if benchmark not in results.get_all_result_keys():
            continue
        values, parameters = results.get_result_value(benchmark, []), results.get_result_params(benchmark)
        for label, value in zip(combinations(parameters), values, strict=True):
            if value is not None and np.isfinite(value):
                lines.setdefault(label, {})[results.commit_hash] = value
    return lines


def combinations(parameters):
    """The labels of all values of the parameters, in asv's order."""
    labels = [""]
    for values in parameters:
        labels = [f"{label}, {value.strip(chr(39))}".removeprefix(", ") for label in labels for value in values]
    return labels


def steps(lines, order):
    """Return the commits at which the geometric mean of lines moves most, as (place in the order, ratio)."""
    found = []
    for before, after in pairwise(order):
        both = [line[after] / line[before] for line in lines.values() if before in line and after in line]
        ratio = float(np.exp(np.mean(np.log(both)))) if both else 1.0
        if abs(ratio - 1) > STEP:
            found.append((after, ratio))
    return sorted(found, key=lambda step: -abs(np.log(step[1])))[:NAMED]


def draw(path):
    """Write the picture."""
    matplotlib.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "fastmlp", "font.size": 8})
    names = subjects()
    found = [(title, load(benchmark), scale, relative) for title, benchmark, scale, relative in PANELS]
    measured = {commit for _, lines, _, _ in found for line in lines.values() for commit in line}
    order = [commit for commit in names if commit in measured]
    place = {commit: i for i, commit in enumerate(order)}
    figure, axes = plt.subplots(len(found), figsize=(12, 3.2 * len(found)), sharex=True, layout="constrained")
    for ax, (title, lines, scale, relative) in zip(axes, found, strict=True):
        for label, line in lines.items():
            commits = [commit for commit in order if commit in line]
            if commits:
                values = np.array([line[commit] for commit in commits])
                ax.plot(
                    [place[c] for c in commits], values / values[-1] if relative else values, ".-", lw=1, label=label
                )
        ax.set(title=title, yscale=scale)
        ax.grid(alpha=0.3)
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    counts = found[0][1]
    for commit, ratio in steps(counts, [c for c in order if any(c in line for line in counts.values())]):
        for ax in axes:
            ax.axvline(place[commit], color="0.8", lw=0.8, zorder=0)
        print(f"{commit[:7]} x {ratio:.2f}  {names[commit]}")
    axes[-1].set_xticks(range(len(order)), [commit[:7] for commit in order], rotation=90)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    draw(PICTURE)
    sys.exit(0)
