"""The published models that `Arch.pretrained_of` knows, as the table of docs/weights.md.

    python tools/published.py
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ppadapt.weights import PUBLISHED, Published
from ppadapt.weights.facts import Facts
from ppadapt.weights.layouts.rules import CLIP_PIXELS, HALF, IMAGENET

PIXELS = ((IMAGENET, "ImageNet's"), (HALF, "0.5, 0.5"), (CLIP_PIXELS, "CLIP's"))


def megabytes(model: Published) -> int:
    """Of its encoder in float32, without any head."""
    dim, depth, patch = (model.facts[option] for option in ("embed_dim", "depth", "patch_size"))
    hidden, tokens = round(dim * model.facts["mlp_ratio"]), (model.facts["img_size"] // patch) ** 2 + 2
    block = 4 * dim * dim + 2 * dim * hidden + 9 * dim + hidden
    blocks = depth + (model.facts["pool"] == "map")  # the attention pooling is nearly a block
    return round(4 * (blocks * block + dim * (3 * patch * patch + tokens + 3)) / 1e6)


def table() -> str:
    """Markdown: a row for each model."""
    rows = ["| `pretrained_of`, its file | licence | MB | pixels | mean, std | checked with | `Arch:` |",
            "|---" * 7 + "|"]
    for name, model in PUBLISHED.items():
        arch = Facts(dict(model.facts), of=name).arch_line("...", model.key or None)
        pixels = next(title for known, title in PIXELS if known == model.preprocess)
        licence = model.licence + (f" ({model.licence_of})" if model.licence_of else "")
        rows.append(f"| `{name}`: [{model.file}]({model.source}) | {licence} | {megabytes(model)} | "
                    f"{model.facts['img_size']} | {pixels} | {model.peer.replace(':', ' ') or 'nothing'} | "
                    f"`{arch.removeprefix('Arch: ')}` |")
    return "\n".join(rows)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(table())
