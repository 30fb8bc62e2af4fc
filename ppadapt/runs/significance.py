"""Which differences between methods are real, and which are those of the seeds and images that happened to be drawn.

Two methods are compared on what they share: the same seeds (the same order of images, the same draws) and the same test
images. d[s, i] is 1 where only the one is right on image i with seed s, -1 where only the other is, else 0. Its mean is
the difference of the accuracies, and it varies for two reasons:

    images: other test images would have been others. Resampled (a bootstrap): an image keeps what all seeds say of it.
    seeds: other seeds would have trained others. The part of the seeds' variance that the images do not explain (the
        component of an analysis of variance in two ways, 0 where they explain it all) is drawn from a Student's t, as
        few seeds say little of it.

Of one seed the second is unknown and left out. Where no image is known (mAP is no mean over images), the seeds' own
differences are all there is. The interval holds the middle 95% of the draws.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Optional, Sequence

import numpy as np

from ..tasks import unpacked

DRAWS = 20_000
LEVEL = 0.95


@dataclass(frozen=True)
class Difference:
    """One minus the other, in points, and its interval.

    Attributes:
        seeds: how many both have. images: how many test images both answered; None where only the seeds are known.
    """

    mean: float
    low: float
    high: float
    seeds: int
    images: Optional[int]

    @property
    def real(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.mean:+.2f} ({self.low:+.2f} to {self.high:+.2f})"


def between(runs: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]], main: str) -> Optional[Difference]:
    """The difference of two methods, of the runs whose seeds both have.

    None where these say nothing of its spread, or are known to be of different test sets.

    Args:
        runs, others: results with their `seed`, `main` and, where it is known, what was `right`.
        main: the key of what is compared, in percent.
    """
    theirs = {run["seed"]: run for run in others}
    pairs = [(run, theirs[run["seed"]]) for run in runs if run["seed"] in theirs]
    if not pairs:
        return None
    rows = [[_right(run, main) for run in pair] for pair in pairs]
    of_images = {None if row is None else len(row) for pair in rows for row in pair}
    test_sets = {run.get("data", {}).get("Eval") for pair in pairs for run in pair}
    if len(test_sets - {None}) > 1:
        return None
    if None not in of_images and len(of_images) == 1 and len(test_sets) == 1:
        return paired(np.array([pair[0] for pair in rows]), np.array([pair[1] for pair in rows]))
    if len(pairs) == 1:
        return None
    return of_seeds(np.array([one[main] - other[main] for one, other in pairs]))


def _right(run: Mapping[str, Any], main: str) -> Optional[np.ndarray]:
    """What a run was right on, bool [N], where the mean of it is what is compared."""
    if not run.get("right"):
        return None
    right = unpacked(run["right"])
    return right if len(right) and abs(100 * right.mean() - run[main]) < 1e-3 else None


def paired(one: np.ndarray, other: np.ndarray, draws: int = DRAWS, level: float = LEVEL) -> Difference:
    """The difference of two methods on the same images with the same seeds: bool [seeds, images] each."""
    d = 100.0 * (one.astype(np.float64) - other)
    seeds, images = d.shape
    rng = np.random.default_rng(0)
    # An image is one of a few kinds (what the seeds say of it), so a resampling is a number of images of each kind.
    kinds, counts = np.unique(d.mean(0), return_counts=True)
    drawn = rng.multinomial(images, counts / images, draws) @ kinds / images
    if seeds > 1:
        of_seed, of_image = d.mean(1, keepdims=True), d.mean(0, keepdims=True)
        rest = ((d - of_seed - of_image + d.mean()) ** 2).sum() / ((seeds - 1) * (images - 1)) if images > 1 else 0.0
        variance = max(0.0, of_seed.var(ddof=1) - rest / images)
        drawn = drawn + np.sqrt(variance / seeds) * rng.standard_t(seeds - 1, draws)
    return Difference(float(d.mean()), *_middle(drawn, level), seeds, images)


def of_seeds(differences: np.ndarray, draws: int = DRAWS, level: float = LEVEL) -> Difference:
    """The mean of differences [seeds, at least 2] and its interval, that of a paired t-test."""
    seeds = len(differences)
    drawn = np.random.default_rng(0).standard_t(seeds - 1, 10 * draws) * np.sqrt(differences.var(ddof=1) / seeds)
    return Difference(float(differences.mean()), *_middle(differences.mean() + drawn, level), seeds, None)


def _middle(drawn: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def groups(differ: np.ndarray) -> list[str]:
    """A letter for each group of methods of which no two differ, "a" for the group of the first; several share some.

    Methods with a letter in common cannot be told apart, and every pair without one can be (Piepho, *An algorithm for a
    letter-based representation of all-pairwise comparisons*, 2004, without its last step, which saves letters).

    Args:
        differ: bool [methods, methods], symmetric, best first.
    """
    together = [frozenset(range(len(differ)))]
    for i, j in zip(*np.nonzero(np.triu(differ))):
        split = [group - {gone} for group in together if {i, j} <= group for gone in (i, j)]
        kept = [group for group in together if not {i, j} <= group]
        whole = list(dict.fromkeys([*kept, *split]))
        together = [group for group in whole if not any(group < other for other in whole)]
    together.sort(key=sorted)
    return ["".join(_letter(n) for n, group in enumerate(together) if i in group) for i in range(len(differ))]


def _letter(n: int) -> str:
    """0 -> a, 25 -> z, 26 -> A, 51 -> Z, then (52)."""
    return chr(ord("a") + n) if n < 26 else chr(ord("A") + n - 26) if n < 52 else f"({n})"
