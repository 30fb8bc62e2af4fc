#!/usr/bin/env python3
"""Answers for an image, a folder of images or a glob: class names and probabilities."""
from _run import run, serving_options, serving_parser

EXAMPLES = """\
  python tools/infer.py -c configs/cifar10/vit_micro_adaptformer.yaml \\
      -o Global.pretrained_model=output/.../best_model.safetensors -o Infer.infer_imgs=a.jpg
  python tools/infer.py -c ... -o Global.pretrained_model=... -o "Infer.infer_imgs=photos/**/*.png" \\
      -o Infer.save_path=answers.csv --backend paddle_inference --precision bfloat16
  python tools/infer.py --exported inference/ -o Infer.infer_imgs=photos/
  python tools/infer.py -c configs/mosaic/vit_micro_linear.yaml -o ... --threshold 0.3    # several labels per image
"""


def main():
    parser = serving_parser(__doc__, EXAMPLES)
    parser.add_argument("--threshold", type=float, metavar="P", help="of several labels per image, name those from "
                        "this probability on (Task.threshold)")
    args = parser.parse_args()
    if args.threshold is not None:
        args.override.append(f"Task.threshold={args.threshold}")
    options = serving_options(args)
    from ppadapt.errors import printable
    from ppadapt.runs import experiment

    for answer in experiment.infer(**options):
        print(printable(f"{answer['file']}: {answer['text']}"), flush=True)


if __name__ == "__main__":
    run(main)
