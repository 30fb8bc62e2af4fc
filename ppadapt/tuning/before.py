"""What a network was before methods were attached, so that it can be that again."""
from __future__ import annotations

from typing import Collection, Iterable, Optional

import numpy as np
import paddle
from paddle import nn

from ..log import LOGGER
from ..models.anatomy import find
from ..paddle_compat import name_of
from .slots import slots_of


class Before:
    """Made before anything is attached; `keep_values` and `put_head` note what else is going to change.

    Attributes:
        heads: path -> the classifier whose place another has taken.
    """

    def __init__(self, network: nn.Layer):
        self.heads: dict[str, Optional[nn.Layer]] = {}
        self._layers = {path: (type(layer), layer.training)
                        for path, layer in network.named_sublayers(include_self=True)}
        self._parameters = {name: (p.stop_gradient, name_of(p.dtype)) for name, p in network.named_parameters()}
        self._buffers = {name for name, _ in network.named_buffers()}
        self._values: dict[str, np.ndarray] = {}

    @property
    def names(self) -> Collection[str]:
        """Of the network's own parameters and buffers."""
        return self._parameters.keys() | self._buffers

    def put_head(self, network: nn.Layer, path: str, head: nn.Layer) -> None:
        """Put a classifier in the place of the one at `path`. Raises UserError when the network has none there."""
        holder, name = _holder_of(network, path)
        self.heads[path] = getattr(holder, name) if hasattr(holder, name) else find(network, path)
        setattr(holder, name, head)

    def keep_values(self, tensors: dict[str, paddle.Tensor]) -> None:
        """Keep the values of the network's own tensors that are going to change, in the memory of the host."""
        self._values = {name: tensor.numpy().copy() for name, tensor in tensors.items()}

    def restore(self, network: nn.Layer, added: Iterable[tuple[str, str]]) -> None:
        """Make the network what it was, in place. `added`: owners and names of the layers that it was given."""
        take_off(network, added)
        for path, head in self.heads.items():
            holder, name = _holder_of(network, path)
            if not isinstance(head, nn.Layer):  # None, until a head was put there
                delattr(holder, name)
            setattr(holder, name, head)
        for path, layer in network.named_sublayers(include_self=True):
            layer.__class__, layer.training = self._layers.get(path, (type(layer), layer.training))
        self._restore_dtypes(network)
        for name, p in network.named_parameters():
            p.stop_gradient = self._parameters.get(name, (p.stop_gradient, ""))[0]
        tensors = {**dict(network.named_buffers()), **dict(network.named_parameters())}
        for name, value in self._values.items():
            tensors[name].set_value(value)
            tensors[name].clear_gradient(False)

    def _restore_dtypes(self, network: nn.Layer) -> None:
        dtypes = {name: dtype for name, (_, dtype) in self._parameters.items()}
        cast = {name for name, p in network.named_parameters() if dtypes.get(name) not in (None, name_of(p.dtype))}
        for path, layer in network.named_sublayers(include_self=True):
            for name, _ in layer.named_parameters(path, include_sublayers=False):
                if name in cast:
                    layer.to(dtype=dtypes[name])
        if cast:
            LOGGER.warning("%d parameters of %s were kept in another type and have lost digits: load its weights anew "
                           "where that matters", len(cast), type(network).__name__)


def take_off(network: nn.Layer, added: Iterable[tuple[str, str]]) -> None:
    """Take all hooks and these added layers off a network, in place."""
    slots = slots_of(network)
    if slots is not None:
        slots.close(network)
    for owner, name in added:
        delattr(find(network, owner) if owner else network, name)


def _holder_of(network: nn.Layer, path: str) -> tuple[nn.Layer, str]:
    """The layer that has the one at `path`, and its name there."""
    owner, _, name = path.rpartition(".")
    return (find(network, owner) if owner else network), name
