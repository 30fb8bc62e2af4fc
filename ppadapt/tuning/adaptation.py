"""What every tuning method is: a few layers attached from outside, and the names of what trains.

A method never renames, removes or changes a parameter of the network. `attach` freezes all that no method
claims, and the `Adaptation` it returns is the one place that knows what trains, what the tuned state is,
and how to tell that nothing else moved.
"""
from __future__ import annotations

import copy
import fnmatch
import os
import re
from typing import Iterable, Mapping, Sequence

import numpy as np
import paddle
from paddle import nn

from ..cpu import keep_small_apart
from ..models.anatomy import Anatomy, find
from ..models.catalogue import anatomy_of
from ..paddle_compat import RUNNING_STATISTICS, AnyBatchNorm, name_of
from ..weights import digest
from .frozen.layers import prepare_frozen, store_frozen
from .method import Method, TuningError, add_layer
from .slots import Slots, slots_of

TASK = ""  # what an adaptation puts into a network's slots


class Adaptation:
    """A network with its tuning methods: what trains, the tuned state, train and eval mode.

    Attributes:
        network: the network, changed in place.
        methods: the attached methods.
        trained: names of the parameters that train.
        new: names of the parameters the methods and a new head added.
        backbone_digest: sha256 of the network's own tensors before training, head left out.
    """

    def __init__(self, network: nn.Layer, methods: Sequence[Method], anatomy: Anatomy, trained: list[str],
                 new: list[str], added: list[tuple[str, str]]):
        self.network, self.methods, self.anatomy = network, list(methods), anatomy
        self.trained, self.new, self.added = trained, new, added
        backbone = {n: p for n, p in network.named_parameters() if n not in set(new) and not anatomy.is_head(n)}
        self.backbone_digest = digest(_arrays(backbone))

    def __call__(self, *inputs, **named):
        try:
            return self.network(*inputs, **named)
        except AssertionError as error:  # so PaddleClas's networks refuse images of another size
            raise TuningError(f"{type(self.network).__name__}: {error} Resize the images, or set Arch.img_size") \
                from error

    def parameters(self) -> dict[str, paddle.Tensor]:
        """The parameters that train, by name."""
        trained = set(self.trained)
        return {n: p for n, p in self.network.named_parameters() if n in trained}

    def train(self) -> None:
        """Train mode for what trains; frozen layers stay in eval mode (no dropout, no drop path).

        A layer is in train mode when every parameter under it trains: an adapter with its dropout, the
        head with its BatchNorm, the whole network under full fine-tuning.
        """
        self.network.eval()
        for layer in _fully_trained(self.network):
            layer.train()

    def eval(self) -> None:
        """Eval mode for the whole network."""
        self.network.eval()

    def tensors(self) -> dict[str, paddle.Tensor]:
        """The tuned state: what trains, and the buffers that change while it trains."""
        return {**self.parameters(), **self._buffers()}

    def state(self) -> dict[str, np.ndarray]:
        """A copy of the tuned state as arrays, by name."""
        return {n: np.array(a) for n, a in _arrays(self.tensors()).items()}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Set the tuned state.

        Raises:
            TuningError: when a name is missing or unknown or a shape differs; nothing is set then.
        """
        own = self.tensors()
        missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        wrong = [f"{n} is {list(state[n].shape)} in the file and {list(own[n].shape)} here"
                 for n in own if n in state and list(state[n].shape) != list(own[n].shape)]
        problems = [f"{what}: {_some(names)}" for what, names in (
            ("missing", missing), ("not in this network", unknown), ("other shapes", wrong)) if names]
        if problems:
            raise TuningError("the tuned state does not fit this network (" + "; ".join(problems) +
                              "). Use the Arch, Tuning and class_num it was trained with")
        for name, tensor in own.items():
            tensor.set_value(np.asarray(state[name]).astype(_dtype_name(tensor)))

    def store_frozen(self, dtype: str) -> int:
        """Keep the frozen matrices in `dtype`, in place; how many parameters those are. See `frozen.store_frozen`.

        None are where the anatomy's `without` says why.
        """
        return 0 if "frozen_dtype" in self.anatomy.without else store_frozen(self.network, dtype)

    def merge(self) -> nn.Layer:
        """A plain network that computes the same: a copy with the tuned state folded into its own weights.

        It has no hooks and no added layers, and its names are those before `attach`, with the new head.

        Raises:
            TuningError: for a method whose algebra does not allow it, saying why.
        """
        for method in self.methods:
            if method.unmergeable:
                raise TuningError(f"{type(method).__name__} cannot be merged into the network: {method.unmergeable}. "
                                  "Keep the network and its tuned file side by side")
        network = copy.deepcopy(self.network)
        store_frozen(network, "float32")  # a sum would be rounded where half of its bits are kept
        for method in sorted(self.methods, key=lambda m: m.changes_inputs):
            method.merge(network, self.anatomy)
        slots_of(network).close(network)
        for owner, name in self.added:
            delattr(find(network, owner) if owner else network, name)
        network.eval()
        return network

    def frozen_digest(self) -> str:
        """sha256 of every tensor that must not change: the same before and after training."""
        tuned = self.tensors().keys()
        everything = {**dict(self.network.named_parameters()), **dict(self.network.named_buffers())}
        return digest(_arrays({n: t for n, t in everything.items() if n not in tuned}))

    def counts(self) -> tuple[int, int]:
        """Numbers of parameters: (trained, all)."""
        sizes = {n: int(np.prod(p.shape)) for n, p in self.network.named_parameters()}
        return sum(sizes[n] for n in self.trained), sum(sizes.values())

    def summary(self) -> str:
        """What trains, in words: count, share of the network, names."""
        trained, total = self.counts()
        names = " + ".join(type(m).__name__ for m in self.methods)
        return (f"{names} trains {trained:,} of {total:,} parameters ({trained / total:.2%}), "
                f"{len(self.trained)} tensors: {_some(shorten(self.trained))}")

    def _buffers(self) -> dict[str, paddle.Tensor]:
        """What changes without a gradient. Tables of indices never do."""
        changing = {id(t) for layer in _fully_trained(self.network)
                    for t in (*layer.buffers(), *running_statistics(layer).values())}
        everything = {**dict(self.network.named_buffers()), **running_statistics(self.network)}
        return {n: t for n, t in everything.items() if id(t) in changing and "int" not in _dtype_name(t)}


def attach(network: nn.Layer, *methods: Method, anatomy: Anatomy | None = None, head: nn.Layer | None = None,
           also_train: Iterable[str] = (), cheap: bool = True) -> Adaptation:
    """Attach tuning methods to a network, in place, and freeze the rest.

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
        TuningError: when no method is given, one does not fit, or a parameter it added is not claimed.
    """
    if not methods:
        raise TuningError("attach needs at least one tuning method")
    anatomy = anatomy_of(network) if anatomy is None else anatomy
    _check_fit(network, methods, anatomy)
    before = {n for n, _ in network.named_parameters()}
    added_layers = [added for method in methods for added in method.adds(network, anatomy)]
    for added in added_layers:
        add_layer(find(network, added.owner) if added.owner else network, added.name, added.layer)
    slots = Slots()
    slots.put(network, TASK, [pair for added in added_layers for pair in added.placed])
    slots.default = TASK
    added = {n for n, _ in network.named_parameters()} - before
    if head is not None:
        for path in (anatomy.head, *anatomy.head_twins):
            owner, _, name = path.rpartition(".")
            setattr(find(network, owner) if owner else network, name,
                    head if path == anatomy.head else copy.deepcopy(head))
    patterns = tuple(also_train)
    trained = []
    statistics = {id(t) for t in running_statistics(network).values()}
    chosen = {name for method in methods for name in method.trains(network, anatomy)} | added
    for name, parameter in network.named_parameters():
        if id(parameter) in statistics:
            continue
        trains = (anatomy.answers(name) or name in chosen or any(fnmatch.fnmatchcase(name, p) for p in patterns))
        parameter.stop_gradient = not trains
        if trains:
            trained.append(name)
    new = sorted(added) + ([n for n in trained if anatomy.is_head(n)] if head is not None else [])
    prepare_frozen(network, cheap and os.environ.get("PPADAPT_PLAIN") != "1")
    keep_small_apart()
    adaptation = Adaptation(network, methods, anatomy, trained, new, [(a.owner, a.name) for a in added_layers])
    adaptation.eval()
    return adaptation


def _check_fit(network: nn.Layer, methods: Sequence[Method], anatomy: Anatomy) -> None:
    """Raises TuningError for a method that this network does not allow, saying why and which it does."""
    for method in methods:
        name = type(method).__name__
        if name in anatomy.without:
            fitting = sorted({m.__name__ for m in Method.__subclasses__()} - set(anatomy.without))
            raise TuningError(f"{name} does not fit {type(network).__name__}: {anatomy.without[name]}. Choose from: "
                              f"{', '.join(fitting)}")


def shorten(names: Sequence[str]) -> list[str]:
    """Names that differ in the number of the block only, as one: blocks.*.adaptmlp.up_proj.weight."""
    folded: dict[str, list[str]] = {}
    for name in names:
        folded.setdefault(re.sub(r"\.\d+(?=\.)", ".*", name), []).append(name)
    return [one if len(those) > 1 else those[0] for one, those in folded.items()]


def is_batch_norm(layer: nn.Layer) -> bool:
    """Whether it is one of Paddle's, which keep their running mean and variance among the parameters."""
    return isinstance(layer, AnyBatchNorm)


def running_statistics(network: nn.Layer) -> dict[str, paddle.Tensor]:
    """The running means and variances of Paddle's BatchNorms, by name: never trained, changed in train mode."""
    return {f"{path}.{name}" if path else name: getattr(layer, name)
            for path, layer in network.named_sublayers(include_self=True) if is_batch_norm(layer)
            for name in RUNNING_STATISTICS}


def _fully_trained(layer: nn.Layer) -> Iterable[nn.Layer]:
    """The topmost layers of which every parameter trains (a layer without parameters is not one)."""
    statistics = {id(t) for t in running_statistics(layer).values()}

    def search(layer):
        flags = [not p.stop_gradient for p in layer.parameters() if id(p) not in statistics]
        if flags and all(flags):
            yield layer
        elif any(flags):
            for child in layer.children():
                yield from search(child)

    return search(layer)


def _arrays(tensors: Mapping[str, paddle.Tensor]) -> dict[str, np.ndarray]:
    return {n: (t.astype("float32") if _dtype_name(t) in ("bfloat16", "float16") else t).numpy()
            for n, t in tensors.items()}


def _dtype_name(tensor: paddle.Tensor) -> str:
    return name_of(tensor.dtype)


def _some(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
