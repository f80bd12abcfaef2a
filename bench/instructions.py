"""Count the instructions of the jobs, under valgrind, as a processor with AVX2 would execute them on one thread.

Their number is the same on every x86-64 machine, busy or not, to some 0.1 %, for the same versions of Python, Numba and
their like; what memory and other threads cost it cannot see.

    python bench/instructions.py              # count, and print beside the numbers that instructions.json has
    python bench/instructions.py --check      # and exit with 1 if a job needs over 1 % more: the gate
    python bench/instructions.py --write      # and put the new numbers there
"""

import argparse
import ctypes
import gc
import importlib.metadata
import json
import mmap
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from jobs import JOBS, prepare

FILE = Path(__file__).with_name("instructions.json")
LIMIT = 1.01  # above it a job has become slower
REPEATS = 2  # of which the least counts: what malloc and Python do beside depends a little on what was before
PACKAGES = "numba", "llvmlite", "numpy", "scikit-learn"
SETTINGS = {  # what decides which instructions there are: valgrind does not know AVX-512
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "",
    "PYTHONHASHSEED": "0",
    **dict.fromkeys(["NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"], "1"),
}

# ---- the process that valgrind watches --------------------------------------------------------------------------

# valgrind knows a request by rotations of rdi that change nothing, and an exchange of rbx with itself: mov rax, rdi;
# xor edx, edx; rol rdi, 3; rol rdi, 13; rol rdi, 61; rol rdi, 51; xchg rbx, rbx; mov rax, rdx; ret (valgrind.h).
REQUEST = bytes.fromhex("4889f8 31d2 48c1c703 48c1c70d 48c1c73d 48c1c733 4887db 4889d0 c3")
ZERO, DUMP, START, STOP = (0x43540000 + i for i in (1, 3, 4, 5))  # of callgrind.h, whose base is "CT"


def requests():
    """Return a function that sends one request, with a text, to valgrind; elsewhere it does nothing."""
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(REQUEST)
    code = ctypes.c_char.from_buffer(page)  # holds the page
    call = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)(ctypes.addressof(code))

    def send(request, text="", code=code):
        text = ctypes.create_string_buffer(text.encode())
        words = (ctypes.c_uint64 * 6)(request, ctypes.addressof(text))
        call(ctypes.addressof(words))

    return send


def count_here(names):
    """Do these jobs, and have valgrind count each; print those that this version of fastmlp cannot do."""
    request = requests()
    for name in names:
        try:
            run = prepare(name)
        except Exception as error:  # an old commit may lack what the job needs, or be broken
            print(f"{name}: {type(error).__name__}, {error}")
            continue
        for _ in range(REPEATS):
            gc.collect()
            gc.disable()  # when it runs depends on all that was made before
            request(START)
            request(ZERO)
            run()
            request(DUMP, name)
            request(STOP)
            gc.enable()


# ---- the process that starts it ---------------------------------------------------------------------------------


def counts_in(text):
    """Job and instructions of one of callgrind's files; None if it was written for another reason."""
    job = re.search(r"^desc: Trigger: Client Request: (.*)$", text, re.MULTILINE)
    return job and (job[1], int(re.search(r"^summary: (\d+)$", text, re.MULTILINE)[1]))


def count(names):
    """Return the instructions of each of these jobs, without those that this version of fastmlp cannot do.

    Raises FileNotFoundError if there is no valgrind.
    """
    if not shutil.which("valgrind"):
        raise FileNotFoundError("valgrind is not installed")
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | SETTINGS | {"NUMBA_CACHE_DIR": f"{folder}/kernels"}
        command = [sys.executable, __file__, "--here", *names]
        subprocess.run(command, env=environment, check=True, stdout=sys.stderr)  # compiles, at full speed
        callgrind = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/out"]
        subprocess.run([*callgrind, *command], env=environment, check=True, stdout=subprocess.DEVNULL)
        found = list(filter(None, (counts_in(file.read_text()) for file in Path(folder).glob("out*"))))
        return {name: min(n for job, n in found if job == name) for name in names if name in dict(found)}


def versions():
    """What the numbers depend on beside fastmlp."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"python": python} | {name: importlib.metadata.version(name) for name in PACKAGES}


def compare(counts, known):
    """Return a line for each job, and the names of those that need over 1 % more than is known, or are not done."""
    lines, slower = [], [name for name in known if name not in counts]
    for name, n in counts.items():
        ratio = n / known[name] if name in known else 1.0
        lines.append(f"{name:16}{n:15,}{known.get(name, 0):15,}{ratio - 1:+9.2%}")
        slower += [name] * (ratio > LIMIT)
    return lines, slower


def main(argv=None):
    """Count and print; return 1 if a job has become slower and that is to be checked, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit with 1 if a job needs over 1 %% more than is known")
    parser.add_argument("--write", action="store_true", help=f"put the numbers into {FILE.name}")
    parser.add_argument("--requirements", action="store_true", help="print the versions of its numbers, for pip; stop")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("jobs", nargs="*", help=f"some of: {', '.join(JOBS)} (default: all)")
    arguments = parser.parse_args(argv)
    names = arguments.jobs or list(JOBS)
    if unknown := set(names) - set(JOBS):
        parser.error(f"no such job: {', '.join(sorted(unknown))}")
    if arguments.here:
        count_here(names)
        return 0
    known = json.loads(FILE.read_text()) if FILE.exists() else {"versions": versions(), "instructions": {}}
    if arguments.requirements:
        print(*(f"{name}=={known['versions'][name]}" for name in PACKAGES))
        return 0
    if arguments.check and known["versions"] != versions():
        print(f"Instructions are not counted: the numbers belong to {known['versions']}, here is {versions()}.")
        return 0
    try:
        counts = count(names)
    except FileNotFoundError as error:
        print(f"Instructions are not counted: {error}.")
        return 0
    lines, slower = compare(counts, {name: n for name, n in known["instructions"].items() if name in names})
    print(f"{'job':16}{'instructions':>15}{'known':>15}{'change':>9}", *lines, sep="\n")
    if arguments.write:
        numbers = {"versions": versions(), "instructions": known["instructions"] | counts}
        FILE.write_text(json.dumps(numbers, indent=4) + "\n")
    if slower and arguments.check:
        print(f"Slower by over 1 %, or not done at all: {', '.join(slower)}. If that is meant, write new numbers, and")
        print("let them stand in the same commit:")
        print(shlex.join(["python", "bench/instructions.py", "--write", *slower]))
    return int(arguments.check and bool(slower))


if __name__ == "__main__":
    sys.exit(main())
