"""The network without scikit-learn: forward, gradients, an epoch of updates."""

import numpy as np
from cases import CASES, data

from .common import REPEAT, TIMEOUT, skip_without


class Kernels:
    """Of all rows of a case, as often as makes 20 ms."""

    params = [["default", "mnist", "mnist512"], ["float32", "float64"]]
    param_names = ["case", "dtype"]
    timeout, repeat, rounds = TIMEOUT, REPEAT, 1

    def setup(self, name, dtype):
        skip_without("fastmlp.training")
        from fastmlp import MLP
        from fastmlp.training import Adam

        self.case = CASES[name]
        X, y = data(self.case, dtype)
        self.X = X
        self.network = MLP(self.case.layers, output="logistic" if self.case.layers[-1] == 1 else "softmax", dtype=dtype)
        self.network.initialize(np.random.RandomState(0))
        self.data, self.optimizer = self.network.data(X, y), Adam(self.network)
        self.time_forward(name, dtype, 1)
        self.time_gradients(name, dtype, 1)
        self.time_epoch(name, dtype, 1)

    def calls(self, times):
        return range(times or 2 * self.case.steady)

    def time_forward(self, name, dtype, times=None):
        for _ in self.calls(times):
            self.network.forward(self.X)

    def time_gradients(self, name, dtype, times=None):
        for _ in self.calls(times):
            self.network.gradients(self.data)

    def time_epoch(self, name, dtype, times=None):
        for _ in self.calls(times):
            self.network.train_epoch(self.data, self.optimizer, self.case.batch)
