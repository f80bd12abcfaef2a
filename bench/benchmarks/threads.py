"""What more threads bring."""

import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median

from conditions import CONDITIONS, nothing

from .common import TIMEOUT, fitted, skip_without


class Threads:
    params = ["tiny", "default", "digits", "mnist512", "deep"]
    param_names = ["case"]
    timeout = TIMEOUT

    def setup(self, name):
        skip_without("numba")
        model, X, y = fitted(name)
        self.call = lambda: model.fit(X, y)

    def seconds(self, threads, before=nothing):
        import numba

        initial = numba.get_num_threads()
        try:
            numba.set_num_threads(threads)
            before()
            begin = time.perf_counter()
            self.call()
            return time.perf_counter() - begin
        finally:
            numba.set_num_threads(initial)

    def track_all_to_one(self, name):
        """Time on all threads by time on one; the less, the better."""
        import numba

        return median(self.seconds(numba.config.NUMBA_NUM_THREADS) / self.seconds(1) for _ in range(5))

    track_all_to_one.unit = "ratio"


class AsRun(Threads):
    """All threads by one where something else wants the cores: BLAS's idle threads, or a busy process."""

    params = [["after BLAS", "beside a busy process"], ["fit", "predict"]]
    param_names = ["condition", "call"]

    def setup(self, condition, call):
        skip_without("numba")
        model, X, y = fitted({"fit": "digits", "predict": "mnist512"}[call])
        self.call = {"fit": lambda: model.fit(X, y), "predict": lambda: model.predict(X[:2_000])}[call]
        self.call()

    def track_all_to_one(self, condition, call):
        """The less, the better; more threads should not cost time: 1 is what is asked for."""
        import numba

        threads, (before, around) = numba.config.NUMBA_NUM_THREADS, CONDITIONS[condition]
        with around():
            return median(self.seconds(threads, before) / self.seconds(1, before) for _ in range(9))

    track_all_to_one.unit = "ratio"


class Search:
    """Eight small networks, as in a search over parameters: in two threads of Python by one after the other.

    The latter on one core; in two threads each fit may use one core or, as by default, all. The compiled epoch holds
    no lock of Python's: 0.5 is the least that two cores allow, and 0.6 what is asked for.
    """

    params = [[1_000, 10_000], [1, None]]
    param_names = ["rows", "threads of a fit"]
    timeout = TIMEOUT

    def setup(self, rows, inner):
        skip_without("numba")
        model, X, y = fitted("default", tol=0, n_iter_no_change=10**6, max_iter=1_000_000 // rows)
        self.jobs = [(model.get_params() | {"random_state": seed}, X[:rows], y[:rows]) for seed in range(8)]

    def seconds(self, workers, inner):
        import numba

        from fastmlp import MLPClassifier

        def fit(job):
            numba.set_num_threads(inner or numba.config.NUMBA_NUM_THREADS)  # of this thread of Python's
            parameters, X, y = job
            MLPClassifier(**parameters).fit(X, y)

        with ThreadPoolExecutor(workers) as pool:
            begin = time.perf_counter()
            list(pool.map(fit, self.jobs))
            return time.perf_counter() - begin

    def track_two_to_one(self, rows, inner):
        """The less, the better."""
        return median(self.seconds(2, inner) / self.seconds(1, 1) for _ in range(7))

    track_two_to_one.unit = "ratio"
