"""The inner loops on processors that are not there: their assembly, and the cycles that llvm-mca says they take.

python bench/assembly.py prints a table.
"""

import functools
import logging
import multiprocessing
import os
import platform
import re
import shutil
import subprocess
import tempfile
from typing import NamedTuple

# the versions of LLVM: older ones take another processor's model where they have none, and do not say so
OLDEST, NEWEST = 19, 40
ITERATIONS = 1_000  # of a loop: what it waits for at first no longer counts
DTYPES, KERNELS = ("float32", "float64"), ("forward", "gradient")  # backward has forward's loop

# LLVM's triple, and the bits of multiply-adds that can begin in a cycle: vector units by their width. The units are
# from AMD's guides to optimising software for Zen 3 and 4 (512 bits take two cycles of a unit there), Intel's manual of
# optimisation (Golden Cove, ports 0 and 5) and Arm's guide for Neoverse V2; for the M1 from measurements, as Apple
# does not say.
X86 = "x86_64-unknown-linux-gnu"
PROCESSORS = {
    "znver3": (X86, 2 * 256),
    "znver4": (X86, 2 * 256),
    "sapphirerapids": (X86, 2 * 512),
    "apple-m1": ("arm64-apple-macosx", 4 * 128),
    "neoverse-v2": ("aarch64-unknown-linux-gnu", 4 * 128),
}
MULTIPLY_ADD = re.compile(r"^\s+(?:vfn?m(?:add|sub)\d+p[sd]|fml[as](?:\.\d[sd])?)\s.*", re.MULTILINE)
WIDTHS = {"zmm": 512, "ymm": 256}  # bits of the registers in a multiply-add; all others have 128
STACK = re.compile(r"\(%rsp|\[(?:sp|x29)\b")


class Absent(Exception):
    """No llvm-mca, or no compiler, for this processor."""


class Figures(NamedTuple):
    """The slowest inner loop of a kernel, an iteration of it; and the spills in all inner loops of the kernel."""

    multiply_adds: int  # of vectors
    cycles: float
    alone: float  # cycles that the same model gives the multiply-adds if there is nothing else
    ideal: float  # cycles that the processor's units need for them
    spills: int

    @property
    def ratio(self):
        return self.cycles / self.ideal


def _compile(name):
    """The assembly of kernels, by dtype and kernel. It changes what Numba compiles for: in a process of its own only.

    What is compiled is never called. For ARM, LLVM's other target takes the place of the one that Numba made, with the
    tile for vectors of 128 bits.
    """
    triple, _ = PROCESSORS[name]
    logging.getLogger("fastmlp").setLevel(logging.ERROR)  # not that it compiles
    with tempfile.TemporaryDirectory() as cache:  # what comes from a cache has no assembly
        os.environ |= {"NUMBA_CPU_NAME": name if triple == X86 else "x86-64", "NUMBA_CPU_FEATURES": ""}
        os.environ["NUMBA_CACHE_DIR"] = cache
        import llvmlite.binding as llvm
        import numba
        from numba.core.registry import cpu_target

        try:
            from fastmlp.compiled import session
            from fastmlp.compiled.dense import TYPES, _forward_wide, _gradient_wide
            from fastmlp.compiled.signals import Signals

            if triple != X86:
                llvm.initialize_all_targets()
                llvm.initialize_all_asmprinters()
                target = llvm.Target.from_triple(triple)  # RuntimeError where llvmlite was built for one target
                cpu_target.target_context.codegen()._tm = target.create_target_machine(cpu=name, opt=3)
        except (ImportError, RuntimeError) as error:
            raise Absent(str(error)) from None
        texts = {}
        for dtype in DTYPES:
            bound, signals = {TYPES[p].dtype: getattr(numba.types, dtype) for p in ("A", "X")}, Signals()
            for label, kernel in zip(KERNELS, (_forward_wide, _gradient_wide), strict=True):
                with session.compiling(False, signals):
                    kernel.load(bound, signals)
                *_, newest = kernel._dispatcher.overloads.values()
                texts[dtype, label] = newest.library.get_asm_str()
        return texts


def inner_loops(text):
    """The blocks of an assembly that multiply and add vectors and jump to their own start."""
    for block in re.split(r"^(?=\.?LBB\w+:)", text, flags=re.MULTILINE):
        label = block.partition(":")[0]
        jump = re.search(rf"^\s+(?:j|b|cb|tb)\S*\s+(?:.*\s)?{re.escape(label)}$\n?", block, re.MULTILINE)
        if jump and MULTIPLY_ADD.search(block, 0, jump.start()):
            yield block[: jump.end()]


@functools.cache
def llvm_mca():
    """The newest llvm-mca that is installed, and its version."""
    for command in [f"llvm-mca-{version}" for version in range(NEWEST, OLDEST - 1, -1)] + ["llvm-mca"]:
        if shutil.which(command):
            text = subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout
            version = int(re.search(r"version (\d+)", text)[1])
            if version >= OLDEST:
                return command, version
    raise Absent(f"no llvm-mca of LLVM {OLDEST} or newer")


def ask(code, name):
    """What llvm-mca says of code that runs again and again with all its data in the first-level cache."""
    triple, _ = PROCESSORS[name]
    command = [llvm_mca()[0], f"-mtriple={triple}", f"-mcpu={name}", f"-iterations={ITERATIONS}"]
    done = subprocess.run(command, input=code, capture_output=True, text=True)
    if "not a recognized processor" in done.stderr:
        raise Absent(f"llvm-mca does not know {name}")
    if done.returncode:
        raise RuntimeError(done.stderr)
    return {key: float(value) for key, value in re.findall(r"^([\w ]+):\s+([\d.]+)$", done.stdout, re.MULTILINE)}


def figures(text, name):
    """The Figures of a kernel's assembly."""
    found, (_, bits_a_cycle) = [], PROCESSORS[name]
    for loop in inner_loops(text):
        lines = MULTIPLY_ADD.findall(loop)
        bits = sum(max([WIDTHS[w] for w in WIDTHS if w in line], default=128) for line in lines)
        cycles = ask(loop, name)["Total Cycles"] / ITERATIONS
        alone = ask("\n".join(lines), name)["Block RThroughput"]
        found.append(Figures(len(lines), cycles, alone, bits / bits_a_cycle, len(STACK.findall(loop))))
    slowest = max(found, key=lambda one: one.ratio)
    return slowest._replace(spills=sum(one.spills for one in found))


def measure(name):
    """Return the Figures of this processor's code by dtype and kernel, or raise Absent."""
    llvm_mca()
    if platform.machine() not in ("x86_64", "AMD64"):
        raise Absent("Numba compiles for x86-64 on x86-64 only")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        texts = pool.apply(_compile, [name])
    return {key: figures(text, name) for key, text in texts.items()}


if __name__ == "__main__":
    print("| processor | dtype | kernel | multiply-adds | cycles | multiply-adds alone | ideal | ratio | spills |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in PROCESSORS:
        try:
            for (dtype, kernel), f in measure(name).items():
                numbers = f"{f.multiply_adds} | {f.cycles:.1f} | {f.alone:.1f} | {f.ideal:.0f} | {f.ratio:.2f}"
                print(f"| {name} | {dtype} | {kernel} | {numbers} | {f.spills} |")
        except Absent as error:
            print(f"| {name} | {error} |")
