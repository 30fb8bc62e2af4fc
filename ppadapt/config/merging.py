"""One mapping over another. Where a `name` changes, what was said for the old one stays if the new one takes it."""
from __future__ import annotations

from typing import Any, Mapping


class Renamed(dict):
    """A mapping whose `name` has changed: `was` is the one before, `inherited` are the keys said for earlier ones."""

    was: Any = None
    inherited: frozenset[str] = frozenset()


def overlay(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict:
    """`top` over `base`, mapping by mapping; lists and values are replaced. Neither argument is changed."""
    return put(base, {key: overlay(base[key], value) if isinstance(value, Mapping) and isinstance(base.get(key), dict)
                      else value for key, value in top.items()})


def put(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict:
    """A copy of `base` with some values in the place of its own."""
    if "name" in base and base["name"] != values.get("name", base["name"]):
        changed = Renamed(base)
        changed.was, changed.inherited = base["name"], frozenset(base) - {"name"}
    elif isinstance(base, Renamed):
        changed = Renamed(base)
        changed.was, changed.inherited = base.was, base.inherited
    else:
        return {**base, **values}
    changed.update(values)
    changed.inherited -= set(values)
    return changed


def settle(tree: Any, path: str = "") -> tuple[Any, list[str]]:
    """The tree as plain dicts and lists without what a changed `name` does not take, and a note for each such name."""
    if isinstance(tree, list):
        tree = dict(enumerate(tree))
        settled, notes = settle(tree, path)
        return list(settled.values()), notes
    if not isinstance(tree, dict):
        return tree, []
    kept, notes = tree, []
    if isinstance(tree, Renamed):
        # Only where a name has changed, for it imports all that can be named.
        from ..build import options_for

        takes = options_for(path, tree)
        inherited = [key for key in tree if key in tree.inherited]
        gone = [] if takes is None else [key for key in inherited if key not in takes]
        kept = {key: value for key, value in tree.items() if key not in gone}
        stays = [key for key in inherited if key in kept]
        said = [f"kept is {', '.join(stays)}"] * bool(stays) + [f"dropped is its {', '.join(gone)}"] * bool(gone)
        if takes is not None and said:
            notes.append(f"{path}.name is {tree['name']} in the place of {tree.was}: {'; '.join(said)}")
    result = {}
    for key, value in kept.items():
        result[key], more = settle(value, f"{path}.{key}" if path else str(key))
        notes += more
    return result, notes
