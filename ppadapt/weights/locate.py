"""Where in a file the network is: training files hold several, under prefixes and wrappers of their makers."""

from __future__ import annotations

import re
from collections.abc import Collection

from .errors import WeightsError
from .layouts import LAYOUTS, READS, Layout, layout_of
from .layouts.timm import ADAPTFORMER, MAE, OURS, PADDLE, TIMM
from .raw import RawCheckpoint

_ANCHORS = {anchor: re.compile(rf"(?:^|[./])({anchor})$") for anchor in dict.fromkeys(x.anchor for x in LAYOUTS)}
# What DataParallel or flax put before every name.
_WRAPPED = ("module.", "module.", "opt/target/", "params/")


def locate(raw: RawCheckpoint, key: str | None = None) -> tuple[str, Layout]:
    """(prefix, layout) of the network: what stands before each of its names, and whose names they are.

    `key`: where it is, such as 'teacher' or 'model_ema', where a file holds several.

    Raises:
        WeightsError: when nothing in the file is of a ViT, when several networks are and `key` does not choose one,
            or when `key` is not there; those that are there are listed.
    """
    names = list(raw.tensors)
    found = _networks(names, raw)
    if key is not None:
        chosen = {p: layout for p, layout in found.items() if _is_under(key, p, raw)}
        if not chosen:
            raise WeightsError(f"{raw.path}: there is no network under {key!r}; there is: {_listed(found, raw)}")
        found = chosen
    if len(found) > 1:
        raise WeightsError(f"{raw.path} holds {len(found)} networks: {_listed(found, raw)}. Say which: --key "
                           f"{_bare(next(iter(found))) or '...'}, in a config Arch.pretrained_key (an EMA or teacher "
                           "is another network than the plain one or the student, and trainers differ in their use)")
    if found:
        return next(iter(found.items()))
    prefix = shared_prefix(names)
    layout = layout_of([name[len(prefix):] for name in names], raw)
    if layout is None or not any(layout.rule_of(name[len(prefix):]) for name in names):
        beside = f" (not read: {', '.join(raw.skipped)})" if raw.skipped else ""
        raise WeightsError(f"{raw.path} holds no ViT that is known here; its names begin: {', '.join(names[:4])}"
                           f"{beside}. Read are: {READS}")
    return prefix, layout


def _networks(names: list[str], raw: RawCheckpoint) -> dict[str, Layout]:
    """Prefix -> layout of every network whose patch embedding is in the file."""
    found: dict[str, Layout] = {}
    for anchor in _ANCHORS.values():
        for name in names:
            hit = anchor.search(name)
            if hit and name[:hit.start(1)] not in found:
                prefix = name[:hit.start(1)]
                layout = _layout([n[len(prefix):] for n in names if n.startswith(prefix)], raw)
                if layout is not None:
                    found[prefix] = layout
    return found


def _layout(names: Collection[str], raw: RawCheckpoint) -> Layout | None:
    if "ppadapt" in raw.extras or raw.extras.get("format") == "ppadapt.network":
        return OURS
    layout = next((layout for layout in LAYOUTS if layout.known_by(names)
                   and any(re.fullmatch(layout.anchor, name) for name in names)), None)
    return PADDLE if raw.format == "paddle" and layout in (TIMM, MAE, ADAPTFORMER) else layout


def shared_prefix(names: list[str]) -> str:
    """What stands before every name of a file without a patch embedding, else ''."""
    prefix = ""
    for part in _WRAPPED:
        if names and all(name.startswith(prefix + part) for name in names):
            prefix += part
    return prefix


def _bare(prefix: str) -> str:
    return prefix.rstrip("./").replace("/", ".")


def _is_under(key: str, prefix: str, raw: RawCheckpoint) -> bool:
    """Whether a network is where `key` says, counted from the top of the file or from the entry that was read."""
    places = (_bare(prefix), _bare(f"{raw.under}.{prefix}"))
    return any(f"{place}.".startswith(f"{_bare(key)}.") for place in places)


def _listed(found: dict[str, Layout], raw: RawCheckpoint) -> str:
    rows = [f"{_bare(p) or raw.under or 'the top level'} ({layout.name}, {sum(n.startswith(p) for n in raw.tensors)} "
            "tensors)" for p, layout in found.items()]
    return ", ".join(rows) or "none"
