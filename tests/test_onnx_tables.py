"""skl2onnx converts RealMLP and its transformers, preprocessing included: ONNX Runtime predicts what they predict."""

import numpy as np
import pytest
from helpers import run_python
from models import INDICATOR, LABELS, WORDS, N, X
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from test_onnx import assert_onnx, run_onnx

import fastmlp

skl2onnx, onnxruntime = pytest.importorskip("skl2onnx"), pytest.importorskip("onnxruntime")
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

SMALL = {"hidden_layer_sizes": (8, 8), "max_iter": 3, "batch_size": 8, "random_state": 0}
HOLES = np.where(np.arange(N)[:, np.newaxis] % 5 == [9, 2, 9, 3], np.nan, 100 * X + 1000)
# name: (class, targets)
TASKS = {
    "classes": ("RealMLPClassifier", LABELS),
    "words": ("RealMLPClassifier", WORDS),
    "two classes": ("RealMLPClassifier", LABELS > 0),
    "a single class": ("RealMLPClassifier", LABELS * 0 + 7),
    "one target": ("RealMLPRegressor", 10 * X[:, 0] + 5),
    "two targets": ("RealMLPRegressor", X[:, :2] * [1, 100]),
}
tasks = pytest.mark.parametrize("task", TASKS)
variants = pytest.mark.parametrize("variant", ["td", "td-s"])


@pytest.fixture(autouse=True)
def _registered():
    fastmlp.register_onnx()


# columns of `table` that hold categories
CATEGORICAL = ["twelve", "one", "two", "flag", "five", "grade", "many grades", "size"]


def make(task, variant="td", **parameters):
    name, y = TASKS[task]
    return getattr(fastmlp, name)(variant, **(SMALL | parameters)), y


def names(k):
    """So many categories in turn, for all rows."""
    return [f"c{i % k}" for i in range(N)]


def table(dtype):
    """Numbers, some missing, and categories of each kind and count that is encoded in a way of its own."""
    pandas = pytest.importorskip("pandas")
    columns = {
        "twelve": names(12),
        "number": X[:, 0].astype(dtype),
        "holes": HOLES[:, 1].astype(dtype),
        "one": names(1),
        "count": np.arange(N) % 7,
        "two": pandas.Categorical(names(2)),
        "flag": LABELS > 0,
        "five": names(5),
        "grade": pandas.Categorical(np.arange(N) % 3 * 10),
        "many grades": pandas.Categorical(np.arange(N) % 10),
        "size": (np.arange(N) % 4 / 2).astype(dtype),
    }
    return pandas.DataFrame(columns)


def with_news(frame):
    """A table with values that are missing, or that no category had in fit; none in columns of int or bool."""
    frame = frame.astype(dict.fromkeys(["twelve", "one", "two", "five", "grade", "many grades"], object))
    for i, column in enumerate(["twelve", "one", "two", "five"]):
        frame.loc[i, column], frame.loc[i + 4, column] = "new", None
    frame.loc[8, "grade"], frame.loc[9, "many grades"], frame.loc[10, "size"] = 11, 99, 0.7
    frame.loc[11, "size"], frame.loc[11, "number"], frame.loc[12, "holes"] = np.nan, np.nan, np.nan
    return frame


def inputs(graph, frame):
    """The columns of a table as ONNX Runtime takes them; a missing text is the empty string."""
    types, found = {1: np.float32, 7: np.int64, 8: object, 9: bool, 11: np.float64}, {}
    for entry, name in zip(graph.graph.input, frame, strict=True):  # skl2onnx has other names where there are spaces
        dtype = types[entry.type.tensor_type.elem_type]
        column = frame[name].astype(object)
        column = column.fillna("") if dtype is object else column
        found[entry.name] = column.to_numpy().astype(dtype)[:, np.newaxis]
    return found


def run_on_table(model, frame, rows, **options):
    """What ONNX Runtime puts out for these rows, of a model converted with a row of the frame that it was fitted to."""
    options = {"zipmap": False} if hasattr(model, "predict_proba") and not options else options
    graph = skl2onnx.to_onnx(model, frame[:1], options=options or None)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs(graph, rows))


# ---- estimators -------------------------------------------------------------------------------------------------


@variants
@tasks
def test_matrix(task, variant):
    """Of numbers, of which some are missing: in float32 within 1e-4, in float64 within 1e-9."""
    for dtype, tolerance in (np.float32, 1e-4), (np.float64, 1e-9):
        model, y = make(task, variant, dtype=np.dtype(dtype).name)
        assert_onnx(model.fit(HOLES.astype(dtype), y), HOLES.astype(dtype), tolerance)


@pytest.mark.parametrize("n_estimators", [1, 2])
@variants
@tasks
def test_table(task, variant, n_estimators):
    """The same of a table with an input for each column, where values are new and missing."""
    for dtype, tolerance in (np.float32, 1e-4), (np.float64, 1e-9):
        frame = table(dtype)
        rows, (model, y) = with_news(frame), make(task, variant, dtype=np.dtype(dtype).name)
        model.set_params(n_estimators=n_estimators, categorical_features=CATEGORICAL).fit(frame, y)
        found = run_on_table(model, frame, rows)
        if hasattr(model, "predict_proba"):
            expected = model.predict_proba(rows)
            assert found[0].tolist() == model.predict(rows).tolist()
        else:
            expected = model.predict(rows).reshape(N, -1)
        assert (found[-1].shape, found[-1].dtype) == (expected.shape, dtype)
        np.testing.assert_allclose(found[-1], expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("clamp", [False, True])
def test_clamp(clamp):
    """Where rows are far from all that the network has seen."""
    model = fastmlp.RealMLPRegressor("td-s", clamp=clamp, dtype="float64", **SMALL | {"max_iter": 20})
    expected = model.fit(X, np.sign(X[:, 0])).predict(30 * X)
    assert (np.abs(expected).max() > 1) == (not clamp)
    np.testing.assert_allclose(run_onnx(model, 30 * X)[0].ravel(), expected, rtol=1e-9)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_other_parameters(activation):
    """Each part of a variant alone, and no hidden layer."""
    for parameters in {"embedding": True}, {"parametric": activation == "gelu"}, {"hidden_layer_sizes": ()}:
        model, y = make("classes", "td-s", **{"activation": activation, "dtype": "float64"} | parameters)
        assert_onnx(model.fit(X, y), X, 1e-9)


def test_in_a_search_and_options():
    """With skl2onnx's options for classifiers."""
    frame, (model, y) = table(np.float32), make("words")
    search = GridSearchCV(model, {"n_estimators": [2]}, cv=2).fit(frame, y)
    labels, dicts = run_on_table(search, frame, frame, zipmap=True)
    expected = search.predict_proba(frame)
    assert labels.tolist() == search.predict(frame).tolist()
    np.testing.assert_allclose([[d[c] for c in search.classes_] for d in dicts], expected, atol=1e-4)
    model.fit(frame, y)
    columns = run_on_table(model, frame, frame, zipmap="columns")[1:]
    np.testing.assert_allclose(np.column_stack(columns), model.predict_proba(frame), atol=1e-4)
    assert run_on_table(model, frame, frame, zipmap=False, output_class_labels=True)[2].tolist() == [
        "ant",
        "bee",
        "cow",
    ]


def test_inputs_of_several_columns():
    """Columns are counted over all inputs: those of numbers may be one, and those of text another."""
    rows = np.array([[f"c{i % 3}", f"c{i % 2}", i % 5 / 5, -i / 9] for i in range(N)], dtype=object)
    model, y = make("classes", dtype="float64")
    model.fit(rows, y)
    text, numbers = skl2onnx.common.data_types.StringTensorType, skl2onnx.common.data_types.DoubleTensorType
    types = [("text", text([None, 2])), ("numbers", numbers([None, 2]))]
    graph = skl2onnx.convert_sklearn(model, initial_types=types, options={"zipmap": False})
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"text": rows[:, :2], "numbers": rows[:, 2:].astype(np.float64)})[1]
    np.testing.assert_allclose(found, model.predict_proba(rows), rtol=1e-9)
    for wrong, words in {
        "4 columns together, got inputs of": [types[0], ("numbers", numbers([None, 1]))],
        "Input 'text' has a column that held text": [("text", numbers([None, 2])), types[1]],
        "Input 'numbers' has a column that held numbers": [types[0], ("numbers", text([None, 2]))],
    }.items():
        with pytest.raises(ValueError, match=wrong):
            skl2onnx.convert_sklearn(model, initial_types=words)


# ---- transformers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_one_hot", [None, 8, 0])
def test_encoder(max_one_hot):
    """The same numbers, in float32 where nothing is of float64."""
    for dtype in np.float32, np.float64:
        frame = table(dtype)
        encoder = fastmlp.TableEncoder(CATEGORICAL, max_one_hot=max_one_hot).fit(frame)
        (found,), expected = run_on_table(encoder, frame, with_news(frame)), encoder.transform(with_news(frame))
        assert (found.shape, found.dtype) == (expected.shape, dtype)
        np.testing.assert_array_equal(found, expected.astype(dtype))


def test_encoder_of_odd_categories():
    """An empty string that is a category, numbers that float64 does not tell apart, and text among numbers."""
    pandas = pytest.importorskip("pandas")
    columns = {"text": ["", "a", "b"], "large": [2**60, 2**60 + 1, 2**60 + 2], "mixed": ["1", 2, "x"]}
    frame = pandas.DataFrame(columns).astype({"mixed": object})
    encoder = fastmlp.TableEncoder(categorical_features=[0, 1, 2]).fit(frame)
    (found,) = run_on_table(encoder, frame, frame.astype({"mixed": str}))
    assert found.tolist() == encoder.transform(frame).tolist() == np.tile(np.eye(3), 3).tolist()


def test_encoder_of_categories_alone():
    """An array of text is one input; where all are codes nothing else is put out, and nothing at all of no category."""
    rows = np.array([[f"c{i % 3}", f"c{i % 2}"] for i in range(N)])
    for max_one_hot in None, 0:
        encoder = fastmlp.TableEncoder(max_one_hot=max_one_hot).fit(rows)
        assert run_onnx(encoder, rows)[0].tolist() == encoder.transform(rows).tolist()


@pytest.mark.parametrize("impute", [False, True])
def test_scaler(impute):
    """Numbers of any size, missing ones, and a column where all are."""
    rows = np.column_stack([HOLES, X[:, 0] * 1e30, np.full(N, np.nan), np.ones(N)])
    for dtype, tolerance in (np.float32, 1e-6), (np.float64, 1e-12):
        scaler = fastmlp.RobustScaleSmoothClip(impute=impute).fit(rows.astype(dtype))
        expected = scaler.transform(rows.astype(dtype))
        np.testing.assert_allclose(run_onnx(scaler, rows.astype(dtype))[0], expected, rtol=tolerance)
    scaler.fit(X)
    far = np.outer([-1e308, -1e160, 1e160, 1e308], np.ones(4))
    np.testing.assert_allclose(run_onnx(scaler, far)[0], scaler.transform(far), rtol=1e-12)


def test_pipeline_of_transformers():
    """Before a network of another kind."""
    frame = table(np.float64)
    steps = (
        fastmlp.TableEncoder(CATEGORICAL),
        fastmlp.RobustScaleSmoothClip(impute=True),
        fastmlp.MLPRegressor(max_iter=3),
    )
    pipeline = make_pipeline(*steps).fit(frame, INDICATOR)
    rows = with_news(frame)
    np.testing.assert_allclose(run_on_table(pipeline, frame, rows)[0], pipeline.predict(rows), atol=1e-9)


def test_skl2onnx_knows_the_transformers():
    """Where it was there before the fit."""
    code = """
import numpy as np, skl2onnx, fastmlp
X = np.arange(8, dtype=np.float32).reshape(4, 2)
for cls in fastmlp.TableEncoder, fastmlp.RobustScaleSmoothClip:
    assert len(skl2onnx.to_onnx(cls().fit(X), X[:1]).graph.output) == 1
"""
    run_python("-W", "ignore", "-c", code)
