"""Larger than memory: X is read where it lies, in a file, and training needs little more than the network."""

import contextlib
import functools
import sys

import numpy as np
import pytest
from helpers import run_code

from fastmlp import MLPClassifier, MLPRegressor

pytestmark = [
    pytest.mark.xdist_group("memory map"),  # one file of this size at a time
    pytest.mark.skipif(sys.platform != "linux", reason="has no limit to memory that no file is behind"),
]
ROWS, COLUMNS = 100_000, 1000
MEGABYTES = 100  # a quarter of the file
SMALL = {"hidden_layer_sizes": (4,), "max_iter": 1, "random_state": 0}
BLOCK = 10_000


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Of a file of 400 MB, which goes when the tests are done."""
    path = tmp_path_factory.mktemp("rows") / "X"
    part = np.random.default_rng(0).standard_normal((ROWS // 100, COLUMNS), np.float32)
    with path.open("wb") as file:
        for _ in range(100):
            file.write(part.tobytes())
    yield path
    path.unlink()


# ---- in a process of its own ------------------------------------------------------------------------------------


def fit(X, y, **parameters):
    MLPClassifier(**SMALL, **parameters).fit(X, y)


def fit_numbers(X, y):
    MLPRegressor(**SMALL).fit(X, y.astype(float), sample_weight=np.ones(len(y)))


def fit_with_validation_rows(X, y):
    MLPClassifier(**SMALL, scoring="neg_log_loss").fit(X, y, X_val=X[::10], y_val=y[::10])


def fit_block_by_block(X, y):
    model = MLPClassifier(**SMALL)
    for start in range(0, len(X), BLOCK):
        model.partial_fit(X[start : start + BLOCK], y[start : start + BLOCK], classes=[0, 1, 2])


def predict(X, y):
    model = MLPClassifier(**SMALL).fit(X[:300], y[:300])
    model.predict(X), model.predict_proba(X), model.score(X, y)


def copy(X, y):
    X.copy()


WAYS = [
    fit,
    functools.partial(fit, shuffle=False),
    functools.partial(fit, early_stopping=True),
    fit_numbers,
    fit_with_validation_rows,
    fit_block_by_block,
    predict,
]


@contextlib.contextmanager
def limit(megabytes):
    """Within, this process gets no more than that, beside what it has and what is mapped from files."""
    import resource

    with open("/proc/self/status") as lines:
        [used] = [int(line.split()[1]) for line in lines if line.startswith("VmData")]  # in kB
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (used * 1024 + megabytes * 10**6, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_DATA, before)


def stay_below(path, dtype, ways):
    """Do this with the file's rows, each after some of them, so that no kernel is compiled below the limit."""
    X = np.memmap(path, dtype, "r").reshape(-1, COLUMNS)
    y = np.arange(len(X)) % 3
    for way in ways:
        way(X[:600], y[:600])
        with limit(MEGABYTES):
            way(X, y)


# ---- tests ------------------------------------------------------------------------------------------------------


def run(path, dtype, ways):
    warnings = "import warnings; warnings.simplefilter('ignore')"
    run_code(f"{warnings}; import test_memory_map as test; test.stay_below({str(path)!r}, {dtype!r}, {ways})")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_little_memory(dtype, path):
    """Fits of all kinds but by 'lbfgs', and predictions."""
    run(path, dtype, "test.WAYS")


def test_a_copy_would_be_noticed(path):
    with pytest.raises(AssertionError, match="MemoryError"):
        run(path, "float32", "[test.copy]")
