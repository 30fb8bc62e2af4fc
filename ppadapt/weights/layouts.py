"""One table per checkpoint family: their name -> our name, and what happens to the values on the way.

Our names are timm's and PaddleClas's; our Linear weights are [in, out] as in Paddle, those of PyTorch are
[out, in]. What is transposed is decided by the name, that is by the type of the layer: `attn.proj` is square,
so its shape says nothing. To convert another family, add a table here and a line to `recognise`.
"""

from __future__ import annotations

import re
from typing import Callable, NamedTuple

import numpy as np

from .errors import WeightsError
from .raw import RawCheckpoint


def same(array: np.ndarray) -> np.ndarray:
    return array


def linear(array: np.ndarray) -> np.ndarray:
    """PyTorch's [out, in] -> Paddle's [in, out], a view."""
    return array.T


def conv_from_jax(array: np.ndarray) -> np.ndarray:
    """[height, width, in, out] -> [out, in, height, width]."""
    return array.transpose(3, 2, 0, 1)


def heads_out(array: np.ndarray) -> np.ndarray:
    """JAX's query, key, value: kernel [dim, heads, head_dim] -> [dim, dim], bias -> [dim]."""
    return array.reshape(*array.shape[:-2], -1)


def heads_in(array: np.ndarray) -> np.ndarray:
    """out of JAX: kernel [heads, head_dim, dim] -> [dim, dim]."""
    return array.reshape(-1, array.shape[-1])


class Rule(NamedTuple):
    """`pattern` matches a whole name, `target` may use its groups, `part` 0, 1, 2 is q, k, v of a qkv."""

    pattern: str
    target: str
    change: Callable[[np.ndarray], np.ndarray] = same
    part: int | None = None


BASE = (
    Rule(r"(cls_token|pos_embed)", r"\1"),
    Rule(r"(patch_embed\.proj\.(?:weight|bias))", r"\1"),
    Rule(r"(blocks\.\d+\.norm[12]\.(?:weight|bias))", r"\1"),
    Rule(r"(blocks\.\d+\.(?:attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2)\.weight)", r"\1", linear),
    Rule(r"(blocks\.\d+\.(?:attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2)\.bias)", r"\1"),
    Rule(r"((?:fc_)?norm\.(?:weight|bias))", r"\1"),
    Rule(r"(head\.weight)", r"\1", linear),
    Rule(r"(head\.bias)", r"\1"),
)
TUNED = (
    Rule(r"(blocks\.\d+\.adaptmlp\.(?:down|up)_proj\.weight)", r"\1", linear),
    Rule(r"(blocks\.\d+\.adaptmlp\.(?:down|up)_proj\.bias)", r"\1"),
    Rule(r"(blocks\.\d+\.adaptmlp\.(?:scale|norm\.weight|norm\.bias))", r"\1"),
    Rule(r"(prompts\.\d+)", r"\1"),
    Rule(r"(head\.0\.running_(?:mean|var))", r"\1"),
    Rule(r"(head\.1\.weight)", r"\1", linear),
    Rule(r"(head\.1\.bias)", r"\1"),
)
# What AdaptFormer's code (github.com/ShoufaChen/AdaptFormer) calls otherwise than timm.
AUTHORS = (
    Rule(r"(blocks\.\d+)\.(fc[12])\.weight", r"\1.mlp.\2.weight", linear),
    Rule(r"(blocks\.\d+)\.(fc[12])\.bias", r"\1.mlp.\2.bias"),
    *(Rule(rf"(blocks\.\d+\.attn)\.{n}_proj\.weight", r"\1.qkv.weight", linear, i)
      for i, n in enumerate("qkv")),
    *(Rule(rf"(blocks\.\d+\.attn)\.{n}_proj\.bias", r"\1.qkv.bias", same, i) for i, n in enumerate("qkv")),
    # The video network's attention has these two and no k bias.
    Rule(r"(blocks\.\d+\.attn)\.q_bias", r"\1.qkv.bias", same, 0),
    Rule(r"(blocks\.\d+\.attn)\.v_bias", r"\1.qkv.bias", same, 2),
    Rule(r"(blocks\.\d+\.adaptmlp)\.adapter_layer_norm_before\.(weight|bias)", r"\1.norm.\2"),
    Rule(r"embeddings\.(\d+)", r"prompts.\1"),
)
_JAX_BLOCK = r"Transformer/encoderblock_(\d+)"
_JAX_ATTENTION = _JAX_BLOCK + r"/MultiHeadDotProductAttention_\d+"
JAX = (
    Rule(r"cls", "cls_token"),
    Rule(r"embedding/kernel", "patch_embed.proj.weight", conv_from_jax),
    Rule(r"embedding/bias", "patch_embed.proj.bias"),
    Rule(r"(?:Transformer/posembed_input/)?pos_embedding", "pos_embed"),
    Rule(r"Transformer/encoder_norm/scale", "norm.weight"),
    Rule(r"Transformer/encoder_norm/bias", "norm.bias"),
    Rule(r"head/kernel", "head.weight"),
    Rule(r"head/bias", "head.bias"),
    # The number counts modules of any kind in one version of flax and of the same kind in another: the
    # second LayerNorm is LayerNorm_2 or LayerNorm_1.
    Rule(_JAX_BLOCK + r"/LayerNorm_0/scale", r"blocks.\1.norm1.weight"),
    Rule(_JAX_BLOCK + r"/LayerNorm_0/bias", r"blocks.\1.norm1.bias"),
    Rule(_JAX_BLOCK + r"/LayerNorm_[12]/scale", r"blocks.\1.norm2.weight"),
    Rule(_JAX_BLOCK + r"/LayerNorm_[12]/bias", r"blocks.\1.norm2.bias"),
    *(Rule(f"{_JAX_ATTENTION}/{n}/kernel", r"blocks.\1.attn.qkv.weight", heads_out, i)
      for i, n in enumerate(("query", "key", "value"))),
    *(Rule(f"{_JAX_ATTENTION}/{n}/bias", r"blocks.\1.attn.qkv.bias", heads_out, i)
      for i, n in enumerate(("query", "key", "value"))),
    Rule(_JAX_ATTENTION + r"/out/kernel", r"blocks.\1.attn.proj.weight", heads_in),
    Rule(_JAX_ATTENTION + r"/out/bias", r"blocks.\1.attn.proj.bias"),
    *(Rule(rf"{_JAX_BLOCK}/MlpBlock_\d+/Dense_{i}/kernel", rf"blocks.\1.mlp.fc{i + 1}.weight")
      for i in (0, 1)),
    *(Rule(rf"{_JAX_BLOCK}/MlpBlock_\d+/Dense_{i}/bias", rf"blocks.\1.mlp.fc{i + 1}.bias") for i in (0, 1)),
)
TIMM = BASE + TUNED + AUTHORS
LAYOUTS = {"timm": TIMM, "mae": TIMM, "adaptformer": TIMM, "paddle": TIMM, "ppadapt": TIMM, "jax": JAX}

# Known and not converted: pattern -> why.
DROPPED: tuple[tuple[str, str], ...] = (
    (r"mask_token|decoder_.*", "MAE's decoder, used in pre-training only"),
    (r".*\.num_batches_tracked", "PyTorch's step counter of BatchNorm; it changes no output at momentum 0.1"),
    (r"pre_logits[./].*", "the layer before the pre-training head, which our networks do not have"),
)
# Without pre_logits the old head would be fed something else than it was trained on.
_ORPHANED_HEAD = (r"head[./](weight|bias|kernel)",
                  "the pre-training head, which reads the dropped pre_logits")


def recognise(raw: RawCheckpoint) -> str:
    """The layout's name, from the keys: 'jax', 'ppadapt', 'paddle', 'adaptformer', 'mae' or 'timm'.

    MAE's published encoders carry timm's very names, so they are 'timm' unless the decoder is there too.
    """
    def any_name(pattern: str) -> bool:
        return any(re.fullmatch(pattern, name) for name in raw.tensors)

    if any_name(r"(?:.*/)?(?:Transformer/)?encoderblock_\d+/.*"):
        return "jax"
    if "ppadapt" in raw.extras or raw.extras.get("format") == "ppadapt.network":
        return "ppadapt"
    if raw.format == "paddle":
        return "paddle"
    of_a_block = r"blocks\.\d+\.(?:attn\.[qkv]_proj|adaptmlp|fc[12])\..*"
    if any_name(rf"(?:.*\.)?(?:{of_a_block}|embeddings\.\d+|head\.0\..*)"):
        return "adaptformer"
    return "mae" if any_name(r"(?:.*\.)?(?:mask_token|decoder_.*)") else "timm"


def strip_prefix(names: list[str], layout: str) -> str:
    """What DataParallel, torch.compile or flax put before every name, else ''."""
    prefix = ""
    parts = ("opt/target/", "params/") if layout == "jax" else ("module.", "_orig_mod.", "module.")
    for part in parts:
        if names and all(name.startswith(prefix + part) for name in names):
            prefix += part
    return prefix


def drop_reason(name: str, has_pre_logits: bool) -> str | None:
    """Why `name` is knowingly not converted, or None."""
    rules = DROPPED + ((_ORPHANED_HEAD,) if has_pre_logits else ())
    return next((reason for pattern, reason in rules if re.fullmatch(pattern, name)), None)


def stored_as_torch(raw: RawCheckpoint, layout: str, arrays: dict[str, np.ndarray]) -> bool:
    """True when the file's Linear weights are [out, in].

    The format says it, except for .safetensors and .npz without a word about their maker. There the first
    layer that is not square decides, once for the whole file; no weight is transposed for its own shape.
    """
    if layout in ("paddle", "ppadapt", "jax"):
        return False
    if raw.format.startswith("torch") or raw.extras.get("format") == "pt":
        return True
    for name, array in arrays.items():
        bias = arrays.get(name[:-len("weight")] + "bias")
        layers = r"(attn\.qkv|(mlp\.)?fc[12]|adaptmlp\.(down|up)_proj)"
        if not re.fullmatch(rf"blocks\.\d+\.{layers}\.weight", name) or bias is None or array.ndim != 2:
            continue
        if array.shape[0] != array.shape[1]:
            return bool(array.shape[0] == bias.shape[0])
    raise WeightsError(f"{raw.path}: nothing says whether its Linear weights are PyTorch's [out, in] or "
                       "Paddle's [in, out]. Save it as .pth or .pdparams, or give the .safetensors the "
                       "metadata format=pt")
