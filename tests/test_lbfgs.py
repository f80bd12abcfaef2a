"""solver="lbfgs": one call of the kernels per evaluation, nothing lost, the same words. Numbers: test_parity.py."""

import copy
import inspect
import pickle
import warnings

import numpy as np
import pytest
import sklearn
import sklearn.neural_network
from helpers import run_python
from models import HUGE, LABELS, TARGETS, Trouble, X, bits, both_estimators, make, put, state
from networks import draw_network, draw_targets, goals, hidden_activations
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.fixes import parse_version

import fastmlp
from fastmlp import lbfgs
from fastmlp.compiled import passes
from fastmlp.compiled.losses import LOSSES
from fastmlp.compiled.records import JOB
from fastmlp.conversion import OWN_PARAMETERS
from fastmlp.network import MLP

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

LBFGS = {"solver": "lbfgs", "max_iter": 5}


def test_flatten_and_unflatten_are_inverse():
    """Weights of all layers come before biases; the parts are views."""
    weights, biases = [np.arange(6.0).reshape(2, 3), np.arange(3.0).reshape(3, 1)], [np.ones(3), np.full(1, 7.0)]
    flat = lbfgs.flatten(weights, biases)
    assert flat.tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2, 1, 1, 1, 7]
    parts = sum(lbfgs.unflatten(flat, [(2, 3), (3, 1)]), [])
    assert all(np.array_equal(part, array) for part, array in zip(parts, weights + biases, strict=True))
    assert all(np.shares_memory(part, flat) for part in parts)


@goals
@hidden_activations
def test_gradient_is_that_of_the_loss(hidden, goal):
    """Every element of the gradient is the difference of two losses, also where units are padded with -1e30."""
    rng = np.random.RandomState(0)
    network = draw_network(rng, [4, 5, 3, 1 if LOSSES[goal].mean else 2], hidden, goal)
    y = draw_targets(rng, goal, (len(X), network.layer_units[-1]))
    data = network.data(X, y, rng.uniform(0.5, 2, len(X)))
    flat = lbfgs.flatten(network.weights, network.biases)
    _, gradient = lbfgs.loss_and_gradient(flat, network, data, 0.1)
    for i in range(len(flat)):
        step = np.eye(len(flat))[i] * 1e-6
        above, below = (lbfgs.loss_and_gradient(flat + s, network, data, 0.1)[0] for s in (step, -step))
        assert gradient[i] == pytest.approx((above - below) / 2e-6, abs=1e-7)
    assert lbfgs.flatten(network.weights, network.biases).tolist() == (flat - step).tolist()


def test_one_call_of_the_kernels_for_all_rows(monkeypatch):
    """Each evaluation is one batch of all rows, on all threads where it is large; the workspace is given back."""
    calls, epoch, prepare = [], passes.epoch, passes.epoch.prepare
    names = inspect.signature(epoch.dispatcher.py_func).parameters

    def counted(*args):
        call = dict(zip(names, args, strict=True))
        (job,) = call["words"].view(JOB.dtype)
        calls.append((len(call["order"]), int(job["batch_size"]), int(job["threads"])))
        return epoch(*args)

    counted.prepare = prepare
    monkeypatch.setattr(passes, "epoch", counted)
    monkeypatch.setattr("fastmlp._threads.count", lambda: 2)
    rows = np.random.RandomState(0).normal(size=(700, 40))
    model = make("MLPRegressor", solver="lbfgs", hidden_layer_sizes=(50,), max_iter=3).fit(rows, rows[:, 0])
    assert model.n_iter_ == 3 and 3 < len(calls) < 10
    assert set(calls) == {(700, 700, 2)}
    assert not model._network._spare


def test_any_number_of_threads_gives_the_same_bits():
    """Weights, loss and iterations, where a batch goes to several threads."""
    code = """
import numba, numpy as np, fastmlp
X = np.random.RandomState(0).normal(size=(700, 40))
for threads in 1, 2, 3:
    numba.set_num_threads(threads)
    model = fastmlp.MLPRegressor(hidden_layer_sizes=(60, 20), solver="lbfgs", max_iter=20, random_state=0)
    model.fit(X, X[:, 0] * X[:, 1])
    print(hash(b"".join(W.tobytes() for W in model.coefs_ + model.intercepts_)), model.loss_, model.n_iter_)
"""
    lines = run_python("-W", "ignore", "-c", code, NUMBA_NUM_THREADS="3", PYTHONHASHSEED="0").splitlines()
    assert len(lines) == 3 and len(set(lines)) == 1


def test_float32_rows_are_read_in_place(monkeypatch):
    """A float32 network trains on them; SciPy makes its weights float64, and so is what goes on with them."""
    seen, data = [], MLP.data
    monkeypatch.setattr(MLP, "data", lambda self, X, *args: seen.append((self.dtype, X)) or data(self, X, *args))
    rows = X.astype(np.float32)
    model = make("MLPClassifier", warm_start=True, **LBFGS).fit(rows, LABELS).fit(rows, LABELS)
    assert [dtype for dtype, _ in seen] == [np.float32, np.float64] and all(X is rows for _, X in seen)
    assert [W.dtype for W in model.coefs_ + model.intercepts_] == [np.float64] * 4
    assert model.predict_proba(rows).dtype == np.float64


@both_estimators
def test_attributes(name):
    """Those that belong to epochs are not there; those that another solver has left stay, as in scikit-learn."""
    epochs = {"loss_curve_", "best_loss_", "validation_scores_", "best_validation_score_", "_no_improvement_count"}
    model, theirs = (
        make(name, library, **LBFGS).fit(X, TARGETS[name]) for library in (fastmlp, sklearn.neural_network)
    )
    assert not (epochs | {"_optimizer"}) & vars(model).keys()
    ours = vars(model).keys() - {"_network", *OWN_PARAMETERS}
    assert ours == vars(theirs).keys() - {"_coef_indptr", "_intercept_indptr", "_best_coefs", "_best_intercepts"}
    model = make(name).fit(X, TARGETS[name])
    curve = list(model.loss_curve_)
    model.set_params(**LBFGS).fit(X, TARGETS[name])
    assert model.loss_curve_ == curve and model.loss_ != curve[-1]


def test_warnings(recwarn):
    """scikit-learn's words for each way of ending; none where it converges."""
    settings = {"max_iter": {"max_iter": 2}, "max_fun": {"max_fun": 3, "max_iter": 50}, "converges": {"tol": 1.0}}
    with warnings.catch_warnings():
        warnings.simplefilter("always", ConvergenceWarning)
        for name, parameters in settings.items():
            texts = []
            for library in fastmlp, sklearn.neural_network:
                recwarn.clear()
                make("MLPClassifier", library, **(LBFGS | parameters)).fit(X, LABELS)
                texts.append([(w.category, str(w.message)) for w in recwarn])
            assert texts[0] == texts[1], name
            assert [category for category, _ in texts[0]] == ([] if name == "converges" else [ConvergenceWarning])


@both_estimators
def test_a_warning_made_an_error_does_not_lose_the_fit(name):
    """The model is trained when the warning comes."""
    model = make(name, **LBFGS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ConvergenceWarning):
            model.fit(X, TARGETS[name])
    assert state(model) == state(make(name, **LBFGS).fit(X, TARGETS[name]))


# scikit-learn sees it before it comes to a division since 1.9
NO_WEIGHT = ValueError if parse_version(sklearn.__version__) >= parse_version("1.9") else ZeroDivisionError
# name: (exception, how it comes)
FAILURES = {
    "NaN": (ValueError, lambda model, y: model.fit(put(X, np.nan), y)),
    "no weight": (NO_WEIGHT, lambda model, y: model.fit(X, y, np.zeros(len(X)))),
    "weights that sum to 0": (ZeroDivisionError, lambda model, y: model.fit(X, y, (-1.0) ** np.arange(len(X)))),
    "trouble": (Trouble, lambda model, y: model.fit(X, y)),
    "Ctrl-C": (KeyboardInterrupt, lambda model, y: model.fit(X, y)),
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("before", ["adam", "lbfgs"])
@both_estimators
def test_failing_fit_changes_nothing(name, before, failure, monkeypatch):
    """The exception gets out, as in scikit-learn; the model is, bit for bit, as if there had been no call."""
    y, (exception, call) = TARGETS[name], FAILURES[failure]
    model, twin = (make(name, solver=before, warm_start=True).fit(X, y).set_params(**LBFGS) for _ in range(2))
    expected = bits(model)
    with monkeypatch.context() as patch:
        if exception in (Trouble, KeyboardInterrupt):
            gradients, calls = MLP.gradients, []

            def fail(*args):
                calls.append(0)
                if len(calls) == 3:
                    raise exception
                return gradients(*args)

            patch.setattr(MLP, "gradients", fail)
        with pytest.raises(exception):
            call(model, y)
    assert state(model) == state(twin) and bits(model) == expected
    assert state(model.fit(X, y)) == state(twin.fit(X, y))


@both_estimators
def test_divergence_as_in_scikit_learn(name):
    """Rows whose sums overflow: the same exception or the same warning, and no trace in what follows."""
    y, seen = TARGETS[name], []
    for library in fastmlp, sklearn.neural_network:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                make(name, library, **LBFGS).fit(HUGE, y)
                seen.append([w.category for w in caught if w.category is not RuntimeWarning])
            except ValueError as error:
                seen.append(str(error))
    assert seen[0] == seen[1]
    model = make(name, **LBFGS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model.fit(HUGE, y)
        except ValueError:
            pass
    assert state(model.fit(X, y)) == state(make(name, **LBFGS).fit(X, y))


@both_estimators
def test_copies(name):
    """A copy goes on with a warm start bit for bit, and shares no weights."""
    model = make(name, warm_start=True, **LBFGS).fit(X, TARGETS[name])
    for twin in copy.deepcopy(model), pickle.loads(pickle.dumps(model)):
        assert bits(twin) == bits(model) and state(twin) == state(model)
        before = bits(model)
        twin.fit(X, TARGETS[name])
        assert bits(model) == before != bits(twin)
        assert bits(copy.deepcopy(model).fit(X, TARGETS[name])) == bits(twin)


@both_estimators
def test_changed_weights_are_the_model(name):
    """What is written into coefs_ counts in predict and in a warm start."""
    models = [
        make(name, library, warm_start=True, **LBFGS).fit(X, TARGETS[name])
        for library in (fastmlp, sklearn.neural_network)
    ]
    for model in models:
        model.coefs_[0] *= 0.5
        model.intercepts_[1] += 1
    np.testing.assert_allclose(models[0].predict(X), models[1].predict(X), atol=1e-8)
    for model in models:
        model.fit(X, TARGETS[name])
    assert models[0].loss_ == pytest.approx(models[1].loss_, rel=1e-8)


def test_a_step_with_another_solver_after_lbfgs():
    """As in scikit-learn there is no curve to go on with: AttributeError; a fit from the start has none of its past."""
    for library in fastmlp, sklearn.neural_network:
        model = make("MLPClassifier", library, **LBFGS).fit(X, LABELS).set_params(solver="adam")
        with pytest.raises(AttributeError, match="loss_curve_"):
            model.partial_fit(X, LABELS)
    parameters = make("MLPClassifier").get_params()
    model = make("MLPClassifier", **LBFGS).fit(X, LABELS).set_params(**parameters)
    assert state(model.fit(X, LABELS)) == state(make("MLPClassifier").fit(X, LABELS))
