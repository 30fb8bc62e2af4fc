"""Many tuned files on one frozen network, a task per sample: see `Bank`."""
from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence, Union

import numpy as np
import paddle
from paddle import nn

from ...errors import UserError, choose
from ...log import LOGGER
from ...models.anatomy import Anatomy
from ...models.catalogue import anatomy_of
from ...weights import WeightsError, digest
from ...weights.manifest import compare
from ...weights.tuned_file import read_header, read_into_memory
from ..before import Before
from ..frozen.layers import prepare_frozen, store_frozen
from ..method import TuningError
from ..slots import Placed, Slots, slots_of
from .answers import Logits, Rows, answers
from .call import Call, Entering, Leaving, Question
from .kinds import Kind, Kinds
from .row import Memory, Row, stamp

SUFFIX = ".safetensors"
TASK = "(bank)"  # what a bank calls itself among a network's slots
Answer = Union[Logits, Rows]


class Bank:
    """One network, many tuned files, and in every batch any mix of them.

        bank = ppadapt.Bank(ppadapt.network("vit_base_patch16", pretrained="mae.pth"))
        bank.add("flowers", "flowers.safetensors")
        bank.add("cars", "cars.safetensors")
        logits = bank(images, ["flowers", "cars", "flowers"])        # [3, C, H, W], one name a sample
        logits = bank(images, [["flowers", "cars"], ["cars"], ...])   # several questions of one image

    The network is frozen and put into eval mode, in place; called by itself it computes what it did before. Several
    threads may ask while others add and remove: a call goes on with the tasks that there were when it began.

    Args:
        network: without a tuning method attached; its own head, if any, is not used.
        anatomy: where the network keeps its parts; None: known for our networks and PaddleClas's.
        max_memory: bytes of tuned tensors that are kept; those that were not used for the longest time are let go,
            and read again when they are asked for. None: all are kept.
        witness: check in every call that each sample met the weights of its task, and no others.

    Raises:
        TuningError: for a network that has a tuning method attached, or matrices in half precision already.
    """

    def __init__(self, network: nn.Layer, anatomy: Optional[Anatomy] = None, max_memory: Optional[int] = None,
                 witness: bool = True):
        slots = slots_of(network)
        if slots is not None:
            what = "a bank" if TASK in slots.tasks else "a tuning method"
            raise TuningError(f"this network has {what} attached already: detach() it first, or build the network anew")
        if max_memory is not None and max_memory < 0:
            raise TuningError(f"max_memory {max_memory} is not allowed: give a number of bytes, or None for no limit")
        self.network, self.witness = network, witness
        self.anatomy = anatomy_of(network) if anatomy is None else anatomy
        self._blocks = [path for path, _ in self.anatomy.named_blocks(network)]
        own = {n: p for n, p in network.named_parameters() if not self.anatomy.is_head(n)}
        half = sorted({str(p.dtype) for p in own.values()} - {str(paddle.float32)})
        if half:
            raise TuningError(f"the network has parameters in {', '.join(half)}, and tuned files say which float32 "
                              "network they are of: make the bank first, then bank.store_frozen(...)")
        self._before = Before(network)
        for parameter in network.parameters():
            parameter.stop_gradient = True
        network.eval()
        prepare_frozen(network, os.environ.get("PPADAPT_PLAIN") != "1")
        self._digest = digest({n: p.numpy() for n, p in own.items()})
        self._frozen_dtype = "float32"
        self._kinds = Kinds(network, self.anatomy)
        self._memory = Memory(network, max_memory)
        self._table: Mapping[str, Row] = {}
        self._built_as = {"backbone": _more({}, {"backbone": getattr(network, "built_as", None)})["backbone"]}
        self._known: dict[str, Any] = self._built_as
        self._said: set[str] = set()
        self._lock = threading.Lock()
        self._slots = Slots()
        # Where a call hooks in whatever the tasks are.
        self._places: list = [(Entering(path), None) for path in self._blocks]
        self._places += [(Leaving(path), None) for path in (self.anatomy.head, *self.anatomy.head_twins)]
        self._open: set[Kind] = set()
        self._layers = network.sublayers(include_self=True)
        self._slots.put(network, TASK, self._places)

    @property
    def tasks(self) -> list[str]:
        """The names, in the order in which they were added."""
        return list(self._table)

    @property
    def preprocess(self) -> Optional[list]:
        """What makes an image ready, as the tuned files say: `transform_ops` of a config; None where none says it."""
        return self._known.get("preprocess")

    @property
    def memory(self) -> int:
        """Bytes of tuned tensors that are kept now."""
        return self._memory.size

    def manifest(self, name: str) -> Mapping[str, Any]:
        """What a task's tuned file says of itself. Raises TuningError for a name that is not known."""
        return self._row(self._table, name).manifest

    def add(self, name: str, file: Union[str, os.PathLike], replace: bool = False) -> None:
        """Put a tuned file under a name; its tensors are read and checked.

        Args:
            replace: take the place of a task of that name, in one step for those who ask meanwhile.

        Raises:
            UserError: for a name that is taken, a file that cannot be read or is damaged, and one that is of another
                network, preprocessing, format, or of a method that cannot be in a bank. The bank is then unchanged.
        """
        with self._lock:
            self._check_name(name, replace)
            path = Path(file)
            if not path.is_file():
                raise WeightsError(f"{path} does not exist. Give a tuned file, such as output/.../best_model"
                                   f"{SUFFIX}")
            now, read = stamp(path), read_into_memory(path)
            row = self._row_of(name, path, now, read[1], {n: array.shape for n, array in read[0].items()}, self._known)
            self._memory.know(row)
            try:
                self._memory.get(row, read)
            except BaseException:
                self._memory.forget(row)
                raise
            self._publish([row])

    def add_folder(self, folder: Union[str, os.PathLike]) -> list[str]:
        """Put every tuned file of a folder under its name without the suffix. Headers alone are read; tensors when
        they are asked for.

        Returns:
            The names.

        Raises:
            UserError: as `add`, naming the file; and for a folder that has none. The bank is then unchanged.
        """
        files = sorted(path for path in Path(folder).glob(f"*{SUFFIX}") if path.is_file())
        if not files:
            raise WeightsError(f"{folder} holds no tuned file (*{SUFFIX})")
        with self._lock:
            rows, known = [], dict(self._known)
            for path in files:
                name = path.name[:-len(SUFFIX)]
                self._check_name(name, replace=False)
                rows.append(self._row_of(name, path, stamp(path), *read_header(path), known))
                known = _more(known, rows[-1].manifest)
            for row in rows:
                self._memory.know(row)
            self._publish(rows)
        return [row.name for row in rows]

    def load(self, name: str) -> None:
        """Read a task's tensors now, where they are not in memory, so that its first answer need not wait.

        Raises:
            UserError: for a name that is not known, and a file that is gone, damaged or another by now.
        """
        self._memory.get(self._row(self._table, name))

    def remove(self, name: str) -> None:
        """Forget a task. Calls that began before end with it. Raises TuningError for a name that is not known."""
        with self._lock:
            row = self._row(self._table, name)
            self._table = {n: r for n, r in self._table.items() if n != name}
            self._memory.forget(row)
            if not self._table:
                self._known = self._built_as

    def store_frozen(self, dtype: str) -> int:
        """Keep the network's matrices in "bfloat16" or "float16": half the memory. Returns how many parameters are.

        Raises:
            TuningError: where the network does not allow it.
        """
        why = self.anatomy.without.get("frozen_dtype")
        if why:
            raise TuningError(f"{type(self.network).__name__} cannot keep its matrices in {dtype}: {why}")
        with self._lock:
            count = store_frozen(self.network, dtype)
            self._frozen_dtype = dtype
            self._memory.clear()  # what tasks add to the network's biases is a difference from what those are now
        return count

    def detach(self) -> nn.Layer:
        """Give the network back as it was before the bank, and return it; the bank is of no use afterwards."""
        with self._lock:
            self._table = {}
            self._before.restore(self.network, ())
        return self.network

    @paddle.no_grad()
    def __call__(self, images: Any, tasks: Union[str, Sequence]) -> Union[Answer, list[Answer]]:
        """Each image's logits under its own task.

        Args:
            images: [N, C, H, W], a tensor or an array, made ready as `preprocess` says.
            tasks: N names; or N lists of names, several questions of each image, which share the part of the network
                below the first block that a task changes; or one name for all images.

        Returns:
            For names: an array [N, classes] where the numbers of classes agree, else a list of N rows. For lists of
            names: a list of N of those. Each says which tuned file answered: `answers.digests`.

        Raises:
            UserError: for a name that is not known, another number of images than of tasks, and a network that is in
                train mode.
            RoutingError: when a sample met the weights of another task, which a fault of ppadapt's would cause.
        """
        table = self._table
        images = paddle.to_tensor(images)
        if "float" not in str(images.dtype):
            raise TuningError(f"images are {images.dtype}: they must be float32, made ready as the tuned files say "
                              "(bank.preprocess)")
        images = images.astype("float32")
        tasks = [tasks] * images.shape[0] if isinstance(tasks, str) else list(tasks)
        if len(tasks) != images.shape[0]:
            raise TuningError(f"there are {images.shape[0]} images (of shape {list(images.shape)}) and {len(tasks)} "
                              "tasks: give one name, or one list of names, an image")
        several = [not isinstance(asked, str) for asked in tasks]
        if any(several) and not all(several):
            raise TuningError("give one name an image, or one list of names an image, not some of each")
        loaded: dict[Row, Any] = {}
        questions = []
        for image, asked in enumerate(tasks):
            for name in ([asked] if isinstance(asked, str) else asked):
                row = self._row(table, name)
                if row not in loaded:
                    loaded[row] = self._memory.get(row)
                questions.append(Question(image, row, loaded[row]))
        found = self._compute(images, questions)
        names = [question.row.name for question in questions]
        digests = [question.loaded.digest for question in questions]
        if not any(several):
            return answers(found, names, digests)
        ends = np.cumsum([0, *map(len, tasks)])
        return [answers(found[a:b], names[a:b], digests[a:b]) for a, b in zip(ends, ends[1:])]

    def _compute(self, images: paddle.Tensor, questions: list[Question]) -> list[np.ndarray]:
        """The logits of each question."""
        if not questions:
            return []
        if any(layer.training for layer in self._layers):
            raise TuningError("the network is in train mode: call network.eval() before the bank is asked")
        if slots_of(self.network) is not self._slots:
            raise TuningError("the bank was detached from its network: make a bank anew")
        call = Call(self.anatomy, self._blocks, questions)
        with self._slots.using(Placed(call.sides())):
            try:
                logits = self.network(call.begin(images))
            except AssertionError as error:  # so PaddleClas's networks refuse images of another size
                raise TuningError(f"{type(self.network).__name__}: {error} Resize the images") from error
        logits = logits.astype("float32").numpy()
        if self.witness:
            call.check(logits)
        return [row[:question.row.classes] for row, question in zip(logits, questions)]

    def _check_name(self, name: str, replace: bool) -> None:
        if not isinstance(name, str) or not name:
            raise TuningError(f"a task's name is a text that is not empty, and not {name!r}")
        if name in self._table and not replace:
            raise TuningError(f"there is a task {name!r} already, of {self._table[name].path}: remove it first, give "
                              "another name, or replace=True")

    def _row_of(self, name: str, path: Path, now: tuple[int, int], manifest: Mapping[str, Any],
                shapes: Mapping[str, tuple[int, ...]], known: Mapping[str, Any]) -> Row:
        """The row of a file with this header, which is checked; nothing is changed."""
        theirs = {section: manifest.get(section) for section in ("backbone", "preprocess")}
        alone = not self._table.keys() - {name}
        known = self._built_as if alone else known
        built_as = {"frozen_dtype": self._frozen_dtype, **known["backbone"]} if known["backbone"] else {}
        wanted = {"backbone": {"digest": self._digest, **built_as}, "preprocess": known.get("preprocess")}
        compared = compare(theirs, wanted)
        compared.raise_if_different(path)
        for warning in set(compared.warnings) - self._said:
            LOGGER.warning("task %s: %s: %s (said once, though it may be so of further files)", name, path, warning)
            self._said.add(warning)
        try:
            kind, heads = self._kinds.kind(manifest, shapes), self._kinds.head(manifest, shapes)
        except UserError as error:
            raise type(error)(f"{path}: {error}") from None
        return Row(name, path, manifest, shapes, kind, heads, now, manifest.get("digest") or "")

    def _publish(self, rows: Sequence[Row]) -> None:
        """Open the hooks that the rows need, then make them known, all in one assignment."""
        kinds = {row.kind for row in rows} - self._open
        self._places += [(branch.place, branch.layer) for kind in kinds for branch in kind.branches]
        if any(kind.has_tokens for kind in kinds):
            paths = {path for path, _ in self.network.named_sublayers()}
            self._places += [(Leaving(path), None) for path in (
                f"{block}.{self.anatomy.attn_drop}" for block in self._blocks) if path in paths]
        if kinds:
            self._slots.put(self.network, TASK, self._places)
            self._open |= kinds
        gone = [self._table[row.name] for row in rows if row.name in self._table]
        self._table = {**self._table, **{row.name: row for row in rows}}
        for row in gone:
            self._memory.forget(row)
        for row in rows:
            self._known = _more(self._known, row.manifest)

    @staticmethod
    def _row(table: Mapping[str, Row], name: Any) -> Row:
        if not isinstance(name, str) or name not in table:
            raise TuningError(choose("task", name, table))
        return table[name]


def _more(known: Mapping[str, Any], manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of network and preprocessing, with what this manifest says of it that was not."""
    backbone = manifest.get("backbone") or {}
    options = {key: value for key, value in backbone.items() if key in ("family", "options")}
    preprocess = known.get("preprocess")
    return {"backbone": {**options, **known.get("backbone", {})},
            "preprocess": manifest.get("preprocess") if preprocess is None else preprocess}
