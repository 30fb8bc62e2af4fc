"""What tensors are, in one number: a network's name beyond its name, and proof that a file is whole and of numbers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping

import numpy as np

from ..limits import NO_VERIFY, verifying
from .errors import WeightsError


def digest(tensors: Mapping[str, np.ndarray]) -> str:
    """sha256 (hex) over the sorted names, the shapes and the values as little-endian float32.

    The same network gives the same digest from any file format, in any order and memory layout; one
    tensor at a time is brought into C order. Raises WeightsError for an array of something else than numbers.
    """
    sha = hashlib.sha256()
    for name in sorted(tensors):
        array = np.asarray(tensors[name])
        if array.dtype.kind not in "fiub":
            raise WeightsError(f"{name} has dtype {array.dtype}; a tensor holds numbers")
        sha.update(f"{name}\0{','.join(str(int(n)) for n in array.shape)}\0".encode())
        sha.update(memoryview(np.ascontiguousarray(array, "<f4").reshape(-1)).cast("B"))
    return sha.hexdigest()


def verify(tensors: Mapping[str, np.ndarray], recorded: str | None, path: str | os.PathLike) -> None:
    """Compare the digest that a file says of its tensors with that of its tensors; nothing recorded, nothing to do.

    PPADAPT_NO_VERIFY=1 skips it. Raises WeightsError when they differ.
    """
    if recorded is None or not verifying():
        return
    found = digest(tensors)
    if found != recorded:
        raise WeightsError(f"{path} is damaged: its tensors have the digest {found[:16]}, it was written with "
                           f"{recorded[:16]}. Get the file again ({NO_VERIFY}=1 reads it as it is)")


def check_finite(tensors: Mapping[str, np.ndarray], path: str | os.PathLike) -> None:
    """Raises WeightsError naming the tensors that hold NaN, infinity or what is infinite in float32, in which networks
    compute, and variances that are negative."""
    with np.errstate(over="ignore", invalid="ignore"):
        bad = [f"{name} ({_infinite(array)})" for name, array in tensors.items() if not _finite(array)]
    bad += [f"{name} (a negative variance)" for name, array in tensors.items()
            if name.endswith(("running_var", "._variance")) and not (np.asarray(array) >= 0).all()]
    if bad:
        more = f" and {len(bad) - 4} more" if len(bad) > 4 else ""
        raise WeightsError(f"{path} holds values that no network computes with: {', '.join(bad[:4])}{more}. Its "
                           "training diverged, or the file is damaged: get another")


def check_weights(tensors: Mapping[str, np.ndarray], path: str | os.PathLike) -> None:
    """As `check_finite`, and raises WeightsError for tensors that are no floats: quantised, boolean, complex."""
    types = {name: np.asarray(array).dtype for name, array in tensors.items()}
    bad = [f"{name} ({dtype})" for name, dtype in types.items() if dtype.kind != "f"]
    if bad:
        more = f" and {len(bad) - 4} more" if len(bad) > 4 else ""
        raise WeightsError(f"{path} holds tensors that are no weights of float type: {', '.join(bad[:4])}{more}. A "
                           "quantised network is not computed here: give the file in float32, float16 or bfloat16")
    check_finite(tensors, path)


def _finite(array: np.ndarray) -> bool:
    """Whether all values are; numpy is to be silent about overflows."""
    array = np.asarray(array)
    if array.dtype.kind not in "fc":
        return True
    if array.dtype == np.float16:  # whose arithmetic is slow: an exponent of ones is NaN or infinity
        return not bool((np.bitwise_and(array.view(np.uint16), 0x7C00) == 0x7C00).any())
    if array.dtype.itemsize > 4:
        return not array.size or bool(np.abs(array).max() <= np.finfo(np.float32).max)  # not so for NaN
    # One pass: NaN and infinity always reach the sum; an overflow only asks for the second look.
    return bool(np.isfinite(array.sum())) or bool(np.isfinite(array).all())


def _infinite(array: np.ndarray) -> str:
    with np.errstate(over="ignore"):
        array = np.asarray(array, np.complex64 if np.iscomplexobj(array) else np.float32)
    counts = {"NaN": int(np.isnan(array).sum()), "infinite": int(np.isinf(array).sum())}
    return ", ".join(f"{count:,} of {np.size(array):,} {what}" for what, count in counts.items() if count)
