"""The library's own settings beside a weight file: config.json, open_clip_config.json, preprocessor_config.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import brief
from .errors import WeightsError
from .layouts.rules import CLIP_PIXELS
from .layouts.timm_names import by_name

_LIMIT = 4_000_000  # bytes; a config with 21,843 names of classes has one
_LARGEST = 1e6  # number that is taken from a config
_ACTS = {"gelu": "gelu", "gelu_python": "gelu", "quick_gelu": "quick_gelu", "gelu_pytorch_tanh": "gelu_tanh",
         "gelu_new": "gelu_tanh", "gelu_fast": "gelu_tanh", "gelu_tanh": "gelu_tanh"}


# Arguments of timm's networks that tensors show, or that change nothing in inference.
_TIMM_ARGS = frozenset((
    "img_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "num_classes", "in_chans",
    "global_pool", "class_token", "reg_tokens", "no_embed_class", "pre_norm", "init_values", "qkv_bias",
    "proj_bias", "fc_norm", "act_layer", "dynamic_img_size", "dynamic_img_pad", "strict_img_size", "pos_embed",
    "drop_rate", "pos_drop_rate", "patch_drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate",
    "weight_init", "fix_init", "window_size", "depths"))
_TIMM_POOLS = {None: "", "": "", "token": "cls", "avg": "norm_avg", "map": "map"}


@dataclass
class Settings:
    """Facts of a config: options of our network, what it says that our networks do not compute, and pixels.

    `pool`: what the library's classifier reads; who trains another head may choose.
    """

    options: dict[str, Any] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    preprocess: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    preprocess_name: str = ""
    of_timm: bool = False
    pool: str = ""
    path: str = ""


def read_settings(weight_file: str) -> Settings:
    """What stands beside a weight file; empty where nothing does.

    Raises:
        WeightsError: for a config that cannot be read.
    """
    folder, found = Path(weight_file).parent, Settings()
    for name, read in (("config.json", _config), ("open_clip_config.json", _open_clip)):
        config = _json(folder / name)
        try:
            if config is not None and not found.options and read(config, found):
                found.name, found.path = name, str(folder / name)
        except (TypeError, ValueError, AttributeError, ArithmeticError) as error:  # text where a number is expected ...
            raise WeightsError(f"{folder / name}, beside the weights, is not what its library writes "
                               f"({type(error).__name__}: {error}): get it again, or take it away") from None
    pixels = _json(folder / "preprocessor_config.json")
    if pixels is not None:
        _pixels(found, {"mean": pixels.get("image_mean"), "std": pixels.get("image_std"),
                        "size": pixels.get("crop_size") or pixels.get("size"), "resample": pixels.get("resample")},
                "preprocessor_config.json")
    return found


def _json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    if path.stat().st_size > _LIMIT:
        raise WeightsError(f"{path} has {path.stat().st_size:,} bytes, too many for settings: take it away")
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path}, beside the weights, is not the JSON it should be ({error}): get it again, or "
                           "take it away") from None
    if not isinstance(tree, dict):
        raise WeightsError(f"{path}, beside the weights, is not a JSON object: get it again, or take it away")
    return tree


def _config(config: Mapping[str, Any], found: Settings) -> bool:
    if isinstance(config.get("architecture"), str):
        return _timm(config, found)
    vision = config.get("vision_config")
    tree = vision if isinstance(vision, Mapping) else config
    if "hidden_size" not in tree and "num_attention_heads" not in tree:
        return False
    _take(found, tree, {"hidden_size": ("embed_dim", int), "num_hidden_layers": ("depth", int),
                        "num_attention_heads": ("num_heads", int), "layer_norm_eps": ("epsilon", float),
                        "image_size": ("img_size", int), "patch_size": ("patch_size", int),
                        "num_register_tokens": ("registers", int)})
    if not found.options.get("registers"):
        found.options.pop("registers", None)
    act = tree.get("hidden_act")
    if act is not None and act not in _ACTS:
        found.refused.append(f"hidden_act {act!r}: our networks compute {', '.join(sorted(set(_ACTS.values())))}")
    elif act is not None:
        found.options["act"] = _ACTS[act]
    if tree.get("use_swiglu_ffn"):
        found.refused.append("use_swiglu_ffn: a gated MLP, which our networks do not compute")
    if tree.get("use_relative_position_bias") or tree.get("use_shared_relative_position_bias"):
        found.refused.append("biases of relative positions in the attention, which our networks do not compute")
    if tree.get("vision_use_head") is False:
        found.options["pool"] = "norm_avg"
    return True


def _open_clip(config: Mapping[str, Any], found: Settings) -> bool:
    model = config.get("model_cfg")
    vision = model.get("vision_cfg") if isinstance(model, Mapping) else None
    if not isinstance(vision, Mapping):
        return False
    _take(found, vision, {"image_size": ("img_size", int), "layers": ("depth", int), "width": ("embed_dim", int),
                          "patch_size": ("patch_size", int)})
    width = vision.get("width")
    if isinstance(width, int) and isinstance(vision.get("layers"), int):
        found.options["num_heads"] = width // int(vision.get("head_width") or 64)
    tanh = (vision.get("act_kwargs") or model.get("act_kwargs") or {}).get("approximate") == "tanh"
    found.options["act"] = "quick_gelu" if model.get("quick_gelu") else "gelu_tanh" if tanh else "gelu"
    pixels = config.get("preprocess_cfg")
    _pixels(found, {**CLIP_PIXELS, **(pixels if isinstance(pixels, Mapping) else {})}, "open_clip_config.json")
    return True


def _timm(config: Mapping[str, Any], found: Settings) -> bool:
    """timm's config.json: the name of an architecture, and what its pixels are."""
    pretrained = config.get("pretrained_cfg")
    pretrained = pretrained if isinstance(pretrained, Mapping) else {}
    found.of_timm = True
    options, refused = by_name(config["architecture"])
    args = config.get("model_args")
    args = args if isinstance(args, Mapping) else {}
    found.options.update(options)
    _take(found, args, {"num_heads": ("num_heads", int), "img_size": ("img_size", int),
                        "patch_size": ("patch_size", int), "depth": ("depth", int), "embed_dim": ("embed_dim", int)})
    act = args.get("act_layer")
    if act in _ACTS:
        found.options["act"] = _ACTS[act]
    elif act is not None:
        found.refused.append(f"act_layer {act!r}: our networks compute {', '.join(sorted(set(_ACTS.values())))}")
    strange = [name for name in args if name not in _TIMM_ARGS]
    if strange:
        found.refused.append(f"model_args {', '.join(strange)}, which may make another network than ours compute")
    pool = config.get("global_pool", args.get("global_pool"))
    if pool not in _TIMM_POOLS:
        found.refused.append(f"global_pool {pool!r}, which our networks do not compute")
    elif "distilled" not in config["architecture"]:
        found.pool = _TIMM_POOLS[pool]
    if refused:
        found.refused.append(f"architecture {config['architecture']}: {refused}")
    pixels = {key: pretrained.get(key) for key in ("mean", "std", "interpolation", "crop_pct")}
    size = pretrained.get("input_size")
    if isinstance(size, list) and len(size) == 3 and size[1] != size[2] and "img_size" not in args:
        found.refused.append(f"input_size {size}: our networks take squares")
    _pixels(found, {**pixels, "size": size[-1] if isinstance(size, list) and size else None}, "config.json")
    return True


def _take(found: Settings, tree: Mapping[str, Any], names: Mapping[str, tuple[str, type]]) -> None:
    for theirs, (ours, kind) in names.items():
        value = tree.get(theirs)
        if isinstance(value, list) and len(value) == 2 and ours in ("img_size", "patch_size"):
            if value[0] != value[1]:
                found.refused.append(f"{theirs} {value}: our networks take squares")
                continue
            value = value[0]
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if not 0 <= value <= _LARGEST:
                raise ValueError(f"{theirs} is {brief(value)}")
            found.options[ours] = kind(value)


def _pixels(found: Settings, given: Mapping[str, Any], name: str) -> None:
    kept = {key: value for key, value in given.items() if value is not None}
    if three_numbers(kept.get("mean")) and three_numbers(kept.get("std")):
        found.preprocess, found.preprocess_name = kept, name


def three_numbers(value: Any) -> bool:
    """Whether it can be the mean or the deviation of three channels."""
    return isinstance(value, list) and len(value) == 3 and all(
        isinstance(x, (int, float)) and abs(x) <= _LARGEST for x in value)
