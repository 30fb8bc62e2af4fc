"""The DataLoader section: data sets and their batches."""
from __future__ import annotations

from typing import Mapping, Optional

from ..config import Side
from ..data import DATASETS, Dataset, Loader, build_loader, holdout
from ..engine.processes import ALONE, Processes
from ..errors import ConfigError, choose
from ..options import construct
from ..tasks import SingleLabel, Task

BALANCED = "ClassBalancedSampler"
SAMPLERS = ("DistributedBatchSampler", "BatchSampler", BALANCED)


def dataset(side: Side, kind: str, seed: int) -> Dataset:
    """A data set: `kind` is "train" or "test", which `dataset.split` may change.

    With `dataset.holdout: 0.1` training leaves a tenth of its data out; `split: holdout` is that tenth.
    """
    options = dict(side.dataset)
    options.pop("batch_transform_ops", None)
    transform, share = options.pop("transform_ops", None), options.pop("holdout", None)
    part = options.pop("split", kind)
    where = f"DataLoader.{_name(kind)}.dataset"
    if part == holdout.PART and share is None:
        raise ConfigError(f"{where}.split is {part}: set {where}.holdout to a share of the training data, such as 0.1")
    given = {"split": "train" if part == holdout.PART else part, **options}
    data = construct(DATASETS, given, where, transform=transform, seed=seed)
    if share is not None and given["split"] != "train":
        raise ConfigError(f"{where}.holdout leaves a part of the training data out, and its split is {given['split']}: "
                          f"remove it, or set {where}.split to {holdout.PART} to evaluate on that part")
    if share is not None:
        holdout.hold_out(data, share, part)
    return data


def loader(side: Side, kind: str, seed: int, data: Optional[Dataset] = None, task: Optional[Task] = None,
           processes: Processes = ALONE) -> Loader:
    """Batches of a data set; training data is shuffled unless the sampler says otherwise.

    Args:
        task: says how targets are collated; SingleLabel when absent.
        processes: those that share the data; batch_size is that of each.

    Raises:
        UserError: also for data that the task does not fit, and for an evaluation that would not be one.
    """
    data = dataset(side, kind, seed) if data is None else data
    task = task or SingleLabel()
    sampler, where = side.sampler, f"DataLoader.{_name(kind)}"
    if sampler.name not in SAMPLERS:
        raise ConfigError(choose(f"{where}.sampler.name", sampler.name, SAMPLERS))
    task.check(data.labels, data.classes, f"{where}.dataset ({side.dataset.get('name')})")
    balanced = sampler.name == BALANCED
    if kind == "test":
        _check_evaluation(side, data, where)
    elif balanced and sampler.shuffle is False:
        raise ConfigError(f"{where}.sampler: {BALANCED} draws at random: remove shuffle: False")
    return build_loader(data, sampler.batch_size, kind == "train" if sampler.shuffle is None else sampler.shuffle,
                        sampler.drop_last, side.loader.num_workers, side.loader.use_shared_memory,
                        side.dataset.get("batch_transform_ops"), seed, transform_by=side.loader.transform_by,
                        collate=task.collate, groups=task.groups(data.labels) if balanced else None,
                        rank=processes.rank, world_size=processes.count, even=kind == "train")


def _check_evaluation(side: Side, data: Dataset, where: str) -> None:
    """Raises ConfigError, naming it, for what would measure something else than the network on all of the data."""
    mixing = [next(iter(op)) if isinstance(op, Mapping) else op
              for op in side.dataset.get("batch_transform_ops") or ()]
    if mixing:
        raise ConfigError(f"{where}.dataset.batch_transform_ops mixes the test images ({', '.join(map(str, mixing))}): "
                          "an evaluation is of the images as they are. Remove it; mixing belongs to DataLoader.Train")
    if side.sampler.drop_last:
        raise ConfigError(f"{where}.sampler.drop_last: True would leave the images of the last batch out of the "
                          "evaluation: set it to False")
    if side.sampler.name == BALANCED:
        raise ConfigError(f"{where}.sampler.name: {BALANCED} shows some images several times and others never: an "
                          "evaluation takes each once. Use DistributedBatchSampler")
    drawing = [type(op).__name__ for op in data.transform.ops if op.random]
    if drawing:
        raise ConfigError(f"{where}.dataset.transform_ops changes the test images at random ({', '.join(drawing)}): "
                          "each evaluation would find another number. Remove it, or use a fixed operator such as "
                          "ResizeImage and CropImage")


def _name(kind: str) -> str:
    return "Train" if kind == "train" else "Eval"
