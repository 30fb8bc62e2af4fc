"""From a config or an exported folder to whoever answers: what `ppadapt export`, `infer` and `eval` share."""
from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np
import paddle

from .. import build, files
from ..config import Config
from ..config.reading import yaml_text
from ..data import build_transforms
from ..errors import ConfigError, UserError
from ..log import LOGGER
from ..tasks import Task
from ..version import __version__
from . import backends, export, sums
from .fold import for_inference

TOLERANCE = 1e-4


@dataclass
class Service:
    """What the task answers, [N, classes], of images float32 [N, C, H, W], and what goes with it.

    `shape` is C, H, W, None where the network does not tell. `transform_ops` make an image ready.
    """

    predict: backends.Predict
    task: Task
    classes: list[str]
    shape: Optional[tuple[int, ...]]
    transform_ops: Optional[list]

    def logits(self, images: paddle.Tensor) -> paddle.Tensor:
        """Logits up to a constant, which losses and accuracies do not see: [N, C, H, W] -> [N, classes]."""
        return paddle.to_tensor(self.task.logits(self.predict(images.numpy())))


def service(config: Config, backend: Optional[str] = None, precision: str = "float32",
            exported: Optional[Path] = None) -> Service:
    """Who answers.

    Args:
        backend: one of `backends.BACKENDS`; None is that of the exported folder, else "dygraph". Any but "dygraph"
            needs an exported network: without `exported` one is made, used and thrown away.
        precision: of Paddle Inference or OpenVINO.
        exported: a folder of `export_model`.

    Raises:
        UserError: for a mistake in the config or these, or when something is missing.
    """
    build.set_device(config.Global.device)
    device = paddle.get_device()
    if exported is not None:
        return _load(exported, build.task_of(config), backend, precision, device)
    backends.check(backend or "dygraph", precision, device.partition(":")[0])
    need_something_tuned(config)
    if backend in (None, "dygraph"):
        model = build.tuned_model(config, build.class_names(config))
        return Service(backends.dygraph(model.adaptation, model.task), model.task, model.classes, model.image_shape(),
                       build.serving_ops(config.Infer.transforms, _evaluated_ops(config)))
    with tempfile.TemporaryDirectory(prefix="ppadapt-") as folder:
        export_model(config, Path(folder) / "export", "onnx" if backend in backends.READERS["onnx"] else None)
        return _load(Path(folder) / "export", build.task_of(config), backend, precision, device)


def export_model(config: Config, folder: Path, kind: Optional[str] = None, tolerance: float = TOLERANCE,
                 force: bool = False) -> float:
    """Write an exported folder, whole or not at all (`deploy.export` says what is in it).

    The files are loaded again, and their answers compared with dygraph's, before the folder gets its name.

    Args:
        kind: one of `export.SUFFIXES`; None: `export.default_kind()`.
        tolerance: for the difference.
        force: replace a folder that is there.

    Returns:
        The largest difference in what the task measures (a log-probability), on random images in batches of 3 and 1.

    Raises:
        UserError: for a mistake in the config, a folder in the way, and a difference above `tolerance`.
    """
    kind = kind or export.default_kind()
    export.check_kind(kind)
    build.set_device(config.Global.device)
    need_something_tuned(config)
    _check_place(folder, force)
    model = build.tuned_model(config, build.class_names(config))
    files.remove_leftovers(folder.parent)
    temporary = files.temporary_name(folder)
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written ({error.strerror or error})") from None
    try:
        difference = _write(model, temporary, kind, tolerance)
        with files.locked(folder):  # another process may have exported to it meanwhile
            _check_place(folder, force)
            _put_in_place(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return difference


def _check_place(folder: Path, force: bool) -> None:
    """Raises ConfigError for a folder that is there without `force`, and, as that would take it along, for one that
    holds anything but an export."""
    if not folder.exists():
        return
    if not force:
        raise ConfigError(f"{folder} exists already: give another --output, or --force to replace it")
    if not (folder / export.MANIFEST).is_file():
        raise ConfigError(f"{folder} is no exported network, so --force does not replace it: give another --output")
    ours = {export.MANIFEST, "config.yaml", sums.NAME, f"{export.STEM}.pdiparams",
            *(f"{export.STEM}{suffix}" for suffix in export.SUFFIXES.values())}
    others = sorted(path.name for path in folder.iterdir() if path.name not in ours)
    if others:
        raise ConfigError(f"{folder} holds {', '.join(others[:4])}{' ...' * (len(others) > 4)} beside an export, so "
                          "--force does not replace it: give another --output, or move them away")


def _put_in_place(made: Path, folder: Path) -> None:
    """Rename `made` to `folder`; what was there is removed only when that went well, and is named where it lies now."""
    old = folder.with_name(f"{folder.name}.before-{os.getpid()}")  # no temporary name: the next run would remove it
    try:
        if folder.exists():
            os.replace(folder, old)
        try:
            os.replace(made, folder)
        except OSError:
            if old.exists():
                os.replace(old, folder)
            raise
    except OSError as error:
        where = f"what was there is in {old}" if old.exists() else "it is as it was"
        raise ConfigError(f"{folder} cannot be written ({error.strerror or error}): {where}") from None
    shutil.rmtree(old, ignore_errors=True)


def _write(model: build.TunedModel, folder: Path, kind: str, tolerance: float) -> float:
    config = model.config
    ops = build.serving_ops(config.Infer.transforms, _evaluated_ops(config))
    shape = model.image_shape() or build_transforms(ops).array(np.zeros([256, 256, 3], np.uint8)).shape
    network, done = for_inference(model.adaptation)
    for what in done:
        LOGGER.info("%s", what)
    task = model.task
    export.write_model(network, task, shape, folder, kind)
    reference, found = backends.dygraph(model.adaptation, task), backends.load(folder, kind)
    draw, difference = np.random.RandomState(0), 0.0
    for count in (3, 1):
        images = draw.standard_normal([count, *shape]).astype("float32")
        # np.maximum, unlike max, keeps a NaN.
        difference = float(np.maximum(difference, task.difference(found(images), reference(images))))
    if not difference <= tolerance:
        raise UserError(f"the exported network differs from dygraph by {difference:.1e} in {task.measure}, more "
                        f"than the tolerance of {tolerance:.1e}: nothing was written")
    (folder / "config.yaml").write_text(yaml_text(config.to_dict()), encoding="utf-8")
    tuned = model.manifest({})
    export.write_manifest(folder, {
        "Global": {"model_name": config.Arch.name},
        "PreProcess": {"transform_ops": ops},
        "PostProcess": task.post_process(model.classes, config.Infer.topk),
        "ppadapt": {"version": __version__, "paddle": paddle.__version__, "format": kind,
                    "input": {"name": "x", "shape": [None, *shape]}, "output": task.output, "folded": done,
                    "difference": difference,
                    **{what: tuned[what] for what in ("task", "tuning", "backbone", "head")}}})
    sums.write(folder)
    return difference


def _load(folder: Path, task: Task, backend: Optional[str], precision: str, device: str) -> Service:
    sums.check(folder)
    manifest = export.read_manifest(folder)
    asked, made_for = task.manifest()["kind"], manifest["ppadapt"].get("task", {}).get("kind", "SingleLabel")
    if asked != made_for:
        raise ConfigError(f"{folder} answers Task {made_for} and the config asks Task {asked}: set Task.name to "
                          f"{made_for}, or use another export")
    ours, kind = manifest["ppadapt"], manifest["ppadapt"]["format"]
    readers = backends.READERS.get(kind, ())
    if backend not in (None, *readers):
        backends.check(backend, precision, device.partition(":")[0])
        raise ConfigError(f"{folder} is for --backend {' or '.join(readers)}, not {backend}: leave --backend out, or "
                          "export anew")
    classes = export.label_list(manifest)
    shape = tuple(ours["input"]["shape"][1:])
    return Service(_named(backends.load(folder, kind, device, precision, backend), shape, classes, folder), task,
                   classes, shape, manifest["PreProcess"]["transform_ops"])


def _named(predict: backends.Predict, shape: tuple[int, ...], classes: list[str], folder: Path) -> backends.Predict:
    """`predict`, whose images must have the size that was exported and whose answers a name each."""
    def checked(images: np.ndarray) -> np.ndarray:
        if np.shape(images)[1:] != shape:
            raise ConfigError(f"the network of {folder} takes images [N, {', '.join(map(str, shape))}] and got "
                              f"{list(np.shape(images))}: make them ready by the operators of its {export.MANIFEST}")
        answers = predict(images)
        if answers.ndim != 2 or answers.shape[1] != len(classes):
            raise ConfigError(f"the network of {folder} answers with {list(answers.shape[1:])} numbers and "
                              f"{export.MANIFEST} names {len(classes)} classes: export it anew")
        return answers

    return checked


def need_something_tuned(config: Config) -> None:
    """Raises ConfigError where the head would be random."""
    tuned = config.Global.pretrained_model and config.Global.pretrained_head
    if not tuned and config.Arch.head != build.KEEP_HEAD:
        raise ConfigError("the head is not trained: give a tuned file with -o Global.pretrained_model=output/.../"
                          f"best_model.safetensors, or Arch.head: {build.KEEP_HEAD} for the network's own classifier")


def _evaluated_ops(config: Config) -> Optional[list]:
    return config.DataLoader.Eval.dataset.get("transform_ops")
