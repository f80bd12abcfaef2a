"""scikit-learn's multilayer perceptrons, trained at the speed of the processor's multiply-add units."""

from typing import TYPE_CHECKING

from fastmlp.conversion import SKOPS_TRUSTED, register_onnx
from fastmlp.network import MLP, precompile

if TYPE_CHECKING:
    from fastmlp.display import LossCurveDisplay
    from fastmlp.estimators import MLPClassifier, MLPRegressor

__all__ = [
    "MLP",
    "SKOPS_TRUSTED",
    "LossCurveDisplay",
    "MLPClassifier",
    "MLPRegressor",
    "precompile",
    "register_onnx",
]
__version__ = "0.1.0"


def __getattr__(name):
    """What comes with scikit-learn, which `MLP` does without, is imported when it is asked for."""
    if name in ("MLPClassifier", "MLPRegressor"):
        from fastmlp import estimators

        return getattr(estimators, name)
    if name == "LossCurveDisplay":
        from fastmlp.display import LossCurveDisplay

        return LossCurveDisplay
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__])
