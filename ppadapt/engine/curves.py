"""VisualDL curves of a run."""
from __future__ import annotations

import math
from pathlib import Path
from typing import Optional

from ..log import LOGGER


class Curves:
    """VisualDL scalars in one fresh folder; with `folder` None, nothing.

    VisualDL reads only the newest file of a folder, fails on % in a tag and wants Python floats.
    """

    def __init__(self, folder: Optional[Path]):
        self.writer = None
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
            if self.writer is not None and math.isfinite(value):
                self.writer.add_scalar(tag=name.replace("_", "/", 1), value=float(value), step=step)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
