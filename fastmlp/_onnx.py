"""How skl2onnx converts the estimators. skl2onnx is imported when it is asked for, and only then."""

import functools

import numpy as np


@functools.cache
def register_onnx():
    """Tell skl2onnx how to convert `MLPClassifier` and `MLPRegressor`, alone or in a pipeline.

    skl2onnx converts the classes that it has been told of. Where it is loaded when an estimator is fitted, this has
    been done. Options and outputs are those of scikit-learn's classes; besides, two labels, several targets and
    `loss="poisson"` come out right.

    Raises
    ------
    ImportError
        If skl2onnx is not installed.

    Examples
    --------
    >>> fastmlp.register_onnx()                                             # doctest: +SKIP
    >>> skl2onnx.to_onnx(model, X[:1], options={"zipmap": False})           # doctest: +SKIP
    """
    from skl2onnx import update_registered_converter

    from fastmlp import MLPClassifier, MLPRegressor

    update_registered_converter(
        MLPClassifier,
        "FastmlpMLPClassifier",
        _classifier_shapes,
        _convert_classifier,
        options={"zipmap": [True, False, "columns"], "output_class_labels": [False, True], "nocl": [True, False]},
    )
    update_registered_converter(MLPRegressor, "FastmlpMLPRegressor", _regressor_shapes, _convert_regressor)


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
    names = {"logistic": "Sigmoid", "relu": "Relu"}  # the others are called the same in ONNX
    model, A = operator.raw_operator, _node(container, "Cast", operator.inputs[0], to=to)
    activations = [model.activation] * (len(model.coefs_) - 1) + [model.out_activation_]
    for W, b, f in zip(model.coefs_, model.intercepts_, activations, strict=True):
        Z = _node(container, "Add", _node(container, "MatMul", A, W.astype(dtype)), b.astype(dtype))
        A = _node(container, names.get(f, f.title()), Z)
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
