"""What a weights file holds, before anyone interprets its names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import limits
from ..errors import FileError, brief
from ..pickles import MAX_DEPTH, Walk, is_array, unwrap
from .errors import WeightsError

# Where the trainers of the published ViTs put the network inside a checkpoint, in order of preference.
WRAPPERS = ("model", "state_dict", "module", "model_state", "model_state_dict")
MAX_NAME = 1000  # characters of a tensor's name


@dataclass
class RawCheckpoint:
    """The tensors of a file under the file's own names.

    `tensors`: flat, arrays may be read-only views of the mapped file. bfloat16 is widened to float32,
    which has no loss; every other dtype is the file's.
    `format`: 'torch-zip', 'torch-legacy', 'safetensors', 'npz' or 'paddle'.
    `extras`: the plain data beside the network ('epoch', 'args' as a dict, safetensors metadata...).
    `skipped`: name -> what it is, for what was left in the file (optimizer state).
    """

    tensors: dict[str, np.ndarray]
    format: str
    path: str = ""
    extras: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def check_size(tensors: Mapping[str, Any], path: str) -> None:
    """Raises WeightsError where tensors are more than a file of this size may become, or their names are no text.

    A file can give the same bytes to many names, and a tensor of a few bytes any shape. Asked of the sizes alone.
    """
    for name in tensors:
        if len(name) > MAX_NAME or not _is_text(name):
            raise WeightsError(f"{path} is damaged: {brief(name)} is no name of a tensor; get the file again")
    if len(tensors) > limits.limit("PPADAPT_MAX_TENSORS"):
        raise WeightsError(f"{path} holds {limits.beyond('PPADAPT_MAX_TENSORS', len(tensors))}")
    size, total = os.path.getsize(path), sum(int(tensor.nbytes) for tensor in tensors.values())
    if total > limits.limit("PPADAPT_MAX_RATIO") * size:
        raise WeightsError(f"{path} of {size / 1e6:,.2f} MB claims tensors of {total / 1e6:,.0f} MB: "
                           + limits.beyond("PPADAPT_MAX_RATIO", -(-total // size)))


def _is_text(name: str) -> bool:
    try:
        return bool(name.encode("utf-8")) or not name
    except UnicodeEncodeError:  # halves of characters, as JSON and pickles may hold them
        return False


def from_object(tree: Any, file_format: str, path: str) -> RawCheckpoint:
    """The network in an unpickled `tree`: under one of `WRAPPERS`, or at the top level.

    Only the network's tensors are read. Raises WeightsError where there is no dict of named tensors.
    """
    if not isinstance(tree, dict):
        kind = "one bare tensor" if is_array(tree) else f"a {type(tree).__name__}"
        raise WeightsError(f"{path} holds {kind}, not a dict of named tensors (a state dict). Save it as "
                           "torch.save(model.state_dict(), ...)")
    raw = RawCheckpoint({}, file_format, path)
    try:
        walk = Walk()
        found = {}
        for name, value in _flatten(_find_network(tree, raw, path, walk), walk):
            if is_array(value):
                found[name] = value
            elif name == "StructuredToParameterName@@" or name.startswith("StructuredToParameterName@@."):
                continue  # Paddle's table of internal parameter names
            else:
                raw.extras[name] = walk.plain(value)
        check_size(found, path)
        for name, value in found.items():
            raw.tensors[name] = value.numpy()
    except (WeightsError, FileError) as error:
        raise WeightsError(str(error) if str(error).startswith(path) else f"{path}: {error}") from None
    return raw


def _find_network(tree: dict[Any, Any], raw: RawCheckpoint, path: str, walk: Walk) -> dict[Any, Any]:
    for _ in range(4):  # {'state_dict': {'model': ...}} exists; nobody nests deeper
        key = next((k for k in WRAPPERS if isinstance(tree.get(k), dict) and walk.arrays(tree[k])), None)
        if key is None:
            break
        for other, value in tree.items():
            if other == key:
                continue
            tensors = walk.arrays(value)
            if tensors or other in ("optimizer", "scaler", "lr_scheduler"):
                raw.skipped[_name(other)] = f"{tensors} tensors beside the network"
            else:
                raw.extras[_name(other)] = walk.plain(value)
        tree = tree[key]
    if not walk.arrays(tree):
        raise WeightsError(f"{path} holds no tensors; its entries are: "
                           f"{', '.join(map(_name, list(tree)[:8])) or 'none'}. The network is looked for at "
                           f"the top level and under {', '.join(WRAPPERS)}")
    if not any(is_array(unwrap(v)) for v in tree.values()):
        for other in ("optimizer", "scaler", "lr_scheduler"):
            if other in tree:
                tree = {k: v for k, v in tree.items() if k != other}
                raw.skipped[other] = "beside the network"
    return tree


def _name(key: Any) -> str:
    return key if isinstance(key, str) else brief(key)


def _flatten(tree: dict[Any, Any], walk: Walk, prefix: str = "", depth: int = 0) -> Iterable[tuple[str, Any]]:
    for key, value in tree.items():
        name, value = prefix + _name(key), unwrap(value)
        walk.spend()
        if len(name) > MAX_NAME:
            raise WeightsError(f"{brief(name)} is no name of a tensor; it is not a checkpoint")
        if isinstance(value, dict) and depth < MAX_DEPTH and walk.arrays(value):
            yield from _flatten(value, walk, name + ".", depth + 1)
        else:
            yield name, value
