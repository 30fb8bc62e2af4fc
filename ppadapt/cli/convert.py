"""Converts published checkpoints to Paddle, and tuned files back to the authors' PyTorch, without PyTorch."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np

from .. import weights as W
from ..errors import printable
from ..weights.convert import FACTS
from ..weights.manifest import parse_manifest
from ..weights.tuned_file import KEY

EXAMPLES = """examples:
  # MAE, timm, DeiT, the authors' files, Google's .npz, .safetensors: recognised by content
  ppadapt convert --input mae_pretrain_vit_base.pth --output weights/mae_vit_base.pdparams
  ppadapt convert --input ViT-B_16.npz --output weights/vit_base.safetensors --dtype float16

  # a fine-tuned checkpoint of the authors: its adapters, prompts and head as a tuned file
  ppadapt convert --input finetuned.pth --output tuned.safetensors

  # a LoRA adapter of peft, with the network that it was trained on
  ppadapt convert --input lora_folder --base vit_folder --output tuned.safetensors

  # back: what the authors' code loads, with --base also strictly
  ppadapt convert --to torch --input tuned.safetensors --base weights/mae_vit_base.pdparams \\
      --output tuned.pth

exit code: 0 when every tensor is accounted for, else 1, and then nothing is written."""
PADDLE, TORCH = (".pdparams", ".safetensors"), (".pth", ".pt")


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def arguments(argv=None) -> argparse.Namespace:
    parser = Parser(prog="ppadapt convert", description=__doc__, epilog=EXAMPLES,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", required=True, help="the checkpoint, told by its content; or a folder of "
                        "save_pretrained, or its index.json")
    parser.add_argument("--output", required=True,
                        help="where to: .pdparams or .safetensors, with --to torch .pth or .pt")
    parser.add_argument("--to", choices=("paddle", "torch"), default="paddle", help="whose names and "
                                                                                    "layout (default "
                                                                                    "paddle)")
    parser.add_argument("--base", help="with --to torch: the backbone to put beside the tuned state; "
                        "of an adapter of peft: the network it was trained on")
    parser.add_argument("--key", help="where the network is in a file of several: teacher, model_ema, base_encoder")
    parser.add_argument("--of", help="which published model it is, where the file does not tell (docs/weights.md): "
                        "openai_clip_vit_b32, deit3_base ...")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="of the written "
                                                                                           "tensors")
    parser.add_argument("--force", action="store_true", help="overwrite the output file")
    return parser.parse_args(argv)


def check_paths(args: argparse.Namespace) -> None:
    suffix = os.path.splitext(args.output)[1].lower()
    allowed = TORCH if args.to == "torch" else PADDLE
    if suffix not in allowed:
        hint = "; for PyTorch add --to torch" if args.to == "paddle" and suffix in TORCH else ""
        raise W.WeightsError(f"--output {args.output} ends in {suffix or 'nothing'}; with --to {args.to} it "
                             f"is {' or '.join(allowed)}{hint}")
    adapter = W.is_adapter(Path(args.input))
    if args.base and args.to != "torch" and not adapter:
        raise W.WeightsError("--base belongs to --to torch, where it adds the backbone to a tuned file, and to an "
                             "adapter of peft, which was trained on it")
    if adapter and suffix != ".safetensors":
        raise W.WeightsError(f"--output {args.output}: an adapter of peft becomes a tuned file, .safetensors")
    if os.path.isdir(args.output):
        raise W.WeightsError(f"--output {args.output} is a folder; give a file name in it")
    for source in filter(None, (args.input, args.base)):
        if os.path.exists(source) and os.path.exists(args.output) and os.path.samefile(source, args.output):
            raise W.WeightsError(f"--output {args.output} is the file to be read; give another name")
    if os.path.exists(args.output) and not args.force:
        raise W.WeightsError(f"--output {args.output} exists; give another name, or --force to overwrite it")


def cast(tensors, dtype: str):
    """Floats in `dtype`, the rest as it is; views stay views where the dtype is right already."""
    result = {}
    for name, array in tensors.items():
        array = np.asarray(array)
        if array.dtype.kind != "f":
            result[name] = array
            continue
        with np.errstate(over="ignore"):
            result[name] = array.astype(dtype, copy=False)
        if dtype == "float16" and np.isinf(result[name]).any() and not np.isinf(array).any():
            raise W.WeightsError(f"{name} reaches {np.abs(array).max():g}, more than float16 holds (65504); "
                                 "use --dtype float32")
    return result


def bar(count: int):
    """(callback per tensor, function that ends the bar): tqdm on a terminal where it is installed."""
    if not sys.stderr.isatty():
        return None, lambda: None
    try:
        from tqdm import tqdm
    except ImportError:
        return None, lambda: None
    shown = tqdm(total=count, unit="tensor", leave=False, delay=1.0)
    return lambda _: shown.update(), shown.close


def write_paddle(args: argparse.Namespace, done: W.Converted, say) -> None:
    to_safetensors = args.output.lower().endswith(".safetensors")
    if to_safetensors and KEY in done.extras:  # a tuned file of ours, in another dtype
        write_tuned(args, cast(done.tensors, args.dtype), parse_manifest(done.extras[KEY], done.path), say)
        return
    of_authors = W.as_tuned_file(done) if to_safetensors else None
    if of_authors:
        tuned, manifest, warnings = of_authors
        for warning in warnings:
            print(f"warning: {printable(warning)}", file=sys.stderr)
        write_tuned(args, cast(tuned, args.dtype), manifest, say)
        return
    tensors = cast(done.tensors, args.dtype)
    say("digest", W.digest(tensors))
    step, close = bar(len(tensors))
    try:
        if to_safetensors:
            W.save_safetensors(args.output, tensors, {"format": "ppadapt.network", FACTS: done.facts.to_text()}, step)
        else:
            W.save_pdparams(args.output, tensors, step)
    finally:
        close()


def write_adapter_of_peft(args: argparse.Namespace, base: W.Converted | None, say) -> None:
    if base is None:
        raise W.WeightsError(f"{args.input} is an adapter of peft: say which network it was trained on, --base")
    tensors, manifest = W.read_peft(Path(args.input), base)
    write_tuned(args, cast(tensors, args.dtype), manifest, say)


def write_tuned(args: argparse.Namespace, tuned, manifest, say) -> None:
    size = sum(array.size for array in tuned.values())
    say("tuned", f"{len(tuned)} tensors, {size:,} values: {manifest.get('tuning')}")
    say("backbone", f"{manifest.get('backbone')} (not in the file)")
    say("digest", W.digest(tuned))
    W.save_tuned(args.output, tuned, manifest)


def write_authors(args: argparse.Namespace, done: W.Converted, base: W.Converted | None, say) -> None:
    if base and KEY in done.extras:
        backbone = parse_manifest(done.extras[KEY], done.path).get("backbone")
        wanted = backbone.get("digest") if isinstance(backbone, dict) else None
        found = W.digest(W.split_tuned(base.tensors)[1])
        if wanted and wanted != found:
            print(f"warning: {args.input} was tuned on a backbone of digest {str(wanted)[:16]}, --base "
                  f"{args.base} has {found[:16]} (another final norm or image size changes it "
                  "too)", file=sys.stderr)
    theirs = W.to_authors(cast(done.tensors, args.dtype), cast(base.tensors, args.dtype) if base else None)
    tuned, backbone = W.split_tuned(done.tensors)
    alone = tuned and not backbone and not base
    say("written", f"{len(theirs)} tensors under the authors' names"
        + ("; a strict load of theirs needs the backbone too: --base" if alone else ""))
    say("digest", W.digest(tuned or done.tensors))
    W.write_torch(args.output, theirs)


def report(done: W.Converted, say) -> None:
    """What was found: every name of the file is in one of these lines."""
    facts = done.facts
    arch = ", ".join(f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
                     for key, value in done.arch.items() if key not in facts.assumed)
    say("input", done.path)
    say("layout", done.layout + (f", under {done.prefix}" if done.prefix else "") + (f" ({arch})" if arch else ""))
    say("mapped", f"{len(done.mapped)} names of the file -> {len(done.tensors)} tensors")
    say("resized", "0 (position embeddings are resized when a network loads them)")
    for title, names in (("missing", done.missing), ("unexpected", done.unexpected)):
        say(title, f"{len(names)}" + (f": {W.compact(names)}" if names else ""))
    say("dropped", f"{len(done.dropped)}")
    for reason in dict.fromkeys(done.dropped.values()):
        say("", f"{W.compact(name for name, why in done.dropped.items() if why == reason)}: {reason}")
    for line in done.folds:
        say("folded", line)
    for option, why in facts.assumed.items():
        say("assumed", f"{option} {facts.values[option]}, {why}")
    for option, choices in facts.asked.items():
        say("not told", f"{option}: {choices}")
    if facts.values:
        say("config", facts.arch_line("...", None))
        say("", f"{facts.normalize_line() or 'NormalizeImage: not known'}"
            + (f"  # {facts.preprocess_from}" if facts.preprocess_from else ""))
    if done.skipped:
        say("not read", "; ".join(f"{name} ({what})" for name, what in list(done.skipped.items())[:6]))


def main(argv=None) -> int:
    args = arguments(argv)
    begun = time.perf_counter()

    def say(title: str, text: str) -> None:
        print(f"{title:<11}{printable(text)}")  # names come from the file

    try:
        check_paths(args)
        base = W.load_weights(args.base) if args.base else None
        done = None if W.is_adapter(Path(args.input)) else W.load_weights(args.input, args.key, args.of)
        for part in filter(None, (done, base)):
            report(part, say)
            part.raise_if_incomplete()
        if done is None:
            write_adapter_of_peft(args, base, say)
        elif args.to == "torch":
            write_authors(args, done, base, say)
        else:
            write_paddle(args, done, say)
    except (W.WeightsError, OSError) as error:
        print(f"error: {error}; nothing was written", file=sys.stderr)
        return 1
    say("output", f"{args.output}, {os.path.getsize(args.output) / 1e6:.2f} MB, "
                  f"{time.perf_counter() - begun:.1f} s")
    return 0
