"""To and from what AdaptFormer's own code (github.com/ShoufaChen/AdaptFormer) saves and loads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import brief
from .checksum import digest
from .convert import Converted, is_tuned
from .errors import WeightsError
from .facts import NAMED

# Our name -> theirs; the names that are the same need no line.
RENAMED = (
    (r"(blocks\.\d+)\.mlp\.(fc[12]\..*)", r"\1.\2"),
    (r"(blocks\.\d+\.adaptmlp)\.norm\.(.*)", r"\1.adapter_layer_norm_before.\2"),
    (r"prompts\.(\d+)", r"embeddings.\1"),
)
LINEAR = re.compile(
    r"blocks\.\d+\.(attn\.proj|mlp\.fc[12]|adaptmlp\.(down|up)_proj)\.weight|head\.(1\.)?weight")
QKV = re.compile(r"(blocks\.\d+\.attn)\.qkv\.(weight|bias)")
UNCHANGED = re.compile(
    r"cls_token|pos_embed|patch_embed\.proj\.(weight|bias)|(fc_)?norm\.(weight|bias)|head\.bias|head\.1\.bias|"
    r"blocks\.\d+\.(norm[12]\.(weight|bias)|(attn\.proj|mlp\.fc[12]|adaptmlp\.(down|up)_proj)\.bias|"
    r"adaptmlp\.(scale|norm\.(weight|bias)))|prompts\.\d+|head\.0\.running_(mean|var)")


def to_authors(tuned: Mapping[str, np.ndarray],
               base: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
    """Our names and [in, out] -> the authors' names and PyTorch's [out, in]; arrays may be views.

    With `base` (our names too) the result is whole, as their strict `load_state_dict` wants it; where both
    have a name the tuned one counts, and the base's head gives way to a tuned head.
    Raises WeightsError on a name that their code has nothing for (another tuning method).
    """
    head = any(name.startswith("head.") for name in tuned)
    whole = {name: array for name, array in (base or {}).items() if not (head and name.startswith("head."))}
    whole.update(tuned)
    theirs: dict[str, np.ndarray] = {}
    for name, array in whole.items():
        fused = QKV.fullmatch(name)
        if fused:
            if np.ndim(array) == 0 or np.shape(array)[-1] % 3:
                raise WeightsError(f"{name} has the shape {list(np.shape(array))}: that is not q, k and v side by side")
            for letter, part in zip("qkv", np.split(np.asarray(array), 3, axis=-1)):
                theirs[f"{fused.group(1)}.{letter}_proj.{fused.group(2)}"] = part.T
            continue
        if not LINEAR.fullmatch(name) and not UNCHANGED.fullmatch(name):
            raise WeightsError(f"the authors' code has nothing for {name}; it knows AdaptFormer, VPT, "
                               "linear probe and full fine-tuning")
        target = name
        for pattern, replacement in RENAMED:
            target = re.sub(f"^{pattern}$", replacement, target)
        theirs[target] = np.asarray(array).T if LINEAR.fullmatch(name) else np.asarray(array)
        if name == "head.0.running_var":
            theirs["head.0.num_batches_tracked"] = np.zeros((), np.int64)  # their BatchNorm has the counter
    return theirs


def split_tuned(tensors: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(tuned state, backbone): adapters, prompts, every head and `fc_norm` against the rest.

    `fc_norm` belongs to the head: a network pretrained with a class token has none, so it starts anew.
    """
    tuned = {n: a for n, a in tensors.items() if is_tuned(n) or n.startswith(("head.", "fc_norm."))}
    return tuned, {n: a for n, a in tensors.items() if n not in tuned}


def as_tuned_file(done: Converted) -> tuple[dict[str, np.ndarray], dict[str, Any], list[str]] | None:
    """(tuned state, manifest, warnings) of a checkpoint of the authors; None where nothing in it was tuned.

    The manifest says what the file tells: the rest is left out, and warned of when the tuned file is used.
    """
    methods, warnings = infer_tuning(done.tensors, done.extras)
    if not methods:
        return None
    tuned, base = split_tuned(done.tensors)
    backbone: dict[str, Any] = {"name": infer_name(done.arch), "digest": digest(base) if base else None}
    if base:
        video = np.ndim(base.get("patch_embed.proj.weight")) == 5
        backbone["family"] = "ViT of videos" if video else "ViT"
        backbone["options"] = {key: value for key, value in done.facts.sure().items() if key != "class_num"}
    head = None
    if any(name.startswith("head.") for name in tuned):
        head = "BatchNormLinear" if "head.0.running_mean" in tuned else "Linear"
    return tuned, {"tuning": methods, "backbone": backbone, "head": head, "preprocess": None, "classes": None,
                   "metrics": {}}, warnings


def infer_tuning(tensors: Mapping[str, np.ndarray],
                 extras: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """(methods with their options, warnings) of a checkpoint of the authors.

    Shapes tell the bottleneck, the prompts and a learnable scale. The rest is in no tensor: it comes from
    `args` when the file has it, else it is what the authors' main script fixes, with a warning where
    a wrong guess would change outputs. Raises WeightsError for shapes and values that their code does not save.
    """
    args = extras.get("args")
    args = args if isinstance(args, dict) else {}
    methods = [adaptformer_of(tensors, args)] if any(".adaptmlp." in name for name in tensors) else []
    found, warnings = [method for method, _ in methods], [text for _, told in methods for text in told]
    prompts = {name: tensors[name] for name in tensors if name.startswith("prompts.")}
    if prompts:
        shapes = {np.shape(array) for array in prompts.values()}
        if len(shapes) > 1 or len(next(iter(shapes))) != 3:
            raise WeightsError(f"the prompts have the shapes {', '.join(str(list(s)) for s in sorted(shapes))}; they "
                               "are all [1, number, dim]")
        found.append({"name": "VPT", "num_prompts": int(next(iter(shapes))[1]), "deep": len(prompts) > 1,
                      "blocks": "all"})
    return found, warnings


def adaptformer_of(tensors: Mapping[str, np.ndarray], args: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """AdaptFormer's options, and what was assumed."""
    warnings: list[str] = []

    def option(name: str, default: Any, what: str) -> Any:
        if args.get(name) is None:
            warnings.append(f"the file does not tell the {what}: taken as {default!r}, correct the manifest "
                            "if it was not")
            return default
        return args[name]

    biases = {name: tensors[name] for name in tensors if name.endswith(".adaptmlp.down_proj.bias")}
    blocks = sorted(int(name.split(".")[1]) for name in biases)
    widths = {np.shape(bias) for bias in biases.values()}
    if len(widths) != 1 or len(next(iter(widths))) != 1:
        shapes = ", ".join(str(list(width)) for width in sorted(widths)) or "of none"
        raise WeightsError(f"the adapters' down_proj.bias have the shapes {shapes}; they are all [bottleneck]")
    depth = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blocks."))
    layernorm = "none"
    if f"blocks.{blocks[0]}.adaptmlp.norm.weight" in tensors:
        layernorm = option("ffn_adapter_layernorm_option", "in", "place of the adapter's LayerNorm (in or out)")
    scale: Any = "learnable"
    if f"blocks.{blocks[0]}.adaptmlp.scale" not in tensors:
        scale = option("ffn_adapter_scalar", 0.1, "adapter's scale")
        try:
            scale = float(scale)
        except (TypeError, ValueError):
            raise WeightsError(f"args.ffn_adapter_scalar is {brief(scale)}, but no block of the file has a scale; a "
                               "number was expected") from None
    return {"name": "AdaptFormer", "bottleneck": int(next(iter(widths))[0]),
            "option": option("ffn_option", "parallel", "adapter's place (parallel or sequential)"),
            "layernorm": layernorm, "scale": scale,
            "blocks": "all" if len(blocks) == depth else blocks}, warnings


def infer_name(arch: Mapping[str, Any]) -> str | None:
    """'vit_base_patch16', a name of the catalogue, from the shapes, or None for a network of no named size."""
    name, _, patch, size = NAMED.get((arch.get("embed_dim"), arch.get("depth")), (None, 0, 0, 0))
    fits = (arch.get("patch_size"), arch.get("img_size"), arch.get("mlp_ratio")) == (patch, size, 4)
    return name if fits else None
