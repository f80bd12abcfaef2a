"""What the benchmarks share. Whatever a commit does not have yet is skipped, not an error."""

import warnings
from pathlib import Path

from cases import CASES, classifier, data

TIMEOUT = 600  # seconds for a process, compilation included
REPEAT = (3, 10, 2.0)  # least and most samples in a process, seconds after which no more are taken
BENCH = Path(__file__).resolve().parents[1]


def skip_without(*modules):
    """Let asv skip a benchmark where one of these modules cannot be imported."""
    for module in modules:
        try:
            __import__(module)
        except ImportError as error:
            raise NotImplementedError(str(error)) from error


def fitted(name, solver="adam", dtype="float32", **parameters):
    """Return fastmlp's classifier, fitted for one epoch so that all is compiled, with the data of the case."""
    skip_without("fastmlp.estimators")
    warnings.simplefilter("ignore")  # that it has not converged
    case = CASES[name]
    X, y = data(case, dtype)
    model = classifier("fastmlp", case, solver).set_params(max_iter=1).fit(X, y)
    return model.set_params(**{"max_iter": case.steady} | parameters), X, y
