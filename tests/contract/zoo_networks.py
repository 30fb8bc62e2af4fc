"""A network of every family of PaddleClas, as small as its constructor allows."""
import dataclasses

import numpy as np
import paddle

import ppadapt

CLASSES = 5
_VIT = {"patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 2, "drop_path_rate": 0.2}
_FOUNDATION = {**_VIT, "output_dim": 12}
_STAGES = {"embed_dims": [8, 16], "num_heads": [2, 2], "mlp_ratios": [2, 2], "depths": [1, 2], "sr_ratios": [2, 1],
           "drop_path_rate": 0.2}
_WINDOWS = {"embed_dim": 8, "depths": [2, 2], "num_heads": [2, 2], "window_size": 2, "mlp_ratio": 2}


@dataclasses.dataclass(frozen=True)
class Tiny:
    """`no_bias`: cases that do not merge, for a Linear or convolution has no bias to take their shift. `idle`: the
    beginning of names of parameters that do not reach the logits.
    """

    name: str
    options: dict
    image: int = 8
    no_bias: tuple = ()
    idle: tuple = ()


_CVT = {"NUM_STAGES": 2, "PATCH_SIZE": [7, 3], "PATCH_STRIDE": [4, 2], "PATCH_PADDING": [2, 1], "DIM_EMBED": [8, 16],
        "NUM_HEADS": [2, 2], "DEPTH": [1, 2], "MLP_RATIO": [2.0, 2.0], "ATTN_DROP_RATE": [0.0, 0.0],
        "DROP_RATE": [0.0, 0.0], "DROP_PATH_RATE": [0.0, 0.1], "QKV_BIAS": [True, True], "CLS_TOKEN": [False, True],
        "QKV_PROJ_METHOD": ["dw_bn"] * 2, "KERNEL_QKV": [3, 3], "PADDING_KV": [1, 1], "STRIDE_KV": [2, 2],
        "PADDING_Q": [1, 1], "STRIDE_Q": [1, 1]}

# By the titles of ppadapt.models.families.
TINY = {
    "ViT": Tiny("ViT_base_patch16_224", _VIT),
    "DeiT": Tiny("DeiT_tiny_patch16_224", _VIT),
    "DeiT, distilled": Tiny("DeiT_tiny_distilled_patch16_224", _VIT),
    "MAE": Tiny("MAE_vit_huge_patch14", _FOUNDATION, no_bias=("ssf",)),
    "MoCo v3": Tiny("MOCOV3_vit_small", _FOUNDATION, no_bias=("ssf",)),
    "EVA": Tiny("EVA_vit_giant_patch14", _FOUNDATION, no_bias=("ssf",)),
    "CLIP, LaCLIP, React": Tiny("CLIP_vit_base_patch16_224", _FOUNDATION, no_bias=("ssf",)),
    "Unicom": Tiny("Unicom_vit_base_patch16_224", _FOUNDATION, no_bias=("ssf", "repadapter")),
    "BEiT v2": Tiny("BEiTv2_vit_base_patch16_224", _FOUNDATION, no_bias=("ssf",)),
    "CAE": Tiny("CAE_vit_base_patch16_224", _FOUNDATION, no_bias=("ssf",)),
    "Swin": Tiny("SwinTransformer_tiny_patch4_window7_224", _WINDOWS, image=20),  # 5 x 5 patches: padded windows
    "Swin v2": Tiny("SwinTransformerV2_tiny_patch4_window8_256", _WINDOWS, image=16),
    "CSWin": Tiny("CSWinTransformer_tiny_224", {
        "embed_dim": 8, "depths": [2, 1], "num_heads": [2, 2], "splits": [1, 2], "mlp_ratio": 2}, image=16),
    "Twins-PCPVT": Tiny("pcpvt_small", _STAGES, image=16),
    "Twins-SVT": Tiny("alt_gvt_small", {**_STAGES, "depths": [2, 2], "wss": [2, 2]}, image=16),
    "PVT v2": Tiny("PVT_V2_B0", {
        **_STAGES, "embed_dims": [8, 8, 8, 16], "num_heads": [2] * 4, "mlp_ratios": [2] * 4, "depths": [1, 1, 1, 1],
        "sr_ratios": [2, 1, 1, 1]}, image=64),
    # The class token, all that is read of the last block, goes around its convolutions.
    "CvT": Tiny("CvT_13_224", {"spec": _CVT}, image=16, idle=("stage1.blocks.1.attn.conv_proj_q",)),
    "TNT": Tiny("TNT_small", {
        "patch_size": 4, "embed_dim": 16, "in_dim": 4, "depth": 2, "num_heads": 2, "in_num_head": 2, "mlp_ratio": 2,
        "first_stride": 2, "drop_path_rate": 0.2}, no_bias=("repadapter",)),
}


def tiny(title, class_num=CLASSES):
    """The small network of a family, random."""
    small = TINY[title]
    size = {} if title == "CvT" else {"img_size": small.image}
    paddle.seed(0)
    return ppadapt.network(small.name, class_num=class_num, **size, **small.options)


def away_from_start(network):
    """The network, in eval mode, with nothing at zero or one, the same in every process: LayerNorms, biases, LayerScale
    and all, so that none hides a fault."""
    network.eval()
    draw = np.random.RandomState(0)
    for parameter in network.parameters():
        noise = draw.normal(0, 0.1, parameter.shape).astype("float32")
        parameter.set_value(parameter.numpy() + noise)
    return network
