"""Schedules: the learning rate of each batch. A table, a class for each; scikit-learn's three follow its rules.

`rates` is what the kernels read: a number for each batch of an epoch, so that a schedule may change it from batch to
batch.
"""

import numpy as np


class Constant:
    """The same rate for all batches.

    Parameters
    ----------
    learning_rate_init : float
    power_t : float, default=0.5
        Exponent of 'invscaling'.

    Attributes
    ----------
    learning_rate : float
        Of the next batch.
    """

    def __init__(self, learning_rate_init, power_t=0.5):
        self.learning_rate_init, self.power_t = learning_rate_init, power_t
        self.learning_rate = learning_rate_init

    def rates(self, batches):
        """The rates of the next epoch, which has so many batches: a float64 array."""
        rates = np.empty(batches)
        rates.fill(self.learning_rate)
        return rates

    def epoch_ends(self, t):
        """After an epoch; t is the number of samples seen so far."""

    def goes_on(self):
        """Where training no longer improves: whether it is to go on, with another rate, and if not, why."""
        return False, ""


class InvScaling(Constant):
    """learning_rate_init / (t + 1)^power_t, after t samples."""

    def epoch_ends(self, t):
        self.learning_rate = self.learning_rate_init / (t + 1) ** self.power_t


class Adaptive(Constant):
    """A fifth of the rate where training no longer improves; it stops at 1e-6."""

    def goes_on(self):
        if self.learning_rate <= 1e-6:
            return False, " Learning rate too small."
        self.learning_rate /= 5.0
        return True, f" Setting learning rate to {self.learning_rate:f}"


SCHEDULES = {"constant": Constant, "invscaling": InvScaling, "adaptive": Adaptive}
