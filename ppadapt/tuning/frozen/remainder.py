"""What is left to compute of a network where the rest is kept, and batches of what is kept in the place of images."""
from __future__ import annotations

from typing import Any, Callable, Iterable, Iterator

import paddle

Watch = Callable[[Iterable], Iterable]


class Remainder:
    """An Adaptation that is called with what is kept of images; but for its call it is as it was."""

    def __init__(self, adaptation: Any):
        self.adaptation = adaptation

    def __call__(self, kept: paddle.Tensor) -> paddle.Tensor:
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        return getattr(self.adaptation, name)


class KeptLoader:
    """A Loader with what is kept of images in their place, in the same order.

    Where images are shown in several views (`Loader.views`), that of the epoch is given.

    Attributes:
        watch: what has to be computed goes through it, piece by piece: who runs the loop may stop there.
    """

    how = ""

    def __init__(self, loader: Any):
        self.loader, self.dataset, self.batch_size = loader, loader.dataset, loader.batch_size
        self.views = list(range(1, loader.views + 1)) if loader.views else [0]
        self.view = self.views[0]
        self.watch: Watch = iter
        self._targets = None

    def __len__(self) -> int:
        return len(self.loader)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """As `Loader.set_epoch`."""
        self.loader.set_epoch(epoch, start)
        self.view = self.loader.view(epoch) if self.loader.views else 0

    def rows(self, indices: list[int]) -> paddle.Tensor:
        """What is kept of these images."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[tuple[paddle.Tensor, paddle.Tensor]]:
        if self._targets is None:
            self._targets = paddle.to_tensor(self.loader.collate(self.dataset.labels))
        for indices in self.loader.order():
            yield self.rows(indices), self._targets.index_select(paddle.to_tensor(indices))


def varying(loaders: Iterable[Any]) -> str:
    """Why an image is not the same in every epoch, or in a few views; "" where it is."""
    for loader in loaders:
        data = loader.dataset
        drawing = [type(op).__name__ for op in data.transform.ops if op.random and not loader.views]
        mixing = [type(op).__name__ for op in loader.batch_transforms]
        if drawing or mixing:
            return f"at random, anew in every epoch, comes {', '.join(drawing + mixing)} of the {data.split} images"
        if data.on_error == "skip":
            return "a broken image would be skipped: set on_error: raise"
    return ""
