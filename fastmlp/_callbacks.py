"""scikit-learn's callbacks: what `sklearn.callback` (1.9) asks of an estimator. Older versions have none."""

import copy

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # scikit-learn 1.8

    class CallbackSupportMixin:
        """Nothing: there is no `set_callbacks`."""


# What scikit-learn keeps in an estimator for the time of a fit: no copy of it has a part in that.
OF_A_FIT = "_callback_fit_ctx", "_skl_callbacks_to_teardown", "_parent_callback_ctx"


def tasks_of(estimator, *args):
    """The `Tasks` of a fit; None where nobody wants to know of them, as each epoch would take 5 us longer."""
    return Tasks(estimator, *args) if hasattr(estimator, "_skl_callbacks") else None


class Tasks:
    """The tasks that callbacks are told of: a fit, and each of its epochs, or iterations.

    Parameters
    ----------
    estimator : BaseMultilayerPerceptron or BaseRealMLP
    task_name : str
        What an epoch is called.
    epochs : int
        How many there will be, at most.
    X, y, sample_weight
        As they were handed to fit.
    """

    def __init__(self, estimator, task_name, epochs, X, y, sample_weight):
        metadata = {} if sample_weight is None else {"sample_weight": sample_weight}
        self._estimator, self._task_name = estimator, task_name
        self._told = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self._fit = estimator._init_callback_context(task_name="fit", max_subtasks=epochs)
        self._epoch = None

    def fit_begins(self):
        self._tell(self._fit.call_on_fit_task_begin)

    def fit_ends(self):
        self._tell(self._fit.call_on_fit_task_end, reconstruction_attributes=lambda: self._copies({}))

    def epoch_begins(self):
        self._epoch = self._fit.subcontext(task_name=self._task_name)
        self._tell(self._epoch.call_on_fit_task_begin)

    def epoch_ends(self, learnt):
        """Whether a callback wants no further epoch; `learnt()` gives attributes of an estimator that stops here."""
        return self._tell(self._epoch.call_on_fit_task_end, reconstruction_attributes=lambda: self._copies(learnt()))

    def _tell(self, call, **told):
        """Call hooks. If they use the estimator, it makes a network anew, and leaves the one in training alone."""
        own = {name: vars(self._estimator).pop(name) for name in ("_network",) if name in vars(self._estimator)}
        try:
            return call(**self._told, **told)
        finally:
            vars(self._estimator).pop("_network", None)
            vars(self._estimator).update(own)

    def _copies(self, learnt):
        """All that is no parameter, with what is learnt: callbacks may change and keep it, and training goes on."""
        left_out = {*self._estimator._parameter_constraints, "_network", "_skl_callbacks", *OF_A_FIT}
        found = vars(self._estimator) | learnt
        return copy.deepcopy({name: value for name, value in found.items() if name not in left_out})
