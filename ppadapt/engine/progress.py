"""Where a run is: what a checkpoint takes of a job, and gives back to one."""
from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping, Optional

import numpy as np
import paddle

from .. import paddle_compat
from ..errors import ConfigError
from ..log import LOGGER
from . import checkpoint
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

    def due(self) -> bool:
        """Whether steps or seconds ask for one inside the epoch."""
        job = self.job
        return bool(job.save_interval_steps and self.progress.step - self.last_step >= job.save_interval_steps
                    or job.save_interval_seconds and time.monotonic() - self.last_time >= job.save_interval_seconds)

    def save(self) -> Optional[Path]:
        """Write a checkpoint of where the run is now; of several processes, the first does."""
        job, now = self.job, self.progress
        if not job.processes.first:
            self.last_step, self.last_time = now.step, time.monotonic()
            return None
        now.seconds = time.perf_counter() - self.start
        best = job.folder / checkpoint.BEST
        evaluated = now.history and not now.batch and not job.ema  # what trains is what the last numbers are of
        row = now.history[-1] if evaluated else {}
        self.saved = checkpoint.write(
            job.folder / checkpoint.FOLDER, now.step, lambda path: job.save(path, row), _tensors(job, now),
            _plain(job, now), best if best.is_file() else None)
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
        progress = Progress(int(data["epoch"]), int(data["batch"]), int(data["step"]), list(data["history"]),
                            dict(data["best"]), float(data["seconds"]), data.get("lr", job.optimizer.get_lr()))
        for i, metric in enumerate(job.train_metrics if job.processes.first else ()):
            start = f"metric/{i}/"
            metric.combine([{name[len(start):]: array for name, array in tensors.items() if name.startswith(start)}])
        if "loss/sum" in tensors and job.processes.first:
            progress.total.sum = paddle.to_tensor(tensors["loss/sum"])
            progress.total.images = int(tensors["loss/images"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"Global.checkpoints {found.folder} lacks what this run needs ({type(error).__name__}: "
                          f"{error}): start from its tuned file alone, Global.pretrained_model={found.tuned}") from None
    if progress.batch and not job.processes.first:
        paddle.seed(job.seed * 1_000_003 + progress.epoch + progress.step + job.processes.apart)
    elif progress.batch:
        if data["random"] is None:
            LOGGER.warning("Paddle %s cannot tell its random state: dropout inside this epoch draws other numbers than "
                           "in a run that never stopped", paddle.__version__)
        else:
            paddle_compat.set_random_state(data["random"])
    job.curves.replay(data["curves"])
    if found.best is not None:
        if job.processes.first:
            checkpoint.link(found.best, job.folder / checkpoint.BEST)
    elif progress.best["epoch"]:
        LOGGER.warning("%s has no file of the best model so far (epoch %d): best_model.safetensors will be the best "
                       "from here on", found.folder, progress.best["epoch"])
        progress.best = Progress().best
    return progress


def _plain(job: Job, now: Progress) -> dict[str, Any]:
    """What is no tensor."""
    return {
        "epoch": now.epoch, "batch": now.batch, "step": now.step, "history": now.history, "best": now.best,
        "seconds": now.seconds, "lr": now.lr, "schedule": job.schedule.state_dict(),
        "scaler": _scaler(job.precision.state_dict()), "ema_steps": job.ema.steps if job.ema else None,
        "random": paddle_compat.random_state(),
        "curves": job.curves.points, **job.identity}


def _scaler(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: np.asarray(value).tolist() if isinstance(value, (np.ndarray, paddle.Tensor)) else value
            for name, value in state.items()}


def _tensors(job: Job, now: Progress) -> dict[str, np.ndarray]:
    found = {f"optimizer/{name}": array for name, array in optimizer_state(job).items()}
    if job.ema:
        found.update({f"ema/{name}": np.asarray(array) for name, array in job.ema.state_dict()["average"].items()})
    if now.batch and now.total.images:
        found["loss/sum"], found["loss/images"] = now.total.sum.numpy(), np.asarray(now.total.images)
        for i, metric in enumerate(job.train_metrics):
            found.update({f"metric/{i}/{name}": np.asarray(array) for name, array in metric.state().items()})
    return found


def optimizer_state(job: Job) -> dict[str, np.ndarray]:
    """The optimizer's tensors under the parameters' names in the network.

    Paddle names them after counters (`linear_7.w_0_moment1_0`) that differ in the next process, where its
    own `set_state_dict` would quietly find nothing to set.
    """
    parameters = job.adaptation.trained_parameters()
    owners = sorted(((p.name + "_", n) for n, p in parameters.items()), key=lambda pair: -len(pair[0]))
    state = {}
    for key, value in job.optimizer.state_dict().items():
        if isinstance(value, paddle.Tensor):
            for prefix, name in owners:
                if key.startswith(prefix):
                    state[f"{name}|{key[len(prefix):]}"] = value.numpy()
                    break
            else:
                raise RuntimeError(f"optimizer tensor {key} belongs to no trained parameter")
    return state


def _restore_optimizer(job: Job, state: Mapping[str, np.ndarray]) -> None:
    """The inverse of `optimizer_state`; the schedule keeps its place. Raises ConfigError for another optimizer."""
    parameters, own = job.adaptation.trained_parameters(), {}
    for key, value in state.items():
        name, _, rest = key.partition("|")
        if name not in parameters:
            raise ConfigError(f"Global.checkpoints trained {name}, which does not train here: resume with the "
                              "Arch and Tuning of the run (its config.yaml)")
        own[f"{parameters[name].name}_{rest}"] = paddle.to_tensor(value)
    try:
        job.optimizer.set_state_dict({**own, "LR_Scheduler": job.schedule.state_dict()})
    except (AssertionError, KeyError) as error:
        if not job.allow_changes:
            raise ConfigError(f"Global.checkpoints is of another optimizer or other shapes ({error}): resume with that "
                              "of the run (its config.yaml)") from None
        LOGGER.warning("the optimizer starts anew: the checkpoint is of another one")
