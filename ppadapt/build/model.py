"""The sections Arch and Tuning: a network with its weights, its head and what tunes it; its file, written and read."""
from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping, Optional

import paddle
from paddle import nn

from .. import weights
from ..config import Config
from ..data import Dataset
from ..errors import ConfigError, choose
from ..log import LOGGER
from ..models.catalogue import anatomy_of
from ..models.heads import HEADS
from ..models.layers import attention_kernel
from ..models.pixels import UNKNOWN
from ..networks import network_and_report
from ..options import construct
from ..tasks import Task
from ..tuning import METHODS, Adaptation, attach
from ..tuning.frozen.layers import DTYPES
from .complaints import KEEP_HEAD
from .data import dataset
from .manifests import check_fits, manifest_of
from .pixels import check_pixels
from .task import task_of


def network(config: Config, class_num: int) -> tuple[nn.Layer, Optional[weights.Report]]:
    """The network with its pretrained weights, its own head of `class_num` classes, and the report of loading."""
    arch = config.Arch
    if arch.head not in HEADS and arch.head != KEEP_HEAD:
        raise ConfigError(choose("Arch.head", arch.head, (*HEADS, KEEP_HEAD)))
    keep = arch.head == KEEP_HEAD
    if keep and arch.pretrained in (None, False):
        raise ConfigError(f"Arch.head: {KEEP_HEAD} takes the classifier of Arch.pretrained, which is not given")
    return network_and_report(arch.name, arch.pretrained, class_num if keep else 0, arch.pretrained_key,
                              arch.pretrained_of, arch.pretrained_resize, **arch.options)


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
        weights.save_tuned(path, self.adaptation.state(), self.manifest(metrics))

    def image_shape(self) -> Optional[tuple[int, int, int]]:
        """C, H, W of the images that the network takes, None where it does not tell or takes any."""
        return self.adaptation.anatomy.image_shape(self.adaptation.network)

    def load(self, path: str | Path, head: bool = True) -> dict:
        """Load a tuned file; returns its manifest. Without its `head`, it may be of other classes.

        Raises:
            ConfigError, TuningError, WeightsError: when the file is not there, or was trained with another
                network, tuning, preprocessing or set of classes; both sides are named.
        """
        if not Path(path).is_file():
            what = "is a folder" if Path(path).is_dir() else "does not exist"
            raise ConfigError(f"Global.pretrained_model {path} {what}. Give a tuned file, such as "
                              "output/.../best_model.safetensors")
        tensors, manifest = weights.load_tuned(path)
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
    elif report is not None:
        check_pixels(config, report.pixels or UNKNOWN, f"the network of {report.file}")
    built.notes.append(f"attention: {attention_kernel()}")
    if not config.Global.pretrained_head and not config.Global.pretrained_model:
        LOGGER.warning("Global.pretrained_head: False has no effect without Global.pretrained_model")
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


def class_names(config: Config, data: Optional[Dataset] = None) -> list[str]:
    """The classes a network answers with: those in the tuned file, else those of the evaluation data."""
    path = config.Global.pretrained_model
    if path and Path(path).is_file() and config.Global.pretrained_head:
        classes = weights.read_manifest(path).get("classes")
        if classes:
            return classes
    return (data or dataset(config.DataLoader.Eval, "test", config.Global.seed)).classes
