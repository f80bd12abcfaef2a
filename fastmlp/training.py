"""Training by scikit-learn's rules: from epoch to epoch (optimizers, schedules, stopping, history) and by L-BFGS."""

import dataclasses
import types
import warnings

import numpy as np

from fastmlp._panels import Panels
from fastmlp.compiled import kernels
from fastmlp.compiled.shuffle import shuffle as shuffle_rows


class _Optimizer:
    """What `MLP.train_epoch` reads: `kind`, the numbers `step`, the flat moments `first` and `second`.

    A subclass names its `parameters`, which are what its constructor takes, how far it has come (`progress`) and its
    `moments`. Its state is made of them, under scikit-learn's names: how `step` and the flat arrays are laid out is
    the business of one version on one processor.
    """

    def __init__(self, network, kind, moments, learning_rate, decay_1=0.0, decay_2=0.0, epsilon=0.0):
        self._panels, self.kind = network.panels, kind
        dtype = self._panels.dtype
        self.step = np.zeros(kernels.STEP)
        self.step[kernels.LEARNING_RATE] = self.learning_rate_init = learning_rate
        self.step[kernels.DECAY_1], self.step[kernels.DECAY_2] = decay_1, decay_2
        self.step[kernels.EPSILON] = max(epsilon, np.finfo(dtype).tiny)  # 0 / (0 + epsilon) must be 0
        self.first = self._panels.moments() if moments > 0 else np.empty(0, dtype)
        self.second = self._panels.moments() if moments > 1 else np.empty(0, dtype)

    @property
    def made_for(self):
        """Layers, dtype and kind of the networks that it can train."""
        return self._panels.layer_units, self._panels.dtype, self._panels.sparse

    @classmethod
    def from_state(cls, network, state):
        """An optimizer of this network's parameters that is where another is.

        Parameters
        ----------
        network : MLP
            Only the layout of its parameters is kept.
        state : dict
            What the other's `parameters`, `progress` and `moments` are: attributes of scikit-learn's optimizers too.
        """
        optimizer = cls(network, **{name: state[name] for name in cls.parameters})
        for name in cls.progress:
            setattr(optimizer, name, state[name])
        count = len(network.panels.shapes)
        for flat, name in zip((optimizer.first, optimizer.second), cls.moments, strict=False):
            if flat.size:
                network.panels.pack(state[name][:count], state[name][count:], flat)
        return optimizer

    def __getstate__(self):
        state = {name: getattr(self, name) for name in (*self.parameters, *self.progress, *self.moments)}
        panels = self._panels
        return state | {"layer_units": panels.layer_units, "dtype": panels.dtype.name, "sparse": panels.sparse}

    def __setstate__(self, state):
        layer_units = state["layer_units"]
        hidden = [kernels.IDENTITY] * (len(layer_units) - 1)  # a layout of the same shapes: moments have no activations
        panels = Panels(layer_units, hidden, np.dtype(state["dtype"]), state.get("sparse", False))
        network = types.SimpleNamespace(panels=panels)
        self.__dict__.update(self.from_state(network, state).__dict__)

    def _unpacked(self, flat):
        """Weights, then biases, of a flat array like the parameters."""
        return sum(self._panels.unpack(flat), []) if flat.size else []

    def copy_for(self, network):
        """A copy that can train this network, of the same layers but perhaps of another dtype.

        Raises
        ------
        ValueError
            If its layers are others.
        """
        if network.panels.shapes != self._panels.shapes:
            raise ValueError(
                f"The optimizer was made for weights of the shapes {self._panels.shapes}, not {network.panels.shapes}."
            )
        return self.from_state(network, self.__getstate__())

    def epoch_ends(self, t):
        """Change the learning rate by the schedule; t is the number of samples seen."""

    def stops(self, message, verbose):
        """Whether training stops where it no longer improves."""
        if verbose:
            print(message + " Stopping.")
        return True


class Adam(_Optimizer):
    """Adam (Kingma and Ba, 2014), epsilon outside the bias correction.

    Parameters
    ----------
    network : MLP
        Whose parameters are to be trained; only their layout is kept.
    learning_rate_init : float, default=0.001
    beta_1, beta_2 : float, default=0.9, 0.999
        Decay of the averages of gradient and squared gradient, in [0, 1).
    epsilon : float, default=1e-8

    Attributes
    ----------
    learning_rate : float
        With the bias correction of the last step.
    t : int
        Steps taken.
    ms, vs : list of ndarray
        First and second moments of all weights, then of all biases.
    """

    parameters, progress, moments = ("learning_rate_init", "beta_1", "beta_2", "epsilon"), ("t",), ("ms", "vs")

    def __init__(self, network, learning_rate_init=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-8):
        super().__init__(network, kernels.ADAM, 2, learning_rate_init, beta_1, beta_2, epsilon)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    @property
    def t(self):
        return int(self.step[kernels.STEPS])

    @t.setter
    def t(self, steps):
        self.step[kernels.STEPS] = steps

    @property
    def learning_rate(self):
        return (
            self.learning_rate_init * np.sqrt(1 - self.beta_2**self.t) / (1 - self.beta_1**self.t)
            if self.t
            else self.learning_rate_init
        )

    @property
    def ms(self):
        return self._unpacked(self.first)

    @property
    def vs(self):
        return self._unpacked(self.second)


class SGD(_Optimizer):
    """Stochastic gradient descent, plain or with momentum, its learning rate on a schedule.

    Parameters
    ----------
    network : MLP
        Whose parameters are to be trained; only their layout is kept.
    learning_rate_init : float, default=0.1
    lr_schedule : {'constant', 'invscaling', 'adaptive'}, default='constant'
        'invscaling' divides by (t + 1)^power_t after each epoch, t samples in; 'adaptive' divides by 5 where training
        no longer improves, and stops at 1e-6.
    momentum : float, default=0.9
        In [0, 1].
    nesterov : bool, default=True
        Nesterov's momentum.
    power_t : float, default=0.5

    Attributes
    ----------
    learning_rate : float
    velocities : list of ndarray
        Of all weights, then of all biases; empty without momentum.
    """

    parameters = "learning_rate_init", "lr_schedule", "momentum", "nesterov", "power_t"
    progress, moments = ("learning_rate",), ("velocities",)

    def __init__(
        self, network, learning_rate_init=0.1, lr_schedule="constant", momentum=0.9, nesterov=True, power_t=0.5
    ):
        kind = (kernels.NESTEROV if nesterov else kernels.MOMENTUM) if momentum > 0 else kernels.SGD
        super().__init__(network, kind, int(momentum > 0), learning_rate_init, momentum)
        self.lr_schedule, self.momentum, self.nesterov, self.power_t = lr_schedule, momentum, nesterov, power_t

    @property
    def learning_rate(self):
        return float(self.step[kernels.LEARNING_RATE])

    @learning_rate.setter
    def learning_rate(self, rate):
        self.step[kernels.LEARNING_RATE] = rate

    @property
    def velocities(self):
        return self._unpacked(self.first)

    def epoch_ends(self, t):
        if self.lr_schedule == "invscaling":
            self.learning_rate = self.learning_rate_init / (t + 1) ** self.power_t

    def stops(self, message, verbose):
        if self.lr_schedule != "adaptive":
            return super().stops(message, verbose)
        if self.learning_rate <= 1e-6:
            return super().stops(message + " Learning rate too small.", verbose)
        self.learning_rate /= 5.0
        if verbose:
            print(message + f" Setting learning rate to {self.learning_rate:f}")
        return False


@dataclasses.dataclass
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


# ---- L-BFGS ----


def flatten(weights, biases):
    """All parameters in one vector, weights of all layers before biases: what L-BFGS works on."""
    return np.concatenate([np.ravel(array) for array in [*weights, *biases]])


def unflatten(flat, shapes):
    """Weights and biases of layers of these shapes, two lists of views into such a vector."""
    sizes = [n * m for n, m in shapes] + [m for _, m in shapes]
    parts = np.split(flat, np.cumsum(sizes)[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=False)], parts[len(shapes) :]


def loss_and_gradient(flat, network, data, alpha=0.0):
    """Loss of all rows at these flattened parameters, which the network takes over, and its flattened gradient."""
    gradient, shapes = np.empty(flat.size, network.dtype), network.panels.shapes
    network.set_parameters(*unflatten(flat, shapes))
    loss, *_ = network.gradients(data, alpha, unflatten(gradient, shapes))
    return loss, gradient


def minimize(network, data, *, alpha=0.0, max_iter=200, max_fun=15000, tol=1e-4):
    """Train by L-BFGS: SciPy looks for the step, the network gives it loss and gradient of all rows at once.

    SciPy's own numbers are float64; it asks for losses and gradients in the dtype of what it starts with.

    Parameters
    ----------
    network : MLP
        It starts with the parameters it has, and ends with the best.
    data : Data
        Made by `network.data`.
    alpha : float, default=0.0
        Weight of the L2 penalty.
    max_iter, max_fun : int
        Iterations, and evaluations of the loss, that are allowed.
    tol : float, default=1e-4
        It has converged when no element of the gradient is larger.

    Returns
    -------
    result : scipy.optimize.OptimizeResult
        `status` is 0 if it has converged; `x` are the flattened parameters, in float64.
    """
    import scipy.optimize  # here, so that who trains with Adam does not wait for it

    result = scipy.optimize.minimize(
        loss_and_gradient,
        flatten(network.weights, network.biases),
        args=(network, data, alpha),
        method="L-BFGS-B",
        jac=True,
        options={"maxfun": max_fun, "maxiter": max_iter, "gtol": tol},
    )
    network.set_parameters(*unflatten(result.x, network.panels.shapes))
    network.release()
    return result
