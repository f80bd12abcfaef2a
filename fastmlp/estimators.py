"""MLPClassifier and MLPRegressor: scikit-learn's parameters, attributes, warnings and errors over `network.MLP`.

`coefs_` and `intercepts_` are the model: plain matrices, as in scikit-learn. The network behind them reads them before
it does anything, so they may be changed in place or replaced, and it is no part of a pickle. A few rows of a large
network are predicted from the matrices themselves.
"""

import contextlib
import copy
import math
import sys
import warnings
from abc import ABC, abstractmethod
from numbers import Integral, Real

import numpy as np
import scipy.sparse
from scipy.special import xlogy
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, _fit_context, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels
from sklearn.utils.optimize import _check_optimize_result
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from fastmlp._data import NotFiniteError
from fastmlp._onnx import register_onnx
from fastmlp.lbfgs import loss_and_gradient, minimize, unflatten
from fastmlp.network import FINGERPRINT_UP_TO, MLP
from fastmlp.optimizers import SGD, Adam
from fastmlp.training import History, train

_STOCHASTIC_SOLVERS = ["sgd", "adam"]
# Of the state of an estimator. It grows by one where an older version could not read what this one saves; what any
# older version has saved can be read: tests/frozen_models.py.
_FORMAT = 1
# Rows of a large network that are sooner predicted from `coefs_` than it is seen that the network holds them.
_FEW_ROWS = 4


def _tell_skl2onnx():
    """Where skl2onnx is loaded, it shall know the estimators; where it is not, nothing is done for it."""
    if "skl2onnx" in sys.modules:
        register_onnx()


def _scalar_type(dtype):
    """What a number of this dtype is after some arithmetic with Python's: NumPy 1 makes float64 of float32."""
    return type(dtype.type(0) * 1)


class BaseMultilayerPerceptron(BaseEstimator, ABC):
    """What both estimators share: everything but targets and decisions."""

    _parameter_constraints: dict = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions({"identity", "logistic", "tanh", "relu"})],
        "solver": [StrOptions({"lbfgs", "sgd", "adam"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
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
    }

    @abstractmethod
    def __init__(
        self,
        hidden_layer_sizes,
        activation,
        solver,
        alpha,
        batch_size,
        learning_rate,
        learning_rate_init,
        power_t,
        max_iter,
        loss,
        shuffle,
        random_state,
        tol,
        verbose,
        warm_start,
        momentum,
        nesterovs_momentum,
        early_stopping,
        validation_fraction,
        beta_1,
        beta_2,
        epsilon,
        n_iter_no_change,
        max_fun,
    ):
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.loss = loss
        self.hidden_layer_sizes = hidden_layer_sizes
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun

    def __getstate__(self):
        """The network is left out: it is made anew from the attributes, in the panels of the processor at hand."""
        state = {name: value for name, value in super().__getstate__().items() if name != "_network"}
        return state | {"_fastmlp_format": _FORMAT}

    def __setstate__(self, state):
        found = state.get("_fastmlp_format", 0)
        if found > _FORMAT:
            raise ValueError(
                f"This {type(self).__name__} was saved by a newer fastmlp (format {found}; this version reads up to"
                f" {_FORMAT}): upgrade fastmlp to load it."
            )
        super().__setstate__({name: value for name, value in state.items() if name != "_fastmlp_format"})
        _tell_skl2onnx()

    # ---- from and to scikit-learn ----

    @staticmethod
    @abstractmethod
    def _sklearn_class():
        """scikit-learn's class of this name, imported when it is needed."""

    def to_sklearn(self):
        """scikit-learn's own estimator in the same state: unfitted if this one is, else fitted.

        Weights, and with 'adam' and 'sgd' the optimizer's moments, are copied: neither estimator sees what becomes of
        the other, and both go on from here, in partial_fit or a warm start.

        Returns
        -------
        estimator : sklearn.neural_network.MLPClassifier or sklearn.neural_network.MLPRegressor
        """
        from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

        state = {name: value for name, value in vars(self).items() if name not in ("_network", "_optimizer")}
        estimator = self._sklearn_class()()
        vars(estimator).update(copy.deepcopy(state))
        if hasattr(self, "_optimizer"):
            ours = self._optimizer
            theirs = {Adam: AdamOptimizer, SGD: SGDOptimizer}[type(ours)](
                estimator.coefs_ + estimator.intercepts_, **{name: getattr(ours, name) for name in ours.parameters}
            )
            theirs.learning_rate = ours.learning_rate
            for name in ours.progress + ours.moments:
                # without momentum ours has no velocities, and those of theirs do not count
                if (value := getattr(ours, name)) != []:
                    setattr(theirs, name, value)
            estimator._optimizer = theirs
        return estimator

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
        if not isinstance(estimator, cls._sklearn_class()):
            raise TypeError(f"{cls.__name__}.from_sklearn takes scikit-learn's {cls.__name__}, got {estimator!r}.")
        left_out = "_optimizer", "_coef_indptr", "_intercept_indptr"
        ours = cls()
        ours.__setstate__(copy.deepcopy({name: v for name, v in vars(estimator).items() if name not in left_out}))
        if hasattr(estimator, "_optimizer"):
            theirs = vars(estimator._optimizer)
            ours._optimizer = (Adam if "ms" in theirs else SGD).from_state(ours._network_of_coefs(), theirs)
        return ours

    # ---- the network behind the attributes ----

    def _network_of_coefs(self, sparse=None):
        """The network that `coefs_` and `intercepts_` describe, with them in it; if `sparse` is said, to train it."""
        network = getattr(self, "_network", None)
        if sparse is None:
            sparse = network is not None and network.sparse
        if network is not None and network.sparse == sparse and network.holds(self.coefs_, self.intercepts_):
            hidden = network.activations[:-1]
            if hidden == (self.activation,) * len(hidden) and network.activations[-1] == self.out_activation_:
                return network
        layer_units = [np.shape(W)[0] for W in self.coefs_] + [np.shape(self.coefs_[-1])[1]]
        dtype = np.result_type(np.float32, *self.coefs_, *self.intercepts_)
        network = self._network_of(layer_units, dtype, sparse)
        network.set_parameters(self.coefs_, self.intercepts_)
        return network

    def _network_of(self, layer_units, dtype, sparse):
        """A network of these layers, for dense or for sparse X; the last one if it is of the same make."""
        network = getattr(self, "_network", None)
        hidden = [self.activation] * (len(layer_units) - 2)
        make = tuple(layer_units), (*hidden, self.out_activation_), np.dtype(dtype), sparse
        if network is None or (network.layer_units, network.activations, network.dtype, network.sparse) != make:
            network = MLP(layer_units, hidden, self.out_activation_, dtype, sparse)
        return network

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
        _tell_skl2onnx()
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
        factor = 2.0 if self.activation == "logistic" else 6.0
        self._network.initialize(self._random_state, factor)
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
        return History(
            loss_curve,
            best_loss,
            None if scores is None else list(scores),
            best_score,
            (getattr(self, "_best_coefs", self.coefs_), getattr(self, "_best_intercepts", self.intercepts_)),
            self._no_improvement_count,
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
            return Adam(self._network, self.learning_rate_init, self.beta_1, self.beta_2, self.epsilon)
        return SGD(
            self._network,
            self.learning_rate_init,
            self.learning_rate,
            self.momentum,
            self.nesterovs_momentum,
            self.power_t,
        )

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


class MLPClassifier(ClassifierMixin, BaseMultilayerPerceptron):
    """Multilayer perceptron classifier: a drop-in for `sklearn.neural_network.MLPClassifier`.

    It minimises the log-loss by stochastic gradient descent, Adam or L-BFGS. With the same `random_state` it gives
    scikit-learn's numbers, in float64 to rounding.

    Parameters
    ----------
    hidden_layer_sizes : array-like of int, or int, default=(100,)
        Units of each hidden layer; `()` is logistic regression.
    activation : {'identity', 'logistic', 'tanh', 'relu'}, default='relu'
        Activation of the hidden layers.
    solver : {'lbfgs', 'sgd', 'adam'}, default='adam'
        'lbfgs' takes all rows at a time, in float64, and suits small data; its weights are float64 whatever X is.
    alpha : float, default=0.0001
        Strength of the L2 penalty on the weights, divided by the sample size when added to the loss.
    batch_size : int or 'auto', default='auto'
        Rows of a minibatch; 'auto' is min(200, n_samples).
    learning_rate : {'constant', 'invscaling', 'adaptive'}, default='constant'
        Schedule of the learning rate, for 'sgd': constant; divided by (t + 1)^power_t after each epoch, t samples in;
        or divided by 5 whenever training stops improving, down to 1e-6.
    learning_rate_init : float, default=0.001
        The initial learning rate.
    power_t : float, default=0.5
        Exponent of 'invscaling'.
    max_iter : int, default=200
        Largest number of epochs, or of iterations of 'lbfgs'.
    shuffle : bool, default=True
        Whether to shuffle the samples before each epoch.
    random_state : int, RandomState instance, default=None
        Draws the initial weights, the split for early stopping and the shuffles.
    tol : float, default=1e-4
        An epoch that does not improve loss or validation score by this much counts as no change. 'lbfgs' has converged
        when no element of the gradient is larger.
    verbose : bool, default=False
        Whether to print the loss of each epoch; 'lbfgs' prints nothing.
    warm_start : bool, default=False
        Whether fit goes on from the last solution.
    momentum : float, default=0.9
        Momentum for 'sgd', between 0 and 1.
    nesterovs_momentum : bool, default=True
        Whether that is Nesterov's momentum.
    early_stopping : bool, default=False
        Whether to set aside `validation_fraction` of the data and stop when its score no longer improves; the weights
        of the best epoch are kept.
    validation_fraction : float, default=0.1
        Part of the data that is set aside for early stopping.
    beta_1, beta_2 : float, default=0.9, 0.999
        Decay of Adam's moments, in [0, 1).
    epsilon : float, default=1e-8
        Keeps Adam's division stable.
    n_iter_no_change : int, default=10
        Epochs without improvement that training survives.
    max_fun : int, default=15000
        Largest number of loss evaluations of 'lbfgs'.

    Attributes
    ----------
    classes_ : ndarray or list of ndarray of shape (n_classes,)
        Class labels for each output.
    coefs_ : list of ndarray of shape (units of a layer, units of the next)
        Weight matrices, float32 if X is, else float64; always float64 after 'lbfgs'.
    intercepts_ : list of ndarray of shape (units of the next layer,)
        Biases.
    loss_ : float
        Loss of the last epoch, or where 'lbfgs' ended.
    best_loss_ : float or None
        Smallest loss of an epoch; None with early stopping. This and the next three are not set by 'lbfgs'.
    loss_curve_ : list of float
        Loss of each epoch.
    validation_scores_ : list of float or None
        Accuracy on the validation set after each epoch, with early stopping.
    best_validation_score_ : float or None
        The best of them.
    t_ : int
        Training samples seen, epoch by epoch.
    n_iter_ : int
        Epochs, or iterations, of the last fit.
    n_features_in_ : int
        Features seen during fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, if X had names that are all strings.
    n_layers_ : int
        Layers, input and output included.
    n_outputs_ : int
        Units of the last layer.
    out_activation_ : str
        Its activation: 'logistic' for two classes and for many labels, else 'softmax'.

    See Also
    --------
    MLPRegressor : The regressor.

    Examples
    --------
    >>> from fastmlp import MLPClassifier
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = MLPClassifier(random_state=1, max_iter=300).fit(X / 16, y)
    >>> clf.predict(X[:3] / 16)
    array([0, 1, 2])
    """

    def __init__(
        self,
        hidden_layer_sizes=(100,),
        activation="relu",
        *,
        solver="adam",
        alpha=0.0001,
        batch_size="auto",
        learning_rate="constant",
        learning_rate_init=0.001,
        power_t=0.5,
        max_iter=200,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        verbose=False,
        warm_start=False,
        momentum=0.9,
        nesterovs_momentum=True,
        early_stopping=False,
        validation_fraction=0.1,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        n_iter_no_change=10,
        max_fun=15000,
    ):
        super().__init__(
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            solver=solver,
            alpha=alpha,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_init=learning_rate_init,
            power_t=power_t,
            max_iter=max_iter,
            loss="log_loss",
            shuffle=shuffle,
            random_state=random_state,
            tol=tol,
            verbose=verbose,
            warm_start=warm_start,
            momentum=momentum,
            nesterovs_momentum=nesterovs_momentum,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            n_iter_no_change=n_iter_no_change,
            max_fun=max_fun,
        )

    @staticmethod
    def _sklearn_class():
        from sklearn.neural_network import MLPClassifier

        return MLPClassifier

    # ---- targets ----

    def _validate_input(self, X, y, incremental, reset):
        """X, and y as the network takes it: numbers of classes for softmax, else an indicator for each output."""
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse=["csr", "csc"],
            multi_output=True,
            dtype=(np.float64, np.float32),
            reset=reset,
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)

        # fit defines the classes, unless it is a warm start; then, and in partial_fit, y must go with them.
        if not hasattr(self, "classes_") or (not self.warm_start and not incremental):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
        else:
            classes = unique_labels(y)
            if self.warm_start:
                if set(classes) != set(self.classes_):
                    raise ValueError(
                        "warm_start can only be used where `y` has the same classes as in the previous call to fit."
                        f" Previously got {self.classes_}, `y` has {classes}"
                    )
            elif len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
                raise ValueError(
                    f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has {classes}."
                )
        if self._label_binarizer.y_type_ in ("binary", "multiclass") and y.ndim == 1:
            # scikit-learn's transform does this too, but looks through the labels three times more
            y = np.searchsorted(self.classes_, y)
            return X, y if self._output_activation() == "softmax" else y[:, np.newaxis]
        y = self._label_binarizer.transform(y)
        return X, y.toarray() if scipy.sparse.issparse(y) else y

    def _count_outputs(self, y):
        return len(self.classes_) if y.ndim == 1 else y.shape[1]

    def _output_activation(self):
        return "softmax" if self._label_binarizer.y_type_ == "multiclass" else "logistic"

    def _loss_type(self, X, y, sample_weight):
        """scikit-learn's: versions of SciPy differ in what the logarithm of float32 by a boolean is."""
        if self._output_activation() != "softmax":
            return np.dtype(np.float64)
        parts = [xlogy(np.ones(1, bool), np.ones(1, X.dtype))] + [sample_weight] * (sample_weight is not None)
        return np.result_type(*(part.dtype for part in parts))

    def _score(self, outputs, y, sample_weight):
        """scikit-learn's accuracy_score, without its checks: they take longer than an epoch of a small network."""
        if y.ndim == 1:
            right = outputs.argmax(axis=1) == y
        elif self.n_outputs_ == len(self.classes_) == 1:  # the only class is always right
            right = np.ones(len(y), bool)
        else:
            right = ((outputs > 0.5) == y).all(axis=1)
        return float(np.average(right, weights=sample_weight))

    # ---- decisions ----

    def _decide(self, outputs):
        return self._label_binarizer.inverse_transform(outputs.ravel() if self.n_outputs_ == 1 else outputs)

    def predict(self, X):
        """Predict class labels.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_classes)
            The predicted classes; of several labels, those with a probability above 0.5.
        """
        return self._decide(self._forward_pass_fast(X))

    def predict_proba(self, X):
        """Probability of each class.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        y_prob : ndarray of shape (n_samples, n_classes)
            In the order of `classes_`.
        """
        outputs = self._forward_pass_fast(X)
        if self.n_outputs_ == 1:
            y_prob = np.empty((len(outputs), 2), outputs.dtype)
            y_prob[:, 1:] = outputs
            np.subtract(1, outputs, out=y_prob[:, :1])
            return y_prob
        return outputs

    def predict_log_proba(self, X):
        """Logarithm of the probability of each class.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        log_y_prob : ndarray of shape (n_samples, n_classes)
            In the order of `classes_`; equivalent to `log(predict_proba(X))`.
        """
        y_prob = self.predict_proba(X)
        return np.log(y_prob, out=y_prob)

    @available_if(lambda est: est._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None, classes=None):
        """Update the model with a single pass over the given data.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None
        classes : array of shape (n_classes,), default=None
            All classes that y will ever have; required at the first call, may be left out at later ones.

        Returns
        -------
        self : object
            The trained model.
        """
        with self._all_or_nothing():
            if _check_partial_fit_first_call(self, classes):
                multilabel = type_of_target(y).startswith("multilabel")
                self._label_binarizer = LabelBinarizer().fit(y if multilabel else classes)
            return self._fit(X, y, sample_weight=sample_weight, incremental=True)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class MLPRegressor(RegressorMixin, BaseMultilayerPerceptron):
    """Multilayer perceptron regressor: a drop-in for `sklearn.neural_network.MLPRegressor`.

    It minimises half the squared error or half the Poisson deviance by stochastic gradient descent, Adam or L-BFGS.
    With the same `random_state` it gives scikit-learn's numbers, in float64 to rounding.

    Parameters
    ----------
    loss : {'squared_error', 'poisson'}, default='squared_error'
        The loss; 'poisson' has an exponential output and needs `y >= 0`.
    hidden_layer_sizes : array-like of int, or int, default=(100,)
        Units of each hidden layer; `()` is linear regression.
    activation, solver, alpha, batch_size, learning_rate, learning_rate_init, power_t, max_iter, shuffle
    random_state, tol, verbose, warm_start, momentum, nesterovs_momentum, early_stopping, validation_fraction
    beta_1, beta_2, epsilon, n_iter_no_change, max_fun
        As in :class:`MLPClassifier`.

    Attributes
    ----------
    validation_scores_ : list of float or None
        R2 on the validation set after each epoch, with early stopping.
    out_activation_ : str
        'identity', or 'exp' for 'poisson'.
    coefs_, intercepts_, loss_, best_loss_, loss_curve_, best_validation_score_, t_, n_iter_
    n_features_in_, feature_names_in_, n_layers_, n_outputs_
        As in :class:`MLPClassifier`.

    See Also
    --------
    MLPClassifier : The classifier.

    Examples
    --------
    >>> from fastmlp import MLPRegressor
    >>> from sklearn.datasets import make_regression
    >>> X, y = make_regression(n_samples=200, n_features=20, random_state=1)
    >>> regr = MLPRegressor(random_state=1, max_iter=2000, tol=0.1).fit(X, y)
    >>> regr.predict(X[:2]).shape
    (2,)
    """

    _parameter_constraints: dict = {
        **BaseMultilayerPerceptron._parameter_constraints,
        "loss": [StrOptions({"squared_error", "poisson"})],
    }

    def __init__(
        self,
        loss="squared_error",
        hidden_layer_sizes=(100,),
        activation="relu",
        *,
        solver="adam",
        alpha=0.0001,
        batch_size="auto",
        learning_rate="constant",
        learning_rate_init=0.001,
        power_t=0.5,
        max_iter=200,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        verbose=False,
        warm_start=False,
        momentum=0.9,
        nesterovs_momentum=True,
        early_stopping=False,
        validation_fraction=0.1,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        n_iter_no_change=10,
        max_fun=15000,
    ):
        super().__init__(
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            solver=solver,
            alpha=alpha,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_init=learning_rate_init,
            power_t=power_t,
            max_iter=max_iter,
            loss=loss,
            shuffle=shuffle,
            random_state=random_state,
            tol=tol,
            verbose=verbose,
            warm_start=warm_start,
            momentum=momentum,
            nesterovs_momentum=nesterovs_momentum,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            n_iter_no_change=n_iter_no_change,
            max_fun=max_fun,
        )

    @staticmethod
    def _sklearn_class():
        from sklearn.neural_network import MLPRegressor

        return MLPRegressor

    # ---- targets ----

    def _validate_input(self, X, y, incremental, reset):
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse=["csr", "csc"],
            multi_output=True,
            y_numeric=True,
            dtype=(np.float64, np.float32),
            reset=reset,
        )
        if scipy.sparse.issparse(y):
            y = y.toarray()
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if self.loss == "poisson" and y.min() < 0:
            raise ValueError("Some value(s) of y are out of the valid range of the loss 'poisson': y must be >= 0.")
        return X, y

    def _count_outputs(self, y):
        return 1 if y.ndim == 1 else y.shape[1]

    def _output_activation(self):
        return "exp" if self.loss == "poisson" else "identity"

    def _loss_type(self, X, y, sample_weight):
        parts = [X, y] if sample_weight is None else [X, y, sample_weight]
        return np.result_type(*(part.dtype for part in parts))

    def _score(self, outputs, y, sample_weight):
        """scikit-learn's r2_score, without its checks: they take longer than an epoch of a small network."""
        if not np.isfinite(outputs).all():
            return np.nan
        y, weights = y.reshape(outputs.shape), 1.0 if sample_weight is None else sample_weight[:, np.newaxis]
        errors = (weights * (y - outputs) ** 2).sum(axis=0)
        spreads = (weights * (y - np.average(y, axis=0, weights=sample_weight)) ** 2).sum(axis=0)
        parts = (errors != 0).astype(errors.dtype)  # left where all targets are the same
        np.divide(errors, spreads, out=parts, where=spreads != 0)
        return float((1 - parts).mean())

    # ---- decisions ----

    def predict(self, X):
        """Predict target values.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            The predicted values.
        """
        outputs = self._forward_pass_fast(X)
        return outputs.ravel() if outputs.shape[1] == 1 else outputs

    @available_if(lambda est: est._check_solver)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None):
        """Update the model with a single pass over the given data; with 'lbfgs', as in scikit-learn, with a whole fit.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self : object
            The trained model.
        """
        return self._fit(X, y, sample_weight=sample_weight, incremental=True)
