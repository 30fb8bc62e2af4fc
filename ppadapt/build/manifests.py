"""The manifest of a tuned model as a config describes it, and a file's with defaults filled in, so that both compare.

What a manifest is, and the comparison, stand in `weights.manifest`; what options there are and their defaults is known
to those who have them: the methods, the catalogue of networks, the operators.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping

from .. import weights
from ..config import Config
from ..data import describe_transforms
from ..errors import UserError
from ..log import LOGGER
from ..models.catalogue import NETWORKS
from ..tasks import Task, from_manifest
from ..tuning import METHODS, Adaptation


def manifest_of(config: Config, task: Task, adaptation: Adaptation, classes: list[str],
                metrics: Mapping[str, Any]) -> dict:
    """What a tuned file says about itself: every fact, no default left out."""
    return {
        "tuning": [{"name": type(m).__name__, **m.options} for m in adaptation.methods],
        "backbone": {**adaptation.network.built_as, "frozen_dtype": config.Arch.frozen_dtype,
                     "digest": adaptation.backbone_digest},
        "head": config.Arch.head, "preprocess": described(config.DataLoader.Eval.dataset.get("transform_ops") or []),
        "classes": classes, "task": task.manifest(), "metrics": dict(metrics)}


def described(ops: list) -> list[dict]:
    """Operators with every option, and what the data sets do by themselves."""
    return describe_transforms(ops if any("DecodeImage" in op for op in ops) else ["DecodeImage", *ops])


def check_fits(path: str | Path, manifest: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Compare a tuned file with what it is to be used with; what the file does not say is warned of.

    Raises:
        weights.MismatchError: naming both sides of every difference.
        weights.WeightsError: for a file that does not say of which tuning or network it is.
    """
    unsaid = [entry for entry in ("tuning", "backbone") if not manifest.get(entry)]
    if unsaid:
        raise weights.WeightsError(f"{path} does not say its {' and '.join(unsaid)}, which every tuned file does: it "
                                   "is damaged, or another tool's. Get the file again")
    found = weights.compare(manifest, wanted, filled_in(manifest))
    found.raise_if_different(path)
    for warning in found.warnings:
        LOGGER.warning("%s: %s", path, warning)


def filled_in(manifest: Mapping[str, Any]) -> dict:
    """A file's manifest with the options that it leaves out at their defaults, where they are known here."""
    backbone = manifest["backbone"]
    preprocess = manifest.get("preprocess")
    return {**manifest, "tuning": [_method(method) for method in manifest["tuning"]], "backbone": _backbone(backbone),
            "preprocess": None if preprocess is None else _or_as_it_is(describe_transforms, preprocess),
            "task": _or_as_it_is(lambda task: from_manifest(task).manifest(), manifest.get("task"))}


def _method(given: Mapping[str, Any]) -> dict:
    options = {key: value for key, value in given.items() if key != "name"}

    def fill(options):
        return METHODS[given["name"]](**options).options

    return {"name": given["name"], **(_or_as_it_is(fill, options) if given["name"] in METHODS else options)}


def _backbone(given: Mapping[str, Any]) -> dict:
    entry = NETWORKS.get(given.get("name"))
    if entry is None:
        return dict(given)
    defaults = _or_as_it_is(lambda _: entry.defaults(), {})
    return {"family": entry.family, **given, "options": {**defaults, **(given.get("options") or {})}}


def _or_as_it_is(fill, given):
    """What `fill` makes of it; what is unknown here stays as the file has it, and is found different."""
    try:
        return fill(given)
    except (UserError, TypeError, ValueError):
        return given
