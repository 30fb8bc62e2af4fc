#!/usr/bin/env python3
"""Make 2 x 2 mosaics of CIFAR-10's images, 64 pixels, labelled with the classes that are in them."""
import argparse
from pathlib import Path

from _run import run

EXAMPLES = """\
  python tools/make_mosaics.py --output dataset/mosaic
  python tools/make_mosaics.py --root cifar-10-python.tar.gz --output dataset/mosaic --train 2000 --test 500
  python tools/train.py -c configs/mosaic/vit_micro_adaptformer.yaml
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, epilog="examples:\n" + EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="dataset", metavar="PATH", help="CIFAR-10's archive, its folder, or where to "
                        "download it (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("dataset/mosaic"), metavar="FOLDER", help="(%(default)s)")
    parser.add_argument("--train", type=int, default=2000, metavar="N", help="mosaics of training images (%(default)s)")
    parser.add_argument("--test", type=int, default=500, metavar="N", help="mosaics of test images (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    args = parser.parse_args()
    from ppadapt.data.mosaic import make_mosaics

    made = make_mosaics(args.root, args.output, {"train": args.train, "test": args.test}, args.seed)
    for split, labels in made.items():
        print(f"{args.output}/{split}: {len(labels)} mosaics, {labels.sum(1).mean():.2f} classes each")


if __name__ == "__main__":
    run(main)
