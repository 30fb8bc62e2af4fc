"""The entries of a zip file (PyTorch's, and .npz), each compared with what the file can hold before it is read."""

from __future__ import annotations

import struct
import zipfile
import zlib

import numpy as np

from ... import limits
from ...limits import NO_VERIFY, verifying
from ..errors import WeightsError
from .mapped import map_file

_CHUNK = 1 << 20


class ZipFile:
    """Entries by name. What lies there as it is (PyTorch never compresses) comes as a view of the mapped file.

    The CRC-32 that the zip file keeps of every entry is compared when it is read; `PPADAPT_NO_VERIFY=1` skips that.
    Raises WeightsError for a zip file that is cut short, damaged, encrypted, holds a name twice, or would unpack
    to more than a file may.
    """

    def __init__(self, path: str):
        self.path = path
        self.mapped = map_file(path)
        try:
            self._archive = zipfile.ZipFile(path)
            entries = self._archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error) as error:
            raise self._damaged(error) from None
        self.entries = {entry.filename: entry for entry in entries}
        if len(self.entries) != len(entries):
            raise WeightsError(f"{path} is damaged or made to deceive: its directory has a name twice; get the file "
                               "again")
        if len(entries) > limits.limit("PPADAPT_MAX_TENSORS"):
            raise WeightsError(f"{path} has {limits.beyond('PPADAPT_MAX_TENSORS', len(entries))}")
        unpacked = sum(entry.file_size for entry in entries)
        if unpacked > limits.limit("PPADAPT_MAX_RATIO") * len(self.mapped):
            ratio = -(-unpacked // len(self.mapped))
            raise WeightsError(f"{path} would unpack to {unpacked / 1e6:,.0f} MB: "
                               + limits.beyond("PPADAPT_MAX_RATIO", ratio))

    def size(self, name: str) -> int:
        """Bytes of an entry, unpacked, as the directory says."""
        return self.entries[name].file_size

    def read(self, name: str) -> np.ndarray:
        """The bytes of an entry, uint8."""
        entry = self.entries[name]
        if entry.flag_bits & 1:
            raise WeightsError(f"{self.path}: its entry {name} is encrypted; unpack it with the password and give "
                               "what is inside")
        data = self._stored(entry) if entry.compress_type == zipfile.ZIP_STORED else self._unpacked(entry)
        if verifying() and _crc(data) != entry.CRC:
            raise WeightsError(f"{self.path} is damaged: its entry {name} does not have the checksum (CRC-32) it was "
                               f"written with; get the file again ({NO_VERIFY}=1 reads it as it is: torch.save writes "
                               "none after torch.serialization.set_crc32_options(False))")
        return data

    def _stored(self, entry: zipfile.ZipInfo) -> np.ndarray:
        head = self.mapped[entry.header_offset:entry.header_offset + 30].tobytes()
        if head[:4] != b"PK\x03\x04" or len(head) < 30:
            raise WeightsError(f"{self.path} is damaged: no entry {entry.filename} where its directory says; get it "
                               "again")
        start = entry.header_offset + 30 + sum(struct.unpack("<HH", head[26:30]))
        if start + entry.file_size > len(self.mapped):
            raise WeightsError(f"{self.path} is cut short: entry {entry.filename} reaches beyond its end; get it "
                               "again")
        return self.mapped[start:start + entry.file_size]

    def _unpacked(self, entry: zipfile.ZipInfo) -> np.ndarray:
        data = bytearray()
        try:
            with self._archive.open(entry) as stream:
                # zipfile stops at the size that the directory says, which was compared with the file's.
                while chunk := stream.read(_CHUNK):
                    data += chunk
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError, OSError, ValueError,
                struct.error) as error:
            raise self._damaged(error) from None
        if len(data) != entry.file_size:
            raise self._damaged(f"{entry.filename} has {len(data)} of {entry.file_size} bytes")
        return np.frombuffer(data, np.uint8)

    def _damaged(self, why: object) -> WeightsError:
        return WeightsError(f"{self.path} is a zip file (PyTorch or .npz) that is cut short or damaged ({why}); "
                            "get the file again")


def _crc(data: np.ndarray) -> int:
    return zlib.crc32(memoryview(data))
