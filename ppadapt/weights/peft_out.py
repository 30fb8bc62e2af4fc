"""A tuned file of `ppadapt.LoRA` -> the folder of an adapter that Hugging Face peft loads onto timm's network.

timm's qkv is one Linear and has one A and one B, where ours has them for q, k and v each: A of the Linear is theirs
below each other, B has them as blocks, with zeros elsewhere. All is exact; peft's scale is alpha / rank of each Linear.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..files import atomic_write
from .convert import Converted
from .errors import WeightsError
from .folder import ADAPTER
from .formats.safetensors_file import save_safetensors
from .peft_in import CONFIG
from .timm_out import with_one_head

_LORA = re.compile(r"blocks\.(\d+)\.lora\.(q|k|v|proj|fc1|fc2)\.(down|up)_proj\.weight")
_LAYERS = {"q": "attn.qkv", "k": "attn.qkv", "v": "attn.qkv", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
_START = "base_model.model."


def write_peft(folder: Path, tensors: Mapping[str, np.ndarray], manifest: Mapping[str, Any], base: Converted,
               path: str) -> dict[str, int]:
    """Writes the adapter; module -> rank. `base`: the network that it was trained on.

    Raises:
        WeightsError: for another method than LoRA, for tuned tensors that are neither LoRA's nor a Linear head's, and
            for a layer whose LayerScale, which was folded into it, has a zero.
    """
    methods = manifest.get("tuning") or []
    if [method.get("name") for method in methods] != ["LoRA"]:
        names = " and ".join(str(method.get("name")) for method in methods) or "nothing"
        raise WeightsError(f"{path} is tuned with {names}: peft has LoRA alone of our methods. A merged "
                           "network is --to timm")
    rank = methods[0].get("rank", 8)
    scale = (methods[0].get("alpha") or rank) / rank
    state = with_one_head(tensors)
    found = {name: _LORA.fullmatch(name) for name in state}
    others = [name for name, hit in found.items() if not hit and name not in ("head.weight", "head.bias")]
    if others:
        raise WeightsError(f"{path}: {others[0]} was trained beside LoRA, which an adapter of peft does not hold: "
                           "merge it, --to timm")
    theirs: dict[str, np.ndarray] = {}
    ranks: dict[str, int] = {}
    parts: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for name, hit in found.items():
        if hit and hit.group(3) == "down":
            up = state[name.replace("down_proj", "up_proj")]
            parts.setdefault(f"blocks.{hit.group(1)}.{_LAYERS[hit.group(2)]}", {})[hit.group(2)] = state[name], up
    for module, targets in parts.items():
        a, b = _joined(targets)
        gamma = base.scales.get(module)
        if gamma is not None and not np.all(gamma):
            raise WeightsError(f"{path}: the LayerScale of {module} has a zero, behind which no update of timm's "
                               "layer is the same: merge it, --to timm")
        b = np.asarray(b, np.float64) / (1 if gamma is None else gamma[:, None])
        theirs[f"{_START}{module}.lora_A.weight"] = np.ascontiguousarray(a, np.float32)
        theirs[f"{_START}{module}.lora_B.weight"] = np.ascontiguousarray(b, np.float32)
        ranks[module] = len(a)
    head = "head.weight" in state
    if head:
        theirs[f"{_START}head.weight"] = np.ascontiguousarray(np.asarray(state["head.weight"], np.float32).T)
        theirs[f"{_START}head.bias"] = np.asarray(state["head.bias"], np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    save_safetensors(os.fspath(folder / ADAPTER[0]), theirs, {"format": "pt"})
    with atomic_write(folder / CONFIG) as file:
        file.write((json.dumps(_config(ranks, scale, head, methods[0].get("dropout", 0.0)), indent=2) + "\n").encode())
    return ranks


def _joined(targets: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """A [rank, in] and B [out, rank] of one Linear of timm; ours are [in, rank] and [rank, out]."""
    if not set(targets) <= set("qkv"):
        down, up = next(iter(targets.values()))
        return down.T, up.T
    given = {letter: targets[letter] for letter in "qkv" if letter in targets}
    width = next(iter(given.values()))[1].shape[1]
    a = np.concatenate([down.T for down, _ in given.values()])
    b, at = np.zeros((3 * width, len(a)), np.float32), 0
    for letter, (down, up) in given.items():
        row = "qkv".index(letter) * width
        b[row:row + width, at:at + down.shape[1]] = up.T
        at += down.shape[1]
    return a, b


def _config(ranks: Mapping[str, int], scale: float, head: bool, dropout: float) -> dict[str, Any]:
    common = max(ranks.values())
    return {"peft_type": "LORA", "r": common, "lora_alpha": scale * common,
            "rank_pattern": {re.escape(module): rank for module, rank in ranks.items() if rank != common},
            "alpha_pattern": {re.escape(module): scale * rank for module, rank in ranks.items() if rank != common},
            "target_modules": sorted(ranks), "modules_to_save": ["head"] if head else None, "lora_dropout": dropout,
            "bias": "none", "fan_in_fan_out": False, "use_rslora": False, "init_lora_weights": True,
            "inference_mode": True, "task_type": None, "base_model_name_or_path": None}
