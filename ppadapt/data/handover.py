"""Batches from workers to the process that reads them, in memory that has no name.

Paddle's own way lays each batch of a worker into a file of /dev/shm, which goes when both have let it go: who is killed
on the way leaves it there, and a container's /dev/shm (AI Studio: 64 MB) has no room for many. Here the memory is made
before the workers are forked and is known to them alone: however they and their parent end, the system takes it back.
"""

from __future__ import annotations

import itertools
import mmap
import weakref

import numpy as np

# Batches that Paddle asks a worker for beyond the one that was taken out last (DataLoader's prefetch_factor). It asks
# for the next when the one so many before it has been copied and taken out, so that as many places are enough.
AHEAD = 2
# Those of the reading process, while its DataLoader, which has `stack`, lives.
_OPEN: weakref.WeakValueDictionary[int, Handover] = weakref.WeakValueDictionary()
_NUMBERS = itertools.count()


class Handover:
    """Places for the batches of some workers, which are forked while it exists.

    Args:
        workers: how many. Each fills places of its own, in turn.
        size: bytes of the largest batch; larger ones are sent through pipes.

    Raises:
        OSError, ValueError: where there is not so much memory.
    """

    def __init__(self, workers: int, size: int) -> None:
        self._size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        self._memory = mmap.mmap(-1, workers * AHEAD * self._size)
        self._turns = itertools.cycle(range(AHEAD))
        self._number = next(_NUMBERS)
        _OPEN[self._number] = self

    def stack(self, images: list[np.ndarray]) -> np.ndarray:
        """In a worker: images of one shape as one array, of which only the place will be sent."""
        from paddle.io import get_worker_info

        shape, dtype = (len(images), *images[0].shape), np.result_type(*images)
        if int(np.prod(shape)) * dtype.itemsize > self._size:
            return np.stack(images)
        offset = (get_worker_info().id * AHEAD + next(self._turns)) * self._size
        batch = _InPlace(shape, dtype, self._memory, offset)
        batch.place = (self._number, offset)
        return np.stack(images, out=batch)


class _InPlace(np.ndarray):
    """A batch in a place of a `Handover`: pickled, it is the place, and what is read from that, an array over it."""

    def __reduce_ex__(self, protocol: int) -> tuple:
        return _taken, (*self.place, self.shape, self.dtype.str)


def _taken(number: int, offset: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return np.ndarray(shape, dtype, _OPEN[number]._memory, offset)
