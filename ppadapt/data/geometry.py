"""Operators that move pixels: resize, crop, flip and pad, as PaddleClas 2.6 does, and the paper's crop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Optional, Union

import numpy as np
from PIL import Image

from .. import limits
from .coordinates import Coordinates
from .errors import DataError, choose
from .options import MOST_SIDE, colour, interval, is_whole, pair

_PIL = {"nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR,
        "bicubic": Image.Resampling.BICUBIC, "box": Image.Resampling.BOX,
        "lanczos": Image.Resampling.LANCZOS, "hamming": Image.Resampling.HAMMING}
_CV2 = {"nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR,
        "bicubic": Image.Resampling.BICUBIC, "area": Image.Resampling.BOX,
        "lanczos": Image.Resampling.LANCZOS}


_BACKENDS = ("pil", "cv2")
_RATIOS = 100, 0.01  # of width to height: the most and the least


def to_pil(image: np.ndarray) -> Image.Image:
    """A uint8 [H, W, 3] array as a Pillow image."""
    if image.dtype != np.uint8:
        raise DataError(f"a {image.dtype} image cannot be resized or recoloured: "
                        "put NormalizeImage after the operators that work on pixels 0..255.")
    return Image.fromarray(np.ascontiguousarray(image))


class Resizer:
    """The two resampling back ends of PaddleClas, computed with Pillow.

    "pil" is Pillow's ``resize``, which low-passes before it samples. "cv2" with nearest or bilinear samples
    without a low-pass, as OpenCV does (within one grey level); its area is Pillow's box; for bicubic and
    lanczos Pillow's filters stand in, so shrinking is smoother than OpenCV's.
    """

    def __init__(self, interpolation: Optional[str], backend: str, owner: str) -> None:
        table = {"pil": _PIL, "cv2": _CV2}.get(str(backend).lower())
        if table is None:
            raise DataError(choose(f"{owner}.backend", backend, ("pil", "cv2")))
        # What PaddleClas gets when nothing is said: OpenCV's default, or Pillow's.
        name = interpolation or ("bilinear" if table is _CV2 else "bicubic")
        if str(name).lower() not in table:
            raise DataError(choose(f"{owner}.interpolation", interpolation, table))
        self.name, self.backend, self.owner = str(name).lower(), str(backend).lower(), owner
        self.filter = table[self.name]
        self.sample = table is _CV2 and self.filter in (Image.Resampling.NEAREST, Image.Resampling.BILINEAR)

    def __call__(self, image: np.ndarray, size: tuple[int, int],
                 box: tuple[int, int, int, int] | None = None) -> np.ndarray:
        """``image`` (or its left, top, right, bottom ``box``) at ``size`` = (width, height)."""
        if box is not None:
            image = image[box[1]:box[3], box[0]:box[2]]
        if isinstance(image, Coordinates):
            if self.sample:
                raise DataError("OpenCV's nearest and bilinear resizing have no form for batches")
            return image.resize(size, self.filter)
        height, width = image.shape[:2]
        if (width, height) == size:
            return image
        if size[0] * size[1] > limits.limit("PPADAPT_MAX_PIXELS"):  # a strip of one pixel by thousands
            raise DataError(f"{self.owner} would make it {size[0]} x {size[1]}: "
                            + limits.beyond("PPADAPT_MAX_PIXELS", size[0] * size[1]))
        if self.sample and self.filter is Image.Resampling.NEAREST:
            # OpenCV takes the pixel at floor(x * scale), not the one under the centre.
            return image[np.arange(size[1]) * height // size[1]][:, np.arange(size[0]) * width // size[0]]
        picture = to_pil(image)
        if self.sample:
            scale = (width / size[0], 0, 0, 0, height / size[1], 0)
            return np.asarray(picture.transform(size, Image.Transform.AFFINE, scale, self.filter))
        return np.asarray(picture.resize(size, self.filter))


class ResizeImage:
    """To ``size`` = side or (width, height), or so that the shorter side is ``resize_short`` pixels."""

    random = False

    def __init__(self, size: Union[int, Sequence[int], None] = None, resize_short: Optional[int] = None,
                 interpolation: Optional[str] = None, backend: str = "cv2") -> None:
        if (resize_short is None) == (size is None):
            raise DataError("ResizeImage needs size or resize_short: give one of them in pixels" + (
                "." if size is None else ", not both."))
        self.short = None if resize_short is None else pair(resize_short, "ResizeImage.resize_short")[0]
        self.size = None if self.short else pair(size, "ResizeImage.size")
        self.resize = Resizer(interpolation, backend, "ResizeImage")
        self.interpolation, self.backend = self.resize.name, self.resize.backend

    def __call__(self, image: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        if self.size:
            return self.resize(image, self.size)
        height, width = image.shape[:2]
        scale = self.short / min(height, width)
        return self.resize(image, (round(width * scale), round(height * scale)))


class CropImage:
    """The centre, ``size`` = side or (width, height)."""

    random = False

    def __init__(self, size: Union[int, Sequence[int]]) -> None:
        self.size = pair(size, "CropImage.size")

    def __call__(self, image: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        width, height = self.size
        left, top = (image.shape[1] - width) // 2, (image.shape[0] - height) // 2
        if left < 0 or top < 0:
            raise DataError(f"CropImage.size {width}x{height} is larger than the image "
                            f"({image.shape[1]}x{image.shape[0]}): put ResizeImage before it.")
        return image[top:top + height, left:left + width]


class RandCropImage:
    """PaddleClas's random resized crop: the area is drawn among those that fit the drawn shape.

    Args:
        size: side, or (width, height), of the result in pixels.
        scale: smallest and largest share of the image's area (0.08 to 1).
        ratio: smallest and largest width / height, drawn uniformly (or uniformly in the logarithm).
    """

    random = True

    def __init__(self, size: Union[int, Sequence[int]], scale: Optional[Sequence[float]] = None,
                 ratio: Optional[Sequence[float]] = None, interpolation: Optional[str] = None,
                 use_log_aspect: bool = False, backend: str = "cv2") -> None:
        self.size = pair(size, "RandCropImage.size")
        self.scale = interval((0.08, 1.0) if scale is None else scale, "RandCropImage.scale", 1)
        self.ratio = interval((3 / 4, 4 / 3) if ratio is None else ratio, "RandCropImage.ratio", *_RATIOS)
        self.log_aspect = use_log_aspect
        self.resize = Resizer(interpolation, backend, "RandCropImage")

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width = image.shape[:2]
        if self.log_aspect:
            ratio = math.exp(rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
        else:
            ratio = rng.uniform(*self.ratio)
        bound = min(width / height / ratio, height / width * ratio)
        area = width * height * rng.uniform(min(self.scale[0], bound), min(self.scale[1], bound))
        w = min(width, max(1, int(math.sqrt(area * ratio))))
        h = min(height, max(1, int(math.sqrt(area / ratio))))
        left, top = rng.integers(0, width - w + 1), rng.integers(0, height - h + 1)
        return self.resize(image, self.size, (left, top, left + w, top + h))


class RandomResizedCrop:
    """The crop of the AdaptFormer paper's recipe: one draw, no retry (MAE's ``RandomResizedCrop``).

    area ~ U(scale) H W and log(r) ~ U(log ratio); w = round(sqrt(area r)) and h = round(sqrt(area / r)),
    both clipped to the image, at a uniform position; then resized with Pillow to ``size`` (width, height).
    """

    random = True

    def __init__(self, size: Union[int, Sequence[int]], scale: Sequence[float] = (0.08, 1.0),
                 ratio: Sequence[float] = (3 / 4, 4 / 3), interpolation: str = "bicubic") -> None:
        self.size = pair(size, "RandomResizedCrop.size")
        self.scale = interval(scale, "RandomResizedCrop.scale", 1)
        low, high = interval(ratio, "RandomResizedCrop.ratio", *_RATIOS)
        self.log_ratio = math.log(low), math.log(high)
        self.resize = Resizer(interpolation, "pil", "RandomResizedCrop")

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width = image.shape[:2]
        area = rng.uniform(*self.scale) * height * width
        ratio = math.exp(rng.uniform(*self.log_ratio))
        w = min(width, max(1, round(math.sqrt(area * ratio))))
        h = min(height, max(1, round(math.sqrt(area / ratio))))
        left, top = rng.integers(0, width - w + 1), rng.integers(0, height - h + 1)
        return self.resize(image, self.size, (left, top, left + w, top + h))


class RandCropImageV2:
    """A random window of ``size`` = side or (width, height), not resized.

    PaddleClas's own also draws the position one pixel past the last, which cuts a row or column off.
    """

    random = True

    def __init__(self, size: Union[int, Sequence[int]]) -> None:
        self.size = pair(size, "RandCropImageV2.size")

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        width, height = self.size
        free_y, free_x = image.shape[0] - height, image.shape[1] - width
        if free_x < 0 or free_y < 0:
            raise DataError(f"RandCropImageV2.size {width}x{height} is larger than the image "
                            f"({image.shape[1]}x{image.shape[0]}): put Pad or ResizeImage before it.")
        # random() is several times as fast as integers(), and this is most of a 32 px image's time.
        top, left = int(rng.random() * (free_y + 1)), int(rng.random() * (free_x + 1))
        return image[top:top + height, left:left + width]


class RandFlipImage:
    """Flips half of the images: 1 left-right, 0 up-down, -1 both."""

    random = True

    def __init__(self, flip_code: int = 1) -> None:
        if flip_code not in (-1, 0, 1):
            raise DataError(f"RandFlipImage.flip_code is {flip_code!r}: "
                            "give 1 (left-right), 0 (up-down) or -1 (both).")
        self.step_y, self.step_x = (1 if flip_code == 1 else -1), (1 if flip_code == 0 else -1)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return image[::self.step_y, ::self.step_x] if rng.random() < 0.5 else image


class Pad:
    """Adds a border.

    Args:
        padding: pixels: one number; (left and right, top and bottom); or (left, top, right, bottom).
        fill: value of the border for "constant": one number or one per channel.
        padding_mode: "constant", "edge", "reflect" (the edge is not repeated) or "symmetric".
    """

    random = False

    def __init__(self, padding: Union[int, Sequence[int]], fill: Union[int, Sequence[int]] = 0,
                 padding_mode: str = "constant", backend: str = "pil") -> None:
        modes = ("constant", "edge", "reflect", "symmetric")
        if padding_mode not in modes:
            raise DataError(choose("Pad.padding_mode", padding_mode, modes))
        values = [padding] if is_whole(padding) else padding
        if (not isinstance(values, (list, tuple)) or len(values) not in (1, 2, 4)
                or not all(is_whole(v) and 0 <= v <= MOST_SIDE for v in values)):
            raise DataError(f"Pad.padding is {padding!r}: give 1, 2 or 4 whole numbers from 0 to {MOST_SIDE:,}.")
        self.left, self.top, self.right, self.bottom = tuple(values) * (4 // len(values))
        if backend not in _BACKENDS:
            raise DataError(choose("Pad.backend", backend, _BACKENDS))
        self.mode, self.fill = padding_mode, colour(fill, "Pad.fill")
        self._index: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}

    def __call__(self, image: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        height, width, channels = image.shape
        if isinstance(image, Coordinates):
            if self.mode == "constant" and np.any(self.fill):
                raise DataError("Pad with a fill other than 0 has no form for batches")
            return image.pad(*self._places(height, width))
        if self.mode == "constant":
            tall, wide = height + self.top + self.bottom, width + self.left + self.right
            padded = np.empty((tall, wide, channels), image.dtype)
            padded[:] = self.fill
            padded[self.top:self.top + height, self.left:self.left + width] = image
            return padded
        rows, columns = self._places(height, width)
        flat = (rows[:, None] * width + columns).ravel()
        return image.reshape(-1, channels).take(flat, axis=0).reshape(len(rows), len(columns), channels)

    def _places(self, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Where each row and column comes from; -1: the border. np.pad takes long, so it makes them once."""
        places = self._index.get((height, width))
        if places is None:
            if len(self._index) > 64:  # images of many sizes: do not keep them for each
                self._index.clear()
            options = {"constant_values": -1} if self.mode == "constant" else {}
            places = self._index[height, width] = (
                np.pad(np.arange(height), (self.top, self.bottom), mode=self.mode, **options),
                np.pad(np.arange(width), (self.left, self.right), mode=self.mode, **options))
        return places
