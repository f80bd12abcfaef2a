"""Threads are used where they help: what waits for a core that something else has taken goes on alone."""

import os
import subprocess
import sys

import numpy as np
import pytest

from fastmlp import _kernels as kernels


def choices(job, batches, together, alone):
    """How many of these batches are computed alone, if a batch takes so long together and so long alone."""
    count = 0
    for _ in range(batches):
        count += job[kernels.ALONE]
        kernels.choose_pace.py_func(job, alone if job[kernels.ALONE] else together)
    return count


def test_the_faster_way_is_taken_and_the_other_tried_seldom():
    """Together or alone, whichever is faster; trials of the other cost about a hundredth; changes are noticed."""
    job = np.zeros(kernels.JOB, np.int64)
    assert choices(job, 10_000, together=100, alone=180) < 200
    assert choices(job, 10_000, together=18_000, alone=180) > 9_990
    choices(job, 10_000, together=100, alone=180)
    assert choices(job, 10_000, together=100, alone=180) < 200


def test_one_stall_does_not_end_the_work_of_all():
    """An interrupt of a hundred batches' length: a few batches alone, then together again."""
    job = np.zeros(kernels.JOB, np.int64)
    choices(job, 50, together=100, alone=180)
    choices(job, 1, together=10_000, alone=180)
    assert choices(job, 1_000, together=100, alone=180) < 30


FORK = """
import os, warnings
import numba, numpy as np
from fastmlp import MLPClassifier
warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
X, y = rng.standard_normal((1000, 64)), rng.integers(0, 10, 1000)
fit = lambda: MLPClassifier(max_iter=3, random_state=0).fit(X, y).coefs_
ours = fit()
child = os.fork()
if child == 0:
    os._exit(0 if all((a == b).all() for a, b in zip(ours, fit(), strict=True)) else 1)
assert os.waitpid(child, 0)[1] == 0
print(numba.threading_layer())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("layer", [None, "omp", "tbb", "workqueue"])
def test_a_forked_child_fits_after_its_parent(layer):
    """With the same bits, whatever layer runs the threads; the one we choose is neither TBB nor the workqueue."""
    environment = {**os.environ, "NUMBA_NUM_THREADS": "2"}
    environment.pop("NUMBA_THREADING_LAYER", None)
    if layer is not None:
        environment["NUMBA_THREADING_LAYER"] = layer
    done = subprocess.run([sys.executable, "-c", FORK], env=environment, capture_output=True, text=True, timeout=300)
    if layer in ("omp", "tbb") and "No threading layer could be loaded" in done.stderr:
        pytest.skip(f"{layer} is not there")
    assert done.returncode == 0, done.stderr
    if layer is not None:
        assert done.stdout.strip() == layer


FIT = """
import sys, warnings
import numpy as np
from fastmlp import MLPClassifier
warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
X, y = rng.standard_normal((1000, 64)), rng.integers(0, 10, 1000)
model = MLPClassifier(max_iter=3, random_state=0).fit(X, y)
sys.stdout.write(str([W.tobytes().hex() for W in model.coefs_]))
"""


@pytest.mark.parametrize("layer", ["omp", "tbb"])
def test_threads_that_do_not_come_are_done_without(layer):
    """The layer runs one thread where two were asked for: no deadlock, the same bits."""

    def coefs(threads):
        settings = {"NUMBA_NUM_THREADS": str(threads), "NUMBA_THREADING_LAYER": layer, "OMP_THREAD_LIMIT": "1"}
        done = subprocess.run(
            [sys.executable, "-c", FIT], env={**os.environ, **settings}, capture_output=True, text=True, timeout=300
        )
        if "No threading layer could be loaded" in done.stderr:
            pytest.skip(f"{layer} is not there")
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert coefs(2) == coefs(1)
