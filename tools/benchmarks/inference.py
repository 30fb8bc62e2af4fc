"""Images per second of a tuned network as tools/infer.py serves it, decoding and transforms left out."""
from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from _measure import measure as measure_steps

from . import Claim

# Names of sides.
DYGRAPH, SERVED, SERVED_HALF = "dygraph", "paddle_inference, float32", "paddle_inference, bfloat16"
DYGRAPH_HALF = "dygraph, bfloat16"
ONNX, VINO, VINO_HALF = "ONNX Runtime", "OpenVINO", "OpenVINO, bfloat16"
TORCH, TORCH_FUSED, TORCH_HALF = "PyTorch", "PyTorch, fused attention", "PyTorch, fused attention, bfloat16"
COLUMNS = (("batch", "batch", 0), ("images/s", "images_per_second", 2))
CLAIMS = (
    Claim("images/s, float32 / PyTorch", "images_per_second", SERVED, TORCH, 1.0, ">="),
    Claim("images/s, bfloat16 / PyTorch's float32", "images_per_second", SERVED_HALF, TORCH, 2.0, ">="),
    Claim("images/s, float32 / PyTorch's fused attention", "images_per_second", SERVED, TORCH_FUSED),
    Claim("images/s, bfloat16 / PyTorch's bfloat16", "images_per_second", SERVED_HALF, TORCH_HALF),
    Claim("images/s, dygraph / Paddle Inference, float32", "images_per_second", DYGRAPH, SERVED, 0.80, ">="),
    Claim("images/s, dygraph / Paddle Inference, bfloat16", "images_per_second", DYGRAPH_HALF, SERVED_HALF, 0.80, ">="),
    Claim("images/s, float32 / ONNX Runtime", "images_per_second", SERVED, ONNX),
    Claim("images/s, float32 / OpenVINO", "images_per_second", SERVED, VINO, 0.97, ">="),
    Claim("images/s, bfloat16 / OpenVINO's", "images_per_second", SERVED_HALF, VINO_HALF, 0.97, ">="),
)


def sides(options: argparse.Namespace) -> dict[str, dict]:
    batch, peer = {"batch": options.batch}, {"method": "AdaptFormer", "infer": True, "peer": "torch_vit.py"}
    found = {DYGRAPH: {**batch, "backend": "dygraph"}, SERVED: {**batch, "precision": "float32"}}
    half = options.device == "gpu" or _cpu_has_bfloat16()
    if half:
        found[SERVED_HALF] = {**batch, "precision": "bfloat16"}
    if options.device == "cpu":
        through_onnx = {**batch, "kind": "onnx"}
        if half:
            found[DYGRAPH_HALF] = {**batch, "backend": "dygraph", "precision": "bfloat16"}
        found[ONNX] = {**through_onnx, "needs": ["paddle2onnx", "onnxruntime"]}
        found[VINO] = {**through_onnx, "needs": ["paddle2onnx", "openvino"], "backend": "openvino"}
        if half:
            found[VINO_HALF] = {**found[VINO], "precision": "bfloat16"}
    return {**found, TORCH: {**batch, **peer}, TORCH_FUSED: {**batch, **peer, "fused": True},
            TORCH_HALF: {**batch, **peer, "fused": True, "half": True}}


def _cpu_has_bfloat16() -> bool:
    from ppadapt import paddle_compat

    return paddle_compat.cpu_has_bfloat16() and not paddle_compat.missing("bfloat16 inference on a CPU")


def measure(side: dict) -> dict:
    """A network that is exported, loaded again and asked for the classes of random images."""
    import ppadapt  # before Paddle: it sets switches
    import numpy as np  # isort: skip
    import paddle  # isort: skip
    from ppadapt.serve import backends
    from ppadapt.serve.export import default_kind, write_model
    from ppadapt.serve.fold import for_inference
    from ppadapt.tasks import SingleLabel

    paddle.set_device(side["device"])
    paddle.seed(0)
    network = ppadapt.vit(side["arch"])
    adaptation = ppadapt.attach(network, ppadapt.AdaptFormer(),
                                head=ppadapt.heads.batchnorm_linear(network.embed_dim, 100))
    task = SingleLabel()
    shape = (3, side["sizes"]["img_size"], side["sizes"]["img_size"])
    if side.get("backend") == "dygraph":
        predict = _dygraph(adaptation, side.get("precision") == "bfloat16")
    else:
        kind = side.get("kind", default_kind())
        with tempfile.TemporaryDirectory() as folder:
            write_model(for_inference(adaptation)[0], task, shape, Path(folder), kind)
            del network, adaptation
            predict = backends.load(Path(folder), kind, paddle.get_device(), side.get("precision", "float32"),
                                    side.get("backend"))
    images = np.random.RandomState(0).standard_normal([side["batch"], *shape]).astype("float32")
    result = measure_steps(lambda: float(predict(images)[0, 0]), side["steps"])
    return {"version": f"paddle {paddle.__version__}", "batch": side["batch"], **result,
            "images_per_second": side["batch"] / result["seconds"]}


def _dygraph(adaptation, half: bool):
    from ppadapt import half as precision
    from ppadapt.serve import backends
    from ppadapt.tasks import SingleLabel

    if half:
        adaptation.store_frozen("bfloat16")
    predict = backends.dygraph(adaptation, SingleLabel())

    def answer(images):
        with precision.bfloat16_on_cpu(half):
            return predict(images)

    return answer
