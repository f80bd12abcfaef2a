"""Training by scikit-learn's rules from epoch to epoch: stopping, and the history of it."""

import dataclasses
import time
import warnings

import numpy as np

from fastmlp.compiled.shuffle import shuffle as shuffle_rows
from fastmlp.optimizers import SGD, Adam  # where older versions' pickles look for them

__all__ = ["SGD", "Adam", "History", "train"]


@dataclasses.dataclass(kw_only=True)
class History:
    """What training has seen; a warm start goes on with it.

    `best_loss` is None where validation scores decide, in which case `best_iter` is the epoch of the best one.
    What is measured on validation rows is None where there are none.
    """

    loss_curve: list = dataclasses.field(default_factory=list)
    best_loss: float | None = np.inf
    validation_losses: list | None = None
    validation_scores: list | None = None
    best_validation_score: float | None = None
    best_parameters: np.ndarray | None = None
    best_iter: int | None = None
    no_improvement_count: int = 0
    n_iter: int = 0
    t: int = 0

    def update(self, network, loss, measured, tol):
        """Take in an epoch's loss, and loss and score of validation rows: is it better by tol, is it the best?"""
        self.loss_curve.append(loss)
        if measured is not None:
            validation_loss, score = measured
            self.validation_losses.append(validation_loss)
            self.validation_scores.append(score)
        elif self.validation_losses is not None:  # of former fits: it stays as long as the loss curve
            self.validation_losses.append(np.nan)
        if self.best_loss is not None:
            worse = loss > self.best_loss - tol
            if loss < self.best_loss:
                self.best_loss = loss
        else:
            worse = score < self.best_validation_score + tol
            if score > self.best_validation_score:
                self.best_validation_score, self.best_iter = score, len(self.loss_curve)
                self.best_parameters = network.parameters.copy()
        self.no_improvement_count = self.no_improvement_count + 1 if worse else 0


def train(
    network,
    data,
    optimizer,
    history,
    *,
    batch_size,
    max_iter,
    random_state,
    rows=None,
    whole_batches=False,
    shuffle=True,
    alpha=0.0,
    tol=1e-4,
    n_iter_no_change=10,
    measure=None,
    loss_type=float,
    verbose=False,
    deadline=np.inf,
    before_epoch=None,
    after_epoch=None,
):
    """Train until nothing improves, for max_iter epochs, until a time, or until somebody stops it.

    Parameters
    ----------
    network : MLP
    data : Data
        Made by `network.data`.
    optimizer : Adam or SGD
    history : History
        Is brought up to date.
    batch_size, max_iter : int
    random_state : numpy.random.RandomState
        Shuffles the rows anew before each epoch, on top of the last shuffle.
    rows : ndarray of int64, optional
        Numbers of the rows to train on; all if absent.
    whole_batches : bool, default=False
        Whether an epoch leaves out an incomplete last batch.
    measure : callable, optional
        Of no arguments: loss and score on validation rows at the current parameters, two floats. The score decides
        instead of the loss where `history.best_loss` is None.
    loss_type : type, default=float
        What the losses are kept as.
    deadline : float, default=inf
        The time of `time.perf_counter()` at which training ends, between two batches.
    before_epoch, after_epoch : callable, optional
        Of no arguments; the second one says whether training is to stop.

    Returns
    -------
    why : {"converged", "interrupted", "stopped", "max_iter", "max_time"}
        Why it ended; "stopped" by `after_epoch`.
    """
    rows = np.arange(data.n_samples) if rows is None else rows
    rows = np.array(rows, np.int64)
    history.n_iter = 0
    try:
        while history.n_iter < max_iter:
            if before_epoch is not None:
                before_epoch()
            if shuffle:
                shuffle_rows(random_state, rows)
            batches = optimizer.batches
            used = rows[: len(rows) // batch_size * batch_size] if whole_batches else rows
            loss = loss_type(network.train_epoch(data, optimizer, batch_size, alpha, used, deadline))
            history.n_iter += 1
            history.t += min(len(used), (optimizer.batches - batches) * batch_size)
            if verbose:
                print(f"Iteration {history.n_iter}, loss = {loss:.8f}")
            measured = None if measure is None else measure()
            if verbose and history.best_loss is None:
                print(f"Validation score: {measured[1]:f}")
            history.update(network, loss, measured, tol)
            optimizer.epoch_ends(history.t)
            converged = False
            if history.no_improvement_count > n_iter_no_change:
                what = "Validation score" if history.best_loss is None else "Training loss"
                message = f"{what} did not improve more than tol={tol:f} for {n_iter_no_change} consecutive epochs."
                converged = optimizer.stops(message, verbose)
                if not converged:
                    history.no_improvement_count = 0
            stopped = after_epoch is not None and after_epoch()
            if converged or stopped:
                return "converged" if converged else "stopped"
            if time.perf_counter() >= deadline:
                return "max_time"
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=2)
        return "interrupted"
    return "max_iter"
