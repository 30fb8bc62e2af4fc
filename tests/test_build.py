"""From configs and files to networks: shipped weights, the authors' checkpoints, sizes, the public names."""
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest

import ppadapt
from ppadapt import build, catalogue, config, weights
from ppadapt.errors import UserError
from ppadapt.models.vit import VITS
from ppadapt.tuning import METHODS

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("case", ["image_parallel_cls", "image_parallel_pool", "image_vpt", "image_sequential",
                                  "image_learnable_scale"])
def test_an_authors_checkpoint_becomes_a_tuned_file_with_their_logits(golden_dir, tmp_path, case):
    """tools/convert_weights.py on both of their files, then our own loading with all its checks."""
    folder = golden_dir(case)
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    for name, target in (("pretrain.pth", "base.pdparams"), ("finetuned.pth", "tuned.safetensors")):
        done = subprocess.run([sys.executable, ROOT / "tools/convert_weights.py", "--input", folder / name,
                               "--output", tmp_path / target], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    tuning = meta["tuning"]
    method = {"name": "VPT", "num_prompts": tuning["vpt_num"]} if tuning["vpt_on"] else {
        "name": "AdaptFormer", "bottleneck": tuning["ffn_num"], "option": tuning["ffn_option"],
        "scale": "learnable" if tuning["ffn_adapter_scalar"] == "learnable_scalar" else 0.1}
    if method.get("option") == "sequential":  # their file does not tell: the tool says what it took, and how to mend it
        assert "taken as 'parallel', correct the manifest" in done.stderr
        tensors, manifest = weights.load_tuned(tmp_path / "tuned.safetensors")
        manifest["tuning"][0]["option"] = "sequential"
        weights.save_tuned(tmp_path / "tuned.safetensors", tensors, manifest)
    model = load(meta, method, tmp_path)
    expected = np.load(folder / "expected.npz")
    assert np.abs(model.adaptation(paddle.to_tensor(expected["images"])).numpy() - expected["logits"]).max() < 1e-4


def load(meta, method, folder):
    split = {"dataset": {"name": "Digits"}}
    tree = {"Arch": {"name": "vit_micro_patch4_32", "pretrained": str(folder / "base.pdparams"), **meta["arch"],
                     "pool": "avg" if meta["global_pool"] else "cls"},
            "Tuning": method, "DataLoader": {"Train": split, "Eval": split},
            "Global": {"pretrained_model": str(folder / "tuned.safetensors")}}
    return build.tuned_model(config.parse(tree), [str(i) for i in range(meta["num_classes"])])


def test_the_shipped_network_knows_cifar100(golden_dir):
    network = ppadapt.vit("vit_micro_patch4_32", pretrained=True, class_num=100)
    network.eval()
    archive = ROOT.parent / "shared/data/cifar-100-python.tar.gz"
    if not archive.is_file():
        pytest.skip(f"{archive} is not on this machine")
    loaded = config.load(ROOT / "configs/cifar100/vit_micro_pretrained.yaml",
                         [f"DataLoader.Eval.dataset.root={archive}", "DataLoader.Eval.dataset.limit=200"])
    hits = total = 0
    for images, labels in build.loader(loaded.DataLoader.Eval, "test", 0):
        hits += int((network(images).argmax(-1) == labels).sum())
        total += len(labels)
    assert total == 200 and 47 < 100 * hits / total < 67  # 57.36 on all 10,000


def test_the_shipped_file_is_small():
    assert ppadapt.__path__ and (Path(ppadapt.__path__[0]) / "assets").is_dir()
    assert catalogue.NETWORKS["vit_micro_patch4_32"].shipped.stat().st_size < 5.6e6
    with pytest.raises(UserError, match="no weights of vit_base_patch16 ship"):
        ppadapt.vit("vit_base_patch16", pretrained=True)


def test_a_tuned_file_of_vit_base_is_under_5_2_mb(tmp_path):
    network = ppadapt.vit("vit_base_patch16")
    adaptation = ppadapt.attach(network, ppadapt.AdaptFormer(bottleneck=64),
                                head=ppadapt.heads.batchnorm_linear(768, 100))
    trained, total = adaptation.counts()
    assert trained == 12 * (2 * 768 * 64 + 64 + 768) + 76900 and trained / total < 0.02
    weights.save_tuned(tmp_path / "a.safetensors", adaptation.state(), {})
    assert (tmp_path / "a.safetensors").stat().st_size < 5.2e6


@pytest.mark.parametrize("name, parameters", [
    ("vit_micro_patch4_32", 2_710_948 - 19_300), ("vit_tiny_patch16", 5_524_416), ("vit_small_patch16", 21_665_664),
    ("vit_base_patch16", 85_798_656), ("vit_base_patch3_32", None)])
def test_sizes_of_the_networks(name, parameters):
    network = VITS[name](class_num=0, depth=1) if parameters is None else ppadapt.vit(name)
    count = sum(int(np.prod(p.shape)) for p in network.parameters())
    if parameters:
        assert count == parameters  # timm's counts, less the classifier
    else:
        assert network.pos_embed.shape[1] == 1 + 10 * 10  # 32 // 3 = 10 patches a side, as in the notebook


def test_another_image_size_resizes_the_position_embeddings():
    network = ppadapt.vit("vit_micro_patch4_32", pretrained=True, img_size=48)
    assert network.pos_embed.shape == [1, 145, 192]
    network.eval()
    assert network(paddle.zeros([1, 3, 48, 48])).shape == [1, 192]
    with pytest.raises(ValueError, match="takes 48 x 48 images and got 32 x 32"):
        network(paddle.zeros([1, 3, 32, 32]))


def test_the_public_names_are_there():
    assert set(METHODS) <= set(ppadapt.__all__)
    for name in ppadapt.__all__:
        assert getattr(ppadapt, name) is not None
    with pytest.raises(AttributeError):
        ppadapt.nothing  # noqa: B018


def test_what_a_dead_run_left_goes_when_the_next_begins(tmp_path):
    from ppadapt import files

    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    left = tmp_path / "run" / "20260101-000000" / f".latest.safetensors.{files._NODE}-{int(done.stdout)}-0.tmp"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    split = {"dataset": {"name": "Digits", "limit": 8}}
    build.job(config.parse({
        "Arch": {"name": "vit_micro_patch4_32", "img_size": 8, "embed_dim": 12, "depth": 1, "num_heads": 2},
        "Global": {"output_dir": str(tmp_path), "use_visualdl": False, "device": "cpu"},
        "DataLoader": {"Train": split, "Eval": split}}))
    assert not left.exists()
