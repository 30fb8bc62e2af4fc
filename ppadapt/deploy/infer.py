"""Images in, class names and probabilities out."""
from __future__ import annotations

import glob
from pathlib import Path
from typing import Iterator, Sequence

import numpy as np
import paddle

from ..data import BrokenImageError, Compose, decode_image
from ..engine.log import LOGGER
from ..errors import ConfigError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


def find_images(where: str) -> list[Path]:
    """The images that a path names: one file, a folder (searched below too) or a glob, sorted.

    Raises:
        ConfigError: when there is none.
    """
    path = Path(where).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        found = [p for p in sorted(path.rglob("*")) if p.suffix.lower() in SUFFIXES and p.is_file()]
        what = f"the folder {where} holds no image ({', '.join(SUFFIXES)})"
    else:
        found = [Path(p) for p in sorted(glob.glob(str(path), recursive=True)) if Path(p).is_file()]
        what = f"{where} is no file, no folder and no pattern that fits a file"
    if not found:
        raise ConfigError(f"Infer.infer_imgs: {what}")
    return found


@paddle.no_grad()
def probabilities(network, images: np.ndarray) -> np.ndarray:
    """Softmax of the logits: float32 [N, C, H, W] -> float32 [N, classes]."""
    logits = network(paddle.to_tensor(images)).astype("float32")
    return paddle.nn.functional.softmax(logits, axis=-1).numpy()


def classify(network, transform: Compose, classes: Sequence[str], files: Sequence[Path], batch_size: int,
             topk: int) -> Iterator[dict]:
    """The likeliest classes of each file, best first; a file that cannot be read is warned of and left out.

    Yields:
        {"file": path, "predictions": [{"class": name, "id": index, "probability": p}, ...]}
    """
    for start in range(0, len(files), batch_size):
        named = []
        for file in files[start:start + batch_size]:
            try:
                named.append((file, transform(decode_image(file), None)))
            except BrokenImageError as error:
                LOGGER.warning("left out: %s", error)
        if not named:
            continue
        for (file, _), row in zip(named, probabilities(network, np.stack([image for _, image in named]))):
            best = row.argsort()[::-1][:topk]
            yield {"file": str(file), "predictions": [
                {"class": classes[i], "id": int(i), "probability": float(row[i])} for i in best]}
