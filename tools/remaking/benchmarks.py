"""Speed and memory: what tools/benchmark.py measures, a part of it at a time, on a machine that does nothing else."""
from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Iterator, Optional

import benchmark

from ppadapt import errors, files
from ppadapt.version import __version__

from .part import Part, View
from .place import REPOSITORY, Place, Step

BESIDE_TORCH = ("training", "inference")


@dataclass(frozen=True)
class Benchmarks(Part):
    """Parts of tools/benchmark.py with their options."""

    title: str
    parts: tuple[tuple[str, tuple[str, ...]], ...]

    def stale(self, place: Place, name: str) -> list[str]:
        taken = self._taken(place, name)
        return [f"{name}: {part} was measured with ppadapt {record['ppadapt']}, options {' '.join(record['options'])}: "
                "it is not taken" for part, record in self._records(place, name).items() if part not in taken]

    def left_out(self, place: Place) -> list[str]:
        told = ["features: name CIFAR-10's archive with --cifar10"] if self._without_images(place) else []
        if not place.torch_python:
            told.append("PyTorch's side: name an interpreter that has it with --torch-python")
        return told

    @staticmethod
    def _without_images(place: Place) -> bool:
        return not place.cifar10.exists()

    def left(self, place: Place, name: str) -> Iterator[Step]:
        records = self._taken(place, name)
        for part, options in self.parts:
            if not _whole(place, part, records.get(part)) and not (part == "features" and self._without_images(place)):
                yield Step(f"{name}: {part}", None, lambda part=part, options=options: self._measure(
                    place, name, part, options))

    def _measure(self, place: Place, name: str, part: str, options: tuple[str, ...]) -> None:
        output = place.runs / name / part
        command = [sys.executable, str(REPOSITORY / "tools" / "benchmark.py"), "--only", part, *options,
                   *place.measured, "--output", str(output)]
        if place.torch_python:
            command += ["--torch-python", place.torch_python]
        if part == "features":
            command += ["--cifar10", str(place.cifar10)]
        if subprocess.run(command).returncode:
            raise errors.UserError(f"{' '.join(command)} failed")
        told = json.loads((output / "benchmark.json").read_text(encoding="utf-8"))
        place.record(name).mkdir(parents=True, exist_ok=True)
        files.write_json(place.record(name) / f"{part}.json", {
            "ppadapt": __version__, "options": [*options, *place.measured],
            "machine": told["machine"], "versions": told["versions"], **told["parts"][part]})

    def views(self, place: Place, name: str) -> dict[str, View]:
        return {f"{name}.{part}": lambda part=part: self._table(place, name, part) for part, _ in self.parts}

    def _table(self, place: Place, name: str, part: str) -> str:
        record = self._taken(place, name).get(part)
        if record is None:
            return ""
        rounds = max(map(len, record["results"].values()))
        command = " ".join(["python tools/benchmark.py --only", part, *record["options"]])
        where = ", ".join(filter(None, (record["machine"], f"ppadapt {record['ppadapt']}", record["versions"])))
        told = benchmark.report(benchmark.PARTS[part], record["results"])[0].rstrip()
        return f"`{command}` on {where}; {rounds} round{'s' * (rounds > 1)}.\n\n{told}"

    def _taken(self, place: Place, name: str) -> dict[str, dict]:
        """The records that are of this version and of the options that are asked for."""
        asked = {part: [*options, *place.measured] for part, options in self.parts}
        return {part: record for part, record in self._records(place, name).items()
                if record["ppadapt"] == __version__ and record["options"] == asked[part]}

    def _records(self, place: Place, name: str) -> dict[str, dict]:
        paths = {part: place.record(name) / f"{part}.json" for part, _ in self.parts}
        return {part: json.loads(path.read_text(encoding="utf-8")) for part, path in paths.items() if path.is_file()}


def _whole(place: Place, part: str, record: Optional[dict]) -> bool:
    """Whether a part is measured, with PyTorch beside it where an interpreter is at hand."""
    beside = part in BESIDE_TORCH and place.torch_python
    return record is not None and (not beside or "torch" in record["versions"])
