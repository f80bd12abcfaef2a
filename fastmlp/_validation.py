"""Validation rows: what a model is measured on after each epoch, by loss and by score."""

import contextlib
import copy

import numpy as np
import scipy.sparse
from sklearn.base import is_regressor
from sklearn.metrics import check_scoring
from sklearn.utils.validation import _check_sample_weight, check_array, check_consistent_length, validate_data

# Where X is converted: an error tells of infinity in it, a warning need not.
TOO_LARGE_IS_INFINITE = {"over": "ignore"}
# What a scorer's model does not have of the one that is fitted: names, as the rows have none any more; what may be
# large, and is replaced or not asked for; and those who are told of a fit.
_LEFT_OUT = (
    "feature_names_in_", "coefs_", "intercepts_", "_best_coefs", "_best_intercepts", "_optimizer", "_skl_callbacks",
    "_parent_callback_ctx",
)  # fmt: skip


@contextlib.contextmanager
def errors_name(argument):
    """For errors of scikit-learn's that name X or nothing."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{argument}: {error}") from error


def check_validation(model, call):
    """X_val, y_val as the model encodes targets, and sample_weight_val: checked."""
    with np.errstate(**TOO_LARGE_IS_INFINITE):
        X = check_array(
            call.X_val, accept_sparse=["csr", "csc"], dtype=model._dtypes(), input_name="X_val", estimator=model
        )
    with errors_name("X_val"):
        validate_data(model, call.X_val, reset=False, skip_check_array=True)  # names and number of features
    if scipy.sparse.issparse(X) and not model._network.sparse:
        X = X.toarray()  # no wider than the X that it goes with
    if np.ndim(call.y_val) == 0:
        raise ValueError(f"y_val must hold a target for each row of X_val, got {call.y_val!r}.")
    y, weights = model._encode_validation(call.y_val), call.sample_weight_val
    with errors_name("y_val"):
        check_consistent_length(X, y)
    if is_regressor(model) and model.scoring is None and X.shape[0] < 2:
        raise ValueError("X_val must have 2 rows or more for R2, got 1.")
    if weights is not None:
        with errors_name("sample_weight_val"):
            weights = _check_sample_weight(weights, X)
    return X, y, weights


def r2(y, predictions, weights):
    """scikit-learn's r2_score of matrices, without its checks: they take longer than an epoch of a small network."""
    if not np.isfinite(predictions).all():
        return np.nan
    w = 1.0 if weights is None else weights[:, np.newaxis]
    errors = (w * (y - predictions) ** 2).sum(axis=0)
    spreads = (w * (y - np.average(y, axis=0, weights=weights)) ** 2).sum(axis=0)
    parts = (errors != 0).astype(errors.dtype)  # left where all targets are the same
    np.divide(errors, spreads, out=parts, where=spreads != 0)
    return float((1 - parts).mean())


class Validation:
    """Rows that a model is not trained on.

    Parameters
    ----------
    model : MLPClassifier or MLPRegressor
        Which is being fitted, with the network in it.
    X : ndarray or sparse matrix
    y : ndarray
        Targets as the model encodes them.
    weights : ndarray or None
        Of the rows.
    rows : ndarray of int64, optional
        Numbers of the rows that count. All if absent.
    sample_weight : ndarray, optional
        Of the rows, without class weights: what scorers get.

    Raises
    ------
    ZeroDivisionError
        If they weigh nothing.
    """

    def __init__(self, model, X, y, weights, rows=None, sample_weight=None):
        network = model._network
        self._model, self._network, self._rows = model, network, rows
        self._data = network.data(X, model._network_targets(y), weights)
        self._y, self._weights = (part if part is None or rows is None else part[rows] for part in (y, weights))
        if self._weights is not None and not self._weights.any():
            raise ZeroDivisionError("Weights sum to zero, can't be normalized")
        self._scorer = None
        if model.scoring not in (None, "loss"):
            self._scorer = check_scoring(model, model.scoring)
            self._scored = copy.copy(model)
            self._scored.scoring = None  # it may be any object, and is not to be copied each time
            for name in _LEFT_OUT:
                vars(self._scored).pop(name, None)
            self._rows_to_score = X if rows is None else X[rows]
            self._given = sample_weight if sample_weight is None or rows is None else sample_weight[rows]

    def measure(self):
        """Loss, without the L2 penalty, and score at the network's parameters: two floats. Higher scores are better."""
        if self._model.scoring is None:
            outputs = np.empty((len(self._y), self._network.layer_units[-1]), self._network.dtype)
            loss = self._network.loss(self._data, order=self._rows, out=outputs)
            return loss, self._model._score(outputs, self._y, self._weights)
        loss = self._network.loss(self._data, order=self._rows)
        if self._scorer is None:  # scoring is "loss"
            return loss, -loss
        scored = copy.deepcopy(self._scored)  # a model of its own: whatever a scorer does to it does no harm
        scored.coefs_, scored.intercepts_ = self._network.weights, self._network.biases
        weights = {} if self._given is None else {"sample_weight": self._given}
        return loss, float(self._scorer(scored, self._rows_to_score, self._model._labels(self._y), **weights))
