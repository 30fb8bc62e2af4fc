"""Published models by name: what their makers' code computes and no tensor of their files shows.

`Arch.pretrained_of: openai_clip_vit_b32` (`--of` of tools/convert_weights.py) says which of them a file is; its facts
are then told, and what the shapes or a config.json say otherwise is refused. `tools/peers/check_published.py` compares
every line with the network of that name in timm or transformers; docs/weights.md prints them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..errors import choose
from .errors import WeightsError
from .layouts.rules import CLIP_PIXELS, HALF, IMAGENET

# Width, depth, heads of the sizes that nearly everyone has.
_SIZES = {"tiny": (192, 12, 3), "small": (384, 12, 6), "medium": (512, 12, 8), "base": (768, 12, 12),
          "large": (1024, 24, 16), "huge": (1280, 32, 16)}
_OF_SHAPES = ("embed_dim", "depth", "patch_size", "mlp_ratio", "registers", "pre_norm", "class_token")


@dataclass(frozen=True)
class Published:
    """One model that somebody published.

    `facts`: every option of our network that its features need, but for the classes. `file`: what its makers call the
    file. `source`: where they publish it. `licence`: of the weights, as `licence_of` says. `preprocess`: mean and std.
    `resize`: how its code brings positions to another image size, one of `pos_embed.RESIZES`. `peer`: 'timm:NAME' or
    'transformers:KIND', the same network there. `key`: where it is in its file.
    """

    facts: dict[str, Any]
    file: str
    source: str
    licence: str
    licence_of: str
    preprocess: dict[str, Any] = field(default_factory=dict)
    resize: str = "plain"
    peer: str = ""
    key: str = ""


def published(name: str) -> Published:
    """Raises WeightsError for a name that is none, with the nearest."""
    if name not in PUBLISHED:
        raise WeightsError(choose("the published model", name, PUBLISHED))
    return PUBLISHED[name]


def resembling(values: dict[str, Any]) -> list[str]:
    """Names of those that have these shapes (`Facts.values`)."""
    defaults = {"registers": 0, "pre_norm": False, "class_token": True}
    return [name for name, one in PUBLISHED.items()
            if all(one.facts.get(option, defaults.get(option)) == values.get(option, defaults.get(option))
                   for option in _OF_SHAPES)]


def _facts(size: str, patch: int, image: int = 224, **more: Any) -> dict[str, Any]:
    width, depth, heads = _SIZES[size]
    return {"embed_dim": width, "depth": depth, "num_heads": heads, "patch_size": patch, "img_size": image,
            "mlp_ratio": 4.0, "epsilon": 1e-6, "act": "gelu", "pool": "cls", **more}


_TIMM = "timm 1.0.31's record"
_META = "https://dl.fbaipublicfiles.com/"


def _augreg() -> dict[str, Published]:
    of = {"tiny": (16,), "small": (16, 32), "base": (8, 16, 32), "large": (16,)}
    letter = {"tiny": "Ti", "small": "S", "base": "B", "large": "L"}
    return {f"augreg_vit_{size}_patch{patch}": Published(
        _facts(size, patch), f"{letter[size]}_{patch}-i21k-....npz", "https://storage.googleapis.com/vit_models/augreg/",
        "Apache-2.0", _TIMM, HALF, peer=f"timm:vit_{size}_patch{patch}_224.augreg_in21k")
        for size, patches in of.items() for patch in patches}


def _mae() -> dict[str, Published]:
    return {f"mae_vit_{size}": Published(
        _facts(size, patch), f"mae_pretrain_vit_{size}.pth", _META + "mae/pretrain/", "CC-BY-NC-4.0", _TIMM,
        IMAGENET, peer=f"timm:vit_{size}_patch{patch}_224.mae")
        for size, patch in (("base", 16), ("large", 16), ("huge", 14))}


def _deit() -> dict[str, Published]:
    found = {}
    for size in ("tiny", "small", "base"):
        found[f"deit_{size}"] = Published(
            _facts(size, 16), f"deit_{size}_patch16_224-....pth", _META + "deit/", "Apache-2.0", _TIMM, IMAGENET,
            peer=f"timm:deit_{size}_patch16_224.fb_in1k")
        found[f"deit_{size}_distilled"] = Published(
            _facts(size, 16, registers=1, pool="cls_reg"), f"deit_{size}_distilled_patch16_224-....pth",
            _META + "deit/", "Apache-2.0", _TIMM, IMAGENET, peer=f"timm:deit_{size}_distilled_patch16_224.fb_in1k")
    for size, patch in (("small", 16), ("medium", 16), ("base", 16), ("large", 16), ("huge", 14)):
        found[f"deit3_{size}"] = Published(
            _facts(size, patch), f"deit_3_{size}_224_21k.pth", _META + "deit/", "Apache-2.0", _TIMM, IMAGENET,
            peer=f"timm:deit3_{size}_patch{patch}_224.fb_in22k_ft_in1k")
    return found


def _dino() -> dict[str, Published]:
    found = {}
    for size in ("small", "base"):
        for patch in (16, 8):
            stem = f"dino_{'deitsmall' if size == 'small' else 'vitbase'}{patch}_pretrain"
            found[f"dino_vit{size[0]}{patch}"] = Published(
                _facts(size, patch), f"{stem}.pth", f"{_META}dino/{stem}/", "Apache-2.0", _TIMM, IMAGENET, "offset",
                peer=f"timm:vit_{size}_patch{patch}_224.dino")
    for size in ("small", "base", "large"):
        short = f"dinov2_vit{size[0]}14"
        for registers in (0, 4):
            reg = "_reg4" if registers else ""
            found[short + reg] = Published(
                _facts(size, 14, 518, **({"registers": registers} if registers else {})), f"{short}{reg}_pretrain.pth",
                f"{_META}dinov2/{short}/", "Apache-2.0", _TIMM, IMAGENET, "antialias" if registers else "offset",
                peer=f"timm:vit_{size}_patch14_{'reg4_' if registers else ''}dinov2.lvd142m")
    return found


def _moco_and_msn() -> dict[str, Published]:
    moco = {f"moco_v3_vit_{size}": Published(
        _facts(size, 16, num_heads=12), f"vit-{size[0]}-300ep.pth.tar",
        "https://github.com/facebookresearch/moco-v3", "CC-BY-NC-4.0", "its README", IMAGENET,
        key="module.base_encoder") for size in ("small", "base")}
    msn = {f"msn_vit_{size}": Published(
        _facts(size, 16), f"facebook/vit-msn-{size}", "https://huggingface.co/facebook", "see its page", "", IMAGENET,
        peer="transformers:ViTMSN") for size in ("small", "base", "large")}
    return {**moco, **msn}


def _clip() -> dict[str, Published]:
    openai = (("vit_b32", "base", 32, 224), ("vit_b16", "base", 16, 224), ("vit_l14", "large", 14, 224),
              ("vit_l14_336", "large", 14, 336))
    common = {"epsilon": 1e-5, "pre_norm": True}
    found = {f"openai_clip_{short}": Published(
        _facts(size, patch, image, act="quick_gelu", **common), f"ViT-{size[0].upper()}-{patch}"
        f"{'-336px' if image == 336 else ''}.pt", "https://github.com/openai/CLIP", "MIT", "its LICENSE", CLIP_PIXELS,
        peer=f"timm:vit_{size}_patch{patch}_clip_quickgelu_{image}.openai")
        for short, size, patch, image in openai}
    laion = (("vit_b32", "base", 32), ("vit_b16", "base", 16), ("vit_l14", "large", 14), ("vit_h14", "huge", 14))
    found.update({f"laion2b_clip_{short}": Published(
        _facts(size, patch, **common), "open_clip_model.safetensors", "https://huggingface.co/laion",
        "MIT", "its page", HALF if short == "vit_l14" else CLIP_PIXELS,
        peer=f"timm:vit_{size}_patch{patch}_clip_224.laion2b") for short, size, patch in laion})
    found.update({f"datacomp_clip_{short}": Published(
        _facts(size, patch, image, **common), "open_clip_model.safetensors", "https://huggingface.co/laion",
        "see its page", "", CLIP_PIXELS, peer=f"timm:vit_{size}_patch{patch}_clip_{image}.datacompxl")
        for short, size, patch, image in (("vit_b32", "base", 32, 224), ("vit_b16", "base", 16, 224),
                                          ("vit_l14", "large", 14, 224))})
    return found


def _siglip() -> dict[str, Published]:
    sizes = [("base", 16, image) for image in (224, 256, 384, 512)] + [("large", 16, 256), ("large", 16, 384)]
    found = {}
    for size, patch, image in sizes:
        found[f"siglip_{size}_patch{patch}_{image}"] = Published(
            _facts(size, patch, image, act="gelu_tanh", pool="map", class_token=False),
            f"google/siglip-{size}-patch{patch}-{image}", "https://huggingface.co/google", "Apache-2.0", "its page",
            HALF, peer=f"timm:vit_{size}_patch{patch}_siglip_{image}.webli")
    for image in (224, 384):
        found[f"siglip_so400m_patch14_{image}"] = Published(
            {**_facts("base", 14, image, act="gelu_tanh", pool="map", class_token=False), "embed_dim": 1152,
             "depth": 27, "num_heads": 16, "mlp_ratio": 4304 / 1152}, f"google/siglip-so400m-patch14-{image}",
            "https://huggingface.co/google", "Apache-2.0", "its page", HALF,
            peer=f"timm:vit_so400m_patch14_siglip_{image}.webli")
    return found


PUBLISHED: dict[str, Published] = {**_augreg(), **_mae(), **_deit(), **_dino(), **_moco_and_msn(), **_clip(),
                                   **_siglip()}
