"""What every tuning method is: a few layers attached from outside, and the names of what trains.

A method never renames, removes or changes a parameter of the network. `attach` freezes all that no method
claims, and the `Adaptation` it returns is the one place that knows what trains, what the tuned state is,
and how to tell that nothing else moved.
"""
from __future__ import annotations

import copy
import re
from typing import Any, Callable, Mapping, Optional, Sequence

import numpy as np
import paddle
from paddle import nn

from ..models.anatomy import Anatomy
from ..paddle_compat import RUNNING_STATISTICS, AnyBatchNorm, name_of, same_parts
from ..weights import digest
from .before import Before, take_off
from .frozen import last_block
from .frozen.layers import store_frozen
from .method import Method, TuningError
from .reach import Watch, some


class Adaptation(nn.Layer):
    """A network with its tuning methods: what trains, the tuned state, train and eval mode.

    It is an `nn.Layer` that has the network's parameters, buffers and sublayers under the network's own names, so what
    Paddle does with layers (DataParallel, summary, Model.fit, jit.save, state_dict) works on it.

    Its first forward pass, and the first backward pass, check that all that was attached takes part: TuningError names
    what does not. Nothing is checked after that.

    Attributes:
        network: the network, changed in place.
        methods: the attached methods.
        trained: names of the parameters that train.
        new: names of the parameters the methods and a new head added.
        backbone_digest: sha256 of the network's own tensors before training, head left out.
    """

    def __init__(self, network: nn.Layer, methods: Sequence[Method], anatomy: Anatomy, trained: list[str],
                 new: list[str], added: Sequence[tuple[str, str]], before: Before):
        super().__init__()
        self.methods, self.anatomy = list(methods), anatomy
        self.trained, self.new = trained, new
        self._before = before
        self._watch: Optional[Watch] = Watch([anatomy.head, *anatomy.head_twins] if before.heads else [])
        self._added = list(added)
        same_parts(self, network)
        object.__setattr__(self, "_network", network)  # not as a sublayer of that name
        backbone = {n: p for n, p in network.named_parameters() if n not in set(new) and not anatomy.is_head(n)}
        self.backbone_digest = digest(arrays(backbone))

    @property
    def network(self) -> nn.Layer:
        if self._network is None:
            raise TuningError("this adaptation was detached from its network. attach() makes a new one; `load_state` "
                              "gives it what this one had learned, where its `state()` was kept")
        return self._network

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        if self._mode_is_due:
            self.train(self.training)
        try:
            if self._watch is None:
                return self._run(*inputs, **named)
            return self._watch.call(self, lambda: self._run(*inputs, **named))
        except AssertionError as error:  # so PaddleClas's networks refuse images of another size
            raise TuningError(f"{type(self.network).__name__}: {error} Resize the images, or set Arch.img_size") \
                from error

    def _run(self, *inputs: Any, **named: Any) -> Any:
        # Without one by position the input has the name that the network gives it.
        return super().__call__(*inputs, **named) if inputs else self.network(**named)

    def forward(self, x: Any, *others: Any, **named: Any) -> Any:
        """What the network computes with what is attached."""
        return self.network(x, *others, **named)

    def trained_parameters(self) -> dict[str, paddle.Tensor]:
        """The parameters that train, by name. (`parameters()` lists all, as of any `nn.Layer`.)"""
        trained = set(self.trained)
        return {n: p for n, p in self.network.named_parameters() if n in trained}

    def train(self, mode: bool = True) -> Adaptation:
        """Train mode for what trains; frozen layers stay in eval mode (no dropout, no drop path).

        A layer is in train mode when every parameter under it trains: an adapter with its dropout, the
        head with its BatchNorm, the whole network under full fine-tuning.
        """
        self._check_gradients()
        self.network.eval()
        if mode:
            for layer in _fully_trained(self.network):
                layer.train()
        last_block.set_training(self.network, mode)
        self.training, self._mode_is_due = mode, False
        return self

    def eval(self) -> Adaptation:
        """Eval mode for the whole network."""
        return self.train(False)

    @property
    def training(self) -> bool:
        """Whether what trains is in train mode."""
        return self._training

    @training.setter
    def training(self, mode: bool) -> None:
        # A layer that this is a part of (DataParallel) sets the mode of all that is below, frozen layers too.
        self._training, self._mode_is_due = mode, True

    def detach(self) -> nn.Layer:
        """Give the network back as it was before `attach`, and return it: values, names, classes of layers, hooks,
        flags and modes, its own head. Another method can be attached then; this adaptation is of no more use.

        What was learned is lost unless its `state()` was kept. Where frozen matrices were stored in half precision, a
        warning says that the network has lost digits.
        """
        network = self.network
        self._before.restore(network, self._added)
        self._network = self._watch = None
        same_parts(self, nn.Layer())
        return network

    def tensors(self) -> dict[str, paddle.Tensor]:
        """The tuned state: what trains, and the buffers that change while it trains."""
        return {**self.trained_parameters(), **self._changing_buffers()}

    def state(self) -> dict[str, np.ndarray]:
        """A copy of the tuned state as arrays, by name."""
        self._check_gradients()
        return {n: np.array(a) for n, a in arrays(self.tensors()).items()}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Set the tuned state.

        Raises:
            TuningError: when a name is missing or unknown or a shape differs; nothing is set then.
        """
        own = self.tensors()
        missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        wrong = [f"{n} is {list(state[n].shape)} in the file and {list(own[n].shape)} here"
                 for n in own if n in state and list(state[n].shape) != list(own[n].shape)]
        problems = [f"{what}: {some(names)}" for what, names in (
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
        take_off(network, self._added)
        network.eval()
        last_block.set_training(network, False)
        return network

    def frozen_digest(self, without: Callable[[str], bool] = lambda name: False) -> str:
        """sha256 of every tensor that must not change: the same before and after training. `without` leaves names out.
        """
        tuned = self.tensors().keys()
        everything = {**dict(self.network.named_parameters()), **dict(self.network.named_buffers())}
        return digest(arrays({n: t for n, t in everything.items() if n not in tuned and not without(n)}))

    def counts(self) -> tuple[int, int]:
        """Numbers of parameters: (trained, all)."""
        sizes = {n: int(np.prod(p.shape)) for n, p in self.network.named_parameters()}
        return sum(sizes[n] for n in self.trained), sum(sizes.values())

    def summary(self) -> str:
        """What trains, in words: count, share of the network, names."""
        trained, total = self.counts()
        names = " + ".join(type(m).__name__ for m in self.methods)
        return (f"{names} trains {trained:,} of {total:,} parameters ({trained / total:.2%}), "
                f"{len(self.trained)} tensors: {some(shorten(self.trained))}")

    def _check_gradients(self) -> None:
        if self._watch is not None:
            self._watch.check_gradients(self)

    def _changing_buffers(self) -> dict[str, paddle.Tensor]:
        """What changes without a gradient. Tables of indices never do."""
        changing = {id(t) for layer in _fully_trained(self.network)
                    for t in (*layer.buffers(), *running_statistics(layer).values())}
        everything = {**dict(self.network.named_buffers()), **running_statistics(self.network)}
        return {n: t for n, t in everything.items() if id(t) in changing and "int" not in _dtype_name(t)}


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
    return {f"{path}.{name}" if path else name: tensor
            for path, layer in network.named_sublayers(include_self=True)
            for name, tensor in _own_statistics(layer).items()}


def _own_statistics(layer: nn.Layer) -> dict[str, paddle.Tensor]:
    return {name: getattr(layer, name) for name in RUNNING_STATISTICS} if is_batch_norm(layer) else {}


def _fully_trained(layer: nn.Layer) -> list[nn.Layer]:
    """The topmost layers of which every parameter trains (a layer without parameters is not one)."""
    def search(layer: nn.Layer) -> tuple[list[nn.Layer], Optional[bool]]:
        """Those at and below a layer, and whether all of it trains; None where it has no parameters."""
        skipped = [id(t) for t in _own_statistics(layer).values()]
        flags = [not p.stop_gradient for p in layer.parameters(include_sublayers=False) if id(p) not in skipped]
        found = []
        for child in layer.children():
            below, flag = search(child)
            found += below
            flags += [] if flag is None else [flag]
        if flags and all(flags):
            return [layer], True
        return found, False if flags else None

    return search(layer)[0]


def arrays(tensors: Mapping[str, paddle.Tensor]) -> dict[str, np.ndarray]:
    return {n: (t.astype("float32") if _dtype_name(t) in ("bfloat16", "float16") else t).numpy()
            for n, t in tensors.items()}


def _dtype_name(tensor: paddle.Tensor) -> str:
    return name_of(tensor.dtype)
