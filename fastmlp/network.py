"""MLP: a multilayer perceptron as flat arrays, and the calls that compute on them.

This floor checks what goes in, keeps the kernels' workspace and chooses the number of threads. It knows
neither scikit-learn nor how training goes from epoch to epoch (`training.py`).
"""

import operator
import time
from numbers import Real

import numpy as np

from fastmlp import _threads
from fastmlp._data import (
    SPARSE_COLUMNS,
    TARGETS,
    Data,
    NotFiniteError,
    SparseRows,
    flat_view,
    nonzeros_before,
    read_only,
    sparse_rows,
)
from fastmlp._panels import DTYPES, NOT_TABULAR, Panels, Tabular, pad
from fastmlp._plan import NO_FADES, Plan, make_step
from fastmlp.compiled import passes
from fastmlp.compiled.activations import HIDDEN, OUTPUTS
from fastmlp.compiled.losses import LOSSES
from fastmlp.compiled.shuffle import shuffle
from fastmlp.compiled.tabular import OF_CATEGORY, OF_NUMBER
from fastmlp.compiled.tile import ROWS
from fastmlp.compiled.updates import RULES, STEP

# Multiply-adds forward from which more threads pay, measured.
_TRAIN_IN_PARALLEL, _PREDICT_IN_PARALLEL = 100_000, 400_000
# The same for a single row that is predicted from the user's matrices.
_ROW_IN_PARALLEL = 500_000
# How many weights are drawn at a time.
_DRAWN = 100_000
# Seconds that an epoch stays in compiled code at a time, about: only in between Python notices a Ctrl-C.
_PIECE_SECONDS = 0.1
# Rows that a thread takes through all layers at a time when it predicts.
_PREDICT_ROWS = 128
# What it costs to step a weight that few nonzeros lead to, in multiply-adds.
_SPARSE_STEP = 16
_ALL_ROWS = np.empty(0, np.int64)
_ALL_ROWS.flags.writeable = False
# Rows whose loss is measured at a time: they stay in a cache, and so does most of what a training has there.
_LOSS_ROWS = 256
_NO_RATE = np.zeros(1)
# Weights up to which it is quicker to remember them than to compare them panel by panel.
FINGERPRINT_UP_TO = 100_000


class MLP:
    """A multilayer perceptron: A_i = f(A_{i-1} W_i + b_i), trained on a loss that goes with its output.

    Parameters
    ----------
    layer_units : sequence of int
        Width of each layer, input first, output last; two at least.
    activation : str or sequence of str, default="relu"
        'identity', 'logistic', 'tanh', 'relu', 'leaky_relu', 'elu', 'selu', 'softplus', 'silu', 'gelu' or 'mish', for
        all hidden layers or for each.
    output : {'softmax', 'logistic', 'identity', 'exp'}, default="softmax"
        Activation of the last layer.
    dtype : {numpy.float32, numpy.float64}, default=numpy.float32
        Type of parameters, activations and predictions.
    sparse : bool, default=False
        Whether the network is to be trained on sparse X; one that is not can only predict from it.
    loss : str, optional
        What is minimised; it must go with the output. With 'softmax' this is 'cross_entropy', of classes, or
        'soft_cross_entropy', of probabilities; with 'logistic' 'binary_log_loss' for each output; with 'identity'
        'squared_error' (half of it), 'huber', 'absolute_error' or 'quantile' (the pinball loss); with 'exp' 'poisson'
        or 'gamma' (half the deviances). The first one that goes with the output if absent.
    loss_parameter : float, default=1.0
        For 'huber', the error from which on the loss is linear. For 'quantile', which one: more than 0, less than 1.
    dropout : float or sequence of float, default=0.0
        Part of the units that a step of training leaves out, in [0, 1), of all hidden layers or of each; the others
        are multiplied by 1 / (1 - dropout). `predict`, `loss` and `gradients` leave out nothing. The seed is the
        optimizer's.
    tabular : Tabular, default=NOT_TABULAR
        What a network for tables has beside its dense layers: embedded numbers and categories, factors of inputs,
        parametric activations, as RealMLP has them. Rows of X then have `tabular.columns(layer_units[0])` numbers.

    Attributes
    ----------
    weights, biases : list of ndarray
        W_i of shape (units of layer i-1, units of layer i) and b_i, layer by layer: copies. Initially 0.
    parameters : ndarray
        The live parameters, flat, in the kernels' own order.
    beside : dict
        Those that are neither weights nor biases, by name: live views, see `Panels.beside`.

    Examples
    --------
    >>> network = MLP([64, 100, 10])
    >>> network.initialize(np.random.RandomState(0))
    >>> data = network.data(X, labels)                                      # doctest: +SKIP
    >>> loss = network.train_epoch(data, Adam(network), batch_size=200)     # doctest: +SKIP
    """

    def __init__(
        self,
        layer_units,
        activation="relu",
        output="softmax",
        dtype=np.float32,
        sparse=False,
        loss=None,
        loss_parameter=1.0,
        dropout=0.0,
        tabular=NOT_TABULAR,
    ):
        if any(isinstance(n, (bool, np.bool_)) for n in layer_units):
            raise TypeError("an integer is required")
        self.layer_units = tuple(operator.index(n) for n in layer_units)
        if len(self.layer_units) < 2 or min(self.layer_units) < 1:
            raise ValueError(f"layer_units must be two or more numbers > 0, got {list(layer_units)}.")
        self.dtype = np.dtype(dtype)
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be float32 or float64, got {self.dtype}.")
        hidden = for_each(activation, len(self.layer_units) - 2)
        if len(hidden) != len(self.layer_units) - 2 or not set(hidden) <= set(HIDDEN):
            raise ValueError(f"activation must be one of {list(HIDDEN)} for each hidden layer, got {activation!r}.")
        if output not in OUTPUTS:
            raise ValueError(f"output must be one of {list(OUTPUTS)}, got {output!r}.")
        losses = [row.name for row in LOSSES.values() if row.output == output]
        if loss not in [None, *losses]:
            raise ValueError(f"loss must be one of {losses} with the output {output!r}, got {loss!r}.")
        self.loss_function = LOSSES[loss or losses[0]]
        self.loss_parameter = float(loss_parameter)
        below = self.loss_function.below
        if not 0 < self.loss_parameter < below:
            bounds = "> 0" if below == np.inf else f"> 0 and < {below:g}"
            raise ValueError(f"loss_parameter must be a number {bounds}, got {loss_parameter}.")
        self.dropout = tuple(map(float, for_each(dropout, len(hidden))))
        if len(self.dropout) != len(hidden) or not all(0 <= p < 1 for p in self.dropout):
            raise ValueError(f"dropout must be a number in [0, 1) for each hidden layer, got {dropout!r}.")
        self.activations, self.sparse = (*hidden, output), bool(sparse)
        if self.sparse and self.layer_units[0] > SPARSE_COLUMNS:
            raise ValueError(f"Sparse X may have {SPARSE_COLUMNS} columns, got {self.layer_units[0]}.")

        self.tabular = tabular = Tabular(*tabular)
        self.columns = tabular.columns(self.layer_units[0])
        if self.columns < tabular.numbers + len(tabular.categories) or min(tabular.categories, default=1) < 1:
            raise ValueError(f"{self.layer_units[0]} units of the input are too few for {tabular}.")
        if tabular.parametric and any(HIDDEN[name].blend is None for name in hidden):
            raise ValueError(f"The activations {hidden} cannot all be parametric.")
        if self.sparse and tabular != NOT_TABULAR:
            raise ValueError("A network for tables takes no sparse X.")
        self.panels = Panels(self.layer_units, self.dtype, self.sparse, tabular)
        self.plan = Plan(self.panels, [HIDDEN[name] for name in hidden] + [OUTPUTS[output]], self.dropout)
        self._parameters, self._copies = self._empty(), self.panels.copies()
        self._takes = self.columns, self.layer_units[-1], self.loss_function.targets, self.dtype
        self._spare, self._held = {}, None

    def __reduce__(self):
        """Plain values and matrices alone, which skops takes too."""
        *hidden, output = self.activations
        make = (
            self.layer_units, hidden, output, self.dtype.name, self.sparse, self.loss_function.name,
            self.loss_parameter, self.dropout, tuple(self.tabular),
        )  # fmt: skip
        beside = [array.copy() for array in self.panels.arrays_beside(self.parameters)]
        return restore, (make, self.weights, self.biases, beside)

    def _empty(self):
        """Parameters that are 0, but what pads them: parametric activations put out 0 there as they are."""
        *hidden, output = [f.padded_bias for f in self.plan.activations]
        return self.panels.parameters([*([0.0] * len(hidden) if self.tabular.parametric else hidden), output])

    @property
    def weights(self):
        return self.panels.unpack(self._parameters)[0]

    @property
    def biases(self):
        return self.panels.unpack(self._parameters)[1]

    @property
    def parameters(self):
        return self._parameters

    @property
    def beside(self):
        return self.panels.beside(self._parameters)

    @parameters.setter
    def parameters(self, flat):
        ours = self._parameters
        if not isinstance(flat, np.ndarray) or (flat.shape, flat.dtype) != (ours.shape, ours.dtype):
            raise ValueError(f"parameters must be an array of shape {ours.shape} and {self.dtype}.")
        self.set_parameters(*self.panels.unpack(flat))
        ours[self.panels.dense_size :] = flat[self.panels.dense_size :]

    def set_parameters(self, weights, biases):
        """Take over weights and biases, layer by layer.

        Parameters
        ----------
        weights, biases : sequence of array-like
            Shapes as in the attributes of these names; converted to the network's dtype.

        Raises
        ------
        ValueError
            If a shape is not that of its layer; the parameters then stay as they were.
        """
        weights, biases = [np.asarray(W) for W in weights], [np.asarray(b) for b in biases]
        shapes = self.panels.shapes
        if [W.shape for W in weights] != shapes or [b.shape for b in biases] != self.panels.bias_shapes:
            raise ValueError(f"weights must have the shapes {shapes}, and biases their second numbers.")
        if not np.isfinite(self._parameters).all():  # then NaN has come into the padding, too
            self._parameters[:], self._copies[:] = self._empty(), 0
        self.panels.pack(weights, biases, self._parameters, self._copies)
        self._held = _fingerprint([*weights, *biases]) if self.panels.work <= FINGERPRINT_UP_TO else None

    def holds(self, weights, biases):
        """Whether these are the parameters that the network is known to hold; False may be wrong, True is not."""
        if self.panels.work <= FINGERPRINT_UP_TO:
            return self._held is not None and self._held == _fingerprint([*weights, *biases])
        return self.panels.hold(weights, biases, self._parameters)

    def initialize(self, random_state, factor=6.0):
        """Draw weights and biases uniformly from +-sqrt(factor / (units in + units out)), in scikit-learn's order.

        Parameters
        ----------
        random_state : numpy.random.RandomState
        factor : float or sequence of float, default=6.0
            Of Glorot and Bengio (2010), for all layers or for each; scikit-learn takes 2 with logistic hidden layers, 6
            with all others.
        """
        weights, biases, shapes = [], [], self.panels.shapes
        for (n, m), factor_of_layer in zip(shapes, np.broadcast_to(factor, len(shapes)), strict=True):
            bound, W, some = np.sqrt(factor_of_layer / (n + m)), np.empty((n, m), self.dtype), -(-_DRAWN // m)
            for rows in range(0, n, some):  # all of them at once would be in float64 first
                W[rows : rows + some] = random_state.uniform(-bound, bound, (min(some, n - rows), m))
            weights.append(W)
            biases.append(random_state.uniform(-bound, bound, m).astype(self.dtype))
        self.set_parameters(weights, biases)

    # ---- what goes in ----

    def data(self, X, Y, sample_weight=None):
        """Rows and targets in the form that `loss`, `gradients` and `train_epoch` take.

        Parameters
        ----------
        X : ndarray or sparse matrix of shape (n_samples, columns)
            float32 or float64, of any strides, is read in place; anything else is converted. Sparse X too is read in
            place if it is CSR with 32-bit indices; it may have them in any order and several entries for one place,
            which add up. What `rows` returned is not checked again: as long as it is in use, indices must not change.
        Y : ndarray of shape (n_samples,) or (n_samples, layer_units[-1])
            Targets; for 'cross_entropy' the number of each row's class, from 0, for 'soft_cross_entropy' the
            probability of each class. 'poisson' takes no targets < 0, 'gamma' none that is 0 either.
        sample_weight : ndarray of shape (n_samples,), optional
            Weight of each row in loss and gradient. 1 if absent.

        Raises
        ------
        ValueError
            If shapes do not fit, the loss does not take such targets, or X is sparse and the network not made for it.
        """
        X, outputs = self.rows(X), self.layer_units[-1]
        if isinstance(X, SparseRows) and not self.sparse:
            raise ValueError("Training on sparse X needs a network made with sparse=True.")
        n, Y, targets = X.shape[0], np.asarray(Y), TARGETS[self.loss_function.targets]
        classes = self.loss_function.targets == "classes"
        if n == 0 or Y.shape not in ([(n,)] if classes else [(n, outputs)] + [(n,)] * (outputs == 1)):
            raise ValueError(f"Y must have {n} rows{'' if classes else f' of {outputs} targets'}, got shape {Y.shape}.")
        if classes:
            Y = np.array(Y, self.dtype)  # a copy: what is checked here may not change later
        Y = np.ascontiguousarray(Y, self.dtype)
        if not targets.hold(Y.reshape(n, -1), outputs):
            raise ValueError(f"Y must be {targets.words.format(last=outputs - 1)}.")
        Y = Y.reshape(-1)
        weights = np.ones(1, self.dtype)
        if sample_weight is not None:
            weights = np.ascontiguousarray(sample_weight, self.dtype)
            if weights.shape != (n,):
                raise ValueError(f"sample_weight must have the shape {(n,)}, got {weights.shape}.")
        sparse = X if isinstance(X, SparseRows) else None
        return Data(*flat_view(X), read_only(Y), read_only(weights), n, sparse, self._takes)

    def rows(self, X):
        """X in the form that `data` and `predict` take without checking it again.

        Parameters
        ----------
        X : ndarray or sparse matrix of shape (n_samples, columns)

        Returns
        -------
        X : ndarray or SparseRows

        Raises
        ------
        ValueError
            If the width is not that of the network, or sparse X names places that it does not have.
        """
        sparse = not isinstance(X, np.ndarray) and (isinstance(X, SparseRows) or hasattr(X, "tocsr"))
        X = X if sparse else np.asarray(X)
        if len(X.shape) != 2 or X.shape[1] != self.columns:
            raise ValueError(f"X must have the shape (n_samples, {self.columns}), got {X.shape}.")
        if sparse:
            return X if isinstance(X, SparseRows) else sparse_rows(X, self.dtype)
        if X.dtype not in DTYPES:
            X = X.astype(self.dtype)
        return X

    def _take(self, task, make, *key):
        """A workspace for this task: the spare one, or one that is made. No two calls have the same."""
        spare_key, workspace = self._spare.pop(task, (None, None))
        return workspace if spare_key == key else make(*key)

    def _give_back(self, task, *key, workspace):
        self._spare[task] = key, workspace

    def release(self):
        """Give back the memory that is kept for the next call; where all rows were one batch, it is large."""
        self._spare.clear()

    # ---- what it computes ----

    def predict(self, X, order=None, *, finite=False):
        """Outputs of the network.

        Parameters
        ----------
        X : ndarray or sparse matrix of shape (n_samples, columns)
        order : ndarray of int64, optional
            Numbers of the rows to take, in this order. All of them if absent.
        finite : bool, default=False
            Whether all numbers of dense X, taken without an order, must be finite.

        Returns
        -------
        A_L : ndarray of shape (rows taken, layer_units[-1])

        Raises
        ------
        IndexError
            If `order` names a row that is not there.
        NotFiniteError
            A ValueError: X must be finite and is not.
        """
        X, order = self.rows(X), _ALL_ROWS if order is None else read_only(np.ascontiguousarray(order, np.int64))
        if order.size and not (0 <= order.min() and order.max() < X.shape[0]):
            raise IndexError("order names a row that X does not have.")
        n = X.shape[0] if order is _ALL_ROWS else len(order)
        out = np.empty((n, self.layer_units[-1]), self.dtype)
        if n == 0:
            return out
        threads = _threads.count() if n > ROWS and n * self._work(X) > _PREDICT_IN_PARALLEL else 1
        height, sparse = threads * (ROWS if n <= ROWS else _PREDICT_ROWS), isinstance(X, SparseRows)
        key = height, threads, sparse, X.dtype
        workspace = self._take("predict", self.plan.workspace_to_predict, *key)
        if n > ROWS and not sparse:
            workspace.layers["in_place"][0] = self.plan.in_place(X.dtype, X.strides[1] == X.itemsize)
        workspace.job["checked"][0] = finite and not sparse and order is _ALL_ROWS
        self._forward(X, order, workspace, threads, out)
        bad = finite and workspace.job["not_finite"][0]
        self._give_back("predict", *key, workspace=workspace)
        if bad:
            raise NotFiniteError("X contains NaN or infinity.")
        return out

    def predict_with(self, X, weights, biases, *, finite=False):
        """Outputs of a network like this one with other parameters, which are read where they are and not taken over.

        For a few rows of a large network: `set_parameters`, and `holds` too, take longer than to predict a row.

        Parameters
        ----------
        X : ndarray of shape (n_samples, layer_units[0])
        weights, biases : sequence of ndarray
            Of the network's dtype and in C order.
        finite : bool, default=False
            As in `predict`.

        Returns
        -------
        A_L : ndarray of shape (n_samples, layer_units[-1])
            The same bits as `predict` has for these parameters. None, and nothing is done, if X is sparse or one of
            them has another type, shape, dtype or order than it should.

        Raises
        ------
        NotFiniteError
            A ValueError: X must be finite and is not.
        """
        X, arrays, shapes = self.rows(X), [*weights, *biases], [*self.panels.shapes, *self.panels.bias_shapes]
        if isinstance(X, SparseRows):
            return None
        if len(X) == 0:
            return np.empty((0, self.layer_units[-1]), self.dtype)
        for array, shape in zip(arrays, shapes, strict=True):
            if type(array) is not np.ndarray or array.shape != shape or array.dtype != self.dtype:
                return None
            if not (array.flags.c_contiguous and array.flags.aligned):
                return None
        if self.tabular != NOT_TABULAR:
            return None
        addresses = np.array([array.ctypes.data for array in arrays], np.int64)
        out, (view, x) = np.empty((len(X), self.layer_units[-1]), self.dtype), flat_view(X)
        threads = _threads.count() if self.panels.work > _ROW_IN_PARALLEL else 1
        key = threads, view.dtype
        workspace = self._take("predict_row", self.plan.workspace_to_predict_row, *key)
        args = workspace.words, view, x, read_only(addresses), len(X), self._parameters, out.ravel()
        if workspace.links:
            workspace.link(passes.predict_row, *args)
        workspace.job["checked"][0], workspace.job["team"][0] = finite, _threads.team_for(threads)
        passes.predict_row(*args)
        bad = finite and workspace.job["not_finite"][0]
        self._give_back("predict_row", *key, workspace=workspace)
        if bad:
            raise NotFiniteError("X contains NaN or infinity.")
        return out

    def _forward(self, X, order, workspace, threads, out):
        entry = passes.sparse_predict if isinstance(X, SparseRows) else passes.predict
        args = workspace.words, *flat_view(X), order, len(out), self._parameters, self._copies, out.ravel()
        if isinstance(X, SparseRows):
            workspace.name_nonzeros(X)
        if workspace.links:
            workspace.link(entry, *args)
        workspace.job["team"][0] = _threads.team_for(threads)
        entry(*args)

    def forward(self, X):
        """Activations of all layers for all rows.

        Parameters
        ----------
        X : ndarray or sparse matrix of shape (n_samples, columns)

        Returns
        -------
        activations : list of ndarray
            A_0 (that is X, and left out where X is sparse) to A_L, of shape (n_samples, units of the layer).
        """
        X = self.rows(X)
        n, sparse = X.shape[0], isinstance(X, SparseRows)
        height = max(ROWS, pad(n, ROWS))
        out = np.empty((n, self.layer_units[-1]), self.dtype)
        workspace = self.plan.workspace_to_predict(height, 1, sparse, X.dtype)
        self._forward(X, _ALL_ROWS, workspace, 1, out)
        return [
            self.panels.matrix(workspace.A, layer["values"], n, layer["units"], height)
            for layer in workspace.layers[int(sparse) :]
        ]

    def _work(self, X):
        """Multiply-adds that a row of X needs to go forward, about."""
        if not isinstance(X, SparseRows):
            return self.panels.work
        n, m = self.panels.shapes[0]
        return self.panels.work - n * m + len(X.values) * m // max(1, X.shape[0])

    def loss(self, data, alpha=0.0, order=None, out=None):
        """Loss of all rows together: their weighted mean (for squared error over outputs too) + alpha/2 |W|^2 / S.

        S is the number of rows, or the sum of their weights: scikit-learn's loss at these parameters.

        Parameters
        ----------
        data : Data
            Made by the method of this name.
        alpha : float, default=0.0
            Weight of the L2 penalty.
        order : ndarray of int64, optional
            Numbers of the rows to use. All of them if absent.
        out : ndarray of shape (rows used, layer_units[-1]), optional
            Of the network's dtype and in C order: where their outputs are written to, which are those of `predict`.

        Returns
        -------
        loss : float
        """
        order = _order(data) if order is None else order
        batch_size = _batch_size(_LOSS_ROWS, order)
        rates = np.zeros(-(-len(order) // batch_size))
        if out is not None:
            shape = len(order), self.layer_units[-1]
            if (out.shape, out.dtype) != (shape, self.dtype) or not out.flags.c_contiguous or not out.flags.writeable:
                raise ValueError(f"out must be an array of shape {shape} and {self.dtype} in C order.")
        return self._epoch(data, order, batch_size, RULES["loss"], alpha=alpha, rates=rates, out=out)

    def gradients(self, data, alpha=0.0, out=None):
        """Loss of all rows together, and its gradients: (A_{i-1}' delta_i + alpha W_i) / S, sum of delta_i / S.

        Parameters
        ----------
        data : Data
            Made by the method of this name.
        alpha : float, default=0.0
            Weight of the L2 penalty.
        out : two lists of ndarray, optional
            Where the gradients are written to. New arrays if absent.

        Returns
        -------
        loss : float
        weight_gradients, bias_gradients : list of ndarray
            Shaped like `weights` and `biases`. As in scikit-learn, those of the squared error are of its sum over
            outputs, where the loss is the mean.
        """
        flat = self.panels.moments()
        loss = self._epoch(data, _order(data), data.n_samples, RULES["gradient"], alpha=alpha, moments=[flat, flat[:0]])
        return loss, *self.panels.unpack(flat, out)

    def train_epoch(self, data, optimizer, batch_size, alpha=0.0, order=None, deadline=np.inf):
        """One pass over the data in batches, with a step of the optimizer after each.

        Parameters
        ----------
        data : Data
            Made by the method of this name.
        optimizer : Adam or SGD
            From `fastmlp.optimizers`.
        batch_size : int
            Rows of a batch; the last one has what is left.
        alpha : float, default=0.0
            Weight of the L2 penalty.
        order : ndarray of int64, optional
            Numbers of the rows to use, in this order. All of them, as they stand, if absent.
        deadline : float, default=inf
            The time of `time.perf_counter()` after which no batch is begun, but for those of a tenth of a second.
            One batch that weighs something is done in any case; the optimizer counts `batches`.

        Returns
        -------
        loss : float
            Mean of the batches' losses, each at the weights before its step, weighted by their rows.

        Raises
        ------
        IndexError
            If `order` names a row that is not there.
        ValueError
            If data or optimizer were made for another network, or the function of a schedule gives no rate.
        ZeroDivisionError
            If the weights of a batch sum to zero, or all are 0. A batch whose weights are all 0 is left out.
        """
        if optimizer.made_for != (self.layer_units, self.dtype, self.sparse, self.tabular):
            raise ValueError("The optimizer was made for another network.")
        order = _order(data) if order is None else order
        batch_size = _batch_size(batch_size, order)
        rates = optimizer.schedule.rates(-(-len(order) // batch_size))
        fades = optimizer.fades(len(rates))
        moments, by_batches = (optimizer.first, optimizer.second), optimizer.schedule.by_batches
        before = optimizer.batches if by_batches else 0
        loss = self._epoch(
            data, order, batch_size, optimizer.rule, alpha=alpha, step=optimizer.step, rates=rates, fades=fades,
            moments=moments, deadline=deadline,
        )  # fmt: skip
        if by_batches:
            optimizer.schedule.advance(rates[: optimizer.batches - before])
        elif len(fades):
            optimizer.epochs += 1
        return loss

    def _epoch(
        self, data, order, batch_size, rule, *, alpha, step=None, rates=_NO_RATE, fades=NO_FADES, moments=None,
        others=(), deadline=np.inf, out=None,
    ):  # fmt: skip
        """Loss of an epoch by this rule. Other kernels are compiled or loaded with those that it needs.

        Without an optimizer's `step` the workspace has one of its own.
        """
        if data.made_for != self._takes or data.sparse is not None and not self.sparse:
            raise ValueError("The data was made for another network.")
        order = read_only(np.ascontiguousarray(order, np.int64))
        sparse, work = data.sparse is not None, batch_size * self._work(data.sparse)
        if sparse:
            work += _SPARSE_STEP * self.panels.work
        threads = _threads.count() if work > _TRAIN_IN_PARALLEL else 1
        clipped = step is not None and bool(step["clipnorm"][0] > 0)
        loss = self.loss_function, self.loss_parameter
        key = batch_size, threads, sparse, rule, clipped, out is not None, *loss, data.X.dtype
        spare = "train" if rule.goal == STEP else "measure"
        workspace = self._take(spare, self.plan.workspace_to_train, *key)
        workspace.job["team"][0] = _threads.team_for(threads)
        if step is not None:
            workspace.name_step(step)
        elif workspace.step is None:
            workspace.name_step(make_step(self.plan.parts))
        workspace.step["alpha"] = alpha
        if out is not None:
            workspace.job["out"][0] = out.ctypes.data
        first, second = (self._parameters[:0],) * 2 if moments is None else moments
        if sparse:
            ends = nonzeros_before(data.sparse, order)
            most = int(np.diff(ends[np.append(np.arange(0, len(order), batch_size), len(order))]).max())
            workspace.name_nonzeros(data.sparse)
            self.plan.prepare_to_sort(workspace, ends, most, threads)
        else:
            workspace.layers["in_place"][0] = self.plan.in_place(data.X.dtype, data.x[2] == 1, batch_size)
        self._held, start, counted = None if rule.goal == STEP else self._held, 0, workspace.step["counted"]
        while start < len(order) and (start == 0 or counted[0] == 0 or time.perf_counter() < deadline):
            began, until = time.perf_counter(), min(len(order), start + max(workspace.rows_a_call, batch_size))
            args = (
                workspace.words, data.X, data.x, data.Y, data.sample_weights, data.n_samples, order, rates, fades,
                start, until, self._parameters, self._copies, first, second,
            )  # fmt: skip
            if workspace.links or others:
                workspace.link(passes.epoch, *args, others=others)
            loss = passes.epoch(*args)
            seconds = max(time.perf_counter() - began, 1e-9)  # some clocks stand still
            rows_a_second = (until - start) / seconds
            workspace.rows_a_call = int(_PIECE_SECONDS * rows_a_second) // batch_size * batch_size
            start = until
        self._give_back(spare, *key, workspace=workspace)
        return loss


def for_each(value, layers):
    """A value for each of so many layers, of one for all or of one for each: a tuple."""
    return (value,) * layers if isinstance(value, (str, Real)) else tuple(value)


def precompile(dtypes=(np.float64, np.float32), sparse=False, tables=False):
    """Compile the kernels, or load them, so that no later fit waits for it: when a container image is built, say.

    A fit compiles what it uses: the kernels of its dtype, activation, loss and solver. This compiles all of them. Numba
    keeps them on disk (where, `NUMBA_CACHE_DIR` says): a process that runs later on a processor of the same kind finds
    them there.

    Parameters
    ----------
    dtypes : sequence of dtype, default=(numpy.float64, numpy.float32)
        Types of `X` to prepare for.
    sparse : bool, default=False
        Whether to prepare for sparse `X` too.
    tables : bool, default=False
        Whether to prepare for `RealMLPClassifier` and `RealMLPRegressor` too, which compute in float32.
    """
    shuffle(np.random.RandomState(0), np.arange(2, dtype=np.int64))
    _threads.prepare()
    for dtype in dtypes:
        plain, Y = MLP([1, 1, 1], output="identity", dtype=dtype, sparse=sparse), np.zeros((1, 1), dtype)
        empty = SparseRows(Y[0], np.zeros(0, np.int32), np.zeros(2, np.int64), Y.shape)
        networks = [(plain, Y)] + [(plain, empty)] * sparse
        if tables:
            everything = Tabular(True, True, 1, (1,))
            of_tables = MLP([OF_NUMBER + OF_CATEGORY, 1, 1], "selu", "identity", dtype, tabular=everything)
            networks.append((of_tables, np.zeros((1, 2), dtype)))
        for network, X in networks:
            data, kernels = network.data(X, Y), network.plan.every_kernel(X is empty)
            network._epoch(data, _order(data), 1, RULES["loss"], alpha=0.0, others=kernels)
            for number in DTYPES:  # of X, which need not be that of the network
                rows = X._replace(values=X.values.astype(number)) if X is empty else X.astype(number)
                network.predict(rows)
                network.predict_with(rows, network.weights, network.biases)


def restore(make, weights, biases, beside=()):
    """Unpickle: in the panels of this processor, which may not be those of the one that pickled."""
    network = MLP(*make)
    network.set_parameters(weights, biases)
    for array, saved in zip(network.panels.arrays_beside(network.parameters), beside, strict=False):
        array[:] = saved
    return network


_restore = restore  # where older versions' pickles look for it


def _fingerprint(arrays):
    """What tells arrays from others: all of it."""
    return [(array.dtype, array.shape, array.tobytes()) for array in arrays]


def _order(data):
    return np.arange(data.n_samples, dtype=np.int64)


def _batch_size(batch_size, order):
    """A batch size as the kernels take it."""
    if not 1 <= operator.index(batch_size):
        raise ValueError(f"batch_size must be >= 1, got {batch_size}.")
    if len(order) == 0:
        raise ValueError("order must name a row or more.")
    return min(operator.index(batch_size), len(order))
