"""What the first call costs, each in new processes."""

import tempfile
from statistics import median

from workers import Absent, Worker

from .common import TIMEOUT, skip_without


class ColdStart:
    """Import and first training of one epoch, with an empty and with a warm kernel cache."""

    params = ["float32", "float64"]
    param_names = ["dtype"]
    timeout = TIMEOUT

    def setup(self, dtype):
        skip_without("fastmlp.estimators")

    def seconds(self, dtype, runs):
        """(import, first fit) of each of some runs that share a kernel cache, empty at first."""
        with tempfile.TemporaryDirectory() as cache:
            for _ in range(runs):
                with Worker("fastmlp", NUMBA_CACHE_DIR=cache) as worker:
                    try:
                        yield worker.ask("first fit", "digits", dtype)
                    except Absent as error:
                        raise NotImplementedError(str(error)) from error

    def track_import(self, dtype):
        return median(imported for imported, _ in self.seconds(dtype, 3))

    def track_first_fit_empty_cache(self, dtype):
        return median(next(self.seconds(dtype, 1))[1] for _ in range(3))

    def track_first_fit_warm_cache(self, dtype):
        return median([fit for _, fit in self.seconds(dtype, 4)][1:])

    track_import.unit = track_first_fit_empty_cache.unit = track_first_fit_warm_cache.unit = "seconds"
