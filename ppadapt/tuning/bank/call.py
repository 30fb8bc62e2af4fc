"""One forward of the network for a mix of tasks.

The samples are sorted by kind, so that those of a kind stand side by side: a *group*. At every layer where some kind
acts, the hook hands the batch to `Call.enter` or `Call.leave`, which let each group's branches act on its own slice.

A question is an image and a task. Where one image is asked for several tasks, it is one row of the batch until the
first block that one of its tasks changes; there it becomes a row for that question, and the rest of its questions go
on sharing a row. What is asked in which order, and which image belongs to it, is known by the numbers of questions
that travel with the rows.

Where groups have different numbers of prompt tokens, the shorter are filled up in front with copies of their first
token, which no token of theirs attends to.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional, Sequence

import numpy as np
import paddle
from paddle import nn

from ...models.anatomy import Anatomy
from ..method import TuningError
from ..per_sample import stack, twin
from ..slots import Place, Tokens
from .kinds import Branch, Kind
from .row import WITNESS, Loaded, Row


class RoutingError(RuntimeError):
    """A sample met weights that are not those of its task: nothing is answered. It is a fault of ppadapt's."""


class Entering(Place):
    """In front of a layer, with a `Call` in the place of a branch."""

    def __init__(self, layer: str):
        self.opens = layer

    def enter(self, branch, x):
        return branch.enter(self.opens, x)


class Leaving(Place):
    """Behind a layer, with a `Call` in the place of a branch."""

    def __init__(self, layer: str):
        self.closes = layer

    def leave(self, branch, x, y):
        return branch.leave(self.closes, x, y)


@dataclass(frozen=True)
class Question:
    """An image, by its index, and the task that it is asked for: its row in the table and that row's tensors."""

    image: int
    row: Row
    loaded: Loaded


@dataclass(eq=False)
class Group:
    """Samples of one kind, rows `start` to `stop` of the batch; kind None: of questions that share a row still.

    Attributes:
        questions: numbers of the questions, row by row; empty where they share rows.
        tokens: how many tokens stand in front of the image's own.
        made: branches with these samples' weights, while they are at work.
    """

    kind: Optional[Kind]
    start: int
    stop: int
    questions: list[int] = field(default_factory=list)
    tokens: int = 0
    made: dict[Branch, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """The rows from some block on.

    Attributes:
        index: the rows before, or the images, that they go on from.
        sources: what those are: the number of a question, or, of an image that questions share, -1 - its index.
        rows: what these are, likewise.
    """

    index: list[int]
    sources: list[int]
    rows: list[int]
    groups: list[Group]


class Call:
    """What is known during one forward; made for it, used by one thread, and thrown away.

    Args:
        questions: in the order in which they are asked.
        blocks: paths of the blocks, in order.
    """

    def __init__(self, anatomy: Anatomy, blocks: Sequence[str], questions: Sequence[Question]):
        self.questions, self.blocks, self.attention = questions, blocks, anatomy.attn_drop
        self.heads, self.shares = (anatomy.head, *anatomy.head_twins), "shared_prefix" not in anatomy.without
        self._ranks: dict[Any, int] = {}  # of kinds and of rows: the order in which they are asked first
        for question in questions:
            self._ranks.setdefault(question.row.kind, len(self._ranks))
            self._ranks.setdefault(question.row, len(self._ranks))
        self.stages = self._plan()
        self.rows: Optional[paddle.Tensor] = None
        self.groups: list[Group] = []
        self.tokens = 0
        self.seen: list[tuple[Branch, list[int], paddle.Tensor]] = []
        self.unmasked: set[str] = set()
        self.began: list[tuple[Stage, paddle.Tensor]] = []

    # What is to be done, known before it begins.

    def _plan(self) -> dict[int, Stage]:
        """Stages by the block in front of which they begin; -1: in front of the network; the last gives each
        question a row, in the order asked.
        """
        last = len(self.blocks)
        of_image: dict[int, list[int]] = {}
        for number, question in enumerate(self.questions):
            of_image.setdefault(question.image, []).append(number)
        # A question that is alone with its image needs no row to share.
        begins = {number: -1 if len(numbers) == 1 or not self.shares else self.questions[number].row.kind.first
                  for numbers in of_image.values() for number in numbers}
        stages: dict[int, Stage] = {}
        before = [-1 - image for image in range(1 + max(of_image))]
        for at in sorted({-1, *begins.values()} - {last}):
            shared = [image for image, numbers in of_image.items() if any(begins[n] > at for n in numbers)]
            own = sorted((n for n in begins if begins[n] <= at), key=self._order)
            rows = [-1 - image for image in shared] + own
            groups = [Group(None, 0, len(shared))] if shared else []
            for row, number in enumerate(own, len(shared)):
                kind = self.questions[number].row.kind
                if not groups or groups[-1].kind is not kind:
                    groups.append(Group(kind, row, row))
                groups[-1].stop += 1
                groups[-1].questions.append(number)
            stages[at] = self._stage(before, rows, groups)
            before = rows
        numbers = list(range(len(self.questions)))
        stages[last] = self._stage(before, numbers, [Group(None, 0, len(numbers), numbers)])
        return stages

    def _order(self, number: int) -> tuple[int, int]:
        row = self.questions[number].row
        return self._ranks[row.kind], self._ranks[row]

    def _stage(self, before: list[int], rows: list[int], groups: list[Group]) -> Stage:
        """These rows, each from itself where it was there before, else from the row of its image."""
        places = {row: i for i, row in enumerate(before)}
        sources = [row if row in places else -1 - self.questions[row].image for row in rows]
        return Stage([places[source] for source in sources], sources, rows, groups)

    def sides(self) -> list[tuple[Place, Call]]:
        """Where hooks are to call back."""
        mixed = {group.kind for at, stage in self.stages.items() if at < len(self.blocks) for group in stage.groups}
        kinds = mixed - {None}
        before = {path for kind in kinds for path in kind.before}
        before |= {self.blocks[at] for at in self.stages if 0 <= at < len(self.blocks)}
        after = {path for kind in kinds for path in kind.after} | set(self.heads)
        if any(kind.has_tokens for kind in kinds) and len(mixed) > 1:
            before |= set(self.blocks)
            after |= {f"{block}.{self.attention}" for block in self.blocks}
        return [(Entering(path), self) for path in before] + [(Leaving(path), self) for path in after]

    # What happens meanwhile.

    def begin(self, images: paddle.Tensor) -> paddle.Tensor:
        """The batch that the network is given, of the images [N, ...]."""
        self.rows = -1 - paddle.arange(images.shape[0])
        return self._go_on(self.stages[-1], images)

    def enter(self, path: str, x: paddle.Tensor) -> paddle.Tensor:
        """What a layer is given in the place of x."""
        at = self.blocks.index(path) if path in self.blocks else None
        if at in self.stages:
            x = self._go_on(self.stages[at], x)
        x = self._act(path, [group.kind.before.get(path, []) if group.kind else [] for group in self.groups], x)
        if at is not None and len({group.tokens for group in self.groups}) > 1:
            self.unmasked.add(path)
        return x

    def leave(self, path: str, x: paddle.Tensor, y: paddle.Tensor) -> paddle.Tensor:
        """What a layer returns in the place of y; x is what it was given."""
        if path in self.heads:
            return self._answer(path, x)
        if path.endswith(f".{self.attention}"):
            self.unmasked.discard(path[:-len(self.attention) - 1])
            return self._mask(y)
        return self._act(path, [group.kind.after.get(path, []) if group.kind else [] for group in self.groups], y, x)

    def _go_on(self, stage: Stage, x: paddle.Tensor) -> paddle.Tensor:
        self._images_in(x, "a block")
        tokens = {group.kind: group.tokens for group in self.groups}
        for group in stage.groups:
            group.tokens = tokens.get(group.kind, 0)
        self.groups = stage.groups
        x = self._pick(stage, x)
        self.rows = paddle.to_tensor(stage.rows, "int64")
        return x

    def _pick(self, stage: Stage, x: paddle.Tensor) -> paddle.Tensor:
        """The rows of x that a stage goes on from. What they were goes the same way as x, and is put down."""
        if stage.index == list(range(x.shape[0])):
            self.began.append((stage, self.rows))
            return x
        index = paddle.to_tensor(stage.index, "int64")
        self.began.append((stage, paddle.gather(self.rows, index)))
        return paddle.gather(x, index)

    def _act(self, path: str, acting: list[list[Branch]], value: paddle.Tensor,
             given: Optional[paddle.Tensor] = None) -> paddle.Tensor:
        """Let each group's branches act on its rows of `value`: what a layer is given, or, where `given` says what
        that was, what it returned.
        """
        if not any(acting):
            return value
        each = self._images_in(value, path)
        moves_tokens = any(isinstance(branch.place, Tokens) for branches in acting for branch in branches)
        filled = [self.tokens - group.tokens if moves_tokens else 0 for group in self.groups]

        def rows(x: paddle.Tensor, number: int) -> paddle.Tensor:
            group = self.groups[number]
            x = x if len(self.groups) == 1 else x[group.start * each:group.stop * each]
            return x[:, filled[number]:] if filled[number] else x

        parts: dict[int, paddle.Tensor] = {}
        for number, branches in enumerate(acting):
            if branches:
                before = part = rows(value, number)
                seen = None if given is None else rows(given, number)
                for branch in branches:
                    part = self._one(self.groups[number], branch, part, seen)
                if part is not before:
                    parts[number] = part
        if not parts:
            return value
        every = [parts[number] if number in parts else rows(value, number) for number in range(len(self.groups))]
        if moves_tokens:
            self.tokens = max(group.tokens for group in self.groups)
            every = [_fill_up(part, self.tokens - group.tokens) for group, part in zip(self.groups, every)]
        return every[0] if len(every) == 1 else paddle.concat(every)

    def _one(self, group: Group, branch: Branch, value: paddle.Tensor, given: Optional[paddle.Tensor]) -> paddle.Tensor:
        """What one branch makes of a group's rows, before a layer (nothing was given to it yet) or after it."""
        if branch not in group.made:
            group.made[branch] = self._with_weights(branch, group.questions)
        layer, place = group.made[branch], branch.place
        moved = layer.count if isinstance(place, Tokens) else 0
        if given is None:
            value, done = place.enter(layer, value), not place.closes
            group.tokens += moved
        else:
            left = place.leave(layer, given, value)
            done = left is not None
            value = left if done else value
            group.tokens -= moved
        if done:
            del group.made[branch]
        return value

    def _with_weights(self, branch: Branch, numbers: list[int]) -> Any:
        """The branch with the weights of these questions, in their order; their witnesses are put down."""
        weights = [self.questions[number].loaded.weights[branch] for number in numbers]
        distinct = list({id(w): w for w in weights}.values())
        if len(distinct) == 1:
            self.seen.append((branch, numbers, distinct[0][WITNESS]))
            return twin(branch.layer, distinct[0])
        stacked = stack(weights) if branch.stacks else stack([{WITNESS: w[WITNESS]} for w in weights])
        self.seen.append((branch, numbers, stacked[WITNESS]))
        if branch.stacks:
            return _PerSample(twin(branch.layer, stacked, stacked=True), len(numbers))
        counts = [sum(w is one for w in weights) for one in distinct]  # those of a task stand side by side
        return _PerTask([twin(branch.layer, one) for one in distinct], counts)

    def _images_in(self, x: paddle.Tensor, path: str) -> int:
        """How many of x's first axis belong to each row: 1, or, of images cut into windows, more."""
        rows = self.rows.shape[0]
        if x.shape[0] % rows:
            raise TuningError(f"{path} sees {x.shape[0]} things for {rows} samples, so that they cannot be told apart: "
                              "this network does not work in a bank")
        return x.shape[0] // rows

    def _mask(self, attention: paddle.Tensor) -> paddle.Tensor:
        """Attention [n, heads, L, L] without weight on the tokens that only fill up; rows sum to 1 again."""
        if len({group.tokens for group in self.groups}) < 2:
            return attention
        each, parts = self._images_in(attention, self.attention), []
        for group in self.groups:
            part, filled = attention[group.start * each:group.stop * each], self.tokens - group.tokens
            if filled:
                kept = part[:, :, :, filled:]
                kept = kept / kept.sum(axis=-1, keepdim=True)
                part = paddle.concat([paddle.zeros_like(part[:, :, :, :filled]), kept], axis=-1)
            parts.append(part)
        return paddle.concat(parts)

    def _answer(self, path: str, features: paddle.Tensor) -> paddle.Tensor:
        """Logits [questions, most classes + 1] of features [rows, D], each by its own task's head, in the order asked;
        behind them the number of the question, which `check` wants to see again.
        """
        if self._images_in(features, path) != 1:
            raise TuningError(f"{path} sees {features.shape[0]} features for {self.rows.shape[0]} samples: this "
                              "network does not work in a bank")
        features = self._pick(self.stages[len(self.blocks)], features)
        groups: dict[Branch, list[int]] = {}
        for number, question in enumerate(self.questions):
            groups.setdefault(question.row.heads[path], []).append(number)
        most = max(question.row.classes for question in self.questions)
        parts, order = [], []
        for branch, numbers in groups.items():
            numbers = sorted(numbers, key=self._order)
            own = paddle.gather(features, paddle.to_tensor(numbers, "int64"))
            logits = self._with_weights(branch, numbers)(own).astype("float32")
            behind = np.zeros([len(numbers), most + 1 - logits.shape[1]], "float32")
            behind[:, -1] = numbers
            parts.append(paddle.concat([logits, paddle.to_tensor(behind)], axis=1))
            order += numbers
        return paddle.gather(paddle.concat(parts), paddle.to_tensor(np.argsort(order), "int64"))

    # Whether all went as it should.

    def check(self, logits: np.ndarray) -> None:
        """Compare what every question met with what it was to meet; `logits` are what the network returned.

        Raises:
            RoutingError: when they differ.
            TuningError: when the network never called a layer at which a task acts, or cannot mix these tasks.
        """
        rows = [question.row for question in self.questions]
        secrets = np.array([row.secret for row in rows])
        met = paddle.concat([witness.flatten() for _, _, witness in self.seen]).numpy() if self.seen else secrets
        acted: dict[Branch, np.ndarray] = {}
        position = 0
        for branch, numbers, witness in self.seen:
            found = met[position:position + witness.size]
            position += witness.size
            wrong = np.flatnonzero(found != secrets[numbers] + branch.number)
            if len(wrong):
                number = numbers[wrong[0]]
                raise RoutingError(f"question {number} ({rows[number].name}) met other weights than those of its task "
                                   f"at {branch.place}: nothing is answered")
            acted.setdefault(branch, np.zeros(len(rows), bool))[numbers] = True
        for stage, sources in self.began:
            if sources.numpy().tolist() != stage.sources:
                raise RoutingError(f"rows go on from {sources.numpy().tolist()} and not from {stage.sources} "
                                   "(questions by number, images by -1 - index): nothing is answered")
            for group in stage.groups:
                if group.questions and stage.rows[group.start:group.stop] != group.questions:
                    raise RoutingError(f"questions {stage.rows[group.start:group.stop]} stand where {group.questions} "
                                       "should: nothing is answered")
        if self.unmasked:
            raise TuningError(f"{min(self.unmasked)} does not call {self.attention} with its attention's "
                              "weights, so that tasks with different numbers of prompts cannot share a batch: ask for "
                              "them one after another, or say where it is with an Anatomy")
        for number, row in enumerate(rows):
            idle = [branch.place for branch in row.branches if branch not in acted or not acted[branch][number]]
            if idle:
                raise TuningError(f"task {row.name!r} acts at layers that the network never called: "
                                  f"{', '.join(map(str, idle[:3]))}. Describe the network with an Anatomy")
        if logits.shape[0] != len(rows) or (logits[:, -1] != np.arange(len(rows))).any():
            raise RoutingError(f"the network answered questions {logits[:, -1].tolist()} and not 0 to {len(rows) - 1}, "
                               "one after another: nothing is answered")


class _PerSample:
    """A branch with a weight for each of n samples; x is [n k, ..., C], k things in a row a sample."""

    def __init__(self, layer: nn.Layer, count: int):
        self.layer, self.samples = layer, count

    @property
    def count(self) -> int:
        return self.layer.count

    def __call__(self, x):
        if x.ndim == 3 and x.shape[0] == self.samples:
            return self.layer(x)
        y = self.layer(x.reshape([self.samples, -1, x.shape[-1]]))
        return y.reshape([*x.shape[:-1], y.shape[-1]])


class _PerTask:
    """Branches of several tasks, each for as many samples in a row as `counts` says."""

    def __init__(self, layers: Sequence[nn.Layer], counts: Sequence[int]):
        self.layers, self.counts = list(layers), list(counts)

    @property
    def count(self) -> int:
        return self.layers[0].count

    def __call__(self, x):
        each = x.shape[0] // sum(self.counts)
        parts = paddle.split(x, [count * each for count in self.counts])
        return paddle.concat([layer(part) for layer, part in zip(self.layers, parts)])


def _fill_up(x: paddle.Tensor, count: int) -> paddle.Tensor:
    """`count` copies of the first token of x [n, L, D] in front of it."""
    return paddle.concat([x[:, :1]] * count + [x], axis=1) if count else x
