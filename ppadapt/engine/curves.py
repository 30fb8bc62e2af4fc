"""VisualDL curves of a run."""
from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Optional

from ..log import LOGGER


class Curves:
    """VisualDL scalars in one fresh folder; with `folder` None, nothing.

    VisualDL reads only the newest file of a folder, fails on % in a tag and wants Python floats.
    """

    def __init__(self, folder: Optional[Path]):
        self.writer, self.points = None, []
        if folder is not None:
            try:
                from visualdl import LogWriter
            except ImportError:
                LOGGER.warning("visualdl is not installed: no curves are written (pip install visualdl)")
            else:
                self.writer = LogWriter(logdir=str(folder))

    def add(self, step: int, **values: float) -> None:
        """Add one point per curve: `add(10, train_loss=0.5)` draws at step 10 of train/loss."""
        for name, value in values.items():
            if math.isfinite(value):
                self._draw(name.replace("_", "/", 1), step, float(value))

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
