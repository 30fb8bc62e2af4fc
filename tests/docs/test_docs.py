"""Our documents: every command runs, every link and picture exists, what is generated is current, the READMEs agree."""
from __future__ import annotations

import importlib.util
import re
import urllib.parse
from pathlib import Path

import numpy as np
import pytest
from blocks import MARKS, ROOT, Shell, blocks, check_shown, documents
from PIL import Image

DOCUMENTS = {path.relative_to(ROOT).as_posix(): path for path in documents()}


def tool(name):
    """A file of tools/ as a module."""
    spec = importlib.util.spec_from_file_location(f"tools_{name}", ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_block_says_what_becomes_of_it(name):
    found = blocks(DOCUMENTS[name])
    unmarked = [str(block) for block in found if block.mark is None and block.kind != "text"]
    assert not unmarked, f"{', '.join(unmarked)}: put one of these in front, or ```text where it is no code:\n{MARKS}"
    indented = [line for line in re.sub(r"```.*?```", "", DOCUMENTS[name].read_text(encoding="utf-8"), flags=re.DOTALL)
                .splitlines() if re.match(r"    +(python|ppadapt|make|pip|\.venv/bin/\S+) \S", line)]
    assert not indented, f"{name} has commands that stand in no marked block: {indented}"
    wrong = [problem for block in found if block.mark == "shown" for problem in check_shown(block)]
    assert not wrong, "\n".join(wrong)


# The Chinese README's blocks are those of the English one: `test_the_readmes_say_the_same`.
@pytest.mark.parametrize("name", [name for name, path in DOCUMENTS.items() if name != "README_ch.md"
                                  and any(block.mark not in (None, "shown") for block in blocks(path))])
def test_blocks_run(name, tmp_path, monkeypatch):
    furnish(tmp_path)
    monkeypatch.chdir(tmp_path)
    shell = Shell(tmp_path)
    for block in blocks(DOCUMENTS[name]):
        try:
            shell.run(block)
        except Exception as error:
            raise AssertionError(f"{block}: {type(error).__name__}: {error}") from error


def furnish(folder: Path) -> None:
    """What the commands of our documents find on a reader's machine: photos, a data set of folders, CIFAR."""
    from test_data_cifar import make_cifar10

    rng = np.random.default_rng(0)
    for place, count in (("photos", 2), *((f"my_images/{split}/{kind}", 24) for split in ("train", "test")
                                          for kind in ("cat", "dog"))):
        (folder / place).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 255, (40, 48, 3), np.uint8)).save(folder / place / f"{i}.jpg")
    make_cifar10(folder / "dataset", per_batch=20)
    for split in ("train", "test"):
        lines = [f"{split}/{kind}/{i}.jpg {label}\n" for label, kind in enumerate(("cat", "dog")) for i in range(24)]
        (folder / "my_images" / f"{split}_list.txt").write_text("".join(lines), encoding="utf-8")


def anchors(path: Path) -> set[str]:
    """What a link may point to inside of a document, as GitHub names headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL),
                          re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_and_pictures_exist(name):
    path = DOCUMENTS[name]
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text):
        if re.match(r"(https?|mailto):", target):
            continue
        file, _, anchor = urllib.parse.unquote(target).partition("#")
        place = (path.parent / file).resolve() if file else path
        if not place.exists():
            wrong.append(f"{target}: there is no {place.relative_to(ROOT)}")
        elif anchor and place.suffix == ".md" and anchor not in anchors(place):
            wrong.append(f"{target}: no heading of {place.name} is called so")
        elif place.suffix in (".png", ".jpg"):
            with Image.open(place) as picture:
                picture.verify()
    for mentioned in re.findall(r"`((?:docs|configs|tools|tests|notebooks|ppadapt)/[\w./-]+\.\w+)`", text):
        if "NAME" not in mentioned and not (ROOT / mentioned).exists():
            wrong.append(f"`{mentioned}` does not exist")
    assert not wrong, "\n".join(wrong)


def test_the_readmes_say_the_same():
    """English and Chinese: the same headings, blocks, tables, pictures and links; what differs is the language."""
    def shape(name):
        text = DOCUMENTS[name].read_text(encoding="utf-8")
        code = [(block.kind, block.mark, re.sub(r"\s*#.*", "", block.text)) for block in blocks(DOCUMENTS[name])]
        prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        return {"headings": [len(marks) for marks in re.findall(r"^(#+) ", prose, re.MULTILINE)],
                "code": code,
                "tables": [re.sub(r"[^|\d.±%]", "", row) for row in re.findall(r"^\|.*$", prose, re.MULTILINE)],
                "links": sorted(set(re.findall(r"\]\(([^)#]+)[^)]*\)", prose)) - {"README.md", "README_ch.md"}),
                "markers": re.findall(r"<!-- .*? -->", prose)}

    english, chinese = shape("README.md"), shape("README_ch.md")
    for part, said in english.items():
        assert said == chinese[part], part


def test_configuration_is_what_the_code_checks():
    text = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    assert tool("configuration").document() == text, "python tools/configuration.py > docs/configuration.md"


def test_what_is_not_taken_of_paddleclas_is_listed():
    text = (ROOT / "docs/from_paddleclas.md").read_text(encoding="utf-8")
    assert tool("from_paddleclas").table() in text, "put `python tools/from_paddleclas.py` into docs/from_paddleclas.md"


def test_methods_say_what_they_train_of_a_vit_base():
    text = (ROOT / "docs/methods.md").read_text(encoding="utf-8")
    assert tool("methods").table() in text, "put the table of `python tools/methods.py` into docs/methods.md"
    from ppadapt import METHODS

    assert all(f"## {name}\n" in text for name in METHODS)
