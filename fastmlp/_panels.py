"""How the matrices of a network lie in flat arrays: the Python side of `_kernels.at`.

A matrix is cut into panels, as many columns as a tile is wide, and stored panel after panel, row after row. So a tile
reads memory in order, whatever the width of its layer. Heights are padded to whole tiles and widths to whole panels.
"""

import numpy as np

from fastmlp import _kernels as kernels
from fastmlp._tile import ROWS, VECS, lanes_of

# Where f(0) is not 0, padded units have this bias: they put out 0.
_PADDED_BIAS = {kernels.LOGISTIC: -1e30, kernels.SOFTMAX: -1e30, kernels.EXP: -1e30}
# The pass over the weights is cut into about so many items, however many threads there are, as each item sums up a
# part of the loss: the order of those sums must not depend on the threads.
_ITEMS = 64


def pad(n, multiple):
    """The next multiple of a number."""
    return -(-n // multiple) * multiple


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

    Attributes
    ----------
    layout : ndarray of int64, shape (layers, kernels.COLUMNS)
        What the kernels know of the network; offsets of activations and deltas are still 0.
    items : ndarray of int64, shape (n_items, 4)
        The pieces of the pass over the weights, costliest first, so that dealing them out in turn is fair.
    work : int
        Multiply-adds that one row needs to go forward.
    """

    def __init__(self, layer_units, activations, dtype):
        self.layer_units, self.activations, self.dtype = tuple(layer_units), tuple(activations), np.dtype(dtype)
        self.shapes = list(zip(self.layer_units[:-1], self.layer_units[1:], strict=True))
        self.lanes = lanes_of(self.dtype)
        self.panel = VECS * self.lanes
        self.work = sum(n * m for n, m in self.shapes)
        self.layout = np.zeros((len(self.layer_units), kernels.COLUMNS), np.int64)
        self.layout[:, kernels.UNITS] = self.layer_units
        self.layout[1:, kernels.ACTIVATION] = self.activations
        self._size = self._transposed_size = 0
        for i, (n, m) in enumerate(self.shapes, start=1):
            self.layout[i, kernels.WEIGHTS] = self._size
            self._size += pad(n, ROWS) * pad(m, self.panel)
            self.layout[i, kernels.BIASES] = self._size
            self._size += pad(m, self.panel)
            self.layout[i, kernels.TRANSPOSED] = self._transposed_size
            self._transposed_size += pad(m, self.lanes) * pad(n, self.panel) if i > 1 else 0
        self.items = self._cut()

    def __reduce__(self):
        return Panels, (self.layer_units, self.activations, self.dtype)  # other processors have other panels

    def _cut(self):
        items = []
        for i, (n, m) in enumerate(self.shapes, start=1):
            for c in range(0, m, self.panel):
                columns = min(self.panel, pad(m - c, self.lanes))
                rows = pad(max(1, self.work // _ITEMS // columns), ROWS)
                items += [(i, c, k, min(k + rows, pad(n, ROWS)), columns) for k in range(0, n, rows)]
        items.sort(key=lambda item: (item[2] - item[3]) * item[4])
        return np.array([item[:4] for item in items], np.int64)

    # ---- arrays ----

    def zeros(self, size):
        """A flat array that starts at a cache line: a vector that crosses two lines is loaded twice."""
        raw = np.zeros(size * self.dtype.itemsize + 64, np.uint8)
        start = -raw.ctypes.data % 64
        return raw[start : start + size * self.dtype.itemsize].view(self.dtype)

    def parameters(self):
        """Room for all weights and biases, or for something that belongs to each of them: zeros."""
        return self.zeros(self._size)

    def transposed(self):
        """Room for W_i' of all layers but the first."""
        return self.zeros(self._transposed_size)

    def workspace(self, height, deltas):
        """The layout with the offsets for batches of `height` rows, room for the activations, and for the deltas."""
        layout, sizes = self.layout.copy(), [0, 0]
        for i, n in enumerate(self.layer_units):
            layout[i, kernels.VALUES], layout[i, kernels.DELTAS] = sizes
            sizes[0] += height * pad(n, self.panel)
            sizes[1] += height * pad(n, self.panel) * (i > 0 and deltas)
        return layout, *map(self.zeros, sizes)

    # ---- in and out ----

    def _view(self, flat, start, columns, height):
        """A stored matrix as (panel, row, column in the panel), with all its padding."""
        count = -(-columns // self.panel)
        return flat[start : start + count * height * self.panel].reshape(count, height, self.panel)

    def _fill(self, view, matrix):
        for panel, c in zip(view, range(0, matrix.shape[1], self.panel), strict=True):
            part = matrix[:, c : c + self.panel]
            panel[: part.shape[0], : part.shape[1]] = part

    def matrix(self, flat, start, rows, columns, height):
        """The matrix that is stored from `start`: a copy."""
        view = self._view(flat, start, columns, height)[:, :rows]
        return np.ascontiguousarray(view.transpose(1, 0, 2).reshape(rows, -1)[:, :columns])

    def pack(self, weights, biases, flat, transposed=None):
        """Write weights and biases of all layers to where the kernels look for them, and W_i' if there is room."""
        for i, ((n, m), W, b) in enumerate(zip(self.shapes, weights, biases, strict=True), start=1):
            self._fill(self._view(flat, self.layout[i, kernels.WEIGHTS], m, pad(n, ROWS)), W)
            start = self.layout[i, kernels.BIASES]
            flat[start : start + m] = b
            if transposed is not None:
                flat[start + m : start + pad(m, self.panel)] = _PADDED_BIAS.get(self.activations[i - 1], 0)
                if i > 1:
                    start, height = self.layout[i, kernels.TRANSPOSED], pad(m, self.lanes)
                    self._fill(self._view(transposed, start, n, height), W.T)

    def unpack(self, flat):
        """Weights and biases of all layers, two lists of copies: W_i of shape (units in, units out), b_i (units out)."""
        weights, biases = [], []
        for i, (n, m) in enumerate(self.shapes, start=1):
            weights.append(self.matrix(flat, self.layout[i, kernels.WEIGHTS], n, m, pad(n, ROWS)))
            biases.append(flat[self.layout[i, kernels.BIASES] :][:m].copy())
        return weights, biases
