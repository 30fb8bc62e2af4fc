"""Evaluate a tuned network on the test data of a config."""
from __future__ import annotations

from .common import serving_options, serving_parser

SHARED = LOG_ANSWERS = True
EXAMPLES = """\
  ppadapt eval -c digits/vit_micro_adaptformer -o Global.pretrained_model=output/.../best_model.safetensors
  ppadapt eval --tuned output/.../best_model.safetensors      # does it give what stands in it?
  ppadapt eval -c cifar100/vit_micro_pretrained               # the network as it ships
  ppadapt eval --exported inference/ --precision bfloat16     # what serving would answer
"""


def main(arguments: list[str]) -> None:
    options = serving_options(serving_parser("eval", __doc__, EXAMPLES).parse_args(arguments))
    from ..runs import experiment

    experiment.evaluate(**options)
