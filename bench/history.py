"""Draw the history that results/ has as one picture, history.svg: commits from left to right, the less, the better.

    python bench/history.py

asv's pages show each number alone, with the machine it was measured on; here stand the numbers that say most, and the
commits at which the instructions moved.
"""

import textwrap
from itertools import pairwise
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from asv.results import iter_results
from commits import git

RESULTS, PICTURE = Path(__file__).with_name("results"), Path(__file__).with_name("history.svg")
COUNTS = "counts.Counts.track_instructions"
# title: benchmark, what its numbers are divided by, scale
PANELS = {
    "Instructions, by those of the newest commit": (COUNTS, None, "log"),
    "Time of an epoch by that of a peer": ("peers.Training.track_ours_to_theirs", 1, "log"),
    "Time of an epoch by that at the peak of multiply-adds": ("peers.Peak.track_time_to_time_at_peak", 1, "log"),
    "First fit with an empty kernel cache, seconds": ("compilation.ColdStart.track_first_fit_empty_cache", 1, "linear"),
    "Most memory of a process that fits, MB": ("memory.Memory.peakmem_fit", 1e6, "linear"),
}
STEP, STEPS = 0.02, 16  # the least change of the mean of instructions that is named; how many are, at most


def labels(parameters):
    """Names of all combinations of a benchmark's parameters, in asv's order."""
    names = [""]
    for values in parameters:
        names = [f"{name}, {value.strip(chr(39))}".removeprefix(", ") for name in names for value in values]
    return names


def load(benchmark):
    """Return {combination of parameters: {commit: number}} of a benchmark."""
    lines = {}
    for results in iter_results(str(RESULTS)):
        if benchmark in results.get_all_result_keys():
            parameters = results.get_result_params(benchmark)
            values = results.get_result_value(benchmark, parameters)
            for label, value in zip(labels(parameters), values, strict=True):
                if value is not None and np.isfinite(value):
                    lines.setdefault(label, {})[results.commit_hash] = value
    return lines


def steps(lines, order):
    """Return {commit: ratio} where the geometric mean of the instructions moves, in order of commits."""
    found = {}
    for before, after in pairwise(commit for commit in order if any(commit in line for line in lines.values())):
        both = [line[after] / line[before] for line in lines.values() if before in line and after in line]
        found[after] = float(np.exp(np.mean(np.log(both))))
    largest = sorted(found, key=lambda commit: -abs(np.log(found[commit])))[:STEPS]
    return {commit: ratio for commit, ratio in found.items() if commit in largest and abs(ratio - 1) > STEP}


def draw(path):
    """Write the picture to a file."""
    log = git("log", "--first-parent", "--reverse", "--format=%H %s", "HEAD").decode().splitlines()
    subjects = dict(line.split(" ", 1) for line in log)
    numbers = {title: load(benchmark) for title, (benchmark, _, _) in PANELS.items()}
    measured = {commit for lines in numbers.values() for line in lines.values() for commit in line}
    order = [commit for commit in subjects if commit in measured]
    place = {commit: i for i, commit in enumerate(order)}
    moved = steps(load(COUNTS), order)

    colors = plt.cycler(color=plt.get_cmap("tab20").colors)
    matplotlib.rcParams.update({"font.size": 8, "axes.prop_cycle": colors})
    matplotlib.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "the same file each time"})
    figure, axes = plt.subplots(len(PANELS) + 1, figsize=(12, 3 * len(PANELS) + 3), sharex=True, layout="constrained")
    for ax, (title, lines) in zip(axes, numbers.items(), strict=False):
        _, unit, scale = PANELS[title]
        for label, line in lines.items():
            commits = [commit for commit in order if commit in line]
            values = np.array([line[commit] for commit in commits])
            ax.plot([place[c] for c in commits], values / (unit or values[-1]), ".-", linewidth=1, label=label)
        ax.set_title(title, loc="left", pad=14)
        ax.set_yscale(scale)
        ax.grid(alpha=0.3)
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter("{x:g}")
        if lines:
            ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        for number, commit in enumerate(moved, 1):
            ax.axvline(place[commit], color="0.8", linewidth=0.8, zorder=0)
            ax.annotate(number, (place[commit], 1), xycoords=("data", "axes fraction"), ha="center", va="bottom")
    axes[-2].set_xticks(range(len(order)), [commit[:7] for commit in order], rotation=90)
    axes[-2].tick_params(labelbottom=True)
    names = [
        f"{number:2}  {commit[:7]}  {ratio:.2f}  {textwrap.shorten(subjects[commit], 120)}"
        for number, (commit, ratio) in enumerate(moved.items(), 1)
    ]
    axes[-1].axis("off")
    axes[-1].text(0, 1, "\n".join(["Where the instructions moved, and by what:", *names]), va="top", family="monospace")
    axes[-1].texts[0].set_transform(axes[-1].transAxes)
    figure.savefig(path, metadata={"Date": None} if str(path).endswith(".svg") else None)


if __name__ == "__main__":
    draw(PICTURE)
