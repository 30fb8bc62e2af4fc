"""Which networks there are: name -> who builds it, where its parts are, how weights get in, what it reads.

Ours and PaddleClas's stand in one plain dict, and so may yours. To add a family, write its network and its `Anatomy` in
a file and a line here; from outside of the package, the line is

    ppadapt.catalogue.NETWORKS["my_vit_base"] = ppadapt.catalogue.Entry(MyViT, ppadapt.Anatomy(blocks="layers"))

and `Arch.name: my_vit_base`, tuned files, `ppadapt.network` and `ppadapt.attach` know it.
"""
from __future__ import annotations

import functools
import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

from paddle import nn

from ..errors import UserError
from .anatomy import VIT, Anatomy
from .paddleclas import families, zoo
from .pixels import UNKNOWN, Pixels
from .vit import VITS

ASSETS = Path(__file__).parents[1] / "assets"


@dataclass(frozen=True, eq=False)
class Entry:
    """A network that can be built by name.

    Args:
        build: called with `class_num` (0: no head, the features are the output) and options by name. What its signature
            says of them is what a config is checked against and what tuned files record.
        anatomy: where the network keeps its parts.
        family: what is the same in all networks of one kind: tuned files of another family are refused.
        recognises: asked with a network's class, then with the classes that it comes from, and the network: whether it
            is of this entry. None: where the class is `build` itself.
        convert: the tensors of a file under this network's names, `weights.RawCheckpoint -> weights.Converted`; None:
            `weights.to_ours`, which knows the published layouts of ViTs.
        own_names: files of Paddle (`.pdparams`) hold this network's own names, and need no converting.
        ignored: patterns of names in the network's state that a file may lack: computed, or not used by the classifier.
        shipped: a file of weights in the package; it is what `pretrained=True` takes.
        download: fetches such a file, where none ships.
        pixels: what the weights of `pretrained=True` were trained on.
        source: where weights are from, for people.
        note: what a user should know.
    """

    build: Callable[..., nn.Layer]
    anatomy: Anatomy = VIT
    family: str = ""
    recognises: Optional[Callable[[type, nn.Layer], bool]] = None
    convert: Optional[Callable] = None
    own_names: bool = False
    ignored: tuple[str, ...] = ()
    shipped: Optional[Path] = None
    download: Optional[Callable[[], Path]] = None
    pixels: Pixels = UNKNOWN
    source: str = ""
    note: str = ""

    def defaults(self) -> dict[str, Any]:
        """Option -> the value that `build` gives it, where that is plain data."""
        return {name: p.default for name, p in inspect.signature(self.build).parameters.items()
                if name not in ("self", "class_num") and p.default is not p.empty and _plain(p.default)}

    def fits(self, kind: type, network: nn.Layer) -> bool:
        """Whether a network is of this entry by `kind`, its class or one that its class comes from."""
        if self.recognises is not None:
            return self.recognises(kind, network)
        return kind is (self.build.func if isinstance(self.build, functools.partial) else self.build)


def _plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _paddleclas(family: families.Family, name: str) -> Entry:
    return Entry(zoo.Builder(family, name), family.anatomy, f"PaddleClas {family.title}",
                 recognises=functools.partial(families.is_of, family), own_names=True,
                 ignored=(*families.COMPUTED, *family.unused), download=functools.partial(zoo.download, family, name),
                 pixels=families.PIXELS.get(family.title, UNKNOWN), source="PaddleClas (`pretrained: True`)",
                 note=family.note)


def _ours(name: str) -> Entry:
    return Entry(VITS[name], VIT, "ViT", source="docs/weights.md", **SHIPPED.get(name, {}))


# The weights in the package; how they were made and what they reach: assets/README.md.
SHIPPED = {"vit_micro_patch4_32": {"shipped": ASSETS / "vit_micro_patch4_32_cifar100.safetensors",
                                   "pixels": Pixels((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))}}

# Names in lower case are ours: PaddleClas's (`ViT_base_patch16_224`) never collide with them.
NETWORKS: dict[str, Entry] = {
    **{name: _ours(name) for name in VITS},
    **{name: _paddleclas(family, name) for family in families.FAMILIES for name in family.names},
}


def anatomy_of(network: nn.Layer) -> Anatomy:
    """Where a network of the catalogue keeps its parts.

    Raises:
        UserError: for a class of network that is not in the catalogue, saying how to describe it.
    """
    for kind in type(network).__mro__:  # what is nearest to its own class describes it best
        for entry in NETWORKS.values():
            if entry.fits(kind, network):
                return entry.anatomy
    kind = type(network).__name__
    parts = ", ".join(f"{name} ({type(layer).__name__})" for name, layer in network.named_children()) or "no layers"
    raise UserError(
        f"{kind} is not a network that ppadapt knows, so that it cannot tell its parts; it has: {parts}. Say where "
        "they are: attach(network, ..., anatomy=ppadapt.Anatomy(blocks='path.of.the.blocks', head='path.of.the.head', "
        f"...)), or once for all: ppadapt.catalogue.NETWORKS['{kind.lower()}'] = ppadapt.catalogue.Entry({kind}, "
        "anatomy). Anatomy() alone is that of a ViT with timm's names")
