"""to_sklearn and from_sklearn: the numbers stay, and training goes on where it was."""

import pickle

import numpy as np
import pytest
import sklearn.neural_network
from models import (
    INDICATOR,
    TARGETS,
    WORDS,
    X,
    bits,
    both_estimators,
    common_parameters,
    frame,
    frozen,
    make,
    outputs,
    state,
)

import fastmlp
from fastmlp.conversion import OWN_ATTRIBUTES, OWN_PARAMETERS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# name: (parameters, calls of partial_fit before the conversion)
SETTINGS = {
    "adam": ({}, 1),
    "adam, other constants": ({"beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-4, "learning_rate_init": 0.01}, 1),
    "nesterov": ({"solver": "sgd", "learning_rate_init": 0.01}, 1),
    "momentum": ({"solver": "sgd", "nesterovs_momentum": False}, 0),
    "no momentum": ({"solver": "sgd", "momentum": 0.0}, 0),
    "invscaling": ({"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.1}, 2),
    "adaptive": ({"solver": "sgd", "learning_rate": "adaptive", "tol": 1.0, "n_iter_no_change": 1, "max_iter": 9}, 0),
    "lbfgs": ({"solver": "lbfgs", "warm_start": True}, 0),
    "early stopping": ({"early_stopping": True, "warm_start": True}, 0),
}
DIRECTIONS = {"to_sklearn": fastmlp, "from_sklearn": sklearn.neural_network}


def convert(model, direction):
    return (
        model.to_sklearn() if direction == "to_sklearn" else getattr(fastmlp, type(model).__name__).from_sklearn(model)
    )


def trained(name, library, setting, rows=X):
    settings, steps = SETTINGS[setting]
    model = make(name, library, **settings).fit(rows, TARGETS[name])
    for _ in range(steps):
        model.partial_fit(rows, TARGETS[name])
    return model


def learnt(model):
    """Attributes that both libraries' estimators have."""
    return vars(model).keys() - {"_network", "_coef_indptr", "_intercept_indptr", *OWN_PARAMETERS, *OWN_ATTRIBUTES}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("direction", DIRECTIONS)
@both_estimators
def test_converted_model_predicts_and_goes_on(name, direction, setting, dtype):
    """Every attribute is there, the predictions are the same, and so is what becomes of both."""
    rows, tolerance = X.astype(dtype), 1e-9 if dtype == np.float64 else 1e-5
    model = trained(name, DIRECTIONS[direction], setting, rows)
    twin = convert(model, direction)
    assert (type(twin).__module__.split(".")[0] == "sklearn") == (direction == "to_sklearn")
    assert learnt(twin) == learnt(model) and common_parameters(twin) == common_parameters(model)
    np.testing.assert_allclose(outputs(twin, rows), outputs(model, rows), rtol=0, atol=tolerance)
    steps = SETTINGS[setting][0].get("solver") != "lbfgs" and not model.early_stopping
    if model.early_stopping:  # where a warm start goes on from is a difference by design
        return
    for _ in range(3):
        for one in model, twin:
            (one.partial_fit if steps else one.fit)(rows, TARGETS[name])
    np.testing.assert_allclose(outputs(twin, rows), outputs(model, rows), rtol=0, atol=tolerance)
    assert twin.loss_ == pytest.approx(model.loss_, rel=tolerance) and twin.t_ == model.t_
    if steps:
        assert twin._optimizer.learning_rate == pytest.approx(model._optimizer.learning_rate, rel=1e-12)


@pytest.mark.parametrize("setting", SETTINGS)
@both_estimators
def test_there_and_back(name, setting):
    """The same state, bit for bit, in training too."""
    model = trained(name, fastmlp, setting)
    twin = type(model).from_sklearn(model.to_sklearn())
    if hasattr(model, "_optimizer"):  # what scikit-learn's have no place for, and the steps do not depend on
        twin._optimizer.batches = model._optimizer.batches
        vars(twin).update({name: getattr(model, name) for name in OWN_ATTRIBUTES})
    assert state(twin) == state(model) and bits(twin) == bits(model)
    assert state(twin.fit(X, TARGETS[name])) == state(model.fit(X, TARGETS[name]))


@pytest.mark.parametrize("direction", DIRECTIONS)
@both_estimators
def test_nothing_is_shared(name, direction):
    """Whatever is trained or changed in place on one side is not seen on the other."""
    for setting in "adam", "nesterov":
        model = trained(name, DIRECTIONS[direction], setting)
        twin, before = convert(model, direction), frozen(model.__getstate__())
        for _ in range(2):
            twin.partial_fit(X, TARGETS[name])
        twin.coefs_[0][:] = 0
        twin.loss_curve_.clear()
        assert frozen(model.__getstate__()) == before
        twin = convert(model, direction)
        before = frozen(twin.__getstate__())
        model.partial_fit(X, TARGETS[name])
        model.coefs_[0][:] = 0
        assert frozen(twin.__getstate__()) == before


@pytest.mark.parametrize("direction", DIRECTIONS)
@both_estimators
def test_unfitted(name, direction):
    """Parameters alone go over; both fit to the same."""
    model = make(name, DIRECTIONS[direction], alpha=0.5)
    twin = convert(model, direction)
    assert learnt(twin) == learnt(model) and twin.alpha == 0.5
    assert all(getattr(twin, attribute) == getattr(model, attribute) for attribute in learnt(model))
    np.testing.assert_allclose(outputs(twin.fit(X, TARGETS[name])), outputs(model.fit(X, TARGETS[name])), atol=1e-9)


def test_names_labels_and_requests_go_along():
    """Feature names, classes, several labels, and what metadata is asked for."""
    model = make("MLPClassifier").fit(frame("abcd"), WORDS)
    theirs = model.to_sklearn()
    assert theirs.feature_names_in_.tolist() == list("abcd")
    assert theirs.predict(frame("abcd")).tolist() == model.predict(frame("abcd")).tolist()
    labels = make("MLPClassifier").fit(X, INDICATOR)
    assert np.array_equal(labels.to_sklearn().predict(X), labels.predict(X))
    with sklearn.config_context(enable_metadata_routing=True):
        asked = make("MLPRegressor").set_fit_request(sample_weight=True)
        assert asked.to_sklearn().get_metadata_routing().fit.requests == {"sample_weight": True}


def test_random_state_object_goes_on_on_its_own():
    """A RandomState is copied: both draw what one would have drawn."""
    model = make("MLPRegressor", random_state=np.random.RandomState(3)).fit(X, TARGETS["MLPRegressor"])
    twin = model.to_sklearn()
    for one in model, twin:
        one.partial_fit(X, TARGETS["MLPRegressor"]).fit(X, TARGETS["MLPRegressor"])
    np.testing.assert_allclose(twin.coefs_[0], model.coefs_[0], rtol=0, atol=1e-9)


def test_another_kind_is_refused():
    """A regressor does not make a classifier, nor does our own estimator."""
    for wrong in sklearn.neural_network.MLPRegressor(), fastmlp.MLPClassifier(), None:
        with pytest.raises(TypeError, match="MLPClassifier.from_sklearn takes scikit-learn's MLPClassifier, got"):
            fastmlp.MLPClassifier.from_sklearn(wrong)


SCHEDULES = ["cosine", "onecycle", "coslog4", "flat_cos"]
STEPS = {"adam": {}, "nesterov": {"solver": "sgd"}, "momentum": {"solver": "sgd", "nesterovs_momentum": False}}


@pytest.mark.parametrize("solver", STEPS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@both_estimators
def test_schedules_that_scikit_learn_does_not_have(name, schedule, solver):
    """It goes on at the rate of the last batch, with the same velocity; so does what comes back, step by step."""
    parameters = {"learning_rate": schedule, "learning_rate_init": 0.05, "max_iter": 6} | STEPS[solver]
    model = make(name, **parameters)
    first = {"classes": [0, 1, 2]} if name == "MLPClassifier" else {}
    for _ in range(2):
        model.partial_fit(X, TARGETS[name], **first)
    theirs, rate = model.to_sklearn(), model._optimizer.schedule.learning_rate
    back = type(model).from_sklearn(theirs)
    by_hand = make(name, **parameters | {"learning_rate": "constant", "learning_rate_init": rate})
    assert theirs.learning_rate == "constant" and pickle.loads(pickle.dumps(theirs))
    for one in theirs, back:
        one.partial_fit(X, TARGETS[name])
    np.testing.assert_allclose(outputs(theirs), outputs(back), rtol=0, atol=1e-9)
    if solver == "adam":
        assert by_hand.learning_rate_init == theirs._optimizer.learning_rate_init == rate
    else:
        assert theirs._optimizer.learning_rate == rate


def test_functions_stay_here():
    """Neither scoring nor a learning rate of ours goes along: what is saved needs scikit-learn alone."""
    model = make("MLPClassifier", learning_rate=lambda t: 1 - t / 2, scoring=lambda *_: 0.5, early_stopping=True)
    theirs = model.fit(X, TARGETS["MLPClassifier"]).to_sklearn()
    assert b"fastmlp" not in pickle.dumps(theirs)
