"""Our tensors -> the state dict of a network of timm, and the line of Python that makes that network.

Names are the same; Linear weights are transposed, and what ours has folded becomes what timm's network has: rows of
zeros in `pos_embed` for registers, DeiT's two heads, no bias in the patches of CLIP.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from .errors import WeightsError

_LINEAR = re.compile(r"blocks\.\d+\.(?:attn\.qkv|attn\.proj|mlp\.fc[12])\.weight|head\.weight"
                     r"|attn_pool\.(?:q|kv|proj|mlp\.fc[12])\.weight")
_SAME = re.compile(r"cls_token|pos_embed|reg_token|attn_pool\.latent|(?:patch_embed\.proj|norm|fc_norm|norm_pre|head"
                   r"|attn_pool\.(?:norm|q|kv|proj|mlp\.fc[12])|blocks\.\d+\.(?:norm[12]|attn\.qkv|attn\.proj"
                   r"|mlp\.fc[12]))\.(?:weight|bias)")
HEAD_EPSILON = 1e-6  # of the BatchNorm before a tuned head; models/heads.py has it


def to_timm(tensors: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], str]:
    """(state dict, the line of Python that builds its network) of a whole network.

    `tensors`: our names, Linear [in, out]. `facts`: options of our network (`Facts.values`); what is not told is '?' in
    the line. What our methods add stays under our names, beside the network, with Linear weights [out, in].

    Raises:
        WeightsError: for a pooling or a patch embedding that no network of timm has.
    """
    tensors = with_one_head(tensors)
    pool, pre_norm = facts.get("pool", "cls"), "norm_pre.weight" in tensors
    if pool == "cls_avg":
        raise WeightsError("no network of timm reads the class token and the mean of the patches side by side (pool "
                           "cls_avg): give the features alone, or convert --to paddle")
    distilled = pool == "cls_reg"
    theirs = {name: np.asarray(array).T if _LINEAR.fullmatch(name) or _is_added_matrix(name, array) else
              np.asarray(array) for name, array in tensors.items()}
    registers = theirs["reg_token"].shape[1] if "reg_token" in theirs else 0
    if registers:
        table, classes = theirs["pos_embed"], int("cls_token" in theirs)
        zeros = np.zeros((1, registers, table.shape[2]), table.dtype)
        theirs["pos_embed"] = np.concatenate([table[:, :classes], zeros, table[:, classes:]], axis=1)
    if pre_norm and np.any(theirs.pop("patch_embed.proj.bias", 0)):
        raise WeightsError("timm's networks with a norm before the blocks have no bias in the patch embedding, and "
                           "this one is not zero")
    if distilled:
        theirs["dist_token"] = theirs.pop("reg_token")
        if "head.weight" in theirs:
            both = theirs.pop("head.weight")
            dim = both.shape[1] // 2
            theirs.update({"head.weight": both[:, :dim] * np.float32(2), "head_dist.weight": both[:, dim:]
                           * np.float32(2), "head_dist.bias": theirs["head.bias"]})
    classes = theirs["head.bias"].shape[0] if "head.bias" in theirs else 0
    return theirs, _line(facts, pre_norm, 0 if distilled else registers, classes, distilled)


def _is_added_matrix(name: str, array: np.ndarray) -> bool:
    """Whether it is a matrix of a layer that one of our methods adds."""
    return not _SAME.fullmatch(name) and name.endswith(".weight") and np.ndim(array) == 2


def added_names(names: Mapping[str, Any]) -> list[str]:
    """Those that are no network's of timm: what our methods add."""
    return [name for name in names if not _SAME.fullmatch(name) and not name.startswith(("dist_token", "head_dist."))]


def with_one_head(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """(x - m) / sqrt(v + e) W + b of a BatchNorm and a Linear is one Linear; in float64."""
    found = dict(tensors)
    if "head.0.running_mean" not in found:
        return found
    mean, var, weight, bias = (np.asarray(found.pop(f"head.{name}"), np.float64) for name in (
        "0.running_mean", "0.running_var", "1.weight", "1.bias"))
    scaled = weight / np.sqrt(var + HEAD_EPSILON)[:, None]
    found.update({"head.weight": scaled.astype(np.float32), "head.bias": (bias - mean @ scaled).astype(np.float32)})
    return found


def _line(facts: Mapping[str, Any], pre_norm: bool, registers: int, classes: int, distilled: bool) -> str:
    pool = {"avg": "avg", "norm_avg": "avg", "map": "map"}.get(facts.get("pool", "cls"), "token")
    told: dict[str, Any] = {option: facts.get(option, "?") for option in (
        "img_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio")}
    told.update(num_classes=classes, global_pool=repr(pool))
    if facts.get("pool") == "norm_avg":
        told["fc_norm"] = False
    if registers:
        told["reg_tokens"] = registers
    if pre_norm:
        told["pre_norm"] = True
    if facts.get("class_token") is False:
        told["class_token"] = False
    if facts.get("act") != "gelu":
        told["act_layer"] = repr(facts.get("act", "?"))
    told["norm_layer"] = f"functools.partial(torch.nn.LayerNorm, eps={facts.get('epsilon', '?')})"
    kind = "deit.VisionTransformerDistilled" if distilled else "vision_transformer.VisionTransformer"
    return f"timm.models.{kind}({', '.join(f'{option}={value}' for option, value in told.items())})"
