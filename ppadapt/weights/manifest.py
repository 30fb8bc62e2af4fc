"""What a tuned file says of itself: the schema, and how two manifests are compared.

    format_version  2; files of version 1 are read, and what they do not say is warned of
    digest          of the file's own tensors (`checksum.digest`), written by `save_tuned`
    tuning          [{"name": method, option: value, ...}], every option
    backbone        {"name", "family", "options": every option of the network, "frozen_dtype", "digest"}
    head            name of the head
    preprocess      [{operator: every option}], those of the evaluation, colour order included
    classes         names, in the order of the logits
    task            {"kind": ..., ...}: what is asked of a sample
    metrics         what the last evaluation found

A manifest is compared fact by fact (`compare`), each fact by its path: "Tuning.scale", "Arch.num_heads".
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import brief, printable
from .errors import WeightsError

FORMAT_VERSION = 2
READABLE = (1, 2)

# Section of a fact's path -> how to mend a difference.
FIXES = {
    "Tuning": "use the Tuning section of the run (its config.yaml)",
    "Arch": "set Arch to that of the run (its config.yaml)",
    "head": "set Arch.head to that of the run (its config.yaml)",
    "backbone": "set Arch.name and Arch.pretrained to those of the run (its config.yaml)",
    "preprocessing": "use its transform_ops in DataLoader.Eval.dataset",
    "classes": "use the data set it was trained for, or start from it without its head: Global.pretrained_head: False",
    "task": "use the Task section of the run (its config.yaml)",
}
# Options that act in training alone, or only say how an array is held: they change no answer.
NO_ANSWER = {
    "Tuning": {"dropout", "drop_path"},
    "Arch": {"drop_rate", "attn_drop_rate", "drop_path_rate", "pos_drop_rate", "patch_drop_rate", "use_checkpoint"},
    "preprocessing": {"ToCHWImage", "DecodeImage.to_np", "DecodeImage.channel_first", "DecodeImage.backend",
                      "NormalizeImage.order", "NormalizeImage.output_fp16", "NormalizeImage.channel_num"},
    "task": {"threshold"},
}
# Facts that change the last digits of an answer only: a difference is said, and not refused.
ROUNDING = {"Arch.frozen_dtype"}
COLOUR = "preprocessing.colour order"
DIGEST = "backbone.digest"
UNKNOWN = "(unknown here)"  # in the place of a value that only the file has


class MismatchError(WeightsError):
    """A tuned file that was trained otherwise than it is to be used; `differences` are the facts."""

    def __init__(self, message: str, differences: list[Difference]):
        super().__init__(message)
        self.differences = differences


@dataclass(frozen=True)
class Difference:
    """A fact that the file says otherwise: `what` is its path, such as "Tuning.scale"."""

    what: str
    file: Any
    wanted: Any

    @property
    def section(self) -> str:
        return self.what.partition(".")[0]

    def __str__(self) -> str:
        name = self.what.partition(".")[2]
        theirs, ours = _brief(self.file), _brief(self.wanted)
        if self.what == DIGEST:
            theirs, ours = theirs[:16], ours[:16]
        elif theirs == ours and isinstance(self.file, list):  # long lists that begin alike
            at = next((i for i, (a, b) in enumerate(zip(self.file, self.wanted)) if a != b), 0)
            theirs, ours = f"{theirs}, number {at} {brief(self.file[at])}", f"{ours}, {brief(self.wanted[at])}"
        elif theirs == ours:  # 4 and '4'
            theirs, ours = brief(self.file), brief(self.wanted)
        return f"{name + ': ' if name else ''}{theirs} in the file, {ours} here"


@dataclass
class Comparison:
    """What a file says otherwise (`differences`), and what it does not say, or only nearly the same (`warnings`)."""

    differences: list[Difference] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def raise_if_different(self, path: str | os.PathLike) -> None:
        """Raises MismatchError naming both sides of every difference and how to mend it, in one line."""
        if not self.differences:
            return
        parts = []
        for section in dict.fromkeys(d.section for d in self.differences):
            found = [str(d) for d in self.differences if d.section == section]
            more = f"; and {len(found) - 4} more" if len(found) > 4 else ""
            name = f"another {section}" if section == "backbone" else f"other {section}"
            parts.append(f"{name} ({'; '.join(found[:4])}{more}): {FIXES[section]}")
        raise MismatchError(f"{path} was trained with {'. It was trained with '.join(parts)}", self.differences)


def compare(manifest: Mapping[str, Any], wanted: Mapping[str, Any],
            filled: Mapping[str, Any] | None = None) -> Comparison:
    """A tuned file's manifest against what it is to be used with.

    Args:
        manifest: of the file, as `parse_manifest` gives it.
        wanted: a manifest of the same form. Sections that it lacks are not compared.
        filled: the file's manifest with what it leaves out at its defaults, by one who knows them. A default is
            compared like what the file says, and warned of where it fits.

    A fact that only `wanted` has is warned of; one that only the file has is a difference, for nobody here knows it.
    """
    said, ours = dict(_facts(manifest)), dict(_facts(wanted))
    theirs, result = said if filled is None else dict(_facts(filled)), Comparison()
    unsaid, assumed = [], []
    for what, value in ours.items():
        if _of_another(what, theirs, ours):
            continue
        if what not in theirs:
            unsaid.append(what)
        elif theirs[what] == value:
            assumed += [] if what in said else [f"{what} {_brief(value)}"]
        elif what in ROUNDING:
            result.warnings.append(f"trained with {what} {theirs[what]}, used with {value}: answers differ in last "
                                   "digits")
        else:
            known = theirs[what] if what in said else f"{_brief(theirs[what])} (its default)"
            result.differences.append(Difference(what, known, value))
    sections = {what.partition(".")[0] for what in ours}
    for what, value in theirs.items():
        if what not in ours and what.partition(".")[0] in sections and not _of_another(what, theirs, ours):
            result.differences.append(Difference(what, value, UNKNOWN))
    if unsaid:
        result.warnings.append(f"the file does not say, so that it could not be checked: {', '.join(unsaid)}")
    if assumed:
        result.warnings.append(f"the file does not say, so that defaults were taken: {', '.join(assumed)}")
    return result


def _of_another(what: str, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Whether a fact is an option of methods or operators that differ in name: that is said, and enough."""
    names = f"{what.partition('.')[0]}.name"
    return what != names and names in theirs and names in ours and theirs[names] != ours[names]


def _facts(manifest: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Fact by fact what a manifest says that changes an answer: ("Tuning.scale", 0.1). An entry of None is not said."""
    manifest = json.loads(json.dumps(manifest, default=str))  # tuples are lists in a file
    yield from _named("Tuning", manifest.get("tuning"))
    backbone = manifest.get("backbone") or {}
    beside = {key: backbone.get(key) for key in ("family", "frozen_dtype")}
    for option, value in beside.items():
        if value is not None:
            yield f"Arch.{option}", value
    for option, value in (backbone.get("options") or {}).items():
        if option not in NO_ANSWER["Arch"]:
            yield f"Arch.{option}", value
    if manifest.get("head") is not None:
        yield "head", manifest["head"]
    if backbone.get("digest"):
        yield DIGEST, backbone["digest"]
    if manifest.get("preprocess") is not None:
        ops = [{"name": name, **(options or {})} for op in manifest["preprocess"] for name, options in
               (op if isinstance(op, dict) else {op: None}).items()]
        decode = next((op for op in ops if op["name"] == "DecodeImage"), {})
        if "to_rgb" in decode:
            yield COLOUR, "RGB" if decode["to_rgb"] else "BGR"
        yield from _named("preprocessing", [op for op in ops if op["name"] not in ("DecodeImage", "ToCHWImage")], True)
    if manifest.get("classes") is not None:
        yield "classes", list(manifest["classes"])
    for name, value in (manifest.get("task") or {}).items():
        if name not in NO_ANSWER["task"]:
            yield f"task.{name}", value


def _named(section: str, things: list[dict] | None, with_names: bool = False) -> Iterator[tuple[str, Any]]:
    """The names in their order, then each option by the name (or, where it stands alone, without one)."""
    if things is None:
        return
    names = [thing["name"] for thing in things]
    yield f"{section}.name", names
    for i, thing in enumerate(things):
        name = thing["name"] if names.count(thing["name"]) == 1 else f"{i}.{thing['name']}"
        path = f"{section}.{name}" if with_names or len(things) > 1 else section
        for option, value in thing.items():
            if option != "name" and option not in NO_ANSWER[section] \
                    and f"{thing['name']}.{option}" not in NO_ANSWER[section]:
                yield f"{path}.{option}", value


def parse_manifest(text: str, path: str | os.PathLike) -> dict[str, Any]:
    """The manifest from its JSON, with the methods' options beside their names (version 1 also nested them).

    Raises WeightsError on other JSON, an unknown format version, and an entry of another type than the schema's.
    """
    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError):
        manifest = None
    if not isinstance(manifest, dict):
        raise WeightsError(f"{path} is damaged: its manifest is not a JSON object; get the file again")
    version = manifest.get("format_version")
    if version not in READABLE or isinstance(version, bool):
        raise WeightsError(f"{path} is of format version {version!r}; this ppadapt reads "
                           f"{' and '.join(map(str, READABLE))}. Use the ppadapt that wrote it, or upgrade")
    check_schema(manifest, path)
    if manifest.get("tuning"):
        manifest["tuning"] = [{"name": method["name"], **(method["options"] if set(method) == {"name", "options"} else
                                                         {k: v for k, v in method.items() if k != "name"})}
                              for method in manifest["tuning"]]
    return manifest


def check_schema(manifest: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Raises WeightsError naming the entry of a manifest that is not of its form. None counts as not said."""
    backbone = manifest.get("backbone")
    parts = {**manifest, **{f"backbone.{k}": v for k, v in (backbone if isinstance(backbone, dict) else {}).items()}}
    for entry, (fits, form) in _SCHEMA.items():
        value = parts.get(entry)
        if value is not None and not fits(value):
            raise WeightsError(f"{path} is damaged: its manifest has {entry} {_brief(value)}, which must be {form}; "
                               "get the file again, or convert it anew")


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _table(value: Any) -> bool:
    return isinstance(value, dict)


def _listed(one) -> Any:
    return lambda value: isinstance(value, list) and all(map(one, value))


def _method(value: Any) -> bool:
    nested = isinstance(value, dict) and set(value) == {"name", "options"}
    return _table(value) and _text(value.get("name")) and (not nested or _table(value["options"]))


def _operator(value: Any) -> bool:
    return _text(value) or (_table(value) and len(value) == 1 and all(o is None or _table(o) for o in value.values()))


_SCHEMA = {
    "digest": (_text, "a sha256 in hex"),
    "tuning": (_listed(_method), "a list of methods, each with its name and options"),
    "backbone": (_table, "a table of name, options and digest"),
    "backbone.name": (_text, "the name of a network"),
    "backbone.family": (_text, "the name of a family of networks"),
    "backbone.options": (_table, "a table of options"),
    "backbone.digest": (_text, "a sha256 in hex"),
    "backbone.frozen_dtype": (_text, "the name of a type"),
    "head": (_text, "the name of a head"),
    "preprocess": (_listed(_operator), "a list of operators, each a name with its options"),
    "classes": (_listed(_text), "a list of names"),
    "task": (_table, "a table with the kind of the task"),
    "metrics": (_table, "a table of numbers"),
}


def _brief(value: Any, most: int = 120) -> str:
    if isinstance(value, list) and len(value) > 8:
        return f"{len(value)} ({', '.join(map(str, value[:3]))[:most]} ...)"
    return printable(value, most)
