"""Writes the kernels that a wheel brings, which `fastmlp/compiled/shipped.py` reads: run it before a wheel is built.

    python3 .ci/kernels.py [--cpu NAME]... [--folder FOLDER]

Those for a processor serve all that have the same tile shape, on systems like this one, and as LLVM of this version.
This machine must execute the processors' instructions. Half a minute each.
"""

import argparse
import json
import lzma
import os
import pathlib
import platform
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
CPUS = {"x86_64": ["skylake-avx512", "haswell"], "AMD64": ["skylake-avx512", "haswell"]}  # as LLVM names them


def everything():
    """Have all kernels compiled."""
    import fastmlp

    fastmlp.precompile(["float64", "float32"], sparse=True)
    fastmlp.precompile(["float32"], tables=True)


def write(folder, compile_kernels=everything):
    """Write what is compiled meanwhile, for the tile shape of this process; nothing may have been compiled before."""
    from numba import types
    from numba.core.codegen import CPUCodeLibrary

    from fastmlp.compiled import jit, shipped

    kernels, link, translate = {}, jit.Kernel._link, CPUCodeLibrary._finalize_final_module

    def note_and_translate(library):
        library.optimized = str(library._final_module)  # making machine code of it changes it
        translate(library)

    def link_and_keep(kernel, symbol, compiled):
        link(kernel, symbol, compiled)
        function_type = compiled.target_context.call_conv.get_function_type(types.void, compiled.signature.args)
        name, environment = compiled.fndesc.llvm_func_name, compiled.fndesc.env_name
        lines = [
            line
            for line in compiled.library.optimized.splitlines()
            if not line.startswith("@_ZN08NumbaEnv") or environment in line  # those of what was inlined are unused
        ]
        kernels[symbol] = {"name": name, "environment": environment, "type": str(function_type), "text": lines}

    shipped._kernels = dict  # from Python, whatever is there already
    jit.Kernel._link, CPUCodeLibrary._finalize_final_module = link_and_keep, note_and_translate
    compile_kernels()
    folder.mkdir(exist_ok=True)
    path = folder / shipped.file_name()
    path.write_bytes(lzma.compress(json.dumps(kernels, sort_keys=True).encode()))
    print(f"{path}: {len(kernels)} kernels, {path.stat().st_size:,} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", action="append", metavar="NAME", help="a processor, as LLVM names it")
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "fastmlp" / "compiled" / "kernels")
    parser.add_argument("--this", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.this:
        return write(options.folder)
    for cpu in options.cpu or CPUS.get(platform.machine(), ["generic"]):
        with tempfile.TemporaryDirectory() as cache:
            variables = {"NUMBA_CPU_NAME": cpu, "NUMBA_CACHE_DIR": cache, "PYTHONPATH": str(ROOT)}
            command = [sys.executable, __file__, "--this", "--folder", str(options.folder)]
            subprocess.run(command, env=os.environ | variables, check=True)


if __name__ == "__main__":
    main()
