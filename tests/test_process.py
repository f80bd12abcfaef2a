"""What happens to a process that uses fastmlp, and to its other threads, children and files: each test has its own.

A crash cannot be caught, so the functions here that are not tests are what those processes run.
"""

import os
import signal
import threading
import time
import warnings

import numpy as np
import pytest
from test_tile import run_code

from fastmlp import MLPRegressor

# ---- Ctrl-C -----------------------------------------------------------------------------------------------------


def interrupted(seconds, fit, *data):
    """Call fit with a Ctrl-C after so many seconds. Returns how long that took to be answered, and the warnings."""
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
@pytest.mark.parametrize("seconds", [0.3, 1.5])
def test_interrupt_while_kernels_compile(seconds, tmp_path):
    """It is answered too, and the next fit compiles what is missing."""
    code = f"import test_process; test_process.interrupt_the_compiler({seconds})"
    run_code(code, NUMBA_CACHE_DIR=str(tmp_path))
