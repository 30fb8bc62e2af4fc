"""Time and memory of a training step."""
from __future__ import annotations

import argparse
import sys

from _measure import measure as measure_steps

from . import Claim

# Names of sides.
ADAPT, FULL, RECOMPUTE, PLAIN = "AdaptFormer", "full fine-tuning", "AdaptFormer, recompute", "AdaptFormer, plain layers"
HALF, HALF_RECOMPUTE = "AdaptFormer, bfloat16", "AdaptFormer, bfloat16, recompute"
PADDLE = "AdaptFormer, without oneDNN"
LARGE, LARGE_PLAIN = f"{ADAPT}, larger batch", f"{PLAIN}, larger batch"
TORCH, TORCH_FULL, TORCH_LARGE = "PyTorch", "PyTorch, full fine-tuning", "PyTorch, larger batch"
TORCH_HALF, TORCH_FULL_HALF = "PyTorch, bfloat16, fused attention", "PyTorch, full fine-tuning, bfloat16, fused"
COLUMNS = (("batch", "batch", 0), ("images/s", "images_per_second", 2), ("peak memory, MiB", "peak_mib", 0),
           ("of it the step's", "step_mib", 0))
CLAIMS = (
    Claim("step time, AdaptFormer / full fine-tuning", "seconds", ADAPT, FULL, 0.62),
    Claim("peak memory, AdaptFormer / full fine-tuning", "peak_mib", ADAPT, FULL, 0.55),
    Claim("peak memory, with recompute / full fine-tuning", "peak_mib", RECOMPUTE, FULL, 0.40),
    Claim("step time, with recompute / without", "seconds", RECOMPUTE, ADAPT),
    Claim("step time / plain layers", "seconds", ADAPT, PLAIN),
    Claim("memory of a step, larger batch / plain layers", "step_mib", LARGE, LARGE_PLAIN, 0.60),
    Claim("memory of a step, larger batch / PyTorch", "step_mib", LARGE, TORCH_LARGE, 1.0),
    Claim("peak memory, larger batch / PyTorch", "peak_mib", LARGE, TORCH_LARGE, 1.0),
    Claim("images/s / PyTorch", "images_per_second", ADAPT, TORCH, 1.80, ">="),
    Claim("images/s, bfloat16 / PyTorch's best bfloat16", "images_per_second", HALF, TORCH_HALF, 1.20, ">="),
    Claim("images/s, full fine-tuning / PyTorch", "images_per_second", FULL, TORCH_FULL, 1.20, ">="),
    Claim("images/s / without oneDNN", "images_per_second", ADAPT, PADDLE),
    Claim("images/s, bfloat16 / float32", "images_per_second", HALF, ADAPT),
    Claim("memory of a step, bfloat16 / float32", "step_mib", HALF, ADAPT, 0.70),
    Claim("peak memory of the process in bfloat16, MiB", "peak_mib", HALF, None, 1.3e9 / 2**20),
)


def sides(options: argparse.Namespace) -> dict[str, dict]:
    adapt, full, peer = {"method": "AdaptFormer"}, {"method": "FullFineTuning"}, {"peer": "torch_vit.py"}
    small, large = {"batch": options.batch}, {"batch": options.memory_batch}
    return {
        ADAPT: {**adapt, **small},
        FULL: {**full, **small},
        RECOMPUTE: {**adapt, **small, "recompute": True},
        HALF: {**adapt, **small, "half": True},
        HALF_RECOMPUTE: {**adapt, **small, "half": True, "recompute": True},
        PADDLE: {**adapt, **small, "env": {"PPADAPT_NO_ONEDNN": "1"}},
        PLAIN: {**adapt, **small, "cheap": False},
        LARGE: {**adapt, **large},
        LARGE_PLAIN: {**adapt, **large, "cheap": False},
        TORCH: {**adapt, **small, **peer},
        TORCH_FULL: {**full, **small, **peer},
        TORCH_LARGE: {**adapt, **large, **peer},
        TORCH_HALF: {**adapt, **small, **peer, "half": True, "fused": True},
        TORCH_FULL_HALF: {**full, **small, **peer, "half": True, "fused": True},
    }


def measure(side: dict) -> dict:
    """Training steps on random images."""
    import ppadapt  # before Paddle: it sets switches
    import paddle  # isort: skip
    from ppadapt.engine.amp import Precision
    from ppadapt.tuning import METHODS
    from ppadapt.tuning.frozen.onednn.support import bfloat16_obstacle
    from ppadapt.tuning.frozen.recompute import recompute_blocks

    paddle.set_device(side["device"])
    paddle.seed(0)
    network = ppadapt.vit(side["arch"])
    head = ppadapt.heads.batchnorm_linear(network.embed_dim, 100)
    adaptation = ppadapt.attach(network, METHODS[side["method"]](), head=head, cheap=side.get("cheap", True))
    precision = Precision(*(("O1", "bfloat16") if side.get("half") else ()), cpu_obstacle=bfloat16_obstacle)
    if precision.obstacle:
        sys.exit(precision.obstacle)
    precision.prepare(adaptation)
    if "frozen_dtype" in side:
        adaptation.store_frozen(side["frozen_dtype"])
    if side.get("recompute"):
        recompute_blocks(network)
    adaptation.train()
    trained = list(adaptation.trained_parameters().values())
    optimizer = paddle.optimizer.Momentum(0.05, 0.9, parameters=trained)
    size = side["sizes"]["img_size"]
    images, labels = paddle.randn([side["batch"], 3, size, size]), paddle.arange(side["batch"]) % 100

    def step():
        with precision.context():
            loss = paddle.nn.functional.cross_entropy(adaptation(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        return float(loss)

    peak = paddle.device.cuda.max_memory_allocated if side["device"] == "gpu" else None
    result = measure_steps(step, side["steps"], peak)
    return {"version": f"paddle {paddle.__version__}", "batch": side["batch"], **result,
            "trained": sum(tensor.size for tensor in trained), "images_per_second": side["batch"] / result["seconds"]}
