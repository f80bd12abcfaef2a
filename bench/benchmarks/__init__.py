"""asv's benchmarks. The table of cases and the workers are those of compare.py, one folder up."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
# asv takes PYTHONPATH away and puts its folders into sys.path, which processes that a benchmark starts do not see
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
