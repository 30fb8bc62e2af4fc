"""The networks that `Arch.name` accepts and what does not work on which, as the table of docs/backbones.md.

    python tools/backbones.py
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ppadapt.models.paddleclas.families import FAMILIES, LEFT_OUT
from ppadapt.models.vit import VITS


def table() -> str:
    """Markdown: a row for each family, then the transformers that are left out."""
    rows = ["| family | `Arch.name` | what does not work on it | note |", "|---|---|---|---|",
            f"| ours | {_code(VITS)} | all methods work |  |"]
    for family in FAMILIES:
        reasons = family.anatomy.without
        without = [f"{', '.join(name for name in reasons if reasons[name] == why)}: {why}"
                   for why in dict.fromkeys(reasons.values())]
        missing = [name for name in ("q", "k", "v") if name not in family.anatomy.linears]
        if missing:
            without.append(f"LoRA of {', '.join(missing)}: no layer computes them")
        rows.append(f"| [{family.title}](https://arxiv.org/abs/{family.source}) | {_code(family.names)} | "
                    f"{'; '.join(without) or 'all methods work'} | {family.note} |")
    left_out = [f"* `{start}`...: {why}" for start, why in LEFT_OUT.items()]
    return "\n".join([*rows, "", "Transformers of PaddleClas that are left out:", "", *left_out])


def _code(names) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(table())
