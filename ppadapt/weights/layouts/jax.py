"""Google's `.npz`: vision_transformer and big_vision (SigLIP under `params/img/`)."""

from __future__ import annotations

import numpy as np

from .rules import HALF, Layout, Rule, any_name


def conv_from_jax(array: np.ndarray) -> np.ndarray:
    """[height, width, in, out] -> [out, in, height, width]."""
    return array.transpose(3, 2, 0, 1)


def heads_out(array: np.ndarray) -> np.ndarray:
    """JAX's query, key, value: kernel [dim, heads, head_dim] -> [dim, dim], bias -> [dim]."""
    return array.reshape(*array.shape[:-2], -1)


def heads_in(array: np.ndarray) -> np.ndarray:
    """out of JAX: kernel [heads, head_dim, dim] -> [dim, dim]."""
    return array.reshape(-1, array.shape[-1])


def _attention(path: str, qkv: str, proj: str) -> tuple[Rule, ...]:
    return (
        *(Rule(f"{path}/{n}/kernel", f"{qkv}.weight", heads_out, i) for i, n in enumerate(("query", "key", "value"))),
        *(Rule(f"{path}/{n}/bias", f"{qkv}.bias", heads_out, i) for i, n in enumerate(("query", "key", "value"))),
        Rule(f"{path}/out/kernel", f"{proj}.weight", heads_in),
        Rule(f"{path}/out/bias", f"{proj}.bias"))


def _mlp(path: str, ours: str) -> tuple[Rule, ...]:
    return tuple(Rule(f"{path}/Dense_{i}/{theirs}", f"{ours}.fc{i + 1}.{kind}")
                 for i in (0, 1) for theirs, kind in (("kernel", "weight"), ("bias", "bias")))


def _norm(path: str, ours: str) -> tuple[Rule, ...]:
    return Rule(f"{path}/scale", f"{ours}.weight"), Rule(f"{path}/bias", f"{ours}.bias")


_BLOCK = r"Transformer/encoderblock_(\d+)"
# The number counts modules of any kind in one version of flax and of the same kind in another: the
# second LayerNorm is LayerNorm_2 or LayerNorm_1.
_RULES = (
    Rule(r"cls", "cls_token"),
    Rule(r"embedding/kernel", "patch_embed.proj.weight", conv_from_jax),
    Rule(r"embedding/bias", "patch_embed.proj.bias"),
    Rule(r"(?:Transformer/posembed_input/)?pos_embedding", "pos_embed"),
    *_norm("Transformer/encoder_norm", "norm"),
    Rule(r"head/kernel", "head.weight"),
    Rule(r"head/bias", "head.bias"),
    *_norm(_BLOCK + "/LayerNorm_0", r"blocks.\1.norm1"),
    *_norm(_BLOCK + "/LayerNorm_[12]", r"blocks.\1.norm2"),
    *_attention(_BLOCK + r"/MultiHeadDotProductAttention_\d+", r"blocks.\1.attn.qkv", r"blocks.\1.attn.proj"),
    *_mlp(_BLOCK + r"/MlpBlock_\d+", r"blocks.\1.mlp"),
    Rule(r"MAPHead_0/probe", "attn_pool.latent"),
    *_attention(r"MAPHead_0/MultiHeadDotProductAttention_\d+", "attn_pool.qkv", "attn_pool.proj"),
    *_norm(r"MAPHead_0/LayerNorm_\d+", "attn_pool.norm"),
    *_mlp(r"MAPHead_0/MlpBlock_\d+", "attn_pool.mlp"),
)

PRE_LOGITS = "the layer before the pre-training head, which our networks do not have"
# Without pre_logits the old head would be fed something else than it was trained on.
ORPHANED_HEAD = "the pre-training head, which reads the dropped pre_logits"

SIGLIP_NPZ = Layout(
    "big_vision", r"embedding/kernel", _RULES, lambda names: any_name(names, r"MAPHead_0/.*"), torch=False,
    told={"epsilon": 1e-6}, assumed={"act": "gelu_tanh"}, preprocess=HALF)
JAX = Layout(
    "jax", r"embedding/kernel", _RULES,
    lambda names: any_name(names, r"(?:.*/)?encoderblock_\d+/.*"), dropped=((r"pre_logits/.*", PRE_LOGITS),),
    # Google's own code computes the tanh form of GELU, timm and everyone after it the erf form with the same weights.
    torch=False, told={"epsilon": 1e-6}, assumed={"act": "gelu"}, preprocess=HALF)
