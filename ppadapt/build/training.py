"""What a training run is made of, from all sections of a config."""
from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Mapping, Optional

from ..config import Config
from ..data import Loader, labels, sample
from ..data.overlap import warn_of_overlap, warn_of_two_labels
from ..engine import processes
from ..engine.checkpoint import Checkpoint
from ..engine.curves import Curves
from ..engine.epoch_log import Pace
from ..engine.loop import Job
from ..engine.optim import EMA, build_optimizer
from ..engine.processes import Processes
from ..engine.schedules import Schedule, check_schedule
from ..errors import ConfigError
from ..files import check_writable, remove_leftovers
from ..log import LOGGER, only_warnings, setup
from ..models.heads import BatchNorm
from ..tasks import Task
from ..tuning.adaptation import is_batch_norm
from ..tuning.frozen.recompute import recompute_blocks
from ..tuning.frozen.remainder import KeptLoader
from ..weights import digest
from .complaints import check_names
from .data import dataset, loader
from .device import precision_of, set_device
from .kept import on_what_is_kept, show_views
from .model import TunedModel, tuned_model
from .observer import Watching, settings_of
from .preprocessing import check_sides, check_sizes
from .resume import check_same, checkpoint_of, identity_of, shared_facts
from .task import losses, metrics, task_of


def job(config: Config, name: str = "run") -> tuple[Job, TunedModel]:
    """Everything `engine.loop.run` needs, in a fresh folder output_dir/name/time."""
    g = config.Global
    place = Path(g.output_dir).expanduser()
    parts, built = _parts(config, checkpoint_of(config, place / name))
    # Last, so that a mistake in the config leaves no empty folder behind.
    together = parts["processes"]
    if together.first:
        remove_leftovers(place, depth=3)
        folder = _fresh_folder(place / name)
        setup(folder / "train.log")
    folder = Path(together.gather(str(folder) if together.first else "")[0])
    shown = {"curves": Curves(None)}
    if g.use_visualdl and together.first:
        shown = _shown(config, built, parts, folder / "vdl")
    return Job(folder=folder, **shown, **parts), built


def _shown(config: Config, built: TunedModel, parts: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Curves, and who looks for them into the network and its answers; the first pictures are drawn."""
    train, test, together = parts["train_loader"], parts["eval_loader"], parts["processes"]
    batch_size = together.count * train.batch_size * config.Global.update_freq
    curves = Curves(folder, settings_of(config, built.adaptation, batch_size))
    images = sample.first_images(getattr(train, "loader", train), 32)  # of cached features: what they were made of
    if len(images):
        curves.picture("input/train", 0, sample.grid(sample.pixels(images, train.dataset.transform)))
    watching = Watching(built.adaptation, built.task, (test or train).dataset, parts["precision"],
                        whole=test is not None and together.count == 1, most=train.batch_size,
                        kept=isinstance(train, KeptLoader))
    return {"curves": curves, "observer": watching}


def check(config: Config) -> None:
    """Build all that training needs and let it go. Raises UserError for the mistakes that `job` would find."""
    _parts(config, checkpoint_of(config, None))


def _parts(config: Config, found: Optional[Checkpoint]) -> tuple[dict[str, Any], TunedModel]:
    """The fields of a Job that need no folder, and the tuned model."""
    g = config.Global
    check_names(config)
    _check_plan(config)
    check_writable(Path(g.output_dir).expanduser(), "Global.output_dir")
    check_sides(config)
    set_device(g.device)
    together = processes.join()
    if not together.first:
        only_warnings()
    task = task_of(config)

    train_loader, eval_loader = _loaders(config, task, together)
    train_data = train_loader.dataset
    eval_data = eval_loader.dataset if eval_loader else train_data

    identity = identity_of(config, train_data, eval_loader and eval_loader.dataset, together.count)
    if found:
        check_same(found, identity, g.allow_changes)
    built = tuned_model(config, train_data.classes)
    check_sizes({"Train": train_data, **({"Eval": eval_data} if eval_loader else {})}, built.image_shape())
    if found:
        built.load(found.tuned)
    show_views(config, train_loader, built)
    if g.recompute:
        _recompute(built)
    if any(isinstance(layer, BatchNorm) or is_batch_norm(layer) for layer in built.adaptation.network.sublayers()):
        said = train_loader.need_two(each=not _shares_statistics(built, config))
        if said:
            LOGGER.warning("DataLoader.Train: %s", said)

    if together.count > 1:
        together.agree(**shared_facts(identity), **{"what training starts from": digest(built.adaptation.state())})
        _share(built, config, together)
    schedule = _schedule(config, train_loader, together.count)
    parameters = built.adaptation.trained_parameters()
    optimizer = _optimizer(config, parameters, schedule)
    ema = None if config.EMA.decay is None else EMA(parameters, config.EMA.decay)
    precision = precision_of(config)
    # From here on the loaders may give what is kept in the place of images, to what is left of the network.
    network, train_loader, eval_loader = on_what_is_kept(config, built, train_loader, eval_loader, precision, together)

    what_learns = {"adaptation": network, "optimizer": optimizer, "schedule": schedule, "precision": precision,
                   "ema": ema, "save": built.save if together.first else _leave_to_the_first}
    what_is_asked = {
        "task": task, "classes": built.classes,
        "train_losses": losses(config, task, "Train", train_data),
        "eval_losses": losses(config, task, "Eval", eval_data),
        "train_metrics": metrics(config, task, "Train"), "eval_metrics": metrics(config, task, "Eval")}
    how_long = {"epochs": g.epochs, "update_freq": g.update_freq, "print_batch_step": g.print_batch_step,
                "pace": Pace(g.print_seconds),
                "eval_interval": g.eval_interval, "save_interval": g.save_interval,
                "save_interval_steps": g.save_interval_steps, "save_interval_seconds": g.save_interval_seconds,
                "early_stop": g.early_stop}
    return {"train_loader": train_loader, "eval_loader": eval_loader, "seed": g.seed, "resume": found,
            "processes": together, "allow_changes": g.allow_changes, "identity": identity,
            **what_learns, **what_is_asked, **how_long}, built


def _fresh_folder(parent: Path) -> Path:
    """A new folder named after the time. Raises ConfigError when it cannot be made."""
    try:
        for n in range(1000):
            folder = parent / (time.strftime("%Y%m%d-%H%M%S") + (f"-{n}" if n else ""))
            try:
                folder.mkdir(parents=True)
                return folder
            except FileExistsError:
                if not folder.is_dir() or not parent.is_dir():
                    raise
        raise FileExistsError(f"{folder} and 999 others exist")
    except OSError as error:
        raise ConfigError(f"Global.output_dir: {parent} cannot be written ({error.strerror or error})") from None


def _check_plan(config: Config) -> None:
    """Raises ConfigError for settings of Global that do not go together."""
    g = config.Global
    if g.epochs == 0:
        LOGGER.warning("Global.epochs is 0: nothing is trained and no model is saved")
    if g.early_stop is not None and (g.early_stop < 1 or not (g.eval_during_train and g.eval_interval)):
        raise ConfigError(f"Global.early_stop {g.early_stop} counts evaluations without a better score: give 1 or more "
                          "with eval_during_train: True and an eval_interval of 1 or more; null never stops early")


def _leave_to_the_first(path: Path, metrics: Mapping[str, Any]) -> None:
    """What the other processes save."""


def _shares_statistics(built: TunedModel, config: Config) -> bool:
    """Whether every BatchNorm is one that several processes may share the statistics of, and is to."""
    return config.Global.sync_batchnorm and not any(map(is_batch_norm, built.adaptation.network.sublayers()))


def _share(built: TunedModel, config: Config, together: Processes) -> None:
    """Several processes train: say so, and let BatchNorm see the whole of a batch where it is to."""
    g, share = config.Global, config.DataLoader.Train.sampler.batch_size
    norms = [layer for layer in built.adaptation.network.sublayers() if isinstance(layer, BatchNorm)]
    if g.sync_batchnorm:
        for norm in norms:
            norm.over_processes = together.sum_with_gradient
    built.notes.append(f"{together.count} processes x {share} images x update_freq {g.update_freq} make a step of "
                       f"{together.count * share * g.update_freq}")
    if not _shares_statistics(built, config):
        whose = "BatchNorm" if not g.sync_batchnorm else "BatchNorm below the head"
        built.notes.append(f"{whose} takes the statistics of each process's share of a batch; the running ones are "
                           "averaged")


def _loaders(config: Config, task: Task, together: Processes) -> tuple[Loader, Optional[Loader]]:
    """Batches to train on and to evaluate on; None where nothing is evaluated. Raises DataError for other classes."""
    splits, g = config.DataLoader, config.Global
    train_data = dataset(splits.Train, "train", g.seed)
    eval_loader = loader(splits.Eval, "test", g.seed, task=task, processes=together) if g.eval_during_train else None
    if eval_loader:
        eval_loader.dataset.check_readable()
    said = labels.check_training(train_data, "DataLoader.Train")
    warn_of_two_labels(train_data, "DataLoader.Train")
    if eval_loader:
        said += labels.match_classes(eval_loader.dataset, train_data.classes, "DataLoader.Eval", "DataLoader.Train")
        warn_of_overlap(train_data, eval_loader.dataset)
    count = len(train_data.classes)
    if config.Arch.class_num not in (None, count):
        why = said[0] if said else "remove class_num, or choose the data that fits"
        raise ConfigError(f"Arch.class_num is {config.Arch.class_num} and DataLoader.Train has {count} classes: {why}")
    for warning in said:
        LOGGER.warning("%s", warning)
    return loader(splits.Train, "train", g.seed, train_data, task, together), eval_loader


def _schedule(config: Config, train_loader: Loader, processes: int) -> Schedule:
    """Optimizer.lr, in steps of this data."""
    given = config.Optimizer.get("lr") or {}
    if not isinstance(given, Mapping):
        raise ConfigError(f"Optimizer.lr is {_brief(given)}: give a mapping, {{name: Constant, learning_rate: 0.1}}")
    options = dict(given)
    check_schedule(options)
    batches, update_freq = len(train_loader), config.Global.update_freq
    steps_per_epoch = -(-batches // update_freq)  # rounded up: the last step may be of fewer batches
    schedule = Schedule(steps_per_epoch, config.Global.epochs, processes * train_loader.batch_size * update_freq,
                        **options)
    if not schedule.peak and schedule.name != "Piecewise":  # whose first rate it is
        LOGGER.warning("Optimizer.lr.learning_rate is 0: nothing is trained but the running statistics of BatchNorm")
    return schedule


def _optimizer(config: Config, parameters: Mapping[str, Any], schedule: Schedule) -> Any:
    options = {key: value for key, value in config.Optimizer.items() if key not in ("name", "lr")}
    return build_optimizer(parameters, schedule, config.Optimizer.get("name"), **options)


def _recompute(built: TunedModel) -> None:
    network = built.adaptation.network
    count, total = recompute_blocks(network), len(built.adaptation.anatomy.block_list(network))
    if not count:
        LOGGER.warning("Global.recompute has no effect: no block's input needs a gradient")
        return
    cost = "a half" if any(p.stop_gradient for p in network.parameters()) else "a third"
    built.notes.append(f"Global.recompute: at most {count} of {total} blocks run forward twice and keep their input "
                       f"only: a step takes up to {cost} as long again")


def _brief(value: Any, most: int = 160) -> str:
    text = str(value)
    return text if len(text) <= most else f"{text[:most]}..."
