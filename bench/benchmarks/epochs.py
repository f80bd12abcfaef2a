"""Whole fits of every case, and the loss they reach: speed without it is no result."""

from cases import CASES

from .common import REPEAT, TIMEOUT, fitted


class Epochs:
    params = [list(CASES), ["adam", "sgd"]]
    param_names = ["case", "solver"]
    timeout, repeat, rounds = TIMEOUT, REPEAT, 1

    def setup(self, name, solver):
        self.model, self.X, self.y = fitted(name, solver)

    def time_fit(self, name, solver):
        self.model.fit(self.X, self.y)

    def track_loss(self, name, solver):
        return float(self.model.fit(self.X, self.y).loss_)

    track_loss.unit = "loss"
