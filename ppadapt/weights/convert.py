"""A file's tensors -> ours: every name is converted, folded, knowingly dropped, or reported."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .checksum import check_weights
from .errors import WeightsError
from .facts import Facts, facts_of
from .folds import fold, layer_scales
from .layouts import Layout
from .layouts.jax import ORPHANED_HEAD
from .layouts.rules import any_name, linear, reason_of, same
from .layouts.timm import OURS, POST_NORM, TUNED
from .locate import locate
from .names import by_reason, compact, unwrapped
from .published import resembling
from .raw import RawCheckpoint
from .settings import Settings
from .widths import check_shapes, fits

FACTS = "network"  # of a converted .safetensors' metadata: Facts.to_text
BLOCK_LAYERS = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
_NOT_SQUARE = r"(blocks\.\d+)\.(?:(attn\.qkv)|(?:mlp\.)?fc[12]|adaptmlp\.(?:down|up)_proj)\.weight"
_TUNED = re.compile("|".join(rule.pattern for rule in TUNED))


@dataclass
class Converted:
    """Tensors under our names, Linear weights [in, out]; arrays may be read-only views of the file.

    `mapped`: file's name -> ours. `dropped`: file's name -> reason. `unexpected`: file's names that our networks have
    nothing for, `reasons`: why, where that is known. `missing`: our names that a ViT of this depth has and the file
    lacks; heads and final norms do not count, so a headless MAE encoder is complete. `folds`: what was folded, in
    words; `scales`: the LayerScale that was folded into a layer ('blocks.0.attn.proj'). `facts`: what the network is
    that the weights are of; `arch` is their values. `prefix`: what stood before every name. `refused`: what the
    settings beside the file say that our networks do not compute. `only`: why it is for a network of PaddleClas alone.
    """

    tensors: dict[str, np.ndarray]
    layout: str
    path: str = ""
    prefix: str = ""
    mapped: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    folds: list[str] = field(default_factory=list)
    scales: dict[str, np.ndarray] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    only: str = ""
    facts: Facts = field(default_factory=Facts)
    extras: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def arch(self) -> dict[str, Any]:
        """Options of the network, as far as they are told or assumed."""
        return self.facts.values

    @property
    def complete(self) -> bool:
        """True when every name of the file and of the network is accounted for."""
        return not self.unexpected and not self.missing and not self.refused

    def raise_if_incomplete(self) -> None:
        """Raises WeightsError naming what our networks do not compute, what the file lacks, and what is no weight.

        The converter and loading both ask this, so that what one refuses the other does not let pass.
        """
        unknown = "our networks have nothing of such a name"
        faults = [*by_reason({name: self.reasons.get(name, unknown) for name in self.unexpected}), *self.refused]
        if self.missing:
            faults.append(f"it lacks {len(self.missing)} tensors: {compact(self.missing)}")
        if faults:
            raise WeightsError(f"{self.path} ({self.layout}) is not a network that ours computes: {'; '.join(faults)}. "
                               "Without that it would be another network, so nothing was taken. Give the file of a "
                               "plain ViT, or add the network and its converter to ppadapt.catalogue.NETWORKS")
        check_weights(self.tensors, self.path)

    def notes(self) -> list[str]:
        """What was found, folded and assumed, a line each."""
        facts = self.facts
        rows = [f"layout: {self.layout}" + (f", under {self.prefix!r}" if self.prefix else ""), *self.folds]
        rows += [f"assumed: {option} {facts.values[option]}, {why}" for option, why in facts.assumed.items()]
        if facts.preprocess.get("mean"):
            rows.append(f"pixels ({facts.preprocess_from}): {facts.normalize_line()}")
        return rows


def is_tuned(name: str) -> bool:
    """True for our names of what training on a task makes: adapters, prompts, the BatchNorm head."""
    return bool(_TUNED.fullmatch(name))


def to_ours(raw: RawCheckpoint, key: str | None = None, settings: Settings | None = None,
            of: str | None = None) -> Converted:
    """Recognises whose checkpoint it is by its key names and converts it.

    `key`: where the network is in a file of several. `settings`: of the library, as they stood beside the file. `of`:
    which published model it is, a name of `published.PUBLISHED`.

    Raises:
        WeightsError: when nothing in the file is of a ViT, when several networks are and no `key` chooses, when two
            names mean the same tensor, when nothing tells the layout of the Linear weights, and for values that no
            network computes with (integers, NaN).
    """
    settings = settings or Settings()
    if "ppadapt" in raw.extras:  # our own tuned file: its names are ours, whatever the method
        return Converted(dict(raw.tensors), "ppadapt", raw.path, mapped={name: name for name in raw.tensors},
                         extras=dict(raw.extras), skipped=dict(raw.skipped))
    raw = _unwrapped(raw)
    prefix, layout = locate(raw, key)
    done = Converted({}, layout.name, raw.path, prefix, extras=dict(raw.extras), skipped=dict(raw.skipped),
                     refused=[f"{settings.name} says {what}" for what in settings.refused] if layout.plain else [],
                     only=layout.only)
    arrays: dict[str, np.ndarray] = {}
    names: dict[str, str] = {}
    for name, array in raw.tensors.items():
        if name.startswith(prefix):
            short = layout.renamed(name[len(prefix):])
            arrays[short], names[short] = array, name
        else:
            done.dropped[name] = f"beside the network, which is under {prefix!r}"
    _take(done, layout, arrays, names, as_torch(raw, layout, arrays))
    check_weights({name: raw.tensors[name] for name in done.mapped}, raw.path)
    done.scales = layer_scales(done.tensors)
    done.folds = fold(done.tensors, raw.path) if layout.plain else []
    done.folds += layout.finish(done.tensors, raw.path)
    done.folds += [remark for pattern, remark in layout.remarks if any_name(arrays, pattern)]
    if not layout.plain:
        for option in ("epsilon", "act"):
            if option in settings.options:
                done.facts.tell(option, settings.options[option], settings.name)
        return done
    check_shapes(done.tensors, raw.path)
    done.missing += _missing(done.tensors)
    done.facts = facts_of(done.tensors, raw.tensors, layout, settings, raw.path, of)
    doubts = [why for may_be, why in layout.doubts if may_be(arrays)]
    doubts += filter(None, [POST_NORM.get(done.arch.get("embed_dim"))])
    for why in doubts if not settings.options and not of else ():
        alike = ", ".join(resembling(done.arch)) or "none of these shapes"
        done.refused.append(f"{why}: give the folder with its config.json, or say which published model it is, --of or "
                            f"Arch.pretrained_of ({alike})")
    if layout is OURS and FACTS in raw.extras:
        done.facts.take(raw.extras[FACTS], raw.path)
    return done


def _unwrapped(raw: RawCheckpoint) -> RawCheckpoint:
    tensors = {unwrapped(name): array for name, array in raw.tensors.items()}
    if len(tensors) < len(raw.tensors):
        raise WeightsError(f"{raw.path} holds tensors twice, with and without what torch.compile or FSDP put there "
                           "(_orig_mod): keep one of each")
    return replace(raw, tensors=tensors)


def _take(done: Converted, layout: Layout, arrays: Mapping[str, np.ndarray], names: Mapping[str, str],
          torch: bool) -> None:
    parts: dict[str, dict[int, np.ndarray]] = {}
    orphaned = any(re.match(r"pre_logits[./]", name) for name in arrays)
    for name, array in arrays.items():
        reason = reason_of(name, layout.dropped)
        if orphaned and re.fullmatch(r"head[./](?:weight|bias|kernel)", name):
            reason = ORPHANED_HEAD
        if reason:
            done.dropped[names[name]] = reason
            continue
        found = layout.rule_of(name)
        refused = reason_of(name, layout.refused)
        if found is None or refused:
            done.unexpected.append(names[name])
            if refused:
                done.reasons[names[name]] = refused
            continue
        rule, target = found
        fused = parts.get(target)
        if target in done.tensors and (rule.part is None or fused is None or rule.part in fused):
            raise WeightsError(f"{done.path}: two of its names mean {target}, {name} and one before it; keep "
                               "one of them")
        change = same if rule.change is linear and not torch else rule.change
        try:
            value = change(array)
            good = fits(target, value.shape)
        except (ValueError, IndexError):
            good = False
        if not good:
            raise WeightsError(f"{done.path}: {name} has shape {list(array.shape)}, which does not fit "
                               f"{target}")
        done.mapped[names[name]] = target
        if rule.part is None:
            done.tensors[target] = value
        else:
            parts.setdefault(target, {})[rule.part] = value
            done.tensors.setdefault(target, value)  # keeps the file's order; fused below
    _fuse(done, parts)


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


def as_torch(raw: RawCheckpoint, layout: Layout, arrays: Mapping[str, np.ndarray]) -> bool:
    """True when the file's Linear weights are [out, in].

    The library or the format says it, except for .safetensors and .npz without a word about their maker. There the
    first layer that is not square decides, once for the whole file; no weight is transposed for its own shape.
    """
    if raw.format == "paddle" or layout.torch is False:
        return False
    if layout.torch or raw.format.startswith("torch") or raw.extras.get("format") == "pt":
        return True
    for name, array in arrays.items():
        found = re.fullmatch(_NOT_SQUARE, name)
        if not found or array.ndim != 2 or array.shape[0] == array.shape[1]:
            continue
        norm, bias = arrays.get(f"{found.group(1)}.norm1.weight"), arrays.get(name[:-len("weight")] + "bias")
        if found.group(2) and norm is not None and norm.ndim == 1:  # [3 D, D] or [D, 3 D]
            return bool(array.shape[1] == norm.shape[0])
        if bias is not None and bias.ndim == 1:
            return bool(array.shape[0] == bias.shape[0])
    if any(reason_of(name, layout.refused) for name in arrays):
        return True  # refused anyway, for a reason that says more
    raise WeightsError(f"{raw.path}: nothing says whether its Linear weights are PyTorch's [out, in] or "
                       "Paddle's [in, out]. Save it as .pth or .pdparams, or give the .safetensors the "
                       "metadata format=pt")


def _missing(tensors: Mapping[str, np.ndarray]) -> list[str]:
    if all(is_tuned(name) for name in tensors):
        return []  # a tuned state without its backbone
    blocks = {int(name.split(".")[1]) for name in tensors if name.startswith("blocks.")}
    needed = ["patch_embed.proj.weight", "patch_embed.proj.bias"]
    patch = tensors.get("patch_embed.proj.weight")
    if patch is None or patch.ndim == 4:  # the video network has a fixed table and no class token
        needed.append("pos_embed")
        table = tensors.get("pos_embed")
        rows = table.shape[1] if table is not None and table.ndim == 3 else 0
        if math.isqrt(rows) ** 2 != rows or not rows:  # a table with a row for it
            needed.append("cls_token")
    for block in blocks:
        needed += [f"blocks.{block}.{layer}.{kind}" for layer in BLOCK_LAYERS for kind in ("weight", "bias")]
    gap = next((number for number in range(max(blocks, default=0)) if number not in blocks), None)
    if gap is not None:
        needed.append(f"blocks.{gap}.norm1.weight")
    for layer in ("norm", "fc_norm", "head", "head.1", "norm_pre"):
        both = [f"{layer}.weight", f"{layer}.bias"]
        if any(name in tensors for name in both):
            needed += both
    return [name for name in needed if name not in tensors]
