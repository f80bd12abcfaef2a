"""The statistics of bench/tables.py, and how it goes on where it stopped, with made-up records."""

import importlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

BENCH = Path(__file__).resolve().parent.parent / "bench"


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module("tables")


def record(name="a", seed=0, model="LightGBM", error=0.1, **other):
    figures = {"error": error, "1 - AUC": error, "log-loss": error, "fit": 2.0, "predict": 0.5}
    about = {"processor": "P", "threads": 2, "version": "1", "train": 800, "test": 200, "columns": 3}
    return {"set": name, "seed": seed, "model": model, "task": "classification"} | figures | about | other


def failed(**about):
    measured = record(**about, failed="ValueError: no")
    return {key: value for key, value in measured.items() if key not in ("error", "1 - AUC", "log-loss", "fit")}


def test_halves_have_every_set_once_and_the_same_sizes(tables):
    for sets in tables.importlib.import_module("table_sets").SETS.values():
        names = [s.name for s in sets]
        halves = [tables.HALF_OF[name] for name in names]
        assert len(set(names)) == len(names)
        assert abs(halves.count("dev") - halves.count("test")) <= 1
        assert halves[-4:] == ["test", "dev", "dev", "test"]


def test_by_seed_compares_equals_only(tables):
    records = [record(seed=s, model=m) for s in (0, 1, 2) for m in ("LightGBM", "XGBoost") if (s, m) != (1, "XGBoost")]
    records += [record("b", model="LightGBM")]
    values = tables.by_seed(records, "error")
    assert list(values) == ["a"]
    assert len(values["a"]["LightGBM"]) == len(values["a"]["XGBoost"]) == 2


def test_mean_ranks_share_equal_ranks_and_put_failures_last(tables):
    values = {
        "a": {"x": np.array([0.1, 0.3]), "y": np.array([0.3, 0.1]), "z": np.array([0.9, 0.9])},
        "b": {"x": np.array([0.1, 0.1]), "y": np.array([0.2, 0.2]), "z": np.array([0.0, np.inf])},
    }
    assert tables.mean_ranks(values) == {"x": 1.25, "y": 1.75, "z": 3.0}


def test_outcome_is_a_tie_where_the_interval_has_a_0(tables):
    a = np.array([0.10, 0.12, 0.11, 0.13, 0.12])
    assert tables.outcome(a, a + [0.02, 0.03, 0.02, 0.03, 0.02]) == 1
    assert tables.outcome(a + 0.02, a) == -1
    assert tables.outcome(a, a) == 0
    # The mean is 1 and its standard error 0.354: with 4 degrees of freedom the interval reaches 0.98 to each side.
    difference = 1 + 0.25 * np.sqrt(10) * np.array([-1, 1, 0, 1, -1])
    assert tables.outcome(np.zeros(5), difference) == 1
    assert tables.outcome(np.zeros(5), difference - 0.05) == 0
    assert tables.outcome(a[:1], a[:1] + 1) == 0  # one seed says nothing


def test_outcome_of_failures(tables):
    works, fails = np.array([0.9, 0.9]), np.array([0.1, np.inf])
    assert [tables.outcome(*pair) for pair in ((works, fails), (fails, works), (fails, fails))] == [1, -1, 0]


def test_wins_ties_losses(tables):
    def row(x, y):
        return {"x": np.full(3, x), "y": np.full(3, y)}

    values = {"a": row(0.1, 0.2), "b": row(0.2, 0.1), "c": row(0.1, 0.1), "d": row(0.3, 0.4)}
    assert tables.wins_ties_losses(values, "x", "y") == (2, 1, 1)
    assert tables.wins_ties_losses(values, "y", "x") == (1, 1, 2)


def test_geometric_ratio(tables):
    values = {
        name: {"x": np.array([0.1]), "y": np.array([0.1 * k])} for name, k in zip("abcd", (1, 2, 4, 8), strict=True)
    }
    middle, low, high = tables.geometric_ratio(values, "y", "x", {})
    assert middle == pytest.approx(8**0.5)
    # The spread of four resampled logarithms is log(2) sqrt(1.25 / 4), and a normal interval 1.96 of it to each side.
    assert np.log([middle / low, high / middle]) == pytest.approx(1.96 * np.log(2) * (1.25 / 4) ** 0.5, rel=0.2)
    assert tables.geometric_ratio(values, "y", "y", {}) == (1, 1, 1)


def test_geometric_ratio_has_floors_and_no_failures(tables):
    values = {
        "a": {"x": np.array([0.0, 0.0]), "y": np.array([0.01, 0.01])},
        "b": {"x": np.array([0.1, np.inf]), "y": np.array([0.1, 0.1])},
    }
    floors = tables.floors_of([record("a", test=200)])
    assert tables.geometric_ratio(values, "x", "y", floors) == pytest.approx((0.25, 0.25, 0.25))
    assert np.isnan(tables.geometric_ratio({"b": values["b"]}, "x", "y", floors)).all()


def test_seconds_are_medians_over_seeds_then_sets(tables):
    records = [record(n, s, fit=f, predict=0.1) for n, s, f in (("a", 0, 1), ("a", 1, 3), ("b", 0, 4), ("c", 0, 99))]
    records += [failed(name="d"), record("a", model="XGBoost", fit=1e6)]
    assert tables.seconds(records, "LightGBM") == pytest.approx((4, 5, 0.5))
    assert np.isnan(tables.seconds(records, "HistGradientBoosting")).all()


def test_open_tasks_keep_models_of_a_set_and_seed_together_and_skip_what_is_done(tables):
    models, names = ["LightGBM", "XGBoost"], ["pima", "Housing"]
    done = [record("pima", 0, "LightGBM"), failed(name="Housing", model="XGBoost"), record("pima", 1, "LightGBM")]
    assert list(tables.open_tasks([], names, models, [0])) == [("pima", 0, models), ("Housing", 0, models)]
    rest = [("pima", 0, ["XGBoost"]), ("Housing", 0, ["LightGBM"]), ("pima", 1, ["XGBoost"]), ("Housing", 1, models)]
    assert list(tables.open_tasks(done, names, models, [0, 1])) == rest
    assert list(tables.open_tasks([], ["Housing"], ["RealMLP-TD-log-loss"], [0])) == []  # no loss of that kind


def test_run_goes_on_where_it_was_stopped(tables, monkeypatch, tmp_path):
    measured, path = [], tmp_path / "results" / "r.jsonl"

    def load(name):
        return np.zeros((50, 2)), np.arange(50) % 2

    def measure(model, task, parts, seed, threads):
        if len(measured) == 3:
            raise KeyboardInterrupt
        measured.append((model, seed))
        return {"failed": "no"} if model == "XGBoost" else {"error": 0.5, "fit": 1.0, "predict": 1.0}

    for function in (load, measure):
        monkeypatch.setattr(tables, function.__name__, function)
    monkeypatch.setattr(tables, "check_models", lambda models: None)
    monkeypatch.setattr(tables.logging, "disable", lambda level: None)
    monkeypatch.setattr(tables.importlib.metadata, "version", lambda package: "1")
    task = path, ["pima"], ["LightGBM", "XGBoost"], [0, 1], 1
    with pytest.raises(KeyboardInterrupt):
        tables.run(*task)
    with path.open("a") as file:
        file.write('{"set": "pima", "se')  # stopped while it wrote
    measured.clear()
    tables.run(*task)
    assert measured == [("XGBoost", 1)]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(r["model"], r["seed"]) for r in lines] == [(m, s) for s in (0, 1) for m in ("LightGBM", "XGBoost")]
    assert all(r["train"] == 40 and r["test"] == 10 for r in lines)
    tables.run(path, ["pima"], ["LightGBM"], [2], 1, untimed=True)
    assert ["fit" in r for r in tables.read(path) if r["model"] == "LightGBM"] == [True, True, False]


def test_a_model_that_raises_is_recorded(tables, monkeypatch):
    def make(*_):
        raise ValueError("cannot\nat all")

    monkeypatch.setitem(tables.MODELS, "LightGBM", tables.Model("lightgbm", make))
    monkeypatch.setattr(tables, "warm_up", lambda *_: None)
    assert tables.measure("LightGBM", "regression", [None] * 4, 0, 1) == {"failed": "ValueError: cannot"}


def test_figures(tables):
    y = np.array([0, 0, 1, 1])
    proba = np.array([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5], [0.2, 0.8]])
    of_classes = tables.figures("classification", y, proba)
    assert of_classes == pytest.approx({"error": 0.5, "1 - AUC": 0.25, "log-loss": -np.log(0.9 * 0.4 * 0.5 * 0.8) / 4})
    assert tables.figures("regression", y, np.full(4, 0.5)) == pytest.approx({"nRMSE": 1})
    three = tables.figures("classification", np.array([0, 1, 2]), np.eye(3)[[0, 1, 1]])
    assert three["error"] == pytest.approx(1 / 3)


def test_report_names_half_failures_and_the_best(tables):
    records = [record(n, s, m, e) for n in "ab" for s in (0, 1) for m, e in (("LightGBM", 0.2), ("RealMLP-TD", 0.1))]
    records += [failed(name=n, seed=s, model="XGBoost") for n in "ab" for s in (0, 1)] + [record("c")]
    text = "\n".join(tables.report(records, "dev"))
    assert "Sets of the half: dev." in text
    assert "Classification; sets: 2, seeds: 2. Left out, as some model has no record: c." in text
    assert "| RealMLP-TD | 2 / 0 / 0; 0.500 (0.500 to 0.500) | 2 / 0 / 0;  |" in text
    assert "| a | 1,000 | 3 | 0.2000 | failed | **0.1000** |" in text
    assert "Failed: XGBoost on a, ValueError: no." in text


def test_what_is_not_there_is_said(tables, capsys, tmp_path, monkeypatch):
    for arguments, said in ((["--sets", "x"], "no set 'x'"), (["--models", "x"], "no model 'x'")):
        assert tables.main(arguments) == 2
        assert said in capsys.readouterr().err
    monkeypatch.setitem(tables.MODELS, "XGBoost", tables.Model("no_such_package", None))
    assert tables.main(["--models", "XGBoost", "--results", str(tmp_path / "r")]) == 2
    assert "no-such-package is not installed" in capsys.readouterr().err
    assert tables.main(["--report", "--results", os.devnull]) == 2
    assert "no records" in capsys.readouterr().err
