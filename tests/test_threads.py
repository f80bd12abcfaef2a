"""Threads of our own help where they can, and nobody waits for those that cannot come."""

import os
import subprocess
import sys
import threading
import types

import numba
import numpy as np
import pytest
from helpers import run_code

from fastmlp import _threads
from fastmlp.compiled import team
from fastmlp.compiled.records import team_at

# ---- the pace ---------------------------------------------------------------------------------------------------


class Caller:
    """A caller who trains batch after batch on two threads; what a batch takes is told in ticks."""

    def __init__(self):
        numbers = dict.fromkeys("hired solo time_solo time_helped".split(), 0)
        self.job = types.SimpleNamespace(threads=2, trial_in=team.FIRST_TRIAL, **numbers)
        self.team = types.SimpleNamespace(since=0, absence=0, lost=0)
        self.now, self.before, self.coming = 0, 0, 2

    def train(self, batches, helped, alone):
        """How many of these batches are computed alone."""
        count = 0
        for _ in range(batches):
            absent = self.now - self.team.since < self.team.absence
            hired = int(self.job.solo == 0 and not absent)
            helpers = hired * (self.coming == 0)  # they need some time to come the first time
            self.coming, time = max(0, self.coming - 1), helped if helpers else alone
            self.now, self.job.hired, count = self.now + time, hired, count + 1 - helpers
            seen = helpers if helpers == self.before else -1
            team.keep_pace.py_func(self.job, self.team, time, seen, self.now)
            self.before = helpers
        return count


@pytest.fixture(autouse=True)
def plain_lose(monkeypatch):
    """`keep_pace` as Python calls `lose` as Python."""
    monkeypatch.setattr(team, "lose", team.lose.py_func)


def test_helpers_are_kept_while_they_help():
    """How long a batch takes alone is tried now and then, at the cost of a hundredth."""
    assert Caller().train(10_000, helped=100_000, alone=180_000) < 60


@pytest.mark.parametrize("helped", [250_000, 18_000_000])
def test_helpers_that_cost_are_done_without(helped):
    """They are tried again so seldom that all in all it costs some hundredths; and are back when they help again."""
    caller = Caller()
    alone = caller.train(20_000, helped=helped, alone=180_000)
    assert (20_000 - alone) * (helped - 180_000) < 0.05 * 20_000 * 180_000
    caller.train(8_000, helped=100_000, alone=180_000)  # until they are tried
    assert caller.train(10_000, helped=100_000, alone=180_000) < 60


def test_a_long_batch_is_not_tried():
    """A large network's short training is not spent on batches that one thread computes."""
    assert Caller().train(50, helped=200_000_000, alone=390_000_000) == 2  # until helpers have come


def test_one_stall_does_not_send_helpers_away():
    """What they have gained lately pays for an interrupt of two milliseconds."""
    caller = Caller()
    caller.train(500, helped=100_000, alone=180_000)
    caller.train(1, helped=5_000_000, alone=180_000)
    assert caller.train(500, helped=100_000, alone=180_000) == 0


# ---- who does not come ------------------------------------------------------------------------------------------

DATA = """
import os, sys, warnings
import numpy as np
from fastmlp import MLPClassifier, _threads
from fastmlp.compiled import team
warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
X, y = rng.standard_normal((1000, 64)), rng.integers(0, 10, 1000)
def fit():
    model = MLPClassifier(max_iter=3, random_state=0).fit(X, y)
    return [W.tobytes() for W in model.coefs_] + [model.predict_proba(X).tobytes()]
"""
FORK = """
ours = fit()
assert _threads.workers() == 1
child = os.fork()
if child == 0:
    os._exit(0 if _threads.workers() == 0 and fit() == ours and _threads.workers() == 1 else 1)
assert os.waitpid(child, 0)[1] == 0
"""
NOBODY = """
class Dead(_threads._Team):
    def grow(self, workers):
        self.record["worker_count"] = 1  # whom nothing wakes
        self._workers[0]["lock"][0] = _threads._new_lock()
ours = fit()
_threads._current = Dead()
assert fit() == ours
"""
NO_THREAD = """
import threading
start = threading.Thread.start
def refuse(thread):
    if thread.name.startswith("fastmlp"):
        raise RuntimeError("can't start new thread")
    start(thread)
threading.Thread.start = refuse
without = fit()
assert _threads.workers() == 0
threading.Thread.start = start
assert fit() == without and _threads.workers() == 1
"""


@pytest.mark.parametrize(
    "code",
    [pytest.param(FORK, marks=pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")), NOBODY, NO_THREAD],
    ids=["a forked child has helpers of its own", "helpers never come", "no thread can be started"],
)
def test_the_same_bits_whoever_helps(code):
    run_code(DATA + code, NUMBA_NUM_THREADS="2")


def come_and_go():
    """Helpers are sent away after each batch, and asked again for the next."""
    from fastmlp import MLP
    from fastmlp.training import Adam

    def train():
        ours = MLP([300, 200, 100, 5], dtype=np.float64)
        ours.initialize(np.random.RandomState(0))
        rng = np.random.default_rng(0)
        data, adam = ours.data(rng.standard_normal((2000, 300)), rng.integers(0, 5, 2000)), Adam(ours)
        return [ours.train_epoch(data, adam, 100) for _ in range(20)], ours.parameters.tobytes()

    numba.set_num_threads(1)
    expected = train()
    numba.set_num_threads(3)
    for _ in range(5):
        assert train() == expected


@pytest.mark.parametrize("times, slack", [(1, 0), (0, 2**60)], ids=["often", "never"])
def test_helpers_come_and_go(times, slack, tmp_path):
    """Whether the pace sends them away after each batch that is not the fastest, or never: the same bits."""
    code = (
        f"from fastmlp.compiled import team; team.TIMES, team.SLACK, team.CREDIT, team.TRIAL = {times}, {slack}, 0, 1; "
    )
    code += "team.NEXT_TRIAL = 1; import test_threads; test_threads.come_and_go()"
    run_code(code, NUMBA_NUM_THREADS="3", NUMBA_CACHE_DIR=str(tmp_path))  # kernels of their own


def call_at_once():
    """Six threads of Python's train and predict networks of their own, each with ever other numbers of threads."""
    from concurrent.futures import ThreadPoolExecutor

    from fastmlp import MLP, network
    from fastmlp.training import Adam

    network._TRAIN_IN_PARALLEL = network._PREDICT_IN_PARALLEL = network._ROW_IN_PARALLEL = 0
    shapes = [(4, 8, 1), (20, 100, 3), (300, 200, 100, 5), (30, 600, 600, 4)]  # by rows, in groups, by layers

    def compute(case):
        number, threads = case
        numba.set_num_threads(threads)
        layer_units, rng = shapes[number % len(shapes)], np.random.RandomState(number)
        ours = MLP(layer_units, output="identity", dtype=np.float64)
        ours.initialize(rng)
        X, Y = rng.standard_normal((400, layer_units[0])), rng.standard_normal((400, layer_units[-1]))
        data, adam = ours.data(X, Y), Adam(ours)
        losses = [ours.train_epoch(data, adam, 50) for _ in range(2)]
        few = ours.predict_with(X[:3], ours.weights, ours.biases)
        return losses, ours.parameters.tobytes(), ours.predict(X).tobytes(), few.tobytes()

    expected = [compute((number, 1)) for number in range(len(shapes))]
    cases = [(number % len(shapes), 1 + number * 5 % 8) for number in range(200)]
    with ThreadPoolExecutor(6) as pool:
        for (number, threads), found in zip(cases, pool.map(compute, cases), strict=True):
            assert found == expected[number], f"{shapes[number]} on {threads} threads"
    assert _threads.workers() == 7


def test_many_callers_at_once():
    """They share the helpers: the same bits, and all come to an end."""
    run_code("import test_threads; test_threads.call_at_once()", NUMBA_NUM_THREADS="8")


def test_an_interrupt_while_a_helper_starts():
    """It has its place for itself: of two threads that serve there, one would never sleep."""
    run_code("import test_threads; test_threads.interrupt_a_start()")


def interrupt_a_start():
    def interrupt(thread):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_threads, "most", lambda: 3)
        ours = _threads._Team()
        patch.setattr(threading.Thread, "native_id", property(interrupt))
        with pytest.raises(KeyboardInterrupt):
            ours.grow(1)
    ours.grow(2)
    assert ours.workers == sum(thread.name == "fastmlp" for thread in threading.enumerate()) == 2


# ---- where helpers wake -----------------------------------------------------------------------------------------


@numba.njit
def wake_first(team_words):
    team.wake(team_at(team_words, None).workers[0])


@numba.njit
def sleep_as_first(team_words):
    team.sleep(team_at(team_words, None).workers[0])


def wake_and_sleep(count):
    """Wake a thread that sleeps on a core, from so many cores; return those before and after it was awake."""
    ours, waiting, go_on = _threads._Team(), threading.Event(), threading.Event()
    words, worker, seen = ours.record.view(np.int64), ours._workers[:1], []
    worker["lock"][:, 0] = _threads._new_lock()

    def serve():
        waiting.set()
        go_on.wait()
        sleep_as_first(words)
        seen.append(os.sched_getaffinity(0))

    helper = threading.Thread(target=serve)
    helper.start()
    waiting.wait()
    worker["thread"] = helper.native_id
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
    wake_first(words)  # it does not sleep yet, and shows what it was given
    seen.append(os.sched_getaffinity(helper.native_id))
    go_on.set()
    helper.join()
    return seen


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux's calls")
def test_a_helper_wakes_on_another_core():
    """The system may wake it on the caller's, where it helps nobody. Awake, it has all cores that the caller has."""
    run_code("import test_threads; test_threads.check_where_helpers_wake()")


def check_where_helpers_wake():
    before = os.sched_getaffinity(0)
    for count in range(min(3, len(before)), 0, -1):
        woken_on, afterwards = wake_and_sleep(count)
        ours = os.sched_getaffinity(0)
        assert afterwards == ours and len(ours) == count
        assert woken_on < ours and len(woken_on) == count - 1 if count > 1 else woken_on == before
        before = afterwards


# ---- limits -----------------------------------------------------------------------------------------------------

WORKED = """
import contextlib, os, warnings
import numpy as np, threadpoolctl
from fastmlp import MLPClassifier, _threads
warnings.simplefilter("ignore")
def ticks():
    folder = "/proc/self/task"
    return {t: int(open(f"{folder}/{t}/stat").read().rsplit(")", 1)[1].split()[11]) for t in os.listdir(folder)}
X = np.random.RandomState(0).normal(size=(4000, 50)); y = X[:, 0] > 0
model = MLPClassifier((256, 128), max_iter=1, random_state=0).fit(X, y).set_params(max_iter=8)
with LIMIT:
    before = ticks(); model.fit(X, y); after = ticks()
    allowed = _threads.count()
print(sum(after[t] - before.get(t, 0) > 2 for t in after), allowed)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    "limit, environment",
    [
        ("contextlib.nullcontext()", {"OMP_NUM_THREADS": "1"}),
        ("contextlib.nullcontext()", {"OMP_NUM_THREADS": "1,2"}),
        ("threadpoolctl.threadpool_limits(1)", {}),
        ("threadpoolctl.threadpool_limits(1, user_api='openmp')", {}),
        ("contextlib.nullcontext()", {}),
    ],
)
def test_limits_of_openmp_are_kept(limit, environment):
    """One thread works, as in scikit-learn's own estimators, and more where there is no limit."""
    limited = limit.startswith("threadpoolctl") or bool(environment)
    environment = {"OMP_NUM_THREADS": "", "NUMBA_NUM_THREADS": "2"} | environment
    done = subprocess.run(
        [sys.executable, "-c", WORKED.replace("LIMIT", limit)],
        env=os.environ | environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen, allowed = map(int, done.stdout.split())
    assert allowed == (1 if limited else 2)
    assert seen == 1 or not limited  # a busy machine may leave a helper no time


def test_limits_end():
    """threadpoolctl's hold in its block, and for BLAS alone they are not ours."""
    import sklearn  # noqa: F401  it loads OpenMP
    import threadpoolctl

    before = _threads.count()
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        assert _threads.count() == before
    with threadpoolctl.threadpool_limits(1):
        assert _threads.count() == 1
    assert _threads.count() == before


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
    "no lines of a group": ("none\n\n", {}, float("inf")),
    "names that are not UTF-8": (b"0::/a\xff\n", {b"a\xff/cpu.max": "200000 100000"}, 2),
}


@pytest.mark.parametrize("case", GROUPS)
def test_cores_that_a_control_group_allows(case, tmp_path):
    membership, texts, cores = GROUPS[case]
    (tmp_path / "membership").write_bytes(os.fsencode(membership))
    for name, text in texts.items():
        path = tmp_path / "root" / os.fsdecode(name)
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
