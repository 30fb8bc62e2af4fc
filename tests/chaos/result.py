"""What a run came to, the same for any run that did the same: `python result.py OUT` prints it.

The bytes of all tensors of the last and the best tuned file, and the history without what only tells of time.
"""
import hashlib
import json
import sys
from pathlib import Path

TIMES = ("train_ips", "train_seconds")


def of(out: Path) -> str:
    """Of the newest finished run under a folder."""
    records = sorted(out.glob("*/*/results.json"), key=lambda path: path.stat().st_mtime)
    if not records:
        raise SystemExit(f"{out} has no finished run")
    results = json.loads(records[-1].read_text(encoding="utf-8"))
    history = [{name: value for name, value in row.items() if name not in TIMES} for row in results["history"]]
    tensors = [_digest(records[-1].parent / f"{name}.safetensors") for name in ("latest", "best_model")]
    return json.dumps({"history": history, "best": results["best_epoch"], "tensors": tensors})


def _digest(path: Path) -> str:
    """Of what follows a safetensors file's header, which tells of times."""
    data = path.read_bytes()
    return hashlib.sha256(data[8 + int.from_bytes(data[:8], "little"):]).hexdigest()


if __name__ == "__main__":
    print(of(Path(sys.argv[1])))
