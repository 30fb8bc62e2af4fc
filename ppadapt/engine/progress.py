"""Where a run is: what a checkpoint takes of a job, and gives back to one."""
from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator, Mapping, Optional

import numpy as np
import paddle

from ..errors import ConfigError
from ..log import LOGGER
from . import checkpoint, share
from .totals import MeanLoss

if TYPE_CHECKING:
    from .loop import Job


@dataclass
class Progress:
    """The place of a run: `batch` batches of `epoch` are done, in `step` optimizer steps in all.

    `total` is the loss of the epoch so far; what its metrics have seen is in the job's metrics. `lr` was that of the
    last batch.
    """

    epoch: int = 1
    batch: int = 0
    step: int = 0
    history: list[dict] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=lambda: {"epoch": 0, "score": -math.inf})
    seconds: float = 0.0
    lr: Optional[float] = None
    total: MeanLoss = field(default_factory=MeanLoss)


class Saver:
    """Writes the checkpoints of a job, when they are due."""

    def __init__(self, job: Job, progress: Progress):
        self.job, self.progress = job, progress
        self.start = time.perf_counter() - progress.seconds
        self.last_step, self.last_time = progress.step, time.monotonic()
        self.saved: Optional[Path] = None
        self.asked = False

    @property
    def late(self) -> bool:
        """Whether seconds ask for a checkpoint, by the clock of the first process: no two agree."""
        interval = self.job.save_interval_seconds
        return bool(interval) and self.job.processes.first and time.monotonic() - self.last_time >= interval

    def agree(self, asked: bool) -> None:
        """Hear, with the others, whether the first process was late before the step that all have just made."""
        self.asked = asked

    def due(self) -> bool:
        """Whether steps or seconds ask for one inside the epoch; the same in all processes."""
        steps = self.job.save_interval_steps
        return bool(steps and self.progress.step - self.last_step >= steps
                    or (self.late if self.job.processes.count == 1 else self.asked))

    def save(self) -> Optional[Path]:
        """Write a checkpoint of where the run is now. Of several processes all call it, after the same step, and the
        first writes."""
        job, now, self.asked = self.job, self.progress, False
        shares = share.of_all(job, now)
        if not job.processes.first:
            self.last_step, self.last_time = now.step, time.monotonic()
            return None
        seen, random = share.to_plain(shares)
        now.seconds = time.perf_counter() - self.start
        best = job.folder / checkpoint.BEST
        evaluated = now.history and not now.batch and not job.ema  # what trains is what the last numbers are of
        row = now.history[-1] if evaluated else {}
        self.saved = checkpoint.write(
            job.folder / checkpoint.FOLDER, now.step, lambda path: job.save(path, row),
            {**_tensors(job), **seen}, _plain(job, now, random), best if best.is_file() else None)
        self.last_step, self.last_time = now.step, time.monotonic()
        return self.saved


def restore(job: Job, found: checkpoint.Checkpoint) -> Progress:
    """Bring a job to where a checkpoint was written; its tuned state has been loaded before.

    Raises:
        ConfigError: when it is not of this optimizer, or lacks what this run needs.
    """
    data, tensors = found.progress, found.tensors
    try:
        job.schedule.set_state_dict(data["schedule"])
        _restore_optimizer(job, {name[len("optimizer/"):]: array for name, array in tensors.items()
                                 if name.startswith("optimizer/")})
        job.precision.set_state_dict({name: np.asarray(value) if isinstance(value, list) else value
                                      for name, value in (data["scaler"] or {}).items()})
        if job.ema and data["ema_steps"] is not None:
            job.ema.set_state_dict({"steps": data["ema_steps"], "average": {
                name[len("ema/"):]: array for name, array in tensors.items() if name.startswith("ema/")}})
        elif job.ema and job.schedule.last_epoch > 0:
            LOGGER.warning("%s has no moving average: it begins anew with what trains", found.folder)
        progress = Progress(int(data["epoch"]), int(data["batch"]), int(data["step"]), list(data["history"]),
                            dict(data["best"]), float(data["seconds"]), data.get("lr", job.optimizer.get_lr()))
        share.restore(job, progress, share.from_plain(tensors, [data["random"], *data.get("random_of_others", ())]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"Global.checkpoints {found.folder} lacks what this run needs ({type(error).__name__}: "
                          f"{error}): start from its tuned file alone, Global.pretrained_model={found.tuned}") from None
    job.curves.replay(data["curves"])
    if found.best is not None:
        if job.processes.first:
            checkpoint.link(found.best, job.folder / checkpoint.BEST)
    elif progress.best["epoch"]:
        LOGGER.warning("%s has no file of the best model so far (epoch %d): best_model.safetensors will be the best "
                       "from here on", found.folder, progress.best["epoch"])
        progress.best = Progress().best
    return progress


def _plain(job: Job, now: Progress, random: list) -> dict[str, Any]:
    """What is no tensor."""
    return {
        "epoch": now.epoch, "batch": now.batch, "step": now.step, "history": now.history, "best": now.best,
        "seconds": now.seconds, "lr": now.lr, "schedule": job.schedule.state_dict(),
        "scaler": _scaler(job.precision.state_dict()), "ema_steps": job.ema.steps if job.ema else None,
        "random": random[0], "random_of_others": random[1:],
        "curves": job.curves.points, **job.identity}


def _scaler(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: np.asarray(value).tolist() if isinstance(value, (np.ndarray, paddle.Tensor)) else value
            for name, value in state.items()}


def _tensors(job: Job) -> dict[str, np.ndarray]:
    found = {f"optimizer/{name}": array for name, array in optimizer_state(job).items()}
    if job.ema:
        found.update({f"ema/{name}": np.asarray(array) for name, array in job.ema.state_dict()["average"].items()})
    return found


def optimizer_state(job: Job) -> dict[str, np.ndarray]:
    """The optimizer's tensors under the parameters' names in the network."""
    return {name: tensor.numpy() for name, tensor in optimizer_tensors(job)}


def optimizer_tensors(job: Job) -> Iterator[tuple[str, paddle.Tensor]]:
    """The same where they are.

    Paddle names them after counters (`linear_7.w_0_moment1_0`) that differ in the next process, where its
    own `set_state_dict` would quietly find nothing to set.
    """
    parameters = job.adaptation.trained_parameters()
    owners = sorted(((p.name + "_", n) for n, p in parameters.items()), key=lambda pair: -len(pair[0]))
    for key, value in job.optimizer.state_dict().items():
        if isinstance(value, paddle.Tensor):
            for prefix, name in owners:
                if key.startswith(prefix):
                    yield f"{name}|{key[len(prefix):]}", value
                    break
            else:
                raise RuntimeError(f"optimizer tensor {key} belongs to no trained parameter")


def _restore_optimizer(job: Job, state: Mapping[str, np.ndarray]) -> None:
    """The inverse of `optimizer_state`; the schedule keeps its place. Raises ConfigError for another optimizer."""
    parameters, own = job.adaptation.trained_parameters(), {}
    for key, value in state.items():
        name, _, rest = key.partition("|")
        if name not in parameters:
            raise ConfigError(f"Global.checkpoints trained {name}, which does not train here: resume with the "
                              "Arch and Tuning of the run (its config.yaml)")
        own[f"{parameters[name].name}_{rest}"] = paddle.to_tensor(value)
    if not own and job.schedule.last_epoch > 0 and not isinstance(job.optimizer, paddle.optimizer.SGD):
        LOGGER.warning("the checkpoint has no state of the optimizer: its moments begin anew")
    try:
        for key, value in state.items():  # Paddle finds it at the first step
            name, _, rest = key.partition("|")
            shape = list(parameters[name].shape)
            if value.size != 1 and list(value.shape) != shape:
                raise AssertionError(f"{rest} of {name}: {list(value.shape)} for {shape}")
        job.optimizer.set_state_dict({**own, "LR_Scheduler": job.schedule.state_dict()})
    except (AssertionError, KeyError) as error:
        if not job.allow_changes:
            raise ConfigError(f"Global.checkpoints is of another optimizer or other shapes ({error}): resume with that "
                              "of the run (its config.yaml)") from None
        LOGGER.warning("the optimizer starts anew: the checkpoint is of another one")
