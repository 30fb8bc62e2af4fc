"""Global.cache_features: what the frozen part of a network makes of images, computed once instead of in every epoch."""
from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Callable, Iterator, Optional, Union

import numpy as np
import paddle

from ..config import Config, Sampler
from ..data import Loader
from ..engine.amp import Precision
from ..engine.processes import Processes
from ..errors import ConfigError, UserError, choose
from ..files import check_writable
from ..log import LOGGER
from ..tuning.frozen import features, prefix, streams
from ..tuning.frozen.onednn.support import usable as onednn_usable
from .data import loader
from .model import TunedModel

Sides = dict[str, Loader]


def show_views(config: Config, train_loader: Loader, built: TunedModel) -> None:
    """Global.cache_views: training shows images as its first epochs did, in turn."""
    views = config.Global.cache_views
    if views and not any(op.random for op in train_loader.dataset.transform.ops):
        LOGGER.warning("Global.cache_views has no effect: nothing is drawn at random of a training image, so that it "
                       "is the same in every epoch")
    elif views:
        train_loader.views = views
        built.notes.append(f"training shows each image in {views} fixed views, an epoch each, in turn: those of its "
                           f"first {views} epochs (Global.cache_views)")


def on_what_is_kept(config: Config, built: TunedModel, train_loader: Loader, eval_loader: Optional[Loader],
                    precision: Precision, processes: Processes) -> tuple:
    """Adaptation and loaders, on what is kept of images where Global.cache_features and what trains allow it.

    Raises:
        ConfigError: where cache_features is True and nothing can be kept.
    """
    g, adaptation = config.Global, built.adaptation
    for key, value, allowed in (("cache_features", g.cache_features, ("auto", True, False)),
                                ("cache_dtype", g.cache_dtype, tuple(streams.DTYPES))):
        if value not in allowed:
            raise ConfigError(choose(f"Global.{key}", value, allowed))
    plain: Sides = {"Train": train_loader, **({"Eval": eval_loader} if eval_loader else {})}
    kept, why_not = adaptation, {}
    if g.cache_features is not False:
        head_only, why_not["head"] = features.obstacle(adaptation, plain.values())
        if not why_not["head"]:
            kept, plain = features.HeadOnly(adaptation), _features(config, built, plain, precision)
        else:
            found = _prefix(config, adaptation, plain)
            if isinstance(found, prefix.Prefix):
                kept = prefix.FromBlock(adaptation, found)
                plain = _streams(config, built, plain, precision, processes, found)
            else:
                _say(config, built, head_only, why_not["head"], found)
    return kept, plain["Train"], plain.get("Eval")


def _say(config: Config, built: TunedModel, head_only: bool, why_no_features: str, why_no_streams: str) -> None:
    """Why nothing is kept, where that is asked for or would have been possible."""
    if config.Global.cache_features is True:
        why = why_no_features if head_only else f"{why_no_features}; {why_no_streams}"
        raise ConfigError(f"Global.cache_features is True, but {why}. Set it to auto to train without")
    if head_only:
        built.notes.append(f"features are not cached: {why_no_features}")
    elif why_no_streams not in ("", prefix.NONE):
        built.notes.append(f"streams are not cached: {why_no_streams}")


def _features(config: Config, built: TunedModel, plain: Sides, precision: Precision) -> dict[str, Any]:
    ordered = {side: _ordered(config, built, side, given, config.DataLoader.Eval.sampler.batch_size)
               for side, given in plain.items()}
    return features.use(built.adaptation, plain, ordered, lambda side: _key(config, plain[side], side, precision),
                        precision.context, features.folder(config.Global.feature_cache))


def _prefix(config: Config, adaptation: Any, plain: Sides) -> Union[prefix.Prefix, str]:
    """The blocks whose stream is kept, or why there are none; "" where keeping would save nothing."""
    g, views = config.Global, plain["Train"].views or 1
    if g.cache_features == "auto" and g.epochs <= views:
        return ""
    found = prefix.prefix_of(adaptation, plain.values())
    if isinstance(found, str):
        return found
    root = _root(config)
    if root is None:
        return "this user has no home folder: set Global.feature_cache"
    try:
        check_writable(root, "Global.feature_cache")
    except UserError as error:
        return str(error)
    needed, limit = _size(config, plain, found), g.cache_limit * 1e9
    less = "Global.cache_dtype: bfloat16 takes half, fewer Global.cache_views less" if g.cache_dtype == "float32" \
        else "fewer Global.cache_views take less"
    if needed > limit:
        return (f"what leaves the first {found.blocks} blocks takes {needed / 1e9:.2f} GB, and Global.cache_limit is "
                f"{g.cache_limit:g}: set it higher; {less}")
    if needed > streams.room(root):
        return (f"what leaves the first {found.blocks} blocks takes {needed / 1e9:.2f} GB, and {root} has room for "
                f"{streams.room(root) / 1e9:.2f}: give Global.feature_cache another place; {less}")
    return found


def _streams(config: Config, built: TunedModel, plain: Sides, precision: Precision, processes: Processes,
             found: prefix.Prefix) -> dict[str, Any]:
    g, adaptation = config.Global, built.adaptation
    total = len(adaptation.anatomy.block_list(adaptation.network))
    images = " + ".join(f"{len(given.dataset)} {given.dataset.split} images" + (
        f" x {given.views} views" if given.views else "") for given in plain.values())
    built.notes.append(
        f"of {total} blocks the first {found.blocks} run once for each image: nothing in them trains. What leaves them "
        f"is kept, {images} in {g.cache_dtype}: {_size(config, plain, found) / 1e9:.2f} GB (Global.cache_features)")
    per_file = streams.per_file(found.shape, g.cache_dtype)
    batch = min(per_file, 2 ** (config.DataLoader.Eval.sampler.batch_size.bit_length() - 1))

    def made(side: str, views: list[int]) -> streams.Streams:
        given = plain[side]
        ordered = _ordered(config, built, side, given, batch)

        def compute(view: int, start: int) -> Iterator[np.ndarray]:
            ordered.set_epoch(view, start // batch)
            for pixels, _ in ordered:
                with precision.context():
                    stream = prefix.stream_of(adaptation, pixels, found.blocks)
                yield stream.astype("float32").numpy()

        key = {**_key(config, given, side, precision), "blocks": found.blocks,
               **prefix.below(adaptation, found.blocks, given.dataset)}
        return streams.Streams(_root(config), key, len(given.dataset), views, found.shape, g.cache_dtype, compute,
                               (processes.rank, processes.count))

    return {side: streams.StreamLoader(given, _of_side(made, side), g.cache_limit * 1e9, found.dtype)
            for side, given in plain.items()}


def _of_side(made: Callable[[str, list[int]], streams.Streams], side: str) -> Callable[[list[int]], streams.Streams]:
    return lambda views: made(side, views)


def _size(config: Config, plain: Sides, found: prefix.Prefix) -> int:
    return sum(streams.size(len(given.dataset), given.views or 1, found.shape, config.Global.cache_dtype)
               for given in plain.values())


def _root(config: Config) -> Optional[Path]:
    folder = features.folder(config.Global.feature_cache)
    return None if folder is None else folder.with_name("streams")


def _ordered(config: Config, built: TunedModel, side: str, plain: Loader, batch_size: int) -> Loader:
    """The images of a side from first to last."""
    split = copy.deepcopy(getattr(config.DataLoader, side))
    split.sampler = Sampler(batch_size=batch_size, shuffle=False)
    return loader(split, "train" if side == "Train" else "test", config.Global.seed, plain.dataset, built.task)


def _key(config: Config, plain: Loader, side: str, precision: Precision) -> dict[str, Any]:
    """What the numbers of a side's images depend on, beside the network and the code."""
    drawn = {"seed": plain.dataset.seed} if plain.views else {}
    return {
        "arch": {"name": config.Arch.name, "frozen_dtype": config.Arch.frozen_dtype, **config.Arch.options},
        "data": plain.dataset.digest(), "transforms": getattr(config.DataLoader, side).dataset.get("transform_ops"),
        "precision": [precision.level] if precision.level == "O0" else [precision.level, precision.dtype],
        "device": paddle.get_device().partition(":")[0], "paddle": paddle.__version__,
        "onednn": onednn_usable(), **drawn}
