"""A network as the files that servers load, in a folder that says what it takes and what it answers.

    inference.json, .pdiparams     Paddle Inference ("paddle"), .pdmodel in the place of .json for "paddle-2.6"
    inference.onnx                 ONNX ("onnx")
    inference.yml                  preprocessing and class names under PaddleClas's keys; what it was made of
    config.yaml                    the whole config, resolved
    SHA256SUMS                     of all of them (`sums`)

As in PaddleClas's exports the output is what the task makes of the logits, such as the softmax of one label per image
or the sigmoid of several: [N, classes] of images [N, C, H, W], for any N. `inference.yml` says which.
"""
from __future__ import annotations

import contextlib
import importlib
import warnings
from pathlib import Path
from typing import Any, Mapping

import paddle
from paddle import nn

from .. import paddle_compat
from ..config.reading import parse_yaml, yaml_text
from ..data import build_transforms
from ..errors import ConfigError, brief, choose
from ..tasks import Task
from . import old_format

STEM = "inference"
SUFFIXES = {"paddle": ".json", "paddle-2.6": ".pdmodel", "onnx": ".onnx"}
MANIFEST = f"{STEM}.yml"
_MOST_BYTES = 2 ** 22  # of a manifest: thousands of class names
OPSET = 17  # the first with LayerNormalization


class _Answer(nn.Layer):
    """What the task answers, as a layer: logits [N, classes] -> [N, classes]."""

    def __init__(self, task: Task):
        super().__init__()
        self.task = task

    def forward(self, logits):
        return self.task.probabilities(logits)


def write_model(network: nn.Layer, task: Task, shape: tuple[int, int, int], folder: Path, kind: str) -> None:
    """Write the model's files, without the manifest.

    Args:
        network: in eval mode; images float32 [N, C, H, W] -> logits [N, classes]. It is traced, so it should be
            the caller's own copy (`fold.for_inference`).
        task: says what is answered.
        shape: C, H, W.
        folder: exists. kind: one of `SUFFIXES`.

    Raises:
        ConfigError: for another kind; when ONNX is asked for and cannot be written here.
    """
    check_kind(kind)
    converter = import_package("paddle2onnx") if kind == "onnx" else None
    model = nn.Sequential(network, _Answer(task))
    model.eval()
    spec = [paddle.static.InputSpec([None, *shape], "float32", "x")]
    stem = folder / STEM
    with warnings.catch_warnings(), old_format.tracing() if kind == "paddle-2.6" else contextlib.nullcontext():
        warnings.filterwarnings("ignore", message="paddle.amp.auto_cast")  # the head's, which is off
        paddle.jit.save(paddle.jit.to_static(model, input_spec=spec, full_graph=True), str(stem))
    stem.with_suffix(".pdiparams.info").unlink(missing_ok=True)  # names of this process, of no use to another
    if converter:
        parts = [stem.with_suffix(suffix) for suffix in (".json", ".pdiparams")]
        try:
            converter.export(*map(str, parts), save_file=str(stem.with_suffix(".onnx")), opset_version=OPSET,
                             enable_onnx_checker=True, optimize_tool="None")
        except Exception as error:  # of its C++ side, whatever it raises
            raise ConfigError(f"paddle2onnx {converter.__version__} cannot convert this network ({_brief(error)}): use "
                              "--format paddle") from error
        for part in parts:
            part.unlink()


def default_kind() -> str:
    """"paddle", or "paddle-2.6" where this Paddle writes nothing else."""
    return "paddle-2.6" if paddle_compat.missing("export to .json") else "paddle"


def check_kind(kind: str) -> None:
    """Raises ConfigError for an unknown format, and for one that this Paddle neither writes nor reads."""
    if kind not in SUFFIXES:
        raise ConfigError(choose("--format", kind, SUFFIXES))
    feature = {"paddle": "export to .json", "onnx": "export to ONNX"}.get(kind)
    if feature and paddle_compat.missing(feature):
        raise ConfigError(f"--format {kind}: {paddle_compat.missing(feature)}")


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write `inference.yml`."""
    (folder / MANIFEST).write_text(yaml_text(dict(manifest)), encoding="utf-8")


def read_manifest(folder: Path) -> dict:
    """What `inference.yml` of an exported folder says.

    Raises:
        ConfigError: when the folder is not there or is none of ours.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ConfigError(f"{folder} is no exported network: it has no {MANIFEST}. `ppadapt export` makes one")
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"it has {path.stat().st_size:,} bytes, and may have {_MOST_BYTES:,}")
        manifest = parse_yaml(path.read_text(encoding="utf-8"))
        _check(manifest)
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path} is not of `ppadapt export` ({type(error).__name__}: {error}): export "
                          "the network anew") from None
    return manifest


def _check(manifest: Mapping[str, Any]) -> None:
    """Raises what comes of it where an entry that is used is missing or of another kind."""
    kind, shape, classes = manifest["ppadapt"]["format"], manifest["ppadapt"]["input"]["shape"], label_list(manifest)
    if kind not in tuple(SUFFIXES):  # a tuple: the file may give what has no hash
        raise ValueError(choose("format", kind, SUFFIXES))
    if not (isinstance(shape, list) and len(shape) == 4 and all(type(n) is int and 0 < n < 1 << 16 for n in shape[1:])):
        raise ValueError(f"input.shape is {brief(shape)}, expected [null, channels, height, width]")
    if not (isinstance(classes, list) and classes and all(isinstance(name, str) for name in classes)):
        raise ValueError(f"label_list is {brief(classes)}, expected names")
    if not isinstance(manifest["ppadapt"].get("task", {}), dict):
        raise ValueError(f"task is {brief(manifest['ppadapt']['task'])}")
    build_transforms(manifest["PreProcess"]["transform_ops"])


def label_list(manifest: Mapping[str, Any]) -> list[str]:
    """The class names of an export, whatever its PostProcess is called."""
    (operator,) = manifest["PostProcess"].values()
    return operator["label_list"]


def import_package(name: str) -> Any:
    """paddle2onnx, onnxruntime or openvino. Raises ConfigError, with the way to get it, where it cannot be imported."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        gone = getattr(error, "name", None) == name
        why = "is not installed" if gone else f"cannot be imported ({_brief(error)})"
        what, extra = ("OpenVINO", "openvino") if name == "openvino" else ("ONNX", "onnx")
        raise ConfigError(f"{what} needs {name}, which {why}: pip install 'ppadapt[{extra}]'") from None


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[-200:]}"
