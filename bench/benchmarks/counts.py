"""Instructions of small jobs under valgrind: the same on every machine. `python bench/instructions.py` prints them."""

from instructions import count
from jobs import JOBS

from .common import TIMEOUT


class Counts:
    params = [list(JOBS)]
    param_names = ["job"]
    timeout = TIMEOUT

    def setup_cache(self):
        """Instructions by job, of those that this commit can do, or why there are none."""
        try:
            return count(JOBS)
        except FileNotFoundError as error:
            return str(error)

    setup_cache.timeout = 3 * TIMEOUT

    def setup(self, found, job):
        if job not in found:
            raise NotImplementedError(found if isinstance(found, str) else f"{job}: this commit cannot do it")

    def track_instructions(self, found, job):
        return found[job]

    track_instructions.unit = "instructions"
