"""The training loop."""
from __future__ import annotations

import math
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional

import paddle

from ..errors import UserError
from ..log import LOGGER, say
from . import checkpoint, memory
from .amp import Precision
from .curves import Curves
from .epoch_log import EpochLog
from .evaluate import evaluate
from .metrics import Totals
from .optim import EMA, Schedule


class TrainingError(UserError):
    """Training that cannot go on."""


@dataclass
class Job:
    """All that `run` needs, built.

    `save(path, metrics)` writes the tuned state. `resume` is what `checkpoint.load_progress` returned.
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
    ema: Optional[EMA] = None
    curves: Curves = field(default_factory=lambda: Curves(None))
    epochs: int = 1
    seed: int = 0
    update_freq: int = 1
    print_batch_step: int = 10
    eval_interval: int = 1
    save_interval: int = 1
    resume: Optional[dict] = None


def run(job: Job) -> dict:
    """Train, evaluate, save; returns the results.

    Every epoch starts from a random state made of (seed, epoch), so a run that was resumed after an epoch
    goes on with the numbers of one that never stopped.

    Raises:
        TrainingError: when the loss is not finite, or a frozen tensor changed.
    """
    adaptation, precision, schedule = job.adaptation, job.precision, job.schedule
    parameters = adaptation.parameters()
    peak = memory.Peak()
    precision.prepare(adaptation)
    frozen = adaptation.frozen_digest()
    history, best, seconds, first = [], {"epoch": 0, "score": -math.inf}, 0.0, 1
    if job.resume:
        schedule.set_state_dict(job.resume["schedule"])
        checkpoint.restore_optimizer(job.optimizer, parameters, schedule, job.resume["optimizer"])
        precision.set_state_dict(job.resume["scaler"])
        if job.ema and job.resume["ema"]:
            job.ema.set_state_dict(job.resume["ema"])
        history, best, seconds = job.resume["history"], job.resume["best"], job.resume["seconds"]
        first = job.resume["epoch"] + 1
        LOGGER.info("resumed after epoch %d", first - 1)
    start = time.perf_counter() - seconds

    for epoch in range(first, job.epochs + 1):
        row = {"epoch": epoch, **_train_epoch(job, epoch)}
        last = epoch == job.epochs
        if job.eval_loader and (last or job.eval_interval and epoch % job.eval_interval == 0):
            adaptation.eval()
            with job.ema or nullcontext():
                result = evaluate(adaptation, job.eval_loader, job.eval_losses, job.eval_metrics, precision.context)
                LOGGER.info("[Eval][Epoch %d][Avg]%s", epoch, say(result))
                row.update({f"eval_{name}": value for name, value in result.items()})
                job.curves.add(epoch, **{f"eval_{n}": v for n, v in result.items() if n != "images"})
                if _score(result) > best["score"]:
                    best = {"epoch": epoch, "score": _score(result), "top1": result.get("top1")}
                    job.save(job.folder / "best_model.safetensors", {**result, "epoch": epoch})
        history.append(row)
        if last or job.save_interval and epoch % job.save_interval == 0:
            job.save(job.folder / "latest.safetensors", row)
            checkpoint.save_progress(
                job.folder / "latest.pdstates", epoch=epoch, best=best, history=history,
                seconds=time.perf_counter() - start, schedule=schedule.state_dict(),
                scaler=precision.state_dict(), ema=job.ema.state_dict() if job.ema else None,
                optimizer=checkpoint.optimizer_state(job.optimizer, parameters))
    if best["epoch"] == 0 and history:  # never evaluated
        with job.ema or nullcontext():
            job.save(job.folder / "best_model.safetensors", history[-1])
    if adaptation.frozen_digest() != frozen:
        raise TrainingError("a frozen tensor changed during training: this is a fault of ppadapt, "
                            "please report it with the run's config.yaml")
    trained, total = adaptation.counts()
    end = history[-1] if history else {}
    return {
        "top1": end.get("eval_top1"), "top5": end.get("eval_top5"), "loss": end.get("eval_loss"),
        "best_top1": best.get("top1"), "best_epoch": best["epoch"] or None,
        "trained_parameters": trained, "parameters": total, "frozen_digest": frozen,
        "seconds": round(time.perf_counter() - start, 2),
        "images_per_second": round(end.get("train_ips", 0.0), 2), "peak_memory_mb": peak.mb(),
        "history": history,
    }


def _train_epoch(job: Job, epoch: int) -> dict:
    """One epoch; returns means of loss and accuracies, the learning rate and the speed."""
    paddle.seed(job.seed * 1_000_003 + epoch)
    job.adaptation.train()
    job.train_loader.set_epoch(epoch)
    batches = len(job.train_loader)
    if not batches:
        raise TrainingError("an epoch has no batch: lower DataLoader.Train.sampler.batch_size, or set drop_last: False")
    totals, unchecked, pending = Totals(), [], 0
    log = EpochLog(epoch, job.epochs, batches, job.print_batch_step, job.schedule.name)
    try:
        for i, (images, labels) in enumerate(job.train_loader):
            log.read()
            # The last group of an epoch may be smaller: its loss is divided by what it has.
            group = min(job.update_freq, batches - i // job.update_freq * job.update_freq)
            with job.precision.context():
                logits = job.adaptation(images)
                loss = sum(loss(logits, labels) for loss in job.train_losses)
            job.precision.backward(loss / group if group > 1 else loss)
            lr = job.optimizer.get_lr()
            pending += 1
            if pending == group:
                _step(job)
                pending = 0
            n = images.shape[0]
            hits = {k: v for metric in job.train_metrics for k, v in metric(logits, labels).items()}
            totals.add(n, loss=loss * n, **hits)
            unchecked.append((i, lr, loss.detach()))
            log.step(n)
            if log.due(i):
                _check_finite(unchecked, epoch)
                unchecked = []
                means = totals.read()
                log.line(i, lr, means)
                job.curves.add((epoch - 1) * batches + i, train_lr=lr, train_ips=log.speed(),
                               **{f"train_{name}": value for name, value in means.items()})
    finally:
        log.close()
    if pending:  # batches of broken images left the last group short
        _step(job)
    _check_finite(unchecked, epoch)
    if not totals.images:
        raise TrainingError("no training image could be read")
    means = totals.read()
    LOGGER.info("[Train][Epoch %d/%d][Avg]%s, ips: %.1f samples/s", epoch, job.epochs, say(means), log.speed())
    skipped = getattr(job.train_loader.dataset, "skipped", 0)
    if skipped:
        LOGGER.warning("%d broken images were skipped so far", skipped)
    return {**{f"train_{name}": value for name, value in means.items()}, "train_ips": log.speed(),
            "train_seconds": log.busy, "lr": lr}


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


def _score(result: dict) -> float:
    """What the best model is chosen by: top-1, or the loss where there is no top-1."""
    return result.get("top1", -result["loss"])
