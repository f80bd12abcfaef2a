"""What MLPClassifier and MLPRegressor share: everything but targets and decisions.

`coefs_` and `intercepts_` are the model: plain matrices, as in scikit-learn. The network behind them reads them before
it does anything, so they may be changed in place or replaced, and it is no part of a pickle. A few rows of a large
network are predicted from the matrices themselves.
"""

import contextlib
import math
import sys
import warnings
from abc import ABC, abstractmethod
from numbers import Integral, Real

import numpy as np
import scipy.sparse
from sklearn.base import BaseEstimator, _fit_context, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.optimize import _check_optimize_result
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from fastmlp._data import NotFiniteError
from fastmlp.compiled.activations import HIDDEN
from fastmlp.conversion import OWN_PARAMETERS, from_sklearn, register, to_sklearn
from fastmlp.lbfgs import loss_and_gradient, minimize, unflatten
from fastmlp.network import FINGERPRINT_UP_TO, MLP
from fastmlp.optimizers import SGD, Adam
from fastmlp.schedules import SCHEDULES
from fastmlp.training import History, train

_STOCHASTIC_SOLVERS = ["sgd", "adam"]
# Of the state of an estimator. It grows by one where an older version could not read what this one saves; what any
# older version has saved can be read: tests/frozen_models.py.
FORMAT = 2
# Rows of a large network that are sooner predicted from `coefs_` than it is seen that the network holds them.
_FEW_ROWS = 4


def _scalar_type(dtype):
    """What a number of this dtype is after some arithmetic with Python's: NumPy 1 makes float64 of float32."""
    return type(dtype.type(0) * 1)


class BaseMultilayerPerceptron(BaseEstimator, ABC):
    """What both estimators share: everything but targets and decisions."""

    _parameter_constraints: dict = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(HIDDEN))],
        "solver": [StrOptions({"lbfgs", "sgd", "adam"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions(set(SCHEDULES))],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
    }

    def _keep_parameters(self, arguments):
        """Keep the constructor's arguments, its locals, under their names and as they are: scikit-learn's rule."""
        vars(self).update({name: value for name, value in arguments.items() if name != "self"})

    def __getstate__(self):
        """The network is left out: it is made anew from the attributes, in the panels of the processor at hand."""
        state = {name: value for name, value in super().__getstate__().items() if name != "_network"}
        return state | {"_fastmlp_format": FORMAT}

    def __setstate__(self, state):
        found = state.get("_fastmlp_format", 0)
        if found > FORMAT:
            raise ValueError(
                f"This {type(self).__name__} was saved by a newer fastmlp (format {found}; this version reads up to"
                f" {FORMAT}): upgrade fastmlp to load it."
            )
        new = {name: value for name, value in OWN_PARAMETERS.items() if name in self._get_param_names()}
        super().__setstate__(new | {name: value for name, value in state.items() if name != "_fastmlp_format"})
        self._tell_skl2onnx()

    # ---- from and to others ----

    @staticmethod
    @abstractmethod
    def _sklearn_class():
        """scikit-learn's class of this name, imported when it is needed."""

    @staticmethod
    @abstractmethod
    def _own_class():
        """Ours, which this one may only be derived from."""

    def _tell_skl2onnx(self):
        """Where skl2onnx is loaded, it shall know the estimator; where it is not, nothing is done for it."""
        if "skl2onnx" in sys.modules:
            register(self._own_class())

    def to_sklearn(self):
        """scikit-learn's own estimator in the same state: unfitted if this one is, else fitted.

        Weights, and with 'adam' and 'sgd' the optimizer's moments, are copied: neither estimator sees what becomes of
        the other, and both go on from here, in partial_fit or a warm start.

        Returns
        -------
        estimator : sklearn.neural_network.MLPClassifier or sklearn.neural_network.MLPRegressor

        Raises
        ------
        ValueError
            If a parameter has a value that scikit-learn does not know; it is named.
        """
        return to_sklearn(self)

    @classmethod
    def from_sklearn(cls, estimator):
        """An estimator of this class in the state of one of scikit-learn's, which stays as it is: see `to_sklearn`.

        Parameters
        ----------
        estimator : sklearn.neural_network.MLPClassifier or sklearn.neural_network.MLPRegressor
            Of the same kind, fitted or not.

        Returns
        -------
        estimator : object
            Of this class.

        Raises
        ------
        TypeError
            If it is not of the same kind.
        """
        return from_sklearn(cls, estimator)

    # ---- in notebooks ----

    _doc_link_module = "fastmlp"

    def _doc_link_url_param_generator(self):
        """Of scikit-learn's address of a class: the HTML links to the page of the class that this one replaces."""
        return {"estimator_module": "sklearn.neural_network", "estimator_name": self._own_class().__name__}

    # ---- the network behind the attributes ----

    def _network_of_coefs(self, sparse=None):
        """The network that `coefs_` and `intercepts_` describe, with them in it; if `sparse` is said, to train it."""
        network = getattr(self, "_network", None)
        trained = sparse is not None
        if sparse is None:
            sparse = network is not None and network.sparse
        if network is not None and network.sparse == sparse and network.holds(self.coefs_, self.intercepts_):
            if self._fits(network, trained):
                return network
        layer_units = [np.shape(W)[0] for W in self.coefs_] + [np.shape(self.coefs_[-1])[1]]
        dtype = np.result_type(np.float32, *self.coefs_, *self.intercepts_)
        network = self._network_of(layer_units, dtype, sparse, trained)
        network.set_parameters(self.coefs_, self.intercepts_)
        return network

    def _network_of(self, layer_units, dtype, sparse, trained=True):
        """A network of these layers, for dense or for sparse X; the last one if it is of the same make."""
        network, make = getattr(self, "_network", None), (tuple(layer_units), np.dtype(dtype), sparse)
        same = network is not None and make == (network.layer_units, network.dtype, network.sparse)
        if not same or not self._fits(network, trained):
            hidden, loss = [self.activation] * (len(layer_units) - 2), self._network_loss() if trained else ()
            network = MLP(layer_units, hidden, self.out_activation_, dtype, sparse, *loss)
        return network

    def _fits(self, network, trained):
        """Whether a network has the activations that the parameters say, and the loss, if it is to be trained."""
        hidden, output = network.activations[:-1], network.activations[-1]
        if hidden != (self.activation,) * len(hidden) or output != self.out_activation_:
            return False
        return not trained or self._network_loss() in ((), (network.loss_function.name, network.loss_parameter))

    def _network_loss(self):
        """Name and parameter of the network's loss; nothing for the first one that goes with its output."""
        return ()

    def _forward(self, X, finite=False):
        """Outputs of the network for validated rows, in the dtype that NumPy's rules give X times a weight.

        ValueError if X is not finite, where it must be `finite`: the kernels see that as they read it.
        """
        network, out = getattr(self, "_network", None), None
        if network is not None and network.panels.work > FINGERPRINT_UP_TO and X.shape[0] <= _FEW_ROWS:
            out = self._predict_few(network, X, finite)
        if out is None:
            self._network = self._network_of_coefs()  # after unpickling there is none yet
            out = self._network.predict(X, finite=finite)
        return out if out.dtype == X.dtype else out.astype(np.result_type(X.dtype, out.dtype), copy=False)

    def _predict_few(self, network, X, finite):
        """Outputs for a few rows of a large network, from `coefs_` as they are; None if they must be taken over."""
        activations = *[self.activation] * (len(self.coefs_) - 1), self.out_activation_
        if scipy.sparse.issparse(X) or network.activations != activations:
            return None
        return network.predict_with(X, self.coefs_, self.intercepts_, finite=finite)

    def _forward_pass_fast(self, X):
        if not hasattr(self, "coefs_"):
            check_is_fitted(self)
        if self._is_plain(X):
            with contextlib.suppress(NotFiniteError):
                return self._forward(X, finite=True)
        return self._forward(validate_data(self, X, accept_sparse=["csr", "csc"], reset=False))

    def _is_plain(self, X):
        """Whether scikit-learn's validation, which takes longer than to predict a row, would pass X if it is finite."""
        if type(X) is not np.ndarray or X.ndim != 2 or X.dtype not in (np.float64, np.float32) or not len(X):
            return False
        return X.shape[1] == self.n_features_in_ and not hasattr(self, "feature_names_in_")

    # ---- fitting ----

    @contextlib.contextmanager
    def _all_or_nothing(self):
        """Whatever is raised, what was learnt before stays as it was; the network may then hold anything, and goes."""
        before = self.__dict__.copy()
        try:
            yield
        except BaseException:
            before.pop("_network", None)
            self.__dict__ = before
            raise

    def _fit(self, X, y, sample_weight=None, incremental=False):
        self._tell_skl2onnx()
        with self._all_or_nothing():
            result = self._fit_or_raise(X, y, sample_weight, incremental)
        if self.solver != "lbfgs" and math.isnan(getattr(self, "loss_", 0)):  # of 'lbfgs' SciPy tells
            warnings.warn(
                "Training diverged: the loss is not a number. The input data may contain large values and need to be"
                " preprocessed, or the learning rate may be too large.",
                ConvergenceWarning,
                stacklevel=4,
            )
        if self.solver == "lbfgs":
            _check_optimize_result("lbfgs", result, self.max_iter)  # warns, in the words of this scikit-learn
        elif not result and not incremental:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({self.max_iter:d}) reached and the optimization hasn't"
                " converged yet.",
                ConvergenceWarning,
                stacklevel=4,
            )
        return self

    def _fit_or_raise(self, X, y, sample_weight, incremental):
        hidden_layer_sizes = self.hidden_layer_sizes
        if not hasattr(hidden_layer_sizes, "__iter__"):
            hidden_layer_sizes = [hidden_layer_sizes]
        hidden_layer_sizes = list(hidden_layer_sizes)
        if np.any(np.array(hidden_layer_sizes) <= 0):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {hidden_layer_sizes}.")
        first_pass = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
        X, y = self._validate_input(X, y, incremental, reset=first_pass)
        sparse = scipy.sparse.issparse(X)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        stochastic = self.solver in _STOCHASTIC_SOLVERS
        if self.weight_decay > 0 and not stochastic:
            raise ValueError(f"weight_decay needs solver='adam' or 'sgd', got solver={self.solver!r}.")
        if stochastic and self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        self.n_outputs_ = self._count_outputs(y)
        self._random_state = check_random_state(self.random_state)

        if first_pass:
            history = self._initialize([X.shape[1], *hidden_layer_sizes, self.n_outputs_], X.dtype, sparse)
        else:
            self._network = self._network_of_coefs(sparse)
            history = self._history() if stochastic else None
        if stochastic:
            result = self._fit_stochastic(X, y, sample_weight, history, incremental)
        else:
            result = self._fit_lbfgs(X, y, sample_weight)
        if not all(np.isfinite(parameter).all() for parameter in self.coefs_ + self.intercepts_):
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be"
                " preprocessed."
            )
        return result

    def _fit_stochastic(self, X, y, sample_weight, history, incremental):
        """Train epoch by epoch. Returns whether it has converged."""
        if incremental and hasattr(self, "_optimizer"):
            self._optimizer = self._optimizer.copy_for(self._network)  # a copy: this fit may yet fail
        else:
            self._optimizer = self._make_optimizer()
        converged = self._train(X, y, sample_weight, history, incremental)
        self._take_over(history)
        return converged

    def _fit_lbfgs(self, X, y, sample_weight):
        """Train by L-BFGS, in the weights' dtype; SciPy's result, which is returned, makes them float64."""
        network = self._network
        result = minimize(
            network,
            network.data(X, y, sample_weight),
            alpha=self.alpha,
            max_iter=self.max_iter,
            max_fun=self.max_fun,
            tol=self.tol,
        )
        self.coefs_, self.intercepts_ = unflatten(result.x, network.panels.shapes)
        loss_type = np.result_type(self._loss_type(X, y, sample_weight), network.dtype)
        self.n_iter_, self.loss_ = min(result.nit, self.max_iter), _scalar_type(loss_type)(result.fun)
        if network.dtype != np.float64:
            self._network = self._network_of(network.layer_units, np.float64, network.sparse)
            self._network.set_parameters(self.coefs_, self.intercepts_)
        return result

    def _loss_grad_lbfgs(self, packed_coef_inter, X, y, sample_weight=None, *work_arrays):
        """What 'lbfgs' minimises, as scikit-learn's tests call it: y has a column for each output, work is ignored."""
        network = self._network_of_coefs(scipy.sparse.issparse(X))
        y = y.argmax(axis=1) if self.out_activation_ == "softmax" else y
        return loss_and_gradient(packed_coef_inter, network, network.data(X, y, sample_weight), self.alpha)

    def _initialize(self, layer_units, dtype, sparse):
        self.n_layers_, self.out_activation_ = len(layer_units), self._output_activation()
        self._network = self._network_of(layer_units, dtype, sparse)
        self._network.initialize(self._random_state, HIDDEN[self.activation].factor)
        self.t_, history = 0, History()
        if self.early_stopping:
            history.best_loss, history.validation_scores, history.best_validation_score = None, [], -np.inf
            history.best_parameters = self._network.panels.unpack(self._network.parameters)
        else:  # scikit-learn keeps the initial weights under these names, which nothing reads
            self.__dict__.pop("_best_coefs", None)
            self.__dict__.pop("_best_intercepts", None)
        return history

    def _history(self):
        """The history that the attributes tell, to go on with."""
        loss_curve, best_loss = list(self.loss_curve_), self.best_loss_
        scores, best_score = getattr(self, "validation_scores_", None), getattr(self, "best_validation_score_", None)
        if self.early_stopping:
            best_loss = None
            if best_score is None:  # all fits have done without
                scores, best_score = [], -np.inf
        elif best_loss is None:  # the last fit did not do without, but knows the losses
            best_loss = min(loss_curve, default=np.inf)
        best = getattr(self, "_best_coefs", self.coefs_), getattr(self, "_best_intercepts", self.intercepts_)
        return History(
            loss_curve=loss_curve,
            best_loss=best_loss,
            validation_scores=None if scores is None else list(scores),
            best_validation_score=best_score,
            best_parameters=best,
            no_improvement_count=self._no_improvement_count,
            t=self.t_,
        )

    def _take_over(self, history):
        """The attributes that the history tells, and the trained parameters."""
        self.loss_curve_, self.n_iter_, self.t_ = history.loss_curve, history.n_iter, history.t
        if history.loss_curve:
            self.loss_ = history.loss_curve[-1]
        self.best_loss_, self._no_improvement_count = history.best_loss, history.no_improvement_count
        self.validation_scores_ = history.validation_scores
        self.best_validation_score_ = history.best_validation_score
        if self.early_stopping:
            self._best_coefs, self._best_intercepts = history.best_parameters
            self.coefs_, self.intercepts_ = self._best_coefs, self._best_intercepts
        else:
            self.coefs_, self.intercepts_ = self._network.panels.unpack(self._network.parameters)

    def _make_optimizer(self):
        if self.solver == "adam":
            numbers = self.learning_rate_init, self.beta_1, self.beta_2, self.epsilon
            return Adam(self._network, *numbers, weight_decay=self.weight_decay)
        numbers = self.learning_rate_init, self.learning_rate, self.momentum, self.nesterovs_momentum, self.power_t
        return SGD(self._network, *numbers, weight_decay=self.weight_decay)

    def _train(self, X, y, sample_weight, history, incremental):
        """Train the network; with early stopping on a part of the rows, found by their numbers, without copying X."""
        X = self._network.rows(X)
        rows, score = np.arange(X.shape[0], dtype=np.int64), None
        if self.early_stopping:
            stratify = y.astype(bool) if is_classifier(self) and self.n_outputs_ == 1 else None
            rows, validation_rows = train_test_split(
                rows, random_state=self._random_state, test_size=self.validation_fraction, stratify=stratify
            )
            if len(validation_rows) < 2:
                raise ValueError(
                    "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
                )
            y_validation = y[validation_rows]
            weights = None if sample_weight is None else sample_weight[validation_rows]
            if weights is not None and not weights.any():
                raise ZeroDivisionError("Weights sum to zero, can't be normalized")

            def score():
                return self._score(self._network.predict(X, validation_rows), y_validation, weights)

        n_samples = len(rows)
        if self.batch_size == "auto":
            batch_size = min(200, n_samples)
        else:
            if self.batch_size > n_samples:
                warnings.warn(
                    "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=5
                )
            batch_size = min(int(self.batch_size), n_samples)
        return train(
            self._network,
            self._network.data(X, y, sample_weight),
            self._optimizer,
            history,
            batch_size=batch_size,
            max_iter=1 if incremental else self.max_iter,
            random_state=self._random_state,
            rows=rows,
            shuffle=self.shuffle,
            alpha=self.alpha,
            tol=self.tol,
            n_iter_no_change=self.n_iter_no_change,
            score=score,
            loss_type=_scalar_type(self._loss_type(X, y, sample_weight)),
            verbose=self.verbose,
        )

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Fit the model to data matrix X and target(s) y.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The input data. float32 and float64 are read in place, anything else is converted to float64. Of a sparse
            matrix, CSR or CSC, only the nonzeros are touched; CSC is converted to CSR.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The target values: class labels in classification, real numbers in regression.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.

        Returns
        -------
        self : object
            The trained model.

        Raises
        ------
        ValueError
            If the data does not fit, or training diverged; the model is then what it was before.
        """
        return self._fit(X, y, sample_weight=sample_weight, incremental=False)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _check_solver(self):
        if self.solver not in _STOCHASTIC_SOLVERS:
            raise AttributeError(
                f"partial_fit is only available for stochastic optimizers. {self.solver} is not stochastic."
            )
        return True
