"""scikit-learn's multilayer perceptrons, trained at the speed of the processor's multiply-add units."""

from fastmlp.conversion import SKOPS_TRUSTED
from fastmlp.network import MLP, precompile

__all__ = ["MLP", "SKOPS_TRUSTED", "MLPClassifier", "MLPRegressor", "precompile", "register_onnx"]
__version__ = "0.1.0"


def __getattr__(name):
    """The estimators come with scikit-learn, which `MLP` does without: they are imported when they are asked for."""
    if name in ("MLPClassifier", "MLPRegressor", "register_onnx"):
        from fastmlp import estimators

        return getattr(estimators, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__])
