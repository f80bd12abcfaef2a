"""What a fit may take: seconds (max_time), threads (n_jobs), and bytes a number (dtype)."""

import copy
import os
import pickle
import time
import warnings

import joblib
import numba
import numpy as np
import pytest
import scipy.sparse
import threadpoolctl
from helpers import run_code
from models import SMALL, TARGETS, X, bits, both_estimators, make, outputs, state
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.utils._param_validation import InvalidParameterError

import fastmlp
from fastmlp import _base, _threads, network, training
from fastmlp.compiled import passes
from fastmlp.schedules import cosine

ignore_warnings = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
each_solver = pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])


def same_but(parameter, *models):
    """Whether all that models have is the same, but for a parameter's value."""
    first, *others = ({name: value for name, value in state(model).items() if name != parameter} for model in models)
    return all(other == first for other in others)


# ---- parameters -------------------------------------------------------------------------------------------------

REFUSED = [("max_time", value) for value in (0, 0.0, -1, np.nan, np.inf, "1")]
REFUSED += [("n_jobs", value) for value in (0, 1.5, "2", np.inf)]
REFUSED += [("dtype", value) for value in ("float16", np.float16, "f4", int, "numeric", np.dtype(np.float16), 32)]


@pytest.mark.parametrize("parameter, value", REFUSED, ids=str)
@both_estimators
def test_values_that_make_no_sense(name, parameter, value):
    """In scikit-learn's words, by fit and by partial_fit."""
    model = make(name, **{parameter: value})
    for train in model.fit, model.partial_fit:
        with pytest.raises(InvalidParameterError, match=f"The '{parameter}' parameter of {name} must be"):
            train(X, TARGETS[name])
    assert not hasattr(model, "coefs_")


@ignore_warnings
@pytest.mark.parametrize("parameters", [{"max_time": 1e6}, {"n_jobs": 1}, {"dtype": "float64"}], ids=str)
@each_solver
@both_estimators
def test_what_is_no_limit_changes_no_bit(name, solver, parameters):
    plain, limited = (make(name, solver=solver, **more).fit(X, TARGETS[name]) for more in ({}, parameters))
    assert same_but(*parameters, plain, limited) and bits(plain) == bits(limited)


# ---- max_time ---------------------------------------------------------------------------------------------------

ROWS = np.random.RandomState(1).normal(size=(1000, 4))
MANY = {"MLPClassifier": np.arange(1000) % 3, "MLPRegressor": ROWS[:, 0] * ROWS[:, 1]}
IN_BATCHES = {"batch_size": 10, "shuffle": False}  # 100 of them
STOPS = {
    "adam": {},
    "sgd": {"solver": "sgd"},
    "plain sgd": {"solver": "sgd", "momentum": 0.0},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling"},
}


class Clock:
    """It goes on while kernels compute, and stands still meanwhile: so many seconds for a row."""

    def __init__(self, seconds):
        self.seconds, self.now, self._epoch = seconds, 0.0, passes.epoch

    def perf_counter(self):
        return self.now

    def __call__(self, *args):
        self.now += (args[10] - args[9]) * self.seconds  # of the rows order[first:until]
        return self._epoch(*args)

    def __getattr__(self, name):
        return getattr(self._epoch, name)


@pytest.fixture
def clock(monkeypatch):
    """A batch of ten rows takes 0.1 s, an epoch 10 s."""
    clock = Clock(0.01)
    monkeypatch.setattr(passes, "epoch", clock)
    for module in _base, training, network:
        assert module.time is time
        monkeypatch.setattr(module, "time", clock)
    return clock


def limited(name, max_time, rows=ROWS, targets=MANY, **parameters):
    """A fit that this limit ends."""
    model = make(name, **(IN_BATCHES | {"max_time": max_time} | parameters))
    with pytest.warns(ConvergenceWarning, match=rf"Maximum time \({max_time} s\) reached") as caught:
        model.fit(rows, targets[name])
    assert [warning.filename for warning in caught] == [__file__]
    return model


@pytest.mark.parametrize("case", STOPS)
@both_estimators
def test_a_fit_ends_in_the_middle_of_an_epoch(name, case, clock):
    """It has learnt what a fit of the rows that were done has."""
    model = limited(name, 3.05, **STOPS[case])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        twin = make(name, **IN_BATCHES, **STOPS[case]).set_params(max_iter=1).fit(ROWS[:310], MANY[name][:310])
    assert model.t_ == 310 and model.n_iter_ == 1
    twin.set_params(max_iter=SMALL["max_iter"])._optimizer.max_iter = SMALL["max_iter"]
    assert same_but("max_time", model, twin) and bits(model) == bits(twin)


@ignore_warnings
@pytest.mark.parametrize("case", STOPS)
@both_estimators
def test_a_fit_ends_in_the_middle_of_a_later_epoch(name, case, clock):
    model = limited(name, 12.05, **STOPS[case])
    assert (model.t_, model.n_iter_, len(model.loss_curve_)) == (1210, 2, 2)
    twin = make(name, **IN_BATCHES, **STOPS[case]).set_params(max_iter=1).fit(ROWS, MANY[name])
    twin.partial_fit(ROWS[:210], MANY[name][:210])
    assert bits(model) == bits(twin) and model.loss_curve_ == twin.loss_curve_


@pytest.mark.parametrize("seconds", [1e-7, 1e-5, 1e-4, 1.3e-3, 0.01, 1.0, 1000.0])
@both_estimators
def test_how_late_a_fit_may_end(name, seconds, clock):
    """A tenth of a second, and a batch. One batch is done in any case."""
    clock.seconds = seconds
    for max_time in 1e-9, 400 * seconds, 1777 * seconds:
        clock.now = 0.0
        model = limited(name, max_time, max_iter=10**7)
        assert clock.now >= max_time and clock.now - max_time <= 0.1 + 10 * seconds + 1e-9
        assert model.t_ == pytest.approx(clock.now / seconds, rel=1e-6) and model.t_ >= 10
        assert len(model.loss_curve_) == model.n_iter_ and np.isfinite(model.loss_curve_).all()


def test_the_batch_that_is_done_in_any_case_weighs_something(clock):
    """One that weighs nothing is no batch: a loss of it would be 0, and none was ever better."""
    weights = np.repeat([0.0, 1.0], [30, 970])
    model = make("MLPRegressor", **IN_BATCHES, max_time=1e-9)
    with pytest.warns(ConvergenceWarning, match="Maximum time"):
        model.fit(ROWS, MANY["MLPRegressor"], weights)
    assert model.t_ == 40 and model.loss_ > 0 and model._optimizer.t == 1


def test_the_end_of_an_epoch(clock):
    """A limit that is reached there ends the fit as well."""
    model = limited("MLPRegressor", 20.0)
    assert (model.t_, model.n_iter_) == (2000, 2)


@ignore_warnings
@pytest.mark.parametrize("own", [False, True], ids=["part of X", "validation rows"])
@both_estimators
def test_best_weights_stay(name, own, clock):
    """With early stopping, whatever was learnt until the limit."""
    scores = iter([0.5, 0.9, 0.7, 0.6])
    parameters = {"early_stopping": True, "scoring": lambda model, X, y: next(scores), "max_iter": 4}
    rows = {"X_val": ROWS[:50], "y_val": MANY[name][:50]} if own else {}
    model = make(name, **IN_BATCHES, **parameters)
    epoch = 10.5 if own else 10.0  # losses of validation rows take their time too
    model.set_params(max_time=3.3 * epoch).fit(ROWS, MANY[name], **rows)
    assert model.validation_scores_ == [0.5, 0.9, 0.7, 0.6] and model.n_iter_ == 4 and model.best_iter_ == 2
    assert (3000 if own else 2700) < model.t_ < (4000 if own else 3600)
    scores = iter([0.5, 0.9])
    twin = make(name, **IN_BATCHES, **parameters).set_params(max_iter=2).fit(ROWS, MANY[name], **rows)
    assert bits(model) == bits(twin)


@ignore_warnings
@both_estimators
def test_lbfgs_ends_between_iterations(name, clock):
    """An evaluation takes 10 s here. It has learnt what a fit of so many iterations has."""
    for max_time in 1e-9, 45.0:
        clock.now = 0.0
        model = make(name, solver="lbfgs", max_time=max_time, max_iter=50)
        with pytest.warns(ConvergenceWarning, match=rf"^lbfgs: Maximum time \({max_time} s\) reached"):
            model.fit(ROWS, MANY[name])
        twin = make(name, solver="lbfgs", max_iter=model.n_iter_).fit(ROWS, MANY[name])
        assert bits(model) == bits(twin) and model.loss_ == twin.loss_
        assert model.n_iter_ == 1 if max_time < 1 else 2 <= model.n_iter_ < 5


@both_estimators
def test_a_warm_start_has_a_budget_of_its_own(name, clock):
    model = limited(name, 12.05, warm_start=True)
    with pytest.warns(ConvergenceWarning, match="Maximum time"):
        model.fit(ROWS, MANY[name])
    assert (model.t_, model.n_iter_, len(model.loss_curve_)) == (2420, 2, 4)


@both_estimators
def test_partial_fit_has_one_too(name, clock):
    """It warns, as rows were left out; without a limit it does not."""
    model, twin = (make(name, **IN_BATCHES, max_time=max_time) for max_time in (3.05, None))
    first = {"classes": [0, 1, 2]} if name == "MLPClassifier" else {}
    for done in 310, 620:
        with pytest.warns(ConvergenceWarning, match=r"Maximum time \(3.05 s\) reached"):
            model.partial_fit(ROWS, MANY[name], **first)
        twin.partial_fit(ROWS[:310], MANY[name][:310], **first)
        assert model.t_ == done and same_but("max_time", model, twin)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@both_estimators
def test_a_schedule_does_not_hurry(name, solver, clock):
    """The rates are those of all epochs, of which the limit leaves out the last; the last batch's is remembered."""
    model = limited(name, 3.05, solver=solver, learning_rate="cosine", learning_rate_init=0.01)
    whole = 100 * SMALL["max_iter"]
    twin = make(name, **IN_BATCHES, solver=solver, learning_rate_init=0.01, max_iter=1)
    twin.set_params(learning_rate=lambda t: cosine(31 * t, whole))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        twin.fit(ROWS[:310], MANY[name][:310])
    np.testing.assert_allclose(outputs(model), outputs(twin), rtol=1e-9)
    assert model._optimizer.schedule.learning_rate == pytest.approx(0.01 * cosine(30, whole), rel=1e-12)
    assert model._optimizer.epochs == 1


def test_time_goes_on_in_callbacks(clock):
    """Whatever takes time counts."""
    pytest.importorskip("sklearn.callback")

    class Slow:
        def setup(self, estimator, context):
            clock.now += 5

        teardown = on_fit_task_begin = on_fit_task_end = setup

    model = make("MLPRegressor", **IN_BATCHES, max_time=35.0, max_iter=9).set_callbacks(Slow())
    with pytest.warns(ConvergenceWarning, match="Maximum time"):
        model.fit(ROWS, MANY["MLPRegressor"])
    assert model.t_ == 1000 + 10 and model.n_iter_ == 2  # 5 + 5 + 5 + 10 + 5 + 5 are 35


# ---- n_jobs -----------------------------------------------------------------------------------------------------

WIDE = np.random.RandomState(2).normal(size=(600, 64))
WIDE_TARGETS = {"MLPClassifier": np.arange(600) % 10, "MLPRegressor": WIDE[:, 0]}
LARGE = {"hidden_layer_sizes": (400, 300)}
ANY_WORK = dict.fromkeys(["_TRAIN_IN_PARALLEL", "_PREDICT_IN_PARALLEL", "_ROW_IN_PARALLEL"], 0)


def wide(name, **parameters):
    return make(name, **parameters).fit(WIDE, WIDE_TARGETS[name])


@pytest.fixture
def asked_for(monkeypatch):
    """How many threads calls of the kernels have asked for; as many as on a machine of eight cores."""
    monkeypatch.setattr(_threads, "most", lambda: 8)
    monkeypatch.setattr("joblib.cpu_count", lambda: 8)
    for limit in ANY_WORK:
        monkeypatch.setattr(network, limit, 0)
    asked, team_for = [], _threads.team_for
    monkeypatch.setattr(_threads, "team_for", lambda threads: asked.append(threads) or team_for(threads))
    return asked


def taken(asked):
    found = {*asked}
    asked.clear()
    return found


COUNTS = {1: 1, 2: 2, 5: 5, 8: 8, 100: 8, -1: 8, -2: 7, -7: 2, -8: 1, -9: 1, -100: 1}


@ignore_warnings
@pytest.mark.parametrize("n_jobs", COUNTS)
def test_so_many_threads(n_jobs, asked_for):
    """By joblib's convention; in fit, partial_fit, predict, for one row, few rows of a large network, and in scores."""
    for name in TARGETS:
        for parameters in {}, {"solver": "lbfgs"}, {"early_stopping": True}, LARGE:
            model = wide(name, n_jobs=n_jobs, **parameters)
            assert taken(asked_for) == {COUNTS[n_jobs]}
        model.partial_fit(WIDE, WIDE_TARGETS[name])
        assert taken(asked_for) == {COUNTS[n_jobs]}
        for rows in WIDE, WIDE[:3], scipy.sparse.csr_matrix(WIDE):
            bits(model, rows)
            assert taken(asked_for) == {COUNTS[n_jobs]}


@ignore_warnings
def test_the_wish_ends(asked_for, monkeypatch):
    """With the call, after errors too; whoever has none has as many threads as before."""
    before = _threads.count()
    model = wide("MLPRegressor", n_jobs=5)
    for bad in WIDE[:5, :3], WIDE * np.nan, "nonsense":
        for call in model.predict, lambda X: model.fit(X, WIDE_TARGETS["MLPRegressor"]):
            with pytest.raises(ValueError):
                call(bad)
            assert _threads.count() == before
    monkeypatch.setattr(fastmlp.MLP, "train_epoch", None)
    with pytest.raises(TypeError):
        wide("MLPRegressor", n_jobs=5)
    monkeypatch.undo()
    assert _threads.count() == before


def test_wishes_within_wishes():
    """The inner one holds until its end; None is none."""
    before = _threads.count()
    with _threads.use(1):
        with _threads.use(None):
            assert _threads.count() == 1
            with pytest.raises(ZeroDivisionError), _threads.use(-1):
                assert _threads.count() == min(_threads.most(), max(1, joblib.cpu_count()))
                raise ZeroDivisionError
        assert _threads.count() == 1
    assert _threads.count() == before


@ignore_warnings
def test_a_prediction_within_another_call(asked_for):
    """Has the threads that its own model wants, and then that call goes on with its own."""
    other, found = wide("MLPRegressor", n_jobs=2), []

    def score(model, X, y):
        asked_for.clear()
        other.predict(WIDE)
        found.append(({*asked_for}, _threads.count()))
        return 0.0

    wide("MLPRegressor", n_jobs=5, early_stopping=True, scoring=score)
    assert found == [({2}, 5)] * SMALL["max_iter"]


@ignore_warnings
def test_whatever_else_is_set(asked_for, monkeypatch):
    """Limits of others hold for those who wish for none."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        with threadpoolctl.threadpool_limits(1):
            for n_jobs, threads in (None, 1), (3, 3), (None, 1), (-1, 8):
                bits(wide("MLPClassifier", n_jobs=n_jobs), WIDE)
                assert taken(asked_for) == {threads}
    finally:
        numba.set_num_threads(before)


@ignore_warnings
def test_each_thread_of_python_has_its_wish(monkeypatch, asked_for):
    """Fits at the same time, each on as many threads as it says, and the same bits."""
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier, get_ident

    here, team_for, together = [], _threads.team_for, Barrier(4, timeout=300)
    monkeypatch.setattr(_threads, "team_for", lambda n: here.append((get_ident(), n)) or team_for(n))

    def fit(n_jobs):
        together.wait()
        found = bits(wide("MLPClassifier", n_jobs=n_jobs), WIDE)
        return found, {n for thread, n in here if thread == get_ident()}, _threads.count()

    plain = _threads.count()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(fit, [1, 2, 5, None]))
    assert [threads for _, threads, _ in found] == [{1}, {2}, {5}, {found[3][2]}]
    assert all(one[0] == found[0][0] for one in found) and {count for *_, count in found[:3]} == {plain}


def fit_on_any_number():
    """NUMBA_NUM_THREADS is 8, more than the machine need have: so many threads there are, and the bits are the same."""
    vars(network).update(ANY_WORK)
    warnings.simplefilter("ignore")
    numba.set_num_threads(1)
    for parameters in {}, {"solver": "lbfgs"}, LARGE, {"early_stopping": True, "dtype": "float32"}:
        for name in TARGETS:
            alone = wide(name, **parameters)
            for n_jobs in 1, 2, 5, -1, -2, 1000:
                model = wide(name, n_jobs=n_jobs, **parameters)
                assert same_but("n_jobs", model, alone), (name, n_jobs)
                for rows in WIDE, WIDE[:3], WIDE[:1]:
                    assert bits(model, rows) == bits(alone, rows), (name, n_jobs)
                wanted = n_jobs if n_jobs > 0 else max(1, joblib.cpu_count() + 1 + n_jobs)
                assert _threads.workers() >= min(8, wanted) - 1
    assert _threads.workers() == 7


def test_the_same_bits_on_any_number_of_threads():
    run_code("import test_resources; test_resources.fit_on_any_number()", NUMBA_NUM_THREADS="8")


def fit_in_spite_of_the_environment():
    """On two threads where there are two cores, though one is allowed; and without a wish on one."""
    vars(network).update(ANY_WORK)
    warnings.simplefilter("ignore")
    expected = bits(wide("MLPClassifier"), WIDE)
    assert _threads.workers() == 0
    assert bits(wide("MLPClassifier", n_jobs=2), WIDE) == expected
    assert _threads.workers() == min(2, os.cpu_count()) - 1


@pytest.mark.parametrize("variable", ["OMP_NUM_THREADS", "NUMBA_NUM_THREADS"])
def test_whatever_the_environment_allows(variable):
    run_code("import test_resources; test_resources.fit_in_spite_of_the_environment()", **{variable: "1"})


def fork_with_a_wish():
    vars(network).update(ANY_WORK)
    warnings.simplefilter("ignore")
    expected = bits(wide("MLPClassifier", n_jobs=2), WIDE)
    with _threads.use(3):  # a fork in a fit, say by a callback
        child = os.fork()
        if child == 0:
            ok = _threads.count() == 3 and bits(wide("MLPClassifier", n_jobs=2), WIDE) == expected
            os._exit(0 if ok and _threads.count() == 3 and _threads.workers() == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_forks():
    """A child has its parent's wish, and helpers of its own."""
    run_code("import test_resources; test_resources.fork_with_a_wish()", NUMBA_NUM_THREADS="4")


def rate(t):
    """No schedule at all: it is called in fit, and notes how many threads there are to be."""
    rate.threads = _threads.count()
    return 1.0


def threads_of_the_fit(model, X, y):
    return rate.threads


def search():
    warnings.simplefilter("ignore")
    model = make("MLPRegressor", learning_rate=rate)
    for backend in "loky", "threading":
        with joblib.parallel_config(backend):
            found = GridSearchCV(model, {"n_jobs": [1, 2, 3]}, scoring=threads_of_the_fit, cv=2, n_jobs=2, refit=False)
            found.fit(X, TARGETS["MLPRegressor"])
        if backend == "loky":
            assert found.cv_results_["mean_test_score"].tolist() == [1, 2, 3]


def test_searches_in_other_processes():
    """There joblib allows one thread, and the wish counts."""
    run_code("import test_resources; test_resources.search()", NUMBA_NUM_THREADS="4", LOKY_MAX_CPU_COUNT="2")


# ---- dtype ------------------------------------------------------------------------------------------------------

OTHER = {"float32": "float64", "float64": "float32"}
each_dtype = pytest.mark.parametrize("dtype", OTHER)
FORMS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "every other row": lambda X: np.repeat(X, 2, axis=0)[::2],
    "CSR": scipy.sparse.csr_matrix,
    "CSC": scipy.sparse.csc_matrix,
    "CSR array": scipy.sparse.csr_array,
    "list": lambda X: X.tolist(),
    "frame": lambda X: pytest.importorskip("pandas").DataFrame(X, columns=list("abcd")),
}


def learnt_in(model):
    return {parameter.dtype.name for parameter in model.coefs_ + model.intercepts_}


@ignore_warnings
@pytest.mark.parametrize("form", FORMS)
@each_solver
@each_dtype
@both_estimators
def test_as_if_X_had_been_converted(name, dtype, solver, form):
    """All bits of a fit of X.astype(dtype), and predictions of its type, whatever they are of."""
    rows = X.astype(OTHER[dtype])
    given, converted = FORMS[form](rows), FORMS[form](rows.astype(dtype))
    if form == "list":
        converted = rows.astype(dtype)
    model = make(name, solver=solver, dtype=dtype).fit(given, TARGETS[name])
    twin = make(name, solver=solver).fit(converted, TARGETS[name])
    assert same_but("dtype", model, twin)
    assert learnt_in(model) == {"float64" if solver == "lbfgs" else dtype}
    assert bits(model, given) == bits(twin, converted)
    assert outputs(model, given).dtype == outputs(twin, converted).dtype
    if solver != "lbfgs":
        assert outputs(model, given).dtype == dtype


@ignore_warnings
@each_dtype
@both_estimators
def test_whole_numbers(name, dtype):
    """They, and what is in a list, are converted too."""
    numbers = (10 * X).astype(int)
    for given in numbers, numbers.tolist(), numbers.astype(np.int8), scipy.sparse.csr_matrix(numbers):
        sparse = scipy.sparse.issparse(given)
        model = make(name, dtype=dtype).fit(given, TARGETS[name])
        converted = scipy.sparse.csr_matrix(numbers.astype(dtype)) if sparse else numbers.astype(dtype)
        assert same_but("dtype", model, make(name).fit(converted, TARGETS[name]))
        assert bits(model, given) == bits(model, converted) and outputs(model, given).dtype == dtype


@ignore_warnings
@pytest.mark.parametrize("hidden_layer_sizes", [(5,), (300, 350)], ids=["small", "large"])
@each_dtype
@both_estimators
def test_predictions_are_those_of_converted_rows(name, dtype, hidden_layer_sizes):
    """One row, a few of a large network, which `coefs_` predict, and many."""
    many = np.random.RandomState(3).normal(size=(2000, 4)).astype(OTHER[dtype])
    model = make(name, dtype=dtype, hidden_layer_sizes=hidden_layer_sizes).fit(X, TARGETS[name])
    for rows in many, many[:1], many[:4], many[:5], many[::-3], np.asfortranarray(many):
        assert bits(model, rows) == bits(model, rows.astype(dtype)) and outputs(model, rows).dtype == dtype
        one = pickle.loads(pickle.dumps(model))
        assert bits(one, rows) == bits(model, rows)


@ignore_warnings
@pytest.mark.parametrize("large", [1e39, -1e300, np.inf, np.nan])
@both_estimators
def test_what_is_too_large_for_float32(name, large):
    """Is refused as scikit-learn refuses it, in fit and predictions; float64 takes it if it is finite."""
    bad = X.copy()
    bad[1, 2] = large
    words = "Input X(_val)? contains (infinity or a value too large for dtype\\('float32'\\)|NaN)"
    model = make(name, dtype="float32").fit(X, TARGETS[name])
    before = state(model)
    for form in FORMS:
        rows = FORMS[form](bad)
        with pytest.raises(ValueError, match=words):
            model.fit(rows, TARGETS[name])
    for rows in bad, bad[1:2], bad.tolist(), scipy.sparse.csr_matrix(bad):
        with pytest.raises(ValueError, match=words):
            model.predict(rows)
    with pytest.raises(ValueError, match=words):
        model.fit(X, TARGETS[name], X_val=bad, y_val=TARGETS[name])
    assert state(model) == before
    wide = make(name, dtype="float32", hidden_layer_sizes=(300, 350)).fit(X, TARGETS[name])
    with pytest.raises(ValueError, match=words):
        wide.predict(bad[:2])
    if abs(large) < np.inf:
        assert np.isfinite(make(name, dtype="float64").fit(X, TARGETS[name]).set_params(dtype=None).predict(X)).all()
        make(name, dtype="float64", activation="logistic").fit(X, TARGETS[name]).predict(bad)


@ignore_warnings
@pytest.mark.parametrize("given", [np.float32, np.float64, np.dtype(np.float32), np.dtype(np.float64)])
@both_estimators
def test_types_of_numpy(name, given):
    """They stay as they are, in clones too."""
    model = clone(make(name, dtype=given)).fit(X, TARGETS[name])
    assert model.dtype == given and learnt_in(model) == {np.dtype(given).name}
    assert same_but("dtype", model, make(name, dtype=np.dtype(given).name).fit(X, TARGETS[name]))
    one = pickle.loads(pickle.dumps(model))
    assert one.dtype == given and state(one) == state(model) and bits(one) == bits(model)


@ignore_warnings
@pytest.mark.parametrize("solver", ["adam", "sgd"])
@each_dtype
@both_estimators
def test_changed_after_fit(name, solver, dtype):
    """It says what later rows are converted to, as if they had come so: in predictions, partial_fit and warm starts."""
    model = make(name, solver=solver, dtype=OTHER[dtype]).fit(X, TARGETS[name])
    twin = make(name, solver=solver).fit(X.astype(OTHER[dtype]), TARGETS[name])
    model.set_params(dtype=dtype)
    rows = X.astype(dtype)
    assert bits(model) == bits(twin, rows)
    for train in lambda one: one.partial_fit, lambda one: one.set_params(warm_start=True).fit:
        ours, theirs = copy.deepcopy(model), copy.deepcopy(twin)
        train(ours)(X, TARGETS[name])
        train(theirs)(rows, TARGETS[name])
        assert same_but("dtype", ours, theirs) and bits(ours) == bits(theirs, rows)


@ignore_warnings
@both_estimators
def test_partial_fit_from_the_start(name):
    first = {"classes": [0, 1, 2]} if name == "MLPClassifier" else {}
    model, twin = make(name, dtype="float32"), make(name)
    for _ in range(2):
        model.partial_fit(X, TARGETS[name], **first)
        twin.partial_fit(X.astype(np.float32), TARGETS[name], **first)
    assert same_but("dtype", model, twin) and learnt_in(model) == {"float32"}


@ignore_warnings
@both_estimators
def test_validation_rows_are_converted_too(name):
    parameters = {"early_stopping": True, "learning_rate_init": 0.1}
    y, narrow = TARGETS[name], X.astype(np.float32)
    model = make(name, dtype="float32", **parameters).fit(X[:20], y[:20], X_val=X[20:], y_val=y[20:])
    twin = make(name, **parameters).fit(narrow[:20], y[:20], X_val=narrow[20:], y_val=y[20:])
    assert same_but("dtype", model, twin)


@ignore_warnings
@both_estimators
def test_a_search_for_the_dtype(name):
    grid = {"dtype": ["float32", "float64", np.float32, None]}
    search = GridSearchCV(make(name), grid, cv=3).fit(X, TARGETS[name])
    narrow, wide, same, none = search.cv_results_["mean_test_score"]
    assert narrow == same and wide == none
    assert GridSearchCV(make(name), {}, cv=3).fit(X.astype(np.float32), TARGETS[name]).best_score_ == narrow
