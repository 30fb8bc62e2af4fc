#!/usr/bin/env python3
"""Train several methods on the same data and draw one table."""
from _run import config_parser, run

EXAMPLES = """\
  python tools/compare.py -c configs/digits/vit_micro_adaptformer.yaml --methods linear,vpt,adaptformer,full
  python tools/compare.py -c configs/cifar10/vit_micro_adaptformer.yaml --methods linear,adaptformer --seeds 0,1,2 \\
      --folder output/compare-cifar10 -o DataLoader.Train.dataset.limit=4000
A method is the end of a config's name: next to vit_micro_adaptformer.yaml lie vit_micro_vpt.yaml and others.
Runs that are done are not run again: the same command goes on where it was stopped.
"""


def main():
    parser = config_parser(__doc__, EXAMPLES)
    parser.add_argument("--methods", default="linear,vpt,adaptformer,full", help="separated by commas (%(default)s)")
    parser.add_argument("--seeds", default="0", help="separated by commas (%(default)s)")
    parser.add_argument("--folder", metavar="DIR", help="where runs, table and picture go (output/compare-DATA-CONFIG)")
    args = parser.parse_args()
    from pathlib import Path

    from ppadapt import compare, pictures
    from ppadapt.errors import ConfigError

    config = Path(args.config)
    folder = Path(args.folder or f"output/compare-{config.parent.name}-{config.stem}")
    seeds = args.seeds.split(",")
    if not all(seed.strip().isdigit() for seed in seeds):
        raise ConfigError(f"--seeds {args.seeds!r} is not a list of whole numbers, such as 0,1,2")
    methods = [method.strip() for method in args.methods.split(",")]
    rows = compare.compare(config, methods, [int(seed) for seed in seeds], folder, args.override)
    pictures.comparison(rows, folder / "comparison.png", f"{config.parent.name}, {config.stem.rpartition('_')[0]}")
    print(f"\n{compare.table(rows)}\n\ntable: {folder}/comparison.md and .csv; picture: {folder}/comparison.png; "
          f"curves: visualdl --logdir {folder}")


if __name__ == "__main__":
    run(main)
