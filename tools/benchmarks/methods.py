"""Time and memory of a training step of each method, as its options are where nobody sets them."""
from __future__ import annotations

import argparse

from . import Claim, training
from .training import measure  # noqa: F401  the numbers are those of that part

COLUMNS = (("trained parameters", "trained", 0), *training.COLUMNS[1:])
CLAIMS: tuple[Claim, ...] = ()


def sides(options: argparse.Namespace) -> dict[str, dict]:
    from ppadapt.tuning import METHODS

    return {name: {"method": name, "batch": options.batch} for name in METHODS}
