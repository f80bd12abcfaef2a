"""What the parameters of both estimators may be, each alone and all of them together."""

from numbers import Integral, Real

import numpy as np
from sklearn.metrics import get_scorer_names
from sklearn.utils._param_validation import Interval, Options, StrOptions

from fastmlp.compiled.activations import HIDDEN
from fastmlp.schedules import SCHEDULES, is_scikit_learns


class _OneEach(Options):
    """A list, all of whose values satisfy a constraint: one for each hidden layer.

    It is one of `Options` as scikit-learn takes only what is of its own constraints' types.
    """

    def __init__(self, constraint):
        super().__init__(object, set())
        self._constraint = constraint

    def is_satisfied_by(self, values):
        return isinstance(values, (list, tuple, np.ndarray)) and all(map(self._constraint.is_satisfied_by, values))

    def __str__(self):
        return f"a list with {self._constraint} for each hidden layer"


def _for_each_layer(constraint):
    return [constraint, _OneEach(constraint)]


_NUMBERS = Options(np.dtype, {np.dtype(np.float32), np.dtype(np.float64)})

CONSTRAINTS = {
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    "activation": _for_each_layer(StrOptions(set(HIDDEN))),
    "solver": [StrOptions({"lbfgs", "sgd", "adam"})],
    "alpha": [Interval(Real, 0, None, closed="left")],
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "learning_rate": [StrOptions(set(SCHEDULES)), callable],
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
    "dropout": _for_each_layer(Interval(Real, 0, 1, closed="left")),
    "clipnorm": [Interval(Real, 0, None, closed="neither"), None],
    "scoring": [StrOptions({"loss", *get_scorer_names()}), callable, None],
    "dtype": [StrOptions({"float32", "float64"}), Options(type, {np.float32, np.float64}), _NUMBERS, None],
    "max_time": [Interval(Real, 0, None, closed="neither"), None],
    "n_jobs": [Interval(Integral, 1, None, closed="left"), Interval(Integral, None, -1, closed="right"), None],
}
STOCHASTIC_SOLVERS = ["sgd", "adam"]
# What 'lbfgs', which takes no steps of our own, must leave as it is by default.
_OF_STEPS = {"weight_decay": 0.0, "dropout": 0.0, "clipnorm": None}


def check_combinations(model, call, hidden):
    """ValueError if parameters, or arguments of fit, do not go together; for a model of so many hidden layers."""
    if model.solver not in STOCHASTIC_SOLVERS:
        changed = [name for name, default in _OF_STEPS.items() if np.any(np.asarray(getattr(model, name)) != default)]
        if not is_scikit_learns(model.learning_rate):
            changed.append("learning_rate")
        for name in [*changed, *["X_val"] * (call.X_val is not None)]:
            of = f"={getattr(model, name)!r}" if name == "learning_rate" else ""
            raise ValueError(f"{name}{of} needs solver='adam' or 'sgd', got solver={model.solver!r}.")
    elif model.early_stopping and call.incremental:
        raise ValueError("partial_fit does not support early_stopping=True")
    for name in "activation", "dropout":
        check_one_each(name, getattr(model, name), hidden)
    check_validation_arguments(call.X_val, call.y_val, call.sample_weight_val)


def check_one_each(name, value, hidden):
    """ValueError if a parameter has not one value for all hidden layers, or one for each."""
    if not isinstance(value, (str, Real)) and len(value) != hidden:
        raise ValueError(f"{name} must have a value for each of the {hidden} hidden layers, got {value!r}.")


def check_validation_arguments(X_val, y_val, sample_weight_val):
    """ValueError if one is there without another that it needs."""
    if X_val is not None and y_val is None:
        raise ValueError("X_val is provided, but y_val was not provided.")
    for name, value in {"y_val": y_val, "sample_weight_val": sample_weight_val}.items():
        if X_val is None and value is not None:
            raise ValueError(f"{name} is provided, but X_val was not provided.")
