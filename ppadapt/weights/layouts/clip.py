"""CLIP's image tower: OpenAI's code and open_clip (`visual.transformer.resblocks`), and transformers.

Its layers before the projection are a ViT with a LayerNorm before the blocks, epsilon 1e-5 and no bias in the patch
convolution. OpenAI's weights compute with the quick GELU, those of LAION and DataComp with the erf form: no tensor says
which.
"""

from __future__ import annotations

from .rules import CLIP_PIXELS, Layout, Reasons, Rule, any_name, linear, same, table, token

_PROJECTION = "the projection into the space that images share with texts; the features before it are taken"
ACT = "quick_gelu (OpenAI, MetaCLIP, DFN) or gelu (LAION, DataComp and most others of open_clip)"

_BLOCK = r"transformer\.resblocks\.(\d+)\."
_OPENAI_RULES = (
    Rule(r"class_embedding", "cls_token", token),
    Rule(r"positional_embedding", "pos_embed", table),
    Rule(r"conv1\.(weight|bias)", r"patch_embed.proj.\1"),
    Rule(r"ln_pre\.(weight|bias)", r"norm_pre.\1"),
    Rule(r"ln_post\.(weight|bias)", r"norm.\1"),
    Rule(_BLOCK + r"ln_([12])\.(weight|bias)", r"blocks.\1.norm\2.\3"),
    Rule(_BLOCK + r"attn\.in_proj_weight", r"blocks.\1.attn.qkv.weight", linear),
    Rule(_BLOCK + r"attn\.in_proj_bias", r"blocks.\1.attn.qkv.bias"),
    Rule(_BLOCK + r"attn\.out_proj\.weight", r"blocks.\1.attn.proj.weight", linear),
    Rule(_BLOCK + r"attn\.out_proj\.bias", r"blocks.\1.attn.proj.bias"),
    *(Rule(_BLOCK + rf"mlp\.{theirs}\.weight", rf"blocks.\1.mlp.{ours}.weight", linear)
      for theirs, ours in (("c_fc", "fc1"), ("c_proj", "fc2"))),
    *(Rule(_BLOCK + rf"mlp\.{theirs}\.bias", rf"blocks.\1.mlp.{ours}.bias")
      for theirs, ours in (("c_fc", "fc1"), ("c_proj", "fc2"))),
    Rule(_BLOCK + r"ls_([12])\.gamma", r"blocks.\1.ls\2.gamma"),
)
_OPENAI_REFUSED: Reasons = (
    (r"attn_pool\..*|attn_pool_contrastive\..*|ln_pool.*", "its features come from an attention pooling of CoCa's "
                                                           "kind, which our networks do not have"),
    (_BLOCK + r"(?:ln_attn|attn\.ln_.*|mlp\.ln).*", "it norms inside attention or MLP, which our networks do not "
                                                    "compute"),
)
OPENAI = Layout(
    "clip", r"class_embedding", _OPENAI_RULES, lambda names: any_name(names, r"transformer\.resblocks\.\d+\..*"),
    dropped=((r"proj", _PROJECTION),), refused=_OPENAI_REFUSED, torch=True, told={"epsilon": 1e-5},
    # Numbers that OpenAI's own code keeps among its tensors.
    signs=((r"input_resolution", {"act": "quick_gelu"}),), asked={"act": ACT}, preprocess=CLIP_PIXELS)

# transformers: CLIP and SigLIP share their names.
NETWORK = r"(?:\w+\.)?"  # vision_model., or nothing
_B = NETWORK + r"encoder\.layers\.(\d+)\."
VISION_RULES = (
    Rule(NETWORK + r"embeddings\.class_embedding", "cls_token", token),
    Rule(NETWORK + r"embeddings\.position_embedding\.weight", "pos_embed", table),
    Rule(NETWORK + r"embeddings\.patch_embedding\.(weight|bias)", r"patch_embed.proj.\1"),
    Rule(NETWORK + r"pre_laye?rnorm\.(weight|bias)", r"norm_pre.\1"),  # CLIP's misspelling is theirs; OWL-ViT has none
    Rule(NETWORK + r"post_layernorm\.(weight|bias)", r"norm.\1"),
    Rule(_B + r"layer_norm([12])\.(weight|bias)", r"blocks.\1.norm\2.\3"),
    *(Rule(_B + rf"self_attn\.{n}_proj\.weight", r"blocks.\1.attn.qkv.weight", linear, i) for i, n in enumerate("qkv")),
    *(Rule(_B + rf"self_attn\.{n}_proj\.bias", r"blocks.\1.attn.qkv.bias", same, i) for i, n in enumerate("qkv")),
    Rule(_B + r"self_attn\.out_proj\.weight", r"blocks.\1.attn.proj.weight", linear),
    Rule(_B + r"self_attn\.out_proj\.bias", r"blocks.\1.attn.proj.bias"),
    Rule(_B + r"mlp\.(fc[12])\.weight", r"blocks.\1.mlp.\2.weight", linear),
    Rule(_B + r"mlp\.(fc[12])\.bias", r"blocks.\1.mlp.\2.bias"),
    Rule(r"classifier\.weight", "head.weight", linear),
    Rule(r"classifier\.bias", "head.bias"),
)
TEXT: Reasons = (
    (r"text_model\..*|text_projection\..*|logit_(?:scale|bias)|.*position_ids", "the text tower and its scale"),
    (r"visual_projection\.weight", _PROJECTION),
)
CLIP = Layout(
    "transformers: CLIP", NETWORK + r"embeddings\.patch_embedding\.weight", VISION_RULES,
    lambda names: any_name(names, NETWORK + r"embeddings\.class_embedding"), dropped=TEXT, torch=True,
    told={"epsilon": 1e-5}, asked={"act": ACT}, preprocess=CLIP_PIXELS)
