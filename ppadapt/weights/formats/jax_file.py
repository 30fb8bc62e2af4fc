"""Google's `.npz` checkpoints (vision_transformer, big_vision), and any `.npz` of named arrays."""

from __future__ import annotations

import zipfile
import zlib

import numpy as np

from ..errors import UnsafeCheckpointError, WeightsError
from ..raw import RawCheckpoint
from .safe_pickle import widen_bfloat16

OPTIMIZER = ("opt/state/", "opt_state/", "opt/hyper_params/")


def read_npz(path: str) -> RawCheckpoint:
    """Reads every array but the optimizer's. Raises UnsafeCheckpointError on an array of Python objects."""
    raw = RawCheckpoint({}, "npz", path)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for name in arrays.files:
                if name.startswith(OPTIMIZER):
                    raw.skipped[name] = "optimizer state"
                    continue
                array = arrays[name]
                if array.dtype.kind == "V" and array.dtype.itemsize == 2:  # bfloat16, as JAX's numpy saves it
                    array = widen_bfloat16(array.view("<u2"))
                raw.tensors[name] = array
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError) as error:
        raise WeightsError(f"{path} is cut short or damaged ({error}); get the file again") from None
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise WeightsError(f"{path} is damaged ({error}); get the file again") from None
        raise UnsafeCheckpointError(f"{path}: refused {name}, an array of Python objects, which is a "
                                    "pickle; only arrays of numbers are taken") from None
    return raw
