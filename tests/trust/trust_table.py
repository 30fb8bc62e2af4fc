"""The table of bad input: one row, one thing that a file, a folder or a person does wrong.

A row is refused in one printable line that names what was given, quickly, without gigabytes, and leaves everything as
it was; or it comes out right. To extend the table write a module `rows_*.py` beside this one with a list `ROWS`.
"""
from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import resource
import runpy
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Union

from ppadapt.errors import UserError, printable

TOOLS = Path(__file__).resolve().parents[2] / "tools"
SECONDS, BYTES = 10, 1 << 30  # what no file of up to 10 MB may exceed (docs/security.md)


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        make: writes the input into an empty folder, which is the current one; returns what `call` is given.
        call: what a user would call. It raises UserError, or ends as `tool` says.
        expect: a pattern that the message matches; or a function of what `call` returned, which is true.
    """

    category: str
    case: str
    make: Callable[[Path], Any]
    call: Callable[[Any], Any]
    expect: Union[str, Callable[[Any], bool]]

    def __str__(self) -> str:
        return f"{self.category}: {self.case}"


def check(row: Row, folder: Path, error_kind: type) -> None:
    """Assert that the row is met."""
    given = row.make(folder)
    before = _state(folder)
    with _bounded():
        try:
            found = row.call(given)
        except error_kind as error:
            found = error
    if not isinstance(row.expect, str):
        assert not isinstance(found, Exception), f"{row}: {found}"
        assert row.expect(found), f"{row}: {found!r}"
        return
    assert isinstance(found, error_kind), f"{row}: no error, but {found!r}"
    said = str(found)
    assert said == printable(said) and len(said) > 20, f"{row}: {said!r}"
    assert re.search(row.expect, said), f"{row}: {said!r}"
    assert _state(folder) == before, f"{row}: something was written or lost"


def tool(name: str, *arguments: object) -> str:
    """A tool in this process: what it printed. Raises UserError with the one line that it ends with otherwise."""
    out, err, code = io.StringIO(), io.StringIO(), None
    before = sys.argv, list(sys.path)
    sys.argv = [name, *map(str, arguments)]
    sys.path.insert(0, str(TOOLS))
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            runpy.run_path(str(TOOLS / name), run_name="__main__")
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv, sys.path[:] = before
    if code in (None, 0):
        return out.getvalue()
    lines = [code] if isinstance(code, str) else [line for line in err.getvalue().splitlines() if "arning" not in line]
    assert len(lines) == 1, lines
    raise UserError(lines[0].removeprefix("error: "))


@contextlib.contextmanager
def _bounded():
    """At most SECONDS of computing, and BYTES more than this process has. On a machine that others use too it may take
    longer by the clock, which only ends what waits for ever."""
    def late(*_):
        raise TimeoutError(f"more than {SECONDS} s")

    pages = int(Path("/proc/self/statm").read_text().split()[0]) if os.path.exists("/proc/self/statm") else None
    limits = resource.getrlimit(resource.RLIMIT_AS)
    handlers = {number: signal.signal(number, late) for number in (signal.SIGALRM, signal.SIGPROF)}
    if pages:
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES, limits[1]))
    signal.alarm(6 * SECONDS)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def _state(folder: Path) -> dict[str, str]:
    """Everything in a folder, and what it is."""
    return {str(path): os.readlink(path) if path.is_symlink() else
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "other"
            for path in sorted(folder.rglob("*"))}
