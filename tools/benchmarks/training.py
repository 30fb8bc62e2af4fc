"""Time and memory of a training step."""
from __future__ import annotations

import argparse

from _measure import measure as measure_steps

from . import Claim

# Names of sides.
ADAPT, FULL, RECOMPUTE, PLAIN = "AdaptFormer", "full fine-tuning", "AdaptFormer, recompute", "AdaptFormer, plain layers"
LARGE, LARGE_PLAIN = f"{ADAPT}, larger batch", f"{PLAIN}, larger batch"
TORCH, TORCH_FULL, TORCH_LARGE = "PyTorch", "PyTorch, full fine-tuning", "PyTorch, larger batch"
COLUMNS = (("batch", "batch", 0), ("images/s", "images_per_second", 2), ("peak memory, MiB", "peak_mib", 0),
           ("of it the step's", "step_mib", 0))
CLAIMS = (
    Claim("step time, AdaptFormer / full fine-tuning", "seconds", ADAPT, FULL, 0.70),
    Claim("peak memory, AdaptFormer / full fine-tuning", "peak_mib", ADAPT, FULL, 0.55),
    Claim("peak memory, with recompute / full fine-tuning", "peak_mib", RECOMPUTE, FULL, 0.40),
    Claim("step time, with recompute / without", "seconds", RECOMPUTE, ADAPT),
    Claim("step time / plain layers", "seconds", ADAPT, PLAIN),
    Claim("memory of a step, larger batch / plain layers", "step_mib", LARGE, LARGE_PLAIN, 0.60),
    Claim("memory of a step, larger batch / PyTorch", "step_mib", LARGE, TORCH_LARGE, 1.0),
    Claim("peak memory, larger batch / PyTorch", "peak_mib", LARGE, TORCH_LARGE, 1.0),
    Claim("images/s / PyTorch", "images_per_second", ADAPT, TORCH, 0.70, ">="),
    Claim("images/s, full fine-tuning / PyTorch", "images_per_second", FULL, TORCH_FULL),
)


def sides(options: argparse.Namespace) -> dict[str, dict]:
    adapt, full, peer = {"method": "adaptformer"}, {"method": "full"}, {"peer": "torch_vit.py"}
    small, large = {"batch": options.batch}, {"batch": options.memory_batch}
    return {
        ADAPT: {**adapt, **small},
        FULL: {**full, **small},
        RECOMPUTE: {**adapt, **small, "recompute": True},
        PLAIN: {**adapt, **small, "cheap": False},
        LARGE: {**adapt, **large},
        LARGE_PLAIN: {**adapt, **large, "cheap": False},
        TORCH: {**adapt, **small, **peer},
        TORCH_FULL: {**full, **small, **peer},
        TORCH_LARGE: {**adapt, **large, **peer},
    }


def measure(side: dict) -> dict:
    """Training steps on random images."""
    import ppadapt  # before Paddle: it sets switches
    import paddle  # isort: skip
    from ppadapt.tuning.frozen.recompute import recompute_blocks

    paddle.set_device(side["device"])
    paddle.seed(0)
    network = ppadapt.vit(side["arch"])
    method = ppadapt.FullFineTuning() if side["method"] == "full" else ppadapt.AdaptFormer()
    head = ppadapt.heads.batchnorm_linear(network.embed_dim, 100)
    adaptation = ppadapt.attach(network, method, head=head, cheap=side.get("cheap", True))
    if "frozen_dtype" in side:
        adaptation.store_frozen(side["frozen_dtype"])
    if side.get("recompute"):
        recompute_blocks(network)
    adaptation.train()
    optimizer = paddle.optimizer.Momentum(0.05, 0.9, parameters=list(adaptation.trained_parameters().values()))
    size = side["sizes"]["img_size"]
    images, labels = paddle.randn([side["batch"], 3, size, size]), paddle.arange(side["batch"]) % 100

    def step():
        loss = paddle.nn.functional.cross_entropy(adaptation(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        return float(loss)

    peak = paddle.device.cuda.max_memory_allocated if side["device"] == "gpu" else None
    result = measure_steps(step, side["steps"], peak)
    return {"version": f"paddle {paddle.__version__}", "batch": side["batch"], **result,
            "images_per_second": side["batch"] / result["seconds"]}
