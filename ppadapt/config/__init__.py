"""YAML -> checked configuration, in PaddleClas's sections.

Three rules: `_base_: file.yaml` (or a list) is read first and merged into; `-o A.b=c` changes one value
(list items by their index); a mapping whose `name` changes keeps what the new name takes, and a note says what went.
Keys of a fixed section are checked here, options that belong to a `name` where the named thing is built.

    sections   what there is                          merging    one over the other, names that change
    reading    a file and its bases as plain data     overrides  -o
    places     output paths of a stranger's folder    paddleclas what its configs say beyond ours
    shipped    those that come with the package, by name
"""
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Mapping, Sequence, Union

from ..errors import ConfigError, choose, together
from ..options import check_options, construct, section
from ..version import __version__
from . import overrides as changes
from .merging import settle
from .overrides import values
from .paddleclas import translate
from .places import forget_places
from .reading import plain, read
from .sections import AMP, EMA, Arch, Config, DataLoader, Global, Infer, Loss, Metric, Sampler, Side, WorkerOptions
from .shipped import find, is_shipped, name_of

__all__ = ["AMP", "EMA", "Arch", "Config", "DataLoader", "Global", "Infer", "Loss", "Metric", "Sampler", "Side",
           "WorkerOptions", "check_options", "construct", "find", "load", "parse", "values"]


def load(path: Union[str, Path], overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file, apply `-o` overrides ("Global.epochs=5") and check it.

    What was dropped or kept where it may surprise is in the `notes` of the result, what it was read from in its
    `facts`, and the file itself is its `source`.

    Args:
        path: of a file, or the name of a config that ships ("digits/vit_micro_adaptformer").

    Raises:
        ConfigError: in one line, for a missing file or bad YAML; naming all unknown keys and names, and all values that
            are not allowed, where there is a key or a value of that kind.
    """
    path = find(path)
    tree, files = read(path)
    forgotten = forget_places(tree, path, overrides)
    for override in overrides:
        tree = changes.apply(tree, override)
    forgotten += changes.given_twice(overrides)
    tree, notes = settle(tree)
    more, refused = translate(tree)
    try:
        config = parse(tree, str(path))
    except ConfigError as error:
        raise ConfigError(together([str(error), *refused, *_complaints(tree)])) from None
    if refused:
        raise ConfigError(together([f"{path}: {refused[0]}", *refused[1:], *_complaints(tree)]))
    # Of this one object, and no sections: `to_dict` and comparisons know nothing of them.
    vars(config).update(source=path, notes=(*forgotten, *notes, *more), facts=(_told(path, files),))
    return config


def _told(path: Path, files: Sequence[Path]) -> str:
    """What a config was read from, and what of it comes with the package."""
    if is_shipped(path):
        return f"config {name_of(path)}: {path}, which ships with ppadapt {__version__}"
    based = [file.name for file in files if is_shipped(file)]
    return f"config: {path}" + f", based on {', '.join(based)}, which ship with ppadapt {__version__}" * bool(based)


def _complaints(tree: Mapping[str, Any]) -> list[str]:
    """What is wrong with the names in a config that cannot be read as it is: all is said at once."""
    from ..build import complaints  # only here, for it imports all that can be named

    return complaints(tree)


def parse(tree: Mapping[str, Any], source: str = "the config") -> Config:
    """Check plain data. Raises ConfigError as `load`."""
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{source} is a {type(tree).__name__}: it must hold sections")
    data: dict[str, Any] = plain(tree, source)
    arch = data.get("Arch")
    if isinstance(arch, Mapping):
        known = {f.name for f in dataclasses.fields(Arch)} - {"options"}
        options = {k: v for k, v in arch.items() if k not in known}
        if "options" in options:
            raise ConfigError(f"{source}: " + choose("key", "Arch.options", (f"Arch.{name}" for name in sorted(known)))
                              + " The network's own options stand beside them: Arch.img_size=224")
        data["Arch"] = {**{k: v for k, v in arch.items() if k in known}, "options": options}
    return section(Config, data, "", source)
