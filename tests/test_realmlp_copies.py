"""RealMLP's copies, and what has been saved, predict the same, whatever processor saved it."""

import copy
import io
import os
import pickle
import platform

import joblib
import numpy as np
import pytest
from helpers import OTHER_PROCESSOR, run_python
from models import CATEGORICAL, REALMLP, TABLE, bits, make, outputs, state
from sklearn.base import clone

from fastmlp.compiled.tile import host

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

both = pytest.mark.parametrize("name", REALMLP)
variants = pytest.mark.parametrize("variant", ["td", "td-s"])


def fitted(name, variant, **parameters):
    model = make(name, variant=variant, categorical_features=CATEGORICAL, n_estimators=2, **parameters)
    return model.fit(TABLE, REALMLP[name])


def by_joblib(model):
    file = io.BytesIO()
    joblib.dump(model, file)
    return joblib.load(file)


COPIES = {"pickle": lambda model: pickle.loads(pickle.dumps(model)), "joblib": by_joblib, "deepcopy": copy.deepcopy}


@pytest.mark.parametrize("how", COPIES)
@variants
@both
def test_copies(name, variant, how):
    """The same bits, which no fit of the other one changes."""
    for dtype in "float32", "float64":
        model = fitted(name, variant, dtype=dtype)
        twin, before = COPIES[how](model), bits(model, TABLE)
        assert vars(twin).keys() == vars(model).keys() and state(twin) == state(model)
        assert bits(twin, TABLE) == before
        model.networks_[0].parameters[:] = 0
        assert bits(twin, TABLE) == before != bits(model, TABLE)
        assert bits(clone(twin).fit(TABLE, REALMLP[name]), TABLE) == before


SAVE = """
import pickle, sys
from test_realmlp_copies import REALMLP, TABLE, fitted, outputs
models = [fitted(name, v, dtype=dtype) for name in REALMLP for v in ("td", "td-s") for dtype in ("float32", "float64")]
with open(sys.argv[1], "wb") as file:
    pickle.dump([(model, outputs(model, TABLE)) for model in models], file)
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="processors of x86-64")
@pytest.mark.skipif(OTHER_PROCESSOR in os.environ, reason="runs for another processor already")
@pytest.mark.parametrize("processor, needed", [("haswell", ["avx2", "fma"]), ("nehalem", ["sse4.2"])])
def test_saved_by_another_processor(processor, needed, tmp_path):
    """Its vectors have other lengths, and so its parameters other places."""
    if not all(host()[1].get(feature) for feature in needed):
        pytest.skip(f"this processor cannot execute code for {processor}")
    settings = {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": ""}
    run_python("-W", "ignore", "-c", SAVE, str(tmp_path / "models"), timeout=1800, **settings)
    for model, expected in pickle.loads((tmp_path / "models").read_bytes()):
        tolerance = {"float32": 1e-5, "float64": 1e-12}[model.dtype]
        np.testing.assert_allclose(outputs(model, TABLE), expected, rtol=0, atol=tolerance)
