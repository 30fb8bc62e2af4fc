"""Features of a frozen network, computed once: a head then trains in seconds.

Where nothing below the head changes and every epoch shows the same pixels, what the head reads of an image is
the same every time. It is computed once and kept on disk; training, evaluation and files stay what they are,
for the loaders then give features [N, D] where they gave images, and the head alone is called.
"""
from __future__ import annotations

import functools
import hashlib
import json
import os
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Callable, ContextManager, Iterable, Iterator, Optional

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
from .remainder import KeptLoader, Remainder, Watch, varying


class HeadOnly(Remainder):
    """An Adaptation whose call takes features [N, D]."""

    def __call__(self, features: paddle.Tensor) -> paddle.Tensor:
        return find(self.adaptation.network, self.adaptation.anatomy.head)(features)


class FeatureLoader(KeptLoader):
    """A Loader with features float32 [N, D] in the place of images.

    `make(view, watch)` is called once for each view, when the first batch of it is asked for.
    """

    how = "seen by their features, which are computed once"

    def __init__(self, loader: Any, make: Callable[[int, Watch], np.ndarray]):
        super().__init__(loader)
        self.make = make
        self.tensors: dict[int, paddle.Tensor] = {}

    def rows(self, indices: list[int]) -> paddle.Tensor:
        if self.view not in self.tensors:
            self.tensors[self.view] = paddle.to_tensor(self.make(self.view, self.watch))
        return self.tensors[self.view].index_select(paddle.to_tensor(indices))


def obstacle(adaptation: Any, loaders: Iterable[Any]) -> tuple[bool, str]:
    """Whether only the head trains, and why its features cannot be kept nevertheless; "" where they can."""
    below = [name for name in adaptation.tensors() if not adaptation.anatomy.answers(name)]
    if below:
        return False, f"what is below the head changes too: {', '.join(below[:4])}{' ...' * (len(below) > 4)}"
    loaders = list(loaders)
    changing = varying(loaders)
    if changing:
        fixed = "with a fixed transform, or a few Global.cache_views, the head would train in seconds"
        return True, changing if "on_error" in changing else f"{changing}; {fixed}"
    if not _head_is_last(adaptation, loaders[0].dataset):
        return True, f"{type(adaptation.network).__name__} does more to an image than call its head on features"
    return True, ""


def use(adaptation: Any, loaders: dict[str, Any], ordered: dict[str, Any], key: Callable[[str], dict[str, Any]],
        context: Callable[[], ContextManager], folder: Optional[Path]) -> dict[str, FeatureLoader]:
    """The loaders with features in the place of images.

    Args:
        loaders: by side, those of training and evaluation. ordered: the same data from first to last.
        key: what the features of a side's images depend on beside the network and the code, as plain data.
        context: makes the context of a forward pass.
        folder: of the cache, None where there is none.
    """
    if folder is not None:
        remove_leftovers(folder)

    def made(side: str, view: int, watch: Watch) -> np.ndarray:
        ordered[side].set_epoch(view)
        return _features(adaptation, ordered[side], watch, context, folder, {
            **key(side), **({"view": view} if view else {}), "network": adaptation.frozen_digest(),
            "head": adaptation.anatomy.head,
            "code": digest_of([ordered[side].dataset, *ordered[side].dataset.transform.ops,
                               *adaptation.network.sublayers(include_self=True)])})

    return {side: FeatureLoader(loader, functools.partial(made, side)) for side, loader in loaders.items()}


def _features(adaptation: Any, batches: Any, watch: Watch,
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


def _kept_or_computed(adaptation: Any, batches: Any, watch: Watch,
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
