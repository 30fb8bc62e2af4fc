"""To and from what AdaptFormer's own code (github.com/ShoufaChen/AdaptFormer) saves and loads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from .convert import is_tuned
from .errors import WeightsError

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
# (dim, depth) of the named sizes.
SIZES = {(192, 6): "micro", (192, 12): "tiny", (384, 12): "small", (768, 12): "base",
         (1024, 24): "large", (1280, 32): "huge"}


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


def infer_tuning(tensors: Mapping[str, np.ndarray],
                 extras: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """(methods with their options, warnings) of a checkpoint of the authors.

    Shapes tell the bottleneck, the prompts and a learnable scale. The rest is in no tensor: it comes from
    `args` when the file has it, else it is what the authors' main script fixes, with a warning where
    a wrong guess would change outputs.
    """
    args = extras.get("args")
    args = args if isinstance(args, dict) else {}
    methods: list[dict[str, Any]] = []
    warnings: list[str] = []

    def option(name: str, default: Any, what: str) -> Any:
        if args.get(name) is None:
            warnings.append(f"the file does not tell the {what}: taken as {default!r}, correct the manifest "
                            "if it was not")
            return default
        return args[name]

    downs = sorted(int(n.split(".")[1]) for n in tensors if n.endswith(".adaptmlp.down_proj.bias"))
    if downs:
        depth = 1 + max(int(n.split(".")[1]) for n in tensors if n.startswith("blocks."))
        layernorm = "none"
        if f"blocks.{downs[0]}.adaptmlp.norm.weight" in tensors:
            layernorm = option("ffn_adapter_layernorm_option", "in", "place of the adapter's LayerNorm (in "
                                                                     "or out)")
        scale: Any = "learnable"
        if f"blocks.{downs[0]}.adaptmlp.scale" not in tensors:
            scale = option("ffn_adapter_scalar", 0.1, "adapter's scale")
            try:
                scale = float(scale)
            except (TypeError, ValueError):
                raise WeightsError(f"args.ffn_adapter_scalar is {scale!r}, but no block of the file has a "
                                   "scale; a number was expected") from None
        options = {"bottleneck": int(tensors[f"blocks.{downs[0]}.adaptmlp.down_proj.bias"].shape[0]),
                   "option": option("ffn_option", "parallel", "adapter's place (parallel or sequential)"),
                   "layernorm": layernorm, "scale": scale}
        if downs != list(range(depth)):
            options["blocks"] = downs
        methods.append({"name": "AdaptFormer", "options": options})
    prompts = [n for n in tensors if n.startswith("prompts.")]
    if prompts:
        methods.append({"name": "VPT", "options": {"num_prompts": int(tensors[prompts[0]].shape[1]),
                                                   "deep": len(prompts) > 1}})
    return methods, warnings


def infer_name(arch: Mapping[str, Any]) -> str | None:
    """'vit_base_patch16_224' from the shapes, or None for a network of no named size."""
    size = SIZES.get((arch.get("embed_dim"), arch.get("depth")))
    if not size or "img_size" not in arch or arch.get("mlp_ratio") != 4:
        return None
    return f"vit_{size}_patch{arch['patch_size']}_{arch['img_size']}"
