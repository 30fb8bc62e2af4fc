"""What a user can do wrong, said in one line: what was given, what is allowed, how to mend it."""
from __future__ import annotations

import difflib
from typing import Iterable


class UserError(ValueError):
    """A mistake in a config, a file or an option. The tools print it without a traceback."""


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
