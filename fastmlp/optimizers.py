"""Adam and SGD: the numbers of a step, the moments, and how they are kept. The rules stand in `compiled.updates`."""

import types

import numpy as np

from fastmlp._panels import Panels
from fastmlp.compiled.records import STEP
from fastmlp.compiled.updates import RULES
from fastmlp.schedules import SCHEDULES


class _Optimizer:
    """What `MLP.train_epoch` reads: `rule`, the numbers `step`, the flat moments `first` and `second`, `schedule`.

    A subclass names its `parameters`, which are what its constructor takes, how far it has come (`progress`) and its
    `moments`. Its state is made of them, under scikit-learn's names: how `step` and the flat arrays are laid out is
    the business of one version on one processor. All of them have what scikit-learn's have not, too: `own` parameters,
    by their defaults, and `batches`.

    Attributes
    ----------
    batches : int
        How many it has seen.
    """

    own = {"weight_decay": 0.0, "clipnorm": None, "seed": 0}

    def __init__(self, network, rule, schedule, beta_1=0.0, beta_2=0.0, epsilon=0.0, *, weight_decay, clipnorm, seed):
        if not 0 <= weight_decay < np.inf:
            raise ValueError(f"weight_decay must be a number >= 0, got {weight_decay}.")
        if clipnorm is not None and not 0 < clipnorm < np.inf:
            raise ValueError(f"clipnorm must be a number > 0, got {clipnorm}.")
        if not 0 <= seed < 2**63:
            raise ValueError(f"seed must be an integer from 0 to 2**63 - 1, got {seed}.")
        self._panels, self.schedule, self.weight_decay = network.panels, schedule, weight_decay
        self.clipnorm, self.seed = clipnorm, seed
        self.rule = RULES[f"{rule}_decayed" if weight_decay > 0 else rule]
        self.learning_rate_init = schedule.learning_rate_init
        dtype = self._panels.dtype
        self.step = np.zeros(1, STEP.dtype)
        self.step["beta_1"], self.step["beta_2"], self.step["weight_decay"] = beta_1, beta_2, weight_decay
        self.step["epsilon"] = max(epsilon, np.finfo(dtype).tiny)  # 0 / (0 + epsilon) must be 0
        self.step["corrected"], self.step["clipnorm"], self.step["seed"] = self.rule.corrected, clipnorm or 0, seed
        self.first = self._panels.moments() if self.rule.moments > 0 else np.empty(0, dtype)
        self.second = self._panels.moments() if self.rule.moments > 1 else np.empty(0, dtype)

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
        parameters = {name: state[name] for name in cls.parameters}
        optimizer = cls(network, **parameters, **{name: state.get(name, value) for name, value in cls.own.items()})
        optimizer.batches = state.get("batches", 0)
        for name in cls.progress:
            setattr(optimizer, name, state[name])
        count = len(network.panels.shapes)
        for flat, name in zip((optimizer.first, optimizer.second), cls.moments, strict=False):
            if flat.size:
                network.panels.pack(state[name][:count], state[name][count:], flat)
        return optimizer

    def __getstate__(self):
        names = *self.parameters, *self.own, "batches", *self.progress, *self.moments
        panels = self._panels
        made_for = {"layer_units": panels.layer_units, "dtype": panels.dtype.name, "sparse": panels.sparse}
        return {name: getattr(self, name) for name in names} | made_for

    def __setstate__(self, state):
        panels = Panels(state["layer_units"], np.dtype(state["dtype"]), state.get("sparse", False))
        network = types.SimpleNamespace(panels=panels)
        self.__dict__.update(self.from_state(network, state).__dict__)

    @property
    def batches(self):
        return int(self.step["batches"][0])

    @batches.setter
    def batches(self, count):
        self.step["batches"] = count

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
        """Tell the schedule; t is the number of samples seen."""
        self.schedule.epoch_ends(t)

    def stops(self, message, verbose):
        """Whether training stops where it no longer improves."""
        goes_on, more = self.schedule.goes_on()
        if verbose:
            print(message + more + ("" if goes_on else " Stopping."))
        return not goes_on


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
    weight_decay : float, default=0.0
        Decoupled: weights, but not biases, are multiplied by 1 - rate * weight_decay in each step, the rate without the
        bias correction. AdamW (Loshchilov and Hutter, 2019).
    clipnorm : float, optional
        What the norm of the whole gradient, L2 penalty included, may be: one that is longer is made as short. The
        formula is that of PyTorch's clip_grad_norm_. Not clipped if absent.
    seed : int, default=0
        Of the random numbers of dropout.

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

    def __init__(
        self,
        network,
        learning_rate_init=0.001,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        *,
        weight_decay=0.0,
        clipnorm=None,
        seed=0,
    ):
        schedule, own = SCHEDULES["constant"](learning_rate_init), {"weight_decay": weight_decay, "clipnorm": clipnorm}
        super().__init__(network, "adam", schedule, beta_1, beta_2, epsilon, **own, seed=seed)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    @property
    def t(self):
        return int(self.step["steps"][0])

    @t.setter
    def t(self, steps):
        self.step["steps"] = steps

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
    weight_decay, clipnorm, seed
        As in :class:`Adam`.

    Attributes
    ----------
    learning_rate : float
    velocities : list of ndarray
        Of all weights, then of all biases; empty without momentum.
    """

    parameters = "learning_rate_init", "lr_schedule", "momentum", "nesterov", "power_t"
    progress, moments = ("learning_rate",), ("velocities",)

    def __init__(
        self,
        network,
        learning_rate_init=0.1,
        lr_schedule="constant",
        momentum=0.9,
        nesterov=True,
        power_t=0.5,
        *,
        weight_decay=0.0,
        clipnorm=None,
        seed=0,
    ):
        rule = ("nesterov" if nesterov else "momentum") if momentum > 0 else "sgd"
        schedule = SCHEDULES[lr_schedule](learning_rate_init, power_t)
        super().__init__(network, rule, schedule, momentum, weight_decay=weight_decay, clipnorm=clipnorm, seed=seed)
        self.lr_schedule, self.momentum, self.nesterov, self.power_t = lr_schedule, momentum, nesterov, power_t

    @property
    def learning_rate(self):
        return float(self.schedule.learning_rate)

    @learning_rate.setter
    def learning_rate(self, rate):
        self.schedule.learning_rate = rate

    @property
    def velocities(self):
        return self._unpacked(self.first)
