"""Signals answered later: LLVM calls Python back while it compiles, and an exception there ends the process."""

import contextlib
import signal
import threading


class Signals:
    """The signals that come while they are put off, and the handlers that they are for."""

    def __init__(self):
        self.came, self._handlers, self._replaced = [], {}, []

    @contextlib.contextmanager
    def put_off(self):
        """No handler written in Python is called meanwhile, whatever the signal."""
        try:
            if threading.current_thread() is threading.main_thread():  # handlers are called in no other
                for number in signal.valid_signals():
                    handler = signal.getsignal(number)
                    if callable(handler):
                        self._handlers[number] = handler
                        self._replaced.append(number)
                        signal.signal(number, self._later)
            yield
        finally:
            self.restore()

    def _later(self, number, frame):
        self.came.append((number, frame))

    def restore(self):
        """Put the handlers back, all of them, even if one is called at once and raises."""
        try:
            while self._replaced:
                number = self._replaced[-1]
                signal.signal(number, self._handlers[number])
                self._replaced.pop()
        finally:
            if self._replaced:
                self.restore()

    def answer(self):
        """Call the handlers of what came, in this order, all of them, even if one raises."""
        try:
            while self.came:
                number, frame = self.came.pop(0)
                self._handlers[number](number, frame)
        finally:
            if self.came:
                self.answer()
