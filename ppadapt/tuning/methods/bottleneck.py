"""The bottleneck adapter that Houlsby, Pfeiffer and Adapter+ put in different places."""
from __future__ import annotations

from paddle import ParamAttr, nn
from paddle.nn import functional as F

from ...models.layers import DropPath
from ...paddle_compat import truncated_normal
from ..method import TuningError
from ..per_sample import over_rows

UNMERGEABLE = "its adapter has a GELU between two matrices, and no Linear of the network computes that"


class Bottleneck(nn.Layer):
    """s * up(gelu(down(norm(x)))): [N, L, D] -> [N, L, D].

    Args:
        dim: D. bottleneck: width of the branch.
        weights: initialiser of both matrices; the biases start at zero.
        layernorm: a LayerNorm in front. channel_scale: s is one trained value a channel, from 1; else 1.
        drop_path: rate at which training drops the adapter for a whole sample.
    """

    stacks = True

    def __init__(self, dim: int, bottleneck: int, weights: nn.initializer.Initializer, layernorm: bool = False,
                 channel_scale: bool = False, drop_path: float = 0.0):
        super().__init__()
        if layernorm:
            self.norm = nn.LayerNorm(dim)
        zeros = nn.initializer.Constant(0.0)
        self.down_proj = nn.Linear(dim, bottleneck, ParamAttr(initializer=weights), ParamAttr(initializer=zeros))
        self.up_proj = nn.Linear(bottleneck, dim, ParamAttr(initializer=weights), ParamAttr(initializer=zeros))
        self.drop_path = DropPath(drop_path)
        self.layernorm, self.channel_scale = layernorm, channel_scale
        if channel_scale:
            self.scale = self.create_parameter([dim], default_initializer=nn.initializer.Constant(1.0))

    def forward(self, x):
        if self.layernorm:
            x = self.norm(x)
        x = self.drop_path(self.up_proj(F.gelu(self.down_proj(x))))
        return x * over_rows(self.scale, x) if self.channel_scale else x


def houlsby_normal() -> nn.initializer.Initializer:
    """N(0, 0.01^2) cut at two standard deviations (Houlsby et al., section 3.6)."""
    return truncated_normal(std=0.01, cut=0.02)


def check_bottleneck(method: str, bottleneck: int, drop_path: float = 0.0) -> None:
    """Raises TuningError for a width below 1 or a rate outside [0, 1)."""
    if bottleneck < 1:
        raise TuningError(f"{method} bottleneck {bottleneck} is not allowed: give a width of at least 1")
    if not 0 <= drop_path < 1:
        raise TuningError(f"{method} drop_path {drop_path} is not allowed: give a rate in [0, 1)")
