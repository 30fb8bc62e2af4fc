"""What of a PaddleClas config is not taken, as the table of docs/from_paddleclas.md.

    python tools/from_paddleclas.py
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ppadapt.config import paddleclas


def table() -> str:
    """Markdown: what is left out with a note, what is refused, and names that are not here."""
    parts = []
    for title, known in (
            ("Left out, and said in the log, for nothing is lost by it:", paddleclas.LEFT_OUT),
            ("Refused, with the reason, for the run would not be what the config says:", paddleclas.REFUSED),
            ("Names (`*` stands for any letters) that are not built here:", paddleclas.NAMES)):
        rows = [f"| {', '.join(f'`{name}`' for name in known if known[name] == why)} | {why} |"
                for why in dict.fromkeys(known.values())]
        parts.append("\n".join([title, "", "| | |", "|---|---|", *rows]))
    return "\n\n".join(parts)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(table())
