"""Converts published checkpoints to Paddle, and tuned files back to the authors' PyTorch, without PyTorch."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np

from .. import weights as W
from ..errors import UserError, printable
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

  # a network, or a tuned file merged into the one it was trained on, as timm loads it; LoRA as peft loads it
  ppadapt convert --to timm --input tuned.safetensors --base weights/mae_vit_base.pdparams --output timm.safetensors
  ppadapt convert --to peft --input tuned.safetensors --base vit.safetensors --output adapter_folder

exit code: 0 when every tensor is accounted for, else 1, and then nothing is written."""
# Whose names and layout -> the suffixes of its file; an adapter of peft is a folder.
SUFFIXES = {"paddle": (".pdparams", ".safetensors"), "torch": (".pth", ".pt"), "timm": (".safetensors", ".pth", ".pt"),
            "peft": ("",)}


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def arguments(argv=None) -> argparse.Namespace:
    parser = Parser(prog="ppadapt convert", description=__doc__, epilog=EXAMPLES,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", required=True, help="the checkpoint, told by its content; or a folder of "
                        "save_pretrained, or its index.json")
    parser.add_argument("--output", required=True,
                        help="where to: .pdparams or .safetensors; with --to torch .pth or .pt, with --to timm "
                        ".safetensors, .pth or .pt, with --to peft a folder")
    parser.add_argument("--to", choices=tuple(SUFFIXES), default="paddle", help="whose names and layout; torch: those "
                        "of AdaptFormer's authors (default paddle)")
    parser.add_argument("--base", help="of a tuned file with --to torch, timm or peft, and of an adapter of peft: the "
                        "network it was trained on")
    parser.add_argument("--key", help="where the network is in a file of several: teacher, model_ema, base_encoder")
    parser.add_argument("--of", help="which published model it is, where the file does not tell (docs/weights.md): "
                        "openai_clip_vit_b32, deit3_base ...")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="of the written "
                                                                                           "tensors")
    parser.add_argument("--force", action="store_true", help="overwrite the output file")
    return parser.parse_args(argv)


def check_paths(args: argparse.Namespace) -> None:
    suffix = os.path.splitext(args.output)[1].lower()
    allowed = SUFFIXES[args.to]
    if suffix not in allowed:
        hint = "; for PyTorch add --to torch" if args.to == "paddle" and suffix in SUFFIXES["torch"] else ""
        raise W.WeightsError(f"--output {args.output} ends in {suffix or 'nothing'}; with --to {args.to} it "
                             f"is {' or '.join(filter(None, allowed)) or 'a folder'}{hint}")
    adapter = W.is_adapter(Path(args.input))
    if args.base and args.to == "paddle" and not adapter:
        raise W.WeightsError("--base belongs to --to torch, timm and peft, where it is the network of a tuned file, "
                             "and to an adapter of peft, which was trained on it")
    if adapter and (suffix != ".safetensors" or args.to != "paddle"):
        raise W.WeightsError(f"--output {args.output}: an adapter of peft becomes a tuned file, .safetensors, "
                             "--to paddle")
    if args.to == "peft" and not args.base:
        raise W.WeightsError("--to peft needs --base, the network that the tuned file was trained on")
    if os.path.isdir(args.output) and (args.to != "peft" or os.listdir(args.output)):
        raise W.WeightsError(f"--output {args.output} is a folder{' with files' if args.to == 'peft' else ''}; give "
                             + ("another name" if args.to == "peft" else "a file name in it"))
    for source in filter(None, (args.input, args.base)):
        if os.path.exists(source) and os.path.exists(args.output) and os.path.samefile(source, args.output):
            raise W.WeightsError(f"--output {args.output} is the file to be read; give another name")
    if os.path.isfile(args.output) and not args.force:
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


def write_timm(args: argparse.Namespace, done: W.Converted, base: W.Converted | None, say) -> None:
    if KEY in done.extras:
        if base is None:
            raise W.WeightsError(f"{args.input} is a tuned file: say which network it was trained on, --base")
        from ..runs.merge import merged

        tensors, facts, why = merged(Path(args.input), Path(args.base), of=args.of)
        say("merged", "not: " + why if why else "into the network")
    else:
        tensors, facts = done.tensors, done.arch
    theirs, line = W.to_timm(tensors, facts)
    beside = W.added_names(theirs)
    if beside:
        say("beside", f"{len(beside)} tensors of our methods, under our names, that timm's network does not have: "
            + W.compact(beside))
    say("timm", line)
    theirs = {name: np.ascontiguousarray(array) for name, array in cast(theirs, args.dtype).items()}
    if args.output.lower().endswith(".safetensors"):
        W.save_safetensors(args.output, theirs, {"format": "pt"})
    else:
        W.write_torch(args.output, theirs, wrapped=False)


def write_adapter_for_peft(args: argparse.Namespace, done: W.Converted, base: W.Converted, say) -> None:
    if KEY not in done.extras:
        raise W.WeightsError(f"{args.input} is a whole network; a tuned file of LoRA becomes an adapter of peft")
    tensors, manifest = W.load_tuned(args.input)
    wanted = (manifest.get("backbone") or {}).get("digest")
    found = W.digest(W.split_tuned(base.tensors)[1])
    if wanted and wanted != found:
        print(f"warning: {args.input} was tuned on a network of digest {str(wanted)[:16]}, --base {args.base} has "
              f"{found[:16]} (another image size or a new norm changes it too)", file=sys.stderr)
    ranks = W.write_peft(Path(args.output), tensors, manifest, base, args.input)
    say("written", f"LoRA of {len(ranks)} Linears of timm's network, rank {max(ranks.values())}: "
        f"peft.PeftModel.from_pretrained(network, {args.output!r})")


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
        base = W.load_weights(args.base, None, args.of) if args.base else None
        of = None if args.base else args.of  # of the network that the tuned file was trained on, where there is one
        done = None if W.is_adapter(Path(args.input)) else W.load_weights(args.input, args.key, of)
        for part in filter(None, (done, base)):
            report(part, say)
            part.raise_if_incomplete()
        if done is None:
            write_adapter_of_peft(args, base, say)
        elif args.to == "torch":
            write_authors(args, done, base, say)
        elif args.to == "timm":
            write_timm(args, done, base, say)
        elif args.to == "peft":
            write_adapter_for_peft(args, done, base, say)
        else:
            write_paddle(args, done, say)
    except (UserError, OSError) as error:
        print(f"error: {error}; nothing was written", file=sys.stderr)
        return 1
    size = sum(f.stat().st_size for f in Path(args.output).iterdir()) if args.to == "peft" else os.path.getsize(
        args.output)
    say("output", f"{args.output}, {size / 1e6:.2f} MB, "
                  f"{time.perf_counter() - begun:.1f} s")
    return 0
