"""The parts of tools/benchmark.py, one file each. A part is a module with

* `COLUMNS`: what its table shows of each side, (heading, key of the results, digits).
* `CLAIMS`: what is to hold between its sides.
* `sides(options)`: name -> side, plain data: what one process measures, with the variables of "env" set. With
  "peer", that script of tools/peers/ measures it under --torch-python.
* `measure(side)`: the numbers of one side, called in a process of its own.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class Claim:
    """A number of side `one`, divided by that of side `other` (or less it; or, without `other`, as it is).

    `target` is what it may be at most ("<=") or must be at least (">="); None: it is shown only.
    """

    what: str
    key: str
    one: str
    other: Optional[str] = None
    target: Optional[float] = None
    sign: str = "<="
    difference: bool = False

    def value(self, one: dict, other: Optional[dict]) -> float:
        if other is None:
            return one[self.key]
        return one[self.key] - other[self.key] if self.difference else one[self.key] / other[self.key]

    def met(self, value: float) -> Optional[bool]:
        if self.target is None:
            return None
        return value <= self.target if self.sign == "<=" else value >= self.target
