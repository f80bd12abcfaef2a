"""From and to others: scikit-learn's own estimators, and skops; of ONNX see `_onnx.py`. None is imported here."""

import copy

from fastmlp.optimizers import SGD, Adam
from fastmlp.schedules import is_scikit_learns

# Parameters that scikit-learn's estimators do not have, and what they are by default.
OWN_PARAMETERS = {
    "weight_decay": 0.0, "dropout": 0.0, "clipnorm": None, "scoring": None, "dtype": None, "max_time": None,
    "n_jobs": None, "class_weight": None, "label_smoothing": 0.0, "huber_delta": 1.0, "quantile": 0.5,
}  # fmt: skip
# What scikit-learn's may be, where ours may be more and would predict something else.
_IN_SKLEARN = {"activation": ["identity", "logistic", "tanh", "relu"], "loss": ["squared_error", "poisson"]}
# Attributes that scikit-learn's do not have, or None.
OWN_ATTRIBUTES = "validation_loss_curve_", "best_iter_", "_scoring"

# ---- scikit-learn -----------------------------------------------------------------------------------------------


def to_sklearn(model):
    """See the method of this name."""
    from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

    theirs = model._sklearn_class()()
    parameters = model.get_params(deep=False)
    if not isinstance(model.activation, str):
        names = [str(name) for name in model.activation] or ["relu"]  # without hidden layers any will do
        parameters["activation"] = names[0] if len({*names}) == 1 else names
    for name, known in _IN_SKLEARN.items():
        if name in parameters and parameters[name] not in known:
            raise ValueError(f"scikit-learn's {type(theirs).__name__} has no {name}={parameters[name]!r}.")
    left_out = "_fastmlp_format", "_optimizer", "_skl_callbacks", *OWN_ATTRIBUTES, *OWN_PARAMETERS
    state = {name: value for name, value in model.__getstate__().items() if name not in left_out}
    vars(theirs).update(copy.deepcopy(state))
    for argument in "X_val", "y_val", "sample_weight_val":  # of fit, which may have been asked for
        if hasattr(theirs, "_metadata_request"):
            theirs._metadata_request.fit.requests.pop(argument, None)
    theirs.activation = parameters["activation"]
    if not is_scikit_learns(model.learning_rate):
        theirs.learning_rate = "constant"
    if hasattr(model, "_optimizer"):
        ours = model._optimizer
        numbers = {name: getattr(ours, name) for name in ours.parameters}
        if ours.schedule.by_batches:  # theirs goes on at the last rate
            numbers |= {"lr_schedule": "constant"} if "lr_schedule" in numbers else {"learning_rate_init": ours.rate}
        optimizer = {Adam: AdamOptimizer, SGD: SGDOptimizer}[type(ours)](theirs.coefs_ + theirs.intercepts_, **numbers)
        optimizer.learning_rate = ours.learning_rate
        for name in ours.progress + ours.moments:
            # without momentum ours has no velocities, and those of theirs do not count
            if (value := getattr(ours, name)) != []:
                if name == "velocities" and ours.schedule.by_batches:  # then the rate is not in them
                    value = [-ours.learning_rate * moment for moment in value]
                setattr(optimizer, name, value)
        theirs._optimizer = optimizer
    return theirs


def from_sklearn(cls, theirs):
    """See the method of this name."""
    if not isinstance(theirs, cls._sklearn_class()):
        raise TypeError(f"{cls.__name__}.from_sklearn takes scikit-learn's {cls.__name__}, got {theirs!r}.")
    left_out = "_optimizer", "_coef_indptr", "_intercept_indptr"
    ours = cls()
    ours.__setstate__(copy.deepcopy({name: v for name, v in vars(theirs).items() if name not in left_out}))
    if hasattr(theirs, "_optimizer"):
        optimizer = vars(theirs._optimizer)
        ours._optimizer = (Adam if "ms" in optimizer else SGD).from_state(
            ours._network_of_coefs(), optimizer | {"max_iter": theirs.max_iter}
        )
    return ours


# ---- skops ------------------------------------------------------------------------------------------------------

# The types that a saved estimator is made of and that skops does not know; first what `python -m fastmlp TABLE` makes
# of dates, and last those of 0.1.0:
# `skops.io.load(file, trusted=fastmlp.SKOPS_TRUSTED)`.
SKOPS_TRUSTED = [
    "fastmlp._own_table.numbers_of_dates",
    "fastmlp.estimators.MLPClassifier",
    "fastmlp.estimators.MLPRegressor",
    "fastmlp.optimizers.Adam",
    "fastmlp.optimizers.SGD",
    "fastmlp.preprocessing.RobustScaleSmoothClip",
    "fastmlp.preprocessing.TableEncoder",
    "fastmlp.realmlp.RealMLPClassifier",
    "fastmlp.realmlp.RealMLPRegressor",
    "fastmlp.training.Adam",
    "fastmlp.training.SGD",
]
