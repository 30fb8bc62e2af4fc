"""Train several methods on the same data and draw one table."""
from __future__ import annotations

from .common import config_parser

EXAMPLES = """\
  ppadapt compare -c my.yaml --methods linear,adaptformer,lora --seeds 3
  ppadapt compare -c digits/vit_micro_adaptformer --methods linear,vpt,adaptformer,full
  ppadapt compare -c cifar10/vit_micro_adaptformer --methods linear,adaptformer --seeds 3 \\
      --folder output/compare-cifar10 -o DataLoader.Train.dataset.limit=4000
  ppadapt compare -c cifar10/vit_micro_adaptformer --methods adaptformer \\
      --sweep Tuning.bottleneck=1,4,16,64 --choose Optimizer.lr.learning_rate=5e-4,2e-3,8e-3
A method is the end of a config's name: beside vit_micro_adaptformer lie vit_micro_vpt and others. One without a config
there takes its settings of cifar10/vit_micro_METHOD on top of the given config: linear, lora, bitfit and all others.
Runs that are done are not run again: the same command goes on where it was stopped, also from a copy of
its runs.json on another machine.
"""


def main(arguments: list[str]) -> None:
    parser = config_parser("compare", __doc__, EXAMPLES)
    parser.add_argument("--methods", default="linear,vpt,adaptformer,full", help="separated by commas (%(default)s)")
    parser.add_argument("--seeds", default="1", help="how many (3 means 0,1,2), or a list: 0,1,2; '7,' is the seed 7 "
                        "alone (%(default)s)")
    parser.add_argument("--sweep", action="append", default=[], metavar="A.b=1,2",
                        help="a row for each value; several make a row for each combination")
    parser.add_argument("--choose", action="append", default=[], metavar="A.b=1,2",
                        help="for each row, take the value that is best on held-out training data (first seed); "
                        "several: the best combination")
    parser.add_argument("--holdout", type=float, default=0.1, metavar="SHARE",
                        help="of the training data, for --choose (%(default)s)")
    parser.add_argument("--folder", metavar="DIR", help="for the runs (output/compare-DATA-CONFIG)")
    parser.add_argument("--results", metavar="DIR", help="for runs.json, table and pictures (the same folder)")
    args = parser.parse_args(arguments)
    from pathlib import Path

    from ..config import find
    from ..runs import compare, comparison, pictures, plans

    config = find(args.config)
    folder = Path(args.folder or "output/" + "-".join(filter(None, ("compare", config.parent.name, config.stem))))
    results = Path(args.results) if args.results else folder
    methods = [method.strip() for method in args.methods.split(",")]
    rows = compare.compare(config, methods, plans.seed_list(args.seeds), folder, args.override, args.sweep,
                           args.choose, args.holdout, results)
    drawn = pictures.comparison(rows, results)
    print(f"\n{comparison.table(rows)}\n\ntable: {results}/comparison.md and .csv; "
          f"pictures: {', '.join(map(str, drawn))}; curves: visualdl --logdir {folder}")
