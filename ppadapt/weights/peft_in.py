"""A LoRA adapter of Hugging Face peft -> a tuned file of `ppadapt.LoRA`.

peft's `adapter_config.json` gives rank and alpha, with patterns per module, and its scale is alpha / rank, or
alpha / sqrt(rank) (rslora). `ppadapt.LoRA` has one rank and one scale: matrices of a smaller rank get rows of zeros,
and a scale that differs goes into B. Where the network's LayerScale was folded, it goes into B too. All is exact.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import brief
from .authors import infer_name, split_tuned
from .checksum import check_weights, digest
from .convert import Converted
from .errors import WeightsError
from .folder import ADAPTER
from .formats import any_file
from .layouts import LAYOUTS, Layout

CONFIG = "adapter_config.json"
_START = r"base_model\.model\."
# What computes otherwise than LoRA: key of the config -> its name.
_OTHERS = {"use_dora": "DoRA", "use_qalora": "QALoRA", "use_bdlora": "BD-LoRA", "kasa_config": "KaSA",
           "monteclora_config": "MonteCLoRA", "arrow_config": "Arrow", "alora_invocation_tokens": "activated LoRA",
           "lora_bias": "lora_bias", "layer_replication": "layer_replication", "target_parameters": "target_parameters",
           "trainable_token_indices": "trainable_token_indices"}
# Starts that change the network's own weights, so that the adapter is of a network that nobody published.
_STARTS = ("pissa", "olora", "corda", "loftq", "lora_ga")
_MOST_PATTERNS, _LONGEST, _LARGEST = 300, 300, 1e9
_SIMPLE = re.compile(r"[\w.\\^$|\[\]-]*(?:[*+?][\w.\\^$|\[\]-]*)?")
# Our Linear -> the names of LoRA's targets, by part.
_TARGETS = {"attn.proj": "proj", "mlp.fc1": "fc1", "mlp.fc2": "fc2"}


def is_adapter(path: Path) -> bool:
    """Whether a folder, or the folder of a file, is what peft saves."""
    folder = path if path.is_dir() else path.parent
    return (folder / CONFIG).is_file() and (path.is_dir() or path.name in ADAPTER)


@dataclass
class _Update:
    """scale * B A of one Linear or of one third of a fused one; A [rank, in], B [out, rank]."""

    a: np.ndarray
    b: np.ndarray
    scale: float


def read_peft(path: Path, base: Converted) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(tensors, manifest) of a tuned file.

    `path`: the folder that peft saved, or its adapter file. `base`: the network that it was trained on, converted.

    Raises:
        WeightsError: for another method than LoRA, by its name, for modules that our LoRA does not reach, and for
            shapes that do not fit the network.
    """
    folder = path if path.is_dir() else path.parent
    config = _config(folder / CONFIG)
    file = next((folder / name for name in ADAPTER if (folder / name).is_file()), None)
    if file is None:
        raise WeightsError(f"{folder} has {CONFIG} and neither {' nor '.join(ADAPTER)}: get the folder again")
    names = {re.sub(f"^{_START}", "", name): array for name, array in any_file.read_file(file).tensors.items()}
    check_weights(names, file)
    pairs = _pairs(names, file)
    layout, prefix = _layout(names, pairs, file)
    updates = _updates(pairs, config, layout, prefix, base, file)
    if not updates:
        raise WeightsError(f"{file} holds no LoRA matrix of a vision transformer's Linear")
    tensors, options = _as_ours(updates)
    tensors.update(_head(names, layout, base, file))
    backbone = {"name": infer_name(base.arch), "digest": digest(split_tuned(base.tensors)[1]), "family": "ViT",
                "options": {key: value for key, value in base.facts.sure().items() if key != "class_num"}}
    depth = base.arch["depth"]
    blocks = sorted({block for block, _ in updates})
    method = {"name": "LoRA", **options, "dropout": float(config.get("lora_dropout") or 0.0),
              "blocks": "all" if len(blocks) == depth else blocks}
    return tensors, {"tuning": [method], "backbone": backbone, "head": "Linear" if "head.weight" in tensors else None,
                     "preprocess": None, "classes": None, "metrics": {}}


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise WeightsError(f"{path} is not the JSON object that peft writes; get it again")
    if config.get("peft_type") != "LORA":
        raise WeightsError(f"{path}: peft_type {brief(config.get('peft_type'))} is not read; LORA is")
    others = [title for key, title in _OTHERS.items() if config.get(key)]
    if others:
        raise WeightsError(f"{path}: {' and '.join(others)} computes otherwise than LoRA and is not read")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_STARTS):
        raise WeightsError(f"{path}: init_lora_weights {brief(start)} changed the network's own weights at the start, "
                           "so that the adapter is not of the published network. Merge it in peft (merge_and_unload), "
                           "save the network and give that as Arch.pretrained")
    if config.get("bias", "none") != "none":
        raise WeightsError(f"{path}: bias {brief(config['bias'])}: the network's own biases were trained too, which a "
                           "tuned file of LoRA does not hold. Merge the adapter in peft (merge_and_unload), save the "
                           "network and give that as Arch.pretrained")
    dropout = config.get("lora_dropout") or 0.0
    if not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
        raise WeightsError(f"{path}: lora_dropout {brief(dropout)} is no rate in [0, 1); get it again")
    return config


def _pairs(names: Mapping[str, np.ndarray], file: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Module -> its lora_A and lora_B."""
    parts: dict[str, dict[str, np.ndarray]] = {}
    for name, array in names.items():
        if ".lora_" in name:
            module, _, part = name.rpartition(".lora_")
            parts.setdefault(module, {})[part] = array
    for module, found in parts.items():
        if set(found) != {"A.weight", "B.weight"}:
            raise WeightsError(f"{file}: {module} has lora_{', lora_'.join(sorted(found))}; read are a lora_A.weight "
                               "and a lora_B.weight of each module. Get the file again")
    return {module: (found["A.weight"], found["B.weight"]) for module, found in parts.items()}


def _layout(names: Mapping[str, Any], modules: Mapping[str, Any], file: Path) -> tuple[Layout, str]:
    """Whose names the modules have, and what stands before them."""
    for layout in (layout for layout in LAYOUTS if layout.plain):
        for prefix in dict.fromkeys(("", *(p for m in modules for p in _starts(m)))):
            if modules and all(m.startswith(prefix) and layout.rule_of(f"{m[len(prefix):]}.weight") for m in modules):
                return layout, prefix
    strange = sorted(m for m in modules if not any(layout.rule_of(f"{m}.weight") for layout in LAYOUTS))
    raise WeightsError(f"{file}: {', '.join(strange[:3] or sorted(names)[:3])}: no module that ppadapt.LoRA reaches; "
                       "they are the q, k, v (or fused qkv), proj, fc1 and fc2 of the blocks of a ViT of timm, "
                       "transformers or open_clip")


def _starts(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:i]) + "." for i in range(1, min(4, len(parts)))]


def _updates(pairs: Mapping[str, tuple[np.ndarray, np.ndarray]], config: Mapping[str, Any], layout: Layout, prefix: str,
             base: Converted, file: Path) -> dict[tuple[int, str], _Update]:
    """(block, target of LoRA) -> update."""
    found: dict[tuple[int, str], _Update] = {}
    alphas = _alphas(config)
    for module, (a, b) in pairs.items():
        rule, target = layout.rule_of(f"{module[len(prefix):]}.weight")
        ours = re.fullmatch(r"blocks\.(\d+)\.(attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2)\.weight", target)
        if ours is None or a.ndim != 2 or b.ndim != 2 or not 0 < a.shape[0] == b.shape[1]:
            raise WeightsError(f"{file}: {module}: ppadapt.LoRA reaches the Linears of the blocks, with a lora_A "
                               "[rank, in] and a lora_B [out, rank]")
        block, layer = int(ours.group(1)), ours.group(2)
        weight = base.tensors.get(target)
        out = b.shape[0] * (1 if rule.part is None else 3)
        if weight is None or weight.shape != (a.shape[1], out):
            has = "nothing" if weight is None else list(weight.shape)
            raise WeightsError(f"{file}: {module} is for a matrix {[a.shape[1], out]} ([in, out]), the network has "
                               f"{has} at {target}: --base is another network")
        b = np.asarray(b, np.float64)
        scale = base.scales.get(f"blocks.{block}.{layer}")
        update = _Update(np.asarray(a, np.float64), b if scale is None else b * scale[:, None],
                         _scale(module, a.shape[0], alphas, config))
        if layer in _TARGETS:
            found[block, _TARGETS[layer]] = update
        elif rule.part is not None:
            found[block, "qkv"[rule.part]] = update
        else:
            for letter, third in zip("qkv", np.split(update.b, 3)):
                found[block, letter] = _Update(update.a, third, update.scale)
    return found


def _alphas(config: Mapping[str, Any]) -> list[tuple[re.Pattern, Any]]:
    """Pattern of modules -> alpha, those of the config in order and then the one for all.

    They are a stranger's expressions: what repeats inside of what repeats can keep `re` busy for ever, so that names
    and at most one repetition are taken.
    """
    given = config.get("alpha_pattern") or {}
    if not isinstance(given, dict) or len(given) > _MOST_PATTERNS:
        raise WeightsError(f"{CONFIG}: alpha_pattern is {brief(given)}: expected are at most {_MOST_PATTERNS} patterns")
    found = []
    for pattern, alpha in given.items():
        try:
            if not _SIMPLE.fullmatch(pattern) or len(pattern) > _LONGEST:
                raise re.error("groups and more than one repetition are not read")
            found.append((re.compile(rf"(.*\.)?({pattern})$"), alpha))
        except re.error as error:
            raise WeightsError(f"{CONFIG}: alpha_pattern {brief(pattern)} is not read ({error}): give names of "
                               "modules, such as 'attn.qkv'") from None
    return [*found, (re.compile(""), config.get("lora_alpha", 8))]


def _scale(module: str, rank: int, alphas: list[tuple[re.Pattern, Any]], config: Mapping[str, Any]) -> float:
    """alpha / rank of one module, as peft finds it: a pattern matches a whole name or its end."""
    if len(module) > _LONGEST:
        raise WeightsError(f"{brief(module)} is no name of a module")
    alpha = next(value for pattern, value in alphas if pattern.match(module))
    if not isinstance(alpha, (int, float)) or isinstance(alpha, bool) or not abs(alpha) <= _LARGEST:
        raise WeightsError(f"{CONFIG}: alpha {brief(alpha)} of {module} is not a number that scales anything")
    return alpha / (rank**0.5 if config.get("use_rslora") else rank)


def _as_ours(updates: Mapping[tuple[int, str], _Update]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Tensors of `ppadapt.LoRA` and its options: every block has every target, of one rank and one scale."""
    rank = max(len(update.a) for update in updates.values())
    scales = {round(update.scale, 12) for update in updates.values()}
    scale = scales.pop() if len(scales) == 1 else 1.0
    targets = [target for target in ("q", "k", "v", "proj", "fc1", "fc2") if any(t == target for _, t in updates)]
    shapes = {target: next((u.a.shape[1], u.b.shape[0]) for (_, t), u in updates.items() if t == target)
              for target in targets}
    tensors: dict[str, np.ndarray] = {}
    for block in sorted({block for block, _ in updates}):
        for target in targets:
            width, out = shapes[target]
            down, up = np.zeros((width, rank), np.float32), np.zeros((rank, out), np.float32)
            update = updates.get((block, target))
            if update is not None:
                down[:, :len(update.a)] = update.a.T
                up[:len(update.a)] = update.b.T * (update.scale / scale)
            tensors[f"blocks.{block}.lora.{target}.down_proj.weight"] = down
            tensors[f"blocks.{block}.lora.{target}.up_proj.weight"] = up
    return tensors, {"rank": rank, "alpha": scale * rank, "targets": targets}


def _head(names: Mapping[str, np.ndarray], layout: Layout, base: Converted, file: Path) -> dict[str, np.ndarray]:
    """The classifier that peft saved (`modules_to_save`), else the network's own."""
    head: dict[str, np.ndarray] = {}
    for name, array in names.items():
        if ".lora_" in name:
            continue
        found = layout.rule_of(name)
        if found is None or not found[1].startswith("head."):
            raise WeightsError(f"{file} holds {name}, a part of the network that was trained beside LoRA; only a saved "
                               "classifier is read. Merge the adapter in peft (merge_and_unload) and save the network")
        head[found[1]] = np.asarray(found[0].change(array), np.float32)
    own = {name: np.asarray(array, np.float32) for name, array in base.tensors.items() if name.startswith("head.")}
    return head or own
