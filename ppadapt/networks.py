"""A network by name, one of ours or of PaddleClas's, with its pretrained weights."""
from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Mapping, Optional

from paddle import nn

from . import assets, weights
from .config import construct
from .errors import ConfigError, choose
from .models.paddleclas import families
from .models.vit import VITS

# What a network of PaddleClas computes when it is built and its files hold as well.
_COMPUTED = ("*relative_position_index", "*relative_coords_table", "*attn_mask")


def network(name: str, pretrained: Any = None, class_num: int = 0, **options: Any) -> nn.Layer:
    """A network by name, with its weights.

    Args:
        name: one of `models.vit.VITS` or of PaddleClas's transformers (docs/backbones.md); ours win where both
            have a name.
        pretrained: a path; True for the weights that ship or that PaddleClas downloads; None for random ones.
        class_num: 0 leaves the classifier out, and the file's, if any, is not taken.
        options: of the constructor, such as `img_size`.

    Raises:
        ConfigError, weights.WeightsError: in one line, for a name, option or file that does not fit.
    """
    return network_and_report(name, pretrained, class_num, **options)[0]


vit = network  # its name while all networks were ViTs


def network_and_report(name: str, pretrained: Any, class_num: int,
                       **options: Any) -> tuple[nn.Layer, Optional[weights.Report]]:
    """The network and the report of loading its weights, None for random ones."""
    family = None if name in VITS else _family(name)
    if family is None:
        net = construct(VITS, {"name": name, **options}, "Arch", class_num=class_num)
    else:
        from .models.paddleclas import zoo  # imports paddleclas, which takes seconds and is not everywhere

        net = zoo.build(family, name, class_num, **options)
    if pretrained in (None, False):
        return net, None
    if pretrained is True:
        path = assets.pretrained(name) if family is None else zoo.download(family, name)
    else:
        path = Path(pretrained)
    if not path.is_file():
        raise ConfigError(f"Arch.pretrained {path} does not exist. Give the path of a weight file (.pdparams, .pth, "
                          ".safetensors, .npz), True for the weights that ship or that PaddleClas has, or null for "
                          "random ones")
    new = () if class_num else ("head.*",)
    return net, load_vit(net, path, new) if family is None else load_zoo(net, family, path, new)


def load_vit(net: nn.Layer, path: Path, new: tuple[str, ...] = ()) -> weights.Report:
    """Put a weight file of any known layout into one of our networks.

    `new` are patterns of names that start anew. A missing `fc_norm` is new too: a network that was pretrained
    with a class token has none (the authors train it silently; here the report says so).

    Raises:
        weights.WeightsError: when anything else is missing, unexpected or of another shape.
    """
    tensors = weights.load_weights(path).tensors
    parameters = dict(net.named_parameters())
    new = (*new, *(n for n in parameters if n.startswith("fc_norm.") and n not in tensors))
    return _fill(parameters, tensors, new, path)


def load_zoo(net: nn.Layer, family: families.Family, path: Path, new: tuple[str, ...] = ()) -> weights.Report:
    """Put a weight file into a network of PaddleClas: its own `.pdparams`, or any that converts to its names.

    Raises:
        weights.WeightsError: when anything that is not `new` is missing, unexpected or of another shape. A
            `.pdparams` may hold layers that the classifier does not have; the report names them.
    """
    raw = weights.read_file(path)
    own = raw.format == "paddle"
    tensors = raw.tensors if own else weights.to_ours(raw).tensors
    ignored = (*_COMPUTED, *family.unused)
    state = {n: t for n, t in net.state_dict().items() if not any(fnmatchcase(n, pattern) for pattern in ignored)}
    twins = tuple(f"{twin}.*" for twin in family.anatomy.head_twins if new)
    return _fill(state, tensors, (*new, *twins, *ignored), path, more_layers=own)


def _fill(state: Mapping[str, Any], tensors: Mapping[str, Any], new: tuple[str, ...], path: Path,
          more_layers: bool = False) -> weights.Report:
    """`more_layers`: the file may have layers that the network does not; never more of one that it has."""
    arrays, report = weights.match(tensors, {n: tuple(t.shape) for n, t in state.items()}, new=new, file=str(path))
    layers = {n.rpartition(".")[0] for n in state if "." in n}
    report.raise_if_incomplete(more_layers and not any(n.rpartition(".")[0] in layers for n in report.unexpected))
    for name, array in arrays.items():
        state[name].set_value(array)
    return report


def _family(name: str) -> families.Family:
    """The family of PaddleClas that a name is of. Raises ConfigError with the nearest name, or why it is left out."""
    family = families.family_of(name)
    if family is not None:
        return family
    titles = "; ".join(family.title for family in families.FAMILIES)
    listed = f"{', '.join(VITS)}, or a name of docs/backbones.md, PaddleClas's: {titles}"
    why = families.why_left_out(name)
    if why:
        raise ConfigError(f"Arch.name {name} of PaddleClas is not supported: {why}. Choose from: {listed}")
    raise ConfigError(choose("Arch.name", name, (*VITS, *families.names()), listed))
