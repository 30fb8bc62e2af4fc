"""What `tools/train.py` and `tools/eval.py` do, for Python and notebooks: config in, results out."""
from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Iterator

import numpy as np
import paddle
import yaml

from . import __version__, build
from . import config as configs
from .config import Config
from .data import build_transforms
from .deploy import infer as deploy
from .engine import checkpoint, log
from .engine.amp import Precision
from .engine.evaluate import evaluate as run_evaluation
from .engine.losses import LOSSES
from .engine.metrics import METRICS
from .engine.train import train as run_training
from .errors import ConfigError


def train(config: Config, source: Path = Path("run.yaml")) -> dict:
    """Train as the config says. Returns the results, which are also in `results.json` of the run's folder.

    The folder is Global.output_dir / <data set>-<config name> / <time>: config.yaml, train.log, vdl/,
    best_model.safetensors, latest.safetensors, latest.pdstates, results.json.

    Raises:
        UserError: for every mistake in the config, its files or its data, and for a loss that is not finite.
    """
    log.setup()
    name = "-".join(part for part in (source.parent.name, source.stem) if part)
    job, task = build.training(config, name)
    config_text = yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True)
    checkpoint.replace(job.folder / "config.yaml", lambda t: t.write_text(config_text, encoding="utf-8"))
    log.LOGGER.info("ppadapt %s, paddle %s, %s, Python %s", __version__, paddle.__version__, paddle.get_device(),
                    platform.python_version())
    if task.report:
        log.LOGGER.info("%s", task.report)
    log.LOGGER.info("%s", task.adaptation.summary())
    log.LOGGER.info("%d training images, %s; files go to %s", len(job.train_loader.dataset),
                    f"{len(job.eval_loader.dataset)} test images" if job.eval_loader else "no evaluation", job.folder)
    for what, data in (("training", job.train_loader), ("test", job.eval_loader)):
        if data:
            log.LOGGER.info("%s images are %s", what, data.how)
    try:
        results = run_training(job)
    except KeyboardInterrupt:
        log.LOGGER.warning("stopped. Resume with -o Global.checkpoints=%s", job.folder / "latest")
        raise
    finally:
        job.curves.close()
    best = job.folder / "best_model.safetensors"
    results = {
        "config": config.to_dict(), "folder": str(job.folder),
        "tuning": [type(m).__name__ for m in task.adaptation.methods],
        "backbone": config.Arch.name, "backbone_digest": task.adaptation.backbone_digest, **results,
        "file_bytes": best.stat().st_size if best.is_file() else None,
        "versions": {"ppadapt": __version__, "paddle": paddle.__version__, "python": platform.python_version()},
        "machine": machine()}
    checkpoint.write_json(job.folder / "results.json", results)
    log.LOGGER.info("\n%s", table([results]))
    log.LOGGER.info("results.json, train.log and the tuned file are in %s; curves: visualdl --logdir %s",
                    job.folder, config.Global.output_dir)
    return results


def evaluate(config: Config) -> dict:
    """Evaluate the network of a config on its DataLoader.Eval; returns loss and accuracies in percent.

    Raises:
        UserError: as `train`; also when nothing tuned or pretrained is given, for that would measure chance.
    """
    log.setup()
    build.set_device(config.Global.device)
    _need_something_tuned(config)
    data = build.loader(config.DataLoader.Eval, "test", config.Global.seed)
    task = build.task(config, data.dataset.classes)
    precision = Precision(**vars(config.AMP))
    precision.prepare(task.adaptation)
    task.adaptation.eval()
    result = run_evaluation(task.adaptation, log.progress(data, "evaluating"),
                            build.entries(LOSSES, config.Loss.Eval, "Loss.Eval"),
                            build.entries(METRICS, config.Metric.Eval, "Metric.Eval"), precision.context)
    log.LOGGER.info("[Eval][Avg]%s (%d images)", log.say(result), result["images"])
    if data.dataset.skipped:
        log.LOGGER.warning("%d broken images were skipped", data.dataset.skipped)
    return result


def infer(config: Config) -> Iterator[dict]:
    """The likeliest classes of the images that Infer.infer_imgs names, as they come; see `deploy.infer.classify`.

    With Infer.save_path they go into a JSON file as well.

    Raises:
        UserError: for a mistake in the config, or when no image is found or none can be read.
    """
    log.setup()
    build.set_device(config.Global.device)
    options = config.Infer
    if not options.infer_imgs:
        raise ConfigError("Infer.infer_imgs is missing: give an image, a folder or a glob, "
                          "-o Infer.infer_imgs=photo.jpg")
    if options.batch_size < 1 or options.topk < 1:
        raise ConfigError(f"Infer.batch_size {options.batch_size} and Infer.topk {options.topk} must be at least 1")
    _need_something_tuned(config)
    files = deploy.find_images(options.infer_imgs)
    task = build.task(config, build.class_names(config))
    ops = options.transforms or config.DataLoader.Eval.dataset.get("transform_ops")
    answers = []
    for answer in deploy.classify(task.adaptation, build_transforms(ops), task.classes, files, options.batch_size,
                                  options.topk):
        answers.append(answer)
        yield answer
    if not answers:
        raise ConfigError(f"none of the {len(files)} files of Infer.infer_imgs {options.infer_imgs} can be read")
    if options.save_path:
        checkpoint.write_json(Path(options.save_path), answers)


def predict_test(run: Path, count: int) -> tuple:
    """A finished run on its first test images: (the data set, probabilities [count, classes])."""
    config = configs.load(run / "config.yaml", [f"Global.pretrained_model={run / 'best_model.safetensors'}"])
    data = build.dataset(config.DataLoader.Eval, "test", config.Global.seed)
    task = build.task(config, data.classes)
    return data, deploy.probabilities(task.adaptation, np.stack([data[i][0] for i in range(count)]))


def _need_something_tuned(config: Config) -> None:
    if not config.Global.pretrained_model and config.Arch.head != build.KEEP_HEAD:
        raise ConfigError("the head is not trained: give a tuned file with -o Global.pretrained_model=output/.../"
                          f"best_model.safetensors, or Arch.head: {build.KEEP_HEAD} for the network's own classifier")


def table(rows: list[dict], name=lambda row: " + ".join(row["tuning"])) -> str:
    """Results as a Markdown table."""
    head = ("method", "trained parameters", "of the network", "top-1", "top-5", "file", "images/s", "time", "memory")
    cells = [[name(r), f"{r['trained_parameters']:,}", f"{r['trained_parameters'] / r['parameters']:.2%}",
              _percent(r["top1"]), _percent(r["top5"]), size(r["file_bytes"]), f"{r['images_per_second']:.0f}",
              f"{r['seconds']:.0f} s", f"{r['peak_memory_mb']:.0f} MiB"] for r in rows]
    return markdown(head, cells)


def markdown(head, cells) -> str:
    """A Markdown table whose columns line up as plain text too."""
    rows = [[str(c) for c in row] for row in (head, *cells)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)


def size(count: int | None) -> str:
    """Bytes for people: 5.2 MB."""
    if count is None:
        return "-"
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def machine() -> str:
    """The processor, for tables of results."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{os.cpu_count()} cores of {model}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
