"""README, "Where it differs from scikit-learn": a test for each line, in its order. Both libraries run each."""

import numpy as np
import pytest
import sklearn.neural_network
from test_estimators import HUGE, LABELS, TARGETS, X, make, put

import fastmlp

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore::RuntimeWarning")

y = TARGETS["MLPRegressor"]


def weights(model):
    return [W.copy() for W in model.coefs_ + model.intercepts_]


def same(some, others):
    return len(some) == len(others) and all(map(np.array_equal, some, others))


def after_failure(library, rows):
    """Whether the model is, after a fit that failed, what it was."""
    model = make("MLPClassifier", library).fit(X, LABELS)
    before = weights(model)
    with pytest.raises(ValueError):
        model.fit(rows, LABELS)
    return same(weights(model), before)


def test_a_fit_that_fails():
    assert after_failure(fastmlp, HUGE) and not after_failure(sklearn.neural_network, HUGE)
    assert after_failure(fastmlp, put(X, np.nan))


def after_warm_start(library):
    """Whether a warm start that makes everything worse returns the best weights of the first fit."""
    parameters = {"early_stopping": True, "validation_fraction": 0.3, "warm_start": True, "max_iter": 20}
    model = make("MLPRegressor", library, **parameters).fit(X, y)
    best, score = weights(model), model.best_validation_score_
    model.set_params(learning_rate_init=10.0, max_iter=3).fit(X, y)
    assert model.best_validation_score_ == score
    return same(weights(model), best)


def test_a_warm_start_after_early_stopping():
    assert after_warm_start(fastmlp) and not after_warm_start(sklearn.neural_network)


def test_targets_of_another_shape():
    ours, theirs = (
        make("MLPRegressor", library).fit(X, np.column_stack([y, y])) for library in (fastmlp, sklearn.neural_network)
    )
    theirs.partial_fit(X, y)
    with pytest.raises(ValueError, match="Y must have 30 rows of 2 targets"):
        ours.partial_fit(X, y)


def test_float32_rows_with_float64_targets():
    ours, theirs = (
        make("MLPRegressor", library).fit(X.astype(np.float32), y) for library in (fastmlp, sklearn.neural_network)
    )
    assert ours.coefs_[0].dtype == theirs.coefs_[0].dtype == np.float32
    assert (ours._optimizer.ms[0].dtype, theirs._optimizer.ms[0].dtype) == (np.float32, np.float64)


def test_lbfgs_after_other_hidden_layer_sizes():
    ours, theirs = (
        make("MLPClassifier", library, solver="lbfgs", warm_start=True).fit(X, LABELS).set_params(hidden_layer_sizes=9)
        for library in (fastmlp, sklearn.neural_network)
    )
    assert ours.fit(X, LABELS).coefs_[0].shape == (4, 5)
    with pytest.raises(ValueError, match="cannot reshape"):
        theirs.fit(X, LABELS)
