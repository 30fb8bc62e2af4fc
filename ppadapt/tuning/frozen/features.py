"""Features of a frozen network, computed once: a head then trains in seconds.

Where nothing below the head changes and every epoch shows the same pixels, what the head reads of an image is
the same every time. It is computed once and kept on disk; training, evaluation and files stay what they are,
for the loaders then give features [N, D] where they gave images, and the head alone is called.
"""
from __future__ import annotations

import hashlib
import json
import os
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Callable, ContextManager, Iterable, Iterator, Optional, Sequence

import numpy as np
import paddle
from paddle import nn

from ...errors import UserError
from ...files import atomic_write, locked, remove_leftovers
from ...log import LOGGER, progress
from ...models.anatomy import find
from ...weights import check_finite
from ...weights.formats.any_file import read_file
from .code import digest_of


class HeadOnly:
    """An Adaptation whose call takes features [N, D]; the rest of it is as it was."""

    def __init__(self, adaptation: Any):
        self.adaptation = adaptation

    def __call__(self, features: paddle.Tensor) -> paddle.Tensor:
        return find(self.adaptation.network, self.adaptation.anatomy.head)(features)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.adaptation, name)


class FeatureLoader:
    """A Loader with features float32 [N, D] in the place of images, in the same order.

    `make` is called once, when the first batch is asked for, with `watch`, through which the batches of images go that
    have to be computed: who runs the loop may stop there.
    """

    def __init__(self, loader: Any, make: Callable[[Callable[[Iterable], Iterable]], np.ndarray]):
        self.loader, self.make, self.watch = loader, make, iter
        self.dataset, self.batch_size = loader.dataset, loader.batch_size
        self.how = "seen by their features, which are computed once"
        self.tensors: Optional[tuple[paddle.Tensor, paddle.Tensor]] = None

    def __len__(self) -> int:
        return len(self.loader)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """As `Loader.set_epoch`."""
        self.loader.set_epoch(epoch, start)

    def __iter__(self) -> Iterator[tuple[paddle.Tensor, paddle.Tensor]]:
        if self.tensors is None:
            labels = self.loader.collate(self.dataset.labels)
            self.tensors = paddle.to_tensor(self.make(self.watch)), paddle.to_tensor(labels)
        for rows in self.loader.order():
            index = paddle.to_tensor(rows)
            yield tuple(tensor.index_select(index) for tensor in self.tensors)


def obstacle(adaptation: Any, loaders: Iterable[Any]) -> tuple[bool, str]:
    """Whether only the head trains, and why its features cannot be kept nevertheless; "" where they can."""
    below = [name for name in adaptation.tensors() if not adaptation.anatomy.answers(name)]
    if below:
        return False, f"what is below the head changes too: {', '.join(below[:4])}{' ...' * (len(below) > 4)}"
    for loader in loaders:
        data = loader.dataset
        drawing = [type(op).__name__ for op in data.transform.ops if op.random]
        drawing += [type(op).__name__ for op in loader.batch_transforms]
        if drawing:
            return True, (f"at random, anew in every epoch, comes {', '.join(drawing)} of the {data.split} images; "
                          "with a fixed transform the head would train in seconds")
        if data.on_error == "skip":
            return True, "a broken image would be skipped: set on_error: raise"
    if not _head_is_last(adaptation, next(iter(loaders)).dataset):
        return True, f"{type(adaptation.network).__name__} does more to an image than call its head on features"
    return True, ""


def use(adaptation: Any, loaders: dict[str, Any], ordered: dict[str, Any], transforms: dict[str, Any], arch: Any,
        context: Callable[[], ContextManager], precision: Sequence[str],
        folder: Optional[Path]) -> dict[str, FeatureLoader]:
    """The loaders with features in the place of images.

    Args:
        loaders: by side, those of training and evaluation. ordered: the same data from first to last.
        transforms: by side, the operators as plain data. arch: the network's options, likewise.
        context: makes the context of a forward pass. precision: what that context does to the numbers.
        folder: of the cache, None where there is none.
    """
    if folder is not None:
        remove_leftovers(folder)

    def made(side: str, watch: Callable[[Iterable], Iterable]) -> np.ndarray:
        return _features(adaptation, ordered[side], watch, context, folder, {
            "network": adaptation.frozen_digest(), "arch": arch, "head": adaptation.anatomy.head,
            "data": ordered[side].dataset.digest(), "transforms": transforms[side], "precision": list(precision),
            "device": paddle.get_device().partition(":")[0], "paddle": paddle.__version__,
            "code": digest_of([ordered[side].dataset, *ordered[side].dataset.transform.ops,
                               *adaptation.network.sublayers(include_self=True)])})

    return {side: FeatureLoader(loader, lambda watch, side=side: made(side, watch)) for side, loader in loaders.items()}


def _features(adaptation: Any, batches: Any, watch: Callable[[Iterable], Iterable],
              context: Callable[[], ContextManager], folder: Optional[Path], key: dict[str, Any]) -> np.ndarray:
    """Features float32 [N, D] of all images in order, from the cache or computed and kept there."""
    what = f"features of {len(batches.dataset)} {batches.dataset.split} images"
    if folder is None:
        LOGGER.warning("%s are not kept, for this user has no home folder: set Global.feature_cache", what)
        return _compute(adaptation, watch(batches), context)
    path = folder / (hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:32] + ".npz")
    with ExitStack() as stack:
        with suppress(OSError):  # a folder that cannot be written: said below
            stack.enter_context(locked(path, lambda: LOGGER.info("%s: another process is computing them", what)))
        return _kept_or_computed(adaptation, batches, watch, context, path, what)


def _kept_or_computed(adaptation: Any, batches: Any, watch: Callable[[Iterable], Iterable],
                      context: Callable[[], ContextManager], path: Path, what: str) -> np.ndarray:
    count = len(batches.dataset)
    if path.is_file():
        try:
            features = np.array(read_file(path).tensors["features"])  # a copy: the file may go
            if features.ndim != 2 or len(features) != count or features.dtype != np.float32:
                raise ValueError(f"it holds {features.dtype} {list(features.shape)}")
            check_finite({"features": features}, path)
        except (OSError, ValueError, KeyError) as error:  # a WeightsError is a ValueError
            LOGGER.warning("%s is broken (%s): the features are computed anew", path, error)
        else:
            LOGGER.info("%s: from %s", what, path)
            return features
    features = _compute(adaptation, watch(batches), context)
    try:
        with atomic_write(str(path)) as file:
            np.savez(file, features=features)
    except OSError as error:
        LOGGER.warning("%s: computed, but %s cannot be written (%s)", what, path, error.strerror or error)
    else:
        LOGGER.info("%s: computed, and kept in %s (%.1f MB)", what, path, features.nbytes / 1e6)
    return features


@paddle.no_grad()
def _compute(adaptation: Any, batches: Iterable, context: Callable[[], ContextManager]) -> np.ndarray:
    parts = []
    with _without_head(adaptation):
        for images, _ in progress(batches, "features"):
            with context():
                parts.append(adaptation.network(images).astype("float32").numpy())
    features = np.concatenate(parts)
    if not np.isfinite(features).all():
        raise UserError("the network's features are NaN or infinite: its weights are damaged, the images are not "
                        "normalised, or half precision overflowed")
    return features


@contextmanager
def _without_head(adaptation: Any) -> Iterator[None]:
    owner, _, name = adaptation.anatomy.head.rpartition(".")
    owner = find(adaptation.network, owner) if owner else adaptation.network
    head = getattr(owner, name)
    setattr(owner, name, nn.Identity())
    try:
        yield
    finally:
        setattr(owner, name, head)


@paddle.no_grad()
def _head_is_last(adaptation: Any, dataset: Any) -> bool:
    """Whether the network's answer is its head on what it gives without one; asked of two images."""
    if adaptation.anatomy.head_twins:
        return False
    adaptation.eval()
    images = paddle.to_tensor(np.stack([dataset[i % len(dataset)][0] for i in range(2)]))
    whole = adaptation(images)
    with _without_head(adaptation):
        features = adaptation(images)
    if not isinstance(features, paddle.Tensor) or features.ndim != 2:
        return False
    return bool(np.allclose(HeadOnly(adaptation)(features).numpy(), whole.numpy(), rtol=1e-4, atol=1e-5))


def folder(given: Optional[str]) -> Optional[Path]:
    """Where features are kept: `given`, or $PPADAPT_CACHE, or ~/.cache/ppadapt; in it, features/. None for a user
    without a home."""
    try:
        return Path(given or os.environ.get("PPADAPT_CACHE") or "~/.cache/ppadapt").expanduser() / "features"
    except RuntimeError:
        return None
