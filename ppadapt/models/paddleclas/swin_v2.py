"""Swin v2's forward, which PaddleClas 2.6.0 ships broken (names that are not defined).

Liu et al., "Swin Transformer V2" (arXiv 2111.09883), section 3.2. The norms come after attention and MLP:

    x + drop_path(norm1(attn(x))),   then   x + drop_path(norm2(mlp(x)))

The layers, and so the names of the weights, are PaddleClas's; so is the attention itself.
"""
from __future__ import annotations

import numpy as np
import paddle
from paddle import nn

from ...errors import UserError


def mend_swin_v2(network: nn.Layer) -> None:
    """Give PaddleClas's SwinTransformerV2 forwards that run, in place."""
    forwards = {"PatchEmbed": _patch_embed, "PatchMerging": _patch_merging, "SwinTransformerBlock": _block}
    for layer in network.sublayers():
        kind = type(layer)
        if kind.__name__ in forwards:
            layer.__class__ = type(kind.__name__, (kind,), {"forward": forwards[kind.__name__]})
        if getattr(layer, "shift_size", 0):
            mask = _mask(*layer.input_resolution, layer.window_size, layer.shift_size)
            layer.register_buffer("shift_mask", paddle.to_tensor(mask, "float32"), persistable=False)


def _patch_embed(self, x):
    """[N, 3, S, S] -> [N, L, D] and (rows, columns)."""
    if list(x.shape[2:]) != list(self.img_size):
        raise UserError(f"this network takes {self.img_size[0]} x {self.img_size[1]} images and got "
                        f"{x.shape[2]} x {x.shape[3]}: resize the images, or set Arch.img_size")
    x = self.proj(x)
    rows, columns = x.shape[2:]
    x = x.flatten(2).transpose([0, 2, 1])
    return (x if self.norm is None else self.norm(x)), (rows, columns)


def _patch_merging(self, x, input_dimensions):
    """[N, H W, C] -> [N, H W / 4, 2 C]: each 2 x 2 patches, column by column, become one."""
    rows, columns = input_dimensions
    channels = x.shape[-1]
    x = x.reshape([-1, rows // 2, 2, columns // 2, 2, channels]).transpose([0, 1, 3, 4, 2, 5])
    return self.norm(self.reduction(x.reshape([-1, rows * columns // 4, 4 * channels])))


def _block(self, x, input_dimensions):
    """[N, H W, C] -> [N, H W, C]."""
    rows, columns = input_dimensions
    size, shift, channels = self.window_size, self.shift_size, x.shape[-1]
    image = x.reshape([-1, rows, columns, channels])
    mask = None
    if shift:
        image = paddle.roll(image, shifts=(-shift, -shift), axis=(1, 2))
        mask = self.shift_mask.astype(x.dtype)
    windows = image.reshape([-1, rows // size, size, columns // size, size, channels])
    windows = windows.transpose([0, 1, 3, 2, 4, 5]).reshape([-1, size * size, channels])
    windows = self.attn(windows, mask=mask).reshape([-1, rows // size, columns // size, size, size, channels])
    image = windows.transpose([0, 1, 3, 2, 4, 5]).reshape([-1, rows, columns, channels])
    if shift:
        image = paddle.roll(image, shifts=(shift, shift), axis=(1, 2))
    x = x + self.drop_path(self.norm1(image.reshape([-1, rows * columns, channels])))
    return x + self.drop_path(self.norm2(self.mlp(x)))


def _mask(rows: int, columns: int, size: int, shift: int) -> np.ndarray:
    """[windows, size^2, size^2]: -100 between patches that only the shift has brought into one window, else 0."""
    def part(length):
        return np.digitize(np.arange(length), [length - size, length - shift])

    region = 3 * part(rows)[:, None] + part(columns)
    region = region.reshape(rows // size, size, columns // size, size).transpose(0, 2, 1, 3).reshape(-1, size * size)
    return np.where(region[:, :, None] == region[:, None, :], 0.0, -100.0)
