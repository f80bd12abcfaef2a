"""What more threads bring."""

import time
from statistics import median

from .common import TIMEOUT, fitted, skip_without


class Threads:
    params = ["tiny", "default", "digits", "mnist512", "deep"]
    param_names = ["case"]
    timeout = TIMEOUT

    def setup(self, name):
        skip_without("numba")
        self.model, self.X, self.y = fitted(name)

    def seconds(self, threads):
        import numba

        before = numba.get_num_threads()
        try:
            numba.set_num_threads(threads)
            begin = time.perf_counter()
            self.model.fit(self.X, self.y)
            return time.perf_counter() - begin
        finally:
            numba.set_num_threads(before)

    def track_all_to_one(self, name):
        """Time on all threads by time on one; the less, the better."""
        import numba

        return median(self.seconds(numba.config.NUMBA_NUM_THREADS) / self.seconds(1) for _ in range(5))

    track_all_to_one.unit = "ratio"
