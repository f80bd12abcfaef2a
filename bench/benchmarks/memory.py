"""What a fit takes beside its data."""

import tracemalloc

from .common import TIMEOUT, fitted


class Memory:
    params = ["default", "mnist512", "large"]
    param_names = ["case"]
    timeout = TIMEOUT

    def setup(self, name):
        self.model, self.X, self.y = fitted(name, max_iter=1)
        self.model.fit(self.X, self.y)

    def peakmem_fit(self, name):
        """The whole process, libraries and data included."""
        self.model.fit(self.X, self.y)

    def track_extra(self, name):
        """The most that one more fit holds at once on top of data and last model."""
        tracemalloc.start()
        try:
            self.model.fit(self.X, self.y)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    track_extra.unit = "bytes"
