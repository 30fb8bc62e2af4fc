"""Tracing for the format of Paddle 2.6 (`.pdmodel`), which later Paddles still write, but not for every operation.

From 3.3 on some functions of Paddle are compiled for the new representation (PIR) alone and refuse the variables of
the old one. While `tracing` lasts, those that transformers use are written as the old operations they were.
"""
from __future__ import annotations

import contextlib
from typing import Callable, Iterator

import paddle
from paddle.nn import functional as F

# function -> (operation of 2.6, names of its inputs, its attributes with what Paddle's function calls them)
_OPERATIONS = {
    "matmul": ("matmul_v2", ("X", "Y"), {"trans_x": "transpose_x", "trans_y": "transpose_y"}),
    "gelu": ("gelu", ("X",), {"approximate": "approximate"}),
    "rsqrt": ("rsqrt", ("X",), {}),
    "sigmoid": ("sigmoid", ("X",), {}),
}


@contextlib.contextmanager
def tracing() -> Iterator[None]:
    """What is traced and saved inside is of the old format."""
    variable = paddle.base.framework.Variable
    places = [(place, name) for name in _OPERATIONS for place in (paddle, F, variable) if hasattr(place, name)]
    before = [getattr(place, name) for place, name in places]
    with paddle.pir_utils.OldIrGuard():
        try:
            for place, name in places:
                setattr(place, name, _old(*_OPERATIONS[name]))
            yield
        finally:
            for (place, name), function in zip(places, before):
                setattr(place, name, function)


def _old(kind: str, inputs: tuple[str, ...], attributes: dict[str, str]) -> Callable:
    def append(*arguments, name=None, **options):
        tensors, rest = arguments[:len(inputs)], arguments[len(inputs):]
        given = {**dict(zip(attributes.values(), rest)), **options}
        helper = paddle.base.layer_helper.LayerHelper(kind)
        output = helper.create_variable_for_type_inference(tensors[0].dtype)
        helper.append_op(type=kind, inputs=dict(zip(inputs, tensors)), outputs={"Out": output},
                         attrs={old: given.get(new, False) for old, new in attributes.items()})
        return output

    return append
