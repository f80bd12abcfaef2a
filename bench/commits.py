"""The package as it was at a commit. It is Python alone: its files are all that there is to build."""

import contextlib
import io
import subprocess
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def git(*arguments):
    """What git prints."""
    return subprocess.run(["git", "-C", ROOT, *arguments], check=True, capture_output=True).stdout


def full_hash(name):
    """The 40 digits of a commit that is named in any of git's ways."""
    return git("rev-parse", "--verify", f"{name}^{{commit}}").decode().strip()


@contextlib.contextmanager
def package_of(commit):
    """Yield a folder for PYTHONPATH that holds the package of this commit, and nothing else, for a while."""
    with (
        tempfile.TemporaryDirectory() as folder,
        tarfile.open(fileobj=io.BytesIO(git("archive", commit, "fastmlp"))) as tar,
    ):
        tar.extractall(folder, filter="data")
        yield Path(folder)
