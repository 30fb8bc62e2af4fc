"""The contract of a tuning method: what it attaches, what of it trains, how it merges."""
from __future__ import annotations

import abc

from paddle import nn

from ..errors import UserError
from ..models.anatomy import Anatomy


class TuningError(UserError):
    """A method, option or tuned state that does not fit the network."""


class Method(abc.ABC):
    """One way of tuning. Attributes set in `__init__` are its options, recorded in the tuned file; those with a
    leading underscore are not.

    Attributes:
        keeps_output: whether attaching leaves the network's output as it was.
        unmergeable: why the algebra does not allow `merge`; empty where it does.
        changes_inputs: whether it changes what Linears read: `merge` folds it in after those that change what
            they return.
    """

    keeps_output = True
    unmergeable = ""
    changes_inputs = False

    @abc.abstractmethod
    def attach(self, network: nn.Layer, anatomy: Anatomy) -> None:
        """Add the method's layers to the network, in place."""

    @abc.abstractmethod
    def trains(self, name: str) -> bool:
        """Whether the parameter `name` trains under this method. The head always does."""

    @property
    def options(self) -> dict:
        """The method's options as plain data."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def merge(self, network: nn.Layer, anatomy: Anatomy) -> None:  # noqa: B027
        """Fold what `attach` added into the network's own parameters and take it off, in place.

        Called only where `unmergeable` is empty; there is nothing to do for a method that adds nothing.
        """


def choose_blocks(network: nn.Layer, anatomy: Anatomy, which) -> list[tuple[int, nn.Layer]]:
    """The chosen blocks with their indices.

    `which` is "all", a list of indices (-1 is the last block) or a Python slice as text: "6:", ":4", "::2".

    Raises:
        TuningError: for an index out of range, another type, or a choice of no block.
    """
    blocks = list(enumerate(anatomy.block_list(network)))
    how = f"give 'all', a list of indices from {-len(blocks)} to {len(blocks) - 1}, or a slice such as '6:'"
    if which == "all":
        return blocks
    try:
        if isinstance(which, str) and ":" in which:
            chosen = blocks[slice(*(int(part) if part.strip() else None for part in which.split(":")))]
        else:
            if isinstance(which, str) or any(isinstance(i, bool) for i in which):
                raise TypeError
            chosen = [blocks[i] for i in which]
    except (TypeError, ValueError, IndexError):
        raise TuningError(f"blocks {which!r} does not fit a network of {len(blocks)} blocks: {how}") from None
    if not chosen or len({i for i, _ in chosen}) != len(chosen):
        raise TuningError(f"blocks {which!r} names none of the {len(blocks)} blocks, or one twice: {how}")
    return chosen


def add_layer(owner: nn.Layer, name: str, layer: nn.Layer) -> None:
    """Give `owner` a new sublayer. Raises TuningError when the name is taken: attached twice, most likely."""
    if name in dict(owner.named_children()):
        raise TuningError(f"{type(owner).__name__} has a layer {name!r} already: build the network anew "
                          "before attaching another method of the same kind")
    owner.add_sublayer(name, layer)
