"""SigLIP's image tower in transformers: no class token, attention pooling, the tanh form of GELU."""

from __future__ import annotations

from .clip import NETWORK, TEXT, VISION_RULES
from .rules import HALF, Layout, Rule, any_name, linear

_HEAD = NETWORK + r"head\."
_RULES = (
    *VISION_RULES,
    Rule(_HEAD + "probe", "attn_pool.latent"),
    Rule(_HEAD + r"attention\.in_proj_weight", "attn_pool.qkv.weight", linear),
    Rule(_HEAD + r"attention\.in_proj_bias", "attn_pool.qkv.bias"),
    Rule(_HEAD + r"attention\.out_proj\.weight", "attn_pool.proj.weight", linear),
    Rule(_HEAD + r"attention\.out_proj\.bias", "attn_pool.proj.bias"),
    Rule(_HEAD + r"layernorm\.(weight|bias)", r"attn_pool.norm.\1"),
    Rule(_HEAD + r"mlp\.(fc[12])\.weight", r"attn_pool.mlp.\1.weight", linear),
    Rule(_HEAD + r"mlp\.(fc[12])\.bias", r"attn_pool.mlp.\1.bias"),
)
SIGLIP = Layout(
    "transformers: SigLIP", NETWORK + r"embeddings\.patch_embedding\.weight", _RULES,
    lambda names: any_name(names, NETWORK + r"embeddings\.position_embedding\.weight"), dropped=TEXT, torch=True,
    refused=((r".*embeddings\.class_embedding", "a class token beside SigLIP's layers is of no network known here"),),
    told={"epsilon": 1e-6}, assumed={"act": "gelu_tanh"}, preprocess=HALF)
