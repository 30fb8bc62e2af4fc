#!/usr/bin/env python3
"""Remake the numbers, tables and pictures of README and docs/ from configs, data and weights.

What is done is in docs/results/; the rest is run, then the tables between <!-- results:NAME --> in the documents are
written. It can be stopped and called again at any time. Times want a machine that does nothing else.
"""
from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Iterable

from _run import guarded
from remaking import documents
from remaking.parts import PARTS, views
from remaking.place import REPOSITORY, Place

EXAMPLES = """\
examples:
  python tools/results.py --left                     # what is not run yet, and how long it takes
  python tools/results.py --part methods --cifar10 sample.tar.gz     # of tools/sample.py
  python tools/results.py --part parity --torch-python ~/torch/bin/python
  python tools/results.py --check                    # documents and records agree
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=PARTS, metavar="PART",
                        help=f"one of {', '.join(PARTS)}; may be given many times (all)")
    parser.add_argument("--left", action="store_true", help="say what is left, and run nothing")
    parser.add_argument("--tables", action="store_true", help="write tables and pictures of what is there, run nothing")
    parser.add_argument("--check", action="store_true", help="fail where a document or a picture and its record "
                        "differ, or where a table with measured numbers stands outside of the markers")
    parser.add_argument("--cifar10", type=Path, default=Path("dataset"), metavar="PATH",
                        help="the archive, its folder, or where to download it (%(default)s)")
    parser.add_argument("--mosaics", type=Path, default=Path("dataset/mosaic"), metavar="FOLDER",
                        help="of `ppadapt mosaics` (%(default)s)")
    parser.add_argument("--torch-python", metavar="PATH", help="an interpreter that has PyTorch; its side is left out "
                        "without it")
    parser.add_argument("--folder", type=Path, default=Path("output/results"), help="for the runs (%(default)s)")
    # To try the parts out: other runs than the real ones, which no record of these is taken for.
    parser.add_argument("--root", type=Path, default=REPOSITORY, help=argparse.SUPPRESS)
    parser.add_argument("-o", "--override", action="append", default=[], help=argparse.SUPPRESS)
    parser.add_argument("--measured", nargs="*", default=[], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if (args.override or args.measured) and args.root.resolve() == REPOSITORY:
        parser.error("-o and --measured try the parts out: give the copy of the documents to write into with --root")
    chosen = {name: PARTS[name] for name in args.part or PARTS}
    place = Place(args.root, args.folder, args.cifar10, args.mosaics, args.torch_python, tuple(args.override),
                  tuple(args.measured), data=not (args.check or args.tables))
    if args.check:
        return check(place, chosen)
    if not args.tables:
        for name in chosen:
            run(place, name, args.left)
    if not args.left:
        recorded = dataclasses.replace(place, data=False)
        for name, part in chosen.items():
            part.draw(recorded, name)
        for path in documents.write(recorded.root, views(recorded)):
            print(f"written: {path}")
    return 0


def run(place: Place, name: str, left: bool) -> None:
    """Run what a part lacks, step by step, or say what that is."""
    part = PARTS[name]
    for line in part.left_out(place):
        print(f"{name}: left out: {line}")
    if any(part.left(place, name)):
        if not left:
            part.adopt(place, name)
        stale = part.stale(place, name)
        for line in stale:
            print(f"stale: {line}")
        if stale:
            print("what is stale is run anew; the published records are of the sample that tools/sample.py draws")
    steps = list(part.left(place, name))
    say(name, steps, whole=left, left_out=bool(part.left_out(place)))
    while steps and not left:
        print(f"now: {steps[0].what}", flush=True)
        steps[0].run()
        steps = list(part.left(place, name))
        say(name, steps, left_out=bool(part.left_out(place)))


def say(name: str, steps: list, whole: bool = False, left_out: bool = False) -> None:
    """How much is left, and how long that takes by the times in the records."""
    known = [step.seconds for step in steps if step.seconds is not None]
    unknown = len(steps) - len(known)
    told = [f"about {clock(sum(known))}"] if known else []
    told += [f"{unknown} of them no record tells the time of"] if unknown else []
    what = ", ".join([f"{len(steps)} left", *told]) if steps else "nothing else is left" if left_out else "all is there"
    print(f"{name} ({PARTS[name].title}): {what}", flush=True)
    for step in steps if whole else ():
        print(f"    {step.what}" + (f", {clock(step.seconds)}" if step.seconds is not None else ""))


def clock(seconds: float) -> str:
    """1 h 05 min, 12 min, 40 s"""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min" if minutes >= 2 else f"{seconds:.0f} s"


def check(place: Place, parts: Iterable[str] = PARTS) -> int:
    """Whether documents and records agree, and the records of `parts` with the configs and weights that are here."""
    wrong = documents.wrong(place.root, views(place))
    wrong += [line for name in parts for line in PARTS[name].stale(place, name)]
    for line in wrong:
        print(line, file=sys.stderr)
    print(f"{len(wrong)} to mend" if wrong else "documents and records agree")
    return int(bool(wrong))


if __name__ == "__main__":
    guarded(main)
