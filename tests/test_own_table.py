"""`python -m fastmlp TABLE --target COLUMN`: what is read, said, fitted, saved, predicted and refused."""

import csv
import gzip
import os
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_wine
from threadpoolctl import threadpool_limits

import fastmlp
from fastmlp import __main__ as program

pd = pytest.importorskip("pandas")
pytest.importorskip("rich")
own_table = pytest.importorskip("fastmlp._own_table")

ROOT = Path(fastmlp.__file__).resolve().parents[1]
N = 60


def houses(n=N, seed=0):
    """A table with numbers, categories, true and false, dates, names, an id, holes, and two targets."""
    rng = np.random.default_rng(seed)
    size, city = rng.gamma(5, 20, n).round(1), rng.choice(["Köln", "Bonn", "Düren"], n)
    days = pd.Timestamp("2019-01-01") + pd.to_timedelta(rng.integers(0, 1500, n), "D")
    table = pd.DataFrame(
        {
            "id": np.arange(1, n + 1),
            "name": [f"flat {i} of many" for i in range(n)],
            "size": size,
            "city": city,
            "balcony": rng.random(n) < 0.4,
            "sold on": days.strftime("%Y-%m-%d"),
            "always": 7,
            "never": np.nan,
            "price": (3 * size + 100 * (city == "Köln") + rng.normal(0, 1, n)).round(2),
        }
    )
    table.loc[::7, "size"], table.loc[::9, "city"] = np.nan, None
    return table.assign(dear=np.where(table["price"] > table["price"].median(), "yes", "no"))


@pytest.fixture
def short(monkeypatch, tmp_path):
    """In a folder of its own, MLP alone is fitted, by a thread, and there is no pause."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(own_table, "MODELS", ("MLP",))
    monkeypatch.setattr(own_table, "PAUSE", 0)
    with threadpool_limits(1):  # two of boosting's wait for each other where tests run side by side
        yield


def run(*arguments):
    """What the command returns, in this process."""
    return program.main(list(map(str, arguments)))


def in_a_new_process(*arguments):
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "fastmlp", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )


def refusal(capsys):
    """The sentence on stderr, which is all that is there."""
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("python -m fastmlp: ")
    return lines[0].removeprefix("python -m fastmlp: ")


# ---- what comes out -------------------------------------------------------------------------------------------------


def test_classification(tmp_path):
    """All four models, in a new process: exit code 0, and scores that are right."""
    wine = load_wine(as_frame=True)
    table = wine.frame.assign(target=wine.target_names[wine.target])
    table.to_csv(tmp_path / "wine.csv", index=False)
    done = in_a_new_process(tmp_path / "wine.csv", "--target", "target")
    assert done.returncode == 0, done.stderr
    assert "This is classification: 'target' holds 3 different values in 178 rows." in done.stdout
    assert "13 columns of numbers, 0 of categories, 0 of dates; none of them with missing values" in done.stdout
    assert re.search(r"accuracy +ROC AUC +log-loss +iterations +fit, s", done.stdout)
    rows = {name: re.search(rf"^{name} +([0-9.]+) +([0-9.]+)", done.stdout, re.M) for name in program.MODELS}
    assert all(float(row[1]) > 0.85 and float(row[2]) > 0.95 for row in rows.values())
    assert rows["MLP"].groups() == rows["sklearn-MLP"].groups()
    found = re.search(r"MLP was [0-9.]+ times as fast .* loss curves: (.+)\.$", done.stdout, re.M)
    assert float(found[1]) < program.TOLERANCE


def test_regression(short, monkeypatch, capsys):
    """All four models, and all that is said of columns."""
    monkeypatch.setattr(own_table, "MODELS", program.MODELS)
    table = houses()
    table.loc[[3, 5], "price"] = np.nan
    table.drop(columns="dear").to_csv("houses.csv", index=False)
    assert run("houses.csv", "--target", "price", "--plot", "losses.png") == 0
    out = capsys.readouterr().out
    for line in [
        "'houses.csv': 60 rows, 9 columns, "
        "read by pandas.read_csv(..., sep=',', na_values='?', skipinitialspace=True).",
        "2 rows without 'price' left out.",
        "Left out, numbers of the rows: 'id'.",
        "Left out, text that differs in most rows: 'name'.",
        "Left out, the same in all rows: 'always'.",
        "Left out, as all values are missing: 'never'.",
        "Dates become days since 1970, month and day of the week: 'sold on'.",
        "Learnt from: 1 column of numbers, 2 of categories, 1 of dates; 2 of them with missing values.",
        "Split: 43 rows to learn from, 15 rows to test.",
        "Losses drawn: 'losses.png'.",
    ]:
        assert line in out.splitlines(), line
    assert re.search(r"This is regression: 'price' holds \d+ different numbers in 58 rows; --task classific", out)
    rows = {name: re.search(rf"^{name} +(\S+) +(\S+)", out, re.M) for name in program.MODELS}
    assert rows["MLP"].groups() == rows["sklearn-MLP"].groups()
    assert float(rows["RealMLP"][1]) > 0.5
    assert Path("losses.png").read_bytes()[1:4] == b"PNG"


def test_progress_is_shown_on_a_terminal(short, monkeypatch, capsys):
    houses().to_csv("houses.csv", index=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert run("houses.csv", "--target", "dear") == 0
    printed = capsys.readouterr()
    assert "\u2501" in printed.err and "\u2501" not in printed.out


def test_a_model_that_fails_is_told_of(short, monkeypatch, capsys):
    class Fails(fastmlp.RealMLPClassifier):
        def fit(self, X, y):
            raise ValueError("not today\x1b[31m")

    houses().to_csv("houses.csv", index=False)
    monkeypatch.setattr(own_table, "MODELS", ("MLP", "RealMLP"))
    monkeypatch.setattr(fastmlp, "RealMLPClassifier", Fails)
    assert run("houses.csv", "--target", "dear") == 0
    assert r"RealMLP could not be fitted: not today\x1b[31m" in capsys.readouterr().out
    assert run("houses.csv", "--target", "dear", "--model", "RealMLP", "--save", "a.joblib") == 2
    monkeypatch.setattr(own_table, "MODELS", ("RealMLP",))
    assert run("houses.csv", "--target", "dear") == 2
    assert r"No model could be fitted: not today\x1b[31m" in capsys.readouterr().err


def test_interrupted(short, monkeypatch, capsys):
    """Ctrl-C, which ends but a fit, ends the command."""

    class Interrupted(fastmlp.MLPClassifier):
        def fit(self, X, y):
            warnings.warn("Training interrupted by user.", stacklevel=1)
            return self

    houses().to_csv("houses.csv", index=False)
    monkeypatch.setattr(fastmlp, "MLPClassifier", Interrupted)
    assert run("houses.csv", "--target", "dear") == 2
    assert refusal(capsys) == "interrupted."


def test_max_time(short, monkeypatch, capsys):
    """It ends fits, and then nothing is said of speed."""
    houses().to_csv("houses.csv", index=False)
    monkeypatch.setattr(own_table, "MODELS", ("MLP", "sklearn-MLP"))
    assert run("houses.csv", "--target", "dear", "--max-time", 1e-6) == 0
    out = capsys.readouterr().out
    assert "times as fast" not in out and "their seconds say nothing of speed" in out
    assert re.search(r"^MLP: .*time", out, re.M)


# ---- what is guessed ------------------------------------------------------------------------------------------------

# name: (values, what it is, what it is by the other task, if that goes)
TARGETS = {
    "text": (["a", "b"] * 20, "classification"),
    "bool": ([True, False] * 20, "classification"),
    "few whole numbers": ([3, 4, 5, 6] * 10, "classification"),
    "whole numbers as floats": ([3.0, 4.0, None, 4.0] * 10, "classification"),
    "many whole numbers": (list(range(40)), "regression"),
    "fractions": ([0.5, 1.5] * 20, "regression"),
}


@pytest.mark.parametrize("case", TARGETS)
def test_task(case, short, capsys):
    values, task = TARGETS[case]
    pd.DataFrame({"x": np.arange(40) % 11 / 2, "y": values}).to_csv("table.csv", index=False)
    assert run("table.csv", "--target", "y") == 0
    assert f"This is {task}: " in capsys.readouterr().out
    assert run("table.csv", "--target", "y", "--task", "classification") == (2 if "many" in case else 0)
    assert run("table.csv", "--target", "y", "--task", "regression") == (2 if case in ("text", "bool") else 0)


def test_classes_that_no_integer_holds(short, capsys):
    """Whole numbers of 64 bits are classes as such; larger ones stay apart as text, and are numbers to predict."""
    for number, task in (2**60, "classification"), (1e300, "regression"):
        pd.DataFrame({"x": np.arange(40) % 11 / 2, "y": [number, 2 * number] * 20}).to_csv("table.csv", index=False)
        assert run("table.csv", "--target", "y") == 0
        assert f"This is {task}: 'y' holds 2 different" in capsys.readouterr().out
        arguments = ["--task", "classification", "--predict", "table.csv", "--output", "p.csv"]
        assert run("table.csv", "--target", "y", *arguments) == 0
        assert set(pd.read_csv("p.csv")["y"]) <= {number, 2 * number}


def test_rare_classes_are_left_out(short, capsys):
    houses().assign(dear=["a", "b"] * 28 + ["rare"] * 4).to_csv("houses.csv", index=False)
    assert run("houses.csv", "--target", "dear") == 0
    assert "4 rows of 1 class with fewer than 5 rows left out: 'rare'." in capsys.readouterr().out


@pytest.mark.parametrize("name, left_out", [("user_id", True), ("userId", True), ("ID", True), ("paid", False)])
def test_keys(name, left_out, short, capsys):
    """Integers that are all different are left out if they are named like keys; see "id" above for those that count."""
    table = pd.DataFrame({"x": np.arange(40) % 7 / 2, name: np.arange(40) ** 2 * 7, "y": ["a", "b"] * 20})
    table.to_csv("table.csv", index=False)
    assert run("table.csv", "--target", "y") == 0
    assert (f"numbers of the rows: {name!r}." in capsys.readouterr().out) == left_out


def test_drop_and_keep(short, capsys):
    houses().to_csv("houses.csv", index=False)
    assert run("houses.csv", "--target", "dear", "--drop", "price", "--drop", "size", "--keep", "id") == 0
    out = capsys.readouterr().out
    assert "Left out, as you say: 'size', 'price'." in out and "numbers of the rows" not in out


def test_columns_of_many_categories(short, monkeypatch, capsys):
    """They are numbered, or embedded, and all models take them."""
    monkeypatch.setattr(own_table, "MODELS", program.MODELS)
    monkeypatch.setattr(own_table, "MOST_CATEGORIES", 10)
    table = houses(90).assign(street=[f"street {i % 30}" for i in range(90)])
    table.to_csv("houses.csv", index=False)
    assert run("houses.csv", "--target", "dear", "--drop", "price") == 0
    out = capsys.readouterr().out
    assert "More than 10 categories, which are but numbered for MLP and boosting: 'street'." in out
    assert "could not be fitted" not in out


# ---- how files are written ------------------------------------------------------------------------------------------

WAYS = {
    "tabs": ("houses.tsv", {"sep": "\t"}, r"sep='\\t'"),
    "semicolons and decimal commas": ("houses.csv", {"sep": ";", "decimal": ","}, "sep=';', .*, decimal=','"),
    "semicolons and points": ("houses.csv", {"sep": ";"}, r"sep=';', na_values='\?', skipinitialspace=True\)"),
    "gz": ("houses.csv.gz", {}, "sep=','"),
    "gz of another name": ("houses.dat", {"compression": "gzip"}, "sep=','"),
    "byte order mark": ("houses.csv", {"encoding": "utf-8-sig"}, "sep=','"),
    "ends of lines": ("houses.csv", {"lineterminator": "\r\n"}, "sep=','"),
    "quotes": ("houses.csv", {"quoting": 1}, "sep=','"),
}


@pytest.mark.parametrize("case", WAYS)
def test_ways_of_writing(case, tmp_path):
    """The same table, and what is said reads it."""
    name, arguments, said = WAYS[case]
    lines = []
    houses().to_csv(tmp_path / name, index=False, **arguments)
    table = own_table.read(str(tmp_path / name), "utf-8", lines.append)
    (tmp_path / "plain.csv").write_text(houses().to_csv(index=False), encoding="utf-8")
    pd.testing.assert_frame_equal(table, pd.read_csv(tmp_path / "plain.csv"))
    assert re.search(said, lines[0])


def test_encoding(short, capsys):
    """Refused with a hint, and read when it is said."""
    houses().to_csv("houses.csv", index=False, encoding="latin-1")
    assert run("houses.csv", "--target", "dear") == 2
    assert "is not text in utf-8" in (said := refusal(capsys)) and "--encoding latin-1" in said
    assert run("houses.csv", "--target", "dear", "--encoding", "latin-1") == 0
    assert run("houses.csv", "--target", "dear", "--encoding", "klingon") == 2
    assert run("houses.csv", "--target", "dear", "--encoding", "rot13") == 2


def test_parquet(short, capsys):
    """Types as they are there: dates, categories, numbers with holes; a nested column is left out."""
    pytest.importorskip("pyarrow")
    table = houses().assign(
        **{"sold on": lambda t: pd.to_datetime(t["sold on"]), "nested": [[1, 2]] * N, "bytes": [b"a", b"b"] * (N // 2)}
    )
    table["city"] = table["city"].astype("category")
    table["rooms"] = pd.array([1, None, 3] * (N // 3), dtype="Int64")
    table.to_parquet("houses.parquet")
    assert run("houses.parquet", "--target", "dear", "--save", "m.joblib") == 0
    out = capsys.readouterr().out
    assert "read by pandas.read_parquet" in out and "as no model here takes bytes values: 'bytes'." in out
    assert "3 columns of numbers, 2 of categories, 1 of dates; 3 of them" in out and "'nested'" in out
    Path("houses.parquet").rename("houses.csv")  # what a file is, its first bytes say
    assert run("houses.csv", "--target", "dear") == 0
    model = joblib.load("m.joblib")
    model.predict(pd.read_parquet("houses.csv"))


# ---- save and predict -----------------------------------------------------------------------------------------------


def tasks():
    return pytest.mark.parametrize("target, other", [("dear", "price"), ("price", "dear")])


@tasks()
@pytest.mark.parametrize("model", program.MODELS)
@pytest.mark.parametrize("suffix", [".joblib", ".skops"])
def test_saved_models(suffix, model, target, other, short, monkeypatch, capsys):
    """They take the table as pandas reads it, and predict what the command predicts. How they are loaded is said."""
    if suffix == ".skops":
        pytest.importorskip("skops.io")
    monkeypatch.setattr(own_table, "MODELS", (model,))
    houses().drop(columns=other).to_csv("houses.csv", index=False)
    new = houses(20, seed=1).drop(columns=[target, other])
    new.loc[0, "city"], new.loc[1, "city"] = "elsewhere", None
    new.to_csv("new.csv", index=False)
    arguments = "--model", model, "--save", f"model{suffix}", "--predict", "new.csv", "--output", "predictions.csv"
    assert run("houses.csv", "--target", target, *arguments) == 0
    load = re.search(rf"^Saved: 'model{suffix}'; (.+)$", capsys.readouterr().out, re.M)[1]
    names = {"file": f"model{suffix}", "fastmlp": fastmlp, "joblib": joblib}
    if suffix == ".skops":
        import skops.io

        names["skops"] = skops
        assert ("SKOPS_TRUSTED)" in load) == (model in ("MLP", "RealMLP"))
    loaded = eval(load, names)
    predicted = pd.read_csv("predictions.csv")
    assert predicted.columns.tolist() == [target]
    expected = loaded.predict(pd.read_csv("new.csv"))
    if target == "dear":
        assert predicted[target].tolist() == expected.tolist()
    else:
        np.testing.assert_allclose(
            predicted[target], expected, rtol=1e-14
        )  # older pandas reads to the last but one digit


@tasks()
@pytest.mark.parametrize("model", ["MLP", "sklearn-MLP", "RealMLP"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_saved_as_onnx(model, target, other, short, monkeypatch, capsys):
    """Inputs are what the model learns from, dates as numbers; predictions are the same."""
    pytest.importorskip("skl2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(own_table, "MODELS", (model,))
    table = houses()
    table.drop(columns=other).to_csv("houses.csv", index=False)
    for name in "model.joblib", "model.onnx":
        assert run("houses.csv", "--target", target, "--model", model, "--save", name) == 0
    found = re.search("^Saved: 'model.onnx'; inputs (.+)$", capsys.readouterr().out, re.M)
    session = onnxruntime.InferenceSession("model.onnx")
    assert found[1] == ", ".join(repr(one.name) for one in session.get_inputs())
    rows = pd.read_csv("houses.csv")
    dates = own_table.numbers_of_dates(rows[["sold on"]])
    feeds = {
        "size": rows[["size"]].to_numpy(),
        "city": rows[["city"]].fillna("").to_numpy(object),
        "balcony": rows[["balcony"]].to_numpy(),
        **{f"sold_on__{part}": dates[[f"sold on: {part}"]].to_numpy() for part in ("days", "month", "weekday")},
    }
    outputs = session.run(None, feeds)[0].ravel()
    expected = joblib.load("model.joblib").predict(rows)
    if target == "dear":
        assert outputs.tolist() == expected.tolist()
    else:
        np.testing.assert_allclose(outputs, expected, rtol=1e-4)


def test_the_best_is_saved(short, monkeypatch, capsys):
    """By the first score, of those that the format can hold; scikit-learn's twin of MLP is no choice."""
    results = {name: {"accuracy": score} for name, score in zip(program.MODELS, [0.5, 0.9, 0.6, 0.7], strict=True)}

    class Arguments:
        save = "a.joblib"

    assert own_table.best(results, Arguments) == "HistGradientBoosting"
    Arguments.save = "a.onnx"
    assert own_table.best(results, Arguments) == "RealMLP"


def test_predictions_alone_on_stdout(tmp_path):
    """So that they can be piped; the report goes to stderr. A text that looks like numbers there stays text."""
    table = pd.DataFrame({"x": np.arange(40) % 7 / 2, "code": ["1", "2", "x", "x"] * 10, "y": ["=1+1", "b"] * 20})
    table.to_csv(tmp_path / "table.csv", index=False)
    table[table["code"] != "x"].drop(columns="y").to_csv(tmp_path / "new.csv", index=False)
    arguments = "--target", "y", "--predict", tmp_path / "new.csv", "--model", "MLP"
    done = in_a_new_process(tmp_path / "table.csv", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["y", *["=1+1", "b"] * 10]
    assert "20 predictions written." in done.stderr


def test_predict_without_a_column(short, capsys):
    """Before anything is fitted."""
    houses().to_csv("houses.csv", index=False)
    houses().rename(columns={"size": "sizes"}).to_csv("new.csv", index=False)
    assert run("houses.csv", "--target", "dear", "--predict", "new.csv", "--output", "p.csv") == 2
    printed = capsys.readouterr()
    assert "'new.csv' has no column 'size'; did you mean 'sizes'?" in printed.err and "fit, s" not in printed.out


def test_predict_a_column_of_another_kind(short, capsys):
    houses().to_csv("houses.csv", index=False)
    houses().assign(size="large").to_csv("new.csv", index=False)
    assert run("houses.csv", "--target", "dear", "--predict", "new.csv", "--output", "p.csv") == 2
    assert "'size' holds text where numbers belong" in refusal(capsys)


# ---- what is refused ------------------------------------------------------------------------------------------------

HEAD, ROWS = "n,x,c,y\n", [f"{i * 7919 % 1000},{i % 13 / 4},{'abc'[i % 3]},{i % 2}\n" for i in range(40)]
GOOD = HEAD + "".join(ROWS)
# name: (bytes of the file, or None, and the sentence)
BAD = {
    "no file": (None, "There is no file 'table.csv'."),
    "empty": ("", "'table.csv' is empty."),
    "ends of lines": ("\n\n\n", "no table"),
    "names alone": (HEAD, "'table.csv' has names of columns, but no rows."),
    "no such column": (GOOD.replace("y\n", "Y\n", 1), "'table.csv' has no column 'y'; did you mean 'Y'?"),
    "nor one like it": (GOOD.replace("y\n", "price\n", 1), "no column 'y'; it has 'n', 'x', 'c', 'price'."),
    "one column": ("y\n" + "0\n1\n" * 20, "no comma, semicolon, tab or bar"),
    "two of a name": (GOOD.replace("x", "n", 1), "'table.csv' has more than one column named 'n'."),
    "more cells than names": (HEAD + "".join(ROWS).replace("\n", ",1\n"), "more cells than there are names"),
    "a row of more cells": (GOOD + "1,2,3,4,5\n", "Expected 4 fields in line 42, saw 5"),
    "an open quote": (GOOD.replace("x", '"x', 1), "EOF inside string"),
    "few rows": (HEAD + "".join(ROWS[:19]), "19 rows are too few: 20 are needed."),
    "constant target": (HEAD + ROWS[0] * 40, "'y' is '0' in all rows: there is nothing to learn."),
    "no target": (HEAD + ROWS[0].replace("0\n", "\n") * 40, "All values of 'y' are missing."),
    "no class of five": (
        "x,y\n" + "".join(f"{i / 2},t{i}\n" for i in range(40)),
        "'y' has 40 different values, such as 't0', and fewer than two of them in 5 rows",
    ),
    "dates as target": ("x,y\n" + "1,2020-01-01\n2,2020-01-02\n" * 20, "'y' holds dates"),
    "infinite target": (GOOD.replace(",1\n", ",inf\n"), "'y' holds infinite numbers."),
    "infinite numbers": (GOOD.replace("0.25", "inf"), "There are infinite numbers in 'x'"),
    "nothing to learn from": ("x,y\n" + ",0\n,1\n" * 20, "No column is left to learn 'y' from."),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "not text in utf-8"),
    "a pickle": (b"\x80\x04cos\nsystem\n(S'touch hacked'\ntR.", "not text in utf-8"),
    "UTF-16": (GOOD.encode("utf-16"), "--encoding latin-1 or utf-16"),
    "zeros": (b"\0" * 1000, "no table"),
    "a workbook": (b"PK\x03\x04" + b"x" * 100, "save its table as .csv or .parquet"),
    "no gz": (b"\x1f\x8b" + b"x" * 100, "cannot be read"),
    "half of a gz": (gzip.compress(GOOD.encode())[:80], "end-of-stream"),
    "damaged gz": (gzip.compress(GOOD.encode())[:-8] + b"12345678", "CRC check failed"),
    "no parquet": (b"PAR1" + b"x" * 100 + b"PAR1", "cannot be read"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files(case, short, capsys):
    """A sentence and exit code 2."""
    content, sentence = BAD[case]
    if "parquet" in case:
        pytest.importorskip("pyarrow")
    if content is not None:
        Path("table.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    task = ["--task", "regression"] if case == "infinite target" else []
    assert run("table.csv", "--target", "y", *task) == 2
    assert sentence in refusal(capsys)
    assert not Path("hacked").exists()


def test_a_bad_file_in_a_new_process(tmp_path):
    done = in_a_new_process(tmp_path / "[red]table[/red]\x1b.csv", "--target", "y")
    assert done.returncode == 2
    assert re.fullmatch(r"python -m fastmlp: There is no file '.*' *\.\n", done.stderr) and "\x1b" not in done.stderr


def test_no_files(short, capsys):
    """Folders, devices and addresses are not read."""
    for path, sentence in {
        ".": "is not a file",
        os.devnull: "is not a file",
        "http://localhost/t.csv": "no file",
    }.items():
        assert run(path, "--target", "y") == 2
        assert sentence in refusal(capsys)


def test_larger_than_memory(short, monkeypatch, capsys):
    """Refused before it is read; a compressed one by what it would become."""
    Path("table.csv").write_text(GOOD)
    with gzip.open("table.csv.gz", "wb") as file:
        file.write(GOOD.encode() + b"\n" * 10**8)
    monkeypatch.setattr(own_table.preprocessing, "memory", lambda: 1000)
    monkeypatch.setattr(pd, "read_csv", None)
    for path in "table.csv", "table.csv.gz":
        assert run(path, "--target", "y") == 2
        assert re.search(r"holds [0-9.]+ GB or more; with 0\.0 GB of memory", refusal(capsys))
    pytest.importorskip("pyarrow")
    houses().to_parquet("table.parquet")
    assert run("table.parquet", "--target", "y") == 2
    assert "GB of memory" in refusal(capsys)


WISHES = {
    "unknown format": (["--save", "model.pkl"], "must end in .joblib, .skops, .onnx"),
    "no folder": (["--save", "nowhere/model.joblib"], "There is no folder for 'nowhere/model.joblib'."),
    "no picture": (["--plot", "losses.csv"], "--plot 'losses.csv': its name must end in "),
    "output of nothing": (["--output", "p.csv"], "--output is for --predict."),
    "boosting": (["--save", "a.onnx", "--model", "HistGradientBoosting"], "not saved as .onnx"),
    "no such column to drop": (["--drop", "q"], "no column 'q'"),
    "no such column to keep": (["--keep", "q"], "no column 'q'"),
    "no rows to test": (["--test-size", "0.001"], "--test-size 0.001 "),
    "no rows to learn from": (["--test-size", "0.999"], "--test-size 0.999 "),
}


@pytest.mark.parametrize("case", WISHES)
def test_wishes_that_are_refused(case, short, capsys):
    """Before anything is fitted."""
    wishes, sentence = WISHES[case]
    Path("table.csv").write_text(GOOD)
    assert run("table.csv", "--target", "y", *wishes) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err and "fit, s" not in printed.out


@pytest.mark.parametrize(
    "package, arguments",
    [
        ("rich", []),
        ("matplotlib", ["--plot", "a.png"]),
        ("skops", ["--save", "a.skops"]),
        ("skl2onnx", ["--save", "a.onnx"]),
    ],
)
def test_missing_packages(package, arguments, short, monkeypatch, capsys):
    Path("table.csv").write_text(GOOD)
    monkeypatch.setitem(sys.modules, package, None)
    assert run("table.csv", "--target", "y", *arguments) == 2
    assert refusal(capsys).endswith(f"needs {package}: pip install {package}")


def test_no_pandas(short, monkeypatch, capsys):
    Path("table.csv").write_text(GOOD)
    monkeypatch.delitem(sys.modules, "fastmlp._own_table")
    monkeypatch.delattr(fastmlp, "_own_table")
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert run("table.csv", "--target", "y") == 2
    assert refusal(capsys) == "a table needs pandas: pip install pandas"


def test_no_pyarrow(short, monkeypatch, capsys):
    Path("table.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert run("table.parquet", "--target", "y") == 2
    assert refusal(capsys) == "A parquet file needs pyarrow: pip install pyarrow"


ARGUMENTS = {
    "no target": (["table.csv"], "a TABLE needs --target COLUMN"),
    "no table": (["--target", "y"], "--target needs a TABLE"),
    "to save nothing": (["--save", "a.joblib"], "--save needs a TABLE"),
    "test size": (["table.csv", "--target", "y", "--test-size", "1"], "must be between 0 and 1"),
    "time": (["table.csv", "--target", "y", "--max-time", "0"], "must be above 0"),
    "seed": (["table.csv", "--target", "y", "--random-state", "-1"], "must be from 0 to 2**32 - 1"),
    "repeats": (["table.csv", "--target", "y", "--repeats", "3"], "--repeats is not for a TABLE"),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_bad_arguments(case, capsys):
    arguments, reason = ARGUMENTS[case]
    with pytest.raises(SystemExit) as exit:
        run(*arguments)
    printed = capsys.readouterr()
    assert (exit.value.code, printed.out) == (2, "") and reason in printed.err


# ---- hostile cells --------------------------------------------------------------------------------------------------

CELLS = ["=cmd|'/c calc'!A1", "__import__('os').system('touch hacked')", "[red]markup[/red]", "[/]", "a\0b", "\x1b[31m"]


def as_csv(table, **arguments):
    """The text of a table. Python 3.10 writes no NUL: another character stands for it meanwhile."""

    def without(cell):
        return cell.replace("\0", "\ue000") if isinstance(cell, str) else cell

    columns = {without(name): list(map(without, column)) for name, column in table.items()}
    return pd.DataFrame(columns, dtype=object).to_csv(index=False, **arguments).replace("\ue000", "\0")


@pytest.mark.parametrize("where", ["cells", "names", "labels"])
def test_hostile_text(where, short, capsys):
    """It is text: nothing of it is run, nor does it reach a terminal unquoted."""
    table = pd.DataFrame({"x": np.arange(42) % 13 / 4, "c": CELLS * 7, "y": ["u", "v"] * 21})
    if where == "names":
        table = table.assign(**dict.fromkeys(CELLS, 1))  # they are named, as the same in all rows
    elif where == "labels":
        table["y"], table["c"] = CELLS * 7, "c"
    Path("table.csv").write_text(as_csv(table))
    status = run("table.csv", "--target", "y", "--predict", "table.csv", "--output", "p.csv")
    printed = capsys.readouterr()
    can_be_written = sys.version_info >= (3, 11) or "cannot be written as CSV" not in printed.err
    assert status == (0 if can_be_written else 2)
    assert "\x1b" not in printed.out + printed.err and "\0" not in printed.out + printed.err
    assert not Path("hacked").exists()
    if where == "names":
        assert repr(CELLS[0])[1:-1] in printed.out
    if where == "labels" and can_be_written:
        assert set(pd.read_csv("p.csv")["y"]) <= set(pd.read_csv("table.csv")["y"])


def test_predictions_that_cannot_be_written(short, monkeypatch, capsys):
    houses().to_csv("houses.csv", index=False)

    def refuse(*args, **kwargs):
        raise csv.Error("need to escape")

    monkeypatch.setattr(pd.DataFrame, "to_csv", refuse)
    assert run("houses.csv", "--target", "dear", "--predict", "houses.csv") == 2
    assert "The predictions cannot be written as CSV: need to escape" in capsys.readouterr().err


@pytest.mark.parametrize("length", [100_000, 1_000_000])
def test_long_cells(length, short):
    Path("table.csv").write_text(GOOD.replace(",a,", f",{'a' * length},", 1))
    assert run("table.csv", "--target", "y") == 0


cells = st.one_of(
    st.sampled_from(
        [*CELLS, "", "?", "nan", "inf", "-1e308", "1e309", "1" * 40, "1,5", "True", "2020-01-01", '"', ";"]
    ),
    st.text(max_size=5),
    st.floats().map(str),
    st.integers().map(str),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=40), st.booleans(), st.booleans())
def test_any_cells(rows, quoted, label):
    """A column of whatever cells: it is learnt from, or refused, in so many words."""
    table = pd.DataFrame(rows * -(-40 // len(rows)), columns=["a", "b"], dtype=object)
    text = as_csv(table.assign(y=np.arange(len(table)) % 3), quoting=1 if quoted else 0)
    check_any(text.encode("utf-8", "surrogatepass"), "a" if label else "y")


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes(content):
    check_any(content, "y")
    check_any(b"a,y\n" + content, "y")
    check_any(b"PAR1" + content, "y")
    check_any(gzip.compress(content), "y")


def check_any(content, target):
    """The command ends with 0, or with 2 and a sentence."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(own_table, "MODELS", ("MLP",))
        patch.setattr(own_table, "PAUSE", 0)
        patch.setattr(own_table, "busy_sentence", str)
        (Path(folder) / "table").write_bytes(content)
        assert run(Path(folder) / "table", "--target", target) in (0, 2)
