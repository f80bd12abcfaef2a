"""Schedules: the learning rate of each batch. A table; scikit-learn's three follow its rules, from epoch to epoch.

The others change from batch to batch. The rate of a batch is learning_rate_init times a factor, a function of t, which
goes from 0 to 1:

    t = batches done / all batches, when a batch begins; all batches are those of max_iter epochs

After them t stays 1. `rates` is what the kernels read: a number for each batch of an epoch.
"""

import functools
import operator
from numbers import Real

import numpy as np


class Constant:
    """The same rate for all batches.

    Parameters
    ----------
    learning_rate_init : float
    power_t : float, default=0.5
        Exponent of 'invscaling'.
    max_iter : int, default=200
        Epochs that a schedule which changes from batch to batch runs over.

    Attributes
    ----------
    learning_rate : float
        Of the next batch; of the last one, where it changes from batch to batch.
    epochs : int
        Epochs done, counted only where it changes from batch to batch.
    by_batches : bool
        Whether it does.
    """

    by_batches = False

    def __init__(self, learning_rate_init, power_t=0.5, max_iter=200):
        if not 1 <= operator.index(max_iter):
            raise ValueError(f"max_iter must be >= 1, got {max_iter}.")
        self.learning_rate_init, self.power_t, self.max_iter = learning_rate_init, power_t, operator.index(max_iter)
        self.learning_rate, self.epochs = learning_rate_init, 0

    def rates(self, batches):
        """The rates of the next epoch, which has so many batches: a float64 array."""
        rates = np.empty(batches)
        rates.fill(self.learning_rate)
        return rates

    def advance(self, rates):
        """After an epoch with these rates; a time limit may have ended it early."""

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


class Annealed(Constant):
    """learning_rate_init * factor(batches done, all batches), of several numbers of batches at once."""

    by_batches = True

    def __init__(self, factor, *args):
        super().__init__(*args)
        self.factor = factor

    def rates(self, batches):
        first, last = self.epochs * batches, self.max_iter * batches
        return float(self.learning_rate_init) * self.factor(np.minimum(np.arange(first, first + batches), last), last)

    def advance(self, rates):
        self.learning_rate, self.epochs = float(rates[-1]), self.epochs + 1


def cosine(done, batches):
    """(1 + cos(pi t)) / 2: PyTorch's CosineAnnealingLR, down to 0."""
    return (1 + np.cos(np.pi * done / batches)) / 2


def onecycle(done, batches):
    """From 1/25 up to 1 in the first 30 % of the batches, then down to 1/250,000 in the last: PyTorch's OneCycleLR."""
    top, last = 0.3 * batches - 1, batches - 1
    up = _from_to(1 / 25, 1, done / max(top, 1.0))  # where top is less than 1, no batch but the first can be before it
    down = _from_to(1, 1 / 250_000, (np.minimum(done, last) - top) / (last - top))
    return np.where(done <= top, up, down)


def _from_to(a, b, t):
    """Half a cosine from a to b."""
    return b + (a - b) * (1 + np.cos(np.pi * t)) / 2


def coslog4(done, batches):
    """(1 - cos(2 pi log2(1 + 15 t))) / 2: up and down four times, each time twice as long; RealMLP's."""
    return (1 - np.cos(2 * np.pi * np.log2(1 + 15 * done / batches))) / 2


def flat_cos(done, batches):
    """(1 + cos(pi (max(1, 2 t) - 1))) / 2: 1 for the first half, then a cosine down to 0."""
    return (1 + np.cos(np.pi * (np.maximum(1, 2 * done / batches) - 1))) / 2


def _by_user(function):
    """The factors that a user's function of t gives, a number at a time; they are checked."""

    def factor(done, batches):
        factors = np.empty(len(done))
        for i, t in enumerate((done / batches).tolist()):
            value = function(t)
            if not (isinstance(value, Real) and 0 <= value < np.inf):
                raise ValueError(f"learning_rate must return a finite number >= 0, got {value!r} for t={t}.")
            factors[i] = value
        return factors

    return factor


SCHEDULES = {
    "constant": Constant,
    "invscaling": InvScaling,
    "adaptive": Adaptive,
    "cosine": functools.partial(Annealed, cosine),
    "onecycle": functools.partial(Annealed, onecycle),
    "coslog4": functools.partial(Annealed, coslog4),
    "flat_cos": functools.partial(Annealed, flat_cos),
}
# What scikit-learn has for SGD alone.
ONLY_SGD = "invscaling", "adaptive"


def is_scikit_learns(lr_schedule):
    """Whether scikit-learn has it: a name of a schedule that changes from epoch to epoch, if at all."""
    return not callable(lr_schedule) and lr_schedule in ("constant", *ONLY_SGD)


def make_schedule(lr_schedule, *args):
    """The schedule of this name, or the one that a function of t gives. `args` are those of `Constant`."""
    if callable(lr_schedule):
        return Annealed(_by_user(lr_schedule), *args)
    if lr_schedule not in list(SCHEDULES):
        raise ValueError(f"lr_schedule must be one of {list(SCHEDULES)} or a callable, got {lr_schedule!r}.")
    return SCHEDULES[lr_schedule](*args)
