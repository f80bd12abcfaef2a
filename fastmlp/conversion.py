"""From and to others: scikit-learn's own estimators, and ONNX. skl2onnx is imported only when it is asked for."""

import copy
import functools

import numpy as np

from fastmlp.compiled.activations import HIDDEN, OUTPUTS
from fastmlp.optimizers import SGD, Adam

# Parameters that scikit-learn's estimators do not have, and what they are by default.
OWN_PARAMETERS = {"weight_decay": 0.0, "huber_delta": 1.0}
# What ours may be where scikit-learn's may be less.
_IN_SKLEARN = {
    "activation": ["identity", "logistic", "tanh", "relu"],
    "learning_rate": ["constant", "invscaling", "adaptive"],
    "loss": ["squared_error", "poisson"],
    **{name: [default] for name, default in OWN_PARAMETERS.items()},
}

# ---- scikit-learn -----------------------------------------------------------------------------------------------


def to_sklearn(model):
    """See the method of this name."""
    from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

    theirs = model._sklearn_class()()
    for name, value in model.get_params(deep=False).items():
        if value not in _IN_SKLEARN.get(name, [value]):
            raise ValueError(f"scikit-learn's {type(theirs).__name__} has no {name}={value!r}.")
    left_out = "_network", "_optimizer", *OWN_PARAMETERS
    vars(theirs).update(copy.deepcopy({name: value for name, value in vars(model).items() if name not in left_out}))
    if hasattr(model, "_optimizer"):
        ours = model._optimizer
        optimizer = {Adam: AdamOptimizer, SGD: SGDOptimizer}[type(ours)](
            theirs.coefs_ + theirs.intercepts_, **{name: getattr(ours, name) for name in ours.parameters}
        )
        optimizer.learning_rate = ours.learning_rate
        for name in ours.progress + ours.moments:
            # without momentum ours has no velocities, and those of theirs do not count
            if (value := getattr(ours, name)) != []:
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
        ours._optimizer = (Adam if "ms" in optimizer else SGD).from_state(ours._network_of_coefs(), optimizer)
    return ours


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
    label.set_type(tensor([rows, model.n_outputs_] if _multilabel(model) else [rows]))
    probabilities.set_type(_float_tensor(operator, max(2, model.n_outputs_)))


def _regressor_shapes(operator):
    operator.outputs[0].set_type(_float_tensor(operator, operator.raw_operator.n_outputs_))


def _float_tensor(operator, columns):
    """A matrix with a row for each row of X, of float64 if X is, else of float32."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    X = operator.inputs[0]
    tensor = DoubleTensorType if isinstance(X.type, DoubleTensorType) else FloatTensorType
    return tensor([X.get_first_dimension(), columns])


def _multilabel(model):
    return model._label_binarizer.y_type_.startswith("multilabel")


def _node(container, name, *inputs, **attributes):
    from skl2onnx.algebra import onnx_ops

    return getattr(onnx_ops, f"Onnx{name}")(*inputs, op_version=container.target_opset, **attributes)


def _forward(operator, container, dtype, to):
    """A_i = f(A_{i-1} W_i + b_i), layer by layer."""

    def node(name, *inputs):
        inputs = [dtype([x]) if isinstance(x, float) else x for x in inputs]
        return _node(container, name, *inputs)

    model, A = operator.raw_operator, _node(container, "Cast", operator.inputs[0], to=to)
    activations = [HIDDEN[model.activation]] * (len(model.coefs_) - 1) + [OUTPUTS[model.out_activation_]]
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
    if _multilabel(model):
        decision = _node(container, "Cast", _node(container, "Greater", A, dtype([0.5])), to=TensorProto.INT64)
    else:
        if model.n_outputs_ == 1:
            A = _node(container, "Concat", _node(container, "Sub", dtype([1]), A), A, axis=1)
        classes = np.resize(model.classes_, max(2, len(model.classes_)))  # a single one is both
        classes = classes.astype(np.int64) if classes.dtype.kind in "iufb" else classes.astype(str)
        decision = _node(container, "Gather", classes, _node(container, "ArgMax", A, axis=1, keepdims=0))
    _node(container, "Identity", A, output_names=[probabilities]).add_to(scope, container)
    _node(container, "Identity", decision, output_names=[label]).add_to(scope, container)
