"""What every dataset shares: splits, labels without decoding, draws that repeat, broken images."""

from __future__ import annotations

import hashlib
import logging
from typing import ClassVar, Optional, Union

import numpy as np

from ..ranges import Count
from .errors import BrokenImageError, DataError, choose
from .transforms import Compose, build_transforms

log = logging.getLogger("ppadapt")


SKETCHED = 1000


class Dataset:
    """Base of the datasets; a subclass sets ``classes`` and ``labels`` and reads one image.

    Item ``i`` is ``(image float32 [C, H, W], labels[i])`` after ``transform``, or None where the image is
    broken and ``on_error='skip'``. Every item draws from its own generator, seeded with
    ``(seed, epoch, i)``: the number of workers changes nothing, and a resumed run draws the same.

    Args:
        split: "train" or "test".
        transform: a list of operators in PaddleClas's form, a Compose, or None (0..255 as float32).
        seed: of the random transforms.
        on_error: "raise" stops at a broken image and names it; "skip" leaves it out and counts it.
        limit: keep only so many images: of files those of every class in turn, of arrays, whose classes are mixed,
            the first ones.

    Attributes:
        classes: the class names, in the order of the labels.
        labels: all targets, known without decoding an image: int64 [N], or a row per image (float32 [N, C]).
        implied: whether classes are known by the labels that occur alone, each called by its number.
        skipped: how many broken images were left out so far; a loader adds those of its workers.
        images: all decoded images, uint8 [N, H, W, 3], where the data set is one array; else None.

    Raises:
        DataError: for every wrong option.
    """

    classes: list[str]
    labels: np.ndarray
    images: np.ndarray | None = None
    implied = False
    per_image: ClassVar[tuple[str, ...]] = ("images", "labels")  # attributes that hold one entry per image

    def __init__(self, split: str = "train", transform: Union[list, Compose, None] = None, seed: int = 0,
                 on_error: str = "raise", limit: Optional[Count] = None) -> None:
        if split not in ("train", "test"):
            raise DataError(choose("split", split, ("train", "test")))
        if on_error not in ("raise", "skip"):
            raise DataError(choose("on_error", on_error, ("raise", "skip")))
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
            raise DataError(f"seed is {seed!r}: give a whole number that is not negative.")
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise DataError(f"limit is {limit!r}: give the number of images to keep (1 or more), or null.")
        self.split = split
        self.transform = transform if isinstance(transform, Compose) else build_transforms(transform)
        self.seed, self.epoch = int(seed), 0
        self.on_error = on_error
        self.limit = limit
        self.skipped = 0

    def image(self, i: int) -> np.ndarray:
        """The decoded image before transforms, uint8 [H, W, 3] RGB."""
        return self.images[i]

    def name(self, i: int) -> str:
        """What to call image ``i`` in a message: its file, or its place."""
        return f"{type(self).__name__} {self.split} image {i}"

    def content(self, i: int) -> bytes:
        """What image ``i`` is, in bytes, for `digest`."""
        return self.image(i).tobytes()

    def check_readable(self) -> None:
        """Raises DataError where images that are all needed cannot be read, as far as that can be told quickly."""

    def digest(self) -> str:
        """sha256 of the images, labels and classes: the same wherever the files lie."""
        sha = hashlib.sha256(repr((self.classes, self.labels.tolist())).encode())
        for i in range(len(self)):
            sha.update(hashlib.sha256(self.content(i)).digest())
        return sha.hexdigest()

    def sketch(self) -> str:
        """A quick digest of up to `SKETCHED` images, wherever they lie: enough to tell that they are others."""
        sha = hashlib.sha256()
        for i in np.unique(np.linspace(0, len(self) - 1, SKETCHED).astype(int)):
            sha.update(self.outline(int(i)))
        return sha.hexdigest()

    def outline(self, i: int) -> bytes:
        """What `sketch` looks at of an image."""
        return self.content(i)

    def select(self, rows: np.ndarray) -> None:
        """Keep these images only, in place."""
        for name in self.per_image:
            values = getattr(self, name)
            setattr(self, name, values[rows] if isinstance(values, np.ndarray) else [values[row] for row in rows])

    def keep(self, limit: int | None) -> None:
        """Keep ``limit`` images only, in place: of every class (or combination of them) in turn, in their order.

        The first ones of a list would all be of its first class.
        """
        if limit is None or limit >= len(self):
            return
        kinds = self.labels if self.labels.ndim == 1 else np.unique(self.labels, axis=0, return_inverse=True)[1].ravel()
        by_kind = np.argsort(kinds, kind="stable")
        turn = np.empty(len(kinds), np.int64)
        turn[by_kind] = np.arange(len(kinds)) - np.searchsorted(kinds[by_kind], kinds[by_kind])
        self.select(np.sort(np.argsort(turn, kind="stable")[:limit]))

    def __len__(self) -> int:
        return len(self.labels)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the random transforms draw for."""
        self.epoch = int(epoch)

    def generator(self, i: int) -> np.random.Generator | None:
        """What image ``i`` draws from in this epoch."""
        # Seeding a generator costs more than cropping a 32 px image: only where something is random.
        return np.random.default_rng((self.seed, self.epoch, i)) if self.transform.random else None

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray] | None:
        i = range(len(self))[i]
        try:
            return self.ready(i), self.labels[i]
        except BrokenImageError as error:
            if self.on_error == "raise":
                raise BrokenImageError(f"{error} Replace or remove it, or set on_error: skip.") from None
            self.skipped += 1
            log.warning("Skipped: %s", error)
            return None

    def ready(self, i: int) -> np.ndarray:
        """Image ``i`` as a network takes it, float32 [C, H, W].

        Raises:
            BrokenImageError: where it cannot be read.
            DataError: naming it, where an operator does not fit it.
        """
        image = self.image(i)
        try:
            return self.transform.array(image, self.generator(i))
        except DataError as error:
            raise DataError(f"{self.name(i)}: {error}") from None

    def image_shape(self) -> Optional[tuple[int, ...]]:
        """C, H, W of the first of a few images that can be read; None where none can. Raises DataError as `ready`."""
        for i in range(min(len(self), 8)):
            try:
                return self.ready(i).shape
            except BrokenImageError:
                continue
        return None
