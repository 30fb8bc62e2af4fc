"""What `ppadapt train`, `eval` and `infer` do, for Python and notebooks: config in, results out."""
from __future__ import annotations

import contextlib
import errno
import os
import platform
import time
from pathlib import Path
from typing import Any, Callable, Iterator, Optional, Sequence

import numpy as np
import paddle
from PIL import Image

from .. import build, cpu, files, log
from .. import config as configs
from ..config import Config
from ..config.reading import yaml_text
from ..data import build_transforms, labels
from ..engine import checkpoint, processes
from ..engine import evaluate as evaluation
from ..engine.loop import run as run_training
from ..errors import ConfigError, UserError
from ..serve import backends
from ..serve import infer as deploy
from ..serve import service as serving
from ..tasks import Task
from ..tuning.frozen.remainder import Remainder
from ..version import __version__
from ..weights import digest
from . import pictures
from .alone import say_whether_reproduced

MOST_CLASSES = 20  # that are read in a table; of more the weakest are listed
WEAKEST = 10
_NOT_WRITTEN = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EACCES,
                errno.EPERM, errno.EIO, errno.ESTALE)


def train(config: Config, source: Optional[Path] = None) -> dict:
    """Train as the config says. Returns the results, which are also in `results.json` of the run's folder.

    The folder is Global.output_dir / <data set>-<config name> / <time>: config.yaml, train.log, vdl/,
    best_model.safetensors, latest.safetensors, results.json, a picture of what was found of each class, and in ckpt/
    the last two checkpoints. Of several processes that paddle.distributed.launch started, the first writes it.

    Args:
        source: the config's file, which names the runs; that it was read from when absent.

    Raises:
        UserError: for every mistake in the config, its files or its data, and for a loss that is not finite.
    """
    log.setup(notes=config.notes, facts=config.facts)
    job, model = build.job(config, name_of(config, source))
    if job.processes.first:
        files.write_text(job.folder / "config.yaml", yaml_text(config.to_dict()))
    log.LOGGER.info("ppadapt %s, paddle %s, %s, Python %s", __version__, paddle.__version__, paddle.get_device(),
                    platform.python_version(), extra=log.OF_ONE_RUN)
    for line in filter(None, (model.report, model.adaptation.summary(), *model.notes)):
        log.LOGGER.info("%s", line, extra=log.OF_ONE_RUN)
    log.LOGGER.info("%d training images, %s; files go to %s", len(job.train_loader.dataset),
                    f"{len(job.eval_loader.dataset)} test images" if job.eval_loader else "no evaluation", job.folder,
                    extra=log.OF_ONE_RUN)
    for what, data in (("training", job.train_loader), ("test", job.eval_loader)):
        if data:
            log.LOGGER.info("%s images are %s", what, data.how, extra=log.OF_ONE_RUN)
    try:
        results = run_training(job)
        if config.Global.use_visualdl and job.processes.first:
            drawn = pictures.of_classes(results, job.classes, job.folder)
            drawn += pictures.of_mistakes(job.observer.mistakes, job.task, job.classes, job.folder)
            for path in drawn:
                job.curves.picture(f"eval/{path.stem}", results["history"][-1]["epoch"],
                                   np.asarray(Image.open(path).convert("RGB")))
    except KeyboardInterrupt as stop:
        saved = checkpoint.steps(job.folder / checkpoint.FOLDER)
        advice = (f"Go on with -o Global.checkpoints={saved[-1]} (or =auto)" if saved else
                  "Nothing was saved yet: begin anew")
        log.LOGGER.warning("stopped%s. %s", f" by {stop}" if str(stop) else "", advice)
        raise
    except (UserError, OSError) as error:
        if job.processes.failure:  # what happens in a backward pass arrives as OSError
            raise job.processes.failure from None
        if not isinstance(error, OSError) or error.errno not in _NOT_WRITTEN:
            raise
        raise _cannot_write(job.folder, error) from None
    finally:
        job.curves.close()
    best = job.folder / "best_model.safetensors"
    if job.processes.count > 1 or config.DataLoader.Eval.sampler.shuffle:
        results.pop("right", None)  # the images came in another order than that of the data
    results = {
        "config": config.to_dict(), "folder": str(job.folder),
        "tuning": [type(m).__name__ for m in model.adaptation.methods],
        "backbone": config.Arch.name, "backbone_digest": model.adaptation.backbone_digest, **results,
        "task": model.task.manifest(), "cached_features": isinstance(job.adaptation, Remainder),
        "training_images": len(job.train_loader.dataset),
        "file_bytes": best.stat().st_size if best.is_file() else None,
        "versions": {"ppadapt": __version__, "paddle": paddle.__version__, "python": platform.python_version()},
        "machine": machine(), "load": _load(), "processes": job.processes.count}
    if job.processes.first:
        files.write_json(job.folder / "results.json", results)
    log.LOGGER.info("\n%s", table([results], model.task), extra=log.OF_ONE_RUN)
    log.LOGGER.info("results.json, train.log%s are in %s; curves: visualdl --logdir %s",
                    " and the tuned file" if best.is_file() else "", job.folder, config.Global.output_dir,
                    extra=log.OF_ONE_RUN)
    return results


def _cannot_write(folder: Path, error: OSError) -> UserError:
    """What a full disk, or a folder that went, ends a run with: what was saved before is whole."""
    saved = checkpoint.steps(folder / checkpoint.FOLDER)
    kept = (f"The checkpoint {saved[-1]} is whole: go on with -o Global.checkpoints={saved[-1]}" if saved else
            "No checkpoint was saved before")
    gone = "" if folder.is_dir() else ", and the folder is not there any more"
    return UserError(f"{error.filename or folder} cannot be written ({error.strerror or error}){gone}: make room, or "
                     f"choose another place, Global.output_dir. {kept}")


def name_of(config: Config, source: Optional[Path] = None) -> str:
    """`run_name` of the file that a config was read from; "run" where it is of none."""
    return run_name(source or config.source or Path("run.yaml"))


def run_name(source: Path) -> str:
    """The folder in Global.output_dir of the runs of a config file: configs/digits/a.yaml -> digits-a."""
    return "-".join(part for part in (source.parent.name, source.stem) if part)


def evaluate(config: Config, backend: Optional[str] = None, precision: str = "float32",
             exported: Optional[Path] = None) -> dict:
    """Evaluate the network of a config on its DataLoader.Eval; returns loss and metrics. The log has each class too,
    and whether that is what stands in the tuned file.

    Args:
        backend, precision, exported: as of `serving.service`.

    Raises:
        UserError: as `train`; also when nothing tuned or pretrained is given, for that would measure chance.
    """
    log.setup(notes=config.notes, facts=config.facts)
    build.set_device(config.Global.device)
    together = processes.join()
    if not together.first:
        log.only_warnings()
    if exported is None:
        serving.need_something_tuned(config)
    build.check_names(config, training=False)
    task = build.task_of(config)
    data = build.loader(config.DataLoader.Eval, "test", config.Global.seed, task=task, processes=together)
    if backend in (None, "dygraph") and exported is None:
        backends.check("dygraph", precision, "cpu")
        model = build.tuned_model(config, build.class_names(config, data.dataset))
        classes, whose = model.classes, "the tuned file"
        amp = build.precision_of(config)
        amp.prepare(model.adaptation)
        model.adaptation.eval()
        if together.count > 1:
            together.agree(**{"the frozen network": model.adaptation.backbone_digest, "the classes": classes,
                              "what was trained": digest(model.adaptation.state()), "the test data": len(data.dataset)})
        network: Callable = model.adaptation
        context: Callable = amp.context
    else:
        served = serving.service(config, backend, precision, exported)
        build.check_exported(served.transform_ops, config)
        classes, whose = served.classes, "the network"
        network, context = served.logits, contextlib.nullcontext
    for warning in labels.match_classes(data.dataset, classes, "DataLoader.Eval", whose):
        log.LOGGER.warning("%s", warning)
    start = time.perf_counter()
    metrics = build.metrics(config, task, "Eval")
    result = evaluation.evaluate(network, log.progress(data, "evaluating"),
                                 build.losses(config, task, "Eval", data.dataset), metrics, context, together)
    log.LOGGER.info("[Eval][Avg]%s (%d images, %.1f images/s)",
                    log.say(result, evaluation.notes(metrics, len(data.dataset.classes))), result["images"],
                    result["images"] / (time.perf_counter() - start))
    of_classes = per_class(evaluation.details(metrics, data.dataset.classes))
    if of_classes:
        log.LOGGER.info("\n%s", of_classes)
    if data.dataset.skipped:
        log.LOGGER.warning("%d broken images were skipped", data.dataset.skipped)
    tuned = config.Global.pretrained_model
    if tuned and config.Global.pretrained_head and exported is None and together.first:
        say_whether_reproduced(Path(tuned), result, "" if backend in (None, "dygraph") else f"{backend}, {precision}")
    return result


def infer(config: Config, backend: Optional[str] = None, precision: str = "float32",
          exported: Optional[Path] = None) -> Iterator[dict]:
    """The answers for the images that Infer.infer_imgs names, as they come; see `serve.infer.classify`.

    With Infer.save_path they go into a file as well, CSV or JSON.

    Args:
        backend, precision, exported: as of `serving.service`.

    Raises:
        UserError: for a mistake in the config, or when no image is found or none can be read.
    """
    log.setup(notes=config.notes, facts=config.facts)
    options = config.Infer
    if not options.infer_imgs:
        raise ConfigError("Infer.infer_imgs is missing: give an image, a folder or a glob, "
                          "-o Infer.infer_imgs=photo.jpg")
    files = deploy.find_images(options.infer_imgs)
    save_path = Path(options.save_path).expanduser() if options.save_path else None
    if save_path:
        deploy.check_save_path(save_path, files)
    served = serving.service(config, backend, precision, exported)
    transform = build_transforms(build.serving_ops(options.transforms, served.transform_ops))
    start, answers = time.perf_counter(), []
    for answer in deploy.classify(served.predict, transform, served.task, served.classes, files, options.batch_size,
                                  options.topk, served.shape):
        answers.append(answer)
        yield answer
    seconds = time.perf_counter() - start
    if not answers:
        raise ConfigError(f"none of the {len(files)} files of Infer.infer_imgs {options.infer_imgs} can be read")
    log.LOGGER.info("%d images in %.1f s, decoding included: %.1f images/s", len(answers), seconds,
                    len(answers) / seconds)
    if save_path:
        deploy.save(save_path, answers)


def predict_test(run: Path, count: int) -> tuple:
    """A finished run on its first test images: (the data set, the Service that answered, answers [count, classes])."""
    config = configs.load(run / "config.yaml", [f"Global.pretrained_model={run / 'best_model.safetensors'}"])
    data = build.dataset(config.DataLoader.Eval, "test", config.Global.seed)
    served = serving.service(config)
    return data, served, served.predict(np.stack([data.transform.array(data.image(i)) for i in range(count)]))


def table(rows: list[dict], task: Task) -> str:
    """Results as a Markdown table."""
    head = ("method", "trained parameters", "of the network", *task.headline.values(), "file", "images/s", "time",
            "memory")
    cells = [[" + ".join(r["tuning"]), f"{r['trained_parameters']:,}",
              f"{r['trained_parameters'] / r['parameters']:.2%}",
              *(_number(r[key], r["notes"].get(key)) for key in task.headline), size(r["file_bytes"]),
              f"{r['images_per_second']:.0f}", f"{r['seconds']:.0f} s", memory(r["peak_memory_mb"])] for r in rows]
    return markdown(head, cells)


def per_class(details: dict) -> str:
    """What an evaluation found of each class, of many the weakest, as a Markdown table; "" where it tells of none."""
    rows = details.get("per_class", ())
    if not rows:
        return ""
    head, title = list(rows[0]), ""
    if len(rows) > MOST_CLASSES:
        title = f"the {WEAKEST} of {len(rows)} classes with the lowest {head[-1]}:\n"
        told = [row for row in rows if row[head[-1]] is not None]
        rows = sorted(told, key=lambda row: row[head[-1]])[:WEAKEST]
    return title + markdown(head, [[_number(value) if isinstance(value, float) or value is None else value
                                    for value in row.values()] for row in rows])


def markdown(head: Sequence[Any], cells: Sequence[Sequence[Any]]) -> str:
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


def memory(mib: float | None) -> str:
    """A run's peak; None is one that this Paddle does not know."""
    return "-" if mib is None else f"{mib:.0f} MiB"


def machine() -> str:
    """The processor and how many cores of it this process may use, for tables of results."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    count = cpu.cores()
    return f"{count} core{'s' * (count > 1)} of {model}"


def _load() -> Optional[float]:
    """How many processes wanted a core in the last five minutes; None where the system does not say."""
    return round(os.getloadavg()[1], 1) if hasattr(os, "getloadavg") else None


def _number(value: float | None, note: str | None = None) -> str:
    return "-" if value is None else f"{value:.2f}" + (f" ({note})" if note else "")
