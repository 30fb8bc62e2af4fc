"""How far a number may go, stated beside the option: `epochs: Annotated[int, Range(1)]`.

What a config gives is checked against the hints of what takes it, ranges included (`options`). An end that nobody means
(a billion epochs) is one all the same: what is beyond it would overflow somewhere else, and later.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

_LEAST = 1e-37


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`; `above` and `below` leave the ends themselves out."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        # What float32 takes for 0 is not above it.
        return ((self.low + _LEAST < value if self.above else self.low <= value)
                and (value < self.high if self.below else value <= self.high))

    def __str__(self) -> str:
        low = f"above {self.low:g}" if self.above else f"at least {self.low:,}"
        high = f"below {self.high:g}" if self.below else f"at most {self.high:,}".removesuffix(".0")
        return " and ".join([low] * (self.low > -math.inf) + [high] * (self.high < math.inf)) or "a number"


_MOST = 10 ** 9
Count = Annotated[int, Range(1, _MOST)]
Whole = Annotated[int, Range(0, _MOST)]  # a count that may be none
Amount = Annotated[float, Range(0, 1e6)]
Positive = Annotated[float, Range(0, 1e6, above=True)]
Rate = Annotated[float, Range(0, 1000)]  # of learning
Share = Annotated[float, Range(0, 1)]
Probability = Annotated[float, Range(0, 1, above=True, below=True)]
Below1 = Annotated[float, Range(0, 1, below=True)]
Width = Annotated[int, Range(1, 10_000)]  # of what is added to a network: beyond, memory ends before training begins
# Every epoch seeds Paddle, which takes 64 bits, with 1,000,003 seed + epoch.
Seed = Annotated[int, Range(0, 2 ** 43 - 1)]
