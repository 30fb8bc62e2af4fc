"""Position embeddings for another image size."""

from __future__ import annotations

import numpy as np

from .errors import WeightsError

A = -0.75  # the cubic's free parameter in PyTorch, OpenCV and Paddle


def grid_of(tokens: int) -> tuple[int, int] | None:
    """Tokens -> (side of the square grid, prefix tokens): 197 -> (14, 1). None when it is neither."""
    for prefix in (1, 0, 2):  # a class token; none; DeiT's class and distillation tokens
        side = round(max(tokens - prefix, 0) ** 0.5)
        if side and side * side == tokens - prefix:
            return side, prefix
    return None


def _bicubic(source: int, target: int) -> np.ndarray:
    """The [target, source] matrix of bicubic interpolation, pixel centres aligned, borders repeated."""
    at = (np.arange(target) + 0.5) * source / target - 0.5
    first = np.floor(at).astype(np.int64)
    matrix = np.zeros((target, source))
    for tap in range(-1, 3):
        distance = np.abs(at - (first + tap))
        near = ((A + 2) * distance - (A + 3)) * distance**2 + 1
        far = A * (((distance - 5) * distance + 8) * distance - 4)
        columns = np.clip(first + tap, 0, source - 1)
        np.add.at(matrix, (np.arange(target), columns), np.where(distance <= 1, near, far))
    return matrix


def resize_pos_embed(pos_embed: np.ndarray, grid: tuple[int, int], prefix_tokens: int = 1) -> np.ndarray:
    """[1, prefix + side*side, dim] -> [1, prefix + grid[0]*grid[1], dim] in float32; the prefix is kept.

    Equals PyTorch's `F.interpolate(mode='bicubic', align_corners=False)`, which MAE and timm use.
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
    rows, columns = _bicubic(side, grid[0]), _bicubic(side, grid[1])
    body = np.einsum("ab,bcd->acd", rows, body)
    body = np.einsum("ec,acd->aed", columns, body)
    return np.concatenate([prefix, body.reshape(1, grid[0] * grid[1], -1).astype(np.float32)], axis=1)
