"""Draw the curves of runs as a picture for papers: losses, scores, learning rate, speed, and what the branches do."""
from __future__ import annotations

from pathlib import Path

from .common import parser as command_parser

EXAMPLES = """\
  ppadapt curves output/digits-vit_micro_adaptformer/20260101-120000
  ppadapt curves output/demo --output demo.png        # all runs below it, in one picture
  ppadapt curves RUN RUN --output compare.pdf
The same can be looked at in a browser: visualdl --logdir output
"""


def main(arguments: list[str]) -> None:
    parser = command_parser("curves", __doc__, EXAMPLES)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder, or one above several")
    parser.add_argument("--output", type=Path, metavar="FILE", help=".png, .pdf or .svg (RUN/curves.png of one run, "
                        "else curves.png)")
    args = parser.parse_args(arguments)
    from ..runs import curve_pictures

    runs = curve_pictures.find_runs(args.runs)
    print(curve_pictures.draw(runs, args.output or (runs[0] if len(runs) == 1 else Path()) / "curves.png"))
