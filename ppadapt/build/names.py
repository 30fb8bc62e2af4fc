"""What a name in a config takes: where a name changes, the options that still fit go over to the new one."""
from __future__ import annotations

from typing import Any, Collection, Mapping, Optional

from ..data import DATASETS
from ..engine.optim import optimizer_options
from ..engine.schedules import schedule_options
from ..networks import network_options
from ..options import options_of
from ..tasks import TASKS

# What every data set takes beside its own options.
DATASET_OPTIONS = ("transform_ops", "batch_transform_ops", "holdout", "split")


def options_for(path: str, given: Mapping[str, Any]) -> Optional[Collection[str]]:
    """The options that what is named at a place of a config takes; None where any may stand there, or for an unknown
    name. A tuning method's options are its paper's: none goes over to another method."""
    name = given["name"]
    if not isinstance(name, str):
        return None
    if path.partition(".")[0] == "Tuning":
        return ()
    if path == "Optimizer.lr":
        return schedule_options(name, given)
    if path in ("Optimizer", "Arch"):
        return {"Optimizer": optimizer_options, "Arch": network_options}[path](name)
    if path == "Task" and name in TASKS:
        return options_of(TASKS[name])
    if path.startswith("DataLoader.") and path.endswith(".dataset") and name in DATASETS:
        return (*options_of(DATASETS[name], ("transform", "seed")), *DATASET_OPTIONS)
    return None
