"""What both commands of ``python -m fastmlp`` tell beside times: the machine, how busy it is, how far curves are apart.

Nothing in here trains; all but the standard library is imported where it is needed.
"""

import importlib.metadata
import math
import os
import platform
import time

MODELS = "MLP", "sklearn-MLP", "RealMLP", "HistGradientBoosting"  # fitted to a table
PACKAGES = "numba", "llvmlite", "numpy", "scipy", "scikit-learn"
FEATURES = "avx", "avx2", "fma", "avx512f", "avx512vl", "neon", "sve"  # what tiles are made for
PAUSE = 0.1  # seconds before a timed fit: the other side's idle threads spin for a while after their last work


def cpu_name():
    """Return what the processor calls itself."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as lines:
            return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    except OSError:  # not Linux
        return name


def machine():
    """Return one line that names the processor, the threads and the versions that matter."""
    import numba
    import numpy as np
    import sklearn
    from threadpoolctl import threadpool_info

    blas = max((pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"), default=1)
    return (
        f"{cpu_name()}; threads: {numba.config.NUMBA_NUM_THREADS} (Numba), {blas} (BLAS); "
        f"numba {numba.__version__}, numpy {np.__version__}, scikit-learn {sklearn.__version__}"
    )


def version(package):
    """Return the version of an installed package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def cache():
    """Return where compiled kernels are kept, whether that can be written to, and how much is there."""
    from fastmlp.compiled import passes

    place = passes.epoch.dispatcher.stats.cache_path
    if place is None:
        return "none: no place can be written to, each process compiles anew"
    files = []
    if os.path.isdir(place):
        with os.scandir(place) as entries:
            files = [entry.stat().st_size for entry in entries if entry.name.endswith((".nbi", ".nbc"))]
    writable = "writable" if os.access(place, os.W_OK) else "not writable"
    return f"{place}, {writable}, {len(files)} files, {sum(files) / 1e6:.1f} MB"


def information():
    """Return name and value of all that a bug report should tell."""
    import numba
    import numpy as np

    import fastmlp
    from fastmlp import _threads
    from fastmlp.compiled.tile import FUSED, ROWS, VECS, VECTOR_BITS, host, lanes_of

    processor, features = host()
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    limit = _threads.cpu_limit()
    settings = {name: value for name, value in sorted(os.environ.items()) if name.startswith(("NUMBA_", "OMP_"))}
    return {
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "system": platform.platform(),
        "fastmlp": f"{fastmlp.__version__}, {os.path.dirname(fastmlp.__file__)}",
        **{package: version(package) for package in PACKAGES},
        "processor": f"{cpu_name()} ({numba.config.CPU_NAME or processor})",
        "features": " ".join(name for name in FEATURES if features.get(name)) or "none of " + " ".join(FEATURES),
        "tile": f"{ROWS} rows x {VECS} vectors of {VECTOR_BITS} bits: {lanes_of(np.dtype(np.float32))} float32 or "
        f"{lanes_of(np.dtype(np.float64))} float64; multiply-adds {'' if FUSED else 'not '}fused",
        "processors": f"{os.cpu_count()}, {affinity} of them for this process",
        "limit of control groups": "none" if math.isinf(limit) else f"{limit} processors",
        "threads of Numba": str(numba.config.NUMBA_NUM_THREADS),
        "threads of a fit": str(_threads.count()),
        "cache": cache(),
        "settings": " ".join(f"{name}={value}" for name, value in settings.items()) or "none",
    }


def busy_processors(seconds=0.3):
    """Return how many processors' time something else takes, while this process sleeps."""

    def used():
        with open("/proc/stat") as lines:
            user, nice, system, _, _, *others = map(int, lines.readline().split()[1:9])
        return user + nice + system + sum(others)

    try:
        before = used()
        time.sleep(seconds)
        return (used() - before) / os.sysconf("SC_CLK_TCK") / seconds
    except (OSError, ValueError, AttributeError):  # not Linux
        return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def busy_sentence():
    """Return what is to be said of times where something else takes more than a quarter of the processors."""
    busy, processors = busy_processors(), os.cpu_count() or 1
    if busy <= processors / 4:
        return ""
    return f"Something else takes {busy:.1f} of {processors} processors: the ratios of times are worth little."


def curve_difference(ours, theirs):
    """Return the largest relative difference of two fitted models' loss curves; infinite if the lengths differ."""
    import numpy as np

    a, b = np.asarray(ours.loss_curve_), np.asarray(theirs.loss_curve_)
    return float(np.max(np.abs(a - b) / np.abs(b))) if len(a) == len(b) else float("inf")
