"""What is compared: fastmlp, and each peer in its best configuration. Run as a script, a worker for one of them.

Each trainer is a function of (case, solver, dtype) that returns two others: `fresh` makes a model at the starting point
and is not timed; `train` runs the case's epochs on it and returns the loss of each. A predictor's `train` predicts once
and returns what it predicted; with it comes how often it is to be called.

A worker reads one JSON list a line from its input and answers with one JSON value a line; in between it sleeps.
"""

import functools
import importlib
import json
import os
import sys
import time
import warnings
from itertools import pairwise

import numpy as np
from cases import BETA_1, BETA_2, CASES, EPSILON, MOMENTUM, PREDICTIONS, classifier, data, start
from conditions import CONDITIONS
from jobs import prepare

CHUNK = 16_384  # parameters that the update written by hand takes at a time: they stay in the second-level cache
GATHER_FIRST = 8 << 20  # bytes of X up to which JAX is faster if it puts all rows in order before it starts (measured)
NUMBERS = 1_000  # that are compared, at most
JOB_CALLS = 20  # of a small job are timed together


def of_package(package, case, solver, dtype):
    """An estimator: whole fits, validation and initialisation included."""
    X, y = data(case, dtype)
    return (lambda: classifier(package, case, solver)), (lambda model: model.fit(X, y).loss_curve_)


def numpy_by_hand(case, solver, dtype):
    """What a careful user writes: everything preallocated and in place, one flat array of parameters, BLAS."""
    X, y = data(case, dtype)
    weights, biases, orders = start(case, dtype)
    shapes = [p.shape for p in weights + biases]
    ends = np.cumsum([p.size for p in weights + biases])
    logistic, eps = case.layers[-1] == 1, np.finfo(dtype).eps
    y = y.astype(dtype) if logistic else y

    parameters = np.empty(ends[-1], dtype)
    gradient, first, second = (np.empty_like(parameters) for _ in range(3))
    scratch = np.empty(CHUNK, dtype)
    chunks = [slice(i, min(i + CHUNK, ends[-1])) for i in range(0, ends[-1], CHUNK)]

    def split(flat):
        parts = [part.reshape(shape) for part, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True)]
        return parts[: len(weights)], parts[len(weights) :]

    (W, b), (dW, db) = split(parameters), split(gradient)
    ones, row_numbers = np.ones(case.batch, dtype), np.arange(case.batch)
    activations = [np.empty((case.batch, units), dtype) for units in case.layers]
    deltas = [np.empty((case.batch, units), dtype) for units in case.layers[1:-1]]
    masks = [np.empty(delta.shape, bool) for delta in deltas]

    def loss_and_gradient(rows):
        n, last = len(rows), len(W) - 1
        A = [a[:n] for a in activations]
        np.take(X, rows, axis=0, out=A[0], mode="clip")
        for i in range(len(W)):
            np.matmul(A[i], W[i], out=A[i + 1])
            A[i + 1] += b[i]
            if i < last:
                np.maximum(A[i + 1], 0, out=A[i + 1])
        delta, labels = A[-1], y[rows]
        if logistic:
            np.negative(delta, out=delta)
            np.exp(delta, out=delta)
            delta += 1
            np.reciprocal(delta, out=delta)
            of_label = np.abs(delta[:, 0] - (1 - labels))
            delta[:, 0] -= labels
        else:
            delta -= delta.max(axis=1, keepdims=True)
            np.exp(delta, out=delta)
            delta /= delta.sum(axis=1, keepdims=True)
            of_label = delta[row_numbers[:n], labels]
            delta[row_numbers[:n], labels] -= 1
        delta *= 1 / n
        for i in range(last, -1, -1):
            np.matmul(A[i].T, delta, out=dW[i])
            np.matmul(ones[:n], delta, out=db[i])
            if i:
                delta = np.matmul(delta, W[i].T, out=deltas[i - 1][:n])
                delta *= np.greater(A[i], 0, out=masks[i - 1][:n])
        return -np.log(np.maximum(of_label, eps)).sum(dtype=float)

    def adam(t):
        rate = case.learning_rate * (1 - BETA_2**t) ** 0.5 / (1 - BETA_1**t)
        for part in chunks:
            w, g, m, v = parameters[part], gradient[part], first[part], second[part]
            step = scratch[: len(w)]
            m *= BETA_1
            m += np.multiply(g, 1 - BETA_1, out=step)
            v *= BETA_2
            g *= g
            v += np.multiply(g, 1 - BETA_2, out=step)
            np.sqrt(v, out=step)
            step += EPSILON
            np.divide(m, step, out=step)
            step *= rate
            w -= step

    def sgd(t):
        for part in chunks:
            w, g, v = parameters[part], gradient[part], first[part]
            g *= case.learning_rate
            v *= MOMENTUM
            v -= g
            g -= np.multiply(v, MOMENTUM, out=scratch[: len(w)])
            w -= g

    update = {"adam": adam, "sgd": sgd}[solver]

    def fresh():
        np.concatenate([p.ravel() for p in weights + biases], out=parameters)
        first.fill(0)
        second.fill(0)

    def train(_):
        losses, t = [], 0
        for order in orders:
            total = 0.0
            for i in range(0, case.rows, case.batch):
                total += loss_and_gradient(order[i : i + case.batch])
                t += 1
                update(t)
            losses.append(total / case.rows)
        return losses

    return fresh, train


def jax_scan(case, solver, dtype):
    """One compiled call an epoch: lax.scan over its batches."""
    import jax
    import jax.numpy as jnp

    X, y = data(case, dtype)
    logistic = case.layers[-1] == 1
    Y = y[:, None].astype(dtype) if logistic else np.eye(case.layers[-1], dtype=dtype)[y]
    weights, biases, orders = start(case, dtype)
    X, Y, orders = jnp.asarray(X), jnp.asarray(Y), [jnp.asarray(order) for order in orders]

    def loss_of(parameters, x, targets):
        *hidden, (W, b) = parameters
        for V, c in hidden:
            x = jax.nn.relu(x @ V + c)
        z = x @ W + b
        log_sum = jax.nn.softplus(z) if logistic else jax.nn.logsumexp(z, axis=1, keepdims=True)
        return (log_sum.sum() - (targets * z).sum()) / len(z)

    def adam(t, w, g, m, v):
        m, v = BETA_1 * m + (1 - BETA_1) * g, BETA_2 * v + (1 - BETA_2) * g * g
        rest_1, rest_2 = (-jnp.expm1(t * np.log(beta).item()) for beta in (BETA_1, BETA_2))  # 1 - beta**t, exact early
        return w - case.learning_rate * jnp.sqrt(rest_2) / rest_1 * m / (jnp.sqrt(v) + EPSILON), m, v

    def sgd(t, w, g, v):
        v = MOMENTUM * v - case.learning_rate * g
        return w + MOMENTUM * v - case.learning_rate * g, v

    rule, moments = {"adam": (adam, 2), "sgd": (sgd, 1)}[solver]

    def step(take, state, batch):
        t, parameters, *rest = state
        x, targets = take(batch)
        loss, gradients = jax.value_and_grad(loss_of)(parameters, x, targets)
        moved = jax.tree.map(functools.partial(rule, t + 1), parameters, gradients, *rest)
        trees = jax.tree.transpose(jax.tree.structure(parameters), jax.tree.structure((0,) * (1 + moments)), moved)
        return (t + 1, *trees), loss * len(x)

    @functools.partial(jax.jit, donate_argnums=2)
    def epoch(X, Y, state, order):
        if X.nbytes <= GATHER_FIRST:
            inputs, take = (X[order], Y[order]), lambda batch: batch
        else:
            inputs, take = order, lambda rows: (X[rows], Y[rows])
        whole = case.rows // case.batch * case.batch
        batches = jax.tree.map(lambda a: a[:whole].reshape(-1, case.batch, *a.shape[1:]), inputs)
        state, losses = jax.lax.scan(functools.partial(step, take), state, batches)
        total = losses.sum()
        if whole < case.rows:
            state, loss = step(take, state, jax.tree.map(lambda a: a[whole:], inputs))
            total += loss
        return state, total / case.rows

    def fresh():
        parameters = [(jnp.array(W), jnp.array(b)) for W, b in zip(weights, biases, strict=True)]
        zeros = [jax.tree.map(jnp.zeros_like, parameters) for _ in range(moments)]
        return jax.block_until_ready((jnp.zeros((), dtype), parameters, *zeros))

    def train(state):
        losses = []
        for order in orders:
            state, loss = epoch(X, Y, state, order)
            losses.append(loss)
        jax.block_until_ready(state)
        return [float(loss) for loss in losses]

    return fresh, train


def torch_loop(compiled, case, solver, dtype):
    """The usual loop, with the optimizers that take their step in one fused kernel; compiled: model and loss too."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    X, y = data(case, dtype)
    weights, biases, orders = start(case, dtype)
    logistic = case.layers[-1] == 1
    X, y, orders = torch.from_numpy(X), torch.from_numpy(y), [torch.from_numpy(order) for order in orders]
    y = y.to(X.dtype).unsqueeze(1) if logistic else y
    criterion = binary_cross_entropy_with_logits if logistic else cross_entropy

    layers = []
    for n, m in pairwise(case.layers):
        layers += [torch.nn.Linear(n, m, dtype=X.dtype), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])

    def loss_of(x, targets):
        return criterion(model(x), targets)

    if compiled:
        torch._dynamo.reset()
        loss_of = torch.compile(loss_of, fullgraph=True, dynamic=False)

    def fresh():
        with torch.no_grad():
            for layer, W, b in zip(layers[::2], weights, biases, strict=True):
                layer.weight.copy_(torch.from_numpy(W.T))
                layer.bias.copy_(torch.from_numpy(b))
        if solver == "adam":
            return torch.optim.Adam(model.parameters(), case.learning_rate, (BETA_1, BETA_2), EPSILON, fused=True)
        return torch.optim.SGD(model.parameters(), case.learning_rate, MOMENTUM, nesterov=True, fused=True)

    def train(optimizer):
        losses, t = [], 0
        for order in orders:
            total = torch.zeros(())
            for rows in order.split(case.batch):
                optimizer.zero_grad(set_to_none=True)
                loss = loss_of(X[rows], y[rows])
                loss.backward()
                t += 1
                if solver == "adam":  # torch adds epsilon after the bias correction, scikit-learn before it
                    optimizer.param_groups[0]["eps"] = EPSILON / (1 - BETA_2**t) ** 0.5
                optimizer.step()
                total += loss.detach() * len(rows)
            losses.append(total / case.rows)
        return [float(loss) for loss in losses]

    return fresh, train


TRAINERS = {
    "fastmlp": functools.partial(of_package, "fastmlp"),
    "scikit-learn": functools.partial(of_package, "scikit-learn"),
    "NumPy": numpy_by_hand,
    "JAX": jax_scan,
    "torch": functools.partial(torch_loop, False),
    "torch compiled": functools.partial(torch_loop, True),
}


def predictor(name, case, dtype):
    """The probabilities of one and the same trained network, predicted with fastmlp, scikit-learn or ONNX Runtime."""
    rows, calls = PREDICTIONS[case]
    case = CASES[case]._replace(rows=max(rows, 1_000), epochs=1)
    X_train, y = data(case, dtype)
    X, trained = X_train[:rows], classifier("scikit-learn", case).fit(X_train, y)
    if name == "scikit-learn":
        predict_proba = trained.predict_proba
    elif name == "fastmlp":
        model = classifier("fastmlp", case).fit(X_train, y)
        model.coefs_, model.intercepts_ = trained.coefs_, trained.intercepts_
        predict_proba = model.predict_proba
    else:
        import onnxruntime
        from skl2onnx import to_onnx

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", 0))
        model = to_onnx(trained, X[:1], options={"zipmap": False}).SerializeToString()
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

        def predict_proba(X):
            return session.run(["probabilities"], {"X": X})[0]

    return (lambda: None), (lambda _: predict_proba(X)), calls


MODULES = {"fastmlp": "fastmlp.estimators", "scikit-learn": "sklearn.neural_network", "NumPy": "numpy", "JAX": "jax"}


def task(name, case, solver, dtype=None):
    """Return what `timed` takes of a peer for a case; "predict" stands for prediction, "job" for one of jobs.py."""
    if solver == "job":
        run = prepare(case, name)
        return (lambda: None), (lambda _: run()), JOB_CALLS
    if solver == "predict":
        return predictor(name, case, dtype)
    return TRAINERS[name](CASES[case], solver, dtype)


def timed(fresh, train, calls=1, condition="quiet"):
    """Return the seconds that calls of `train` take, each under this condition, and the numbers of the last."""
    seconds, before = 0.0, CONDITIONS[condition].before
    for _ in range(calls):
        model = fresh()
        before()
        begin = time.perf_counter()
        numbers = train(model)
        seconds += time.perf_counter() - begin
    return seconds, np.ravel(numbers)[:NUMBERS].tolist()


def first_fit(name, case, dtype):
    """Return the seconds that importing a package and its first training, of one epoch, take in this process."""
    begin = time.perf_counter()
    importlib.import_module(MODULES.get(name, "torch"))
    imported = time.perf_counter() - begin
    return imported, timed(*TRAINERS[name](CASES[case]._replace(epochs=1), "adam", dtype))[0]


def work(name):
    """Answer commands until the input ends."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    functions = None
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        try:
            if command == "open":  # -> seconds of the first run, compilation included; numbers to compare
                functions = None
                functions = task(name, *arguments)
                answer = timed(*functions)
            elif command == "run":  # -> seconds
                answer = timed(*functions, condition=arguments[0])[0]
            elif command == "peak":  # -> multiplications and additions a second
                from peak import peak

                answer = peak(*arguments)
            elif command == "round trip":  # -> seconds
                from peak import round_trip

                answer = round_trip()
            elif command == "first fit":  # -> seconds of the import, seconds of the fit
                answer = first_fit(name, *arguments)
            else:
                raise ValueError(f"no command {command!r}")
        except Exception as error:  # whatever a peer cannot do here is told, and skipped
            reason = str(error).strip().splitlines() or [""]
            answer = {"error": f"{type(error).__name__}: {reason[0]}"}
        print(json.dumps(answer, default=float), file=replies, flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    work(sys.argv[1])
