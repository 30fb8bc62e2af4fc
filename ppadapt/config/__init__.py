"""YAML -> checked configuration, in PaddleClas's sections.

Three rules: `_base_: file.yaml` (or a list) is read first and merged into; `-o A.b=c` changes one value
(list items by their index); a mapping whose `name` changes keeps what the new name takes, and a note says what went.
Keys of a fixed section are checked here, options that belong to a `name` where the named thing is built.

    sections   what there is                          merging    one over the other, names that change
    reading    a file and its bases as plain data     overrides  -o
    places     output paths of a stranger's folder    paddleclas what its configs say beyond ours
"""
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Mapping, Sequence, Union

from ..errors import ConfigError, choose
from ..options import check_options, construct, section
from . import overrides as changes
from .merging import settle
from .overrides import values
from .paddleclas import translate
from .places import forget_places
from .reading import plain, read
from .sections import AMP, EMA, Arch, Config, DataLoader, Global, Infer, Loss, Metric, Sampler, Side, WorkerOptions

__all__ = ["AMP", "EMA", "Arch", "Config", "DataLoader", "Global", "Infer", "Loss", "Metric", "Sampler", "Side",
           "WorkerOptions", "check_options", "construct", "load", "parse", "values"]


def load(path: Union[str, Path], overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file, apply `-o` overrides ("Global.epochs=5") and check it.

    What was dropped or kept where it may surprise is in the `notes` of the result.

    Raises:
        ConfigError: in one line, for a missing file, bad YAML, an unknown key or a value that is not allowed.
    """
    tree = read(Path(path))
    forgotten = forget_places(tree, Path(path), overrides)
    for override in overrides:
        tree = changes.apply(tree, override)
    tree, notes = settle(tree)
    notes += translate(tree)
    config = parse(tree, str(path))
    config.notes = (*forgotten, *notes)
    return config


def parse(tree: Mapping[str, Any], source: str = "the config") -> Config:
    """Check plain data. Raises ConfigError as `load`."""
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{source} is a {type(tree).__name__}: it must hold sections")
    tree = plain(tree, source)
    arch = tree.get("Arch")
    if isinstance(arch, Mapping):
        known = {f.name for f in dataclasses.fields(Arch)} - {"options"}
        options = {k: v for k, v in arch.items() if k not in known}
        if "options" in options:
            raise ConfigError(f"{source}: " + choose("key", "Arch.options", (f"Arch.{name}" for name in sorted(known)))
                              + " The network's own options stand beside them: Arch.img_size=224")
        tree["Arch"] = {**{k: v for k, v in arch.items() if k in known}, "options": options}
    return section(Config, tree, "", source)
