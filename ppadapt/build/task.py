"""The sections Task, Loss and Metric: what is asked of a sample, and how answers are judged."""
from __future__ import annotations

import copy
from typing import Mapping

from ..config import Config
from ..data import Dataset
from ..errors import ConfigError, brief
from ..options import construct
from ..tasks import TASKS, SingleLabel, Task


def task_of(config: Config) -> Task:
    """What is asked of a sample. Losses and metrics that the config does not name become the task's, in the config."""
    task = construct(TASKS, {"name": SingleLabel.__name__, **config.Task}, "Task")
    for section, default in ((config.Loss, task.default_losses), (config.Metric, task.default_metrics)):
        for side in ("Train", "Eval"):
            if getattr(section, side) is None:
                setattr(section, side, copy.deepcopy(default))
    return task


def losses(config: Config, task: Task, side: str, data: Dataset) -> list:
    """The losses of a side, "Train" or "Eval", ready for its data."""
    built = entries(task, "losses", getattr(config.Loss, side), f"Loss.{side}")
    check_any(task, "losses", built, f"Loss.{side}")
    for loss in built:
        loss.prepare(data.labels, data.classes)
    return built


def metrics(config: Config, task: Task, side: str) -> list:
    """The metrics of a side; those of an evaluation include the task's own reports."""
    built = entries(task, "metrics", getattr(config.Metric, side), f"Metric.{side}")
    check_any(task, "metrics", built, f"Metric.{side}")
    return built + (task.reports() if side == "Eval" else [])


def check_any(task: Task, family: str, given: list, where: str) -> None:
    """Raises ConfigError for an empty list."""
    if not given:
        raise ConfigError(f"{where} is empty: name at least one of {', '.join(getattr(task, family))}")


def entries(task: Task, family: str, given: list, where: str) -> list:
    """Objects from PaddleClas's lists of one-entry mappings: [{CELoss: {weight: 1.0}}].

    Args:
        family: "losses" or "metrics" of the task.
    """
    return [entry(task, family, one, f"{where}.{i}") for i, one in enumerate(given)]


def entry(task: Task, family: str, given: object, where: str) -> object:
    """The object that one entry of such a list names."""
    choices = getattr(task, family)
    if not isinstance(given, Mapping) or len(given) != 1:
        raise ConfigError(f"{where} is {brief(given)}: it must be one name with its options, such as "
                          f"{{{next(iter(choices))}: {{}}}}")
    (name, options), = given.items()
    if not isinstance(options or {}, Mapping):
        raise ConfigError(f"{where}: {name} is {brief(options)}: give its options, such as {{weight: 1.0}}")
    owner = next((kind for kind, other in TASKS.items() if name in getattr(other, family)), None)
    if name not in choices and owner:
        raise ConfigError(f"{where}: {name} belongs to Task {owner}, and Task.name is {type(task).__name__}: "
                          f"choose from {', '.join(choices)}, or set Task.name: {owner}")
    return construct(choices, {"name": name, **(options or {})}, where)
