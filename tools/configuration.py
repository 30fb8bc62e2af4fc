"""Every option of a config, as docs/configuration.md: read from the code that checks them.

    python tools/configuration.py > docs/configuration.md
"""
from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import re
import sys
import typing
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Mapping, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ppadapt.config import sections
from ppadapt.data import DATASETS, TRANSFORMS
from ppadapt.data.batch_transforms import BATCH_TRANSFORMS
from ppadapt.engine.optim import build_optimizer
from ppadapt.engine.schedules import PADDLECLAS, Schedule
from ppadapt.models.heads import HEADS
from ppadapt.models.vit import VITS
from ppadapt.options import kinds_and_ranges
from ppadapt.tasks import TASKS
from ppadapt.tuning import METHODS

INTRO = """\
# Configuration

<!-- Written from the code by `python tools/configuration.py > docs/configuration.md`: change docstrings and hints. -->

A config is a YAML file in PaddleClas's sections, and `Tuning` and `Task` beside them. `ppadapt configs` lists those
that ship; `-c digits/vit_micro_adaptformer` takes one of them, `-c my.yaml` your own.

* `_base_: file.yaml`, or a list of files, is read first; what stands below is merged over it.
* `-o Section.key=value` changes one value; an item of a list by its index, `-o Metric.Eval.0.TopkAcc.topk=[1]`.
* A mapping whose `name` changes keeps the options that the new name takes; the log says which are kept and dropped.

An option that is not known is refused with the nearest one, a value out of its range with the range. Every default is
here; a run's folder has all values in its `config.yaml`. What of a PaddleClas config is read:
[from_paddleclas.md](from_paddleclas.md).
"""


def document() -> str:
    """The whole page."""
    parts = [INTRO]
    for name in ("Global", "Arch", "AMP", "EMA"):
        parts.append(_section(name, getattr(sections, name)))
        if name == "Arch":
            parts.append(_networks())
    parts.append(_family("Tuning", METHODS, "A method, or a list of methods that go together. Which to choose: "
                         "[methods.md](methods.md)."))
    parts.append(_family("Task", TASKS, "What is asked of an image ([tasks.md](tasks.md)); SingleLabel by default.", (
        "losses", "metrics")))
    for part, what in (("losses", "Loss"), ("metrics", "Metric")):
        parts.append(f"## {what}\n\n`Train` and `Eval`: lists of one-entry mappings, `- Name: {{option: value}}`; left "
                     "out, they are the task's own.")
        for kind, task in TASKS.items():
            parts.append(_choices({f"{kind}: {n}": make for n, make in getattr(task, part).items()}, ("threshold",)))
    parts.append("## Optimizer\n\n`name` is a class of `paddle.optimizer` (`Momentum` by default; `AdamW`, `SGD`, "
                 "`Lamb` ...), whose own options stand beside it (`momentum`, `beta1`, `weight_decay` ...). For all of "
                 "them:\n\n"
                 + _table(build_optimizer, ("parameters", "schedule", "name", "options")))
    parts.append("### Optimizer.lr\n\n" + _prose(inspect.getdoc(Schedule)) + "\n\n"
                 + _table(Schedule.__init__, ("self", "steps_per_epoch", "epochs", "batch_size", "name", "options"),
                          inspect.getdoc(Schedule)))
    parts.append("`name` is one of these, PaddleClas's, or a class of `paddle.optimizer.lr` with that class's "
                 "options:\n\n"
                 + _choices(PADDLECLAS, ("span",)))
    parts.append("## DataLoader\n\n`Train` and `Eval` hold `dataset`, `sampler` and `loader`.")
    parts.append("### dataset\n\nBeside the options of its `name`, a data set takes `transform_ops` (a list of "
                 "operators, below), `batch_transform_ops` (for training), `holdout` (a share of the training "
                 "data that is kept apart: `holdout: 0.1`, `split: holdout` evaluates on it) and `split` (`train` or "
                 "`test`; by default that of the side).\n\n" + _choices(DATASETS, ("transform", "seed", "split")))
    parts.append("### transform_ops\n\nOperators in PaddleClas's names and form, `- Name: {option: value}`.\n\n"
                 + _choices(TRANSFORMS))
    parts.append("### batch_transform_ops\n\n" + _choices(BATCH_TRANSFORMS))
    parts.append(_section("sampler", sections.Sampler, 3))
    parts.append(_section("loader", sections.WorkerOptions, 3))
    parts.append(_section("Infer", sections.Infer))
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _section(title: str, kind: type, level: int = 2) -> str:
    rows = []
    hints = typing.get_type_hints(kind, include_extras=True)
    said = _arguments(inspect.getdoc(kind), hints)
    for field in dataclasses.fields(kind):
        if field.name == "options":
            continue
        default = (field.default if field.default is not dataclasses.MISSING
                   else inspect.Parameter.empty if field.default_factory is dataclasses.MISSING
                   else field.default_factory())
        rows.append((field.name, hints[field.name], default, said.get(field.name, "")))
    return f"{'#' * level} {title}\n\n{_prose(inspect.getdoc(kind))}\n\n{_rows(rows)}"


def _family(title: str, choices: Mapping[str, Callable], says: str, hidden: Sequence[str] = ()) -> str:
    return f"## {title}\n\n{says}\n\n{_choices(choices, hidden)}"


def _choices(choices: Mapping[str, Callable], hidden: Sequence[str] = ()) -> str:
    parts = []
    for name, make in choices.items():
        text, table = inspect.getdoc(make) or "", _table(make, ("self", *hidden))
        parts.append(f"**{name}**: {_prose(text)}" + (f"\n\n{table}" if table else ""))
    return "\n\n".join(parts)


def _networks() -> str:
    sizes = [f"* `{name}` ({', '.join(f'{key} {value}' for key, value in make.keywords.items())})"
             for name, make in VITS.items()]
    make = next(iter(VITS.values())).func
    heads = ", ".join(f"`{name}`" for name in HEADS)
    return ("### Arch.name\n\nOurs, and what they are made of:\n\n" + "\n".join(sizes) + "\n\nWith PaddleClas "
            "installed also the names of [backbones.md](backbones.md), which take that network's own options. "
            f"`head` is {heads} or `Pretrained`, the network's own classifier.\n\nOurs take:\n\n"
            + _table(make, ("self", "class_num")))


def _table(make: Callable, hidden: Sequence[str], text: str = "") -> str:
    target = getattr(make, "func", make)
    function = target.__init__ if inspect.isclass(target) else target
    if function is object.__init__:
        return ""
    hints = typing.get_type_hints(function, include_extras=True)
    bound = getattr(make, "keywords", {})
    parameters = [p for name, p in inspect.signature(function).parameters.items()
                  if name not in ("self", *hidden, *bound) and p.kind is not p.VAR_KEYWORD]
    names, said = [p.name for p in parameters], {}
    for kind in reversed(inspect.getmro(target)[:-1]) if inspect.isclass(target) else (target,):
        said.update(_arguments(inspect.cleandoc(text or kind.__doc__ or ""), names))
    rows = [(p.name, hints.get(p.name, Any), p.default, said.get(p.name, "")) for p in parameters]
    return _rows(rows)


def _rows(rows: Sequence[tuple]) -> str:
    if not rows:
        return ""
    told = any(says for *_, says in rows)
    lines = ["| option | is | by default |" + " |" * told, "|---|---|---|" + "---|" * told]
    for name, hint, default, says in rows:
        shown = "*needed*" if default is inspect.Parameter.empty else f"`{_value(default)}`"
        lines.append(f"| `{name}` | {_kind(hint)} | {shown} |" + f" {_cell(says)} |" * told)
    return "\n".join(lines)


def _kind(hint: Any) -> str:
    words = {str: "text", bool: "True or False", int: "whole number", float: "number", list: "list", tuple: "list",
             dict: "mapping", type(None): "null"}
    said = []
    for kind, range_ in kinds_and_ranges(hint):
        word = words.get(kind, getattr(kind, "__name__", "any"))
        said.append(word + (f" {range_}" if range_ else ""))
    return ", ".join(dict.fromkeys(said)) if said and "Any" not in said else "any"


def _value(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, tuple):
        value = list(value)
    return str(value) if isinstance(value, (bool, str, float)) else json.dumps(value)


def _plain(text: str) -> str:
    return text.replace("``", "`")


def _prose(text: str) -> str:
    """A docstring up to its list of arguments."""
    return re.split(r"\n(?:Args|Attributes|Raises|Returns):\n", "\n" + _plain(text).strip() + "\n")[0].strip()


def _arguments(text: str, names: Iterable[str]) -> dict[str, str]:
    """Argument of these names -> what the docstring says of it."""
    one = "|".join(map(re.escape, names)) or "-"
    start = re.compile(rf"(?:^|(?<=[.;] ))((?:{one})(?:, (?:{one}))*): ")
    match = re.search(r"^(?:Args|Attributes):\n((?:[ ]+.*\n?|\n)+)", _plain(text), re.MULTILINE)
    found: dict[str, str] = {}
    for entry in _entries(match.group(1) if match else ""):
        # Several may stand in one line: "rank: r. alpha: the update is ..."
        parts = start.split(entry)
        for those, says in zip(parts[1::2], parts[2::2]):
            found.update(dict.fromkeys(those.split(", "), says.strip()))
    return found


def _entries(block: str) -> Iterator[str]:
    indent = min((len(line) - len(line.lstrip()) for line in block.splitlines() if line.strip()), default=0)
    entry = ""
    for line in block.splitlines():
        if line[indent:indent + 1].strip():
            if entry:
                yield entry
            entry = line.strip()
        else:
            entry = f"{entry} {line.strip()}"
    if entry:
        yield entry


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    sys.stdout.reconfigure(encoding="utf-8")
    sys.stdout.write(document())
