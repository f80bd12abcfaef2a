"""The other end of peers.py: start a worker, ask it, and let several of them take turns."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from conditions import CONDITIONS

PAUSE = 0.1  # seconds before a timed run: the last runner's idle threads spin for a while
FAR = 3  # a peer that takes so many times as long as the fastest one cannot be the one that counts
SLOW_BLAS = "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"  # would keep scikit-learn and NumPy from their own speed


def threads():
    """How many threads everyone gets: all that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def environment():
    """Return what workers see of the environment: no settings that slow BLAS down, the same threads for everyone."""
    names = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"
    kept = {name: value for name, value in os.environ.items() if name not in SLOW_BLAS}
    return kept | dict.fromkeys(names, str(threads()))


class Absent(Exception):
    """A peer that is not there, or cannot do what it was asked."""


class Worker:
    """A process for one peer. It sleeps until it is asked."""

    def __init__(self, name, **settings):
        script = Path(__file__).with_name("peers.py")
        self._process = subprocess.Popen(
            [sys.executable, script, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment() | settings,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(BrokenPipeError):  # it has ended already
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def ask(self, *command):
        """Return the answer to a command, or raise Absent."""
        try:
            print(json.dumps(command), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise Absent(f"its process ended, {self._process.wait()}")
        answer = json.loads(line)
        if isinstance(answer, dict):
            raise Absent(answer["error"])
        return answer


def alternate(workers, rounds, budget=float("inf"), ready=lambda: None, condition="quiet"):
    """Let workers that have been given a case take turns, the first of them with its peers; return each one's seconds.

    A peer that took more than FAR times as long as the fastest one in the first round takes no other. Rounds after the
    third are left out where they would take more seconds than `budget` in all. `ready` returns when a round may begin.
    """
    seconds, running, begin = {name: [] for name in workers}, dict(workers), time.perf_counter()
    for i in range(rounds):
        if i >= 3 and (time.perf_counter() - begin) * (i + 1) / i > budget:
            break
        ready()
        with CONDITIONS[condition].around():
            for name, worker in running.items():
                time.sleep(PAUSE)
                seconds[name].append(worker.ask("run", condition))
        if i == 0:
            ours, *peers = workers
            fastest = min((seconds[name][0] for name in peers), default=0)
            running = {name: w for name, w in workers.items() if name == ours or seconds[name][0] <= FAR * fastest}
            begin = time.perf_counter() if len(running) < len(workers) else begin
    return seconds
