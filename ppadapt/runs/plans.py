"""What a comparison trains: a row for each method and swept value, and the configs of its runs."""
from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Optional, Sequence

from .. import config as configs
from ..config import Config, shipped
from ..config.reading import parse_yaml
from ..data.holdout import PART
from ..errors import ConfigError, choose

SETTINGS = "cifar10/vit_micro_"  # the configs that ship of all methods begin so


def find_config(config: Path, method: str) -> Path:
    """The sibling of a config for another method: vit_micro_adaptformer.yaml, "vpt" -> vit_micro_vpt.yaml.

    Raises:
        ConfigError: when there is none; it names the methods there are.
    """
    path = _sibling(config, method)
    if path is not None:
        return path
    if not config.is_file():
        raise ConfigError(f"config file {config} does not exist")
    raise ConfigError(choose("method", method, _methods_beside(config)))


def row_of(config: Path, method: str, swept: dict[str, Any], overrides: Sequence[str] = ()) -> Row:
    """The row of a method: of its config beside `config`, or else of `config` with the method's settings that ship.

    Raises:
        ConfigError: for a method that neither has; it names those of both.
    """
    if _sibling(config, method) is not None or not config.is_file():
        return Row(method, find_config(config, method), swept)
    ship = _settings_that_ship()
    if method not in ship:
        raise ConfigError(choose("method", method, sorted({*_methods_beside(config), *ship})))
    name = ship[method]
    tree = parse_yaml(configs.find(name).read_text(encoding="utf-8"))
    basis, taken = [f"Tuning={json.dumps(tree['Tuning'])}"], "Tuning"
    rate = tree.get("Optimizer", {}).get("lr", {}).get("learning_rate")
    if rate is not None and configs.load(config, overrides).Optimizer["name"] == configs.load(name).Optimizer["name"]:
        basis.append(f"Optimizer.lr.learning_rate={rate}")
        taken = f"Tuning and learning rate ({rate})"
    return Row(method, config, swept, basis=tuple(basis), told=f"{method}: {config.name} with the {taken} of {name}")


def _sibling(config: Path, method: str) -> Optional[Path]:
    paths = (config.with_name(f"{beginning}_{method}{config.suffix}") for beginning in _beginnings(config))
    return next((path for path in paths if path.is_file()), None)


def _methods_beside(config: Path) -> list[str]:
    known: dict[Path, str] = {}
    for beginning in _beginnings(config)[:2]:  # vit_micro_vpt is "vpt", and not "micro_vpt" as well
        for path in config.parent.glob(f"{beginning}_*{config.suffix}"):
            known.setdefault(path, path.stem[len(beginning) + 1:])
    return sorted(known.values())


@cache
def _settings_that_ship() -> dict[str, str]:
    """Method -> the config that ships and says nothing but its Tuning and, where it has its own, its learning rate."""
    found = {name[len(SETTINGS):]: name for name in shipped.names() if name.startswith(SETTINGS)}
    return {method: name for method, name in found.items()
            if parse_yaml(configs.find(name).read_text(encoding="utf-8")).keys() <= {"_base_", "Tuning", "Optimizer"}}


def _beginnings(config: Path) -> list[str]:
    """What may stand before a method in the names beside a config, longest first: vit_micro_a_b -> vit_micro_a ..."""
    parts = config.stem.split("_")
    all_of_them = ["_".join(parts[:i]) for i in range(len(parts) - 1, 0, -1)]
    siblings = {path.stem for path in config.parent.glob(f"*{config.suffix}")} - {config.stem}
    # A beginning that is a config itself is part of a method's name: vit_micro_adaptformer of ..._adaptformer_vpt. One
    # that no other config shares is, too.
    shared = [beginning for beginning in all_of_them
              if beginning not in siblings and any(stem.startswith(f"{beginning}_") for stem in siblings)]
    return shared or all_of_them


@dataclass
class Row:
    """One row of the table: a method with one value of what is swept.

    `changes` are overrides of its own, "A.b=c", which its label does not tell of; `seeds` is of how many of the
    comparison's seeds it is trained with, all of them when absent; `choices` stand in the place of the comparison's.
    `basis` are overrides that lie beneath the comparison's, as what is in a file does; `told` says what they are.
    """

    method: str
    path: Path
    swept: dict[str, Any] = field(default_factory=dict)
    changes: tuple[str, ...] = ()
    seeds: Optional[int] = None
    choices: tuple[str, ...] = ()
    basis: tuple[str, ...] = ()
    told: str = ""

    @property
    def label(self) -> str:
        """adaptformer, bottleneck=4"""
        return ", ".join([self.method, *in_short(self.swept)])

    def config(self, overrides: Sequence[str], chosen: dict[str, Any], seed: int) -> Config:
        """The resolved config of a run on all training data."""
        values = {**self.swept, **chosen, "Global.seed": seed}
        return configs.load(self.path, [*self.basis, *overrides, *self.changes, *(
            f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items())])


def in_short(values: dict[str, Any]) -> list[str]:
    """Changed values by the last part of their key: ["bottleneck=4"]."""
    return [f"{key.rpartition('.')[2]}={value}" for key, value in values.items()]


def held_out(config: Config, share: float) -> Config:
    """The same training without `share` of its data, evaluated on that share: the test data is not read.

    Raises:
        ConfigError: when the training data is itself a held-out part.
    """
    train, test = config.DataLoader.Train, config.DataLoader.Eval
    if "holdout" in train.dataset:
        raise ConfigError("DataLoader.Train.dataset.holdout is set: --choose holds out by itself, remove one of them")
    train.dataset["holdout"] = share
    data = {key: value for key, value in train.dataset.items() if key not in ("transform_ops", "batch_transform_ops")}
    test.dataset = {**data, "split": PART, "transform_ops": test.dataset.get("transform_ops")}
    return config


def variants(options: Sequence[str]) -> list[dict[str, Any]]:
    """["A.b=1,2", "C=x"] -> every combination: [{"A.b": 1, "C": "x"}, {"A.b": 2, "C": "x"}]; of nothing, [{}].

    Raises:
        ConfigError: for one that is not a key and YAML values with commas between them.
    """
    keys, values = [], []
    for option in options:
        key, listed = configs.values(option)
        keys.append(key)
        values.append(listed)
    return [dict(zip(keys, combination)) for combination in itertools.product(*values)]


def seed_list(text: str) -> list[int]:
    """"3" -> [0, 1, 2]; "0,1,5" -> those; "7," -> [7].

    Raises:
        ConfigError: for anything else.
    """
    parts = [part.strip() for part in text.split(",")]
    numbers = parts[:-1] if len(parts) > 1 and not parts[-1] else parts
    if not all(part.isdecimal() for part in numbers) or text.strip() == "0":
        raise ConfigError(f"--seeds {text!r} is neither how many (3 means 0,1,2) nor a list such as 0,1,2 "
                          "(the seed 0 alone is '0,')")
    if len(parts) == 1 and len(text.strip()) > 4:
        raise ConfigError(f"--seeds {text} asks for more than 9,999 runs; the seed {text} alone is '{text},'")
    seeds = [int(part) for part in numbers] if len(parts) > 1 else list(range(int(text)))
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds {text} names a seed twice")
    return seeds
