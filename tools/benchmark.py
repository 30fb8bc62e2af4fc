"""Speed and memory of training, each as a ratio of two sides that ran in turn on this machine."""
from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

from _measure import measure
from _run import run

TOOLS = Path(__file__).resolve().parent
EXAMPLES = """examples:
  python tools/benchmark.py --torch-python ~/torch/bin/python
  python tools/benchmark.py --arch vit_micro_patch4_32 --batch 128 --memory-batch 128 --rounds 5
"""
# Names of sides.
ADAPT, FULL, RECOMPUTE, PLAIN = "AdaptFormer", "full fine-tuning", "AdaptFormer, recompute", "AdaptFormer, plain layers"
LARGE, LARGE_PLAIN = f"{ADAPT}, larger batch", f"{PLAIN}, larger batch"
TORCH, TORCH_FULL, TORCH_LARGE = "PyTorch", "PyTorch, full fine-tuning", "PyTorch, larger batch"
# (what, quantity, side, other side, target, whether the ratio may be at most or must be at least that)
RATIOS = [
    ("step time, AdaptFormer / full fine-tuning", "seconds", ADAPT, FULL, 0.70, "<="),
    ("peak memory, AdaptFormer / full fine-tuning", "peak_mib", ADAPT, FULL, 0.55, "<="),
    ("peak memory, with recompute / full fine-tuning", "peak_mib", RECOMPUTE, FULL, 0.40, "<="),
    ("step time, with recompute / without", "seconds", RECOMPUTE, ADAPT, None, ""),
    ("step time / plain layers", "seconds", ADAPT, PLAIN, None, ""),
    ("memory of a step, larger batch / plain layers", "step_mib", LARGE, LARGE_PLAIN, 0.60, "<="),
    ("memory of a step, larger batch / PyTorch", "step_mib", LARGE, TORCH_LARGE, 1.0, "<="),
    ("peak memory, larger batch / PyTorch", "peak_mib", LARGE, TORCH_LARGE, 1.0, "<="),
    ("images/s / PyTorch", "images_per_second", ADAPT, TORCH, 0.70, ">="),
    ("images/s, full fine-tuning / PyTorch", "images_per_second", FULL, TORCH_FULL, None, ""),
]


def sides(options: argparse.Namespace) -> dict[str, dict]:
    """What is measured, by name."""
    small, large = {"batch": options.batch}, {"batch": options.memory_batch}
    adapt, full = {"method": "adaptformer"}, {"method": "full"}
    ours = {
        ADAPT: {**adapt, **small},
        FULL: {**full, **small},
        RECOMPUTE: {**adapt, **small, "recompute": True},
        PLAIN: {**adapt, **small, "cheap": False},
        LARGE: {**adapt, **large},
        LARGE_PLAIN: {**adapt, **large, "cheap": False},
    }
    theirs = {
        TORCH: {**adapt, **small, "torch": True},
        TORCH_FULL: {**full, **small, "torch": True},
        TORCH_LARGE: {**adapt, **large, "torch": True},
    }
    return {**ours, **theirs} if options.torch_python else ours


def train(side: dict) -> dict:
    """One side in this process: training steps on random images."""
    import ppadapt  # before Paddle: it sets switches
    import paddle  # isort: skip
    from ppadapt.tuning.recompute import recompute_blocks

    paddle.set_device(side["device"])
    paddle.seed(0)
    network = ppadapt.vit(side["arch"])
    method = ppadapt.FullFineTuning() if side["method"] == "full" else ppadapt.AdaptFormer()
    head = ppadapt.heads.batchnorm_linear(network.embed_dim, 100)
    adaptation = ppadapt.attach(network, method, head=head, cheap=side.get("cheap", True))
    if side.get("recompute"):
        recompute_blocks(network)
    adaptation.train()
    optimizer = paddle.optimizer.Momentum(0.05, 0.9, parameters=list(adaptation.parameters().values()))
    size = side["sizes"]["img_size"]
    images, labels = paddle.randn([side["batch"], 3, size, size]), paddle.arange(side["batch"]) % 100

    def step():
        loss = paddle.nn.functional.cross_entropy(adaptation(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        return float(loss)

    peak = paddle.device.cuda.max_memory_allocated if side["device"] == "gpu" else None
    return {"version": f"paddle {paddle.__version__}", **measure(step, side["steps"], peak)}


def sizes(arch: str) -> dict:
    """The sizes of a network by name, for the PyTorch side."""
    import ppadapt

    network = ppadapt.vit(arch)
    return {"img_size": network.patch_embed.img_size, "patch_size": network.patch_embed.proj.weight.shape[-1],
            "embed_dim": network.embed_dim, "depth": len(network.blocks),
            "num_heads": network.blocks[0].attn.num_heads}


def call(command: list[str]) -> str:
    """What a command prints. Exits with its message where it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: {' '.join(command)[:200]} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def rounds(options: argparse.Namespace, chosen: dict[str, dict]) -> dict[str, list[dict]]:
    """Every side once a round, each in a process of its own: peaks of memory do not mix, drifts hit all."""
    common = {"arch": options.arch, "sizes": sizes(options.arch), "steps": options.steps,
              "device": options.device, "threads": len(os.sched_getaffinity(0))
              if hasattr(os, "sched_getaffinity") else os.cpu_count()}
    results: dict[str, list[dict]] = {name: [] for name in chosen}
    for number in range(options.rounds):
        for name, side in chosen.items():
            told = json.dumps({**common, **side})
            ours = [sys.executable, str(TOOLS / "benchmark.py"), "--side", told]
            theirs = [options.torch_python, str(TOOLS / "peers" / "torch_vit.py"), told]
            result = json.loads(call(theirs if side.get("torch") else ours).splitlines()[-1])
            result["step_seconds"], result["seconds"] = result["seconds"], statistics.median(result["seconds"])
            result["images_per_second"] = side["batch"] / result["seconds"]
            results[name].append(result)
            print(f"round {number + 1}/{options.rounds}  {name}: {result['seconds']:.2f} s a step, "
                  f"peak {result['peak_mib']:.0f} MiB", file=sys.stderr, flush=True)
    return results


def starts(number: int) -> dict[str, list[float]]:
    """Seconds to import Paddle, to import ppadapt and Paddle, and to show a tool's help, in turn."""
    commands = {"import paddle": ["-c", "import paddle"],
                "import ppadapt, with its networks and methods": ["-c", "import ppadapt; ppadapt.attach; ppadapt.vit"],
                "tools/train.py --help": [str(TOOLS / "train.py"), "--help"]}
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(number):
        for name, command in commands.items():
            start = time.perf_counter()
            call([sys.executable, *command])
            taken[name].append(time.perf_counter() - start)
    return taken


def spread(values: list[float], digits: int) -> str:
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]) + "\n"


def report(results: dict[str, list[dict]], chosen: dict[str, dict], taken: dict[str, list[float]]) -> tuple[str, list]:
    """Markdown: the sides, then the ratios (medians of the rounds' own ratios), then the starts."""
    text = table(["side", "batch", "images/s", "peak memory, MiB", "of it the step's"], [
        [name, str(chosen[name]["batch"]), *(spread([r[key] for r in runs], digits) for key, digits in (
            ("images_per_second", 2), ("peak_mib", 0), ("step_mib", 0)))] for name, runs in results.items()])
    ratios = []
    for what, key, one, other, target, sign in RATIOS:
        if one in results and other in results:
            values = [a[key] / b[key] for a, b in zip(results[one], results[other])]
            middle = statistics.median(values)
            met = None if target is None else middle <= target if sign == "<=" else middle >= target
            ratios.append({"what": what, "values": values, "median": middle, "target": target, "met": met})
    text += "\n" + table(["ratio", "median (lowest-highest round)", "target", "met"], [
        [r["what"], spread(r["values"], 2), "" if r["target"] is None else f"{r['target']:.2f}",
         {None: "", True: "yes", False: "no"}[r["met"]]] for r in ratios])
    text += "\n" + table(["start", "seconds"], [[name, spread(values, 2)] for name, values in taken.items()])
    return text, ratios


def machine() -> str:
    name = platform.processor() or platform.machine()
    if sys.platform == "linux":
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as info:
            name = next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), name)
    return f"{os.cpu_count()} cores, {name}, {platform.system()}, Python {platform.python_version()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="vit_base_patch16", help="a network of ppadapt.vit (%(default)s)")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--memory-batch", type=int, default=16, help="for the comparison of memory (%(default)s)")
    parser.add_argument("--steps", type=int, default=4, help="timed steps of a side in a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", choices=["cpu", "gpu"])
    parser.add_argument("--torch-python", metavar="PATH", help="an interpreter that has PyTorch; left out without it")
    parser.add_argument("--only", nargs="+", metavar="SIDE", help="measure these sides only")
    parser.add_argument("--output", type=Path, default=Path("output/benchmark"), help="where the .json and .md go")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(train(json.loads(options.side))))
        return
    if not options.torch_python:
        print("no --torch-python: the PyTorch side is left out", file=sys.stderr)
    chosen = sides(options)
    for name in options.only or []:
        if name not in chosen:
            parser.error(f"--only {name!r} is unknown. Choose from: {', '.join(map(repr, chosen))}")
    chosen = {name: side for name, side in chosen.items() if not options.only or name in options.only}
    results, taken = rounds(options, chosen), starts(options.rounds)
    text, ratios = report(results, chosen, taken)
    versions = ", ".join(sorted({run["version"] for runs in results.values() for run in runs}))
    text = f"{options.arch}, {machine()}, {versions}; medians of {options.rounds} rounds (lowest-highest).\n\n{text}"
    print(text)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "benchmark.md").write_text(text, encoding="utf-8")
    (options.output / "benchmark.json").write_text(json.dumps({
        "command": sys.argv, "machine": machine(), "versions": versions, "sides": chosen, "results": results,
        "ratios": ratios, "starts": taken}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    run(main)
