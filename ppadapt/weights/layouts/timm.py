"""timm's names, which are ours, and those who share them: MAE, DeiT, DINO, DINOv2, MoCo v3, AdaptFormer, PaddleClas."""

from __future__ import annotations

from collections.abc import Collection
from typing import Callable

from .jax import PRE_LOGITS
from .rules import IMAGENET, Layout, Reasons, Rule, any_name, linear, same

_LINEARS = r"attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2"
BASE = (
    Rule(r"(cls_token|pos_embed|reg_token)", r"\1"),
    Rule(r"(patch_embed\.proj\.(?:weight|bias))", r"\1"),
    Rule(r"(blocks\.\d+\.norm[12]\.(?:weight|bias))", r"\1"),
    Rule(rf"(blocks\.\d+\.(?:{_LINEARS})\.weight)", r"\1", linear),
    Rule(rf"(blocks\.\d+\.(?:{_LINEARS})\.bias)", r"\1"),
    Rule(r"((?:fc_)?norm\.(?:weight|bias)|norm_pre\.(?:weight|bias))", r"\1"),
    Rule(r"(head\.weight)", r"\1", linear),
    Rule(r"(head\.bias)", r"\1"),
    Rule(r"(attn_pool\.latent|attn_pool\.norm\.(?:weight|bias))", r"\1"),
    Rule(r"(attn_pool\.(?:q|kv|proj|mlp\.fc[12])\.weight)", r"\1", linear),
    Rule(r"(attn_pool\.(?:q|kv|proj|mlp\.fc[12])\.bias)", r"\1"),
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
    *(Rule(rf"(blocks\.\d+\.attn)\.{n}_proj\.weight", r"\1.qkv.weight", linear, i) for i, n in enumerate("qkv")),
    *(Rule(rf"(blocks\.\d+\.attn)\.{n}_proj\.bias", r"\1.qkv.bias", same, i) for i, n in enumerate("qkv")),
    # The video network's attention and BEiT's have these two and no k bias.
    Rule(r"(blocks\.\d+\.attn)\.q_bias", r"\1.qkv.bias", same, 0),
    Rule(r"(blocks\.\d+\.attn)\.v_bias", r"\1.qkv.bias", same, 2),
    Rule(r"(blocks\.\d+\.adaptmlp)\.adapter_layer_norm_before\.(weight|bias)", r"\1.norm.\2"),
    Rule(r"embeddings\.(\d+)", r"prompts.\1"),
)
# Folded into ours (folds.py).
RELATIVES = (
    Rule(r"(blocks\.\d+\.ls[12])\.gamma", r"\1.gamma"),
    Rule(r"(blocks\.\d+)\.gamma_([12])", r"\1.ls\2.gamma"),
    Rule(r"register_tokens", "reg_token"),
    Rule(r"(dist_token)", r"\1"),
    Rule(r"(head_dist\.weight)", r"\1", linear),
    Rule(r"(head_dist\.bias)", r"\1"),
)
RULES = BASE + TUNED + AUTHORS + RELATIVES

_DECODER = "MAE's decoder, used in pre-training only"
_MASK = "the token that stands for masked patches, used in pre-training only"
DROPPED: Reasons = (
    (r".*\.num_batches_tracked", "PyTorch's step counter of BatchNorm; it changes no output at momentum 0.1"),
    (r"pre_logits\..*", PRE_LOGITS),
    (r"(?:.*\.)?(?:relative_position_index|k_bias)", "a constant that timm computes"),
)
# What our networks do not compute. The first part of a name that matches says it.
REFUSED: Reasons = (
    (r"(?:blocks\.\d+\.attn\.)?(?:.*relative_position.*|(?:shared_)?rel_pos.*)|blocks\.\d+\.attn\.rel_pos.*",
     "its attention adds biases of relative positions (BEiT, CAE), which our networks do not compute"),
    (r"blocks\.\d+\.mlp\.(?:w12|w3|w1|w2|fc1_[gx]|norm)\..*",
     "its MLP is gated or normed (SwiGLU, EVA-02, DINOv2's giant), which our networks do not compute"),
    (r"(?:blocks\.\d+\.attn\.norm|(?:blocks\.\d+\.attn|attn_pool)\.[qk]_norm)\..*",
     "it norms inside the attention (qk-norm, scale-norm), which our networks do not compute"),
    (r"blocks\.\d+\.attn\.(?:lambda_.*|sub_norm\..*)",
     "its attention is the difference of two, which our networks do not compute"),
    (r"blocks\.\d+\.(?:attns|ffns|ls[12]\d?|norm[12])\.\d+\..*|blocks\.\d+\.(?:in_proj|mlp_.*|in_norm|attn_out.*)\..*"
     r"|blocks\.\d+\.(?:mlp_bias|qkv_bias)",
     "its blocks compute attention and MLP side by side (parallel blocks), which our networks do not"),
    (r"patch_embed\.(?:backbone|conv|norm|proj\.\d+).*|stem\..*",
     "its patches come from several layers (a convolutional or hybrid stem), which our networks do not have"),
    (r"(?:.*\.)?rope.*|(?:.*\.)?freqs.*", "it has rotary position embeddings, which our networks do not compute"),
    (r"pos_embed_[xywh].*", "its position embedding is not one square grid, which our networks do not have"),
    (r"attn_pool\.pos_embed", "its attention pooling has layers that ours has not"),
)
_ADAPTFORMER = (r"blocks\.\d+\.(?:attn\.[qkv]_proj|adaptmlp|fc[12])\..*|embeddings\.\d+"
                r"|head\.0\.running_.*|head\.1\.bias")
_FACTS = {"epsilon": 1e-6, "act": "gelu"}
PROJECTOR = ((r"head\..*", "the projector, used in pre-training only"),)

_shared = {"anchor": r"patch_embed\.proj\.weight", "rules": RULES, "refused": REFUSED, "assumed": _FACTS}


def _has(*patterns: str, without: tuple[str, ...] = ()) -> Callable[[Collection[str]], bool]:
    return lambda names: all(any_name(names, p) for p in patterns) and not any(any_name(names, p) for p in without)


# No tensor tells these from networks that are not computed here.
_DOUBTS = (
    (_has(r"blocks\.\d+\.gamma_1"),
     "these are the names of DeiT III's own code and of timm's vit_*_rope_ape_*, whose rotary positions are not "
     "computed here"),
    (_has(r"norm_pre\.weight", r"attn_pool\.latent"),
     "these are the names of Perception Encoder (timm's vit_pe_core_*), whose rotary positions are not computed here"),
    (_has(r"attn_pool\.latent", "reg_token", r"blocks\.\d+\.ls1\.gamma"),
     "these are the names of timm's test_vit3, whose pooling reads registers too, which is not computed here"),
    (_has(r"fc_norm\.weight", without=("cls_token", "reg_token", r"blocks\.\d+\.(?:attn\.qkv\.bias|ls1\.gamma)")),
     "these are the names of timm's vit_base_patch16_rpn_224, whose blocks norm what attention and MLP return"))
# Widths of networks whose blocks norm what attention and MLP return: their names are those of a plain one.
POST_NORM = {1792: "EVA-02 enormous has this width, and its blocks norm what attention and MLP return"}
TIMM = Layout("timm", dropped=DROPPED, preprocess=IMAGENET, doubts=_DOUBTS, **_shared)
MAE = Layout("mae", known_by=lambda names: any_name(names, r"decoder_.*"), preprocess=IMAGENET,
             dropped=((r"mask_token|decoder_.*", _DECODER), *DROPPED), **_shared)
ADAPTFORMER = Layout("adaptformer", known_by=lambda names: any_name(names, _ADAPTFORMER) and not any_name(
    names, r"head\.0\.weight"), dropped=((r"mask_token|decoder_.*", _DECODER), *DROPPED), pool_by_norm=True, **_shared)
# facebookresearch/dinov2: its training files cut the blocks into chunks, `blocks.0.5.` is block 5.
DINOV2 = Layout(
    "dinov2", known_by=lambda names: "mask_token" in names and any_name(names, r"blocks\.[\d.]+\.ls1\.gamma"),
    rename=((r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),), dropped=((r"mask_token", _MASK), *DROPPED),
    **{**_shared, "assumed": {}}, told=_FACTS, resize="offset", resize_registers="antialias",
    preprocess=IMAGENET)
# facebookresearch/moco-v3: the head of a training file is a projector of several layers.
MOCO_V3 = Layout(
    "moco_v3", heads={384: 12, 768: 12}, known_by=lambda names: any_name(names, r"head\.[03]\.weight"),
    dropped=(*PROJECTOR, *DROPPED),
    **{**_shared, "assumed": {}}, told=_FACTS, preprocess=IMAGENET)
PADDLE = Layout("paddle", dropped=((r"mask_token|decoder_.*", _DECODER), *DROPPED), torch=False,
                **{**_shared, "assumed": {}})
OURS = Layout("ppadapt", torch=False, **{**_shared, "assumed": {}})
