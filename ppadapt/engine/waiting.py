"""A process that waits for the others without end: noticed, said, and stopped.

One that has ended breaks its connections, which the others see at once. One that hangs (a machine that stands still, a
file system that does not answer, a loop without end) breaks nothing: the others would wait for it for ever, inside of
Gloo or NCCL, where no Python code runs but that of another thread.
"""
from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
import time
from contextlib import contextmanager
from typing import Iterator, Optional

from ..errors import UserError
from ..log import LOGGER

VARIABLE, SECONDS = "PPADAPT_WAIT_SECONDS", 600
_SAID_AFTER = 0.1  # of the limit; who hangs is the one who does not say that it waits


class Watch:
    """Ends this process when a wait takes longer than PPADAPT_WAIT_SECONDS; 0 lets it wait for ever.

    Args:
        who: this process, as messages call it.

    Raises:
        UserError: when the variable is no number of seconds.
    """

    def __init__(self, who: str):
        self.who, self.limit = who, _limit()
        self._wait = 0  # its number while this process waits, else 0
        self._waits = 0
        self._thread: Optional[threading.Thread] = None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Inside, this process waits for others."""
        if self.limit and self._thread is None:
            self._thread = threading.Thread(target=self._look, name="ppadapt-waiting", daemon=True)
            self._thread.start()
        self._waits += 1
        self._wait = self._waits
        try:
            yield
        finally:
            self._wait = 0

    def _look(self) -> None:
        """Looks are counted, not read from a clock: time for which this process itself was stopped does not count."""
        pause, looks, seen = min(1.0, self.limit / 20), 0, 0
        while True:
            time.sleep(pause)
            wait = self._wait
            looks = looks + 1 if wait and wait == seen else 0
            seen, waited = wait, looks * pause
            if looks == math.ceil(self.limit * _SAID_AFTER / pause):
                LOGGER.warning("%s has waited %.0f s for the others; after %.0f s it stops (%s)", self.who, waited,
                               self.limit, VARIABLE)
            if waited >= self.limit:
                self._end()

    def _end(self) -> None:
        said = (f"error: {self.who} stops: it has waited {self.limit:.0f} s for another one, which hangs or cannot be "
                "reached. It is the one whose log does not say that it waits (log/workerlog.N, or where --log_dir of "
                "paddle.distributed.launch says). Go on from the last checkpoint with --resume auto; where a step, or "
                f"writing a checkpoint, may take longer than that, set {VARIABLE} higher\n")
        with contextlib.suppress(OSError, ValueError):  # a screen that is gone
            sys.stdout.flush()
        with contextlib.suppress(OSError):
            os.write(2, said.encode())
        os._exit(1)  # the main thread cannot be reached


def _limit() -> float:
    given = os.environ.get(VARIABLE, "")
    try:
        limit = float(given or SECONDS)
    except ValueError:
        limit = -1.0
    if not 0 <= limit < float("inf"):
        raise UserError(f"{VARIABLE} is {given!r}: give seconds, 0 to wait for ever")
    return limit
