"""How the matrices of a network lie in flat arrays: the Python side of `kernels.at`.

A matrix is cut into panels, as many columns as a tile is wide, and stored panel after panel, row after row. So a tile
reads memory in order, whatever the width of its layer. Heights are padded to whole tiles and widths to whole panels.
"""

import sys

import numpy as np

from fastmlp.compiled import kernels, team
from fastmlp.compiled.tile import ROWS, VECS, lanes_of

# Of parameters, and of X that is read in place; in this processor's order of bytes.
DTYPES = np.dtype(np.float32), np.dtype(np.float64)
# Where f(0) is not 0, padded units have this bias: they put out 0.
_PADDED_BIAS = {kernels.LOGISTIC: -1e30, kernels.SOFTMAX: -1e30, kernels.EXP: -1e30}
# The pass over the weights is cut into about so many items, however many threads there are, as each item sums up a
# part of the loss: the order of those sums must not depend on the threads.
_ITEMS = 64
# The most rows of such an item: its gradient stays in the first-level cache until the step.
_ITEM_ROWS = 128
# A matrix of so many weights has no transposed copy: to write and read it again would cost more than to transpose it.
_NO_COPY = 1_000_000
# Threads share columns instead of rows from so many weights on: for each activation of a batch, and for each layer.
_BY_LAYERS, _BY_LAYERS_LAYER = 0.7, 2_000
# A step costs as much as the gradient from so many rows.
_STEP_ROWS = 64
# From so many rows on a batch is too large for the caches: the pass over the weights takes them row by row, so that a
# few columns of activations serve all panels of deltas, and not all of them each panel.
_BY_ROWS = 1_024
# X is read in place where a tile takes as many numbers from each row as on AVX-512. On AVX2 it takes half, and with a
# copy an epoch of 784-128-10 on one thread is 1.15 times as fast.
_IN_PLACE = ROWS >= 8
# A batch is cut into at most so many groups, of at least so many rows.
_GROUPS, _GROUP_ROWS = 16, 96


def _check(rows, panels, lanes):
    """What the kernels count on, for tiles of so many rows, and panels and vectors of these widths."""
    for what, holds in {
        "ROWS is a power of two, 2 or more": rows >= 2 and rows & rows - 1 == 0,
        "a vector's lanes are a power of two": all(n & n - 1 == 0 for n in lanes),
        "ROWS columns of activations lie in one panel": all(n % rows == 0 for n in panels),
        "CHUNK is whole panels": all(kernels.CHUNK % n == 0 for n in panels),
        "the gradient of a work item has room for CHUNK rows": rows <= _ITEM_ROWS <= kernels.CHUNK,
        "a work item is whole tiles, and a block of sparse rows a power of two": _ITEM_ROWS & _ITEM_ROWS - 1 == 0,
        "BLOCK is whole tiles": kernels.BLOCK % rows == 0,
        "FEW units lie in one panel": kernels.FEW <= min(panels),
    }.items():
        if not holds:
            raise ImportError(f"fastmlp cannot compute on tiles of this shape: it does not hold that {what}.")


_check(ROWS, [VECS * lanes_of(dtype) for dtype in DTYPES], [lanes_of(dtype) for dtype in DTYPES])


def pad(n, multiple):
    """The next multiple of a number."""
    return -(-n // multiple) * multiple


def _job(arrays, numbers):
    """What the kernels are told: where arrays are, which must live as long as it does, and numbers."""
    size = team.job_size(numbers[team.THREADS])
    room = np.zeros(size + team.JOB_ALIGNMENT // 8, np.int64)
    first = -room.ctypes.data % team.JOB_ALIGNMENT // 8
    job = room[first : first + size]
    job[team.TRIAL_IN] = team.FIRST_TRIAL
    for place, array in arrays.items():
        job[place] = array.ctypes.data
    for place, value in numbers.items():
        job[place] = value
    return job


class Panels:
    """Layout of the parameters of a network, and how they get in and out.

    Parameters
    ----------
    layer_units : tuple of int
        Width of each layer, input first.
    activations : sequence of int
        The kernels' code of each layer's activation, from the first hidden layer to the output.
    dtype : numpy.dtype
        float32 or float64.
    sparse : bool, default=False
        Whether training on sparse X must be possible: then W_1 is stored with the moments, never W_1', and the rows of
        its work items are blocks of `block` rows, a power of two.

    Attributes
    ----------
    layout : ndarray of int64, shape (layers, kernels.COLUMNS)
        What the kernels know of the network; offsets of activations and deltas are still 0.
    items : ndarray of int64, shape (n_items, kernels.ITEM)
        The pieces of the pass over the weights.
    costs, step_costs : ndarray of shape (n_items,)
        What each piece costs, about: its gradient, in tiles' vectors; and its step alone, in numbers.
    work : int
        Multiply-adds that one row needs to go forward.
    """

    def __init__(self, layer_units, activations, dtype, sparse=False):
        self.layer_units, self.activations, self.dtype = tuple(layer_units), tuple(activations), np.dtype(dtype)
        self.sparse = sparse
        self.shapes = list(zip(self.layer_units[:-1], self.layer_units[1:], strict=True))
        self.bias_shapes = [(m,) for m in self.layer_units[1:]]
        self.lanes = lanes_of(self.dtype)
        self.panel = VECS * self.lanes
        self.work = sum(n * m for n, m in self.shapes)
        if self.work * self.dtype.itemsize > sys.maxsize:
            raise MemoryError(
                f"No memory holds the weights of layers of {', '.join(map(str, self.layer_units))} units."
            )
        np.empty(self.work, self.dtype)  # raises MemoryError at once where they are too many for this machine
        self.layout = np.zeros((len(self.layer_units), kernels.COLUMNS), np.int64)
        self.layout[:, kernels.UNITS] = self.layer_units
        self.layout[1:, kernels.ACTIVATION] = self.activations
        self._size = self._copy_size = 0
        for i, (n, m) in enumerate(self.shapes, start=1):
            copied = n * m < _NO_COPY or m <= kernels.FEW  # which go forward by dot products with rows of W_i'
            transposed = self._cost(m, n) < self._cost(n, m) and copied and not (sparse and i == 1)
            copied = (copied and i > 1) or transposed  # the way back ends at the first layer's deltas
            rows, columns = (m, n) if transposed else (n, m)
            self.layout[i, kernels.TRANSPOSED] = transposed
            self.layout[i, kernels.WEIGHTS] = self._size
            self._size += pad(rows, ROWS) * pad(columns, self.panel)
            self.layout[i, kernels.BIASES] = self._size
            self._size += pad(m, self.panel)
            self.layout[i, kernels.COPY] = self._copy_size if copied else -1
            if copied:
                self._copy_size += pad(columns, self.lanes) * pad(rows, self.panel)
        self.block = 1 << min(max(ROWS, self.work // _ITEMS // self.panel), _ITEM_ROWS).bit_length() - 1
        self.items, self.costs, self.step_costs = self._cut()

    @property
    def blocks(self):
        """How many blocks of rows W_1 has."""
        return -(-self.layer_units[0] // self.block)

    def __reduce__(self):
        # made anew: other processors have other panels
        return Panels, (self.layer_units, self.activations, self.dtype, self.sparse)

    def _cost(self, rows, columns):
        """Of the gradient's tiles, about: narrow ones take more than half the time of full ones."""
        full, rest = divmod(pad(columns, self.lanes) // self.lanes, VECS)
        return pad(rows, ROWS // 2) * (full * VECS + rest * 1.2)

    def _matrices(self):
        """Layer, rows and columns of what is stored with the moments: W_i or W_i'."""
        for i, (n, m) in enumerate(self.shapes, start=1):
            yield i, *((m, n) if self.layout[i, kernels.TRANSPOSED] else (n, m))

    def _cut(self):
        """Work items in the order of memory, the costs of their gradients and those of their steps alone."""
        items, costs, step_costs = [], [], []
        for i, n, m in self._matrices():
            for c in range(0, m, self.panel):
                columns = min(self.panel, pad(m - c, self.lanes))
                rows = pad(min(max(1, self.work // _ITEMS // columns), _ITEM_ROWS), ROWS)
                if self.sparse and i == 1:
                    rows = self.block
                for k in range(0, n, rows):
                    last = min(k + rows, n)
                    items.append((i, c, k, last))
                    costs.append(self._cost(last - k, columns))
                    copied = self.layout[i, kernels.COPY] >= 0  # by whole tiles
                    step_costs.append((last - k + copied * pad(last - k, ROWS) / 2) * columns)
            for c in range(0, self.layer_units[i], self.panel):
                columns = min(self.panel, pad(self.layer_units[i] - c, self.lanes))
                items.append((i, c, 0, 0))
                costs.append(self._cost(1, columns))
                step_costs.append(columns)
        items = np.array([(*item, place) for place, item in enumerate(items)], np.int64)
        return items, np.array(costs), np.array(step_costs)

    def shares(self, threads, by_layers, costs, by_rows=False):
        """The work items in the order of the threads that own them, and where each thread's share starts and ends.

        A share is contiguous memory: a line that two cores write in turn costs more than a slightly uneven share. By
        layers, a thread owns the panels of each layer that it also takes forward. A thread takes its share in the order
        of memory, or by rows: the first rows of all its panels of a layer, then the next.
        """
        layer, column, first, last, _ = self.items.T
        if by_layers:
            panels = np.array([-(-n // self.panel) for n in self.layer_units])
            weights = first < last  # the columns of biases are always those of W_i
            count = panels[layer - weights * self.layout[layer, kernels.TRANSPOSED]]
            owners = ((column // self.panel + 1) * threads - 1) // count
        else:
            middles = np.cumsum(costs) - costs / 2
            owners = np.searchsorted(costs.sum() * np.arange(1, threads) / threads, middles)
        order = np.lexsort((column, first, layer, owners) if by_rows else (owners,))  # the last counts most
        return self.items[order], np.searchsorted(owners[order], np.arange(threads + 1))

    def by_layers(self, batch_size):
        """Whether threads share the columns of each layer, one layer after the other, rather than the rows of a batch.

        Then each reads its own part of the weights only, but all activations: for wide layers and small batches.
        """
        activations, layers = batch_size * sum(self.layer_units), len(self.shapes)
        return self.groups(batch_size) == 1 and self.work > _BY_LAYERS * activations + _BY_LAYERS_LAYER * layers

    def groups(self, batch_size):
        """Into how many groups of rows a batch is cut, each with a gradient of its own; 1 if it is not.

        The more groups, the more gradients must be added up: that must stay well below the activations and deltas that
        would have to move between threads otherwise; X need not, where it is read in place. And a group must be worth a
        thread's while.
        """
        moved = 2 * batch_size * sum(self.layer_units[_IN_PLACE:])
        most = min(batch_size // _GROUP_ROWS, moved // (2 * self._size), _GROUPS)
        return 1 << max(0, most.bit_length() - 1)

    def in_place(self, dtype, contiguous, grouped=False):
        """How many columns of X are read where X has them: whole panels.

        Of rows of the parameters' dtype that are each contiguous. Not where a thread keeps the rows of its group to
        itself, as it is then faster to have them in panels.
        """
        readable = _IN_PLACE and dtype == self.dtype and contiguous
        copied = not readable or self.layer_units[1] <= kernels.FEW or grouped
        return 0 if copied else self.layer_units[0] // self.panel * self.panel

    # ---- arrays ----

    def zeros(self, size):
        """A flat array that starts at a cache line: a vector that crosses two lines is loaded twice."""
        raw = np.zeros(size * self.dtype.itemsize + 64, np.uint8)
        start = -raw.ctypes.data % 64
        return raw[start : start + size * self.dtype.itemsize].view(self.dtype)

    def parameters(self):
        """All weights and biases: 0, but for what pads them."""
        flat = self.zeros(self._size)
        for i, m in enumerate(self.layer_units[1:], start=1):
            start = self.layout[i, kernels.BIASES]
            flat[start + m : start + pad(m, self.panel)] = _PADDED_BIAS.get(self.activations[i - 1], 0)
        return flat

    def moments(self):
        """Room for something that belongs to each parameter: zeros."""
        return self.zeros(self._size)

    def copies(self):
        """Room for the transposed copies of all matrices."""
        return self.zeros(self._copy_size)

    def _layout_for(self, height, sparse):
        """The layout with the offsets for batches of `height` rows, and how many activations and deltas they have.

        Of sparse X there is no A_0.
        """
        layout, values, deltas = self.layout.copy(), 0, 0
        for i, n in enumerate(self.layer_units):
            layout[i, kernels.VALUES], layout[i, kernels.DELTAS] = values, deltas
            values += height * pad(n, self.panel) * (i > 0 or not sparse)
            deltas += height * pad(n, self.panel) * (i > 0)
        return layout, values, deltas

    def workspace_to_predict(self, height, threads, sparse):
        """A job for threads that take `height` rows at a time together, and the arrays that it names."""
        layout, values, _ = self._layout_for(height, sparse)
        A, places = self.zeros(values), np.zeros(height, np.int64)
        layout[0, kernels.PLACES_AT] = places.ctypes.data
        numbers = {kernels.LAYERS: len(self.shapes), kernels.HEIGHT: height, team.THREADS: threads}
        return _job({kernels.LAYOUT_AT: layout, kernels.A_AT: A}, numbers), layout, A, places

    def workspace_to_train(self, batch_size, threads, sparse):
        """A job for threads that take so many rows at a time together, and the arrays that it names."""
        height, groups, by_layers = pad(batch_size, ROWS), self.groups(batch_size), self.by_layers(batch_size)
        costs = self.costs if groups == 1 else self.step_costs
        if sparse:  # each item adds up its nonzeros; W_1 stays with its thread where it has panels for all
            groups, by_layers = 1, 1 < threads <= -(-self.layer_units[1] // self.panel)
            costs = self.costs * np.where(self.items[:, kernels.LAYER] == 1, 1, 1 + batch_size / _STEP_ROWS)
        layout, values, deltas = self._layout_for(height, sparse)
        gradients = threads * kernels.CHUNK * self.panel + groups * self._size * (groups > 1)
        losses, places = np.zeros(height + len(self.items)), np.zeros(height, np.int64)
        layout[0, kernels.PLACES_AT] = places.ctypes.data
        A, D, G = map(self.zeros, (values, deltas, gradients))
        items, shares = self.shares(threads, by_layers and not sparse, costs, batch_size >= _BY_ROWS)
        arrays = {
            kernels.LAYOUT_AT: layout, kernels.ITEMS_AT: items, kernels.SHARES_AT: shares, kernels.A_AT: A,
            kernels.D_AT: D, kernels.G_AT: G, kernels.LOSSES_AT: losses,
        }  # fmt: skip
        numbers = {
            kernels.LAYERS: len(self.shapes), kernels.ITEM_COUNT: len(items), kernels.HEIGHT: height,
            kernels.GROUPS: groups, team.THREADS: threads, kernels.BY_LAYERS: by_layers,
        }  # fmt: skip
        return _job(arrays, numbers), *arrays.values(), places

    def workspace_to_sort(self, count, threads):
        """Room for so many nonzeros of a batch in another order: where each thread's blocks start, places, amounts."""
        starts = np.zeros(threads * (self.blocks + 2), np.int64)
        return starts, np.zeros(2 * count, np.int32), self.zeros(count)

    # ---- in and out ----

    def _view(self, flat, start, columns, height):
        """A stored matrix as (panel, row, column in the panel), with all its padding."""
        count = -(-columns // self.panel)
        return flat[start : start + count * height * self.panel].reshape(count, height, self.panel)

    def _fill(self, view, matrix):
        for panel, c in zip(view, range(0, matrix.shape[1], self.panel), strict=True):
            part = matrix[:, c : c + self.panel]
            panel[: part.shape[0], : part.shape[1]] = part

    def matrix(self, flat, start, rows, columns, height, out=None):
        """The matrix that is stored from `start`: a copy, perhaps to a given place."""
        matrix = np.empty((rows, columns), flat.dtype) if out is None else out
        for panel, c in zip(self._view(flat, start, columns, height), range(0, columns, self.panel), strict=True):
            matrix[:, c : c + self.panel] = panel[:rows, : columns - c]
        return matrix

    def pack(self, weights, biases, flat, copies=None):
        """Write weights and biases of all layers to where the kernels look for them, and copies if there is room."""
        for (i, n, m), W, b in zip(self._matrices(), weights, biases, strict=True):
            W = W.T if self.layout[i, kernels.TRANSPOSED] else W
            self._fill(self._view(flat, self.layout[i, kernels.WEIGHTS], m, pad(n, ROWS)), W)
            start = self.layout[i, kernels.BIASES]
            flat[start : start + len(b)] = b
            if copies is not None and self.layout[i, kernels.COPY] >= 0:
                self._fill(self._view(copies, self.layout[i, kernels.COPY], n, pad(m, self.lanes)), W.T)

    def hold(self, weights, biases, flat):
        """Whether these are the weights and biases of all layers that are stored in the flat array."""
        arrays = [np.asarray(array) for array in (*weights, *biases)]
        shapes = [*self.shapes, *self.bias_shapes]
        if [array.shape for array in arrays] != shapes or any(array.dtype != flat.dtype for array in arrays):
            return False
        for (i, n, m), W, b in zip(self._matrices(), arrays, arrays[len(self.shapes) :], strict=False):
            W = W.T if self.layout[i, kernels.TRANSPOSED] else W
            view = self._view(flat, self.layout[i, kernels.WEIGHTS], m, pad(n, ROWS))
            for panel, c in zip(view, range(0, m, self.panel), strict=True):
                if not np.array_equal(panel[:n, : m - c], W[:, c : c + self.panel]):
                    return False
            if not np.array_equal(b, flat[self.layout[i, kernels.BIASES] :][: len(b)]):
                return False
        return True

    def unpack(self, flat, out=None):
        """Weights and biases of all layers, two lists of copies: W_i (units in, units out), b_i (units out).

        New arrays, or those of the two lists `out`.
        """
        if out is None:
            out = [[np.empty(shape, flat.dtype) for shape in some] for some in (self.shapes, self.bias_shapes)]
        for (i, n, m), W, b in zip(self._matrices(), *out, strict=True):
            W = W.T if self.layout[i, kernels.TRANSPOSED] else W
            self.matrix(flat, self.layout[i, kernels.WEIGHTS], n, m, pad(n, ROWS), W)
            b[:] = flat[self.layout[i, kernels.BIASES] :][: len(b)]
        return out
