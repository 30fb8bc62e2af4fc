"""Batches: a ``paddle.io.DataLoader`` whose order and draws depend on the seed and the epoch alone."""

from __future__ import annotations

import contextlib
import functools
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .balanced import balanced
from .base import Dataset
from .batch_transforms import build_batch_transforms
from .batched import BatchedTransform
from .errors import DataError, choose
from .handover import AHEAD, Handover
from .worker import begin, forking

if TYPE_CHECKING:
    import paddle

log = logging.getLogger("ppadapt")
TRANSFORM_BY = ("auto", "image", "batch")
# Seconds after which Paddle's reading thread looks whether its epoch is over: by default 5, in which short epochs pile
# up threads and pipes. A batch that takes longer is waited for all the same.
LOOKS_UP = 1
_SHUFFLE_STREAM = 0x5AFF1E  # keeps the order's draws apart from those of an image with the same numbers
_MIX_STREAM = 0x3178


class _Items:
    """The dataset with its errors as items, which the collate function passes on."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> object:
        try:
            return self.dataset[i]
        except DataError as error:
            return error


class _Indices(_Items):
    """Indices in the place of the dataset's items: the batch is planned from them."""

    def __getitem__(self, i: int) -> int:
        return i


class _Sampler:
    """The batches of one rank: lists of indices, shuffled by (seed, epoch).

    What the ranks get at one place are together the batch of ``batch_size * world_size`` that one process would get
    there, so the order is that of any other number of ranks.
    """

    def __init__(self, size: int, batch_size: int, shuffle: bool, drop_last: bool, seed: int, rank: int,
                 world_size: int, even: bool, groups: np.ndarray | None = None) -> None:
        self.size, self.batch_size, self.shuffle, self.drop_last = size, batch_size, shuffle, drop_last
        self.seed, self.rank, self.world_size, self.even, self.groups = seed, rank, world_size, even, groups
        self.epoch = self.start = 0
        self.least = 1  # images of all ranks that a last batch has, or else joins the one before

    def order(self) -> np.ndarray:
        """The indices of all ranks."""
        if not self.shuffle:
            return np.arange(self.size)
        rng = np.random.default_rng((self.seed, self.epoch, _SHUFFLE_STREAM))
        return rng.permutation(self.size) if self.groups is None else balanced(self.groups, rng)

    def __iter__(self) -> Iterator[list[int]]:
        order, together = self.order(), self.batch_size * self.world_size
        for n in range(self.start, len(self)):
            indices = order[n * together:None if n == self._joined() else (n + 1) * together]
            if self.even and len(indices) < self.world_size:
                indices = np.resize(indices, self.world_size)
            yield indices[self.rank::self.world_size].tolist()

    def __len__(self) -> int:
        whole, rest = divmod(self.size, self.batch_size * self.world_size)
        alone = rest and not self.drop_last and self._joined() is None
        return whole + bool(alone and (self.even or rest > self.rank))

    def _joined(self) -> int | None:
        """The batch that a last one joins, if it does."""
        whole, rest = divmod(self.size, self.batch_size * self.world_size)
        return whole - 1 if whole and 0 < rest < self.least and not self.drop_last else None


def _stack(images: list[np.ndarray]) -> np.ndarray:
    return np.ascontiguousarray(np.stack(images))


def _collate(items: list, targets: Callable = np.asarray, stack: Callable = _stack) -> list[np.ndarray]:
    """Items to [targets, images]. One uint8 array alone is a message: of an error, or empty for no image."""
    for item in items:
        if isinstance(item, DataError):
            return [np.frombuffer(str(item).encode(), np.uint8)]
    kept = [item for item in items if item is not None]
    if not kept:
        return [np.zeros(1, np.uint8)]
    images, labels = zip(*kept)
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        message = (f"A batch has images of several shapes ({', '.join(map(str, sorted(shapes)[:3]))}): "
                   "let transform_ops end in one size (ResizeImage with size, or CropImage).")
        return [np.frombuffer(message.encode(), np.uint8)]
    return [targets(labels), stack(images)]


class Loader:
    """Iterates over ``(images, labels)``: float32 [N, C, H, W] and what ``collate`` makes of N labels, as Tensors.

    With mixup or cutmix it is ``(images, (labels_a, labels_b, lam))`` where the loss of a batch is
    ``lam * loss(labels_a) + (1 - lam) * loss(labels_b)`` and ``lam`` is a float.

    Iterating again without ``set_epoch`` repeats the epoch. Each sample goes to exactly one rank. Where the last
    batch has fewer samples than there are ranks, the others have a batch less, or with ``even`` repeat one of them.

    Attributes:
        collate: makes one array of a batch's labels.
        how: in words, whether images are transformed one by one or in whole batches, and why.
        views: None: every epoch has random draws of its own. A number: only the first so many have, and the epochs
            after them show the images as these did, in turn; the order stays each epoch's own.
    """

    def __init__(self, dataset: Dataset, batch_size: int, shuffle: bool, drop_last: bool, num_workers: int,
                 use_shared_memory: bool, batch_transforms: Sequence, seed: int, rank: int,
                 world_size: int, even: bool, transform_by: str, collate: Callable, groups: np.ndarray | None) -> None:
        self.dataset, self.batch_size, self.seed, self.collate = dataset, batch_size, seed, collate
        self._sampler = _Sampler(len(dataset), batch_size, shuffle, drop_last, seed, rank, world_size, even, groups)
        self.batch_transforms = batch_transforms
        self._batched, self.how = _choose(dataset, transform_by)
        if self._batched and num_workers:
            self.how += f"; the {num_workers} workers are not needed"
            num_workers = 0
        self.num_workers, self.use_shared_memory = num_workers, use_shared_memory
        self._least = 1
        self._image_bytes: int | None = None  # of a transformed image, where workers lay them into shared memory
        self.views: int | None = None

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        return len(self._sampler)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the order and draws of the next iteration; to resume, it begins at batch ``start``."""
        self._sampler.epoch = int(epoch)
        self._sampler.start = int(start)
        self.dataset.set_epoch(self.view(epoch))

    def view(self, epoch: int) -> int:
        """The epoch whose draws this one shows."""
        return (int(epoch) - 1) % self.views + 1 if self.views else int(epoch)

    def need_two(self, each: bool = True) -> str:
        """Give no batch of one image, which BatchNorm cannot train on: a last one joins the one before.

        Args:
            each: every rank has statistics of its own; else it takes two images of all ranks together.

        Returns:
            What was done, in words; "" where there is nothing to do.

        Raises:
            DataError: where every batch is of one image.
        """
        sampler, before = self._sampler, len(self)
        each = each or sampler.world_size == 1
        sampler.least = 2 * sampler.world_size if each else 2
        if each:
            self._least = 2
            if min(len(batch) for batch in sampler) < 2:
                raise DataError(f"batch_size {self.batch_size} gives training batches of one image, and BatchNorm has "
                                "no variance of one: make it at least 2, or use another head (Arch.head: Linear).")
        return ("the last batch of an epoch would be of one image, which BatchNorm cannot train on: it joins the one "
                f"before, of {max(len(batch) for batch in sampler)} images then") if len(self) < before else ""

    def order(self) -> Iterator[list[int]]:
        """The indices of the images of each batch to come."""
        return iter(self._sampler)

    def __iter__(self) -> Iterator[tuple[paddle.Tensor, object]]:
        from paddle.io import DataLoader

        from .. import paddle_compat

        if self.num_workers and not _can_start_workers():
            log.warning("This system gives workers no locks (/dev/shm cannot be written): images are read by this "
                        "process.")
            self.num_workers = 0
        handover = self._handover() if self.num_workers else None
        # Workers are forked here, so they see the epoch that was set.
        items, collate = (_Indices, self._plan) if self._batched else (
            _Items, functools.partial(_collate, targets=self.collate, stack=handover.stack if handover else _stack))
        loader = DataLoader(items(self.dataset), batch_sampler=self._sampler, collate_fn=collate,
                            num_workers=self.num_workers, use_shared_memory=False, prefetch_factor=AHEAD,
                            worker_init_fn=functools.partial(begin, os.getpid()), return_list=True, timeout=LOOKS_UP)
        with forking() if self.num_workers else contextlib.nullcontext():
            batches = iter(loader)
        try:
            for n, (batch, indices) in enumerate(zip(batches, self._sampler), self._sampler.start):
                finished = self._finished(n, batch, indices)
                if finished is not None:
                    yield finished
        finally:
            paddle_compat.end_reading(batches)

    def _finished(self, n: int, batch: list[paddle.Tensor],
                  indices: list[int]) -> tuple[paddle.Tensor, object] | None:
        """What a loop is given of batch `n`; None where too few of its images could be read."""
        if len(batch) == 1:
            message = batch[0].numpy().tobytes().decode().strip("\0")
            if message:
                raise DataError(message)
            self._count_skipped(len(indices))
            log.warning("Batch %d has no readable image and is left out.", n)
            return None
        labels, images, *plan = batch
        self._count_skipped(len(indices) - len(labels))
        if len(labels) < self._least:
            log.warning("Batch %d has one readable image, which BatchNorm cannot train on, and is left out.", n)
            return None
        if self._batched:
            images = self._batched(images, *plan)
        if self.batch_transforms:
            # From the indices: neither the worker nor the place of a batch changes what is mixed.
            rng = np.random.default_rng((self.seed, self._sampler.epoch, _MIX_STREAM, *indices))
            for mix in self.batch_transforms:
                images, labels = mix(images, labels, rng)
        return images, labels

    def _count_skipped(self, count: int) -> None:
        if self.num_workers:  # which count in a copy of the data set, their own
            self.dataset.skipped += count

    def _plan(self, indices: list[int]) -> list[np.ndarray]:
        return [self.collate(self.dataset.labels[indices]), *self._batched.plan(indices)]

    def _bytes_per_image(self) -> int:
        """Of a transformed image: the first that can be read (0 when none can; not counted as skipped)."""
        for i in range(min(8, len(self.dataset))):
            try:
                return self.dataset.transform(self.dataset.image(i), np.random.default_rng(0)).nbytes
            except DataError:
                continue  # reported when its batch is made
        return 0

    def _handover(self) -> Handover | None:
        """Where the workers of one epoch lay batches; None where they send them through pipes."""
        if self._image_bytes is None:  # the first epoch
            self._image_bytes = self._bytes_per_image() if self.use_shared_memory else 0
        size = (self.batch_size + self._sampler.least) * self._image_bytes
        try:
            return Handover(self.num_workers, size) if size else None
        except (OSError, ValueError) as error:
            self._image_bytes = 0
            log.warning("There is no memory for the batches of %d workers, %.0f MB each (%s): they send them through "
                        "pipes, which is slower. Fewer workers or a smaller batch would fit.", self.num_workers,
                        size / 1e6, error)
            return None


def _can_start_workers() -> bool:
    try:
        multiprocessing.Lock()
    except OSError:
        return False
    return True


def _choose(dataset: Dataset, transform_by: str) -> tuple[BatchedTransform | None, str]:
    """The transform for whole batches, or None where images go one by one; and the reason."""
    if transform_by not in TRANSFORM_BY:
        raise DataError(choose("transform_by", transform_by, TRANSFORM_BY))
    if transform_by == "image":
        return None, "transformed one by one, as transform_by says"
    try:
        return BatchedTransform(dataset), "transformed in whole batches on the device"
    except DataError as error:
        if transform_by == "batch":
            raise DataError(f"transform_by is 'batch', but {error}: set it to auto.") from None
        return None, f"transformed one by one ({error})"


def build_loader(dataset: Dataset, batch_size: int, shuffle: bool = False, drop_last: bool = False,
                 num_workers: int = 0, use_shared_memory: bool = True, batch_transforms: list | None = None,
                 seed: int = 0, rank: int = 0, world_size: int = 1, transform_by: str = "auto",
                 collate: Callable[[Sequence], np.ndarray] = np.asarray, groups: np.ndarray | None = None,
                 even: bool | None = None) -> Loader:
    """A checked Loader.

    Args:
        batch_size: images per batch and rank.
        transform_by: "image": one by one, by ``num_workers`` processes; "batch": whole batches on the device, for
            data sets that are one array of small images, with the same draws and pixels; "auto": "batch" where it
            can be.
        batch_transforms: operators in PaddleClas's form (``batch_transform_ops``), or None.
        rank, world_size: this process and the number of them.
        collate: the labels of a batch -> one array [N, ...].
        groups: int64, the class of each image, where an epoch is to draw from all classes alike (``shuffle``).
        even: every rank gets as many batches, as training needs, where they wait for each other; None: what
            ``shuffle`` says.

    Raises:
        DataError: for every option that cannot work, such as a batch larger than the data with ``drop_last``.
    """
    for name, value, low in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0),
                             ("seed", seed, 0), ("world_size", world_size, 1), ("rank", rank, 0)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
            raise DataError(f"{name} is {value!r}: give a whole number of at least {low}.")
    if rank >= world_size:
        raise DataError(f"rank is {rank}: with world_size {world_size} it is at most {world_size - 1}.")
    loader = Loader(dataset, batch_size, bool(shuffle), bool(drop_last), num_workers, bool(use_shared_memory),
                    build_batch_transforms(batch_transforms), seed, rank, world_size,
                    bool(shuffle if even is None else even), transform_by, collate, groups)
    if not len(loader) and (rank == 0 or even or drop_last):
        raise DataError(f"batch_size {batch_size} on {world_size} process(es) leaves no batch of "
                        f"{len(dataset)} images: make it smaller, or set drop_last: False.")
    return loader
