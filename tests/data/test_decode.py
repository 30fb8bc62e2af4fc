"""Strangers' images: shown as viewers show them or refused by name, and never at any price."""

import io
import os
import stat
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from ppadapt.data import DATASETS, BrokenImageError, DataError, decode_image
from ppadapt.data.geometry import ResizeImage
from ppadapt.errors import UserError

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5


def encoded(picture, kind, **options):
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def png(width, height, rows=b""):
    """A PNG that says it is this large."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(values, bits, sample_format=1, photometric=1):
    """An uncompressed gray TIFF (TIFF 6.0, section 3 and 4)."""
    data = values.tobytes()
    tags = [(256, 4, values.shape[1]), (257, 4, values.shape[0]), (258, 3, bits), (259, 3, 1), (262, 3, photometric),
            (273, 4, 8), (277, 3, 1), (278, 4, values.shape[0]), (279, 4, len(data)), (339, 3, sample_format)]
    entries = b"".join(struct.pack("<HHIHH", tag, kind, 1, value, 0) if kind == 3 else
                       struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return (struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data
            + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0))


@pytest.mark.parametrize("top", [100, 255, 256, 300, 4095, 65535])
def test_16_bits_keep_their_high_byte_however_dark(top):
    values = np.linspace(0, top, 48).astype(np.uint16).reshape(6, 8)
    picture = Image.fromarray(values)
    for data in (encoded(picture, "PNG"), encoded(picture, "TIFF"), encoded(picture.convert("I"), "PPM")):
        assert np.array_equal(decode_image(data), np.stack([(values >> 8).astype(np.uint8)] * 3, -1))


def test_white_may_be_zero():
    for bits, values in ((8, GREY), (16, GREY.astype("<u2") * 256)):
        assert np.array_equal(decode_image(tiff(values, bits, photometric=0))[..., 0], 255 - GREY)


@pytest.mark.parametrize(("data", "said"), [
    (tiff(GREY.astype("<f4"), 32, sample_format=3), "mode F, which has no agreed look"),
    (tiff(GREY.astype("<i2"), 16, sample_format=2), "signed or of 16-bit numbers"),
    (tiff(GREY.astype("<u4"), 32), "32-bit numbers"),
    (tiff(GREY.astype("<i4"), 32, sample_format=2), "32-bit numbers"),
    (b"Pf\n8 6\n-1.0\n" + GREY.astype("<f4").tobytes(), "mode F"),
    (encoded(Image.new("LAB", (4, 4)), "TIFF"), "mode LAB"),
])
def test_numbers_without_an_agreed_look_are_refused_by_name(data, said):
    with pytest.raises(BrokenImageError, match=said) as error:
        decode_image(data, "photo.tif")
    assert "photo.tif" in str(error.value) and "save it as" in str(error.value)


@pytest.mark.parametrize("orientation", range(1, 10))
def test_every_orientation_is_that_of_pillow(orientation):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 16, 3)).astype(np.uint8))
    exif = picture.getexif()
    exif[0x0112] = orientation
    data = encoded(picture, "PNG", exif=exif)
    turned = np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert np.array_equal(decode_image(data), turned) and decode_image(data).flags.c_contiguous


def test_a_large_image_is_converted_in_bands_to_the_same_pixels(monkeypatch):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 31, 4)).astype(np.uint8), "CMYK")
    whole = np.array(picture.convert("RGB"))
    monkeypatch.setattr("ppadapt.data.decode._BAND", 100)
    assert np.array_equal(decode_image(encoded(picture, "TIFF")), whole)


def test_no_program_is_started_for_a_picture(tmp_path, monkeypatch):
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\n(hello) =\nshowpage\n%%EOF\n"
    (tmp_path / "s.jpg").write_bytes(eps)
    with pytest.raises(BrokenImageError, match="s.jpg cannot be read: its content is none of JPEG, PNG"):
        decode_image(tmp_path / "s.jpg")
    assert not (tmp_path / "started").exists()


def test_a_picture_that_is_too_large_is_refused_before_it_is_unpacked(monkeypatch):
    for side, said in ((9000, "is 9000 x 9000: 81,000,000 pixels"), (20000, "400000000 pixels")):
        with pytest.raises(BrokenImageError, match=f"{said}.*set PPADAPT_MAX_PIXELS higher"):
            decode_image(png(side, side))
    monkeypatch.setenv("PPADAPT_MAX_PIXELS", "11")
    with pytest.raises(BrokenImageError, match="is 3 x 4: 12 pixels of an image, where 11"):
        decode_image(png(3, 4, b"\0" * 40))
    monkeypatch.setenv("PPADAPT_MAX_PIXELS", "12")
    assert decode_image(png(3, 4, b"\0" * 40)).shape == (4, 3, 3)
    monkeypatch.setenv("PPADAPT_MAX_PIXELS", "many")
    with pytest.raises(UserError, match="PPADAPT_MAX_PIXELS is 'many': give a whole number"):
        decode_image(png(3, 4, b"\0" * 40))


def test_a_jpeg_of_thousands_of_scans_is_refused():
    data = encoded(Image.new("RGB", (1000, 1000)), "JPEG", progressive=True)
    assert decode_image(data).shape == (1000, 1000, 3)
    scan = data[data.rfind(b"\xff\xda"):-2]
    with pytest.raises(BrokenImageError, match="scans, each of which goes through"):
        decode_image(data[:-2] + scan * 2000 + b"\xff\xd9")


def test_a_strip_is_not_resized_to_gigabytes():
    with pytest.raises(DataError, match="ResizeImage would make it 256 x 2560000"):
        ResizeImage(resize_short=256)(np.zeros((10000, 1, 3), np.uint8))


@pytest.mark.parametrize(("make", "said"), [
    (lambda path: os.mkfifo(path), "is a pipe or a device, not a file"),
    (lambda path: os.mkdir(path), "is a folder, not a file"),
    (lambda path: os.symlink(path.name, path), "cannot be read"),
    (lambda path: path.write_bytes(b""), "is none of JPEG"),
    (lambda path: path.write_bytes(b"<html>login</html>"), "is none of JPEG"),
])
def test_what_is_no_picture_is_left_out_and_never_waited_for(tmp_path, make, said):
    make(tmp_path / "x.jpg")
    with pytest.raises(BrokenImageError, match=said):
        decode_image(tmp_path / "x.jpg")


def test_a_refused_picture_may_be_skipped(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "big.png").write_bytes(png(20000, 20000))
    (tmp_path / "a" / "good.png").write_bytes(encoded(Image.fromarray(GREY), "PNG"))
    data = DATASETS["ImageFolder"]("train", on_error="skip", root=tmp_path)
    assert [data[i] is None for i in range(2)] == [True, False] and data.skipped == 1
