"""A YAML file and those it is based on, as plain data: text, numbers, booleans, nulls, lists and mappings of them.

YAML does more than a config needs, and what it does beyond is an error here or is left out: a key that stands twice,
aliases that lead back or multiply, tags, dates (text here), numbers in base 8 and 60 (text here).
"""
from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any, Hashable, Mapping, Optional

import yaml

from ..errors import ConfigError, brief
from ..limits import beyond, limit
from . import shipped
from .merging import overlay
from .sections import Config, fixed_sections

_MOST_BYTES = 2 ** 20
DEEPEST = 50
_ERRORS = (yaml.YAMLError, ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError)


class _Loader(yaml.SafeLoader):
    """Plain data. YAML 1.1 reads 1e-3 as text; this one reads a number."""

    depth = nodes = 0

    def compose_node(self, parent: Optional[yaml.Node], index: Any) -> yaml.Node:
        event = self.peek_event()
        if getattr(event, "tag", None) not in (None, "!"):
            raise yaml.constructor.ConstructorError(None, None, f"the tag {event.tag} is not for a config",
                                                    event.start_mark)
        self.depth += 1
        self.nodes += 1
        if self.nodes > limit("PPADAPT_MAX_YAML_VALUES"):  # before all of a long file is composed
            raise yaml.composer.ComposerError(None, None, f"it has {beyond('PPADAPT_MAX_YAML_VALUES', self.nodes)}",
                                              event.start_mark)
        if self.depth > DEEPEST:
            raise yaml.composer.ComposerError(None, None, f"it is nested more than {DEEPEST} deep", event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def get_single_node(self) -> Optional[yaml.Node]:
        node = super().get_single_node()
        if node is not None:
            _count(node, {}, ())
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[str, yaml.Mark] = {}
        for key, _ in node.value:
            name = key.value
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.tag != "tag:yaml.org,2002:str":
                what = brief(name) if isinstance(name, str) else "a list or mapping"
                raise yaml.constructor.ConstructorError(None, None, f"the key {what} is not text: keys are names",
                                                        key.start_mark)
            if name in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {name!r} stands twice, in line {seen[name].line + 1} too: keep one",
                    key.start_mark)
            seen[name] = key.start_mark
        return super().construct_mapping(node, deep)


# Both have to go: the table is shared with yaml's own loaders until it is made anew.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers
            if tag.rpartition(":")[2] not in ("timestamp", "int", "float")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(
    r"^[-+]?(0|[1-9][0-9]{0,99})$"), list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(
    r"^[-+]?((\d+\.\d*|\.\d+)([eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.(inf|Inf|INF))$|^\.(nan|NaN|NAN)$"),
    list("-+.0123456789"))


def parse_yaml(text: str) -> Any:
    """The value that a YAML text stands for.

    Raises:
        ValueError: saying what is wrong with it, in one line.
    """
    try:
        return plain(yaml.load(text, Loader=_Loader), "it")
    except _ERRORS as error:
        said = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        mark = getattr(error, "problem_mark", None)
        if mark is not None:
            said = f"line {mark.line + 1}, column {mark.column + 1}: {error.problem or error.context}"
        raise ValueError(" ".join(said.split())) from None


class _Dumper(yaml.SafeDumper):
    """PyYAML writes U+0085, a line end of old, unescaped in all but double quotes, and reads it as a blank."""


_Dumper.add_representer(str, lambda dumper, text: dumper.represent_scalar(
    "tag:yaml.org,2002:str", text, style='"' if "\x85" in text else None))


def yaml_text(data: Any) -> str:
    """YAML of plain data for people, in their own letters, which reads back as the same."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def read(path: Path) -> tuple[dict, list[Path]]:
    """A config file over those of its `_base_`, and all files that were read.

    A base is a path seen from the file's folder, or else the name of a config that ships.

    Raises:
        ConfigError: for a file that is missing, not UTF-8, no YAML or none of sections.
    """
    done: dict[Path, dict] = {}
    return _read(path, (), done), list(done)


def _read(path: Path, seen: tuple[Path, ...], done: dict[Path, dict]) -> dict:
    place = _real(path)
    if place in seen:
        raise ConfigError(f"{path}: `_base_` leads back to the file itself")
    if place in done:  # a base of several
        return done[place]
    try:
        tree = parse_yaml(_text(path))
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"config file {path} cannot be read: {error}") from None
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise ConfigError(f"config file {path} holds a {type(tree).__name__}: it must hold sections "
                          f"({', '.join(f.name for f in fields(Config))})")
    bases = tree.pop("_base_", None) or []
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ConfigError(f"config file {path}: _base_ is {brief(bases)}: give the path of a file, or a list of them")
    merged: dict = {}
    for base in bases:
        beside = path.parent / base
        found = beside if beside.exists() else shipped.find(base)
        merged = overlay(merged, _read(found if found.exists() else beside, (*seen, place), done))
    done[place] = overlay(merged, _said(tree, fixed_sections()))
    return done[place]


def _text(path: Path) -> str:
    try:
        if not path.exists():
            near = ", ".join(sorted(str(p) for p in path.parent.glob("*.y*ml"))[:8]) if path.parent.is_dir() else ""
            ships = shipped.nearest(path)
            raise ConfigError(f"config file {path} does not exist" + (f". There are: {near}" if near else "") + "; no "
                              "config that ships is called so" + (f". Did you mean {ships!r}?" if ships else ".")
                              + " `ppadapt configs` lists those")
        if not path.is_file():
            raise ConfigError(f"config file {path} is a folder or a device: give the path of a YAML file")
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigError(f"config file {path} has {path.stat().st_size:,} bytes and may have {_MOST_BYTES:,}")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"config file {path} cannot be read: it is not UTF-8 (byte {error.start}): save it as "
                          "UTF-8") from None
    except OSError as error:
        raise ConfigError(f"config file {path} cannot be read: {error.strerror or error}") from None


def _real(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a link that leads to itself
        raise ConfigError(f"config file {path} cannot be read: its links lead to themselves") from None


def _said(tree: dict, sections: Mapping[str, Any]) -> dict:
    """A file without the sections that it leaves empty, which say nothing."""
    return {key: _said(value, sections[key]) if isinstance(value, dict) and isinstance(sections.get(key), dict)
            else value for key, value in tree.items() if value is not None or key not in sections}


def _count(node: yaml.Node, sizes: dict[int, int], above: tuple[int, ...]) -> int:
    """How many values a node stands for when its aliases are written out."""
    if id(node) in above:
        raise yaml.composer.ComposerError(None, None, "an alias (*) leads back to what it is part of", node.start_mark)
    if id(node) not in sizes:
        children = node.value if isinstance(node, yaml.SequenceNode) else [
            child for pair in node.value for child in pair] if isinstance(node, yaml.MappingNode) else []
        sizes[id(node)] = 1 + sum(_count(child, sizes, (*above, id(node))) for child in children)
        if sizes[id(node)] > limit("PPADAPT_MAX_YAML_VALUES"):
            raise yaml.composer.ComposerError(
                None, None, f"it has {beyond('PPADAPT_MAX_YAML_VALUES', sizes[id(node)])}", node.start_mark)
    return sizes[id(node)]


def plain(value: Any, where: str, depth: int = 0) -> Any:
    """A copy in which no two places share a list or mapping, so that a change to one is none to another.

    Raises:
        ConfigError: for a key that is not text, and for what is nested too deeply.
    """
    if depth > DEEPEST:
        raise ConfigError(f"{where} is nested more than {DEEPEST} deep")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ConfigError(f"{where}: the key {brief(key)} is not text")
        return {key: plain(item, where, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, where, depth + 1) for item in value]
    return value
