"""What an epoch of training says: times, log lines in PaddleClas's form, a bar."""
from __future__ import annotations

import datetime
import math
import time
from typing import Callable, Optional

from ..log import BESIDE_BAR, LOGGER, bar, say

# tqdm's own without batches per second, so that 80 columns hold the numbers.
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"


class Pace:
    """Of a whole run: when the log got its last line of an epoch's inside, and how long evaluations take."""

    def __init__(self, seconds: float = 0.0, clock: Callable[[], float] = time.perf_counter):
        """`seconds` lie between two lines at least, however short epochs and batches are."""
        self.seconds, self.clock = seconds, clock
        self.last, self.evaluation, self.left = -math.inf, 0.0, 0

    def due(self) -> bool:
        """Whether it is time for another line, which is then written."""
        now = self.clock()
        if now - self.last < self.seconds:
            return False
        self.last = now
        return True

    def evaluated(self, begun: float, left: int) -> None:
        """An evaluation that began at this time of the clock has ended, and so many are to come."""
        self.evaluation, self.left = self.clock() - begun, left


class EpochLog:
    """Times, log lines and the bar of one training epoch."""

    def __init__(self, epoch: int, epochs: int, batches: int, every: int, schedule_name: str, first: int = 0,
                 processes: int = 1, pace: Optional[Pace] = None):
        """`first` batches of the epoch were trained on before a resume."""
        self.epoch, self.epochs, self.batches, self.every, self.first = epoch, epochs, batches, max(1, every), first
        self.schedule_name, self.processes, self.pace = schedule_name, processes, pace or Pace()
        self.reader = self.busy = 0.0
        self.images = self.done = 0
        self.bar = bar(total=batches, initial=first, desc=f"epoch {epoch}/{epochs}", bar_format=_BAR)
        self.last = time.perf_counter()

    def read(self) -> None:
        """A batch has arrived: the time since the last step went into waiting for it."""
        now = time.perf_counter()
        self.reader += now - self.last

    def due(self, i: int) -> bool:
        """Whether batch i is one whose numbers are looked at."""
        return i % self.every == 0 or i == self.batches - 1

    def step(self, images: int) -> None:
        """A batch has been trained on."""
        now = time.perf_counter()
        self.busy += now - self.last
        self.last = now
        self.images += images
        self.done += 1
        self.bar.update()

    def line(self, i: int, lr: float, values: dict) -> None:
        """Log batch i, unless another line was just before: means so far, seconds per batch, images per second, time
        left. The bar beside which it would stand on a screen says the same at once.
        """
        left = self.time_left()
        few = ", ".join(f"{name} {value:.3g}" for name, value in list(values.items())[:2])  # a widget is narrow
        self.bar.set_postfix_str(f"{few}, run ends in {left}", refresh=False)
        if self.pace.due():
            LOGGER.info("[Train][Epoch %d/%d][Iter: %d/%d]lr(%s): %.8f, %s, batch_cost: %.5fs, reader_cost: %.5fs, "
                        "ips: %.1f samples/s, eta: %s", self.epoch, self.epochs, i, self.batches, self.schedule_name,
                        lr, say(values), self.busy / self.done, self.reader / self.done, self.speed(), left,
                        extra=BESIDE_BAR)

    def time_left(self) -> datetime.timedelta:
        """Of the whole run: the batches of this and the later epochs, and the evaluations among them."""
        batches = self.batches - self.first - self.done + (self.epochs - self.epoch) * self.batches
        seconds = self.busy / max(self.done, 1) * batches + self.pace.left * self.pace.evaluation
        return datetime.timedelta(seconds=round(seconds))

    def speed(self) -> float:
        """Images per second, of all processes, which keep step with each other."""
        return self.processes * self.images / self.busy if self.busy else 0.0

    def close(self) -> None:
        self.bar.close()
