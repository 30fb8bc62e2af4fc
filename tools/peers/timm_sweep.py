"""Every plain-ViT-like name of timm: its network with random weights, saved by timm, read here, compared.

Needs an environment with torch, timm and Paddle (tools/peers/README.md); not in CI:

    python tools/peers/timm_sweep.py                           # all names, a line each, the sums at the end
    python tools/peers/timm_sweep.py --part 1/4 --rows a.json  # a quarter of them, kept for --table
    python tools/peers/timm_sweep.py --table timm.md *.json    # the table of docs/timm.md

Two blocks of 8 channels a head and an image of 4 x 4 patches, all else as timm builds it, the number of heads included.
Read three times: as the folder that timm saves (with its config.json), and the weights alone, as .safetensors and as
the .pth of a state dict, where the heads are what is taken of the name's real width. `right` is timm's own features and
logits, 1e-5 relative; `asks` is refused until a fact is given that no tensor shows, and right with it; `refused` has a
reason; `WRONG` must not be.
"""
from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Optional

import torchvision_stub

torchvision_stub.install()
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np  # noqa: E402
import paddle  # noqa: E402
import timm  # noqa: E402
import torch  # noqa: E402
from make_golden import randomise, timm_folder  # noqa: E402

from ppadapt.models.vit import VisionTransformer  # noqa: E402
from ppadapt.weights import WeightsError, load_weights, match  # noqa: E402
from ppadapt.weights.facts import usual_heads  # noqa: E402
from ppadapt.weights.layouts.timm import POST_NORM  # noqa: E402

MODULES = ("vision_transformer", "deit", "beit", "eva", "vision_transformer_hybrid", "vision_transformer_relpos")
CLASSES, DEPTH, GRID, CHANNELS = 7, 2, 4, 8


def names() -> list[str]:
    return [name for module in MODULES for name in timm.list_models(module=module)]


def build(name: str) -> tuple[torch.nn.Module, int, int]:
    """The small network, and heads and width of the real one."""
    with torch.device("meta"):
        real = timm.create_model(name, depth=1)
    heads = next(module.num_heads for module in real.modules() if isinstance(getattr(module, "num_heads", None), int))
    patch = real.patch_embed.patch_size[0]
    small = timm.create_model(name, depth=DEPTH, img_size=GRID * patch, num_classes=CLASSES, embed_dim=CHANNELS * heads)
    return randomise(small), heads, real.embed_dim


def truth_of(model: torch.nn.Module, heads: int) -> dict[str, object]:
    """What a user answers who is asked."""
    act = model.blocks[0].mlp.act if hasattr(model.blocks[0], "mlp") else None
    mean = "norm_avg" if isinstance(model.fc_norm, torch.nn.Identity) else "avg"
    return {"num_heads": heads, "pool": {"avg": mean, "map": "map"}.get(model.global_pool, "cls"),
            "act": "quick_gelu" if "Quick" in type(act).__name__ else "gelu_tanh" if (
                "Tanh" in type(act).__name__ or getattr(act, "approximate", "") == "tanh") else "gelu"}


def ours(done, class_num: int, heads: Optional[int], truth: dict[str, object]):
    """Our network with these weights, as its facts say and, where they are asked for, as `truth` answers."""
    done.raise_if_incomplete()
    for option in list(done.facts.asked):
        done.facts.tell(option, truth[option], "the user")
    if "num_heads" not in done.facts.told:
        done.facts.tell("num_heads", heads, "the width of the real one")
    options = {option: value for option, value in done.arch.items() if option != "class_num"}
    network = VisionTransformer(**options, class_num=class_num)
    network.eval()
    shapes = {name: tuple(p.shape) for name, p in network.named_parameters()}
    arrays, report = match(done.tensors, shapes, file=done.path)
    report.raise_if_incomplete()
    for name, parameter in network.named_parameters():
        parameter.set_value(arrays[name])
    return network


def verdict(path: Path, images: np.ndarray, features: np.ndarray, logits: np.ndarray,
            heads: Optional[int], truth: dict[str, object]) -> tuple[str, str]:
    """(right, asks, refused or WRONG; what to say of it)."""
    try:
        done = load_weights(path)
        # What the real width would do: where the pooling is asked for, or no width is usual, the heads are asked for.
        if heads and "pool" not in done.facts.asked:
            done.facts.asked.pop("num_heads", None)
        elif "num_heads" not in done.facts.told:
            done.facts.ask("num_heads", "")
        asked = list(done.facts.asked)
        network = ours(done, CLASSES, heads, truth)
    except (WeightsError, ValueError) as error:
        if not isinstance(error, WeightsError):
            return "WRONG", f"ValueError: {error}"
        text = str(error).replace(f"{path}/", "").replace(str(path.parent), "")
        return "refused", text.partition("not a network that ours computes: ")[2].partition(". Without that")[0] or text
    with paddle.no_grad():
        found = network.features(paddle.to_tensor(images)).numpy()
        answers = network(paddle.to_tensor(images)).numpy()
    if found.shape[1] == 2 * features.shape[1]:  # class and distillation token, whose mean timm calls the feature
        found = found.reshape(len(found), 2, -1).mean(axis=1)
    error = np.abs(found - features).max() / np.abs(features).max()
    error = max(error, np.abs(answers - logits).max() / np.abs(logits).max())
    if not error < 1e-5:
        return "WRONG", f"{error:.1e}"
    return ("asks", ", ".join(asked)) if asked else ("right", f"{error:.1e}")


def sweep(name: str) -> dict[str, tuple[str, str]]:
    try:
        model, heads, width = build(name)
    except Exception as error:  # what timm cannot shrink or build here
        return {"folder": ("not built", f"{type(error).__name__}: {error}"[:80])}
    size = model.patch_embed.img_size[0]
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        tokens = model.forward_features(images)
        features, logits = model.forward_head(tokens, pre_logits=True), model(images)
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "saved"
        timm_folder(model, saved)
        bare = Path(folder) / "bare" / "model.safetensors"
        bare.parent.mkdir()
        (saved / "model.safetensors").rename(bare)
        pickled = bare.with_name("model.pth")
        torch.save(model.state_dict(), pickled)
        taken, truth = usual_heads(width), truth_of(model, heads)
        expected = (images.numpy(), features.numpy(), logits.numpy(), taken, truth)
        found = {}
        for kind, file in ((".safetensors", bare), (".pth", pickled)):
            found[kind] = verdict(file, *expected)
            if width in POST_NORM:
                found[kind] = "refused", POST_NORM[width]
            elif taken != heads and found[kind][0] == "right":
                found[kind] = "WRONG", f"{taken} heads are taken for {heads}"
        bare.rename(saved / "model.safetensors")
        return {"folder": verdict(saved, *expected), **found}


def table(rows: dict[str, dict]) -> str:
    """Markdown: names by what became of them."""
    def grouped(pairs) -> list[str]:
        groups: dict[str, list[str]] = {}
        for name, why in pairs:
            groups.setdefault(why, []).append(f"`{name}`")
        return [f"| {why} | {', '.join(names)} |" for why, names in sorted(groups.items(), key=lambda g: -len(g[1]))]

    def of(what: str) -> dict[str, dict]:
        return {name: row for name, row in rows.items() if row["folder"][0] == what}

    def asks(row: dict) -> str:
        kinds = {kind: why if what == "asks" else "nothing" if what == "right" else f"{what}: {why}"
                 for kind, (what, why) in row.items() if kind != "folder"}
        return "; ".join(dict.fromkeys(kinds.values()))

    return "\n".join([
        *(f"* {kind}: {line}" for kind, line in sums(rows).items()), "",
        "## Right", "", "| what the file alone asks for | names |", "|---|---|",
        *grouped((name, asks(row)) for name, row in of("right").items()), "",
        "## Refused", "", "| because | names |", "|---|---|",
        *grouped((name, because(row["folder"][1])) for name, row in of("refused").items()), "",
        "Not built so small: " + ", ".join(f"`{name}`" for name in of("not built")) + "."])


def because(text: str) -> str:
    """The reason that is said first, without the names of tensors."""
    if "a gated MLP" in text:
        return "fc1 gives twice what fc2 takes, a gated MLP (SwiGLU), which our networks do not compute"
    reasons = [part.rpartition(": ")[2] for part in text.split("; ") if not part.startswith("it lacks")]
    return reasons[0] if reasons else text


def sums(rows: dict[str, dict]) -> dict[str, str]:
    found: dict[str, dict[str, int]] = {}
    for row in rows.values():
        for kind, (what, _) in row.items():
            found.setdefault(kind, {}).setdefault(what, 0)
            found[kind][what] += 1
    return {kind: ", ".join(f"{count} {what}" for what, count in sorted(of.items())) for kind, of in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="part of the names")
    parser.add_argument("--part", default="1/1", help="1/4: the first quarter of the names")
    parser.add_argument("--rows", help="write the results there, as JSON")
    parser.add_argument("--table", help="write the table of these results there, as markdown; nothing is run")
    parser.add_argument("results", nargs="*", help="of --rows, for --table")
    args = parser.parse_args()
    rows: dict[str, dict] = {}
    if args.table:
        for file in args.results:
            rows.update(json.loads(Path(file).read_text(encoding="utf-8")))
        Path(args.table).write_text(table(rows) + "\n", encoding="utf-8")
        return
    part, parts = map(int, args.part.split("/"))
    for name in [name for name in names() if args.only in name][part - 1::parts]:
        rows[name] = sweep(name)
        print(name, *(f"| {kind}: {what} {why[:150]}" for kind, (what, why) in rows[name].items()), flush=True)
    print(*(f"{kind}: {line}" for kind, line in sums(rows).items()), sep="\n")
    if args.rows:
        Path(args.rows).write_text(json.dumps(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
