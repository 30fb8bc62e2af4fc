"""The blocks below everything that trains: what they make of an image is the same in every epoch.

Where `Tuning.blocks` leaves the first k blocks as they are, the stream that enters block k is computed once and kept
(`streams`); training and evaluation then run the blocks from k on alone. How many blocks that are is asked of the
gradient: those whose output depends on nothing that trains, whatever the method and the network.
"""
from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Iterable, Iterator, NamedTuple, Union

import numpy as np
import paddle

from ...errors import UserError, brief
from ...models.vit import VisionTransformer
from ...paddle_compat import name_of
from .code import digest_of
from .remainder import Remainder, varying


class Prefix(NamedTuple):
    """The first `blocks` blocks, nothing in them or below them trains.

    Attributes:
        shape: of the stream that leaves them, of one image. dtype: its type outside of AMP.
        image: shape of an image.
    """

    blocks: int
    shape: tuple[int, ...]
    dtype: str
    image: tuple[int, ...]


class FromBlock(Remainder):
    """An Adaptation whose call takes the stream that leaves the blocks of a prefix, [N, ...].

    The network is called with black images; the blocks of the prefix return what they are given, and the last of them
    returns the stream. What lies before the blocks is not computed in our ViT; in others patches, where one layer makes
    them, are made once for each number of images.
    """

    def __init__(self, adaptation: Any, prefix: Prefix):
        super().__init__(adaptation)
        self.prefix = prefix
        network, anatomy = adaptation.network, adaptation.anatomy
        self._blocks = anatomy.block_list(network)[:prefix.blocks]
        self._patches_layer = dict(network.named_sublayers()).get(anatomy.patches)
        self._patches: dict[int, Any] = {}

    def __call__(self, stream: paddle.Tensor) -> paddle.Tensor:
        with self._passing(stream):
            return self.adaptation(paddle.zeros([stream.shape[0], *self.prefix.image]))

    @contextmanager
    def _passing(self, stream: paddle.Tensor) -> Iterator[None]:
        *below, last = self._blocks
        network = self.adaptation.network
        instead = {(last, "forward"): lambda *_, **__: stream,
                   **{(block, "forward"): lambda x, *_, **__: x for block in below}}
        if isinstance(network, VisionTransformer):
            instead[network, "tokens"] = lambda images: stream
        elif self._patches_layer is not None:
            instead[self._patches_layer, "forward"] = self._patches_of(self._patches_layer, stream.shape[0])
        for (layer, name), function in instead.items():
            layer.__dict__[name] = function
        try:
            yield
        finally:
            for layer, name in instead:
                del layer.__dict__[name]

    def _patches_of(self, layer: Any, count: int) -> Any:
        def forward(*images: Any, **named: Any) -> Any:
            if count not in self._patches:
                if len(self._patches) > 1:  # all but the last batch are of one size
                    self._patches.clear()
                self._patches[count] = type(layer).forward(layer, *images, **named)
            return self._patches[count]

        return forward


def prefix_of(adaptation: Any, loaders: Iterable[Any]) -> Union[Prefix, str]:
    """The blocks that nothing that trains acts in or below, or why there are none, or why their stream is not kept."""
    loaders = list(loaders)
    data = loaders[0].dataset
    try:
        first = f"{adaptation.anatomy.named_blocks(adaptation.network)[0][0]}."
    except UserError:  # a network without blocks
        return NONE
    if any(name.startswith(first) for name in adaptation.trained):
        return NONE
    found = [item[0] for item in map(data.__getitem__, range(min(8, len(data)))) if item is not None]
    images = paddle.to_tensor(np.stack([found[0], found[-1]]))
    adaptation.eval()
    count, parted = _untouched(adaptation, images)
    if not count:
        return parted or NONE
    changing = varying(loaders)
    if changing:
        return (f"{changing}; with a fixed transform, or a few Global.cache_views, the first {count} blocks would run "
                "once for each image" if "on_error" not in changing else changing)
    stream = stream_of(adaptation, images, count)
    prefix = Prefix(count, tuple(stream.shape[1:]), name_of(stream.dtype), tuple(images.shape[1:]))
    kind = type(adaptation.network).__name__
    try:
        agrees = _agrees(adaptation, images, prefix, stream)
    except Exception as error:  # whatever a network raises that wants more of its blocks than we know of
        return f"{kind} cannot go on from block {count} ({brief(error)})"
    return prefix if agrees else f"{kind} does more than to hand one stream on from block to block"


NONE = ("what trains begins in the first block or below it: leave the first blocks as they are (Tuning.blocks: '9:', "
        "LastBlocks)")


class _Enough(Exception):
    """What was looked for is known."""


def _untouched(adaptation: Any, images: paddle.Tensor) -> tuple[int, str]:
    """How many blocks, from the first on, return what does not depend on what trains; and why no more could be said."""
    count, why, handles = 0, "", []
    blocks = adaptation.anatomy.named_blocks(adaptation.network)

    def look(number: int, path: str, stream: Any) -> None:
        nonlocal count, why
        if not isinstance(stream, paddle.Tensor):
            why = f"{path} of {type(adaptation.network).__name__} returns several things, not one stream"
            raise _Enough
        if number != count or not stream.stop_gradient:
            raise _Enough
        count += 1

    for number, (path, block) in enumerate(blocks):
        handles.append(block.register_forward_post_hook(
            lambda _, __, stream, number=number, path=path: look(number, path, stream)))
    try:
        adaptation.network(images)
    except _Enough:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return count, why


@paddle.no_grad()
def stream_of(adaptation: Any, images: paddle.Tensor, blocks: int) -> paddle.Tensor:
    """What leaves the first `blocks` blocks: [N, C, H, W] -> [N, ...]. What is above them does not run."""
    found: list[paddle.Tensor] = []

    def keep(layer: Any, inputs: Any, stream: paddle.Tensor) -> None:
        found.append(stream)
        raise _Enough

    handle = adaptation.anatomy.block_list(adaptation.network)[blocks - 1].register_forward_post_hook(keep)
    try:
        adaptation.network(images)
    except _Enough:
        pass
    finally:
        handle.remove()
    return found[0]


@paddle.no_grad()
def _agrees(adaptation: Any, images: paddle.Tensor, prefix: Prefix, stream: paddle.Tensor) -> bool:
    whole, part = adaptation(images), FromBlock(adaptation, prefix)(stream)
    return bool(np.allclose(part.numpy(), whole.numpy(), rtol=1e-4, atol=1e-5))


def below(adaptation: Any, blocks: int, data: Any) -> dict[str, str]:
    """Digests of what the stream of a data set depends on: tensors and code, without what lies above it.

    So runs that differ above share what is kept.
    """
    network, anatomy = adaptation.network, adaptation.anatomy
    above = tuple(f"{path}." for path, _ in (*anatomy.named_blocks(network)[blocks:], *anatomy.final_norms(network)))

    def lies_below(path: str, layer: Any) -> bool:
        here = f"{path}."
        return not (anatomy.is_head(here) or here.startswith(above) or any(one.startswith(here) for one in above)
                    or any(not p.stop_gradient for p in layer.parameters()))

    layers = [network, *(layer for path, layer in network.named_sublayers() if lies_below(path, layer))]
    return {"tensors": adaptation.frozen_digest(without=lambda name: anatomy.is_head(name) or name.startswith(above)),
            "code": digest_of([data, *data.transform.ops, *layers])}
