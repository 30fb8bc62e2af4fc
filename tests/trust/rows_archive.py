"""CIFAR's archives and batches."""
from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile

import numpy as np
from trust_inputs import doubled, evil, flipped, nested
from trust_table import Row

from ppadapt.data import DATASETS

BATCH = {b"data": np.arange(2 * 3072, dtype=np.uint32).astype(np.uint8).reshape(2, 3072), b"fine_labels": [0, 1],
         b"coarse_labels": [0, 0]}
META = {b"fine_label_names": [b"cat", b"dog"], b"coarse_label_names": [b"pet"]}


class Call:
    """Pickles as a call of a function with a state."""

    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


def _crash():
    """numpy's dtype from a state that says its numbers are objects: an array of them follows 16 addresses."""
    rebuild = np.zeros(0).__reduce__()[0]
    dtype = Call(np.dtype, ("V8", False, True), (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0))
    return Call(rebuild, (np.ndarray, (0,), b"b"), (1, (16,), dtype, False, b"\x41" * 128))


def archive(batch=None, meta=None, change=lambda tar: None, mode="w:gz"):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as tar:
        files = {"train": BATCH if batch is None else batch, "test": BATCH, "meta": META if meta is None else meta}
        for name, content in files.items():
            add(tar, f"cifar-100-python/{name}", content if isinstance(content, bytes) else pickle.dumps(content, 2))
        change(tar)
    return stream.getvalue()


def add(tar, name, data, **changed):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in changed.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(data))


def row(case, content, expect):
    def make(folder):
        path = folder / "cifar-100-python.tar.gz"
        path.write_bytes(content() if callable(content) else content)
        return path

    return Row("archive", case, make, lambda path: DATASETS["CIFAR100"]("train", root=path, download=False), expect)


def _with(**changed):
    return {**BATCH, **{name.encode(): value for name, value in changed.items()}}


def _size(data, size):
    """A tar whose first header says this size (base 256, as GNU's tar writes large ones)."""
    raw = bytearray(gzip.decompress(data))
    raw[124:136] = size
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw[:512])
    return gzip.compress(bytes(raw))


def _zeros(megabytes, kind=None):
    """An archive whose first member is nothing but zeros."""
    info = tarfile.TarInfo("cifar-100-python/zeros")
    info.size = megabytes << 20
    if kind:
        info.type = kind
    stream = io.BytesIO()
    with gzip.open(stream, "wb") as packed:
        packed.write(info.tobuf())
        for _ in range(megabytes):
            packed.write(bytes(1 << 20))
    return stream.getvalue()


def _good(data):
    return (len(data), data.classes, data.labels.tolist()) == (2, ["cat", "dog"], [0, 1]) and (
        data.images[1, 0, 0].tolist() == BATCH[b"data"][1, [0, 1024, 2048]].tolist())


ROWS = [
    row("good", archive(), _good), row("good, not packed", archive(mode="w"), _good),
    row("empty", b"", "is damaged or no tar archive"), row("text", b"hello" * 200, "is damaged or no tar archive"),
    row("truncated", archive()[:-60], "is damaged"),
    row("nothing in it", gzip.compress(bytes(10240)), "lacks train, test, meta"),
    row("a flipped bit", lambda: flipped(archive(), -4), "is damaged.*(CRC|[Ll]ength|check)"),
    row("a flipped bit in an image", lambda: flipped(gzip.compress(gzip.decompress(archive()), 0), 3000),
        "CRC check failed"),
    row("evil", archive(batch=evil(2)), r"refused (posix|nt)\.mkdir"),
    row("evil, protocol 0", archive(batch=evil(0)), r"refused (posix|nt)\.mkdir"),
    row("evil names", archive(meta=evil(4)), r"refused (posix|nt)\.mkdir"),
    row("an array that crashes the interpreter", lambda: archive(batch=_with(data=_crash())), "only numbers are taken"),
    row("no image", archive(batch=_with(data=np.zeros((0, 3072), "u1"), fine_labels=[], coarse_labels=[])),
        "they hold no image"),
    row("objects", archive(batch=_with(data=np.array([None] * 4))), "only numbers are taken"),
    row("hash bomb", archive(batch=b"\x80\x02}" + nested(60) + b"K\x01s."), "is not a CIFAR batch"),
    row("lists of lists", archive(batch=b"\x80\x02" + doubled(40) + b"."),
        "values of the plain data|is not a CIFAR batch"),
    row("memo", archive(batch=b"\x80\x04}r\xff\xff\xff\x7f."), "do not hold CIFAR100"),
    row("no dict", archive(batch=pickle.dumps([1], 2)), "it holds a list"),
    row("no data", archive(batch={b"fine_labels": [0]}), "do not hold CIFAR100.*'data'"),
    row("float pixels", archive(batch=_with(data=BATCH[b"data"].astype("f4"))), "expected uint8"),
    row("wide pixels", archive(batch=_with(data=BATCH[b"data"].astype("i8"))), "expected uint8"),
    row("half an image", archive(batch=_with(data=BATCH[b"data"][:, :3000])), "expected uint8"),
    row("pixels that are text", archive(batch=_with(data="abc")), "expected uint8"),
    row("labels below zero", archive(batch=_with(fine_labels=[0, -1])), "goes from -1 to 0, and there are 2 classes"),
    row("labels far below zero", archive(batch=_with(fine_labels=[0, -100])), "goes from -100 to 0"),
    row("a label below zero in the test part", lambda: _test_part(), "the test batches.*goes from -1"),
    row("labels beyond", archive(batch=_with(fine_labels=[0, 2])), "goes from 0 to 2, and there are 2 classes"),
    row("labels of 10^30", archive(batch=_with(fine_labels=[0, 10 ** 30])), "do not hold CIFAR100"),
    row("labels that are fractions", archive(batch=_with(fine_labels=[0, 1.5])), "expected whole numbers"),
    row("labels that are fractions, in an array", archive(batch=_with(fine_labels=np.array([0, 1.5]))),
        "whole numbers"),
    row("labels that are true", archive(batch=_with(fine_labels=[True, False])), "expected whole numbers"),
    row("labels in an array", archive(batch=_with(fine_labels=np.array([0, 1]))), _good),
    row("too few labels", archive(batch=_with(fine_labels=[0])), "2 images do not fit 1 labels"),
    row("names of control characters", archive(meta={**META, b"fine_label_names": [b"\x1b[2J", b"x"]},
                                               batch=_with(fine_labels=[0, 5])), "goes from 0 to 5"),
    row("names that are no text", archive(meta={**META, b"fine_label_names": [b"\xff\xfe", b"x"]}),
        "do not hold CIFAR100"),
    row("names that are a number", archive(meta={**META, b"fine_label_names": 5}), "do not hold CIFAR100"),
    row("a path that leads out", archive(change=lambda tar: add(tar, "../../../OWNED", b"x")), _good),
    row("an absolute path", archive(change=lambda tar: add(tar, "/tmp/OWNED", b"x")), _good),
    row("a link that leads out", archive(change=lambda tar: add(tar, "cifar-100-python/x", b"", type=tarfile.SYMTYPE,
                                                                linkname="/etc/passwd")), _good),
    row("a file twice", archive(change=lambda tar: add(tar, "cifar-100-python/train", b"x")), "holds .*train twice"),
    row("thousands of files", lambda: archive(change=lambda tar: [add(tar, f"{i}", b"") for i in range(1100)]),
        "holds over 1000 files"),
    row("a size below zero", lambda: _size(archive(), b"\xff" * 11 + b"\x00"), "is damaged|lacks test, meta"),
    row("a size that leads back", lambda: _size(archive(), b"\xff" * 10 + struct.pack(">h", -512)),
        "is damaged|lacks test, meta"),
    row("a size of petabytes", lambda: _size(archive(), b"\x80" + bytes(3) + b"\x7f" + bytes(7)),
        "unpacks to more than|damaged"),
    row("zeros", lambda: _zeros(256), "unpacks to more than"),
    row("a long name of zeros", lambda: _zeros(256, tarfile.GNUTYPE_LONGNAME), "unpacks to more than"),
    row("a header of zeros", lambda: _zeros(256, tarfile.XHDTYPE), "unpacks to more than"),
]


def _test_part():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in {"train": BATCH, "test": _with(fine_labels=[-1, 0]), "meta": META}.items():
            add(tar, f"cifar-100-python/{name}", pickle.dumps(content, 2))
    return stream.getvalue()
