"""What the table of a library is made of: their name -> our name, and what happens to the values on the way.

Our names are timm's and PaddleClas's; our Linear weights are [in, out] as in Paddle, those of PyTorch are
[out, in]. What is transposed is decided by the name, that is by the type of the layer: `attn.proj` is square,
so its shape says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Callable, NamedTuple, Optional

import numpy as np


def same(array: np.ndarray) -> np.ndarray:
    return array


def linear(array: np.ndarray) -> np.ndarray:
    """PyTorch's [out, in] -> Paddle's [in, out], a view."""
    return array.T


def token(array: np.ndarray) -> np.ndarray:
    """A token [D] -> [1, 1, D]."""
    return array.reshape(1, 1, -1)


def table(array: np.ndarray) -> np.ndarray:
    """Positions [L, D], as of an embedding -> [1, L, D]."""
    return array.reshape(1, *array.shape) if array.ndim == 2 else array


class Rule(NamedTuple):
    """`pattern` matches a whole name, `target` may use its groups, `part` 0, 1, 2 is q, k, v of a qkv.

    A target may be one of the names that `folds.py` folds into ours: `blocks.N.ls1.gamma`, `dist_token`, ...
    """

    pattern: str
    target: str
    change: Callable[[np.ndarray], np.ndarray] = same
    part: Optional[int] = None


# (pattern of a name, why): it is left out, or the file is refused.
Reasons = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Layout:
    """How one library names a network.

    Args:
        name: what the report calls it.
        anchor: pattern of a name that every file of it has, the patch embedding's weight as a rule. What stands
            before it in a name is a prefix.
        known_by: whether these names, without the prefix, are of this library; the first layout that says so counts.
        rules: of the tensors that are taken.
        dropped: what is left out on purpose, with the reason.
        refused: what our networks do not compute, with the reason.
        rename: (pattern, replacement) on names before the rules.
        torch: whether Linear weights are [out, in]; None where the file's format has to say.
        heads: width -> number of heads, where its networks have those and no others.
        told: facts that every file of it has: option of the network -> value.
        assumed: facts that nearly every one has.
        pool_by_norm: a file with `norm` and without `fc_norm` pools the class token, always.
        resize, resize_registers: how its networks, and those with registers, bring positions to another image size
            (`pos_embed.RESIZES`).
        signs: (pattern of a name anywhere in the file, facts) that it tells.
        asked: facts that differ between its files and no tensor shows: option -> the choices, in words.
        doubts: (whether the names may be of another network, why). Such a file is refused without its library's
            settings or the user's word which published model it is.
        remarks: (pattern of a name in the file, what its user should know).
        plain: whether it is a plain ViT, of our networks; else the names become those of a network of PaddleClas, which
            knows itself what it lacks.
        only: for a file that is no plain ViT: why, and which networks of PaddleClas it is for.
        finish: what is done to the tensors of such a file, in place, after the rules; what was done, in words.
        preprocess: mean and std of most of its files.
    """

    name: str
    anchor: str
    rules: tuple[Rule, ...]
    known_by: Callable[[Collection[str]], bool] = lambda names: True
    dropped: Reasons = ()
    refused: Reasons = ()
    rename: tuple[tuple[str, str], ...] = ()
    torch: Optional[bool] = None
    heads: Mapping[int, int] = field(default_factory=dict)
    told: Mapping[str, Any] = field(default_factory=dict)
    assumed: Mapping[str, Any] = field(default_factory=dict)
    pool_by_norm: bool = False
    resize: str = "plain"
    resize_registers: str = "plain"
    signs: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    asked: Mapping[str, str] = field(default_factory=dict)
    doubts: tuple[tuple[Callable[[Collection[str]], bool], str], ...] = ()
    remarks: Reasons = ()
    plain: bool = True
    only: str = ""
    finish: Callable[[dict[str, np.ndarray], str], list[str]] = lambda tensors, path: []
    preprocess: Mapping[str, Any] = field(default_factory=dict)

    def rule_of(self, name: str) -> Optional[tuple[Rule, str]]:
        """The rule of a name and our name for it, or None."""
        for rule in self.rules:
            found = re.fullmatch(rule.pattern, name)
            if found:
                return rule, found.expand(rule.target)
        return None

    def renamed(self, name: str) -> str:
        for pattern, replacement in self.rename:
            name = re.sub(pattern, replacement, name)
        return name


def linear_rules(theirs: str, ours: str, part: Optional[int] = None) -> tuple[Rule, ...]:
    """Weight and bias of a Linear in PyTorch's order; `part`: of several that become one."""
    return (Rule(rf"{theirs}\.weight", f"{ours}.weight", linear, part),
            Rule(rf"{theirs}\.bias", f"{ours}.bias", same, part))


def reason_of(name: str, reasons: Reasons) -> Optional[str]:
    """Why, or None where no pattern is of this name."""
    return next((why for pattern, why in reasons if re.fullmatch(pattern, name)), None)


def any_name(names: Collection[str], pattern: str) -> bool:
    found = re.compile(pattern)
    return any(found.fullmatch(name) for name in names)


IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
HALF = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
CLIP_PIXELS = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
