"""Class weights are the sample weights that scikit-learn says they stand for, bit for bit."""

import pickle

import numpy as np
import pytest
import scipy.sparse
from models import LABELS, NUMBER, N, X, bits, make, outputs, state
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.utils import compute_sample_weight

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RARE = (NUMBER % 5 == 0).astype(int)
THREE = np.where(NUMBER % 4 == 0, 2, RARE)
MANY = np.column_stack([RARE, NUMBER % 2, NUMBER % 3 == 0]).astype(int)
# labels, and their weights: one that is not named has the weight 1
LABELLED = {
    "two": (RARE, {0: 0.3, 1: 3.0}),
    "two words": (np.array(["no", "yes"])[RARE], {"yes": 2.5}),
    "three": (THREE, {0: 0.7, 2: 0.0}),
    "three words": (np.array(["ant", "bee", "cow"])[THREE], {"ant": 0.1, "bee": 3, "cow": 1.7}),
    "many labels": (MANY, [{0: 0.3, 1: 3}, {1: 0.7}, {0: 1.9, 1: 1.3}]),
    "many labels, sparse": (scipy.sparse.csr_array(MANY), [{1: 3}, {0: 0.1}, {}]),
    "one": (RARE * 0, {0: 0.3}),
}
SOLVERS = {"adam": {}, "sgd": {"solver": "sgd", "learning_rate_init": 0.1}, "lbfgs": {"solver": "lbfgs"}}
FORMS = {"float64": X, "float32": X.astype(np.float32), "sparse": scipy.sparse.csr_array(X * (X > 0))}
GIVEN = np.random.RandomState(3).uniform(0.5, 2, N)  # sample weights

labelled = pytest.mark.parametrize("case", LABELLED)
solvers = pytest.mark.parametrize("solver", SOLVERS)


def classifier(solver, **parameters):
    return make("MLPClassifier", **({"batch_size": 7} | SOLVERS[solver] | parameters))


def by_hand(weights, y):
    """The weights of rows, label by label, whichever of them are there."""
    y = y.toarray() if scipy.sparse.issparse(y) else y
    if y.ndim == 1:
        return np.array([float(weights.get(label, 1)) for label in y.tolist()])
    return np.prod([by_hand(w, column) for w, column in zip(weights, y.T, strict=True)], axis=0)


def assert_same_training(weighted, twin):
    """All that they have is the same but for class_weight."""
    assert state(weighted.set_params(class_weight=None)) == state(twin)


@pytest.mark.parametrize("given", [None, GIVEN], ids=["", "sample_weight"])
@pytest.mark.parametrize("form", FORMS)
@solvers
@labelled
def test_fit(case, solver, form, given):
    """In a fit, and in a warm start."""
    rows, (y, weights) = FORMS[form], LABELLED[case]
    for class_weight in weights, "balanced":
        stands_for = compute_sample_weight(class_weight, y)
        model = classifier(solver, class_weight=class_weight, warm_start=True)
        twin = classifier(solver, warm_start=True)
        for _ in range(2):
            model.fit(rows, y, given)
            twin.fit(rows, y, stands_for if given is None else given * stands_for)
            assert_same_training(model, twin)
            model.set_params(class_weight=class_weight)
    np.testing.assert_array_equal(compute_sample_weight(weights, y), by_hand(weights, y))


@solvers
@labelled
def test_they_count(case, solver):
    """Each kind gives another model; no weights, and weights of 1, do not."""
    y, weights = LABELLED[case]
    plain, by_dict, balanced = (
        classifier(solver, class_weight=class_weight).fit(X, y) for class_weight in (None, weights, "balanced")
    )
    if case == "one":  # the same weight for all rows
        assert np.array_equal(plain.predict(X), by_dict.predict(X)) and bits(balanced) == bits(plain)
        return
    assert len({outputs(model).tobytes() for model in (plain, by_dict, balanced)}) == 3
    if y.ndim == 1:
        ones = classifier(solver, class_weight={}).fit(X, y)
        assert bits(ones) == bits(classifier(solver).fit(X, y, np.ones(N)))


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@labelled
def test_with_validation_rows(case, solver):
    """They count in those that are set aside, as all weights do, and not in X_val, which has weights of its own."""
    y, weights = LABELLED[case]
    for class_weight in weights, "balanced":
        stands_for = compute_sample_weight(class_weight, y)
        for arguments in {}, {"X_val": X[:9], "y_val": y[:9]}:
            parameters = {"early_stopping": True, "validation_fraction": 0.3, "max_iter": 9, "n_iter_no_change": 2}
            model = classifier(solver, class_weight=class_weight, **parameters).fit(X, y, **arguments)
            twin = classifier(solver, **parameters).fit(X, y, stands_for, **arguments)
            assert_same_training(model, twin)


# of rows; most lack some class, or some label's zeros or ones
BATCHES = [np.flatnonzero(THREE == 0)[:5], np.arange(3), np.flatnonzero(RARE == 1), NUMBER, NUMBER[5:6]]


@pytest.mark.parametrize("given", [None, GIVEN], ids=["", "sample_weight"])
@pytest.mark.parametrize("solver", ["adam", "sgd"])
@labelled
def test_partial_fit(case, solver, given):
    """A dict says the weight of a class whatever else a batch has."""
    y, weights = LABELLED[case]
    model, twin = (classifier(solver, batch_size="auto", class_weight=w) for w in (weights, None))
    classes = np.unique(y) if y.ndim == 1 else np.arange(3)
    for rows in BATCHES:
        stands_for = by_hand(weights, y[rows])
        if given is not None:
            stands_for = stands_for * given[rows]
        model.partial_fit(X[rows], y[rows], None if given is None else given[rows], classes)
        twin.partial_fit(X[rows], y[rows], stands_for, classes)
        assert_same_training(pickle.loads(pickle.dumps(model)), twin)
    assert len(model.loss_curve_) == len(BATCHES)


@pytest.mark.parametrize("class_weight", ["balanced", [{0: 1, 1: 2}, "balanced", "balanced"]], ids=str)
def test_partial_fit_does_not_know_what_is_balanced(class_weight):
    """A batch is not all there is: refused as SGDClassifier does, before and after a first fit."""
    model = make("MLPClassifier", class_weight=class_weight)
    with pytest.raises(ValueError, match="class_weight 'balanced' is not supported for partial_fit"):
        model.partial_fit(X, MANY, classes=[0, 1, 2])
    assert vars(model).keys() == vars(make("MLPClassifier")).keys()
    model.fit(X, MANY)
    before = state(model)
    with pytest.raises(ValueError, match="class_weight 'balanced' is not supported for partial_fit"):
        model.partial_fit(X, MANY)
    assert state(model) == before


def test_a_label_that_no_row_has():
    """A dict that says what the rows would weigh that have it is no mistake."""
    never = MANY * [1, 0, 1]
    model = make("MLPClassifier", class_weight=[{1: 2}, {1: 5}, {}]).fit(X, never)
    assert_same_training(model, make("MLPClassifier").fit(X, never, 1.0 + never[:, 0]))


# class weights that may not suit the labels 0, 1, 2
ODD = {
    "a class that is not there": {0: 1, 1: 2, 2: 1, 7: 3},
    "a class that is not there and one that is missing": {0: 1, 1: 2, 7: 3},
    "words for numbers": {"ant": 2},
    "only some classes": {1: 2},
    "none": {},
    "a word as a weight": {0: "heavy"},
    "a list": [{0: 1, 1: 2}],
}


def outcome(train):
    try:
        train()
    except Exception as error:
        return type(error), str(error)
    return None


@pytest.mark.parametrize("case", sorted(ODD.keys() - {"a list"}))
def test_odd_weights_are_taken_as_logistic_regression_takes_them(case):
    """Or refused in the same words; what was learnt before stays."""
    expected = outcome(lambda: LogisticRegression(class_weight=ODD[case]).fit(X, LABELS))
    assert (expected is None) == (case in ("a class that is not there", "only some classes", "none"))
    model = make("MLPClassifier", class_weight=ODD[case])
    assert outcome(lambda: model.fit(X, LABELS)) == expected
    fitted = make("MLPClassifier", warm_start=True).fit(X, LABELS).set_params(class_weight=ODD[case])
    before = state(fitted)
    for train in fitted.fit, fitted.partial_fit:
        assert outcome(lambda train=train: train(X, LABELS)) == expected
        assert (state(fitted) == before) == (expected is not None)


def test_weights_of_another_form():
    """A list is for many labels, a dict is not."""
    for y, class_weight, words in [
        (LABELS, ODD["a list"], "are not in class_weight"),
        (MANY, {0: 1, 1: 2}, "class_weight should be a list of dicts, or the string 'balanced'"),
        (MANY, [{1: 2}], "number of elements in class_weight should match number of outputs"),
        (LABELS, "heavy", "The 'class_weight' parameter of MLPClassifier must be"),
        (LABELS, 2.0, "The 'class_weight' parameter of MLPClassifier must be"),
        (LABELS, {0: 0, 1: 0, 2: 0}, "sum to zero"),
    ]:
        model = make("MLPClassifier", class_weight=class_weight)
        with pytest.raises((ValueError, ZeroDivisionError), match=words):
            model.fit(X, y)
        assert vars(model).keys() == vars(make("MLPClassifier")).keys()


def test_grid_search():
    """Each is tried; the best model is the one that a fit with it gives."""
    grid = {"class_weight": [None, "balanced", {0: 1, 1: 50}, {0: 50, 1: 1}]}
    model = make("MLPClassifier", max_iter=30, learning_rate_init=0.1)
    search = GridSearchCV(model, grid, scoring="recall", cv=3).fit(X, RARE)
    scores = dict(zip(map(str, grid["class_weight"]), search.cv_results_["mean_test_score"], strict=True))
    assert scores[str({0: 1, 1: 50})] > 0.8 and scores[str({0: 50, 1: 1})] == 0
    best = clone(model).set_params(**search.best_params_).fit(X, RARE)
    assert state(search.best_estimator_) == state(best)
    assert clone(best).class_weight == best.class_weight


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_no_numbers(bad):
    """Before anything is trained."""
    model = make("MLPClassifier", class_weight={0: bad, 1: 1.0, 2: 1.0})
    with pytest.raises(ValueError, match="class_weight must hold finite numbers"):
        model.fit(X, LABELS)
    assert not hasattr(model, "coefs_")
