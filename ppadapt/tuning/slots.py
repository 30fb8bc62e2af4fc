"""Where methods put things in a network: one hook a place, branches by task.

A method says what it puts where, as pairs of a place and a branch. A *branch* is an `nn.Layer` whose `forward` is a
pure function of what its place sees. The places, by the paths of layers seen from the network:

    Before(layer)                x -> branch(x), the input of a layer replaced
    After(layer, reads, replaces)    y -> y + branch(y): its output added to; reads="input": y + branch(x);
                                 replaces=True: branch(y) or branch(x) in the place of y
    PartOfOutput(layer, i, n)    part i of the n equal parts of y -> itself + branch(x): q, k or v of a fused Linear
    Beside(block, start, end)    y -> y + branch(x), y what `end` returns and x what `start` was given before it in the
                                 same call of the block; reads="end": y + branch(y) at that call of `end` alone
    Tokens(first, last)          branch(x), tokens [N, n, D], goes in front of what block `first` is given, and n tokens
                                 are taken off what block `last` returns; n is `branch.count`

`Slots`, one a network (`slots_of(network)`), owns the hooks, two a layer at most, and the branches by task:

    slots.put(network, "flowers", [(place, branch), ...])     the hooks are there, the task is known
    slots.default = "flowers"                                 what computes where nothing else is said
    with slots.using("cars"): network(images)                 another task; this thread, this with
    with slots.using(None): network(images)                   the plain network
    mix = Placed([(place, branch that looks up each sample's own), ...])
    slots.open(network, mix); with slots.using(mix): ...      a mix of tasks: read-only, so a call that began with one
                                                              mix ends with it, whatever other threads publish
    slots.drop(network, "flowers"); slots.close(network)      as before

What a place remembers between two layers (Beside) belongs to that one call of the block in that thread, and is gone
when the call ends, however it ends.
"""
from __future__ import annotations

import functools
import threading
from contextlib import contextmanager, suppress
from typing import Any, Callable, Iterable, Iterator, Optional, Sequence, Union

import paddle
from paddle import nn

from ..errors import UserError
from ..models.anatomy import find
from ..paddle_compat import add_hook, hooks_of

SLOTS = "ppadapt_slots"  # the attribute of a network that has any


class TuningError(UserError):
    """A method, option or tuned state that does not fit the network."""


class Place:
    """Somewhere in a network. Two of the same kind and fields are equal. Not to be changed.

    Attributes:
        opens, closes: the layers at whose input and output something happens, empty where there is none.
        within: the block whose call carries what is remembered in between, or empty.
    """

    opens = closes = within = ""

    def enter(self, branch: nn.Layer, x: paddle.Tensor) -> paddle.Tensor:
        """What the layer `opens` is given instead of x."""
        raise NotImplementedError

    def leave(self, branch: nn.Layer, x: paddle.Tensor, y: paddle.Tensor) -> Optional[paddle.Tensor]:
        """What the layer `closes` returns instead of y, x its input; None where this call of it is not meant."""
        raise NotImplementedError

    def __eq__(self, other: Any) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


class Before(Place):
    """x -> branch(x) in the place of a layer's (first) input."""

    def __init__(self, layer: str):
        self.opens = layer

    def enter(self, branch, x):
        return branch(x)


class After(Place):
    """y -> y + branch(y) of what a layer returns.

    Args:
        reads: "output", or "input": the branch is given what the layer was given.
        replaces: what the branch returns takes the place of y.
    """

    def __init__(self, layer: str, reads: str = "output", replaces: bool = False):
        self.closes, self.reads, self.replaces = layer, reads, replaces

    def leave(self, branch, x, y):
        value = branch(x if self.reads == "input" else y)
        return value if self.replaces else y + value


class PartOfOutput(Place):
    """Part `index` of the `count` equal parts of what a Linear returns, side by side -> itself + branch(x)."""

    def __init__(self, layer: str, index: int = 0, count: int = 1):
        self.closes, self.index, self.count = layer, index, count

    def leave(self, branch, x, y):
        update = branch(x)
        if self.count == 1:
            return y + update
        parts = paddle.split(y, self.count, axis=-1)
        parts[self.index] = parts[self.index] + update
        return paddle.concat(parts, axis=-1)


class Beside(Place):
    """y -> y + branch(x), y what `end` returns at its first call after `start` in a call of the block.

    Args:
        block, start, end: paths; both layers are called by the block.
        reads: "start", x is what `start` was given; or "end": y + branch(y).
    """

    def __init__(self, block: str, start: str, end: str, reads: str = "start"):
        self.within, self.opens, self.closes, self.reads = block, start, end, reads

    def enter(self, branch, x):
        if _thread.calls:
            _thread.calls[-1][1][branch] = x
        return x

    def leave(self, branch, x, y):
        start = _thread.calls[-1][1].pop(branch, None) if _thread.calls else None
        if start is None:  # the attention's drop path, which may be the same layer
            return None
        return y + branch(start if self.reads == "start" else y)


class Tokens(Place):
    """branch(x), tokens [N, n, D], in front of what `first` is given; n tokens off what `last` returns."""

    def __init__(self, first: str, last: str):
        self.opens, self.closes = first, last

    def enter(self, branch, x):
        return paddle.concat([branch(x), x], axis=1)

    def leave(self, branch, x, y):
        return y[:, branch.count:]


class Placed:
    """What a task, or a mix of tasks, puts where. Read-only: change it by making another.

    Attributes:
        pairs: of place and branch; at one layer they act in this order.
    """

    def __init__(self, pairs: Iterable[tuple[Place, nn.Layer]] = ()):
        self.pairs = tuple(pairs)
        self.before: dict[str, list[tuple[Place, nn.Layer]]] = {}
        self.after: dict[str, list[tuple[Place, nn.Layer]]] = {}
        for place, branch in self.pairs:
            for layer, side in ((place.opens, self.before), (place.closes, self.after)):
                if layer:
                    side.setdefault(layer, []).append((place, branch))


NOTHING = Placed()
Choice = Union[str, Placed, None]


class Slots:
    """All hooks of one network, and what its tasks put where.

    What puts hooks in or takes them off (put, open, drop, close) is not for while another thread is in a forward pass:
    Paddle goes through a layer's hooks as it calls it. A task whose places have their hooks can come at any time.

    Attributes:
        tasks: name -> what the task puts where.
        default: the task that computes where no `using` says otherwise; None for the plain network.
        reached: None, or a set that gathers (place, "before" or "after") of what has acted.
    """

    def __init__(self):
        self.tasks: dict[str, Placed] = {}
        self.default: Optional[str] = None
        self.reached: Optional[set] = None
        self._slots: dict[str, _Slot] = {}

    def put(self, network: nn.Layer, task: str, pairs: Iterable[tuple[Place, nn.Layer]]) -> None:
        """Make a task known, in the place of one of that name.

        Raises:
            UserError: for a path that the network does not have; nothing is changed then.
        """
        placed = Placed(pairs)
        self.open(network, placed)
        self.tasks = {**self.tasks, task: placed}

    def drop(self, network: nn.Layer, task: str) -> None:
        """Forget a task, and take off the hooks that no other needs."""
        self.tasks = {name: placed for name, placed in self.tasks.items() if name != task}
        self._close_unused(network)

    def drop_branches(self, network: nn.Layer, layers: Sequence[nn.Layer]) -> None:
        """Take these branches off, whatever the task."""
        gone = {id(layer) for layer in layers}
        self.tasks = {name: Placed(pair for pair in placed.pairs if id(pair[1]) not in gone)
                      for name, placed in self.tasks.items()}
        self._close_unused(network)

    def open(self, network: nn.Layer, placed: Placed) -> None:
        """See to it that every place has its hook.

        Raises:
            UserError: for a path that the network does not have; nothing is changed then.
        """
        layers = {path: find(network, path) for path in self._paths([placed])}
        for path in placed.before:
            self._slot(path).hook_input(layers[path])
        for path in placed.after:
            self._slot(path).hook_output(layers[path])
        for place, _ in placed.pairs:
            if place.within and not isinstance(layers[place.within], _Remembering):
                layers[place.within].__class__ = _remembering(type(layers[place.within]))
        setattr(network, SLOTS, self)

    def close(self, network: nn.Layer) -> None:
        """Forget all tasks and take all hooks off."""
        self.tasks, self.default = {}, None
        self._close_unused(network)
        delattr(network, SLOTS)

    @contextmanager
    def using(self, choice: Choice) -> Iterator[None]:
        """What computes in this thread until the end of the `with`: a task's name, a mix, or None for none.

        Raises:
            TuningError: for a name that is not known.
        """
        if isinstance(choice, str):
            if choice not in self.tasks:
                raise TuningError(f"task {choice!r} is unknown. There are: {', '.join(self.tasks) or 'none'}")
            choice = self.tasks[choice]
        before = _thread.chosen
        _thread.chosen = (*before, (self, NOTHING if choice is None else choice))
        try:
            yield
        finally:
            _thread.chosen = before

    def now(self) -> Placed:
        """What computes in this thread now."""
        for slots, placed in reversed(_thread.chosen):
            if slots is self:
                return placed
        return NOTHING if self.default is None else self.tasks[self.default]

    def _slot(self, path: str) -> _Slot:
        return self._slots.setdefault(path, _Slot(self, path))

    @staticmethod
    def _paths(all_placed: Iterable[Placed]) -> dict[str, None]:
        return dict.fromkeys(path for placed in all_placed for place, _ in placed.pairs
                             for path in (place.opens, place.closes, place.within) if path)

    def _close_unused(self, network: nn.Layer) -> None:
        needed = self._paths(self.tasks.values())
        for path in [path for path in self._slots if path not in needed]:
            slot = self._slots.pop(path)
            with suppress(UserError):  # another layer may have taken the place of one on the way
                slot.unhook(find(network, path))
        for path, layer in network.named_sublayers():
            if isinstance(layer, _Remembering) and path not in needed:
                _forget(layer)


def slots_of(network: nn.Layer) -> Optional[Slots]:
    """The slots of a network, None where nothing was put."""
    return getattr(network, SLOTS, None)


class _Slot:
    """The hooks of one layer. They are methods, so a deep copy of the network gets hooks of its own."""

    def __init__(self, slots: Slots, path: str):
        self.slots, self.path = slots, path

    def hook_input(self, layer: nn.Layer) -> None:
        if self.enter not in hooks_of(layer)[0].values():
            add_hook(layer, self.enter, after=False)

    def hook_output(self, layer: nn.Layer) -> None:
        if self.leave not in hooks_of(layer)[1].values():
            add_hook(layer, self.leave, after=True)

    def unhook(self, layer: nn.Layer) -> None:
        # Paddle keeps the handle that removes a hook as a weak reference, which a deep copy does not follow.
        for hooks in hooks_of(layer):
            for key in [key for key, hook in hooks.items() if getattr(hook, "__self__", None) is self]:
                del hooks[key]

    def enter(self, layer, inputs):
        pairs = self.slots.now().before.get(self.path)
        if not pairs:
            return None
        x = self._input(inputs)
        for place, branch in pairs:
            x = place.enter(branch, x)
            self._acted(place, "before")
        return (x, *inputs[1:])

    def leave(self, layer, inputs, output):
        pairs = self.slots.now().after.get(self.path)
        if not pairs:
            return None
        x = self._input(inputs)
        for place, branch in pairs:
            y = place.leave(branch, x, output)
            if y is not None:
                output = y
                self._acted(place, "after")
        return output

    def _input(self, inputs):
        if not inputs:
            raise TuningError(f"{self.path} is called with named arguments alone, and hooks do not see those: no "
                              "method can be put there")
        return inputs[0]

    def _acted(self, place: Place, side: str) -> None:
        reached = self.slots.reached
        if reached is not None:
            reached.add((place, side))


class _Thread(threading.local):
    """Of each thread: the blocks that are being called, innermost last, each with what its places remember; and what
    is chosen, innermost last.
    """

    def __init__(self):
        self.calls: list[tuple[nn.Layer, dict[nn.Layer, paddle.Tensor]]] = []
        self.chosen: tuple[tuple[Slots, Placed], ...] = ()


_thread = _Thread()


class _Remembering:
    """Goes in front of the class of a block whose places remember: what they do is gone after each call.

    The class's own `forward` is found as `computes` (Paddle's tracer loses `super()`).
    """

    def __call__(self, *inputs, **named):
        return _within(self, super().__call__, inputs, named)

    def forward(self, x, *others, **named):  # the tracer wants one argument by name
        if paddle.in_dynamic_mode() and not _is_called(self):  # recompute may call `forward` itself
            return _within(self, self.computes, (x, *others), named)
        return self.computes(x, *others, **named)


def _within(block: nn.Layer, run: Callable, inputs: tuple, named: dict) -> Any:
    depth = len(_thread.calls)
    try:
        _thread.calls.append((block, {}))
        return run(*inputs, **named)
    finally:
        del _thread.calls[depth:]


def _is_called(block: nn.Layer) -> bool:
    return bool(_thread.calls) and _thread.calls[-1][0] is block


@functools.cache
def _remembering(kind: type) -> type:
    return type(kind.__name__, (_Remembering, kind), {"__module__": kind.__module__, "computes": kind.forward})


def _forget(block: nn.Layer) -> None:
    """Undo `_remembering`; what else was put in front of the block's class since then stays."""
    if type(block).__bases__[:1] == (_Remembering,):
        block.__class__ = type(block).__bases__[1]


def as_now(run: Callable) -> Callable:
    """`run` for another time (the backward pass of recompute): with what is chosen in this thread now."""
    chosen = _thread.chosen

    def again(*inputs: Any, **named: Any) -> Any:
        before = _thread.chosen
        _thread.chosen = chosen
        try:
            return run(*inputs, **named)
        finally:
            _thread.chosen = before

    return again
