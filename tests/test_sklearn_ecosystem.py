"""scikit-learn's tools do with the estimators what they do with its own: the same numbers, names and types."""

import numpy as np
import pytest
import scipy.sparse
import sklearn.neural_network
from models import INDICATOR, LABELS, TARGETS, WORDS, X, both_estimators, frame, make, outputs
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer
from sklearn.model_selection import (
    GridSearchCV,
    RandomizedSearchCV,
    cross_val_predict,
    cross_validate,
    learning_curve,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_html_repr

import fastmlp
from fastmlp._callbacks import CallbackSupportMixin
from fastmlp.conversion import OWN_PARAMETERS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

LIBRARIES = fastmlp, sklearn.neural_network
WEIGHTS = np.random.RandomState(1).uniform(0.5, 2, len(X))


def assert_same(case, *, atol=1e-8):
    """What the case gives with our estimators it gives with scikit-learn's."""
    ours, theirs = (case(lambda name, library=library, **p: make(name, library, **p)) for library in LIBRARIES)
    assert (np.shape(ours), np.asarray(ours).dtype) == (np.shape(theirs), np.asarray(theirs).dtype)
    if np.asarray(theirs).dtype.kind == "f":
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)
    else:
        np.testing.assert_array_equal(ours, theirs)


def grid_search(E):
    search = GridSearchCV(E("MLPClassifier"), {"alpha": [1e-4, 10.0], "solver": ["adam", "lbfgs"]}, cv=3)
    return search.fit(X, LABELS).cv_results_["mean_test_score"]


def random_search(E):
    grid = {"hidden_layer_sizes": [(3,), (4, 2), 5], "activation": ["tanh", "relu"]}
    search = RandomizedSearchCV(E("MLPRegressor"), grid, n_iter=3, cv=2, random_state=0)
    return search.fit(X, TARGETS["MLPRegressor"]).predict(X)


def scores(E):
    scoring = ["neg_log_loss", "roc_auc_ovr", "f1_macro"]
    result = cross_validate(E("MLPClassifier"), X, LABELS, scoring=scoring, cv=3)
    return [result[f"test_{name}"] for name in scoring]


def importance(E):
    model = E("MLPRegressor", max_iter=20).fit(X, TARGETS["MLPRegressor"])
    return permutation_importance(model, X, TARGETS["MLPRegressor"], n_repeats=3, random_state=0).importances


# name: what is done with an estimator, given what makes one
TOOLS = {
    "GridSearchCV": grid_search,
    "RandomizedSearchCV": random_search,
    "cross_validate": scores,
    "cross_val_predict": lambda E: cross_val_predict(E("MLPClassifier"), X, LABELS, method="predict_proba", cv=3),
    "learning_curve": lambda E: learning_curve(E("MLPClassifier"), X, LABELS, cv=3, train_sizes=[0.5, 1.0])[1],
    "learning_curve, incremental": lambda E: learning_curve(
        E("MLPClassifier"), X, LABELS, cv=3, train_sizes=[0.5, 1.0], exploit_incremental_learning=True
    )[2],
    "Pipeline": lambda E: make_pipeline(StandardScaler(), E("MLPClassifier")).fit(X, WORDS).predict_log_proba(X),
    "Pipeline, weights": lambda E: (
        make_pipeline(StandardScaler(), E("MLPRegressor"))
        .fit(X, TARGETS["MLPRegressor"], mlpregressor__sample_weight=WEIGHTS)
        .predict(X)
    ),
    "CalibratedClassifierCV": lambda E: (
        CalibratedClassifierCV(E("MLPClassifier"), cv=3).fit(X, LABELS).predict_proba(X)
    ),
    "BaggingClassifier": lambda E: (
        BaggingClassifier(E("MLPClassifier"), n_estimators=3, random_state=0).fit(X, LABELS).predict_proba(X)
    ),
    "VotingClassifier": lambda E: (
        VotingClassifier([("a", E("MLPClassifier")), ("b", LogisticRegression())], voting="soft")
        .fit(X, LABELS)
        .predict_proba(X)
    ),
    "StackingClassifier": lambda E: (
        StackingClassifier([("a", E("MLPClassifier"))], cv=3).fit(X, LABELS).predict_proba(X)
    ),
    "OneVsRestClassifier": lambda E: OneVsRestClassifier(E("MLPClassifier")).fit(X, LABELS).predict_proba(X),
    "MultiOutputClassifier": lambda E: (
        MultiOutputClassifier(E("MLPClassifier")).fit(X, np.column_stack([LABELS, LABELS[::-1]])).predict(X)
    ),
    "ClassifierChain": lambda E: ClassifierChain(E("MLPClassifier")).fit(X, INDICATOR).predict_proba(X),
    "TransformedTargetRegressor": lambda E: (
        TransformedTargetRegressor(E("MLPRegressor"), func=np.arcsinh, inverse_func=np.sinh)
        .fit(X, TARGETS["MLPRegressor"])
        .predict(X)
    ),
    "permutation_importance": importance,
    "partial_dependence": lambda E: partial_dependence(
        E("MLPRegressor").fit(X, TARGETS["MLPRegressor"]), X, [0], grid_resolution=5
    )["average"],
    "get_scorer": lambda E: get_scorer("roc_auc")(E("MLPClassifier").fit(X, LABELS > 0), X, LABELS > 0),
}


@pytest.mark.parametrize("tool", TOOLS)
def test_tools(tool):
    """The same result as with scikit-learn's estimator."""
    assert_same(TOOLS[tool])


# ---- labels in a sparse matrix ----

SPARSE = {"csr": scipy.sparse.csr_array, "csc": scipy.sparse.csc_array, "old csr": scipy.sparse.csr_matrix}


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("format", SPARSE)
def test_sparse_labels(format, solver):
    """Sparse Y trains like a dense one and is predicted sparse, in scikit-learn's type; scores agree."""
    Y = SPARSE[format](INDICATOR)
    ours, theirs = (make("MLPClassifier", library, solver=solver).fit(X, Y) for library in LIBRARIES)
    dense = make("MLPClassifier", solver=solver).fit(X, INDICATOR)
    found, expected = ours.predict(X), theirs.predict(X)
    assert (type(found), found.dtype, found.shape) == (type(expected), expected.dtype, expected.shape)
    assert found.toarray().tolist() == expected.toarray().tolist() == dense.predict(X).tolist()
    assert np.array_equal(ours.predict_proba(X), dense.predict_proba(X))
    assert ours.score(X, Y) == theirs.score(X, Y) and ours.classes_.tolist() == theirs.classes_.tolist()


def test_sparse_labels_piece_by_piece():
    """partial_fit takes them, the classes named at first, and early stopping splits them."""
    Y = scipy.sparse.csr_array(INDICATOR)
    ours, theirs = (make("MLPClassifier", library) for library in LIBRARIES)
    for model in ours, theirs:
        model.partial_fit(X, Y, classes=[0, 1, 2]).partial_fit(X[:20], Y[:20])
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=0, atol=1e-8)
    ours, theirs = (make("MLPClassifier", library, early_stopping=True, max_iter=9) for library in LIBRARIES)
    assert ours.fit(X, Y).validation_scores_ == theirs.fit(X, INDICATOR).validation_scores_


# ---- frames ----


def polars_frame(columns):
    return pytest.importorskip("polars").DataFrame(dict(zip(columns, X.T, strict=True)))


FRAMES = {"pandas": frame, "polars": polars_frame}


@pytest.mark.parametrize("library", FRAMES)
@both_estimators
def test_frames(name, library):
    """A frame trains and predicts as its numbers do; its names are kept and asked for again."""
    named, other = FRAMES[library]("abcd"), FRAMES[library]("abdc")
    model = make(name).fit(named, TARGETS[name])
    plain = make(name).fit(X, TARGETS[name])
    assert model.feature_names_in_.tolist() == list("abcd") and model.n_features_in_ == 4
    assert np.array_equal(outputs(model, named), outputs(plain, X))
    with pytest.raises(ValueError, match="Feature names must be in the same order as they were in fit"):
        model.predict(other)
    with pytest.warns(UserWarning, match=f"X does not have valid feature names, but {name} was fitted with"):
        model.predict(X)
    make(name, early_stopping=True, max_iter=2).fit(named, TARGETS[name]).predict(named)  # no warning from within


@pytest.mark.parametrize("library", FRAMES)
def test_targets_from_a_frame(library):
    """A series of words or numbers, a frame of targets: as with scikit-learn's estimator."""
    module = pytest.importorskip(library)
    for y in module.Series(WORDS.tolist()), module.Series(LABELS):
        assert_same(lambda E, y=y: E("MLPClassifier").fit(X, y).predict(X))
    Y = module.DataFrame({"one": X[:, 0], "two": X[:, 1]})
    assert_same(lambda E: E("MLPRegressor").fit(X, Y).predict(X))


@pytest.mark.parametrize("library", FRAMES)
@both_estimators
def test_set_output(name, library):
    """As in scikit-learn a predictor has none; one in a pipeline gets frames with the names of the step before."""
    pytest.importorskip(library)
    for module in LIBRARIES:
        assert not hasattr(make(name, module), "set_output") and not hasattr(make(name, module), "transform")
        pipeline = make_pipeline(StandardScaler(), make(name, module)).set_output(transform=library)
        pipeline.fit(FRAMES[library]("abcd"), TARGETS[name])
        assert pipeline[-1].feature_names_in_.tolist() == list("abcd")
        assert type(pipeline.predict(FRAMES[library]("abcd"))) is np.ndarray
        with sklearn.config_context(transform_output=library):
            assert type(pipeline.predict(FRAMES[library]("abcd"))) is np.ndarray


# ---- metadata ----


def requests(model):
    return {method: dict(getattr(model.get_metadata_routing(), method).requests) for method in ROUTED}


def in_both(model):
    """Those for arguments that scikit-learn's methods have too."""
    own = "X_val", "y_val", "sample_weight_val"
    return {
        method: {key: value for key, value in asked.items() if key not in own}
        for method, asked in requests(model).items()
    }


ROUTED = ["fit", "partial_fit", "score"]


@both_estimators
def test_metadata_routing(name):
    """fit, partial_fit and score ask for scikit-learn's arguments, are told so the same way and get what they ask."""
    with sklearn.config_context(enable_metadata_routing=True):
        ours, theirs = (make(name, library) for library in LIBRARIES)
        assert in_both(ours) == requests(theirs) and "sample_weight" in requests(ours)["partial_fit"]
        for model in ours, theirs:
            model.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
            if name == "MLPClassifier":
                model.set_partial_fit_request(sample_weight="weight", classes=True)
        assert in_both(ours) == requests(theirs) and requests(ours) == requests(clone(ours))
        results = [
            cross_validate(model, X, TARGETS[name], cv=3, params={"sample_weight": WEIGHTS})["test_score"]
            for model in (ours, theirs)
        ]
        np.testing.assert_allclose(*results, atol=1e-8)
        with pytest.raises(UnsetMetadataPassedError):
            cross_validate(make(name), X, TARGETS[name], cv=3, params={"sample_weight": WEIGHTS})


# ---- what is known of an estimator ----


@both_estimators
def test_clone_keeps_parameters_only(name):
    """Nothing that was learnt goes along."""
    for parameters in {"solver": "lbfgs"}, {"hidden_layer_sizes": [3, 4]}, {"early_stopping": True}:
        model = make(name, **parameters)
        twin = clone(model.fit(X, TARGETS[name]))
        assert type(twin) is type(model) and repr(twin.get_params()) == repr(model.get_params())
        assert vars(twin).keys() == vars(make(name)).keys()


@both_estimators
def test_shown_in_a_notebook(name):
    """The diagram in HTML, fitted or not."""
    for model in make(name), make(name).fit(X, TARGETS[name]):
        assert name in estimator_html_repr(model)


@both_estimators
def test_is_of_its_kind(name):
    """The tools that ask what it is hear what scikit-learn's says."""
    ours, theirs = (make(name, library) for library in LIBRARIES)
    assert sklearn.base.is_classifier(ours) == sklearn.base.is_classifier(theirs) == (name == "MLPClassifier")
    assert sklearn.base.is_regressor(ours) == sklearn.base.is_regressor(theirs) == (name == "MLPRegressor")
    public = {method for method in dir(theirs) if not method.startswith("_")}
    ours_alone = {"to_sklearn", "from_sklearn"} | {name for name in OWN_PARAMETERS if hasattr(ours, name)}
    ours_alone |= {"set_callbacks"} if hasattr(CallbackSupportMixin, "set_callbacks") else set()
    assert {method for method in dir(ours) if not method.startswith("_")} == public | ours_alone
