"""Every plain-ViT-like name of timm: its network with random weights, saved by timm, read here, compared.

Needs an environment with torch, timm and Paddle (tools/peers/README.md); not in CI:

    python tools/peers/timm_sweep.py                       # all names, a line each, the sums at the end
    python tools/peers/timm_sweep.py --only clip --table timm.md

Two blocks of 8 channels a head and an image of 4 x 4 patches, all else as timm builds it, the number of heads included.
Read twice: as the folder that timm saves (with its config.json), and the weight file alone, where the heads are what is
taken of the name's real width. `right` is timm's own features and logits, 1e-5 relative; `asks` is refused until a fact
is given that no tensor shows; `refused` has a reason; `WRONG` must not be.
"""
from __future__ import annotations

import argparse
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


def ours(done, class_num: int, heads: Optional[int]):
    """Our network with these weights, as its facts say; None where a fact has to be given."""
    done.raise_if_incomplete()
    if heads is not None and "num_heads" not in done.facts.told:
        done.facts.tell("num_heads", heads, "the width of the real one")
    if done.facts.asked:
        return None
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
            heads: Optional[int] = None) -> tuple[str, str]:
    """(right, asks, refused or WRONG; what to say of it)."""
    try:
        done = load_weights(path)
        network = ours(done, CLASSES, heads)
    except (WeightsError, ValueError) as error:
        if not isinstance(error, WeightsError):
            return "WRONG", f"ValueError: {error}"
        text = str(error).replace(f"{path}/", "").replace(str(path.parent), "")
        return "refused", text.partition("not a network that ours computes: ")[2].partition(". Without that")[0] or text
    if network is None:
        return "asks", ", ".join(done.facts.asked)
    with paddle.no_grad():
        found = network.features(paddle.to_tensor(images)).numpy()
        answers = network(paddle.to_tensor(images)).numpy()
    if found.shape[1] == 2 * features.shape[1]:  # class and distillation token, whose mean timm calls the feature
        found = found.reshape(len(found), 2, -1).mean(axis=1)
    error = np.abs(found - features).max() / np.abs(features).max()
    error = max(error, np.abs(answers - logits).max() / np.abs(logits).max())
    return ("right" if error < 1e-5 else "WRONG"), f"{error:.1e}"


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
        taken = usual_heads(width)
        alone = verdict(bare, images.numpy(), features.numpy(), logits.numpy(), taken)
        if taken != heads and alone[0] == "right":
            alone = "WRONG", f"{taken} heads are taken for {heads}"
        bare.rename(saved / "model.safetensors")
        whole = verdict(saved, images.numpy(), features.numpy(), logits.numpy(), taken)
        return {"folder": whole, "file alone": alone}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="part of the names")
    parser.add_argument("--table", help="write the table there, as markdown")
    args = parser.parse_args()
    rows = {}
    for name in names():
        if args.only in name:
            rows[name] = sweep(name)
            print(name, *(f"| {kind}: {what} {why[:150]}" for kind, (what, why) in rows[name].items()), flush=True)
    sums = {kind: {} for kind in ("folder", "file alone")}
    for row in rows.values():
        for kind, (what, _) in row.items():
            sums[kind][what] = sums[kind].get(what, 0) + 1
    lines = [f"{kind}: " + ", ".join(f"{count} {what}" for what, count in sorted(found.items()))
             for kind, found in sums.items()]
    print(*lines, sep="\n")
    if args.table:
        table = [f"timm {timm.__version__}, {len(rows)} names. " + ". ".join(lines) + ".", "",
                 "| name | folder | | file alone | |", "|---|---|---|---|---|"]
        for name, row in rows.items():
            cells = [row.get(kind, ("", "")) for kind in sums]
            table.append(f"| `{name}` | " + " | ".join(f"{what} | {why[:200]}" for what, why in cells) + " |")
        Path(args.table).write_text("\n".join(table) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
