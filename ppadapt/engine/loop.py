"""The training loop."""
from __future__ import annotations

import errno
import math
import os
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Mapping, Optional, Sequence

import paddle

from ..errors import UserError
from ..log import LOGGER, say
from . import checkpoint, memory, progress
from .amp import Precision
from .curves import Curves, Observer
from .epoch_log import EpochLog, Pace
from .evaluate import EvaluationError, details, evaluate, notes
from .optim import EMA, scale_gradients
from .processes import ALONE, Processes
from .progress import Progress, Saver
from .schedules import Schedule
from .stopping import Stopped, Stopping
from .totals import MeanLoss

LATEST = "latest.safetensors"
LATE = 2**12  # how the first of so many processes at most tells the others that a checkpoint is due


class TrainingError(UserError):
    """Training that cannot go on."""


@dataclass
class Job:
    """All that `run` needs, built.

    `task` says what is asked of a sample, of `classes`. `save(path, metrics)` writes the tuned state. `resume` is the
    checkpoint to go on from; `identity` is what its successors will say of the run. `early_stop` is how many
    evaluations may pass without a better score. `processes` are those that train together; the first alone writes.
    """

    adaptation: Any
    train_loader: Any
    eval_loader: Any
    train_losses: list
    eval_losses: list
    train_metrics: list
    eval_metrics: list
    optimizer: paddle.optimizer.Optimizer
    schedule: Schedule
    folder: Path
    save: Callable[[Path, dict], None]
    precision: Precision
    task: Any = None
    classes: Sequence[str] = ()
    ema: Optional[EMA] = None
    curves: Curves = field(default_factory=lambda: Curves(None))
    observer: Observer = field(default_factory=Observer)
    epochs: int = 1
    seed: int = 0
    update_freq: int = 1
    print_batch_step: int = 10
    pace: Pace = field(default_factory=Pace)
    eval_interval: int = 1
    save_interval: int = 1
    save_interval_steps: int = 0
    save_interval_seconds: int = 0
    early_stop: Optional[int] = None
    resume: Optional[checkpoint.Checkpoint] = None
    allow_changes: bool = False
    identity: Mapping[str, Any] = field(default_factory=dict)
    processes: Processes = ALONE


def run(job: Job) -> dict:
    """Train, evaluate, save; returns the results.

    Every epoch starts from a random state made of (seed, epoch), and a checkpoint holds the state inside one, so a run
    that was resumed goes on with the numbers of one that never stopped.

    Raises:
        Stopped: after a signal; the run is saved then.
        TrainingError: when the loss or what trains is not finite, or a frozen tensor changed.
        EvaluationError: when an evaluation is not finite.
        ProcessError: when the processes do not agree on what they train, or one of them has ended.
    """
    adaptation, precision, task = job.adaptation, job.precision, job.task
    main = task.main
    noted = notes(job.eval_metrics, len(job.classes))
    peak = memory.Peak()
    precision.prepare(adaptation)
    frozen = adaptation.frozen_digest()
    now = progress.restore(job, job.resume) if job.resume else Progress()
    first = now.epoch
    job.processes.agree(**{
        "the frozen network": frozen, "what trains": adaptation.trained, "the classes": list(job.classes),
        "the number of training images": len(job.train_loader.dataset), "where training goes on": (first, now.batch)})
    if job.resume:
        inside = f", {now.batch} batches into epoch {now.epoch}" if now.batch else ""
        LOGGER.info("resumed after epoch %d%s", now.epoch - 1, inside)
        if now.epoch > job.epochs:
            LOGGER.warning("nothing is left to train: epoch %d of %d is done. For more, set Global.epochs higher",
                           now.epoch - 1, job.epochs)
    saver, stopping = Saver(job, now), Stopping(job.processes)
    for batches in (job.train_loader, job.eval_loader):
        if hasattr(batches, "watch"):  # its first pass computes what all others read
            batches.watch = stopping.watch
    try:
        with stopping.listening():
            try:
                while now.epoch <= job.epochs and not _stale(job, now):
                    stopping.check()
                    _one_epoch(job, now, saver, stopping, noted)
            except Stopped:
                saver.save()  # still listening: one signal more must not end this half-way, unless it is meant to
                raise
    except OSError as error:  # how Paddle hands on a Ctrl-C inside a backward pass, where signals could not be noted
        if "KeyboardInterrupt" not in str(error):
            raise
        raise KeyboardInterrupt from None
    history, best = now.history, now.best
    for name, missing in ((checkpoint.BEST, best["epoch"] == 0),  # never evaluated
                          (LATEST, not (job.folder / LATEST).exists())):  # all was done before the run was resumed
        if missing and history:
            with job.ema or nullcontext():
                _save(job, name, history[-1])
    if _stale(job, now):
        LOGGER.info("stopped after epoch %d of %d: %d evaluations without a better score than that of epoch %d "
                    "(Global.early_stop)", history[-1]["epoch"], job.epochs, job.early_stop, best["epoch"])
    if adaptation.frozen_digest() != frozen:
        raise TrainingError("a frozen tensor changed during training: this is a fault of ppadapt, "
                            "please report it with the run's config.yaml")
    trained, total = adaptation.counts()
    end = history[-1] if history else {}
    evaluated = "eval_loss" in end and first <= end["epoch"]
    return {
        **{name: end.get(f"eval_{name}") for name in task.headline}, "loss": end.get("eval_loss"),
        f"best_{main}": best.get(main), "best_epoch": best["epoch"] or None,
        "trained_parameters": trained, "parameters": total, "frozen_digest": frozen,
        "seconds": round(time.perf_counter() - saver.start, 2),
        "images_per_second": round(end.get("train_ips", 0.0), 2), "peak_memory_mb": peak.mb(),
        "stopped_early": _stale(job, now), "notes": noted,
        **(details(job.eval_metrics, job.classes) if evaluated else {}), "history": history,
    }


def _one_epoch(job: Job, now: Progress, saver: Saver, stopping: Stopping, noted: Mapping[str, str]) -> None:
    """Train an epoch or what is left of it, evaluate, save; `now` is then at the start of the next."""
    epoch, last = now.epoch, now.epoch == job.epochs
    row = {"epoch": epoch, **_train_epoch(job, now, saver, stopping)}
    _check_trained(job, now)
    if _evaluates(job, epoch):
        begun = job.pace.clock()
        row.update(_evaluate(job, now, stopping, noted))
        job.pace.evaluated(begun, sum(_evaluates(job, later) for later in range(epoch + 1, job.epochs + 1)))
    job.adaptation.eval()
    with job.ema or nullcontext():
        job.curves.draw(epoch, job.observer.layers())
    now.history.append(row)
    now.epoch, now.batch, now.total = epoch + 1, 0, MeanLoss()
    last = last or _stale(job, now)
    if last or job.save_interval and epoch % job.save_interval == 0:
        with job.ema or nullcontext():  # what the numbers beside it are of
            _save(job, LATEST, row)
        saver.save()


def _evaluates(job: Job, epoch: int) -> bool:
    """Whether an evaluation comes after this epoch."""
    return bool(job.eval_loader) and bool(epoch == job.epochs or job.eval_interval and epoch % job.eval_interval == 0)


def _save(job: Job, name: str, metrics: Mapping[str, Any]) -> None:
    """Write a tuned file into the run's folder. Raises OSError where that went meanwhile: it is not made anew."""
    if job.processes.first and not job.folder.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(job.folder))
    job.save(job.folder / name, metrics)


def _evaluate(job: Job, now: Progress, stopping: Stopping, noted: Mapping[str, str]) -> dict[str, float]:
    """The numbers of the network as it is, or of its moving average; the best so far is kept."""
    job.adaptation.eval()
    job.observer.begin()
    with job.ema or nullcontext():
        try:
            result = evaluate(job.adaptation, stopping.watch(job.eval_loader), job.eval_losses, job.eval_metrics,
                              job.precision.context, job.processes, job.observer.batch)
        except EvaluationError as error:
            raise EvaluationError(f"{_place(now)} {error}") from None
        LOGGER.info("[Eval][Epoch %d][Avg]%s", now.epoch, say(result, noted))
        _say_missing(job.eval_loader.dataset, result["images"])
        job.curves.evaluated(now.epoch, result)
        if job.task.score(result) > now.best["score"]:
            main = job.task.main
            now.best = {"epoch": now.epoch, "score": job.task.score(result), main: result.get(main)}
            _save(job, checkpoint.BEST, {**result, "epoch": now.epoch})
    return {f"eval_{name}": value for name, value in result.items()}


def _train_epoch(job: Job, now: Progress, saver: Saver, stopping: Stopping) -> dict:
    """One epoch, from where `now` is; returns means of loss and metrics, the learning rate and the speed."""
    epoch, batches, processes = now.epoch, len(job.train_loader), job.processes
    if not batches:
        raise TrainingError("an epoch has no batch: lower DataLoader.Train.sampler.batch_size, or set drop_last: False")
    if not now.batch:
        paddle.seed(job.seed * 1_000_003 + epoch + processes.apart)
        for metric in job.train_metrics:
            metric.reset()
    job.adaptation.train()
    job.precision.begin_epoch()
    job.train_loader.set_epoch(epoch, now.batch)
    unchecked: list = []
    group = _Group(job, batches - now.batch, stopping, saver)
    log = EpochLog(epoch, job.epochs, batches, job.print_batch_step, job.schedule.name, now.batch, processes.count,
                   job.pace)
    try:
        for i, (images, targets) in enumerate(job.train_loader, now.batch):
            log.read()
            with job.precision.context():
                logits = job.adaptation(images)
                loss = sum(loss(logits, targets) for loss in job.train_losses)
            lr = now.lr = job.optimizer.get_lr()
            n = images.shape[0]
            stepped = group.backward(loss, n)
            now.total.add(n, loss)
            for metric in job.train_metrics:
                metric.update(logits, targets)
            unchecked.append((i, lr, loss.detach()))
            log.step(n)
            if log.due(i):
                _check_finite(unchecked, epoch)
                unchecked = []
                means = _means(job, now.total)
                log.line(i, lr, means)
                job.curves.add((epoch - 1) * batches + i, train_lr=lr, train_ips=log.speed(),
                               **{f"train_{name}": value for name, value in means.items()})
            if stepped:
                now.batch, now.step = i + 1, now.step + 1
                if saver.due() or stopping.now:
                    _check_finite(unchecked, epoch)
                    _check_trained(job, now)
                    stopping.check()
                    saver.save()
    finally:
        log.close()
    if group.left and processes.count > 1:  # the others went on with one batch more
        raise TrainingError(f"of {group.left} of {batches} batches of rank {processes.rank} no image could be read: "
                            "several processes cannot do without. Remove the broken images, or train in one process")
    now.step += group.finish()
    now.batch = batches
    _check_finite(unchecked, epoch)
    _check_steps(job, now)
    processes.combine(now.total, job.train_metrics)
    if processes.count > 1:  # running statistics, where each process has its own
        trained = set(job.adaptation.trained)
        processes.average([tensor for name, tensor in job.adaptation.tensors().items() if name not in trained])
    if not now.total.images:
        raise TrainingError("no training image could be read")
    means = _means(job, now.total)
    if not processes.first:  # from here on the first has seen what all have
        now.total = MeanLoss()
        for metric in job.train_metrics:
            metric.reset()
    LOGGER.info("[Train][Epoch %d/%d][Avg]%s, ips: %.1f samples/s, eta: %s", epoch, job.epochs, say(means), log.speed(),
                log.time_left())
    skipped = getattr(job.train_loader.dataset, "skipped", 0)
    if skipped:
        LOGGER.warning("%d broken images were skipped so far", skipped)
    return {**{f"train_{name}": value for name, value in means.items()}, "train_ips": log.speed(),
            "train_seconds": log.busy, "lr": now.lr}


class _Group:
    """The `update_freq` batches of one step. Every image of them counts alike, whatever its batch.

    A batch's mean loss is weighed by its share of as many batches like the first; where a group turns out to have
    other than that many images (the epoch ends, broken ones were left out), its gradients are scaled before the step.
    """

    def __init__(self, job: Job, batches: int, stopping: Stopping, saver: Saver):
        self.job, self.left, self.stopping, self.saver = job, batches, stopping, saver
        self.batches = self.images = self.expected = 0

    def backward(self, loss: paddle.Tensor, images: int) -> bool:
        """Add the gradients of a batch, and step when the group is whole; whether that was so."""
        if not self.batches:
            self.expected = self.job.processes.weight = images * self.job.update_freq
        self.job.precision.backward(loss / (self.expected / images) if self.job.update_freq > 1 else loss)
        self.images += images
        self.batches += 1
        self.left -= 1
        return (self.batches == self.job.update_freq or not self.left) and self.finish()

    def finish(self) -> bool:
        """Step with what there is; of nothing, do nothing and say so."""
        if not self.batches:
            return False
        if self.job.processes.count > 1:
            parameters = list(self.job.adaptation.trained_parameters().values())
            told = self.job.processes.mean_gradients(
                parameters, self.images, self.stopping.wanted + LATE * self.saver.late)
            self.stopping.agree(told % LATE > 0)
            self.saver.agree(told >= LATE)
        elif self.images != self.expected:
            scale_gradients(self.job.optimizer, self.expected / self.images)
        self.batches = self.images = 0
        _step(self.job)
        return True


def _means(job: Job, total: MeanLoss) -> dict[str, float]:
    means = {"loss": total.read()}
    for metric in job.train_metrics:
        means.update(metric.compute())
    return means


def _step(job: Job) -> None:
    job.precision.step(job.optimizer)
    job.schedule.step()
    if job.ema:
        job.ema.update()


def _check_finite(losses: list, epoch: int) -> None:
    for i, lr, loss in losses:
        if not math.isfinite(float(loss)):
            raise TrainingError(f"the loss is {float(loss)} at epoch {epoch}, step {i}, learning rate {lr:.3g}: "
                                "lower Optimizer.lr.learning_rate, or clip with Optimizer.clip_norm=1.0")


def _check_steps(job: Job, now: Progress) -> None:
    """Steps that were left out are said; an epoch without one that was not ends training."""
    precision = job.precision
    if precision.hopeless():
        raise TrainingError(f"{_place(now)} {precision.hopeless()}")
    if precision.left_out:
        LOGGER.info("of epoch %d %d of %d steps were left out, for their gradients overflowed float16", now.epoch,
                    precision.left_out, precision.steps)


def _check_trained(job: Job, now: Progress) -> None:
    """What a gradient that is no number has done shows in no loss yet, but would be saved."""
    states = ((name.replace("|", ": "), tensor) for name, tensor in progress.optimizer_tensors(job))
    bad = [name for tensors in (job.adaptation.tensors().items(), states) for name, tensor in tensors
           if tensor.is_floating_point() and not bool(paddle.isfinite(tensor).all())]
    if bad:
        raise TrainingError(f"{_place(now)} {', '.join(bad[:4])}{' ...' * (len(bad) > 4)} holds NaN or infinity: lower "
                            "Optimizer.lr.learning_rate, or clip with Optimizer.clip_norm=1.0")


def _place(now: Progress) -> str:
    return f"in epoch {now.epoch}, after step {now.step}, learning rate {now.lr or 0:.3g},"


def _say_missing(data: Any, images: int) -> None:
    if images < len(data):
        LOGGER.warning("evaluated on %d of %d test images: %d could not be read", images, len(data), len(data) - images)


def _stale(job: Job, now: Progress) -> bool:
    """Whether so many evaluations as `early_stop` says have passed since the best one; known from the history alone."""
    passed = sum("eval_loss" in row for row in now.history if row["epoch"] > now.best["epoch"])
    return bool(job.early_stop) and now.best["epoch"] > 0 and passed >= job.early_stop
