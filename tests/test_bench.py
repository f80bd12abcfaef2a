"""The commands of bench/ that decide, the gate of instructions and two commits in turns; and the jobs behind them."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

BENCH = Path(__file__).resolve().parent.parent / "bench"
CALLGRIND = """# callgrind format
version: 1
creator: callgrind-3.19.0
pid: 17734
part: 2

desc: I1 cache:
desc: Timerange: Basic block 2377699 - 5937658
desc: Trigger: Client Request: one row

positions: line
events: Ir
summary: 30362833

totals: 30363121
"""


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module


@pytest.fixture
def gate(bench, monkeypatch, tmp_path):
    """The gate, with numbers of its own, and with counts that a test chooses in place of valgrind's."""
    module = bench("instructions")
    monkeypatch.setattr(module, "FILE", tmp_path / "instructions.json")
    module.FILE.write_text(json.dumps({"versions": module.versions(), "instructions": {"tiny": 1_000, "deep": 1_000}}))

    def run(*arguments, **counts):
        monkeypatch.setattr(module, "count", lambda names: {name: n for name, n in counts.items() if name in names})
        return module.main(arguments)

    run.file = module.FILE
    return run


# ---- instructions -------------------------------------------------------------------------------------------------


def test_counts_are_read_from_callgrinds_files(bench):
    instructions = bench("instructions")
    assert instructions.counts_in(CALLGRIND) == ("one row", 30_362_833)
    assert instructions.counts_in(CALLGRIND.replace("Client Request: one row", "Program termination")) is None


@pytest.mark.parametrize("tiny, status", [(1_000, 0), (1_010, 0), (1_011, 1), (500, 0)])
def test_the_gate_closes_above_one_per_cent(gate, capsys, tiny, status):
    assert gate("--check", tiny=tiny, deep=1_000) == status
    printed = capsys.readouterr().out
    assert ("not done at all: tiny." in printed) == bool(status)
    assert ("bench/instructions.py --write tiny" in printed) == bool(status)


def test_a_job_that_is_not_done_is_no_faster_job(gate, capsys):
    assert gate("--check", tiny=1_000) == 1
    assert "not done at all: deep." in capsys.readouterr().out
    assert gate("--check", "tiny", tiny=1_000) == 0


def test_without_check_nothing_fails(gate):
    assert gate(tiny=2_000) == 0


def test_new_numbers_are_written_and_others_stay(gate):
    assert gate("--write", "tiny", tiny=2_000, deep=3) == 0
    assert json.loads(gate.file.read_text())["instructions"] == {"tiny": 2_000, "deep": 1_000}
    assert gate("--check", "tiny", tiny=2_000) == 0


def test_numbers_of_other_versions_are_not_compared(gate, capsys):
    known = json.loads(gate.file.read_text())
    known["versions"]["numba"] = "0.1"
    gate.file.write_text(json.dumps(known))
    assert gate("--check", tiny=2_000) == 0
    assert "not counted: the numbers belong to" in capsys.readouterr().out
    assert gate("--requirements") == 0
    assert "numba==0.1" in capsys.readouterr().out


def test_without_valgrind_a_sentence(bench, monkeypatch, capsys):
    instructions = bench("instructions")
    monkeypatch.setattr(instructions.shutil, "which", lambda name: None)
    monkeypatch.setattr(instructions, "FILE", Path("no such file"))
    assert instructions.main(["--check"]) == 0
    assert capsys.readouterr().out == "Instructions are not counted: valgrind is not installed.\n"


def test_no_such_job(gate, capsys):
    with pytest.raises(SystemExit):
        gate("enormous")
    assert "no such job: enormous" in capsys.readouterr().err


def test_the_file_has_all_jobs(bench):
    known = json.loads((BENCH / "instructions.json").read_text())
    assert known["instructions"].keys() == bench("jobs").JOBS.keys()


# ---- jobs ---------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("job", ["tiny", "sparse", "own features", "table", "many rows", "one row"])
def test_a_job_does_something(bench, job):
    numbers = bench("jobs").prepare(job)()
    assert np.isfinite(numbers).all() and len(numbers) > 1


def test_sparse_jobs_are_sparse(bench):
    jobs = bench("jobs")
    X, _ = jobs.data(jobs.JOBS["sparse"])
    assert scipy.sparse.issparse(X) and 0.005 < X.nnz / np.prod(X.shape) < 0.02


def test_what_a_commit_lacks_raises(bench, monkeypatch):
    monkeypatch.setitem(sys.modules, "old", type(sys)("old"))
    with pytest.raises(AttributeError):
        bench("jobs").prepare("table", "old")


# ---- pairs --------------------------------------------------------------------------------------------------------


def measured(ours, theirs=(1.0,) * 15):
    return {("scikit-learn", "default", 1): (theirs, False), ("fastmlp", "tiny", 2): (ours, False)}


def test_the_interval_has_the_median(bench):
    """15 rounds: the fourth and the last but three, P(outside) = 2 P(B(15, 1/2) < 4) = 0.035."""
    ratios = np.random.default_rng(0).permutation(np.arange(15.0))
    assert tuple(bench("pairs").interval(ratios)) == (3.0, 11.0)


@pytest.mark.parametrize(
    "ours, theirs, status, word",
    [
        (np.linspace(0.98, 1.02, 15), np.ones(15), 0, ""),
        (np.linspace(1.02, 1.12, 15), np.ones(15), 0, ""),
        (np.linspace(1.06, 1.12, 15), np.ones(15), 1, "SLOWER"),
        (np.linspace(1.06, 1.12, 15), np.linspace(1.03, 1.05, 15), 2, "the control moved"),
        (np.linspace(0.98, 1.02, 15), np.linspace(0.9, 0.97, 15), 2, "the control moved"),
    ],
)
def test_slower_is_an_interval_above_five_per_cent(bench, ours, theirs, status, word):
    lines, found = bench("pairs").verdict(measured(ours, theirs))
    assert found == status
    assert word in "\n".join(lines) and ("SLOWER" in lines[1]) == (ours[0] > 1.05)


def test_other_numbers_are_said(bench):
    lines, status = bench("pairs").verdict({("fastmlp", "tiny", 2): (np.ones(15), True)})
    assert lines[0].endswith("other numbers") and status == 0
