"""Looking into a network while it computes: what the branches add, beside what the MLPs do, and to which patches.

Hooks are put in for one forward pass. The frozen layers' quicker ways (`frozen`) see them and step aside, so that
each layer is called.
"""
from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Callable, Iterator

import numpy as np
import paddle
from paddle import nn

from ..errors import UserError
from ..models.anatomy import Anatomy, find
from .adaptation import Adaptation
from .slots import After, Beside, Place, slots_of


class Branch:
    """A branch that is added to the residual stream of a block.

    Attributes:
        name: of the layer that computes it, or of the place where none of the network's layers does.
        block: path of the block.
        layer: what is called with what the place sees; it returns [N, L, D] (or [N, H, W, D]).
    """

    def __init__(self, name: str, block: str, layer: nn.Layer):
        self.name, self.block, self.layer = name, block, layer


def branches(adaptation: Adaptation) -> list[Branch]:
    """The branches of the attached methods that add to the residual stream, in order of the blocks; [] where none does
    (prompts, LoRA and what changes the network's own weights do not)."""
    network, slots = adaptation.network, slots_of(adaptation.network)
    if slots is None:
        return []
    paths = {id(layer): path for path, layer in network.named_sublayers()}
    blocks = [path for path, _ in adaptation.anatomy.named_blocks(network)]
    found = []
    for place, layer in slots.now().pairs:
        block = next((path for path in blocks if _adds(place) and f"{place.closes}.".startswith(f"{path}.")), None)
        if block is not None:
            found.append(Branch(paths.get(id(layer), place.closes), block, layer))
    return found


def _adds(place: Place) -> bool:
    return isinstance(place, Beside) or isinstance(place, After) and not place.replaces


@contextmanager
def outputs_of(layers: list[nn.Layer], seen: Callable[[int, Any], None], inputs: bool = False) -> Iterator[None]:
    """While this lasts, `seen(i, x)` is called with what layer i returns, or with `inputs` is given, each time."""
    def hook(i: int) -> Callable:
        def before(layer: nn.Layer, given: Any) -> None:
            seen(i, given[0])

        def after(layer: nn.Layer, given: Any, output: Any) -> None:
            seen(i, output)

        return before if inputs else after

    held = [layer.register_forward_pre_hook(hook(i)) if inputs else layer.register_forward_post_hook(hook(i))
            for i, layer in enumerate(layers)]
    try:
        yield
    finally:
        for helper in held:
            helper.remove()


@paddle.no_grad()
def norms_to_mlp(adaptation: Adaptation, images: paddle.Tensor) -> dict[str, float]:
    """Mean norm of what each branch adds, over that of its block's MLP: name of the branch -> ratio.

    Means over all tokens of the images [N, C, H, W]; the network is in eval mode. Blocks without an MLP that is called
    as a layer are left out.
    """
    looked_at, network = branches(adaptation), adaptation.network
    sublayers = dict(network.named_sublayers())
    looked_at = [one for one in looked_at if f"{one.block}.{adaptation.anatomy.mlp}" in sublayers]
    if not looked_at:
        return {}
    mlps = list(dict.fromkeys(f"{one.block}.{adaptation.anatomy.mlp}" for one in looked_at))
    sizes: dict[int, float] = {}

    def seen(i: int, output: Any) -> None:
        sizes[i] = float(paddle.linalg.norm(output.astype("float32"), axis=-1).mean())

    with outputs_of([*(one.layer for one in looked_at), *(find(network, path) for path in mlps)], seen):
        adaptation(images)
    of_mlp = {path: sizes.get(len(looked_at) + i) for i, path in enumerate(mlps)}
    found = {}
    for i, one in enumerate(looked_at):
        mlp = of_mlp[f"{one.block}.{adaptation.anatomy.mlp}"]
        if mlp and i in sizes:
            found[one.name] = sizes[i] / mlp
    return found


def scales(adaptation: Adaptation) -> dict[str, float]:
    """The learnable scales of what was attached: name of the layer -> value (the mean of one per channel)."""
    return {name.rpartition(".")[0]: float(tensor.astype("float32").mean())
            for name, tensor in adaptation.trained_parameters().items()
            if name.rpartition(".")[2] == "scale" and name in set(adaptation.new)}



@paddle.no_grad()
def norms_per_patch(adaptation: Adaptation, images: paddle.Tensor) -> dict[str, np.ndarray]:
    """Norm of what each branch adds to each patch: images [N, C, H, W] -> {branch: float32 [N, rows, columns]}.

    The grid is that of the branch's tokens, which shrinks with the stages of a hierarchical network; tokens in front
    that are no patches (class token, registers) are left out. {} where nothing is added to the residual stream.

    Raises:
        UserError: where the tokens of a branch are no square of patches with a few in front.
    """
    looked_at = branches(adaptation)
    if not looked_at:
        return {}
    _, rows, columns = adaptation.anatomy.grid(adaptation.network)
    found: dict[int, np.ndarray] = {}

    def seen(i: int, output: Any) -> None:
        found[i] = paddle.linalg.norm(output.astype("float32"), axis=-1).numpy()

    with outputs_of([one.layer for one in looked_at], seen):
        adaptation(images)
    return {one.name: _on_the_grid(found[i], rows, columns, one.name) for i, one in enumerate(looked_at) if i in found}


def _on_the_grid(norms: np.ndarray, rows: int, columns: int, name: str) -> np.ndarray:
    """[N, L] or [N, H, W] -> [N, rows, columns] of this stage."""
    if norms.ndim == 3:
        return norms
    tokens = norms.shape[1]
    while rows * columns > tokens and max(rows, columns) > 1:  # a later stage has half of the rows and columns
        rows, columns = (rows + 1) // 2, (columns + 1) // 2
    if rows * columns > tokens:
        raise UserError(f"{name} sees {tokens} tokens, which are not {rows} x {columns} patches with some in front")
    return norms[:, tokens - rows * columns:].reshape(-1, rows, columns)


@paddle.no_grad()
def tokens_of(network: nn.Layer, anatomy: Anatomy, images: paddle.Tensor) -> int:
    """Tokens that the first block is given, prompts among them."""
    seen: list[int] = []
    with outputs_of([anatomy.block_list(network)[0]], lambda i, x: seen.append(int(x.shape[1])), inputs=True):
        network(images[:1])
    return seen[0]
