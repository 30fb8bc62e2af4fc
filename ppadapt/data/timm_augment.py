"""timm's RandAugment as PaddleClas 2.6 has it, `TimmAutoAugment` (ops/timm_autoaugment.py): most of its ViTs train so.

RandAugment is Cubuk et al. 2019 (arXiv:1909.13719). timm's differs from `RandAugment`: more kinds of change, each with
a chance of a half, and strengths that are drawn around the magnitude.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Union

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from ..ranges import Range
from .errors import DataError, choose
from .geometry import to_pil
from .options import number, pair

_LEVELS = 10  # of a strength
_CHANCE = 0.5  # of each change that was drawn
_SHIFT = 0.45  # of the image's side, at level 10
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_OPTIONS = {"m": (0, _LEVELS), "n": (1, 100), "mstd": (0, 100), "inc": (1, 1)}


def _moved(*matrix: float) -> Callable:
    """An affine map, whose entry None is the strength: of a shift in sides of the image."""
    def change(picture: Image.Image, value: float, filter_: Image.Resampling, fill: tuple) -> Image.Image:
        place = matrix.index(None)
        strength = value * picture.size[place // 3] if place % 3 == 2 else value
        full = [strength if entry is None else entry for entry in matrix]
        return picture.transform(picture.size, Image.Transform.AFFINE, full, filter_, fillcolor=fill)
    return change


def _enhanced(kind: type) -> Callable:
    return lambda picture, value, filter_, fill: kind(picture).enhance(value)


def _solarize_add(picture: Image.Image, value: float, filter_: Image.Resampling, fill: tuple) -> Image.Image:
    return picture.point([min(255, level + int(value)) if level < 128 else level for level in range(256)] * 3)


# name -> (picture, strength, filter, fill) -> picture
_CHANGES: dict[str, Callable] = {
    "AutoContrast": lambda p, v, i, f: ImageOps.autocontrast(p),
    "Equalize": lambda p, v, i, f: ImageOps.equalize(p),
    "Invert": lambda p, v, i, f: ImageOps.invert(p),
    "Rotate": lambda p, v, i, f: p.rotate(v, resample=i, fillcolor=f),
    "Posterize": lambda p, v, i, f: ImageOps.posterize(p, int(v)),
    "Solarize": lambda p, v, i, f: ImageOps.solarize(p, int(v)),
    "SolarizeAdd": _solarize_add,
    "Color": _enhanced(ImageEnhance.Color),
    "Contrast": _enhanced(ImageEnhance.Contrast),
    "Brightness": _enhanced(ImageEnhance.Brightness),
    "Sharpness": _enhanced(ImageEnhance.Sharpness),
    "ShearX": _moved(1, None, 0, 0, 1, 0),
    "ShearY": _moved(1, 0, 0, None, 1, 0),
    "TranslateXRel": _moved(1, 0, None, 0, 1, 0),
    "TranslateYRel": _moved(1, 0, 0, 0, 1, None),
}


def _strength(name: str, level: float, increasing: bool, sign: int) -> float:
    """What a level from 0 to 10 is for a change; `sign` is 1 or -1 where a change has two directions.

    `increasing`: timm's later set, in which a higher level always changes more.
    """
    share = level / _LEVELS
    if name in ("Color", "Contrast", "Brightness", "Sharpness"):
        return 1 + sign * 0.9 * share if increasing else 0.1 + 1.8 * share
    if name == "Posterize":
        return 4 - int(4 * share) if increasing else int(4 * share)
    if name == "Solarize":
        return 256 - int(256 * share) if increasing else int(256 * share)
    if name == "SolarizeAdd":
        return int(110 * share)
    full = {"Rotate": 30.0, "ShearX": 0.3, "ShearY": 0.3, "TranslateXRel": _SHIFT, "TranslateYRel": _SHIFT}
    return sign * full.get(name, 0.0) * share


class TimmAutoAugment:
    """``n`` changes that are drawn for each image, each with a chance of a half (above).

    Args:
        prob: chance that an image is changed at all.
        config_str: "rand-m9-mstd0.5-inc1": ``m`` the magnitude, 0 to 10; ``n`` the changes (2); ``mstd`` the deviation
            around the magnitude (0); ``inc1`` the set in which a higher magnitude always changes more.
        interpolation: "bicubic", "bilinear", or "random" for one of the two each time.
        img_size: of no effect here, as in PaddleClas for all that begins with "rand": shifts are shares of the image.
        mean: in 0..1, the colour that appears where the image was moved away.
    """

    random = True

    def __init__(self, prob: float = 1.0, config_str: str = "rand-m9-mstd0.5-inc1", interpolation: str = "bicubic",
                 img_size: Union[int, Sequence[int], None] = None,
                 mean: Sequence[float] = (0.485, 0.456, 0.406)) -> None:
        self.prob = number(prob, "TimmAutoAugment.prob", Range(0, 1))
        if interpolation not in (*_FILTERS, "random"):
            raise DataError(choose("TimmAutoAugment.interpolation", interpolation, (*_FILTERS, "random")))
        if not isinstance(mean, (list, tuple)) or len(mean) != 3:
            raise DataError(f"TimmAutoAugment.mean is {mean!r}: give one number per channel (3).")
        if img_size is not None:
            pair(img_size, "TimmAutoAugment.img_size")
        self.fill = tuple(round(255 * number(value, "TimmAutoAugment.mean", Range(0, 1))) for value in mean)
        given = _read(config_str)
        self.magnitude, self.deviation = given.get("m", float(_LEVELS)), given.get("mstd", 0.0)
        self.layers, self.increasing = int(given.get("n", 2)), "inc" in given
        self.filters = [_FILTERS[interpolation]] if interpolation in _FILTERS else list(_FILTERS.values())

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if rng.random() >= self.prob:
            return image
        picture, names = to_pil(image), list(_CHANGES)
        for k in rng.integers(len(names), size=self.layers):
            if rng.random() > _CHANCE:
                continue
            level = min(_LEVELS, max(0.0, rng.normal(self.magnitude, self.deviation)))
            strength = _strength(names[k], level, self.increasing, 1 if rng.random() < 0.5 else -1)
            filter_ = self.filters[rng.integers(len(self.filters))]
            picture = _CHANGES[names[k]](picture, strength, filter_, self.fill)
        return np.asarray(picture)


def _read(text: str) -> dict[str, float]:
    """The options in "rand-m9-mstd0.5-inc1". Raises DataError for what is none."""
    kind, *parts = str(text).split("-")
    found = {}
    for part in parts:
        match = re.fullmatch(r"([a-z]+)(\d+(?:\.\d+)?)", part)
        allowed = _OPTIONS.get(match[1]) if match else None
        if allowed is None or not allowed[0] <= float(match[2]) <= allowed[1]:
            kind = ""
            break
        found[match[1]] = float(match[2])
    if kind != "rand":
        raise DataError(f"TimmAutoAugment.config_str is {text!r}: give rand-m9-n2-mstd0.5-inc1, with m from 0 to 10, "
                        "n from 1 to 100, mstd from 0 to 100, inc1 or without; for timm's original and augmix policies "
                        "take AutoAugment or RandAugment")
    return found
