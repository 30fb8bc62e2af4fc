"""Pictures and folders of them."""
from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin
from trust_table import Row

from ppadapt.data import DATASETS, decode_image

DRAW = np.random.default_rng(0)
PICTURE = Image.fromarray(np.kron(DRAW.integers(0, 256, (8, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8))
PIXELS = np.array(PICTURE)


def encoded(picture=PICTURE, kind="JPEG", **options):
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


NOTHING = zlib.compress(b"")


def png(width, height, more=b"", compressed=NOTHING):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + more + chunk(b"IDAT", compressed) + chunk(b"IEND", b"")


def bomb(width, height):
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + 3 * width)) for _ in range(height)) + packer.flush()
    return png(width, height, compressed=rows)


def file(content, name="s.jpg"):
    def make(folder):
        (folder / name).write_bytes(content() if callable(content) else content)
        return folder / name

    return make


def refused(case, content, says, name="s.jpg"):
    return Row("image", case, file(content, name), decode_image, says)


def shown(case, content, expected=None, name="s.jpg", near=0):
    """Decoded; `expected` pixels within `near` on average."""
    def right(found):
        wanted = PIXELS if expected is None else expected
        return found.shape == wanted.shape and np.abs(found.astype(int) - wanted).mean() <= near

    return Row("image", case, file(content, name), decode_image, right)


def made(case, make, says):
    return Row("image", case, lambda folder: (make(folder / "s.jpg"), folder / "s.jpg")[1], decode_image, says)


def _mode(mode, **options):
    return encoded(PICTURE.convert(mode), "PNG", **options)


def _gray(mode="L"):
    return np.array(PICTURE.convert(mode).convert("RGB"))


def _turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(PICTURE, "PNG", exif=exif)


def _bad_exif():
    data = encoded(quality=100, subsampling=0)
    exif = b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(6)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif + data[2:]


def _text(size):
    return png(4, 4, chunk(b"zTXt", b"k\0\0" + zlib.compress(b"A" * size, 9)), zlib.compress(bytes(52)))


def _sixteen(top):
    return (np.linspace(0, top, 64 * 64).astype(np.uint16)).reshape(64, 64)


def _folder(change):
    def make(folder):
        for name in "ab":
            for i in range(3):
                (folder / "root" / name).mkdir(parents=True, exist_ok=True)
                (folder / "root" / name / f"{i}.png").write_bytes(encoded(kind="PNG"))
        change(folder / "root")
        return folder / "root"

    return make


def _dataset(root, **options):
    data = DATASETS["ImageFolder"]("train", root=root, **options)
    return [data[i] is not None for i in range(len(data))], data.classes


def folder(case, change, expect, **options):
    return Row("images", case, _folder(change), lambda root: _dataset(root, **options), expect)


def _list(text, names=None, **options):
    def make(folder):
        (folder / "a.png").write_bytes(encoded(kind="PNG"))
        (folder / "c.png").write_bytes(encoded(kind="BMP"))
        (folder / "list.txt").write_bytes(text)
        if names is not None:
            (folder / "names.txt").write_bytes(names)
        return folder

    def call(root):
        more = {"class_id_map_file": root / "names.txt"} if names is not None else {}
        return DATASETS["ImageNetDataset"](image_root=root, cls_label_path=root / "list.txt", **more, **options)

    return make, call


def listing(case, text, expect, names=None):
    return Row("labels", case, *_list(text, names), expect)


ROWS = [
    shown("ok", encoded(quality=100, subsampling=0), near=3), shown("png", encoded(kind="PNG")),
    shown("bmp", encoded(kind="BMP")), shown("ppm", encoded(kind="PPM")), shown("tiff", encoded(kind="TIFF")),
    shown("webp", encoded(kind="WEBP", lossless=True)), shown("rgba", _mode("RGBA")),
    shown("gray", _mode("L"), _gray()),
    shown("gray and alpha", _mode("LA"), _gray()), shown("one bit", _mode("1"), _gray("1")),
    shown("palette", _mode("P"), _gray("P")), shown("palette and alpha", _mode("P", transparency=0), _gray("P")),
    shown("cmyk", encoded(PICTURE.convert("CMYK"), "TIFF"), _gray("CMYK")),
    shown("animated gif", encoded(PICTURE.convert("P"), "GIF", save_all=True, append_images=[PICTURE.rotate(90)]),
          _gray("P")),
    shown("animated webp", encoded(kind="WEBP", lossless=True, save_all=True, append_images=[PICTURE.rotate(90)])),
    shown("pages", encoded(kind="TIFF", save_all=True, append_images=[PICTURE.rotate(90)])),
    shown("turned by exif", _turned, np.rot90(PIXELS, -1)), shown("damaged exif", _bad_exif, near=3),
    shown("another suffix", encoded(kind="PNG")), shown("not ASCII", encoded(kind="PNG"), name="图片é.png"),
    shown("one pixel", encoded(Image.new("RGB", (1, 1)), "PNG"), np.zeros((1, 1, 3))),
    shown("16 bits", encoded(Image.fromarray(_sixteen(65535)), "PNG"), np.stack([_sixteen(65535) >> 8] * 3, -1)),
    shown("16 bits, dark", encoded(Image.fromarray(_sixteen(200)), "PNG"), np.zeros((64, 64, 3))),
    shown("16 bits, tiff", encoded(Image.fromarray(_sixteen(4095)), "TIFF"), np.stack([_sixteen(4095) >> 8] * 3, -1)),
    refused("float", encoded(Image.fromarray(DRAW.random((8, 8)).astype("f4")), "TIFF"), "mode F, which has no agreed"),
    refused("32 bits", encoded(Image.fromarray(np.full((4, 4), 300, "i4"), "I"), "TIFF"), "32-bit numbers"),
    refused("truncated", encoded()[:600], "s.jpg cannot be read"), refused("empty", b"", "is none of JPEG"),
    refused("text", b"not an image\n", "is none of JPEG"), refused("html", b"<html>login</html>", "is none of JPEG"),
    refused("eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EOF\n", "is none of JPEG"),
    refused("jpeg 2000", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40), "is none of JPEG"),
    refused("fits, icns, psd ...", b"8BPS\0\1" + bytes(60), "is none of JPEG"),
    refused("bomb 20000", png(20000, 20000), "set PPADAPT_MAX_PIXELS higher"),
    refused("bomb 13000", lambda: bomb(13000, 13000), "13000 x 13000: 169,000,000 pixels"),
    refused("bomb 8000", png(8000, 8000), "8000 x 8000: 64,000,000 pixels"),
    refused("text bomb", lambda: _text(200_000_000), "cannot be read"),
    refused("scans", lambda: _scans(), "scans, each of which goes through"),
    made("nothing there", lambda path: None, "does not exist"), made("a pipe", os.mkfifo, "is a pipe or a device"),
    made("a folder", os.mkdir, "is a folder"), made("a link to itself", lambda p: os.symlink(p.name, p),
            "cannot be read"),
    made("a link to nothing", lambda path: os.symlink("/nonexistent.jpg", path), "does not exist"),
    Row("image", "control characters in its name", file(b"x", "\x1b[2J.jpg"), decode_image, r"\\x1b\[2J.jpg"),
    Row("image", "a name that is no text", lambda folder: _bytes_name(folder), decode_image, r"\\udcff"),
    folder("good", lambda root: None, lambda found: found == ([True] * 6, ["a", "b"])),
    folder("a broken one", lambda root: (root / "b" / "0.png").write_bytes(b"x"),
            "0.png cannot be read.*on_error: skip"),
    folder("a broken one, skipped", lambda root: (root / "b" / "0.png").write_bytes(b"x"),
           lambda found: found[0].count(False) == 1, on_error="skip"),
    folder("a bomb, skipped", lambda root: (root / "b" / "0.png").write_bytes(png(20000, 20000)),
           lambda found: found[0].count(False) == 1, on_error="skip"),
    folder("a pipe", lambda root: os.mkfifo(root / "b" / "p.png"), lambda found: found[0] == [True] * 6),
    folder("a loop of links", lambda root: os.symlink(".", root / "b" / "loop"), lambda found: len(found[0]) == 6),
    folder("two loops of links", lambda root: [os.symlink(".", root / "b" / name) for name in ("l1", "l2")],
           lambda found: len(found[0]) == 6),
    folder("an empty class", lambda root: (root / "c").mkdir(), "c holds no image"),
    folder("limit", lambda root: None, "limit is 0: give the number of images", limit=0),
    listing("good", b"a.png 0\nc.png 1\n", lambda data: len(data) == 2),
    listing("10^9", b"a.png 1000000000\nc.png 0\n", "1,?000,?000,?000"),
    listing("10^12", b"a.png 1000000000000\nc.png 0\n", "1,?000,?000,?000,?000"),
    listing("10^30", b"a.png 1" + b"0" * 30 + b"\nc.png 0\n", "list.txt"),
    listing("5,000 digits", b"a.png " + b"9" * 5000 + b"\n", "list.txt"),
    listing("below zero", b"a.png -1\n", "line 1: .* is not 'path label'"),
    listing("a superscript", "a.png ²\n".encode(), "line 1: .* is not 'path label'"),
    listing("no label", b"a.png\n", "line 1"), listing("nothing", b"\n\n", "names no image"),
    listing("not UTF-8", b"a\xff.png 0\n", "cannot be read as UTF-8"), listing("a binary", bytes(range(256)),
            "list.txt"),
    listing("control characters", b"\x1b[2Ja.png x\n", r"\\x1b\[2J"),
    listing("a missing image", b"a.png 0\nb.png 1\n", "b.png does not exist"),
    listing("names with a superscript", b"a.png 0\nc.png 1\n", "names.txt, line 1", names="² x\n".encode()),
    listing("names beyond", b"a.png 0\nc.png 1\n", "999,?999,?999", names=b"999999999 x\n0 a\n1 b\n"),
]


def _scans():
    data = encoded(Image.new("RGB", (1000, 1000)), progressive=True)
    return data[:-2] + data[data.rfind(b"\xff\xda"):-2] * 5000 + b"\xff\xd9"


def _bytes_name(folder):
    path = os.fsencode(folder) + b"/\xff.jpg"
    with open(path, "wb") as file:
        file.write(b"x")
    return Path(os.fsdecode(path))


assert PngImagePlugin.MAX_TEXT_CHUNK <= 1 << 20  # what "text bomb" relies on
