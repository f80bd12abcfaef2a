"""The inner loops on other processors, without running them: `python bench/assembly.py` prints the same as a table."""

from assembly import DTYPES, KERNELS, PROCESSORS, Absent, measure

from .common import TIMEOUT


class InnerLoops:
    """What llvm-mca says of the inner loops of a kernel."""

    params = [list(PROCESSORS), list(DTYPES), list(KERNELS)]
    param_names = ["processor", "dtype", "kernel"]
    timeout = TIMEOUT

    def setup_cache(self):
        """Figures by processor, or why there are none: each is compiled for once."""
        found = {}
        for name in PROCESSORS:
            try:
                found[name] = measure(name)
            except Absent as error:
                found[name] = str(error)
        return found

    def setup(self, found, name, dtype, kernel):
        if isinstance(found[name], str):
            raise NotImplementedError(found[name])

    def track_cycles_to_ideal(self, found, name, dtype, kernel):
        """Cycles of the slowest by those that its multiply-adds need of the processor's units; the less, the better."""
        return found[name][dtype, kernel].ratio

    def track_spills(self, found, name, dtype, kernel):
        """Instructions in the loops that go to the stack; 0 is best."""
        return found[name][dtype, kernel].spills

    track_cycles_to_ideal.unit, track_spills.unit = "ratio", "instructions"
