"""A process that reads images for another one: it ends with that one, however it ends."""

from __future__ import annotations

import os
import signal
import threading
import time

EVERY = 0.5  # seconds


def begin(parent: int, number: int) -> None:
    """Called in a worker before its first image.

    It leaves the parent's group: a Ctrl-C in the terminal and what a launcher sends to a group are for the parent,
    which still needs its batches to finish a step. It ends when the parent does, within `EVERY` seconds, also where
    that was killed and could tell nobody.

    Args:
        parent: the number of the process that started it. number: which of its workers this is.
    """

    def end(*_: object) -> None:
        os._exit(0)

    def end_with_the_parent() -> None:
        while os.getppid() == parent:
            time.sleep(EVERY)
        end()

    if hasattr(os, "setsid"):
        os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end)
    threading.Thread(target=end_with_the_parent, daemon=True).start()
