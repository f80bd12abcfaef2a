"""Who does what: work items, the threads' shares of them, groups of rows, the order of passes, and the arrays for it.

A `Plan` looks at shapes alone. It writes the records that kernels read, and names the kernels that they call by their
addresses: what a call does not need is not among them, and not compiled.
"""

import dataclasses
import itertools

import numpy as np

from fastmlp._panels import DTYPES, ITEM_ROWS, ITEMS, pad, zeros
from fastmlp.compiled import passes
from fastmlp.compiled.activations import HIDDEN, KEPT, OUTPUTS
from fastmlp.compiled.dropout import drop
from fastmlp.compiled.losses import LOSSES
from fastmlp.compiled.records import (
    BIASES,
    BLENDS,
    EMBEDDINGS,
    ITEM,
    JOB,
    JOB_ALIGNMENT,
    LAYER,
    NONZEROS,
    PASS,
    SCALES,
    TABLES,
    WEIGHTS,
)
from fastmlp.compiled.records import STEP as STEP_RECORD
from fastmlp.compiled.storage import BLOCK, CHUNK, FEW
from fastmlp.compiled.tabular import (
    BLOCK_OF_NUMBER,
    FREQUENCIES,
    OF_CATEGORY,
    embedded_gradient,
    fill_embedded,
    fill_scaled,
)
from fastmlp.compiled.team import FIRST_TRIAL, take_part
from fastmlp.compiled.tile import CACHE_LINE, ROWS, VECS, lanes_of
from fastmlp.compiled.updates import LOSS, RULES, STEP

# Threads share columns instead of rows from so many weights on: for each activation of a batch, and for each layer.
_BY_LAYERS, _BY_LAYERS_LAYER = 0.7, 2_000
# A step costs as much as the gradient from so many rows.
_STEP_ROWS = 64
# From so many rows on a batch is too large for the caches: the pass over the weights takes them row by row, so that a
# few columns of activations serve all panels of deltas, and not all of them each panel.
_BY_ROWS = 512
# X is read in place where a tile takes as many numbers from each row as on AVX-512. On AVX2 it takes half, and with a
# copy an epoch of 784-128-10 on one thread is 1.15 times as fast.
_IN_PLACE = ROWS >= 8
# A first layer of so many units reads a batch of X so often that a copy in panels costs little beside it. It pays where
# rows are a power of two apart: the numbers of a column then share one place of a cache, with room for a few of them.
_COPIED_FOR = 1_024
# What the gradient of an embedded number, or of a category, costs for a row: in vectors, in numbers. An item has the
# parameters of so many categories.
_NUMBER, _CATEGORY, _CATEGORIES = 80, 40, 64
# A batch is cut into at most so many groups, of at least so many rows.
_GROUPS, _GROUP_ROWS = 16, 96


def _check(rows, panels, lanes):
    """What the kernels count on, for tiles of so many rows, and panels and vectors of these widths."""
    for what, holds in {
        "ROWS is a power of two, 2 or more": rows >= 2 and rows & rows - 1 == 0,
        "a vector's lanes are a power of two": all(n & n - 1 == 0 for n in lanes),
        "ROWS columns of activations lie in one panel": all(n % rows == 0 for n in panels),
        "CHUNK is whole panels": all(CHUNK % n == 0 for n in panels),
        "the gradient of a work item has room for CHUNK rows": rows <= ITEM_ROWS <= CHUNK,
        "a work item is whole tiles, and a block of sparse rows a power of two": ITEM_ROWS & ITEM_ROWS - 1 == 0,
        "BLOCK is whole tiles": BLOCK % rows == 0,
        "FEW units lie in one panel": FEW <= min(panels),
    }.items():
        if not holds:
            raise ImportError(f"fastmlp cannot compute on tiles of this shape: it does not hold that {what}.")


_check(ROWS, [VECS * lanes_of(dtype) for dtype in DTYPES], [lanes_of(dtype) for dtype in DTYPES])


# What is left of weight decay and dropout where they do not fade.
NO_FADES = np.empty(0)


def make_step(parts):
    """A record STEP, for these parts; it names them, so they must live as long."""
    step = np.zeros(1, STEP_RECORD.dtype)
    step["parts"] = parts.ctypes.data
    return step


@dataclasses.dataclass
class Workspace:
    """A job, and the arrays that it names, which live as long.

    Attributes
    ----------
    words : ndarray of int64
        The record JOB as it is handed to an entry.
    job : dict of ndarray
        Each field of it that changes from call to call, as an array of one number: a record is slow to read.
    layers : ndarray of LAYER
    A : ndarray
        Activations.
    arrays : list of ndarray
        What else the job names.
    links : list of (records, place, field, kernel)
        Fields that are to hold the addresses of kernels.
    nonzeros : ndarray of NONZEROS or None
        Of sparse X.
    sorting : tuple of ndarray
        Where the nonzeros of a batch are sorted.
    step : ndarray of STEP or None
        The one that the job names.
    rows_a_call : int
        How many rows to train on until Python is to look whether somebody has pressed Ctrl-C.
    """

    words: np.ndarray
    job: dict
    layers: np.ndarray
    A: np.ndarray
    arrays: list
    links: list
    nonzeros: np.ndarray | None = None
    sorting: tuple = ()
    step: np.ndarray | None = None
    rows_a_call: int = 0

    def name_step(self, step):
        """Say where an optimizer's numbers are."""
        if self.step is not step:  # to ask for an address takes longer than a batch of a tiny network
            self.step, self.job["step"][0] = step, step.ctypes.data

    def name_nonzeros(self, rows):
        """Say where these sparse rows are, which must live as long as they are used."""
        self.nonzeros["indptr"], self.nonzeros["indices"] = rows.indptr.ctypes.data, rows.indices.ctypes.data

    def link(self, entry, *args, others=()):
        """Compile or load what a call of the entry with these arguments runs, and other kernels; note the addresses."""
        addresses = entry.prepare(*args, kernels=[*(kernel for *_, kernel in self.links), *others])
        for (records, place, field, _), address in zip(self.links, addresses, strict=False):
            records[place][field] = address
        self.links = []


class Plan:
    """How the kernels go about a network.

    Parameters
    ----------
    panels : Panels
    activations : sequence of Activation
        Of each layer after the input.
    dropout : sequence of float
        How many units of each hidden layer a step leaves out, on the average: parts of 1.

    Attributes
    ----------
    items : ndarray of ITEM
        The pieces of the pass over the weights, in the order of memory, and last of what is embedded.
    scale_items : ndarray of ITEM
        Those of the pass over the scales.
    parts : ndarray of PART
        Of an optimizer that makes no difference between kinds of parameters.
    costs, step_costs : ndarray of shape (n_items,)
        What each piece costs, about: its gradient, in tiles' vectors; and its step alone, in numbers.
    """

    def __init__(self, panels, activations, dropout):
        self.panels, self.activations, self.layer_units = panels, tuple(activations), panels.layer_units
        self.dropout = (*dropout, 0.0)
        self.layer_count = len(self.activations)
        self.items, self.costs, self.step_costs = self._cut()
        self.scale_items, self.parts = self._cut_scales(), panels.parts()

    def _cut(self):
        """Work items, the costs of their gradients and those of their steps alone."""
        panels, items, costs, step_costs = self.panels, [], [], []

        def add(i, kind, column, first, last, start, count, cost, step_cost):
            items.append((i, kind, column, first, last, start, count, panels.part(i, kind), len(items)))
            costs.append(cost)
            step_costs.append(step_cost)

        for i, n, m in panels.stored():
            copied = panels.layout["copy"][i] >= 0  # by whole tiles
            for c in range(0, m, panels.panel):
                columns = min(panels.panel, pad(m - c, panels.lanes))
                rows = pad(min(max(1, panels.work // ITEMS // columns), ITEM_ROWS), ROWS)
                if panels.sparse and i == 1:
                    rows = panels.block
                for k in range(0, n, rows):
                    last = min(k + rows, n)
                    start = panels.layout["weights"][i] + c * pad(n, ROWS) + k * panels.panel
                    step_cost = (last - k + copied * pad(last - k, ROWS) / 2) * columns
                    add(i, WEIGHTS, c, k, last, start, 0, panels.cost(last - k, columns), step_cost)
            for kind, start in (BIASES, panels.layout["biases"][i]), (BLENDS, panels.layout["blends"][i]):
                for c in range(0, self.layer_units[i] if start >= 0 else 0, panels.panel):
                    columns = min(panels.panel, pad(self.layer_units[i] - c, panels.lanes))
                    add(i, kind, c, 0, 0, start + c, columns, panels.cost(1, columns), columns)
        number = _NUMBER * FREQUENCIES // panels.lanes
        for j in range(panels.tabular.numbers):
            start = panels.layout["embeddings"][0] + j * BLOCK_OF_NUMBER
            add(0, EMBEDDINGS, j, 0, 0, start, BLOCK_OF_NUMBER, number, BLOCK_OF_NUMBER)
        for j, (start, n) in enumerate(zip(panels.tables, panels.tabular.categories, strict=True)):
            for k in range(0, n + 1, _CATEGORIES):
                last = min(k + _CATEGORIES, n + 1)
                count = pad((last - k) * OF_CATEGORY, panels.lanes)
                add(0, TABLES, j, k, last, start + k * OF_CATEGORY, count, _CATEGORY // panels.lanes, count)
        return np.array(items, ITEM.dtype), np.array(costs), np.array(step_costs)

    def _cut_scales(self):
        """Work items of the scales, panel by panel."""
        panels, start, n = self.panels, self.panels.layout["scales"][0], self.layer_units[0]
        items = []
        for c in range(0, n if start >= 0 else 0, panels.panel):
            count = min(panels.panel, pad(n - c, panels.lanes))
            items.append((0, SCALES, c, 0, 0, start + c, count, panels.part(0, SCALES), len(self.items) + len(items)))
        return np.array(items, ITEM.dtype)

    # ---- choices ----

    def shares(self, threads, by_layers, costs, by_rows=False):
        """The work items in the order of the threads that own them, and where each thread's share starts and ends.

        A share is contiguous memory: a line that two cores write in turn costs more than a slightly uneven share. By
        layers, a thread owns the panels of each layer that it also takes forward. A thread takes its share in the order
        of memory, or by rows: the first rows of all its panels of a layer, then the next.
        """
        layer, kind, column, first = (self.items[name] for name in ("layer", "kind", "column", "first"))
        if by_layers:
            panels = np.array([-(-n // self.panels.panel) for n in self.layer_units])
            weights = kind == WEIGHTS  # the columns of biases are always those of W_i
            count = panels[layer - weights * self.panels.layout["transposed"][layer]]
            owners = ((column // self.panels.panel + 1) * threads - 1) // count
            embedded = layer == 0
            owners[embedded] = np.arange(embedded.sum()) * threads // max(1, embedded.sum())
        else:
            middles = np.cumsum(costs) - costs / 2
            owners = np.searchsorted(costs.sum() * np.arange(1, threads) / threads, middles)
        order = np.lexsort((column, first, layer, owners) if by_rows else (owners,))  # the last counts most
        return self.items[order], np.searchsorted(owners[order], np.arange(threads + 1))

    def by_layers(self, batch_size):
        """Whether threads share the columns of each layer, one layer after the other, rather than the rows of a batch.

        Then each reads its own part of the weights only, but all activations: for wide layers and small batches.
        """
        activations = batch_size * sum(self.layer_units)
        enough = _BY_LAYERS * activations + _BY_LAYERS_LAYER * self.layer_count
        return self.groups(batch_size) == 1 and self.panels.work > enough

    def groups(self, batch_size):
        """Into how many groups of rows a batch is cut, each with a gradient of its own; 1 if it is not.

        The more groups, the more gradients must be added up: that must stay well below the activations and deltas that
        would have to move between threads otherwise; X need not, where it is read in place. And a group must be worth a
        thread's while.
        """
        moved = 2 * batch_size * sum(self.layer_units[_IN_PLACE:])
        most = min(batch_size // _GROUP_ROWS, moved // (2 * self.panels.size), _GROUPS)
        return 1 << max(0, most.bit_length() - 1)

    def in_place(self, dtype, contiguous, batch_size=None):
        """How many columns of X are read where X has them: whole panels. To predict there is no batch's size.

        Of rows of the parameters' dtype that are each contiguous. Not where a thread keeps the rows of its group to
        itself, as it is then faster to have them in panels, nor where a copy is little beside the products.
        """
        readable = _IN_PLACE and dtype == self.panels.dtype and contiguous and not self._fill()
        copied = not readable or self.layer_units[1] <= FEW
        if batch_size is not None:
            copied = copied or self.groups(batch_size) > 1 or self.layer_units[1] >= _COPIED_FOR
        return 0 if copied else self.layer_units[0] // self.panels.panel * self.panels.panel

    def _fill(self):
        """The kernel that makes A_0 of X; None if it is X."""
        if self.panels.tabular.embedded:
            return fill_embedded
        return fill_scaled if self.panels.tabular.scaled else None

    def passes(self, sparse, by_layers, goal, clipped, put_out):
        """The order of the passes over a batch: (kernel, layer)."""
        weights = [(passes.sparse_weights_pass if sparse else passes.weights_pass, 0)]
        rows = passes.sparse_rows_pass if sparse else passes.rows_pass
        if self._fill():
            rows, weights = passes.rows_pass_of_tables, [(passes.weights_pass_of_tables, 0)]
            weights += [(passes.scales_pass, 0)] * self.panels.tabular.scaled
        if clipped:
            gradient = passes.sparse_gradient_pass if sparse else passes.gradient_pass
            weights = [(gradient, 0), (passes.clip_pass, 0), (passes.step_pass, 0)]
        weights = [(passes.outputs_pass, 0)] * put_out + weights
        if not by_layers:
            return [(rows, 0), *weights]
        first = [(passes.sort_pass, 0), (passes.sparse_forward_pass, 1)]
        if not sparse:
            first = [(passes.pack_pass, 0), (passes.forward_pass, 1)]
        forward = [(passes.forward_pass, i) for i in range(2, self.layer_count + 1)]
        backward = [(passes.backward_pass, i) for i in range(self.layer_count, self._lowest(), -1)]
        return [*first, *forward, (passes.output_pass, 0), *(backward if goal != LOSS else []), *weights]

    def _lowest(self):
        """The layer at which the way back ends."""
        return 0 if self.panels.tabular.embedded else 1

    def every_kernel(self, sparse):
        """The kernels that plans for training name, all of them."""
        of_activations = [(f.activate, f.activate_and_keep, f.normalize) for f in [*HIDDEN.values(), *OUTPUTS.values()]]
        kernels = [kernel for some in of_activations for kernel in some if kernel is not None]
        kernels += [drop, *(row.kernel for row in [*LOSSES.values(), *RULES.values()])]
        if self._fill():
            kernels += [fill_scaled, fill_embedded, embedded_gradient]
            kernels += [f.blend for f in HIDDEN.values() if f.blend is not None]
        choices = itertools.product((False, True), [STEP], (False, True), [True])
        orders = [self.passes(sparse, *choice) for choice in choices]
        return kernels + [kernel for order in orders for kernel, _ in order]

    # ---- workspaces ----

    def _layers(self, height, sparse, goal=LOSS):
        """The layers with their places for `height` rows, how many activations and deltas they have, and their links.

        Of sparse X there is no A_0. Derivatives are kept behind the activations, if they are wanted. Only steps leave
        out units.
        """
        layers, values, deltas, links = np.zeros(len(self.layer_units), LAYER.dtype), 0, 0, []
        layers[:] = self.panels.layout
        layers["floor"], layers["slopes"], layers["differences"] = -np.inf, -1, -1
        for i, n in enumerate(self.layer_units):
            size = height * pad(n, self.panels.panel)
            layers[i]["values"], layers[i]["deltas"] = values, deltas
            values += size * (i > 0 or not sparse)
            deltas += size * (i >= self._lowest())
        if self._fill():
            links.append((layers, 0, "fill", self._fill()))
        if goal != LOSS and self.panels.tabular.embedded:
            links.append((layers, 0, "embedded_gradient", embedded_gradient))
            layers[0]["slopes"] = values
            values += height * pad(self.panels.tabular.columns(self.layer_units[0]), self.panels.panel)
        for i, (f, dropout) in enumerate(zip(self.activations, self.dropout, strict=True), start=1):
            layers[i]["floor"], layers[i]["derivative"], kernel = f.floor, f.derivative, f.activate
            if goal != LOSS and f.derivative == KEPT:
                kernel = f.activate_and_keep
            if layers[i]["blends"] >= 0:
                links.append((layers, i, "blend", f.blend))
                kernel, layers[i]["floor"] = None, -np.inf
            if goal == STEP and dropout > 0:
                layers[i]["undropped"], layers[i]["derivative"] = f.derivative, KEPT
                layers[i]["dropout"] = dropout
                links.append((layers, i, "drop", drop))
            if goal != LOSS and layers[i]["derivative"] == KEPT:
                layers[i]["slopes"] = values
                values += height * pad(self.layer_units[i], self.panels.panel)
                if layers[i]["blends"] >= 0:
                    layers[i]["differences"] = values
                    values += height * pad(self.layer_units[i], self.panels.panel)
            links += [(layers, i, "activate", kernel)] * (kernel is not None)
            links += [(layers, i, "normalize", f.normalize)] * (f.normalize is not None)
        return layers, values, deltas, links

    def _workspace(self, height, threads, sparse, order, layers, values, links, kernels, **fields):
        """A job with these passes over a batch, layers, kernels and other fields, and arrays for them."""
        words = np.zeros(JOB.size + JOB_ALIGNMENT // 8, np.int64)
        first = -words.ctypes.data % JOB_ALIGNMENT // 8
        words = words[first : first + JOB.size]
        records, A = words.view(JOB.dtype), zeros(values, self.panels.dtype)
        places, table = np.zeros(height, np.int64), np.array([(0, layer) for _, layer in order], PASS.dtype)
        layers[0]["places"] = places.ctypes.data
        fields |= {
            "threads": threads, "height": height, "layers": layers, "layer_count": self.layer_count, "A": A,
            "passes": table, "passes_a_batch": len(table), "claims": np.zeros(threads * CACHE_LINE, np.int64),
            "trial_in": FIRST_TRIAL,
        }  # fmt: skip
        links = links + [(table, k, "kernel", kernel) for k, (kernel, _) in enumerate(order)]
        links += [(records, 0, field, kernel) for field, kernel in kernels.items()]
        for name, value in fields.items():
            records[name] = value.ctypes.data if isinstance(value, np.ndarray) else value
        if sparse:
            nonzeros = np.zeros(1, NONZEROS.dtype)
            records["nonzeros"] = nonzeros.ctypes.data
        arrays = [places, *(value for value in fields.values() if isinstance(value, np.ndarray))]
        job = {name: records[name] for name in ("team", "step", "checked", "not_finite", "out")}
        return Workspace(words, job, layers, A, arrays, links, nonzeros if sparse else None)

    def workspace_to_predict(self, height, threads, sparse, dtype):
        """For threads that take `height` rows at a time together; the kernels are those for X of this dtype."""
        layers, values, _, links = self._layers(height, sparse)
        kernels = {"work": passes.sparse_predict_blocks if sparse else passes.predict_blocks}
        return self._workspace(height, threads, sparse, [], layers, values, links, kernels)

    def workspace_to_predict_row(self, threads, dtype):
        """For threads that take one row of X from the user's matrices; the kernels are those for X of this dtype."""
        layers, values, _, links = self._layers(ROWS, sparse=False)
        order = [(passes.pack_row_pass, 0)] + [(passes.forward_row_pass, i) for i in range(1, self.layer_count + 1)]
        kernels = {"work": take_part}
        return self._workspace(ROWS, threads, False, order, layers, values, links, kernels, batch_size=1)

    def workspace_to_train(self, batch_size, threads, sparse, rule, clipped, put_out, loss, loss_parameter, dtype):
        """For threads that take so many rows at a time together; the kernels are those for X of this dtype."""
        panels, height = self.panels, pad(batch_size, ROWS)
        groups, by_layers = self.groups(batch_size), self.by_layers(batch_size)
        costs = self.costs if groups == 1 else self.step_costs
        if sparse:  # each item adds up its nonzeros; W_1 stays with its thread where it has panels for all
            groups, by_layers = 1, 1 < threads <= -(-self.layer_units[1] // panels.panel)
            costs = self.costs * np.where(self.items["layer"] == 1, 1, 1 + batch_size / _STEP_ROWS)
        layers, values, deltas, links = self._layers(height, sparse, rule.goal)
        kernels = {"work": passes.train_batches, "loss_kernel": loss.kernel, "step_item": rule.kernel}
        items, shares = self.shares(threads, by_layers and not sparse, costs, batch_size >= _BY_ROWS)
        number = np.finfo(panels.dtype)
        loss_parameter = max(loss_parameter, number.tiny) if loss.parameter else number.eps
        order = self.passes(sparse, by_layers, rule.goal, clipped, put_out)
        return self._workspace(
            height, threads, sparse, order, layers, values, links, kernels,
            batch_size=batch_size, items=items, item_count=len(items), shares=shares, groups=groups, goal=rule.goal,
            loss_parameter=loss_parameter, loss_divisor=self.layer_units[-1] if loss.mean else 1,
            scale_items=self.scale_items, scale_item_count=len(self.scale_items), lowest=self._lowest(),
            scale_sums=np.zeros(pad(self.layer_units[0], panels.panel) * -(-self.layer_units[1] // panels.panel)),
            D=zeros(deltas, panels.dtype), scratch=zeros(threads * CHUNK * panels.panel, panels.dtype),
            G=zeros(groups * panels.size * (groups > 1 or clipped), panels.dtype), losses=np.zeros(height),
            squares=np.zeros(len(items) + len(self.scale_items)), gradient_squares=np.zeros(len(items)),
        )  # fmt: skip

    def prepare_to_sort(self, workspace, ends, count, threads):
        """Room for up to so many nonzeros of a batch in another order: where each thread's blocks start, the places.

        `ends` tells how many nonzeros the rows have that come before in the order.
        """
        panels, room = self.panels, 1 << count.bit_length()  # mostly the same from epoch to epoch
        if not workspace.sorting or len(workspace.sorting[-1]) != room:
            starts, places = np.zeros(threads * (panels.blocks + 2), np.int64), np.zeros(2 * room, np.int32)
            workspace.sorting = starts, places, zeros(room, panels.dtype)
        addresses = [array.ctypes.data for array in (ends, *workspace.sorting)]
        for name, value in zip(
            ("ends", "starts", "places", "amounts", "shift", "blocks", "lists"),
            (*addresses, panels.block.bit_length() - 1, panels.blocks, threads),
            strict=True,
        ):
            workspace.nonzeros[name] = value
