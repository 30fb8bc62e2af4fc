"""A tuned file by itself gives the numbers that stand in it, and where it does not, that is said."""
import shutil
from pathlib import Path

import numpy as np
import paddle
import pytest
import yaml
from PIL import Image

from ppadapt import build, config, weights
from ppadapt.errors import UserError
from ppadapt.runs import experiment
from ppadapt.runs.alone import config_of, say_whether_reproduced

OPS = [{"ResizeImage": {"size": 16}}, {"NormalizeImage": {"order": ""}}, {"ToCHWImage": None}]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Runs of one label and of several on a network that does not ship: {name: (results, overrides of data)}."""
    folder = tmp_path_factory.mktemp("place")
    arch = {"name": "vit_micro_patch4_32", "img_size": 16, "embed_dim": 16, "depth": 1, "num_heads": 2}
    draw, lines = np.random.RandomState(0), []
    for i in range(40):
        Image.fromarray(draw.randint(0, 255, (16, 16, 3), dtype=np.uint8)).save(folder / f"{i}.png")
        lines.append(f"{i}.png\t{','.join(map(str, (draw.rand(3) < 0.4).astype(int)))}\n")
    (folder / "list.txt").write_text("".join(lines), encoding="utf-8")
    sets = {"one label": {"name": "Digits", "limit": 40},
            "several labels": {"name": "MultiLabelDataset", "image_root": str(folder),
                               "cls_label_path": str(folder / "list.txt")}}
    found = {}
    for name, data in sets.items():
        side = {"dataset": {**data, "transform_ops": OPS}, "sampler": {"batch_size": 16}}
        tree = {"Arch": arch, "Tuning": {"name": "AdaptFormer", "bottleneck": 4}, "EMA": {"decay": 0.5},
                "Optimizer": {"name": "AdamW", "lr": {"name": "Constant", "learning_rate": 0.02}},
                "Global": {"epochs": 2, "device": "cpu", "output_dir": str(folder / "out"), "use_visualdl": False},
                "DataLoader": {"Train": side, "Eval": side},
                **({"Task": {"name": "MultiLabel"}} if "several" in name else {})}
        network = build.tuned_model(config.parse(tree), ["a", "b"]).adaptation.network
        paddle.save({n: p for n, p in network.named_parameters() if "adaptmlp" not in n and not n.startswith("head")},
                    str(folder / "base.pdparams"))
        tree["Arch"] = {**arch, "pretrained": str(folder / "base.pdparams")}
        results = experiment.train(config.parse(tree))
        data = [f"DataLoader.Eval.dataset.{key}={value}" for key, value in data.items()]
        found[name] = results, [f"Arch.pretrained={folder / 'base.pdparams'}", *data]
    return found


@pytest.mark.parametrize("file", ["best_model.safetensors", "latest.safetensors"])
@pytest.mark.parametrize("name", ["one label", "several labels"])
def test_a_file_gives_the_numbers_in_it_in_its_run_and_without(name, file, place, tmp_path, capsys):
    results, data = place[name]
    shutil.copy(f"{results['folder']}/{file}", tmp_path / "mine.safetensors")
    inside = experiment.evaluate(config_of(_file(results, file)))
    assert "the same as stands in" in capsys.readouterr().out
    alone = experiment.evaluate(config_of(tmp_path / "mine.safetensors", data))
    said = capsys.readouterr().out
    assert "the same as stands in" in said and "no config.yaml lies beside it" in said
    assert alone == pytest.approx(inside, rel=1e-6) and alone["images"] == 40
    last = results["history"][-1]
    if file == "latest.safetensors":
        assert alone == pytest.approx({name: last[f"eval_{name}"] for name in alone}, rel=1e-5)


def test_what_differs_is_said(place, tmp_path, capsys):
    results, data = place["one label"]
    tensors, manifest = weights.load_tuned(_file(results))
    other = {**manifest, "metrics": {**manifest["metrics"], "top1": manifest["metrics"]["top1"] + 2.5}}
    weights.save_tuned(tmp_path / "other.safetensors", tensors, other)
    experiment.evaluate(config_of(tmp_path / "other.safetensors", data))
    there, here = other["metrics"]["top1"], manifest["metrics"]["top1"]
    assert f"there top1: {there:.5f}, here top1: {here:.5f}" in capsys.readouterr().out
    experiment.evaluate(config_of(tmp_path / "other.safetensors", [*data, "DataLoader.Eval.dataset.limit=30"]))
    assert "on 40 images, and these are 30: other data" in capsys.readouterr().out


def test_numbers_that_cannot_be_compared(place, tmp_path):
    tensors, manifest = weights.load_tuned(_file(place["one label"][0]))
    for metrics in ({}, {"top1": "high"}, {"top1": 10**400, "images": 40}, {"train_top1": 5.0, "images": 40}):
        weights.save_tuned(tmp_path / "a.safetensors", tensors, {**manifest, "metrics": metrics})
        assert say_whether_reproduced(tmp_path / "a.safetensors", {"top1": 5.0, "images": 40}) is None


def test_what_a_file_does_not_know_is_asked_for(place, tmp_path):
    results, data = place["one label"]
    path = tmp_path / "mine.safetensors"
    shutil.copy(_file(results), path)
    for changes, says in ((data[:1], "does not say on which data it is evaluated"),
                          ([*data, "DataLoader.Eval=5"], "DataLoader.Eval is 5"), ([*data, "Arch=5"], "Arch is 5")):
        with pytest.raises(UserError, match=says):
            config_of(path, changes)
    with pytest.raises(UserError, match="--tuned .* does not exist"):
        config_of(tmp_path / "none.safetensors")
    with pytest.raises(UserError, match="without a ppadapt manifest|is known|not a tuned file"):
        config_of(_file(results).parents[3] / "base.pdparams")
    tensors, manifest = weights.load_tuned(path)
    weights.save_tuned(path, tensors, {**manifest, "backbone": {**manifest["backbone"], "name": "vit_base_patch16"}})
    with pytest.raises(UserError, match="on vit_base_patch16, not that .* -o Arch.pretrained=..."):
        config_of(path, data[1:])
    weights.save_tuned(path, tensors, {**manifest, "preprocess": None})
    with pytest.raises(UserError, match="does not say its preprocess: give a config"):
        config_of(path, data)


def test_a_checkpoint_of_a_moving_average_claims_no_numbers(place):
    """Its numbers are those of the average, and it holds what trains."""
    found = sorted(_file(place["one label"][0]).parent.glob("ckpt/*/tuned.safetensors"))
    assert found and all(weights.read_manifest(path)["metrics"] == {} for path in found)
    assert yaml.safe_load((found[0].parents[2] / "config.yaml").read_text())["EMA"]["decay"] == 0.5
    assert config_of(found[0]).EMA.decay == 0.5


def _file(results, name="best_model.safetensors"):
    return Path(results["folder"]) / name
