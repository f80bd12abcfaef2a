"""How the matrices of a network lie in flat arrays: Python's side of `compiled.storage`.

A matrix is cut into panels, as many columns as a tile is wide, and stored panel after panel, row after row. So a tile
reads memory in order, whatever the width of its layer. Heights are padded to whole tiles and widths to whole panels.

The way forward needs rows of W_i and the way back rows of W_i', so of each W_i there is a copy that is transposed; the
one that is stored with the moments is the one with fewer tiles. Of the largest there is none, as all that is moved
costs more than arithmetic there: the way back transposes some rows at a time.
"""

import sys
from typing import NamedTuple

import numpy as np

from fastmlp.compiled.records import BIASES, LAYER, PART, TABLES, WEIGHTS
from fastmlp.compiled.storage import FEW
from fastmlp.compiled.tabular import BLOCK_OF_NUMBER, OF_CATEGORY, OF_NUMBER
from fastmlp.compiled.tile import ROWS, VECS, lanes_of

# Of parameters, and of X that is read in place; in this processor's order of bytes.
DTYPES = np.dtype(np.float32), np.dtype(np.float64)
# The pass over the weights is cut into about so many items, however many threads there are, as each item sums up a
# part of the loss: the order of those sums must not depend on the threads.
ITEMS = 64
# The most rows of such an item: its gradient stays in the first-level cache until the step.
ITEM_ROWS = 128
# A matrix of so many weights has no transposed copy: to write and read it again would cost more than to transpose it.
_NO_COPY = 1_000_000


def pad(n, multiple):
    """The next multiple of a number."""
    return -(-n // multiple) * multiple


def zeros(size, dtype):
    """A flat array that starts at a cache line: a vector that crosses two lines is loaded twice."""
    raw = np.zeros(size * dtype.itemsize + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size * dtype.itemsize].view(dtype)


class Tabular(NamedTuple):
    """What a network for tables has beside its dense layers, see `compiled.tabular`.

    Of columns of X the first are numbers that are embedded, as 4 units each, and the last are categories, as 8 units
    each; those in between are units as they are.
    """

    # whether each unit of the input has a factor, which is 1 at first
    scaled: bool = False
    # whether the activation of each hidden unit has a parameter, which is 1 at first: A = z + b (f(z) - z)
    parametric: bool = False
    # how many columns are embedded numbers
    numbers: int = 0
    # of each column of categories the highest number; the lowest is 0
    categories: tuple = ()

    @property
    def embedded(self):
        return self.numbers > 0 or len(self.categories) > 0

    def columns(self, units):
        """How many columns X has, for so many units of the input."""
        return units - (OF_NUMBER - 1) * self.numbers - (OF_CATEGORY - 1) * len(self.categories)


NOT_TABULAR = Tabular()


class Panels:
    """Layout of the parameters of a network, and how they get in and out.

    Parameters
    ----------
    layer_units : tuple of int
        Width of each layer, input first.
    dtype : numpy.dtype
        float32 or float64.
    sparse : bool, default=False
        Whether training on sparse X must be possible: then W_1 is stored with the moments, never W_1', and the rows of
        its work items are blocks of `block` rows, a power of two.
    tabular : Tabular, default=NOT_TABULAR
        What there is beside dense layers; its parameters are the last ones.

    Attributes
    ----------
    layout : ndarray of LAYER, shape (layers,)
        Where the parameters of each layer are, and its units.
    size, dense_size : int
        Of a flat array of all parameters, what pads them included; up to those that no dense layer has.
    tables : ndarray of int64
        Where the table of each column of categories starts.
    work : int
        Multiply-adds that one row needs to go forward.
    """

    def __init__(self, layer_units, dtype, sparse=False, tabular=NOT_TABULAR):
        self.tabular = tabular
        self.layer_units, self.dtype, self.sparse = tuple(layer_units), np.dtype(dtype), sparse
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
        self.layout = np.zeros(len(self.layer_units), LAYER.dtype)
        self.layout["units"] = self.layer_units
        self.size = self._copy_size = 0
        for i, (n, m) in enumerate(self.shapes, start=1):
            layer, first = self.layout[i], i == 1
            copied = n * m < _NO_COPY or m <= FEW  # which go forward by dot products with rows of W_i'
            as_is = first and (sparse or tabular.scaled)
            transposed = self.cost(m, n) < self.cost(n, m) and copied and not as_is
            last_on_the_way_back = first and not tabular.embedded
            copied = (copied and not last_on_the_way_back) or transposed
            rows, columns = (m, n) if transposed else (n, m)
            layer["transposed"], layer["weights"] = transposed, self.size
            self.size += pad(rows, ROWS) * pad(columns, self.panel)
            layer["biases"] = self.size
            self.size += pad(m, self.panel)
            layer["copy"] = self._copy_size if copied else -1
            if copied:
                self._copy_size += pad(columns, self.lanes) * pad(rows, self.panel)
        self.dense_size = self.size
        self._place_tabular()
        self.block = 1 << min(max(ROWS, self.work // ITEMS // self.panel), ITEM_ROWS).bit_length() - 1

    def _place(self, count):
        """Room for so many parameters."""
        start, self.size = self.size, self.size + pad(count, self.panel)
        return start

    def _place_tabular(self):
        """Room for what no dense layer has."""
        input_, hidden, tabular = self.layout[0], self.layout[1:-1], self.tabular
        self.layout["blends"] = self.layout["scales"] = -1
        input_["columns"] = tabular.columns(self.layer_units[0])
        if tabular.scaled:
            input_["scales"] = self._place(self.layer_units[0])
        if tabular.parametric:
            hidden["blends"] = [self._place(n) for n in hidden["units"].tolist()]
        input_["numbers"], input_["embeddings"] = tabular.numbers, self._place(tabular.numbers * BLOCK_OF_NUMBER)
        self._counts = np.array(tabular.categories, np.int64)
        self.tables = np.array([self._place((n + 1) * OF_CATEGORY) for n in tabular.categories], np.int64)
        input_["categories"], input_["category_counts"] = len(self._counts), self._counts.ctypes.data
        input_["tables"] = self.tables.ctypes.data

    def parts(self):
        """The PART of the weights of each layer, then of each other kind: all 1, but biases do not decay."""
        parts = np.ones(len(self.shapes) + TABLES, PART.dtype)
        parts["decay"][self.part(0, BIASES)] = 0
        return parts

    def part(self, layer, kind):
        """The number of the PART of some parameters."""
        return layer - 1 if kind == WEIGHTS else len(self.shapes) + kind - 1

    def arrays_beside(self, flat):
        """The views that `beside` gives, one after the other; scales, which may be none, are the first."""
        beside = self.beside(flat)
        return [beside["scales"], *beside["blends"], beside["embeddings"], *beside["tables"]]

    @property
    def blocks(self):
        """How many blocks of rows W_1 has."""
        return -(-self.layer_units[0] // self.block)

    def __reduce__(self):
        # made anew: other processors have other panels
        return Panels, (self.layer_units, self.dtype, self.sparse, self.tabular)

    def cost(self, rows, columns):
        """Of a gradient's tiles, about: narrow ones take more than half the time of full ones."""
        full, rest = divmod(pad(columns, self.lanes) // self.lanes, VECS)
        return pad(rows, ROWS // 2) * (full * VECS + rest * 1.2)

    def stored(self):
        """Layer, rows and columns of what is stored with the moments: W_i or W_i'."""
        for i, (n, m) in enumerate(self.shapes, start=1):
            yield i, *((m, n) if self.layout["transposed"][i] else (n, m))

    # ---- arrays ----

    def parameters(self, padded_biases):
        """All weights and biases: 0, but for the biases that pad each layer after the input."""
        flat = zeros(self.size, self.dtype)
        for layer, bias in zip(self.layout[1:], padded_biases, strict=True):
            flat[layer["biases"] + layer["units"] : layer["biases"] + pad(layer["units"], self.panel)] = bias
        beside = self.beside(flat)
        for ones in beside["scales"], *beside["blends"]:
            ones[:] = 1
        return flat

    def beside(self, flat):
        """What a flat array has beside weights and biases: views, by name.

        `scales`, of each unit of the input, or none; `blends`, of the units of each hidden layer, or none;
        `embeddings`, a block of parameters for each column of numbers; `tables`, a row for each number of a category.
        """
        input_, hidden = self.layout[0], self.layout[1:-1]

        def some(start, *shape):
            return flat[start : start + int(np.prod(shape))].reshape(shape)

        return {
            "scales": some(input_["scales"], self.layer_units[0] * self.tabular.scaled),
            "blends": [some(layer["blends"], layer["units"]) for layer in hidden if layer["blends"] >= 0],
            "embeddings": some(input_["embeddings"], self.tabular.numbers, BLOCK_OF_NUMBER),
            "tables": [some(start, n + 1, OF_CATEGORY) for start, n in zip(self.tables, self._counts, strict=True)],
        }

    def moments(self):
        """Room for something that belongs to each parameter: zeros."""
        return zeros(self.size, self.dtype)

    def copies(self):
        """Room for the transposed copies of all matrices."""
        return zeros(self._copy_size, self.dtype)

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
        for (i, n, m), W, b in zip(self.stored(), weights, biases, strict=True):
            W = W.T if self.layout["transposed"][i] else W
            self._fill(self._view(flat, self.layout["weights"][i], m, pad(n, ROWS)), W)
            start = self.layout["biases"][i]
            flat[start : start + len(b)] = b
            if copies is not None and self.layout["copy"][i] >= 0:
                self._fill(self._view(copies, self.layout["copy"][i], n, pad(m, self.lanes)), W.T)

    def hold(self, weights, biases, flat):
        """Whether these are the weights and biases of all layers that are stored in the flat array."""
        arrays = [np.asarray(array) for array in (*weights, *biases)]
        shapes = [*self.shapes, *self.bias_shapes]
        if [array.shape for array in arrays] != shapes or any(array.dtype != flat.dtype for array in arrays):
            return False
        for (i, n, m), W, b in zip(self.stored(), arrays, arrays[len(self.shapes) :], strict=False):
            W = W.T if self.layout["transposed"][i] else W
            view = self._view(flat, self.layout["weights"][i], m, pad(n, ROWS))
            for panel, c in zip(view, range(0, m, self.panel), strict=True):
                if not np.array_equal(panel[:n, : m - c], W[:, c : c + self.panel]):
                    return False
            if not np.array_equal(b, flat[self.layout["biases"][i] :][: len(b)]):
                return False
        return True

    def unpack(self, flat, out=None):
        """Weights and biases of all layers, two lists of copies: W_i (units in, units out), b_i (units out).

        New arrays, or those of the two lists `out`.
        """
        if out is None:
            out = [[np.empty(shape, flat.dtype) for shape in some] for some in (self.shapes, self.bias_shapes)]
        for (i, n, m), W, b in zip(self.stored(), *out, strict=True):
            W = W.T if self.layout["transposed"][i] else W
            self.matrix(flat, self.layout["weights"][i], n, m, pad(n, ROWS), W)
            b[:] = flat[self.layout["biases"][i] :][: len(b)]
        return out
