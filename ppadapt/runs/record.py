"""The runs that are done: what makes two runs the same, and the file that remembers them.

A run is what decides its result: the config without paths and without what only changes how it is run, the
content of the data, the content of the frozen network. So a `runs.json` that was written on one machine is
resumed on another, and a data set that changed under its name is not mistaken for the old one.
"""
from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any, Optional, Sequence, get_type_hints

from .. import build, files
from .. import config as configs
from ..config import Config
from ..errors import ConfigError, UserError, brief
from ..networks import shipped

# What changes no result: where, with what output, on what device and by how many workers.
_GLOBAL = ("device", "output_dir", "save_interval", "save_interval_steps", "save_interval_seconds",
           "print_batch_step", "print_seconds", "use_visualdl", "checkpoints", "allow_changes",
           "cache_features", "cache_limit", "feature_cache")
_DATASET = ("root", "image_root", "cls_label_path", "class_id_map_file", "download")

MOST_RUNS, _MOST_KEYS = 10_000, 200  # of a record, of a section


class Identity:
    """What runs are compared by: `Identity()(config)` is {"config": ..., "data": ...}, plain data.

    Digests of data and weights are taken once.

    Args:
        data: False leaves "data" out, where the images are not at hand.
    """

    def __init__(self, data: bool = True):
        self.data = data
        self._digests: dict[str, str] = {}

    def __call__(self, config: Config) -> dict:
        """Raises UserError for data or weights that are not there."""
        tree = config.to_dict()
        for section, key in (("Arch", "pretrained"), ("Global", "pretrained_model")):
            tree[section][key] = self._weights(tree[section][key], config.Arch.name)
        if not self.data:
            return {"config": essential(tree)}
        return {"config": essential(tree), "data": {side: self._data(config, side) for side in ("Train", "Eval")}}

    def _weights(self, given: Any, arch: str) -> Any:
        if given is True:
            given = shipped(arch) or given
        if isinstance(given, bool) or given is None or not Path(given).exists():
            return given  # a missing file is reported where it is used
        return self._once(f"weights {Path(given).resolve()}", lambda: "sha256:" + _content(Path(given)))

    def _data(self, config: Config, side: str) -> str:
        split = copy.deepcopy(getattr(config.DataLoader, side))
        split.dataset["transform_ops"] = None
        kind = "train" if side == "Train" else "test"
        return self._once(f"{kind} {json.dumps(split.dataset, sort_keys=True, default=str)}",
                          lambda: build.dataset(split, kind, 0).digest())

    def _once(self, key: str, make) -> str:
        if key not in self._digests:
            self._digests[key] = make()
        return self._digests[key]


def _content(path: Path) -> str:
    """The digest of a file, or of the names and content of a folder's files, however deep."""
    if path.is_file():
        return files.sha256(path)
    inside = sorted(file for file in path.rglob("*") if file.is_file())
    told = "".join(f"{file.relative_to(path).as_posix()} {files.sha256(file)}\n" for file in inside)
    return hashlib.sha256(told.encode()).hexdigest()


def essential(tree: dict) -> dict:
    """A resolved config as plain data without what changes no result; it can be parsed again."""
    tree = copy.deepcopy(tree)
    tree.pop("Infer", None)
    for key in _GLOBAL:
        tree["Global"].pop(key, None)
    for split in tree["DataLoader"].values():
        split.pop("loader", None)
        for key in _DATASET:
            split["dataset"].pop(key, None)
    return tree


class Record:
    """`runs.json`: a list of runs, each with its `config` and `data` as `Identity` gives them.

    Raises:
        ConfigError: for a file that is no such list.
    """

    def __init__(self, path: Path):
        self.path = path
        self.read()

    def read(self) -> list[dict]:
        """The runs in the file; those whose config this version cannot read are kept and never found."""
        try:
            self.runs = json.loads(self.path.read_text(encoding="utf-8")) if self.path.is_file() else []
            if not isinstance(self.runs, list) or not all(isinstance(run, dict) for run in self.runs):
                raise ValueError(f"it holds {brief(self.runs)}")
            if len(self.runs) > MOST_RUNS:  # each is parsed
                raise ValueError(f"it holds {len(self.runs):,} runs, where {MOST_RUNS:,} are the most")
            self._known = [(_reread(run), run.get("data")) for run in self.runs]
        except (ValueError, OSError, AttributeError, TypeError, RecursionError) as error:
            raise ConfigError(f"{self.path} cannot be read as a list of runs ({error}): mend it, or move it away "
                              "to start anew") from None
        return self.runs

    def known(self) -> list[dict]:
        """The runs whose config this version can read."""
        return [run for run, (config, _) in zip(self.runs, self._known) if config is not None]

    def find(self, identity: dict) -> Optional[dict]:
        """The run of this identity, if it is done; without "data" the newest of any data."""
        for run, (config, data) in zip(reversed(self.runs), reversed(self._known)):
            if config == identity["config"] and identity.get("data", data) == data:
                return run
        return None

    def stale(self, identity: dict) -> list[dict]:
        """Runs of the same config but for the content of the weights, or of other data: they are not this run."""
        asked = without_weights(identity["config"])
        return [run for run, (config, data) in zip(self.runs, self._known)
                if config is not None and without_weights(config) == asked
                and (config != identity["config"] or identity.get("data", data) != data)]

    def add(self, run: dict, instead_of: Sequence[dict] = ()) -> None:
        """Write one more, and forget those that it is `instead_of`; what another process has added meanwhile stays."""
        with files.locked(self.path):
            self.read()
            files.write_json(self.path, [*(old for old in self.runs if old not in instead_of), run])
            self.read()


def without_weights(config: dict) -> dict:
    """What is left of an essential config where weights of another content are to be seen as the same."""
    return {**config, "Arch": {**config["Arch"], "pretrained": None},
            "Global": {**config["Global"], "pretrained_model": None}}


def _reread(run: dict) -> Optional[dict]:
    """A recorded config with the keys that came after it at their defaults."""
    try:
        return essential(configs.parse(run["config"]).to_dict()) if _of_our_form(run["config"], Config) else None
    except (UserError, KeyError):
        return None


def _of_our_form(tree: Any, kind: type) -> bool:
    """Whether sections have the keys that they may have: the parser looks for the nearest of each that is unknown,
    which takes long where a file has a million of them."""
    hints = _hints(kind)
    return not isinstance(tree, dict) or len(tree) < _MOST_KEYS and all(
        kind is configs.Arch or key in hints for key in tree) and all(
        _of_our_form(tree.get(name), hint) for name, hint in hints.items() if dataclasses.is_dataclass(hint))


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)
