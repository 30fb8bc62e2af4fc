"""What is asked of a sample: the kinds of task a config may name.

A kind says what a target is, how answers are measured and compared, and how one reads. Everything else (data, engine,
runs, serve) asks the task and knows no kind. `TASKS` is a plain dict: a kind of one's own is put into it.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from ..errors import choose
from .loss import Loss
from .metric import Metric, unpacked
from .multi_label import MultiLabel
from .single_label import SingleLabel
from .task import Task, TaskError

TASKS: dict[str, type[Task]] = {kind.__name__: kind for kind in (SingleLabel, MultiLabel)}


def from_manifest(manifest: Optional[Mapping[str, Any]]) -> Task:
    """The task of a tuned file, export or record; of None, which is older than tasks, one label per image.

    Raises:
        TaskError: for a kind that is not known here.
    """
    options = {"kind": SingleLabel.__name__, **(manifest or {})}
    kind = options.pop("kind")
    if kind not in TASKS:
        raise TaskError(choose("Task", kind, TASKS))
    return TASKS[kind](**options)


__all__ = ["TASKS", "Loss", "Metric", "MultiLabel", "SingleLabel", "Task", "TaskError", "from_manifest",
           "unpacked"]
