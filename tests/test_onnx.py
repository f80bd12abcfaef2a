"""skl2onnx converts the estimators, alone and inside others: ONNX Runtime predicts what they predict."""

import numpy as np
import pytest
from helpers import run_python
from models import INDICATOR, LABELS, REGRESSOR_LOSSES, WORDS, X, make
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastmlp
from fastmlp.compiled.activations import HIDDEN

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

TWO = np.column_stack([X[:, 0] - X[:, 1], X[:, 2]])
TASKS = {
    "multiclass": ("MLPClassifier", LABELS, {}),
    "words": ("MLPClassifier", WORDS, {}),
    "floats": ("MLPClassifier", LABELS + 1.0, {}),
    "binary": ("MLPClassifier", LABELS > 0, {}),
    "two words": ("MLPClassifier", np.where(LABELS > 0, "yes", "no"), {}),
    "a single class": ("MLPClassifier", LABELS * 0 + 7, {}),
    "labels": ("MLPClassifier", INDICATOR, {}),
    "two labels": ("MLPClassifier", INDICATOR[:, :2], {}),
    **{f"{loss}, one output": ("MLPRegressor", LABELS + 1, {"loss": loss}) for loss in REGRESSOR_LOSSES},
    **{f"{loss}, two outputs": ("MLPRegressor", INDICATOR[:, :2] + 1, {"loss": loss}) for loss in REGRESSOR_LOSSES},
}


def run_onnx(model, rows, **options):
    """What ONNX Runtime puts out for the converted model."""
    skl2onnx, onnxruntime = pytest.importorskip("skl2onnx"), pytest.importorskip("onnxruntime")
    options = {"zipmap": False} if hasattr(model, "predict_proba") and not options else options
    graph = skl2onnx.to_onnx(model, rows[:1], options=options or None)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    return session.run(None, {graph.graph.input[0].name: rows})


def assert_onnx(model, rows, tolerance):
    """Equal labels and about equal numbers, in the type of the rows."""
    found = run_onnx(model, rows)
    if hasattr(model, "predict_proba"):
        expected = model.predict_proba(rows)
        assert found[0].tolist() == model.predict(rows).tolist()
    else:
        expected = model.predict(rows).reshape(len(rows), -1)
    assert (found[-1].shape, found[-1].dtype) == (expected.shape, rows.dtype)
    np.testing.assert_allclose(found[-1], expected, rtol=tolerance, atol=tolerance)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("activation", HIDDEN)
@pytest.mark.parametrize("task", TASKS)
def test_onnx(task, activation):
    """ONNX Runtime predicts what the model does: in float32 within 1e-5, in float64 within 1e-9."""
    pytest.importorskip("skl2onnx")
    fastmlp.register_onnx()
    name, y, parameters = TASKS[task]
    model = make(name, hidden_layer_sizes=(7, 5), activation=activation, **parameters).fit(X.astype(np.float32), y)
    assert_onnx(model, X.astype(np.float32), 1e-5)
    model.fit(X, y)
    assert_onnx(model, X, 1e-9)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_onnx_in_a_pipeline_and_a_search():
    """And with skl2onnx's options for classifiers."""
    pytest.importorskip("skl2onnx")
    fastmlp.register_onnx()
    rows = X.astype(np.float32)
    pipeline = make_pipeline(StandardScaler(), make("MLPClassifier")).fit(rows, LABELS)
    _, dicts = run_onnx(pipeline, rows, zipmap=True)
    np.testing.assert_allclose([[d[i] for i in range(3)] for d in dicts], pipeline.predict_proba(rows), atol=1e-5)
    columns = run_onnx(pipeline, rows, zipmap="columns")[1:]
    np.testing.assert_allclose(np.column_stack(columns), pipeline.predict_proba(rows), atol=1e-5)
    search = GridSearchCV(make("MLPRegressor"), {"alpha": [1e-3, 1.0]}, cv=2).fit(rows, TWO)
    np.testing.assert_allclose(run_onnx(search, rows)[0], search.predict(rows), atol=1e-5)
    _, _, classes = run_onnx(make("MLPClassifier").fit(rows, WORDS), rows, zipmap=False, output_class_labels=True)
    assert classes.tolist() == ["ant", "bee", "cow"]


FIRST_SKL2ONNX = "import skl2onnx, fastmlp; model = fastmlp.MLPRegressor(max_iter=1).fit(X, X[:, 0])"
FIRST_FIT = "import fastmlp; model = fastmlp.MLPRegressor(max_iter=1).fit(X, X[:, 0]); import skl2onnx"
LOADED = "import pickle, fastmlp, skl2onnx; model = pickle.loads(pickle.dumps(fastmlp.MLPRegressor()))"
LOADED_FITTED = FIRST_FIT + ", pickle; model = pickle.loads(pickle.dumps(model))"


@pytest.mark.parametrize("name", ["MLPRegressor", "RealMLPRegressor"])
@pytest.mark.parametrize(
    "code",
    [FIRST_SKL2ONNX, FIRST_FIT + "; fastmlp.register_onnx()", LOADED + ".fit(X, X[:, 0])", LOADED_FITTED],
)
def test_skl2onnx_knows_the_estimators(code, name):
    """Without a word where it was there before the fit, else when told."""
    pytest.importorskip("skl2onnx")
    code = f"""
import numpy as np
X = np.ones((9, 2), np.float32)
{code.replace("MLPRegressor", name)}
assert len(skl2onnx.to_onnx(model, X[:1]).graph.output) == 1
"""
    run_python("-W", "ignore", "-c", code)


def test_skl2onnx_is_not_imported():
    """Neither it nor ONNX is loaded for an import, a fit, a prediction or a pickle."""
    code = """
import pickle, sys
import numpy as np, fastmlp
X = np.ones((9, 2))
for cls in fastmlp.MLPRegressor, fastmlp.RealMLPRegressor:
    pickle.loads(pickle.dumps(cls(max_iter=1).fit(X, X[:, 0]))).predict(X)
assert not {"onnx", "skl2onnx"} & sys.modules.keys()
"""
    run_python("-W", "ignore", "-c", code)
