"""What a weights file holds, before anyone interprets its names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .errors import WeightsError

# Where the trainers of the published ViTs put the network inside a checkpoint, in order of preference.
WRAPPERS = ("model", "state_dict", "module", "model_state", "model_state_dict")
# The pickle of a hostile file can refer to one list thousands of times; a real one has far fewer values.
MAX_VALUES = 2_000_000
MAX_DEPTH = 60


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


def is_tensor(value: Any) -> bool:
    """True for a tensor of the file, which may not have been read yet (`LazyTensor`, `PickledArray`)."""
    return hasattr(value, "numpy") and hasattr(value, "shape")


def plain(value: Any, budget: list[int] | None = None, depth: int = 0) -> Any:
    """`value` as dicts, lists and scalars; tensors become None. Raises WeightsError on an absurd size."""
    budget = [MAX_VALUES] if budget is None else budget
    budget[0] -= 1
    if budget[0] < 0 or depth > MAX_DEPTH:
        raise WeightsError("the data beside the network is nested or repeated beyond reason; it is not a "
                           "checkpoint")
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return value
    if isinstance(value, dict):
        return {plain_key(k): plain(v, budget, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v, budget, depth + 1) for v in value]
    return None if is_tensor(value) else str(value)


def plain_key(key: Any) -> Any:
    return key if isinstance(key, (str, int, float, bool, type(None))) else str(key)


def count_tensors(value: Any, budget: list[int] | None = None, depth: int = 0) -> int:
    """How many tensors lie anywhere in `value`; none of them is read."""
    budget = [MAX_VALUES] if budget is None else budget
    budget[0] -= 1
    if budget[0] < 0 or depth > MAX_DEPTH:
        raise WeightsError("its data is nested or repeated beyond reason; it is not a checkpoint")
    if is_tensor(value):
        return 1
    parts: Iterable[Any] = ()
    if isinstance(value, dict):
        parts = value.values()
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts = value
    return sum(count_tensors(v, budget, depth + 1) for v in parts)


def from_object(tree: Any, file_format: str, path: str) -> RawCheckpoint:
    """The network in an unpickled `tree`: under one of `WRAPPERS`, or at the top level.

    Only the network's tensors are read. Raises WeightsError where there is no dict of named tensors.
    """
    if not isinstance(tree, dict):
        kind = "one bare tensor" if is_tensor(tree) else f"a {type(tree).__name__}"
        raise WeightsError(f"{path} holds {kind}, not a dict of named tensors (a state dict). Save it as "
                           "torch.save(model.state_dict(), ...)")
    raw = RawCheckpoint({}, file_format, path)
    network = _find_network(tree, raw, path)
    for name, value in _flatten(network):
        if is_tensor(value):
            raw.tensors[name] = value.numpy()
        elif name == "StructuredToParameterName@@" or name.startswith("StructuredToParameterName@@."):
            continue  # Paddle's table of internal parameter names
        else:
            raw.extras[name] = plain(value)
    return raw


def _find_network(tree: dict[Any, Any], raw: RawCheckpoint, path: str) -> dict[Any, Any]:
    for _ in range(4):  # {'state_dict': {'model': ...}} exists; nobody nests deeper
        key = next((k for k in WRAPPERS if isinstance(tree.get(k), dict) and count_tensors(tree[k])), None)
        if key is None:
            break
        for other, value in tree.items():
            if other == key:
                continue
            tensors = count_tensors(value)
            if tensors or other in ("optimizer", "scaler", "lr_scheduler"):
                raw.skipped[str(other)] = f"{tensors} tensors beside the network"
            else:
                raw.extras[str(other)] = plain(value)
        tree = tree[key]
    if not count_tensors(tree):
        raise WeightsError(f"{path} holds no tensors; its entries are: "
                           f"{', '.join(map(str, list(tree)[:8])) or 'none'}. The network is looked for at "
                           f"the top level and under {', '.join(WRAPPERS)}")
    if not any(is_tensor(unwrap(v)) for v in tree.values()):
        for other in ("optimizer", "scaler", "lr_scheduler"):
            if other in tree:
                tree = {k: v for k, v in tree.items() if k != other}
                raw.skipped[other] = "beside the network"
    return tree


def unwrap(value: Any) -> Any:
    """`paddle.save` stores a lone tensor as (its internal name, array)."""
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str) and is_tensor(value[1]):
        return value[1]
    return value


def _flatten(tree: dict[Any, Any], prefix: str = "", depth: int = 0) -> Iterable[tuple[str, Any]]:
    for key, value in tree.items():
        name, value = f"{prefix}{key}", unwrap(value)
        if isinstance(value, dict) and depth < MAX_DEPTH and count_tensors(value):
            yield from _flatten(value, name + ".", depth + 1)
        else:
            yield name, value
