"""The sections of a configuration, PaddleClas's: what there is, of what kind, how far, and what it is by default."""
from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Optional, Union, get_type_hints

from ..ranges import Count, Positive, Range, Seed, Whole


@dataclass
class Global:
    """What belongs to the run.

    Attributes:
        device: auto, cpu, gpu or gpu:N.
        output_dir: gets a fresh folder for each run.
        seed: of all that is drawn: weights, order, crops, dropout.
        epochs: of training; 0: nothing is trained, and no model is saved.
        update_freq: so many batches make one step of the optimizer.
        eval_during_train: without it nothing is evaluated, and the last state is the best one.
        eval_interval: epochs from one evaluation to the next; 0: only after the last.
        save_interval: epochs from one checkpoint to the next; 0: only after the last.
        save_interval_steps: steps between checkpoints inside an epoch; 0: none.
        save_interval_seconds: seconds between checkpoints inside an epoch; 0: none.
        print_batch_step: batches between points of the curves, and between lines of the log.
        print_seconds: seconds that lie between two of these lines at least; 0: none need to.
        early_stop: end after so many evaluations without a better score; null: never.
        use_visualdl: curves, and pictures of what is found of each class.
        recompute: keep only each block's input and run its forward again in the backward: less memory, more time.
        sync_batchnorm: where several processes train together, the head's BatchNorm takes the statistics of all of a
            batch; False: each process of its share.
        pretrained_model: a tuned file to start from, to evaluate or to answer with.
        pretrained_head: False leaves that file's head out, so that it may be of other classes.
        checkpoints: a run's folder to go on with (or one of its ckpt/step-...), or auto: the newest of this config, if
            there is one.
        allow_changes: let a resumed run be another one where it would be refused.
        cache_features: where images are the same in every epoch, compute once what the first thing that trains reads,
            the head or a block (`Tuning.blocks: "9:"`), and keep it; auto: where that can be, True: or an error, False:
            never.
        cache_views: let training show images in so many views, those of its first epochs in turn, instead of drawing
            anew in every epoch, so that they can be kept; null: as the transforms say.
        cache_dtype: what streams between blocks are kept in, float32 or bfloat16 (half the size, rounded).
        cache_limit: GB that kept streams may take on the disk; those used longest ago make room.
        feature_cache: the folder for all that; null: $PPADAPT_CACHE or ~/.cache/ppadapt.
    """

    device: str = "auto"
    output_dir: str = "output"
    seed: Seed = 0
    epochs: Whole = 100
    update_freq: Count = 1
    eval_during_train: bool = True
    eval_interval: Whole = 1
    save_interval: Whole = 1
    save_interval_steps: Whole = 0
    save_interval_seconds: Whole = 0
    print_batch_step: Count = 10
    print_seconds: Whole = 10
    early_stop: Optional[Count] = None
    use_visualdl: bool = True
    recompute: bool = False
    sync_batchnorm: bool = True
    pretrained_model: Optional[str] = None
    pretrained_head: bool = True
    checkpoints: Optional[str] = None
    allow_changes: bool = False
    cache_features: Union[bool, str] = "auto"
    cache_views: Optional[Count] = None
    cache_dtype: str = "float32"
    cache_limit: Positive = 10.0
    feature_cache: Optional[str] = None


@dataclass
class Arch:
    """The network, ours or PaddleClas's (docs/backbones.md). Options of its own (img_size ...) stand beside these.

    Attributes:
        name: of the network.
        pretrained: the path of a file or folder of weights; True: those that ship with the package or that PaddleClas
            downloads; null: random ones.
        pretrained_key: where the network is in a file of several.
        pretrained_of: which published model the file is (docs/weights.md), where it does not tell.
        pretrained_resize: how positions are brought to another grid: plain, antialias or offset; null: as the file's
            library does.
        class_num: that of the data when it is left out.
        head: what turns features into logits.
        frozen_dtype: float32, bfloat16 or float16, what frozen matrices are kept in.
        options: of the network's constructor.
    """

    name: str
    pretrained: Union[bool, str, None] = None
    pretrained_key: Optional[str] = None
    pretrained_of: Optional[str] = None
    pretrained_resize: Optional[str] = None
    class_num: Optional[Count] = None
    head: str = "BatchNormLinear"
    frozen_dtype: str = "float32"
    options: dict = field(default_factory=dict)


@dataclass
class AMP:
    """Mixed precision; what trains is float32 at every level.

    Attributes:
        level: O0: none. O1: operations choose. O2: what is frozen is kept in `dtype` as well.
        dtype: float16 or bfloat16 (a V100 and older have no bfloat16; a CPU has no float16).
        scale_loss: what the loss is multiplied by, so that small gradients stay above zero in float16.
        use_dynamic_loss_scaling: adapt it while training.
    """

    level: str = "O0"
    dtype: str = "float16"
    scale_loss: Positive = 65536.0
    use_dynamic_loss_scaling: bool = True


@dataclass
class EMA:
    """Moving average of what trains, evaluated and saved in its place.

    Attributes:
        decay: how much of the average stays at each step, such as 0.999; null: no average.
    """

    decay: Optional[Annotated[float, Range(0, 1, above=True, below=True)]] = None


@dataclass
class Infer:
    """What answers for images outside of any data set.

    Attributes:
        infer_imgs: an image, a folder or a glob.
        batch_size: images at once.
        transforms: operators that make an image ready; null: those of the tuned file's evaluation.
        topk: how many classes an answer names, of one label per image.
        save_path: a .csv or .json that the answers go into as well.
    """

    infer_imgs: Optional[str] = None
    batch_size: Count = 32
    transforms: Optional[list] = None
    topk: Count = 5
    save_path: Optional[str] = None


@dataclass
class Sampler:
    """Which images make a batch.

    Attributes:
        name: DistributedBatchSampler and BatchSampler are the same here; ClassBalancedSampler draws every class alike.
        batch_size: images of a batch, of each process where several train together.
        drop_last: leave a last batch of fewer images out.
        shuffle: in another order each epoch; null: in training.
    """

    name: str = "DistributedBatchSampler"
    batch_size: Count = 64
    drop_last: bool = False
    shuffle: Optional[bool] = None


@dataclass
class WorkerOptions:
    """How batches are made.

    Attributes:
        num_workers: processes that read and transform images; 0: none but this one.
        use_shared_memory: workers hand batches over in memory of theirs and this process's, which takes no room of
            /dev/shm; False: through pipes, which is slower.
        transform_by: image: one by one; batch: whole batches on the device; auto: batches where data and operators
            allow.
    """

    num_workers: Annotated[int, Range(0, 512)] = 0
    use_shared_memory: bool = True
    transform_by: str = "auto"


@dataclass
class Side:
    """One side of the data: `dataset` is a `name` and its options."""

    dataset: dict
    sampler: Sampler = field(default_factory=Sampler)
    loader: WorkerOptions = field(default_factory=WorkerOptions)


@dataclass
class DataLoader:
    """Training and evaluation data."""

    Train: Side
    Eval: Side


@dataclass
class Loss:
    """Lists of one-entry mappings: `- CELoss: {weight: 1.0, epsilon: 0.1}`; null: those of the Task."""

    Train: Optional[list] = None
    Eval: Optional[list] = None


@dataclass
class Metric:
    """Lists of one-entry mappings: `- TopkAcc: {topk: [1, 5]}`; null: those of the Task."""

    Train: Optional[list] = None
    Eval: Optional[list] = None


@dataclass
class Config:
    """A whole configuration. `Task`, `Tuning` and `Optimizer` hold a `name` with its options."""

    Arch: Arch
    DataLoader: DataLoader
    Global: Global = field(default_factory=Global)
    Task: dict = field(default_factory=lambda: {"name": "SingleLabel"})
    Tuning: Union[dict, list] = field(default_factory=lambda: {"name": "AdaptFormer"})
    Optimizer: dict = field(default_factory=lambda: {"name": "Momentum"})
    AMP: AMP = field(default_factory=AMP)
    EMA: EMA = field(default_factory=EMA)
    Loss: Loss = field(default_factory=Loss)
    Metric: Metric = field(default_factory=Metric)
    Infer: Infer = field(default_factory=Infer)
    # Of one that was read: the file, what it was read from, what was dropped or kept where it may surprise.
    source: ClassVar[Optional[Path]] = None
    facts: ClassVar[tuple[str, ...]] = ()
    notes: ClassVar[tuple[str, ...]] = ()

    def to_dict(self) -> dict:
        """The configuration as it was resolved, as plain data that `parse` reads again."""
        tree = dataclasses.asdict(self)
        tree["Arch"].update(tree["Arch"].pop("options"))
        return tree


def fixed_sections(cls: type = Config) -> dict:
    """The sections that are dataclasses, by name, with those inside them."""
    hints = get_type_hints(cls)
    return {f.name: fixed_sections(hints[f.name]) for f in dataclasses.fields(cls)
            if dataclasses.is_dataclass(hints[f.name])}
