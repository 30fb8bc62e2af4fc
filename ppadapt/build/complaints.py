"""What a config names and cannot have: all of it at once, before anything is built.

A network or data set is not built for that, only its name and options are looked at; the smaller things are built.
"""
from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Optional

from ..config import Arch, Config, Sampler
from ..config.paddleclas import why_not
from ..data import BATCH_TRANSFORMS, DATASETS, TRANSFORMS, build_transforms
from ..data.holdout import PART
from ..data.loader import TRANSFORM_BY
from ..data.options import build_op
from ..engine.amp import DTYPES, LEVELS
from ..engine.optim import check_optimizer
from ..engine.schedules import check_schedule
from ..errors import ConfigError, UserError, choose, together
from ..models.heads import HEADS
from ..networks import entry_of
from ..options import check_options, construct, typed
from ..ranges import Probability
from ..tasks import TASKS, SingleLabel
from ..tuning import METHODS
from ..tuning.frozen.layers import DTYPES as STORED
from .data import SAMPLERS
from .names import DATASET_OPTIONS
from .task import check_any, entry

KEEP_HEAD = "Pretrained"  # Arch.head: the classifier that comes with the weights

Attempt = tuple[str, Any, Callable[[], Any]]  # a place, the name that stands there, and what raises where it is wrong


def check_names(config: Config, training: bool = True) -> None:
    """Raises ConfigError for all that `complaints` finds."""
    found = complaints(config.to_dict(), training)
    if found:
        raise ConfigError(together(found))


def complaints(tree: Mapping[str, Any], training: bool = True) -> list[str]:
    """Every name and option of a config's plain data that cannot be had, each with the reason.

    Sections of another kind than they should be are passed over: they are reported where a config is read.

    Args:
        training: False looks at what an evaluation needs alone.
    """
    places = defaultdict(list)
    for place, name, attempt in _attempts(tree, training):
        why = why_not(name)
        try:
            attempt()
        except UserError as error:
            found = str(error)
            if why and " is unknown." in found:
                found = f"{name} of PaddleClas is not here: {why}"
            places[found].append("" if found.startswith(place) else place)
    return [f"{' and '.join(where)}: {what}" if any(where) else what for what, where in places.items()]


def _attempts(tree: Mapping[str, Any], training: bool) -> Iterator[Attempt]:
    arch = _options(tree, "Arch")
    if isinstance(arch.get("name"), str):
        yield "", None, lambda: _network(arch)
    yield "", None, lambda: _one_of("Arch.head", arch.get("head", KEEP_HEAD), (*HEADS, KEEP_HEAD))
    yield "", None, lambda: _one_of("Arch.frozen_dtype", arch.get("frozen_dtype", "float32"), STORED)
    cache = _options(tree, "Global").get("cache_features", "auto")
    if not isinstance(cache, bool):
        yield "", None, lambda: _one_of("Global.cache_features", cache, ("auto", "True", "False"))
    task = {"name": SingleLabel.__name__, **_options(tree, "Task")}
    yield "", task["name"], lambda: construct(TASKS, task, "Task")
    tuning = tree.get("Tuning", {"name": next(iter(METHODS))})
    for i, section in enumerate(tuning or [{}] if isinstance(tuning, list) else [tuning]):
        where = f"Tuning.{i}" if isinstance(tuning, list) and len(tuning) > 1 else "Tuning"
        yield "", None, lambda section=section, where=where: construct(METHODS, section, where)
    for side in ("Train", "Eval") if training else ("Eval",):
        yield from _side(_options(tree, "DataLoader", side), f"DataLoader.{side}")
        yield from _asked(tree, task, side)
    yield from _operators(_options(tree, "Infer").get("transforms"), "Infer.transforms", TRANSFORMS, "Transform")
    if training:
        yield from _learning(tree)


def _network(arch: dict) -> None:
    of_the_section = {field.name for field in dataclasses.fields(Arch)}
    options = {key: value for key, value in arch.items() if key not in of_the_section}
    options.update(arch.get("options") or {})
    check_options(entry_of(arch["name"]).build, options, f"Arch ({arch['name']})", hidden=("class_num",))


def _side(side: dict, where: str) -> Iterator[Attempt]:
    data = _options(side, "dataset")
    yield f"{where}.dataset", data.get("name"), lambda: _data_set(data, f"{where}.dataset")
    yield from _operators(data.get("transform_ops"), f"{where}.dataset.transform_ops", TRANSFORMS, "Transform")
    yield from _operators(data.get("batch_transform_ops"), f"{where}.dataset.batch_transform_ops", BATCH_TRANSFORMS,
                          "Batch transform")
    sampler = _options(side, "sampler").get("name", Sampler.name)
    yield f"{where}.sampler", sampler, lambda: _one_of("sampler.name", sampler, SAMPLERS)
    by = _options(side, "loader").get("transform_by", TRANSFORM_BY[0])
    yield f"{where}.loader", by, lambda: _one_of("transform_by", by, TRANSFORM_BY)


def _data_set(data: dict, where: str) -> None:
    _one_of(f"{where}.name", data.get("name"), DATASETS)
    _one_of(f"{where}.split", data.get("split", "train"), ("train", "test", PART))
    _one_of(f"{where}.on_error", data.get("on_error", "raise"), ("raise", "skip"))
    typed(data.get("holdout"), Optional[Probability], f"{where}.holdout")
    options = {key: value for key, value in data.items() if key not in ("name", *DATASET_OPTIONS)}
    check_options(DATASETS[data["name"]], options, f"{where} ({data['name']})", hidden=("transform", "seed"))


def _operators(given: Any, where: str, table: Mapping[str, type], family: str) -> Iterator[Attempt]:
    if given is not None and not isinstance(given, list):
        yield where, None, lambda: build_transforms(given)
    for op in given if isinstance(given, list) else ():
        name = next(iter(op), None) if isinstance(op, Mapping) else op
        yield where, name, lambda op=op: build_op(op, table, family)


def _asked(tree: Mapping[str, Any], task: dict, side: str) -> Iterator[Attempt]:
    """Losses and metrics, where the task is one that there is."""
    try:
        built = construct(TASKS, dict(task), "Task")
    except UserError:
        return
    for section, family in (("Loss", "losses"), ("Metric", "metrics")):
        given = _options(tree, section).get(side)
        if given == []:
            yield "", None, lambda section=section, family=family: check_any(built, family, [], f"{section}.{side}")
        for i, one in enumerate(given if isinstance(given, list) else ()):
            where, name = f"{section}.{side}.{i}", next(iter(one), None) if isinstance(one, Mapping) else None
            yield where, name, lambda one=one, where=where, family=family: entry(built, family, one, where)


def _learning(tree: Mapping[str, Any]) -> Iterator[Attempt]:
    optimizer = _options(tree, "Optimizer")
    name = optimizer.get("name", None if "Optimizer" in tree else "Momentum")
    options = {key: value for key, value in optimizer.items() if key not in ("name", "lr")}
    yield "", name, lambda: check_optimizer(name, options)
    schedule = optimizer.get("lr") or {}
    if isinstance(schedule, Mapping):
        yield "", schedule.get("name"), lambda: check_schedule(dict(schedule))
    amp = _options(tree, "AMP")
    yield "", None, lambda: _one_of("AMP.level", amp.get("level", LEVELS[0]), LEVELS)
    yield "", None, lambda: _one_of("AMP.dtype", amp.get("dtype", DTYPES[0]), DTYPES)


def _options(tree: Mapping[str, Any], *path: str) -> dict:
    """The mapping at a place; an empty one where there is none."""
    node: Any = tree
    for key in path:
        node = node.get(key) if isinstance(node, Mapping) else None
    return dict(node) if isinstance(node, Mapping) else {}


def _one_of(what: str, given: Any, choices: Any) -> None:
    if not isinstance(given, str) or given not in choices:
        raise ConfigError(choose(what, given, choices))
