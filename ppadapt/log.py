"""What the package says: log lines on the screen and in a file, and a bar.

tqdm is imported where something is shown: it takes longer than all the rest of `ppadapt train --help`.
"""
from __future__ import annotations

import contextlib
import importlib.util
import logging
import sys
import warnings
from pathlib import Path
from typing import Any, Iterable, Iterator, Optional, Sequence, TextIO

from .errors import printable

LOGGER = logging.getLogger("ppadapt")


class _Printable(logging.Formatter):
    """Names from files come into log lines too: what would steer the terminal is escaped, line by line."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(printable(line, most=10**6) for line in super().format(record).split("\n"))


# Marks a line (`LOGGER.info(..., extra=BESIDE_BAR)`) that says what a bar says: the screen shows one of the two.
BESIDE_BAR = {"beside_bar": True}


# Marks what a run says of itself before and after it trains: where there are many runs it goes into their files alone.
OF_ONE_RUN = {"of_one_run": True}

_on_stderr = _many_runs = False


@contextlib.contextmanager
def beside_answers() -> Iterator[None]:
    """For what prints answers of its own: the log goes to stderr meanwhile, so that stdout can be piped."""
    global _on_stderr
    before, _on_stderr = _on_stderr, True
    try:
        yield
    finally:
        _on_stderr = before


@contextlib.contextmanager
def many_runs() -> Iterator[None]:
    """For what trains one after the other: the screen shows how far each is, and warnings."""
    global _many_runs
    before, _many_runs = _many_runs, True
    try:
        yield
    finally:
        _many_runs = before


def _screen() -> TextIO:
    return sys.stderr if _on_stderr else sys.stdout


class _ThroughBar(logging.StreamHandler):
    """Writes above a progress bar rather than into it."""

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "beside_bar", False) and wants_bar() or getattr(record, "of_one_run", False) and _many_runs:
            return
        from tqdm import tqdm

        try:
            tqdm.write(printable_lines(self.format(record)), file=_screen())
            _screen().flush()
        except OSError as error:
            # A full disk, or a reader that went: no reason to lose a run, whose log goes into a file as well.
            LOGGER.removeHandler(self)
            print(f"the log is no longer shown ({error.strerror or error})", file=sys.stderr)


class _LogFile(logging.FileHandler):
    """A file that may become impossible to write: a run ends when it cannot save, not for its log."""

    def handleError(self, record: logging.LogRecord) -> None:
        LOGGER.removeHandler(self)
        print(f"{self.baseFilename} can no longer be written ({sys.exc_info()[1]})", file=sys.stderr)


def printable_lines(text: str) -> str:
    """Several lines as they may reach a terminal: what steers one is escaped, and what its encoding cannot say."""
    encoding = getattr(_screen(), "encoding", None) or "utf-8"
    lines = (printable(line, len(line)) for line in text.split("\n"))
    return "\n".join(lines).encode(encoding, "backslashreplace").decode(encoding)


class _Memory(logging.Handler):
    """Keeps what is said before a run has its folder."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


_least = logging.INFO


def only_warnings() -> None:
    """For the processes beside the first: what all do is said once."""
    global _least
    _least = logging.WARNING
    LOGGER.setLevel(_least)


def setup(log_file: Optional[Path] = None, notes: Sequence[str] = (), facts: Sequence[str] = ()) -> None:
    """Send log lines to the screen and to `log_file`. Called anew, it replaces what was set up before.

    Args:
        log_file: begins with the lines since the last `setup` without one, for a run is built before it has a folder.
        facts, notes: lines and warnings to begin with.
    """
    said = [record for handler in LOGGER.handlers if isinstance(handler, _Memory) for record in handler.records]
    for handler in list(LOGGER.handlers):
        LOGGER.removeHandler(handler)
        handler.close()
    # What UTF-8 cannot say is part of a file's name, and no reason to lose the line.
    file = _LogFile(log_file, encoding="utf-8", errors="backslashreplace") if log_file else _Memory()
    for handler in (_ThroughBar(), file):
        handler.setFormatter(_Printable("[%(asctime)s] %(name)s %(levelname)s: %(message)s", "%Y/%m/%d %H:%M:%S"))
        LOGGER.addHandler(handler)
    LOGGER.setLevel(_least)
    LOGGER.propagate = False
    if log_file:
        for record in said:
            file.handle(record)
    for fact in facts:
        LOGGER.info("%s", fact, extra=OF_ONE_RUN)
    for note in notes:
        LOGGER.warning("%s", note)


def wants_bar() -> bool:
    """A bar is for a terminal or a notebook; in a log file it is noise."""
    return _least == logging.INFO and (sys.stderr.isatty() or "ipykernel" in sys.modules)


def say(values: dict, notes: Optional[dict] = None) -> str:
    """Named numbers in a line, each with its note, if there is one, behind it."""
    notes = notes or {}
    return ", ".join(f"{name}: {value:.5f}" + (f" ({notes[name]})" if name in notes else "")
                     for name, value in values.items() if name != "images")


def bar(items: Optional[Iterable] = None, **options: Any) -> Any:
    """tqdm's bar, of its options, where one is wanted: text on a terminal, in a notebook a widget.

    A notebook without ipywidgets has text as well, in the stream of the log lines, so that each clears the other; that
    tqdm asks for them to be installed is not passed on.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm
    if "ipykernel" in sys.modules and importlib.util.find_spec("ipywidgets") is None:
        options["file"] = sys.stdout
    return tqdm(items, leave=False, disable=not wants_bar(), **options)


def progress(items: Iterable, what: str) -> Iterable:
    """The items, with a bar on a terminal or in a notebook."""
    return bar(items, desc=what)
