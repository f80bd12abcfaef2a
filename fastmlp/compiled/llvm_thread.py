"""A second thread for LLVM's half of the work: Python is free to go on while LLVM is busy."""

import contextlib
import queue as queues
import threading

# how many pieces may wait for LLVM: they are done before a signal is answered
_WAITING = 20


class _Queue:
    """Pieces of work for a second thread, one after the other; done at once where there is none.

    After one that fails there are no others: the machine code of a function must not run before that of those it calls.
    """

    def __init__(self):
        self._pieces, self._thread, self._error = queues.Queue(_WAITING), None, None

    def add(self, function, *args):
        """Call the function in its turn."""
        if self._thread is None:
            function(*args)
        else:
            self._pieces.put((function, args))

    def wait(self):
        """Go on when all is done that was added, unless this is the second thread; raise what went wrong there."""
        if self._thread not in (None, threading.current_thread()):
            self._pieces.join()
            if self._error is not None:
                raise self._error

    def _work(self):
        while True:
            function, args = self._pieces.get()
            try:
                if function is None:
                    return
                if self._error is None:
                    function(*args)
            except BaseException as error:
                self._error = error
            finally:
                self._pieces.task_done()

    def open(self):
        """Start the second thread, if there is one to be had: not at the end of a process, for instance."""
        thread = threading.Thread(target=self._work, name="fastmlp-llvm")
        with contextlib.suppress(RuntimeError):
            thread.start()
            self._thread = thread

    def close(self):
        """End it when all is done."""
        if self._thread is not None:
            self._pieces.put((None, ()))
            self._thread.join()
        self._thread = self._error = None


queue = _Queue()
