"""RealMLPClassifier and RealMLPRegressor: tables as they are, by RealMLP's recipe (Holzmueller et al., NeurIPS 2024).

Here are targets, and what scikit-learn asks of estimators. The recipe for one network stands in `recipe.py`, what is
done to a table in `preprocessing.py`.
"""

from __future__ import annotations

import concurrent.futures
import copy
import importlib
import math
import threading
import time
import warnings
from abc import abstractmethod
from numbers import Integral, Real
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import scipy.sparse
from sklearn.base import ClassifierMixin, RegressorMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import check_scoring, get_scorer_names
from sklearn.utils import _safe_indexing, assert_all_finite, check_random_state, column_or_1d, compute_class_weight
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _check_sample_weight, check_array, check_consistent_length, check_is_fitted

from fastmlp import _threads
from fastmlp._callbacks import Tasks, tasks_of
from fastmlp._estimator import Estimator
from fastmlp._onnx import CONVERTIBLE, convertible, register, tell_skl2onnx
from fastmlp._parameters import CONSTRAINTS, check_one_each, check_validation_arguments
from fastmlp._validation import errors_name, r2
from fastmlp.compiled.activations import HIDDEN
from fastmlp.network import MLP, restore
from fastmlp.preprocessing import RobustScaleSmoothClip, TableEncoder, values_of
from fastmlp.recipe import Columns, LastBest, Recipe, folded, make_network, start, train_network

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from numpy.typing import ArrayLike
    from typing_extensions import Self

# Of the state of an estimator, see `_base.FORMAT`.
FORMAT = 1
# What the variants of the paper are made of, beside what they share.
VARIANTS = {
    "td": {"dropout": 0.15, "weight_decay": 0.02, "embedding": True, "parametric": True, "data_start": True},
    "td-s": {"dropout": 0.0, "weight_decay": 0.0, "embedding": False, "parametric": False, "data_start": False},
}
# Columns of up to so many categories are one-hot where those of more are embedded.
_MAX_ONE_HOT = 8
# What judges probabilities: then labels are not smoothed, and the epoch of the smallest loss is the best.
_OF_PROBABILITIES = [
    "loss", "log_loss", "neg_log_loss", "neg_brier_score", "average_precision", "roc_auc", "roc_auc_ovr",
    "roc_auc_ovo", "roc_auc_ovr_weighted", "roc_auc_ovo_weighted",
]  # fmt: skip
_AUTO = StrOptions({"auto"})


def register_onnx():
    """Tell skl2onnx how to convert the estimators and transformers of fastmlp, alone or in a pipeline.

    skl2onnx converts the classes that it has been told of. Where it is loaded when one of ours is fitted, this has been
    done. Options and outputs are those of scikit-learn's classes; besides, two labels, several targets and
    `loss="poisson"` come out right.

    Raises
    ------
    ImportError
        If skl2onnx is not installed.

    Notes
    -----
    A table with categories has an ONNX input of shape (rows, 1) for each column; `to_onnx(model, df[:1])` sees which
    from a row of a DataFrame that has nothing missing. For categories that are text these are tensors of strings, for
    all others tensors of numbers or bool. A string that is no category, such as "", counts as missing, and so does NaN.
    Outputs are of float64 if an input is, else of float32; skl2onnx's option `zipmap=True` takes float32 alone.

    Examples
    --------
    >>> fastmlp.register_onnx()                                             # doctest: +SKIP
    >>> skl2onnx.to_onnx(model, X[:1], options={"zipmap": False})           # doctest: +SKIP
    """
    importlib.import_module("fastmlp.estimators")  # so that these are convertible, too
    for cls in CONVERTIBLE:
        register(cls)


class _Rows(NamedTuple):
    """Rows as numbers, targets as encoded, and weights; validation rows of the call stand last."""

    table: np.ndarray
    y: np.ndarray
    weights: np.ndarray | None
    # the same without those of classes: what scorers get
    sample_weight: np.ndarray | None
    # how many are not validation rows of the call
    n_own: int
    # as they were given: X and y of the call, or X_val and y_val, if there are any
    X: Any
    y_given: Any

    def given(self, held):
        """X and y as they were given, of these rows, which are the validation rows of a network."""
        if len(self.table) > self.n_own:
            return self.X, self.y_given
        return _safe_indexing(self.X, held), _safe_indexing(self.y_given, held)


class _Member(NamedTuple):
    """A network, what its rows and targets are scaled by, and how it came about."""

    network: MLP
    scaler: RobustScaleSmoothClip | None
    targets: np.ndarray | None
    history: LastBest
    why: str


class _Deadline:
    """A time that is over at once if training is to stop. `now < deadline` and `now >= deadline` ask it."""

    def __init__(self, time, stop):
        self._time, self._stop = time, stop

    def __gt__(self, now):
        return now < self._time and not self._stop.is_set()

    def __le__(self, now):
        return not self > now


class _Fit(NamedTuple):
    """What a fit's networks have in common."""

    recipe: Recipe
    rows: _Rows
    tasks: Tasks | None
    # set where no network is to be trained any more
    stop: threading.Event
    # those that are trained, if they are one by one
    members: list


class BaseRealMLP(Estimator):
    """What both estimators share: everything but targets and decisions."""

    _format = FORMAT
    _parameter_constraints: dict = {
        "variant": [StrOptions(set(VARIANTS))],
        "hidden_layer_sizes": CONSTRAINTS["hidden_layer_sizes"],
        "activation": [*CONSTRAINTS["activation"], _AUTO],
        "learning_rate_init": [*CONSTRAINTS["learning_rate_init"], _AUTO],
        "dropout": [*CONSTRAINTS["dropout"], _AUTO],
        "weight_decay": [*CONSTRAINTS["weight_decay"], _AUTO],
        "embedding": ["boolean", _AUTO],
        "parametric": ["boolean", _AUTO],
        "data_start": ["boolean", _AUTO],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_iter": CONSTRAINTS["max_iter"],
        "validation_fraction": [Interval(Real, 0, 0.5, closed="right")],
        "scoring": [StrOptions({"loss", "log_loss", *get_scorer_names()}), callable, None],
        "n_estimators": [Interval(Integral, 1, None, closed="left")],
        "refit": ["boolean"],
        "categorical_features": ["array-like", StrOptions({"from_dtype"}), None],
        "dtype": [one for one in CONSTRAINTS["dtype"] if one is not None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "max_time": CONSTRAINTS["max_time"],
        "n_jobs": CONSTRAINTS["n_jobs"],
    }

    def __getstate__(self):
        """With the networks as what they are made of, plain values and matrices."""
        state = super().__getstate__()
        if "networks_" in state:
            state["networks_"] = [network.__reduce__()[1] for network in state["networks_"]]
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        if hasattr(self, "networks_"):
            self.networks_ = [restore(*parts) for parts in self.networks_]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.input_tags.sparse = True
        return tags

    # ---- the recipe ----

    @abstractmethod
    def _of_task(self):
        """Activation and learning rate that the paper has for the task."""

    def _recipe(self):
        """What the parameters say; "auto" is what the variant has."""
        own = VARIANTS[self.variant] | self._of_task()
        given = {name: getattr(self, name) for name in own}
        found = {name: own[name] if isinstance(v, str) and v == "auto" else v for name, v in given.items()}
        sizes = self.hidden_layer_sizes
        sizes = tuple(sizes) if hasattr(sizes, "__iter__") else (sizes,)
        if any(not isinstance(size, Integral) or isinstance(size, bool) or size <= 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be integers > 0, got {list(sizes)}.")
        for name in "activation", "dropout":
            check_one_each(name, found[name], len(sizes))
        names = [found["activation"]] if isinstance(found["activation"], str) else found["activation"]
        if found["parametric"] and any(HIDDEN[name].blend is None for name in names):
            raise ValueError(f"parametric=True does not go with activation={found['activation']!r}.")
        return Recipe(
            hidden_layer_sizes=sizes,
            batch_size=self.batch_size,
            max_iter=self.max_iter,
            learning_rate=found.pop("learning_rate_init"),
            **found,
        )

    # ---- fit ----

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: Any = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
    ) -> Self:
        """Fit to a table and its targets.

        Parameters
        ----------
        X : DataFrame of pandas or polars, array-like or sparse matrix of shape (n_samples, n_features)
            Numbers and categories as they come, see `categorical_features`; both may be missing. Sparse X becomes a
            dense matrix.
        y : array-like of shape (n_samples,) or, in regression, (n_samples, n_outputs)
            Class labels, or real numbers.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows in the loss, and in what chooses the best epoch. Rows that weigh 0 are left out.
        X_val : DataFrame, array-like or sparse matrix of shape (n_validation, n_features), default=None
            Rows that choose the best epoch; then no part of X is set aside for that.
        y_val : array-like of shape (n_validation,) or (n_validation, n_outputs), default=None
            Their targets.
        sample_weight_val : array-like of shape (n_validation,), default=None
            Their weights.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If the data does not fit, or training diverged; the estimator is then what it was before.
        """
        tell_skl2onnx()
        deadline = math.inf if self.max_time is None else time.perf_counter() + self.max_time
        epochs = self.max_iter * self.n_estimators * (2 if self.refit else 1)
        tasks = tasks_of(self, "epoch", epochs, X, y, sample_weight)
        with self._all_or_nothing(), _threads.use(self.n_jobs):
            if tasks is not None:
                tasks.fit_begins()
            recipe = self._recipe()
            rows = self._prepare(recipe, X, y, sample_weight, X_val, y_val, sample_weight_val)
            members = self._train_all(recipe, rows, deadline, tasks)
            vars(self).update(self._learnt([one for one in members if one.history.best_iter] or members))
            if tasks is not None:
                tasks.fit_ends()
        why = {member.why for member in members}
        if "max_time" in why:
            message = f"Maximum time ({self.max_time} s) reached before all epochs were done."
            warnings.warn(message, ConvergenceWarning, stacklevel=2)
        return self

    def _prepare(self, recipe, X, y, sample_weight, X_val, y_val, sample_weight_val):
        """Rows, targets and weights, checked; and what is learnt of them before a network is trained."""
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        check_validation_arguments(X_val, y_val, sample_weight_val)
        max_one_hot = _MAX_ONE_HOT if recipe.embedding else None
        self.encoder_ = TableEncoder(self.categorical_features, max_one_hot=max_one_hot)
        self.encoder_.set_output(transform="default")._fit(X, self)  # matrices, whatever scikit-learn is set to
        table, encoded = self.encoder_._transform(X, self), self._encode(y, reset=True)
        check_consistent_length(table, encoded)
        if table.shape[1] == 0:
            raise ValueError("X holds nothing: all its values are missing.")
        weights, n_own = sample_weight, len(table)
        if weights is not None:
            weights = _check_sample_weight(weights, table)
        if X_val is not None:
            with errors_name("X_val"):
                table_val = self.encoder_._transform(X_val, self)
            with errors_name("y_val"):
                encoded_val = self._encode(y_val, reset=False)
                check_consistent_length(table_val, encoded_val)
            if weights is not None or sample_weight_val is not None:
                with errors_name("sample_weight_val"):
                    weights_val = _check_sample_weight(sample_weight_val, table_val)
                weights = np.concatenate([np.ones(n_own) if weights is None else weights, weights_val])
            table, encoded = np.vstack([table, table_val]), np.concatenate([encoded, encoded_val])
            X, y = X_val, y_val
        X = X.tocsr() if scipy.sparse.issparse(X) else X  # other sparse formats have no rows to take
        return _Rows(table, encoded, self._weigh_classes(encoded, weights), weights, n_own, X, y)

    def _weigh_classes(self, encoded, weights):
        """Weights of rows, times those of their classes."""
        return weights

    def _splits(self, rng, rows):
        """For each network the numbers of the rows to train on, and of those that choose the best epoch.

        Rows are shuffled and dealt into parts. Each network is held back the next part; when all were, the rows are
        shuffled anew. Rows that weigh 0 are left out.
        """
        every = np.arange(len(rows.table)) if rows.weights is None else np.flatnonzero(rows.weights)
        own, others = every[every < rows.n_own], every[every >= rows.n_own]
        if len(own) == 0 or len(others) == 0 < len(rows.table) - rows.n_own:
            raise ValueError("sample_weight, sample_weight_val or class_weight is 0 for all rows.")
        n = len(own)
        parts = max(2, round(1 / max(self.validation_fraction, 1 / n)))
        for i in range(self.n_estimators):
            if len(others) or n == 1:
                yield own, others
                continue
            if i % parts == 0:
                order = own[self._order_to_deal(rng.permutation(n), rows.y[own])]
            part = np.arange(n) % parts == i % parts
            yield np.sort(order[~part]), np.sort(order[part])

    def _order_to_deal(self, order, encoded):
        return order

    def _train_all(self, recipe, rows, deadline, tasks):
        """The networks: side by side, each in a thread, but one by one if somebody wants to know of each epoch."""
        rng, stop = check_random_state(self.random_state), threading.Event()
        splits = list(self._splits(rng, rows))
        seeds = rng.randint(2**31 - 1, size=self.n_estimators)
        threads = _threads.count()
        workers = 1 if tasks is not None else min(threads, self.n_estimators)
        fit = _Fit(recipe, rows, tasks, stop, [])

        def train_one(i):
            train, held = splits[i]
            # the time that is left is for this network, and those that come after it in this thread
            now, share = time.perf_counter(), -(-(self.n_estimators - i) // workers)
            end = now + (deadline - now) / share
            # a refit takes as long as the first training, for each row; the rest is for validation rows
            part = 0.9 * len(train) / (2 * len(train) + len(held)) if self.refit and len(held) else 1.0
            middle = now + part * (end - now)
            with _threads.use(max(1, threads // workers)):
                member = self._train(fit, seeds[i], train, held, middle)
                if self.refit and len(held) and not stop.is_set():
                    every, first = np.union1d(train, held), member.history
                    again = self._train(fit, seeds[i], every, held[:0], end, first)
                    if again.why == "max_iter":
                        member = again._replace(why=member.why)
                    else:  # cut short, it knows less
                        member = member._replace(why=again.why)
            return member

        if workers == 1:
            for i in range(self.n_estimators):
                if not stop.is_set():
                    fit.members.append(train_one(i))
            return fit.members
        with concurrent.futures.ThreadPoolExecutor(workers, "fastmlp") as pool:
            try:
                futures = [pool.submit(train_one, i) for i in range(self.n_estimators)]
                try:
                    concurrent.futures.wait(futures, return_when=concurrent.futures.FIRST_EXCEPTION)
                except KeyboardInterrupt:
                    warnings.warn("Training interrupted by user.", stacklevel=4)
                stop.set()
                begun = [future for future in futures if not future.cancel()]
                if not begun:
                    raise KeyboardInterrupt
                return [future.result() for future in begun]
            finally:
                stop.set()  # whatever is raised here, nobody trains on

    def _train(self, fit, seed, train, held, deadline, first=None):
        """A network: trained on some rows, at the epoch that is the best on those that are held back.

        With the history of a first training: trained to its best epoch.
        """
        recipe, rows, tasks, stop, done = fit
        rng, dtype, scaled = np.random.RandomState(seed), np.dtype(self.dtype), self._scaled()
        scaler = None
        if scaled:
            scaler = RobustScaleSmoothClip(impute=True).set_output(transform="default")
            scaler.fit(rows.table[train, :scaled])
        targets = self._scale_of_targets(rows.y[train])
        encoder = self.encoder_
        columns = Columns(encoder.n_numbers_, encoder.n_plain_, encoder.category_counts_)
        network = make_network(recipe, columns, self._count_outputs(), *self._output_and_loss(), dtype)
        X = _scale(rows.table, scaler, scaled, dtype)
        train = rng.permutation(train)
        start(network, recipe, X[train], rng)
        weights = None if rows.weights is None else _near_1(rows.weights)[0]
        data = network.data(X, self._network_targets(rows.y, targets), weights)
        history, measure = LastBest(), None
        if len(held):
            history.validation_losses, history.validation_scores = [], []
            measure = self._measure_of(network, data, rows, held, scaler, targets)

        def member(why):
            best = history.best_parameters if history.best_iter else network.parameters
            return _Member(folded(network, best), scaler, targets, first or history, why)

        def after_epoch():
            if tasks is not None and tasks.epoch_ends(lambda: self._learnt([*done, member("")])):
                stop.set()
            return stop.is_set()

        why = train_network(
            network,
            recipe,
            data,
            rng,
            history,
            rows=train,
            epochs=first and first.best_iter,
            measure=measure,
            verbose=self.verbose,
            deadline=_Deadline(deadline, stop),
            before_epoch=None if tasks is None else tasks.epoch_begins,
            after_epoch=after_epoch,
        )
        if why == "interrupted":
            stop.set()
        trained = member(why)
        if not (history.best_iter or why == "interrupted") or not np.isfinite(trained.network.parameters).all():
            raise ValueError(
                "Training diverged: there is no epoch with a finite loss and score. The targets may be too large, or"
                " the learning rate too high."
            )
        return trained

    def _measure_of(self, network, data, rows, held, scaler, targets):
        """What gives loss and score on rows that are held back, at the network's parameters."""
        outputs = np.empty((len(held), network.layer_units[-1]), network.dtype)
        y, weights = rows.y[held], None if rows.weights is None else rows.weights[held]
        if self.scoring is not None and self.scoring not in _OF_PROBABILITIES:
            scorer, (X_given, y_given) = check_scoring(self, self.scoring), rows.given(held)
            given = {} if rows.sample_weight is None else {"sample_weight": rows.sample_weight[held]}
            scored = copy.copy(self)
            scored.networks_, scored.scalers_, scored._targets = [network], [scaler], [targets]

        def measure():
            loss = network.loss(data, order=held, out=outputs)
            if self.scoring is None:
                return loss, self._score(self._decode(outputs, targets), y, weights)
            if self.scoring in _OF_PROBABILITIES:
                return loss, -loss
            scored._outputs_given = X_given, self._decode(outputs, targets)  # it need not predict these anew
            return loss, float(scorer(scored, X_given, y_given, **given))

        return measure

    def _learnt(self, members):
        """The attributes that trained networks make."""
        histories = [member.history for member in members]

        def mean(name):
            curves = [getattr(history, name) for history in histories]
            if curves[0] is None:
                return None
            # some may have been stopped before others
            epochs = range(max(map(len, curves)))
            return [float(np.mean([curve[i] for curve in curves if i < len(curve)])) for i in epochs]

        return {
            "networks_": [member.network for member in members],
            "scalers_": [member.scaler for member in members],
            "_targets": [member.targets for member in members],
            "loss_curve_": mean("loss_curve"),
            "validation_loss_curve_": mean("validation_losses"),
            "validation_scores_": mean("validation_scores"),
            "best_iters_": [history.best_iter for history in histories],
            "n_iter_": max(history.n_iter for history in histories),
            "n_outputs_": self._count_outputs(),
        }

    # ---- predictions ----

    def _scaled(self):
        """How many columns of a table are scaled: all but codes of categories."""
        return self.encoder_.n_numbers_ + self.encoder_.n_plain_

    def _outputs(self, X):
        """The mean of what the networks say of the rows, in float64, as `_decode` gives it."""
        check_is_fitted(self)
        if hasattr(self, "_outputs_given") and X is self._outputs_given[0]:
            return self._outputs_given[1]
        table, scaled, sum_ = self.encoder_._transform(X, self), self._scaled(), 0.0
        with _threads.use(self.n_jobs):
            for network, scaler, targets in zip(self.networks_, self.scalers_, self._targets, strict=True):
                outputs = network.predict(_scale(table, scaler, scaled, network.dtype))
                sum_ = sum_ + self._decode(outputs, targets)
        return sum_ / len(self.networks_)


def _scale(table, scaler, scaled, dtype):
    """Rows as a network takes them: some columns scaled, the others, which are codes, as they are."""
    X = np.empty(table.shape, dtype)
    X[:, scaled:] = table[:, scaled:]
    if scaled:
        X[:, :scaled] = scaler.transform(table[:, :scaled])
    return X


def _check_labels(y):
    """That none is missing, and that objects can be sorted."""
    y = np.asarray(y)
    if y.dtype.kind == "f":
        assert_all_finite(y, input_name="y")
    elif y.dtype == object and y.ndim == 1:
        labels, kinds = values_of(y, "y")
        if None in labels:
            raise ValueError("Input y contains NaN.")
        if "text" in kinds and len(kinds) > 1:
            raise ValueError("y must hold text or numbers as labels, got both.")


def _near_1(numbers):
    """Numbers by a power of 2, for each column, so that the largest are near 1; and its exponents. No bit is lost."""
    _, exponents = np.frexp(np.abs(numbers).max(axis=0))
    return np.ldexp(numbers, -exponents), exponents


@convertible
class RealMLPClassifier(ClassifierMixin, BaseRealMLP):
    """A classifier for tables as they are, with tuned defaults: RealMLP (Holzmueller et al., NeurIPS 2024).

    A multilayer perceptron that needs no preparation: numbers, categories and missing values go in as they come. All
    that is scaled, encoded and chosen stands in the paper, and so do the defaults.

    Parameters
    ----------
    variant : {'td', 'td-s'}, default='td'
        RealMLP-TD, or its simpler and faster relative RealMLP-TD-S: what the parameters that are "auto" are.
    hidden_layer_sizes : array-like of int, or int, default=(256, 256, 256)
        Units of each hidden layer.
    activation : str, list of str or 'auto', default='auto'
        As in :class:`MLPClassifier`. 'auto' is 'selu', in regression 'mish'.
    learning_rate_init : float or 'auto', default='auto'
        What the schedule 'coslog4' multiplies. 'auto' is 0.04; in regression 0.2, or 0.07 of 'td-s'.
    dropout : float, list of float or 'auto', default='auto'
        Part of the hidden units that a step leaves out; it fades by 'flat_cos'. 'auto' is 0.15, or 0 of 'td-s'.
    weight_decay : float or 'auto', default='auto'
        Decoupled weight decay, which fades too. 'auto' is 0.02, or 0 of 'td-s'.
    embedding : bool or 'auto', default='auto'
        Whether numbers are embedded by cosines (PBLD), and columns of more than 8 categories as 8 numbers each instead
        of one-hot. 'auto' is True, or False of 'td-s'.
    parametric : bool or 'auto', default='auto'
        Whether each hidden unit learns how much of its activation it has: z + b (f(z) - z). 'auto' is True, or False of
        'td-s'. For 'leaky_relu', 'elu', 'selu', 'softplus', 'silu', 'gelu' and 'mish'.
    data_start : bool or 'auto', default='auto'
        Whether the first weights and biases look at the data. 'auto' is True, or False of 'td-s', where they are drawn
        from normal distributions, and are 0 in the last layer.
    label_smoothing : float or 'auto', default='auto'
        The part of each target that is spread over all classes. 'auto' is 0.1; but 0 where `scoring` judges
        probabilities, as the paper advises.
    batch_size : int, default=256
        Rows of a minibatch; an incomplete last one is left out.
    max_iter : int, default=256
        Epochs; training never ends sooner by itself.
    validation_fraction : float, default=0.2
        The part of the rows that chooses the best epoch: 1 / k of them, for the k that is nearest.
    scoring : str or callable, default=None
        What the best epoch has most of, the last one of equals. None: accuracy, in regression R2, and so the smallest
        squared error. "loss" and "log_loss", and scorers of probabilities as "roc_auc", mean the smallest validation
        loss. Or the name of a scorer, or `scorer(model, X, y)`, which is given `sample_weight` too if fit is.
    n_estimators : int, default=1
        Networks whose predictions are averaged. Each has another part of the rows for validation; they are trained in
        threads side by side.
    refit : bool, default=False
        Whether each network is trained once more, on all rows, to its best epoch; those of X_val are among them. A
        refit that is cut short is dropped.
    categorical_features : 'from_dtype', array-like of {bool, int, str} or None, default='from_dtype'
        Which columns hold categories: by dtype (of text, bool, category, object), a mask, positions or names; see
        :class:`TableEncoder`.
    class_weight : dict or 'balanced', default=None
        What weights of the rows of a class are multiplied by; 'balanced' is n_samples / (n_classes * rows of the
        class). Validation rows are weighed like the others.
    dtype : {'float32', 'float64'}, default='float32'
        What networks compute in.
    random_state : int, RandomState instance, default=None
        Draws parameters, splits, shuffles and dropout.
    verbose : bool, default=False
        Whether to print the loss of each epoch.
    max_time : float, default=None
        Seconds after which a fit ends, with the best epochs so far.
    n_jobs : int, default=None
        Threads of fit and predictions; as in :class:`MLPClassifier`. The bits of the result do not depend on it.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    networks_ : list of MLP
        The networks, at their best epochs. Factors of the input are in their first weights.
    encoder_ : TableEncoder
        What makes numbers of a table.
    scalers_ : list of RobustScaleSmoothClip
        What scales them for each network, except for codes of categories.
    loss_curve_ : list of float
        Training loss of each epoch, the mean over the networks; of the refit nothing is told.
    validation_loss_curve_, validation_scores_ : list of float or None
        Loss and score on the rows that choose the best epoch, the mean over the networks. None without such rows.
    best_iters_ : list of int
        The best epoch of each network, counted from 1; 0 if an interrupt left none.
    n_iter_ : int
        Epochs done.
    n_outputs_ : int
        Outputs of a network: one for each class.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, if X had names that are all strings.

    See Also
    --------
    RealMLPRegressor : The regressor.
    MLPClassifier : scikit-learn's multilayer perceptron, without all this.

    References
    ----------
    Holzmueller, Grinsztajn, Steinwart: Better by default: strong pre-tuned MLPs and boosted trees on tabular data.
    NeurIPS 2024.

    Examples
    --------
    >>> from fastmlp import RealMLPClassifier
    >>> X = [["red", 1.5], ["green", None], ["blue", 2.5], [None, 0.5]] * 10
    >>> y = ["warm", "cold", "cold", "warm"] * 10
    >>> model = RealMLPClassifier(random_state=0, max_iter=20).fit(X, y)
    >>> model.predict([["blue", 2.0]])
    array(['cold'], dtype='<U4')
    """

    _parameter_constraints: dict = {
        **BaseRealMLP._parameter_constraints,
        "label_smoothing": [Interval(Real, 0, 1, closed="left"), _AUTO],
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        variant: str = "td",
        *,
        hidden_layer_sizes: int | Sequence[int] = (256, 256, 256),
        activation: str | Sequence[str] = "auto",
        learning_rate_init: float | str = "auto",
        dropout: float | Sequence[float] | str = "auto",
        weight_decay: float | str = "auto",
        embedding: bool | str = "auto",
        parametric: bool | str = "auto",
        data_start: bool | str = "auto",
        label_smoothing: float | str = "auto",
        batch_size: int = 256,
        max_iter: int = 256,
        validation_fraction: float = 0.2,
        scoring: str | Callable[..., float] | None = None,
        n_estimators: int = 1,
        refit: bool = False,
        categorical_features: str | ArrayLike | None = "from_dtype",
        class_weight: dict | str | None = None,
        dtype: str | type = "float32",
        random_state: int | np.random.RandomState | None = None,
        verbose: bool | int = False,
        max_time: float | None = None,
        n_jobs: int | None = None,
    ) -> None:
        super().__init__(locals())

    def _of_task(self):
        return {"activation": "selu", "learning_rate_init": 0.04}

    # ---- targets ----

    def _encode(self, y, reset):
        """Numbers of classes, which are learnt if `reset`."""
        _check_labels(y)
        check_classification_targets(y)
        if type_of_target(y).startswith("multilabel"):
            raise ValueError(f"{type(self).__name__} takes one label for each row, got several.")
        y = column_or_1d(y, warn=True)
        if reset:
            self.classes_, encoded = np.unique(y, return_inverse=True)
            return encoded
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(f"there are classes that y has not: {unknown}. y has {self.classes_}.")
        return np.searchsorted(self.classes_, y)

    def _weigh_classes(self, encoded, weights):
        if self.class_weight is None:
            return weights
        of_classes = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_[encoded])
        if not np.isfinite(of_classes).all():
            raise ValueError(f"class_weight must hold finite numbers, got {self.class_weight}.")
        return of_classes[encoded] if weights is None else weights * of_classes[encoded]

    def _order_to_deal(self, order, encoded):
        """Class by class, so that each part has as many of each as can be."""
        return order[np.argsort(encoded[order], kind="stable")]

    def _smoothing(self):
        if isinstance(self.label_smoothing, str):
            return 0.0 if isinstance(self.scoring, str) and self.scoring in _OF_PROBABILITIES else 0.1
        return self.label_smoothing

    def _count_outputs(self):
        return len(self.classes_)

    def _output_and_loss(self):
        return "softmax", "soft_cross_entropy" if self._smoothing() > 0 else "cross_entropy"

    def _scale_of_targets(self, y):
        return None

    def _network_targets(self, y, targets):
        e, n_classes = self._smoothing(), len(self.classes_)
        return y if e == 0 else (1 - e) * np.eye(n_classes)[y] + e / n_classes

    def _decode(self, outputs, targets):
        """Probabilities in float64, which sum up to 1."""
        outputs = outputs.astype(np.float64)
        return outputs / outputs.sum(axis=1, keepdims=True)

    def _score(self, probabilities, y, weights):
        return float(np.average(probabilities.argmax(axis=1) == y, weights=weights))

    # ---- decisions ----

    def predict(self, X: Any) -> np.ndarray:
        """Predict class labels.

        Parameters
        ----------
        X : DataFrame of pandas or polars, array-like or sparse matrix of shape (n_samples, n_features)
            With the columns of fit.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            The most probable classes.
        """
        probabilities = self._outputs(X)
        return self.classes_[probabilities.argmax(axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class.

        Parameters
        ----------
        X : DataFrame of pandas or polars, array-like or sparse matrix of shape (n_samples, n_features)
            With the columns of fit.

        Returns
        -------
        y_prob : ndarray of shape (n_samples, n_classes)
            In the order of `classes_`.
        """
        return self._outputs(X)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithm of the probability of each class.

        Parameters
        ----------
        X : DataFrame of pandas or polars, array-like or sparse matrix of shape (n_samples, n_features)
            With the columns of fit.

        Returns
        -------
        log_y_prob : ndarray of shape (n_samples, n_classes)
            In the order of `classes_`.
        """
        with np.errstate(divide="ignore"):
            return np.log(self._outputs(X))


@convertible
class RealMLPRegressor(RegressorMixin, BaseRealMLP):
    """A regressor for tables as they are, with tuned defaults: RealMLP (Holzmueller et al., NeurIPS 2024).

    It minimises the squared error of standardised targets.

    Parameters
    ----------
    variant, hidden_layer_sizes, activation, learning_rate_init, dropout, weight_decay, embedding, parametric
    data_start, batch_size, max_iter, validation_fraction, scoring, n_estimators, refit, categorical_features, dtype
    random_state, verbose, max_time, n_jobs
        As in :class:`RealMLPClassifier`.
    clamp : bool or 'auto', default='auto'
        Whether no prediction of a network is outside of the targets that it has seen. 'auto' is True, or False of
        'td-s'.

    Attributes
    ----------
    networks_, encoder_, scalers_, loss_curve_, validation_loss_curve_, validation_scores_, best_iters_, n_iter_
    n_features_in_, feature_names_in_
        As in :class:`RealMLPClassifier`. Outputs of the networks are standardised, and so are the losses, which are
        half the squared error.
    n_outputs_ : int
        Targets of a row.

    See Also
    --------
    RealMLPClassifier : The classifier, with all that is said of parameters.

    Examples
    --------
    >>> from fastmlp import RealMLPRegressor
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(as_frame=True, return_X_y=True)
    >>> model = RealMLPRegressor(random_state=0, max_iter=50).fit(X, y)
    >>> model.predict(X[:2]).shape
    (2,)
    """

    _parameter_constraints: dict = {**BaseRealMLP._parameter_constraints, "clamp": ["boolean", _AUTO]}

    def __init__(
        self,
        variant: str = "td",
        *,
        hidden_layer_sizes: int | Sequence[int] = (256, 256, 256),
        activation: str | Sequence[str] = "auto",
        learning_rate_init: float | str = "auto",
        dropout: float | Sequence[float] | str = "auto",
        weight_decay: float | str = "auto",
        embedding: bool | str = "auto",
        parametric: bool | str = "auto",
        data_start: bool | str = "auto",
        clamp: bool | str = "auto",
        batch_size: int = 256,
        max_iter: int = 256,
        validation_fraction: float = 0.2,
        scoring: str | Callable[..., float] | None = None,
        n_estimators: int = 1,
        refit: bool = False,
        categorical_features: str | ArrayLike | None = "from_dtype",
        dtype: str | type = "float32",
        random_state: int | np.random.RandomState | None = None,
        verbose: bool | int = False,
        max_time: float | None = None,
        n_jobs: int | None = None,
    ) -> None:
        super().__init__(locals())

    def _of_task(self):
        return {"activation": "mish", "learning_rate_init": 0.2 if self.variant == "td" else 0.07}

    # ---- targets ----

    def _encode(self, y, reset):
        """Numbers, a column for each target; whether there is one column for all or none is learnt if `reset`."""
        if np.isscalar(y):
            raise ValueError(f"y must hold a target for each row, got {y!r}.")
        y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y", estimator=self)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if reset:
            self._flat, self.n_outputs_ = y.ndim == 1, 1 if y.ndim == 1 else y.shape[1]
        y = y.reshape(len(y), -1)
        if y.shape[1] != self.n_outputs_:
            raise ValueError(f"y has {self.n_outputs_} columns, not {y.shape[1]}.")
        return y

    def _count_outputs(self):
        return self.n_outputs_

    def _output_and_loss(self):
        return "identity", "squared_error"

    def _scale_of_targets(self, y):
        """Mean, standard deviation, least and greatest of each target: (4, n_outputs)."""
        y, exponents = _near_1(y)  # squares neither overflow nor vanish
        spread = y.std(axis=0)
        spread[spread == 0] = 1
        return np.ldexp([y.mean(axis=0), spread, y.min(axis=0), y.max(axis=0)], exponents)

    def _network_targets(self, y, targets):
        mean, spread, _, _ = targets
        return (y - mean) / spread

    def _decode(self, outputs, targets):
        """Predictions in the targets' own units."""
        mean, spread, low, high = targets
        predictions = outputs * spread + mean
        return np.clip(predictions, low, high) if self._clamps() else predictions

    def _clamps(self):
        return self.variant == "td" if isinstance(self.clamp, str) else self.clamp

    def _score(self, predictions, y, weights):
        """R2; of a single row the squared error, negative."""
        if len(y) < 2:
            return -float(((predictions - y) ** 2).mean())
        both, _ = _near_1(np.vstack([y, predictions]))
        return r2(*np.split(both, 2), weights)

    # ---- decisions ----

    def predict(self, X: Any) -> np.ndarray:
        """Predict targets.

        Parameters
        ----------
        X : DataFrame of pandas or polars, array-like or sparse matrix of shape (n_samples, n_features)
            With the columns of fit.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            The mean of the networks' predictions.
        """
        predictions = self._outputs(X)
        return predictions.ravel() if self._flat else predictions

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
