"""What a part of the results is to the rest."""
from __future__ import annotations

from typing import Callable, Iterator

from .place import Place, Step

View = Callable[[], str]


class Part:
    """One kind of experiment. Its name is that of its folder in docs/results/, given by the table in parts.py.

    A view is what stands between the markers <!-- results:NAME -->: Markdown, or "" while no record has it.
    """

    title: str

    def adopt(self, place: Place, name: str) -> None:
        """Take from the other parts' records what this one needs too."""

    def stale(self, place: Place, name: str) -> list[str]:
        """Records that are not of the data and weights that are here, a line each; they count as not there."""
        return []

    def left_out(self, place: Place) -> list[str]:
        """What of it cannot be run with what is here, and what that takes, a line each."""
        return []

    def left(self, place: Place, name: str) -> Iterator[Step]:
        """What is not run yet, in the order in which it is run."""
        raise NotImplementedError

    def draw(self, place: Place, name: str) -> None:
        """Make the pictures anew from the records."""

    def views(self, place: Place, name: str) -> dict[str, View]:
        """NAME -> what stands between its markers."""
        raise NotImplementedError
