"""The tests of what depends on vectors, again on each other tile that this processor can execute.

Its own tile is what the other files test. AVX2 has twelve columns of float64 in a panel, where AVX-512 has sixteen, and
sixteen registers instead of thirty-two; 128 bits stand for NEON, and for processors without fused multiply-add.
"""

import os
import platform

import pytest
from helpers import OTHER_PROCESSOR, run_python

from fastmlp.compiled.tile import VECTOR_BITS, host

# bits of the vectors: a processor of LLVM's that has them, features that it takes to execute its code
PROCESSORS = {256: ("haswell", ["avx2", "fma"]), 128: ("nehalem", ["sse4.2"])}
# what is tested there: the intrinsics, activations; bounds, twin and thresholds; forward, gradients, training, dropout;
# sparse X; scikit-learn's numbers, losses; predictions of few rows and of many; networks for tables, their recipe,
# and models that another processor has saved
THERE = {
    "tile": ["test_tile.py", "test_activations.py"],
    "bounds": ["test_bounds.py"],
    "network": ["test_network.py", "test_dropout.py", "test_clipping.py", "-k", "not central_differences"],
    "sparse": ["test_sparse.py"],
    "parity": ["test_parity.py", "test_losses.py", "-k", "not test_lbfgs"],
    "predictions": ["test_estimators.py", "-k", "prediction or row_of_a_large or few"],
    "tables": ["test_tabular.py", "test_recipe.py", "test_frozen_models.py"],
}


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="processors of x86-64")
@pytest.mark.skipif(OTHER_PROCESSOR in os.environ, reason="runs for another processor already")
@pytest.mark.parametrize("what", THERE)
@pytest.mark.parametrize("bits", PROCESSORS)
def test_on_the_tile_of(bits, what, tmp_path_factory):
    name, needed = PROCESSORS[bits]
    if not all(host()[1].get(feature) for feature in needed):
        pytest.skip(f"this processor cannot execute code for {name}")
    if bits == VECTOR_BITS:
        pytest.skip("this processor's own tile")
    run_python(
        *[
            "-m",
            "pytest",
            "-q",
            "--tb=short",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "-o",
            "addopts=",
            *THERE[what],
        ],
        *["-m", "not long"],
        timeout=1800,
        NUMBA_CPU_NAME=name,
        NUMBA_CPU_FEATURES="",  # what the name implies; Numba would add what this machine has
        NUMBA_CACHE_DIR=str(tmp_path_factory.getbasetemp().parent / f"kernels-{bits}"),  # compiled once
        **{OTHER_PROCESSOR: str(bits)},
    )
