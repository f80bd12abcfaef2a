"""Training by scikit-learn's rules from epoch to epoch: stopping, and the history of it."""

import dataclasses
import warnings

import numpy as np

from fastmlp.compiled.shuffle import shuffle as shuffle_rows
from fastmlp.optimizers import SGD, Adam  # where older versions' pickles look for them

__all__ = ["SGD", "Adam", "History", "train"]


@dataclasses.dataclass(kw_only=True)
class History:
    """What training has seen; a warm start goes on with it.

    `best_loss` is None where validation scores decide, the scores are None where the loss does.
    """

    loss_curve: list = dataclasses.field(default_factory=list)
    best_loss: float | None = np.inf
    validation_scores: list | None = None
    best_validation_score: float | None = None
    best_parameters: tuple | None = None
    no_improvement_count: int = 0
    n_iter: int = 0
    t: int = 0

    def update(self, network, loss, score, tol):
        """Take in an epoch's loss, and the validation score if there is one: is it better by tol, is it the best?"""
        self.loss_curve.append(loss)
        if score is None:
            worse = loss > self.best_loss - tol
            if loss < self.best_loss:
                self.best_loss = loss
        else:
            self.validation_scores.append(score)
            worse = score < self.best_validation_score + tol
            if score > self.best_validation_score:
                self.best_validation_score, self.best_parameters = score, network.panels.unpack(network.parameters)
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
    shuffle=True,
    alpha=0.0,
    tol=1e-4,
    n_iter_no_change=10,
    score=None,
    loss_type=float,
    verbose=False,
):
    """Train until nothing improves, or for max_iter epochs.

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
    score : callable, optional
        Of no arguments: the validation score at the current parameters, a float. Decides instead of the loss.
    loss_type : type, default=float
        What the losses are kept as.

    Returns
    -------
    converged : bool
        False if max_iter epochs did not suffice.
    """
    rows = np.arange(data.n_samples) if rows is None else rows
    rows = np.array(rows, np.int64)
    history.n_iter = 0
    try:
        while history.n_iter < max_iter:
            if shuffle:
                shuffle_rows(random_state, rows)
            loss = loss_type(network.train_epoch(data, optimizer, batch_size, alpha, rows))
            history.n_iter += 1
            history.t += len(rows)
            if verbose:
                print(f"Iteration {history.n_iter}, loss = {loss:.8f}")
            validation_score = None if score is None else score()
            if verbose and score is not None:
                print(f"Validation score: {validation_score:f}")
            history.update(network, loss, validation_score, tol)
            optimizer.epoch_ends(history.t)
            if history.no_improvement_count > n_iter_no_change:
                what = "Training loss" if score is None else "Validation score"
                message = f"{what} did not improve more than tol={tol:f} for {n_iter_no_change} consecutive epochs."
                if optimizer.stops(message, verbose):
                    return True
                history.no_improvement_count = 0
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=2)
        return True
    return False
