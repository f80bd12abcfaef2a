"""scikit-learn's callbacks: what `sklearn.callback` (1.9) asks of an estimator. Older versions have none."""

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # scikit-learn 1.8

    class CallbackSupportMixin:
        """Nothing: there is no `set_callbacks`."""


def tasks_of(estimator, task_name, X, y, sample_weight):
    """The `Tasks` of a fit; None where nobody wants to know of them, as each epoch would take 5 us longer."""
    wanted = hasattr(estimator, "_skl_callbacks") or hasattr(estimator, "_parent_callback_ctx")
    return Tasks(estimator, task_name, X, y, sample_weight) if wanted else None


class Tasks:
    """The tasks that callbacks are told of: a fit, and each of its epochs, or iterations.

    Parameters
    ----------
    estimator : BaseMultilayerPerceptron
    task_name : str
        What an epoch is called.
    X, y, sample_weight
        As they were handed to fit.
    """

    def __init__(self, estimator, task_name, X, y, sample_weight):
        metadata = {} if sample_weight is None else {"sample_weight": sample_weight}
        self._task_name = task_name
        self._told = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self._fit = estimator._init_callback_context(task_name="fit", max_subtasks=estimator.max_iter)
        self._epoch = None

    def fit_begins(self):
        self._fit.call_on_fit_task_begin(**self._told)

    def fit_ends(self):
        self._fit.call_on_fit_task_end(**self._told, reconstruction_attributes={})

    def epoch_begins(self):
        self._epoch = self._fit.subcontext(task_name=self._task_name)
        self._epoch.call_on_fit_task_begin(**self._told)

    def epoch_ends(self, learnt):
        """Whether a callback wants no further epoch; `learnt()` gives attributes of an estimator that stops here."""
        return self._epoch.call_on_fit_task_end(**self._told, reconstruction_attributes=learnt)
