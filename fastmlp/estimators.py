"""MLPClassifier and MLPRegressor: scikit-learn's parameters, attributes, warnings and errors over `network.MLP`."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse
from scipy.special import xlogy
from sklearn.base import ClassifierMixin, RegressorMixin, _fit_context
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d, compute_class_weight, compute_sample_weight
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels
from sklearn.utils.validation import check_array, validate_data

from fastmlp._base import BaseMultilayerPerceptron, _Call
from fastmlp._data import TARGETS
from fastmlp._onnx import convertible
from fastmlp._validation import errors_name, r2
from fastmlp.compiled.losses import LOSSES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike
    from typing_extensions import Self

    from fastmlp._base import Rows


@convertible
class MLPClassifier(ClassifierMixin, BaseMultilayerPerceptron):
    """Multilayer perceptron classifier: a drop-in for `sklearn.neural_network.MLPClassifier`.

    It minimises the log-loss by stochastic gradient descent, Adam or L-BFGS. With the same `random_state` it gives
    scikit-learn's numbers, in float64 to rounding.

    Parameters
    ----------
    hidden_layer_sizes : array-like of int, or int, default=(100,)
        Units of each hidden layer; `()` is logistic regression.
    activation : {'identity', 'logistic', 'tanh', 'relu', 'leaky_relu', 'elu', 'selu', 'gelu', 'silu', 'mish', \
            'softplus'} or list of them, default='relu'
        Activation of all hidden layers, or of each. scikit-learn has the first four. 'leaky_relu' has the slope 0.01
        below 0, 'elu' ends at -1, 'gelu' is z Phi(z), 'silu' z / (1 + e^-z), 'mish' z tanh(softplus(z)).
    solver : {'lbfgs', 'sgd', 'adam'}, default='adam'
        'lbfgs' takes all rows at a time, in float64, and suits small data; its weights are float64 whatever X is.
    alpha : float, default=0.0001
        Strength of the L2 penalty on the weights, divided by the sample size when added to the loss.
    batch_size : int or 'auto', default='auto'
        Rows of a minibatch; 'auto' is min(200, n_samples).
    learning_rate : {'constant', 'invscaling', 'adaptive', 'cosine', 'onecycle', 'coslog4', 'flat_cos'} or callable, \
            default='constant'
        Schedule of the learning rate. For 'sgd': divided by (t + 1)^power_t after each epoch, t samples in, or divided
        by 5 whenever training stops improving, down to 1e-6; 'adam' ignores these two, as in scikit-learn. The others
        are for both, and change the rate from batch to batch over `max_iter` epochs: half a cosine down to 0; up to
        `learning_rate_init` and down again (Smith, 2018; PyTorch's OneCycleLR); up and down four times (RealMLP); down
        in the second half. A callable gets t, which goes from 0 to 1, and returns what `learning_rate_init` is
        multiplied by; to pickle the model it must be a function of a module. `partial_fit` counts as an epoch, and
        after `max_iter` of them the rate stays where the schedule ends: at 0 for most.
    learning_rate_init : float, default=0.001
        The initial learning rate; with a schedule, what its factors multiply.
    power_t : float, default=0.5
        Exponent of 'invscaling'.
    max_iter : int, default=200
        Largest number of epochs, or of iterations of 'lbfgs'.
    shuffle : bool, default=True
        Whether to shuffle the samples before each epoch.
    random_state : int, RandomState instance, default=None
        Draws the initial weights, the split for early stopping, the shuffles and the seed of dropout.
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
        Whether to stop when the score on validation rows no longer improves; the weights of the best epoch are kept.
        The rows are those of `X_val`, see `fit`, or a part of the data that is set aside.
    validation_fraction : float, default=0.1
        That part.
    beta_1, beta_2 : float, default=0.9, 0.999
        Decay of Adam's moments, in [0, 1).
    epsilon : float, default=1e-8
        Keeps Adam's division stable.
    n_iter_no_change : int, default=10
        Epochs without improvement that training survives.
    max_fun : int, default=15000
        Largest number of loss evaluations of 'lbfgs'.
    weight_decay : float, default=0.0
        Decoupled weight decay (AdamW; Loshchilov and Hutter, 2019), for 'adam' and 'sgd': each step multiplies weights,
        but not biases, by 1 - rate * weight_decay; `alpha` is the L2 penalty. scikit-learn has neither this parameter
        nor those that follow.
    dropout : float or list of float, default=0.0
        Part of the units of all hidden layers, or of each, that a step of 'adam' or 'sgd' leaves out, chosen anew for
        each row, in [0, 1); the others are multiplied by 1 / (1 - dropout) (Srivastava et al., 2014). Predictions and
        validation rows have all units.
    clipnorm : float, default=None
        For 'adam' and 'sgd': the largest norm of the whole gradient, L2 penalty included; a larger one is scaled down
        to it before the step. None clips nothing.
    scoring : str or callable, default=None
        What is measured on validation rows, the higher the better: None is `score`, "loss" is minus the validation
        loss, else the name of a scorer of scikit-learn or `scorer(model, X, y)`, which also gets `sample_weight=` where
        there are sample weights. Without validation rows nothing is measured.
    dtype : {'float32', 'float64'}, default=None
        What `X` is converted to, in fit and in predictions, and so what is computed in. None: float32 if `X` is, else
        float64. float32 takes half the time, and memory for a copy of `X`. `partial_fit` and a warm start keep the
        dtype that the weights have.
    max_time : float, default=None
        Seconds, compilation included, after which a fit ends between two batches, or iterations of 'lbfgs'. One is done
        in any case.
    n_jobs : int, default=None
        Threads of fit and predictions, whatever else is set; -1 is all cores, -2 all but one. None: as many as
        `OMP_NUM_THREADS`, Numba, threadpoolctl and the container allow.
    class_weight : dict, list of dict or 'balanced', default=None
        What sample weights of the rows of a class are multiplied by; 'balanced' is n_samples / (n_classes * rows of the
        class). Of several labels a list of dicts, one for each. `partial_fit` refuses 'balanced'. Rows that early
        stopping sets aside are weighed like the others, but not for a scorer.
    label_smoothing : float, default=0.0
        The part e in [0, 1) of each target that is spread over all K classes: (1 - e) y + e / K; with two classes, or
        several labels, over the two of each output.

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
        Smallest loss of an epoch; None with early stopping. This and the next five are not set by 'lbfgs'.
    loss_curve_ : list of float
        Loss of each epoch, L2 penalty included, at the weights before each batch.
    validation_loss_curve_ : list of float or None
        Loss on the validation rows after each epoch, without the penalty, of smoothed targets if they are; NaN for
        epochs that had no such rows. None without early stopping and `X_val`.
    validation_scores_ : list of float or None
        What `scoring` says of them after each epoch that had some, by default the accuracy.
    best_validation_score_ : float or None
        The best of them, with early stopping.
    best_iter_ : int or None
        With early stopping, the epoch whose weights are kept, counted from 1 along `loss_curve_`.
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

    _parameter_constraints: dict = {
        **BaseMultilayerPerceptron._parameter_constraints,
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str | Sequence[str] = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str | Callable[[float], float] = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        weight_decay: float = 0.0,
        dropout: float | Sequence[float] = 0.0,
        clipnorm: float | None = None,
        scoring: str | Callable[..., float] | None = None,
        dtype: str | type | None = None,
        max_time: float | None = None,
        n_jobs: int | None = None,
        class_weight: dict | list | str | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__("log_loss", locals())

    @staticmethod
    def _sklearn_class():
        from sklearn.neural_network import MLPClassifier

        return MLPClassifier

    @staticmethod
    def _own_class():
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
            dtype=self._dtypes(),
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
        return X, self._encode(y)

    def _encode(self, y):
        """Labels that are all known, as numbers of classes for softmax, else as an indicator for each output."""
        if self._label_binarizer.y_type_ in ("binary", "multiclass") and y.ndim == 1:
            # scikit-learn's transform does this too, but looks through the labels three times more
            y = np.searchsorted(self.classes_, y)
            return y if self._output_activation() == "softmax" else y[:, np.newaxis]
        y = self._label_binarizer.transform(y)
        return y.toarray() if scipy.sparse.issparse(y) else y

    def _encode_validation(self, y):
        y = check_array(y, accept_sparse="csr", ensure_2d=False, dtype=None, input_name="y_val", estimator=self)
        y = y.toarray() if scipy.sparse.issparse(y) else y
        y = column_or_1d(y) if y.ndim == 2 and y.shape[1] == 1 else y
        multilabel = self._multilabel()
        if multilabel != (y.ndim == 2) or multilabel and y.shape[1] != self.n_outputs_:
            raise ValueError(f"y_val must have the form of y, got the shape {y.shape}.")
        with errors_name("y_val"):
            unknown = np.setdiff1d(unique_labels(y), self.classes_)
        if len(unknown):
            raise ValueError(f"y_val has classes that y has not: {unknown}. y has {self.classes_}.")
        return self._encode(y)

    def _labels(self, y):
        """What `_encode` has made these targets of."""
        if self._multilabel():
            return y
        return self.classes_[y.ravel()]

    def _network_targets(self, y):
        """Encoded targets as the network takes them: with label smoothing, probabilities."""
        smoothing = self.label_smoothing
        if smoothing == 0:
            return y
        if y.ndim == 1:
            targets = np.full((len(y), self.n_outputs_), smoothing / self.n_outputs_, self._network.dtype)
            targets[np.arange(len(y)), y] += 1 - smoothing
            return targets
        return y * (1 - smoothing) + smoothing / 2

    def _weigh_classes(self, y, sample_weight):
        if self.class_weight is None:
            return sample_weight
        if self._multilabel():
            # a dict says the weights of both classes of a label, also where y has only one of them
            both = y if self._is_balanced() else np.vstack([y, np.zeros_like(y[:1]), np.ones_like(y[:1])])
            weights = compute_sample_weight(self.class_weight, both)[: len(y)]
        else:
            of_classes = compute_class_weight(self.class_weight, classes=self.classes_, y=self._labels(y))
            weights = of_classes[y.ravel()]
        if not np.isfinite(weights).all():
            raise ValueError(f"class_weight must hold finite numbers, got {self.class_weight}.")
        return weights if sample_weight is None else sample_weight * weights

    def _is_balanced(self):
        """Whether class weights depend on how often each class is there."""
        return "balanced" in (self.class_weight if isinstance(self.class_weight, list) else [self.class_weight])

    def _multilabel(self):
        return self._label_binarizer.y_type_.startswith("multilabel")

    def _of_training(self):
        loss = "binary_log_loss"
        if self.out_activation_ == "softmax":
            loss = "soft_cross_entropy" if self.label_smoothing > 0 else "cross_entropy"
        return loss, 1.0, self.dropout

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

    def predict(self, X: Rows) -> np.ndarray:
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

    def predict_proba(self, X: Rows) -> np.ndarray:
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

    def predict_log_proba(self, X: Rows) -> np.ndarray:
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
    def partial_fit(
        self, X: Rows, y: ArrayLike, sample_weight: ArrayLike | None = None, classes: ArrayLike | None = None
    ) -> Self:
        """Update the model with a single pass over the given data.

        Learning rate, schedule, momentum and the rest of the solver stay those of the first call, as in scikit-learn;
        other parameters count as they are now. Callbacks are not called.

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
        if self._is_balanced():
            raise ValueError(
                "class_weight 'balanced' is not supported for partial_fit. In order to use 'balanced' weights, use"
                " compute_class_weight('balanced', classes=classes, y=y). In place of y you can use a large enough"
                " sample of the full training set target to properly estimate the class frequency distributions. Pass"
                " the resulting weights as the class_weight parameter."
            )
        with self._all_or_nothing():
            if _check_partial_fit_first_call(self, classes):
                multilabel = type_of_target(y).startswith("multilabel")
                self._label_binarizer = LabelBinarizer().fit(y if multilabel else classes)
            return self._fit(_Call(X, y, sample_weight, incremental=True))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


@convertible
class MLPRegressor(RegressorMixin, BaseMultilayerPerceptron):
    """Multilayer perceptron regressor: a drop-in for `sklearn.neural_network.MLPRegressor`.

    It minimises half the squared error, half the Poisson deviance or another loss by stochastic gradient descent, Adam
    or L-BFGS. With the same `random_state` it gives scikit-learn's numbers, in float64 to rounding, for all that
    scikit-learn has.

    Parameters
    ----------
    loss : {'squared_error', 'poisson', 'huber', 'absolute_error', 'quantile', 'gamma'}, default='squared_error'
        The loss; 'poisson' has an exponential output and needs `y >= 0`. scikit-learn does not have the others: 'huber'
        is half the squared error up to an error of `huber_delta`, and linear beyond; 'absolute_error' leads to the
        median and 'quantile', the pinball loss, to this `quantile`; 'gamma' is half the gamma deviance, has an
        exponential output and needs `y > 0`.
    hidden_layer_sizes : array-like of int, or int, default=(100,)
        Units of each hidden layer; `()` is linear regression.
    activation, solver, alpha, batch_size, learning_rate, learning_rate_init, power_t, max_iter, shuffle
    random_state, tol, verbose, warm_start, momentum, nesterovs_momentum, early_stopping, validation_fraction
    beta_1, beta_2, epsilon, n_iter_no_change, max_fun
    weight_decay, dropout, clipnorm, scoring, dtype, max_time, n_jobs
        As in :class:`MLPClassifier`.
    huber_delta : float, default=1.0
        For 'huber': the error, in units of y, from which on the loss is linear.
    quantile : float, default=0.5
        For 'quantile': which one to predict, between 0 and 1.

    Attributes
    ----------
    validation_scores_ : list of float or None
        What `scoring` says of the validation rows after each epoch that had some, by default R2.
    out_activation_ : str
        'identity', or 'exp' for 'poisson' and 'gamma'.
    coefs_, intercepts_, loss_, best_loss_, loss_curve_, validation_loss_curve_, best_validation_score_
    best_iter_, t_, n_iter_, n_features_in_, feature_names_in_, n_layers_, n_outputs_
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
        "loss": [StrOptions({name for name, row in LOSSES.items() if row.output in ("identity", "exp")})],
        "huber_delta": [Interval(Real, 0, None, closed="neither")],
        "quantile": [Interval(Real, 0, 1, closed="neither")],
    }

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str | Sequence[str] = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str | Callable[[float], float] = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        weight_decay: float = 0.0,
        dropout: float | Sequence[float] = 0.0,
        clipnorm: float | None = None,
        scoring: str | Callable[..., float] | None = None,
        dtype: str | type | None = None,
        max_time: float | None = None,
        n_jobs: int | None = None,
        huber_delta: float = 1.0,
        quantile: float = 0.5,
    ) -> None:
        super().__init__(loss, locals())

    @staticmethod
    def _sklearn_class():
        from sklearn.neural_network import MLPRegressor

        return MLPRegressor

    @staticmethod
    def _own_class():
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
            dtype=self._dtypes(),
            reset=reset,
        )
        if not reset and LOSSES[self.loss].output != self.out_activation_:
            raise ValueError(
                f"loss={self.loss!r} needs another output than the one that was fitted, {self.out_activation_!r}: it"
                " takes a new fit, without warm_start."
            )
        return X, self._encode(y, "y")

    def _encode(self, y, name):
        """Targets that the loss can take, one-dimensional if they have one column."""
        if scipy.sparse.issparse(y):
            y = y.toarray()
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        targets = TARGETS[LOSSES[self.loss].targets]
        if not targets.hold(y, self._count_outputs(y)):
            raise ValueError(
                f"Some value(s) of {name} are out of the valid range of the loss {self.loss!r}: {name} must be"
                f" {targets.words}."
            )
        return y

    def _encode_validation(self, y):
        y = check_array(y, accept_sparse="csr", ensure_2d=False, dtype="numeric", input_name="y_val", estimator=self)
        y = self._encode(y, "y_val")
        if self._count_outputs(y) != self.n_outputs_:
            raise ValueError(f"y_val must have {self.n_outputs_} columns, as y has, got the shape {y.shape}.")
        return y

    def _count_outputs(self, y):
        return 1 if y.ndim == 1 else y.shape[1]

    def _output_activation(self):
        return LOSSES[self.loss].output

    def _of_training(self):
        parameter = LOSSES[self.loss].parameter
        return self.loss, float(getattr(self, parameter)) if parameter else 1.0, self.dropout

    def _network_targets(self, y):
        """Targets as the network takes them."""
        return y

    def _labels(self, y):
        """What targets were before they were encoded."""
        return y

    def _loss_type(self, X, y, sample_weight):
        parts = [X, y] if sample_weight is None else [X, y, sample_weight]
        return np.result_type(*(part.dtype for part in parts))

    def _score(self, outputs, y, sample_weight):
        return r2(y.reshape(outputs.shape), outputs, sample_weight)

    # ---- decisions ----

    def predict(self, X: Rows) -> np.ndarray:
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
    def partial_fit(self, X: Rows, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Update the model with a single pass over the given data; with 'lbfgs', as in scikit-learn, with a whole fit.

        Learning rate, schedule, momentum and the rest of the solver stay those of the first call, as in scikit-learn;
        other parameters count as they are now. Callbacks are not called.

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
        return self._fit(_Call(X, y, sample_weight, incremental=True))
