"""A tuned file in a bank: what its header says, and its tensors once they are needed."""
from __future__ import annotations

import os
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Mapping, Optional

import numpy as np
import paddle
from paddle import nn

from ...models.anatomy import find
from ...weights import WeightsError, digest
from ...weights.tuned_file import read_into_memory
from ..per_sample import Weights
from .kinds import Branch, Kind, class_count

# A file's tensors, its manifest, and what waits until it is known whether the file is whole.
Read = tuple[Mapping[str, np.ndarray], Mapping[str, Any], Callable[[], None]]
WITNESS = "(witness)"  # among a branch's weights; no parameter is called so


@dataclass(frozen=True, eq=False)
class Row:
    """A tuned file under a name.

    Attributes:
        secret: a number that no other row has. Its sum with a branch's number is among that branch's weights.
        stamp: size and time of the file when its header was read.
        digest: of the tuned file's tensors; "" where its header does not say it and no tensor was read yet.
    """

    name: str
    path: Path
    manifest: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    kind: Kind
    heads: Mapping[str, Branch]
    stamp: tuple[int, int]
    digest: str
    secret: int = field(default_factory=lambda: secrets.randbits(48))

    @property
    def branches(self) -> list[Branch]:
        """All that computes for its samples."""
        return [*self.kind.branches, *self.heads.values()]

    @property
    def classes(self) -> int:
        """How many logits it answers with."""
        return class_count(next(iter(self.heads.values())), self.shapes)

    def load(self, network: nn.Layer, read: Optional[Read] = None) -> Loaded:
        """Its tensors: those of `read`, else the file is read anew.

        Raises:
            WeightsError: when the file is gone, damaged, or not the one whose header was read.
        """
        if not self.path.is_file():
            raise WeightsError(f"{self.path} of task {self.name!r} is gone. Put it back, or remove the task")
        now = self.stamp if read else stamp(self.path)
        arrays, manifest, check = read or read_into_memory(self.path)
        tensors = {name: paddle.to_tensor(array.astype("float32", copy=False)) for name, array in arrays.items()}
        check()
        found = manifest.get("digest") or digest(arrays)
        if (self.digest and found != self.digest) or (not self.digest and now != self.stamp):
            raise WeightsError(f"{self.path} of task {self.name!r} is another file than the one that was added (digest "
                               f"{found[:16]}, then {self.digest[:16] or 'not read'}). Remove the task and add it anew")
        witnesses = paddle.to_tensor(np.array([self.secret + branch.number for branch in self.branches], "int64"))
        weights = {branch: {**self._weights(branch, tensors, network), WITNESS: witness}
                   for branch, witness in zip(self.branches, paddle.split(witnesses, len(self.branches)))}
        return Loaded(self, weights, found, sum(array.nbytes for array in arrays.values()))

    def _weights(self, branch: Branch, tensors: Mapping[str, paddle.Tensor], network: nn.Layer) -> Weights:
        weights = {name: tensors[full] if full in tensors else _own(network, full)
                   for name, full in branch.names.items()}
        if branch.base:
            (name, value), = weights.items()
            shape = branch.layer.state_dict()[name].shape
            weights[name] = (value - _own(network, branch.base)).reshape(shape)
        return weights


@dataclass(frozen=True, eq=False)
class Loaded:
    """A row with its tensors. Read-only: a call that has it keeps it, whatever becomes of the row."""

    row: Row
    weights: Mapping[Branch, Weights]
    digest: str
    size: int


class Memory:
    """The tensors of the rows that were used last.

    Args:
        limit: bytes that are kept at most, those of a call that is under way left out; None: all are kept.
    """

    def __init__(self, network: nn.Layer, limit: Optional[int] = None):
        self.network, self.limit = network, limit
        self._known: set[Row] = set()
        self._kept: OrderedDict[Row, Loaded] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes that are kept now."""
        return self._size

    def __contains__(self, row: Row) -> bool:
        return row in self._kept

    def get(self, row: Row, read: Optional[Read] = None) -> Loaded:
        """The row's tensors, from the file (or what was read of it) where they are not kept.

        Raises:
            WeightsError: as `Row.load` does.
        """
        with self._lock:
            if row in self._kept:
                self._kept.move_to_end(row)
                return self._kept[row]
        loaded = row.load(self.network, read)  # outside of the lock: other threads go on meanwhile
        self._keep(loaded)
        return loaded

    def know(self, row: Row) -> None:
        """Keep the row's tensors from now on, when they are asked for."""
        with self._lock:
            self._known.add(row)

    def forget(self, row: Row) -> None:
        """Let go of a row for good: a call that has it goes on, and does not bring it back."""
        with self._lock:
            self._known.discard(row)
            self._drop(row)

    def clear(self) -> None:
        """Let go of all tensors; they are read anew when they are asked for."""
        with self._lock:
            self._kept.clear()
            self._size = 0

    def _keep(self, loaded: Loaded) -> None:
        with self._lock:
            if loaded.row not in self._known:
                return
            self._drop(loaded.row)
            self._kept[loaded.row] = loaded
            self._size += loaded.size
            while self.limit is not None and self._size > self.limit:
                self._drop(next(iter(self._kept)))

    def _drop(self, row: Row) -> None:
        loaded = self._kept.pop(row, None)
        self._size -= 0 if loaded is None else loaded.size


def stamp(path: Path) -> tuple[int, int]:
    """What tells that a file was written anew: its size and the time of the last change in nanoseconds."""
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns


def _own(network: nn.Layer, name: str) -> paddle.Tensor:
    owner, _, parameter = name.rpartition(".")
    return getattr(find(network, owner) if owner else network, parameter).astype("float32")
