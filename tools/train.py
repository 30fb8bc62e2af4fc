#!/usr/bin/env python3
"""Train a tuning method on a frozen network."""
from _run import config_parser, run

EXAMPLES = """\
  python tools/train.py -c configs/cifar10/vit_micro_adaptformer.yaml
  python tools/train.py -c configs/digits/vit_micro_adaptformer.yaml -o Global.epochs=5 -o Tuning.bottleneck=16
  python tools/train.py -c configs/cifar10/vit_micro_adaptformer.yaml -o Global.checkpoints=output/.../latest
"""


def main():
    args = config_parser(__doc__, EXAMPLES).parse_args()
    from pathlib import Path

    from ppadapt import config
    from ppadapt.runs import experiment

    experiment.train(config.load(args.config, args.override), Path(args.config))


if __name__ == "__main__":
    run(main)
