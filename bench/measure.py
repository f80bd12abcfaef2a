"""Measure commits with asv, here and now, and keep what comes out in results/, beside what was there.

    python bench/measure.py --machine zen4-2 main~1 main
    python bench/measure.py --machine zen4-2 --bench "counts|ColdStart" $(cat commits.txt)

The fastmlp of each commit runs in this environment, with its versions of NumPy, Numba and all peers, which are kept
with the numbers. The benchmarks are those of the checkout.
"""

import argparse
import importlib.metadata
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from commits import full_hash, package_of

from fastmlp._machine import cpu_name

BENCH = Path(__file__).resolve().parent
RESULTS = BENCH / "results"
PACKAGES = "jax", "llvmlite", "numba", "numpy", "onnxruntime", "scikit-learn", "torch"


def requirements():
    """The versions of what is here."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def merge(path, new):
    """Put asv's numbers of a commit into the file at `path`, in place of older ones of the same benchmarks."""
    new["results"] = {name: result for name, result in new["results"].items() if result and result[0]}  # what failed
    if path.exists():
        old = json.loads(path.read_text())
        new["results"] = old["results"] | new["results"]
        new["durations"] = old["durations"] | new["durations"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(new) + "\n")


def measure(commit, bench, machine):
    """Run asv on the package of a commit, and store what it says under the name of the machine."""
    python, packages = ".".join(platform.python_version_tuple()[:2]), requirements()
    with package_of(commit) as package, tempfile.TemporaryDirectory() as scratch:
        configuration = json.loads((BENCH / "asv.conf.json").read_text())
        configuration |= {"repo": str(BENCH.parent), "benchmark_dir": str(BENCH / "benchmarks")}
        configuration |= {"results_dir": f"{scratch}/results", "env_dir": f"{scratch}/env"}
        Path(scratch, "asv.conf.json").write_text(json.dumps(configuration))
        environment = os.environ | {
            "HOME": scratch,
            "ASV_PYTHONPATH": str(package),
            "NUMBA_CACHE_DIR": f"{scratch}/kernels",
        }

        def asv(*arguments):
            """Its status is not 0 where one benchmark failed, which it says itself."""
            subprocess.run([sys.executable, "-m", "asv", *arguments], cwd=scratch, env=environment)

        about = {"os": platform.system(), "arch": platform.machine(), "cpu": cpu_name(), "num_cpu": str(os.cpu_count())}
        asv("machine", "--yes", "--machine", machine, *itertools.chain(*((f"--{k}", v) for k, v in about.items())))
        asv(
            "run", "--python=same", "--set-commit-hash", commit, "--machine", machine, "--bench", bench, "--show-stderr"
        )
        found = Path(scratch, "results")
        RESULTS.mkdir(exist_ok=True)
        for name in "benchmarks.json", f"{machine}/machine.json":
            target = RESULTS / name
            target.parent.mkdir(exist_ok=True)
            target.write_text((found / name).read_text())
        for file in (found / machine).glob(f"{commit[:8]}-*.json"):
            new = json.loads(file.read_text())
            # where Python stands on this machine tells nobody anything; its version and those of the packages do
            new |= {"python": python, "requirements": packages, "env_name": f"existing-py{python}"}
            new["params"] |= {"python": python} | packages
            merge(RESULTS / machine / f"{commit[:8]}-{new['env_name']}.json", new)


def main():
    """Measure one commit after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machine", required=True, help="a name for this machine, under which its numbers are kept")
    parser.add_argument("--bench", default=".", help="a regular expression of benchmarks (default: all)")
    parser.add_argument("commits", nargs="+")
    arguments = parser.parse_args()
    for commit in map(full_hash, arguments.commits):
        measure(commit, arguments.bench, arguments.machine)


if __name__ == "__main__":
    main()
