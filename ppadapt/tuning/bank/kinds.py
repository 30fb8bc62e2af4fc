"""What tuned files of one kind put where. Files whose methods and options are the same are of one kind: they differ
in weights alone, and their samples are computed together.
"""
from __future__ import annotations

import copy
import itertools
import json
from dataclasses import dataclass, field
from typing import Any, Iterator, Mapping, Sequence

import paddle
from paddle import nn

from ...errors import choose
from ...models.anatomy import Anatomy, find
from ...models.heads import HEADS
from ...paddle_compat import epsilon, normalized_shape
from ...weights.manifest import NO_ANSWER
from ..method import Method, TuningError
from ..methods import METHODS
from ..per_sample import over_rows, stackable
from ..slots import After, Place, Tokens

_NUMBERS = itertools.count()
Shapes = Mapping[str, Sequence[int]]


@dataclass(eq=False)
class Branch:
    """A branch at its place, with nobody's weights.

    Args:
        layer: computes, once it has weights (`per_sample.twin`).
        names: its parameters and buffers -> names in the tuned file.
        base: a parameter of the network that is taken off the file's only value: what is added is a difference.

    Attributes:
        number: one that no other branch has.
    """

    place: Place
    layer: nn.Layer
    names: Mapping[str, str]
    base: str = ""

    def __post_init__(self):
        self.layer.eval()
        self.stacks = stackable(self.layer)
        self.number = next(_NUMBERS)


@dataclass(eq=False)
class Kind:
    """Branches in the order in which they act, and the first block that they change.

    Attributes:
        shapes: of the tensors that its files hold, the head's left out.
        first: index of that block; -1 where something acts in front of the blocks, their number where nothing does.
    """

    branches: list[Branch]
    shapes: dict[str, tuple[int, ...]]
    first: int
    before: dict[str, list[Branch]] = field(default_factory=dict)
    after: dict[str, list[Branch]] = field(default_factory=dict)

    def __post_init__(self):
        for branch in self.branches:
            for layer, side in ((branch.place.opens, self.before), (branch.place.closes, self.after)):
                if layer:
                    side.setdefault(layer, []).append(branch)

    @property
    def has_tokens(self) -> bool:
        """Whether its samples have tokens of their own in some block."""
        return any(isinstance(branch.place, Tokens) for branch in self.branches)


class Kinds:
    """The kinds and heads that were met on a network, each made once."""

    def __init__(self, network: nn.Layer, anatomy: Anatomy):
        self.network, self.anatomy = network, anatomy
        self._own = {name: tuple(p.shape) for name, p in network.named_parameters()}
        self._paths = [path for path, _ in anatomy.named_blocks(network)]
        self._kinds: dict[str, Kind] = {}
        self._heads: dict[str, dict[str, Branch]] = {}

    def kind(self, manifest: Mapping[str, Any], shapes: Shapes) -> Kind:
        """The kind of a tuned file.

        Raises:
            TuningError: for methods that are not known, do not fit the network or do not route, and for tensors that
                are missing, unexpected or of another shape.
        """
        if not manifest.get("tuning"):
            raise TuningError("its manifest does not say which tuning method made it")
        own = sorted(name for name in shapes if name in self._own and not self.anatomy.answers(name))
        tuning = [{option: value for option, value in method.items() if option not in NO_ANSWER["Tuning"]}
                  for method in manifest["tuning"]]
        key = json.dumps([tuning, own], sort_keys=True)
        if key not in self._kinds:
            self._kinds[key] = self._make(_methods(manifest["tuning"]), own)
        kind = self._kinds[key]
        _check_shapes({n: s for n, s in shapes.items() if not self.anatomy.answers(n)}, kind.shapes)
        return kind

    def head(self, manifest: Mapping[str, Any], shapes: Shapes) -> dict[str, Branch]:
        """The classifiers of a tuned file, by path: the head and its twins.

        Raises:
            TuningError: for one that is not known.
        """
        found = {name: tuple(shape) for name, shape in shapes.items() if self.anatomy.answers(name)}
        key = json.dumps(sorted(found.items()))
        if key not in self._heads:
            self._heads[key] = {path: self._one_head(path, found)
                                for path in (self.anatomy.head, *self.anatomy.head_twins)}
        classes, width = manifest.get("classes"), class_count(self._heads[key][self.anatomy.head], shapes)
        if classes is not None and len(classes) != width:
            raise TuningError(f"its manifest names {len(classes)} classes and its head has {width}: it is damaged")
        return self._heads[key]

    def _make(self, methods: Sequence[Method], own: Sequence[str]) -> Kind:
        network, anatomy = self.network, self.anatomy
        for method in methods:
            name = type(method).__name__
            if name in anatomy.without:
                raise TuningError(f"{name} does not fit {type(network).__name__}: {anatomy.without[name]}")
        branches = list(self._own_branches(methods, own))
        shapes = {name: self._own[name] for name in own}
        for method in methods:
            # What a method says that it trains must be there; `also_train` may have added more.
            shapes.update({name: self._own[name] for name in method.trains(network, anatomy)
                           if not anatomy.answers(name)})
            for added in method.adds(network, anatomy):
                prefix = ".".join(part for part in (added.owner, added.name) if part)
                tensors = {f"{prefix}.{name}": t for name, t in _tensors(added.layer).items()}
                shapes.update({name: tuple(t.shape) for name, t in tensors.items()})
                full = {id(t): name for name, t in tensors.items()}
                branches += [Branch(place, layer, {name: full[id(t)] for name, t in _tensors(layer).items()})
                             for place, layer in added.placed]
        return Kind(branches, shapes, self._first(branches))

    def _own_branches(self, methods: Sequence[Method], own: Sequence[str]) -> Iterator[Branch]:
        """What stands for the network's own parameters that were trained: biases, and the weights of LayerNorms."""
        by_layer: dict[str, dict[str, str]] = {}
        for name in own:
            path, _, parameter = name.rpartition(".")
            by_layer.setdefault(path, {})[parameter] = name
        unroutable = []
        for path, names in by_layer.items():
            layer = find(self.network, path) if path else self.network
            if isinstance(layer, nn.LayerNorm):
                rest = {name: f"{path}.{name}" for name, p in layer.named_parameters() if name not in names}
                absent = {f"{name}_attr": False for name in ("weight", "bias") if getattr(layer, name) is None}
                norm = nn.LayerNorm(normalized_shape(layer), epsilon(layer), **absent)
                yield Branch(After(path, reads="input", replaces=True), norm, {**names, **rest})
            elif isinstance(layer, (nn.Linear, nn.Conv2D, nn.Conv3D)) and list(names) == ["bias"]:
                axes = 0 if isinstance(layer, nn.Linear) else layer.weight.ndim - 2
                yield Branch(After(path, replaces=True), _Shift(layer.bias.shape[0], axes), {"shift": names["bias"]},
                             base=names["bias"])
            else:
                unroutable += names.values()
        if unroutable:
            culprits = {type(m).__name__: [n for n in m.trains(self.network, self.anatomy) if n in set(unroutable)]
                        for m in methods}
            name = " + ".join(n for n, theirs in culprits.items() if theirs) or type(methods[0]).__name__
            raise TuningError(
                f"{name} cannot be in a bank: it trains parameters of the network itself that no layer lets a sample "
                f"have to itself ({len(unroutable)}: {', '.join(unroutable[:3])}{' ...' * (len(unroutable) > 3)}), and "
                "the samples of other tasks need those as they were. Serve it on a network of its own")

    def _first(self, branches: Sequence[Branch]) -> int:
        last_norms = {path for path, _ in self.anatomy.final_norms(self.network)}
        first = len(self._paths)
        for branch in branches:
            path = branch.place.opens or branch.place.closes
            inside = next((i for i, block in enumerate(self._paths) if path == block or path.startswith(f"{block}.")),
                          len(self._paths) - 1 if path in last_norms else -1)
            first = min(first, inside)
        return first

    def _one_head(self, path: str, shapes: Shapes) -> Branch:
        prefix = f"{path}."
        found = {name[len(prefix):]: tuple(shape) for name, shape in shapes.items() if name.startswith(prefix)}
        widths = [shape for shape in found.values() if len(shape) == 2]
        for layer in [make(*widths[-1]) for make in HEADS.values() if widths] + [find(self.network, path)]:
            tensors = _tensors(layer)
            if tensors and {name: tuple(t.shape) for name, t in tensors.items()} == found:
                if layer is find(self.network, path):
                    layer = copy.deepcopy(layer)
                return Branch(After(path, reads="input", replaces=True), layer, {n: prefix + n for n in tensors})
        told = ", ".join(f"{prefix}{name} {list(shape)}" for name, shape in found.items()) or f"nothing below {path}"
        raise TuningError(f"its head is none of {', '.join(HEADS)}, nor the network's own: it holds {told}")


def class_count(head: Branch, shapes: Shapes) -> int:
    """Classes that a head answers with."""
    return [shapes[name] for name in head.names.values() if len(shapes[name]) == 2][-1][1]


class _Shift(nn.Layer):
    """x + shift, over the last axis, or axis 1 of what a convolution returns, which has `axes` more behind."""

    def __init__(self, channels: int, axes: int):
        super().__init__()
        self.stacks = not axes
        self.shift = self.create_parameter([channels, *[1] * axes])

    def forward(self, x):
        return x + (over_rows(self.shift, x) if self.stacks else self.shift.astype(x.dtype))


def _methods(tuning: Sequence[Mapping[str, Any]]) -> list[Method]:
    methods = []
    for told in tuning:
        name, options = told["name"], {option: value for option, value in told.items() if option != "name"}
        if name not in METHODS:
            raise TuningError(choose("its tuning method", name, METHODS))
        try:
            methods.append(METHODS[name](**options))
        except TypeError as error:
            raise TuningError(f"its {name} has options that this ppadapt does not know ({error})") from None
    return methods


def _check_shapes(found: Shapes, expected: Shapes) -> None:
    missing, unknown = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    wrong = [f"{name} is {list(found[name])} in the file and {list(shape)} here" for name, shape in expected.items()
             if name in found and list(found[name]) != list(shape)]
    problems = [f"{what}: {', '.join(names[:4])}{' ...' * (len(names) > 4)}" for what, names in (
        ("missing", missing), ("not known here", unknown), ("of another shape", wrong)) if names]
    if problems:
        raise TuningError(f"its tensors do not fit this network ({'; '.join(problems)})")


def _tensors(layer: nn.Layer) -> dict[str, paddle.Tensor]:
    return {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
