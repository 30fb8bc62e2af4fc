"""A process that reads images for another one: it ends with that one, however it ends."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import threading
import time
from collections.abc import Iterator

EVERY = 0.5  # seconds


@contextlib.contextmanager
def forking() -> Iterator[None]:
    """Around the start of workers: what is garbage of this process is never collected in them; `begin` goes on with it.

    Paddle's reading threads do not exist in a worker: the queue of an iterator that was used before, freed there, may
    wait for its thread for ever.
    """
    collecting = gc.isenabled()
    gc.disable()  # in a worker too, until `begin`
    try:
        yield
    finally:
        if collecting:
            gc.enable()


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

    gc.freeze()
    gc.enable()
    if hasattr(os, "setsid"):
        os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end)
    threading.Thread(target=end_with_the_parent, daemon=True).start()
