"""What `.ci/arm` runs: fits and predictions beside scikit-learn's, threads, and the instructions of the inner loop.

Exit status 1 if something is not as it should be.
"""

import re
import sys
import time
import warnings

import numba
import numpy as np
from sklearn import neural_network
from sklearn.datasets import load_diabetes, load_digits
from sklearn.exceptions import ConvergenceWarning

import fastmlp
from fastmlp.compiled import dense, tile

TOLERANCES = {np.float64: 1e-8, np.float32: 1e-3}  # of loss curves, relative
failed = []


def check(name, passed, text):
    print(f"{'ok' if passed else 'FAILED'}: {name}: {text}", flush=True)
    if not passed:
        failed.append(name)


def data(name, dtype):
    """Rows and targets of one of scikit-learn's datasets, small numbers all."""
    X, y = (load_digits if name == "MLPClassifier" else load_diabetes)(return_X_y=True)
    X, y = X[:400], y[:400]
    return (X / X.std()).astype(dtype), y if name == "MLPClassifier" else ((y - y.mean()) / y.std()).astype(dtype)


def fits(name, dtype):
    """The loss curve is scikit-learn's."""
    X, y = data(name, dtype)
    parameters = {"hidden_layer_sizes": (100,), "max_iter": 5, "random_state": 0}
    curves, seconds = [], []
    for module in fastmlp, neural_network:
        start = time.perf_counter()
        curves.append(np.array(getattr(module, name)(**parameters).fit(X, y).loss_curve_))
        seconds.append(time.perf_counter() - start)
    difference = np.max(np.abs(curves[0] - curves[1]) / curves[1])
    text = f"loss curves differ by {difference:.1e}; {seconds[0]:.1f} s, scikit-learn {seconds[1]:.1f} s"
    check(f"{name}, {dtype.__name__}", difference <= TOLERANCES[dtype], text)


def predictions(name, dtype, hidden):
    """A row gets the same bits alone, among three and among all; they are scikit-learn's numbers."""
    X, y = data(name, dtype)
    parameters = {"hidden_layer_sizes": hidden, "max_iter": 1, "random_state": 0}
    model = getattr(fastmlp, name)(**parameters).fit(X, y)
    theirs = getattr(neural_network, name)(**parameters).fit(X, y)
    method = "predict_proba" if name == "MLPClassifier" else "predict"
    predict, expected = getattr(model, method), getattr(theirs, method)(X)
    whole = predict(X)
    pieces = {n: np.concatenate([predict(X[i : i + n]) for i in range(0, 30, n)]) for n in (1, 3)}
    same = [n for n, piece in pieces.items() if piece.tobytes() == whole[:30].tobytes()]
    difference = np.max(np.abs(whole - expected)) / np.max(np.abs(expected))
    text = f"same bits in pieces of {same} rows of [1, 3]; {difference:.1e} from scikit-learn's"
    check(f"{name}, {dtype.__name__}, {hidden}", len(same) == 2 and difference <= TOLERANCES[dtype], text)


def threads(dtype):
    """Two threads train to the bits of one."""
    X, y = data("MLPClassifier", dtype)
    found = []
    for count in 1, 2:
        numba.set_num_threads(count)
        model = fastmlp.MLPClassifier((600, 300), max_iter=1, random_state=0).fit(X, y)
        found.append(b"".join(array.tobytes() for array in model.coefs_ + model.intercepts_))
    check(f"threads, {dtype.__name__}", found[0] == found[1], "one and two")


@numba.njit
def state():
    """The control word before, in the middle and after; and what the clock shows."""
    first = tile.flush_denormals()
    within = tile.flush_denormals()
    tile.restore_denormals(first)
    last = tile.flush_denormals()
    tile.restore_denormals(first)
    return first, within, last, tile.ticks()


def processor_state():
    """Denormal numbers are flushed where they should be, and only there; the clock runs."""
    first, within, last, began = state()
    passed = within == first | tile._FLUSH and last == first and not first & tile._FLUSH
    check("control word", passed, f"{first:#x}, {within:#x}, {last:#x}")
    time.sleep(0.01)
    took = state()[3] - began
    check("clock", took > 0, f"{took} ticks in 10 ms")


def inner_loop(dtype):
    """The innermost loop of the forward pass has all its multiply-adds on full vectors and leaves sums in registers."""
    lanes = {np.float32: "4s", np.float64: "2d"}[dtype]
    dispatcher = dense._forward_wide._dispatcher
    codes = [code for types, code in dispatcher.inspect_asm().items() if dtype.__name__ in str(types)]
    loops = list(loops_of(codes[0].splitlines())) if codes else []
    loop = max(loops, key=lambda lines: sum("fmla" in line for line in lines) / len(lines), default=[])
    fused = sum(bool(re.search(rf"fmla(\.{lanes})?\s+v\d+(\.{lanes})?", line)) for line in loop)
    spilled = sum(bool(re.search(r"\b(ldr|str|ldp|stp|ldur|stur)\s+q.*\[sp", line)) for line in loop)
    text = f"{len(loop)} instructions, {fused} of them fmla of {lanes}, {spilled} vectors spilled"
    passed = fused >= tile.ROWS * tile.VECS and not spilled
    check(f"inner loop, {dtype.__name__}", passed, text if passed else "\n".join([text, *loop]))


def loops_of(lines):
    """Innermost loops: what lies between a label and a jump back to it, without another label."""
    start, body = None, []
    for line in lines:
        text = line.split("//")[0].strip()
        label = re.fullmatch(r"([.\w$]+):", text)
        if label:
            start, body = label[1], []
        elif text and not text.startswith("."):
            body.append(text)
            if start and re.match(r"(b\.\w+|cbn?z|tbn?z)\s", text) and text.split()[-1] == start:
                yield list(body)
                start = None


def main():
    warnings.simplefilter("ignore", ConvergenceWarning)
    check("multiply-adds", tile.FUSED and tile.VECTOR_BITS == 128, f"fused: {tile.FUSED}, {tile.VECTOR_BITS} bits")
    for name in "MLPClassifier", "MLPRegressor":
        for dtype in TOLERANCES:
            fits(name, dtype)
            for hidden in (100,), (600, 300):
                predictions(name, dtype, hidden)
    processor_state()
    for dtype in TOLERANCES:
        threads(dtype)
        inner_loop(dtype)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
