"""What `merge` needs: parameters as float64 arrays and back, and the way to take an added layer off again."""
from __future__ import annotations

import numpy as np
import paddle
from paddle import nn

from ..models.anatomy import find
from ..paddle_compat import cast
from .slots import TuningError, slots_of


def values(tensor: paddle.Tensor) -> np.ndarray:
    """A tensor of any float type as float64."""
    return tensor.detach().astype("float32").numpy().astype("float64")


def fold_into(layer: nn.Layer, weight: np.ndarray, bias: np.ndarray | None = None) -> None:
    """Give a layer a new weight and, unless None, a new bias, in the types they had.

    Raises:
        TuningError: when the layer has no bias to take one.
    """
    layer.weight.set_value(_like(layer.weight, weight))
    if bias is None:
        return
    if layer.bias is None:
        raise TuningError(f"a {type(layer).__name__} of shape {list(layer.weight.shape)} has no bias to take the tuned "
                          "shift: keep the network and its tuned file side by side")
    layer.bias.set_value(_like(layer.bias, bias))


def _like(parameter: paddle.Tensor, array: np.ndarray) -> paddle.Tensor:
    return cast(paddle.to_tensor(array.astype("float32")), parameter.dtype)


def bias_of(layer: nn.Layer) -> np.ndarray | float:
    """The bias as float64, 0.0 where there is none."""
    return 0.0 if layer.bias is None else values(layer.bias)


def remove_layer(network: nn.Layer, owner: str, name: str) -> None:
    """Take off the layer that a method added to the one at the path `owner`, and what it puts anywhere."""
    holder = find(network, owner) if owner else network
    layer = getattr(holder, name)
    slots_of(network).drop_branches(network, layer.sublayers(include_self=True))
    delattr(holder, name)
