"""BEiT and BEiT v2 (arXiv 2106.08254, 2208.06366) of the original code, timm and transformers.

Their attention adds biases of relative positions, of every block or shared by all. Names become those of PaddleClas's
BEiT v2, the only network here that computes it: class token, no absolute positions.
"""

from __future__ import annotations

import re

import numpy as np

from .rules import HALF, Layout, Reasons, Rule, any_name, linear, linear_rules, same

_LINEARS = r"attn\.proj|mlp\.fc1|mlp\.fc2"
_SHARED = "rel_pos_bias.relative_position_bias_table"
_HEAD = (Rule(r"(?:head|classifier)\.weight", "head.fc_head.weight", linear),
         Rule(r"(?:head|classifier)\.bias", "head.fc_head.bias"))
_ONLY = ("its attention adds biases of relative positions, which our networks do not compute; PaddleClas's do: "
         "Arch.name BEiTv2_vit_base_patch16_224 or BEiTv2_vit_large_patch16_224, with conv_bias: True")
_MEAN = ("its features are the norm of the patches' mean, PaddleClas's BEiT (which computes the biases of relative "
         "positions) reads the class token; the files of the pre-training alone have that norm")


def one_table_each(tensors: dict[str, np.ndarray], path: str) -> list[str]:
    """A table that all blocks share is in each of them: PaddleClas's network has one a block."""
    shared = tensors.pop(_SHARED, None)
    if shared is None:
        return []
    blocks = dict.fromkeys(int(name.split(".")[1]) for name in tensors if name.startswith("blocks."))
    for block in blocks:
        tensors[f"blocks.{block}.attn.relative_position_bias_table"] = shared
    return ["the table of relative positions that all blocks share is in each of them"]


_common = {"torch": True, "plain": False, "only": _ONLY, "finish": one_table_each, "preprocess": HALF}
_DROPPED: Reasons = ((r".*relative_position_index", "the network computes it"),
                     (r".*mask_token", "the token that stands for masked patches, used in pre-training only"),
                     (r"lm_head\..*|cls_pt_layers\..*", "the head of the pre-training, which predicts patches"),
                     (r".*\.k_bias", "a constant of zeros"))
ORIGINAL = Layout(
    "BEiT", r"patch_embed\.proj\.weight", (
        Rule(r"(cls_token|patch_embed\.proj\.(?:weight|bias)|norm\.(?:weight|bias))", r"\1"),
        Rule(r"(blocks\.\d+\.(?:norm[12]\.(?:weight|bias)|gamma_[12]|attn\.relative_position_bias_table))", r"\1"),
        Rule(rf"(blocks\.\d+\.(?:{_LINEARS}|attn\.qkv)\.weight)", r"\1", linear),
        Rule(rf"(blocks\.\d+\.(?:{_LINEARS}|attn\.qkv)\.bias)", r"\1"),
        Rule(r"(blocks\.\d+\.attn)\.q_bias", r"\1.qkv.bias", same, 0),
        Rule(r"(blocks\.\d+\.attn)\.v_bias", r"\1.qkv.bias", same, 2),
        Rule(re.escape(_SHARED), _SHARED), *_HEAD),
    lambda names: "pos_embed" not in names and "cls_token" in names and any_name(
        names, rf"blocks\.\d+\.attn\.relative_position_bias_table|{re.escape(_SHARED)}"),
    dropped=_DROPPED, refused=((r"fc_norm\..*", _MEAN),), **_common)

_NETWORK = r"(?:\w+\.)?"
_BLOCK = _NETWORK + r"(?:encoder\.)?layers?\.(\d+)\."
_B = r"blocks.\1."


def _linear(theirs: str, ours: str, part: int | None = None) -> tuple[Rule, ...]:
    return linear_rules(_BLOCK + theirs, _B + ours, part)


TRANSFORMERS = Layout(
    "transformers: BEiT", _NETWORK + r"embeddings\.patch_embeddings\.projection\.weight", (
        Rule(_NETWORK + r"embeddings\.cls_token", "cls_token"),
        Rule(_NETWORK + r"embeddings\.patch_embeddings\.projection\.(weight|bias)", r"patch_embed.proj.\1"),
        *(rule for i, name in enumerate(("query", "key", "value")) for rule in _linear(
            rf"attention\.(?:attention\.{name}|{name[0]}_proj)", "attn.qkv", i)),
        *_linear(r"attention\.(?:output\.dense|o_proj)", "attn.proj"),
        *_linear(r"(?:intermediate\.dense|mlp\.fc1)", "mlp.fc1"), *_linear(r"(?:output\.dense|mlp\.fc2)", "mlp.fc2"),
        Rule(_BLOCK + r"layernorm_before\.(weight|bias)", _B + r"norm1.\2"),
        Rule(_BLOCK + r"layernorm_after\.(weight|bias)", _B + r"norm2.\2"),
        Rule(_BLOCK + r"lambda_([12])", _B + r"gamma_\2"),
        Rule(_BLOCK + r"attention\.(?:attention\.)?relative_position_bias\.relative_position_bias_table",
             _B + "attn.relative_position_bias_table"),
        Rule(_NETWORK + r"encoder\.relative_position_bias\.relative_position_bias_table", _SHARED),
        Rule(_NETWORK + r"layernorm\.(weight|bias)", r"norm.\1"), *_HEAD),
    lambda names: any_name(names, r".*relative_position_bias_table") and any_name(names, _BLOCK + "lambda_1")
    and not any_name(names, _NETWORK + r"embeddings\.position_embeddings"),
    dropped=_DROPPED, refused=((_NETWORK + r"pooler\.layernorm\..*", _MEAN),), **_common)
