"""What all estimators of fastmlp share: their constructor, what a failed fit leaves, and how they are saved."""

import contextlib
from abc import ABC, abstractmethod

from sklearn.base import BaseEstimator

from fastmlp._callbacks import OF_A_FIT, CallbackSupportMixin
from fastmlp._onnx import tell_skl2onnx


class Estimator(CallbackSupportMixin, BaseEstimator, ABC):
    """The base class of both kinds of estimators.

    A subclass says the `_format` of its state. It grows by one where an older version could not read what this one
    saves; what any older version has saved can be read: tests/frozen_models.py.
    """

    @abstractmethod
    def __init__(self, arguments):
        """Keep the arguments of a constructor, its locals, as they are: scikit-learn's rule."""
        vars(self).update({name: value for name, value in arguments.items() if name not in ("self", "__class__")})

    def __getstate__(self):
        """The network behind attributes is left out: it is made anew, in the panels of the processor at hand."""
        left_out = "_network", *OF_A_FIT
        state = {name: value for name, value in super().__getstate__().items() if name not in left_out}
        return state | {"_fastmlp_format": self._format}

    def __setstate__(self, state):
        found = state.get("_fastmlp_format", 0)
        if found > self._format:
            raise ValueError(
                f"This {type(self).__name__} was saved by a newer fastmlp (format {found}; this version reads up to"
                f" {self._format}): upgrade fastmlp to load it."
            )
        super().__setstate__({name: value for name, value in state.items() if name != "_fastmlp_format"})
        tell_skl2onnx()

    @contextlib.contextmanager
    def _all_or_nothing(self):
        """Whatever is raised, what was learnt before stays as it was; a network may then hold anything, and goes."""
        before = self.__dict__.copy()
        try:
            yield
        except BaseException:
            before.pop("_network", None)
            self.__dict__ = before
            raise
