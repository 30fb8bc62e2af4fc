"""Position embeddings for another image size."""

from __future__ import annotations

import numpy as np

from ..resampling import cubic, low_pass, sampled_cubic
from .errors import WeightsError


def grid_of(tokens: int) -> tuple[int, int] | None:
    """Tokens -> (side of the square grid, prefix tokens): 197 -> (14, 1). None when it is neither."""
    for prefix in (1, 0, 2):  # a class token; none; DeiT's class and distillation tokens
        side = round(max(tokens - prefix, 0) ** 0.5)
        if side and side * side == tokens - prefix:
            return side, prefix
    return None


def resize_pos_embed(pos_embed: np.ndarray, grid: tuple[int, int], prefix_tokens: int = 1,
                     antialias: bool = False) -> np.ndarray:
    """[1, prefix + side*side, dim] -> [1, prefix + grid[0]*grid[1], dim] in float32; the prefix is kept.

    Equals PyTorch's `F.interpolate(mode='bicubic', align_corners=False)`, which MAE uses; with `antialias`, the
    same with `antialias=True`, which timm uses. Raises WeightsError when the source grid is not square.
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
    rows, columns = (_matrix(side, target, antialias) for target in grid)
    body = np.einsum("ab,bcd->acd", rows, body)
    body = np.einsum("ec,acd->aed", columns, body)
    return np.concatenate([prefix, body.reshape(1, grid[0] * grid[1], -1).astype(np.float32)], axis=1)


def _matrix(side: int, target: int, antialias: bool) -> np.ndarray:
    return low_pass(lambda x: cubic(x, -0.5), 2, side, target) if antialias else sampled_cubic(side, target)
