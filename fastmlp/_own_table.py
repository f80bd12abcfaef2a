"""``python -m fastmlp table.csv --target price``: models learn a table of your own, and what is done to it is said.

Imported only when there is a table. What a file holds is data: nothing of it is run, unpickled or fetched.
"""

import codecs
import copy
import csv
import gzip
import importlib.util
import math
import pathlib
import re
import reprlib
import sys
import time
import warnings
import zlib
from difflib import get_close_matches
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn import neural_network
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import accuracy_score, log_loss, r2_score, roc_auc_score, root_mean_squared_error
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import fastmlp
from fastmlp import preprocessing
from fastmlp._machine import MODELS, PAUSE, busy_sentence, curve_difference, machine

# What may be saved and used: the second is there to be compared with, and is the first in other clothes.
CANDIDATES = "MLP", "RealMLP", "HistGradientBoosting"
FEWEST_ROWS = 20
FEWEST_OF_A_CLASS = 5  # so that each class is among the training rows and among the test rows
MOST_CLASSES = 20  # of whole numbers that count as classes
MOST_CATEGORIES = 254  # that are one-hot for the MLPs, and categories for HistGradientBoosting
MEMORY_PER_BYTE = 4  # what a table and its copies take, for each byte of text
SAMPLE = 2**17  # bytes that show how a file is written: not more than the csv module takes in a cell
# name of a file: package that writes it
SAVED_BY = {".joblib": "joblib", ".skops": "skops", ".onnx": "skl2onnx"}
ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?)?(Z|[+-]\d\d:?\d\d)?")
# What pandas finds in a column, and what it is to a model. All else is left out.
KINDS = {
    **dict.fromkeys(["floating", "integer", "mixed-integer-float"], "number"),
    **dict.fromkeys(["string", "boolean", "categorical"], "category"),
    **dict.fromkeys(["datetime64", "datetime", "date"], "date"),
}  # fmt: skip


class Refused(Exception):
    """A sentence that says why this table, or this wish, leads nowhere."""


# ---- names from files ---------------------------------------------------------------------------------------------

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 60


def shown(name):
    """A name as it can be printed: quoted, not too long, and without what a terminal would obey."""
    return _repr.repr(name if isinstance(name, str) else str(name))


def listed(names, most=8):
    """Some names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(shown, names[:most])) + more


def counted(n, noun):
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def no_such_columns(names, columns, path):
    near = {near for name in names for near in get_close_matches(name, columns)}
    near |= {column for column in columns for name in names if column.lower().strip() == name.lower().strip()}
    hint = f"; did you mean {listed(sorted(near))}?" if near else f"; it has {listed(columns)}."
    return Refused(f"{shown(path)} has no column {listed(names)}{hint}")


# ---- reading ------------------------------------------------------------------------------------------------------


def read(path, encoding, say, dtype=None):
    """The table in a file, whatever its name, with columns of these types if it is text; says how it is read."""
    file = pathlib.Path(path)
    if not file.exists():
        raise Refused(f"There is no file {shown(path)}.")
    if not file.is_file():
        raise Refused(f"{shown(path)} is not a file.")
    with open(file, "rb") as stream:
        start = stream.read(4)
    if not start:
        raise Refused(f"{shown(path)} is empty.")
    if start == b"PK\x03\x04" or start == b"\xd0\xcf\x11\xe0":
        raise Refused(f"{shown(path)} is a workbook or an archive: save its table as .csv or .parquet.")
    try:
        if start == b"PAR1" or file.suffix.lower() in (".parquet", ".pq"):
            table = read_parquet(file, say)
        else:
            table = read_text(file, gzip.open if start[:2] == b"\x1f\x8b" else open, encoding, dtype, say)
    except UnicodeError as error:
        reason = getattr(error, "reason", error)
        raise Refused(
            f"{shown(path)} is not text in {encoding} ({reason}): say what it is, as by --encoding latin-1 or utf-16."
        ) from error
    except (EOFError, zlib.error, csv.Error, OSError, ValueError, NotImplementedError, KeyError) as error:
        raise Refused(f"{shown(path)} cannot be read: {one_line(error)}") from error
    twice = table.columns[table.columns.duplicated()].unique()
    if len(twice):
        raise Refused(f"{shown(path)} has more than one column named {listed(twice)}.")
    if not isinstance(table.index, pd.RangeIndex):
        raise Refused(f"{shown(path)} has rows of more cells than there are names in its first line.")
    if len(table) == 0:
        raise Refused(f"{shown(path)} has names of columns, but no rows.")
    return table


def one_line(error):
    """What an error says, without ends of lines, nor what a terminal would obey."""
    text = " ".join(str(error).split()) or type(error).__name__
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:500])


def check_size(path, size):
    if size * MEMORY_PER_BYTE > preprocessing.memory():
        raise Refused(
            f"{shown(path)} holds {size / 1e9:,.1f} GB or more; with {preprocessing.memory() / 1e9:,.1f} GB of memory"
            f" a table may hold {preprocessing.memory() / MEMORY_PER_BYTE / 1e9:,.1f}: take a part of the rows."
        )


def read_parquet(file, say):
    if importlib.util.find_spec("pyarrow") is None:
        raise Refused("A parquet file needs pyarrow: pip install pyarrow")
    from pyarrow.parquet import ParquetFile

    with ParquetFile(file) as opened:
        parts = opened.metadata
        size = sum(parts.row_group(i).total_byte_size for i in range(parts.num_row_groups))
        check_size(file, max(size, 8 * parts.num_rows * parts.num_columns))
        table = opened.read().to_pandas(ignore_metadata=True)
    table.columns = table.columns.astype(str)
    say(f"{shown(str(file))}: {size_of(table)}, read by pandas.read_parquet.")
    return table


def read_text(file, opened, encoding, dtype, say):
    """A table that is written in lines, compressed or not, its cells between commas, semicolons, tabs or bars."""
    size = file.stat().st_size
    check_size(file, size)
    with opened(file, "rb") as stream:
        if opened is gzip.open:  # it may become a thousand times as large
            size = 0
            while chunk := stream.read(2**20):
                size += len(chunk)
                check_size(file, size)
            stream.seek(0)
        sample = codecs.getincrementaldecoder(encoding)().decode(stream.read(SAMPLE)).removeprefix("\ufeff")
        stream.seek(0)
        options = {"sep": separator(file, sample), "na_values": "?", "skipinitialspace": True}
        if options["sep"] != "," and has_decimal_commas(sample, options["sep"]):
            options["decimal"] = ","
        if encoding != "utf-8":
            options["encoding"] = encoding
        table = pd.read_csv(stream, **options, dtype=dtype, low_memory=False)
    arguments = "".join(f", {name}={value!r}" for name, value in options.items())
    say(f"{shown(str(file))}: {size_of(table)}, read by pandas.read_csv(...{arguments}).")
    return table


def rows_of(sample, sep):
    """Cells of the lines of a sample that are not empty; the last may be cut off."""
    return [
        row for row in csv.reader(sample.replace("\0", "").splitlines(), delimiter=sep, skipinitialspace=True) if row
    ]


def separator(file, sample):
    """What makes most cells of the first line, in which names are different."""
    names = {sep: next(iter(rows_of(sample, sep)), []) for sep in ",;\t|"}
    sep = max(names, key=lambda sep: len(names[sep]))
    if len(names[sep]) < 2:
        line = (sample.strip().splitlines() or [""])[0]
        raise Refused(
            f"{shown(str(file))} is no table: in its first line, {shown(line)}, no comma, semicolon, tab or bar stands"
            " between names of columns."
        )
    seen = [name for name in names[sep] if name]
    twice = sorted({name for name in seen if seen.count(name) > 1})
    if twice:
        raise Refused(f"{shown(str(file))} has more than one column named {listed(twice)}.")
    return sep


def has_decimal_commas(sample, sep):
    """Whether there are numbers like 1,5, and none like 1.5."""
    cells = [cell.strip() for row in rows_of(sample, sep)[1:] for cell in row]
    commas, points = (any(re.fullmatch(rf"[+-]?\d+{mark}\d+", cell) for cell in cells) for mark in (",", r"\."))
    return commas and not points


def size_of(table):
    return f"{counted(len(table), 'row')}, {counted(table.shape[1], 'column')}"


# ---- target -------------------------------------------------------------------------------------------------------


def kind_of(column):
    """ "number", "category" or "date"; or what pandas calls it, if no model can learn from it."""
    found = pd.api.types.infer_dtype(column, skipna=True)
    if found == "string":
        texts = column.dropna()
        if all(ISO_DATE.fullmatch(text) for text in texts) and times_of(texts).notna().all():
            return "date"
    if KINDS.get(found) == "number" and column.dtype == object:  # integers of more than 64 bits
        return "very large integer"
    return KINDS.get(found, found)


def target(table, args, say):
    """The rows that have a target, their targets, and whether this is a regression."""
    name, y = args.target, table[args.target]
    missing = int(y.isna().sum())
    if missing == len(y):
        raise Refused(f"All values of {shown(name)} are missing.")
    if missing:
        say(f"{counted(missing, 'row')} without {shown(name)} left out.")
        table, y = table[y.notna()], y[y.notna()]
    kind = kind_of(y)
    if kind not in ("number", "category"):
        raise Refused(f"{shown(name)} holds {kind}s: a target must be numbers, text or true and false.")
    values = y.nunique()
    if values == 1:
        raise Refused(f"{shown(name)} is {shown(y.iloc[0])} in all rows: there is nothing to learn.")
    whole = kind == "number" and (np.abs(y.astype(float)) < 2**63).all() and (y.astype(float) % 1 == 0).all()  # int64
    if args.task is None:
        regression = kind == "number" and not (whole and values <= min(MOST_CLASSES, len(y) / 5))
        what = {True: "whole numbers", False: "numbers"}[bool(whole)] if kind == "number" else "values"
        why = f"{shown(name)} holds {values:,} different {what} in {counted(len(y), 'row')}"
        other = "classification" if regression else "regression"
        hint = f"; --task {other} would override this" if kind == "number" else ""
        say(f"This is {'regression' if regression else 'classification'}: {why}{hint}.")
    else:
        regression = args.task == "regression"
        if regression and kind != "number":
            raise Refused(f"{shown(name)} holds text, such as {shown(y.iloc[0])}: --task regression needs numbers.")
    if regression:
        y = y.to_numpy(float)
        if not np.isfinite(y).all():
            raise Refused(f"{shown(name)} holds infinite numbers.")
    elif whole:
        y = y.to_numpy("int64")
    else:
        y = y.infer_objects()
        y = y.to_numpy() if pd.api.types.is_bool_dtype(y) else y.astype(str).to_numpy(object)
    if not regression:
        table, y = without_rare_classes(table, y, name, say)
    if len(y) < FEWEST_ROWS:
        raise Refused(f"{counted(len(y), 'row')} are too few: {FEWEST_ROWS} are needed.")
    return table, y, regression


def without_rare_classes(table, y, name, say):
    classes, counts = np.unique(y, return_counts=True)
    rare = counts < FEWEST_OF_A_CLASS
    if rare.any():
        if (~rare).sum() < 2:
            raise Refused(
                f"{shown(name)} has {len(classes):,} different values, such as {shown(classes[0])}, and fewer than two"
                f" of them in {FEWEST_OF_A_CLASS} rows: too few for classification."
            )
        some = np.isin(y, classes[rare])
        say(
            f"{counted(int(some.sum()), 'row')} of {counted(int(rare.sum()), 'class')} with fewer than"
            f" {FEWEST_OF_A_CLASS} rows left out: {listed(classes[rare])}."
        )
        table, y = table[~some], y[~some]
    return table, y


# ---- columns ------------------------------------------------------------------------------------------------------


class Columns(NamedTuple):
    """The columns that models learn from, by what they hold."""

    numbers: list
    categories: list
    dates: list
    # of the categories, those that are many
    many: list

    @property
    def all(self):
        return self.numbers + self.categories + self.dates


def columns_of(table, args, say):
    """Which columns models learn from; says what is left out, and why."""
    found, left_out = {"number": [], "category": [], "date": []}, {}
    for name, column in table.drop(columns=args.target).items():
        kind = kind_of(column)
        reason = None if name in args.keep and kind in found else why_left_out(name, column, kind)
        if name in args.drop:
            reason = "as you say"
        if reason is None:
            found[kind].append(name)
        else:
            left_out.setdefault(reason, []).append(name)
    for reason, names in left_out.items():
        say(f"Left out, {reason}: {listed(names)}.")
    numbers, categories, dates = found.values()
    many = [name for name in categories if table[name].nunique() > MOST_CATEGORIES]
    columns = Columns(numbers, categories, dates, many)
    if not columns.all:
        raise Refused(f"No column is left to learn {shown(args.target)} from.")
    infinite = [name for name in numbers if np.isinf(table[name].to_numpy(float, na_value=np.nan)).any()]
    if infinite:
        raise Refused(f"There are infinite numbers in {listed(infinite)}: empty these cells, or --drop the column.")
    if dates:
        say(f"Dates become days since 1970, month and day of the week: {listed(dates)}.")
    if many:
        say(f"More than {MOST_CATEGORIES} categories, which are but numbered for MLP and boosting: {listed(many)}.")
    holes = sum(table[name].isna().any() for name in columns.all)
    say(
        f"Learnt from: {counted(len(numbers), 'column')} of numbers, {len(categories)} of categories, {len(dates)} of"
        f" dates; {holes or 'none'} of them with missing values."
    )
    return columns


def why_left_out(name, column, kind):
    """The reason, or None."""
    there = column.dropna()
    if len(there) == 0:
        return "as all values are missing"
    if kind not in KINDS.values():
        return f"as no model here takes {kind} values"
    values = there.nunique()
    if values == 1 and len(there) == len(column):
        return "the same in all rows"
    if kind == "category" and values > max(2, len(there) / 2):
        return "text that differs in most rows"
    if kind == "number" and len(column) == values and is_number_of_row(name, there):
        return "numbers of the rows"
    return None


def is_number_of_row(name, column):
    """Whether a column of integers that are all different counts, or is named like a key."""
    if not pd.api.types.is_integer_dtype(column):
        return False
    return column.max() - column.min() == len(column) - 1 or bool(re.search(r"(^|[_ ])[iI][dD]$|[a-z]I[dD]$", name))


def times_of(column):
    """Dates, with or without times of day, in UTC; missing where there is no such date."""
    return pd.to_datetime(column, format="ISO8601", errors="coerce", utc=True)


def numbers_of_dates(table):
    """Days since 1970, month, and day of the week from Monday = 0, of each column of dates."""
    numbers = {}
    for name, column in table.items():
        times = times_of(column)
        seconds = times.dt.tz_localize(None).to_numpy("datetime64[s]") - np.datetime64(0, "s")
        numbers[f"{name}: days"] = seconds / np.timedelta64(1, "D")
        numbers[f"{name}: month"] = times.dt.month
        numbers[f"{name}: weekday"] = times.dt.day_of_week
    return pd.DataFrame(numbers, index=table.index, dtype=float)


# ---- models -------------------------------------------------------------------------------------------------------


def make(name, columns, regression, args, **parameters):
    """A model that takes the table as it was read, with its preprocessing."""
    parameters = {"random_state": args.random_state} | parameters
    dates = [("dates", FunctionTransformer(numbers_of_dates), columns.dates)] * bool(columns.dates)
    if name == "HistGradientBoosting":
        encoders = [
            ("categories", fastmlp.TableEncoder(max_one_hot=0), columns.categories),
            ("numbers", fastmlp.TableEncoder(categorical_features=None), columns.numbers),
        ]
        parts = [part for part in encoders if part[2]] + dates
        few = [i for i, category in enumerate(columns.categories) if category not in columns.many]
        of_task = HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier
        return Pipeline(
            [
                ("columns", ColumnTransformer(parts)),
                ("model", of_task(categorical_features=few or None, **parameters)),
            ]
        )
    parts = [("columns", "passthrough", columns.numbers + columns.categories), *dates]
    chosen = ColumnTransformer(parts, verbose_feature_names_out=False).set_output(transform="pandas")
    if args.max_time is not None and name != "sklearn-MLP":
        parameters["max_time"] = args.max_time
    if name == "RealMLP":
        of_task = fastmlp.RealMLPRegressor if regression else fastmlp.RealMLPClassifier
        return Pipeline([("columns", chosen), ("model", of_task(**parameters))])
    library = fastmlp if name == "MLP" else neural_network
    of_task = library.MLPRegressor if regression else library.MLPClassifier
    model = Pipeline(
        [
            ("columns", chosen),
            ("encode", fastmlp.TableEncoder(max_one_hot=MOST_CATEGORIES)),
            ("scale", fastmlp.RobustScaleSmoothClip(impute=True)),
            ("model", of_task(**parameters)),
        ]
    )
    return TransformedTargetRegressor(model, transformer=StandardScaler()) if regression else model


def last_step(model):
    """The estimator itself, of a fitted model."""
    return getattr(model, "regressor_", model)[-1]


class Fitted(NamedTuple):
    """A model, the seconds its fit took, and what it warned of."""

    model: object
    seconds: float
    warned: set


def fit(model, X, y):
    time.sleep(PAUSE)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start = time.perf_counter()
        model.fit(X, y)
        seconds = time.perf_counter() - start
    warned = {one_line(warning.message) for warning in caught}
    if any("interrupted by user" in message for message in warned):
        raise KeyboardInterrupt
    return Fitted(model, seconds, warned)


def scores(model, X, y, regression):
    """Names and values of scores; the first says which model is the best."""
    if regression:
        predicted = model.predict(X)
        return {"R2": r2_score(y, predicted), "RMSE": root_mean_squared_error(y, predicted)}
    probabilities, classes = model.predict_proba(X), model.classes_
    if len(classes) == 2:
        auc = roc_auc_score(y == classes[1], probabilities[:, 1])
    elif len(np.unique(y)) == len(classes):
        auc = roc_auc_score(y, probabilities, multi_class="ovr", labels=classes)
    else:
        auc = math.nan
    return {
        "accuracy": accuracy_score(y, model.predict(X)),
        "ROC AUC": auc,
        "log-loss": log_loss(y, probabilities, labels=classes),
    }


def fit_all(columns, regression, args, data, say):
    """Each of the models, fitted, or why it could not be; kernels are compiled before."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    X, X_test, y, y_test = data
    fitted, failed, compiling = {}, {}, 0.0
    console = Console(stderr=True)
    console.quiet = not console.is_terminal
    parts = SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()
    # few refreshes, as they take time of the fits
    with Progress(*parts, console=console, transient=True, refresh_per_second=4, disable=console.quiet) as bar:
        step = bar.add_task("", total=len(MODELS))
        for name in MODELS:
            try:
                bar.update(step, description=f"{name}: an epoch that is not timed")
                first = fit(make(name, columns, regression, args, max_iter=1), X, y)
                compiling += first.seconds if name in ("MLP", "RealMLP") else 0
                bar.update(step, description=f"{name}: fit")
                fitted[name] = fit(make(name, columns, regression, args), X, y)
            except (ValueError, ArithmeticError, MemoryError) as error:
                failed[name] = one_line(error)
            bar.advance(step)
    if not fitted:
        raise Refused(f"No model could be fitted: {next(iter(failed.values()))}")
    say(f"First, an epoch of MLP and RealMLP that is not timed, which compiles or loads kernels: {compiling:.1f} s.")
    return fitted, failed


# ---- what comes out -------------------------------------------------------------------------------------------------


def report(fitted, failed, results, args, say):
    """Print the table of scores, what is to be said of it, and of speed."""
    lines = {}
    for name, one in fitted.items():
        lines[name] = {
            score: f"{value:.4g}" if score == "RMSE" else f"{value:.4f}" for score, value in results[name].items()
        }
        lines[name] |= {"iterations": str(last_step(one.model).n_iter_), "fit, s": f"{one.seconds:.3f}"}
    say("\n" + pd.DataFrame.from_dict(lines, orient="index").replace("nan", "").to_string() + "\n")
    for name, reason in failed.items():
        say(f"{name} could not be fitted: {reason}")
    for message in sorted({message for one in fitted.values() for message in one.warned}):
        say(f"{', '.join(name for name, one in fitted.items() if message in one.warned)}: {message}")
    if {"MLP", "sklearn-MLP"} <= fitted.keys():
        ours, theirs = fitted["MLP"], fitted["sklearn-MLP"]
        difference = curve_difference(last_step(ours.model), last_step(theirs.model))
        if math.isinf(difference):
            say("MLP and sklearn-MLP did not train for the same number of epochs: their seconds say nothing of speed.")
        else:
            say(
                f"MLP was {theirs.seconds / ours.seconds:.1f} times as fast as sklearn-MLP with the same parameters and"
                f" seed (one fit each). Largest relative difference of their loss curves: {difference:.0e}."
            )


def draw(fitted, path):
    """Write a picture of the losses of each epoch."""
    import matplotlib

    matplotlib.use("agg")  # no screen
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(layout="constrained")
    for name, one in fitted.items():
        if hasattr(last_step(one.model), "loss_curve_"):
            # where both are the same, one is seen around the other
            line = {"linewidth": 5, "alpha": 0.4} if name == "sklearn-MLP" else {}
            fastmlp.LossCurveDisplay.from_estimator(
                last_step(one.model), ax=ax, name=name, log_scale=True, line_kw=line
            )
    figure.savefig(path)
    plt.close(figure)


def save(model, path, X, say):
    """Write a fitted model, with what is done to a table before; say what is to be known to use it."""
    use = "joblib.load(file)"
    match pathlib.Path(path).suffix.lower():
        case ".joblib":
            import joblib

            joblib.dump(model, path)
        case ".skops":
            import skops.io

            skops.io.dump(model, path)
            others = sorted({*skops.io.get_untrusted_types(file=path)} - {*fastmlp.SKOPS_TRUSTED})
            use = f"skops.io.load(file, trusted=fastmlp.SKOPS_TRUSTED{f' + {others}' if others else ''})"
        case ".onnx":
            onnx = as_onnx(model, X)
            pathlib.Path(path).write_bytes(onnx.SerializeToString())
            use = "inputs " + listed((one.name for one in onnx.graph.input), most=len(onnx.graph.input))
    say(f"Saved: {shown(path)}; {use}")


def as_onnx(model, X):
    """The model in ONNX, with an input for each column that it learns from; dates are numbers there."""
    import skl2onnx

    fastmlp.register_onnx()
    pipeline = getattr(model, "regressor_", model)
    inputs = pipeline[0].transform(X)
    # a row that shows types: of each column a value that is there
    row = pd.DataFrame({name: [column.dropna().iloc[0]] for name, column in inputs.items()})
    estimator = pipeline[-1]
    if pipeline is not model:  # the last layer takes over the scale of the target
        estimator, scale = copy.deepcopy(estimator), model.transformer_
        estimator.coefs_[-1] = estimator.coefs_[-1] * scale.scale_
        estimator.intercepts_[-1] = estimator.intercepts_[-1] * scale.scale_ + scale.mean_
    options = {"zipmap": False} if hasattr(estimator, "classes_") else {}
    return skl2onnx.to_onnx(
        Pipeline([*pipeline.steps[1:-1], ("model", estimator)]), row, options={id(estimator): options}
    )


# ---- the command ------------------------------------------------------------------------------------------------


def check_wishes(args):
    """Refuse what would only be found out after the fits, or after reading."""
    try:
        "".encode(args.encoding)
    except LookupError as error:
        raise Refused(f"--encoding {shown(args.encoding)} is not known to Python.") from error
    needed = {"rich": "A table"}
    if args.plot is not None:
        needed["matplotlib"] = "--plot"
    if args.save is not None:
        suffix = pathlib.Path(args.save).suffix.lower()
        if suffix not in SAVED_BY:
            raise Refused(f"--save {shown(args.save)}: its name must end in {', '.join(SAVED_BY)}.")
        if suffix == ".onnx" and args.model == "HistGradientBoosting":
            raise Refused("HistGradientBoosting is not saved as .onnx: take .skops or .joblib, or another --model.")
        needed[SAVED_BY[suffix]] = f"--save {shown(args.save)}"
    for package, wish in needed.items():
        if importlib.util.find_spec(package) is None:
            raise Refused(f"{wish} needs {package}: pip install {package}")
    if args.output is not None and args.predict is None:
        raise Refused("--output is for --predict.")
    for path in filter(None, [args.plot, args.save, args.output]):
        if not pathlib.Path(path).absolute().parent.is_dir():
            raise Refused(f"There is no folder for {shown(path)}.")
    if args.plot is not None:
        from matplotlib.figure import Figure

        known = Figure().canvas.get_supported_filetypes()
        if pathlib.Path(args.plot).suffix.lower().removeprefix(".") not in known:
            raise Refused(f"--plot {shown(args.plot)}: its name must end in .{', .'.join(sorted(known))}.")


def run(args):
    """Read, fit, print, and write what is asked for."""
    check_wishes(args)
    # predictions alone, where they are printed
    report_to = sys.stderr if args.predict is not None and args.output is None else sys.stdout

    def say(line):
        print(line, file=report_to, flush=True)

    table = read(args.table, args.encoding, say)
    wanted = [args.target, *args.drop, *args.keep]
    if missing := [name for name in dict.fromkeys(wanted) if name not in table]:
        raise no_such_columns(missing, table.columns, args.table)
    table, y, regression = target(table, args, say)
    columns = columns_of(table, args, say)
    X = table[columns.all]
    if args.predict is not None:
        # what was text stays text, though it may look like numbers there
        text = {name: str for name in columns.categories if is_text(X[name])}
        others = read(args.predict, args.encoding, say, dtype=text)
        if missing := [name for name in columns.all if name not in others]:
            raise no_such_columns(missing, others.columns, args.predict)

    try:
        data = train_test_split(
            X, y, test_size=args.test_size, random_state=args.random_state, stratify=None if regression else y
        )
    except ValueError as error:
        raise Refused(f"--test-size {args.test_size} does not go with this table: {one_line(error)}") from error
    if not regression and len(np.unique(data[2])) < len(np.unique(y)):
        raise Refused(f"--test-size {args.test_size} leaves classes without rows to learn from.")
    say(f"Split: {len(data[0]):,} rows to learn from, {counted(len(data[1]), 'row')} to test.")
    say(f"Machine: {machine()}.")
    if busy := busy_sentence():
        say(busy)
    fitted, failed = fit_all(columns, regression, args, data, say)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = {name: scores(one.model, data[1], data[3], regression) for name, one in fitted.items()}
    report(fitted, failed, results, args, say)
    if args.plot is not None:
        draw(fitted, args.plot)
        say(f"Losses drawn: {shown(args.plot)}.")
    if args.save is not None or args.predict is not None:
        name = args.model or best(results, args)
        if name not in fitted:
            raise Refused(f"There is no {name} to save or to predict with, see above.")
        how = "as you say" if args.model else f"the best by {next(iter(results[name]))}"
        model = fit(make(name, columns, regression, args), X, y).model
        say(f"{name}, {how}, refitted on all {len(X):,} rows.")
        if args.save is not None:
            save(model, args.save, X, say)
        if args.predict is not None:
            predictions = pd.DataFrame({args.target: model.predict(others)})
            try:
                predictions.to_csv(args.output or sys.stdout, index=False)
            except csv.Error as error:  # Python 3.10 writes no NUL
                raise Refused(f"The predictions cannot be written as CSV: {one_line(error)}") from error
            say(f"{counted(len(others), 'prediction')} written{f': {shown(args.output)}' if args.output else ''}.")


def is_text(column):
    return pd.api.types.infer_dtype(column, skipna=True) == "string"


def best(results, args):
    """The name of the model with the best score of those that can be saved so."""
    onnx = args.save is not None and pathlib.Path(args.save).suffix.lower() == ".onnx"
    names = [name for name in CANDIDATES if name in results and not (onnx and name == "HistGradientBoosting")]
    if not names:
        raise Refused("No model was fitted that can be saved or used.")
    return max(names, key=lambda name: next(iter(results[name].values())))


def main(args):
    """Do what is asked for; return 0, or 2 after a sentence that says why not."""
    sys.stdout.reconfigure(errors="backslashreplace")  # names of columns may hold what it cannot print
    try:
        run(args)
    except Refused as refusal:
        sentence = str(refusal)
    except (OSError, ValueError, MemoryError, NotImplementedError) as error:
        sentence = one_line(error)
    except KeyboardInterrupt:
        sentence = "interrupted."
    else:
        return 0
    print(f"python -m fastmlp: {sentence}", file=sys.stderr)
    return 2
