"""ONNX: converters for skl2onnx, which is not imported before it is asked for.

Each is told of types and shapes first, and then to make nodes. Tables come as one matrix, or as an input for each
column, or something in between: columns are counted over all inputs.
"""

import functools
import sys

import numpy as np

from fastmlp.compiled.activations import HIDDEN, OUTPUTS
from fastmlp.compiled.tabular import FREQUENCIES, OF_CATEGORY, OF_NUMBER

# Ours that skl2onnx can be told of, as far as they are imported.
CONVERTIBLE = []


def convertible(cls):
    """Decorate a class that skl2onnx can be told of."""
    CONVERTIBLE.append(cls)
    return cls


@functools.cache
def register(cls):
    """Tell skl2onnx how to convert one of our classes; ImportError if it is not installed."""
    from skl2onnx import update_registered_converter

    classifier, regressor = (_classifier_shapes, _convert_classifier), (_regressor_shapes, _convert_regressor)
    functions = {
        "MLPClassifier": classifier,
        "MLPRegressor": regressor,
        "RealMLPClassifier": classifier,
        "RealMLPRegressor": regressor,
        "TableEncoder": (_encoder_shapes, _convert_encoder),
        "RobustScaleSmoothClip": (_scaler_shapes, _convert_scaler),
    }[cls.__name__]
    options = {"zipmap": [True, False, "columns"], "output_class_labels": [False, True], "nocl": [True, False]}
    of_class = options if functions == classifier else None
    update_registered_converter(cls, f"Fastmlp{cls.__name__}", *functions, options=of_class)


def tell_skl2onnx():
    """Where skl2onnx is loaded, it shall know our classes; where it is not, nothing is done for it."""
    if "skl2onnx" in sys.modules:
        for cls in CONVERTIBLE:
            register(cls)


# ---- types and shapes -------------------------------------------------------------------------------------------


def _float_tensor(operator, columns):
    """A matrix with a row for each row of X, of float64 if any of X is, else of float32."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    double = any(isinstance(X.type, DoubleTensorType) for X in operator.inputs)
    tensor = DoubleTensorType if double else FloatTensorType
    return tensor([operator.inputs[0].get_first_dimension(), columns])


def _classifier_shapes(operator):
    from skl2onnx.common.data_types import Int64TensorType, StringTensorType

    model, rows = operator.raw_operator, operator.inputs[0].get_first_dimension()
    label, probabilities = operator.outputs[:2]
    tensor = Int64TensorType if model.classes_.dtype.kind in "iufb" else StringTensorType
    label.set_type(tensor([rows, model.n_outputs_] if _multilabel(model) else [rows]))
    columns = model.n_outputs_ if hasattr(model, "networks_") else max(2, model.n_outputs_)
    probabilities.set_type(_float_tensor(operator, columns))


def _regressor_shapes(operator):
    operator.outputs[0].set_type(_float_tensor(operator, operator.raw_operator.n_outputs_))


def _encoder_shapes(operator):
    encoder = operator.raw_operator
    columns = encoder.n_numbers_ + encoder.n_plain_ + len(encoder.category_counts_)
    operator.outputs[0].set_type(_float_tensor(operator, columns))


def _scaler_shapes(operator):
    operator.outputs[0].set_type(_float_tensor(operator, operator.raw_operator.n_features_in_))


def _multilabel(model):
    return hasattr(model, "_multilabel") and model._multilabel()


# ---- nodes ------------------------------------------------------------------------------------------------------


def _nodes_of(container, dtype):
    """What makes nodes, `node("Add", Z, 1.0)`: floats among the inputs, and arrays of them, become of this dtype."""
    from onnx import TensorProto
    from skl2onnx.algebra import onnx_ops

    names = {np.float32: TensorProto.FLOAT, np.float64: TensorProto.DOUBLE, np.int64: TensorProto.INT64}

    def constant(x):
        if isinstance(x, float):
            return dtype([x])
        return x.astype(dtype) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x

    def node(name, *inputs, to=None, **attributes):
        if name == "Cast":
            attributes["to"] = names[to or dtype]
        return getattr(onnx_ops, f"Onnx{name}")(*map(constant, inputs), op_version=container.target_opset, **attributes)

    return node


def _put_out(scope, container, node, *pairs):
    for output, result in pairs:
        node("Identity", result, output_names=[output]).add_to(scope, container)


def _take(node, X, columns):
    return node("Gather", X, np.array(columns, np.int64), axis=1)


def _joined(node, parts):
    """Matrices side by side."""
    return parts[0] if len(parts) == 1 else node("Concat", *parts, axis=1)


# ---- estimators -------------------------------------------------------------------------------------------------


def _convert_regressor(scope, operator, container):
    node, A = _outputs(operator, container, operator.outputs[0])
    _put_out(scope, container, node, (operator.outputs[0], A))


def _convert_classifier(scope, operator, container):
    model, (label, probabilities) = operator.raw_operator, operator.outputs[:2]
    node, A = _outputs(operator, container, probabilities)
    if _multilabel(model):
        decision = node("Cast", node("Greater", A, 0.5), to=np.int64)
    else:
        if model.n_outputs_ == 1 and not hasattr(model, "networks_"):
            A = node("Concat", node("Sub", 1.0, A), A, axis=1)
        classes = np.resize(model.classes_, max(2, len(model.classes_)))  # a single one is both
        classes = classes.astype(np.int64) if classes.dtype.kind in "iufb" else classes.astype(str)
        decision = node("Gather", classes, node("ArgMax", A, axis=1, keepdims=0))
    _put_out(scope, container, node, (probabilities, A), (label, decision))


def _outputs(operator, container, result):
    """What makes nodes, in the type of the result, and the outputs of the estimator's network, or of its networks."""
    from skl2onnx.common.data_types import guess_numpy_type

    node, model = _nodes_of(container, guess_numpy_type(result.type)), operator.raw_operator
    if hasattr(model, "networks_"):
        return node, _outputs_of_networks(node, operator, container)
    A = node("Cast", operator.inputs[0])
    return node, _dense(node, A, model.coefs_, model.intercepts_, model._activations(len(model.coefs_) - 1))


def _dense(node, A, weights, biases, activations, blends=()):
    """A_i = f(A_{i-1} W_i + b_i), layer by layer; or z + blend (f(z) - z) for z = A_{i-1} W_i + b_i."""
    for i, (W, b, name) in enumerate(zip(weights, biases, activations, strict=True), start=1):
        f = (OUTPUTS if i == len(weights) else HIDDEN)[name]
        Z = node("Add", node("MatMul", A, W), b)
        A = node(f.onnx, Z) if isinstance(f.onnx, str) else f.onnx(node, Z)
        if i <= len(blends):
            A = node("Add", Z, node("Mul", blends[i - 1], node("Sub", A, Z)))
    return A


# ---- RealMLP ----


def _outputs_of_networks(node, operator, container):
    """The mean of what the networks say of a table, which is encoded and scaled in float64."""
    model, double, outputs = operator.raw_operator, _nodes_of(container, np.float64), []
    table, codes = _encoded(double, model.encoder_, operator.inputs)
    for network, scaler, targets in zip(model.networks_, model.scalers_, model._targets, strict=True):
        X = None if scaler is None else node("Cast", _scaled(double, table, scaler.center_, scaler.scale_, 0.0))
        A = _input(node, network, X, codes)
        A = _dense(node, A, network.weights, network.biases, network.activations, network.beside["blends"])
        if targets is not None:
            mean, spread, low, high = targets
            A = node("Add", node("Mul", A, spread), mean)
            if model._clamps():
                A = node("Max", node("Min", A, high), low)
        outputs.append(A)
    return node("Div", node("Sum", *outputs), float(len(outputs)))


def _input(node, network, X, codes):
    """A_0 = [numbers embedded, columns as they are, rows of tables], see `compiled.tabular`."""
    beside, n, parts = network.beside, network.tabular.numbers, []
    plain = list(range(n, network.columns - len(codes)))
    if n > 0:
        w, v, W, b = np.split(beside["embeddings"], np.cumsum([1, 1, 3]) * FREQUENCIES, axis=1)
        W, b = W.reshape(n, OF_NUMBER - 1, FREQUENCIES).transpose(0, 2, 1), b[:, : OF_NUMBER - 1]
        # column by column: (n, rows, 1), (n, rows, 16), (n, rows, 4)
        x = node("Reshape", node("Transpose", _take(node, X, range(n))), np.array([n, -1, 1]))
        h = node("Cos", node("Add", node("Mul", x, 2 * np.pi * w[:, np.newaxis]), v[:, np.newaxis]))
        embedded = node("Concat", node("Add", node("MatMul", h, W), b[:, np.newaxis]), x, axis=2)
        embedded = node("Transpose", embedded, perm=[1, 0, 2])
        parts.append(node("Reshape", embedded, np.array([-1, OF_NUMBER * n])))
    if plain:
        parts.append(_take(node, X, plain))
    for table, code in zip(beside["tables"], codes, strict=True):
        parts.append(node("Reshape", node("Gather", table, code), np.array([-1, OF_CATEGORY])))
    return _joined(node, parts)


# ---- transformers -----------------------------------------------------------------------------------------------


def _convert_scaler(scope, operator, container):
    from skl2onnx.common.data_types import guess_numpy_type

    scaler, double = operator.raw_operator, _nodes_of(container, np.float64)
    X = _joined(double, [double("Cast", X) for X in operator.inputs])
    X = _scaled(double, X, scaler.center_, scaler.scale_, 0.0 if scaler.impute else np.nan)
    X = double("Cast", X, to=guess_numpy_type(operator.outputs[0].type))
    _put_out(scope, container, double, (operator.outputs[0], X))


def _scaled(node, X, center, scale, missing):
    """z = (x - center) scale, z / sqrt(1 + (z / 3)^2), with the same care for large x as `RobustScaleSmoothClip`."""
    z = node("Mul", node("Sub", node("Mul", X, 0.5), center / 2), 2 * scale)
    clipped = node("Max", node("Min", z, 1e100), -1e100)
    third = node("Div", clipped, 3.0)
    z_new = node("Div", clipped, node("Sqrt", node("Add", node("Mul", third, third), 1.0)))
    return node("Where", node("IsNaN", z), missing, z_new)


def _convert_encoder(scope, operator, container):
    from skl2onnx.common.data_types import guess_numpy_type

    double = _nodes_of(container, np.float64)
    table, codes = _encoded(double, operator.raw_operator, operator.inputs)
    parts = [*([] if table is None else [table]), *(double("Cast", code) for code in codes)]
    X = double("Cast", _joined(double, parts), to=guess_numpy_type(operator.outputs[0].type))
    _put_out(scope, container, double, (operator.outputs[0], X))


def _encoded(node, encoder, inputs):
    """Columns of numbers, indicators and one-hots, of which there may be none, and the codes of each other column."""
    numbers, indicators, one_hots, codes = [], [], [], []
    of_categories = zip(encoder.categories_, encoder._kinds, encoder._coded, strict=True)
    for X, first, last in _spans(encoder, inputs):
        categorical = encoder.is_categorical_[first:last]
        if not categorical.all():
            _check_type(X, text=False)
            numbers.append(node("Cast", _take(node, X, np.flatnonzero(~categorical))))
        missing = [i - first for i in encoder.missing_features_ if first <= i < last]
        if missing:
            indicators.append(node("Cast", node("IsNaN", node("Cast", _take(node, X, missing)))))
        for i in np.flatnonzero(categorical):
            categories, kinds, coded = next(of_categories)
            code = _code(node, _take(node, X, [i]), X, categories, kinds)
            if coded:
                codes.append(code)
            elif len(categories) > 0:
                one_hots.append(_one_hot(node, code, len(categories)))
    table = [*numbers, *indicators, *one_hots]
    return _joined(node, table) if table else None, codes


def _spans(encoder, inputs):
    """The inputs, and which columns of the table each has: from this one up to that one."""
    n = encoder.n_features_in_
    widths = [n if len(inputs) == 1 else X.get_second_dimension() for X in inputs]
    if sum(width or 0 for width in widths) != n:
        raise ValueError(f"The inputs must have {n} columns together, got inputs of {widths} columns.")
    ends = np.cumsum(widths)
    return list(zip(inputs, ends - widths, ends, strict=True))


def _check_type(X, text):
    from skl2onnx.common.data_types import StringTensorType

    if isinstance(X.type, StringTensorType) != text:
        held, tensor = ("text", "strings") if text else ("numbers", "numbers or bool")
        raise ValueError(f"Input {X.raw_name!r} has a column that held {held} in fit: it must be a tensor of {tensor}.")


def _code(node, column, X, categories, kinds):
    """1, 2, ... for the categories of a column of the input X, 0 for what is none of them."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    text, codes = "text" in kinds, np.arange(1, len(categories) + 1)
    _check_type(X, text)
    if text:
        return _looked_up(column, keys_strings=list(categories), values_int64s=codes)
    if isinstance(X.type, (FloatTensorType, DoubleTensorType)):
        is_category = node("Equal", node("Cast", column), categories.astype(np.float64))
        return node("MatMul", node("Cast", is_category, to=np.int64), codes[:, np.newaxis])
    whole = {int(c): code for c, code in zip(categories, codes, strict=True) if abs(c) < 2**63 and c == int(c)}
    return _looked_up(node("Cast", column, to=np.int64), keys_int64s=[*whole], values_int64s=[*whole.values()])


def _looked_up(column, **tables):
    from skl2onnx.algebra.onnx_ops import OnnxLabelEncoder_2

    return OnnxLabelEncoder_2(column, op_version=2, default_int64=0, **tables)


def _one_hot(node, code, n_categories):
    """Its columns: one for each category, but of two categories a single one."""
    if n_categories <= 2:
        return node("Gather", np.array([[-1.0, 1.0], [0.0, 1.0, -1.0]][n_categories - 1]), code)
    return node("Cast", node("Equal", code, np.arange(1, n_categories + 1)))
