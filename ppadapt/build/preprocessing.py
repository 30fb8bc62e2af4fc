"""One preprocessing from training to serving: what differs is named, operator by operator."""
from __future__ import annotations

from typing import Mapping, Optional

from .. import weights
from ..config import Config
from ..data import Dataset, build_transforms
from ..data.geometry import CropImage, Pad, ResizeImage
from ..data.transforms import DecodeImage, NormalizeImage, ToCHWImage
from ..errors import ConfigError, UserError
from ..log import LOGGER
from .manifests import described

_BRINGS_TO_SIZE = (ResizeImage.__name__, CropImage.__name__, Pad.__name__)
_OF_PIXELS = (DecodeImage.__name__, NormalizeImage.__name__)


def check_sides(config: Config) -> None:
    """Warn where training sees other pixels than the evaluation (order of colours, normalisation), or raw ones."""
    train, test = ([op for op in _ops(getattr(config.DataLoader, side)) if _name(op) in _OF_PIXELS]
                   for side in ("Train", "Eval"))
    found = _differences(train, test, "in Train", "in Eval")
    if found:
        LOGGER.warning("DataLoader.Train and DataLoader.Eval give the network different pixels (%s): give both the "
                       "same NormalizeImage and DecodeImage", found)
    try:
        serving_ops(config.Infer.transforms, config.DataLoader.Eval.dataset.get("transform_ops"))
    except UserError as error:  # no reason not to train: it is asked again when answers are
        LOGGER.warning("%s", error)
    if config.Arch.pretrained in (None, False) and not any(_name(op) == NormalizeImage.__name__ for op in test):
        LOGGER.warning("pixels go in as 0..255: add NormalizeImage to transform_ops of DataLoader.Train and "
                       "DataLoader.Eval (pixels around 0 train better)")


def check_sizes(sides: Mapping[str, Dataset], wanted: Optional[tuple[int, ...]]) -> None:
    """Raises ConfigError where the operators of a side do not make what the network takes.

    Args:
        sides: name -> data. One image of each is looked at: the evaluation would find out after an epoch only.
        wanted: C, H, W; None where the network does not tell.
    """
    for side, data in sides.items():
        found = data.image_shape()
        if None not in (found, wanted) and found != wanted:
            given, taken = (" x ".join(map(str, shape[1:])) for shape in (found, wanted))
            raise ConfigError(f"DataLoader.{side}.dataset.transform_ops make images of {given} and the network takes "
                              f"{taken}: let them end in that size (ResizeImage, CropImage), or set Arch.img_size")


def serving_ops(given: Optional[list], evaluated: Optional[list]) -> list:
    """The operators for images to answer: `given` (Infer.transforms) if they compute what was evaluated.

    Images that are evaluated as they are may be brought to their size first. The arrays are [C, H, W] whatever the
    list says: as in PaddleClas, ToCHWImage may be left out, and is written down here.

    Raises:
        ConfigError: naming what differs from the evaluation.
    """
    evaluated = list(evaluated or [])
    if not given:
        return _with_layout(evaluated)
    rest, resizing = list(given), []
    if not any(_name(op) in _BRINGS_TO_SIZE for op in evaluated):
        resizing = [op for op in given if _name(op) in _BRINGS_TO_SIZE]
        rest = [op for op in given if op not in resizing]
    found = _differences(rest, evaluated, "in Infer.transforms", "evaluated")
    if found:
        raise ConfigError(f"Infer.transforms differ from what was evaluated ({found}), so the answers would be of a "
                          "network that nobody measured: remove them (those of DataLoader.Eval are used), or evaluate "
                          "with them in DataLoader.Eval.dataset.transform_ops")
    if resizing:
        LOGGER.info("Infer.transforms bring images to the size that is evaluated: %s", ", ".join(map(_name, resizing)))
    return _with_layout(list(given))


def check_exported(exported: Optional[list], config: Config) -> None:
    """Raises ConfigError where DataLoader.Eval would show an exported network other pixels than it was exported for."""
    evaluated = _ops(config.DataLoader.Eval)
    if not any(_name(op) in _BRINGS_TO_SIZE for op in evaluated):
        exported = [op for op in exported or [] if _name(op) not in _BRINGS_TO_SIZE]
    found = _differences(exported or [], evaluated, "in the export", "in DataLoader.Eval")
    if found:
        raise ConfigError(f"the export takes other preprocessing than DataLoader.Eval gives ({found}): use the "
                          "config.yaml of the export, or export anew")


def _differences(theirs: list, ours: list, there: str, here: str) -> str:
    """In words, "" where both compute the same."""
    differences = weights.compare({"preprocess": described(theirs)}, {"preprocess": described(ours)}).differences
    return "; ".join(f"{d.what.partition('.')[2]}: {_said(d.file)} {there}, {_said(d.wanted)} {here}"
                     for d in differences)


def _said(value: object) -> str:
    return "nothing" if value is None else str(value)


def _with_layout(ops: list) -> list:
    return ops if ops and build_transforms(ops).channels_first else [*ops, {ToCHWImage.__name__: None}]


def _ops(split) -> list:
    """The operators; what is no list of them is refused where the data set is built."""
    given = split.dataset.get("transform_ops")
    return given if isinstance(given, list) else []


def _name(op: object) -> str:
    return next(iter(op), "") if isinstance(op, dict) else str(op)
