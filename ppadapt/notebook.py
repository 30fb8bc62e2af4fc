"""The first cell of a notebook: where it runs, where its files last, where its data is mounted, how to install.

    from ppadapt import config, notebook

    here = notebook.setup()                                   # looks, sets sys.path and PIP_USER, says what it found
    plan = config.load("cifar10/vit_micro_adaptformer", here.overrides("cifar-10-python.tar.gz"))
    results = notebook.train(plan)                            # goes on where the kernel was cut off

It knows AI Studio's notebooks (`/home/aistudio`) and script tasks (`paddlejob/workspace` in their home) as they were in
August 2026 (docs/aistudio.md); anywhere else output and data are in the current folder, as for the commands. Only the
standard library is imported before something is trained or installed.
"""
from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Sequence

from .errors import UserError

if TYPE_CHECKING:
    from .config import Config

NOTEBOOK, TASK, PLAIN = "AI Studio notebook", "AI Studio script task", "plain"
_AISTUDIO = "aistudio"
_DEEPEST = 2  # folders below a mounted one in which an archive is looked for


@dataclass(frozen=True)
class Here:
    """Where this runs.

    Attributes:
        kind: one of `NOTEBOOK`, `TASK` and `PLAIN`.
        output: the folder whose files last, when the project is closed or the task has ended.
        data: the folders in which data sets are mounted, a folder each, or lie themselves.
        libraries: the folder in which installed packages last; None where pip's own does.
    """

    kind: str
    output: Path
    data: tuple[Path, ...]
    libraries: Optional[Path] = None

    @property
    def scratch(self) -> Path:
        """Where thousands of small files may lie: on AI Studio beside the project, which they would stop from switching
        (and are gone when data is mounted anew); elsewhere in the current folder.
        """
        beside = self.kind == NOTEBOOK and os.access(self.data[0], os.W_OK)
        return self.data[0] if beside else Path()

    def places(self, name: str) -> list[str]:
        """Where a file or folder of this name may be, as the list of paths and patterns that a `root` may be."""
        return [str(Path("dataset") / name),
                *(str(place / below / name) for place in self.data for below in ("", "*"))]

    def find(self, name: str) -> Path:
        """The file or folder of this name ("cifar-10-python.tar.gz") in the mounted data sets or in `dataset`.

        Raises:
            UserError: naming what is mounted, and how to mount more.
        """
        for place in (Path("dataset"), *self.data):
            for depth in range(_DEEPEST + 1):
                for found in sorted(place.glob("/".join(["*"] * depth + [_literal(name)]))):
                    return found
        mounted = [f"{path} ({', '.join(sorted(p.name for p in path.iterdir())[:4]) or 'empty'})"
                   for place in self.data if place.is_dir() for path in sorted(place.iterdir()) if path.is_dir()]
        how = "" if self.kind == PLAIN else " Add the data set that has it to the project, and start it again."
        raise UserError(f"{name} is in none of dataset, {', '.join(map(str, self.data))}. Mounted: "
                        f"{'; '.join(mounted[:6]) or 'nothing'}.{how}")

    def overrides(self, data: Optional[str] = None) -> list[str]:
        """For `config.load`: files go where they last; with `data`, the name of an archive or a folder, it is looked
        for wherever data is mounted (CIFAR's archives that are nowhere are downloaded into `dataset`).
        """
        chosen = [f"Global.output_dir={self.output}"]
        if data is not None:
            roots = f"[{', '.join(map(_quoted, self.places(data)))}]"
            chosen += [f"DataLoader.{side}.dataset.root={roots}" for side in ("Train", "Eval")]
        return chosen

    def install_command(self, *packages: str, dependencies: bool = False) -> list[str]:
        """pip's command line for packages, where they last. Set PIP_USER=0 for it (`setup` does).

        Raises:
            UserError: for PaddleClas, whose numpy 1.24.4 would take the place of the kernel's.
        """
        for package in packages:
            if re.search(r"paddleclas|\[[^]]*zoo", package.lower()):
                raise UserError(f"{package} brings PaddleClas, which pins numpy 1.24.4 and would break this kernel: "
                                "use its networks in a virtual environment of their own")
        where = ["--target", str(self.libraries)] if self.libraries else []
        return [sys.executable, "-m", "pip", "install", *where, *([] if dependencies else ["--no-deps"]), *packages]

    def install(self, *packages: str) -> None:
        """Install packages where they last, and of what they need that which this Python does not have.

        A package that is imported already stays the one it was until the kernel starts anew.

        Raises:
            UserError: where pip fails, with what it said last.
        """
        before = _installed()
        print(f"installing {', '.join(packages)}" + (f" into {self.libraries}" if self.libraries else ""), flush=True)
        _pip(self.install_command(*packages))
        importlib.invalidate_caches()
        new = [name for name in _installed() if name not in before] or [_name(package) for package in packages]
        missing = sorted({need for name in new for need in _needs(name)} - set(_installed()))
        if missing:
            _pip(self.install_command(*missing, dependencies=True))
        importlib.invalidate_caches()

    def __str__(self) -> str:
        return (f"{self.kind}: files go to {self.output}; data is looked for in "
                f"{', '.join(['dataset', *map(str, self.data)])}"
                + (f"; packages last in {self.libraries}" if self.libraries else ""))


def here(home: Optional[Path] = None) -> Here:
    """Look where this runs; nothing is changed.

    Args:
        home: the home folder; the user's, or else /home/aistudio.
    """
    told = tuple(Path(path) for path in os.environ.get("PPADAPT_DATA", "").split(os.pathsep) if path)
    for place in [Path.home(), Path("/home") / _AISTUDIO] if home is None else [home]:
        workspace = place / "paddlejob" / "workspace"
        if (workspace / "train_data").is_dir():
            return Here(TASK, workspace / "output", (workspace / "train_data" / "datasets", *told))
        if place.name == _AISTUDIO and (place / "work").is_dir():
            return Here(NOTEBOOK, place / "work" / "output", (place / "data", *told), place / "external-libraries")
    return Here(PLAIN, Path("output"), told)


def setup(home: Optional[Path] = None) -> Here:
    """Look where this runs, say it, and make it right for what follows.

    Packages in the folder that lasts are found (after the kernel's own), and pip does not install for the user: AI
    Studio's `user = true` breaks --target and virtual environments.
    """
    found = here(home)
    if found.kind != PLAIN:
        os.environ["PIP_USER"] = "0"
    if found.libraries and str(found.libraries) not in sys.path:
        sys.path.append(str(found.libraries))
    print(found)
    return found


def train(config: Config, source: Optional[Path] = None) -> dict:
    """Train as `ppadapt train` does, once: a run of this config that was cut off goes on, and of one that was finished
    the results are read. So the whole notebook can be run again after the kernel was lost.

    To train anew change something, Global.seed for one, or remove the run's folder, which the log names.

    Raises:
        UserError: as `runs.experiment.train`.
    """
    from .runs.again import train_once

    return train_once(config, source)


def _literal(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _name(requirement: str) -> str:
    """"Safetensors>=0.4" -> "safetensors"; of a file, its name up to the version."""
    start = re.match(r"[A-Za-z0-9._-]+?(?=-\d|$|[\s\[<>=!~;(])", requirement.rpartition("/")[2])
    return re.sub(r"[-_.]+", "-", start.group(0) if start else requirement).lower()


def _installed() -> dict[str, None]:
    return dict.fromkeys(_name(one.metadata["Name"] or "") for one in importlib.metadata.distributions())


def _needs(name: str) -> list[str]:
    """What a package needs, without its extras and what only some systems need."""
    try:
        listed: Sequence[str] = importlib.metadata.requires(name) or ()
    except importlib.metadata.PackageNotFoundError:
        return []
    return [_name(need) for need in listed if ";" not in need]


def _pip(command: list[str]) -> None:
    done = subprocess.run(command, env={**os.environ, "PIP_USER": "0"}, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace")
    if done.returncode:
        said = [line for line in done.stdout.splitlines() if line.strip()] or ["it said nothing"]
        last = next((line for line in reversed(said) if line.startswith("ERROR")), said[-1])
        raise UserError(f"pip install ended with {done.returncode}: {last.strip()} (the command: {' '.join(command)})")
