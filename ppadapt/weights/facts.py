"""What a network computes that its weights alone do not show, and where each of these facts is from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np

from .errors import WeightsError
from .layouts import Layout
from .layouts.clip import ACT
from .layouts.rules import any_name
from .pos_embed import RESIZES, are_moco_v3s
from .published import Published, published
from .settings import Settings, three_numbers

SHAPES = "the shapes"
# The head dimension of published ViTs is 64, but for these widths; of 1536 there are both. Small ones are anybody's.
_HEADS = {1152: 16, 1280: 16, 1408: 16, 1664: 16, 1536: None}
_LEAST, _MOST = 192, 1664
_MOCO_V3_SMALL = 384  # its width, at which all others have 6 heads
# Our ViTs by (width, depth): name, then heads, patch and image of that name (models/vit.py; a test compares).
NAMED = {(192, 6): ("vit_micro_patch4_32", 3, 4, 32), (192, 12): ("vit_tiny_patch16", 3, 16, 224),
         (384, 12): ("vit_small_patch16", 6, 16, 224), (768, 12): ("vit_base_patch16", 12, 16, 224),
         (1024, 24): ("vit_large_patch16", 16, 16, 224), (1280, 32): ("vit_huge_patch14", 16, 14, 224)}
_USUAL = {"mlp_ratio": 4.0, "epsilon": 1e-6, "act": "gelu", "pre_norm": False, "class_token": True, "registers": 0,
          "pool": "cls"}


@dataclass
class Facts:
    """Options of the network that the weights are of.

    `values`: option -> value. `told`: option -> where that stands, for what is sure. `assumed`: option -> why that
    value, for what is not. `asked`: option -> the choices, for what has to be given. `preprocess`: mean, std and more,
    `preprocess_from` where they are from. `resize`: how its library brings positions to another
    image size, one of `pos_embed.RESIZES`. `of`: the name of the published model, where the user says which it is.
    """

    values: dict[str, Any] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    assumed: dict[str, str] = field(default_factory=dict)
    asked: dict[str, str] = field(default_factory=dict)
    preprocess: dict[str, Any] = field(default_factory=dict)
    preprocess_from: str = ""
    resize: str = "plain"
    of: str = ""

    @property
    def pixels_are_sure(self) -> bool:
        """Whether the library's own settings give mean and std, not only the custom of its files."""
        return all(self.preprocess.get(what) for what in ("mean", "std")) and (
            self.preprocess_from.endswith(".json") or bool(self.of))

    def sure(self) -> dict[str, Any]:
        """The values that are told, without those that are only assumed."""
        return {option: value for option, value in self.values.items() if option in self.told}

    def tell(self, option: str, value: Any, where: str) -> None:
        self.values[option], self.told[option] = value, where
        self.assumed.pop(option, None)
        self.asked.pop(option, None)

    def assume(self, option: str, value: Any, why: str) -> None:
        if option not in self.told:
            self.values[option], self.assumed[option] = value, why

    def ask(self, option: str, choices: str) -> None:
        if option not in self.told:
            self.asked[option] = choices

    def to_text(self) -> str:
        """What a converted file says of its network, as JSON for its metadata."""
        said = {"told": {k: [v, self.told[k]] for k, v in self.sure().items()},
                "assumed": {k: [self.values[k], why] for k, why in self.assumed.items()}, "asked": self.asked,
                "preprocess": self.preprocess, "preprocess_from": self.preprocess_from, "resize": self.resize}
        return json.dumps(said, sort_keys=True)

    def take(self, text: str, path: str) -> None:
        """Adds what `to_text` wrote, beside what is told already. Raises WeightsError for other text."""
        try:
            said = json.loads(text)
            for option, (value, where) in said["told"].items():
                if option not in self.told:
                    self.tell(option, value, str(where))
            for option, (value, why) in said["assumed"].items():
                self.assume(option, value, str(why))
            for option, choices in said["asked"].items():
                self.ask(option, str(choices))
            if not self.preprocess_from.endswith(".json"):  # what stands beside the file is somebody's word
                self.preprocess, self.preprocess_from = dict(said["preprocess"]), str(said["preprocess_from"])
            if not all(three_numbers(self.preprocess[what]) for what in ("mean", "std") if what in self.preprocess):
                raise ValueError("mean and std")
            # The network that ships was written before there were three ways.
            resize = said.get("resize", "antialias" if said.get("antialias") is True else "plain")
            self.resize = resize if resize in RESIZES else "plain"
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise WeightsError(f"{path} is damaged: what it says of its network is not what the converter writes; "
                               "convert it again") from None

    def arch_line(self, pretrained: str = "...", key: Optional[str] = None) -> str:
        """The `Arch:` section of a config that builds this network."""
        name, heads, patch, size = NAMED.get((self.values.get("embed_dim"), self.values.get("depth")),
                                             ("vit_base_patch16", 12, 16, 224))
        usual = {**_USUAL, "num_heads": heads, "patch_size": patch, "img_size": size}
        if (self.values.get("embed_dim"), self.values.get("depth")) not in NAMED:
            usual = {**usual, "embed_dim": 768, "depth": 12}
            named: tuple[str, ...] = ()
        else:
            named = ("embed_dim", "depth")
        options = {option: value for option, value in self.values.items()
                   if option not in (*named, "class_num") and usual.get(option) != value}
        options.update(dict.fromkeys(self.asked, "?"))
        given = "".join(f", {option}: {_yaml(value)}" for option, value in options.items())
        chosen = f", pretrained_key: {key}" if key else ""
        chosen += f", pretrained_of: {self.of}" if self.of else ""
        return f"Arch: {{name: {name}{given}, pretrained: {pretrained}{chosen}}}"

    def normalize_line(self) -> str:
        """The `NormalizeImage` of a config, or '' where mean and std are not known."""
        if "mean" not in self.preprocess or "std" not in self.preprocess:
            return ""
        mean, std = ([round(float(x), 8) for x in self.preprocess[key]] for key in ("mean", "std"))
        return f"NormalizeImage: {{scale: 1.0/255.0, mean: {mean}, std: {std}, order: ''}}"


def _yaml(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) and value > 1e-3 and float(f"{value:g}") == value else (
        f"{value:.1e}".replace("e-0", "e-") if isinstance(value, float) and 0 < value < 1e-3 else str(value))


def facts_of(tensors: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray], layout: Layout,
             settings: Settings, path: str = "", of: Optional[str] = None) -> Facts:
    """Facts by what they stand on: shapes, the library's config, the published model, the layout; the rest is assumed
    or asked for.

    `tensors` are ours, `arrays` those of the whole file (JAX's kernels show the heads). `of`: a name of `PUBLISHED`.

    Raises:
        WeightsError: when the config beside the file, or the published model that it is said to be, is another network
            than the shapes.
    """
    facts = Facts(of=of or "")
    for option, value in _from_shapes(tensors, arrays).items():
        facts.tell(option, value, SHAPES)
    for option, value in settings.options.items():
        if facts.told.get(option) == SHAPES:
            if facts.values[option] != value:
                raise WeightsError(f"{settings.path} says {option} {value}, the weights have {facts.values[option]}: "
                                   "it is of another network; put the right one there, or take it away")
            continue
        facts.tell(option, value, settings.name)
    if "attn_pool.latent" in tensors or "fc_norm.weight" in tensors:
        facts.tell("pool", "map" if "attn_pool.latent" in tensors else "avg", SHAPES)
    model = published(of) if of else None
    if model:
        _tell_published(facts, model, path)
    for option, value in layout.told.items():
        if option not in facts.told:
            facts.tell(option, value, f"every file of {layout.name}")
    for pattern, signs in layout.signs:
        for option, value in signs.items() if any_name(arrays, pattern) else ():
            if option not in facts.told:
                facts.tell(option, value, f"the file's {pattern}")
    for option, value in layout.assumed.items():
        facts.assume(option, value, f"as nearly all files of {layout.name}")
    if settings.pool == "cls" and facts.told.get("pool") == SHAPES:
        raise WeightsError(f"{settings.path} says that the classifier reads the class token (global_pool), the weights "
                           f"have the layers of pool {facts.values['pool']}: our networks do not compute both")
    if settings.pool and not (settings.pool == "cls" and "cls_token" not in tensors):
        facts.assume("pool", settings.pool, f"as the classifier of {settings.name}")
    for option, choices in layout.asked.items():
        facts.ask(option, choices)
    if "norm_pre.weight" in tensors and "act" in facts.assumed:  # timm's names, CLIP's network
        facts.values.pop("act")
        facts.assumed.pop("act")
        facts.ask("act", ACT)
        facts.assume("epsilon", 1e-5, "as CLIP's networks, which norm before the blocks")
    if layout.pool_by_norm and "norm.weight" in tensors:
        facts.tell("pool", "cls", SHAPES)
    _pool(facts, tensors, any_name(arrays, r".*(?:dist_token|distillation_token)"))
    _heads(facts, layout, tensors.get("pos_embed"))
    if not facts.values.get("class_token", True) and "act" in facts.assumed and "act" not in layout.told:
        if layout.name == "timm":  # networks without class token differ: SigLIP's have the tanh form
            facts.values.pop("act")
            facts.assumed.pop("act")
            facts.ask("act", "gelu, or gelu_tanh (SigLIP)")
    facts.resize = layout.resize_registers if "reg_token" in tensors else layout.resize
    facts.resize = "antialias" if settings.of_timm else model.resize if model else facts.resize
    facts.preprocess = dict(settings.preprocess or (model or layout).preprocess)
    facts.preprocess_from = settings.preprocess_name or (
        f"the published {of}" if model else f"as most files of {layout.name}" if facts.preprocess else "")
    return facts


def _tell_published(facts: Facts, model: Published, path: str) -> None:
    usual = {"registers": 0, "pre_norm": False, "class_token": True}
    for option, value in {**usual, **model.facts}.items():
        if option == "img_size" and "img_size" in facts.told:
            continue  # a model may have been trained on at another size
        found = facts.values.get(option, usual.get(option) if "embed_dim" in facts.told else None)
        if found is not None and (option in facts.told or option in usual) and not same_value(found, value):
            where = facts.told.get(option, SHAPES)
            raise WeightsError(f"{path} is not the published {facts.of}: {option} is {found} ({where}) and "
                               f"{facts.of} has {value}. Say which other it is, or leave pretrained_of (--of) out")
        if option == "pool":  # it may be fine-tuned with another, as MAE's with their mean
            facts.assume(option, value, f"as the published {facts.of}")
        elif option in model.facts and option not in facts.told:
            facts.tell(option, value, f"the published {facts.of}")


def same_value(one: Any, other: Any) -> bool:
    """Whether two values of a fact are the same; numbers within a thousandth."""
    if isinstance(one, float) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=1e-3)
    return one == other


def usual_heads(dim: int) -> Optional[int]:
    """The number of heads of the published networks of this width, or None where they differ."""
    return _HEADS.get(dim, dim // 64 if dim % 64 == 0 and _LEAST <= dim <= _MOST else None)


def _heads(facts: Facts, layout: Layout, pos_embed: Optional[np.ndarray]) -> None:
    dim = facts.values.get("embed_dim")
    if not dim or "num_heads" in facts.told:
        return
    if dim == _MOCO_V3_SMALL and pos_embed is not None and pos_embed.ndim == 3 and are_moco_v3s(pos_embed):
        facts.tell("num_heads", 12, "its positions, which are MoCo v3's, whose ViT-S has 12")
        return
    if dim in layout.heads:
        facts.tell("num_heads", layout.heads[dim], f"every file of {layout.name} of this width")
        return
    heads = usual_heads(dim)
    if heads and "pool" not in facts.asked:
        facts.assume("num_heads", heads, "as the published networks of this width (MoCo v3's ViT-S has 12)"
                     if dim == _MOCO_V3_SMALL else "as the published networks of this width")
    else:
        facts.ask("num_heads", f"a divisor of {dim}; {dim // 64} gives the usual 64 channels a head" if dim >= 64 else
                  f"a divisor of {dim}")


def _two_tokens(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether the head reads twice the width of the network."""
    head, norm = tensors.get("head.weight"), tensors.get("norm.weight")
    return head is not None and norm is not None and head.shape[0] == 2 * norm.shape[0]


def _pool(facts: Facts, tensors: Mapping[str, np.ndarray], distilled: bool) -> None:
    if "pool" in facts.told or "pool" in facts.assumed:
        return
    if "norm.weight" in tensors and _two_tokens(tensors):
        # DeiT's distillation token is the only register of its network; DINOv2's head reads the mean too.
        facts.assume("pool", "cls_reg" if distilled else "cls_avg", "as its classifier, which is of two features")
    elif "norm.weight" in tensors and "cls_token" in tensors:
        facts.assume("pool", "cls", "as most networks with a class token")
    elif "norm.weight" in tensors and "pos_embed" in tensors:
        facts.ask("pool", "norm_avg (the mean of the tokens after the norm) or another")


def _from_shapes(tensors: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    patch, pos = tensors.get("patch_embed.proj.weight"), tensors.get("pos_embed")
    if patch is not None and patch.ndim in (4, 5):
        found["embed_dim"], found["patch_size"] = int(patch.shape[0]), int(patch.shape[-1])
        if patch.shape[1] != 3:
            found["in_chans"] = int(patch.shape[1])
    blocks = {int(name.split(".")[1]) for name in tensors if name.startswith("blocks.") and ".adaptmlp." not in name}
    if blocks:
        found["depth"] = max(blocks) + 1
    if pos is not None and pos.ndim == 3 and "patch_size" in found:
        patches = pos.shape[1] - ("cls_token" in tensors)
        if patches > 0 and math.isqrt(patches) ** 2 == patches:
            found["img_size"] = math.isqrt(patches) * found["patch_size"]
        if "cls_token" not in tensors:
            found["class_token"] = False
    if "reg_token" in tensors:
        found["registers"] = int(tensors["reg_token"].shape[1])
    if "norm_pre.weight" in tensors:
        found["pre_norm"] = True
    fc1 = tensors.get("blocks.0.mlp.fc1.bias")
    if fc1 is not None and found.get("embed_dim"):
        found["mlp_ratio"] = fc1.shape[0] / found["embed_dim"]
    query = next((a for n, a in arrays.items() if n.endswith("/query/kernel") and a.ndim == 3), None)
    if query is not None:
        found["num_heads"] = int(query.shape[1])
    head = tensors.get("head.bias", tensors.get("head.1.bias"))
    if head is not None:
        found["class_num"] = int(head.shape[0])
    return found
