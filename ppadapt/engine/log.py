"""What a run says: log lines in PaddleClas's form, a progress bar, VisualDL curves."""
from __future__ import annotations

import datetime
import logging
import math
import sys
import time
from pathlib import Path
from typing import Optional

from tqdm.auto import tqdm

LOGGER = logging.getLogger("ppadapt")


class _ThroughBar(logging.StreamHandler):
    """Writes above a progress bar rather than into it."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stdout)
        sys.stdout.flush()


def setup(log_file: Optional[Path] = None) -> None:
    """Send log lines to the screen and to `log_file`. Called anew, it replaces what was set up before."""
    for handler in list(LOGGER.handlers):
        LOGGER.removeHandler(handler)
        handler.close()
    handlers: list[logging.Handler] = [_ThroughBar()]
    if log_file:
        handlers.append(logging.FileHandler(log_file, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter("[%(asctime)s] %(name)s %(levelname)s: %(message)s",
                                               "%Y/%m/%d %H:%M:%S"))
        LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False


def wants_bar() -> bool:
    """A bar is for a terminal or a notebook; in a log file it is noise."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


class Curves:
    """VisualDL scalars in one fresh folder; with `folder` None, nothing.

    VisualDL reads only the newest file of a folder, fails on % in a tag and wants Python floats.
    """

    def __init__(self, folder: Optional[Path]):
        self.writer = None
        if folder is not None:
            try:
                from visualdl import LogWriter
            except ImportError:
                LOGGER.warning("visualdl is not installed: no curves are written (pip install visualdl)")
            else:
                self.writer = LogWriter(logdir=str(folder))

    def add(self, step: int, **values: float) -> None:
        """Add one point per curve: `add(10, train_loss=0.5)` draws at step 10 of train/loss."""
        for name, value in values.items():
            if self.writer is not None and math.isfinite(value):
                self.writer.add_scalar(tag=name.replace("_", "/", 1), value=float(value), step=step)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


class EpochLog:
    """Times, log lines and the bar of one training epoch."""

    def __init__(self, epoch: int, epochs: int, batches: int, every: int, schedule_name: str):
        self.epoch, self.epochs, self.batches, self.every = epoch, epochs, batches, max(1, every)
        self.schedule_name = schedule_name
        self.reader = self.busy = 0.0
        self.images = 0
        self.bar = tqdm(total=batches, desc=f"epoch {epoch}/{epochs}", unit="batch", leave=False,
                        disable=not wants_bar())
        self.last = time.perf_counter()

    def read(self) -> None:
        """A batch has arrived: the time since the last step went into waiting for it."""
        now = time.perf_counter()
        self.reader += now - self.last
        self._waited = now - self.last

    def due(self, i: int) -> bool:
        """Whether batch i writes a line."""
        return i % self.every == 0 or i == self.batches - 1

    def step(self, images: int) -> None:
        """A batch has been trained on."""
        now = time.perf_counter()
        self.busy += now - self.last
        self.last = now
        self.images += images
        self.bar.update()

    def line(self, i: int, lr: float, values: dict) -> None:
        """Log batch i: means so far, seconds per batch, images per second, time left."""
        done = i + 1
        left = (self.busy / done) * (self.batches - done + (self.epochs - self.epoch) * self.batches)
        LOGGER.info("[Train][Epoch %d/%d][Iter: %d/%d]lr(%s): %.8f, %s, batch_cost: %.5fs, reader_cost: %.5fs, "
                    "ips: %.1f samples/s, eta: %s", self.epoch, self.epochs, i, self.batches, self.schedule_name,
                    lr, say(values), self.busy / done, self.reader / done, self.speed(),
                    datetime.timedelta(seconds=round(left)))
        self.bar.set_postfix_str(say(values), refresh=False)

    def speed(self) -> float:
        """Images per second."""
        return self.images / self.busy if self.busy else 0.0

    def close(self) -> None:
        self.bar.close()


def say(values: dict) -> str:
    """Named numbers in a line."""
    return ", ".join(f"{name}: {value:.5f}" for name, value in values.items() if name != "images")


def progress(items, what: str):
    """The items, with a bar on a terminal or in a notebook."""
    return tqdm(items, desc=what, leave=False, disable=not wants_bar())
