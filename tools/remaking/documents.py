"""Tables in documents, between `<!-- results:NAME -->` and `<!-- /results:NAME -->`, written from records alone."""
from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Callable, Iterator, Mapping

from ppadapt import files
from ppadapt.errors import UserError, choose

BETWEEN = re.compile(r"^(<!-- results:(?P<name>[\w.]+) -->\n)(?P<held>.*?)^(<!-- /results:(?P=name) -->)$",
                     re.DOTALL | re.MULTILINE)
OPENED = re.compile(r"^<!-- /?results:([\w.]+) -->$", re.MULTILINE)
# A table is one of results by a column's heading, or by a unit; where another tool measured it, a line before says so.
MEASURED = re.compile(r"\b(top-?\d|accuracy|mAP|F1|images/s|samples/s|time|seconds|memory|ratio|speed)\b|, s\b", re.I)
IN_UNITS = re.compile(r"\d (?:[MG]iB|m?s|images/s|points)\b|\d [MG]B/s\b")  # of a machine, or of what it ran
SAID_SO = re.compile(r"<!-- (?:measured|parameters): .+ -->")
OLDER = re.compile(r"\bolder\b", re.I)
TABLE = re.compile(r"^\|(?P<head>.*)\|\n\|[-:| ]+\|\n(?P<body>(?:\|.*\n?)*)", re.MULTILINE)

View = Callable[[], str]


def documents(root: Path) -> list[Path]:
    """All that may hold results."""
    return sorted([*root.glob("*.md"), *root.glob("docs/*.md"), *root.glob("notebooks/*.ipynb")])


def write(root: Path, views: Mapping[str, View]) -> list[Path]:
    """Put what the views say between their markers; returns the documents that changed.

    Raises:
        UserError: for a marker that no view has.
    """
    changed = []
    for path in documents(root):
        before = path.read_text(encoding="utf-8")
        after = _apply(path, before, functools.partial(BETWEEN.sub, functools.partial(_filled, views=views, path=path)))
        if after != before:
            files.write_text(path, after)
            changed.append(path)
    return changed


def wrong(root: Path, views: Mapping[str, View]) -> list[str]:
    """Where documents and records differ, and measured numbers that stand outside of markers; a line each."""
    found = []
    for path in documents(root):
        name, text = path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")
        for piece in _pieces(path, text):
            unknown = {marker for marker in OPENED.findall(piece) if marker not in views}
            if unknown:
                found.append(f"{name}: there is no {', '.join(sorted(unknown))}; there are {', '.join(sorted(views))}")
                continue
            if len(OPENED.findall(piece)) != 2 * len(BETWEEN.findall(piece)):
                found.append(f"{name}: a marker <!-- results:NAME --> has no <!-- /results:NAME -->")
            found += [f"{name}: results:{match['name']} is not what its record says: `python tools/results.py "
                      "--tables` writes it anew" for match in BETWEEN.finditer(piece)
                      if _filled(match, views, path) != match[0]]
            found += [f"{name}: the table under |{head}| has results outside of the markers <!-- results:NAME -->"
                      for head in outside(piece)]
    return found


def outside(text: str) -> Iterator[str]:
    """The headings of tables with measured numbers that stand in no markers and below no heading of older results."""
    text = BETWEEN.sub("", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    for table in TABLE.finditer(text):
        before = text[:table.start()].rstrip("\n").rpartition("\n")[2]
        measured = MEASURED.search(table["head"]) and re.search(r"\d", table["body"]) or IN_UNITS.search(table["body"])
        if (measured and not SAID_SO.fullmatch(before)
                and not any(OLDER.search(heading) for heading in _headings(text[:table.start()]))):
            yield table["head"].strip()


def _headings(text: str) -> list[str]:
    """The headings that the end of a text stands below, outermost first."""
    above: dict[int, str] = {}
    for marks, heading in re.findall(r"^(#+) (.+)$", text, re.MULTILINE):
        above = {level: held for level, held in above.items() if level < len(marks)}
        above[len(marks)] = heading
    return list(above.values())


def _filled(found: re.Match, views: Mapping[str, View], path: Path) -> str:
    name = found["name"]
    if name not in views:
        raise UserError(f"{path}: {choose('marker results:', name, views)}")
    said = views[name]() or _not_yet(name, chinese=path.stem.endswith("_ch"))
    return f"{found[1]}{_from(path, said)}\n{found[4]}"


def _not_yet(name: str, chinese: bool) -> str:
    command = f"`make results PART={name.partition('.')[0]}`"
    return f"尚未用新数据运行：{command}。" if chinese else f"Not run yet with the new data: {command}."


def _from(path: Path, text: str) -> str:
    """Pictures are named from docs/; a document elsewhere names them from its own folder."""
    if path.parent.name == "docs":
        return text
    return text.replace("](results/", "](docs/results/" if path.suffix == ".md" else "](../docs/results/")


def _apply(path: Path, text: str, change: Callable[[str], str]) -> str:
    """The document with `change` made to its Markdown; of a notebook, to that of its cells."""
    if path.suffix != ".ipynb":
        return change(text)
    book = json.loads(text)
    for cell in book["cells"]:
        if cell["cell_type"] == "markdown":
            source = "".join(cell["source"])
            if change(source) != source:
                cell["source"] = change(source).splitlines(keepends=True)
    made = json.dumps(book, indent=1, ensure_ascii=False) + "\n"
    return text if json.loads(text) == book else made


def _pieces(path: Path, text: str) -> list[str]:
    """The Markdown of a document; of a notebook, of each cell."""
    if path.suffix != ".ipynb":
        return [text]
    return ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
