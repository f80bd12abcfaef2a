"""`python -m fastmlp` prints what it promises, and its exit code tells whether both libraries computed the same."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
from numba.core.caching import NullCache

import fastmlp
from fastmlp import __main__ as program
from fastmlp import _machine
from fastmlp.compiled import passes
from fastmlp.compiled.tile import ROWS, VECS, VECTOR_BITS

ROOT = Path(fastmlp.__file__).resolve().parents[1]
NUMBER = r"[0-9]+\.[0-9]+"

# What a run prints, block by block, as regular expressions.
HEAD = r".+; threads: [0-9]+ \(Numba\), [0-9]+ \(BLAS\); numba \S+, numpy \S+, scikit-learn \S+"
BLOCK = [
    r" +fastmlp +scikit-learn",
    r"epochs +(?P<epochs>[0-9]+) +(?P=epochs)",
    rf"final loss +(?P<loss>{NUMBER}) +(?P=loss)",
    rf"score on test rows +(?P<score>{NUMBER}) +(?P=score)",
    rf"first fit, seconds +{NUMBER} +{NUMBER}   \(with compiling or loading kernels\)",
    rf"a later fit, seconds +{NUMBER} +{NUMBER}   \(median of [0-9]+\)",
    rf"speed-up of a later fit: {NUMBER} times \({NUMBER} to {NUMBER}\)",
    r"largest relative difference of the loss curves: [0-9.]+e-[0-9]+",
]
BUSY = r"Something else takes [0-9.]+ of [0-9]+ processors: the ratios of times are worth little\."


def phases(name):
    """What is printed while the fits of a comparison run."""
    return [
        "",
        rf"{name}: first fits, of which the first ever made here compiles kernels \.\.\.",
        rf"{name}: [0-9]+ more of each, in turns \.\.\.",
    ]


LINES = [
    r"importing scikit-learn and fastmlp \.\.\.",
    HEAD,
    *phases("digits"),
    "digits: MLPClassifier, 1347 rows, 64 features, float64",
    *BLOCK,
    *phases("diabetes"),
    "diabetes: MLPRegressor, 331 rows, 10 features, float64",
    *BLOCK,
]
DIFFERENT = "MORE THAN 1e-08, the two did not compute the same"


def run(*arguments, **environment):
    """`python -m fastmlp` in a new process: exit code, lines printed, lines of errors and warnings.

    Without what is said of the first compilation, whoever it is that compiles first here.
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "fastmlp", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    errors = [line for line in done.stderr.splitlines() if not line.startswith("fastmlp: compiling kernels for ")]
    return done.returncode, done.stdout.splitlines(), errors


@pytest.fixture
def short(monkeypatch):
    """Makes main short."""
    monkeypatch.setattr(program, "EPOCHS", 2)
    monkeypatch.setattr(program, "PAUSE", 0)


def test_run():
    """Exit code 0, the promised lines and nothing else; losses and scores of both sides look equal."""
    code, lines, errors = run("--repeats", "1")
    assert (code, errors) == (0, [])
    lines = [line for line in lines if not re.fullmatch(BUSY, line)]
    assert len(lines) == len(LINES)
    for line, pattern in zip(lines, LINES, strict=True):
        assert re.fullmatch(pattern, line), line
    assert [line for line in lines if line.startswith("a later fit")][0].endswith("(median of 1)")


@pytest.mark.parametrize("busy", [0.1, 1.5])
def test_a_busy_machine_is_told_of(busy, short, monkeypatch, capsys):
    """When something else takes more than a quarter of the processors."""
    monkeypatch.setattr(_machine, "busy_processors", lambda: busy)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert program.main(["--repeats", "1"]) == 0
    assert [bool(re.fullmatch(BUSY, line)) for line in capsys.readouterr().out.splitlines()].count(True) == (busy > 1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_busy_processors():
    """What another process takes is seen, and what this one takes is not asked for."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            assert _machine.busy_processors(1.0) > 0.3
        finally:
            other.kill()


def test_help():
    """Exit code 0, and what the program does."""
    code, lines, errors = run("--help")
    assert (code, errors) == (0, [])
    assert lines[0] == "usage: python -m fastmlp [-h] [--info] [--repeats N]"
    text = " ".join(" ".join(lines).split())
    assert program.DESCRIPTION in text and "timed fits of each side (default: 5)" in text and "for bug reports" in text


BAD_ARGUMENTS = {
    "no repeats": (["--repeats", "0"], "--repeats must be at least 1"),
    "negative repeats": (["--repeats", "-3"], "--repeats must be at least 1"),
    "repeats in words": (["--repeats", "many"], "argument --repeats: invalid int value: 'many'"),
    "repeats without number": (["--repeats"], "argument --repeats: expected one argument"),
    "unknown option": (["--nonsense"], "unrecognized arguments: --nonsense"),
    "two tables": (["digits", "diabetes"], "unrecognized arguments: diabetes"),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_bad_arguments(case, capsys):
    """Exit code 2 before anything is trained; usage and reason go to stderr."""
    arguments, reason = BAD_ARGUMENTS[case]
    with pytest.raises(SystemExit) as exit:
        program.main(arguments)
    printed = capsys.readouterr()
    assert (exit.value.code, printed.out) == (2, "")
    assert printed.err.startswith("usage: python -m fastmlp") and reason in printed.err


def test_bad_argument_in_a_new_process():
    code, lines, errors = run("--repeats", "0")
    assert (code, lines) == (2, []) and "at least 1" in errors[-1]


def test_repeats(short, capsys):
    """Each side is fitted once, then as often as asked for."""
    assert program.main(["--repeats", "3"]) == 0
    assert capsys.readouterr().out.count("(median of 3)") == 2


class OtherClassifier(fastmlp.MLPClassifier):
    """Starts at other weights."""

    def fit(self, X, y):
        self.set_params(random_state=1)
        return super().fit(X, y)


class ShorterRegressor(fastmlp.MLPRegressor):
    """Ends an epoch early."""

    def fit(self, X, y):
        self.set_params(max_iter=1)
        return super().fit(X, y)


@pytest.mark.parametrize("name, other", [("MLPClassifier", OtherClassifier), ("MLPRegressor", ShorterRegressor)])
def test_different_curves(name, other, short, monkeypatch, capsys):
    """Exit code 1 if one of the two comparisons differs, in its losses or its number of epochs, and a line says so."""
    monkeypatch.setattr(fastmlp, name, other)
    assert program.main(["--repeats", "1"]) == 1
    verdicts = [line for line in capsys.readouterr().out.splitlines() if line.startswith("largest relative")]
    assert [DIFFERENT in line for line in verdicts] == [name == "MLPClassifier", name == "MLPRegressor"]


def test_tolerance_decides(short, monkeypatch, capsys):
    """Differences of rounding pass the tolerance, and none passes a negative one."""
    assert program.main(["--repeats", "1"]) == 0
    assert "MORE THAN" not in capsys.readouterr().out
    monkeypatch.setattr(program, "TOLERANCE", -1.0)
    assert program.main(["--repeats", "1"]) == 1
    assert capsys.readouterr().out.count("the two did not compute the same") == 2


def test_nan_is_different():
    """Curves that hold NaN do not agree, nor do curves of different lengths."""

    class Curve:
        def __init__(self, *losses):
            self.loss_curve_ = list(losses)

    for ours, theirs in [((1.0, float("nan")), (1.0, 0.5)), ((1.0,), (1.0, 0.5))]:
        assert not program.curve_difference(Curve(*ours), Curve(*theirs)) <= program.TOLERANCE
    assert program.curve_difference(Curve(1.0, 0.25), Curve(1.0, 0.5)) == 0.5


# ---- --info -----------------------------------------------------------------------------------------------------


def info(**environment):
    """What `python -m fastmlp --info` prints, as a dictionary."""
    code, lines, errors = run("--info", **environment)
    assert (code, errors) == (0, [])
    return dict(line.split(": ", 1) for line in lines)


def test_info(tmp_path):
    """Versions, processor, threads and cache, a line each; nothing is trained."""
    found = info(NUMBA_NUM_THREADS="3", NUMBA_CACHE_DIR=str(tmp_path))
    assert found["Python"].startswith(platform.python_version())
    assert found["fastmlp"] == f"{fastmlp.__version__}, {Path(fastmlp.__file__).parent}"
    for package in "numba", "llvmlite", "numpy", "scipy", "scikit-learn":
        assert re.match(r"[0-9]+\.[0-9]+", found[package]), package
    assert _machine.cpu_name() in found["processor"] and "" not in (found["features"], found["system"])
    tile = rf"{ROWS} rows x {VECS} vectors of {VECTOR_BITS} bits: {VECTOR_BITS // 32} float32 or .*"
    assert re.fullmatch(tile, found["tile"])
    assert re.fullmatch("[0-9]+, [0-9]+ of them for this process", found["processors"])
    assert re.fullmatch("none|[0-9]+ processors", found["limit of control groups"])
    assert found["threads of Numba"] == "3"
    assert found["cache"].startswith(str(tmp_path)) and found["cache"].endswith(", writable, 0 files, 0.0 MB")
    assert f"NUMBA_CACHE_DIR={tmp_path}" in found["settings"] and "NUMBA_NUM_THREADS=3" in found["settings"]


def test_info_of_what_is_in_the_cache(tmp_path):
    code = "from fastmlp import precompile; precompile(['float32'])"
    variables = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=variables, check=True, timeout=300)
    found = re.fullmatch(r"(.+), writable, ([0-9]+) files, (.+) MB", info(NUMBA_CACHE_DIR=str(tmp_path))["cache"])
    files = [path for path in tmp_path.rglob("*") if path.suffix in (".nbi", ".nbc")]
    assert {path.parent for path in files} == {Path(found[1])} and len(files) == int(found[2]) > 0
    assert float(found[3]) == pytest.approx(sum(path.stat().st_size for path in files) / 1e6, abs=0.1)


def test_info_tells_how_many_threads_are_used():
    """As many as the settings allow; the settings stand beside it."""
    found = info(NUMBA_NUM_THREADS="4", OMP_NUM_THREADS="3")
    assert (found["threads of Numba"], found["threads of a fit"]) == ("4", "3")
    assert "OMP_NUM_THREADS=3" in found["settings"]


def test_info_without_a_cache(monkeypatch):
    monkeypatch.setattr(passes.epoch.dispatcher, "_cache", NullCache())
    assert _machine.cache().startswith("none: ")
