"""The configs for published networks load what their libraries write: small ones, of the same kind."""
from pathlib import Path

import pytest
from test_published import of_case

from ppadapt import config

pytest.importorskip("paddle")
import ppadapt

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0}


@pytest.mark.parametrize("name,case,pixels", [
    ("cifar100/dinov2_vits14_adaptformer", "dinov2_chunked", 0.485), ("dinov2_vits14_folder", "dinov2_chunked", 0.485),
    ("cifar100/clip_vit_base_patch32_adaptformer", "transformers_clip", 0.48145466),
    ("clip_vit_base_patch32_folder", "transformers_clip", 0.48145466),
    ("cifar100/siglip_vit_base_patch16_adaptformer", "transformers_siglip", 0.5),
    ("siglip_vit_base_patch16_folder", "transformers_siglip", 0.5)])
def test_a_config_is_of_its_familys_networks(name, case, pixels):
    """What the config does not say of heads, epsilon, GELU and pooling would be refused here."""
    plan = config.load(CONFIGS / f"{name}.yaml")
    network = ppadapt.network(plan.Arch.name, pretrained=str(of_case(case)[0]), **{**plan.Arch.options, **SMALL})
    assert network.norm.weight.shape == [16] and plan.Arch.pretrained and plan.Arch.options["img_size"] == 224
    ops = plan.DataLoader.Eval.dataset["transform_ops"]
    assert next(op["NormalizeImage"]["mean"][0] for op in ops if "NormalizeImage" in op) == pixels
