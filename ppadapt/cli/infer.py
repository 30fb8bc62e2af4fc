"""Answers for an image, a folder of images or a glob: class names and probabilities."""
from __future__ import annotations

from .common import serving_options, serving_parser

EXAMPLES = """\
  ppadapt infer -c cifar10/vit_micro_adaptformer \\
      -o Global.pretrained_model=output/.../best_model.safetensors -o Infer.infer_imgs=a.jpg
  ppadapt infer -c ... -o Global.pretrained_model=... -o "Infer.infer_imgs=photos/**/*.png" \\
      -o Infer.save_path=answers.csv --backend paddle_inference --precision bfloat16
  ppadapt infer --exported inference/ -o Infer.infer_imgs=photos/
  ppadapt infer -c mosaic/vit_micro_linear -o ... --threshold 0.3    # several labels per image
"""


def main(arguments: list[str]) -> None:
    parser = serving_parser("infer", __doc__, EXAMPLES)
    parser.add_argument("--threshold", type=float, metavar="P", help="of several labels per image, name those from "
                        "this probability on (Task.threshold)")
    args = parser.parse_args(arguments)
    if args.threshold is not None:
        args.override.append(f"Task.threshold={args.threshold}")
    options = serving_options(args)
    from ..errors import printable
    from ..runs import experiment

    for answer in experiment.infer(**options):
        print(printable(f"{answer['file']}: {answer['text']}"), flush=True)
