"""Batches: a ``paddle.io.DataLoader`` whose order and draws depend on the seed and the epoch alone."""

from __future__ import annotations

import functools
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .balanced import balanced
from .base import Dataset
from .batch_transforms import build_batch_transforms
from .batched import BatchedTransform
from .errors import DataError, choose

if TYPE_CHECKING:
    import paddle

log = logging.getLogger("ppadapt")
SHM = "/dev/shm"
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
    """The batches of one rank: lists of indices, shuffled by (seed, epoch)."""

    def __init__(self, size: int, batch_size: int, shuffle: bool, drop_last: bool, seed: int, rank: int,
                 world_size: int, groups: np.ndarray | None = None) -> None:
        self.size, self.batch_size, self.shuffle, self.drop_last = size, batch_size, shuffle, drop_last
        self.seed, self.rank, self.world_size, self.groups = seed, rank, world_size, groups
        self.epoch = self.start = 0
        self.join_last = False

    def indices(self) -> np.ndarray:
        """This rank's share. When training every rank gets as many, or the others would wait for ever."""
        if not self.shuffle:
            return np.arange(self.size)[self.rank::self.world_size]
        rng = np.random.default_rng((self.seed, self.epoch, _SHUFFLE_STREAM))
        order = rng.permutation(self.size) if self.groups is None else balanced(self.groups, rng)
        share = self.size // self.world_size if self.drop_last else -(-self.size // self.world_size)
        return np.resize(order, share * self.world_size)[self.rank::self.world_size]

    def __iter__(self) -> Iterator[list[int]]:
        indices = self.indices()
        for n in range(self.start, len(self)):
            end = None if self.join_last and n == len(self) - 1 else (n + 1) * self.batch_size
            yield indices[n * self.batch_size:end].tolist()

    def __len__(self) -> int:
        if self.shuffle:
            count = self.size // self.world_size if self.drop_last else -(-self.size // self.world_size)
        else:
            count = len(range(self.rank, self.size, self.world_size))
        if self.drop_last or self.join_last and count > self.batch_size and count % self.batch_size == 1:
            return count // self.batch_size
        return -(-count // self.batch_size)


def _collate(items: list, targets: Callable = np.asarray) -> list[np.ndarray]:
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
    return [targets(labels), np.ascontiguousarray(np.stack(images))]


class Loader:
    """Iterates over ``(images, labels)``: float32 [N, C, H, W] and what ``collate`` makes of N labels, as Tensors.

    With mixup or cutmix it is ``(images, (labels_a, labels_b, lam))`` where the loss of a batch is
    ``lam * loss(labels_a) + (1 - lam) * loss(labels_b)`` and ``lam`` is a float.

    Iterating again without ``set_epoch`` repeats the epoch. When shuffling, every rank gets as many samples
    (a few repeat, or with ``drop_last`` are left out); in order, each sample goes to exactly one rank.

    Attributes:
        collate: makes one array of a batch's labels.
        how: in words, whether images are transformed one by one or in whole batches, and why.
    """

    def __init__(self, dataset: Dataset, batch_size: int, shuffle: bool, drop_last: bool, num_workers: int,
                 use_shared_memory: bool, batch_transforms: Sequence, seed: int, rank: int,
                 world_size: int, transform_by: str, collate: Callable, groups: np.ndarray | None) -> None:
        self.dataset, self.batch_size, self.seed, self.collate = dataset, batch_size, seed, collate
        self._sampler = _Sampler(len(dataset), batch_size, shuffle, drop_last, seed, rank, world_size, groups)
        self.batch_transforms = batch_transforms
        self._batched, self.how = _choose(dataset, transform_by)
        if self._batched and num_workers:
            self.how += f"; the {num_workers} workers are not needed"
            num_workers = 0
        self.num_workers, self.use_shared_memory = num_workers, use_shared_memory
        self._checked, self._least = False, 1

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        return len(self._sampler)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the order and draws of the next iteration; to resume, it begins at batch ``start``."""
        self._sampler.epoch = int(epoch)
        self._sampler.start = int(start)
        self.dataset.set_epoch(epoch)

    def need_two(self) -> str:
        """Give no batch of one image, which BatchNorm cannot train on: a last one joins the one before.

        Returns:
            What was done, in words; "" where there is nothing to do.

        Raises:
            DataError: where every batch is of one image.
        """
        sampler, before = self._sampler, len(self)
        sampler.join_last = not sampler.drop_last
        self._least = 2
        sizes = {len(batch) for batch in sampler}
        if min(sizes) < 2:
            raise DataError(f"batch_size {self.batch_size} gives training batches of one image, and BatchNorm has no "
                            "variance of one: make it at least 2, or use another head (Arch.head: Linear).")
        return (f"the last batch of an epoch would be of one image, which BatchNorm cannot train on: it joins the one "
                f"before, of {max(sizes)} images then") if len(self) < before else ""

    def order(self) -> Iterator[list[int]]:
        """The indices of the images of each batch to come."""
        return iter(self._sampler)

    def __iter__(self) -> Iterator[tuple[paddle.Tensor, object]]:
        from paddle.io import DataLoader

        if not self._checked:
            self._check_shared_memory()
        # Workers are forked here, so they see the epoch that was set.
        items, collate = (_Indices, self._plan) if self._batched else (
            _Items, functools.partial(_collate, targets=self.collate))
        batches = DataLoader(items(self.dataset), batch_sampler=self._sampler, collate_fn=collate,
                             num_workers=self.num_workers, use_shared_memory=self.use_shared_memory,
                             return_list=True)
        for n, (batch, indices) in enumerate(zip(batches, self._sampler), self._sampler.start):
            if len(batch) == 1:
                message = batch[0].numpy().tobytes().decode().strip("\0")
                if message:
                    raise DataError(message)
                log.warning("Batch %d has no readable image and is left out.", n)
                continue
            labels, images, *plan = batch
            if len(labels) < self._least:
                log.warning("Batch %d has one readable image, which BatchNorm cannot train on, and is left out.", n)
                continue
            if self._batched:
                images = self._batched(images, *plan)
            if self.batch_transforms:
                # From the indices: neither the worker nor the place of a batch changes what is mixed.
                rng = np.random.default_rng((self.seed, self._sampler.epoch, _MIX_STREAM, *indices))
                for mix in self.batch_transforms:
                    images, labels = mix(images, labels, rng)
            yield images, labels

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

    def _check_shared_memory(self) -> None:
        """Fall back to pipes where /dev/shm cannot hold what the workers put there (AI Studio: 64 MB)."""
        self._checked = True
        if not self.num_workers or not self.use_shared_memory:
            return
        size = self._bytes_per_image()
        # Two batches in flight per worker (paddle's prefetch_factor) and one in use.
        need = (2 * self.num_workers + 1) * self.batch_size * size
        free = shutil.disk_usage(SHM).free if os.path.isdir(SHM) else 0
        if free < need:
            self.use_shared_memory = False
            log.warning("%s has %.0f MB free and the %d workers need %.0f MB: they send batches without "
                        "shared memory, which is slower. Fewer workers or a smaller batch would fit.",
                        SHM, free / 1e6, self.num_workers, need / 1e6)


def _choose(dataset: Dataset, transform_by: str) -> tuple[BatchedTransform | None, str]:
    """The transform for whole batches, or None where images go one by one; and the reason."""
    if transform_by not in ("auto", "image", "batch"):
        raise DataError(choose("transform_by", transform_by, ("auto", "image", "batch")))
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
                 collate: Callable[[Sequence], np.ndarray] = np.asarray, groups: np.ndarray | None = None) -> Loader:
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
                    build_batch_transforms(batch_transforms), seed, rank, world_size, transform_by, collate, groups)
    if not len(loader):
        raise DataError(f"batch_size {batch_size} on {world_size} process(es) leaves no batch of "
                        f"{len(dataset)} images: make it smaller, or set drop_last: False.")
    return loader
