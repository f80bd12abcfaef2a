"""How bench/assembly.py reads assembly and llvm-mca's answers, with small texts of both."""

import importlib
import subprocess
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parent.parent / "bench"
X86 = """
kernel:
	vfmadd231ps	%zmm16, %zmm18, %zmm15
	.p2align	4
.LBB0_3:
	addq	$1, %rcx
	vmulps	%zmm1, %zmm2, %zmm3
	jne	.LBB0_3
.LBB0_31:
	vbroadcastss	-4(%r14,%r15,4), %zmm18
	vmovups	64(%rsp), %zmm17
	vfmadd231ps	%zmm16, %zmm18, %zmm15
	vfmadd231ps	(%rax){1to16}, %zmm17, %zmm14
	movq	%rcx, -8(%rsp)
	cmpq	%r15, %r13
	jne	.LBB0_31
	jmp	.LBB0_3
.LBB0_40:
	vfmadd213pd	(%rbp), %ymm18, %ymm15
	vfnmadd231pd	%ymm1, %ymm18, %ymm1
	vfmadd231sd	%xmm1, %xmm18, %xmm1
	jl	.LBB0_40
.LBB0_5:
	vfmadd231ps	%zmm16, %zmm18, %zmm15
	jne	.LBB0_31
.Lfunc_end0:
"""
APPLE = """
_kernel:
LBB0_1:
	ldp	q24, q25, [x4, #-32]
	ldr	x10, [sp, #16]
Lloh3:
	fmla.4s	v23, v24, v28[0]
	fmla.4s	v22, v25, v28
	str	x9, [x29, #-8]
	tbnz	w8, #0, LBB0_1
LBB0_2:
	ret
"""
ELF = """
.LBB0_7:
	fmla	v23.2d, v24.2d, v28.d[0]
	cbz	x9, .LBB0_9
	fmls	v23.2d, v24.2d, v28.2d
	b.gt	.LBB0_7
.LBB0_9:
	fmadd	d0, d1, d2, d3
	b	.LBB0_9
"""


@pytest.fixture
def assembly(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module("assembly")


def report(cycles, throughput):
    """What llvm-mca prints first."""
    lines = "Iterations:        1000", "Instructions:      100", f"Total Cycles:      {cycles}", ""
    return "\n".join([*lines, "Dispatch Width:    6", f"Block RThroughput: {throughput}", "", "[1]: #uOps", ""])


@pytest.fixture
def asked(assembly, monkeypatch):
    """All code that llvm-mca was asked about; it takes a cycle for each line."""
    codes = []

    def run(command, input, **options):
        codes.append((command[1:], input))
        lines = len(input.splitlines())
        return subprocess.CompletedProcess(command, 0, report(1_000 * lines, lines), "")

    monkeypatch.setattr(assembly, "llvm_mca", lambda: ("llvm-mca", 22))
    monkeypatch.setattr(assembly.subprocess, "run", run)
    return codes


def test_inner_loops_are_blocks_that_multiply_and_add_vectors_and_jump_to_themselves(assembly):
    assert [(loop.split(":")[0], len(loop.splitlines())) for loop in assembly.inner_loops(X86)] == [
        (".LBB0_31", 8),
        (".LBB0_40", 5),
    ]
    (apple,), (elf,) = assembly.inner_loops(APPLE), assembly.inner_loops(ELF)
    assert apple.endswith("\ttbnz	w8, #0, LBB0_1\n")
    assert elf.endswith("\tb.gt	.LBB0_7\n")


def test_figures_are_those_of_the_slowest_loop_and_all_spills(assembly, asked):
    figures = assembly.figures(X86, "sapphirerapids")  # 8 cycles for 2 * 512 bits, 5 for 2 * 256
    assert figures == (2, 5, 2, 0.5, 2)
    assert figures.ratio == 10
    commands, codes = zip(*asked, strict=True)
    assert all({"-mtriple=x86_64-unknown-linux-gnu", "-mcpu=sapphirerapids"} < set(command) for command in commands)
    assert codes[3].splitlines() == [
        "\tvfmadd213pd	(%rbp), %ymm18, %ymm15",
        "\tvfnmadd231pd	%ymm1, %ymm18, %ymm1",
    ]


@pytest.mark.parametrize(
    "text, name, expected", [(APPLE, "apple-m1", (2, 8, 2, 0.5, 2)), (ELF, "neoverse-v2", (2, 5, 2, 0.5, 0))]
)
def test_figures_of_arm(assembly, asked, text, name, expected):
    assert assembly.figures(text, name) == expected


def test_a_processor_that_llvm_mca_does_not_know_is_absent(assembly, asked, monkeypatch):
    text = "'znver4' is not a recognized processor for this target (ignoring processor)"
    done = subprocess.CompletedProcess([], 0, report(100, 1), text)
    monkeypatch.setattr(assembly.subprocess, "run", lambda *args, **options: done)
    with pytest.raises(assembly.Absent, match="does not know znver4"):
        assembly.figures(X86, "znver4")


@pytest.mark.parametrize("installed, used", [((14,), None), ((14, 19), 19), ((19, 22), 22)])
def test_the_newest_llvm_mca_counts_and_an_old_one_is_none(assembly, monkeypatch, installed, used):
    """The oldest of those installed is the one without a number in its name."""
    commands = {"llvm-mca": min(installed)} | {f"llvm-mca-{version}": version for version in installed}

    def run(command, **options):
        return subprocess.CompletedProcess(command, 0, f"Debian LLVM version {commands[command[0]]}.1.7\n", "")

    monkeypatch.setattr(assembly.shutil, "which", commands.get)
    monkeypatch.setattr(assembly.subprocess, "run", run)
    assembly.llvm_mca.cache_clear()
    if used is None:
        with pytest.raises(assembly.Absent, match="LLVM 19 or newer"):
            assembly.llvm_mca()
    else:
        assert assembly.llvm_mca() == (f"llvm-mca-{used}", used)
    assembly.llvm_mca.cache_clear()
