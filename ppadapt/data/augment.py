"""Operators that change colours or hide parts, with the ranges of PaddleClas 2.6 (data/preprocess/ops)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Union

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from ..ranges import Range
from .errors import DataError, choose
from .geometry import to_pil
from .options import colour, interval, number

GREY = (128, 128, 128)
_MOST_JITTER = 10


def _affine(picture: Image.Image, matrix: Sequence[float], fill: Sequence[int],
            filter_: Image.Resampling = Image.Resampling.NEAREST) -> Image.Image:
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix, filter_, fillcolor=fill)


# name -> (picture, strength, sign, fill) -> picture; the sign is drawn by the caller
_CHANGES: dict[str, Callable] = {
    "shearX": lambda p, m, s, f: _affine(p, (1, m * s, 0, 0, 1, 0), f, Image.Resampling.BICUBIC),
    "shearY": lambda p, m, s, f: _affine(p, (1, 0, 0, m * s, 1, 0), f, Image.Resampling.BICUBIC),
    "translateX": lambda p, m, s, f: _affine(p, (1, 0, m * p.size[0] * s, 0, 1, 0), f),
    "translateY": lambda p, m, s, f: _affine(p, (1, 0, 0, 0, 1, m * p.size[1] * s), f),
    "rotate": lambda p, m, s, f: p.rotate(m, fillcolor=GREY),
    "color": lambda p, m, s, f: ImageEnhance.Color(p).enhance(1 + m * s),
    "posterize": lambda p, m, s, f: ImageOps.posterize(p, int(m)),
    "solarize": lambda p, m, s, f: ImageOps.solarize(p, m),
    "contrast": lambda p, m, s, f: ImageEnhance.Contrast(p).enhance(1 + m * s),
    "sharpness": lambda p, m, s, f: ImageEnhance.Sharpness(p).enhance(1 + m * s),
    "brightness": lambda p, m, s, f: ImageEnhance.Brightness(p).enhance(1 + m * s),
    "autocontrast": lambda p, m, s, f: ImageOps.autocontrast(p),
    "equalize": lambda p, m, s, f: ImageOps.equalize(p),
    "invert": lambda p, m, s, f: ImageOps.invert(p),
}
# The strength at level 10 (RandAugment) and at index 9 (AutoAugment).
_FULL = {"shearX": 0.3, "shearY": 0.3, "translateX": 150 / 331, "translateY": 150 / 331, "rotate": 30.0,
         "color": 0.9, "contrast": 0.9, "sharpness": 0.9, "brightness": 0.9,
         "autocontrast": 0.0, "equalize": 0.0, "invert": 0.0}


def _sign(rng: np.random.Generator) -> int:
    return 1 if rng.random() < 0.5 else -1


class RandAugment:
    """RandAugment (Cubuk et al. 2019, arXiv:1909.13719): ``num_layers`` random changes of one strength.

    Args:
        magnitude: 0 to 10. As in PaddleClas, posterize keeps int(0.4 magnitude) bits (at least one) and solarize
            inverts above 25.6 magnitude, so both are stronger where the magnitude is small.
        fillcolor: what appears where the image was moved away.
    """

    random = True

    def __init__(self, num_layers: int = 2, magnitude: float = 5, fillcolor: Sequence[int] = GREY) -> None:
        if not isinstance(num_layers, int) or not 1 <= num_layers <= 100:
            raise DataError(f"RandAugment.num_layers is {num_layers!r}: give a whole number from 1 to 100.")
        level = number(magnitude, "RandAugment.magnitude") / 10
        if not 0 <= level <= 1:
            raise DataError(f"RandAugment.magnitude is {magnitude!r}: give a number from 0 to 10.")
        fill = colour(fillcolor, "RandAugment.fillcolor")
        self.layers, self.fill = num_layers, (fill,) * 3 if isinstance(fill, int) else fill
        strengths = {name: full * level for name, full in _FULL.items()}
        strengths.update(posterize=max(1, int(4 * level)), solarize=256 * level)
        self.changes = [(_CHANGES[name], strengths[name]) for name in _CHANGES]

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        picture = to_pil(image)
        for _ in range(self.layers):
            change, strength = self.changes[rng.integers(len(self.changes))]
            picture = change(picture, strength, _sign(rng), self.fill)
        return np.asarray(picture)


# (chance, change, strength index) twice per sub-policy: the appendix of arXiv:1805.09501, as in PaddleClas.
_POLICIES = {
    "imagenet": """0.4 posterize 8 0.6 rotate 9, 0.6 solarize 5 0.6 autocontrast 5,
        0.8 equalize 8 0.6 equalize 3, 0.6 posterize 7 0.6 posterize 6,
        0.4 equalize 7 0.2 solarize 4, 0.4 equalize 4 0.8 rotate 8,
        0.6 solarize 3 0.6 equalize 7, 0.8 posterize 5 1.0 equalize 2, 0.2 rotate 3 0.6 solarize 8,
        0.6 equalize 8 0.4 posterize 6, 0.8 rotate 8 0.4 color 0, 0.4 rotate 9 0.6 equalize 2,
        0.0 equalize 7 0.8 equalize 8, 0.6 invert 4 1.0 equalize 8, 0.6 color 4 1.0 contrast 8,
        0.8 rotate 8 1.0 color 2, 0.8 color 8 0.8 solarize 7, 0.4 sharpness 7 0.6 invert 8,
        0.6 shearX 5 1.0 equalize 9, 0.4 color 0 0.6 equalize 3, 0.4 equalize 7 0.2 solarize 4,
        0.6 solarize 5 0.6 autocontrast 5, 0.6 invert 4 1.0 equalize 8, 0.6 color 4 1.0 contrast 8,
        0.8 equalize 8 0.6 equalize 3""",
    "cifar10": """0.1 invert 7 0.2 contrast 6, 0.7 rotate 2 0.3 translateX 9, 0.8 sharpness 1 0.9 sharpness 3,
        0.5 shearY 8 0.7 translateY 9, 0.5 autocontrast 8 0.9 equalize 2, 0.2 shearY 7 0.3 posterize 7,
        0.4 color 3 0.6 brightness 7, 0.3 sharpness 9 0.7 brightness 9, 0.6 equalize 5 0.5 equalize 1,
        0.6 contrast 7 0.6 sharpness 5, 0.7 color 7 0.5 translateX 8, 0.3 equalize 7 0.4 autocontrast 8,
        0.4 translateY 3 0.2 sharpness 6, 0.9 brightness 6 0.2 color 8, 0.5 solarize 2 0.0 invert 3,
        0.2 equalize 0 0.6 autocontrast 0, 0.2 equalize 8 0.8 equalize 4, 0.9 color 9 0.6 equalize 6,
        0.8 autocontrast 4 0.2 solarize 8, 0.1 brightness 3 0.7 color 0, 0.4 solarize 5 0.9 autocontrast 3,
        0.9 translateY 9 0.7 translateY 9, 0.9 autocontrast 2 0.8 solarize 3, 0.8 equalize 8 0.1 invert 3,
        0.7 translateY 9 0.9 autocontrast 1""",
}


def _auto_strength(name: str, index: int) -> float:
    if name == "posterize":
        return round(8 - 4 * index / 9)
    if name == "solarize":
        return 256 - 256 * index / 9
    return _FULL[name] * index / 9


class AutoAugment:
    """AutoAugment (Cubuk et al. 2018, arXiv:1805.09501): one of 25 learned pairs of changes per image.

    Args:
        policy: "imagenet" (PaddleClas's) or "cifar10".
    """

    random = True

    def __init__(self, policy: str = "imagenet") -> None:
        if policy not in _POLICIES:
            raise DataError(choose("AutoAugment.policy", policy, _POLICIES))
        self.pairs = []
        for words in (text.split() for text in _POLICIES[policy].split(",")):
            self.pairs.append([(float(words[k]), _CHANGES[words[k + 1]],
                                _auto_strength(words[k + 1], int(words[k + 2]))) for k in (0, 3)])

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        picture = to_pil(image)
        for chance, change, strength in self.pairs[rng.integers(len(self.pairs))]:
            if rng.random() < chance:
                picture = change(picture, strength, _sign(rng), GREY)
        return np.asarray(picture)


class ColorJitter:
    """Brightness, contrast, saturation and hue by random factors, in random order.

    Args:
        brightness, contrast, saturation: a number v for factors in [max(0, 1 - v), 1 + v], or (low, high).
        hue: at most 0.5: a shift in [-hue, hue] of the whole circle.
        prob: chance that an image is changed.
    """

    random = True

    def __init__(self, brightness: Union[float, Sequence[float]] = 0, contrast: Union[float, Sequence[float]] = 0,
                 saturation: Union[float, Sequence[float]] = 0, hue: float = 0, prob: float = 1) -> None:
        self.prob = number(prob, "ColorJitter.prob", Range(0, 1))
        self.hue = number(hue, "ColorJitter.hue")
        if not 0 <= self.hue <= 0.5:
            raise DataError(f"ColorJitter.hue is {hue!r}: give a number from 0 to 0.5.")
        self.enhancers = []
        for name, value, enhancer in (("brightness", brightness, ImageEnhance.Brightness),
                                      ("contrast", contrast, ImageEnhance.Contrast),
                                      ("saturation", saturation, ImageEnhance.Color)):
            if isinstance(value, (list, tuple)):
                low, high = interval(value, f"ColorJitter.{name}", 1 + _MOST_JITTER)
            else:
                width = number(value, f"ColorJitter.{name}", Range(0, _MOST_JITTER))
                low, high = max(0.0, 1 - width), 1 + width
            if (low, high) != (1, 1):
                self.enhancers.append((enhancer, low, high))

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if rng.random() >= self.prob:
            return image
        picture = to_pil(image)
        changes = [*self.enhancers, *([None] if self.hue else [])]
        for k in rng.permutation(len(changes)):
            if changes[k] is None:
                hue, *rest = picture.convert("HSV").split()
                shift = int(rng.uniform(-self.hue, self.hue) * 255)
                turned = (np.asarray(hue, np.int16) + shift) % 256
                picture = Image.merge("HSV", [Image.fromarray(turned.astype(np.uint8)), *rest]).convert("RGB")
            else:
                enhancer, low, high = changes[k]
                picture = enhancer(picture).enhance(rng.uniform(low, high))
        return np.asarray(picture)


class RandomErasing:
    """Random erasing (Zhong et al. 2017, arXiv:1708.04896) of an [H, W, 3] image, before ToCHWImage.

    Args:
        EPSILON: chance of erasing. sl, sh: smallest and largest share of the area.
        r1: smallest height / width (the largest is 1 / r1), drawn uniformly or in the logarithm.
        mean: what "const" fills with. attempt: draws before giving up.
        mode: "const", "rand" (one normal colour) or "pixel" (normal noise), for normalized images.
    """

    random = True

    def __init__(self, EPSILON: Union[float, str] = 0.5, sl: Union[float, str] = 0.02, sh: Union[float, str] = 0.4,
                 r1: Union[float, str] = 0.3, mean: Sequence[float] = (0.0, 0.0, 0.0), attempt: int = 100,
                 use_log_aspect: bool = False, mode: str = "const") -> None:
        if mode not in ("const", "rand", "pixel"):
            raise DataError(choose("RandomErasing.mode", mode, ("const", "rand", "pixel")))
        self.chance = number(EPSILON, "RandomErasing.EPSILON", Range(0, 1))
        self.area = interval((sl, sh), "RandomErasing.sl and sh", 1, 1e-6)
        if not 1 <= number(attempt, "RandomErasing.attempt") <= 10_000:
            raise DataError(f"RandomErasing.attempt is {attempt!r}: give a whole number from 1 to 10,000.")
        low = number(r1, "RandomErasing.r1", Range(0.01, 1))
        self.aspect = low, 1 / low
        if not isinstance(mean, (list, tuple)) or len(mean) != 3:
            raise DataError(f"RandomErasing.mean is {mean!r}: give one number per channel (3).")
        self.mean = tuple(number(value, "RandomErasing.mean", Range(-1e6, 1e6)) for value in mean)
        self.log_aspect, self.attempts, self.mode = use_log_aspect, attempt, mode

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if image.shape[2] != 3:
            raise DataError(f"RandomErasing got an image of shape {image.shape}: put it before ToCHWImage.")
        if rng.random() >= self.chance:
            return image
        height, width = image.shape[:2]
        for _ in range(self.attempts):
            area = rng.uniform(*self.area) * height * width
            if self.log_aspect:
                aspect = math.exp(rng.uniform(math.log(self.aspect[0]), math.log(self.aspect[1])))
            else:
                aspect = rng.uniform(*self.aspect)
            h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if h < height and w < width:
                top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
                fill = {"const": lambda: self.mean, "rand": lambda: rng.normal(size=3),
                        "pixel": lambda h=h, w=w: rng.normal(size=(h, w, 3))}[self.mode]()
                image = image.copy()  # the dataset's own array must not change
                image[top:top + h, left:left + w] = fill
                return image
        return image
