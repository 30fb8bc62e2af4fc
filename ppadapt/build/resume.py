"""Going on with a run: from which checkpoint, and whether it is the same run."""
from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Mapping, Optional

from ..config import Config
from ..engine import checkpoint, old_checkpoint
from ..errors import ConfigError, brief
from ..log import LOGGER
from .task import task_of

AUTO = "auto"
ABSENT = "not there"
# What each of several processes that train together may have for itself: places, and what the first alone does or says.
# Places may, for the weights and the data behind them are compared by what they are.
MAY_DIFFER = ("Global.device", "Global.output_dir", "Global.save_interval*", "Global.print_*",
              "Global.use_visualdl", "Global.checkpoints", "Global.allow_changes", "Global.pretrained_model",
              "Global.*feature*", "Global.cache_limit", "Arch.pretrained", "DataLoader.*.loader.*",
              "DataLoader.*.dataset.*root", "DataLoader.*.dataset.*_path", "DataLoader.*.dataset.class_id_map_file",
              "DataLoader.*.dataset.download", "Infer.*")
# What a resumed run may change: that, how it computes, and how long it goes on (upwards).
MAY_CHANGE = (*MAY_DIFFER, "Global.epochs", "Global.eval_interval", "Global.pretrained_head", "Global.early_stop",
              "Global.recompute", "DataLoader.Eval.sampler.batch_size")


def checkpoint_of(config: Config, runs: Optional[Path]) -> Optional[checkpoint.Checkpoint]:
    """The checkpoint that Global.checkpoints names, None where it names none.

    Args:
        runs: the folder of this config's runs, where `auto` looks.

    Raises:
        ConfigError: when there is none, or it is damaged; the whole one before it is named.
    """
    given = config.Global.checkpoints
    if not given:
        return None
    if given == AUTO:
        if runs is None:
            return None
        found, wrong = checkpoint.newest(runs)
        for what in wrong:
            LOGGER.warning("%s: it is passed over", what)
        if found is None:
            LOGGER.info("Global.checkpoints: auto finds no checkpoint in %s: a new run begins", runs)
        else:
            LOGGER.info("Global.checkpoints: auto goes on from %s", found.folder)
        return found
    old = old_checkpoint.find(given)
    if old and not checkpoint.steps(old[0].parent / checkpoint.FOLDER):
        return old_checkpoint.read(*old)
    return checkpoint.read_or_advise(checkpoint.find(given))


RESULTS = "results.json"  # what a run that was finished has


def cut_off(config: Config, runs: Path) -> Optional[Path]:
    """The newest whole checkpoint of the runs in a folder that are this very one and were not finished."""
    for run in _newest_first(runs):
        if (run / RESULTS).exists():
            continue
        for step in reversed(checkpoint.steps(run / checkpoint.FOLDER)):
            with contextlib.suppress(checkpoint.DamagedCheckpoint):
                if _is_the_same(checkpoint.read(step).progress["config"], config):
                    return step
    return None


def finished(config: Config, runs: Path) -> Optional[Path]:
    """The newest of the runs in a folder that are this very one and were finished."""
    for run in _newest_first(runs):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # damaged: no results
            if _is_the_same(json.loads((run / RESULTS).read_text(encoding="utf-8"))["config"], config):
                return run
    return None


def _newest_first(runs: Path) -> list[Path]:
    return sorted((path for path in runs.iterdir() if path.is_dir()), reverse=True) if runs.is_dir() else []


def _is_the_same(then: Mapping[str, Any], config: Config) -> bool:
    """Whether a config, as it is read again, is this one but for what changes no result."""
    task_of(config)  # fills in the losses and metrics that a run records
    now = _plain(config)
    return then["Global"]["epochs"] == now["Global"]["epochs"] and not _changes(then, now)


def identity_of(config: Config, train_data: Any, eval_data: Any, processes: int = 1) -> dict[str, Any]:
    """What a checkpoint says of its run, for `check_same`: the config, and what the data is by its labels.

    Of several processes it says the batch size of all together, with which any number of them goes on.
    """
    data = {side: {"images": len(data), "labels": _labels(data), "content": data.sketch()}
            for side, data in (("Train", train_data), ("Eval", eval_data)) if data is not None}
    plain = _plain(config)
    plain["DataLoader"]["Train"]["sampler"]["batch_size"] *= processes
    return {"config": plain, "data": data}


def shared_facts(identity: Mapping[str, Any]) -> dict[str, Any]:
    """What several processes must have alike to train one model, of `identity_of`: the config and the labels."""
    config = {key: value for key, value in _flat(identity["config"]).items()
              if not any(fnmatchcase(key, allowed) for allowed in MAY_DIFFER)}
    return {**config, **{f"the data of DataLoader.{side}": data for side, data in identity["data"].items()}}


def check_same(found: checkpoint.Checkpoint, identity: Mapping[str, Any], allow_changes: bool) -> None:
    """Compare a run with that of a checkpoint.

    Raises:
        ConfigError: naming each difference that is not among MAY_CHANGE, the old value and the new one.
    """
    then, now = found.progress["config"], identity["config"]
    if then is None:
        LOGGER.warning("%s is of version 0.1 and does not say what it was made with: whether optimizer, data and "
                       "transforms are those of the run cannot be checked", found.folder)
        return
    changes = _changes(then, now)
    for side, data in identity["data"].items():
        other = (found.progress["data"] or {}).get(side)
        if other and any(other.get(what, value) != value for what, value in data.items()):  # older ones say less
            changes.append((f"the data of DataLoader.{side}", _in_short(other), _in_short(data)))
    if now["Global"]["epochs"] < then["Global"]["epochs"]:
        changes.append(("Global.epochs", then["Global"]["epochs"], now["Global"]["epochs"]))
    _say_what_ends(found, then["Global"], now["Global"])
    if not changes:
        return
    said = "; ".join(f"{key} was {brief(old)} and is {brief(new)}"
                     for change in changes for key, old, new in _inside(*change))
    if not allow_changes:
        raise ConfigError(f"Global.checkpoints {found.folder} is of another run: {said}. Resume with the config.yaml "
                          "of that run, begin anew with Global.pretrained_model, or allow it with "
                          "Global.allow_changes=True")
    LOGGER.warning("the resumed run is another one from here on: %s", said)


def _say_what_ends(found: checkpoint.Checkpoint, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """What may change and means something all the same."""
    if now["epochs"] > then["epochs"]:
        LOGGER.info("Global.epochs was %d and is %d: from here on the learning rate is that of a run of %d epochs",
                    then["epochs"], now["epochs"], now["epochs"])
    if now["pretrained_model"] and not then.get("pretrained_model"):
        LOGGER.warning("Global.pretrained_model %s has no effect: the run goes on from %s (Global.checkpoints)",
                       now["pretrained_model"], found.folder)


def _plain(config: Config) -> dict[str, Any]:
    """A config as it is read again from JSON."""
    return json.loads(json.dumps(config.to_dict(), default=str))


def _changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(key, old value, new value) of what is not among MAY_CHANGE and differs."""
    before, after = _flat(then), _flat(now)
    return [(key, before.get(key), after.get(key)) for key in sorted({*before, *after})
            if before.get(key) != after.get(key) and not any(fnmatchcase(key, allowed) for allowed in MAY_CHANGE)]


def _inside(key: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """Where in two values of one form they differ: what a list of losses was and is would read the same."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        parts = [(name, old.get(name, ABSENT), new.get(name, ABSENT)) for name in dict.fromkeys((*old, *new))]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        parts = [(str(i), *both) for i, both in enumerate(zip(old, new))]
    else:
        yield key, old, new
        return
    for name, before, after in parts:
        if before != after:
            yield from _inside(f"{key}.{name}", before, after)


def _in_short(data: Mapping[str, Any]) -> str:
    return f"{data['images']} images, labels {data['labels'][:8]}, content {data.get('content', 'unknown')[:8]}"


def _labels(data: Any) -> str:
    return hashlib.sha256(repr((list(data.classes), data.labels.tolist())).encode("utf-8", "replace")).hexdigest()


def _flat(tree: Mapping[str, Any], start: str = "") -> dict[str, Any]:
    """{"Global.epochs": 5, ...}; lists are values."""
    found = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found.update(_flat(value, f"{start}{key}."))
        else:
            found[f"{start}{key}"] = list(value) if isinstance(value, tuple) else value
    return found
