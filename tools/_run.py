"""The tools are the commands of `ppadapt`, from a checkout that need not be installed."""
from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ppadapt.cli import run  # noqa: F401
from ppadapt.cli.common import guarded  # noqa: F401
