"""What kernels are told and what they note, by name: each field once, with its type and its meaning.

Python sees a record as a NumPy dtype, `JOB.dtype`, kernels as `job.batch`. T is float32 or float64, the type of the
network's numbers. Only declarations stand here: what is done with them stands in the kernels, and who fills them in is
`fastmlp/_plan.py`.
"""

from numba import types

from fastmlp.compiled.tile import LINE, Record, T, record_at

INT, FLOAT = types.int64, types.float64
INTS, INTS_32, FLOATS, NUMBERS = map(types.CPointer, (INT, types.int32, FLOAT, T))

# ---- threads, see `team` ----------------------------------------------------------------------------------------

WORKER = Record(
    "Worker",
    {
        "state": LINE,  # free, taken, asleep, or the offer of a job: its address + the number of the thread
        "lock": LINE,  # the address of one of CPython's, on which it sleeps
        "thread": INT,  # the system's number of it; 0: not known
        "cores": INTS,  # CORES bits: which it may use once awake; as many: on which it is woken
    },
)
TEAM = Record(
    "Team",
    {
        "active": LINE,  # how many threads of callers with helpers compute
        "worker_count": INT,
        "workers": WORKER,
        "since": INT,  # when callers began to do without helpers, in ticks
        "absence": INT,  # for how long
        "lost": INT,  # what time they have lost by helpers, see `keep_pace`
    },
)

# ---- a network --------------------------------------------------------------------------------------------------

LAYER = Record(
    "Layer",
    {
        "units": INT,
        "floor": FLOAT,  # f_i begins with max(z, floor): 0 for ReLU, else -infinity
        "activate": INT,  # the address of the kernel that does the rest of f_i; 0: there is none. See `activations`
        "normalize": INT,  # the same for what takes whole rows: softmax
        "derivative": INT,  # where f_i' comes from
        "blend": INT,  # the address of the kernel that does all of a parametric f_i; 0: it is none
        "blends": INT,  # where its parameters, one for each unit, start in P; -1: there are none
        "differences": INT,  # where f_i(z) - z starts in A, and on the way back its product with delta; -1: not kept
        "drop": INT,  # the address of the kernel that leaves out units; 0: none. See `dropout`
        "dropout": FLOAT,  # what part of them, on the average
        "undropped": INT,  # where f_i' comes from, if no units are left out
        "values": INT,  # where A_i starts in A
        "slopes": INT,  # where f_i'(Z_i) starts in A, for an f_i that keeps it
        "deltas": INT,  # where delta_i starts in D
        "biases": INT,  # where b_i starts in P
        "weights": INT,  # where W_i starts in P, or W_i' if that is stored there
        "copy": INT,  # where the other one of them starts in Q; -1 if there is none
        "transposed": INT,  # whether it is W_i' that stands in P
        "in_place": INT,  # of the input: how many columns are read where X has them, whole panels
        "X": NUMBERS,  # of the input: where X is
        "places": INTS,  # of the input: where each row of the batch starts in X
        # of the input of a network for tables, see `tabular`
        "columns": INT,  # of X
        "fill": INT,  # the address of the kernel that makes A_0 of X; 0: it is X
        "scales": INT,  # where the factors of its units start in P; -1: there are none
        "numbers": INT,  # how many columns of X are embedded
        "embeddings": INT,  # where the parameters of that start in P
        "categories": INT,  # how many of the last columns are numbers of categories
        "tables": INTS,  # where the table of each of them starts in P
        "category_counts": INTS,  # the highest number in each of them
        "embedded_gradient": INT,  # the address of the kernel for the gradients of all that is embedded
    },
)
ITEM = Record(  # a piece of the pass over the weights
    "Item",
    {
        "layer": INT,
        "kind": INT,  # of its parameters, see below
        "column": INT,  # the first column of a panel of what stands in P
        "first": INT,  # a range of its rows; of a table, a range of categories
        "last": INT,
        "start": INT,  # where its parameters start in P
        "count": INT,  # of them, if they are not weights
        "part": INT,  # the number of their PART
        "place": INT,  # its number among all, however they are dealt out
    },
)
# kinds of parameters: W_i, b_i; of parametric activations; factors of inputs; of embedded numbers and of categories
WEIGHTS, BIASES, BLENDS, SCALES, EMBEDDINGS, TABLES = range(6)
PART = Record(  # of the parameters: the weights of a layer, or all of another kind
    "Part",
    {
        "rate": FLOAT,  # what the learning rate is multiplied by
        "epsilon": FLOAT,  # what Adam's epsilon is multiplied by
        "decay": FLOAT,  # what weight decay is multiplied by, once more
    },
)
STEP = Record(  # an optimizer's numbers, and those of the epoch
    "Step",
    {
        "rate": FLOAT,  # of this batch; with Adam's bias correction
        "corrected": FLOAT,  # whether there is one
        "shrunk": FLOAT,  # what epsilon is multiplied by in this batch
        "clipnorm": FLOAT,  # what the norm of the whole gradient may be
        "clip": FLOAT,  # what is left of the gradient of this batch then: a factor
        "decay": FLOAT,  # the part of a weight that decays in a step
        "weight_decay": FLOAT,
        "alpha": FLOAT,  # weight of the L2 penalty
        "beta_1": FLOAT,  # decay of the first moments; the momentum of SGD
        "beta_2": FLOAT,
        "epsilon": FLOAT,
        "epsilon_inside": FLOAT,  # whether it is added to the root of the corrected second moments, as in PyTorch
        "parts": PART,
        "steps": FLOAT,  # done so far
        "batches": INT,  # seen so far
        "seed": INT,  # of random numbers
        "weight": FLOAT,  # the sum of the batch's sample weights
        "scale": FLOAT,  # 1 / weight; 0: there is no step
        "loss": FLOAT,  # sum over batches of loss * rows, or of the rows' losses
        "batch_loss": FLOAT,
        "counted": FLOAT,  # their rows, or what those weigh; batches that weigh nothing are left out
        "penalized": FLOAT,  # whether the penalty is in a loss that is the rows' alone
    },
)
PASS = Record(  # over a batch, see `passes`
    "Pass",
    {
        "kernel": INT,  # the address of what does a piece of it
        "layer": INT,  # of those that have one
    },
)
NONZEROS = Record(  # of sparse X, see `sparse`
    "Nonzeros",
    {
        "indptr": INTS,
        "indices": INTS_32,
        "ends": INTS,  # how many nonzeros the rows have that come before one in `order`
        "starts": INTS,  # where each block starts in the sorted ones, a line for each thread
        "places": INTS_32,  # row in the batch and column, in turns
        "amounts": NUMBERS,  # the values
        "shift": INT,  # log2 of the columns in a block
        "blocks": INT,
        "lists": INT,  # how many threads sort
    },
)

# ---- a call -----------------------------------------------------------------------------------------------------

JOB = Record(
    "Job",
    {
        # for the team
        "team": TEAM,
        "work": INT,  # the address of the kernel that does a thread's part
        "X": INT,  # the address of X's numbers
        "threads": INT,  # for how many it is cut
        "passes": PASS,  # over each batch, in their order
        "passes_a_batch": INT,
        "pass_count": INT,  # of all batches
        "first_row": INT,  # of the first batch
        "batch_size": INT,
        "rows": INT,  # the last batch ends with them
        "hired": INT,  # how many helpers the caller has asked
        "solo": INT,  # for how many batches the caller wants no helpers
        "trial_in": INT,  # after how many batches he tries how long one takes without
        "time_solo": INT,  # what a batch takes, in ticks
        "time_helped": INT,
        "claims": INTS,  # a cache line for each thread: the pass whose piece is to be begun next
        "leave": LINE,  # whether helpers shall go
        "done": LINE,  # pieces
        "present": LINE,  # helpers
        "gone": LINE,
        # what is computed
        "layers": LAYER,
        "layer_count": INT,  # the input is not counted
        "items": ITEM,
        "item_count": INT,
        "scale_items": ITEM,  # those whose gradients come from the weights' items
        "scale_item_count": INT,
        "shares": INTS,  # thread p steps the items from shares[p] to shares[p + 1]
        "goal": INT,  # what is asked for: LOSS, GRADIENT or STEP
        "step_item": INT,  # the address of the kernel that steps an item by a rule, see `updates`
        "step": STEP,
        "rates": FLOATS,  # the learning rate of each batch
        "fades": FLOATS,  # what is left of weight decay and dropout in each batch
        "faded": INT,  # how many there are; 0: all is left
        "batch": INT,  # the number of the next one
        "batches_before": INT,  # the epoch
        "loss_kernel": INT,  # the address of the kernel for losses and deltas of the output, see `losses`
        "loss_parameter": FLOAT,
        "loss_divisor": FLOAT,  # outputs, if the loss is their mean
        "groups": INT,  # of rows that have gradients of their own
        # rows
        "x": INTS,  # where the first number of X is, and the strides, in numbers
        "nonzeros": NONZEROS,
        "Y": NUMBERS,  # targets, row by row; or the class of each row
        "sample_weights": NUMBERS,  # of each row, or one for all
        "sample_weight_stride": INT,  # 1 or 0
        "order": INTS,  # the rows of X in the order in which they are used
        "ordered": INT,  # whether there is one
        "matrices": INTS,  # the addresses of W_1 .. W_L, b_1 .. b_L, see `row`
        "checked": INT,  # whether X must be finite
        "not_finite": INT,  # that it is not
        # memory
        "P": NUMBERS,  # weights and biases, as panels
        "Q": NUMBERS,  # the other orientation of each W_i, see LAYER
        "M": NUMBERS,  # like P: velocity or first moments
        "V": NUMBERS,  # like P: second moments
        "G": NUMBERS,  # like P, for each group: gradients
        "size": INT,  # of P, M, V, and G of a group
        "A": NUMBERS,  # activations of `height` rows
        "D": NUMBERS,  # their deltas
        "height": INT,  # rows of a panel of A and D
        "scratch": NUMBERS,  # for each thread, CHUNK rows of a panel
        "lowest": INT,  # the layer at which the way back ends
        "scale_sums": FLOATS,  # sums over W_1 times its gradient: of each row, panel after panel
        "losses": FLOATS,  # of each row, then of each tile of rows
        "squares": FLOATS,  # of each item: the sum of the squares of its weights
        "gradient_squares": FLOATS,  # of each item: the same of its gradient, if that is clipped
        "out": NUMBERS,  # predictions
        # what the caller notes from batch to batch
        "began": INT,  # in ticks
        "helpers": INT,  # how many there were
    },
)
job_at, team_at = record_at(JOB), record_at(TEAM)
# a job starts at a multiple of so many bytes, so that an offer can name the thread too; there are no more threads
JOB_ALIGNMENT = 4096
