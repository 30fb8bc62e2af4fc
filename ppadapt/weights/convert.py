"""A file's tensors -> ours: every name is converted, knowingly dropped, or reported."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .checksum import check_weights
from .errors import WeightsError
from .layouts import LAYOUTS, TUNED, drop_reason, linear, recognise, same, stored_as_torch, strip_prefix
from .names import compact
from .raw import RawCheckpoint

BLOCK_LAYERS = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
_TUNED = re.compile("|".join(rule.pattern for rule in TUNED))


@dataclass
class Converted:
    """Tensors under our names, Linear weights [in, out]; arrays may be read-only views of the file.

    `mapped`: file's name -> ours. `dropped`: file's name -> reason. `unexpected`: names with no rule.
    `missing`: our names that a ViT of this depth has and the file lacks; heads and final norms do not
    count, so a headless MAE encoder is complete. `arch`: what the shapes tell of embed_dim, depth,
    patch_size, img_size, mlp_ratio, num_heads, class_num, pool ('cls', 'avg'); absent when untold.
    """

    tensors: dict[str, np.ndarray]
    layout: str
    path: str = ""
    mapped: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    arch: dict[str, Any] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """True when every name of the file and of the network is accounted for."""
        return not self.unexpected and not self.missing

    def raise_if_incomplete(self) -> None:
        """Raises WeightsError naming what the file has and no rule is for, what it lacks, and what is no weight.

        The converter and loading both ask this, so that what one refuses the other does not let pass.
        """
        faults = []
        if self.unexpected:
            faults.append(f"has {len(self.unexpected)} tensors that a ViT of this layout ({self.layout}) does not "
                          f"compute with: {compact(self.unexpected)}")
        if self.missing:
            faults.append(f"lacks {len(self.missing)} tensors: {compact(self.missing)}")
        if faults:
            raise WeightsError(f"{self.path} {'; it '.join(faults)}. Without them it would be another network: give "
                               "the file of a plain ViT, or add the network and its converter to "
                               "ppadapt.catalogue.NETWORKS")
        check_weights(self.tensors, self.path)


def is_tuned(name: str) -> bool:
    """True for our names of what training on a task makes: adapters, prompts, the BatchNorm head."""
    return bool(_TUNED.fullmatch(name))


def to_ours(raw: RawCheckpoint) -> Converted:
    """Recognises the family of checkpoints by its key names and converts it.

    Raises WeightsError when nothing in the file is of a ViT, when two names mean the same tensor, or when
    nothing tells the layout of the Linear weights.
    """
    layout = recognise(raw)
    prefix = strip_prefix(list(raw.tensors), layout)
    arrays = {name[len(prefix):]: array for name, array in raw.tensors.items()}
    done = Converted({}, layout, raw.path, extras=dict(raw.extras), skipped=dict(raw.skipped))
    if "ppadapt" in raw.extras:  # our own adapter file: its names are ours, whatever the method
        done.tensors, done.mapped = dict(arrays), {name: name for name in arrays}
        return done
    # A file that nothing of is a ViT's should say so, not that its Linear weights are in doubt.
    known = any(rule for name in arrays for rule in LAYOUTS[layout] if re.fullmatch(rule.pattern, name))
    if not known:
        raise WeightsError(f"{raw.path} holds no ViT that is known here; its names begin: "
                           f"{', '.join(list(arrays)[:4])}. Layouts: {', '.join(LAYOUTS)}")
    torch_layout = stored_as_torch(raw, layout, arrays)
    parts: dict[str, dict[int, np.ndarray]] = {}
    has_pre_logits = any(re.match(r"pre_logits[./]", name) for name in arrays)
    for name, array in arrays.items():
        reason = drop_reason(name, has_pre_logits) if layout != "ppadapt" else None
        if reason:
            done.dropped[prefix + name] = reason
            continue
        rule = next((rule for rule in LAYOUTS[layout] if re.fullmatch(rule.pattern, name)), None)
        if rule is None:
            done.unexpected.append(prefix + name)
            continue
        target = re.fullmatch(rule.pattern, name).expand(rule.target)
        fused = parts.get(target)
        if target in done.tensors and (rule.part is None or fused is None or rule.part in fused):
            raise WeightsError(f"{raw.path}: two of its names mean {target}, {name} and one before it; keep "
                               "one of them")
        change = same if rule.change is linear and not torch_layout else rule.change
        try:
            value = change(array)
        except (ValueError, IndexError):
            raise WeightsError(f"{raw.path}: {name} has shape {list(array.shape)}, which does not fit "
                               f"{target}") from None
        done.mapped[prefix + name] = target
        if rule.part is None:
            done.tensors[target] = value
        else:
            parts.setdefault(target, {})[rule.part] = value
            done.tensors.setdefault(target, value)  # keeps the file's order; fused below
    _fuse(done, parts)
    done.missing += _missing(done.tensors)
    done.arch = describe(done.tensors, arrays, raw.extras)
    return done


def _fuse(done: Converted, parts: dict[str, dict[int, np.ndarray]]) -> None:
    for target, found in parts.items():
        if target.endswith(".bias") and 1 not in found and 0 in found:
            found[1] = np.zeros_like(found[0])  # a k without bias
        absent = [target.replace("qkv", "qkv"[part] + "_proj") for part in range(3) if part not in found]
        if absent:
            done.missing += absent
            del done.tensors[target]
            continue
        if len({part.shape for part in found.values()}) > 1:
            raise WeightsError(f"{done.path}: q, k and v of {target} differ in shape: "
                               f"{[list(found[part].shape) for part in range(3)]}")
        done.tensors[target] = np.concatenate([found[part] for part in range(3)], axis=-1)


def _missing(tensors: Mapping[str, np.ndarray]) -> list[str]:
    if all(is_tuned(name) for name in tensors):
        return []  # a tuned state without its backbone
    depth = 1 + max((int(name.split(".")[1]) for name in tensors if name.startswith("blocks.")), default=0)
    needed = ["patch_embed.proj.weight", "patch_embed.proj.bias"]
    patch = tensors.get("patch_embed.proj.weight")
    if patch is None or patch.ndim == 4:  # the video network has a fixed table and no class token
        needed += ["cls_token", "pos_embed"]
    for block in range(depth):
        needed += [f"blocks.{block}.{layer}.{kind}" for layer in BLOCK_LAYERS for kind in ("weight", "bias")]
    for layer in ("norm", "fc_norm", "head", "head.1"):
        both = [f"{layer}.weight", f"{layer}.bias"]
        if any(name in tensors for name in both):
            needed += both
    return [name for name in needed if name not in tensors]


def describe(tensors: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray],
             extras: Mapping[str, Any]) -> dict[str, Any]:
    """The architecture as the shapes tell it; `arrays` are the file's (JAX's kernels show the heads)."""
    arch: dict[str, Any] = {}
    patch, pos = tensors.get("patch_embed.proj.weight"), tensors.get("pos_embed")
    if patch is not None and patch.ndim in (4, 5):
        arch["embed_dim"], arch["patch_size"] = int(patch.shape[0]), int(patch.shape[-1])
    of_blocks = [name for name in tensors if name.startswith("blocks.") and not is_tuned(name)]
    blocks = [int(name.split(".")[1]) for name in of_blocks]
    if blocks:
        arch["depth"] = max(blocks) + 1
    if pos is not None and pos.ndim == 3 and "patch_size" in arch:
        side = round(max(pos.shape[1] - 1, 0) ** 0.5)
        if side * side == pos.shape[1] - 1:
            arch["img_size"] = side * arch["patch_size"]
    fc1 = tensors.get("blocks.0.mlp.fc1.bias")
    if fc1 is not None and arch.get("embed_dim"):
        arch["mlp_ratio"] = fc1.shape[0] / arch["embed_dim"]
    query = next((a for n, a in arrays.items() if n.endswith("/query/kernel") and a.ndim == 3), None)
    config = extras.get("config")
    if query is not None:
        arch["num_heads"] = int(query.shape[1])
    elif isinstance(config, dict) and isinstance(config.get("num_heads"), int):
        arch["num_heads"] = config["num_heads"]
    head = tensors.get("head.bias", tensors.get("head.1.bias"))
    if head is not None:
        arch["class_num"] = int(head.shape[0])
    if "norm.weight" in tensors or "fc_norm.weight" in tensors:
        arch["pool"] = "avg" if "fc_norm.weight" in tensors else "cls"
    return arch
