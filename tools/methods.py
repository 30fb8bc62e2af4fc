"""What each tuning method adds: the table and the picture of docs/methods.md.

    python tools/methods.py                              # the table: what is trained of a ViT-B/16
    python tools/methods.py --figure docs/methods.png    # where it sits in a block
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

NETWORK, BLOCKS = "vit_base_patch16", 12
GREY, BLUE, LINE = "#e8e8e8", "#1f5fa8", "#777777"
# Heights of what a pre-norm block is made of, and of the places between.
LN1, ATTN, ADD1, LN2, MLP, ADD2, END = 1.0, 3.2, 5.2, 6.4, 8.6, 10.6, 12.6


def table() -> str:
    """Markdown: a row for each method with its default options, the head left out."""
    import ppadapt

    networks = [ppadapt.network(NETWORK, depth=depth) for depth in (1, 2)]
    total = _of_all_blocks(*(sum(int(p.size) for p in network.parameters()) for network in networks))
    rows = ["| `Tuning.name` | trained parameters | of the network | starts at the network's own output | merges |",
            "|---|---|---|---|---|"]
    for name, make in ppadapt.METHODS.items():
        method = make()
        count = _of_all_blocks(*(trained(network, method) for network in networks))
        rows.append(f"| [`{name}`](#{name.lower()}) | {count:,} | {count / total:.2%} | "
                    f"{'yes' if make.keeps_output else 'no'} | {'no' if make.unmergeable else 'yes'} |")
    return "\n".join(rows)


def trained(network, method) -> int:
    """How many parameters a method trains, without a head."""
    import ppadapt

    if isinstance(method, ppadapt.LinearProbe):
        return 0  # it trains the head alone, which is left out here
    adaptation = ppadapt.attach(network, method)
    count = adaptation.counts()[0]
    adaptation.detach()
    return int(count)


def _of_all_blocks(of_one: int, of_two: int) -> int:
    """A count in the whole network from those in one and in two blocks, as all blocks are alike: 80 million parameters
    need not be made to be counted."""
    return of_one + (BLOCKS - 1) * (of_two - of_one)


def figure(path: Path) -> None:
    """A panel a method: the block in grey, what trains in blue."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    panels = {
        "AdaptFormer": lambda a: _beside(a, ADD1 + 0.35, ADD2, "down\nReLU\nup · s"),
        "AdaptFormer,\noption: sequential": lambda a: _inside(a, 9.65, "down ReLU up · s", own_skip=True),
        "VPT": _tokens,
        "Houlsby": lambda a: (_inside(a, 4.25, "down GELU up", own_skip=True),
                              _inside(a, 9.65, "down GELU up", own_skip=True)),
        "Pfeiffer": lambda a: _inside(a, 11.6, "LN down GELU up", own_skip=True),
        "AdapterPlus": lambda a: _inside(a, 11.6, "down GELU up · s", own_skip=True),
        "Convpass": lambda a: (_beside(a, LN1 + 0.7, ADD1, "down\nconv 3x3\nup · s"),
                               _beside(a, LN2 + 0.7, ADD2, "down\nconv 3x3\nup · s")),
        "RepAdapter": lambda a: (_inside(a, 2.1, "down up · s", own_skip=True),
                                 _inside(a, 7.5, "down up · s", own_skip=True)),
        "LoRA": lambda a: _into(a, ATTN, "q, v:\nB A x"),
        "SSF": lambda a: [_inside(a, y, "γ x + β", height=0.42) for y in (1.85, 4.15, 7.25, 9.5)],
        "BitFit": lambda a: [_into(a, y, "bias", width=0.9) for y in (LN1, ATTN, LN2, MLP)],
        "LayerNormTuning": lambda a: [_box(a, 0, y, 2.0, 0.75, "LayerNorm", BLUE) for y in (LN1, LN2)],
    }
    plt.rcParams.update({"font.size": 8})
    drawn, axes = plt.subplots(2, 6, figsize=(12.5, 9.4), layout="constrained")
    for axis, (name, add) in zip(axes.flat, panels.items()):
        _block(axis)
        add(axis)
        axis.set_title(name, fontsize=10, color=BLUE)
    drawn.savefig(path, dpi=110)


def _block(axis) -> None:
    axis.set_xlim(-2.2, 3.2)
    axis.set_ylim(-1.3, END + 0.3)
    axis.set_aspect("equal")
    axis.axis("off")
    axis.annotate("", (0, END), (0, -0.4), arrowprops={"arrowstyle": "-|>", "color": LINE, "linewidth": 1.0}, zorder=0)
    for low, high in ((0.2, ADD1), (ADD1 + 0.35, ADD2)):
        axis.plot([0, -1.6, -1.6, -0.25], [low, low, high, high], color=LINE, linewidth=1.0, zorder=0)
    for y, name in ((LN1, "LayerNorm"), (ATTN, "attention"), (LN2, "LayerNorm"), (MLP, "MLP")):
        _box(axis, 0, y, 2.0, 0.75, name, GREY)
    for y in (ADD1, ADD2):
        axis.text(0, y, "+", ha="center", va="center", fontsize=9, bbox={
            "boxstyle": "circle,pad=0.12", "facecolor": "white", "edgecolor": LINE})
    for i in range(5):
        _box(axis, -1.2 + 0.6 * i, -0.8, 0.45, 0.45, "", GREY)


def _box(axis, x: float, y: float, width: float, height: float, text: str, colour: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    axis.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, facecolor=colour, edgecolor=LINE,
                                  boxstyle="round,pad=0.02,rounding_size=0.12", linewidth=0.6, zorder=2))
    axis.text(x, y, text, ha="center", va="center", fontsize=7, zorder=3, color="white" if colour == BLUE else "black")


def _inside(axis, y: float, text: str, height: float = 0.62, own_skip: bool = False) -> None:
    """In the way of the stream or of a branch of it."""
    _box(axis, 0, y, 2.9, height, text, BLUE)
    if own_skip:
        axis.plot([0, 1.75, 1.75, 0], [y - 0.52, y - 0.52, y + 0.52, y + 0.52], color=BLUE, linewidth=1.0, zorder=1)


def _beside(axis, low: float, high: float, text: str) -> None:
    """From one height of the stream to a sum."""
    axis.plot([0, 2.2, 2.2], [low, low, high], color=BLUE, linewidth=1.0, zorder=1)
    axis.annotate("", (0.28, high), (2.2, high), arrowprops={"arrowstyle": "-|>", "color": BLUE, "linewidth": 1.0})
    _box(axis, 2.2, (low + high) / 2, 1.5, 1.6, text, BLUE)


def _into(axis, y: float, text: str, width: float = 1.2) -> None:
    """A part of a layer."""
    axis.annotate("", (1.0, y), (1.7, y), arrowprops={"arrowstyle": "-|>", "color": BLUE, "linewidth": 1.0})
    _box(axis, 1.6 + width / 2, y, width, 0.75, text, BLUE)


def _tokens(axis) -> None:
    for i in range(2):
        _box(axis, 1.95 + 0.6 * i, -0.8, 0.45, 0.45, "", BLUE)
    axis.text(2.25, -0.3, "prompts", ha="center", fontsize=7, color=BLUE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw the picture in the place of the table")
    args = parser.parse_args()
    figure(args.figure) if args.figure else print(table())


if __name__ == "__main__":
    main()
