"""A folder as `save_pretrained` writes it, and weights in several files with an index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .errors import WeightsError
from .formats import any_file
from .raw import RawCheckpoint

# Names of the libraries, the safe format first.
WEIGHTS = ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin",
           "model.pdparams", "model_state.pdparams")
INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
ADAPTER = ("adapter_model.safetensors", "adapter_model.bin")
_LIMIT = 100_000_000  # bytes of an index


def weight_file(path: Path) -> Path:
    """The file of weights in a folder, or `path` itself where it is a file.

    Raises:
        WeightsError: for a folder without one, naming what it holds.
    """
    if not path.is_dir():
        return path
    for name in (*WEIGHTS, *INDICES):
        if (path / name).is_file():
            return path / name
    if any((path / name).is_file() for name in ADAPTER):
        raise WeightsError(f"{path} is a folder of peft, with an adapter and no network: give the network as the "
                           "weights, and make a tuned file of the adapter with `ppadapt convert --base`")
    held = sorted(entry.name for entry in path.iterdir())
    raise WeightsError(f"{path} is a folder without weights: it holds {', '.join(held[:8]) or 'nothing'}; looked for "
                       f"were {', '.join((*WEIGHTS, *INDICES))}. Give the weight file itself")


def read(path: Path) -> RawCheckpoint:
    """One checkpoint of a file, a folder, or an index of several files (`model.safetensors.index.json`).

    Raises:
        WeightsError: for parts that are missing, outside of the folder, or not what the index says.
    """
    path = weight_file(path)
    return _sharded(path) if path.name.endswith(".index.json") else any_file.read_file(path)


def _sharded(index: Path) -> RawCheckpoint:
    if not index.is_file():
        raise WeightsError(f"{index} does not exist; give the path of an index.json or of a weight file")
    parts = _parts(index)
    whole: RawCheckpoint | None = None
    for name in dict.fromkeys(parts.values()):
        part = any_file.read_file(index.parent / name)
        if whole is None:
            whole = RawCheckpoint({}, part.format, str(index), dict(part.extras))
        if part.format != whole.format:
            raise WeightsError(f"{index} names files of {whole.format} and of {part.format}: get the folder again")
        strangers = [n for n in part.tensors if parts.get(n) != name]
        if strangers:
            raise WeightsError(f"{index.parent / name} holds {', '.join(strangers[:3])}, which {index.name} does not "
                               "say: they are not of one download. Get the folder again")
        whole.tensors.update(part.tensors)
    missing = [n for n in parts if whole is None or n not in whole.tensors]
    if whole is None or missing:
        raise WeightsError(f"{index} says {len(missing)} tensors that its files lack: {', '.join(missing[:3])}. Get "
                           "the folder again")
    return whole


def _parts(index: Path) -> dict[str, str]:
    """Tensor -> name of the file that holds it."""
    tree: Any = None
    if index.stat().st_size <= _LIMIT:
        try:
            tree = json.loads(index.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            tree = None
    parts = tree.get("weight_map") if isinstance(tree, dict) else None
    if not isinstance(parts, dict) or not all(isinstance(name, str) for name in parts.values()):
        raise WeightsError(f"{index} is not an index of weights: a JSON object with a weight_map was expected. Get "
                           "it again")
    for name in dict.fromkeys(parts.values()):
        if name != Path(name).name or name in ("", ".", ".."):
            raise WeightsError(f"{index} names the file {name!r}, which is not beside it; only files of its own folder "
                               "are read")
        if not (index.parent / name).is_file():
            raise WeightsError(f"{index} names {name}, which is not in {index.parent}: download every part")
    return parts
