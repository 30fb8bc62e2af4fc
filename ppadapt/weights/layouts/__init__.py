"""Whose file it is: one small file per library with its names, and one line here."""

from __future__ import annotations

from collections.abc import Collection
from typing import Optional

from ..raw import RawCheckpoint
from . import beit, clip, jax, siglip, swin, timm, transformers
from .rules import Layout

# The first whose anchor is there and whose `known_by` agrees.
LAYOUTS: tuple[Layout, ...] = (
    jax.SIGLIP_NPZ, jax.JAX,
    clip.OPENAI, clip.CLIP, siglip.SIGLIP,
    beit.TRANSFORMERS, beit.ORIGINAL,
    transformers.DINOV2, transformers.VIT, swin.TRANSFORMERS, swin.TIMM, swin.MICROSOFT,
    timm.MOCO_V3, timm.DINOV2, timm.ADAPTFORMER, timm.MAE, timm.TIMM,
)
READS = ("timm and its relatives (DeiT, MAE, DINO, DINOv2, MoCo v3, AdaptFormer, PaddleClas), Google's .npz, "
         "transformers (ViT, DeiT, MAE, MSN, DINOv2, CLIP, SigLIP), OpenAI's CLIP and open_clip; Swin and BEiT "
         "for PaddleClas's networks")


def layout_of(names: Collection[str], raw: RawCheckpoint) -> Optional[Layout]:
    """The layout of names without prefix, or None.

    MAE's published encoders carry timm's very names, so they are 'timm' unless the decoder is there too.
    """
    if raw.extras.get("format") == "ppadapt.network" or "ppadapt" in raw.extras:
        return timm.OURS
    if raw.format == "paddle":
        found = _first(names)
        return timm.PADDLE if found is None or found.name in ("timm", "mae", "adaptformer") else found
    return _first(names)


def _first(names: Collection[str]) -> Optional[Layout]:
    return next((layout for layout in LAYOUTS if layout.known_by(names)), None)
