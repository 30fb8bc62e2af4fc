"""Make 2 x 2 mosaics of CIFAR-10's images, 64 pixels, labelled with the classes that are in them."""
from __future__ import annotations

from pathlib import Path

from .common import parser as command_parser

EXAMPLES = """\
  ppadapt mosaics --output dataset/mosaic
  ppadapt mosaics --root cifar-10-python.tar.gz --output dataset/mosaic --train 2000 --test 500
  ppadapt train -c mosaic/vit_micro_adaptformer
"""


def main(arguments: list[str]) -> None:
    parser = command_parser("mosaics", __doc__, EXAMPLES)
    parser.add_argument("--root", default="dataset", metavar="PATH", help="CIFAR-10's archive, its folder, or where to "
                        "download it (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("dataset/mosaic"), metavar="FOLDER", help="(%(default)s)")
    parser.add_argument("--train", type=int, default=2000, metavar="N", help="mosaics of training images (%(default)s)")
    parser.add_argument("--test", type=int, default=500, metavar="N", help="mosaics of test images (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    args = parser.parse_args(arguments)
    from ..data.mosaic import make_mosaics

    made = make_mosaics(args.root, args.output, {"train": args.train, "test": args.test}, args.seed)
    for split, labels in made.items():
        print(f"{args.output}/{split}: {len(labels)} mosaics, {labels.sum(1).mean():.2f} classes each")
