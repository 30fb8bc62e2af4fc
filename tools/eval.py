#!/usr/bin/env python3
"""Evaluate a tuned network on the test data of a config."""
from _run import run, serving_options, serving_parser

EXAMPLES = """\
  python tools/eval.py -c configs/digits/vit_micro_adaptformer.yaml \\
      -o Global.pretrained_model=output/.../best_model.safetensors
  python tools/eval.py -c configs/cifar100/vit_micro_pretrained.yaml     # the network as it ships
  python tools/eval.py --exported inference/ --precision bfloat16        # what serving would answer
"""


def main():
    options = serving_options(serving_parser(__doc__, EXAMPLES).parse_args())
    from ppadapt.runs import experiment

    experiment.evaluate(**options)


if __name__ == "__main__":
    run(main, shared=True)
