"""What a batch is done in: passes, whose order is data, and what Python calls: an epoch, predictions.

    rows      each block of rows goes forward through all layers and back through all deltas
    weights   each work item, a piece of a W_i or b_i, gets its gradient and takes its step

Rows do not depend on each other, nor do weights; every delta is made from the weights before the step, which no thread
touches until all rows are done. Each number has one owner and one order of summation, so the results have the same
bits for any number of threads.

Moving numbers from one core to another can cost more than the arithmetic. Where the activations are many and the
weights few, the batch is cut into groups, as many as the shapes say and not the threads; the pass over the rows leaves
the gradient of each group, and the pass over the weights adds them up in order. Where the weights are many and the
activations few, the threads share the columns of a layer, one layer after the other, instead of the rows: then each
reads and steps its own panels alone, and the rows take several passes.

A pass is a kernel (job, i, p, start, batch, X): piece p of layer i, if it is of one, over the `batch` rows from row
`start` of the order on. `fastmlp/_plan.py` writes their order. The first one of a batch opens its books, the last one
notes its loss, both in piece 0, which is the caller's: what he writes in one pass, others read in the next.
"""

import math

import numpy as np

from fastmlp.compiled import jit
from fastmlp.compiled.dense import (
    backward_panels,
    fetch_rows,
    fill,
    forward_panels,
    forward_rows,
    gradient_item,
    normalize,
    pack,
    put_out,
)
from fastmlp.compiled.jit import inlined
from fastmlp.compiled.records import job_at
from fastmlp.compiled.row import forward_row
from fastmlp.compiled.sparse import (
    fetch_nothing,
    forward_nonzeros,
    forward_rows_of_nonzeros,
    gradient_item_of_nonzeros,
    sort_nonzeros,
)
from fastmlp.compiled.storage import TYPES, columns_of, fade_of, kernel, padded, rows_of, scratch_of
from fastmlp.compiled.tabular import gradient_item_of_tables, step_scales, sum_scales
from fastmlp.compiled.team import begin, end, hire, keep_pace, lose, take_part
from fastmlp.compiled.tile import (
    ROWS,
    VECS,
    address,
    atomic_add,
    atomic_load,
    call,
    flush_denormals,
    lanes,
    load,
    load_part,
    memory,
    number,
    pointer,
    restore_denormals,
    skip,
    ticks,
    total,
    zeros,
)
from fastmlp.compiled.updates import LOSS, measure_item

# ---- the books of a batch ---------------------------------------------------------------------------------------


@inlined
def sum_sample_weights(sample_weights, stride, order, first, last):
    """S: the sum of the sample weights of rows order[first:last]."""
    if stride == 0:
        return np.float64(last - first) * sample_weights[0]
    weight = 0.0
    for r in range(first, last):
        weight += sample_weights[order[r]]
    return weight


@inlined
def weigh_nothing(sample_weights, stride, order, first, last):
    """Whether the sample weight of each of these rows is 0."""
    if stride == 0:
        return sample_weights[0] == 0
    for r in range(first, last):
        if sample_weights[order[r]] != 0:
            return False
    return True


@kernel
def open_batch(job, start, batch):
    """The numbers of the step that follows a batch; a scale of 0 if its rows weigh nothing, and there is none."""
    step = job.step
    if start > job.first_row:
        close_batch(job, start - job.batch_size)
    weight = sum_sample_weights(job.sample_weights, job.sample_weight_stride, job.order, start, start + batch)
    step.weight, step.scale = weight, 1 / weight if weight != 0 else 0.0
    step.rate, step.clip, step.shrunk = job.rates[job.batch], 1.0, 1.0
    job.batch += 1
    step.decay = step.rate * step.weight_decay * fade_of(job)
    if step.corrected != 0 and weight != 0:
        step.steps += 1
        root = math.sqrt(1 - step.beta_2**step.steps)
        step.rate *= root / (1 - step.beta_1**step.steps)
        if step.epsilon_inside != 0:
            step.shrunk = root


@inlined
def note_loss(job, batch):
    """In the last pass of a batch: the sum of its losses. `batches` rises here, as dropout reads it in earlier ones."""
    loss = 0.0
    for tile in range(0, batch, ROWS):
        loss += job.losses[tile]
    job.step.batch_loss = loss
    job.step.batches += 1


@inlined
def close_batch(job, start):
    """After the last pass of a batch: its loss, and its time.

    An epoch's loss is the mean over rows of their batches' losses. Where nothing but the loss is asked for, it is the
    weighted mean of the rows' losses instead, with the penalty of all rows together.
    """
    step, batch, squares = job.step, min(job.batch_size, job.rows - start), 0.0
    loss = step.batch_loss / job.loss_divisor
    for j in range(job.item_count):
        squares += job.squares[j]
    if job.goal == LOSS:
        if step.scale != 0 and step.penalized == 0:
            step.loss += 0.5 * step.alpha * squares
            step.penalized = 1
        step.loss += loss
        step.counted += step.weight
    elif step.scale != 0:
        step.loss += (loss + 0.5 * step.alpha * squares) * step.scale * batch
        step.counted += batch
    if job.threads > 1 and batch == job.batch_size:
        now, helpers = ticks(), atomic_load(job.present, 0)
        keep_pace(job, job.team, now - job.began, helpers if helpers == job.helpers else -1, now)
        job.began, job.helpers = now, helpers


# ---- rows -------------------------------------------------------------------------------------------------------


@kernel
def rows_pass(job, i, p, start, batch, X):
    """Losses and deltas of thread p's rows, or of its groups of rows, and then the gradients of each group."""
    if p == 0:
        open_batch(job, start, batch)
    tiles, scratch, size = padded(batch, ROWS) // ROWS, scratch_of(p, job), job.size
    pieces = job.groups if job.groups > 1 else job.threads
    for g in range(pieces * p // job.threads, pieces * (p + 1) // job.threads):
        first, last = tiles * g // pieces * ROWS, tiles * (g + 1) // pieces * ROWS
        forward_rows(job, X, start + first, min(last, batch) - first, first)
        call(job.loss_kernel, (job, first, last, start, batch))
        if job.goal != LOSS:
            for k in range(job.layer_count, job.lowest, -1):
                backward_panels(job, k, 0, job.layers[k - 1].units, first, last, scratch)
            if job.groups > 1:
                G = skip(job.G, g * size)
                for j in range(job.item_count):
                    gradient_item(job, job.items[j], first, last, batch, G, job.items[j].start)


@kernel
def pack_pass(job, i, p, start, batch, X):
    """A_0 for thread p's rows."""
    if p == 0:
        open_batch(job, start, batch)
    first, last = rows_of(p, job, batch)
    fill(job, X, start + first, min(last, batch) - first, first)


@kernel
def forward_pass(job, i, p, start, batch, X):
    """A_i for thread p's columns; for its rows, where there are not panels for all threads."""
    n, panel = job.layers[i].units, VECS * lanes(job)
    if padded(n, panel) // panel >= job.threads:
        c_first, c_last = columns_of(p, job, n)
        forward_panels(job, i, c_first, c_last, 0, padded(batch, ROWS))
    else:
        first, last = rows_of(p, job, batch)
        forward_panels(job, i, 0, n, first, last)


@kernel
def output_pass(job, i, p, start, batch, X):
    """Softmax, losses and delta_L for thread p's rows."""
    first, last = rows_of(p, job, batch)
    normalize(job, first, last)
    call(job.loss_kernel, (job, first, last, start, batch))


@kernel
def backward_pass(job, i, p, start, batch, X):
    """delta_{i-1} for thread p's columns, or for its rows."""
    n, panel, scratch = job.layers[i - 1].units, VECS * lanes(job), scratch_of(p, job)
    if padded(n, panel) // panel >= job.threads:
        c_first, c_last = columns_of(p, job, n)
        backward_panels(job, i, c_first, c_last, 0, padded(batch, ROWS), scratch)
    else:
        first, last = rows_of(p, job, batch)
        backward_panels(job, i, 0, n, first, last, scratch)


@kernel
def outputs_pass(job, i, p, start, batch, X):
    """Where they are asked for beside the loss: the outputs of thread p's rows, to their places in the order."""
    first, last = rows_of(p, job, batch)
    if first < batch:
        put_out(job, start + first, min(last, batch) - first, first)


# ---- weights ----------------------------------------------------------------------------------------------------


@inlined
def take_step(job, item, G, g):
    """The step of a work item whose gradients are in G from g on."""
    call(job.step_item, (job, item, G, g))


@kernel
def weights_pass(job, i, p, start, batch, X):
    """Thread p's work items: with the gradients of the groups, or with that of the whole batch, an item at a time.

    Meanwhile the rows of the next batch are fetched that this thread will pack.
    """
    if job.step.scale != 0:
        scratch, first, last = scratch_of(p, job), job.shares[p], job.shares[p + 1]
        row, row_last = rows_of(p, job, batch)
        next_ = start + batch + row
        count = min(row_last - row, max(0, job.rows - next_))
        for j in range(first, last):
            item, done, all_ = job.items[j], j - first, last - first
            fetch_rows(job, X, next_ + count * done // all_, next_ + count * (done + 1) // all_)
            if job.groups > 1:
                take_step(job, item, job.G, item.start)
            else:
                if job.goal != LOSS:
                    gradient_item(job, item, 0, padded(batch, ROWS), batch, scratch, 0)
                take_step(job, item, scratch, 0)
    if p == 0:
        note_loss(job, batch)


# ---- weights, where the norm of the whole gradient is clipped ---------------------------------------------------


@kernel
def gradient_pass(job, i, p, start, batch, X):
    """The gradients of thread p's work items, all of which stay, and the sums of their squares."""
    if job.step.scale != 0:
        for j in range(job.shares[p], job.shares[p + 1]):
            item = job.items[j]
            if job.groups == 1:
                gradient_item(job, item, 0, padded(batch, ROWS), batch, skip(job.G, item.start), 0)
            measure_item(job, item)


@kernel
def clip_pass(job, i, p, start, batch, X):
    """clip = min(1, clipnorm / (norm + 1e-6)), as PyTorch has it; a norm that is NaN makes it NaN."""
    if p == 0 and job.step.scale != 0:
        square_sum = 0.0
        for j in range(job.item_count):
            square_sum += job.gradient_squares[j]
        clip = job.step.clipnorm / (math.sqrt(square_sum) + 1e-6)
        job.step.clip = 1.0 if clip > 1 else clip


@kernel
def step_pass(job, i, p, start, batch, X):
    """Thread p's work items take their steps."""
    if job.step.scale != 0:
        for j in range(job.shares[p], job.shares[p + 1]):
            item = job.items[j]
            call(job.step_item, (job, item, job.G, item.start))
    if p == 0:
        note_loss(job, batch)


# ---- tables -----------------------------------------------------------------------------------------------------


@inlined
def sum_and_step(job, item, G, g):
    """In place of `take_step`: the gradient of the inputs' factors is made of those of W_1."""
    sum_scales(job, item, G, g)
    take_step(job, item, G, g)


rows_pass_of_tables = jit.variant(rows_pass, "_of_tables", gradient_item=gradient_item_of_tables)
weights_pass_of_tables = jit.variant(
    weights_pass, "_of_tables", gradient_item=gradient_item_of_tables, take_step=sum_and_step
)


@kernel
def scales_pass(job, i, p, start, batch, X):
    """The step of the inputs' factors."""
    if p == 0 and job.step.scale != 0 and job.goal != LOSS:
        step_scales(job, scratch_of(p, job))


# ---- sparse X ---------------------------------------------------------------------------------------------------

_rows_of_nonzeros_pass = jit.variant(rows_pass, "_of_nonzeros", forward_rows=forward_rows_of_nonzeros)
sparse_weights_pass = jit.variant(
    weights_pass, "_of_nonzeros", gradient_item=gradient_item_of_nonzeros, fetch_rows=fetch_nothing
)
sparse_gradient_pass = jit.variant(gradient_pass, "_of_nonzeros", gradient_item=gradient_item_of_nonzeros)


@kernel
def sparse_rows_pass(job, i, p, start, batch, X):
    """`rows_pass`; first thread p sorts the nonzeros of its rows, if gradients are wanted."""
    if job.goal != LOSS:
        sort_nonzeros(job, p, start, batch, X)
    _rows_of_nonzeros_pass(job, i, p, start, batch, X)


@kernel
def sort_pass(job, i, p, start, batch, X):
    """In place of `pack_pass`."""
    if p == 0:
        open_batch(job, start, batch)
    if job.goal != LOSS:
        sort_nonzeros(job, p, start, batch, X)


@kernel
def sparse_forward_pass(job, i, p, start, batch, X):
    """A_1 for thread p's columns: it has panels of its own."""
    c_first, c_last = columns_of(p, job, job.layers[1].units)
    forward_nonzeros(job, X, start, batch, 0, c_first, c_last)


# ---- an epoch ---------------------------------------------------------------------------------------------------


@kernel
def train_batches(job, p, X):
    """What thread p does of an epoch."""
    denormals = flush_denormals()
    take_part(job, p, X)
    restore_denormals(denormals)


@jit.entry(TYPES)
def epoch(words, X, x, Y, sample_weights, rows, order, rates, fades, first, until, P, Q, M, V):
    """Train on the rows of X that `order` names, a batch after the other. Returns the epoch's loss.

    The job is one that `Plan` has made: the rest of what it tells comes here.

    The loss is scikit-learn's: (sum over batches of (batch loss + alpha / 2 * sum of W^2 / S) * rows of the batch) / n,
    S the sum of the weights of the batch's rows and n all rows. A batch whose rows weigh nothing is left out. An epoch
    may be done in several calls, of rows order[first:until] and so of whole batches, the first of which looks whether
    all that `order` names is there.
    """
    job = job_at(words, P)
    n, stride, batch_size, step = len(order), min(1, len(sample_weights) - 1), job.batch_size, job.step
    if first == 0:
        lowest, highest = order[0], order[0]
        for row in order:
            lowest, highest = min(lowest, row), max(highest, row)
        if not 0 <= lowest <= highest < rows:
            raise IndexError("order names a row that the data does not have.")
        step.loss = step.counted = step.penalized = 0
        weighty, together = 0, n if job.goal == LOSS else batch_size
        for start in range(0, n, together):
            last = min(n, start + together)
            if weigh_nothing(sample_weights, stride, order, start, last):
                continue
            if sum_sample_weights(sample_weights, stride, order, start, last) == 0:
                raise ZeroDivisionError("Weights sum to zero, can't be normalized")
            weighty += 1
        if weighty == 0:
            raise ZeroDivisionError("Weights sum to zero, can't be normalized")
    job.x, job.Y, job.sample_weights, job.sample_weight_stride = pointer(x), pointer(Y), pointer(sample_weights), stride
    job.order, job.ordered, job.rates, job.X = pointer(order), 1, pointer(rates), address(X)
    job.P, job.Q, job.M, job.V, job.size = pointer(P), pointer(Q), pointer(M), pointer(V), len(P)
    job.fades, job.faded = pointer(fades), len(fades)
    job.rows, job.first_row, job.batch = n, first, first // batch_size
    job.batches_before = step.batches - job.batch
    batches = (until - first + batch_size - 1) // batch_size
    job.pass_count = batches * job.passes_a_batch
    job.layers[0].X = memory(P, address(X))
    job.began, job.helpers = ticks(), -1
    if job.threads > 1:
        begin(job)
    train_batches(job, 0, pointer(X))
    close_batch(job, first + (batches - 1) * batch_size)
    if job.threads > 1:  # to wait for helpers that do nothing any more is lost time, too
        began = ticks()
        end(job)
        lose(job, job.team, ticks() - began, 0, ticks())
    return step.loss / step.counted if step.counted != 0 else 0.0


# ---- predictions ------------------------------------------------------------------------------------------------


@kernel
def find_not_finite(job, X, start, count):
    """job.not_finite = 1 if one of the numbers of the rows start..start + count of X is NaN or infinity.

    Only of these v - v is not 0. What stands side by side in memory is read side by side, rows or columns.
    """
    x, n = job.x, job.layers[0].columns
    outer_count, outer_stride, inner_count, inner_stride = count, x[1], n, x[2]
    if abs(outer_stride) < abs(inner_stride):
        outer_count, outer_stride, inner_count, inner_stride = inner_count, inner_stride, outer_count, outer_stride
    wide, vector, few = zeros(X, 1, VECS), zeros(X, 1, 1), number(X, 0)
    for i in range(outer_count):
        o = x[0] + start * x[1] + i * outer_stride
        last = o + inner_count * inner_stride
        if inner_stride == 1:
            while last - o >= VECS * lanes(X):
                v = load(X, o, 0, 1, VECS)
                wide = wide + (v - v)
                o += VECS * lanes(X)
            while o < last:
                v = load_part(X, X, o, last - o)
                vector = vector + (v - v)
                o += lanes(X)
        else:
            for k in range(inner_count):
                v = X[o + k * inner_stride]
                few += v - v
    if not total(wide) + total(vector) + few == 0:
        job.not_finite = 1


@kernel
def predict_blocks(job, p, X):
    """What thread p does: one block of rows after the other that nobody has taken, in its own part of A."""
    block = job.height // job.threads
    start = atomic_add(job.done, 0, block) - block
    while start < job.rows:
        count = min(block, job.rows - start)
        if job.checked > 0:
            find_not_finite(job, X, start, count)
        forward_rows(job, X, start, count, p * block)
        put_out(job, start, count, p * block)
        start = atomic_add(job.done, 0, block) - block


@jit.entry(TYPES)
def predict(words, X, x, order, n, P, Q, out):
    """out[r] = A_L of row order[r] of X, or of row r. The job is one that `Plan` has made."""
    job = job_at(words, P)
    job.x, job.order, job.ordered, job.rows = pointer(x), pointer(order), len(order), n
    job.P, job.Q, job.out, job.X, job.not_finite, job.done[0] = pointer(P), pointer(Q), pointer(out), address(X), 0, 0
    job.layers[0].X = memory(P, address(X))
    if job.threads > 1:
        begin(job)
        hire(job)
    predict_blocks(job, 0, pointer(X))
    if job.threads > 1:
        end(job)


sparse_predict_blocks = jit.variant(predict_blocks, "_sparse", forward_rows=forward_rows_of_nonzeros)
sparse_predict = jit.variant(predict, "_sparse", predict_blocks=sparse_predict_blocks)


# ---- a row from the matrices ------------------------------------------------------------------------------------


@inlined
def put_row(job, row):
    """The outputs of a row that has gone through all layers."""
    normalize(job, 0, ROWS)
    put_out(job, row, 1, 0)


@kernel
def pack_row_pass(job, i, p, start, batch, X):
    """A_0 of a row; first, the outputs of the one before."""
    if p == 0:
        if start > 0:
            put_row(job, start - 1)
        pack(job, X, start, 1, 0)


# threads share a layer that has so many units for each
SHARED = 64


@kernel
def forward_row_pass(job, i, p, start, batch, X):
    """A_i of a row, perhaps thread p's columns of it."""
    n = job.layers[i].units
    if n >= SHARED * job.threads:
        c_first, c_last = columns_of(p, job, n)
        if c_first < c_last:
            forward_row(job, i, c_first, c_last)
    elif p == 0:
        forward_row(job, i, 0, n)


@jit.entry(TYPES)
def predict_row(words, X, x, matrices, n, P, out):
    """out[r] = A_L of row r of X, r < n. The job is one that `Plan` has made."""
    job = job_at(words, P)
    job.x, job.matrices, job.out, job.P, job.X = pointer(x), pointer(matrices), pointer(out), pointer(P), address(X)
    job.rows, job.pass_count, job.ordered, job.not_finite = n, n * job.passes_a_batch, 0, 0
    if job.checked > 0:
        find_not_finite(job, pointer(X), 0, n)
    if job.threads > 1:
        begin(job)
    take_part(job, 0, pointer(X))
    if job.threads > 1:
        end(job)
    put_row(job, n - 1)
