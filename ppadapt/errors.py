"""What a user can do wrong, said in one line: what was given, what is allowed, how to mend it."""
from __future__ import annotations

import difflib
import reprlib
from typing import Any, Iterable, Sequence

_CUT = " ... (cut)"
MOST = 4000  # characters of a message: what a file is called, or holds, may be as long as the file
# Spaces that text has, and the joiners of Persian, Indic and emoji, which Python calls unprintable.
_ALLOWED = "\u00a0\u3000\u200c\u200d"


class UserError(ValueError):
    """A mistake in a config, a file or an option. The tools print it without a traceback.

    Its text is one line, whatever the names from files in it hold.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class FileError(UserError):
    """A file that is damaged, or that asks for more than a file may (`limits`)."""


class UnsafeFileError(FileError):
    """A file that wants something run. Nothing of it was."""


class ConfigError(UserError):
    """A config that does not say something we can build."""


def choose(what: str, given: object, choices: Iterable[str], listed: str = "") -> str:
    """The sentence for a name that is not one of `choices`, with the nearest one.

    `listed` is said in the place of the choices where they are too many.
    """
    names = [str(name) for name in choices]
    lower = {name.lower(): name for name in names}
    word = str(given).lower()
    near = difflib.get_close_matches(word, lower, n=1, cutoff=0.6)
    if not near and word:  # "mixup" is what people call MixupOperator
        near = [name for name in lower if name.startswith(word)]
    hint = f" Did you mean {lower[near[0]]!r}?" if near else ""
    return f"{what} {given!r} is unknown.{hint} Choose from: {listed or ', '.join(names) or '(nothing)'}."


def together(sentences: Sequence[str]) -> str:
    """Several complaints in one line; a list of choices that was given before is not given again."""
    said, lists = [], set()
    for sentence in sentences:
        start, choose_from, listed = sentence.rstrip(".").partition(" Choose from: ")
        said.append(start.rstrip(".") if listed in lists else f"{start}{choose_from}{listed}")
        lists.add(listed)
    return "; ".join(said)


def printable(text: Any, most: int = MOST) -> str:
    """Text from a file as it may reach a terminal: control characters, line ends, marks that turn the direction of text
    and halves of a broken encoding are escaped (`\\x1b`); cut after `most`."""
    text = str(text)
    shown = text[:most]
    if not shown.isprintable():
        shown = "".join(c if c.isprintable() or c in _ALLOWED else c.encode("unicode_escape").decode() for c in shown)
    return shown if len(text) <= most and len(shown) <= most else shown[:most - len(_CUT)] + _CUT


class _Brief(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 2, 60, 60

    def repr_int(self, value: int, level: int) -> str:
        if value.bit_length() > 10_000:  # Python refuses to write out thousands of digits
            return f"a number of {value.bit_length():,} bits"
        return super().repr_int(value, level)


def brief(value: Any) -> str:
    """A value from a file in a few words: one that refers to itself over and over would have no end."""
    return printable(_Brief().repr(value), 200)
