"""Ctrl-C, SIGTERM and SIGHUP during training: the step is finished and saved, then the run stops.

A second signal stops at once. Signals are only asked for in the main thread, as Python wants it; elsewhere (a
notebook's worker thread) nothing changes.
"""
from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import Any, Iterable, Iterator, Optional

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stopped(KeyboardInterrupt):
    """A run that was asked to stop and is saved. `signal` is what asked."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.signal = number


class Stopping:
    """Whether a signal has come since training began."""

    def __init__(self) -> None:
        self.asked: Optional[int] = None
        self._process = os.getpid()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Inside, signals are noted rather than obeyed; the handlers from before come back afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, frame: Any) -> None:
        if os.getpid() != self._process:  # a worker: its parent ends it, but not for Ctrl-C, which reaches all
            if number != signal.SIGINT:
                os._exit(0)
            return
        if self.asked is not None:
            os.write(2, b"stopped at once\n")
            os._exit(128 + number)
        self.asked = number
        os.write(2, b"stopping after this step; once more stops at once\n")

    def watch(self, items: Iterable) -> Iterator:
        """The items, until a signal comes. Raises Stopped then."""
        for item in items:
            self.check()
            yield item

    def check(self) -> None:
        """Raises Stopped when a signal has come."""
        if self.asked is not None:
            raise Stopped(self.asked)
