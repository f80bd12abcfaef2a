"""A user's program, run by .ci/run where fastmlp and what it requires are all that is installed; mypy reads it, too."""

import importlib.metadata

import numpy as np

import fastmlp
from fastmlp.compiled import shipped

version, files = importlib.metadata.version("fastmlp"), importlib.metadata.files("fastmlp") or []
assert version == fastmlp.__version__, (version, fastmlp.__version__)
assert {file.parts[0] for file in files} == {"fastmlp", f"fastmlp-{version}.dist-info"}, "the package and nothing else"
kernels = any(file.match("fastmlp/compiled/kernels/*.json.xz") for file in files)

X, y = np.eye(4), np.arange(4)
model: fastmlp.MLPClassifier = fastmlp.MLPClassifier(learning_rate_init=0.1, random_state=0).fit(X, y)
assert model.predict(X).tolist() == [0, 1, 2, 3]

table, words = [["red", 1.0], ["blue", None]] * 20, ["no", "yes"] * 20  # without pandas
tables: fastmlp.RealMLPClassifier = fastmlp.RealMLPClassifier(max_iter=30, random_state=0).fit(table, words)
assert tables.score(table, words) == 1.0

# a wheel that brings kernels has those of this fit, which Numba then does not compile from Python
assert bool(shipped._kernels()) == kernels

# what types are for: mypy must object here, as --warn-unused-ignores has it
refused = fastmlp.MLPClassifier(max_iter="many")  # type: ignore[arg-type]
