"""Threads are used where they help: what waits for a core that something else has taken goes on alone."""

import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from test_tile import run_code

from fastmlp import _kernels as kernels
from fastmlp import _threads


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


def test_a_long_batch_is_not_tried_soon():
    """A large network's short training is not spent on a trial; a small one's comes after a few batches."""
    job = np.zeros(kernels.JOB, np.int64)
    assert choices(job, 1, together=200_000_000, alone=400_000_000) == 0
    assert choices(job, 50, together=240_000_000, alone=400_000_000) == 0  # slower than the first, but no stall
    assert choices(np.zeros(kernels.JOB, np.int64), 50, together=200_000, alone=400_000) > 0


def test_a_trial_outlasts_what_moves_from_core_to_core():
    """Where cores are far apart, the first batch of a small network is slow either way: it does not count."""
    job, count, before = np.zeros(kernels.JOB, np.int64), 0, 0
    for _ in range(10_000):
        alone = int(job[kernels.ALONE])
        together_or_alone = (36, 28)[alone] + 24 * (alone != before)
        kernels.choose_pace.py_func(job, together_or_alone)
        count, before = count + alone, alone
    assert count > 9_500


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


# ---- how many ---------------------------------------------------------------------------------------------------

# What a process may see: the groups it is in, files of theirs, cores.
GROUPS = {
    "version 2, a container": ("0::/\n", {"cpu.max": "150000 100000"}, 2),
    "version 2, no limit": ("0::/\n", {"cpu.max": "max 100000"}, float("inf")),
    "version 2, the group around it": ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3),
    "version 2, both": ("0::/a/b\n", {"a/b/cpu.max": "50000 100000", "a/cpu.max": "300000 100000"}, 1),
    "version 2, groups out of sight": ("0::/../a/b\n", {"cpu.max": "200000 100000"}, 2),
    "version 2, garbage": ("0::/\n", {"cpu.max": "many"}, float("inf")),
    "version 1": (
        "5:memory:/\n4:cpu,cpuacct:/docker/1\n0::/\n",
        {"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"},
        3,
    ),
    "version 1, no limit": (
        "4:cpu:/\n",
        {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
        float("inf"),
    ),
    "nothing": ("", {}, float("inf")),
}


@pytest.mark.parametrize("case", GROUPS)
def test_cores_that_a_control_group_allows(case, tmp_path):
    membership, texts, cores = GROUPS[case]
    (tmp_path / "membership").write_text(membership)
    for name, text in texts.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert _threads.cpu_limit(tmp_path / "membership", tmp_path / "root") == cores
    assert _threads.cpu_limit(tmp_path / "absent", tmp_path / "root") == float("inf")


def count_threads():
    """NUMBA_NUM_THREADS is 4 here, more than the machine need have."""
    assert _threads.count() == 4
    _threads.cpu_limit = lambda: 3  # nobody's wish is cut down
    numba.config.NUMBA_DEFAULT_NUM_THREADS = 8
    assert _threads.count() == 4
    numba.set_num_threads(2)
    assert _threads.count() == 2
    numba.set_num_threads(4)
    numba.config.NUMBA_DEFAULT_NUM_THREADS = 4
    assert _threads.count() == 3


def test_threads_are_as_many_as_the_user_says():
    """By NUMBA_NUM_THREADS or by numba.set_num_threads; where he says nothing, what the group allows."""
    run_code("import test_threads; test_threads.count_threads()", NUMBA_NUM_THREADS="4")


def threads_used_in(rows, targets, **parameters):
    """Fit; return the numbers of threads that the kernels were called with, and Numba's setting afterwards."""
    from fastmlp import MLPClassifier

    used, count = [], _threads.count

    def noted():
        used.append(count())
        return used[-1]

    _threads.count = noted
    try:
        MLPClassifier(max_iter=3, **parameters).fit(rows, targets)
    finally:
        _threads.count = count
    return set(used), numba.get_num_threads()


def fit_and_fail():
    """Whatever becomes of a fit, Numba's setting is the caller's, in this thread and for those to come."""
    import warnings
    from concurrent.futures import ThreadPoolExecutor

    from fastmlp import MLP, MLPClassifier

    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((1000, 64)), rng.integers(0, 10, 1000)
    for threads in 1, 3, 2:
        numba.set_num_threads(threads)
        assert threads_used_in(X, y) == ({threads}, threads)
        assert threads_used_in(X, y, early_stopping=True) == ({threads}, threads)
        with pytest.raises(ValueError):
            threads_used_in(X * 1e300, y, solver="sgd", learning_rate_init=1e300)
        assert numba.get_num_threads() == threads
        epoch, calls = MLP.train_epoch, []

        def interrupted(*args, epoch=epoch, calls=calls):
            calls.append(epoch(*args))
            if len(calls) == 2:
                raise KeyboardInterrupt
            return calls[-1]

        MLP.train_epoch = interrupted
        assert threads_used_in(X, y) == ({threads}, threads)
        MLP.train_epoch = epoch
        assert len(calls) == 2
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(numba.get_num_threads).result() == 4
            assert pool.submit(threads_used_in, X, y).result() == ({4}, 4)
    MLPClassifier(max_iter=3).fit(X, y).predict(X)
    assert numba.get_num_threads() == 2


def test_a_fit_leaves_the_number_of_threads_alone():
    """After success, divergence and Ctrl-C."""
    run_code("import test_threads; test_threads.fit_and_fail()", NUMBA_NUM_THREADS="4")


def threads_of_workers():
    import joblib

    for threads in 1, 3:
        with joblib.parallel_config("loky", n_jobs=2, inner_max_num_threads=threads):
            found = joblib.Parallel()(joblib.delayed(_threads.count)() for _ in range(4))
        assert found == [threads] * 4
        joblib.externals.loky.get_reusable_executor().shutdown(wait=True)


def test_joblib_says_how_many_threads_its_workers_use():
    """Its inner_max_num_threads."""
    run_code("import test_threads; test_threads.threads_of_workers()")


def warn_once():
    import warnings

    from fastmlp import MLPClassifier

    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((1000, 64)), rng.integers(0, 10, 1000)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        MLPClassifier(max_iter=1).fit(X[:20, :2], y[:20])
        assert not [w for w in caught if w.category is RuntimeWarning]  # one thread is enough here
        for _ in range(2):
            MLPClassifier(max_iter=1).fit(X, y).predict(X)
    (warning,) = [w for w in caught if w.category is RuntimeWarning]
    assert "one thread" in str(warning.message) and "tbb" in str(warning.message)


def test_a_warning_says_why_one_thread_computes():
    """Once in a process, where Numba has only its workqueue and more than one thread would be used."""
    code = "import test_threads; test_threads.warn_once()"
    run_code(code, NUMBA_NUM_THREADS="2", NUMBA_THREADING_LAYER="workqueue")


def test_no_warning_where_one_thread_was_asked_for():
    code = "import numpy as np; from fastmlp import MLP; MLP([500, 500]).predict(np.ones((1000, 500), np.float32))"
    run_code(code, NUMBA_NUM_THREADS="1", NUMBA_THREADING_LAYER="workqueue")
