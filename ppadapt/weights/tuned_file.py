"""The tuned state: one `.safetensors` whose metadata says what it belongs to."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from .errors import WeightsError
from .formats.any_file import read_file
from .formats.safetensors_file import save_safetensors

KEY = "ppadapt"
FORMAT_VERSION = 1


def save_adapter(path: str | os.PathLike, tensors: Mapping[str, np.ndarray],
                 manifest: Mapping[str, Any]) -> None:
    """Writes tensors and manifest (as JSON under the metadata key 'ppadapt') to `path`, whole or not at all.

    `format_version` is added to the manifest. Raises WeightsError when the manifest is not JSON.
    """
    full = {"format_version": FORMAT_VERSION, **manifest}
    try:
        text = json.dumps(full, ensure_ascii=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"the manifest of {path} cannot be written as JSON: {error}") from None
    save_safetensors(os.fspath(path), tensors, {KEY: text})


def load_adapter(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(tensors, manifest) of a tuned file; the arrays own their memory.

    Raises WeightsError when the file is no tuned file, or of a format that this version does not know.
    """
    raw = read_file(path)
    if raw.format != "safetensors" or KEY not in raw.extras:
        is_network = raw.extras.get("format") == "ppadapt.network"
        hint = ("it is a whole network: give it as Arch.pretrained" if is_network else
                "a checkpoint of the authors becomes one with tools/convert_weights.py --output "
                "x.safetensors")
        raise WeightsError(f"{path} is {raw.format} without a ppadapt manifest, so not a tuned file: {hint}")
    manifest = parse_manifest(raw.extras[KEY], path)
    return {name: np.array(array) for name, array in raw.tensors.items()}, manifest


def parse_manifest(text: str, path: str | os.PathLike) -> dict[str, Any]:
    """The manifest from its JSON. Raises WeightsError on other JSON and on an unknown format version."""
    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError):
        manifest = None
    if not isinstance(manifest, dict):
        raise WeightsError(f"{path} is damaged: its manifest is not a JSON object; get the file again")
    version = manifest.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise WeightsError(f"{path} is of format version {version!r}; this ppadapt reads {FORMAT_VERSION}. "
                           "Use the ppadapt that wrote it, or upgrade")
    return manifest
