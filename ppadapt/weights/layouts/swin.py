"""Swin and Swin v2 of Microsoft, timm and transformers, whose names become PaddleClas's, which are Microsoft's.

They go into PaddleClas's networks; ours are plain ViTs.
"""

from __future__ import annotations

from .rules import Layout, Reasons, Rule, any_name, linear, linear_rules

_LINEARS = r"attn\.qkv|attn\.proj|mlp\.fc[12]|attn\.cpb_mlp\.[02]"
_RULES = (
    Rule(rf"(layers\.\d+\.blocks\.\d+\.(?:{_LINEARS})\.weight)", r"\1", linear),
    Rule(r"(layers\.\d+\.downsample\.reduction\.weight|head\.weight)", r"\1", linear),
    Rule(r"((?:layers|patch_embed|norm|head)\..*|absolute_pos_embed)", r"\1"),
)
_DROPPED: Reasons = ((r".*(?:relative_position_index|relative_coords_table|attn_mask)", "the network computes it"),)
_ONLY = ("it is a Swin, which our networks are not; SwinTransformer_... and SwinTransformerV2_... of "
         "PaddleClas are (Arch.name)")
_shared = {"anchor": r"patch_embed\.proj\.weight", "rules": _RULES, "dropped": _DROPPED, "plain": False, "only": _ONLY,
           "remarks": (
    (r".*relative_position_bias_table", "PaddleClas's Swin shifts and masks the last stage too, where the window is "
     "the whole map and Microsoft's does not: its answers differ by about 5e-4"),)}


def _swin(names) -> bool:
    return any_name(names, r"layers\.\d+\.blocks\.\d+\.attn\.qkv\.weight")


# timm puts what Microsoft has at the end of a stage at the beginning of the next, and a pooling into the head.
TIMM = Layout(
    "timm: Swin", known_by=lambda names: _swin(names) and not any_name(names, r"layers\.0\.downsample\..*"), torch=True,
    rename=(*((rf"^layers\.{i + 1}\.downsample\.", f"layers.{i}.downsample.") for i in range(3)),
            (r"^head\.fc\.", "head.")), **_shared)
MICROSOFT = Layout("Microsoft: Swin", known_by=_swin, torch=True, **_shared)

_NETWORK = r"(?:\w+\.)?"
_BLOCK = _NETWORK + r"encoder\.layers\.(\d+)\.blocks\.(\d+)\."
_B = r"layers.\1.blocks.\2."


def _linear(theirs: str, ours: str, part: int | None = None) -> tuple[Rule, ...]:
    return linear_rules(_BLOCK + theirs, _B + ours, part)


TRANSFORMERS = Layout(
    "transformers: Swin", _NETWORK + r"embeddings\.patch_embeddings\.projection\.weight", (
        Rule(_NETWORK + r"embeddings\.patch_embeddings\.projection\.(weight|bias)", r"patch_embed.proj.\1"),
        Rule(_NETWORK + r"embeddings\.norm\.(weight|bias)", r"patch_embed.norm.\1"),
        *(rule for i, name in enumerate(("query", "key", "value")) for rule in _linear(
            rf"attention\.(?:self\.{name}|{name[0]}_proj)", "attn.qkv", i)),
        *_linear(r"attention\.(?:output\.dense|o_proj)", "attn.proj"),
        *_linear(r"(?:intermediate\.dense|mlp\.fc1)", "mlp.fc1"), *_linear(r"(?:output\.dense|mlp\.fc2)", "mlp.fc2"),
        Rule(_BLOCK + r"layernorm_before\.(weight|bias)", _B + r"norm1.\3"),
        Rule(_BLOCK + r"layernorm_after\.(weight|bias)", _B + r"norm2.\3"),
        Rule(_BLOCK + r"attention\.(?:self|relative_position_bias)\.relative_position_bias_table",
             _B + "attn.relative_position_bias_table"),
        Rule(_NETWORK + r"encoder\.layers\.(\d+)\.downsample\.reduction\.weight",
             r"layers.\1.downsample.reduction.weight", linear),
        Rule(_NETWORK + r"encoder\.layers\.(\d+)\.downsample\.norm\.(weight|bias)", r"layers.\1.downsample.norm.\2"),
        Rule(_NETWORK + r"layernorm\.(weight|bias)", r"norm.\1"),
        Rule(r"classifier\.weight", "head.weight", linear), Rule(r"classifier\.bias", "head.bias")),
    lambda names: any_name(names, _BLOCK + r".*relative_position_bias_table"),
    dropped=(*_DROPPED, (_NETWORK + r"embeddings\.mask_token", "the token that stands for masked patches")),
    torch=True, plain=False, only=_ONLY, remarks=_shared["remarks"])
