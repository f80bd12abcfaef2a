"""asv's benchmarks. The table of cases and the workers are those of compare.py, one folder up."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
