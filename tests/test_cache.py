"""Kernels are compiled once: kept on disk, found there by other processes, made anew when their source changes.

Each process here runs on a copy of the package with a cache of its own, and reports what Numba compiled in it.
"""

import concurrent.futures
import contextlib
import gc
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numba.core.caching
import numpy as np
import pytest

import fastmlp
from fastmlp.compiled import session, sources
from fastmlp.compiled.llvm_thread import queue
from fastmlp.compiled.signals import Signals

PACKAGE = Path(fastmlp.__file__).resolve().parent

# Counts Numba's compilations; exits with 7 at the first if told to stop.
SCRIPT = """
import json, os, sys
import numpy as np
from numba.core import event

class Compilations(event.Listener):
    count = 0
    def on_start(self, event):
        self.count += 1
        if "stop" in sys.argv:
            os._exit(7)
    def on_end(self, event):
        pass

compilations = Compilations()
event.register("numba:compile", compilations)
import fastmlp
if "full" in sys.argv:  # no file can grow from here on
    import resource, scipy.stats  # which tries whether files can be made, in older versions
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
if "killed" in sys.argv:  # in the middle of writing file number n
    import signal
    left, replace = [int(sys.argv[-1])], os.replace
    def killed(*args):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(*args)
    os.replace = killed
if "alone" in sys.argv:  # no thread of Python's is to be had from here on
    import threading
    def start(thread):
        raise RuntimeError("can't start new thread")
    threading.Thread.start = start
X = rows = np.arange(60.0, dtype="float32" if "float32" in sys.argv else None).reshape(20, 3) / 60
if "sparse" in sys.argv:
    import scipy.sparse
    rows = scipy.sparse.csr_array(X)
def fit():
    model = fastmlp.MLPRegressor(hidden_layer_sizes=(4,), max_iter=2, random_state=0, tol=0).fit(rows, X[:, 0])
    print(json.dumps({"compiled": compilations.count, "loss": float(model.loss_).hex(), "where": fastmlp.__file__}))
if "short" in sys.argv:  # of memory, when LLVM reads function number n
    import threading, llvmlite.binding as llvm
    left, parse = [int(sys.argv[-1])], llvm.parse_assembly
    def short(*args):
        left[0] -= threading.current_thread().name == "fastmlp-llvm"
        if left[0] == 0:
            left[0] = -1
            raise MemoryError
        return parse(*args)
    llvm.parse_assembly = short
    try:
        fit()
    except MemoryError:
        fit()
elif "late" in sys.argv:
    import atexit, sklearn.neural_network  # which starts what cannot be started at the end
    atexit.register(fit)
else:
    fit()
"""


def run(package, *arguments, **environment):
    """Fit in a new process, with this copy of the package. None takes a variable out of the environment."""
    variables = os.environ | {"PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1"} | environment
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, *arguments],
        cwd=package.parent,
        env={name: value for name, value in variables.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=300,
    )


def report(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def copy_package(folder):
    """The package as it is, without bytecode and cached kernels."""
    return Path(shutil.copytree(PACKAGE, folder / "fastmlp", ignore=shutil.ignore_patterns("__pycache__")))


def files(folder):
    """Path, time of change and content of all files."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


pytestmark = pytest.mark.xdist_group("cache")  # one worker fills the cache that they share


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A copy of the package, its filled cache, and what the process reported that filled it."""
    folder = tmp_path_factory.mktemp("kept")
    package, cache = copy_package(folder), folder / "cache"
    first = report(run(package, NUMBA_CACHE_DIR=str(cache)))
    assert first["where"] == str(package / "__init__.py")
    return package, cache, first


def test_first_process_keeps_its_kernels(kept):
    """It compiles, and leaves an index and the machine code under NUMBA_CACHE_DIR, and nothing in the package."""
    package, cache, first = kept
    assert first["compiled"] > 0
    assert {".nbi", ".nbc"} <= {path.suffix for path in files(cache)}
    assert not (package / "__pycache__").exists()


def test_precompiled_kernels_serve_every_fit(kept, tmp_path):
    """A process that fits, dense X or sparse, compiles nothing after one that only called `precompile`."""
    package, _, first = kept
    variables = os.environ | {"PYTHONPATH": str(package.parent), "NUMBA_CACHE_DIR": str(tmp_path)}
    code = "import fastmlp; fastmlp.precompile(['float64'], sparse=True)"
    subprocess.run([sys.executable, "-c", code], cwd=package.parent, env=variables, check=True, timeout=300)
    later = report(run(package, NUMBA_CACHE_DIR=str(tmp_path)))
    assert (later["compiled"], later["loss"]) == (0, first["loss"])
    sparse = report(run(package, "sparse", NUMBA_CACHE_DIR=str(tmp_path)))
    assert sparse["compiled"] == 0
    assert float.fromhex(sparse["loss"]) == pytest.approx(float.fromhex(first["loss"]), rel=1e-12)


def test_dense_fits_do_not_wait_for_sparse_kernels(kept, tmp_path):
    """None of them is compiled before sparse X comes; then no kernel of the dense ones is compiled again."""
    package, cache, first = kept
    assert not [path for path in files(cache) if "sparse" in path.name or "nonzeros" in path.name]
    more = shutil.copytree(cache, tmp_path / "cache")
    assert 0 < report(run(package, "sparse", NUMBA_CACHE_DIR=str(more)))["compiled"] < first["compiled"]
    assert [path for path in files(more) if "nonzeros" in path.name]


def test_second_process_compiles_nothing(kept):
    """It gives the same bits from what is on disk, and leaves all of it as it is."""
    package, cache, first = kept
    before = files(cache)
    second = report(run(package, NUMBA_CACHE_DIR=str(cache)))
    assert (second["compiled"], second["loss"]) == (0, first["loss"])
    assert files(cache) == before


COMPILED = [f"compiled/{name}.py" for name in sources._MODULES]


def test_all_compiled_code_is_in_these_files():
    """What the next test changes is all there is to change, with what else has a say in how it is compiled."""
    words = re.compile(r"njit|intrinsic|(import|from) llvmlite|^@(kernel|inlined|entry)|compiled.jit import", re.M)
    with_code = {
        f"compiled/{path.name}"
        for path in sorted(PACKAGE.joinpath("compiled").glob("*.py"))
        if words.search(path.read_text())
    }
    assert with_code | {
        f"compiled/{name}.py" for name in ("llvm_thread", "numba_cache", "records", "session", "shipped")
    } == set(COMPILED)


@pytest.mark.parametrize("name", [*COMPILED, "estimators.py"])
def test_changed_source_is_compiled_anew(kept, name):
    """Another letter in a file with compiled code, and what is on disk no longer counts; other files do not matter.

    Neither does when a file was written, nor its size: an archive may set all times to the same.
    """
    package, cache, _ = kept
    path, before = package / name, files(cache)
    text, status = path.read_text(), path.stat()
    try:
        path.write_text(text.replace("e", "E", 1))  # in the docstring
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        done = run(package, "stop", NUMBA_CACHE_DIR=str(cache))
    finally:
        path.write_text(text)
    assert done.returncode == (7 if name in COMPILED else 0), done.stderr
    assert files(cache) == before
    assert report(run(package, "stop", NUMBA_CACHE_DIR=str(cache)))["compiled"] == 0


def test_without_a_place_to_keep_them(kept, tmp_path):
    """Where neither the package nor the home folder can be written to, a fit compiles and gives the same bits."""
    package, blocked = copy_package(tmp_path), tmp_path / "blocked"
    blocked.touch()  # a file: nobody, not even root, makes a folder in it
    (package / "compiled" / "__pycache__").touch()
    nowhere = dict.fromkeys(["HOME", "XDG_CACHE_HOME", "LOCALAPPDATA", "USERPROFILE"], str(blocked / "home"))
    done = report(run(package, NUMBA_CACHE_DIR=None, **nowhere))
    assert done["compiled"] > 0 and done["loss"] == kept[2]["loss"]
    assert not [path for path in files(tmp_path) if path.suffix in (".nbi", ".nbc")]


@pytest.mark.skipif(sys.platform == "win32", reason="has no limit to the size of files")
def test_with_a_full_disk(kept, tmp_path):
    """Where the kernels cannot be written, though the folder could be made, a fit goes on with what it compiled."""
    done = report(run(kept[0], "full", NUMBA_CACHE_DIR=str(tmp_path / "cache")))
    assert done["compiled"] > 0 and done["loss"] == kept[2]["loss"]


def test_package_that_cannot_be_written_to(kept, tmp_path):
    """As where an administrator installed it: the kernels go to the user's own cache, and serve the next process."""
    package, home = copy_package(tmp_path), tmp_path / "home"
    (package / "compiled" / "__pycache__").touch()  # not even root makes a folder there
    places = dict.fromkeys(["HOME", "XDG_CACHE_HOME", "LOCALAPPDATA", "USERPROFILE"], str(home))
    first, second = (report(run(package, NUMBA_CACHE_DIR=None, **places)) for _ in range(2))
    assert first["compiled"] > 0 == second["compiled"]
    assert first["loss"] == second["loss"] == kept[2]["loss"]
    assert [path for path in files(home) if path.suffix == ".nbc"]


@pytest.mark.parametrize("how", ["alone", "late"])
def test_without_a_second_thread(kept, how, tmp_path):
    """Where LLVM gets no thread of its own, or the process is about to end, all is compiled in one, and kept."""
    package, _, first = kept
    variables = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    done, again = report(run(package, how, **variables)), report(run(package, **variables))
    assert done == first and again == first | {"compiled": 0}


@pytest.mark.parametrize("number", [2, 13, 40])
def test_short_of_memory_once(kept, number, tmp_path):
    """What LLVM could not read for want of memory, it reads when the next fit asks for it."""
    done = report(run(kept[0], "short", str(number), NUMBA_CACHE_DIR=str(tmp_path / "cache")))
    assert done["loss"] == kept[2]["loss"]


def of_numba():
    """What is changed for as long as our functions are compiled."""
    attributes = [getattr(owner, name) for owner, name, _ in session.hooks.changes(vectorize=True)]
    handlers = [signal.getsignal(number) for number in signal.valid_signals() if callable(signal.getsignal(number))]
    return [*attributes, *handlers, sys.getswitchinterval(), gc.isenabled()]


def test_numba_is_left_as_it_was():
    """Whatever happens while our functions are compiled; and in it all that is said to be changed is."""
    before = of_numba()
    for error in contextlib.nullcontext(), pytest.raises(KeyboardInterrupt):
        with error, session.compiling(not session.hooks.config.LOOP_VECTORIZE, Signals()):
            assert not any(a == b for a, b in zip(before, of_numba(), strict=True) if a != 0)
            if not isinstance(error, contextlib.nullcontext):
                raise KeyboardInterrupt
        assert of_numba() == before
    assert "fastmlp-llvm" not in [thread.name for thread in threading.enumerate()]


def test_nothing_is_done_after_a_failure():
    """Machine code must not run before that of what it calls. The failure is raised where it is waited for."""
    done = []
    for _ in range(2):
        with pytest.raises(session.Failed) as failed, session.compiling(False, Signals()):
            queue.add(done.append, 1)
            queue.add(lambda: 1 / 0)
            queue.add(done.append, 2)
        assert isinstance(failed.value.__cause__, ZeroDivisionError)
    with session.compiling(False, Signals()):
        for number in range(3, 103):
            queue.add(done.append, number)
        queue.wait()
        assert done == [1, 1, *range(3, 103)]


DAMAGES = [
    lambda content, other: content[: len(content) // 2],
    lambda content, other: content[:-1],
    lambda content, other: b"",
    lambda content, other: bytes(len(content)),
    lambda content, other: np.random.RandomState(0).bytes(len(content)),
    lambda content, other: content[:-999] + bytes(byte ^ 255 for byte in content[-999:-900]) + content[-900:],
    lambda content, other: other,
]


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
def test_damaged_files(kept, suffix, tmp_path):
    """Cut off, empty, overwritten or another kernel's: what is damaged is compiled anew, and is whole afterwards."""
    package, cache, first = kept
    cache = Path(shutil.copytree(cache, tmp_path / "cache"))
    contents = {path: content for path, (_, content) in sorted(files(cache).items()) if path.suffix == suffix}
    assert len(contents) >= len(DAMAGES)
    for i, (path, content) in enumerate(contents.items()):
        path.write_bytes(DAMAGES[i % len(DAMAGES)](content, list(contents.values())[i - 1]))
    again = report(run(package, NUMBA_CACHE_DIR=str(cache)))
    assert again["compiled"] > 0 and again["loss"] == first["loss"]
    last = report(run(package, NUMBA_CACHE_DIR=str(cache)))
    assert (last["compiled"], last["loss"]) == (0, first["loss"])


def test_processes_that_fill_one_cache_at_once(kept, tmp_path):
    """For different types: each gets its own numbers, and so does who comes later."""
    package, _, first = kept
    types = "float64", "float32"

    def fit(dtype):
        return report(run(package, dtype, NUMBA_CACHE_DIR=str(tmp_path)))

    with concurrent.futures.ThreadPoolExecutor() as pool:
        at_once = list(pool.map(fit, types))
    rounds = [at_once, *([fit(dtype) for dtype in types] for _ in range(2))]
    assert [found["compiled"] for found in rounds[-1]] == [0, 0]
    losses = {(double["loss"], single["loss"]) for double, single in rounds}
    assert len(losses) == 1
    double, single = losses.pop()
    assert double == first["loss"] != single
    assert float.fromhex(single) == pytest.approx(float.fromhex(double), rel=1e-5)


@pytest.mark.skipif(os.name != "posix", reason="has no SIGKILL")
@pytest.mark.parametrize("number", [1, 2, 9])
def test_process_killed_while_it_writes(kept, number, tmp_path):
    """What it leaves, an index without the file it names among it, harms nobody."""
    package, _, first = kept
    assert run(package, "killed", str(number), NUMBA_CACHE_DIR=str(tmp_path)).returncode == -signal.SIGKILL
    assert files(tmp_path)
    if number == 2:  # the index is there, the code not yet
        assert {".nbi"} <= {path.suffix for path in files(tmp_path)} != {".nbc"}
    again = report(run(package, NUMBA_CACHE_DIR=str(tmp_path)))
    assert again["compiled"] > 0 and again["loss"] == first["loss"]
    assert report(run(package, NUMBA_CACHE_DIR=str(tmp_path)))["compiled"] == 0


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="asks for processors of the other make")
def test_cache_that_two_processors_share(kept, tmp_path):
    """Each compiles for itself, and neither takes what is the other's."""
    package, cache, first = kept
    cache = shutil.copytree(cache, tmp_path / "cache")
    other = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma", "NUMBA_CACHE_DIR": str(cache)}
    theirs = report(run(package, **other))
    assert theirs["compiled"] > 0
    assert float.fromhex(theirs["loss"]) == pytest.approx(float.fromhex(first["loss"]), rel=1e-9)
    for settings, loss in ({"NUMBA_CACHE_DIR": str(cache)}, first["loss"]), (other, theirs["loss"]):
        again = report(run(package, **settings))
        assert (again["compiled"], again["loss"]) == (0, loss)


# ---- what does not compile ----

N = 30
X = np.random.RandomState(0).normal(size=(N, 4))
Y = X[:, 0] - X[:, 1]
WEIGHTS = np.linspace(1, 2, N)


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def misaligned(array):
    raw = np.empty(array.nbytes + 1, np.uint8)
    moved = raw[1:].view(array.dtype).reshape(array.shape)
    moved[...] = array
    return moved


# Parameters, and what fit gets.
PLAIN = {
    "read-only X": ({}, (read_only(X), Y)),
    "read-only y": ({}, (X, read_only(Y))),
    "read-only weights": ({}, (X, Y, read_only(WEIGHTS))),
    "misaligned": ({}, (misaligned(X), misaligned(Y), misaligned(WEIGHTS))),
    "Fortran order": ({}, (np.asfortranarray(X), Y)),
    "reversed": ({}, (X[::-1, ::-1], Y[::-1], WEIGHTS[::-1])),
    "every other row": ({}, (X[::2], Y[::2], WEIGHTS[::2])),
    "other bytes": ({}, (X.astype(X.dtype.newbyteorder()), Y.astype(Y.dtype.newbyteorder()))),
    "whole numbers": ({}, ((X * 9).astype(int), (Y * 9).astype(int), np.ones(N, int))),
    "two targets": ({}, (X, np.asfortranarray(np.column_stack([Y, Y])))),
    "int32 as batch_size": ({"batch_size": np.int32(7)}, (X, Y)),
    "True as batch_size": ({"batch_size": True}, (X, Y)),
    "uint8 as max_iter": ({"max_iter": np.uint8(2)}, (X, Y)),
    "float32 as alpha": ({"alpha": np.float32(0.1), "learning_rate_init": np.float32(0.01)}, (X, Y)),
    "whole numbers as alpha and rate": ({"alpha": 1, "learning_rate_init": 1, "beta_1": 0, "epsilon": 1}, (X, Y)),
    "sgd": ({"solver": "sgd"}, (X, Y)),
    "sgd without momentum": ({"solver": "sgd", "momentum": 0}, (X, Y)),
    "early stopping": ({"early_stopping": True}, (X, Y)),
    "in order": ({"shuffle": False}, (X, Y)),
    "other layers": ({"hidden_layer_sizes": (), "activation": "tanh"}, (X, Y)),
    "int32 as layers": ({"hidden_layer_sizes": np.array([7, 3], np.int32), "activation": "logistic"}, (X, Y)),
    "poisson": ({"loss": "poisson"}, (X, np.abs(Y))),
    "what scikit-learn does not have": ({"activation": "silu", "loss": "huber", "weight_decay": 0.1}, (X, Y)),
    "wide layers, shared by threads": ({"hidden_layer_sizes": (400, 300), "batch_size": 20}, (X, Y)),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("case", PLAIN)
def test_one_kernel_for_all_forms(case, monkeypatch):
    """`precompile` has them all, whatever form data and parameters come in, and whatever is trained how."""
    fastmlp.precompile([np.float64])
    asked = kernels_asked_for(monkeypatch)
    parameters, data = PLAIN[case]
    fastmlp.MLPRegressor(**({"max_iter": 2} | parameters)).fit(*data).predict(data[0])
    assert asked == []


@pytest.mark.parametrize("variant", ["td", "td-s"])
@pytest.mark.parametrize("model", [fastmlp.RealMLPClassifier, fastmlp.RealMLPRegressor])
def test_precompiled_kernels_serve_tables(model, variant, monkeypatch):
    fastmlp.precompile([np.float32], tables=True)
    asked, table = kernels_asked_for(monkeypatch), [[i, str(i % 12)] for i in range(60)]
    model(variant, max_iter=2, hidden_layer_sizes=(8, 8)).fit(table, [i % 3 for i in range(60)]).predict(table)
    assert asked == []


def kernels_asked_for(monkeypatch):
    """The signatures that caches are asked for from now on."""
    asked = []
    for cache in numba.core.caching.Cache, numba.core.caching.NullCache:

        def load_overload(self, sig, context, original=cache.load_overload):
            asked.append(sig)
            return original(self, sig, context)

        monkeypatch.setattr(cache, "load_overload", load_overload)
    return asked
