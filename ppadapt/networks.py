"""A network by name with its pretrained weights: what the converter refuses is refused, what is left out is said."""
from __future__ import annotations

import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Collection, Iterable, Optional

from paddle import nn

from . import weights
from .errors import ConfigError, UserError, brief, choose
from .log import LOGGER
from .models.anatomy import Anatomy, find
from .models.catalogue import NETWORKS, Entry
from .models.layers import act_of
from .models.paddleclas import families
from .models.pixels import Pixels
from .options import construct, options_of


def network(name: str, pretrained: Any = None, class_num: int = 0, pretrained_key: Optional[str] = None,
            pretrained_of: Optional[str] = None, pretrained_resize: Optional[str] = None, **options: Any) -> nn.Layer:
    """A network by name, with its weights.

    Args:
        name: one of `models.catalogue.NETWORKS`: ours, PaddleClas's (docs/backbones.md) or your own.
        pretrained: a path of a file, or of a folder as transformers' `save_pretrained` writes it; True for the weights
            that ship or that PaddleClas downloads; None for random ones.
        class_num: 0 leaves the classifier out, and the file's, if any, is not taken.
        pretrained_key: where the network is in a file of several ("teacher", "model_ema").
        pretrained_of: which published model the file is, a name of `weights.PUBLISHED` (docs/weights.md).
        pretrained_resize: how position embeddings are brought to another grid, "plain", "antialias" or "offset"
            (`weights.RESIZES`); None: as the file's library does.
        options: of the constructor, such as `img_size`.

    Raises:
        ConfigError, weights.WeightsError: in one line, for a name, option or file that does not fit.
    """
    return network_and_report(name, pretrained, class_num, pretrained_key, pretrained_of, pretrained_resize,
                              **options)[0]


vit = network  # its name while all networks were ViTs


def network_and_report(
        name: str, pretrained: Any, class_num: int, pretrained_key: Optional[str] = None,
        pretrained_of: Optional[str] = None, pretrained_resize: Optional[str] = None,
        **options: Any) -> tuple[nn.Layer, Optional[weights.Report]]:
    """The network and the report of loading its weights, None for random ones.

    The network's `built_as` is {"name", "family", "options": every option of its constructor}, plain data.
    """
    entry = entry_of(name)
    net = construct({name: entry.build}, {"name": name, **options}, "Arch", class_num=class_num)
    net.built_as = {"name": name, "family": entry.family, "options": {**entry.defaults(), **options}}
    if pretrained in (None, False):
        return net, None
    if pretrained is not True and (not isinstance(pretrained, (str, os.PathLike)) or pretrained == ""):
        raise ConfigError(f"Arch.pretrained is {brief(pretrained)}: give a path, True for the weights that ship or "
                          "that PaddleClas has, or null for random ones")
    path = _published(name, entry) if pretrained is True else Path(pretrained).expanduser()
    if not path.exists():
        raise ConfigError(f"Arch.pretrained {path} does not exist. Give the path of a weight file (.pdparams, .pth, "
                          ".safetensors, .npz) or of a folder with one, True for the weights that ship or that "
                          "PaddleClas has, or null for random ones")
    new = () if class_num else (f"{entry.anatomy.head}.*",)
    report = load(net, entry, path, new, pretrained_key, options, pretrained_of, pretrained_resize)
    if pretrained is True:
        report.pixels = entry.pixels
    return net, report


def network_options(name: str) -> Optional[list[str]]:
    """The options that a network takes in a config beside its name; None for an unknown one."""
    if name not in NETWORKS:
        return None
    return ["pretrained", "pretrained_key", "pretrained_of", "pretrained_resize", "class_num", "head", "frozen_dtype",
            *options_of(NETWORKS[name].build, ("class_num",))]


def entry_of(name: str) -> Entry:
    """The catalogue's entry. Raises ConfigError with the nearest name, or why a network of PaddleClas is left out."""
    if name in NETWORKS:
        return NETWORKS[name]
    ours = [known for known, entry in NETWORKS.items() if not entry.family.startswith("PaddleClas ")]
    titles = "; ".join(family.title for family in families.FAMILIES)
    listed = f"{', '.join(ours)}, or a name of docs/backbones.md, PaddleClas's: {titles}"
    why = families.why_left_out(name)
    if why:
        raise ConfigError(f"Arch.name {name} of PaddleClas is not supported: {why}. Choose from: {listed}")
    raise ConfigError(choose("Arch.name", name, NETWORKS, listed))


def shipped(name: str) -> Optional[Path]:
    """The file in the package that `pretrained=True` takes; None where none ships."""
    return NETWORKS[name].shipped if name in NETWORKS else None


def _published(name: str, entry: Entry) -> Path:
    """The file that `pretrained=True` means. Raises ConfigError where there is none."""
    if entry.shipped:
        return entry.shipped
    if entry.download:
        return entry.download()
    raise ConfigError(f"Arch.pretrained: True: no weights of {name} ship with ppadapt (there are: "
                      f"{', '.join(known for known, one in NETWORKS.items() if one.shipped)}). Give the path of a "
                      "file; `ppadapt convert` makes one from a published checkpoint")


def load(net: nn.Layer, entry: Entry, path: Path, new: tuple[str, ...] = (), key: Optional[str] = None,
         given: Optional[Collection[str]] = None, of: Optional[str] = None,
         resize: Optional[str] = None) -> weights.Report:
    """Put a weight file into a network of the catalogue.

    It goes through the network's converter; files of Paddle may hold the network's own names (`Entry.own_names`).

    Args:
        new: patterns of names that start anew. A missing `fc_norm` is new too: a network that was pretrained with a
            class token has none (AdaptFormer's authors train it silently; here the report says so).
        key: where the network is in a file of several.
        given: the network's options that were chosen by hand; None: all of them.
        of: which published model the file is.
        resize: how positions are brought to another grid; None: as the file's library does.

    Raises:
        weights.WeightsError: when anything else is missing, unexpected, of another shape, not finite or no float, and
            when the file is of a network that computes otherwise (heads, epsilon, GELU).
    """
    if resize is not None and resize not in weights.RESIZES:
        raise ConfigError(choose("Arch.pretrained_resize", resize, weights.RESIZES))
    converted = _under_its_names(net, entry, path, key, of)
    converted.raise_if_incomplete()
    if converted.only and not entry.own_names:
        raise weights.WeightsError(f"{path} ({converted.layout}) is for another network: {converted.only}")
    weights.check_agreement(converted.facts, _computes(net, entry.anatomy), given, str(path), key)
    resize = converted.facts.resize if resize is None else resize
    state = {n: t for n, t in net.state_dict().items() if not _is_one_of(n, entry.ignored)}
    tensors, dropped = dict(converted.tensors), dict(converted.dropped)
    if any(n.startswith("fc_norm.") for n in state) and not any(n.startswith("fc_norm.") for n in tensors):
        new = (*new, "fc_norm.*")
        for name in [n for n in tensors if n.startswith("norm.") and n not in state]:
            dropped[name] = "the norm of the class token; the mean of the patches has fc_norm in its place, a new one"
            del tensors[name]
    for name in [n for n in tensors if n.endswith(".bias") and n not in state and f"{n[:-4]}weight" in state]:
        if not tensors[name].any():
            dropped[name] = "a bias of zeros; this network's layer has none"
            del tensors[name]
    twins = tuple(f"{twin}.*" for twin in entry.anatomy.head_twins if new)
    arrays, report = weights.match(tensors, {n: tuple(t.shape) for n, t in state.items()},
                                   new=(*new, *twins), file=str(path), resize=resize)
    if report.resized:
        report.notes.append(f"positions resized: {weights.RESIZES[resize]} (Arch.pretrained_resize {resize})")
    report.dropped, report.skipped = dropped, dict(converted.skipped)
    report.notes = [*converted.notes(), *report.notes]
    if converted.facts.pixels_are_sure:
        told = converted.facts.preprocess
        report.pixels = Pixels(tuple(told["mean"]), tuple(told["std"]))
    report.fitting = converted.facts.arch_line(str(path), key) if "embed_dim" in converted.facts.values else ""
    if weights.KEY in converted.extras and report.missing:
        raise weights.WeightsError(f"{path} is a tuned file, without the network that it was trained on: give that as "
                                   "Arch.pretrained and this as Global.pretrained_model")
    report.raise_if_incomplete()
    nothing = [n for n, a in arrays.items() if n.endswith(".weight") and not entry.anatomy.is_head(n) and not a.any()]
    if nothing:
        LOGGER.warning("%s: %s are zeros only, so that nothing comes through those layers: is the download whole?",
                       path, weights.compact(nothing))
    for name, array in arrays.items():
        state[name].set_value(array)
    return report


def _computes(net: nn.Layer, anatomy: Anatomy) -> dict[str, Any]:
    """What a network computes that the shapes of its weights do not show, as far as its layers tell."""
    try:
        block = anatomy.block_list(net)[0]
        norm = find(block, anatomy.norm1)
    except (UserError, IndexError):
        return {}
    act = getattr(getattr(block, "mlp", None), "act", None)
    found = {"num_heads": getattr(getattr(block, "attn", None), "num_heads", None),
             "epsilon": getattr(norm, "_epsilon", None), "act": act_of(act), "pool": getattr(net, "pool", None)}
    return {option: value for option, value in found.items() if value is not None}


def _under_its_names(net: nn.Layer, entry: Entry, path: Path, key: Optional[str] = None,
                     of: Optional[str] = None) -> weights.Converted:
    """The file's tensors under the network's names."""
    if entry.convert is None and (not entry.own_names or weights.read_file(path).format != "paddle"):
        return weights.load_weights(path, key, of)
    raw = weights.read_file(path)
    if not entry.own_names or raw.format != "paddle":
        return (entry.convert or weights.to_ours)(raw.chosen(key))
    raw, state = raw.chosen(key), net.state_dict()
    layers = {name.rpartition(".")[0] for name in state if "." in name}
    dropped = {}
    for name in raw.tensors:
        if _is_one_of(name, entry.ignored):
            dropped[name] = "computed by the network itself, or not used by it"
        elif not (name in state or name.rpartition(".")[0] in layers or entry.anatomy.is_head(name)
                  or _is_one_of(name, (f"{entry.anatomy.blocks}.*",))):
            # A decoder, a mask token. What is missing in a layer or a block of the network would be another network.
            dropped[name] = "of a layer that the classifier does not have"
    return weights.Converted({n: t for n, t in raw.tensors.items() if n not in dropped}, "paddle", raw.path,
                             dropped=dropped, extras=dict(raw.extras), skipped=dict(raw.skipped))


def _is_one_of(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
