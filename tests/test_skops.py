"""skops saves and loads the estimators, given the list of types to trust that is published."""

import zipfile
from io import BytesIO

import numpy as np
import pytest
from models import CATEGORICAL, REALMLP, TABLE, TARGETS, X, bits, both_estimators, make, state
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastmlp

io = pytest.importorskip("skops.io")
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

OPTIMIZERS = {"adam": {"fastmlp.optimizers.Adam"}, "sgd": {"fastmlp.optimizers.SGD"}, "lbfgs": set()}
solvers = pytest.mark.parametrize("solver", OPTIMIZERS)


# what a fitted RealMLP has
TRANSFORMERS = {"fastmlp.preprocessing.TableEncoder", "fastmlp.preprocessing.RobustScaleSmoothClip"}


def own_type(name):
    return f"fastmlp.estimators.{name}"


def again(model):
    """The model, saved and loaded."""
    return io.loads(io.dumps(model), trusted=fastmlp.SKOPS_TRUSTED)


def untrusted(model):
    return set(io.get_untrusted_types(data=io.dumps(model)))


@solvers
@both_estimators
def test_what_is_to_be_trusted(name, solver):
    """The class, and once it is fitted its optimizer; nothing more in a pipeline."""
    for wrapped in (lambda model: model), (lambda model: make_pipeline(StandardScaler(), model)):
        model = wrapped(make(name, solver=solver))
        assert untrusted(model) == {own_type(name)}
        assert untrusted(model.fit(X, TARGETS[name])) == {own_type(name)} | OPTIMIZERS[solver]


def test_the_list_holds_just_these():
    """Every entry is needed by some model, or was by those that 0.1.0 has saved, and none stands there twice."""
    needed = {own_type(name) for name in TARGETS}.union(*OPTIMIZERS.values())
    needed |= {"fastmlp.training.Adam", "fastmlp.training.SGD"}
    needed |= {f"fastmlp.realmlp.{name}" for name in REALMLP} | TRANSFORMERS
    needed |= {"fastmlp._own_table.numbers_of_dates"}  # see test_own_table.py
    assert set(fastmlp.SKOPS_TRUSTED) == needed and len(fastmlp.SKOPS_TRUSTED) == len(needed)


@both_estimators
def test_without_the_list_it_is_refused(name):
    """skops names what it does not know."""
    with pytest.raises(io.exceptions.UntrustedTypesFoundException, match=own_type(name)):
        io.loads(io.dumps(make(name)))


@solvers
@both_estimators
def test_unfitted(name, solver):
    """The same parameters, from which the same model is fitted."""
    model = make(name, solver=solver, alpha=0.5, hidden_layer_sizes=[4, 3], n_iter_no_change=np.inf)
    twin = again(model)
    assert type(twin) is type(model) and twin.get_params() == model.get_params() and vars(twin) == vars(model)
    assert bits(twin.fit(X, TARGETS[name])) == bits(model.fit(X, TARGETS[name]))


# name: parameters
SETTINGS = {
    "adam": {},
    "adam, decayed": {"weight_decay": 0.1},
    "plain sgd": {"solver": "sgd", "momentum": 0.0},
    "nesterov": {"solver": "sgd"},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.1},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 1.0, "n_iter_no_change": 1, "max_iter": 9},
    "lbfgs": {"solver": "lbfgs", "warm_start": True},
    "early stopping": {"early_stopping": True, "warm_start": True, "solver": "sgd"},
    "random state": {"random_state": np.random.RandomState(3)},
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("setting", SETTINGS)
@both_estimators
def test_predicts_and_goes_on(name, setting, dtype):
    """The same attributes and predictions, and the same bits after further steps, with rows in an order drawn anew."""
    rows, y = X.astype(dtype), TARGETS[name]
    model = make(name, batch_size=10, **SETTINGS[setting]).fit(rows, y)
    twin = again(model)
    assert vars(twin).keys() | {"_network"} == vars(model).keys()
    assert bits(twin, rows) == bits(model, rows)
    before = bits(model, rows)
    for _ in range(2):
        for one in model, twin:
            (one.fit if one.warm_start else one.partial_fit)(rows, y)
        assert bits(twin, rows) == bits(model, rows)
    assert bits(model, rows) != before


@both_estimators
def test_pipeline(name):
    """With what stands before it."""
    model = make_pipeline(StandardScaler(), make(name)).fit(X, TARGETS[name])
    assert again(model).predict(X).tobytes() == model.predict(X).tobytes()


@solvers
@both_estimators
def test_files_of_0_1_0(name, solver):
    """There the optimizers lived in fastmlp.training."""
    model = make(name, solver=solver).fit(X, TARGETS[name])
    saved = BytesIO()
    with zipfile.ZipFile(BytesIO(io.dumps(model))) as new, zipfile.ZipFile(saved, "w") as old:
        for entry in new.namelist():
            old.writestr(entry, new.read(entry).replace(b"fastmlp.optimizers", b"fastmlp.training"))
    loaded = io.loads(saved.getvalue(), trusted=fastmlp.SKOPS_TRUSTED)
    assert bits(loaded) == bits(model)


# ---- RealMLP ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("variant", ["td", "td-s"])
@pytest.mark.parametrize("name", REALMLP)
def test_realmlp(name, variant, dtype):
    """All that it has learnt; nothing is to be trusted but the classes that are published."""
    model = make(name, variant=variant, dtype=dtype, n_estimators=2, categorical_features=CATEGORICAL)
    assert untrusted(model) == {f"fastmlp.realmlp.{name}"}
    twin = again(model)
    assert twin.get_params() == model.get_params()
    model.fit(TABLE, REALMLP[name])
    assert untrusted(model) == {f"fastmlp.realmlp.{name}"} | TRANSFORMERS
    assert bits(twin.fit(TABLE, REALMLP[name]), TABLE) == bits(model, TABLE)
    twin = again(model)
    assert vars(twin).keys() == vars(model).keys() and state(twin) == state(model)
    assert bits(twin, TABLE) == bits(model, TABLE)


@pytest.mark.parametrize("name", REALMLP)
def test_realmlp_in_a_search(name):
    """Nothing of ours is to be trusted beside; what scikit-learn's own types are to skops is not our business."""
    search = GridSearchCV(make(name, categorical_features=CATEGORICAL), {"variant": ["td", "td-s"]}, cv=2)
    search.fit(TABLE, REALMLP[name])
    theirs = [one for one in io.get_untrusted_types(data=io.dumps(search)) if not one.startswith("fastmlp")]
    twin = io.loads(io.dumps(search), trusted=fastmlp.SKOPS_TRUSTED + theirs)
    assert bits(twin, TABLE) == bits(search, TABLE)
