"""Kernels that come with the package as LLVM's text: they are used where they fit, and give the same bits."""

import configparser
import fnmatch
import json
import lzma
import os
import pathlib
import pkgutil
import shutil
import subprocess
import sys

import pytest
from helpers import TESTS

import fastmlp
from fastmlp.compiled import shipped

PACKAGE, WRITER = pathlib.Path(fastmlp.__file__).resolve().parent, TESTS.parent / ".ci" / "kernels.py"

# Prints the loss, the kernels that Numba compiled from Python, and whether it did so with what we change of it.
FIT = """
import json, warnings
import numpy as np
from numba.core import event
import fastmlp
from fastmlp.compiled import jit, session
warnings.simplefilter("ignore")
def fit(dtype="float64"):
    X = np.arange(60.0, dtype=dtype).reshape(20, 3) / 60
    return float(fastmlp.MLPRegressor(hidden_layer_sizes=(4,), max_iter=2, random_state=0, tol=0).fit(X, X[:, 0]).loss_)
def report(*dtypes):
    kernels = {kernel.function.__qualname__ for kernel in jit._kernels}
    with event.install_recorder("numba:run_pass") as recorder:
        losses = [fit(dtype).hex() for dtype in dtypes]
    passes = [event.data for _, event in recorder.buffer if event.data["name"].startswith("native_lowering")]
    names = {data["qualname"] for data in passes} & kernels
    print(json.dumps({"losses": losses, "from Python": sorted(names), "hooks": session.hooks is not None}))
"""
BOTH = "report('float64', 'float32')"


def run(package, code, cache, **environment):
    """The last line that such a process prints, with this copy of the package and what is in this cache."""
    variables = {"PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1", "NUMBA_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", FIT + code],
        cwd=package.parent,
        env=os.environ | variables | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


pytestmark = [
    pytest.mark.xdist_group("shipped"),
    pytest.mark.skipif(not WRITER.exists(), reason="what writes them is not here"),
]


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A copy of the package without kernels, one with those of float64, and what a fit is without."""
    folder = tmp_path_factory.mktemp("packages")
    ignored = shutil.ignore_patterns("__pycache__", "kernels")
    bare, full = (
        pathlib.Path(shutil.copytree(PACKAGE, folder / name / "fastmlp", ignore=ignored)) for name in ("bare", "full")
    )
    plain = run(bare, BOTH, folder / "cache")
    code = f"""
import importlib.util, pathlib
spec = importlib.util.spec_from_file_location("kernels", {str(WRITER)!r})
writer = importlib.util.module_from_spec(spec)
spec.loader.exec_module(writer)
writer.write(pathlib.Path({str(full / "compiled" / "kernels")!r}), fit)
print("0")
"""
    run(full, code, folder / "cache of the writer")
    return bare, full, plain


def file_of(package):
    return package / "compiled" / "kernels" / shipped.file_name()


def test_without_them(packages):
    """All kernels are compiled from Python."""
    bare, _, plain = packages
    assert not (bare / "compiled" / "kernels").exists()
    assert len(plain["from Python"]) > 20 and plain["hooks"]


def test_the_same_bits(packages, tmp_path):
    """No kernel that came with the package is compiled from Python; others are; the next process has all on disk."""
    _, full, plain = packages
    one = run(full, "report('float64')", tmp_path / "one")
    assert one == {"losses": plain["losses"][:1], "from Python": [], "hooks": True}
    both = run(full, BOTH, tmp_path / "both")
    assert both == plain
    again = run(full, BOTH, tmp_path / "both")
    assert again == {"losses": plain["losses"], "from Python": [], "hooks": True}


def test_where_none_can_be_kept(packages, tmp_path):
    """They serve a process that can write nowhere."""
    _, full, plain = packages
    (tmp_path / "file").touch()
    nowhere = dict.fromkeys(["HOME", "XDG_CACHE_HOME", "LOCALAPPDATA", "USERPROFILE"], str(tmp_path / "file"))
    package = pathlib.Path(shutil.copytree(full, tmp_path / "fastmlp"))
    (package / "compiled" / "__pycache__").touch()
    found = run(package, "report('float64')", "", **nowhere)
    assert found == {"losses": plain["losses"][:1], "from Python": [], "hooks": True}


DAMAGES = {
    "cut off": lambda content: content[:-100],
    "empty": lambda content: b"",
    "overwritten": lambda content: content[:5000] + bytes(1000) + content[6000:],
    "other text": lambda content: lzma.compress(b"{"),
    "of no kernels": lambda content: lzma.compress(b"1"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files(packages, damage, monkeypatch):
    """They are as good as none."""
    content = file_of(packages[1]).read_bytes()
    monkeypatch.setattr(pkgutil, "get_data", lambda package, path: content)
    assert len(shipped._kernels.__wrapped__()) > 20
    monkeypatch.setattr(pkgutil, "get_data", lambda package, path: DAMAGES[damage](content))
    assert shipped._kernels.__wrapped__() == {}


def with_changes(full, folder, change):
    """A copy of the package with all kernels in its file changed: pairs of a symbol and what is there."""
    package = pathlib.Path(shutil.copytree(full, folder / "fastmlp"))
    kernels = json.loads(lzma.decompress(file_of(package).read_bytes()))
    file_of(package).write_bytes(lzma.compress(json.dumps(dict(map(change, kernels.items()))).encode()))
    return package


CHANGES = {
    "of another source": lambda item: (item[0].replace("fastmlp.", "fastmlp.0"), item[1]),
    "for another Numba": lambda item: (item[0], item[1] | {"type": "void ()"}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_kernels_that_do_not_fit(packages, change, tmp_path):
    """All are compiled from Python, as if they were not there."""
    _, full, plain = packages
    package = with_changes(full, tmp_path, CHANGES[change])
    assert run(package, BOTH, tmp_path / "cache") == plain


def test_text_that_llvm_does_not_read(packages, tmp_path):
    """Without what we change of Numba, as wherever LLVM or Numba refuse what we do."""
    _, full, plain = packages
    package = with_changes(full, tmp_path, lambda item: (item[0], item[1] | {"text": ["nonsense"]}))
    assert run(package, BOTH, tmp_path / "cache") == plain | {"hooks": False}


def test_a_wheel_brings_them():
    """As far as the files' names say."""
    config = configparser.ConfigParser()
    config.read(TESTS.parent / "setup.cfg")
    assert fnmatch.fnmatch(f"kernels/{shipped.file_name()}", config["options.package_data"]["fastmlp.compiled"])
