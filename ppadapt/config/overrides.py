"""`-o Section.key=value`: one value of a config changed from the command line."""
from __future__ import annotations

from typing import Any, Optional, Sequence, get_type_hints

from ..errors import ConfigError, brief
from ..options import kinds_of
from .merging import overlay, put
from .reading import DEEPEST, parse_yaml
from .sections import Config

_NULL = ("", "~", "null", "Null", "NULL")


def apply(tree: dict, override: str) -> dict:
    """A tree with one value changed; mappings merge as those of files do.

    The value of an option that is text is that text as it stands (`*.png`, `#1.png`, `2024`); elsewhere it is YAML.

    Raises:
        ConfigError: for another form, a value that is no YAML (it says how to quote), or a place that is not there.
    """
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys) or len(keys) > DEEPEST:
        raise ConfigError(f"override {override!r} is not of the form Section.key=value, e.g. Global.epochs=5")
    return _changed(tree, keys, _value(keys, text, override), override)


def given_twice(overrides: Sequence[str]) -> list[str]:
    """A note for each key that is changed to several values: the last one counts."""
    last: dict[str, str] = {}
    notes = []
    for override in overrides:
        key, _, value = (part.strip() for part in override.partition("="))
        if last.setdefault(key, value) != value:
            notes.append(f"{key} is given several times: {value!r} counts, not {last[key]!r}")
        last[key] = value
    return notes


def values(option: str) -> tuple[str, list]:
    """"A.b=1,2" -> ("A.b", [1, 2]): YAML values with commas between them.

    Raises:
        ConfigError: for another form.
    """
    key, equals, text = option.partition("=")
    try:
        listed = parse_yaml(f"[{text}]")
    except ValueError:
        listed = None
    if not equals or not key.strip() or not listed:
        raise ConfigError(f"{option!r} is not of the form Section.key=value,value,... such as "
                          "Tuning.bottleneck=1,4,16 (a text with ':' or ',' goes in quotes)")
    return key.strip(), listed


def _value(keys: list[str], text: str, override: str) -> Any:
    kinds = _kinds(keys)
    stripped = text.strip()
    try:
        value = parse_yaml(text)
    except ValueError as error:
        if str not in kinds:
            raise ConfigError(f"override {override!r}: {text!r} is not a YAML value ({error}). A text with signs of "
                              f"YAML goes in quotes: {_quoted(keys, stripped)}") from None
        value = None
    if str not in kinds:
        if stripped.startswith("#") or " #" in text and not isinstance(value, str):
            raise ConfigError(f"override {override!r}: to YAML all that follows # is a comment. A text with # goes in "
                              f"quotes: {_quoted(keys, stripped)}")
        return value
    if stripped[:1] in ("'", '"') and stripped[-1:] == stripped[0] and len(stripped) > 1 and isinstance(value, str):
        return value
    if stripped in _NULL and type(None) in kinds:
        return None
    return value if isinstance(value, bool) and bool in kinds else stripped


def _quoted(keys: list[str], text: str) -> str:
    inner = text.replace("'", "''")
    return f"""-o "{'.'.join(keys)}='{inner}'\""""


def _kinds(keys: list[str]) -> tuple:
    """What an option of a fixed section may be; () for an option that belongs to a `name`."""
    kind: Optional[Any] = Config
    for key in keys:
        kind = get_type_hints(kind).get(key) if hasattr(kind, "__dataclass_fields__") else None
    return () if kind is None else tuple(kinds_of(kind))


def _changed(node: Any, keys: list[str], value: Any, override: str, where: str = "the config") -> Any:
    if not keys:
        return overlay(node, value) if isinstance(node, dict) and isinstance(value, dict) else value
    key, rest = keys[0], keys[1:]
    inside = key if where == "the config" else f"{where}.{key}"
    if isinstance(node, list):
        if not key.isdecimal() or int(key) >= len(node):
            raise ConfigError(f"override {override!r}: {where} is a list of {len(node)}: "
                              f"give an index from 0 to {len(node) - 1} in the place of {key!r}")
        i = int(key)
        return [*node[:i], _changed(node[i], rest, value, override, inside), *node[i + 1:]]
    if node is not None and not isinstance(node, dict):
        raise ConfigError(f"override {override!r}: {where} is {brief(node)} and has no {key!r} in it")
    node = {} if node is None else node
    return put(node, {key: _changed(node.get(key), rest, value, override, inside)})
