"""What a process holds alone inside an epoch: what it has seen of its share of the images, and its random state.

A checkpoint takes it of every process, so that as many go on as if they had never stopped. With another number of them
the first has seen what all had.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Mapping, Optional

import numpy as np
import paddle

from .. import paddle_compat
from ..log import LOGGER

if TYPE_CHECKING:
    from .loop import Job
    from .progress import Progress


@dataclass
class Share:
    """`random` is Paddle's state, None where it is not told. `tensors`: the loss and the metrics of the epoch so far,
    and running statistics, which differ where each process has its own."""

    random: Optional[list]
    tensors: dict[str, np.ndarray]


def of_all(job: Job, now: Progress) -> list[Share]:
    """The share of each process, by rank. All of them call it."""
    tensors: dict[str, np.ndarray] = {}
    if now.batch and now.total.images:
        tensors["loss/sum"], tensors["loss/images"] = now.total.sum.numpy(), np.asarray(now.total.images)
        for i, metric in enumerate(job.train_metrics):
            tensors.update({f"metric/{i}/{name}": np.asarray(array) for name, array in metric.state().items()})
    if now.batch and not job.processes.first:
        tensors.update({f"running/{name}": tensor.numpy() for name, tensor in _running(job).items()})
    mine = Share(paddle_compat.random_state(), tensors)
    return [Share(**one) for one in job.processes.gather(vars(mine))] if now.batch else [mine]


def to_plain(shares: list[Share]) -> tuple[dict[str, np.ndarray], list[Optional[list]]]:
    """As a checkpoint holds them: tensors, those of the others under their rank, and the random states."""
    tensors = {f"rank{rank}/{name}" if rank else name: array for rank, share in enumerate(shares)
               for name, array in share.tensors.items()}
    return tensors, [share.random for share in shares]


def from_plain(tensors: Mapping[str, np.ndarray], random: list[Optional[list]]) -> list[Share]:
    """The inverse of `to_plain`; other tensors of a checkpoint may be among them."""
    shares = []
    for rank, state in enumerate(random):
        start = f"rank{rank}/" if rank else ""
        shares.append(Share(state, {name[len(start):]: array for name, array in tensors.items()
                                    if name.startswith(start)}))
    return shares


def restore(job: Job, now: Progress, shares: list[Share]) -> None:
    """Give each process its own, or the first one all where there are fewer or more of them now."""
    rank, same = job.processes.rank, len(shares) == job.processes.count
    seen = [shares[rank]] if same else shares if job.processes.first else []
    for i, metric in enumerate(job.train_metrics if seen else ()):
        start = f"metric/{i}/"
        metric.combine([{name[len(start):]: array for name, array in share.tensors.items()
                         if name.startswith(start)} for share in seen])
    for share in seen:
        if "loss/sum" in share.tensors:
            value = paddle.to_tensor(share.tensors["loss/sum"])
            now.total.sum = value if now.total.sum is None else now.total.sum + value
            now.total.images += int(share.tensors["loss/images"])
    if not now.batch:
        return
    if not same and not job.processes.first:
        paddle.seed(job.seed * 1_000_003 + now.epoch + now.step + job.processes.apart)
        return
    if shares[rank].random is None:
        LOGGER.warning("Paddle %s cannot tell its random state: dropout inside this epoch draws other numbers than in "
                       "a run that never stopped", paddle.__version__)
    else:
        paddle_compat.set_random_state(shares[rank].random)
    for name, tensor in _running(job).items():
        if f"running/{name}" in shares[rank].tensors:
            tensor.set_value(shares[rank].tensors[f"running/{name}"])


def _running(job: Job) -> dict[str, Any]:
    """What changes in training and is not trained."""
    trained = set(job.adaptation.trained)
    return {name: tensor for name, tensor in job.adaptation.tensors().items() if name not in trained}
