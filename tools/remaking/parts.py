"""All that is published: a part for each question, what it runs, and where its numbers stand."""
from __future__ import annotations

from . import growing
from .benchmarks import Benchmarks
from .demo import Demo
from .growing import Growing
from .parity import Parity
from .part import Part, View
from .place import Place
from .trainings import Line, Trainings, methods

FEW = ("DataLoader.Train.dataset.limit=4000", "Global.eval_interval=0")
# Once, four and sixteen times the rate of each method's config, which is smaller where pretrained matrices train; one
# more where the best of these was at an end.
RATE = "Optimizer.lr.learning_rate="
RATES = {"full": "2e-4,8e-4,3.2e-3", "last_blocks": "2e-4,8e-4,3.2e-3,1.28e-2", "houlsby": "5e-4,2e-3,8e-3,3.2e-2",
         "vpt": "5e-4,2e-3,8e-3,3.2e-2"}
OTHER_RATES = "2e-3,8e-3,3.2e-2"
# What the part `methods` chose among these, for the parts that take it over.
CHOSEN = {"linear": f"{RATE}8e-3", "adaptformer": f"{RATE}8e-3", "lora": f"{RATE}8e-3", "full": f"{RATE}8e-4"}
ALL = ("adaptformer", "linear", "lora", "adapter_plus", "bitfit", "vpt", "full", "layernorm", "ssf", "houlsby",
       "pfeiffer", "convpass", "repadapter", "last_blocks", "adaptformer_vpt")
LAST_TWO = ('Tuning={name: AdaptFormer, blocks: "4:"}',)
# Of the ablations, those that docs/results.md may draw a conclusion from have three seeds, the others one.
ABLATIONS = ("default", "bottleneck_1", "bottleneck_16", "bottleneck_256", "scale_0.01", "scale_10", "scale_learnable",
             "sequential", "blocks_last_half", "blocks_first_half")
MORE_ABLATIONS = ("bottleneck_4", "bottleneck_32", "bottleneck_128", "scale_0.05", "scale_0.2", "scale_1",
                  "blocks_every_second", "blocks_last_block", "blocks_last_two")


def _kept(row: dict) -> str:
    """What became of the frozen weights: the trainer compares their digests, and these are the network's."""
    run = row["runs"][0]
    same = run["frozen_digest"] == run["backbone_digest"]
    return f"the same, {run['frozen_digest'][:12]}" if same else "none is frozen"


PARTS: dict[str, Part] = {
    "demo": Demo("The demo", methods("digits/vit_micro", "linear", "adaptformer"), ("Global.epochs=4",), seeds=1,
                 drawn=False),
    "parity": Parity("One recipe for all, and PyTorch beside it",
                     methods("cifar10/vit_micro", "adaptformer", "linear", "full", "vpt"), FEW),
    "methods": Trainings("Every method, its learning rate chosen on held-out training images",
                         tuple(Line(name, f"cifar10/vit_micro_{name}",
                                    choose=(RATE + RATES.get(name, OTHER_RATES),)) for name in ALL),
                         FEW, ranked=True),
    "ablations": Trainings("Ablations of AdaptFormer", (
        *methods("ablation/adaptformer", *ABLATIONS),
        *(Line(name, f"ablation/adaptformer_{name}", seeds=1) for name in MORE_ABLATIONS)), FEW),
    "mosaics": Trainings("Several labels per image",
                         methods("mosaic/vit_micro", "adaptformer", "linear", "full", "vpt"),
                         ("DataLoader.Train.dataset.limit=1000", "Global.eval_interval=0")),
    "experiment": Trainings("The experiment that this project began with", (
        Line("AdaptFormer, frozen, 8 epochs", "notebook/vit_micro_2_cifar10_frozen", ("Global.epochs=8",)),
        Line("AdaptFormer, unfrozen, 10 epochs", "notebook/vit_micro_3_cifar10_unfrozen", ("Global.epochs=10",)),
        Line("linear probe, 8 epochs", "notebook/vit_micro_2_cifar10_frozen", (
            "Global.epochs=8", "Tuning={name: LinearProbe}")),
        Line("VPT, 8 epochs", "notebook/vit_micro_2_cifar10_frozen", (
            "Global.epochs=8", "Tuning={name: VPT, num_prompts: 10, deep: True}"))),
        ("Arch.pretrained=True", "Global.eval_interval=0"), columns=("seeds", "tuned file", "time"),
        seeds=1, extra=(("frozen weights afterwards", _kept),), drawn=False),
    "precision": Trainings("Frozen matrices and products in half precision", (
        Line("float32", "cifar10/vit_micro_adaptformer"),
        Line("frozen matrices in bfloat16", "cifar10/vit_micro_adaptformer", ("Arch.frozen_dtype=bfloat16",)),
        Line("frozen matrices in float16", "cifar10/vit_micro_adaptformer", ("Arch.frozen_dtype=float16",)),
        Line("products in bfloat16 (AMP O1)", "cifar10/vit_micro_adaptformer", ("AMP.level=O1", "AMP.dtype=bfloat16"))),
        FEW, columns=("seeds",), drawn=False),
    "streams": Trainings("AdaptFormer in the last two blocks, on streams kept of the images", (
        Line("float32", "cifar10/vit_micro_linear_features", LAST_TWO),
        Line("bfloat16", "cifar10/vit_micro_linear_features", (*LAST_TWO, "Global.cache_dtype=bfloat16"))),
        FEW, columns=("seeds",), drawn=False),
    "images": Growing("Accuracy against the number of training images", growing.lines(
        "cifar10/vit_micro", CHOSEN, (100, 500, 2000, 10000), steps=156, batch=128),
        ("Global.eval_interval=0",), seeds=1),
    "performance": Benchmarks("Speed and memory", (
        ("training", ("--steps", "3", "--rounds", "2")), ("methods", ("--steps", "3", "--rounds", "2")),
        ("measures", ("--steps", "2", "--rounds", "1")),
        ("inference", ("--steps", "3", "--rounds", "2")), ("startup", ("--rounds", "2")),
        ("pipeline", ("--rounds", "2")), ("features", ("--rounds", "1")), ("bank", ("--rounds", "2")))),
}


def views(place: Place) -> dict[str, View]:
    """Everything that may stand between markers."""
    return {name: view for part, kind in PARTS.items() for name, view in kind.views(place, part).items()}
