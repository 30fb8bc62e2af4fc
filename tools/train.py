#!/usr/bin/env python3
"""Train a tuning method on a frozen network."""
from _run import config_parser, run

EXAMPLES = """\
  python tools/train.py -c configs/cifar10/vit_micro_adaptformer.yaml
  python tools/train.py -c configs/digits/vit_micro_adaptformer.yaml -o Global.epochs=5 -o Tuning.bottleneck=16
  python tools/train.py -c configs/cifar10/vit_micro_adaptformer.yaml --resume auto
"""


def main():
    parser = config_parser(__doc__, EXAMPLES)
    parser.add_argument("--resume", metavar="RUN", help="go on with a run: its folder, one of its ckpt/step-..., or "
                        "auto for the newest of this config (as -o Global.checkpoints=RUN)")
    parser.add_argument("--allow-changes", action="store_true", help="let a resumed run be another one (as -o "
                        "Global.allow_changes=True)")
    args = parser.parse_args()
    from pathlib import Path

    from ppadapt import config
    from ppadapt.runs import experiment

    loaded = config.load(args.config, args.override)
    loaded.Global.checkpoints = args.resume or loaded.Global.checkpoints
    loaded.Global.allow_changes |= args.allow_changes
    experiment.train(loaded, Path(args.config))


if __name__ == "__main__":
    run(main, shared=True)
