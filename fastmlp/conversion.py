"""From and to others: scikit-learn's own estimators, skops and ONNX. None is imported before it is asked for."""

import copy
import functools

import numpy as np

from fastmlp.compiled.activations import HIDDEN, OUTPUTS
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

# The types that a saved estimator is made of and that skops does not know; the last two are those of 0.1.0:
# `skops.io.load(file, trusted=fastmlp.SKOPS_TRUSTED)`.
SKOPS_TRUSTED = [
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

# ---- ONNX -------------------------------------------------------------------------------------------------------


@functools.cache
def register(cls):
    """Tell skl2onnx how to convert one of our classes; ImportError if it is not installed."""
    from skl2onnx import update_registered_converter

    if hasattr(cls, "predict_proba"):
        options = {"zipmap": [True, False, "columns"], "output_class_labels": [False, True], "nocl": [True, False]}
        functions = _classifier_shapes, _convert_classifier
    else:
        options, functions = None, (_regressor_shapes, _convert_regressor)
    update_registered_converter(cls, f"Fastmlp{cls.__name__}", *functions, options=options)


def _classifier_shapes(operator):
    from skl2onnx.common.data_types import Int64TensorType, StringTensorType

    model, rows = operator.raw_operator, operator.inputs[0].get_first_dimension()
    label, probabilities = operator.outputs[:2]
    tensor = Int64TensorType if model.classes_.dtype.kind in "iufb" else StringTensorType
    label.set_type(tensor([rows, model.n_outputs_] if model._multilabel() else [rows]))
    probabilities.set_type(_float_tensor(operator, max(2, model.n_outputs_)))


def _regressor_shapes(operator):
    operator.outputs[0].set_type(_float_tensor(operator, operator.raw_operator.n_outputs_))


def _float_tensor(operator, columns):
    """A matrix with a row for each row of X, of float64 if X is, else of float32."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    X = operator.inputs[0]
    tensor = DoubleTensorType if isinstance(X.type, DoubleTensorType) else FloatTensorType
    return tensor([X.get_first_dimension(), columns])


def _node(container, name, *inputs, **attributes):
    from skl2onnx.algebra import onnx_ops

    return getattr(onnx_ops, f"Onnx{name}")(*inputs, op_version=container.target_opset, **attributes)


def _forward(operator, container, dtype, to):
    """A_i = f(A_{i-1} W_i + b_i), layer by layer."""

    def node(name, *inputs):
        inputs = [dtype([x]) if isinstance(x, float) else x for x in inputs]
        return _node(container, name, *inputs)

    model, A = operator.raw_operator, _node(container, "Cast", operator.inputs[0], to=to)
    *hidden, output = model._activations(len(model.coefs_) - 1)
    activations = [*(HIDDEN[name] for name in hidden), OUTPUTS[output]]
    for W, b, f in zip(model.coefs_, model.intercepts_, activations, strict=True):
        Z = node("Add", node("MatMul", A, W.astype(dtype)), b.astype(dtype))
        A = node(f.onnx, Z) if isinstance(f.onnx, str) else f.onnx(node, Z)
    return A


def _convert_regressor(scope, operator, container):
    from skl2onnx.common.data_types import guess_numpy_type, guess_proto_type

    (Y,) = operator.outputs
    A = _forward(operator, container, guess_numpy_type(Y.type), guess_proto_type(Y.type))
    _node(container, "Identity", A, output_names=[Y]).add_to(scope, container)


def _convert_classifier(scope, operator, container):
    from onnx import TensorProto
    from skl2onnx.common.data_types import guess_numpy_type, guess_proto_type

    model, (label, probabilities) = operator.raw_operator, operator.outputs[:2]
    dtype = guess_numpy_type(probabilities.type)
    A = _forward(operator, container, dtype, guess_proto_type(probabilities.type))
    if model._multilabel():
        decision = _node(container, "Cast", _node(container, "Greater", A, dtype([0.5])), to=TensorProto.INT64)
    else:
        if model.n_outputs_ == 1:
            A = _node(container, "Concat", _node(container, "Sub", dtype([1]), A), A, axis=1)
        classes = np.resize(model.classes_, max(2, len(model.classes_)))  # a single one is both
        classes = classes.astype(np.int64) if classes.dtype.kind in "iufb" else classes.astype(str)
        decision = _node(container, "Gather", classes, _node(container, "ArgMax", A, axis=1, keepdims=0))
    _node(container, "Identity", A, output_names=[probabilities]).add_to(scope, container)
    _node(container, "Identity", decision, output_names=[label]).add_to(scope, container)
