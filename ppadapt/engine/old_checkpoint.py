"""The checkpoints of version 0.1: `latest.safetensors` and `latest.pdstates`, a pickle that is read, not run."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import numpy as np

from ..errors import ConfigError, FileError
from ..pickles import Walk, read_pickle
from .checkpoint import Checkpoint


def find(given: str) -> Optional[tuple[Path, Path]]:
    """The two files that `Global.checkpoints` names (a run's folder, its `latest`, or either file), or None."""
    path = Path(given)
    stem = path / "latest" if path.is_dir() else path
    if stem.suffix in (".safetensors", ".pdstates"):
        stem = stem.with_suffix("")
    found = stem.parent / f"{stem.name}.safetensors", stem.parent / f"{stem.name}.pdstates"
    return found if found[1].is_file() and found[0].is_file() else None


def read(tuned: Path, progress: Path) -> Checkpoint:
    """In the form of today's. Raises ConfigError when it is damaged or its pickle wants more than data."""
    try:
        state = Walk(lambda array: np.array(array.numpy())).plain(read_pickle(progress.read_bytes(), str(progress))[0])
        ema, scaler = state.get("ema") or {}, state.get("scaler") or {}
        tensors = {f"optimizer/{name}": np.asarray(value) for name, value in state["optimizer"].items()}
        tensors.update({f"ema/{name}": np.asarray(value) for name, value in ema.get("average", {}).items()})
        epoch = int(state["epoch"])
        plain: dict[str, Any] = {
            "epoch": epoch + 1, "batch": 0, "step": 0, "history": list(state["history"]), "best": dict(state["best"]),
            "seconds": float(state["seconds"]), "schedule": {"last_epoch": int(state["schedule"]["last_epoch"])},
            "scaler": {name: np.asarray(value).tolist() for name, value in scaler.items()},
            "ema_steps": ema.get("steps"), "random": None, "config": None, "data": None, "curves": []}
    except (OSError, FileError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"Global.checkpoints: {progress} cannot be read ({type(error).__name__}: {error}). "
                          "Start from the tuned file alone with Global.pretrained_model") from None
    return OldCheckpoint(tuned.parent, plain, tensors, tuned)


class OldCheckpoint(Checkpoint):
    """One whose files have other names."""

    def __init__(self, folder: Path, progress: dict, tensors: dict, tuned: Path):
        super().__init__(folder, progress, tensors)
        self._tuned = tuned

    @property
    def tuned(self) -> Path:
        return self._tuned
