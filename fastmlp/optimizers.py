"""Adam and SGD: the numbers of a step, the moments, and how they are kept. The rules stand in `compiled.updates`."""

import operator
import types

import numpy as np

from fastmlp._panels import NOT_TABULAR, Panels
from fastmlp._plan import NO_FADES, make_step
from fastmlp.compiled.records import BIASES, BLENDS, EMBEDDINGS, SCALES, TABLES, WEIGHTS
from fastmlp.compiled.updates import RULES
from fastmlp.schedules import ONLY_SGD, SCHEDULES, make_schedule


class _Optimizer:
    """What `MLP.train_epoch` reads: `rule`, the numbers `step`, the flat moments `first` and `second`, `schedule`.

    A subclass names its `parameters`, which are what its constructor takes, how far it has come (`progress`) and its
    `moments`. Its state is made of them, under scikit-learn's names: how `step` and the flat arrays are laid out is
    the business of one version on one processor. What scikit-learn's optimizers have not, and states that older
    versions have saved may lack, are `own_parameters` and `own_progress`.
    An optimizer of parameters beside weights and biases has no state.
    """

    def __init__(
        self, network, rule, schedule, beta_1, beta_2, epsilon, weight_decay, clipnorm, seed, factors=None,
        fan_in=False, fade="constant", epsilon_inside=False,
    ):  # fmt: skip
        if not 0 <= weight_decay < np.inf:
            raise ValueError(f"weight_decay must be a number >= 0, got {weight_decay}.")
        if clipnorm is not None and not 0 < clipnorm < np.inf:
            raise ValueError(f"clipnorm must be a number > 0, got {clipnorm}.")
        if not 0 <= operator.index(seed) < 2**63:
            raise ValueError(f"seed must be an integer from 0 to 2**63 - 1, got {seed}.")
        self._panels, self.schedule, self.weight_decay = network.panels, schedule, weight_decay
        self.clipnorm, self.seed = clipnorm, seed
        self.rule = RULES[f"{rule}_decayed" if weight_decay > 0 else rule]
        self.learning_rate_init, self.max_iter = schedule.learning_rate_init, schedule.max_iter
        if clipnorm is not None and self._panels.tabular != NOT_TABULAR:
            raise ValueError("clipnorm is not for networks for tables.")
        self._fade = make_schedule(fade, 1.0, 0.5, schedule.max_iter)
        dtype, self._parts = self._panels.dtype, _parts(self._panels, factors or {}, fan_in)
        self.step = make_step(self._parts)
        self.step["beta_1"], self.step["beta_2"], self.step["weight_decay"] = beta_1, beta_2, weight_decay
        self.step["epsilon"] = max(epsilon, np.finfo(dtype).tiny)  # 0 / (0 + epsilon) must be 0
        self.step["epsilon_inside"] = epsilon_inside
        self.step["corrected"], self.step["clipnorm"], self.step["seed"] = self.rule.corrected, clipnorm or 0, seed
        self.first = self._panels.moments() if self.rule.moments > 0 else np.empty(0, dtype)
        self.second = self._panels.moments() if self.rule.moments > 1 else np.empty(0, dtype)

    @property
    def made_for(self):
        """Layers, dtype and kind of the networks that it can train."""
        return self._panels.layer_units, self._panels.dtype, self._panels.sparse, self._panels.tabular

    def fades(self, batches):
        """What is left of weight decay and dropout in each batch of the next epoch; empty: all."""
        if not self._fade.by_batches:
            return NO_FADES
        self._fade.epochs = self.schedule.epochs
        return self._fade.rates(batches)

    @property
    def epochs(self):
        return self.schedule.epochs

    @epochs.setter
    def epochs(self, epochs):
        self.schedule.epochs = epochs

    @classmethod
    def from_state(cls, network, state):
        """An optimizer of this network's parameters that is where another is.

        Parameters
        ----------
        network : MLP
            Only the layout of its parameters is kept.
        state : dict
            What the other's `parameters`, `progress` and `moments` are: attributes of scikit-learn's optimizers too.
            And what is its own, if it is there.
        """
        own = {name: state[name] for name in cls.own_parameters if name in state}
        optimizer = cls(network, **{name: state[name] for name in cls.parameters}, **own)
        for name in *cls.progress, *(name for name in cls.own_progress if name in state):
            setattr(optimizer, name, state[name])
        count = len(network.panels.shapes)
        for flat, name in zip((optimizer.first, optimizer.second), cls.moments, strict=False):
            if flat.size:
                network.panels.pack(state[name][:count], state[name][count:], flat)
        return optimizer

    def __getstate__(self):
        names = *self.parameters, *self.own_parameters, *self.progress, *self.own_progress, *self.moments
        panels = self._panels
        if panels.tabular != NOT_TABULAR:
            raise TypeError("An optimizer of a network for tables cannot be saved or copied.")
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

    def copy_for(self, network, **changes):
        """A copy that can train this network, of the same layers but perhaps of another dtype; with changed parameters.

        Raises
        ------
        ValueError
            If its layers are others.
        """
        if network.panels.shapes != self._panels.shapes:
            raise ValueError(
                f"The optimizer was made for weights of the shapes {self._panels.shapes}, not {network.panels.shapes}."
            )
        return self.from_state(network, self.__getstate__() | changes)

    def epoch_ends(self, t):
        """Tell the schedule; t is the number of samples seen."""
        self.schedule.epoch_ends(t)

    def stops(self, message, verbose):
        """Whether training stops where it no longer improves."""
        goes_on, more = self.schedule.goes_on()
        if verbose:
            print(message + more + ("" if goes_on else " Stopping."))
        return not goes_on


# What `factors` call the kinds of parameters; each but weights is a part.
KINDS = {
    "weights": WEIGHTS, "biases": BIASES, "blends": BLENDS, "scales": SCALES, "embeddings": EMBEDDINGS, "tables": TABLES
}  # fmt: skip


def _parts(panels, factors, fan_in):
    """The parts of a network's parameters, with factors of rate and decay by kind."""
    parts = panels.parts()
    for name, (rate, decay) in factors.items():
        if name not in KINDS or not (0 <= rate < np.inf and 0 <= decay < np.inf):
            raise ValueError(f"factors must hold two numbers >= 0 for some of {list(KINDS)}, got {name!r}.")
        layers = range(1, len(panels.shapes) + 1) if name == "weights" else [0]
        for layer in layers:
            part = panels.part(layer, KINDS[name])
            parts["rate"][part], parts["decay"][part] = rate, decay
    if fan_in:  # W = V / sqrt(n): the step of V, told of W
        for part, (n, _) in enumerate(panels.shapes):
            parts["rate"][part] /= np.sqrt(n)
            parts["epsilon"][part] *= np.sqrt(n)
    return parts


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
    lr_schedule : {'constant', 'cosine', 'onecycle', 'coslog4', 'flat_cos'} or callable, default='constant'
        All but 'constant' change the rate from batch to batch: it is learning_rate_init times a factor, a function of
        t, which goes from 0 when the first batch begins to 1 after max_iter epochs, and stays there. 'cosine' goes from
        1 down to 0, 'onecycle' up from 1/25 and down to 1/250,000, both as in PyTorch; 'coslog4' goes up and down four
        times, each time twice as long, and 'flat_cos' down in the second half, both as in RealMLP. A callable takes t
        and returns the factor, a finite number >= 0. To pickle the optimizer it must be a function of a module: a
        lambda cannot be pickled.
    max_iter : int, default=200
        Epochs that the schedule runs over.
    factors : dict, optional
        What the rate, and weight decay once more, are multiplied by for some kinds of parameters: of 'weights',
        'biases', 'scales', 'blends', 'embeddings' and 'tables', see `Tabular`, to two numbers >= 0. (1, 1) of all that
        are absent, but (1, 0) of biases.
    fan_in : bool, default=False
        Whether the weights are trained as V = sqrt(n) W, for n units below: as if each layer were A V / sqrt(n) + b.
        Decay is that of V.
    fade : {'constant', 'cosine', 'onecycle', 'coslog4', 'flat_cos'}, default='constant'
        The schedule of what weight decay and dropout are multiplied by.
    epsilon_inside : bool, default=False
        Whether epsilon is added to the root of the second moments after their bias correction, as in PyTorch, and not
        before, as in scikit-learn.

    Attributes
    ----------
    learning_rate : float
        Of the last batch, with the bias correction of the last step.
    rate : float
        The same without the correction.
    epochs : int
        Epochs done, counted only where the rate or `fade` changes from batch to batch.
    t : int
        Steps taken.
    ms, vs : list of ndarray
        First and second moments of all weights, then of all biases.
    """

    parameters, progress, moments = ("learning_rate_init", "beta_1", "beta_2", "epsilon"), ("t",), ("ms", "vs")
    own_parameters = (
        "weight_decay", "clipnorm", "seed", "lr_schedule", "max_iter", "factors", "fan_in", "fade", "epsilon_inside"
    )  # fmt: skip
    own_progress = "batches", "rate", "epochs"

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
        lr_schedule="constant",
        max_iter=200,
        factors=None,
        fan_in=False,
        fade="constant",
        epsilon_inside=False,
    ):
        if lr_schedule in ONLY_SGD:
            raise ValueError(f"lr_schedule={lr_schedule!r} is for SGD only.")
        if fade not in (fades := [name for name in SCHEDULES if name not in ONLY_SGD]):
            raise ValueError(f"fade must be one of {fades}, got {fade!r}.")
        schedule = make_schedule(lr_schedule, learning_rate_init, 0.5, max_iter)
        numbers = beta_1, beta_2, epsilon, weight_decay, clipnorm, seed
        super().__init__(network, "adam", schedule, *numbers, factors, fan_in, fade, epsilon_inside)
        self.factors, self.fan_in, self.fade, self.epsilon_inside = factors, fan_in, fade, epsilon_inside
        self.beta_1, self.beta_2, self.epsilon, self.lr_schedule = beta_1, beta_2, epsilon, lr_schedule

    @property
    def t(self):
        return int(self.step["steps"][0])

    @t.setter
    def t(self, steps):
        self.step["steps"] = steps

    @property
    def rate(self):
        return self.schedule.learning_rate

    @rate.setter
    def rate(self, rate):
        self.schedule.learning_rate = rate

    @property
    def learning_rate(self):
        return self.rate * np.sqrt(1 - self.beta_2**self.t) / (1 - self.beta_1**self.t) if self.t else self.rate

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
    lr_schedule : {'constant', 'invscaling', 'adaptive', 'cosine', 'onecycle', 'coslog4', 'flat_cos'} or callable, \
            default='constant'
        'invscaling' divides by (t + 1)^power_t after each epoch, t samples in; 'adaptive' divides by 5 where training
        no longer improves, and stops at 1e-6. With them and 'constant' a velocity keeps the rates of the batches that
        it comes from, as in scikit-learn. The others are those of :class:`Adam`; with them all of it has the rate of
        the last batch, as in PyTorch.
    momentum : float, default=0.9
        In [0, 1].
    nesterov : bool, default=True
        Nesterov's momentum.
    power_t : float, default=0.5
    weight_decay, clipnorm, seed, max_iter
        As in :class:`Adam`.

    Attributes
    ----------
    learning_rate : float
    epochs : int
        Epochs done, counted only where the rate changes from batch to batch.
    velocities : list of ndarray
        Of all weights, then of all biases; empty without momentum. Where the rate changes from batch to batch it is not
        in them: they are what is called momentum buffers in PyTorch.
    """

    parameters = "learning_rate_init", "lr_schedule", "momentum", "nesterov", "power_t"
    progress, moments = ("learning_rate",), ("velocities",)
    own_parameters, own_progress = ("weight_decay", "clipnorm", "seed", "max_iter"), ("batches", "epochs")

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
        max_iter=200,
    ):
        rule = ("nesterov" if nesterov else "momentum") if momentum > 0 else "sgd"
        schedule = make_schedule(lr_schedule, learning_rate_init, power_t, max_iter)
        if momentum > 0 and schedule.by_batches:
            rule += "_of_gradients"
        super().__init__(network, rule, schedule, momentum, 0.0, 0.0, weight_decay, clipnorm, seed)
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
