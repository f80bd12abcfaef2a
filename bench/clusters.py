"""Scaling of the README's recipes for Dask: one thread of this process, a cluster of one worker, and of two, in turns.

    python bench/clusters.py [--rounds 5]

A worker is a process with one thread. A search sends its data within its time, as the recipe does; rows to predict lie
on the workers before. Training block by block is not here: a block waits for the one before it, on many workers too.
"""

import argparse
import os
import time
import warnings
from statistics import median

os.environ["OMP_NUM_THREADS"] = "1"  # as Dask sets it for workers

import dask.array as da  # noqa: E402
import joblib  # noqa: E402
import numpy as np  # noqa: E402
from compare import digits, ratio_cell, table_head, table_row  # noqa: E402
from dask.distributed import Client, wait  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402
from sklearn.model_selection import GridSearchCV, StratifiedKFold  # noqa: E402

from fastmlp import MLPClassifier, precompile  # noqa: E402

ROWS, BLOCK = 400_000, 20_000


def search(X, y):
    """Return how a search of 32 fits runs on a cluster, or here."""
    splits = list(StratifiedKFold(4).split(X, y))
    model = MLPClassifier(max_iter=100, tol=0, n_iter_no_change=1000, random_state=0)
    found = GridSearchCV(model, {"alpha": [10.0**-k for k in range(8)]}, cv=splits, refit=False)
    data = [X, y, *(rows for split in splits for rows in split)]

    def run(client):
        if client is None:
            return lambda: found.fit(X, y)

        def there():
            with joblib.parallel_config("dask", client=client, scatter=data):
                found.fit(X, y)

        return there

    return run


def predictions(X, y):
    """Return how a trained network predicts many rows, which lie on the workers, or here."""
    model = MLPClassifier((512, 512), max_iter=2, random_state=0).fit(X, y)
    rows = X[np.random.RandomState(0).choice(len(X), ROWS)]

    def run(client):
        if client is None:
            return lambda: model.predict(rows)
        blocks = client.persist(da.from_array(rows, (BLOCK, X.shape[1])))
        wait(blocks)
        return lambda: client.compute(blocks.map_blocks(model.predict, drop_axis=1, dtype=y.dtype)).result()

    return run


def elapsed(run):
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


JOBS = {"search of 32 fits, 64-100-10": search, f"classes of {ROWS:,} rows, 64-512-512-10": predictions}


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    warnings.simplefilter("ignore")  # nothing converges
    X, y = load_digits(return_X_y=True)
    precompile([X.dtype])
    print("\n".join(table_head(["seconds", "here, one thread", "one worker", "two workers", "one / two"])))
    options = {"threads_per_worker": 1, "dashboard_address": ":0"}
    with Client(n_workers=1, **options) as one, Client(n_workers=2, **options) as two:
        for client in one, two:
            client.run(warnings.simplefilter, "ignore")
        for name, job in JOBS.items():
            run = job(X / 16, y)
            runs = [run(client) for client in (None, one, two)]
            seconds = [[elapsed(timed) for timed in runs] for _ in range(rounds + 1)][1:]  # the first warms up
            middle = [digits(median(column)) for column in zip(*seconds, strict=True)]
            print(table_row(name, *middle, ratio_cell([b / c for _, b, c in seconds])))


if __name__ == "__main__":
    main()
