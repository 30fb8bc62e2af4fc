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

from .processes import ALONE, Processes

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stopped(KeyboardInterrupt):
    """A run that was asked to stop and is saved. `signal` is what asked."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.signal = number


class Stopping:
    """Whether a signal has come since training began.

    Several processes stop after the same step, which one that was asked tells the others with its gradients.
    """

    def __init__(self, processes: Processes = ALONE) -> None:
        self.asked: Optional[int] = None
        self._process = os.getpid()
        self._agreed = processes.count == 1

    @property
    def wanted(self) -> bool:
        """Whether this process was asked."""
        return self.asked is not None

    @property
    def now(self) -> bool:
        """Whether to stop here."""
        return self.asked is not None and self._agreed

    def agree(self, wanted: bool) -> None:
        """Hear whether any process was asked before the step that they have just made together."""
        if wanted:
            self._agreed, self.asked = True, signal.SIGTERM if self.asked is None else self.asked

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
        """Raises Stopped when a signal has come, and all processes know."""
        if self.now:
            raise Stopped(self.asked)
