"""Numbers at the ends of what their type holds, data that say nothing, arrays of any form: scikit-learn's outcome.

A fit either ends with numbers near scikit-learn's, infinite only where its are, or raises what scikit-learn raises.
"""

import os
import threading
import warnings
from itertools import product

import numpy as np
import pytest
import sklearn.neural_network
from helpers import dtypes, run_code

import fastmlp

N = 60


def draw(dtype):
    """X, real targets, classes."""
    rng = np.random.RandomState(0)
    return rng.normal(size=(N, 4)).astype(dtype), rng.normal(size=N).astype(dtype), rng.randint(3, size=N)


def limits(dtype):
    return np.finfo(dtype)


# X, real targets and classes, from those drawn at random
EXTREMES = {
    "X near the largest number": lambda X, y, c: (X * (limits(X.dtype).max / 100), y, c),
    "X whose squares are too large": lambda X, y, c: (X * np.sqrt(limits(X.dtype).max), y, c),
    "large X": lambda X, y, c: (X * X.dtype.type(1e10), y, c),
    "denormal X": lambda X, y, c: (X * (limits(X.dtype).tiny / 10), y, c),
    "the smallest normal X": lambda X, y, c: (X * (limits(X.dtype).tiny * 4), y, c),
    "denormal targets": lambda X, y, c: (X, y * (limits(X.dtype).tiny / 10), c),
    "targets near the largest number": lambda X, y, c: (X, y * (limits(X.dtype).max / 1000), c),
    "constant columns": lambda X, y, c: (np.full_like(X, 5), y, c),
    "X of zeros": lambda X, y, c: (np.zeros_like(X), y, c),
    "one class, one target": lambda X, y, c: (X, np.ones_like(y), np.zeros_like(c)),
    "one row of its class": lambda X, y, c: (X, y, np.arange(N) == 7),
    "one row": lambda X, y, c: (X[:1], y[:1], c[:1]),
    "one column": lambda X, y, c: (X[:, :1], y, c),
}


def outcome(library, name, X, y, **parameters):
    """What was raised, or loss curve and predictions."""
    model = getattr(library, name)(hidden_layer_sizes=(5,), random_state=0, batch_size=13, max_iter=8, **parameters)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            model.fit(X, y)
        except Exception as error:
            return type(error), str(error)
        return np.asarray(model.loss_curve_, float), model.predict_proba(X) if "Class" in name else model.predict(X)


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
@pytest.mark.parametrize("case", EXTREMES)
@dtypes
def test_extreme_numbers(case, name, dtype):
    """Adam and SGD, all activations: the same curve and predictions, or the same error; nothing is silently NaN."""
    X, y, classes = EXTREMES[case](*draw(dtype))
    assert X.dtype == y.dtype == dtype
    targets = classes if name == "MLPClassifier" else y
    rtol = 1e-3 if dtype == np.float32 else 1e-7
    for solver, activation in product(["adam", "sgd"], ["identity", "logistic", "tanh", "relu"]):
        parameters = {"solver": solver, "activation": activation}
        ours, theirs = (
            outcome(library, name, X, targets, **parameters) for library in (fastmlp, sklearn.neural_network)
        )
        if isinstance(theirs[0], type):
            assert ours == theirs, parameters
        else:
            assert not any(np.isnan(array).any() for array in ours), parameters
            np.testing.assert_allclose(ours[0], theirs[0], rtol=rtol, atol=rtol, err_msg=str(parameters))
            scale = max(1.0, np.abs(theirs[1]).max())
            np.testing.assert_allclose(ours[1] / scale, theirs[1] / scale, atol=rtol, err_msg=str(parameters))


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@dtypes
def test_weights_of_zero(activation, dtype):
    """Where nothing tells the units apart, they stay alike, as in scikit-learn."""
    X, y, _ = draw(dtype)
    models = []
    for library in fastmlp, sklearn.neural_network:
        model = library.MLPRegressor(
            hidden_layer_sizes=(5,), activation=activation, solver="sgd", random_state=0
        ).partial_fit(X, y)
        for parameter in model.coefs_ + model.intercepts_:
            parameter[...] = 0
        del model._optimizer
        models.append([W.copy() for _ in range(3) for W in model.partial_fit(X, y).coefs_])
    for ours, theirs in zip(*models, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4 if dtype == np.float32 else 1e-9, atol=1e-9)


DIVERGING = {
    "regression": ("MLPRegressor", {"solver": "sgd", "learning_rate_init": 1e20, "activation": "identity"}),
    "Nesterov's momentum": ("MLPRegressor", {"solver": "sgd", "learning_rate_init": 10.0, "momentum": 1.0}),
    "Poisson": ("MLPRegressor", {"loss": "poisson", "solver": "sgd", "learning_rate_init": 1e6}),
}


@pytest.mark.parametrize("case", DIVERGING)
@dtypes
def test_divergence(case, dtype):
    """scikit-learn's ValueError, and the model of before."""
    name, parameters = DIVERGING[case]
    X, y, _ = draw(dtype)
    targets = np.abs(y)
    found = [outcome(library, name, X * 100, targets, **parameters) for library in (fastmlp, sklearn.neural_network)]
    assert found[0] == found[1] and found[0][0] is ValueError
    loss = parameters.get("loss", "squared_error")
    model = fastmlp.MLPRegressor(loss, hidden_layer_sizes=(5,), max_iter=50, warm_start=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, targets)
        before = [parameter.tobytes() for parameter in model.coefs_ + model.intercepts_]
        with np.errstate(all="ignore"), pytest.raises(ValueError, match="non-finite"):
            model.set_params(**parameters).fit(X * 100, targets)
    assert before == [parameter.tobytes() for parameter in model.coefs_ + model.intercepts_]


# ---- forms of arrays --------------------------------------------------------------------------------------------


def unaligned(array):
    raw = np.empty(array.nbytes + 1, np.uint8)
    moved = raw[1:].view(array.dtype).reshape(array.shape)
    moved[...] = array
    return moved


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def mapped(array, folder, mode="r"):
    path = folder / f"{array.ndim}{array.dtype}{array.sum()}"
    array.tofile(path)
    return np.memmap(path, array.dtype, mode, shape=array.shape)


FORMS = {
    "Fortran order": lambda a, folder: np.asfortranarray(a),
    "every third number": lambda a, folder: np.repeat(a, 3, axis=-1)[..., ::3],
    "every second row": lambda a, folder: np.repeat(a, 2, axis=0)[::2],
    "backwards": lambda a, folder: a[::-1].copy()[::-1],
    "unaligned": lambda a, folder: unaligned(a),
    "other byte order": lambda a, folder: a.astype(a.dtype.newbyteorder()),
    "read-only": lambda a, folder: read_only(a),
    "read-only memory map": mapped,
    "memory map": lambda a, folder: mapped(a, folder, "r+"),
    "part of a larger array": lambda a, folder: np.pad(a, 3, constant_values=np.nan)[(slice(3, -3),) * a.ndim],
}


@pytest.mark.parametrize("form", FORMS)
@dtypes
def test_the_form_of_arrays_changes_no_bit(form, dtype, tmp_path):
    """X, y and sample weights, in fit and predict. Another byte order makes float32 X float64, as in scikit-learn."""
    X, y, _ = draw(dtype)
    sample_weight = np.random.RandomState(1).uniform(0.5, 2, N).astype(dtype)
    given = [FORMS[form](array, tmp_path) for array in (X, y, sample_weight)]
    assert all(np.array_equal(a, b) for a, b in zip(given, (X, y, sample_weight), strict=True))
    if form == "other byte order":
        X = X.astype(np.float64)
    seen = []
    for rows, targets, weights in (X, y, sample_weight), given:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = fastmlp.MLPRegressor(hidden_layer_sizes=(9,), max_iter=3, random_state=0, batch_size=13)
            model.fit(rows, targets, weights)
        parameters = [parameter.tobytes() for parameter in model.coefs_ + model.intercepts_]
        seen.append((parameters, model.predict(rows).tobytes(), model.predict(rows[:3]).tobytes(), model.loss_))
    assert seen[0] == seen[1]


def anonymous_memory():
    """Bytes of this process's memory that are no file's."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024


def train_on_a_map(path):
    """Two gigabytes of float32, mostly a hole in the file: what a fit adds to them in memory stays small."""
    shape = 2**19, 2**10
    X = np.memmap(path, np.float32, "w+", shape=shape)
    X[::1000, :8] = np.random.default_rng(0).normal(size=(len(X[::1000]), 8))
    X = np.memmap(path, np.float32, "r", shape=shape)
    y, sizes, done = np.arange(shape[0]) % 1000 == 0, [anonymous_memory()], threading.Event()

    def watch():
        while not done.wait(0.01):
            sizes.append(anonymous_memory())

    thread = threading.Thread(target=watch)
    thread.start()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = fastmlp.MLPClassifier((4,), max_iter=1, early_stopping=True, batch_size=1000, random_state=0).fit(X, y)
        assert model.predict(X).shape == y.shape
    done.set()
    thread.join()
    added = (max(sizes) - sizes[0]) / 2**20
    print(f"{X.nbytes / 2**20:.0f} MB mapped, {added:.0f} MB added, looked at {len(sizes)} times")
    assert len(sizes) > 20 and added < 200


@pytest.mark.long
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="how much memory is taken is read from /proc")
def test_a_large_memory_map_is_read_in_place(tmp_path):
    fastmlp.precompile(["float32"])
    run_code(f"import test_extremes; test_extremes.train_on_a_map({str(tmp_path / 'X')!r})")
