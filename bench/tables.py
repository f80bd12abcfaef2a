"""Real tables: fastmlp's RealMLP beside boosted trees and other MLPs. Run to add results; --report makes the tables.

Each data set, seed and model gives a record, one line of JSON in a file of results. What is there is not done again.
"""

import argparse
import contextlib
import functools
import importlib.metadata
import importlib.util
import io
import json
import logging
import sys
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.stats
from compare import digits, log, table_head, table_row, write
from table_sets import HALF_OF, SET_OF, TASK_OF, Refused, kinds, listing, load, need, small, split
from workers import PAUSE

RESULTS = Path(__file__).with_name("results") / "tables.jsonl"
MARKER = "<!-- tables -->"
TASKS = {"classification": ("error", "1 - AUC", "log-loss"), "regression": ("nRMSE",)}  # what is measured, main first
TREES = "LightGBM", "XGBoost", "HistGradientBoosting"
REFERENCE = TREES[0]
RESAMPLES = 2_000


# Models: (task, training rows, seed, threads) -> estimator


def of_task(module, task, stem, **parameters):
    names = {"classification": "Classifier", "regression": "Regressor"}
    return getattr(importlib.import_module(module), stem + names[task])(**parameters)


def lightgbm(task, X, seed, threads):
    return of_task("lightgbm", task, "LGBM", random_state=seed, n_jobs=threads, verbose=-1)


def xgboost(task, X, seed, threads):
    return of_task("xgboost", task, "XGB", random_state=seed, n_jobs=threads, enable_categorical=True)


def hist(task, X, seed, threads):
    """It takes at most 255 categories: columns with more become numbers."""
    from sklearn.compose import make_column_transformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    model = of_task("sklearn.ensemble", task, "HistGradientBoosting", random_state=seed)
    many = [column for column in kinds(X)[1] if len(X[column].cat.categories) > 255]
    if not many:
        return model
    numbered = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    columns = make_column_transformer((numbered, many), remainder="passthrough", verbose_feature_names_out=False)
    return make_pipeline(columns.set_output(transform="pandas"), model)


def sklearn_mlp(task, X, seed, threads):
    from sklearn.compose import TransformedTargetRegressor, make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers, categories = kinds(X)
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()), numbers),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), categories),
    )
    model = make_pipeline(columns, of_task("sklearn.neural_network", task, "MLP", random_state=seed))
    return model if task == "classification" else TransformedTargetRegressor(model, transformer=StandardScaler())


def pytabkit(variant, task, X, seed, threads):
    """It refuses missing numbers: they become medians, with a column that tells where."""
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline

    imputer = SimpleImputer(strategy="median", add_indicator=True)
    columns = make_column_transformer((imputer, kinds(X)[0]), remainder="passthrough", verbose_feature_names_out=False)
    model = of_task("pytabkit", task, f"RealMLP_{variant}_", device="cpu", random_state=seed, n_threads=threads)
    return make_pipeline(columns.set_output(transform="pandas"), model)


def ours(parameters, task, X, seed, threads):
    return of_task("fastmlp", task, "RealMLP", random_state=seed, n_jobs=threads, **parameters)


class Model(NamedTuple):
    """The package that it comes from, how it is made, and for which tasks."""

    package: str
    make: object
    tasks: tuple = tuple(TASKS)


MODELS = {
    "LightGBM": Model("lightgbm", lightgbm),
    "XGBoost": Model("xgboost", xgboost),
    "HistGradientBoosting": Model("scikit-learn", hist),
    "sklearn-MLP": Model("scikit-learn", sklearn_mlp),
    "pytabkit-TD": Model("pytabkit", functools.partial(pytabkit, "TD")),
    "pytabkit-TD-S": Model("pytabkit", functools.partial(pytabkit, "TD_S")),
    "RealMLP-TD": Model("fastmlp", functools.partial(ours, {"variant": "td"})),
    "RealMLP-TD-S": Model("fastmlp", functools.partial(ours, {"variant": "td-s"})),
    "RealMLP-TD-x5": Model("fastmlp", functools.partial(ours, {"variant": "td", "n_estimators": 5})),
    "RealMLP-TD-log-loss": Model(
        "fastmlp", functools.partial(ours, {"variant": "td", "scoring": "log_loss"}), ("classification",)
    ),
}


def check_models(names):
    for package in dict.fromkeys(MODELS[name].package for name in names):
        if package != "scikit-learn":
            need(package)
        if package == "fastmlp" and not hasattr(importlib.import_module("fastmlp"), "RealMLPClassifier"):
            raise Refused("This fastmlp has no RealMLPClassifier: choose other --models.")


# Measuring


def figures(task, y, predicted):
    """Return the figures of a prediction: probabilities of all classes, or numbers."""
    from sklearn.metrics import log_loss, roc_auc_score

    if task == "regression":
        return {"nRMSE": float(np.sqrt(np.mean((y - predicted) ** 2)) / np.std(y))}
    predicted = np.asarray(predicted, float)
    predicted /= predicted.sum(axis=1, keepdims=True)
    classes = np.arange(predicted.shape[1])
    scores = predicted[:, 1] if len(classes) == 2 else predicted
    auc = roc_auc_score(y, scores, multi_class="ovr", average="macro", labels=classes)
    loss = log_loss(y, predicted, labels=classes)
    return {"error": float(np.mean(predicted.argmax(axis=1) != y)), "1 - AUC": float(1 - auc), "log-loss": float(loss)}


def fit_and_predict(model, task, X_train, y_train, X_test):
    """Return what the model predicts, and the seconds of its fit and of its prediction."""
    begin = time.perf_counter()
    model.fit(X_train, y_train)
    fitted = time.perf_counter()
    predicted = model.predict_proba(X_test) if task == "classification" else model.predict(X_test)
    return predicted, fitted - begin, time.perf_counter() - fitted


@functools.cache
def warm_up(name, task, threads):
    """Fit a small table once in this process, so that no later fit loads or compiles anything."""
    X, y = small(task)
    with contextlib.suppress(Exception):  # what the model cannot do, its records will tell
        fit_and_predict(MODELS[name].make(task, X, 0, threads), task, X, y, X)


def measure(name, task, parts, seed, threads):
    """Return the record's figures of one model, or why it failed."""
    from threadpoolctl import threadpool_limits

    X_train, X_test, y_train, y_test = parts
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), threadpool_limits(threads):
        warnings.simplefilter("ignore")
        try:
            warm_up(name, task, threads)
            model = MODELS[name].make(task, X_train, seed, threads)
            time.sleep(PAUSE)
            predicted, fit, predict = fit_and_predict(model, task, X_train, y_train, X_test)
            return figures(task, y_test, predicted) | {"fit": fit, "predict": predict}
        except Exception as error:  # a model that fails has the worst rank
            reason = str(error).strip().splitlines() or [""]
            return {"failed": f"{type(error).__name__}: {reason[0]}"}


def read(path):
    """Return the records of a file. A last line that was cut off when the program was stopped is taken away."""
    if not path.exists():
        return []
    *lines, rest = path.read_text(encoding="utf-8").split("\n")
    if rest:
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return [json.loads(line) for line in lines]


def append(path, record):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def open_tasks(records, names, models, seeds):
    """Return (set, seed, models) for all that has no record yet: all models of a set and seed after each other."""
    done = {(r["set"], r["seed"], r["model"]) for r in records}
    for seed in seeds:
        for name in names:
            taking_part = [m for m in models if TASK_OF[name] in MODELS[m].tasks]
            if missing := [m for m in taking_part if (name, seed, m) not in done]:
                yield name, seed, missing


def run(path, names, models, seeds, threads, untimed=False):
    """Measure what has no record yet, and append it; without seconds, where other work may share the cores."""
    from fastmlp._machine import cpu_name

    check_models(models)
    logging.disable(logging.WARNING)  # pytabkit tells of each fit
    todo = list(open_tasks(read(path), names, models, seeds))
    total, number = sum(len(missing) for *_, missing in todo), 0
    for name, seed, missing in todo:
        task, (X, y) = TASK_OF[name], load(name)
        parts = split(X, y, task, seed)
        for model in missing:
            package = MODELS[model].package
            record = {"set": name, "seed": seed, "model": model, "task": task, "columns": X.shape[1]}
            record |= {"train": len(parts[0]), "test": len(parts[1])}
            measured = measure(model, task, parts, seed, threads)
            told = measured.get("failed") or f"{measured[TASKS[task][0]]:.4f}, fit {measured['fit']:.2f} s"
            record |= {key: value for key, value in measured.items() if not untimed or key not in ("fit", "predict")}
            record |= {"version": f"{package} {importlib.metadata.version(package)}"}
            record |= {"processor": cpu_name(), "threads": threads}
            append(path, record)
            number += 1
            log(f"[{number}/{total}] {name}, seed {seed}, {model}: {TASKS[task][0]} {told}")


# Statistics


def by_seed(records, figure):
    """Return {set: {model: values, one for each seed}} of a figure; infinite where a model failed.

    Only sets with a record of every model, and of them the seeds that all models have: a comparison is of equals.
    """
    models = {r["model"] for r in records}
    found = {(r["set"], r["seed"], r["model"]): r.get(figure, np.inf) for r in records}
    values = {}
    for name in dict.fromkeys(r["set"] for r in records):
        seeds = [s for s in sorted({s for n, s, _ in found if n == name}) if all((name, s, m) in found for m in models)]
        if seeds:
            values[name] = {m: np.array([found[name, s, m] for s in seeds]) for m in models}
    return values


def mean(of_seeds):
    """Return the mean over seeds; without the last digits, as equal ones come out of different sums."""
    return round(float(np.mean(of_seeds)), 12)


def mean_ranks(values):
    """Return the mean rank of each model over the sets: of the mean over seeds, least is 1; equals share a rank."""
    models = list(next(iter(values.values())))
    ranks = [scipy.stats.rankdata([mean(of_set[m]) for m in models]) for of_set in values.values()]
    return dict(zip(models, np.mean(ranks, axis=0), strict=True))


def outcome(a, b):
    """Return 1 if a is less than b, -1 if more, 0 if the 95 % interval of their mean difference over seeds has a 0."""
    if np.isinf(a).any() or np.isinf(b).any():
        return int(np.isinf(b).any()) - int(np.isinf(a).any())
    difference = b - a
    if len(difference) < 2:
        return 0
    half = scipy.stats.t.ppf(0.975, len(difference) - 1) * np.std(difference, ddof=1) / len(difference) ** 0.5
    return int(np.sign(np.mean(difference))) if abs(np.mean(difference)) > half else 0


def wins_ties_losses(values, ours, theirs):
    outcomes = [outcome(of_set[ours], of_set[theirs]) for of_set in values.values()]
    return tuple(outcomes.count(which) for which in (1, 0, -1))


def geometric_ratio(values, ours, theirs, floors):
    """Return the geometric mean over sets of ours by theirs, with a 95 % interval from resampled sets.

    A mean below its set's floor counts as the floor: no error in a finite test is not no error. Sets in which one of
    the two failed have no ratio.
    """
    logs = []
    for name, of_set in values.items():
        a, b = (max(mean(of_set[m]), floors.get(name, 0)) for m in (ours, theirs))
        if np.isfinite([a, b]).all():
            logs.append(np.log(a / b))
    if not logs:
        return (np.nan,) * 3
    resampled = np.random.default_rng(0).choice(logs, (RESAMPLES, len(logs))).mean(axis=1)
    return tuple(np.exp([np.mean(logs), *np.quantile(resampled, [0.025, 0.975])]))


def floors_of(records):
    """Half a row of the test rows wrong, for each set."""
    return {r["set"]: 0.5 / r["test"] for r in records}


def seconds(records, model):
    """Return seconds of a fit, and for 1,000 rows of the fit and of the prediction: medians over seeds, then sets."""
    rows = [r for r in records if r["model"] == model and "fit" in r]
    if not rows:
        return (np.nan,) * 3
    per_record = [(r["fit"], 1e3 * r["fit"] / r["train"], 1e3 * r["predict"] / r["test"]) for r in rows]
    names = np.array([r["set"] for r in rows])
    return tuple(np.median([np.median(np.array(per_record)[names == n], axis=0) for n in np.unique(names)], axis=0))


# The report


def interval(ratio):
    return f"{ratio[0]:.3f} ({ratio[1]:.3f} to {ratio[2]:.3f})" if np.isfinite(ratio[0]) else ""


def task_report(records, task, summary):
    """Return the lines of the tables of one task; a summary has no table of the sets."""
    kept = {figure: by_seed(records, figure) for figure in TASKS[task]}
    main, floors = kept[TASKS[task][0]], floors_of(records) if task == "classification" else {}
    if not main:
        return [f"{task.capitalize()}: no set has records of all models.", ""]
    models = [m for m in MODELS if m in next(iter(main.values()))]
    seeds = sorted({len(of_set[models[0]]) for of_set in main.values()})
    left_out = [name for name in dict.fromkeys(r["set"] for r in records) if name not in main]
    lines = [
        f"{task.capitalize()}; sets: {len(main)}, seeds: {' or '.join(map(str, seeds))}."
        + f" Left out, as some model has no record: {', '.join(left_out)}." * bool(left_out),
        "",
    ]
    ranks = {figure: mean_ranks(values) for figure, values in kept.items()}
    relative = f"{TASKS[task][0]} by {REFERENCE}'s"
    times = "fit, s", "fit, s for 1,000 rows", "prediction, s for 1,000 rows"
    lines += table_head(["model", *(f"mean rank, {figure}" for figure in TASKS[task]), relative, *times])
    for model in models:
        ratio = interval(geometric_ratio(main, model, REFERENCE, floors)) if REFERENCE in models else ""
        of_kept = seconds([r for r in records if r["set"] in main], model)
        of_kept = [digits(s) if np.isfinite(s) else "" for s in of_kept]
        lines.append(table_row(model, *(f"{ranks[figure][model]:.2f}" for figure in TASKS[task]), ratio, *of_kept))
    trees, others = [m for m in TREES if m in models], [m for m in models if m not in TREES]
    if trees and others:
        lines += ["", "Wins, ties and losses, and the ratio of " + TASKS[task][0] + ":", ""]
        lines += table_head(["model", *(f"against {tree}" for tree in trees)])
        for model in others:
            cells = []
            for tree in trees:
                counts = " / ".join(map(str, wins_ties_losses(main, model, tree)))
                cells.append(f"{counts}; {interval(geometric_ratio(main, model, tree, floors))}")
            lines.append(table_row(model, *cells))
    lines += [] if summary else ["", *table_head(["set", "rows", "columns", *models])]
    shape = {r["set"]: (r["train"] + r["test"], r["columns"]) for r in records}
    for name in [] if summary else sorted(main, key=lambda name: shape[name]):
        means = [mean(main[name][m]) for m in models]
        cells = [f"**{x:.4f}**" if x == min(means) else f"{x:.4f}" if np.isfinite(x) else "failed" for x in means]
        lines.append(table_row(name, *(f"{n:,}" for n in shape[name]), *cells))
    reasons = {(r["set"], r["model"]): r["failed"] for r in records if r["set"] in main and "failed" in r}
    if reasons:
        lines += ["", *(f"Failed: {model} on {name}, {why}." for (name, model), why in reasons.items())]
    return [*lines, ""]


def report(records, half, summary=False):
    """Return the lines of the report."""
    said = {key: ", ".join(dict.fromkeys(str(r[key]) for r in records)) for key in ("processor", "version")}
    threads = ", ".join(sorted({str(r["threads"]) for r in records if "fit" in r})) or "no"
    lines = [
        f"{said['processor']}; {said['version']}. Sets of the half: {half}. Seconds with {threads} threads.",
        "",
        "Means over seeds, then ranks over sets (1 is best; a model that fails is worst). Ratios are geometric means "
        "over sets, with 95 % of what resampled sets give; at least half a test row counts as wrong. A tie: the 95 % "
        "interval of the difference over seeds includes 0; seeds share training rows, so that it is rather too narrow.",
        "",
    ]
    for task in TASKS:
        if of_task := [r for r in records if r["task"] == task]:
            lines += task_report(of_task, task, summary)
    return lines


def plot(records, path):
    """Draw mean rank against seconds of a fit, a panel for each task, each model with its name."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    tasks = {task: by_seed([r for r in records if r["task"] == task], TASKS[task][0]) for task in TASKS}
    tasks = {task: values for task, values in tasks.items() if values}
    figure, panels = plt.subplots(1, len(tasks), figsize=(6.4 * len(tasks), 4.2), squeeze=False, layout="constrained")
    for panel, (task, values) in zip(panels[0], tasks.items(), strict=True):
        ranks, measured = mean_ranks(values), [r for r in records if r["set"] in values]
        times = {model: seconds(measured, model)[1] for model in ranks}
        for i, model in enumerate(sorted(ranks, key=times.get)):  # names above and below in turn: neighbours are close
            x, rank, above = times[model], ranks[model], i % 2 == 0
            color = "tab:blue" if MODELS[model].package == "fastmlp" else "tab:green" if model in TREES else "tab:gray"
            panel.plot(x, rank, "o", color=color)
            where = {"xytext": (0, 6 if above else -6), "va": "bottom" if above else "top", "ha": "center"}
            panel.annotate(model, (x, rank), textcoords="offset points", color=color, fontsize=9, **where)
        panel.set(xscale="log", xlabel="seconds of a fit for 1,000 rows, median over sets")
        panel.set(ylabel=f"mean rank, {TASKS[task][0]} (down is better)", title=f"{task}, sets: {len(values)}")
        panel.margins(0.2, 0.15)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
    plt.close(figure)


def chosen(given, known, what):
    if unknown := [name for name in given if name not in known]:
        raise Refused(f"There is no {what} {unknown[0]!r}. There are: {', '.join(known)}.")
    return given


def main(argv=None):
    """Measure what is missing, or report; return 2 where something that was asked for is not there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), metavar="MODEL", help=", ".join(MODELS))
    parser.add_argument("--sets", nargs="+", metavar="SET", help="only these, of whatever half")
    parser.add_argument(
        "--half", choices=("dev", "test", "all"), default="test", help="half of the sets; default: test"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], metavar="N", help="splits of each set")
    parser.add_argument("--untimed", action="store_true", help="keep no seconds: other work shares the cores")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="threads of every model (default: 2)")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help="where the records are")
    parser.add_argument("--list", action="store_true", help="print a table of the sets, and measure nothing")
    parser.add_argument("--report", action="store_true", help="print the tables of what is there, and measure nothing")
    parser.add_argument("--summary", action="store_true", help="leave out the table of the sets")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the report between the markers of FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the report: SVG or PNG")
    args = parser.parse_args(argv)
    try:
        of_half = [name for name, half in HALF_OF.items() if args.half in (half, "all")]
        names = of_half if args.sets is None else chosen(args.sets, SET_OF, "set")
        models = chosen(args.models, MODELS, "model")
        if args.list:
            print(*listing(names), sep="\n")
        elif args.report or args.write or args.plot:
            wanted = [r for r in read(args.results) if r["set"] in names and r["model"] in models]
            wanted = [r for r in wanted if r["seed"] in args.seeds]
            if not wanted:
                raise Refused(f"{args.results} has no records of these sets and models.")
            lines = report(wanted, args.half if args.sets is None else "chosen by name", args.summary)
            print(*lines, sep="\n")
            if args.write:
                write(args.write, lines[:-1], MARKER)
            if args.plot:
                plot(wanted, args.plot)
        else:
            run(args.results, names, models, args.seeds, args.threads, args.untimed)
    except Refused as reason:
        log(reason)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
