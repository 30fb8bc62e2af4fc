"""VisualDL curves of a run, and what else it shows."""
from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

from ..log import LOGGER


class Observer:
    """What is looked at in a run beside its numbers. This one looks at nothing; `build.observer` has one that does.

    Attributes:
        mistakes: of the last evaluation, worst first, as far as they are looked at.
    """

    mistakes: Sequence[Any] = ()

    def begin(self) -> None:
        """An evaluation begins."""

    def batch(self, images: Any, logits: Any, targets: Any) -> None:
        """A batch of an evaluation: what went in, what came out, what is right."""

    def layers(self) -> Mapping[str, float]:
        """Numbers of what was attached, by the tag of their curve, at the end of an epoch (eval mode)."""
        return {}


class Curves:
    """VisualDL scalars and pictures in one fresh folder; with `folder` None, nothing.

    VisualDL reads only the newest file of a folder, fails on % in a tag and wants Python floats. It compares runs by
    their hyper-parameters, each of one type in all runs, and expects that the metrics beside them have a point.

    Args:
        settings: hyper-parameters, which are written with the first evaluation.
    """

    def __init__(self, folder: Optional[Path], settings: Optional[Mapping[str, Any]] = None):
        self.writer, self.points, self.settings = None, [], dict(settings or {})
        if folder is not None:
            try:
                from visualdl import LogWriter
            except ImportError:
                LOGGER.warning("visualdl is not installed: no curves are written (pip install visualdl)")
            else:
                self.writer = LogWriter(logdir=str(folder))

    def add(self, step: int, **values: float) -> None:
        """Add one point per curve: `add(10, train_loss=0.5)` draws at step 10 of train/loss."""
        self.draw(step, {name.replace("_", "/", 1): value for name, value in values.items()})

    def draw(self, step: int, values: Mapping[str, float]) -> None:
        """Add one point per curve, named by its tag: `draw(1, {"scale/blocks.0": 0.5})`."""
        for tag, value in values.items():
            if math.isfinite(value):
                self._draw(tag.replace("%", "_"), step, float(value))

    def evaluated(self, epoch: int, result: Mapping[str, float]) -> None:
        """The numbers of an evaluation; the first of a folder brings the hyper-parameters along."""
        self.draw(epoch, {f"eval/{name}": value for name, value in result.items() if name != "images"})
        if self.writer is not None and self.settings:
            self.writer.add_hparams(_by_type(self.settings), [f"eval/{name}" for name, value in result.items()
                                                              if name != "images" and math.isfinite(value)])
            self.settings = {}

    def picture(self, tag: str, step: int, pixels: Any) -> None:
        """Add a picture, uint8 [H, W, 3]."""
        if self.writer is not None:
            self.writer.add_image(tag=tag, img=pixels, step=step)

    def replay(self, points: list) -> None:
        """Draw what an earlier part of this run drew, which lies in another folder."""
        for tag, step, value in points:
            self._draw(tag, step, value)

    def _draw(self, tag: str, step: int, value: float) -> None:
        self.points.append([tag, step, value])
        if self.writer is not None:
            self.writer.add_scalar(tag=tag, value=value, step=step)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


def _by_type(settings: Mapping[str, Any]) -> dict[str, Any]:
    """VisualDL takes the type of a hyper-parameter from one run for all of them: a number is a float."""
    return {name.replace("%", "_"): value if isinstance(value, str) else float(value)
            for name, value in settings.items() if value is not None}
