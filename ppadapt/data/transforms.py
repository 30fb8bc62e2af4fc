"""Image transforms under PaddleClas's operator names: the family, and how a config's list becomes one.

An operator is called as ``op(image, rng)`` with an [H, W, 3] RGB array and a ``numpy.random.Generator``;
what each one computes follows ``ppcls/data/preprocess/ops`` of PaddleClas 2.6. Everything is numpy and
Pillow: no OpenCV.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional, Union

import numpy as np

from ..ranges import Range
from .augment import AutoAugment, ColorJitter, RandAugment, RandomErasing
from .decode import decode_image
from .errors import DataError, choose
from .geometry import CropImage, Pad, RandCropImage, RandCropImageV2, RandFlipImage, RandomResizedCrop, ResizeImage
from .options import build_op, described, number
from .timm_augment import TimmAutoAugment


class DecodeImage:
    """Encoded bytes or a path to [H, W, 3] RGB; an array (the datasets decode by themselves) stays RGB."""

    random = False

    def __init__(self, to_rgb: bool = True, to_np: bool = False, channel_first: bool = False,
                 backend: str = "pil") -> None:
        if backend not in ("pil", "cv2"):  # both are decoded by Pillow, as they look
            raise DataError(choose("DecodeImage.backend", backend, ("pil", "cv2")))
        self.to_rgb, self.channel_first = to_rgb, channel_first

    def __call__(self, image: np.ndarray | bytes | str, rng: np.random.Generator | None = None) -> np.ndarray:
        if not isinstance(image, np.ndarray):
            image = decode_image(image)
        if not self.to_rgb:
            image = image[:, :, ::-1]
        return image.transpose(2, 0, 1) if self.channel_first else image


class NormalizeImage:
    """``(image * scale - mean) / std`` in float32.

    Args:
        scale: a number or a quotient such as "1.0/255.0" (the default).
        mean, std: one per channel (ImageNet's by default).
        order: "chw" for [3, H, W] (PaddleClas's default), "" or "hwc" for [H, W, 3].
    """

    random = False

    def __init__(self, scale: Union[float, str, None] = None, mean: Optional[Sequence[float]] = None,
                 std: Optional[Sequence[float]] = None, order: str = "chw", output_fp16: bool = False,
                 channel_num: int = 3) -> None:
        if output_fp16 or channel_num != 3:
            raise DataError("NormalizeImage gives three float32 channels: remove output_fp16 and channel_num "
                            "(AMP.level chooses the precision).")
        if order not in ("", "hwc", "chw"):
            raise DataError(choose("NormalizeImage.order", order, ("''", "hwc", "chw")))
        scale = 1 / 255 if scale is None else number(scale, "NormalizeImage.scale", Range(0, 1000, above=True))
        self.scale = np.float32(scale)
        self.chw = order == "chw"
        self.mean = self._channels(mean, (0.485, 0.456, 0.406), "mean")
        self.std = self._channels(std, (0.229, 0.224, 0.225), "std")
        if not (self.std > 0).all():
            raise DataError(f"NormalizeImage.std is {std!r}: no channel may be 0 or below.")
        self._rows: tuple[np.ndarray, np.ndarray] = (np.empty(0), np.empty(0))

    @staticmethod
    def _channels(given: Sequence[float] | None, default: Sequence[float], what: str) -> np.ndarray:
        values = default if given is None else given
        if not isinstance(values, (list, tuple, np.ndarray)) or len(values) != 3:
            raise DataError(f"NormalizeImage.{what} is {given!r}: give one number per channel (3).")
        return np.array([number(v, f"NormalizeImage.{what}", Range(-1e6, 1e6)) for v in values], np.float32)

    def __call__(self, image: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        if image.ndim != 3 or image.shape[0 if self.chw else 2] != 3:
            raise DataError(f"NormalizeImage.order {'chw' if self.chw else ''!r} does not fit an image "
                            f"of shape {image.shape}: write order: '' before ToCHWImage, chw after it.")
        if self.chw:
            mean, std = self.mean[:, None, None], self.std[:, None, None]
            return (image.astype(np.float32) * self.scale - mean) / std
        height, width = image.shape[:2]
        mean, std = self._rows
        if mean.size != width * 3:  # numpy is slow where the inner loop is three channels long
            mean, std = self._rows = np.tile(self.mean, width), np.tile(self.std, width)
        out = image.astype(np.float32, order="C").reshape(height, width * 3)
        out *= self.scale
        out -= mean
        out /= std
        return out.reshape(image.shape)


class ToCHWImage:
    """[H, W, C] to [C, H, W]."""

    random = False

    def __call__(self, image: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        return image.transpose(2, 0, 1)


class Compose:
    """Operators in order. ``random`` tells whether any of them draws from ``rng``.

    Without operators an [H, W, C] image becomes float32 [C, H, W] with its values unchanged.

    Raises:
        DataError: where two operators put the channels first.
    """

    def __init__(self, ops: Sequence = ()) -> None:
        self.ops = list(ops) or [ToCHWImage()]
        self.random = any(op.random for op in self.ops)
        turning = [type(op).__name__ for op in self.ops
                   if isinstance(op, ToCHWImage) or isinstance(op, DecodeImage) and op.channel_first]
        if len(turning) > 1:
            raise DataError(f"{' and '.join(turning)} both put the channels first: remove one (channel_first: False).")
        self.channels_first = bool(turning)

    def __call__(self, image: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        if rng is None and self.random:
            names = ", ".join(type(op).__name__ for op in self.ops if op.random)
            raise DataError(f"{names} would draw at random where the result must not vary: leave it out, "
                            "or call with a numpy.random.Generator.")
        for op in self.ops:
            image = op(image, rng)
        return np.asarray(image, np.float32)

    def array(self, image: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """What a network takes, float32 [C, H, W]: of training, evaluation and answers alike.

        PaddleClas's data sets put the channels first themselves, so its files often leave ToCHWImage out.
        """
        image = self(image, rng)
        return image if self.channels_first else image.transpose(2, 0, 1)


TRANSFORMS: dict[str, type] = {op.__name__: op for op in (
    DecodeImage, ResizeImage, CropImage, RandCropImage, RandCropImageV2, RandomResizedCrop, RandFlipImage,
    Pad, ColorJitter, RandAugment, AutoAugment, TimmAutoAugment, RandomErasing, NormalizeImage, ToCHWImage)}


def build_transforms(ops: Sequence[dict] | None) -> Compose:
    """The operators of a config's ``transform_ops``, checked.

    Raises:
        DataError: naming the operator or option that is unknown, the nearest one and the choices.
    """
    if ops is not None and not isinstance(ops, (list, tuple)):
        raise DataError(f"transform_ops is {ops!r}: give a list of '- Name: {{option: value}}'.")
    return Compose([build_op(entry, TRANSFORMS, "Transform") for entry in ops or ()])


def describe_transforms(ops: Sequence[dict]) -> list[dict]:
    """The same operators with every option at its value, as plain data: [{"CropImage": {"size": [224, 224]}}].

    Two lists that compute the same by default, in quotients or with one number for two, are equal then.
    """
    return [{type(op).__name__: described(op, next(iter(entry.values())) if isinstance(entry, dict) else None)}
            for entry, op in zip(ops, build_transforms(ops).ops)]
