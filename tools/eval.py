#!/usr/bin/env python3
"""Evaluate a tuned network on the test data of a config."""
from _run import config_parser, run

EXAMPLES = """\
  python tools/eval.py -c configs/digits/vit_micro_adaptformer.yaml \\
      -o Global.pretrained_model=output/.../best_model.safetensors
  python tools/eval.py -c configs/cifar100/vit_micro_pretrained.yaml     # the network as it ships
"""


def main():
    args = config_parser(__doc__, EXAMPLES).parse_args()
    from ppadapt import config, experiment

    experiment.evaluate(config.load(args.config, args.override))


if __name__ == "__main__":
    run(main)
