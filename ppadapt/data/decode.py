"""Encoded images to RGB arrays, as PaddleClas's ``cv2.imdecode`` gives them, with Pillow."""

from __future__ import annotations

import io
import os

import numpy as np
from PIL import Image, ImageOps

from .errors import BrokenImageError


def decode_image(source: bytes | str | os.PathLike, name: str | None = None) -> np.ndarray:
    """An encoded image (bytes, or the path of a file) as uint8 [H, W, 3] RGB.

    The EXIF orientation is applied and alpha is dropped, as ``cv2.imdecode(data, 1)`` does; a 16-bit
    image keeps its high byte; CMYK goes through Pillow's conversion.

    Raises:
        BrokenImageError: naming the file, when it is missing, truncated or no image.
    """
    name = name or (str(source) if not isinstance(source, bytes) else f"an image of {len(source)} bytes")
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as picture:
            picture.load()
            picture = ImageOps.exif_transpose(picture)
            if picture.mode.startswith("I") or picture.mode == "F":
                picture = _narrow(picture)
            return np.array(picture.convert("RGB"))
    except FileNotFoundError:
        raise BrokenImageError(f"Image {name} does not exist.") from None
    # Pillow's plugins raise SyntaxError, struct.error, KeyError and more on files that are damaged.
    except Exception as error:
        raise BrokenImageError(f"Image {name} cannot be read ({type(error).__name__}: {error}).") from None


def _narrow(picture: Image.Image) -> Image.Image:
    """16-bit, 32-bit or float gray to 8 bits: Pillow's own conversion would clip everything above 255."""
    values = np.asarray(picture)
    # Pillow before 11 reads some 16-bit files as mode "I", so the values have to say how wide they are.
    if picture.mode.startswith("I;16") or values.max(initial=0) > 255:
        values = values / 256
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
