"""Every ViT-like image model of transformers: a small one with random weights, saved by it, read here, compared.

Needs the environment of tools/peers/README.md; not in CI:

    python tools/peers/transformers_sweep.py [--only clip]

Read twice: the folder that `save_pretrained` writes, and its weights alone. `right` is the library's own class token,
pooled output or mean of the patches, 1e-5 relative; `asks` is right with the fact that is asked for; `refused` has a
reason; `WRONG` must not be.
"""
from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
from pathlib import Path

import torchvision_stub

torchvision_stub.install()
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np  # noqa: E402
import paddle  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from make_golden import randomise  # noqa: E402
from timm_sweep import ours  # noqa: E402

from ppadapt.weights import WeightsError, load_weights  # noqa: E402

KINDS = ("ViT", "DeiT", "ViTMAE", "ViTMSN", "Beit", "Data2VecVision", "Dinov2", "Dinov2WithRegisters", "DINOv3ViT",
         "CLIPVision", "SiglipVision", "Siglip2Vision", "Yolos", "IJepa", "VitDet", "VideoMAE", "Vivit", "Timesformer",
         "Aimv2Vision", "MetaClip2Vision", "AltCLIPVision", "ChineseCLIPVision", "XCLIPVision", "BlipVision",
         "Blip2Vision", "InstructBlipVision", "OwlViTVision", "Owlv2Vision", "GitVision", "CLIPSegVision", "FlavaImage",
         "InternVLVision", "MLCDVision", "VitPoseBackbone", "Idefics3Vision", "SmolVLMVision", "JanusVision")
SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 48, "image_size": 16,
         "patch_size": 4, "num_channels": 3}


def build(kind: str):
    config_class = getattr(transformers, f"{kind}Config", None)
    if config_class is None:
        return None
    accepted = config_class()
    more = {"num_register_tokens": 2} if hasattr(accepted, "num_register_tokens") else {}
    if hasattr(accepted, "mask_ratio"):
        more["mask_ratio"] = 0.0
    if hasattr(accepted, "use_relative_position_bias"):
        more["use_relative_position_bias"] = True
    options = {key: value for key, value in SIZES.items() if hasattr(accepted, key)}
    config = config_class(**options, **more)
    for name in (f"{kind}Model", kind, f"{kind}Transformer"):
        model_class = getattr(transformers, name, None)
        if model_class is not None:
            return randomise(model_class(config))
    model = transformers.AutoModel.from_config(config)
    return randomise(model)


def expectations(model, images: torch.Tensor) -> dict[str, np.ndarray]:
    """What the library may call its feature."""
    with torch.no_grad():
        try:
            result = model(pixel_values=images)
        except TypeError:
            result = model(images)
    tokens = result.last_hidden_state if hasattr(result, "last_hidden_state") else result[0]
    found = {"class token": tokens[:, 0], "mean": tokens.mean(1), "mean of patches": tokens[:, 1:].mean(1)}
    pooled = getattr(result, "pooler_output", None)
    if pooled is not None:
        found["pooler_output"] = pooled
    post = next((m for n, m in model.named_modules() if n.endswith("post_layernorm")), None)
    if post is not None and tokens.ndim == 3:
        found["post_layernorm"] = post(tokens[:, 0])
    return {name: value.detach().numpy() for name, value in found.items() if value.ndim == 2}


def verdict(path: Path, images: np.ndarray, expected: dict[str, np.ndarray], truth: dict) -> tuple[str, str]:
    try:
        done = load_weights(path)
        done.raise_if_incomplete()
        asked = [f"{option}" for option in done.facts.asked]
        found = []
        for pool in ([done.arch["pool"]] if "pool" in done.arch else ["norm_avg"]):
            done.facts.values["pool"] = pool
            done.facts.asked.pop("pool", None)
            network = ours(done, 0, 3, truth)
            with paddle.no_grad():
                found.append(network.features(paddle.to_tensor(images)).numpy())
    except (WeightsError, ValueError) as error:
        return ("refused" if isinstance(error, WeightsError) else "WRONG"), str(error).partition(": ")[2][:230]
    errors = {f"{name}": float(np.abs(f - e).max() / np.abs(e).max()) for f in found for name, e in expected.items()
              if f.shape == e.shape}
    name, error = min(errors.items(), key=lambda item: item[1]) if errors else ("nothing of that shape", np.inf)
    if not error < 1e-5:
        return "WRONG", f"{error:.1e} from {name} (facts {done.arch})"
    return ("asks " + ", ".join(asked) if asked else "right"), f"{name} {error:.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="part of the names")
    only = parser.parse_args().only
    for kind in (kind for kind in KINDS if only.lower() in kind.lower()):
        images, model, problem = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)), None, ""
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                model = build(kind)
                expected = expectations(model, images) if model is not None else {}
        except Exception as error:  # what needs other inputs than images is no ViT's like
            expected, problem = {}, f"{type(error).__name__}: {error}"[:100]
        if model is None:
            print(f"{kind}: not built here {problem}")
            continue
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
            try:
                model.save_pretrained(folder)
            except Exception as error:
                print(f"{kind}: not saved: {error}"[:150])
                continue
            act = getattr(model.config, "hidden_act", "gelu")
            truth = {"num_heads": 3, "pool": "norm_avg", "epsilon": getattr(model.config, "layer_norm_eps", 1e-6),
                     "act": {"gelu_pytorch_tanh": "gelu_tanh"}.get(act, act)}
            whole = verdict(Path(folder), images.numpy(), expected, truth)
            Path(folder, "config.json").unlink()
            alone = verdict(Path(folder), images.numpy(), expected, truth)
        note = "" if expected else f" (not run: {problem})"
        print(f"{kind}{note} | folder: {' '.join(whole)} | alone: {' '.join(alone)}", flush=True)


if __name__ == "__main__":
    main()
