"""A process that fits and predicts for days keeps its size, its threads and its files."""

import copy
import gc
import itertools
import os
import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse
from helpers import run_python

from fastmlp import MLPClassifier, MLPRegressor, precompile

MEGABYTE = 2**20


def held():
    """Bytes of memory, threads and open files of this process."""
    gc.collect()
    with open("/proc/self/statm") as numbers:
        memory = int(numbers.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return memory, len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))


def ways_to_fit():
    """What is fitted in turns: each solver, dense and sparse, with and without success. Each returns a model."""
    rng = np.random.default_rng(0)
    X, few = rng.standard_normal((1000, 64)), rng.standard_normal((50, 4))
    y, classes, labels = X[:, 0] - X[:, 1], rng.integers(0, 10, 1000), rng.integers(0, 2, (1000, 3))
    sparse = scipy.sparse.csr_array(np.where(X > 1, X, 0))
    old = MLPClassifier().partial_fit(X, classes, classes=range(10)).partial_fit(X, classes)

    def failing(parameters, *data):
        model = copy.deepcopy(old)
        with np.errstate(all="ignore"), pytest.raises(ValueError):
            model.set_params(**parameters).fit(*data)
        return model

    def interrupted():
        class Stopping(np.random.RandomState):
            count = 0

            def shuffle(self, rows):
                self.count += 1
                if self.count == 2:
                    raise KeyboardInterrupt
                super().shuffle(rows)

        return MLPClassifier(max_iter=9, random_state=Stopping(0)).fit(X, classes)

    return [
        lambda: MLPClassifier(max_iter=3).fit(X, classes),
        lambda: MLPClassifier((20,), max_iter=3).fit(X.astype(np.float32), labels),
        lambda: MLPRegressor(max_iter=3, solver="sgd").fit(X, y, sample_weight=np.abs(y)),
        lambda: MLPRegressor(max_iter=3, solver="lbfgs").fit(X, y),
        lambda: MLPClassifier(max_iter=3, early_stopping=True).fit(X, classes),
        lambda: MLPRegressor(hidden_layer_sizes=(300, 50), max_iter=2).fit(sparse, y),
        lambda: MLPClassifier(max_iter=3, early_stopping=True).fit(sparse.tocsc(), classes),
        lambda: MLPRegressor("poisson", (8,), max_iter=5).fit(few, np.abs(few[:, 0])),
        lambda: copy.deepcopy(old).partial_fit(X, classes).partial_fit(X[:150], classes[:150]),
        lambda: pickle.loads(pickle.dumps(old)).partial_fit(X, classes),
        lambda: MLPClassifier.from_sklearn(old.to_sklearn()).partial_fit(X, classes),
        lambda: copy.deepcopy(old).set_params(warm_start=True, max_iter=2).fit(X, classes),
        lambda: failing({}, X * np.nan, classes),
        lambda: failing({}, X, classes[:-1]),
        lambda: failing({"solver": "sgd", "learning_rate_init": 1e300}, X * 1e300, classes),
        interrupted,
    ]


def live(fits, predictions):
    """A fifth is warm-up; afterwards nothing grows. Prints what was held, a tenth after the other."""
    ways, before = ways_to_fit(), len(os.listdir("/proc/self/task"))
    X = np.random.default_rng(1).standard_normal((2000, 64))
    rows = itertools.cycle([X[:1], X[:1].astype(np.float32), X[:30], X, scipy.sparse.csr_array(X[:7])])
    found, tenth = [], fits // 10
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(10):
            for i in range(tenth):
                model = ways[i % len(ways)]()
                for _ in range(predictions // fits):
                    some = next(rows)[:, : model.n_features_in_]
                    assert len(model.predict(some)) == some.shape[0]
            found.append(held())
            print(f"{found[-1][0] / MEGABYTE:.1f} MB, {found[-1][1]} threads, {found[-1][2]} files")
    memory, threads, files = zip(*found[2:], strict=True)
    assert max(memory) - memory[0] < 5 * MEGABYTE, memory
    assert len(set(threads)) == len(set(files)) == 1, found
    assert threads[0] <= before + os.cpu_count()


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="what a process holds is read from /proc")
@pytest.mark.parametrize("fits, predictions", [(160, 1_600), pytest.param(1_000, 100_000, marks=pytest.mark.long)])
def test_nothing_grows(fits, predictions):
    precompile(sparse=True)
    run_python("-W", "error", "-c", f"import test_long_runs; test_long_runs.live({fits}, {predictions})", timeout=3600)
