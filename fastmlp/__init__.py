"""scikit-learn's multilayer perceptrons, trained at the speed of the processor's multiply-add units."""

from fastmlp.estimators import MLPClassifier, MLPRegressor
from fastmlp.network import MLP

__all__ = ["MLP", "MLPClassifier", "MLPRegressor"]
__version__ = "0.1.0"
