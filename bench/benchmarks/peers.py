"""fastmlp beside its peers, each in a process of its own, and beside what the machine can do."""

from contextlib import ExitStack
from statistics import median

from cases import CASES, differ, flops_per_epoch
from workers import Absent, Worker, alternate

from .common import TIMEOUT, skip_without

ROUNDS = 5


class _Workers:
    """Opens a case in the processes of fastmlp and its peers; what is not there, or differs in its loss, is skipped."""

    timeout = TIMEOUT

    def open(self, names, *task):
        skip_without("fastmlp.estimators")
        with ExitStack() as stack:
            self.workers = {name: stack.enter_context(Worker(name)) for name in names}
            try:
                numbers = [worker.ask("open", *task)[1] for worker in self.workers.values()]
            except Absent as error:
                raise NotImplementedError(str(error)) from error
            _, solver, dtype = task
            self.differ = any(differ(solver, dtype, numbers[0], other) for other in numbers)
            self.stack = stack.pop_all()

    def teardown(self, *_):
        if hasattr(self, "stack"):
            self.stack.close()

    def ratio(self):
        """Our time by theirs, the median of some rounds; the less, the better. NaN where the numbers differ."""
        if self.differ:
            return float("nan")
        ours, theirs = alternate(self.workers, ROUNDS).values()
        return median(a / b for a, b in zip(ours, theirs, strict=True))


class Training(_Workers):
    params = [["default", "digits", "mnist512"], ["scikit-learn", "NumPy", "JAX", "torch"]]
    param_names = ["case", "peer"]

    def setup(self, name, peer):
        self.open(["fastmlp", peer], name, "adam", "float32")

    def track_ours_to_theirs(self, name, peer):
        return self.ratio()

    track_ours_to_theirs.unit = "ratio"


class Prediction(_Workers):
    params = [["default", "mnist512"], ["scikit-learn", "ONNX Runtime"]]
    param_names = ["case", "peer"]

    def setup(self, name, peer):
        self.open(["fastmlp", peer], name, "predict", "float32")

    def track_ours_to_theirs(self, name, peer):
        return self.ratio()

    track_ours_to_theirs.unit = "ratio"


class Peak(_Workers):
    params = [["default", "digits", "mnist512", "deep"], ["float32", "float64"]]
    param_names = ["case", "dtype"]

    def setup(self, name, dtype):
        self.open(["fastmlp"], name, "adam", dtype)

    def track_time_to_time_at_peak(self, name, dtype):
        """How many times longer than at the measured multiply-add peak an epoch takes; 1 could not be better."""
        case, worker = CASES[name], self.workers["fastmlp"]
        try:
            peak = worker.ask("peak", dtype)
        except Absent as error:
            raise NotImplementedError(str(error)) from error
        epoch = median(alternate(self.workers, ROUNDS)["fastmlp"]) / case.epochs
        return epoch * peak / flops_per_epoch(case)

    track_time_to_time_at_peak.unit = "ratio"
