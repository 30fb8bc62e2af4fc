"""What is computed on, and how exactly: Global.device and AMP."""
from __future__ import annotations

import paddle

from ..config import Config
from ..engine import processes
from ..engine.amp import Precision
from ..errors import ConfigError, choose
from ..tuning.frozen.onednn.support import bfloat16_obstacle


def set_device(device: str) -> str:
    """Choose the device: auto, cpu, gpu, gpu:N. Raises ConfigError when this Paddle or machine has none."""
    gpu = paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0
    count = processes.started()
    if count > 1 and device.startswith("gpu:"):
        raise ConfigError(f"Global.device is {device} for all {count} processes: set it to gpu, and choose the devices "
                          "with --devices of paddle.distributed.launch")
    if device == "auto":
        device = "gpu" if gpu else "cpu"
    if device.partition(":")[0] not in ("cpu", "gpu"):
        raise ConfigError(choose("Global.device", device, ("auto", "cpu", "gpu", "gpu:0")))
    if device.startswith("gpu") and not gpu:
        why = "finds no GPU" if paddle.is_compiled_with_cuda() else "is the CPU build (pip install paddlepaddle-gpu)"
        raise ConfigError(f"Global.device is {device} and this Paddle {why}: use -o Global.device=cpu")
    try:
        return paddle.set_device(device)
    except (ValueError, OSError) as error:
        raise ConfigError(f"Global.device {device}: {error}") from None


def precision_of(config: Config) -> Precision:
    """The section AMP as an object. Raises ConfigError for a level or type that there is not."""
    return Precision(**vars(config.AMP), cpu_obstacle=bfloat16_obstacle)
