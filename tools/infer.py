#!/usr/bin/env python3
"""Class names and probabilities for an image, a folder of images or a glob."""
from _run import config_parser, run

EXAMPLES = """\
  python tools/infer.py -c configs/cifar10/vit_micro_adaptformer.yaml \\
      -o Global.pretrained_model=output/.../best_model.safetensors -o Infer.infer_imgs=a.jpg
  python tools/infer.py -c ... -o Global.pretrained_model=... -o "Infer.infer_imgs=photos/**/*.png" \\
      -o Infer.save_path=answers.json
"""


def main():
    args = config_parser(__doc__, EXAMPLES).parse_args()
    from ppadapt import config, experiment

    for answer in experiment.infer(config.load(args.config, args.override)):
        said = ", ".join(f"{p['class']} {p['probability']:.2%}" for p in answer["predictions"])
        print(f"{answer['file']}: {said}", flush=True)


if __name__ == "__main__":
    run(main)
