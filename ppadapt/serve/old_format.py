"""Tracing for the format of Paddle 2.6 (`.pdmodel`), which later Paddles still write, but not for every operation.

From 3.3 on some functions of Paddle are compiled for the new representation (PIR) alone and refuse the variables of
the old one. While `tracing` lasts, those that transformers use are written as the old operations they were.
"""
from __future__ import annotations

from typing import Callable, ContextManager

from .. import paddle_compat

# function -> (operation of 2.6, names of its inputs, its attributes with what Paddle's function calls them)
_OPERATIONS = {
    "matmul": ("matmul_v2", ("X", "Y"), {"trans_x": "transpose_x", "trans_y": "transpose_y"}),
    "gelu": ("gelu", ("X",), {"approximate": "approximate"}),
    "rsqrt": ("rsqrt", ("X",), {}),
    "sigmoid": ("sigmoid", ("X",), {}),
}


def tracing() -> ContextManager[None]:
    """What is traced and saved inside is of the old format."""
    return paddle_compat.tracing_old_format({name: _old(*how) for name, how in _OPERATIONS.items()})


def _old(kind: str, inputs: tuple[str, ...], attributes: dict[str, str]) -> Callable:
    def append(*arguments, name=None, **options):
        tensors, rest = arguments[:len(inputs)], arguments[len(inputs):]
        given = {**dict(zip(attributes.values(), rest)), **options}
        return paddle_compat.append_operation(kind, dict(zip(inputs, tensors)),
                                              {old: given.get(new, False) for old, new in attributes.items()})

    return append
