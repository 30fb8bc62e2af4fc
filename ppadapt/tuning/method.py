"""The contract of a tuning method: what it adds and where, what of the network trains, how it merges."""
from __future__ import annotations

from typing import Iterable, NamedTuple, Sequence, Union

from paddle import nn

from ..models.anatomy import Anatomy
from .slots import Place, TuningError

__all__ = ["Added", "BlockAt", "Method", "TuningError", "choose_blocks"]


class Added(NamedTuple):
    """A layer that a method adds, and where its branches act.

    Attributes:
        owner: path of the layer that gets it, seen from the network; "" for the network itself.
        name: its name there: its parameters are called `owner.name.*`. They all train.
        layer: what holds the parameters.
        placed: pairs of place and branch. A branch is `layer`, a part of it, or a layer that shares its parameters.
    """

    owner: str
    name: str
    layer: nn.Layer
    placed: Sequence[tuple[Place, nn.Layer]]


class Method:
    """One way of tuning. Attributes set in `__init__` are its options, recorded in the tuned file; those with a
    leading underscore are not.

    A method holds no layers and registers no hooks: it may be asked several times, for several networks.

    Attributes:
        keeps_output: whether attaching leaves the network's output as it was.
        unmergeable: why the algebra does not allow `merge`; empty where it does.
        changes_inputs: whether it changes what Linears read: `merge` folds it in after those that change what
            they return.
        token_by_token: whether what it adds after a block's attention gives each token the same, whatever the other
            tokens are and whether they are there. Not asked of a method that adds nothing.
    """

    keeps_output = True
    unmergeable = ""
    changes_inputs = False
    token_by_token = False

    def adds(self, network: nn.Layer, anatomy: Anatomy) -> Iterable[Added]:
        """New layers with what they put where, in order; where several act at one layer, in this order."""
        return ()

    def trains(self, network: nn.Layer, anatomy: Anatomy) -> Iterable[str]:
        """Names of the network's own parameters that train beside what is added and the head, which always do."""
        return ()

    @property
    def options(self) -> dict:
        """The method's options as plain data."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def merge(self, network: nn.Layer, anatomy: Anatomy) -> None:
        """Fold what was added into the network's own parameters, in place; the caller takes it off afterwards.

        Called only where `unmergeable` is empty; there is nothing to do for a method that adds nothing.
        """


class BlockAt(NamedTuple):
    """A block: its index, its path seen from the network, the block itself."""

    index: int  # type: ignore[assignment]  # hides a method of tuples
    path: str
    layer: nn.Layer

    def at(self, path: str) -> str:
        """The path, seen from the network, of a layer whose path is seen from the block."""
        return f"{self.path}.{path}"


def choose_blocks(network: nn.Layer, anatomy: Anatomy, which: Union[str, Sequence[int]]) -> list[BlockAt]:
    """The chosen blocks.

    `which` is "all", a list of indices (-1 is the last block) or a Python slice as text: "6:", ":4", "::2".

    Raises:
        TuningError: for an index out of range, another type, or a choice of no block.
    """
    blocks = [BlockAt(i, path, block) for i, (path, block) in enumerate(anatomy.named_blocks(network))]
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
    if not chosen or len({block.index for block in chosen}) != len(chosen):
        raise TuningError(f"blocks {which!r} names none of the {len(blocks)} blocks, or one twice: {how}")
    return chosen
