"""Train a tuning method on a frozen network."""
from __future__ import annotations

from .common import config_parser

SHARED = LOG_ANSWERS = True
EXAMPLES = """\
  ppadapt train -c digits/vit_micro_adaptformer
  ppadapt train -c digits/vit_micro_adaptformer -o Global.epochs=5 -o Tuning.bottleneck=16
  ppadapt train -c my.yaml --resume auto
  python -m paddle.distributed.launch --nproc_per_node 2 ppadapt train -c my.yaml    # from a checkout: tools/train.py
"""


def main(arguments: list[str]) -> None:
    parser = config_parser("train", __doc__, EXAMPLES)
    parser.add_argument("--resume", metavar="RUN", help="go on with a run: its folder, one of its ckpt/step-..., or "
                        "auto for the newest of this config (as -o Global.checkpoints=RUN)")
    parser.add_argument("--allow-changes", action="store_true", help="let a resumed run be another one (as -o "
                        "Global.allow_changes=True)")
    args = parser.parse_args(arguments)
    from .. import config

    loaded = config.load(args.config, args.override)
    loaded.Global.checkpoints = args.resume or loaded.Global.checkpoints
    loaded.Global.allow_changes |= args.allow_changes
    from ..runs import experiment

    experiment.train(loaded)
