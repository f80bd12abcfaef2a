"""MLP: a multilayer perceptron as flat arrays, and the calls that compute on them.

This floor checks what goes in, keeps the kernels' workspace and chooses the number of threads. It knows
neither scikit-learn nor how training goes from epoch to epoch (`training.py`).
"""

import collections
import functools
import operator
import time

import numpy as np

from fastmlp import _threads
from fastmlp._panels import DTYPES, Panels, pad
from fastmlp.compiled import kernels, row, team
from fastmlp.compiled import sparse as sparse_kernels
from fastmlp.compiled.shuffle import shuffle
from fastmlp.compiled.tile import ROWS

HIDDEN = {
    "identity": kernels.IDENTITY,
    "logistic": kernels.LOGISTIC,
    "tanh": kernels.TANH,
    "relu": kernels.RELU,
}
OUTPUTS = {
    "identity": kernels.IDENTITY,
    "logistic": kernels.LOGISTIC,
    "softmax": kernels.SOFTMAX,
    "exp": kernels.EXP,
}

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
# The kernels read indices of 32 bits.
_SPARSE_COLUMNS = 2**31 - 1
_ALL_ROWS = np.empty(0, np.int64)
_ALL_ROWS.flags.writeable = False
# Weights up to which it is quicker to remember them than to compare them panel by panel.
FINGERPRINT_UP_TO = 100_000


class NotFiniteError(ValueError):
    """X holds NaN or infinity, where it must not."""


class Data(collections.namedtuple("Data", "X x Y weights n_samples sparse made_for")):
    """Rows and targets as the kernels read them, checked once; made by `MLP.data`.

    `made_for` tells the networks that they fit: width of X, outputs, output activation and dtype.
    """


class SparseRows(collections.namedtuple("SparseRows", "values indices indptr shape")):
    """A CSR matrix as the kernels read it, checked once; made by `MLP.rows`."""

    @property
    def dtype(self):
        return self.values.dtype


class MLP:
    """A multilayer perceptron: A_i = f(A_{i-1} W_i + b_i), trained on the loss that belongs to its output.

    Parameters
    ----------
    layer_units : sequence of int
        Width of each layer, input first, output last; two at least.
    activation : str or sequence of str, default="relu"
        'identity', 'logistic', 'tanh' or 'relu', for all hidden layers or for each.
    output : {'softmax', 'logistic', 'identity', 'exp'}, default="softmax"
        Activation of the last layer and with it the loss: cross-entropy, binary cross-entropy for each output, half the
        squared error, half the Poisson deviance.
    dtype : {numpy.float32, numpy.float64}, default=numpy.float32
        Type of parameters, activations and predictions.
    sparse : bool, default=False
        Whether the network is to be trained on sparse X; one that is not can only predict from it.

    Attributes
    ----------
    weights, biases : list of ndarray
        W_i of shape (units of layer i-1, units of layer i) and b_i, layer by layer: copies. Initially 0.
    parameters : ndarray
        The live parameters, flat, in the kernels' own order.

    Examples
    --------
    >>> network = MLP([64, 100, 10])
    >>> network.initialize(np.random.RandomState(0))
    >>> data = network.data(X, labels)                                      # doctest: +SKIP
    >>> loss = network.train_epoch(data, Adam(network), batch_size=200)     # doctest: +SKIP
    """

    def __init__(self, layer_units, activation="relu", output="softmax", dtype=np.float32, sparse=False):
        if any(isinstance(n, (bool, np.bool_)) for n in layer_units):
            raise TypeError("an integer is required")
        self.layer_units = tuple(operator.index(n) for n in layer_units)
        if len(self.layer_units) < 2 or min(self.layer_units) < 1:
            raise ValueError(f"layer_units must be two or more numbers > 0, got {list(layer_units)}.")
        self.dtype = np.dtype(dtype)
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be float32 or float64, got {self.dtype}.")
        hidden = [activation] * (len(self.layer_units) - 2) if isinstance(activation, str) else list(activation)
        if len(hidden) != len(self.layer_units) - 2 or not set(hidden) <= set(HIDDEN):
            raise ValueError(f"activation must be one of {list(HIDDEN)} for each hidden layer, got {activation!r}.")
        if output not in OUTPUTS:
            raise ValueError(f"output must be one of {list(OUTPUTS)}, got {output!r}.")
        self.activations, self.sparse = (*hidden, output), bool(sparse)
        if self.sparse and self.layer_units[0] > _SPARSE_COLUMNS:
            raise ValueError(f"Sparse X may have {_SPARSE_COLUMNS} columns, got {self.layer_units[0]}.")

        codes = [HIDDEN[name] for name in hidden] + [OUTPUTS[output]]
        self.panels = Panels(self.layer_units, codes, self.dtype, self.sparse)
        self._parameters, self._copies = self.panels.parameters(), self.panels.copies()
        self._takes = self.layer_units[0], self.layer_units[-1], output, self.dtype
        self._spare, self._held = {}, None

    def __reduce__(self):
        *hidden, output = self.activations
        make = self.layer_units, hidden, output, self.dtype, self.sparse
        return _restore, (make, self.weights, self.biases)

    @property
    def weights(self):
        return self.panels.unpack(self._parameters)[0]

    @property
    def biases(self):
        return self.panels.unpack(self._parameters)[1]

    @property
    def parameters(self):
        return self._parameters

    @parameters.setter
    def parameters(self, flat):
        ours = self._parameters
        if not isinstance(flat, np.ndarray) or (flat.shape, flat.dtype) != (ours.shape, ours.dtype):
            raise ValueError(f"parameters must be an array of shape {ours.shape} and {self.dtype}.")
        self.set_parameters(*self.panels.unpack(flat))

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
            self._parameters[:], self._copies[:] = self.panels.parameters(), 0
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
        factor : float, default=6.0
            Of Glorot and Bengio (2010); scikit-learn takes 2 with logistic hidden layers, 6 with all others.
        """
        weights, biases = [], []
        for n, m in self.panels.shapes:
            bound, W, some = np.sqrt(factor / (n + m)), np.empty((n, m), self.dtype), -(-_DRAWN // m)
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
        X : ndarray or sparse matrix of shape (n_samples, layer_units[0])
            float32 or float64, of any strides, is read in place; anything else is converted. Sparse X too is read in
            place if it is CSR with 32-bit indices; it may have them in any order and several entries for one place,
            which add up. What `rows` returned is not checked again.
        Y : ndarray of shape (n_samples,) or (n_samples, layer_units[-1])
            Targets; for softmax the number of each row's class, from 0.
        sample_weight : ndarray of shape (n_samples,), optional
            Weight of each row in loss and gradient. 1 if absent.

        Raises
        ------
        ValueError
            If shapes do not fit, a class is not one of the outputs, or X is sparse and the network not made for it.
        """
        X, outputs = self.rows(X), self.layer_units[-1]
        if isinstance(X, SparseRows) and not self.sparse:
            raise ValueError("Training on sparse X needs a network made with sparse=True.")
        n, Y = X.shape[0], np.asarray(Y)
        softmax = self.activations[-1] == "softmax"
        if n == 0 or Y.shape not in ([(n,)] if softmax else [(n, outputs)] + [(n,)] * (outputs == 1)):
            raise ValueError(f"Y must have {n} rows{'' if softmax else f' of {outputs} targets'}, got shape {Y.shape}.")
        if softmax:
            Y = np.array(Y, self.dtype)  # a copy: what is checked here may not change later
            if not (Y.min() >= 0 and Y.max() < outputs and (Y % 1 == 0).all()):
                raise ValueError(f"Y must hold classes from 0 to {outputs - 1}.")
        Y = np.ascontiguousarray(Y, self.dtype).reshape(-1)
        weights = np.ones(1, self.dtype)
        if sample_weight is not None:
            weights = np.ascontiguousarray(sample_weight, self.dtype)
            if weights.shape != (n,):
                raise ValueError(f"sample_weight must have the shape {(n,)}, got {weights.shape}.")
        sparse = X if isinstance(X, SparseRows) else None
        return Data(*_flat(X), _read_only(Y), _read_only(weights), n, sparse, self._takes)

    def rows(self, X):
        """X in the form that `data` and `predict` take without checking it again.

        Parameters
        ----------
        X : ndarray or sparse matrix of shape (n_samples, layer_units[0])

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
        if len(X.shape) != 2 or X.shape[1] != self.layer_units[0]:
            raise ValueError(f"X must have the shape (n_samples, {self.layer_units[0]}), got {X.shape}.")
        if sparse:
            return X if isinstance(X, SparseRows) else _sparse_rows(X, self.dtype)
        if X.dtype not in DTYPES:
            X = X.astype(self.dtype)
        return X

    def _take(self, kind, *key):
        """A workspace of this kind ("train" or "predict"): the spare one, or a new one. No two calls have the same."""
        spare_key, workspace = self._spare.pop(kind, (None, None))
        if spare_key != key:
            workspace = getattr(self.panels, f"workspace_to_{kind}")(*key)
        return workspace

    def _give_back(self, kind, *key, workspace):
        self._spare[kind] = key, workspace

    def release(self):
        """Give back the memory that is kept for the next call; where all rows were one batch, it is large."""
        self._spare.clear()

    # ---- what it computes ----

    def predict(self, X, order=None, *, finite=False):
        """Outputs of the network.

        Parameters
        ----------
        X : ndarray or sparse matrix of shape (n_samples, layer_units[0])
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
        X, order = self.rows(X), _ALL_ROWS if order is None else _read_only(np.ascontiguousarray(order, np.int64))
        if order.size and not (0 <= order.min() and order.max() < X.shape[0]):
            raise IndexError("order names a row that X does not have.")
        n = X.shape[0] if order is _ALL_ROWS else len(order)
        out = np.empty((n, self.layer_units[-1]), self.dtype)
        if n == 0:
            return out
        threads = _threads.count() if n > ROWS and n * self._work(X) > _PREDICT_IN_PARALLEL else 1
        height, sparse = threads * (ROWS if n <= ROWS else _PREDICT_ROWS), isinstance(X, SparseRows)
        workspace = self._take("predict", height, threads, sparse)
        if n > ROWS and not sparse:
            workspace[1][0, kernels.IN_PLACE] = self.panels.in_place(X.dtype, X.strides[1] == X.itemsize)
        workspace[0][kernels.CHECKED] = finite and not sparse and order is _ALL_ROWS
        workspace[0][team.TEAM_AT] = _threads.team_for(threads)
        self._forward(X, order, workspace, out)
        bad = finite and workspace[0][kernels.NOT_FINITE]
        self._give_back("predict", height, threads, sparse, workspace=workspace)
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
            The same bits as `predict` has for these parameters. None if they are not as they should be.

        Raises
        ------
        NotFiniteError
            A ValueError: X must be finite and is not.
        """
        X, arrays, shapes = self.rows(X), [*weights, *biases], [*self.panels.shapes, *self.panels.bias_shapes]
        if len(X) == 0:
            return np.empty((0, self.layer_units[-1]), self.dtype)
        for array, shape in zip(arrays, shapes, strict=True):
            if type(array) is not np.ndarray or array.shape != shape or array.dtype != self.dtype:
                return None
            if not (array.flags.c_contiguous and array.flags.aligned):
                return None
        addresses = np.array([array.ctypes.data for array in arrays], np.int64)
        out, (view, x) = np.empty((len(X), self.layer_units[-1]), self.dtype), _flat(X)
        threads = _threads.count() if self.panels.work > _ROW_IN_PARALLEL else 1
        workspace = job, *_ = self._take("predict", ROWS, threads, False)
        job[kernels.CHECKED], job[team.TEAM_AT] = finite, _threads.team_for(threads)
        row.predict(job, view, x, _read_only(addresses), len(X), self._parameters, out.ravel())
        bad = finite and job[kernels.NOT_FINITE]
        self._give_back("predict", ROWS, threads, False, workspace=workspace)
        if bad:
            raise NotFiniteError("X contains NaN or infinity.")
        return out

    def _forward(self, X, order, workspace, out):
        predict = sparse_kernels.predict if isinstance(X, SparseRows) else kernels.predict
        predict(workspace[0], *_flat(X), order, len(out), self._parameters, self._copies, out.ravel())

    def forward(self, X):
        """Activations of all layers for all rows.

        Parameters
        ----------
        X : ndarray or sparse matrix of shape (n_samples, layer_units[0])

        Returns
        -------
        activations : list of ndarray
            A_0 (that is X, and left out where X is sparse) to A_L, of shape (n_samples, units of the layer).
        """
        X = self.rows(X)
        n, sparse = X.shape[0], isinstance(X, SparseRows)
        height = max(ROWS, pad(n, ROWS))
        out = np.empty((n, self.layer_units[-1]), self.dtype)
        workspace = _, layout, A, _ = self.panels.workspace_to_predict(height, 1, sparse)
        self._forward(X, _ALL_ROWS, workspace, out)
        starts = layout[:, kernels.VALUES]
        return [
            self.panels.matrix(A, start, n, units, height)
            for start, units in list(zip(starts, self.layer_units, strict=True))[sparse:]
        ]

    def _work(self, X):
        """Multiply-adds that a row of X needs to go forward, about."""
        if not isinstance(X, SparseRows):
            return self.panels.work
        n, m = self.panels.shapes[0]
        return self.panels.work - n * m + len(X.values) * m // max(1, X.shape[0])

    def loss(self, data, alpha=0.0):
        """Loss of all rows together: their weighted mean (for squared error over outputs too) + alpha/2 |W|^2 / S.

        S is the number of rows, or the sum of their weights: scikit-learn's loss at these parameters.
        """
        none = np.empty(0, self.dtype)
        return self._epoch(data, _order(data), data.n_samples, kernels.NOTHING, _step(alpha), none, none)

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
        flat, none = self.panels.moments(), np.empty(0, self.dtype)
        loss = self._epoch(data, _order(data), data.n_samples, kernels.STORE, _step(alpha), flat, none)
        return loss, *self.panels.unpack(flat, out)

    def train_epoch(self, data, optimizer, batch_size, alpha=0.0, order=None):
        """One pass over the data in batches, with a step of the optimizer after each.

        Parameters
        ----------
        data : Data
            Made by the method of this name.
        optimizer : Adam or SGD
            See `training.py`: `kind`, `step` (its numbers) and the flat arrays `first` and `second`.
        batch_size : int
            Rows of a batch; the last one has what is left.
        alpha : float, default=0.0
            Weight of the L2 penalty.
        order : ndarray of int64, optional
            Numbers of the rows to use, in this order. All of them, as they stand, if absent.

        Returns
        -------
        loss : float
            Mean of the batches' losses, each at the weights before its step, weighted by their rows.

        Raises
        ------
        IndexError
            If `order` names a row that is not there.
        ValueError
            If data or optimizer were made for another network.
        ZeroDivisionError
            If the weights of a batch sum to zero, or all are 0. A batch whose weights are all 0 is left out.
        """
        if optimizer.made_for != (self.layer_units, self.dtype, self.sparse):
            raise ValueError("The optimizer was made for another network.")
        optimizer.step[kernels.ALPHA] = alpha
        order = _order(data) if order is None else order
        return self._epoch(data, order, batch_size, optimizer.kind, optimizer.step, optimizer.first, optimizer.second)

    def _epoch(self, data, order, batch_size, kind, step, first, second):
        if data.made_for != self._takes or data.sparse is not None and not self.sparse:
            raise ValueError("The data was made for another network.")
        if not 1 <= operator.index(batch_size):
            raise ValueError(f"batch_size must be >= 1, got {batch_size}.")
        if len(order) == 0:
            raise ValueError("order must name a row or more.")
        batch_size = min(operator.index(batch_size), len(order))
        order = _read_only(np.ascontiguousarray(order, np.int64))
        sparse, work = data.sparse is not None, batch_size * self._work(data.sparse)
        if sparse:
            work += _SPARSE_STEP * self.panels.work
        threads = _threads.count() if work > _TRAIN_IN_PARALLEL else 1
        workspace = job, layout, *_ = self._take("train", batch_size, threads, sparse)
        job[team.TEAM_AT] = _threads.team_for(threads)
        if not sparse:
            grouped = self.panels.groups(batch_size) > 1
            layout[0, kernels.IN_PLACE] = self.panels.in_place(data.X.dtype, data.x[2] == 1, grouped)
        self._held, epoch, x = None, kernels.epoch, data.x
        if sparse:
            epoch, ends = sparse_kernels.epoch, _nonzeros_before(data.sparse, order)
            most = int(np.diff(ends[np.append(np.arange(0, len(order), batch_size), len(order))]).max())
            room = 1 << most.bit_length(), threads  # mostly the same from epoch to epoch
            sorting = self._take("sort", *room)
            addresses = [array.ctypes.data for array in (ends, *sorting)]
            _, x = _flat(data.sparse)
            x = np.array([*x, *addresses, self.panels.block.bit_length() - 1, self.panels.blocks, threads], np.int64)
        start = 0
        while start < len(order):
            began, until = time.perf_counter(), min(len(order), start + max(int(job[kernels.ROWS_A_CALL]), batch_size))
            loss = epoch(
                job, data.X, x, data.Y, data.weights, data.n_samples, order, start, until, batch_size, kind, step,
                self._parameters, self._copies, first, second,
            )  # fmt: skip
            seconds = max(time.perf_counter() - began, 1e-9)  # some clocks stand still
            rows_a_second = (until - start) / seconds
            job[kernels.ROWS_A_CALL] = int(_PIECE_SECONDS * rows_a_second) // batch_size * batch_size
            start = until
        self._give_back("train", batch_size, threads, sparse, workspace=workspace)
        if sparse:
            self._give_back("sort", *room, workspace=sorting)
        return loss


def precompile(dtypes=(np.float64, np.float32), sparse=False):
    """Compile the kernels, or load them, so that no later fit waits for it: when a container image is built, say.

    Kernels depend on the dtype alone, and Numba keeps them on disk (where, `NUMBA_CACHE_DIR` says): a process that runs
    later on a processor of the same kind finds them there.

    Parameters
    ----------
    dtypes : sequence of dtype, default=(numpy.float64, numpy.float32)
        Types of `X` to prepare for.
    sparse : bool, default=False
        Whether to prepare for sparse `X` too.
    """
    shuffle(np.random.RandomState(0), np.arange(2, dtype=np.int64))
    for dtype in dtypes:
        network, Y = MLP([1, 1], output="identity", dtype=dtype, sparse=sparse), np.zeros((1, 1), dtype)
        empty = SparseRows(Y[0], np.zeros(0, np.int32), np.zeros(2, np.int64), Y.shape)
        for X in [Y, empty] if sparse else [Y]:
            network.loss(network.data(X, Y))
            network.predict(X)
            if X is Y:
                network.predict_with(X, network.weights, network.biases)


def _restore(make, weights, biases):
    """Unpickle: in the panels of this processor, which may not be those of the one that pickled."""
    network = MLP(*make)
    network.set_parameters(weights, biases)
    return network


def _fingerprint(arrays):
    """What tells arrays from others: all of it."""
    return [(array.dtype, array.shape, array.tobytes()) for array in arrays]


def _order(data):
    return np.arange(data.n_samples, dtype=np.int64)


def _step(alpha):
    """The kernels' array of numbers for a pass without an optimizer."""
    step = np.zeros(kernels.STEP)
    step[kernels.ALPHA] = alpha
    return step


def _read_only(array):
    """A view that cannot be written to: the kernels are compiled for that, whatever the caller's array is."""
    view = array.view()
    view.setflags(write=False)
    return view


def _sparse_rows(X, dtype):
    """A sparse matrix as `SparseRows`; numbers that are not floating-point are converted to this dtype.

    What would lead the kernels, or SciPy's conversion, out of the arrays is refused.
    """
    if X.shape[1] > _SPARSE_COLUMNS:
        raise ValueError(f"Sparse X may have {_SPARSE_COLUMNS} columns, got {X.shape[1]}.")
    X = X if X.format in ("csr", "csc") else X.tocsr()
    lines, places = X.shape if X.format == "csr" else X.shape[::-1]
    starts = X.indptr
    if len(starts) != lines + 1 or starts[0] != 0 or (starts[1:] < starts[:-1]).any():
        raise ValueError("X is not a valid sparse matrix: its indptr does not rise from 0, line by line.")
    if starts[-1] > min(len(X.indices), len(X.data)):
        raise ValueError("X is not a valid sparse matrix: its indptr ends beyond its entries.")
    used = X.indices[: starts[-1]]
    if used.size and not (0 <= used.min() and used.max() < places):
        raise ValueError(f"X is not a valid sparse matrix: it has indices that are not from 0 to {places - 1}.")
    X = X.tocsr()
    return SparseRows(
        np.ascontiguousarray(X.data, X.dtype if X.dtype in DTYPES else dtype),
        np.ascontiguousarray(X.indices, np.int32),
        np.ascontiguousarray(X.indptr, np.int64),
        X.shape,
    )


def _nonzeros_before(rows, order):
    """How many nonzeros the rows order[:i] have, for each i from 0 on. Not all rows that are not there are noticed."""
    ends = np.zeros(len(order) + 1, np.int64)
    np.cumsum(np.diff(rows.indptr)[order], out=ends[1:])
    return ends


@functools.lru_cache
def _strides_of_rows(n):
    return np.array([0, n, 1], np.int64)


def _flat(X):
    """A flat view of all memory between a matrix's first and last number, and its start and strides in elements.

    A matrix whose strides are no multiples of its numbers' size, or that is not aligned, is copied first. Of sparse
    rows: the values, and where the kernels find the rest.
    """
    if isinstance(X, SparseRows):
        return _read_only(X.values), np.array([X.indptr.ctypes.data, X.indices.ctypes.data], np.int64)
    flags = X.flags
    if flags.c_contiguous and flags.aligned:
        view = X.ravel()  # a view of its own: _read_only would make another, and one row is predicted in 4 us
        view.setflags(write=False)
        return view, _strides_of_rows(X.shape[1])
    if not X.flags.aligned or any(stride % X.itemsize for stride in X.strides):
        X = X.copy()
    strides = [stride // X.itemsize for stride in X.strides]
    reach = [stride * (n - 1) for stride, n in zip(strides, X.shape, strict=True)]
    lowest = X[tuple(slice(n - 1, n) if r < 0 else slice(0, 1) for r, n in zip(reach, X.shape, strict=True))]
    view = np.lib.stride_tricks.as_strided(lowest, (1 + sum(map(abs, reach)),), (X.itemsize,), writeable=False)
    return view, np.array([-sum(r for r in reach if r < 0), *strides], np.int64)
