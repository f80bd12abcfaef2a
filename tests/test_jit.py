"""How kernels are compiled, whatever happens meanwhile and however the package and Numba are installed.

Whatever may crash or hang runs in a process of its own: the functions here that are not tests are what those run.
"""

import contextlib
import gc
import logging
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time
import types
import warnings

import numpy as np
import pytest
from helpers import TESTS, run_code

import fastmlp
from fastmlp import MLPRegressor
from fastmlp.compiled import dense, jit, passes, session
from fastmlp.compiled.signals import Signals

PACKAGE = pathlib.Path(fastmlp.__file__).resolve().parent
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
needs_timer = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no alarms on this system")


def loss():
    """Of a little fit, to the last bit."""
    X = np.random.RandomState(0).normal(size=(40, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(MLPRegressor(max_iter=2, random_state=0).fit(X, X[:, 0]).loss_).hex()


def run(code, *path, **environment):
    """Run some lines of code in a new process; None takes a variable out of its environment. What it wrote."""
    variables = os.environ | {"PYTHONPATH": os.pathsep.join([*map(str, path), str(PACKAGE.parent), str(TESTS)])}
    variables |= environment
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={name: value for name, value in variables.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=300,
        cwd=TESTS,
    )
    assert done.returncode == 0, done.stderr
    return done


# ---- where the package is ---------------------------------------------------------------------------------------

FIT = """
import json, fastmlp, numpy as np, warnings
from numba.core import event
warnings.simplefilter("ignore")
with event.install_recorder("numba:compile") as recorder:
    X = np.random.RandomState(0).normal(size=(40, 3))
    model = fastmlp.MLPRegressor(max_iter=2, random_state=0).fit(X, X[:, 0])
print(json.dumps([fastmlp.__file__, float(model.loss_).hex(), len(recorder.buffer)]))
"""


def zipped(folder):
    shutil.copytree(PACKAGE, folder / "all" / "fastmlp", ignore=shutil.ignore_patterns("__pycache__"))
    return shutil.make_archive(str(folder / "package"), "zip", folder / "all")


def bytecode(folder):
    package = shutil.copytree(PACKAGE, folder / "bytecode" / "fastmlp", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-m", "compileall", "-q", "-b", package], check=True)
    for path in package.rglob("*.py"):
        path.unlink()
    return package.parent


@pytest.mark.parametrize("make", [zipped, bytecode])
def test_package_without_files_of_source(make, tmp_path):
    """It is imported from a zip, or as bytecode; it fits, and the next process finds its kernels."""
    path, expected = str(make(tmp_path)), loss()
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    for process in range(2):
        where, found, compiled = eval(run(FIT, path, **cache).stdout)
        assert where.startswith(path) and found == expected
        assert (compiled > 0) == (process == 0)
    if make is bytecode:  # another number in one of its functions, and what is on disk no longer counts
        module = PACKAGE / "compiled" / "dense.py"
        changed = tmp_path / "dense.py"
        changed.write_text(module.read_text() + "\nCHANGED = 12345\n")
        subprocess.run([sys.executable, "-m", "compileall", "-q", "-b", changed], check=True)
        shutil.copy(tmp_path / "dense.pyc", pathlib.Path(path, "fastmlp", "compiled", "dense.pyc"))
        assert eval(run(FIT, path, **cache).stdout)[2] > 0


def test_bytecode_counts_as_the_same_in_all_processes(tmp_path):
    """Whatever else was imported, and however its sets are ordered."""
    path = str(bytecode(tmp_path))
    code = "from fastmlp.compiled import sources; print(sources.SOURCES)"
    found = {run(code, path, PYTHONHASHSEED=seed).stdout for seed in "123"}
    assert found == {run("import scipy.stats, sklearn; " + code, path).stdout}


def test_disabled_compiler():
    """Without Numba's compiler nothing works: one sentence says so."""
    code = "try:\n    import fastmlp\nexcept ImportError as error:\n    print(error)"
    assert "unset NUMBA_DISABLE_JIT" in run(code, NUMBA_DISABLE_JIT="1").stdout


# ---- Numba's private parts --------------------------------------------------------------------------------------

# An inlined function in a kernel in an entry: all there is to compile.
LITTLE = """
from numba import types
from fastmlp.compiled import jit
from fastmlp.compiled.tile import pointer
T = types.CPointer(types.Dummy("T"))

@jit.inlined
def twice(x):
    return 2 * x

@jit.kernel({"out": T})
def fill(out, n):
    for i in range(n):
        out[i] = twice(out[i]) + i

@jit.entry({"out": T})
def run(out, n):
    fill(pointer(out), n)
"""


def compile_little():
    """Compile it all anew, and see that it works. Return whether that went with the changes to Numba."""
    names, out = {"__name__": __name__}, np.ones(5)
    exec(LITTLE, names)
    names["run"](out, 5)
    assert out.tolist() == [2, 3, 4, 5, 6]
    return session.hooks is not None


@pytest.fixture
def hooks():
    """As they were, afterwards."""
    kept = session.hooks
    yield kept
    session.hooks, session._failed = kept, None


def raising(*args, **kwargs):
    raise TypeError("not as it was")


CHANGES = [(owner, name) for owner, name, _ in session.hooks.changes(vectorize=False)]


def test_changes_work(hooks):
    """With all of them, with Numba as it is today."""
    assert {"OPT", "get_executable", "_library_class", "magic_tuple"} <= {name for _, name in CHANGES}
    assert compile_little()


@pytest.mark.parametrize("number", [i for i, (owner, name) in enumerate(CHANGES) if callable(getattr(owner, name))])
def test_changes_that_do_not_work(number, hooks, monkeypatch):
    """Another Numba calls something else by this name: our functions are compiled without."""
    changes = hooks.changes

    def broken(vectorize):
        for i, (owner, name, value) in enumerate(changes(vectorize)):
            yield owner, name, raising if i == number else value

    monkeypatch.setattr(hooks, "changes", broken)
    before = [getattr(owner, name) for owner, name in CHANGES]
    hooked = compile_little()  # what is not asked for, in some versions, does not matter
    assert [getattr(owner, name) for owner, name in CHANGES] == before
    assert compile_little() == hooked


@pytest.mark.parametrize(
    "name",
    ["config", "CPUCodeLibrary", "CPUContext", "codegen", "TypingContext", "BaseContext", "cpu_target", "llvm"]
    + ["_dynfunc", "cgutils", "types"],
)
def test_names_that_are_gone(name, hooks, monkeypatch):
    monkeypatch.setattr(hooks, name, types.SimpleNamespace())
    compile_little()


@pytest.mark.parametrize("name", ["add_ir_module", "_read", "finalize", "defines", "__init__"])
def test_library_that_does_not_work(name, hooks, monkeypatch):
    monkeypatch.setattr(hooks._Library, name, raising)
    assert not compile_little()


def test_passes_that_are_gone(hooks, monkeypatch):
    monkeypatch.setattr(hooks, "drop_needless_passes", raising)
    assert not compile_little()
    import numba.core.compiler

    monkeypatch.setattr(session, "hooks", hooks)
    monkeypatch.delattr(numba.core.compiler, "Compiler")
    compile_little()


def test_errors_of_others_are_raised(hooks):
    """What fails with and without the changes is not their fault; they stay."""
    names = {"__name__": __name__}
    exec(LITTLE.replace("2 * x", "x.nothing"), names)  # which no number has
    with pytest.raises(Exception, match="nothing"):
        names["run"](np.ones(5), 5)
    assert session.hooks is hooks
    assert compile_little()


GONE = """
import numba.core.caching, numba.core.codegen, numba.core.compiler
del numba.core.codegen.JITCodeLibrary, numba.core.caching.IndexDataCacheFile, numba.core.compiler.CompilerBase
import fastmlp
from fastmlp.compiled import jit, session
assert session.hooks is None and jit.Cache is None
"""
BROKEN = """
import fastmlp
from fastmlp.compiled import numba_cache, jit, session
left, link = [12], jit.Kernel._link
def broken(kernel, symbol, compiled):  # in the second thread, after some kernels
    left[0] -= 1
    if left[0] == 0:
        raise AttributeError("not as it was")
    link(kernel, symbol, compiled)
jit.Kernel._link = broken
"""
NO_CACHE = """
from fastmlp.compiled import numba_cache
def broken(*args):
    raise AttributeError("not as it was")
numba_cache.Cache._index_key = broken
"""


@pytest.mark.parametrize(
    "code, kept", [(GONE, False), (BROKEN, True), (NO_CACHE, False)], ids=["gone", "broken", "no cache"]
)
def test_fits_with_another_numba(code, kept, tmp_path):
    """Whole fits: the same bits; where Numba's cache is as it was, the next process finds the kernels."""
    expected, cache = loss(), {"NUMBA_CACHE_DIR": str(tmp_path)}
    first = eval(run(code + FIT, **cache).stdout)
    assert first[1] == expected and first[2] > 0
    if kept:
        assert eval(run(FIT, **cache).stdout)[1:] == [expected, 0]


# ---- signals ----------------------------------------------------------------------------------------------------


class Late(Exception):
    pass


def alarm_the_compiler(seconds, expected):
    """In the first fit of all, from an empty cache, the handler of a signal raises; and two others come beside it."""
    called = []

    def handler(number, frame):
        called.append(number)
        assert isinstance(frame, types.FrameType)
        if number == signal.SIGALRM:
            raise Late

    numbers = [signal.SIGALRM, signal.SIGUSR1, signal.SIGTERM]
    for number in numbers:
        signal.signal(number, handler)
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]

    def send():
        time.sleep(seconds)
        began.append(time.perf_counter())
        for number in numbers:
            os.kill(os.getpid(), number)
            time.sleep(0.001)

    began, thread = [], threading.Thread(target=send)
    thread.start()
    with pytest.raises(Late):
        loss()
        time.sleep(10)  # had it not come
    took = time.perf_counter() - began[0]
    thread.join()
    assert took < 1, took
    assert sorted(called) == sorted(numbers)
    assert [signal.getsignal(number) for number in signal.valid_signals()] == handlers
    assert gc.isenabled() and session.hooks is not None
    assert loss() == expected == loss()


@needs_timer
@pytest.mark.parametrize("seconds", [0.2, 0.5, 1, 2, 3])
def test_signals_while_kernels_compile(seconds, tmp_path):
    """What a handler raises arrives within a second, no signal is lost, and the next fit works."""
    run_code(f"import test_jit; test_jit.alarm_the_compiler({seconds}, {loss()!r})", NUMBA_CACHE_DIR=str(tmp_path))


def alarm_all_the_time(expected):
    """As a profiler does that looks where the process is, a hundred times a second."""
    called = []
    signal.signal(signal.SIGALRM, lambda *args: called.append(args))
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    assert loss() == expected
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert len(called) > 5


@needs_timer
def test_signals_all_the_time(tmp_path):
    """Kernels compile nevertheless, one after the other."""
    run_code(f"import test_jit; test_jit.alarm_all_the_time({loss()!r})", NUMBA_CACHE_DIR=str(tmp_path))


@needs_timer
def test_signals_are_answered_in_order():
    """All of them, even if the first handler raises; handlers are those of before, even if one is called at once."""
    called, numbers = [], [signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR1]

    def handler(number, frame):
        called.append(number)
        raise Late(number)

    before = {number: signal.signal(number, handler) for number in set(numbers)}
    try:
        signals = Signals()
        with signals.put_off():
            for number in numbers:
                signal.raise_signal(number)
            assert called == [] and [number for number, _ in signals.came] == numbers
        assert all(signal.getsignal(number) is handler for number in numbers)
        with pytest.raises(Late):
            signals.answer()
        assert called == numbers
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def test_signals_in_another_thread():
    """Where Python calls no handlers there is nothing to put off."""
    found = []

    def look():
        before, signals = signal.getsignal(signal.SIGINT), Signals()
        with signals.put_off():
            found.append(signal.getsignal(signal.SIGINT) is before)
        signals.answer()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [True]


# ---- forks ------------------------------------------------------------------------------------------------------


def fork(function):
    """Do this in a child, which is killed after a minute. Return the exit status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(60)
            status = function()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


FINE, TOLD = 3, 4


def fit_in_a_child(expected, before):
    """Nothing of the parent's compiler is left: not its settings, nor its handlers of signals."""
    try:
        here = (
            [getattr(owner, name) for owner, name in CHANGES],
            sys.getswitchinterval(),
            signal.getsignal(signal.SIGINT),
        )
        assert gc.isenabled() and here == before
        return FINE if loss() == expected else 1
    except RuntimeError as error:
        return TOLD if "forked while another thread" in str(error) else 1


def fork_while_compiling(expected, moments, patience):
    """Threads fork while the main one compiles its first fit."""
    if patience is not None:
        session._FORK_PATIENCE = patience
    before = [getattr(owner, name) for owner, name in CHANGES], sys.getswitchinterval(), signal.getsignal(signal.SIGINT)
    found = []

    def child(seconds):
        time.sleep(seconds)
        found.append((fork(lambda: fit_in_a_child(expected, before)), passes.epoch._loaded != {}))

    threads = [threading.Thread(target=child, args=(seconds,)) for seconds in moments]
    for thread in threads:
        thread.start()
    assert loss() == expected
    for thread in threads:
        thread.join()
    statuses = {status for status, _ in found}
    assert statuses == {FINE} if patience is None else TOLD in statuses <= {TOLD, FINE}, found
    assert loss() == expected


@needs_fork
@pytest.mark.parametrize("patience", [None, 0])
def test_forks_while_kernels_compile(patience, tmp_path):
    """A child can fit, as its parent was forked between two compilations; or is told why it cannot."""
    code = f"import test_jit; test_jit.fork_while_compiling({loss()!r}, [0.2, 0.5, 1, 2], {patience})"
    run_python_for_forks(code, tmp_path)


def fork_while_others_compile(expected):
    """Another package's function is compiled: what is loaded runs in the child, what is not is refused."""
    from numba.core.compiler_lock import global_compiler_lock

    assert loss() == expected
    found = []

    def children():
        found.append(fork(lambda: FINE if loss() == expected else 1))
        passes.predict._loaded.clear()
        passes.epoch._loaded.clear()
        found.append(fork(lambda: fit_in_a_child(expected, before)))

    before = [getattr(owner, name) for owner, name in CHANGES], sys.getswitchinterval(), signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=children)
    with global_compiler_lock:
        thread.start()
        thread.join()
    assert found == [FINE, TOLD]
    assert loss() == expected == loss()


@needs_fork
def test_forks_while_others_compile(tmp_path):
    run_python_for_forks(f"import test_jit; test_jit.fork_while_others_compile({loss()!r})", tmp_path)


def run_python_for_forks(code, folder):
    """Python itself warns of forks beside threads."""
    run("import warnings; warnings.simplefilter('ignore'); " + code, NUMBA_CACHE_DIR=str(folder))


# ---- names and variants -----------------------------------------------------------------------------------------


def test_kernels_have_names_of_their_own():
    """Which are their symbols and their files."""
    names = [kernel.name for kernel in jit._kernels if kernel.function.__module__.startswith("fastmlp.")]
    assert len(names) > 40 and len(set(names)) == len(names)


def test_variant_of_a_name_that_is_not_used():
    with pytest.raises(ValueError, match="no_such_kernel"):
        jit.variant(passes.rows_pass, "_other", no_such_kernel=len, forward_rows=dense.forward_rows)


# ---- what is said -----------------------------------------------------------------------------------------------

TELLING = """
import logging, sys
import fastmlp
from fastmlp.compiled import jit, passes
jit._TELL_AFTER = 0.1
"""
LINE = "fastmlp: compiling kernels for float64, once on this machine: this takes some seconds\n"


def test_first_compilation_says_so(tmp_path):
    """Once, to stderr, while it lasts; the next process, which finds the kernels, says nothing."""
    cache = {"NUMBA_CACHE_DIR": str(tmp_path)}
    code = """
logging.getLogger("fastmlp").addFilter(lambda record: not passes.epoch._loaded or sys.exit("too late"))
"""
    assert run(TELLING + code + FIT, **cache).stderr == LINE
    assert run(TELLING + FIT, **cache).stderr == ""


def test_first_compilation_is_silenced(tmp_path):
    """As any logger is."""
    code = 'logging.getLogger("fastmlp").setLevel(logging.ERROR)'
    assert run(TELLING + code + FIT, NUMBA_CACHE_DIR=str(tmp_path)).stderr == ""


def test_workers_say_it_once(tmp_path):
    """Two processes that fill one cache at once."""
    variables = os.environ | {"PYTHONPATH": str(PACKAGE.parent), "NUMBA_CACHE_DIR": str(tmp_path)}
    both = [
        subprocess.Popen([sys.executable, "-c", TELLING + FIT], env=variables, text=True, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    assert sorted(process.communicate(timeout=300)[1] for process in both) == ["", LINE]


def test_where_nothing_can_be_kept_each_process_says_so(tmp_path):
    (tmp_path / "blocked").touch()
    nowhere = {"NUMBA_CACHE_DIR": str(tmp_path / "blocked" / "cache")}
    nowhere |= dict.fromkeys(["HOME", "XDG_CACHE_HOME", "LOCALAPPDATA", "USERPROFILE"], str(tmp_path / "blocked" / "h"))
    path = zipped(tmp_path)  # which Numba does not look for in a folder beside it
    told = "fastmlp: compiling kernels for float64, in each process, as no folder can be written to: "
    assert run(TELLING + FIT, path, **nowhere).stderr == told + "this takes some seconds\n"


def test_mark_of_a_process_that_tells(tmp_path):
    """It is made once, and counts for a minute; where none can be made, all processes tell."""
    mark = tmp_path / "mark"
    assert [jit._is_first(mark) for _ in range(2)] == [True, False]
    os.utime(mark, (time.time() - 100,) * 2)
    assert [jit._is_first(mark) for _ in range(2)] == [True, False]
    assert jit._is_first(tmp_path / "nowhere" / "mark")


def test_only_long_compilations_are_told(monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(jit, "_told", False)
    monkeypatch.setattr(jit, "_seconds", 0.0)
    with caplog.at_level(logging.WARNING, "fastmlp"), contextlib.suppress(OSError):
        jit._tell(0.9, {"T": "float64"}, str(tmp_path))
        assert not caplog.records
        for _ in range(3):
            jit._tell(0.2, {"T": "float64", "S": "float32"}, str(tmp_path))
    assert [record.getMessage() for record in caplog.records] == [
        "fastmlp: compiling kernels for float32 and float64, once on this machine: this takes some seconds"
    ]
