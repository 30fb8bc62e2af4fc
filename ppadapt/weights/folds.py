"""Exact folds: what a relative of our ViT computes beside it becomes part of tensors that ours has.

Each fold is algebra, done in float64, and is said in the report. Names that only exist between the rules of a layout
and here: `blocks.N.ls1.gamma`, `dist_token`, `head_dist`, `attn_pool.qkv`.
"""

from __future__ import annotations

import math
import re
from typing import Callable

import numpy as np

from .errors import WeightsError

Tensors = dict[str, np.ndarray]
_GAMMA = re.compile(r"(blocks\.\d+)\.(ls[12])\.gamma")
_SCALED = {"ls1": "attn.proj", "ls2": "mlp.fc2"}


def fold(tensors: Tensors, path: str) -> list[str]:
    """Applies every fold that these tensors (our names, Linear [in, out]) ask for, in place; what was done, in words.

    Raises:
        WeightsError: when a part does not fit its other part.
    """
    folds: tuple[Callable[[Tensors, str], str], ...] = (
        _layer_scale, _pool_query, _two_heads, _positions, _no_bias)
    return [done for done in (one(tensors, path) for one in folds) if done]


def layer_scales(tensors: Tensors) -> dict[str, np.ndarray]:
    """Layer ('blocks.0.attn.proj') -> the LayerScale of what it returns, in float64; before `fold`."""
    found = {name: _GAMMA.fullmatch(name) for name in tensors}
    return {f"{hit.group(1)}.{_SCALED[hit.group(2)]}": np.asarray(tensors[name], np.float64)
            for name, hit in found.items() if hit}


def _layer_scale(tensors: Tensors, path: str) -> str:
    """x + g * (W y + b) = x + (g W) y + g b, for attention and MLP (CaiT's LayerScale, arXiv 2103.17239)."""
    gammas = layer_scales(tensors)
    for name in [name for name in tensors if _GAMMA.fullmatch(name)]:
        del tensors[name]
    for layer, gamma in gammas.items():
        for part in (f"{layer}.weight", f"{layer}.bias"):
            if part in tensors:
                if tensors[part].shape[-1:] != gamma.shape:
                    raise WeightsError(f"{path}: the LayerScale of {layer} has shape {list(gamma.shape)}, which does "
                                       f"not fit {part} {list(tensors[part].shape)}")
                tensors[part] = (np.asarray(tensors[part], np.float64) * gamma).astype(np.float32)
    return f"LayerScale ({len(gammas)} vectors) is multiplied into attn.proj and mlp.fc2" if gammas else ""


def _pool_query(tensors: Tensors, path: str) -> str:
    """One matrix for q, k and v of the attention pooling -> q, and kv."""
    for kind in ("weight", "bias"):
        fused = tensors.pop(f"attn_pool.qkv.{kind}", None)
        if fused is not None:
            dim = fused.shape[-1] // 3
            tensors[f"attn_pool.q.{kind}"], tensors[f"attn_pool.kv.{kind}"] = fused[..., :dim], fused[..., dim:]
    return ""


def _two_heads(tensors: Tensors, path: str) -> str:
    """DeiT's answer is the mean of two heads: (W x + b + V y + c) / 2 is one head that reads x and y side by side."""
    second = {kind: tensors.pop(f"head_dist.{kind}", None) for kind in ("weight", "bias")}
    if any(array is None for array in second.values()):
        return ""
    first = {kind: tensors.get(f"head.{kind}") for kind in second}
    if any(first[kind] is None or first[kind].shape != second[kind].shape for kind in second):
        raise WeightsError(f"{path}: its two classifiers, head and head_dist, are not of one shape")
    tensors["head.weight"] = np.concatenate([first["weight"], second["weight"]]) * np.float32(0.5)
    tensors["head.bias"] = (first["bias"] + second["bias"]) * np.float32(0.5)
    return "the heads of class and distillation token are one, which reads both"


def _positions(tensors: Tensors, path: str) -> str:
    """Positions of class token and patches, and further tokens with theirs added.

    Rows for tokens beside class token and patches are added to these tokens; a table without a row for the class
    token gets a zero row.
    """
    table = tensors.get("pos_embed")
    done = []
    if "dist_token" in tensors:
        if "reg_token" in tensors:
            raise WeightsError(f"{path} has a distillation token and registers, which no known network has")
        tensors["reg_token"] = tensors.pop("dist_token")
        done.append("the distillation token is a register")
    if table is None or table.ndim != 3:
        return "; ".join(done)
    classes = int("cls_token" in tensors)
    registers = tensors["reg_token"].shape[1] if "reg_token" in tensors else 0
    rows = next((rows for rows in (0, classes, classes + registers) if _square(table.shape[1] - rows)), classes)
    if rows < classes:
        zero = np.zeros((1, 1, table.shape[2]), table.dtype)
        tensors["pos_embed"] = np.concatenate([zero, table], axis=1)
        done.append("pos_embed has no row for the class token: it gets one of zeros")
    elif rows > classes:
        tensors["reg_token"] = tensors["reg_token"] + table[:, classes:rows]
        tensors["pos_embed"] = np.concatenate([table[:, :classes], table[:, rows:]], axis=1)
        done.append("positions of registers are added to the registers")
    return "; ".join(done)


def _square(count: int) -> bool:
    return count > 0 and math.isqrt(count) ** 2 == count


def _no_bias(tensors: Tensors, path: str) -> str:
    """A layer without bias is one with a bias of zeros, where every block lacks it."""
    done = []
    weights = [name for name in tensors if name.endswith(".weight") and not re.search(r"norm", name)]
    for kind in ("patch_embed.proj", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", "head"):
        of_kind = [name for name in weights if re.fullmatch(rf"(?:blocks\.\d+\.)?{re.escape(kind)}\.weight", name)]
        biases = [name[:-len("weight")] + "bias" for name in of_kind]
        if of_kind and not any(name in tensors for name in biases):
            for name, bias in zip(of_kind, biases):
                width = tensors[name].shape[0 if kind == "patch_embed.proj" else -1]
                tensors[bias] = np.zeros(width, np.float32)
            done.append(kind)
    return f"layers without bias get one of zeros: {', '.join(done)}" if done else ""
