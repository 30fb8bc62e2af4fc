"""Every published model of the catalogue against the network of that name in timm or transformers.

Needs the environment of tools/peers/README.md; not in CI. No weights are read: heads, epsilon, GELU, sizes, mean, std
are those of the library's own network. A line for what differs; the exit code is how many there are.

    python tools/peers/check_published.py
"""
from __future__ import annotations

import sys
from pathlib import Path

import torchvision_stub

torchvision_stub.install()
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import timm  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

from ppadapt.weights.published import PUBLISHED, Published  # noqa: E402

ACTS = {"GELU": "gelu", "QuickGELU": "quick_gelu", "GELUTanh": "gelu_tanh"}
POOLS = {"token": ("cls", "cls_reg"), "avg": ("cls", "avg", "norm_avg"), "map": ("map",)}
# Google's code computes the tanh form, as transformers does; timm the erf form with the same weights.
OTHERWISE = {"siglip": ("act",)}


def of_timm(name: str) -> tuple[dict, dict]:
    """(facts, mean and std) of a network of timm."""
    with torch.device("meta"):
        model = timm.create_model(name)
    block, act = model.blocks[0], model.blocks[0].mlp.act
    tanh = getattr(act, "approximate", "none") == "tanh"
    facts = {"embed_dim": model.embed_dim, "depth": len(model.blocks), "num_heads": block.attn.num_heads,
             "patch_size": model.patch_embed.patch_size[0], "img_size": model.patch_embed.img_size[0],
             "mlp_ratio": block.mlp.fc1.out_features / model.embed_dim, "epsilon": block.norm1.eps,
             "act": "gelu_tanh" if tanh else ACTS[type(act).__name__], "pool": POOLS[model.global_pool],
             "pre_norm": not isinstance(model.norm_pre, torch.nn.Identity), "class_token": model.cls_token is not None}
    return facts, {key: list(model.pretrained_cfg[key]) for key in ("mean", "std")}


def of_transformers(kind: str) -> tuple[dict, dict]:
    """What the library takes where a config.json says nothing else."""
    config = getattr(transformers, f"{kind}Config")()
    return {"epsilon": config.layer_norm_eps, "act": config.hidden_act, "patch_size": config.patch_size}, {}


def differences(name: str, one: Published) -> list[str]:
    library, _, peer = one.peer.partition(":")
    if not peer:
        return []
    facts, pixels = (of_timm if library == "timm" else of_transformers)(peer)
    usual = {"pre_norm": False, "class_token": True}
    skipped = next((options for start, options in OTHERWISE.items() if name.startswith(start)), ())
    found = []
    for option, theirs in facts.items():
        ours = one.facts.get(option, usual.get(option))
        if option not in skipped and (ours not in theirs if isinstance(theirs, tuple) else ours != theirs):
            found.append(f"{option}: {theirs} there, {ours} here")
    found += [f"{key}: {theirs} there, {one.preprocess[key]} here" for key, theirs in pixels.items()
              if theirs != one.preprocess[key]]
    return found


def main() -> int:
    count = 0
    for name, one in PUBLISHED.items():
        found = differences(name, one)
        count += bool(found)
        print(f"{name}: {'; '.join(found) or ('as ' + one.peer if one.peer else 'no peer')}", flush=True)
    act = transformers.SiglipVisionConfig().hidden_act
    print(f"{len(PUBLISHED)} models, {count} differ; SigLIP in transformers: {act}")
    return count + (act != "gelu_pytorch_tanh")


if __name__ == "__main__":
    sys.exit(main())
