"""scikit-learn's callbacks: what they are told, that they can stop a fit, and that they cannot harm it."""

import copy
import importlib.util
import pickle
import warnings

import numpy as np
import pytest
import sklearn.neural_network
from helpers import run_code
from models import IN_ORDER, SMALL, TARGETS, Trouble, X, bits, both_estimators, frozen, make, outputs, state
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastmlp
from fastmlp import _callbacks

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

THERE = importlib.util.find_spec("sklearn.callback") is not None
EPOCHS = SMALL["max_iter"]
WEIGHTS = np.linspace(1, 2, len(X))
SOLVERS = ["adam", "sgd", "lbfgs"]
each_solver = pytest.mark.parametrize("solver", SOLVERS)


@pytest.fixture(autouse=True)
def callbacks_there(request):
    if not THERE and request.function is not test_older_versions_have_none:
        pytest.skip("this scikit-learn has no callbacks")


class Recorder:
    """Notes the hooks that are called, and all that they are told.

    `act` may do something then: it takes the hook, its task's name, and what is told. What it returns is returned.
    """

    def __init__(self, act=None):
        self.act, self.calls, self.told = act, [], []

    def setup(self, estimator, context):
        return self._note("setup", estimator, context)

    def teardown(self, estimator, context):
        return self._note("teardown", estimator, context)

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        told = {"X": X, "y": y, "metadata": metadata, "fitted": fitted_estimator}
        return self._note("begin", estimator, context, **told)

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        told = {"X": X, "y": y, "metadata": metadata, "fitted": fitted_estimator}
        return self._note("end", estimator, context, **told)

    def _note(self, hook, estimator, context, **told):
        self.calls.append((hook, context.task_name))
        told |= {"estimator": estimator, "context": context}
        if self.act is not None:
            return self.act(hook, context.task_name, told)
        self.told.append(told)

    def fitted(self):
        """The estimators of the ends of epochs and iterations."""
        pairs = zip(self.calls, self.told, strict=True)
        return [told["fitted"] for call, told in pairs if call in [("end", "epoch"), ("end", "iteration")]]


class Propagated(Recorder):
    max_propagation_depth = None


def calls_of_a_fit(epochs=EPOCHS, task="epoch"):
    first, last = [("setup", "fit"), ("begin", "fit")], [("end", "fit"), ("teardown", "fit")]
    return first + [("begin", task), ("end", task)] * epochs + last


def stop_at(epoch, answer=True):
    """A callback that wants no epoch after this one."""

    def act(hook, task, told):
        return answer if hook == "end" and told["context"].task_id == epoch - 1 and task != "fit" else None

    return Recorder(act)


def without_callbacks(model):
    return {name: value for name, value in state(model).items() if name != "_skl_callbacks"}


# ---- what they are told ----


@both_estimators
def test_older_versions_have_none(name):
    """All else is there."""
    model = make(name).fit(X, TARGETS[name])
    assert hasattr(model, "set_callbacks") == THERE
    assert bits(pickle.loads(pickle.dumps(clone(model).fit(X, TARGETS[name])))) == bits(model)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weights"])
@each_solver
@both_estimators
def test_hooks_and_arguments(name, solver, weights):
    """In order; with X and y as they were handed to fit."""
    recorder, rows, targets = Recorder(), X.tolist(), TARGETS[name].tolist()
    model = make(name, solver=solver).set_callbacks(recorder).fit(rows, targets, weights)
    assert recorder.calls == calls_of_a_fit(task="iteration" if solver == "lbfgs" else "epoch")
    fit = recorder.told[0]["context"]
    assert (fit.max_subtasks, fit.parent, fit.estimator_name) == (EPOCHS, None, name)
    for (hook, task), told in zip(recorder.calls, recorder.told, strict=True):
        assert told["estimator"] is model
        if task != "fit":
            assert told["context"].parent is fit and told["context"].max_subtasks == 0
        if hook in ("begin", "end"):
            assert told["X"] is rows and told["y"] is targets
            assert told["metadata"].keys() == ({"sample_weight"} if weights is not None else set())
            assert told["metadata"].get("sample_weight") is weights
            assert (told["fitted"] is not None) == (hook == "end") and told["fitted"] is not model
    ids = [told["context"].task_id for (hook, task), told in zip(recorder.calls, recorder.told, strict=True)]
    assert ids == [0, 0, 0, 0, 1, 1, 2, 2, 0, 0]


def test_validation_rows_are_no_metadata():
    """Scorers take none: with them, fit's other arguments, epochs are told of as ever."""
    recorder = Recorder()
    make("MLPRegressor").set_callbacks(recorder).fit(
        X[:20], TARGETS["MLPRegressor"][:20], X_val=X[20:], y_val=TARGETS["MLPRegressor"][20:]
    )
    assert recorder.calls == calls_of_a_fit()
    assert all(told["metadata"] == {} for told in recorder.told[1:-1])
    assert [len(one.validation_loss_curve_) for one in recorder.fitted()] == [1, 2, 3]


STOPPED = {
    "adam": {},
    "adam, float32": {"dtype": "float32"},
    "nesterov": {"solver": "sgd"},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 10.0, "n_iter_no_change": 1, "max_iter": 6},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling"},
    "dropout": {"dropout": 0.5, "batch_size": 7},
    "early stopping": {"early_stopping": True, "learning_rate_init": 0.3, "max_iter": 6},
    "the loss of validation rows": {"early_stopping": True, "scoring": "loss", "learning_rate_init": 0.3},
    "lbfgs": {"solver": "lbfgs", "max_iter": 6},
    "lbfgs, float32": {"solver": "lbfgs", "dtype": "float32"},
}


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("case", STOPPED)
@both_estimators
def test_fitted_estimators_are_fits_that_stopped_there(name, case, sparse):
    """Each, kept until all is done, has all attributes of a fit of so many epochs, and trains on as that does."""
    recorder, rows = Recorder(), csr_matrix(X) if sparse else X
    model = make(name, **STOPPED[case]).set_callbacks(recorder).fit(rows, TARGETS[name])
    kept = recorder.fitted()
    assert len(kept) == model.n_iter_ > 2
    assert bits(kept[-1]) == bits(recorder.told[-2]["fitted"]) == bits(model)
    for epoch, fitted in enumerate(kept, start=1):
        stopped = make(name, **(STOPPED[case] | {"max_iter": epoch})).fit(rows, TARGETS[name])
        ours, theirs = (
            {key: frozen(value) for key, value in vars(one).items() if key.endswith("_")} for one in (fitted, stopped)
        )
        assert ours == theirs and bits(fitted) == bits(stopped)
        if stopped.solver != "lbfgs" and not stopped.early_stopping:
            assert bits(fitted.partial_fit(rows, TARGETS[name])) == bits(stopped.partial_fit(rows, TARGETS[name]))


def test_best_weights_so_far():
    """With early stopping these are what predicts, not those of the last epoch."""
    recorder = Recorder()
    model = make("MLPRegressor", early_stopping=True, learning_rate_init=0.5, max_iter=8).set_callbacks(recorder)
    kept = model.fit(X, TARGETS["MLPRegressor"]) and recorder.fitted()
    best = [one.best_iter_ for one in kept]
    assert best != list(range(1, len(best) + 1))
    for one, before in zip(kept[1:], kept, strict=False):
        assert (bits(one) == bits(before)) == (one.best_iter_ == before.best_iter_)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@both_estimators
def test_a_warm_start_goes_on(name, solver):
    """Epochs are counted anew, and loss_curve_ goes on."""
    recorder = Recorder()
    model = make(name, solver=solver, warm_start=True).fit(X, TARGETS[name])
    twin = copy.deepcopy(model).fit(X, TARGETS[name])
    model.set_callbacks(recorder).fit(X, TARGETS[name])
    assert len(recorder.fitted()) == EPOCHS and bits(recorder.fitted()[-1]) == bits(model) == bits(twin)
    if solver == "adam":
        assert [len(one.loss_curve_) for one in recorder.fitted()] == [4, 5, 6]


# ---- what they do ----


@each_solver
@both_estimators
def test_callbacks_change_no_bit(name, solver):
    """Nor does what is wanted: a callback that takes no fitted_estimator is given none."""

    class Idle:
        def setup(self, estimator, context):
            pass

        teardown = on_fit_task_begin = on_fit_task_end = setup

    expected = state(make(name, solver=solver).fit(X, TARGETS[name]))
    for callbacks in [Recorder()], [Idle()], [Idle(), Recorder(), Recorder()]:
        model = make(name, solver=solver).set_callbacks(*callbacks)
        for _ in range(2):
            assert without_callbacks(model.fit(X, TARGETS[name])) == expected


def ruin(model):
    """Change all that a model has, in place where that can be done."""
    for value in vars(model.set_callbacks()).values():
        arrays = value if isinstance(value, list) else [value]
        for array in arrays:
            if isinstance(array, np.ndarray):
                array[...] = 0
        if isinstance(value, list):
            value.clear()
    vars(model).clear()


def go_on(model):
    model.set_callbacks().set_params(max_iter=2, random_state=7).fit(X[:25], TARGETS[type(model).__name__][:25])


def change_optimizer(model):
    if hasattr(model, "_optimizer"):
        model._optimizer.first[:], model._optimizer.t = 7, 1000


HARM = {"ruined": ruin, "trained": go_on, "its optimizer": change_optimizer, "predicts": outputs}


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize(
    "parameters",
    [{}, {"solver": "sgd"}, {"early_stopping": True, "learning_rate_init": 0.3}, {"solver": "lbfgs"}],
    ids=["adam", "sgd", "early stopping", "lbfgs"],
)
@both_estimators
def test_whatever_is_done_to_a_fitted_estimator(name, parameters, harm):
    """At each epoch's end and at the fit's: the model itself has the bits that it has without callbacks."""
    count = 0

    def act(hook, task, told):
        nonlocal count
        if hook == "end":
            count += 1
            HARM[harm](told["fitted"])

    parameters = parameters | {"max_iter": 6, "warm_start": True}
    model = make(name, **parameters).set_callbacks(Recorder(act))
    twin = make(name, **parameters)
    for _ in range(2):
        assert without_callbacks(model.fit(X, TARGETS[name])) == state(twin.fit(X, TARGETS[name]))
    assert count > 8


@each_solver
@both_estimators
def test_the_estimator_itself_may_predict(name, solver):
    """Before a warm start's end it is what it was before, and training is left alone."""
    found = []
    model, twin = (make(name, solver=solver, warm_start=True).fit(X, TARGETS[name]) for _ in range(2))
    before = bits(model)
    model.set_callbacks(Recorder(lambda hook, task, told: found.append(bits(told["estimator"]))))
    assert without_callbacks(model.fit(X, TARGETS[name])) == state(twin.fit(X, TARGETS[name]))
    assert len(found) == 10 and found[:8] == [before] * 8 and found[-1] == bits(model) != before


@pytest.mark.parametrize("answer", [True, np.True_, 1])
@pytest.mark.parametrize("epoch", [1, 2, 5])
@each_solver
@both_estimators
def test_true_stops(name, solver, epoch, answer):
    """After this epoch; no warning tells of it, at the last one neither."""
    parameters = {"solver": solver, "learning_rate_init": 1e-4}
    recorder = stop_at(epoch, answer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = make(name, max_iter=5, **parameters).set_callbacks(recorder).fit(X, TARGETS[name])
    assert recorder.calls == calls_of_a_fit(epoch, "iteration" if solver == "lbfgs" else "epoch")
    twin = make(name, max_iter=epoch, **parameters).fit(X, TARGETS[name])
    assert model.n_iter_ == epoch and bits(model) == bits(twin) and model.loss_ == twin.loss_


def test_only_true_at_the_end_of_an_epoch_stops():
    """Not what other hooks return, and not None, False or 0; one of several callbacks is enough."""
    never = Recorder(lambda hook, task, told: (hook, task) != ("end", "epoch"))
    model = make("MLPRegressor").set_callbacks(never, stop_at(2, 0), stop_at(2, None))
    assert model.fit(X, TARGETS["MLPRegressor"]).n_iter_ == EPOCHS
    model.set_callbacks(never, stop_at(2), Recorder())
    assert model.fit(X, TARGETS["MLPRegressor"]).n_iter_ == 2


@pytest.mark.parametrize("fitted", [False, True], ids=["unfitted", "fitted"])
@pytest.mark.parametrize("error", [Trouble, KeyboardInterrupt])
@pytest.mark.parametrize("hook", ["setup fit", "begin fit", "begin epoch", "end epoch", "end fit"])
@each_solver
@both_estimators
def test_a_hook_that_raises(name, solver, hook, error, fitted):
    """The model is what it was, its callbacks are torn down, and it can be fitted again."""
    task = "iteration" if solver == "lbfgs" else "epoch"

    def act(*call):
        if " ".join(call[:2]) == hook.replace("epoch", task):
            raise error

    recorder, targets = Recorder(act), TARGETS[name]
    model = make(name, solver=solver).set_callbacks(recorder)
    if fitted:
        model = make(name, solver=solver, alpha=1.0).fit(X, targets).set_params(alpha=1e-4).set_callbacks(recorder)
    before, keys = without_callbacks(model), vars(model).keys() - {"_network"}
    if error is KeyboardInterrupt and "epoch" in hook and solver != "lbfgs":  # which ends training, as it always does
        with pytest.warns(UserWarning, match="Training interrupted by user"):
            assert model.fit(X, targets).n_iter_ == (hook == "end epoch")
    else:
        with pytest.raises(error):
            model.fit(X, targets)
        assert without_callbacks(model) == before and vars(model).keys() - {"_network"} == keys
    assert recorder.calls.count(("teardown", "fit")) == 1 and recorder.calls[-1] == ("teardown", "fit")
    again = model.set_callbacks().fit(X, targets)
    assert bits(again) == bits(make(name, solver=solver).fit(X, targets))


def test_a_teardown_that_raises():
    """By then the fit is done."""

    def act(hook, task, told):
        if hook == "teardown":
            raise Trouble

    model = make("MLPRegressor").set_callbacks(Recorder(act))
    with pytest.raises(Trouble):
        model.fit(X, TARGETS["MLPRegressor"])
    assert without_callbacks(model) == state(make("MLPRegressor").fit(X, TARGETS["MLPRegressor"]))


@pytest.mark.parametrize("bad", ["y", "parameters", "divergence"])
def test_a_fit_that_fails(bad):
    """Whatever it is, callbacks that have been set up are torn down, once."""
    recorder = Recorder()
    model = make("MLPRegressor", solver="sgd", **({"alpha": -1} if bad == "parameters" else {}))
    if bad == "divergence":
        model.set_params(learning_rate_init=1e300)
    with pytest.raises(ValueError), np.errstate(all="ignore"):
        model.set_callbacks(recorder).fit(X, np.full(len(X), np.nan) if bad == "y" else TARGETS["MLPRegressor"])
    assert recorder.calls.count(("teardown", "fit")) == recorder.calls.count(("setup", "fit")) == (bad != "parameters")
    assert vars(model).keys() <= vars(make("MLPRegressor")).keys() | {"_skl_callbacks", "_network"}


# ---- when they are not asked ----


@both_estimators
def test_partial_fit_calls_none(name):
    """Nor does it with an estimator that a callback was given."""
    recorder = Recorder()
    model, twin = make(name).set_callbacks(recorder), make(name)
    first = {"classes": [0, 1, 2]} if name == "MLPClassifier" else {}
    for _ in range(2):
        assert bits(model.partial_fit(X, TARGETS[name], **first)) == bits(twin.partial_fit(X, TARGETS[name], **first))
    assert recorder.calls == []
    model.fit(X, TARGETS[name])
    expected = list(recorder.calls)
    for fitted in [model, *recorder.fitted()]:
        fitted.partial_fit(X, TARGETS[name])
    assert recorder.calls == expected == calls_of_a_fit()


@each_solver
@both_estimators
def test_nothing_is_made_where_nobody_asks(name, solver, monkeypatch):
    """Neither alone, nor in a pipeline in a search, nor when callbacks were taken away."""
    monkeypatch.setattr(_callbacks, "Tasks", None)  # to make one is a TypeError
    model = make(name, solver=solver)
    model.fit(X, TARGETS[name])
    GridSearchCV(make_pipeline(StandardScaler(), model), {}, cv=2).fit(X, TARGETS[name])
    model.set_callbacks(Recorder()).set_callbacks().fit(X, TARGETS[name])
    with pytest.raises(TypeError):
        model.set_callbacks(Recorder()).fit(X, TARGETS[name])


def test_no_estimator_is_made_that_nobody_wants(monkeypatch):
    """Copies cost as much as small epochs."""

    class Counter:
        epochs = 0

        def setup(self, estimator, context):
            pass

        teardown = on_fit_task_begin = setup

        def on_fit_task_end(self, estimator, context, *, X=None):
            self.epochs += 1

    monkeypatch.setattr(_callbacks.Tasks, "_copies", None)
    for solver in SOLVERS:
        counter = Counter()
        make("MLPRegressor", solver=solver).set_callbacks(counter).fit(X, TARGETS["MLPRegressor"])
        assert counter.epochs == EPOCHS + 1


# ---- copies ----


@pytest.mark.parametrize("fitted", [False, True])
@both_estimators
def test_copies_and_conversions(name, fitted):
    """Clones have the same callbacks, copies theirs; scikit-learn's estimators have none."""
    recorder = Recorder()
    model = make(name).set_callbacks(recorder)
    if fitted:
        model.fit(X, TARGETS[name])
        recorder.told.clear()
    assert clone(model)._skl_callbacks == [recorder] == copy.copy(model)._skl_callbacks
    for one in copy.deepcopy(model), pickle.loads(pickle.dumps(model)):
        (theirs,) = one._skl_callbacks
        assert theirs is not recorder and theirs.calls == recorder.calls
        theirs.calls.clear()
        assert without_callbacks(one.fit(X, TARGETS[name])) == state(make(name).fit(X, TARGETS[name]))
        assert theirs.calls == calls_of_a_fit()
    theirs = model.to_sklearn()
    assert not hasattr(theirs, "_skl_callbacks")
    theirs.fit(X, TARGETS[name])
    assert recorder.calls == (calls_of_a_fit() if fitted else [])


@pytest.mark.parametrize("what", ["fitted", "estimator"])
def test_copies_in_the_middle_of_a_fit(what):
    """A callback may store what it is given, or convert it: it has no part in the fit under way."""
    found = []

    def act(hook, task, told):
        if (hook, task) == ("end", "epoch"):
            found.append(told[what].to_sklearn())
            found.append(pickle.loads(pickle.dumps(copy.copy(told[what]).set_callbacks())))

    model = make("MLPRegressor").fit(X, TARGETS["MLPRegressor"]).set_callbacks(Recorder(act))
    expected = vars(model).keys() - {"_network", "_skl_callbacks"}
    model.fit(X, TARGETS["MLPRegressor"])
    assert len(found) == 2 * EPOCHS
    for one in found:
        if isinstance(one, fastmlp.MLPRegressor):
            assert vars(one).keys() == expected
        assert not any("callback" in key for key in vars(one))
        assert isinstance(one, (fastmlp.MLPRegressor, sklearn.neural_network.MLPRegressor))
        one.partial_fit(X, TARGETS["MLPRegressor"])


# ---- scikit-learn's own ----


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weights"])
@both_estimators
def test_scoring_monitor(name, weights):
    """The score of each epoch, and of the fit, is that of a fit that stops there."""
    from sklearn.callback import ScoringMonitor

    rows, targets = X.tolist(), TARGETS[name].tolist()
    metric = {"MLPClassifier": "accuracy", "MLPRegressor": "r2"}[name]
    monitor = ScoringMonitor(scoring=metric)
    model = make(name, learning_rate_init=0.1).set_callbacks(monitor).fit(rows, targets, weights)
    fits = [make(name, learning_rate_init=0.1, max_iter=k).fit(rows, targets, weights) for k in range(1, EPOCHS + 1)]
    expected = [one.score(rows, targets, weights) for one in fits]
    fit, *epochs = monitor.get_logs().data
    assert [row[metric] for row in epochs] == expected and len({*expected}) > 1
    assert fit[metric] == expected[-1] == model.score(rows, targets, weights)


def test_scoring_monitor_of_several_metrics_in_a_pipeline():
    """It is given the rows as they have been transformed."""
    from sklearn.callback import ScoringMonitor

    y = TARGETS["MLPClassifier"]
    monitor = ScoringMonitor(scoring=["neg_log_loss", "accuracy"])
    model = make("MLPClassifier").set_callbacks(monitor)
    pipeline = make_pipeline(StandardScaler(), model).fit(10 * X, y)
    losses = [row["neg_log_loss"] for row in monitor.get_logs().data]
    log_proba = pipeline.predict_log_proba(10 * X)[np.arange(len(y)), y]
    assert len(losses) == EPOCHS + 1 and losses[-1] == pytest.approx(log_proba.mean(), rel=1e-12)


def search_in_processes():
    """All fits of a search tell of their epochs, in other processes too, and so does the last one."""
    from sklearn.callback import ScoringMonitor

    warnings.simplefilter("ignore")
    found, y = [], TARGETS["MLPRegressor"]
    for n_jobs in 1, 2:
        monitor = ScoringMonitor(scoring="r2")
        model = make("MLPRegressor", learning_rate_init=0.1).set_callbacks(monitor)
        search = GridSearchCV(model, {"alpha": [1e-4, 1.0]}, cv=3, n_jobs=n_jobs).fit(X, y)
        rows = monitor.get_logs().data
        assert sum(row["task_name"] == "epoch" for row in rows) == (2 * 3 + 1) * EPOCHS
        assert search.best_estimator_._skl_callbacks == [monitor]
        found.append([(row["task_id_path"], row["r2"]) for row in rows])
    assert found[0] == found[1]


def test_scoring_monitor_in_a_search():
    run_code("import test_callbacks; test_callbacks.search_in_processes()")


@pytest.mark.parametrize("depth", [None, 0])
def test_callbacks_of_a_search_reach_its_fits(depth):
    """One that is propagated, through a pipeline too: set up once, told of the epochs of all fits and of the last."""
    recorder = Propagated()
    recorder.max_propagation_depth = depth
    pipeline = make_pipeline(StandardScaler(), make("MLPRegressor"))
    search = GridSearchCV(pipeline, {"mlpregressor__alpha": [1e-4, 1.0]}, cv=3).set_callbacks(recorder)
    search.fit(X, TARGETS["MLPRegressor"])
    assert recorder.calls.count(("end", "epoch")) == (0 if depth == 0 else (2 * 3 + 1) * EPOCHS)
    assert [hook for hook, _ in recorder.calls].count("setup") == 1
    assert recorder.calls[-1] == ("teardown", "fit")
    fitted = search.best_estimator_[-1]
    assert not any("callback" in key for key in vars(fitted))
    expected = GridSearchCV(pipeline, {"mlpregressor__alpha": [1e-4, 1.0]}, cv=3).fit(X, TARGETS["MLPRegressor"])
    assert bits(search.best_estimator_) == bits(expected.best_estimator_)


def show_progress():
    from sklearn.callback import ProgressBar

    warnings.simplefilter("ignore")
    make("MLPRegressor", **IN_ORDER).set_callbacks(ProgressBar()).fit(X, TARGETS["MLPRegressor"])
    print("and a search")
    model = make("MLPClassifier")
    search = GridSearchCV(model, {"alpha": [0.1, 1.0]}, cv=2, n_jobs=2).set_callbacks(ProgressBar(None))
    search.fit(X, TARGETS["MLPClassifier"])


def test_progress_bars():
    """Of a fit, and of each fit of a search in other processes."""
    pytest.importorskip("rich")
    alone, searched = run_code("import test_callbacks; test_callbacks.show_progress()").split("and a search")
    assert "MLPRegressor" in alone and "100%" in alone
    assert "GridSearchCV" in searched and searched.count("MLPClassifier") >= 5
