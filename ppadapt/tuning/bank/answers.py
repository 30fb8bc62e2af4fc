"""What a bank answers: logits that say which task and which tuned file made each of them."""
from __future__ import annotations

from typing import Sequence, Union

import numpy as np


class Logits(np.ndarray):
    """Logits float32 [N, classes] of tasks with the same number of classes.

    Attributes:
        tasks: the N names that were asked.
        digests: for each, that of the tuned file that answered. A slice of the array has neither.
    """

    tasks: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()


class Rows(list):
    """N rows float32 [classes of its task], where the numbers of classes differ. Attributes as in `Logits`."""

    tasks: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()


def answers(rows: Sequence[np.ndarray], tasks: Sequence[str], digests: Sequence[str]) -> Union[Logits, Rows]:
    """An array where the rows are of one length, else a list."""
    one_length = len({len(row) for row in rows}) == 1
    made = np.stack(rows).view(Logits) if one_length else Rows(np.asarray(row) for row in rows)
    made.tasks, made.digests = tuple(tasks), tuple(digests)
    return made
