"""Hugging Face transformers: ViT, DeiT, ViTMAE, MSN, DINOv2 with and without registers, BEiT.

Two namings: `encoder.layer.0.attention.attention.query` on disk, `layers.0.attention.q_proj` in the memory of
transformers 5.
"""

from __future__ import annotations

from .rules import Layout, Reasons, Rule, any_name, linear_rules

_NETWORK = r"(?:\w+\.)?"  # vit., deit., dinov2. ... in a classifier; nothing in the network alone
_BLOCK = _NETWORK + r"(?:encoder\.)?layers?\.(\d+)\."
_B = r"blocks.\1."


def _norm(theirs: str, ours: str) -> Rule:
    groups = theirs.replace("(?:", "").count("(") + 1
    return Rule(rf"{theirs}\.(weight|bias)", rf"{ours}.\{groups}")


RULES = (
    Rule(_NETWORK + r"embeddings\.cls_token", "cls_token"),
    Rule(_NETWORK + r"embeddings\.position_embeddings", "pos_embed"),
    Rule(_NETWORK + r"embeddings\.distillation_token", "dist_token"),
    Rule(_NETWORK + r"embeddings\.register_tokens", "reg_token"),
    Rule(_NETWORK + r"embeddings\.patch_embeddings\.projection\.(weight|bias)", r"patch_embed.proj.\1"),
    *(rule for i, name in enumerate(("query", "key", "value")) for rule in linear_rules(
        rf"{_BLOCK}attention\.(?:attention\.{name}|{name[0]}_proj)", _B + "attn.qkv", i)),
    *linear_rules(rf"{_BLOCK}attention\.(?:output\.dense|o_proj)", _B + "attn.proj"),
    *linear_rules(rf"{_BLOCK}(?:intermediate\.dense|mlp\.fc1)", _B + "mlp.fc1"),
    *linear_rules(rf"{_BLOCK}(?:output\.dense|mlp\.fc2)", _B + "mlp.fc2"),
    _norm(_BLOCK + r"(?:layernorm_before|norm1)", _B + "norm1"),
    _norm(_BLOCK + r"(?:layernorm_after|norm2)", _B + "norm2"),
    Rule(_BLOCK + r"(?:lambda_|layer_scale)([12])(?:\.lambda1)?", _B + r"ls\2.gamma"),
    _norm(_NETWORK + r"layernorm", "norm"),
    _norm(_NETWORK + r"pooler\.layernorm", "fc_norm"),
    *linear_rules(r"(?:cls_)?classifier", "head"),
    *linear_rules(r"distillation_classifier", "head_dist"),
)
DROPPED: Reasons = (
    (_NETWORK + r"embeddings\.mask_token", "the token that stands for masked patches, used in pre-training only"),
    (_NETWORK + r"pooler\.dense\..*", "the pooler (a Linear and tanh), which no classifier of transformers reads"),
    (r"decoder\..*", "the decoder, used in pre-training only"),
    (r"lm_head\..*", "the head of the pre-training, which predicts patches"),
    (r".*relative_position_index", "a constant that transformers computes"),
)
REFUSED: Reasons = (
    (r".*relative_position_bias.*", "its attention adds biases of relative positions (BEiT), which our networks do "
                                    "not compute"),
    (r".*mlp\.weights_(?:in|out)\..*", "its MLP is gated (SwiGLU, DINOv2's giant), which our networks do not compute"),
)
_shared = {"anchor": _NETWORK + r"embeddings\.patch_embeddings\.projection\.weight", "rules": RULES,
           "dropped": DROPPED, "refused": REFUSED, "torch": True}
DINOV2 = Layout("transformers: Dinov2", known_by=lambda names: any_name(names, r".*\.layer_scale1\.lambda1"),
                assumed={"epsilon": 1e-6, "act": "gelu"}, resize_registers="antialias", **_shared)
_QUERY = _BLOCK + r"attention\.(?:attention\.query|q_proj).*"
VIT = Layout("transformers", known_by=lambda names: any_name(names, _QUERY), assumed={"act": "gelu"},
             asked={"epsilon": "1e-12 (ViT, DeiT, MAE, FLAVA) or 1e-6 (MSN, I-JEPA)"}, **_shared)
