"""What an epoch of training says: times, log lines in PaddleClas's form, a bar."""
from __future__ import annotations

import datetime
import time

from tqdm.auto import tqdm

from ..log import LOGGER, say, wants_bar


class EpochLog:
    """Times, log lines and the bar of one training epoch."""

    def __init__(self, epoch: int, epochs: int, batches: int, every: int, schedule_name: str, first: int = 0,
                 processes: int = 1):
        """`first` batches of the epoch were trained on before a resume."""
        self.epoch, self.epochs, self.batches, self.every, self.first = epoch, epochs, batches, max(1, every), first
        self.schedule_name, self.processes = schedule_name, processes
        self.reader = self.busy = 0.0
        self.images = 0
        self.bar = tqdm(total=batches, initial=first, desc=f"epoch {epoch}/{epochs}", unit="batch", leave=False,
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
        done = i + 1 - self.first
        left = (self.busy / done) * (self.batches - 1 - i + (self.epochs - self.epoch) * self.batches)
        LOGGER.info("[Train][Epoch %d/%d][Iter: %d/%d]lr(%s): %.8f, %s, batch_cost: %.5fs, reader_cost: %.5fs, "
                    "ips: %.1f samples/s, eta: %s", self.epoch, self.epochs, i, self.batches, self.schedule_name,
                    lr, say(values), self.busy / done, self.reader / done, self.speed(),
                    datetime.timedelta(seconds=round(left)))
        self.bar.set_postfix_str(say(values), refresh=False)

    def speed(self) -> float:
        """Images per second, of all processes, which keep step with each other."""
        return self.processes * self.images / self.busy if self.busy else 0.0

    def close(self) -> None:
        self.bar.close()
