"""Training that can be asked for again: what was cut off goes on, what is done is not done twice."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Optional

from .. import build, log
from ..config import Config
from . import experiment


def train_once(config: Config, source: Optional[Path] = None) -> dict:
    """`experiment.train`, or the results of a finished run of this very config, whose folder the log names.

    What may differ is what changes no result (`build.resume.MAY_CHANGE`). The data is compared when a run goes on, by
    its labels, but not where it was finished.
    """
    runs = Path(config.Global.output_dir).expanduser() / experiment.name_of(config, source)
    done = None if config.Global.checkpoints else build.finished(config, runs)
    if done is not None:
        log.setup(notes=config.notes, facts=config.facts)
        log.LOGGER.info("this was trained before: the results are those of %s (remove the folder to train anew)", done)
        return json.loads((done / "results.json").read_text(encoding="utf-8"))
    if not config.Global.checkpoints:
        cut_off = build.cut_off(config, runs)
        config.Global.checkpoints = str(cut_off) if cut_off else None
    return experiment.train(config, source)
