"""`ppadapt explain`: the numbers behind its pictures against plain arithmetic, and the pictures of whole runs."""
import numpy as np
import paddle
import pytest
from PIL import Image
from test_training import plan

import ppadapt
from ppadapt.cli import explain as command
from ppadapt.errors import UserError
from ppadapt.models.catalogue import anatomy_of
from ppadapt.runs import experiment
from ppadapt.tuning import observe
from ppadapt.tuning.rollout import rollout

SMALL = {"img_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}


def tuned(method, **options):
    paddle.seed(0)
    network = ppadapt.network("vit_micro_patch4_32", **SMALL, **options)
    adaptation = ppadapt.attach(network, method, head=ppadapt.heads.batchnorm_linear(16, 3))
    for name, tensor in adaptation.trained_parameters().items():
        if name.endswith("up_proj.weight"):
            tensor.set_value(paddle.randn(tensor.shape))
    return adaptation


@paddle.no_grad()
def by_hand(network, images):
    """The rollout and the norms of what AdaptFormer adds, block by block with plain products."""
    x, reached, added = network.tokens(images), np.eye(5), {}
    for i, block in enumerate(network.blocks):
        normed = block.norm1(x)
        q, k, _ = (part.reshape([len(images), 5, 2, 8]).transpose([0, 2, 1, 3]).numpy()
                   for part in block.attn.qkv(normed).split(3, axis=-1))
        scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(8)
        attention = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        reached = (attention.mean(1) + np.eye(5)) / 2 @ reached
        x = x + block.attn(normed)
        branch = block.adaptmlp(x) if hasattr(block, "adaptmlp") else 0
        added[f"blocks.{i}.adaptmlp"] = np.linalg.norm(np.asarray(branch)[:, 1:], axis=-1) if hasattr(
            block, "adaptmlp") else None
        x = x + block.mlp(block.norm2(x)) + branch
    share = reached[:, 0, 1:]
    return (share / share.sum(-1, keepdims=True)).reshape(-1, 2, 2), added


def test_rollout_and_branches_are_what_the_layers_compute():
    adaptation, images = tuned(ppadapt.AdaptFormer(bottleneck=4)), paddle.randn([3, 3, 8, 8])
    attention, added = by_hand(adaptation.network, images)
    assert np.allclose(rollout(adaptation.network, adaptation.anatomy, images), attention, atol=1e-5)
    found = observe.norms_per_patch(adaptation, images)
    assert list(found) == ["blocks.0.adaptmlp", "blocks.1.adaptmlp"]
    assert all(np.allclose(found[name].reshape(3, 4), added[name], rtol=1e-4) for name in found)


def test_prompts_are_no_patches():
    adaptation, images = tuned(ppadapt.VPT(num_prompts=3)), paddle.randn([2, 3, 8, 8])
    plain = ppadapt.network("vit_micro_patch4_32", **SMALL)
    tokens = observe.tokens_of(plain, anatomy_of(plain), images)
    found = rollout(adaptation.network, adaptation.anatomy, images, tokens)
    assert tokens == 5 and found.shape == (2, 2, 2) and np.allclose(found.sum((1, 2)), 1)
    assert observe.norms_per_patch(adaptation, images) == {}


@pytest.mark.parametrize("options, why", [
    ({"pool": "norm_avg", "class_token": False}, "has no class token"),
    ({"pool": "avg"}, r"reads its patches \(pool avg")])
def test_a_network_without_a_class_token_says_so(options, why):
    adaptation = tuned(ppadapt.AdaptFormer(bottleneck=4), **options)
    images = paddle.randn([2, 3, 8, 8])
    with pytest.raises(UserError, match=f"VisionTransformer {why}"):
        rollout(adaptation.network, adaptation.anatomy, images)
    assert observe.norms_per_patch(adaptation, images)["blocks.1.adaptmlp"].shape == (2, 2, 2)


def test_paddleclas_networks_where_it_can_be_and_else_why_not():
    """All families of PaddleClas: attention of those with a class token among all patches, branches of most."""
    pytest.importorskip("paddleclas", reason="PaddleClas is not installed")
    from zoo_networks import TINY, tiny

    rolled, looked, said = [], [], []
    for title, small in TINY.items():
        network, images = tiny(title), paddle.randn([2, 3, small.image, small.image])
        anatomy = anatomy_of(network)
        if "AdaptFormer" in anatomy.without:
            continue
        adaptation = ppadapt.attach(network, ppadapt.AdaptFormer(bottleneck=4))
        try:
            _, rows, columns = anatomy.grid(network)
            assert rollout(network, anatomy, images).shape == (2, rows, columns)
            rolled.append(title)
        except UserError as error:
            said.append(str(error))
        try:
            assert all(norms.shape[0] == 2 for norms in observe.norms_per_patch(adaptation, images).values())
            looked.append(title)
        except UserError as error:
            said.append(str(error))
    assert {"ViT", "DeiT", "MoCo v3"} <= set(rolled) and "Swin" not in rolled, rolled
    assert {"ViT", "DeiT", "MoCo v3", "Swin"} <= set(looked), looked
    assert any("stays within windows" in why for why in said)


@pytest.mark.parametrize("tuning, branches", [({"name": "AdaptFormer", "bottleneck": 4}, True),
                                              ({"name": "VPT"}, False)])
def test_a_run_is_drawn(tuning, branches, tmp_path, capsys):
    results = experiment.train(plan(tmp_path, Global__epochs=1, Tuning=tuning))
    capsys.readouterr()
    command.main([results["folder"], "--count", "2", "--points", "40" if branches else "0", "-o",
                  "Global.device=cpu"])
    said = capsys.readouterr().out
    files = [line for line in said.splitlines() if line.endswith(".png")]
    names = ["image-00.png", "image-01.png", "grid.png", *["features.png"] * branches]
    assert [file.rpartition("/")[2] for file in files] == names
    assert all(Image.open(file).size[0] > 600 for file in files)
    assert ("VPT adds nothing to the residual stream" in said) == (not branches)
    pixels = np.asarray(Image.open(files[0]).convert("RGB")).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 100  # maps in colours


@pytest.mark.parametrize("arguments, message", [
    ([], "give a run's folder, or a config"), (["nowhere"], "no folder of a run: it has no best_model.safetensors"),
    (["-c", "digits/vit_micro_adaptformer"], "the head is not trained"),
    (["nowhere", "--count", "0"], "give at least 1 image")])
def test_mistakes(arguments, message):
    with pytest.raises(UserError, match=message):
        command.main(arguments)
