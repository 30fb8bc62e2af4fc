"""Whether tensors have the dimensions of their names, and those of a block go together."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from .errors import WeightsError

# In every block these go together: (layer, width of its input or of a norm, width of its output); D is the width of
# the residual stream, H of the MLP.
_BLOCK = {"norm1": "D", "attn.qkv": "D3", "attn.proj": "DD", "norm2": "D", "mlp.fc1": "DH", "mlp.fc2": "HD"}

_TOKENS = (3,)  # [1, N, C]
# How many dimensions a tensor of our names has (4 and 5: patches of images and of videos); the others may have any.
_DIMENSIONS = tuple((re.compile(pattern), dims) for pattern, dims in (
    (r"patch_embed\.proj\.weight", (4, 5)),
    (r"(.*\.)?(qkv|proj|q|kv|fc[12]|head|head_dist|head\.1|(down|up)_proj)\.weight", (2,)),
    (r"(.*\.)?(\w*norm\w*\.weight|gamma|bias|running_(mean|var))", (1,)),
    (r"pos_embed|cls_token|dist_token|prompts\.\d+", _TOKENS)))


def fits(name: str, shape: Sequence[int]) -> bool:
    """Whether a tensor of that name may have that shape, as far as one tensor tells."""
    dims = next((dims for pattern, dims in _DIMENSIONS if pattern.fullmatch(name)), range(33))
    return len(shape) in dims and 0 not in shape and (dims != _TOKENS or shape[0] == 1)


def check_shapes(tensors: Mapping[str, np.ndarray], path: str) -> None:
    """Raises WeightsError where widths disagree inside a block, as in a gated MLP, whose names are a plain one's."""
    norm = tensors.get("blocks.0.norm1.weight")
    if norm is None or norm.ndim != 1:
        return
    width = norm.shape[0]
    for name, array in tensors.items():
        found = re.fullmatch(rf"(blocks\.\d+)\.({'|'.join(map(re.escape, _BLOCK))})\.(weight|bias)", name)
        if not found:
            continue
        block, layer, kind = found.groups()
        hidden = tensors.get(f"{block}.mlp.fc2.weight")
        hidden_width = hidden.shape[0] if hidden is not None and hidden.ndim == 2 else None
        sizes = {"D": width, "H": hidden_width, "3": 3 * width}
        code = _BLOCK[layer]
        expected = tuple(sizes[c] for c in (code if kind == "weight" else code[-1]))
        if None in expected or tuple(array.shape) == expected:
            continue
        gated = layer == "mlp.fc1" and hidden_width and array.shape[-1] == 2 * hidden_width
        why = ("fc1 gives twice what fc2 takes, a gated MLP (SwiGLU), which our networks do not compute" if gated else
               f"its parts disagree: {list(expected)} was expected there from norm1 and fc2")
        raise WeightsError(f"{path}: {name} has shape {list(array.shape)} ([in, out]), {why}")
