"""How soon things answer: seconds from starting a process, whole."""
from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import Claim

ROOT = Path(__file__).resolve().parent.parent.parent
PADDLE, OURS, HELP, FIRST = ("import paddle", "import ppadapt, with its networks and methods", "tools/train.py --help",
                             "first batch of the demo")
COLUMNS = (("seconds", "seconds", 2),)
CLAIMS = (
    Claim("import ppadapt, over import paddle, s", "seconds", OURS, PADDLE, 0.3, difference=True),
    Claim("tools/train.py --help, s", "seconds", HELP, target=2.0),
    Claim("first batch of the demo, s", "seconds", FIRST, target=10.0),
)


def sides(options: argparse.Namespace) -> dict[str, dict]:
    return {
        PADDLE: {"command": ["-c", "import paddle"]},
        OURS: {"command": ["-c", "import ppadapt; ppadapt.attach; ppadapt.vit"]},
        HELP: {"command": ["tools/train.py", "--help"]},
        # The line of the first batch; the demo's process goes on, and is stopped there.
        FIRST: {"command": ["tools/train.py", "-c", "configs/digits/vit_micro_adaptformer.yaml", "-o",
                            "Global.output_dir={folder}"], "until": "[Iter: 0/"},
    }


def measure(side: dict) -> dict:
    """Seconds until the command ends, or prints `until`. Raises RuntimeError with its last words when it fails."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-u", *(part.format(folder=folder) for part in side["command"])]
        start, said = time.perf_counter(), []
        process = subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   env={**os.environ, "PYTHONPATH": str(ROOT)})
        for line in process.stdout:
            said.append(line)
            if "until" in side and side["until"] in line:
                seconds = time.perf_counter() - start
                process.send_signal(signal.SIGKILL)
                process.communicate()
                return {"seconds": seconds}
        if process.wait() or "until" in side:
            raise RuntimeError(f"{' '.join(command)} failed:\n{''.join(said)[-2000:]}")
        return {"seconds": time.perf_counter() - start}
