"""Ctrl-C, SIGTERM and SIGHUP during training: the step is finished and saved, then the run stops.

A second signal stops at once. One that was ignored before, as SIGHUP is under nohup, stays ignored. Signals are only
asked for in the main thread, as Python wants it; elsewhere (a notebook's worker thread) nothing changes.
"""
from __future__ import annotations

import os
import signal
import threading
import time
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
        self._came: Optional[float] = None  # when a signal came to this process itself
        # paddle.distributed.launch asks each process three times, 0.2 seconds apart.
        self._patience = 0.0 if processes.count == 1 else 2.0
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
        """Inside, signals are noted rather than obeyed. The handlers from before come back afterwards, unless this
        process was stopped by a launcher, which asks on while it ends."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in SIGNALS
                  if signal.getsignal(number) is not signal.SIG_IGN}
        try:
            yield
        finally:
            for number, handler in before.items() if not (self._came and self._patience) else ():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, frame: Any) -> None:
        if self._came is not None:
            if time.monotonic() - self._came < self._patience:
                return
            os.write(2, b"stopped at once\n")
            os._exit(128 + number)
        self._came = time.monotonic()
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
