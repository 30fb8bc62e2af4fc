"""What a weights file holds, before anyone interprets its names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .. import limits
from ..errors import FileError, brief
from ..pickles import MAX_DEPTH, Walk, is_array, unwrap
from .errors import WeightsError

# Where the trainers of the published ViTs put the network inside a checkpoint, in order of preference.
WRAPPERS = ("model", "state_dict", "module", "model_state", "model_state_dict")
# What they keep beside it to go on with training.
_OF_TRAINING = re.compile(r"(?:\w+_)?(?:optim\w*|opt|scaler|sched\w*)(?:_states?)?")
MAX_NAME = 1000  # characters of a tensor's name


@dataclass
class RawCheckpoint:
    """The tensors of a file under the file's own names.

    `tensors`: flat, arrays may be read-only views of the mapped file. bfloat16 is widened to float32,
    which has no loss; every other dtype is the file's.
    `format`: 'torch-zip', 'torch-legacy', 'safetensors', 'npz' or 'paddle'.
    `extras`: the plain data beside the network ('epoch', 'args' as a dict, safetensors metadata...).
    `skipped`: name -> what it is, for what was left in the file (optimizer state).
    `under`: the entry of the file that holds the tensors ('state_dict'), where it is one; no name has it.
    `several`: the entries that hold a network each ('model', 'model_ema'); then they begin the tensors' names.
    """

    tensors: dict[str, np.ndarray]
    format: str
    path: str = ""
    extras: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    under: str = ""
    several: tuple[str, ...] = ()

    def chosen(self, key: str | None) -> RawCheckpoint:
        """The one of `several` that `key` names, without its name before the tensors'; itself where there is one.

        Raises WeightsError where there are several and `key` is none of them.
        """
        if not self.several:
            return self
        if key not in self.several:
            raise WeightsError(f"{self.path} holds {len(self.several)} networks: {', '.join(self.several)}. Say which: "
                               "Arch.pretrained_key (an EMA or teacher is another network than the plain one)")
        tensors = {n[len(key) + 1:]: t for n, t in self.tensors.items() if n.startswith(f"{key}.")}
        return replace(self, tensors=tensors, under=key, several=())


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
        names = _endings(tree[key], walk)
        rivals = [other for other, value in tree.items() if other != key and isinstance(value, dict)
                  and not _of_training(other) and 2 * len(names & _endings(value, walk)) > len(names)]
        for other, value in tree.items():
            if other != key and other not in rivals:
                _put_aside(raw, other, value, walk)
        if rivals:
            raw.several = tuple(map(_name, (key, *rivals)))
            return {k: tree[k] for k in (key, *rivals)}
        raw.under = f"{raw.under}.{key}" if raw.under else key
        tree = tree[key]
    if not walk.arrays(tree):
        raise WeightsError(f"{path} holds no tensors; its entries are: "
                           f"{', '.join(map(_name, list(tree)[:8])) or 'none'}. The network is looked for at "
                           f"the top level and under {', '.join(WRAPPERS)}")
    if not any(is_array(unwrap(v)) for v in tree.values()):
        for other in [other for other in tree if _of_training(other)]:
            tree = {k: v for k, v in tree.items() if k != other}
            raw.skipped[_name(other)] = "beside the network"
    return tree


def _of_training(key: Any) -> bool:
    return isinstance(key, str) and bool(_OF_TRAINING.fullmatch(key))


def _endings(tree: dict[Any, Any], walk: Walk) -> set[str]:
    """The ends of the names of its tensors: those of an EMA are the network's, whatever stands before them."""
    return {".".join(name.split(".")[-3:]) for name, value in _flatten(tree, walk) if is_array(value)}


def _put_aside(raw: RawCheckpoint, key: Any, value: Any, walk: Walk) -> None:
    tensors = walk.arrays(value)
    if not tensors and not _of_training(key):
        raw.extras[_name(key)] = walk.plain(value)
        return
    nameless = isinstance(unwrap(value), (list, tuple)) and not _of_training(key)
    raw.skipped[_name(key)] = f"{tensors} tensors beside the network" + (
        ", without names: if they are an EMA, this is not it" if nameless else "")


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
