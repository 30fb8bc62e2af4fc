"""YAML -> checked configuration, in PaddleClas's sections.

Three rules: `_base_: file.yaml` (or a list) is read first and merged into; `-o A.b=c` changes one value
(list items by their index); a mapping whose `name` changes starts anew, for options belong to their name.
Keys of a fixed section are checked here, options that belong to a `name` where the named thing is built.
"""
from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Mapping, Optional, Sequence, Union

import yaml

from .errors import ConfigError, UserError, choose


@dataclass
class Global:
    """What belongs to the run.

    `pretrained_model` is a tuned file to start from or evaluate; with `pretrained_head: false` its head is left out, so
    that it may be of other classes. `checkpoints` is a run's `latest` to resume.
    `device` is auto, cpu, gpu or gpu:N. `update_freq` batches make one step. `eval_interval` and
    `save_interval` are in epochs (0: only after the last). `output_dir` gets one fresh folder per run.
    `recompute` keeps only each block's input and runs its forward again in the backward: less memory, more time.
    `early_stop`: end after so many evaluations without a better score (null: never).
    `cache_features`: where only the head trains on fixed images, compute what it reads once and keep it in
    `feature_cache` ($PPADAPT_CACHE or ~/.cache/ppadapt); auto: where that can be, True: or an error, False: never.
    """

    device: str = "auto"
    output_dir: str = "output"
    seed: int = 0
    epochs: int = 100
    update_freq: int = 1
    eval_during_train: bool = True
    eval_interval: int = 1
    save_interval: int = 1
    print_batch_step: int = 10
    early_stop: Optional[int] = None
    use_visualdl: bool = True
    recompute: bool = False
    pretrained_model: Optional[str] = None
    pretrained_head: bool = True
    checkpoints: Optional[str] = None
    cache_features: Union[bool, str] = "auto"
    feature_cache: Optional[str] = None


@dataclass
class Arch:
    """The network, ours or PaddleClas's (docs/backbones.md). `pretrained`: a path, or True for the weights that ship
    with the package or that PaddleClas downloads.

    `frozen_dtype`: float32, bfloat16 or float16, what frozen matrices are kept in (`tuning.frozen.store_frozen`).
    Everything else (img_size, pool, drop_path_rate ...) is an option of the network's constructor.
    `class_num` comes from the data set when absent.
    """

    name: str
    pretrained: Union[bool, str, None] = None
    class_num: Optional[int] = None
    head: str = "BatchNormLinear"
    frozen_dtype: str = "float32"
    options: dict = field(default_factory=dict)


@dataclass
class AMP:
    """Mixed precision. O0: none. O1: operations choose. O2: what is frozen is kept in `dtype` as well."""

    level: str = "O0"
    dtype: str = "float16"
    scale_loss: float = 65536.0
    use_dynamic_loss_scaling: bool = True


@dataclass
class EMA:
    """Moving average of what trains, evaluated and saved in its place. `decay` null: none."""

    decay: Optional[float] = None


@dataclass
class Infer:
    """`transforms` default to those of DataLoader.Eval."""

    infer_imgs: Optional[str] = None
    batch_size: int = 32
    transforms: Optional[list] = None
    topk: int = 5
    save_path: Optional[str] = None


@dataclass
class Sampler:
    """Batches. `name` is accepted for PaddleClas's sake and must be a plain batch sampler."""

    name: str = "DistributedBatchSampler"
    batch_size: int = 64
    drop_last: bool = False
    shuffle: Optional[bool] = None


@dataclass
class WorkerOptions:
    """How batches are made. `transform_by`: auto, image or batch (see `data.build_loader`)."""

    num_workers: int = 0
    use_shared_memory: bool = True
    transform_by: str = "auto"


@dataclass
class Split:
    """One side of the data: `dataset` is a `name` and its options."""

    dataset: dict
    sampler: Sampler = field(default_factory=Sampler)
    loader: WorkerOptions = field(default_factory=WorkerOptions)


@dataclass
class DataLoader:
    """Training and evaluation data."""

    Train: Split
    Eval: Split


@dataclass
class Loss:
    """Lists of one-entry mappings: `- CELoss: {weight: 1.0, epsilon: 0.1}`; null: those of the Task."""

    Train: Optional[list] = None
    Eval: Optional[list] = None


@dataclass
class Metric:
    """Lists of one-entry mappings: `- TopkAcc: {topk: [1, 5]}`; null: those of the Task."""

    Train: Optional[list] = None
    Eval: Optional[list] = None


@dataclass
class Config:
    """A whole configuration. `Task`, `Tuning` and `Optimizer` hold a `name` with its options."""

    Arch: Arch
    DataLoader: DataLoader
    Global: Global = field(default_factory=Global)
    Task: dict = field(default_factory=lambda: {"name": "SingleLabel"})
    Tuning: Union[dict, list] = field(default_factory=lambda: {"name": "AdaptFormer"})
    Optimizer: dict = field(default_factory=lambda: {"name": "Momentum"})
    AMP: AMP = field(default_factory=AMP)
    EMA: EMA = field(default_factory=EMA)
    Loss: Loss = field(default_factory=Loss)
    Metric: Metric = field(default_factory=Metric)
    Infer: Infer = field(default_factory=Infer)

    def to_dict(self) -> dict:
        """The configuration as it was resolved, as plain data that `parse` reads again."""
        tree = dataclasses.asdict(self)
        tree["Arch"].update(tree["Arch"].pop("options"))
        return tree


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file, apply `-o` overrides ("Global.epochs=5") and check it.

    Raises:
        ConfigError: in one line, for a missing file, bad YAML, an unknown key or a value of a wrong type.
    """
    tree = _read(Path(path))
    for override in overrides:
        _set(tree, override)
    return parse(tree, str(path))


def values(option: str) -> tuple[str, list]:
    """"A.b=1,2" -> ("A.b", [1, 2]): YAML values with commas between them.

    Raises:
        ConfigError: for another form.
    """
    key, equals, text = option.partition("=")
    try:
        listed = yaml.load(f"[{text}]", Loader=_Loader)
    except yaml.YAMLError:
        listed = None
    if not equals or not key.strip() or not listed:
        raise ConfigError(f"{option!r} is not of the form Section.key=value,value,... such as "
                          "Tuning.bottleneck=1,4,16 (a text with ':' or ',' goes in quotes)")
    return key.strip(), listed


def parse(tree: Mapping[str, Any], source: str = "the config") -> Config:
    """Check plain data. Raises ConfigError as `load`."""
    tree = dict(tree)
    arch = tree.get("Arch")
    if isinstance(arch, Mapping):
        known = {f.name for f in dataclasses.fields(Arch)}
        tree["Arch"] = {**{k: v for k, v in arch.items() if k in known},
                        "options": {k: v for k, v in arch.items() if k not in known}}
    return _section(Config, tree, "", source)


def construct(choices: Mapping[str, Callable], given: Mapping[str, Any], where: str, **built):
    """Build the thing that `given["name"]` names with the options beside it; `built` are not the user's.

    Raises:
        ConfigError: for an unknown name or option, a missing one, or a value of a wrong type.
    """
    if not isinstance(given, Mapping) or "name" not in given:
        raise ConfigError(f"{where} needs a `name`. Choose from: {', '.join(choices)}")
    options = {k: v for k, v in given.items() if k != "name"}
    if given["name"] not in choices:
        raise ConfigError(choose(f"{where}.name", given["name"], choices))
    make = choices[given["name"]]
    where = f"{where} ({given['name']})"
    check_options(make, options, where, hidden=built)
    try:
        return make(**options, **built)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error


def check_options(make: Callable, options: dict, where: str, hidden: Sequence[str] = ()) -> None:
    """Compare options with a signature; numbers written as text ("1e-3") become numbers, in place."""
    signature = inspect.signature(make)
    parameters = {n: p for n, p in signature.parameters.items() if n not in hidden and n != "self"}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    named = {n: p for n, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    target = make.func if isinstance(make, functools.partial) else make
    try:
        hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError, AttributeError):  # hints of a library, or too new for this Python
        hints = {}
    for key in options:
        if key not in named and not open_ended:
            raise ConfigError(choose(f"option of {where}:", key, named))
        if key in hints:
            options[key] = _typed(options[key], hints[key], f"{where}, {key}")
    missing = [n for n, p in named.items() if p.default is p.empty and n not in options]
    if missing:
        raise ConfigError(f"{where} needs a value for: {', '.join(missing)}")


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 1e-3 as text; this one reads a number."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(
    r"^[-+]?(\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789."))


def _read(path: Path, seen: tuple[Path, ...] = ()) -> dict:
    if path.resolve() in seen:
        raise ConfigError(f"{path}: `_base_` leads back to the file itself")
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader) or {}
    except FileNotFoundError:
        near = ", ".join(sorted(str(p) for p in path.parent.glob("*.y*ml"))[:8]) if path.parent.is_dir() else ""
        raise ConfigError(f"config file {path} does not exist" + (f". There are: {near}" if near else "")) from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"config file {path} cannot be read: " + " ".join(str(error).split())) from None
    if not isinstance(tree, dict):
        raise ConfigError(f"config file {path} holds a {type(tree).__name__}: it must hold sections "
                          f"({', '.join(f.name for f in dataclasses.fields(Config))})")
    bases = tree.pop("_base_", [])
    merged: dict = {}
    for base in [bases] if isinstance(bases, str) else bases:
        merged = _overlay(merged, _read(path.parent / base, (*seen, path.resolve())))
    return _overlay(merged, tree)


def _overlay(base: dict, top: Mapping) -> dict:
    if "name" in top and "name" in base and top["name"] != base["name"]:
        return dict(top)
    merged = dict(base)
    for key, value in top.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), dict)
        merged[key] = _overlay(merged[key], value) if both else value
    return merged


def _set(tree: dict, override: str) -> None:
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"override {override!r} is not of the form Section.key=value, e.g. Global.epochs=5")
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        raise ConfigError(f"override {override!r}: {text!r} is not a YAML value") from None
    node: Any = tree
    for i, key in enumerate(keys):
        where = ".".join(keys[:i]) or "the config"
        last = i == len(keys) - 1
        if isinstance(node, list):
            if not key.isdigit() or int(key) >= len(node):
                raise ConfigError(f"override {override!r}: {where} is a list of {len(node)}: "
                                  f"give an index from 0 to {len(node) - 1} in the place of {key!r}")
            key = int(key)
        elif not isinstance(node, dict):
            raise ConfigError(f"override {override!r}: {where} is {node!r} and has no {key!r} in it")
        if last:
            if key == "name" and isinstance(node, dict) and node.get("name", value) != value:
                node.clear()
            node[key] = value
        else:
            if isinstance(node, dict) and node.get(key) is None:
                node[key] = {}
            node = node[key]


def _section(cls, tree: Any, where: str, source: str):
    """A dataclass from plain data."""
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{source}: {where or 'the file'} is {tree!r}: it must hold "
                          f"{', '.join(f.name for f in dataclasses.fields(cls))}")
    hints = typing.get_type_hints(cls)
    values = {}
    for key, value in tree.items():
        path = f"{where}.{key}" if where else str(key)
        if key not in hints:
            raise ConfigError(f"{source}: " + choose("key" if where else "section", path,
                              (f"{where}.{name}" if where else name for name in hints if name != "options")))
        if dataclasses.is_dataclass(hints[key]):
            values[key] = _section(hints[key], {} if value is None else value, path, source)
        else:
            values[key] = _typed(value, hints[key], f"{source}: {path}")
    for f in dataclasses.fields(cls):
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING and f.name not in values:
            raise ConfigError(f"{source}: {where + '.' if where else ''}{f.name} is missing")
    return cls(**values)


_UNION = (Union, getattr(types, "UnionType", Union))


def _typed(value: Any, hint: Any, where: str) -> Any:
    """The value as the hint wants it; hints that are not plain data pass unchecked."""
    origin = typing.get_origin(hint)
    kinds = typing.get_args(hint) if origin in _UNION else (hint,)
    plain = [typing.get_origin(k) or k for k in kinds]
    if not all(k in (str, int, float, bool, list, tuple, dict, type(None)) for k in plain):
        return value
    if isinstance(value, tuple):
        value = list(value)
    if type(value) in plain or (isinstance(value, list) and tuple in plain):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and float in plain:
        return float(value)
    if isinstance(value, Mapping) and dict in plain:
        return dict(value)
    names = " or ".join("null" if k is type(None) else k.__name__ for k in plain)
    raise ConfigError(f"{where} is {value!r} ({type(value).__name__}): it must be {names}")
