"""The transformers of PaddleClas 2.6.0 that we know: their names, their anatomy, and what does not work on them.

Plain data; `zoo.py` builds them. To add a family: its names, what differs from a plain ViT, and a small
instance in tests/contract/zoo_networks.py, which finds out what its methods do.
"""
from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Mapping

from paddle import nn

from ..anatomy import VIT, Anatomy, Part, fused_linears, output_linears
from ..pixels import HALVES, IMAGENET


@dataclass(frozen=True, eq=False)
class Family:
    """Networks that one constructor of PaddleClas builds and one anatomy describes.

    Args:
        title: for people. source: arXiv number of the paper.
        module, layer: module and class in PaddleClas.
        names: what `Arch.name` accepts.
        kinds: where one class serves several families, the `model_name` that tells them apart.
        options: of the constructor, beside those that PaddleClas gives.
        size_option: what the constructor calls the side of the image; empty where it takes any size.
        headless: those of which PaddleClas has no classifier that runs: a Linear takes its place.
        unused: patterns of parameters that the classifier does not use and a file may lack.
        note: what a user should know.
    """

    title: str
    source: str
    module: str
    layer: str
    names: tuple[str, ...]
    anatomy: Anatomy = VIT
    kinds: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    size_option: str = "img_size"
    headless: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self):
        object.__setattr__(self, "anatomy", replace(self.anatomy, unused=self.unused))


_GRID = "its tokens are not one grid from block to block"
_PROMPTS = {"VPT": "prompts have no place among tokens that are windows or stages"}
_STAGES = {**_PROMPTS, "Convpass": _GRID}
_REDUCED = {
    **_STAGES, "RepAdapter": "k and v read a reduced map, not what norm1 returns",
    "SSF": "its attention has convolutions that SSF does not follow"}
_COUNTED = {**_REDUCED, "shared_prefix": "its forward counts the images once, before the blocks"}
_GAMMA = "the block scales what attention and MLP return (LayerScale), and the adapter's output with it"
_BEIT = Anatomy(without={
    "VPT": "its position biases are for the tokens of the image alone", "Houlsby": _GAMMA, "Convpass": _GAMMA})
_KEYS = {"q": Part("attn.q"), "k": Part("attn.kv", 0, 2), "v": Part("attn.kv", 1, 2)}

_FOUNDATION = {"module": "model_zoo.foundation_vit", "layer": "VisionTransformer", "unused": ("proj",)}

FAMILIES = (
    Family("ViT", "2010.11929", "model_zoo.vision_transformer", "VisionTransformer", (
        "ViT_small_patch16_224", "ViT_base_patch16_224", "ViT_base_patch16_384", "ViT_base_patch32_384",
        "ViT_large_patch16_224", "ViT_large_patch16_384", "ViT_large_patch32_384")),
    Family("DeiT", "2012.12877", "model_zoo.distilled_vision_transformer", "VisionTransformer", (
        "DeiT_tiny_patch16_224", "DeiT_small_patch16_224", "DeiT_base_patch16_224", "DeiT_base_patch16_384")),
    Family("DeiT, distilled", "2012.12877", "model_zoo.distilled_vision_transformer", "DistilledVisionTransformer", (
        "DeiT_tiny_distilled_patch16_224", "DeiT_small_distilled_patch16_224", "DeiT_base_distilled_patch16_224",
        "DeiT_base_distilled_patch16_384"), Anatomy(head_twins=("head_dist",)),
        note="a new head is two, for the class and the distillation token; their answers are averaged"),
    Family("MAE", "2111.06377", **_FOUNDATION, kinds=("MAE",), names=(
        "MAE_vit_base_patch16", "MAE_vit_large_patch16", "MAE_vit_huge_patch14"),
        headless=("MAE_vit_huge_patch14",)),
    Family("MoCo v3", "2104.02057", **_FOUNDATION, kinds=("MOCOV3",), names=("MOCOV3_vit_small", "MOCOV3_vit_base")),
    Family("EVA", "2211.07636", **_FOUNDATION, kinds=("EVA",), names=("EVA_vit_giant_patch14",)),
    Family("CLIP, LaCLIP, React", "2103.00020", **_FOUNDATION, kinds=("CLIP",), names=(
        "CLIP_vit_base_patch32_224", "CLIP_vit_base_patch16_224", "CLIP_vit_large_patch14_336",
        "CLIP_vit_large_patch14_224", "LaCLIP_vit_base_patch32_224", "LaCLIP_vit_base_patch16_224",
        "React_vit_base_patch32_224", "React_vit_base_patch16_224"),
        note="as in PaddleClas, the head of the base_patch16 ones reads the first patch, not the class token"),
    Family("Unicom", "2304.05884", **_FOUNDATION, kinds=("Unicom",), names=(
        "Unicom_vit_base_patch32_224", "Unicom_vit_base_patch16_224"), options={"return_embed": True},
        anatomy=Anatomy(features="feature.3"), headless=("Unicom_vit_base_patch32_224", "Unicom_vit_base_patch16_224"),
        note="the head reads the projected features; there is no class token"),
    Family("BEiT v2", "2208.06366", **_FOUNDATION, kinds=("BEiTv2",), anatomy=_BEIT, names=(
        "BEiTv2_vit_base_patch16_224", "BEiTv2_vit_large_patch16_224")),
    Family("CAE", "2202.03026", **_FOUNDATION, kinds=("CAE",), anatomy=_BEIT, names=("CAE_vit_base_patch16_224",)),
    Family("Swin", "2103.14030", "legendary_models.swin_transformer", "SwinTransformer", (
        "SwinTransformer_tiny_patch4_window7_224", "SwinTransformer_small_patch4_window7_224",
        "SwinTransformer_base_patch4_window7_224", "SwinTransformer_base_patch4_window12_384",
        "SwinTransformer_large_patch4_window7_224", "SwinTransformer_large_patch4_window12_384"),
        Anatomy(blocks="layers.*.blocks", without=_STAGES)),
    # The norms come after attention and MLP (res-post-norm): the MLP's first matrix reads the residual stream itself.
    Family("Swin v2", "2111.09883", "model_zoo.swin_transformer_v2", "SwinTransformerV2", (
        "SwinTransformerV2_tiny_patch4_window8_256", "SwinTransformerV2_small_patch4_window8_256",
        "SwinTransformerV2_base_patch4_window8_256", "SwinTransformerV2_tiny_patch4_window16_256",
        "SwinTransformerV2_small_patch4_window16_256", "SwinTransformerV2_base_patch4_window16_256",
        "SwinTransformerV2_base_patch4_window24_384", "SwinTransformerV2_large_patch4_window16_256",
        "SwinTransformerV2_large_patch4_window24_384"),
        Anatomy(blocks="layers.*.blocks", branch_in="mlp.fc1", attn="norm1", mlp="norm2",
                linears=output_linears(), without={
            **_STAGES, "RepAdapter": "q, k and v are not computed by a layer, and no norm stands before them",
            "SSF": "q, k and v are not computed by a layer that SSF could follow",
            "frozen_dtype": "its attention multiplies with a layer's weight itself"}),
        note="PaddleClas 2.6.0's forward stops with a NameError; ours takes its place"),
    Family("CSWin", "2107.00652", "model_zoo.cswin_transformer", "CSwinTransformer", (
        "CSWinTransformer_tiny_224", "CSWinTransformer_small_224", "CSWinTransformer_base_224",
        "CSWinTransformer_large_224", "CSWinTransformer_base_384", "CSWinTransformer_large_384"),
        Anatomy(blocks="stages.*.blocks", attn="proj", linears=fused_linears("qkv", "proj"),
                stem="patch_embedding.patch_embed", without=_STAGES), size_option="image_size"),
    Family("Twins-PCPVT", "2104.13840", "model_zoo.twins", "CPVTV2", ("pcpvt_small", "pcpvt_base", "pcpvt_large"),
        Anatomy(blocks="blocks.*", linears={**_KEYS, **output_linears()}, without=_COUNTED)),
    Family("Twins-SVT", "2104.13840", "model_zoo.twins", "ALTGVT", ("alt_gvt_small", "alt_gvt_base", "alt_gvt_large"),
        Anatomy(blocks="blocks.*", without=_COUNTED, linears={
            **{name: (Part("attn.qkv", i, 3), _KEYS[name]) for i, name in enumerate("qkv")}, **output_linears()})),
    Family("PVT v2", "2106.13797", "model_zoo.pvt_v2", "PyramidVisionTransformerV2", (
        "PVT_V2_B0", "PVT_V2_B1", "PVT_V2_B2", "PVT_V2_B2_Linear", "PVT_V2_B3", "PVT_V2_B4", "PVT_V2_B5"),
        Anatomy(blocks="block*", linears={**_KEYS, **output_linears()}, norms=("norm4",), without=_COUNTED)),
    Family("CvT", "2103.15808", "model_zoo.cvt", "ConvolutionalVisionTransformer", (
        "CvT_13_224", "CvT_13_384", "CvT_21_224", "CvT_21_384", "CvT_W24_384"),
        Anatomy(blocks="stage*.blocks", without={
            **_REDUCED, "RepAdapter": "q, k and v read convolutions, not what norm1 returns"}, linears={
            **{name: Part(f"attn.proj_{name}") for name in "qkv"}, **output_linears()}), size_option=""),
    # Methods work on the outer transformer, that of the patches.
    Family("TNT", "2103.00112", "model_zoo.tnt", "TNT", ("TNT_small", "TNT_base"),
        Anatomy(norm1="norm_out", attn="attn_out", branch_in="norm_mlp", patches="pixel_embed",
                stem="pixel_embed.proj", linears={
                    "q": Part("attn_out.qk", 0, 2), "k": Part("attn_out.qk", 1, 2), "v": Part("attn_out.v"),
                    **output_linears("attn_out.proj")}, without={
            "VPT": "each of its patches has pixels of its own, and prompts have none",
            "SSF": "a block has a transformer of pixels too, which SSF does not follow",
            **dict.fromkeys(("AdapterPlus", "Pfeiffer"), "a block returns pixels and patches, not one stream"),
            "recompute": "a block changes its input in place",
            "shared_prefix": "a block is given pixels and patches, not one stream"})),
)

# What PaddleClas's weights were trained on, by the family's title, where its configs (ppcls/configs/ImageNet) say it.
PIXELS = {
    **dict.fromkeys(("ViT", "TNT"), HALVES),
    **dict.fromkeys(("DeiT", "DeiT, distilled", "Swin", "Swin v2", "CSWin", "Twins-PCPVT", "Twins-SVT", "PVT v2",
                     "CvT"), IMAGENET)}

# Transformers of PaddleClas that are left out: the beginning of the name -> why.
LEFT_OUT = {
    "LeViT": "its blocks have batch norms and no MLP of the usual kind",
    "MobileViT": "it is a convolutional network with transformers inside",
    "NextViT": "it is a convolutional network with transformers inside",
    "UniFormer": "it is a convolutional network with transformers inside",
    "MobileNetV4": "it is a convolutional network with attention inside",
    "SVTR": "it reads lines of text",
    "cae_": "use CAE_vit_base_patch16_224",
    "CLIP_large_patch14_224_aesthetic": "it scores images and has no classes",
    **{f"SwinTransformer_{size}_patch4_window7_224_SOLIDER": "it does not run without CUDA"
       for size in ("tiny", "small", "base")},
}

# What a network computes when it is built and its files hold as well.
COMPUTED = ("*relative_position_index", "*relative_coords_table", "*attn_mask")


def why_left_out(name: str) -> str | None:
    """Why a transformer of PaddleClas is not among the names, or None where it is not known at all."""
    return next((why for start, why in LEFT_OUT.items() if name.startswith(start)), None)


def is_of(family: Family, kind: type, network: nn.Layer) -> bool:
    """Whether `kind`, a class of the network, is the one that builds the family; by whomever it was built."""
    return (kind.__module__.partition("@")[0].endswith(f"ppcls.arch.backbone.{family.module}")
            and kind.__name__ == family.layer and (not family.kinds or kind_of(network) in family.kinds))


def kind_of(network: nn.Layer) -> str:
    """What tells apart the networks of PaddleClas's foundation_vit.py."""
    return "Unicom" if getattr(network, "feature_frame", False) else getattr(network, "model_name", "")
