"""Speed and memory, each claim between sides that run in turn on this machine."""
from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

from _run import guarded
from benchmarks import bank, features, inference, measures, methods, pipeline, saving, startup, training

TOOLS = Path(__file__).resolve().parent
ENVIRONMENT = dict(os.environ)  # before ppadapt sets its switches here, which no side is to inherit
PARTS = {"training": training, "methods": methods, "measures": measures, "inference": inference, "startup": startup,
         "pipeline": pipeline, "features": features, "bank": bank, "saving": saving}
EXAMPLES = """examples:
  python tools/benchmark.py --torch-python ~/torch/bin/python
  python tools/benchmark.py --only training --arch vit_micro_patch4_32 --batch 128 --memory-batch 128 --rounds 5
"""


def sizes(arch: str) -> dict:
    """The sizes of a network by name, for the PyTorch side."""
    import ppadapt

    network = ppadapt.vit(arch)
    return {"img_size": network.patch_embed.img_size, "patch_size": network.patch_embed.proj.weight.shape[-1],
            "embed_dim": network.embed_dim, "depth": len(network.blocks),
            "num_heads": network.blocks[0].attn.num_heads}


def call(command: list[str], env: dict[str, str]) -> dict:
    """The JSON on the last line that a command prints. Exits with its message where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, env={**ENVIRONMENT, **env})
    if done.returncode:
        sys.exit(f"error: {' '.join(command)[:200]} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def installed(name: str, side: dict) -> bool:
    """Whether the packages that a side needs are there; says so where they are not."""
    missing = [package for package in side.get("needs", ()) if importlib.util.find_spec(package) is None]
    if missing:
        print(f"no {', no '.join(missing)}: {name} is left out", file=sys.stderr)
    return not missing


def rounds(options: argparse.Namespace, part: str, chosen: dict[str, dict]) -> dict[str, list[dict]]:
    """Every side once a round, each in a process of its own: peaks of memory do not mix, drifts hit all."""
    common = {"part": part, "arch": options.arch, "sizes": sizes(options.arch), "steps": options.steps,
              "device": options.device, "threads": len(os.sched_getaffinity(0))
              if hasattr(os, "sched_getaffinity") else os.cpu_count()}
    results: dict[str, list[dict]] = {name: [] for name in chosen}
    for number in range(options.rounds):
        for name, side in chosen.items():
            told = json.dumps({**common, **side})
            if "peer" in side:
                command = [options.torch_python, str(TOOLS / "peers" / side["peer"]), told]
            else:
                command = [sys.executable, str(TOOLS / "benchmark.py"), "--side", told]
            result = call(command, side.get("env", {}))
            results[name].append(result)
            print(f"round {number + 1}/{options.rounds}  {part}, {name}: " + ", ".join(
                f"{heading} {result[key]:.{digits}f}" for heading, key, digits in PARTS[part].COLUMNS),
                file=sys.stderr, flush=True)
    return results


def spread(values: list[float], digits: int) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f}" + (f" ({low:.{digits}f}-{high:.{digits}f})" if low != high else "")


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]) + "\n"


def report(part, results: dict[str, list[dict]]) -> tuple[str, list]:
    """Markdown of a part: its sides, then its claims (medians of the rounds' own values); and those as data."""
    text = table(["side", *(heading for heading, _, _ in part.COLUMNS)], [
        [name, *(spread([r[key] for r in runs], digits) for _, key, digits in part.COLUMNS)]
        for name, runs in results.items()])
    claims = []
    for claim in part.CLAIMS:
        if claim.one in results and (claim.other is None or claim.other in results):
            ones = results[claim.one]
            values = [claim.value(*pair) for pair in zip(ones, results.get(claim.other, [None] * len(ones)))]
            middle = statistics.median(values)
            claims.append({"what": claim.what, "values": values, "median": middle, "target": claim.target,
                           "sign": claim.sign, "met": claim.met(middle)})
    if claims:
        text += "\n" + table(["ratio", "median (lowest-highest round)", "target", "met"], [
            [c["what"], spread(c["values"], 2), "" if c["target"] is None else f"{c['sign']} {c['target']:.2f}",
             {None: "", True: "yes", False: "no"}[c["met"]]] for c in claims])
    return text, claims


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", default=list(PARTS),
                        help=f"of the parts: {', '.join(PARTS)}")
    parser.add_argument("--sides", nargs="+", metavar="SIDE", help="measure these sides only")
    parser.add_argument("--arch", default="vit_base_patch16", help="a network of ppadapt.vit (%(default)s)")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--memory-batch", type=int, default=16, help="for the comparison of memory (%(default)s)")
    parser.add_argument("--steps", type=int, default=4, help="timed steps of a side in a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", choices=["cpu", "gpu"])
    parser.add_argument("--cifar10", type=Path, metavar="PATH", help="the archive, for the part features; left out "
                        "without it")
    parser.add_argument("--torch-python", metavar="PATH", help="an interpreter that has PyTorch; left out without it")
    parser.add_argument("--output", type=Path, default=Path("output/benchmark"), help="where the .json and .md go")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        side = json.loads(options.side)
        print(json.dumps(PARTS[side["part"]].measure(side)))
        return
    from ppadapt.runs.experiment import machine

    chosen = {part: PARTS[part].sides(options) for part in options.only}
    names = [name for sides in chosen.values() for name in sides]
    for name in options.sides or []:
        if name not in names:
            parser.error(f"--sides {name!r} is unknown. Choose from: {', '.join(map(repr, names))}")
    if "features" in chosen and not options.cifar10:
        print("no --cifar10: the linear probes of the part features are left out", file=sys.stderr)
    if not options.torch_python:
        print("no --torch-python: the PyTorch side is left out", file=sys.stderr)
    text, told = "", {}
    for part, sides in chosen.items():
        sides = {name: side for name, side in sides.items() if (not options.sides or name in options.sides)
                 and (options.torch_python or "peer" not in side) and installed(name, side)}
        if sides:
            results = rounds(options, part, sides)
            tables, claims = report(PARTS[part], results)
            text += f"\n## {part}\n\n{tables}"
            told[part] = {"sides": sides, "results": results, "claims": claims}
    versions = ", ".join(sorted({run["version"] for part in told.values() for runs in part["results"].values()
                                 for run in runs if "version" in run}))
    where = f"{machine()}, {platform.system()}, Python {platform.python_version()}"
    text = (f"{options.arch}, {where}{versions and ', '}{versions}; medians of {options.rounds} rounds "
            f"(lowest-highest).\n{text}")
    print(text)
    from ppadapt import files

    options.output.mkdir(parents=True, exist_ok=True)
    files.write_text(options.output / "benchmark.md", text)
    files.write_json(options.output / "benchmark.json", {
        "command": sys.argv, "machine": where, "versions": versions, "parts": told})


if __name__ == "__main__":
    guarded(main)
