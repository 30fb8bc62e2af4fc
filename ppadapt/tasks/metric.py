"""What a metric is: an object that sees every batch of a pass and then says numbers."""
from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import paddle


class Metric:
    """Sees logits and targets batch by batch; nothing waits for the device until `compute`.

    What it saw are sums (`add`) and rows (`keep`), for not every metric is a sum: a mean average precision needs
    all scores. `state` and `merge` bring what several processes saw into one.

    Attributes:
        rows: the names that `keep` is given.
    """

    rows: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget what was seen."""
        self.seen: dict[str, Any] = {}

    def update(self, logits: paddle.Tensor, targets: Any) -> None:
        """Take a batch: logits [N, C], targets [N, ...], or (a, b, share of a) where images were mixed."""
        raise NotImplementedError

    def names(self) -> list[str]:
        """The keys of what `compute` gives."""
        raise NotImplementedError

    def compute(self) -> dict[str, float]:
        """The numbers of all that was seen; one that it does not define is left out."""
        raise NotImplementedError

    def details(self, classes: Sequence[str]) -> dict[str, Any]:
        """More than numbers, plain data for results.json: `per_class` (rows that name their `class`), `confusion`.

        `right` (`packed`) says of each image whether it counts: a metric that is the mean of it can be compared with
        another run's image by image.
        """
        return {}

    def notes(self, class_num: int) -> dict[str, str]:
        """What has to be said beside a number wherever it is shown: {"top5": "of 3 classes"}."""
        return {}

    def add(self, **sums: Any) -> None:
        """Add to the sums: Tensors or numbers."""
        for name, value in sums.items():
            self.seen[name] = self.seen[name] + value if name in self.seen else value

    def keep(self, **rows: Any) -> None:
        """Keep the rows of a batch: Tensors or arrays [N, ...]."""
        for name, value in rows.items():
            self.seen.setdefault(name, []).append(value)

    def kept(self, name: str) -> np.ndarray:
        """All rows that were kept, [images, ...]."""
        return np.concatenate([np.asarray(part) for part in self.seen[name]])

    def state(self) -> dict[str, np.ndarray]:
        """What was seen, as arrays."""
        return {name: self.kept(name) if name in self.rows else np.asarray(value)
                for name, value in self.seen.items()}

    def combine(self, states: Sequence[Mapping[str, np.ndarray]]) -> None:
        """Become what all of `states` saw, in their order; this metric's own state is one of them."""
        self.reset()
        for state in states:
            for name, value in state.items():
                (self.keep if name in self.rows else self.add)(**{name: value})


def packed(flags: np.ndarray) -> dict[str, Any]:
    """Flags [N] as plain data that is small: their number, and base64 of eight a byte."""
    return {"images": len(flags), "bits": base64.b64encode(np.packbits(flags.astype(bool)).tobytes()).decode()}


def unpacked(given: Mapping[str, Any]) -> np.ndarray:
    """The flags [N] that `packed` was given."""
    bits = np.frombuffer(base64.b64decode(given["bits"]), np.uint8)
    return np.unpackbits(bits, count=given["images"]).astype(bool)


def dominant(targets: Any) -> Any:
    """The targets that a batch is measured against: of mixed images, those of the larger share."""
    if isinstance(targets, (tuple, list)):
        return targets[0] if targets[2] >= 0.5 else targets[1]
    return targets
