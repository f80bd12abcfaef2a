"""``python -m fastmlp``: train on real data beside scikit-learn; compare the numbers, then the time.

``--info`` prints what a bug report needs instead. A table of your own is the work of `_own_table.py`.
"""

import argparse
import math
import sys
import time
import warnings
from statistics import median

from fastmlp._machine import MODELS, PAUSE, busy_sentence, curve_difference, information, machine

DESCRIPTION = (
    "Without a TABLE: train on real data (digits, diabetes) with fastmlp and with scikit-learn, same parameters and"
    " seed. Print losses, scores and seconds of both; exit with 1 if the loss curves differ by more than rounding."
)
USAGE = """python -m fastmlp [-h] [--info] [--repeats N]
       python -m fastmlp TABLE --target COLUMN [options]"""
OF_TABLES = (
    "Fit MLP, scikit-learn's MLP with the same parameters, RealMLP and HistGradientBoosting to a table, print scores"
    " and seconds. Exit with 2, and a sentence, if that cannot be done."
)
TOLERANCE = 1e-8  # largest relative difference of two float64 loss curves that passes as rounding
EPOCHS = 50  # short on purpose: neither side is meant to converge


def timed_fit(model, X, y):
    """Fit, and return the seconds that took. That a short run stops before convergence is not worth a warning."""
    from sklearn.exceptions import ConvergenceWarning

    time.sleep(PAUSE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        start = time.perf_counter()
        model.fit(X, y)
        return time.perf_counter() - start


def standardised(load, regression):
    """Return X_train, X_test, y_train, y_test of one of scikit-learn's datasets, standardised by the training rows."""
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    X, y = load(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=None if regression else y, random_state=0)
    scaler = StandardScaler().fit(X_train)
    if regression:
        mean, std = y_train.mean(), y_train.std()
        y_train, y_test = (y_train - mean) / std, (y_test - mean) / std
    return scaler.transform(X_train), scaler.transform(X_test), y_train, y_test


def compare(name, our_class, their_class, data, repeats):
    """Train both sides on the same data, print what came out, and return whether the loss curves agree."""
    X_train, X_test, y_train, y_test = data
    parameters = {"hidden_layer_sizes": (100,), "max_iter": EPOCHS, "random_state": 0}
    ours, theirs = our_class(**parameters), their_class(**parameters)

    print(f"\n{name}: first fits, of which the first ever made here compiles kernels ...", flush=True)
    first = timed_fit(ours, X_train, y_train), timed_fit(theirs, X_train, y_train)
    print(f"{name}: {repeats} more of each, in turns ...", flush=True)
    rounds = [(timed_fit(ours, X_train, y_train), timed_fit(theirs, X_train, y_train)) for _ in range(repeats)]
    later = [median(seconds) for seconds in zip(*rounds, strict=True)]
    ratios = [b / a for a, b in rounds]
    difference = curve_difference(ours, theirs)

    print(f"{name}: {their_class.__name__}, {len(X_train)} rows, {X_train.shape[1]} features, {X_train.dtype}")
    print(f"{'':24}{'fastmlp':>18}{'scikit-learn':>18}")
    print(f"{'epochs':24}{ours.n_iter_:18d}{theirs.n_iter_:18d}")
    print(f"{'final loss':24}{ours.loss_:18.12f}{theirs.loss_:18.12f}")
    print(f"{'score on test rows':24}{ours.score(X_test, y_test):18.4f}{theirs.score(X_test, y_test):18.4f}")
    print(f"{'first fit, seconds':24}{first[0]:18.4f}{first[1]:18.4f}   (with compiling or loading kernels)")
    print(f"{'a later fit, seconds':24}{later[0]:18.4f}{later[1]:18.4f}   (median of {repeats})")
    print(f"speed-up of a later fit: {median(ratios):.1f} times ({min(ratios):.1f} to {max(ratios):.1f})")
    agree = difference <= TOLERANCE
    verdict = "" if agree else f": MORE THAN {TOLERANCE:.0e}, the two did not compute the same"
    print(f"largest relative difference of the loss curves: {difference:.1e}{verdict}")
    return agree


def fraction(text):
    """A number between 0 and 1."""
    number = float(text)
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"must be between 0 and 1, got {text}")
    return number


def positive(text):
    """A number above 0."""
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return number


def seed(text):
    """What NumPy takes as a seed."""
    number = int(text)
    if not 0 <= number < 2**32:
        raise argparse.ArgumentTypeError(f"must be from 0 to 2**32 - 1, got {text}")
    return number


def make_parser():
    """Return the parser, and the names of what is said of a table."""
    parser = argparse.ArgumentParser(prog="python -m fastmlp", usage=USAGE, description=DESCRIPTION)
    parser.add_argument(
        "--info", action="store_true", help="print versions, processor, threads and cache, for bug reports, and stop"
    )
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="timed fits of each side (default: 5)")
    group = parser.add_argument_group("a table of your own", OF_TABLES)
    group.add_argument("table", nargs="?", metavar="TABLE", help="text (.csv, .tsv, .csv.gz) or .parquet")
    options = [
        group.add_argument("--target", metavar="COLUMN", help="what is to be predicted"),
        group.add_argument(
            "--task", choices=["classification", "regression"], help="else guessed by what the target holds"
        ),
        group.add_argument(
            "--drop", action="append", default=[], metavar="COLUMN", help="leave it out; as often as you like"
        ),
        group.add_argument(
            "--keep", action="append", default=[], metavar="COLUMN", help="do not leave it out; as often as you like"
        ),
        group.add_argument(
            "--test-size",
            type=fraction,
            default=0.25,
            metavar="PART",
            help="part of the rows to test with (default: 0.25)",
        ),
        group.add_argument("--random-state", type=seed, default=0, metavar="SEED", help="(default: 0)"),
        group.add_argument(
            "--max-time",
            type=positive,
            metavar="SECONDS",
            help="for the fit of MLP, and that of RealMLP; scikit-learn's have no such limit",
        ),
        group.add_argument("--encoding", default="utf-8", help="of text (default: utf-8)"),
        group.add_argument("--plot", metavar="FILE", help="draw the loss of each epoch: .png, .svg, .pdf"),
        group.add_argument(
            "--model", choices=MODELS, help="what is saved and predicts (default: the best on test rows)"
        ),
        group.add_argument(
            "--save", metavar="FILE", help="fit the model on all rows and save it: .joblib, .skops or .onnx"
        ),
        group.add_argument(
            "--predict", metavar="TABLE", help="fit the model on all rows and predict the target of these"
        ),
        group.add_argument("--output", metavar="FILE", help="where predictions go, as text (default: printed)"),
    ]
    return parser, [option.dest for option in options]


def main(argv=None):
    """Run both comparisons; return 0 if all loss curves agree, else 1. Or print what a bug report needs.

    With a table, return what `_own_table` does.
    """
    parser, of_tables = make_parser()
    args = parser.parse_args(argv)
    if args.repeats < 1:
        parser.error("--repeats must be at least 1")
    given = [name for name in of_tables if getattr(args, name) != parser.get_default(name)]
    if args.table is None and given:
        parser.error(f"--{given[0].replace('_', '-')} needs a TABLE")
    if args.info:
        for name, value in information().items():
            print(f"{name}: {value}")
        return 0
    if args.table is not None:
        if args.target is None:
            parser.error("a TABLE needs --target COLUMN")
        if args.repeats != parser.get_default("repeats"):
            parser.error("--repeats is not for a TABLE")
        try:
            from fastmlp import _own_table
        except ModuleNotFoundError as error:
            print(f"python -m fastmlp: a table needs {error.name}: pip install {error.name}", file=sys.stderr)
            return 2
        return _own_table.main(args)

    print("importing scikit-learn and fastmlp ...", flush=True)
    from sklearn import neural_network
    from sklearn.datasets import load_diabetes, load_digits

    import fastmlp

    digits, diabetes = standardised(load_digits, regression=False), standardised(load_diabetes, regression=True)
    print(machine(), flush=True)
    if sentence := busy_sentence():
        print(sentence)
    agree = [
        compare("digits", fastmlp.MLPClassifier, neural_network.MLPClassifier, digits, args.repeats),
        compare("diabetes", fastmlp.MLPRegressor, neural_network.MLPRegressor, diabetes, args.repeats),
    ]
    return 0 if all(agree) else 1


if __name__ == "__main__":
    sys.exit(main())
