"""The tests on the oldest, on middle and on the newest versions of what fastmlp needs, in an environment for each.

    python3 .ci/matrix.py [--folder FOLDER] [--python PYTHON]... [--only LINE]... [arguments of pytest]

Ends with a table; the exit status is 1 if a line of it failed. Some twelve minutes a line. With `PIP_PRE=1` before it
pip takes pre-releases, too.
"""

import argparse
import configparser
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parents[1]
SHOWN = ["numba", "numpy", "scikit-learn", "scipy", "pandas"]


def lower_bounds():
    """The oldest Python that setup.cfg admits, and the oldest version of each requirement: "name==version; marker"."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    options, extras = config["options"], config["options.extras_require"]
    requirements = (options["install_requires"] + extras["test"]).split("\n")
    pins = [re.sub(r">=\s*([\d.]+)[^;]*", r"==\1", line) for line in requirements if line]
    return options["python_requires"].removeprefix(">="), pins


def lines():
    """name: (Python, what is installed beside the package)."""
    python, pins = lower_bounds()
    middle = ["numba==0.62.*", "numpy==2.2.*", "scikit-learn==1.8.*", "scipy==1.15.*", "pandas==2.2.*"]
    optional = ["cloudpickle", "onnxruntime", "polars", "pyarrow", "skl2onnx"]  # else their tests are skipped
    return {"oldest": (python, pins), "middle": ("3.12", middle), "newest": ("3.13", optional)}


def interpreters(given):
    """Version, like "3.10", of each of these interpreters."""
    say = "import sys; print('%d.%d' % sys.version_info[:2])"
    return {
        subprocess.run([python, "-c", say], check=True, capture_output=True, text=True).stdout.strip(): python
        for python in given
    }


def run_line(interpreter, packages, folder, arguments):
    """Versions of the packages, and how many tests passed, failed and were skipped, or None if they did not end."""
    subprocess.run([interpreter, "-m", "venv", "--clear", folder], check=True)
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "-e", f"{ROOT}[test]", *packages], check=True)
    found = subprocess.run([python, "-m", "pip", "list", "--format=json"], check=True, capture_output=True).stdout
    versions = {package["name"]: package["version"] for package in json.loads(found)}

    report = folder / "report.xml"
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder / "kernels")}  # another Numba would discard the kernels
    command = [python, "-m", "pytest", f"--junitxml={report}", "-p", "no:cacheprovider", *arguments]
    status = subprocess.run(command, cwd=ROOT, env=environment).returncode
    if not report.exists():
        return versions, None
    suite = xml.etree.ElementTree.parse(report).find("testsuite").attrib
    failed, skipped = int(suite["failures"]) + int(suite["errors"]), int(suite["skipped"])
    return versions, (int(suite["tests"]) - failed - skipped, max(failed, int(status != 0)), skipped)


def main():
    matrix = lines()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=pathlib.Path, help="for the environments; one that goes at the end if absent")
    parser.add_argument("--python", action="append", default=[], help="an interpreter; else python3.10 ... are sought")
    parser.add_argument("--only", action="append", choices=matrix, help="a line of the table; all if absent")
    options, arguments = parser.parse_known_args()

    given, table = interpreters(options.python), []
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.only or matrix:
            version, packages = matrix[name]
            interpreter, started = given.get(version) or shutil.which(f"python{version}"), time.perf_counter()
            versions, counts = {}, None
            try:
                if interpreter is None:
                    raise FileNotFoundError(f"no python{version}")
                folder = (options.folder or pathlib.Path(temporary)).absolute() / name
                versions, counts = run_line(interpreter, packages, folder, arguments)
            except (OSError, subprocess.CalledProcessError) as error:
                print(f"{name}: {error}", file=sys.stderr)
            minutes = f"{(time.perf_counter() - started) / 60:.1f}"
            cells = [versions.get(package, "") for package in SHOWN]
            table.append([name, version, *cells, *map(str, counts or ("", "not run to the end", "")), minutes])

    print()
    for row in [
        ["line", "Python", *SHOWN, "passed", "failed", "skipped", "minutes"],
        ["---"] * (6 + len(SHOWN)),
        *table,
    ]:
        print("|", " | ".join(row), "|")
    return int(any(row[-3] != "0" for row in table))


if __name__ == "__main__":
    sys.exit(main())
