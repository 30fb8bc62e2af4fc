"""Whether all that was attached takes part, found out once: in the first forward pass and the first backward pass.

A place that no forward comes by, a head that nothing calls, a parameter that no gradient reaches: training goes on
without them and says nothing, and so does a prediction. Afterwards nothing is watched, so it costs nothing.
"""
from __future__ import annotations

import fnmatch
import threading
from typing import TYPE_CHECKING, Any, Callable, Iterator, Optional, Sequence

import paddle

from ..models.anatomy import find
from .slots import TuningError, slots_of

if TYPE_CHECKING:
    from .adaptation import Adaptation

_FIX = ("Say where this network keeps its parts: attach(..., anatomy=ppadapt.Anatomy(...)), with paths of layers that "
        "its forward calls")


class Watch:
    """Of one adaptation, which lets go of it when all was seen.

    Args:
        heads: paths of the classifiers that `attach` put in.
    """

    def __init__(self, heads: Sequence[str]):
        self.heads = list(heads)
        self._forward_is_due = True
        self._got_gradient: Optional[set[str]] = None  # names; None before the first training forward
        self._handles: list[Any] = []
        self._lock = threading.RLock()  # the first forward puts hooks on heads, under which no other may run

    def __deepcopy__(self, memo: dict) -> Watch:
        return Watch(self.heads)

    def call(self, adaptation: Adaptation, run: Callable[[], Any]) -> Any:
        """The result of `run`, a forward pass.

        Raises:
            TuningError: for what takes no part in it, or got no gradient in the backward pass before it.
        """
        self.check_gradients(adaptation)
        if self._forward_is_due:
            with self._lock:
                result = self._first_forward(adaptation, run) if self._forward_is_due else run()
        else:
            result = run()
        if self._got_gradient is None and paddle.in_dynamic_mode() and paddle.is_grad_enabled():
            self._await_gradients(adaptation, result)
        return result

    def check_gradients(self, adaptation: Adaptation) -> None:
        """After the first backward pass: raises TuningError for a trained parameter that has no gradient."""
        if not self._got_gradient:
            return
        unused = adaptation.anatomy.unused
        without = [name for name in adaptation.trained if name not in self._got_gradient
                   and not any(fnmatch.fnmatchcase(name, pattern) for pattern in unused)]
        if without:
            raise TuningError(
                f"{some(without)} should train and got no gradient: what {type(adaptation.network).__name__} computes "
                f"does not depend on {'it' if len(without) == 1 else 'them'}. {_FIX}; or name in Anatomy(unused=...) "
                "what the network has and does not use")
        for handle in self._handles:
            handle.remove()
        self._handles = []
        if not self._forward_is_due:
            adaptation._watch = None

    def _first_forward(self, adaptation: Adaptation, run: Callable[[], Any]) -> Any:
        network, slots, called = adaptation.network, slots_of(adaptation.network), set()
        handles = [find(network, path).register_forward_post_hook(lambda *_, path=path: called.add(path))
                   for path in self.heads]
        slots.reached = reached = set()
        try:
            result = run()
        finally:
            slots.reached = None
            for handle in handles:
                handle.remove()
        name = type(network).__name__
        silent = [f"{layer} after {place.opens}" if place.within and side == "after" else layer
                  for place, _ in slots.now().pairs
                  for layer, side in ((place.opens, "before"), (place.closes, "after"))
                  if layer and (place, side) not in reached]
        if silent:
            methods = " + ".join(type(method).__name__ for method in adaptation.methods)
            raise TuningError(f"a forward of {name} does not call {some(silent, 4)}, where {methods} puts something. "
                              f"{_FIX}")
        idle = [path for path in self.heads if path not in called]
        if idle:
            raise TuningError(f"a forward of {name} does not call {some(idle)}, the new head. {_FIX} (head=...)")
        self._forward_is_due = False
        return result

    def _await_gradients(self, adaptation: Adaptation, result: Any) -> None:
        outputs = list(_tensors(result))
        if outputs and all(t.stop_gradient for t in outputs):
            if adaptation.training:
                raise TuningError(f"what {type(adaptation.network).__name__} returned does not depend on anything that "
                                  f"trains ({some(adaptation.trained)}), so no step would change anything. {_FIX}")
            return
        self._got_gradient = set()
        for name, parameter in adaptation.trained_parameters().items():
            self._handles.append(parameter.register_hook(lambda gradient, name=name: self._note(name)))

    def _note(self, name: str) -> None:
        self._got_gradient.add(name)


def some(names: Sequence[str], most: int = 8) -> str:
    """The first of many names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _tensors(result: Any) -> Iterator[paddle.Tensor]:
    if isinstance(result, paddle.Tensor):
        yield result
    elif isinstance(result, (list, tuple)):
        for part in result:
            yield from _tensors(part)
    elif isinstance(result, dict):
        yield from _tensors(list(result.values()))
