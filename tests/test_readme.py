"""The examples of the README run as they stand there.

Each is complete but for X and y, which it may use without making them: the digits, scaled to [0, 1].
"""

import contextlib
import importlib.util
import os
import pathlib
import re
import textwrap
from unittest import mock

import pytest
from sklearn.datasets import load_digits

README = pathlib.Path(__file__).parents[1] / "README.md"
# Packages that only an example needs, and what else speaks of them.
OPTIONAL = ["dask", "dask_ml", "matplotlib", "onnxruntime", "pandas", "skl2onnx", "skops"]
NEEDS = {
    "LossCurveDisplay": "matplotlib",
    "register_onnx": "skl2onnx",
    "sklearn.callback": "sklearn.callback",
    **{name: name for name in OPTIONAL},
}


def examples():
    """Each fenced block of Python: its first line's number, and its text."""
    text = README.read_text(encoding="utf-8")
    for block in re.finditer(r"^ *```python\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
        yield text.count("\n", 0, block.start(1)) + 1, textwrap.dedent(block[1])


def test_there_are_examples():
    """One at least, and none under another name of Python."""
    assert list(examples())
    assert not re.search(r"^ *``` *(?!python$)(py|Py|PY|ipython)", README.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore:Port 8787 is already in use")
@pytest.mark.parametrize("line, code", [pytest.param(*example, id=f"line {example[0]}") for example in examples()])
def test_example(line, code, tmp_path, monkeypatch):
    """It raises nothing and warns of nothing; what it writes goes to a folder that is removed."""
    needed = {package for word, package in NEEDS.items() if re.search(rf"\b{word}\b", code)}
    if missing := [package for package in needed if importlib.util.find_spec(package) is None]:
        pytest.skip(f"needs {', '.join(missing)}")
    monkeypatch.chdir(tmp_path)
    X, y = load_digits(return_X_y=True)
    lines = "\n" * (line - 1)  # so that a traceback names those of the README
    pictures = pictures_that_no_one_sees() if "matplotlib" in needed else contextlib.nullcontext()
    with pictures, mock.patch.dict(os.environ):  # which Dask changes
        exec(compile(lines + code, str(README), "exec"), {"__name__": "__main__", "X": X / 16, "y": y})


@contextlib.contextmanager
def pictures_that_no_one_sees():
    """pyplot without a screen, whose `show` returns at once and without a warning; no figure is left."""
    import matplotlib.pyplot

    matplotlib.use("template")
    yield
    matplotlib.pyplot.close("all")
