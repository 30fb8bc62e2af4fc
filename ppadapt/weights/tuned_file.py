"""The tuned state in one `.safetensors`: written, read and checked here; what its manifest says is `manifest.py`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable

import numpy as np

from .checksum import check_weights, digest, verify
from .errors import WeightsError
from .formats import safetensors_file
from .formats.any_file import read_file
from .formats.safetensors_file import looks_like_safetensors, save_safetensors
from .manifest import FORMAT_VERSION, check_schema, parse_manifest
from .raw import RawCheckpoint

KEY = "ppadapt"


def save_tuned(path: str | os.PathLike, tensors: Mapping[str, np.ndarray],
                 manifest: Mapping[str, Any]) -> None:
    """Writes tensors and manifest (as JSON under the metadata key 'ppadapt') to `path`, whole or not at all.

    `format_version` and the tensors' `digest` are added to the manifest. Raises WeightsError when the manifest is
    not JSON or not of the schema, and for values that `load_tuned` would refuse.
    """
    check_weights(tensors, f"what was to be written to {os.fspath(path)}")
    full = {**manifest, "format_version": FORMAT_VERSION, "digest": digest(tensors)}
    check_schema(full, path)
    try:
        text = json.dumps(full, ensure_ascii=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"the manifest of {path} cannot be written as JSON: {error}") from None
    save_safetensors(os.fspath(path), tensors, {KEY: text})


def load_tuned(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(tensors, manifest) of a tuned file; the arrays own their memory.

    Raises WeightsError when the file is no tuned file, is of a format that this version does not know, is damaged,
    or holds values that are not finite.
    """
    raw, manifest = _open(path)
    verify(raw.tensors, manifest.get("digest"), path)
    check_weights(raw.tensors, path)
    return {name: np.array(array) for name, array in raw.tensors.items()}, manifest


def read_manifest(path: str | os.PathLike) -> dict[str, Any]:
    """The manifest alone: the header is read, no tensor. Raises WeightsError as `load_tuned`."""
    return read_header(path)[0]


def read_header(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """The manifest and the shapes of the tensors, none of which is read. Raises WeightsError as `load_tuned`."""
    try:
        with open(path, "rb") as file:
            start = file.read(9)
    except OSError:
        start = b""
    metadata, shapes = safetensors_file.read_outline(os.fspath(path)) if looks_like_safetensors(start) else ({}, {})
    if KEY in metadata:
        return parse_manifest(metadata[KEY], path), shapes
    raw, manifest = _open(path)
    return manifest, {name: tuple(array.shape) for name, array in raw.tensors.items()}


def read_into_memory(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any], Callable[[], None]]:
    """As `load_tuned`, sooner: (tensors, manifest, check).

    The file is read once. Whether it is damaged is found out by another thread, while something is made of the tensors;
    `check()` waits for it, and raises WeightsError for a damaged file or values that no network computes with.
    """
    name = os.fspath(path)
    data = np.fromfile(name, np.uint8) if os.path.isfile(name) else np.zeros(0, np.uint8)
    if not looks_like_safetensors(data[:9].tobytes()):
        _open(path)  # says what it is instead
    pool = ThreadPoolExecutor(1)
    sealed = pool.submit(safetensors_file.verify, data, name)
    raw = safetensors_file.parse(data, name)
    manifest = parse_manifest(raw.extras[KEY], path) if KEY in raw.extras else _open(path)[1]
    pool.shutdown(wait=False)

    def check() -> None:
        try:
            check_weights(raw.tensors, path)  # beside the checksum, which takes longest
        finally:  # damage is the better reason of the two
            if not sealed.result():
                verify(raw.tensors, manifest.get("digest"), path)

    return raw.tensors, manifest, check


def _open(path: str | os.PathLike) -> tuple[RawCheckpoint, dict[str, Any]]:
    raw = read_file(path)
    if raw.format != "safetensors" or KEY not in raw.extras:
        is_network = raw.extras.get("format") == "ppadapt.network"
        hint = ("it is a whole network: give it as Arch.pretrained" if is_network else
                "a checkpoint of the authors becomes one with `ppadapt convert --output "
                "x.safetensors`")
        raise WeightsError(f"{path} is {raw.format} without a ppadapt manifest, so not a tuned file: {hint}")
    return raw, parse_manifest(raw.extras[KEY], path)
