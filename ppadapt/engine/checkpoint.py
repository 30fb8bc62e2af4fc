"""A run's files: one fresh folder, the tuned state, and what resuming needs."""
from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Mapping

import numpy as np
import paddle

from .. import files
from ..errors import ConfigError, FileError
from ..pickles import Walk, read_pickle


def fresh_folder(parent: Path) -> Path:
    """A new folder named after the time. Raises ConfigError when it cannot be made."""
    try:
        for n in range(1000):
            folder = parent / (time.strftime("%Y%m%d-%H%M%S") + (f"-{n}" if n else ""))
            try:
                folder.mkdir(parents=True)
                return folder
            except FileExistsError:
                if not folder.is_dir() or not parent.is_dir():
                    raise
        raise FileExistsError(f"{folder} and 999 others exist")
    except OSError as error:
        raise ConfigError(f"Global.output_dir: {parent} cannot be written ({error.strerror or error})") from None


def optimizer_state(optimizer: paddle.optimizer.Optimizer, parameters: Mapping[str, paddle.Tensor]) -> dict:
    """The optimizer's tensors under the parameters' names in the network.

    Paddle names them after counters (`linear_7.w_0_moment1_0`) that differ in the next process, where its
    own `set_state_dict` would quietly find nothing to set.
    """
    owners = sorted(((p.name + "_", n) for n, p in parameters.items()), key=lambda pair: -len(pair[0]))
    state = {}
    for key, value in optimizer.state_dict().items():
        if isinstance(value, paddle.Tensor):
            for prefix, name in owners:
                if key.startswith(prefix):
                    state[f"{name}|{key[len(prefix):]}"] = value.numpy()
                    break
            else:
                raise RuntimeError(f"optimizer tensor {key} belongs to no trained parameter")
    return state


def restore_optimizer(optimizer: paddle.optimizer.Optimizer, parameters: Mapping[str, paddle.Tensor],
                      schedule: Any, state: Mapping) -> None:
    """The inverse of `optimizer_state`; the schedule keeps its place. Raises ConfigError for other parameters."""
    own = {}
    for key, value in state.items():
        name, _, rest = key.partition("|")
        if name not in parameters:
            raise ConfigError(f"Global.checkpoints trained {name}, which does not train here: resume with the "
                              "Arch and Tuning of the run (its config.yaml)")
        own[f"{parameters[name].name}_{rest}"] = paddle.to_tensor(value)
    optimizer.set_state_dict({**own, "LR_Scheduler": schedule.state_dict()})


def save_progress(path: Path, **state: Any) -> None:
    """What resuming needs beside the tuned state, in one pickle (`latest.pdstates`)."""
    files.replace(path, lambda temporary: paddle.save(state, str(temporary)))


def find_progress(checkpoint: str) -> tuple[Path, Path]:
    """The two files of `Global.checkpoints`: (tuned state, progress).

    `checkpoint` is a run's folder, its `latest`, or either file.

    Raises:
        ConfigError: when they are not there.
    """
    path = Path(checkpoint)
    stem = path / "latest" if path.is_dir() else path
    if stem.suffix in (".safetensors", ".pdstates"):
        stem = stem.with_suffix("")
    files = stem.parent / f"{stem.name}.safetensors", stem.parent / f"{stem.name}.pdstates"
    for file in files:
        if not file.is_file():
            raise ConfigError(f"Global.checkpoints {checkpoint}: {file} does not exist. Give the folder of a run, "
                              "or its latest.safetensors")
    return files


def load_progress(path: Path) -> dict:
    """Read `latest.pdstates`, a pickle, without running it. Raises ConfigError when it is damaged or wants more."""
    try:
        state = Walk(lambda array: np.array(array.numpy())).plain(read_pickle(path.read_bytes(), str(path))[0])
        state["epoch"], state["optimizer"], state["schedule"]
    except (OSError, FileError, KeyError, TypeError) as error:
        raise ConfigError(f"Global.checkpoints: {path} cannot be read ({type(error).__name__}: {error}). "
                          "Start from the tuned file alone with Global.pretrained_model") from None
    return state
