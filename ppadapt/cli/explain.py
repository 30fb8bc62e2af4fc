"""Draw what tuning changed: where attention goes and where the branches act in images, and how features lie."""
from __future__ import annotations

from pathlib import Path

from .common import config_parser

EXAMPLES = """\
  ppadapt explain output/digits-vit_micro_adaptformer/20260101-120000
  ppadapt explain output/.../20260101-120000 --images photos/ --output pictures
  ppadapt explain -c digits/vit_micro_adaptformer -o Global.pretrained_model=tuned.safetensors
"""


def main(arguments: list[str]) -> None:
    parser = config_parser("explain", __doc__, EXAMPLES, required=False)
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN", help="a run's folder, in the place of -c: its "
                        "config.yaml and its best_model.safetensors")
    parser.add_argument("--images", metavar="PATH", help="a file, folder or glob (test images of the classes in turn)")
    parser.add_argument("--count", type=int, default=8, metavar="N", help="images (%(default)s)")
    parser.add_argument("--points", type=int, default=500, metavar="N", help="test images whose features are drawn; 0: "
                        "none (%(default)s)")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="for the pictures (RUN/explain, or explain)")
    args = parser.parse_args(arguments)
    from .. import config
    from ..errors import UserError

    if (args.run is None) == (args.config is None):
        raise UserError("give a run's folder, or a config with -c (and not both)")
    if args.count < 1 or args.points < 0:
        raise UserError(f"--count {args.count} and --points {args.points}: give at least 1 image, and 0 or more points")
    overrides = args.override
    if args.run:
        tuned = args.run / "best_model.safetensors"
        if not tuned.is_file():
            raise UserError(f"{args.run} is no folder of a run: it has no {tuned.name}")
        overrides = [f"Global.pretrained_model={tuned}", *overrides]
    loaded = config.load(args.run / "config.yaml" if args.run else args.config, overrides)
    if args.points:  # before Paddle: its 2.6 crashes where this comes after it
        import sklearn.manifold  # noqa: F401
    from ..runs.explain import explain

    drawn = explain(loaded, args.output or (args.run or Path()) / "explain", args.images, args.count, args.points)
    print("\n".join(map(str, drawn)))
