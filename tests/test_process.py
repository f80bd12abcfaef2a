"""What happens to a process that uses fastmlp, and to its other threads, children and files: each test has its own.

A crash cannot be caught, so the functions here that are not tests are what those processes run.
"""

import concurrent.futures
import copy
import functools
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings

import numba
import numpy as np
import pytest
from helpers import run_code, run_python

from fastmlp import MLPClassifier, MLPRegressor, _threads

# ---- Ctrl-C -----------------------------------------------------------------------------------------------------


def interrupted(seconds, fit, *data):
    """Call fit with a Ctrl-C after so many seconds. Returns how long that took to be answered, and the warnings."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its background commands ignore it
    sent = []

    def send():
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(seconds, send)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        timer.start()
        fit(*data)
    answered = time.perf_counter()
    timer.join()
    return answered - sent[0], [str(warning.message) for warning in caught]


def interrupt_an_epoch(batch_size):
    """An epoch of minutes. What was learnt is what the batches before the interrupt teach, and no other number."""
    rng, n = np.random.RandomState(0), 400_000
    X, y = rng.normal(size=(n, 4)).astype(np.float32), rng.normal(size=n).astype(np.float32)
    parameters = {"hidden_layer_sizes": (1000, 1000), "batch_size": batch_size, "shuffle": False, "random_state": 0}
    model, seconds = MLPRegressor(**parameters, max_iter=1), []
    few = X[: 2 * batch_size], y[: 2 * batch_size]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = model.fit(*few).coefs_[0].tobytes()  # compiles
        for attempt in range(3):  # this machine may have other things to do now and then
            took, messages = interrupted(0.3 + attempt / 5, model.fit, X, y)
            assert messages == ["Training interrupted by user."]
            assert model.n_iter_ == 0 and model.loss_curve_ == []
            seconds.append(took)
        assert min(seconds) < 0.3, seconds
        rows = model._optimizer.t * batch_size
        assert 0 < rows < n / 10
        twin = MLPRegressor(**parameters, max_iter=1).fit(X[:rows], y[:rows])
        for ours, theirs in zip(model.coefs_ + model.intercepts_, twin.coefs_ + twin.intercepts_, strict=True):
            assert ours.tobytes() == theirs.tobytes()
        assert model.fit(*few).coefs_[0].tobytes() == expected


@pytest.mark.skipif(os.name != "posix", reason="has no SIGINT from itself")
@pytest.mark.parametrize("batch_size", [1, 50])
def test_interrupt_of_a_long_epoch(batch_size):
    """It is answered at once, on one thread and on several: a warning, the last good weights, and later fits work."""
    run_code(f"import test_process; test_process.interrupt_an_epoch({batch_size})", NUMBA_NUM_THREADS="2")


def interrupt_lbfgs():
    """Between two evaluations: the exception comes through, the model is the old one and learns on."""
    rng = np.random.RandomState(0)
    X, y = rng.normal(size=(3000, 30)), rng.normal(size=3000)
    model = MLPRegressor(solver="lbfgs", max_iter=10**6, max_fun=10**6, tol=0.0, random_state=0, warm_start=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = model.set_params(max_iter=2).fit(X, y).coefs_[0].tobytes()
    with pytest.raises(KeyboardInterrupt):
        interrupted(0.5, model.set_params(max_iter=10**6).fit, X, y)
    assert model.coefs_[0].tobytes() == expected and model.n_iter_ == 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert model.set_params(max_iter=2, warm_start=False).fit(X, y).coefs_[0].tobytes() == expected


@pytest.mark.skipif(os.name != "posix", reason="has no SIGINT from itself")
def test_interrupt_of_lbfgs():
    run_code("import test_process; test_process.interrupt_lbfgs()")


def interrupt_the_compiler(seconds):
    """The first fit of all, from an empty cache."""
    X = np.random.RandomState(0).normal(size=(40, 3))
    model = MLPRegressor(max_iter=2, random_state=0)
    took, messages = interrupted(seconds, model.fit, X, X[:, 0])
    assert took < 1 and messages == ["Training interrupted by user."]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        losses = {make(max_iter=2, random_state=0).fit(X, X[:, 0]).loss_.hex() for make in [MLPRegressor] * 2}
        assert losses == {model.fit(X, X[:, 0]).loss_.hex()} and model.n_iter_ == 2


@pytest.mark.skipif(os.name != "posix", reason="has no SIGINT from itself")
@pytest.mark.parametrize("seconds", [0.3, 0.6, 1.2, 2])
def test_interrupt_while_kernels_compile(seconds, tmp_path):
    """It is answered too, between two kernels, and the next fit compiles what is missing."""
    code = f"import test_process; test_process.interrupt_the_compiler({seconds})"
    run_code(code, NUMBA_CACHE_DIR=str(tmp_path))


# ---- threads, children, pools -----------------------------------------------------------------------------------


def fit(seed=0):
    """All that a fit leaves, for a network that is worth several threads."""
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((1000, 64)).astype(np.float32), rng.integers(0, 10, 1000)
    model = MLPClassifier(max_iter=3, random_state=seed, early_stopping=True).fit(X, y)
    parameters = [parameter.tobytes() for parameter in model.coefs_ + model.intercepts_]
    return *parameters, model.predict_proba(X).tobytes(), float(model.loss_).hex()


def fork(function):
    """Start a child that does this and nothing else. Returns what waits for it and fails if it is not true."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if function() else 1)
        finally:
            os._exit(2)

    def wait():
        assert os.waitpid(child, 0)[1] == 0

    return wait


def in_a_fork():
    """Which has threads of its own, too."""
    fork(lambda: {fit(), *in_threads()} == {EXPECTED})()
    return [fit()]  # the parent goes on


def in_a_pool(method):
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(fit, [0] * 6)


def in_threads():
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        return list(pool.map(fit, [0] * 12))


def in_threads_of_joblib(backend):
    import joblib

    with joblib.parallel_config(backend, n_jobs=2):
        return joblib.Parallel()(joblib.delayed(fit)(0) for _ in range(6))


def in_a_search():
    from sklearn.datasets import load_iris
    from sklearn.model_selection import GridSearchCV

    X, y = load_iris(return_X_y=True)
    for layers in (5,), (400,):
        model, grid = MLPClassifier(layers, max_iter=3, random_state=0), {"alpha": [1e-4, 1.0], "tol": [0, 1e-3]}
        here, there = (GridSearchCV(model, grid, n_jobs=n, cv=3).fit(X, y) for n in (1, -1))
        assert here.cv_results_["mean_test_score"].tolist() == there.cv_results_["mean_test_score"].tolist()
        ours, theirs = here.best_estimator_, there.best_estimator_
        assert [W.tobytes() for W in ours.coefs_] == [W.tobytes() for W in theirs.coefs_]
    return [fit()]


def beside_anothers_kernel():
    """While another package's parallel kernel runs in another thread."""

    @numba.njit(parallel=True, nogil=True)
    def roots(x):
        total = 0.0
        for i in numba.prange(len(x)):
            total += x[i] ** 0.5
        return total

    x, rounds, stop = np.arange(1e6), [], threading.Event()
    roots(x)

    def run():
        while not stop.is_set():
            rounds.append(roots(x))

    thread = threading.Thread(target=run)
    thread.start()
    found = [fit() for _ in range(6)]
    stop.set()
    thread.join()
    assert rounds and max(rounds) == pytest.approx(min(rounds), rel=1e-12)
    return found


def behind_a_server():
    """Workers forked from a process with a fitted model: they predict with it, and train it on, as the parent would."""
    rng = np.random.default_rng(1)
    X, y = rng.standard_normal((3000, 64)), rng.integers(0, 10, 3000)
    model = MLPClassifier((200,), random_state=0).partial_fit(X, y, classes=range(10))
    expected = model.predict_proba(X).tobytes(), model.predict_proba(X[:1]).tobytes()
    later = copy.deepcopy(model).partial_fit(X, y).predict_proba(X).tobytes()

    def serve():
        answers = {(model.predict_proba(X).tobytes(), model.predict_proba(X[:1]).tobytes()) for _ in range(20)}
        return answers == {expected} and model.partial_fit(X, y).predict_proba(X).tobytes() == later

    for wait in [fork(serve) for _ in range(3)]:
        wait()
    return [fit()]


WAYS = {
    "fork": in_a_fork,
    "fork pool": functools.partial(in_a_pool, "fork"),
    "spawn pool": functools.partial(in_a_pool, "spawn"),
    "forkserver pool": functools.partial(in_a_pool, "forkserver"),
    "threads": in_threads,
    "joblib loky": functools.partial(in_threads_of_joblib, "loky"),
    "joblib threading": functools.partial(in_threads_of_joblib, "threading"),
    "joblib multiprocessing": functools.partial(in_threads_of_joblib, "multiprocessing"),
    "search": in_a_search,
    "beside another's kernel": beside_anothers_kernel,
    "behind a server": behind_a_server,
}
EXPECTED = ()


def same_numbers(way):
    """Before, meanwhile and after."""
    global EXPECTED
    EXPECTED = fit()
    found = WAYS[way]()
    assert found and set(found) == {EXPECTED} == {fit()}
    assert _threads.workers() == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("way", WAYS)
def test_fits_in_threads_and_children(way):
    """The same bits wherever a fit runs, after one in the parent."""
    code = f"import test_process; test_process.same_numbers({way!r})"
    run_python("-W", "ignore", "-c", code, NUMBA_NUM_THREADS="2")


def without_layers():
    """As in a container without libraries of OpenMP and oneTBB: Numba's modules for them do not load."""
    for name in "omppool", "tbbpool", "workqueue":
        sys.modules[f"numba.np.ufunc.{name}"] = None
    same_numbers("threads")


def test_fits_in_slim_containers():
    """Our threads need no library of others'."""
    run_python("-W", "ignore", "-c", "import test_process; test_process.without_layers()", NUMBA_NUM_THREADS="2")


# ---- clocks and memory ------------------------------------------------------------------------------------------


def stop_the_clock():
    """As tests do that freeze time."""
    expected = fit()
    time.perf_counter = time.monotonic = time.time = lambda: 1.0
    assert fit() == expected


def test_a_clock_that_stands_still():
    run_python("-W", "ignore", "-c", "import test_process; test_process.stop_the_clock()")


ROWS = {
    "C": lambda n: np.ones((n, 64)),
    "F": lambda n: np.ones((64, n)).T,
    "broadcast": lambda n: np.broadcast_to(np.ones(64), (n, 64)),
    "every second": lambda n: np.ones((n, 128))[:, ::2],
}


def predict_in_place(layout):
    """128 MB of rows, whose predictions take 2 MB."""
    import resource

    X, model = ROWS[layout](250_000), MLPRegressor(hidden_layer_sizes=(4,), max_iter=2)
    model.fit(np.ones((300, 64)), np.arange(300)).predict(X[:300])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model.predict(X)
    rise = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / (1 if sys.platform == "darwin" else 1e-3)
    assert rise < 30e6, f"{rise / 1e6:.0f} MB"


@pytest.mark.skipif(os.name != "posix", reason="has no resource")
@pytest.mark.parametrize("layout", ROWS)
def test_predictions_copy_no_rows(layout):
    run_python("-W", "ignore", "-c", f"import test_process; test_process.predict_in_place({layout!r})")
