"""What MLPClassifier and MLPRegressor share: everything but targets and decisions.

`coefs_` and `intercepts_` are the model: plain matrices, as in scikit-learn. The network behind them reads them before
it does anything, so they may be changed in place or replaced, and it is no part of a pickle. A few rows of a large
network are predicted from the matrices themselves.
"""

from __future__ import annotations

import dataclasses
import math
import time
import warnings
from abc import abstractmethod
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse
from sklearn.base import _fit_context, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.optimize import _check_optimize_result
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from fastmlp import _threads
from fastmlp._callbacks import tasks_of
from fastmlp._data import NotFiniteError
from fastmlp._estimator import Estimator
from fastmlp._onnx import tell_skl2onnx
from fastmlp._parameters import CONSTRAINTS, STOCHASTIC_SOLVERS, check_combinations
from fastmlp._validation import TOO_LARGE_IS_INFINITE, Validation, check_validation
from fastmlp.compiled.activations import HIDDEN
from fastmlp.conversion import OWN_ATTRIBUTES, OWN_PARAMETERS, from_sklearn, to_sklearn
from fastmlp.lbfgs import loss_and_gradient, minimize, unflatten
from fastmlp.network import FINGERPRINT_UP_TO, MLP, for_each
from fastmlp.optimizers import SGD, Adam
from fastmlp.schedules import ONLY_SGD
from fastmlp.training import History, train

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import ArrayLike
    from sklearn.neural_network import MLPClassifier as SklearnClassifier
    from sklearn.neural_network import MLPRegressor as SklearnRegressor
    from typing_extensions import Self

    Rows: TypeAlias = ArrayLike | scipy.sparse.sparray | scipy.sparse.spmatrix

# Of the state of an estimator. It grows by one where an older version could not read what this one saves; what any
# older version has saved can be read: tests/frozen_models.py.
FORMAT = 2
# Rows of a large network that are sooner predicted from `coefs_` than it is seen that the network holds them.
_FEW_ROWS = 4


def _scalar_type(dtype):
    """What a number of this dtype is after some arithmetic with Python's: NumPy 1 makes float64 of float32."""
    return type(dtype.type(0) * 1)


@dataclasses.dataclass
class _Call:
    """What a call of fit or partial_fit brings, beside parameters and what is there already."""

    X: object
    y: object
    sample_weight: object = None
    X_val: object = None
    y_val: object = None
    sample_weight_val: object = None
    incremental: bool = False
    deadline: float = math.inf
    tasks: object = None


class BaseMultilayerPerceptron(Estimator):
    """What both estimators share: everything but targets and decisions."""

    _format = FORMAT
    _parameter_constraints: dict = CONSTRAINTS

    @abstractmethod
    def __init__(self, loss, arguments):
        """Keep the loss, and the arguments of a constructor, its locals, as they are: scikit-learn's rule."""
        super().__init__(arguments)
        self.loss = loss

    def __setstate__(self, state):
        new = {name: value for name, value in OWN_PARAMETERS.items() if name in self._parameter_constraints}
        if "loss_curve_" in state:
            new |= dict.fromkeys(OWN_ATTRIBUTES)
        super().__setstate__(new | state)

    # ---- from and to others ----

    @staticmethod
    @abstractmethod
    def _sklearn_class():
        """scikit-learn's class of this name, imported when it is needed."""

    @staticmethod
    @abstractmethod
    def _own_class():
        """Ours, which this one may only be derived from."""

    def to_sklearn(self) -> SklearnClassifier | SklearnRegressor:
        """scikit-learn's own estimator in the same state: unfitted if this one is, else fitted.

        Weights, and with 'adam' and 'sgd' the optimizer's moments, are copied: neither estimator sees what becomes of
        the other, and both go on from here, in partial_fit or a warm start.

        Returns
        -------
        estimator : sklearn.neural_network.MLPClassifier or sklearn.neural_network.MLPRegressor

        Raises
        ------
        ValueError
            If scikit-learn could not predict the same: `activation` or `loss` is named. Parameters that matter to
            training alone, and that it does not have, are left out.
        """
        return to_sklearn(self)

    @classmethod
    def from_sklearn(cls, estimator: SklearnClassifier | SklearnRegressor) -> Self:
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
            *hidden, output = self._activations(len(layer_units) - 2)
            network = MLP(layer_units, hidden, output, dtype, sparse, *(self._of_training() if trained else ()))
        return network

    def _fits(self, network, trained):
        """Whether a network is as the parameters say: activations, and if it is to be trained, loss and dropout."""
        hidden = len(network.activations) - 1
        if network.activations != self._activations(hidden):
            return False
        if not trained:
            return True
        *loss, dropout = self._of_training()
        found = network.loss_function.name, network.loss_parameter, network.dropout
        return found == (*loss, for_each(dropout, hidden))

    def _activations(self, hidden):
        """The names of the activations of so many hidden layers, and of the output."""
        return (*for_each(self.activation, hidden), self.out_activation_)

    @abstractmethod
    def _of_training(self):
        """Name of the network's loss, its parameter, and dropout."""

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
        if scipy.sparse.issparse(X) or network.activations != self._activations(len(self.coefs_) - 1):
            return None
        return network.predict_with(X, self.coefs_, self.intercepts_, finite=finite)

    def _forward_pass_fast(self, X):
        if not hasattr(self, "coefs_"):
            check_is_fitted(self)
        if self.n_jobs is not None and _threads.wished() != _threads.threads_of(self.n_jobs):
            with _threads.use(self.n_jobs):
                return self._forward_pass_fast(X)
        if self._is_plain(X):
            try:
                return self._forward(X if self.dtype is None else self._converted(X), finite=True)
            except NotFiniteError:
                pass  # then scikit-learn's validation says so, in its words
        dtype = "numeric" if self.dtype is None else self.dtype
        with np.errstate(**TOO_LARGE_IS_INFINITE):
            X = validate_data(self, X, accept_sparse=["csr", "csc"], dtype=dtype, reset=False)
        return self._forward(X)

    def _converted(self, X):
        with np.errstate(**TOO_LARGE_IS_INFINITE):
            return X.astype(self.dtype, copy=False)

    def _is_plain(self, X):
        """Whether scikit-learn's validation, which takes longer than to predict a row, would pass X if it is finite."""
        if type(X) is not np.ndarray or X.ndim != 2 or X.dtype not in (np.float64, np.float32) or not len(X):
            return False
        return X.shape[1] == self.n_features_in_ and not hasattr(self, "feature_names_in_")

    # ---- fitting ----

    def _fit(self, call):
        tell_skl2onnx()
        if self.max_time is not None:
            call.deadline = time.perf_counter() + self.max_time
        if not call.incremental:
            task_name = "iteration" if self.solver == "lbfgs" else "epoch"
            call.tasks = tasks_of(self, task_name, self.max_iter, call.X, call.y, call.sample_weight)
        with self._all_or_nothing(), _threads.use(self.n_jobs):
            if call.tasks is not None:
                call.tasks.fit_begins()
            why, result = self._fit_or_raise(call)
            if call.tasks is not None:
                call.tasks.fit_ends()
        if self.solver != "lbfgs" and math.isnan(getattr(self, "loss_", 0)):  # of 'lbfgs' SciPy tells
            warnings.warn(
                "Training diverged: the loss is not a number. The input data may contain large values and need to be"
                " preprocessed, or the learning rate may be too large.",
                ConvergenceWarning,
                stacklevel=4,
            )
        limits = {
            "max_time": f"Maximum time ({self.max_time} s)",
            "max_iter": f"Maximum iterations ({self.max_iter:d})",
        }
        if result is not None and why not in ("max_time", "stopped"):
            _check_optimize_result("lbfgs", result, self.max_iter)  # warns, in the words of this scikit-learn
        elif why == "max_time" or why == "max_iter" and not call.incremental:
            optimizer = "Stochastic Optimizer" if result is None else "lbfgs"
            warnings.warn(
                f"{optimizer}: {limits[why]} reached and the optimization hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=4,
            )
        return self

    def _fit_or_raise(self, call):
        """Why training ended, as `train` has it, and what SciPy says of it."""
        hidden_layer_sizes = self.hidden_layer_sizes
        if not hasattr(hidden_layer_sizes, "__iter__"):
            hidden_layer_sizes = [hidden_layer_sizes]
        hidden_layer_sizes = list(hidden_layer_sizes)
        if np.any(np.array(hidden_layer_sizes) <= 0):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {hidden_layer_sizes}.")
        first_pass = not hasattr(self, "coefs_") or (not self.warm_start and not call.incremental)
        check_combinations(self, call, len(hidden_layer_sizes if first_pass else self.coefs_[1:]))
        with np.errstate(**TOO_LARGE_IS_INFINITE):
            X, y = self._validate_input(call.X, call.y, call.incremental, reset=first_pass)
        sparse = scipy.sparse.issparse(X)
        if call.sample_weight is not None:
            call.sample_weight = _check_sample_weight(call.sample_weight, X)
        sample_weight = self._weigh_classes(y, call.sample_weight)
        self.n_outputs_ = self._count_outputs(y)
        self._random_state = check_random_state(self.random_state)

        stochastic = self.solver in STOCHASTIC_SOLVERS
        if first_pass:
            history = self._initialize([X.shape[1], *hidden_layer_sizes, self.n_outputs_], X.dtype, sparse)
        else:
            self._network = self._network_of_coefs(sparse)
            history = self._history() if stochastic else None
        if stochastic:
            why, result = self._fit_stochastic(X, y, sample_weight, history, call), None
        else:
            why, result = self._fit_lbfgs(X, y, sample_weight, call)
        if not all(np.isfinite(parameter).all() for parameter in self.coefs_ + self.intercepts_):
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be"
                " preprocessed."
            )
        return why, result

    def _weigh_classes(self, y, sample_weight):
        """Sample weights, times those of the rows' classes."""
        return sample_weight

    def _fit_stochastic(self, X, y, sample_weight, history, call):
        """Train epoch by epoch. Returns why it ended."""
        if call.incremental and hasattr(self, "_optimizer"):
            changes = {"weight_decay": self.weight_decay, "clipnorm": self.clipnorm}
            if self._drops() and self._optimizer.seed == 0:  # it has begun to
                changes["seed"] = self._draw_seed()
            self._optimizer = self._optimizer.copy_for(self._network, **changes)  # a copy: this fit may yet fail
        else:
            self._optimizer = self._make_optimizer()
        why = self._train(X, y, sample_weight, history, call)
        vars(self).update(self._learnt(history, self._network))
        return why

    def _fit_lbfgs(self, X, y, sample_weight, call):
        """Train by L-BFGS, in the weights' dtype; SciPy's result, which is returned, makes them float64."""
        network, why, iterations = self._network, "converged", 0
        loss_type = _scalar_type(np.result_type(self._loss_type(X, y, sample_weight), network.dtype))

        def learnt(loss, coefs, intercepts):
            return {"loss_": loss_type(loss), "n_iter_": iterations, "coefs_": coefs, "intercepts_": intercepts}

        def stop(*found):
            nonlocal why, iterations
            iterations += 1
            if call.tasks is not None:
                call.tasks.epoch_begins()  # now, as SciPy tells of an iteration when it is done
                why = "stopped" if call.tasks.epoch_ends(lambda: learnt(*found)) else why
            if why != "stopped" and time.perf_counter() >= call.deadline:
                why = "max_time"
            return why != "converged"

        result = minimize(
            network,
            network.data(X, self._network_targets(y), sample_weight),
            alpha=self.alpha,
            max_iter=self.max_iter,
            max_fun=self.max_fun,
            tol=self.tol,
            stop=stop if call.tasks is not None or call.deadline < math.inf else None,
        )
        iterations = min(result.nit, self.max_iter)
        vars(self).update(learnt(result.fun, *unflatten(result.x, network.panels.shapes)))
        if network.dtype != np.float64:
            self._network = self._network_of(network.layer_units, np.float64, network.sparse)
            self._network.set_parameters(self.coefs_, self.intercepts_)
        return why, result

    def _loss_grad_lbfgs(self, packed_coef_inter, X, y, sample_weight=None, *work_arrays):
        """What 'lbfgs' minimises, as scikit-learn's tests call it: y has a column for each output, work is ignored."""
        network = self._network_of_coefs(scipy.sparse.issparse(X))
        y = self._network_targets(y.argmax(axis=1) if self.out_activation_ == "softmax" else y)
        return loss_and_gradient(packed_coef_inter, network, network.data(X, y, sample_weight), self.alpha)

    def _initialize(self, layer_units, dtype, sparse):
        self.n_layers_, self.out_activation_ = len(layer_units), self._output_activation()
        self._network = self._network_of(layer_units, dtype, sparse)
        factors = [HIDDEN[name].factor for name in self._activations(len(layer_units) - 2)[:-1]]
        last = factors[-1:] or [HIDDEN[self.activation].factor if isinstance(self.activation, str) else 6.0]
        self._network.initialize(self._random_state, factors + last)
        self.t_, history = 0, History()
        if self.early_stopping:
            history.best_loss, history.best_validation_score = None, -np.inf
            history.best_parameters = self._network.parameters.copy()
        else:  # scikit-learn keeps the initial weights under these names, which nothing reads
            self.__dict__.pop("_best_coefs", None)
            self.__dict__.pop("_best_intercepts", None)
        return history

    def _history(self):
        """The history that the attributes tell, to go on with."""
        loss_curve = list(self.loss_curve_)
        best_loss, best_score = self.best_loss_, getattr(self, "best_validation_score_", None)
        best_iter = getattr(self, "best_iter_", None)
        if self.early_stopping:
            best_loss = None
            if best_score is None or getattr(self, "_scoring", None) != self.scoring:  # nothing to compare with
                best_score, best_iter = -np.inf, None
        elif best_loss is None:  # the last fit did not do without, but knows the losses
            best_loss = min(loss_curve, default=np.inf)
        best, panels = None, self._network.panels
        if self.early_stopping:
            best = panels.moments()
            panels.pack(
                getattr(self, "_best_coefs", self.coefs_), getattr(self, "_best_intercepts", self.intercepts_), best
            )
        losses, scores = (getattr(self, name, None) for name in ("validation_loss_curve_", "validation_scores_"))
        return History(
            loss_curve=loss_curve,
            best_loss=best_loss,
            validation_losses=None if losses is None else list(losses),
            validation_scores=None if scores is None else list(scores),
            best_validation_score=best_score,
            best_parameters=best,
            best_iter=best_iter,
            no_improvement_count=self._no_improvement_count,
            t=self.t_,
        )

    def _learnt(self, history, network):
        """The attributes that the history tells, and the trained parameters."""
        learnt = {
            "loss_curve_": history.loss_curve,
            "n_iter_": history.n_iter,
            "t_": history.t,
            "best_loss_": history.best_loss,
            "_no_improvement_count": history.no_improvement_count,
            "validation_loss_curve_": history.validation_losses,
            "validation_scores_": history.validation_scores,
            "best_validation_score_": history.best_validation_score,
            "best_iter_": history.best_iter,
            "_scoring": self.scoring if self.early_stopping else getattr(self, "_scoring", None),
        }
        if history.loss_curve:
            learnt["loss_"] = history.loss_curve[-1]
        kept = history.best_parameters if self.early_stopping else network.parameters
        learnt["coefs_"], learnt["intercepts_"] = network.panels.unpack(kept)
        if self.early_stopping:
            learnt["_best_coefs"], learnt["_best_intercepts"] = learnt["coefs_"], learnt["intercepts_"]
        return learnt

    def _drops(self):
        return bool(np.any(np.asarray(self.dropout) > 0))

    def _draw_seed(self):
        return int(self._random_state.randint(1, 2**31 - 1))

    def _make_optimizer(self):
        own = {"weight_decay": self.weight_decay, "clipnorm": self.clipnorm, "max_iter": self.max_iter}
        if self._drops():
            own["seed"] = self._draw_seed()
        if self.solver == "adam":
            if self.learning_rate not in list(ONLY_SGD):  # which scikit-learn ignores here
                own["lr_schedule"] = self.learning_rate
            return Adam(self._network, self.learning_rate_init, self.beta_1, self.beta_2, self.epsilon, **own)
        numbers = self.learning_rate_init, self.learning_rate, self.momentum, self.nesterovs_momentum, self.power_t
        return SGD(self._network, *numbers, **own)

    def _split(self, X, y, sample_weight, call):
        """Numbers of the rows to train on, and validation rows: those of the call, or a part for early stopping."""
        rows, validation = np.arange(X.shape[0], dtype=np.int64), None
        if call.X_val is not None:
            X_val, y_val, weights = check_validation(self, call)
            validation = Validation(self, X_val, y_val, weights, sample_weight=weights)
        elif self.early_stopping:
            stratify = y.astype(bool) if is_classifier(self) and self.n_outputs_ == 1 else None
            rows, validation_rows = train_test_split(
                rows, random_state=self._random_state, test_size=self.validation_fraction, stratify=stratify
            )
            if len(validation_rows) < 2:
                raise ValueError(
                    "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
                )
            validation = Validation(self, X, y, sample_weight, validation_rows, call.sample_weight)
        return rows, validation

    def _train(self, X, y, sample_weight, history, call):
        """Train the network. Returns why it ended."""
        rows, validation = self._split(X, y, sample_weight, call)
        if validation is not None:
            history.validation_losses = history.validation_losses or [math.nan] * len(history.loss_curve)
            history.validation_scores = history.validation_scores or []

        n_samples = len(rows)
        if self.batch_size == "auto":
            batch_size = min(200, n_samples)
        else:
            if self.batch_size > n_samples:
                warnings.warn(
                    "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=5
                )
            batch_size = min(int(self.batch_size), n_samples)
        network, tasks = self._network, call.tasks
        why = train(
            network,
            network.data(X, self._network_targets(y), sample_weight),
            self._optimizer,
            history,
            batch_size=batch_size,
            max_iter=1 if call.incremental else self.max_iter,
            random_state=self._random_state,
            rows=rows,
            shuffle=self.shuffle,
            alpha=self.alpha,
            tol=self.tol,
            n_iter_no_change=self.n_iter_no_change,
            measure=None if validation is None else validation.measure,
            loss_type=_scalar_type(self._loss_type(X, y, sample_weight)),
            verbose=self.verbose,
            deadline=call.deadline,
            before_epoch=None if tasks is None else tasks.epoch_begins,
            after_epoch=None if tasks is None else lambda: tasks.epoch_ends(lambda: self._learnt(history, network)),
        )
        if self.early_stopping and self.scoring is not None and history.best_iter is None and why != "interrupted":
            raise ValueError(f"No score by scoring={self.scoring!r} was a number: no epoch is the best.")
        return why

    def _dtypes(self):
        """What X is converted to: its own dtype if that is one of these, else the first."""
        return (np.float64, np.float32) if self.dtype is None else np.dtype(self.dtype)

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Rows,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: Rows | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
    ) -> Self:
        """Fit the model to data matrix X and target(s) y.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The input data. float32 and float64 are read in place, unless `dtype` says otherwise; anything else is
            converted. Of a sparse matrix, CSR or CSC, only the nonzeros are touched; CSC is converted to CSR.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The target values: class labels in classification, real numbers in regression.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.
        X_val : array-like or sparse matrix of shape (n_validation, n_features), default=None
            Rows that are not trained on, for 'adam' and 'sgd': loss and score on them are kept after each epoch. With
            early stopping they are what decides, and no part of X is set aside. In a pipeline that is given
            `transform_input=["X_val"]` they are transformed as X is. A warm start compares with the best score so far,
            and so wants the same rows again.
        y_val : array-like of shape (n_validation,) or (n_validation, n_outputs), default=None
            Their targets.
        sample_weight_val : array-like of shape (n_validation,), default=None
            Their weights; `class_weight` does not count here.

        Returns
        -------
        self : object
            The trained model.

        Raises
        ------
        ValueError
            If the data does not fit, or training diverged; the model is then what it was before.
        """
        return self._fit(_Call(X, y, sample_weight, X_val, y_val, sample_weight_val))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _check_solver(self):
        if self.solver not in STOCHASTIC_SOLVERS:
            raise AttributeError(
                f"partial_fit is only available for stochastic optimizers. {self.solver} is not stochastic."
            )
        return True
