"""Names of tensors for people: many that differ in the number of their block are one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

# What torch.compile, FSDP, activation checkpointing and FairScale put into names, anywhere: they change no value.
_WRAPPED = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_fpw_module)\.")


def unwrapped(name: str) -> str:
    """'blocks.0._orig_mod.norm1.weight' -> 'blocks.0.norm1.weight'."""
    return _WRAPPED.sub("", name)


def compact(names: Iterable[str], limit: int = 6) -> str:
    """'blocks.0-11.norm1.weight, head.bias': the block numbers of equal names are joined."""
    groups: dict[str, list[int]] = {}
    for name in names:
        found = re.match(r"(.*?blocks\.)(\d+)(\..*)", name)
        key = f"{found.group(1)}*{found.group(3)}" if found else name
        groups.setdefault(key, []).extend([int(found.group(2))] if found else [])
    shown = []
    for key, numbers in list(groups.items())[:limit]:
        shown.append(key.replace("*", _ranges(sorted(set(numbers))), 1) if numbers else key)
    rest = len(groups) - limit
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def _ranges(numbers: list[int]) -> str:
    if numbers[-1] - numbers[0] + 1 == len(numbers):  # a hostile file has a block of number 10^9
        return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"
    return "{" + ",".join(map(str, numbers)) + "}"


def by_reason(reasons: Mapping[str, str]) -> Iterator[str]:
    """{'mask_token': 'decoder', ...} -> lines '3: mask_token, ...: decoder', one per reason."""
    for reason in dict.fromkeys(reasons.values()):
        those = [name for name, why in reasons.items() if why == reason]
        yield f"{len(those)}: {compact(those)}: {reason}"
