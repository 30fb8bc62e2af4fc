"""Attaching methods to a network: what they add is put in, what trains is chosen, the rest is frozen."""
from __future__ import annotations

import copy
import fnmatch
import os
from typing import Iterable, Sequence

from paddle import nn

from ..cpu import keep_small_apart
from ..models.anatomy import Anatomy, find
from ..models.catalogue import anatomy_of
from .adaptation import Adaptation, running_statistics
from .before import Before
from .frozen.last_block import class_token_last
from .frozen.layers import prepare_frozen
from .method import Added, Method
from .reach import some
from .slots import Slots, TuningError, slots_of

TASK = ""  # the name of what an adaptation puts into the slots of its network


def attach(network: nn.Layer, *methods: Method, anatomy: Anatomy | None = None, head: nn.Layer | None = None,
           also_train: Iterable[str] = (), cheap: bool = True) -> Adaptation:
    """Attach tuning methods to a network, in place, and freeze the rest. Where that fails the network is as before.

    Of the network's own tensors that train a copy is kept in the host's memory, for `Adaptation.detach`. In training,
    the last block of a ViT whose head reads the class token alone returns that token alone (`frozen.last_block`).

    Args:
        network: any `nn.Layer` of plain transformer blocks.
        methods: one or more; VPT and AdaptFormer may go together.
        anatomy: where the network keeps its parts; None: known for our networks and PaddleClas's, else that of a
            ViT with the usual names.
        head: a new classifier in the place of the network's own.
        also_train: patterns of names (`fc_norm.*`) that train beside what the methods and the head train:
            weights the pretrained checkpoint does not have.
        cheap: False keeps Paddle's plain layers where `tuning.frozen` has cheaper ones (PPADAPT_PLAIN=1 does too).

    Raises:
        TuningError: when no method is given, one does not fit or trains nothing, the network has methods attached
            already, or it has no layer where the head goes.
    """
    if not methods:
        raise TuningError("attach needs at least one tuning method")
    if slots_of(network) is not None:
        raise TuningError(f"{type(network).__name__} has methods attached already: take them off first, with detach() "
                          "of the adaptation that attach returned, or of the bank. Methods that work together are "
                          "given to one attach")
    anatomy = anatomy_of(network) if anatomy is None else anatomy
    _check_fit(network, methods, anatomy)
    before, put = Before(network), []
    try:
        by_method = [list(method.adds(network, anatomy)) for method in methods]
        added = [one for ones in by_method for one in ones]
        cheap = cheap and os.environ.get("PPADAPT_PLAIN") != "1"
        if cheap and all(method.token_by_token or not ones for method, ones in zip(methods, by_method)):
            class_token_last(network)
        slots = Slots()
        slots.put(network, TASK, [pair for one in added for pair in one.placed])
        slots.default = TASK
        for one in added:
            _put_layer(network, one)
            put.append((one.owner, one.name))
        new = sorted(n for n, _ in network.named_parameters() if n not in before.names)
        for path in (anatomy.head, *anatomy.head_twins) if head is not None else ():
            before.put_head(network, path, head if path == anatomy.head else copy.deepcopy(head))
        idle = [method for method, ones in zip(methods, by_method) if not ones]
        trained = _choose(network, methods, idle, anatomy, new, tuple(also_train))
        new += [n for n in trained if anatomy.is_head(n)] if head is not None else []
        prepare_frozen(network, cheap)
        keep_small_apart()
        adaptation = Adaptation(network, methods, anatomy, trained, new, put, before)
    except BaseException:
        before.restore(network, put)
        raise
    before.keep_values({n: t for n, t in adaptation.tensors().items()
                        if n in before.names and not (head is not None and anatomy.answers(n))})
    return adaptation.eval()


def _put_layer(network: nn.Layer, one: Added) -> None:
    owner = find(network, one.owner) if one.owner else network
    if one.name in dict(owner.named_children()):
        raise TuningError(f"{type(owner).__name__} at {one.owner!r} has a layer {one.name!r} already, its own or that "
                          "of a method given twice: what is added needs a name that is free")
    frozen = [n for n, p in one.layer.named_parameters() if p.stop_gradient]
    if frozen:
        raise TuningError(f"{some(frozen)} of the layer {one.name!r} does not train, and what does not train is in no "
                          "tuned file: what stays as it is can be a buffer that is not persistable")
    owner.add_sublayer(one.name, one.layer)


def _choose(network: nn.Layer, methods: Sequence[Method], idle: Sequence[Method], anatomy: Anatomy, new: list[str],
            patterns: tuple[str, ...]) -> list[str]:
    """Set `stop_gradient` of every parameter; the names of those that train, in the network's order.

    `idle` are the methods that add nothing; `new` are the names that the others added.

    Raises:
        TuningError: for a method that trains nothing, a name or a pattern of none.
    """
    statistics = {id(t) for t in running_statistics(network).values()}
    parameters = {n: p for n, p in network.named_parameters() if id(p) not in statistics}
    chosen = {*new, *(n for n in parameters if anatomy.answers(n))}
    for method in methods:
        name, names = type(method).__name__, set(method.trains(network, anatomy))
        unknown = sorted(names - {n for n, _ in network.named_parameters()})
        if unknown:
            raise TuningError(f"{name} trains {some(unknown)}, which {type(network).__name__} does not have")
        if method in idle and not names & parameters.keys():
            raise TuningError(f"{name} trains nothing of {type(network).__name__}" + (
                "" if chosen else f", which has no classifier at {anatomy.head!r}: give attach a head, or say where it "
                                  "is: Anatomy(head=...)"))
        chosen |= names
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(n, pattern) for n in parameters):
            raise TuningError(f"also_train {pattern!r} is the name of no parameter of {type(network).__name__}")
    for n, parameter in parameters.items():
        parameter.stop_gradient = not (n in chosen or any(fnmatch.fnmatchcase(n, pattern) for pattern in patterns))
    return [n for n, parameter in parameters.items() if not parameter.stop_gradient]


def _check_fit(network: nn.Layer, methods: Sequence[Method], anatomy: Anatomy) -> None:
    """Raises TuningError for a method that this network does not allow, saying why and which it does."""
    for method in methods:
        name = type(method).__name__
        if name in anatomy.without:
            fitting = sorted({m.__name__ for m in Method.__subclasses__()} - set(anatomy.without))
            raise TuningError(f"{name} does not fit {type(network).__name__}: {anatomy.without[name]}. Choose from: "
                              f"{', '.join(fitting)}")
