"""Whether layers compute in bfloat16 on a CPU, where Paddle's own autocast does nothing.

`engine.amp` says so around a forward pass, `tuning.frozen` reads it, as layers read Paddle's autocast on a GPU.
"""
from __future__ import annotations

import contextlib
import threading
from typing import Any, Callable, Iterator

_STATE = threading.local()


@contextlib.contextmanager
def bfloat16_on_cpu(enable: bool = True) -> Iterator[None]:
    """Inside, in this thread, matrix products of what fits are computed in bfloat16 and accumulated in float32."""
    before = enabled()
    _STATE.enabled = enable
    try:
        yield
    finally:
        _STATE.enabled = before


def as_now(function: Callable) -> Callable:
    """The function, which computes wherever it is called later as it would here: a block that is recomputed."""
    now = enabled()

    def called(*inputs: Any, **named: Any) -> Any:
        with bfloat16_on_cpu(now):
            return function(*inputs, **named)

    return called


def enabled() -> bool:
    """Whether this thread is inside `bfloat16_on_cpu`."""
    return getattr(_STATE, "enabled", False)
