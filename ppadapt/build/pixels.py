"""Pixels that a pretrained network was not trained on are warned of: those of the evaluation, which are served too."""
from __future__ import annotations

import numpy as np

from ..config import Config
from ..data import describe_transforms
from ..log import LOGGER
from ..models.pixels import Pixels

_FLOAT_ERROR = 1e-4


def check_pixels(config: Config, expected: Pixels, source: str) -> None:
    """Warn where DataLoader.Eval gives pixels in another range or order of colours than `source` was trained on.

    Args:
        expected: its mean and std are compared where they are known for sure; that there is a NormalizeImage, and the
            order of the colours, always.
    """
    ops = {name: options for op in describe_transforms(config.DataLoader.Eval.dataset.get("transform_ops") or [])
           for name, options in op.items()}
    wrong = []
    if ops.get("DecodeImage", {"to_rgb": True})["to_rgb"] != (expected.colour == "RGB"):
        wrong.append(f"colours are not in the order {expected.colour} (DecodeImage.to_rgb)")
    normalize = ops.get("NormalizeImage")
    if normalize is None:
        wrong.append("pixels are 0..255, without NormalizeImage")
    else:
        if not np.isclose(normalize["scale"], 1 / 255, rtol=_FLOAT_ERROR):
            wrong.append(f"NormalizeImage.scale is {normalize['scale']:.6g} and not 1.0/255.0")
        for what in ("mean", "std"):
            wanted = getattr(expected, what)
            if wanted is not None and not np.allclose(normalize[what], wanted, rtol=0, atol=_FLOAT_ERROR):
                wrong.append(f"NormalizeImage.{what} is {normalize[what]}")
    if wrong:
        right = expected.normalize()
        LOGGER.warning("DataLoader.Eval.dataset.transform_ops: %s; %s was trained on other pixels%s", "; ".join(wrong),
                       source, f": - {right}" if right else ", normalised")
