"""Position embeddings for another image size."""

from __future__ import annotations

import numpy as np

from ..resampling import cubic, low_pass, sampled_cubic
from .errors import WeightsError

_OFFSET = 0.1
# How libraries bring positions to another grid, and whose way it is.
RESIZES = {"plain": "bicubic, as MAE, DeiT, CLIP and transformers do",
           "antialias": "bicubic with antialias, as timm and DINOv2 with registers do",
           "offset": f"bicubic by the factor (new side + {_OFFSET}) / side, as DINO and DINOv2 do"}


def grid_of(tokens: int) -> tuple[int, int] | None:
    """Tokens -> (side of the square grid, prefix tokens): 197 -> (14, 1). None when it is neither."""
    for prefix in (1, 0, 2):  # a class token; none; DeiT's class and distillation tokens
        side = round(max(tokens - prefix, 0) ** 0.5)
        if side and side * side == tokens - prefix:
            return side, prefix
    return None


def are_moco_v3s(pos_embed: np.ndarray) -> bool:
    """Whether positions [1, 1 + side*side, dim] are the fixed sine-cosines of MoCo v3 (`vits.py` of its code).

    They differ from MAE's in what comes first: the row here, the column there.
    """
    side, prefix = grid_of(pos_embed.shape[1]) or (0, 0)
    dim = pos_embed.shape[2]
    if prefix != 1 or side < 2 or dim % 4:
        return False
    angles = np.arange(side)[:, None] / 10000.0 ** (np.arange(dim // 4) / (dim // 4))
    waves = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    made = np.concatenate([np.repeat(waves, side, axis=0), np.tile(waves, (side, 1))], axis=1)
    return bool(np.allclose(pos_embed[0, 1:], made, atol=2e-3))  # files in half precision round


def resize_pos_embed(pos_embed: np.ndarray, grid: tuple[int, int], prefix_tokens: int = 1,
                     resize: str = "plain") -> np.ndarray:
    """[1, prefix + side*side, dim] -> [1, prefix + grid[0]*grid[1], dim] in float32; the prefix is kept.

    `resize`: one of `RESIZES`, all PyTorch's `F.interpolate(mode='bicubic', align_corners=False)` with other options.
    Raises WeightsError when the source grid is not square.
    """
    pos_embed = np.asarray(pos_embed, np.float32)
    tokens = pos_embed.shape[1] - prefix_tokens
    side = round(max(tokens, 0) ** 0.5)
    if side * side != tokens or not side:
        raise WeightsError(f"pos_embed of shape {list(pos_embed.shape)} with {prefix_tokens} prefix tokens "
                           f"is not a square grid: {tokens} is not a square number")
    prefix, body = pos_embed[:, :prefix_tokens], pos_embed[:, prefix_tokens:]
    if tuple(grid) == (side, side):
        return pos_embed.copy()
    body = body.reshape(side, side, -1).astype(np.float64)
    rows, columns = (_matrix(side, target, resize) for target in grid)
    body = np.einsum("ab,bcd->acd", rows, body)
    body = np.einsum("ec,acd->aed", columns, body)
    return np.concatenate([prefix, body.reshape(1, grid[0] * grid[1], -1).astype(np.float32)], axis=1)


def _matrix(side: int, target: int, resize: str) -> np.ndarray:
    if resize == "antialias":
        return low_pass(lambda x: cubic(x, -0.5), 2, side, target)
    return sampled_cubic(side, target, (target + _OFFSET) / side if resize == "offset" else None)
