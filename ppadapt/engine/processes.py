"""The processes that train one model together, each on its share of every batch.

`python -m paddle.distributed.launch --nproc_per_node N ppadapt train -c ...` starts N of them. Every process holds the
whole network; after the backward pass the gradients of what trains, and nothing else, are added up, so that a step is
that of one process with N times the batch. Each image counts alike, also where the shares of a batch differ.
Rank 0 alone writes files. What travels and how to start on several machines: docs/scale.md.
"""
from __future__ import annotations

import os
import socket
from typing import Any, Callable, Iterator, Optional, Sequence

import paddle
from paddle.autograd import PyLayer

from ..errors import UserError, brief
from .totals import MeanLoss
from .waiting import Watch

BUCKET = 2**24  # numbers that are added up in one message
_FAILURES = (RuntimeError, ValueError, OSError, SystemError)  # what Paddle raises; the last after 15 minutes alone


class ProcessError(UserError):
    """Processes that cannot go on together."""


class Processes:
    """This process among those that train together.

    Attributes:
        rank: 0 to count - 1.
        count: 1 where there is no other.
        sent: bytes that this process has handed over to be added up with those of the others.
        weight: images that the losses here are divided by before their gradients are taken; set by the loop.
        failure: set where another process has ended.
    """

    def __init__(self, rank: int = 0, count: int = 1):
        self.rank, self.count = rank, count
        self.sent, self.weight = 0, 1.0
        self.failure: Optional[ProcessError] = None
        self._watch = Watch(f"rank {rank} of {count} processes") if count > 1 else None

    def __deepcopy__(self, memo: dict) -> Processes:
        return self

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files."""
        return self.rank == 0

    @property
    def apart(self) -> int:
        """What keeps the random numbers of the processes apart: added to a seed, 0 for the first."""
        return self.rank * 104_729

    def sum(self, tensor: paddle.Tensor) -> paddle.Tensor:
        """Add a tensor up over all processes, in place. Raises ProcessError where one of them has ended."""
        if self.count > 1:
            self.sent += tensor.size * tensor.element_size()
            self._together(paddle.distributed.all_reduce, tensor)
        return tensor

    def gather(self, value: Any) -> list:
        """What each process gives, in the order of ranks: anything that can be pickled."""
        if self.count == 1:
            return [value]
        found: list = []
        self._together(paddle.distributed.all_gather_object, found, value)
        return found

    def sum_with_gradient(self, tensor: paddle.Tensor) -> paddle.Tensor:
        """The sum over all processes, for a layer: every process' loss depends on it, and so does its gradient."""
        return _Sum.apply(tensor, self)

    @paddle.no_grad()
    def mean_gradients(self, parameters: Sequence[paddle.Tensor], images: int, told: int = 0) -> int:
        """Make the gradients those of the mean loss over the images of all processes.

        Args:
            parameters: the same in all processes; those without a gradient are passed over.
            images: that the gradients here are of. They are those of a sum of the images' losses, divided by `weight`.
            told: travels along; below 2**24 in all.

        Returns:
            The sum of what was told.
        """
        gradients, head = [p.grad for p in parameters if p.grad is not None], None
        for bucket in _buckets(gradients):
            parts = [gradient.astype("float32").flatten() * self.weight for gradient in bucket]
            if head is None:  # number of images and what is told travel with the first gradients
                flat = self.sum(paddle.concat([*parts, paddle.to_tensor([float(images), float(told)], "float32")]))
                head = flat[-2:].clone()
            else:
                flat = self.sum(paddle.concat(parts))
            place = 0
            for gradient in bucket:
                mean = flat[place:place + gradient.size] / head[0]
                paddle.assign(mean.reshape(gradient.shape).astype(gradient.dtype), gradient)
                place += gradient.size
        return 0 if head is None else int(head[1])

    @paddle.no_grad()
    def average(self, tensors: Sequence[paddle.Tensor]) -> None:
        """Make each tensor the mean of those that the processes hold."""
        for tensor in tensors:
            if self.count > 1:
                paddle.assign(self.sum(tensor.astype("float32").clone()) / self.count, tensor)

    def agree(self, **facts: Any) -> None:
        """Raises ProcessError, in all processes, for the first fact that is not the same in all of them."""
        found = self.gather(facts)
        for name in dict.fromkeys(name for one in found for name in one):
            for rank, theirs in enumerate(found):
                if theirs.get(name) != found[0].get(name):
                    raise ProcessError(f"the processes do not agree on {name}: rank 0 has {brief(found[0].get(name))}, "
                                       f"rank {rank} {brief(theirs.get(name))}. Start all with the same command, files "
                                       "and versions")

    def combine(self, total: MeanLoss, metrics: Sequence[Any]) -> None:
        """Make a pass' loss and metrics those of the images of all processes, in each of them."""
        if self.count == 1:
            return
        loss = 0.0 if total.sum is None else float(total.sum)
        found = self.gather({"images": total.images, "loss": loss, "metrics": [metric.state() for metric in metrics]})
        total.images = sum(one["images"] for one in found)
        total.sum = paddle.to_tensor(sum(one["loss"] for one in found), dtype="float32")
        for i, metric in enumerate(metrics):
            metric.combine([one["metrics"][i] for one in found])

    def _together(self, exchange: Callable, *arguments: Any) -> None:
        try:
            with self._watch.waiting():
                exchange(*arguments)
        except _FAILURES as error:
            self.failure = ProcessError(
                f"rank {self.rank} of {self.count} processes stops, for another one has ended or is out of reach "
                f"({' '.join(str(error).split())[-160:]}). The log of that one says why: log/workerlog.N, or where "
                "--log_dir of paddle.distributed.launch says")
            raise self.failure from None


class _Sum(PyLayer):
    """A sum over processes: x -> sum of x. Of a process' loss a unit counts as many images as its `weight` says."""

    @staticmethod
    def forward(ctx, x, processes):
        ctx.processes = processes
        return processes.sum(x.clone())

    @staticmethod
    def backward(ctx, grad):
        processes = ctx.processes
        return processes.sum(grad * processes.weight) / processes.weight


ALONE = Processes()
_joined = ALONE


def started() -> int:
    """How many processes were started together, as paddle.distributed.launch says."""
    count = os.environ.get("PADDLE_TRAINERS_NUM", "1")
    return int(count) if count.isdigit() else 1


def join() -> Processes:
    """Meet the processes that were started together with this one, on the device that was set; once, then it is known.

    Raises:
        ProcessError: where they cannot be reached.
    """
    global _joined
    if started() > 1 and _joined is ALONE:
        if paddle.get_device() == "cpu":
            os.environ["PADDLE_DISTRI_BACKEND"] = "gloo"  # also where Paddle was built for a GPU
        _check_port()
        try:
            paddle.distributed.init_parallel_env()
        except _FAILURES as error:
            raise ProcessError(f"the {started()} processes that were started together do not find each other "
                               f"({' '.join(str(error).split())[-160:]}): start them with python -m "
                               "paddle.distributed.launch, on several machines with --master") from None
        _joined = Processes(paddle.distributed.get_rank(), paddle.distributed.get_world_size())
    return _joined


def _check_port() -> None:
    """Paddle aborts rank 0, with a C++ traceback, where it cannot listen at the place at which all meet.

    Raises:
        ProcessError: which says where that is.
    """
    if os.environ.get("PADDLE_TRAINER_ID") != "0":
        return
    given = os.environ
    place = f"{given['MASTER_ADDR']}:{given['MASTER_PORT']}" if given.get("MASTER_ADDR") and given.get("MASTER_PORT") \
        else given.get("PADDLE_MASTER") or given.get("PADDLE_TRAINER_ENDPOINTS", "").partition(",")[0]
    port = place.rpartition(":")[2]
    try:
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Paddle does
            trial.bind(("", int(port)))
            trial.listen()
    except (OSError, OverflowError, ValueError) as error:
        raise ProcessError(f"rank 0 cannot listen at {place!r}, where the processes are to meet "
                           f"({getattr(error, 'strerror', None) or error}): give another port, with --master of "
                           "paddle.distributed.launch or in PADDLE_MASTER, and end what is left of an earlier run"
                           ) from None


def _buckets(tensors: Sequence[paddle.Tensor]) -> Iterator[list[paddle.Tensor]]:
    """The tensors in order, as many at a time as `BUCKET` holds."""
    bucket, size = [], 0
    for tensor in tensors:
        if bucket and size + tensor.size > BUCKET:
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.size
    if bucket:
        yield bucket
