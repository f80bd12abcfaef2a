"""Many machines, by Dask: searches, training block by block, and predictions, on a cluster of two processes.

Every result is compared with that of this process, bit for bit.
"""

import contextlib
import os
import platform
import signal
from unittest import mock

import joblib
import numba.core.event
import numpy as np
import pytest
from models import LABELS, SMALL, TARGETS, X, make, state
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold

import fastmlp
from fastmlp import MLPClassifier, MLPRegressor, _threads

distributed = pytest.importorskip("distributed")
pytestmark = [
    pytest.mark.xdist_group("dask"),  # one of pytest's workers starts the cluster
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]
DIGITS, DIGIT = load_digits(return_X_y=True)
DIGITS /= 16
SPLITS = list(StratifiedKFold(2).split(DIGITS, DIGIT))
# What every worker gets. joblib would give the rows of a split to one worker alone, and they would be lost with it.
SCATTERED = [DIGITS, DIGIT, *(rows for split in SPLITS for rows in split)]
BLOCK = 500


@contextlib.contextmanager
def cluster_of(workers, threads_per_worker=1, **options):
    """A client of so many workers. What Dask changes in the environment of this process is undone."""
    with mock.patch.dict(os.environ):
        os.environ.pop("OMP_NUM_THREADS", None)
        options |= {"n_workers": workers, "threads_per_worker": threads_per_worker, "dashboard_address": ":0"}
        with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
            yield client


@pytest.fixture(scope="module")
def client():
    with cluster_of(2) as client:
        yield client


# ---- threads and kernels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_a_worker_takes_its_share(threads):
    """As many fits at once as it has threads, and a thread for each."""
    with cluster_of(1, threads) as client:
        assert [client.submit(_threads.count, pure=False).result() for _ in range(2)] == [1, 1]


class Compilations(numba.core.event.Listener):
    """How often Numba has compiled something."""

    count = 0

    def on_start(self, event):
        self.count += 1

    def on_end(self, event):
        pass


def compilations(function, *args):
    with numba.core.event.install_listener("numba:compile", Compilations()) as found:
        function(*args)
    return found.count


def fit_numbers():
    make("MLPRegressor").fit(X, TARGETS["MLPRegressor"])


def test_kernels_are_compiled_once_on_a_machine(tmp_path):
    """By one worker of each, as the README says; the others load them, and so does a worker that comes later."""
    with cluster_of(2, env={"NUMBA_CACHE_DIR": str(tmp_path)}) as client:
        one_a_machine = {machine: worker for worker, machine in client.run(platform.node).items()}
        [compiled] = client.run(
            compilations, fastmlp.precompile, [X.dtype], workers=list(one_a_machine.values())
        ).values()
        assert compiled > 0
        client.cluster.scale(3)
        client.wait_for_workers(3, timeout=120)
        assert list(client.run(compilations, fit_numbers).values()) == [0, 0, 0]


# ---- searches ---------------------------------------------------------------------------------------------------


def process(model, X, y):
    """A scorer that tells where it ran."""
    return os.getpid()


class KilledOnce:
    """A scorer that kills the first process which asks it."""

    def __init__(self, mark):
        self.mark = mark

    def __call__(self, model, X, y):
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.mark, os.O_CREAT | os.O_EXCL))
            os.kill(os.getpid(), signal.SIGKILL)
        return accuracy_score(y, model.predict(X))


def search(**scoring):
    """Of small networks, and of one that is worth several threads."""
    grid = {"alpha": [1e-4, 1.0], "hidden_layer_sizes": [(8,), (200, 100)]}
    model = MLPClassifier(max_iter=4, early_stopping=True, random_state=0)
    return GridSearchCV(model, grid, cv=SPLITS, scoring={"accuracy": "accuracy", **scoring}, refit="accuracy")


def same_search(one, other):
    names = [name for name in one.cv_results_ if name.endswith("test_accuracy")]
    same = [one.cv_results_[name].tobytes() == other.cv_results_[name].tobytes() for name in names]
    return len(same) == 5 and all(same) and state(one.best_estimator_) == state(other.best_estimator_)


@pytest.fixture(scope="module")
def found():
    """What a search finds in this process."""
    return search().fit(DIGITS, DIGIT)


def test_search(client, found):
    """By joblib's backend: fitted by the workers, and the same as here."""
    with joblib.parallel_config("dask", scatter=SCATTERED):
        there = search(process=process).fit(DIGITS, DIGIT)
    pids = {int(pid) for i in range(2) for pid in there.cv_results_[f"split{i}_test_process"]}
    assert pids <= set(client.run(os.getpid).values())
    assert same_search(there, found)


@pytest.mark.skipif(os.name != "posix", reason="has no SIGKILL")
def test_search_goes_on_without_a_worker(client, found, tmp_path):
    """One is killed in the middle of a fit's score: another one does its work again."""
    client.wait_for_workers(2, timeout=120)  # as the data goes to those that are there
    before = set(client.run(os.getpid).values())
    with joblib.parallel_config("dask", scatter=SCATTERED):
        there = search(killed=KilledOnce(tmp_path / "killed")).fit(DIGITS, DIGIT)
    assert same_search(there, found)
    client.wait_for_workers(2, timeout=120)
    assert (tmp_path / "killed").exists() and len(before & set(client.run(os.getpid).values())) == 1


# ---- models that travel -----------------------------------------------------------------------------------------


TRAVELLERS = {
    "classifier": MLPClassifier(**SMALL, dropout=0.1),
    "regressor": MLPRegressor(**SMALL, solver="sgd", learning_rate="adaptive"),
    "lbfgs": MLPRegressor(**SMALL, solver="lbfgs"),
    "table": fastmlp.RealMLPClassifier("td-s", max_iter=2, hidden_layer_sizes=(8,), random_state=0),
}


def fit(model):
    return model.fit(X, LABELS)


def go_on(model):
    return model.partial_fit(X, LABELS)


@pytest.mark.parametrize("case", TRAVELLERS)
def test_models_travel(case, client):
    """To a worker, which fits, and back; those that can be trained on are, by another worker, as they would be here."""
    here, workers = TRAVELLERS[case], list(client.run(os.getpid))
    there = client.submit(fit, here, workers=workers[:1], pure=False).result()
    here = fit(here)
    assert state(there) == state(here)
    if hasattr(here, "partial_fit"):
        there = client.submit(go_on, there, workers=workers[1:], pure=False).result()
        assert state(there) == state(go_on(here))


# ---- large data -------------------------------------------------------------------------------------------------


@pytest.fixture
def blocks():
    """Rows, digits and numbers in blocks, as Dask's arrays."""
    array = pytest.importorskip("dask.array")
    return [array.from_array(data, (BLOCK, *data.shape[1:])) for data in (DIGITS, DIGIT, DIGITS[:, 20])]


def block_by_block(model, y, order, **first):
    for i in order:
        part = slice(BLOCK * i, BLOCK * (i + 1))
        model.partial_fit(DIGITS[part], y[part], **first)
    return model


@pytest.mark.parametrize("shuffled", [False, True])
def test_incremental(shuffled, client, blocks):
    """dask-ml's Incremental trains as `partial_fit` does block by block, in their order or in another."""
    wrappers = pytest.importorskip("dask_ml.wrappers")
    X, digits, numbers = blocks
    order = np.arange(4)
    if shuffled:
        np.random.RandomState(1).shuffle(order)
        assert order.tolist() != [0, 1, 2, 3]
    options = {"shuffle_blocks": shuffled, "random_state": 1}
    there = wrappers.Incremental(make("MLPClassifier"), **options).fit(X, digits, classes=range(10))
    here = block_by_block(make("MLPClassifier"), DIGIT, order, classes=range(10))
    assert state(there.estimator_) == state(here)
    assert there.predict(X).compute().tobytes() == here.predict(DIGITS).tobytes()
    there = wrappers.Incremental(make("MLPRegressor"), **options).fit(X, numbers)
    assert state(there.estimator_) == state(block_by_block(make("MLPRegressor"), DIGITS[:, 20], order))


def test_predictions_of_blocks(client, blocks):
    """By map_blocks, and by dask-ml's ParallelPostFit."""
    model, rows = make("MLPClassifier").fit(DIGITS, DIGIT), blocks[0]
    expected = model.predict_proba(DIGITS).tobytes()
    there = rows.map_blocks(model.predict_proba, dtype=rows.dtype, chunks=(rows.chunks[0], (10,)))
    assert there.compute().tobytes() == expected
    there = pytest.importorskip("dask_ml.wrappers").ParallelPostFit(model)
    assert there.predict_proba(rows).compute().tobytes() == expected
    assert there.predict(rows).compute().tobytes() == model.predict(DIGITS).tobytes()


def test_predictions_of_partitions(client):
    """Of a table, whose columns have names."""
    pandas, frames = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    table = pandas.DataFrame(DIGITS).add_prefix("pixel")
    model = make("MLPClassifier").fit(table, DIGIT)
    there = frames.from_pandas(table, npartitions=3).map_partitions(model.predict, meta=DIGIT[:0])
    assert there.compute().tobytes() == model.predict(table).tobytes()
