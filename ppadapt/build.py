"""The only place where a configuration becomes objects."""
from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Collection, Mapping, Optional

import paddle
from paddle import nn

from . import weights
from .config import Config, Sampler, Split
from .data import DATASETS, Dataset, Loader, build_loader, holdout
from .engine import checkpoint
from .engine.amp import Precision
from .engine.curves import Curves
from .engine.loop import Job
from .engine.optim import EMA, build_optimizer, optimizer_options
from .engine.schedules import Schedule, schedule_options
from .errors import ConfigError, choose
from .files import remove_leftovers
from .log import LOGGER, setup
from .manifests import check_fits, manifest_of
from .models.catalogue import anatomy_of
from .models.heads import HEADS
from .models.layers import attention_kernel
from .networks import network_and_report, network_options
from .options import check_options, construct, options_of
from .tasks import TASKS, SingleLabel, Task
from .tuning import METHODS, Adaptation, attach
from .tuning.frozen import features
from .tuning.frozen.layers import DTYPES
from .tuning.frozen.recompute import recompute_blocks

KEEP_HEAD = "Pretrained"
BALANCED = "ClassBalancedSampler"
SAMPLERS = ("DistributedBatchSampler", "BatchSampler", BALANCED)
# What every data set takes beside its own options.
_DATASET_OPTIONS = ("transform_ops", "batch_transform_ops", "holdout", "split")


def options_for(path: str, given: Mapping[str, Any]) -> Optional[Collection[str]]:
    """The options that what is named at a place of a config takes; None where any may stand there, or for an unknown
    name. A tuning method's options are its paper's: none goes over to another method."""
    name = given["name"]
    if path.partition(".")[0] == "Tuning":
        return ()
    if path == "Optimizer.lr":
        return schedule_options(name, given)
    if path in ("Optimizer", "Arch"):
        return {"Optimizer": optimizer_options, "Arch": network_options}[path](name)
    if path.startswith("DataLoader.") and path.endswith(".dataset") and name in DATASETS:
        return (*options_of(DATASETS[name], ("transform", "seed")), *_DATASET_OPTIONS)
    return None


def set_device(device: str) -> str:
    """Choose the device: auto, cpu, gpu, gpu:N. Raises ConfigError when this Paddle or machine has none."""
    gpu = paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0
    if device == "auto":
        device = "gpu" if gpu else "cpu"
    if device.partition(":")[0] not in ("cpu", "gpu"):
        raise ConfigError(choose("Global.device", device, ("auto", "cpu", "gpu", "gpu:0")))
    if device.startswith("gpu") and not gpu:
        why = "finds no GPU" if paddle.is_compiled_with_cuda() else "is the CPU build (pip install paddlepaddle-gpu)"
        raise ConfigError(f"Global.device is {device} and this Paddle {why}: use -o Global.device=cpu")
    try:
        return paddle.set_device(device)
    except (ValueError, OSError) as error:
        raise ConfigError(f"Global.device {device}: {error}") from None


def dataset(split: Split, kind: str, seed: int) -> Dataset:
    """A data set: `kind` is "train" or "test", which `dataset.split` may change.

    With `dataset.holdout: 0.1` training leaves a tenth of its data out; `split: holdout` is that tenth.
    """
    options = dict(split.dataset)
    options.pop("batch_transform_ops", None)
    transform, share = options.pop("transform_ops", None), options.pop("holdout", None)
    part = options.pop("split", kind)
    where = f"DataLoader.{_side(kind)}.dataset"
    if part == holdout.PART and share is None:
        raise ConfigError(f"{where}.split is {part}: set {where}.holdout to a share of the training data, such as 0.1")
    given = {"split": "train" if part == holdout.PART else part, **options}
    data = construct(DATASETS, given, where, transform=transform, seed=seed)
    if share is not None and given["split"] == "train":
        holdout.hold_out(data, share, part)
    return data


def task_of(config: Config) -> Task:
    """What is asked of a sample. Losses and metrics that the config does not name become the task's, in the config."""
    task = construct(TASKS, {"name": SingleLabel.__name__, **config.Task}, "Task")
    for section, default in ((config.Loss, task.default_losses), (config.Metric, task.default_metrics)):
        for side in ("Train", "Eval"):
            if getattr(section, side) is None:
                setattr(section, side, copy.deepcopy(default))
    return task


def losses(config: Config, task: Task, side: str, data: Dataset) -> list:
    """The losses of a side, "Train" or "Eval", ready for its data."""
    built = entries(task, "losses", getattr(config.Loss, side), f"Loss.{side}")
    if not built:
        raise ConfigError(f"Loss.{side} is empty: name at least one of {', '.join(task.losses)}")
    for loss in built:
        loss.prepare(data.labels, data.classes)
    return built


def metrics(config: Config, task: Task, side: str) -> list:
    """The metrics of a side; those of an evaluation include the task's own reports."""
    built = entries(task, "metrics", getattr(config.Metric, side), f"Metric.{side}")
    return built + (task.reports() if side == "Eval" else [])


def loader(split: Split, kind: str, seed: int, data: Optional[Dataset] = None, task: Optional[Task] = None) -> Loader:
    """Batches of a data set; training data is shuffled unless the sampler says otherwise.

    Args:
        task: says how targets are collated; SingleLabel when absent.

    Raises:
        UserError: also for data that the task does not fit, and for an evaluation that would not be one.
    """
    data = dataset(split, kind, seed) if data is None else data
    task = task or SingleLabel()
    sampler, where = split.sampler, f"DataLoader.{_side(kind)}"
    if sampler.name not in SAMPLERS:
        raise ConfigError(choose(f"{where}.sampler.name", sampler.name, SAMPLERS))
    task.check(data.labels, data.classes, f"{where}.dataset ({split.dataset.get('name')})")
    balanced = sampler.name == BALANCED
    if kind == "test":
        _check_evaluation(split, data, where)
    elif balanced and sampler.shuffle is False:
        raise ConfigError(f"{where}.sampler: {BALANCED} draws at random: remove shuffle: False")
    return build_loader(data, sampler.batch_size, kind == "train" if sampler.shuffle is None else sampler.shuffle,
                        sampler.drop_last, split.loader.num_workers, split.loader.use_shared_memory,
                        split.dataset.get("batch_transform_ops"), seed, transform_by=split.loader.transform_by,
                        collate=task.collate, groups=task.groups(data.labels) if balanced else None)


def _check_evaluation(split: Split, data: Dataset, where: str) -> None:
    """Raises ConfigError, naming it, for what would measure something else than the network on all of the data."""
    mixing = [next(iter(op)) if isinstance(op, Mapping) else op
              for op in split.dataset.get("batch_transform_ops") or ()]
    if mixing:
        raise ConfigError(f"{where}.dataset.batch_transform_ops mixes the test images ({', '.join(map(str, mixing))}): "
                          "an evaluation is of the images as they are. Remove it; mixing belongs to DataLoader.Train")
    if split.sampler.drop_last:
        raise ConfigError(f"{where}.sampler.drop_last: True would leave the images of the last batch out of the "
                          "evaluation: set it to False")
    if split.sampler.name == BALANCED:
        raise ConfigError(f"{where}.sampler.name: {BALANCED} shows some images several times and others never: an "
                          "evaluation takes each once. Use DistributedBatchSampler")
    drawing = [type(op).__name__ for op in data.transform.ops if op.random]
    if drawing:
        raise ConfigError(f"{where}.dataset.transform_ops changes the test images at random ({', '.join(drawing)}): "
                          "each evaluation would find another number. Remove it, or use a fixed operator such as "
                          "ResizeImage and CropImage")


def network(config: Config, class_num: int) -> tuple[nn.Layer, Optional[weights.Report]]:
    """The network with its pretrained weights, its own head of `class_num` classes, and the report of loading."""
    arch = config.Arch
    if arch.head not in HEADS and arch.head != KEEP_HEAD:
        raise ConfigError(choose("Arch.head", arch.head, (*HEADS, KEEP_HEAD)))
    keep = arch.head == KEEP_HEAD
    if keep and arch.pretrained in (None, False):
        raise ConfigError(f"Arch.head: {KEEP_HEAD} takes the classifier of Arch.pretrained, which is not given")
    return network_and_report(arch.name, arch.pretrained, class_num if keep else 0, arch.pretrained_key, **arch.options)


def methods(tuning: Any) -> list:
    """The tuning methods of `Tuning`: one mapping or a list of them."""
    sections = tuning if isinstance(tuning, list) else [tuning]
    if not sections:
        raise ConfigError(f"Tuning is an empty list. Choose from: {', '.join(METHODS)}")
    return [construct(METHODS, section, "Tuning" if len(sections) == 1 else f"Tuning.{i}")
            for i, section in enumerate(sections)]


@dataclass
class TunedModel:
    """An adapted network with what its files and predictions need. `notes` say what was chosen, and its cost."""

    config: Config
    task: Task
    adaptation: Adaptation
    classes: list[str]
    report: Optional[weights.Report]
    notes: list[str] = field(default_factory=list)

    def manifest(self, metrics: Mapping[str, Any]) -> dict:
        """What the tuned file says about itself."""
        return manifest_of(self.config, self.task, self.adaptation, self.classes, metrics)

    def save(self, path: Path, metrics: Mapping[str, Any]) -> None:
        """Write the tuned state."""
        weights.save_adapter(path, self.adaptation.state(), self.manifest(metrics))

    def load(self, path: str | Path, head: bool = True) -> dict:
        """Load a tuned file; returns its manifest. Without its `head`, it may be of other classes.

        Raises:
            ConfigError, TuningError, WeightsError: when the file is not there, or was trained with another
                network, tuning, preprocessing or set of classes; both sides are named.
        """
        if not Path(path).is_file():
            raise ConfigError(f"Global.pretrained_model {path} does not exist. Give a tuned file, such as "
                              "output/.../best_model.safetensors")
        tensors, manifest = weights.load_adapter(path)
        wanted = self.manifest({})
        if all(not p.stop_gradient for p in self.adaptation.network.parameters()):
            del wanted["backbone"]["digest"]  # the file holds the whole network
        if not head:
            for section in ("classes", "head", "task"):
                wanted.pop(section, None)
            anew = {n: a for n, a in self.adaptation.state().items() if self.adaptation.anatomy.answers(n)}
            tensors = {n: a for n, a in tensors.items() if not self.adaptation.anatomy.answers(n)}
            self.notes.append(f"Global.pretrained_head: False: {len(tensors)} tensors are those of {path}, the head "
                              f"starts anew: {weights.compact(anew)}")
            tensors.update(anew)
        check_fits(path, manifest, wanted)
        self.adaptation.load_state(tensors)
        return manifest


def tuned_model(config: Config, classes: list[str]) -> TunedModel:
    """Network, pretrained weights, head and tuning for these classes; Global.pretrained_model is loaded.

    The initial weights of what is new depend on Global.seed alone.
    """
    class_num = len(classes)
    if config.Arch.class_num not in (None, class_num):
        raise ConfigError(f"Arch.class_num is {config.Arch.class_num} and the data set has {class_num} classes: "
                          "remove class_num, or choose the data that fits")
    paddle.seed(config.Global.seed)
    net, report = network(config, class_num)
    anatomy = anatomy_of(net)
    head = None if config.Arch.head == KEEP_HEAD else HEADS[config.Arch.head](anatomy.feature_dim(net), class_num)
    chosen = methods(config.Tuning)
    new = () if report is None else [n for n in report.new if not anatomy.answers(n)]
    adaptation = attach(net, *chosen, head=head, also_train=new)
    built = TunedModel(config, task_of(config), adaptation, classes, report)
    frozen = len(adaptation.trained) < len(list(net.named_parameters()))
    if report is None and frozen and not config.Global.pretrained_model:
        LOGGER.warning("the frozen network has random weights: set Arch.pretrained (True for those that ship)")
    built.notes.append(f"attention: {attention_kernel()}")
    if config.Global.pretrained_model:
        built.load(config.Global.pretrained_model, config.Global.pretrained_head)
    _store_frozen(built, config.Arch.frozen_dtype)
    return built


def _store_frozen(built: TunedModel, dtype: str) -> None:
    if dtype not in DTYPES:
        raise ConfigError(choose("Arch.frozen_dtype", dtype, DTYPES))
    if dtype == "float32":
        return
    why = built.adaptation.anatomy.without.get("frozen_dtype")
    if why:
        raise ConfigError(f"Arch.frozen_dtype {dtype} does not work on {built.config.Arch.name}: {why}. Use float32")
    count = built.adaptation.store_frozen(dtype)
    if not count:
        LOGGER.warning("Arch.frozen_dtype %s has no effect: no Linear is frozen", dtype)
        return
    cost = "; a CPU casts each to float32 when it is used" if paddle.get_device() == "cpu" else ""
    built.notes.append(f"Arch.frozen_dtype: {count:,} frozen parameters are kept in {dtype}{cost}")


def _recompute(built: TunedModel) -> None:
    network = built.adaptation.network
    count, total = recompute_blocks(network), len(built.adaptation.anatomy.block_list(network))
    if not count:
        LOGGER.warning("Global.recompute has no effect: no block's input needs a gradient")
        return
    cost = "a half" if any(p.stop_gradient for p in network.parameters()) else "a third"
    built.notes.append(f"Global.recompute: at most {count} of {total} blocks run forward twice and keep their input "
                       f"only: a step takes up to {cost} as long again")


def class_names(config: Config) -> list[str]:
    """The classes a network answers with: those in the tuned file, else those of the evaluation data."""
    path = config.Global.pretrained_model
    if path and Path(path).is_file() and config.Global.pretrained_head:
        classes = weights.read_manifest(path).get("classes")
        if classes:
            return classes
    return dataset(config.DataLoader.Eval, "test", config.Global.seed).classes


def job(config: Config, name: str = "run") -> tuple[Job, TunedModel]:
    """Everything `engine.loop.run` needs, in a fresh folder output_dir/name/time."""
    parts, built = _parts(config)
    # Last, so that a mistake in the config leaves no empty folder behind.
    g = config.Global
    remove_leftovers(Path(g.output_dir), depth=2)
    folder = checkpoint.fresh_folder(Path(g.output_dir) / name)
    setup(folder / "train.log")
    curves = Curves(folder / "vdl" if g.use_visualdl else None)
    return Job(folder=folder, curves=curves, **parts), built


def check(config: Config) -> None:
    """Build all that training needs and let it go. Raises UserError for the mistakes that `job` would find."""
    _parts(config)


def _parts(config: Config) -> tuple[dict[str, Any], TunedModel]:
    """The fields of a Job that need no folder, and the tuned model."""
    g = config.Global
    if g.epochs == 0:
        LOGGER.warning("Global.epochs is 0: nothing is trained and no model is saved")
    set_device(g.device)
    resume = tuned = None
    if g.checkpoints:
        tuned, progress = checkpoint.find_progress(g.checkpoints)
        resume = checkpoint.load_progress(progress)
    if g.early_stop is not None and (g.early_stop < 1 or not (g.eval_during_train and g.eval_interval)):
        raise ConfigError(f"Global.early_stop {g.early_stop} counts evaluations without a better score: give 1 or more "
                          "with eval_during_train: True and an eval_interval of 1 or more; null never stops early")
    splits, task = config.DataLoader, task_of(config)
    train_data = dataset(splits.Train, "train", g.seed)
    eval_loader = loader(splits.Eval, "test", g.seed, task=task) if g.eval_during_train else None
    if eval_loader and eval_loader.dataset.classes != train_data.classes:
        raise ConfigError(f"DataLoader.Train has classes {_brief(train_data.classes)} and DataLoader.Eval "
                          f"{_brief(eval_loader.dataset.classes)}: they must be the same")
    train_loader = loader(splits.Train, "train", g.seed, train_data, task)
    eval_data = eval_loader.dataset if eval_loader else train_data
    built = tuned_model(config, train_data.classes)
    if tuned:
        built.load(tuned)
    if g.recompute:
        _recompute(built)
    steps = -(-len(train_loader) // g.update_freq)
    options = dict(config.Optimizer)
    lr = options.pop("lr", None) or {}
    if not isinstance(lr, Mapping):
        raise ConfigError(f"Optimizer.lr is {_brief(lr)}: give a mapping, {{name: Constant, learning_rate: 0.1}}")
    lr = dict(lr)
    where = "Optimizer.lr" + (f" ({lr['name']})" if "name" in lr else "")
    hidden = ("steps_per_epoch", "epochs", "batch_size")
    check_options(Schedule.__init__, lr, where, hidden)
    schedule = Schedule(steps, g.epochs, train_loader.batch_size * g.update_freq, **lr)
    check_options(build_optimizer, options, "Optimizer", ("parameters", "schedule"))
    parameters = built.adaptation.parameters()
    optimizer = build_optimizer(parameters, schedule, **options)
    precision = Precision(**vars(config.AMP))
    ema = EMA(parameters, config.EMA.decay) if config.EMA.decay is not None else None
    adaptation, train_loader, eval_loader = _on_features(config, built, train_loader, eval_loader, precision)
    parts = {
        "adaptation": adaptation, "train_loader": train_loader, "eval_loader": eval_loader,
        "task": task, "classes": built.classes,
        "train_losses": losses(config, task, "Train", train_data),
        "eval_losses": losses(config, task, "Eval", eval_data),
        "train_metrics": metrics(config, task, "Train"), "eval_metrics": metrics(config, task, "Eval"),
        "optimizer": optimizer, "schedule": schedule, "save": built.save, "precision": precision, "ema": ema,
        "epochs": g.epochs, "seed": g.seed, "update_freq": g.update_freq, "print_batch_step": g.print_batch_step,
        "eval_interval": g.eval_interval, "save_interval": g.save_interval, "early_stop": g.early_stop,
        "resume": resume}
    return parts, built


def _on_features(config: Config, built: TunedModel, train_loader: Loader, eval_loader: Optional[Loader],
                 precision: Precision) -> tuple:
    """Adaptation and loaders, on cached features where Global.cache_features and what trains allow."""
    asked = config.Global.cache_features
    if asked not in ("auto", True, False):
        raise ConfigError(choose("Global.cache_features", asked, ("auto", True, False)))
    plain = {"Train": train_loader, **({"Eval": eval_loader} if eval_loader else {})}
    head_only, why_not = (False, "") if asked is False else features.obstacle(built.adaptation, plain.values())
    if asked is True and why_not:
        raise ConfigError(f"Global.cache_features is True, but {why_not}")
    if asked is False or why_not:
        if head_only:
            built.notes.append(f"features are not cached: {why_not}")
        return built.adaptation, train_loader, eval_loader
    ordered, transforms = {}, {}
    for side, plain_loader in plain.items():
        split = copy.deepcopy(getattr(config.DataLoader, side))
        split.sampler = Sampler(batch_size=config.DataLoader.Eval.sampler.batch_size, shuffle=False)
        ordered[side] = loader(split, "train" if side == "Train" else "test", config.Global.seed, plain_loader.dataset,
                               built.task)
        transforms[side] = split.dataset.get("transform_ops")
    arch = {"name": config.Arch.name, "frozen_dtype": config.Arch.frozen_dtype, **config.Arch.options}
    numbers = [precision.level] if precision.level == "O0" else [precision.level, precision.dtype]
    cached = features.use(built.adaptation, plain, ordered, transforms, arch, precision.context, numbers,
                          features.folder(config.Global.feature_cache))
    return features.HeadOnly(built.adaptation), cached["Train"], cached.get("Eval")


def entries(task: Task, family: str, given: list, where: str) -> list:
    """Objects from PaddleClas's lists of one-entry mappings: [{CELoss: {weight: 1.0}}].

    Args:
        family: "losses" or "metrics" of the task.
    """
    choices, built = getattr(task, family), []
    for i, entry in enumerate(given):
        if not isinstance(entry, Mapping) or len(entry) != 1:
            raise ConfigError(f"{where}.{i} is {entry!r}: it must be one name with its options, such as "
                              f"{{{next(iter(choices))}: {{}}}}")
        (name, options), = entry.items()
        owner = next((kind for kind, other in TASKS.items() if name in getattr(other, family)), None)
        if name not in choices and owner:
            raise ConfigError(f"{where}.{i}: {name} belongs to Task {owner}, and Task.name is {type(task).__name__}: "
                              f"choose from {', '.join(choices)}, or set Task.name: {owner}")
        built.append(construct(choices, {"name": name, **(options or {})}, f"{where}.{i}"))
    return built


def _brief(value: Any, most: int = 160) -> str:
    text = str(value)
    return text if len(text) <= most else f"{text[:most]}..."


def _side(kind: str) -> str:
    return "Train" if kind == "train" else "Eval"
