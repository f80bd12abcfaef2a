"""What one version has saved the next one loads: models from a file, which `frozen_models.py` has made once."""

import gzip
import pickle
import re

import frozen_models
import numpy as np
import pytest
from frozen_models import MODELS, SINCE, go_on, outputs

from fastmlp import MLPClassifier
from fastmlp._base import FORMAT

# a label binarizer in the file is scikit-learn's, of the version it was made with
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.InconsistentVersionWarning"),
]

needs_numpy_2 = pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="NumPy 1 cannot read random states that NumPy 2 has saved"
)

FILES = sorted(frozen_models.HERE.glob("frozen_models_*.gz"))
# (file, name of a model in it)
FROZEN = [(file, name) for i, file in enumerate(FILES, 1) for name in MODELS if SINCE.get(name, 1) <= i]


def thaw(file):
    """For each name a pickled model, what it put out, and what it put out after it had gone on."""
    return pickle.loads(gzip.decompress(file.read_bytes()))


def test_there_is_a_file_for_each_format():
    """None is missing, none is large."""
    assert [file.name for file in FILES] == [f"frozen_models_{i}.gz" for i in range(1, FORMAT + 1)]
    assert max(file.stat().st_size for file in FILES) < 50_000


@needs_numpy_2
@pytest.mark.parametrize("file, name", FROZEN, ids=lambda value: getattr(value, "stem", value))
def test_loads_predicts_and_goes_on(file, name):
    """To the numbers it was saved with, whatever processor saved it."""
    _, X, y = MODELS[name]
    saved, first, later = thaw(file)[name]
    model = pickle.loads(saved)
    tolerance = 1e-5 if X.dtype == np.float32 else 1e-9
    np.testing.assert_allclose(outputs(model, X), first, rtol=0, atol=tolerance)
    np.testing.assert_allclose(outputs(go_on(model, X, y), X), later, rtol=0, atol=tolerance)
    assert np.abs(later - first).max() > 10 * tolerance


class Names(pickle.Unpickler):
    """Remembers which of our names a pickle is made of."""

    def __init__(self, *args):
        super().__init__(*args)
        self.names = set()

    def find_class(self, module, name):
        if module.startswith("fastmlp"):
            self.names.add(f"{module}.{name}")
        return super().find_class(module, name)


def content(saved):
    """Attributes of the model and of its optimizer, and our names in the pickle."""
    unpickler = Names(saved)
    model = unpickler.load()
    optimizer = getattr(model, "_optimizer", None)
    return model.__getstate__().keys(), optimizer and optimizer.__getstate__().keys(), unpickler.names


@needs_numpy_2
@pytest.mark.parametrize("name", MODELS)
def test_the_format_has_a_new_number_where_it_changes(name, tmp_path):
    """What is saved now has the parts that the newest file has."""
    (tmp_path / "now").write_bytes(pickle.dumps(MODELS[name][0].fit(*MODELS[name][1:]), 4))
    (tmp_path / "then").write_bytes(thaw(FILES[-1])[name][0])
    with open(tmp_path / "now", "rb") as now, open(tmp_path / "then", "rb") as then:
        assert content(now) == content(then)


def test_a_newer_format_is_refused():
    """With words that say what to do; nothing of the format is left on a model that loads."""
    model = MLPClassifier()
    state = model.__getstate__()
    assert state["_fastmlp_format"] == FORMAT
    with pytest.raises(ValueError, match=re.escape(f"newer fastmlp (format {FORMAT + 1}; this version reads up to")):
        MLPClassifier().__setstate__(state | {"_fastmlp_format": FORMAT + 1})
    assert vars(pickle.loads(pickle.dumps(model))).keys() == vars(model).keys()
