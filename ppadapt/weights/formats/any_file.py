"""Recognises a weights file by its content and hands it to the reader of its format."""

from __future__ import annotations

import os
import stat

from ...errors import printable
from ..errors import UnsafeCheckpointError, WeightsError
from ..raw import RawCheckpoint
from .jax_file import read_npz
from .paddle_file import read_paddle
from .safetensors_file import looks_like_safetensors, read_safetensors
from .torch_file import LEGACY_START, read_legacy, read_zip
from .zip_file import ZipFile

ALLOWED = "a PyTorch .pth/.pt (zip or legacy), .safetensors, .npz or Paddle .pdparams"
# What people have in hand instead, by its first bytes.
IMPOSTORS = (
    (b"version https://git-lfs", "a git-lfs pointer: run `git lfs pull` to get the file itself"),
    (b"\x1f\x8b", "a gzip archive: unpack it and give the checkpoint inside"),
    (b"BZh", "a bzip2 archive: unpack it and give the checkpoint inside"),
    (b"\xfd7zXZ", "an xz archive: unpack it and give the checkpoint inside"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it and give the checkpoint inside"),
    (b"Rar!", "a rar archive: unpack it and give the checkpoint inside"),
    (b"\x89HDF", "an HDF5 file (Keras?), which is not supported"),
    (b"\x93NUMPY", "a single .npy array, not named weights"),
    (b"GGUF", "a GGUF file, which is not supported"),
)


def read_file(path: str | os.PathLike) -> RawCheckpoint:
    """The tensors of a weights file under their own names; the suffix does not matter.

    Raises WeightsError (one line: what the file is, what is allowed) when it is none of the formats, is cut
    short or damaged, and UnsafeCheckpointError when its pickle asks for more than tensors and plain data.
    """
    path = os.fspath(path)
    if os.path.isdir(path):
        raise WeightsError(f"{path} is a folder; give a file: {ALLOWED}")
    if not os.path.exists(path):
        raise WeightsError(f"{path} does not exist; give the path of {ALLOWED}")
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise WeightsError(f"{path} is a pipe or a device, not a file; give the path of {ALLOWED}")
        with open(path, "rb") as file:
            start = file.read(512)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror or error}); give one that you may read") from None
    if not start:
        raise WeightsError(f"{path} is empty (0 bytes); get the file again")
    if not start.strip(b"\0"):
        raise WeightsError(f"{path} begins with zeros only: its download was not finished? get the file "
                           "again")
    for magic, what in IMPOSTORS:
        if start.startswith(magic):
            raise WeightsError(f"{path} is {what}. Allowed is {ALLOWED}")
    if start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<":
        raise WeightsError(f"{path} is an HTML or XML page, not a checkpoint: the download link led to a "
                           f"web page. Allowed is {ALLOWED}")
    if start[257:262] == b"ustar":
        raise WeightsError(f"{path} is a tar archive: unpack it if it holds a checkpoint. PyTorch's own tar "
                           "format (before 0.1.10) is not read; load it in PyTorch and save it again. "
                           f"Allowed is {ALLOWED}")
    if start.startswith(b"PK\x03\x04"):
        return _read_any_zip(path)
    if looks_like_safetensors(start):
        return read_safetensors(path)
    if LEGACY_START.startswith(start[:len(LEGACY_START)]):
        return read_legacy(path)
    if start[:1] == b"\x80":
        return read_paddle(path)
    return _read_old_pickle(path, start)


def _read_any_zip(path: str) -> RawCheckpoint:
    archive = ZipFile(path)
    names = list(archive.entries)
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return read_zip(path, archive)
    if names and all(name.endswith(".npy") for name in names):
        return read_npz(path, archive)
    shown = ", ".join(printable(name, 60) for name in names[:3]) or "nothing"
    raise WeightsError(f"{path} is a zip archive of {shown}...: neither a PyTorch checkpoint (no data.pkl) nor .npz. "
                       f"Allowed is {ALLOWED}")


def _read_old_pickle(path: str, start: bytes) -> RawCheckpoint:
    # Protocols 0 and 1 have no magic. Reading is harmless, so a pickle that wants to run something is
    # told from a text file by trying.
    if start[:1] in b"(c]}{Iil":
        try:
            return read_paddle(path)
        except UnsafeCheckpointError:
            raise
        except WeightsError:
            pass
    is_text = all(32 <= byte < 127 or byte in (9, 10, 13) for byte in start)
    kind = "a text file" if is_text else "of an unknown format"
    raise WeightsError(f"{path} is {kind} (it begins with {start[:12]!r}), not a checkpoint. Allowed is "
                       f"{ALLOWED}")
