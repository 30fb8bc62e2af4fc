"""The networks that `Arch.name` accepts and what does not work on which, as the table of docs/backbones.md.

    python tools/backbones.py
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ppadapt.models.catalogue import NETWORKS
from ppadapt.models.paddleclas.families import FAMILIES, LEFT_OUT
from ppadapt.models.pixels import HALVES, IMAGENET

PAPERS = {f"PaddleClas {family.title}": family.source for family in FAMILIES}
PIXELS = {IMAGENET: "ImageNet's", HALVES: "0.5, 0.5"}


def table() -> str:
    """Markdown: a row for each family, then the transformers of PaddleClas that are left out."""
    rows = ["| family | `Arch.name` | weights | mean, std | what does not work on it | note |", "|---" * 6 + "|"]
    for family in dict.fromkeys(entry.family for entry in NETWORKS.values()):
        names = [name for name, entry in NETWORKS.items() if entry.family == family]
        entry = NETWORKS[names[-1]]
        reasons = entry.anatomy.without
        without = [f"{', '.join(name for name in reasons if reasons[name] == why)}: {why}"
                   for why in dict.fromkeys(reasons.values())]
        missing = [name for name in ("q", "k", "v") if name not in entry.anatomy.linears]
        if missing:
            without.append(f"LoRA of {', '.join(missing)}: no layer computes them")
        title = f"[{family.removeprefix('PaddleClas ')}](https://arxiv.org/abs/{PAPERS[family]})" \
            if family in PAPERS else "ours"
        rows.append(f"| {title} | {_code(names)} | {entry.source} | {PIXELS.get(entry.pixels, '?')} | "
                    f"{'; '.join(without) or 'all methods work'} | {entry.note} |")
    left_out = [f"* `{start}`...: {why}" for start, why in LEFT_OUT.items()]
    return "\n".join([*rows, "", "Transformers of PaddleClas that are left out:", "", *left_out])


def _code(names) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(table())
