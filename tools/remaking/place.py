"""Where records, runs, data and documents are, and a step of what is to be run."""
from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional

from ppadapt.runs.record import Identity, Record

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Place:
    """Of one call of tools/results.py.

    Attributes:
        root: holds README.md and docs/, whose tables are written; records are in docs/results/ of it.
        runs: gets the runs' own folders. cifar10: the archive, its folder, or where to download it.
        mosaics: the folder of `ppadapt mosaics`. torch_python: an interpreter with PyTorch; None leaves its side out.
        changes: overrides of every config, to try the parts out: what runs so is another run than the real one.
        measured: the same for tools/benchmark.py: its options.
        data: False where the images are not at hand, and records are read alone.
    """

    root: Path = REPOSITORY
    runs: Path = Path("output/results")
    cifar10: Path = Path("dataset")
    mosaics: Path = Path("dataset/mosaic")
    torch_python: Optional[str] = None
    changes: tuple[str, ...] = ()
    measured: tuple[str, ...] = ()
    data: bool = True
    _records: dict[str, tuple[int, Record]] = field(init=False, default_factory=dict, repr=False)
    _made: dict[str, Any] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self):
        self.identity = Identity(self.data)

    def record(self, part: str) -> Path:
        """The folder of a part's records and pictures."""
        return self.root / "docs" / "results" / part

    def recorded(self) -> list[str]:
        """The parts that have a record of trainings."""
        return sorted(path.parent.name for path in self.record("").glob("*/runs.json"))

    def runs_of(self, part: str) -> Record:
        """A part's record of trainings; its file is read again only where it changed, for it is asked for often."""
        path = self.record(part) / "runs.json"
        changed = path.stat().st_mtime_ns if path.is_file() else 0
        before, record = self._records.get(part) or (changed, Record(path))
        if before != changed:
            record.read()
        self._records[part] = changed, record
        return record

    def once(self, part: str, make: Callable[[], Any]) -> Any:
        """What is made for a part, the first time that it is asked for."""
        if part not in self._made:
            self._made[part] = make()
        return self._made[part]


@dataclass
class Step:
    """Something that is to be run: in words, for how many seconds as far as records tell, and how."""

    what: str
    seconds: Optional[float]
    run: Callable[[], object] = field(repr=False)
