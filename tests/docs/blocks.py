"""The code blocks of our documents, and what runs them: see `MARKS`.

A line of HTML comment before a block says what becomes of it, and no block is without one.
"""
from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

ROOT = Path(__file__).resolve().parents[2]
MARKS = """\
<!-- run -->            the block is run, in a folder that the blocks of a document share: bash line by line, Python
<!-- config -->         YAML that is merged over a config and checked
<!-- file: NAME -->     it becomes that file, for the blocks below
<!-- shown: WHY -->     it is not run, and why; its commands and their options must exist all the same
"""
_FENCE = re.compile(r"(?:^<!-- (?P<mark>run|config|file|shown)(?:: (?P<said>.*?))? -->\n)?"
                    r"^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
# What stands behind every command that trains or evaluates, so that it takes seconds.
SMALL = ["Global.epochs=1", "Global.eval_interval=0", "DataLoader.Train.dataset.limit=48",
         "DataLoader.Train.sampler.batch_size=24", "DataLoader.Train.loader.num_workers=0",
         "DataLoader.Eval.dataset.limit=20", "DataLoader.Eval.loader.num_workers=0",
         "Optimizer.lr.warmup_epoch=0", "Global.use_visualdl=False"]


@dataclass
class Block:
    """A fenced block: the document, its line, the language, the mark and what it says, the text."""

    path: Path
    line: int
    kind: str
    mark: Optional[str]
    said: str
    text: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def documents() -> list[Path]:
    """All that people read as Markdown."""
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("notebooks/*.md"),
                   *ROOT.glob("ppadapt/assets/*.md")])


def blocks(path: Path) -> list[Block]:
    """The fenced blocks of a document, in order."""
    text = path.read_text(encoding="utf-8")
    return [Block(path, text.count("\n", 0, m.start("kind")) + 1, m["kind"], m["mark"], m["said"] or "", m["text"])
            for m in _FENCE.finditer(text)]


def commands(text: str) -> list[str]:
    """The commands of a bash block: a line each, comments and continuations resolved."""
    joined = re.sub(r"\\\n\s*", "", text)
    return [line.strip() for line in joined.splitlines() if line.strip() and not line.strip().startswith("#")]


def ours(words: list[str]) -> Optional[tuple[str, list[str]]]:
    """The command of ppadapt that a line calls, and its arguments; None for another program's."""
    from ppadapt.cli import COMMANDS

    if words[0] == "ppadapt":
        return words[1], words[2:]
    if words[0] == "python" and len(words) > 1 and words[1].startswith("tools/"):
        names = {"convert_weights": "convert", "export_model": "export", "make_mosaics": "mosaics"}
        stem = Path(words[1]).stem
        name = names.get(stem, stem)
        return (name, words[2:]) if name in COMMANDS else None
    return None


@dataclass
class Shell:
    """Runs blocks of one document in a folder. What is ours runs in this process, as importing Paddle takes seconds."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    names: dict = field(default_factory=dict)

    def run(self, block: Block) -> None:
        if block.mark == "file":
            path = self.folder / block.said
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.mark == "config":
            self._config(block.text)
        elif block.mark == "run" and block.kind == "python":
            exec(compile("\n" * block.line + block.text, str(block.path), "exec"), self.names)
        elif block.mark == "run":
            for line in commands(block.text):
                self.line(line)

    def line(self, line: str) -> None:
        """One command of a bash block."""
        assigned = re.fullmatch(r"([A-Z_]+)=(.*)", line)
        if assigned:
            self.variables[assigned[1]] = self._bash(f"printf %s {assigned[2]}")
            return
        words = self._bash(f"printf '%s\\0' {line}").split("\0")[:-1]
        called = ours(words)
        if called:
            self._call(*called)
        elif words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE), line
        elif words[:2] == ["pip", "install"]:
            self._extras(line)
        elif words[0] == "visualdl":
            assert Path(words[words.index("--logdir") + 1]).is_dir(), f"{line}: there is no such folder"
        elif words[0] == "python":
            self._bash(f"{shlex.quote(sys.executable)} {shlex.join(words[1:])}")
        else:
            self._bash(line)

    def _call(self, command: str, arguments: list[str]) -> None:
        from ppadapt.cli import run

        if command in ("train", "compare") or command == "eval" and "--exported" not in arguments:
            arguments = [*arguments, *(word for option in SMALL for word in ("-o", option))]
        elif command == "demo":
            return self._demo([*arguments, "--epochs", "1"])
        elif command == "mosaics":
            arguments = [*arguments, "--train", "60", "--test", "20"]
        try:
            run(command, arguments)
        except SystemExit as end:
            assert not end.code, f"ppadapt {command} {shlex.join(arguments)}: {end.code}"

    @staticmethod
    def _demo(arguments: list[str]) -> None:
        """The demo takes no options of a config: fewer digits make it small."""
        from unittest import mock

        from ppadapt.cli import run
        from ppadapt.data import digits

        few = digits._read()[::12]
        with mock.patch.object(digits, "_read", lambda: few), mock.patch.object(digits, "TRAIN", 100):
            run("demo", arguments)

    def _bash(self, text: str) -> str:
        environment = {**os.environ, **self.variables, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(["bash", "-euc", text], cwd=self.folder, env=environment, capture_output=True, text=True,
                              timeout=120)
        assert done.returncode == 0, f"{text}\n{done.stderr}"
        return done.stdout.rstrip("\n")

    @staticmethod
    def _config(text: str) -> None:
        import yaml

        from ppadapt import build, config
        from ppadapt.config.merging import overlay, settle

        given = yaml.safe_load(text)
        base = config.load(ROOT / "configs/digits/vit_micro_adaptformer.yaml").to_dict()
        made = config.parse(settle(overlay(base, given))[0])
        build.methods(made.Tuning)
        build.task_of(made)

    @staticmethod
    def _extras(line: str) -> None:
        setup = (ROOT / "setup.py").read_text(encoding="utf-8")
        for extras in re.findall(r"\.\[([a-z,]+)\]", line):
            for extra in extras.split(","):
                assert f'"{extra}": [' in setup, f"{line}: setup.py has no extra {extra}"


def check_shown(block: Block) -> list[str]:
    """What is wrong with the commands of a block that is not run: unknown commands, options, configs and targets."""
    wrong = []
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in commands(block.text) if block.kind in ("", "bash") else ():
        words = shlex.split(line, comments=True)
        called = ours(words)
        if called is None:
            if words[0] == "make" and not re.search(rf"^{words[1]}:", makefile, re.MULTILINE):
                wrong.append(f"{line}: no such target")
            wrong += [f"{line}: {word} does not exist" for word in words if word.startswith("tools/")
                      and not (ROOT / word).is_file()]
            continue
        text = _help(called[0])
        if not text:
            wrong.append(f"{line}: no such command")
            continue
        for word, following in zip(called[1], [*called[1][1:], ""]):
            if word.startswith("-") and word.split("=")[0] not in text:
                wrong.append(f"{line}: {called[0]} has no {word}")
            if word == "-c" and following not in ("config.yaml", "my.yaml"):
                from ppadapt import config

                try:
                    config.load(following if following[:1] == "/" else _from_root(following))
                except Exception as error:
                    wrong.append(f"{line}: {error}")
    return wrong


def _from_root(name: str) -> str:
    path = ROOT / name
    return str(path) if path.is_file() else name


def _help(command: str) -> str:
    import contextlib
    import io

    from ppadapt.cli import COMMANDS, run

    if command not in COMMANDS:
        return ""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        run(command, ["--help"])
    return said.getvalue()
