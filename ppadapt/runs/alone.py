"""A tuned file by itself: what it is evaluated with, and whether that gives the numbers that stand in it."""
from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

from .. import config as configs
from .. import weights
from ..config import Config, overrides
from ..config.merging import settle
from ..engine.checkpoint import FOLDER
from ..errors import ConfigError
from ..log import LOGGER, say
from ..networks import shipped

# What an evaluation and a row of history hold beside the numbers of the evaluation.
_NO_NUMBERS = ("epoch", "images")


def config_of(path: Path, changes: Sequence[str] = ()) -> Config:
    """The config that a tuned file answers and is evaluated with.

    It is that of its run where the file lies in a run's folder; else what the file says of itself, to which `changes`
    add what it does not know: the test data, and the weights of the frozen network where they do not ship.

    Args:
        changes: as of `config.load`.

    Raises:
        ConfigError: when data or weights are missing, or the file is none.
        weights.WeightsError: for a file that is damaged or no tuned file.
    """
    if not path.is_file():
        what = "does not exist" if not path.exists() else "is a folder" if path.is_dir() else "is no file"
        raise ConfigError(f"--tuned {path} {what}: give a tuned file, such as output/.../best_model.safetensors")
    found = _beside(path)
    config = configs.load(found, changes) if found else _said_by(path, changes)
    config.Global.pretrained_model, config.Global.pretrained_head = str(path), True
    return config


def _beside(path: Path) -> Optional[Path]:
    """The config of the run that a file lies in."""
    run = path.resolve().parents[2] if path.resolve().parent.parent.name == FOLDER else path.parent
    return run / "config.yaml" if (run / "config.yaml").is_file() else None


def _said_by(path: Path, changes: Sequence[str]) -> Config:
    manifest = weights.read_manifest(path)
    unsaid = [entry for entry in ("tuning", "backbone", "preprocess") if not manifest.get(entry)]
    if unsaid:
        raise ConfigError(f"{path} does not say its {' and '.join(unsaid)}: give a config with -c")
    backbone, task = manifest["backbone"], {"kind": "SingleLabel", **(manifest.get("task") or {})}
    name, whole = backbone.get("name"), any(method["name"] == "FullFineTuning" for method in manifest["tuning"])
    options = {key: value for key, value in (backbone.get("options") or {}).items() if key != "class_num"}
    side = {"dataset": {"transform_ops": manifest["preprocess"]}}
    tree: dict[str, Any] = {
        "Arch": {**options, "name": name, "head": manifest.get("head") or "BatchNormLinear",
                 "frozen_dtype": backbone.get("frozen_dtype") or "float32",
                 "pretrained": True if shipped(name) and not whole else None},
        "Tuning": copy.deepcopy(manifest["tuning"]), "Task": {"name": task.pop("kind"), **task},
        "DataLoader": {"Train": {"dataset": {}}, "Eval": side}}
    for change in changes:
        tree = overrides.apply(tree, change)
    tree, notes = settle(tree)
    try:
        named = tree["DataLoader"]["Eval"]["dataset"].get("name")
    except (AttributeError, TypeError):  # changed to what is no mapping: the parser says so
        named = "?"
    if not named:
        raise ConfigError(f"{path} does not say on which data it is evaluated, and no config.yaml of its run lies "
                          "beside it: give them, -o DataLoader.Eval.dataset.name=ImageFolder "
                          "-o DataLoader.Eval.dataset.root=... (or a config with -c)")
    if not whole and isinstance(tree["Arch"], dict) and not tree["Arch"].get("pretrained"):
        raise ConfigError(f"{path} holds what was trained on {name}, not that network itself, which does not ship: "
                          "give its weights, -o Arch.pretrained=...")
    if isinstance(tree["DataLoader"], dict):
        tree["DataLoader"]["Train"] = copy.deepcopy(tree["DataLoader"].get("Eval"))
    config = configs.parse(tree, str(path))
    config.source = path
    config.notes = (*notes, f"{path}: no config.yaml lies beside it; network, tuning, preprocessing and task are what "
                            "the file says")
    return config


def say_whether_reproduced(path: Path, result: Mapping[str, float], how: str = "") -> Optional[bool]:
    """Compare an evaluation with the one that stands in a tuned file, and say so in the log.

    Args:
        how: what is known to differ in how it was computed.

    Returns:
        Whether the numbers are the same up to rounding; None where they cannot be compared.
    """
    said = _evaluation_in(weights.read_manifest(path).get("metrics") or {})
    shared = [name for name in result if name in said and name not in _NO_NUMBERS]
    if not shared:
        LOGGER.info("%s does not say what an evaluation of it gave: nothing to compare with", path)
        return None
    if said.get("images") != result["images"]:
        LOGGER.warning("%s says what it gave on %s images, and these are %d: other data, the numbers are not compared",
                       path, said.get("images", "unknown"), result["images"])
        return None
    apart = [name for name in shared if not math.isclose(said[name], result[name], rel_tol=1e-4, abs_tol=1e-4)]
    if not apart:
        LOGGER.info("the same as stands in %s: %s of %d images", path, ", ".join(shared), result["images"])
        return True
    LOGGER.warning("not what stands in %s: there %s, here %s. The data, the weights of the frozen network or how it is "
                   "computed%s are not those of its run", path, say({name: said[name] for name in apart}),
                   say({name: result[name] for name in apart}), f" ({how})" if how else "")
    return False


def _evaluation_in(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of an evaluation; a row of history has them beside those of training."""
    start = "eval_" if any(name.startswith("eval_") for name in metrics) else ""
    return {name[len(start):]: value for name, value in metrics.items()
            if name.startswith(start) and isinstance(value, (int, float)) and abs(value) < 1e9}
