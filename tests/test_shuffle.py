"""The shuffle before each epoch is NumPy's: the same order from the same generator, left in the same state."""

import os
import pickle
import threading
import time

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastmlp.compiled.shuffle import WORDS, shuffle


def state(generator):
    """What tells whether generators go on alike: all of it, the normal number that one may have in store too."""
    return [np.asarray(value).tolist() for value in generator.get_state()]


@settings(deadline=None)  # the first one waits for the compiler
@given(st.integers(0, 3 * WORDS), st.integers(0, 2**32 - 1), st.integers(0, 2 * WORDS), st.booleans())
@example(2, 0, WORDS, False)  # the last word is used, the next block is to be made
@example(WORDS, 0, WORDS - 1, True)
def test_order_and_state_are_those_of_numpy(n, seed, drawn, normal):
    """For any number of rows, after any number of draws, three shuffles on top of each other."""
    ours, theirs = np.random.RandomState(seed), np.random.RandomState(seed)
    for generator in ours, theirs:
        generator.randint(2**32, size=drawn, dtype=np.uint32)
        if normal:
            generator.standard_normal()
    rows, expected = np.arange(n), np.arange(n)
    for _ in range(3):
        shuffle(ours, rows)
        theirs.shuffle(expected)
        assert np.array_equal(rows, expected)
        assert state(ours) == state(theirs)
    assert ours.standard_normal() == theirs.standard_normal()


@pytest.mark.parametrize("n", [2**16 - 1, 2**16, 2**16 + 1, 1_000_003])
def test_many_rows(n):
    """Also around a power of two, where a draw needs another bit."""
    ours, theirs = np.random.RandomState(5), np.random.RandomState(5)
    rows, expected = np.arange(n), np.arange(n)
    shuffle(ours, rows)
    theirs.shuffle(expected)
    assert np.array_equal(rows, expected)
    assert state(ours) == state(theirs)


class Reversed(np.random.RandomState):
    """A generator whose shuffle is its own."""

    def shuffle(self, x):
        x[:] = x[::-1].copy()


def test_other_generators_shuffle_as_they_do():
    rows = np.arange(50)
    shuffle(Reversed(0), rows)
    assert rows.tolist() == list(range(49, -1, -1))
    rows, expected = np.arange(50), np.arange(50)
    shuffle(np.random.RandomState(np.random.PCG64(0)), rows)
    np.random.RandomState(np.random.PCG64(0)).shuffle(expected)
    assert np.array_equal(rows, expected)


def test_a_generator_that_threads_share():
    """Each thread gets orders of all rows, and the generator goes on as after so many shuffles by NumPy."""
    shared, count, n, orders = np.random.RandomState(0), 200, 1000, []

    def run():
        for _ in range(count):
            rows = np.arange(n)
            shuffle(shared, rows)
            orders.append(rows)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    theirs = np.random.RandomState(0)
    expected = []
    for _ in range(4 * count):
        rows = np.arange(n)
        theirs.shuffle(rows)
        expected.append(rows.tobytes())
    assert sorted(order.tobytes() for order in orders) == sorted(expected)
    assert state(shared) == state(theirs)


def test_a_pickled_generator_goes_on():
    ours = pickle.loads(pickle.dumps(np.random.RandomState(7)))
    rows, expected = np.arange(100), np.arange(100)
    shuffle(ours, rows)
    np.random.RandomState(7).shuffle(expected)
    assert np.array_equal(rows, expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_children_of_a_process_that_shuffles():
    """A child forked while another thread shuffles can draw from the generator that was in use."""
    shared, ended = np.random.RandomState(0), threading.Event()

    def run():
        rows = np.arange(100_000)
        while not ended.is_set():
            shuffle(shared, rows)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                shared.randint(10)
                os._exit(0)
            for _ in range(1000):
                done, status = os.waitpid(child, os.WNOHANG)
                if done:
                    break
                time.sleep(0.01)
            else:
                os.kill(child, 9)
                os.waitpid(child, 0)
                pytest.fail("a child waits for a generator that nobody will give back")
            assert status == 0
    finally:
        ended.set()
        thread.join()
