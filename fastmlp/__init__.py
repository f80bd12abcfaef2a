"""scikit-learn's multilayer perceptrons, trained at the speed of the processor's multiply-add units."""

import importlib
from typing import TYPE_CHECKING

from fastmlp.network import MLP, precompile

if TYPE_CHECKING:
    from fastmlp.conversion import SKOPS_TRUSTED
    from fastmlp.display import LossCurveDisplay
    from fastmlp.estimators import MLPClassifier, MLPRegressor
    from fastmlp.preprocessing import RobustScaleSmoothClip, TableEncoder
    from fastmlp.realmlp import RealMLPClassifier, RealMLPRegressor, register_onnx

__all__ = [
    "MLP",
    "SKOPS_TRUSTED",
    "LossCurveDisplay",
    "MLPClassifier",
    "MLPRegressor",
    "RealMLPClassifier",
    "RealMLPRegressor",
    "RobustScaleSmoothClip",
    "TableEncoder",
    "precompile",
    "register_onnx",
]
__version__ = "0.2.0"

# What comes with scikit-learn, which `MLP` does without, is imported when it is asked for: from where.
_WITH_SKLEARN = {
    "MLPClassifier": "estimators",
    "MLPRegressor": "estimators",
    "RealMLPClassifier": "realmlp",
    "RealMLPRegressor": "realmlp",
    "LossCurveDisplay": "display",
    "SKOPS_TRUSTED": "conversion",
    "register_onnx": "realmlp",
    "RobustScaleSmoothClip": "preprocessing",
    "TableEncoder": "preprocessing",
}


def __getattr__(name):
    if name in _WITH_SKLEARN:
        return getattr(importlib.import_module(f"fastmlp.{_WITH_SKLEARN[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__])
