"""Encoded images to RGB arrays, as PaddleClas's ``cv2.imdecode`` gives them, with Pillow."""

from __future__ import annotations

import io
import os
import stat
import warnings

import numpy as np
from PIL import Image

from .. import limits
from .errors import BrokenImageError

# Pillow warns from 89 million pixels on, here it is said once.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# Pillow asks a reader of each of its forty formats otherwise; that of EPS starts Ghostscript, a program.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
# A progressive JPEG is gone through once per scan, each of which may take a few bytes only.
_SCANS = 16
_BAND = 1 << 22  # pixels
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO, _SAMPLE_FORMAT, _UNSIGNED = 258, 262, 0, 339, 1  # of TIFF

_ORIENTATION = 0x0112  # of EXIF: how the array is to be turned
_UPRIGHT = {
    2: lambda array: array[:, ::-1], 3: lambda array: array[::-1, ::-1], 4: lambda array: array[::-1],
    5: lambda array: array.transpose(1, 0, 2), 6: lambda array: np.rot90(array, -1),
    7: lambda array: array[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90}


def decode_image(source: bytes | str | os.PathLike, name: str | None = None) -> np.ndarray:
    """An encoded image (bytes, or the path of a file) as uint8 [H, W, 3] RGB.

    The EXIF orientation is applied and alpha is dropped, as ``cv2.imdecode(data, 1)`` does; a 16-bit image
    keeps its high byte; CMYK goes through Pillow's conversion; of an animation, or of pages, the first counts.

    Raises:
        BrokenImageError: naming the file, when it is missing, truncated, of another format than ``FORMATS``,
            larger than ``PPADAPT_MAX_PIXELS``, or holds numbers that no viewer would show the same (float, 32
            bits, signed).
    """
    name = name or (str(source) if not isinstance(source, bytes) else f"an image of {len(source)} bytes")
    data = source if isinstance(source, bytes) else _read(source, name)
    allowed = limits.limit("PPADAPT_MAX_PIXELS")
    if Image.MAX_IMAGE_PIXELS and allowed > Image.MAX_IMAGE_PIXELS:  # asked for by the user; Pillow has its own
        Image.MAX_IMAGE_PIXELS = allowed
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            _check_size(picture, data, name, allowed)
            return picture_pixels(picture, name)
    except BrokenImageError:
        raise
    except Image.DecompressionBombError as error:
        raise BrokenImageError(f"Image {name} is refused ({str(error).rstrip('.')}). {allowed:,} pixels are the limit: "
                               "if you trust it, set PPADAPT_MAX_PIXELS higher.") from None
    except Image.UnidentifiedImageError:
        raise BrokenImageError(f"Image {name} cannot be read: its content is none of {', '.join(FORMATS)}.") from None
    # Pillow's plugins raise SyntaxError, struct.error, KeyError and more on files that are damaged.
    except Exception as error:
        raise BrokenImageError(f"Image {name} cannot be read ({type(error).__name__}: {error}).") from None


def picture_pixels(picture: Image.Image, name: str) -> np.ndarray:
    """An image of Pillow's as `decode_image` gives its file: upright, without alpha, 16 bits by their high byte.

    Raises:
        BrokenImageError: naming it, for numbers that no viewer would show the same; what Pillow raises on damage.
    """
    picture.load()
    bare = picture.mode == "I" and picture.format is None  # 32 bits of any meaning; a file of 16 may be opened as "I"
    if (picture.mode == "I" or picture.mode.startswith("I;16")) and not bare:
        pixels = _narrow(picture, name)
    elif picture.mode in _MODES:
        pixels = _rgb(picture)
    else:
        raise BrokenImageError(f"Image {name} is {f'a {picture.format}' if picture.format else 'one'} of mode "
                               f"{picture.mode}, which has no agreed look: save it as 8 or 16 bits of gray or RGB.")
    return np.ascontiguousarray(_UPRIGHT.get(_orientation(picture), lambda array: array)(pixels))


def _read(path: str | os.PathLike, name: str) -> bytes:
    try:
        # A pipe would be waited for, and no timeout ends that.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise BrokenImageError(f"Image {name} is a {'folder' if os.path.isdir(path) else 'pipe or a device'}, "
                                   "not a file.")
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise BrokenImageError(f"Image {name} does not exist.") from None
    except OSError as error:
        raise BrokenImageError(f"Image {name} cannot be read ({error.strerror or error}).") from None


def _check_size(picture: Image.Image, data: bytes, name: str, allowed: int) -> None:
    """Before anything of it is unpacked."""
    width, height = picture.size
    if width * height > allowed:
        raise BrokenImageError(f"Image {name} is {width} x {height}: "
                               f"{limits.beyond('PPADAPT_MAX_PIXELS', width * height)}.")
    scans = data.count(b"\xff\xda") if picture.format in ("JPEG", "MPO") else 1
    if width * height * scans > _SCANS * allowed:
        raise BrokenImageError(f"Image {name} of {width} x {height} has {scans:,} scans, each of which goes through "
                               "all of it: save it with fewer (not progressive).")


def _rgb(picture: Image.Image) -> np.ndarray:
    """[H, W, 3]. In bands: Pillow's conversion and its way to an array each take the whole once more."""
    width, height = picture.size
    pixels, rows = np.empty((height, width, 3), np.uint8), max(_BAND // max(width, 1), 1)
    for top in range(0, height, rows):
        band = picture if rows >= height else picture.crop((0, top, width, min(top + rows, height)))
        pixels[top:top + rows] = band if band.mode == "RGB" else band.convert("RGB")
    return pixels


def _narrow(picture: Image.Image, name: str) -> np.ndarray:
    """16-bit gray to 8 bits, [H, W, 3]: Pillow's own conversion would clip everything above 255.

    How wide the numbers are is asked of the file, not of its largest one: a dark picture stays dark.
    """
    bits, tags = 16, getattr(picture, "tag_v2", None)
    if tags is not None:
        bits = tags.get(_BITS_PER_SAMPLE, (1,))[0]
        if not 8 <= bits <= 16 or tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0] != _UNSIGNED:
            raise BrokenImageError(f"Image {name} is a TIFF of signed or of {bits}-bit numbers, which have no agreed "
                                   "look: save it as 8 or 16 bits of gray.")
    values = np.asarray(picture)
    gray = (np.clip(values, 0, 65535) >> (bits - 8)).astype(np.uint8)
    if tags is not None and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        gray = 255 - gray
    return np.repeat(gray[..., None], 3, -1)


def _orientation(picture: Image.Image) -> int:
    """That of EXIF; 1, as it lies, where the EXIF is damaged, which viewers do not mind."""
    try:
        return picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # whatever its parser raises on bytes that are not what it expects
        return 1
