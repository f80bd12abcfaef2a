"""LIMITS.md, "Where it differs from scikit-learn": a test for each line, in its order. Both libraries run each."""

import warnings

import numpy as np
import pytest
import sklearn.neural_network
from models import HUGE, IN_ORDER, LABELS, SMALL, TARGETS, X, make, put
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

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


WITHOUT = np.where(np.arange(len(X)) < 10, 0.0, 1.0)  # the first of three batches weighs nothing


def test_a_batch_that_weighs_nothing():
    with pytest.raises(ZeroDivisionError):
        make("MLPRegressor", sklearn.neural_network, **IN_ORDER).fit(X, y, WITHOUT)
    ours = make("MLPRegressor", **IN_ORDER)
    initial = make("MLPRegressor", **IN_ORDER).fit(X[10:], y[10:])
    assert same(weights(ours.fit(X, y, WITHOUT)), weights(initial.fit(X[10:], y[10:])))
    assert ours.loss_curve_ == initial.loss_curve_


def state_after_weights():
    """The random numbers that are left when those of the estimators here have their weights."""
    random_state = np.random.RandomState(SMALL["random_state"])
    fastmlp.MLP([X.shape[1], *np.atleast_1d(SMALL["hidden_layer_sizes"]), 1]).initialize(random_state)
    return random_state


def test_a_validation_set_that_weighs_nothing():
    """Ours refuses it before it trains, scikit-learn when it has trained an epoch."""
    for library in fastmlp, sklearn.neural_network:
        model = make("MLPRegressor", library, early_stopping=True, validation_fraction=0.3)
        rows = np.arange(len(X))
        validation = train_test_split(rows, random_state=state_after_weights(), test_size=0.3)[1]
        with pytest.raises((ZeroDivisionError, ValueError)):
            model.fit(X, y, np.where(np.isin(rows, validation), 0.0, 1.0))
        assert hasattr(model, "coefs_") == (library is sklearn.neural_network)


def test_early_stopping_switched_on_and_off():
    """scikit-learn has no loss, or no scores, to go on with."""
    for name in "MLPClassifier", "MLPRegressor":
        target = LABELS if name == "MLPClassifier" else y
        for first in True, False:
            for library in fastmlp, sklearn.neural_network:
                model = make(name, library, warm_start=True, early_stopping=first, validation_fraction=0.3)
                model.fit(X, target).set_params(early_stopping=not first)
                if library is fastmlp:
                    model.fit(X, target)
                    assert len(model.loss_curve_) > model.n_iter_
                    assert (model.best_loss_ is None) == (not first)
                    model.set_params(early_stopping=first).fit(X, target)  # and back
                    assert (model.best_loss_ is None) == first and model.validation_scores_
                else:
                    with pytest.raises((TypeError, AttributeError)):
                        model.fit(X, target)


@pytest.mark.parametrize("first, then", [("squared_error", "poisson"), ("poisson", "squared_error")])
def test_a_loss_with_another_output(first, then):
    """Nothing is lost: the model goes on with its own loss."""
    for library in fastmlp, sklearn.neural_network:
        model = make("MLPRegressor", library, loss=first, warm_start=True).fit(X, abs(y))
        before = weights(model)
        model.set_params(loss=then)
        if library is fastmlp:
            for go_on in model.fit, model.partial_fit:
                with pytest.raises(ValueError, match=f"loss='{then}' needs another output than the one"):
                    go_on(X, abs(y))
            assert same(weights(model), before)
            model.set_params(loss=first)
        with np.errstate(all="ignore"):  # of a logarithm of what is not positive
            model.fit(X, abs(y))
        assert not same(weights(model), before)


def test_negative_targets_of_poisson():
    negative = np.where(np.arange(len(X)) == 3, -1.0, 1.0)
    with pytest.raises(ValueError, match="out of the valid range of the loss 'poisson'"):
        make("MLPRegressor", loss="poisson").fit(X, negative)
    make("MLPRegressor", sklearn.neural_network, loss="poisson").fit(X, negative)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_a_loss_that_is_not_a_number(solver):
    """Early stopping ends such a training with the weights that it began with: a warning tells."""
    parameters = {"solver": solver, "early_stopping": True, "validation_fraction": 0.3}
    for library in fastmlp, sklearn.neural_network:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = make("MLPRegressor", library, **parameters).fit(HUGE, y)
        assert np.isnan(model.loss_) and all(np.isfinite(W).all() for W in model.coefs_)
        told = [w for w in caught if "the loss is not a number" in str(w.message)]
        assert [w.category for w in told] == [ConvergenceWarning] * (library is fastmlp)
