"""Peak memory of one run among several in a process: of Paddle's tensors, on a CPU as on a GPU.

The peak of the process would say less: most of a small network's is Paddle's own libraries, and what earlier
runs left behind in the heap counts for later ones, so that the order of methods shows in a comparison.
"""
from __future__ import annotations

import gc
from typing import Optional

from .. import paddle_compat


class Peak:
    """The most memory that tensors took at once since this was made, those from before included."""

    def __init__(self) -> None:
        gc.collect()
        self._known = paddle_compat.reset_tensor_peak()

    def mb(self) -> Optional[float]:
        """MiB. None where Paddle (2.6) does not count them."""
        return round(paddle_compat.tensor_peak() / 2**20, 1) if self._known else None
