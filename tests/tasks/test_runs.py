"""Runs as a user starts them, of one label and of several: results, pictures, exports, answers, early stops."""
import copy
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
import yaml
from PIL import Image

from ppadapt import build, config
from ppadapt.errors import UserError
from ppadapt.runs import experiment
from ppadapt.serve import service as serving
from ppadapt.tasks.single_label_metrics import TopkAcc

TOOLS = Path(__file__).resolve().parent.parent.parent / "tools"
OPS = [{"NormalizeImage": {"mean": [0.5] * 3, "std": [0.5] * 3, "order": ""}}, {"ToCHWImage": None}]
SMALL = {"Arch": {"name": "vit_micro_patch4_32", "img_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2},
         "Tuning": {"name": "AdaptFormer", "bottleneck": 4},
         "Optimizer": {"name": "AdamW", "lr": {"name": "Cosine", "learning_rate": 0.02}}}


def settings(tmp_path, **changes):
    return {"epochs": 2, "device": "cpu", "use_visualdl": False, "output_dir": str(tmp_path / "out"), **changes}


def digits(tmp_path, **changes):
    """A config of one label per image: 60 training and 40 test images."""
    ops = [{"ResizeImage": {"size": 8}}, *OPS]
    tree = {**copy.deepcopy(SMALL), "Global": settings(tmp_path), "DataLoader": {
        "Train": {"dataset": {"name": "Digits", "limit": 60, "transform_ops": ops}, "sampler": {"batch_size": 20}},
        "Eval": {"dataset": {"name": "Digits", "limit": 40, "transform_ops": ops}, "sampler": {"batch_size": 16}}}}
    for key, value in changes.items():
        *path, last = key.split("__")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    return config.parse(tree)


@pytest.fixture
def tags(tmp_path):
    """A config of several labels: which corners of an image are bright; nothing is ever in the fifth class."""
    rng, lines = np.random.default_rng(0), {"train": [], "test": []}
    (tmp_path / "images").mkdir()
    for k in range(80):
        corners = rng.integers(0, 2, 4)
        pixels = np.kron(corners.reshape(2, 2), np.ones([4, 4])) * 200 + rng.integers(0, 40, (8, 8))
        name = f"images/{k}.png"
        Image.fromarray(pixels.astype(np.uint8)).convert("RGB").save(tmp_path / name)
        lines["train" if k < 60 else "test"].append(f"{name}\t{','.join(map(str, corners))},0\n")
    (tmp_path / "names.txt").write_text("0 north west\n1 north east\n2 south west\n3 south east\n4 centre\n")
    splits = {}
    for side, split in (("Train", "train"), ("Eval", "test")):
        (tmp_path / f"{split}.txt").write_text("".join(lines[split]))
        splits[side] = {"sampler": {"batch_size": 10}, "dataset": {
            "name": "MultiLabelDataset", "image_root": str(tmp_path), "cls_label_path": str(tmp_path / f"{split}.txt"),
            "class_id_map_file": str(tmp_path / "names.txt"), "transform_ops": OPS}}
    return config.parse({**SMALL, "Global": settings(tmp_path, epochs=6, use_visualdl=True), "DataLoader": splits,
                         "Task": {"name": "MultiLabel"}, "Tuning": {"name": "FullFineTuning"}})


def test_several_labels_from_training_to_answers(tags, tmp_path, monkeypatch, capsys):
    results = experiment.train(tags)
    folder = Path(results["folder"])
    said = (folder / "train.log").read_text(encoding="utf-8")
    assert results["mAP"] > 60 and results["best_mAP"] >= results["mAP"]
    assert "1 classes are in no test image and left out of the means: centre" in said
    record = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert record["classes_without_images"] == ["centre"] and record["per_class"][4]["ap"] is None
    assert record["task"] == {"kind": "MultiLabel", "threshold": 0.5}
    north = record["per_class"][0]
    assert north["class"] == "north west" and north["ap"] > 50 and {"recall", "precision", "f1"} <= set(north)
    assert Image.open(folder / "per_class.png").size[0] > 500 and (folder / "vdl").is_dir()

    best = f"Global.pretrained_model={folder / 'best_model.safetensors'}"
    saved = config.load(folder / "config.yaml", [best])
    evaluated = experiment.evaluate(saved)
    assert evaluated["mAP"] == pytest.approx(results["best_mAP"])
    serving.export_model(saved, tmp_path / "exported")
    manifest = yaml.safe_load((tmp_path / "exported/inference.yml").read_text(encoding="utf-8"))
    assert manifest["ppadapt"]["output"] == "independent probabilities"
    assert manifest["PostProcess"] == {"MultiLabelThreshOutput": {"threshold": 0.5, "label_list": [
        "north west", "north east", "south west", "south east", "centre"]}}
    assert manifest["ppadapt"]["task"] == {"kind": "MultiLabel", "threshold": 0.5}
    exported = serving.service(saved, exported=tmp_path / "exported")
    images = np.random.default_rng(0).normal(size=(3, 3, 8, 8)).astype("float32")
    model = build.tuned_model(saved, exported.classes)
    model.adaptation.eval()
    sigmoid = 1 / (1 + np.exp(-model.adaptation(paddle.to_tensor(images)).numpy()))
    np.testing.assert_allclose(exported.predict(images), sigmoid, atol=1e-5)
    again = experiment.evaluate(saved, exported=tmp_path / "exported")
    assert again == pytest.approx(evaluated, abs=1e-4)

    monkeypatch.syspath_prepend(str(TOOLS))
    capsys.readouterr()
    for threshold, names in (("0.999999", 0), ("0.000001", 5)):
        monkeypatch.setattr(sys, "argv", [
            "infer.py", "--exported", str(tmp_path / "exported"), "--threshold", threshold, "-o",
            f"Infer.infer_imgs={tmp_path / 'images/0.png'}", "-o", f"Infer.save_path={tmp_path / 'a.csv'}"])
        runpy.run_path(str(TOOLS / "infer.py"), run_name="__main__")
        line = next(line for line in capsys.readouterr().out.splitlines() if "0.png: " in line)
        assert line.count("%") == (names or 1) and ("no class reaches" in line) == (not names)
        assert len((tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()) == 1 + max(names, 1)


def test_one_label_tells_of_each_class_and_draws_them(tmp_path):
    results = experiment.train(digits(tmp_path, Global__use_visualdl=True))
    folder = Path(results["folder"])
    matrix = np.array(json.loads((folder / "results.json").read_text(encoding="utf-8"))["confusion"])
    assert matrix.sum() == 40 and 100 * np.trace(matrix) / 40 == pytest.approx(results["top1"])
    assert [row["images"] for row in results["per_class"]] == matrix.sum(1).tolist()
    assert all(Image.open(folder / f"{name}.png").size[0] > 500 for name in ("confusion", "per_class"))
    pictures = b"".join(path.read_bytes() for path in (folder / "vdl").iterdir())
    assert all(tag in pictures for tag in (b"eval/confusion", b"eval/per_class", b"PNG"))


def test_class_weights_balance_and_focus_train(tmp_path):
    losses = [{"FocalLoss": {"gamma": 1.5, "class_weight": {"3": 2}}}, {"CELoss": {"class_weight": "balanced"}}]
    results = experiment.train(digits(tmp_path, Loss__Train=losses,
                                      DataLoader__Train__sampler__name="ClassBalancedSampler"))
    assert 0 < results["history"][-1]["train_loss"] < results["history"][0]["train_loss"]


def test_training_stops_early_and_says_so_also_when_resumed(tmp_path):
    still = {"name": "SGD", "lr": {"name": "Constant", "learning_rate": 0.0}}
    results = experiment.train(digits(tmp_path, Global__epochs=9, Global__early_stop=2, Optimizer=still,
                                      Arch__head="Linear"))
    assert len(results["history"]) == 3 and results["stopped_early"] and results["best_epoch"] == 1
    said = (Path(results["folder"]) / "train.log").read_text(encoding="utf-8")
    assert "stopped after epoch 3 of 9: 2 evaluations without a better score than that of epoch 1" in said
    assert (Path(results["folder"]) / "latest.safetensors").is_file()
    again = experiment.train(digits(tmp_path, Global__epochs=9, Global__early_stop=2, Optimizer=still,
                                    Arch__head="Linear", Global__checkpoints=results["folder"]))
    assert len(again["history"]) == 3 and again["stopped_early"]


@pytest.mark.parametrize("change, message", [
    ({"DataLoader__Eval__dataset__batch_transform_ops": [{"MixupOperator": {"alpha": 0.8}}]},
     r"DataLoader.Eval.dataset.batch_transform_ops mixes the test images \(MixupOperator\)"),
    ({"DataLoader__Eval__sampler__drop_last": True}, "DataLoader.Eval.sampler.drop_last: True would leave"),
    ({"DataLoader__Eval__dataset__transform_ops": [{"RandFlipImage": None}, *OPS]},
     r"changes the test images at random \(RandFlipImage\)"),
    ({"DataLoader__Eval__sampler__name": "ClassBalancedSampler"}, "an evaluation takes each once"),
    ({"DataLoader__Train__sampler": {"name": "ClassBalancedSampler", "shuffle": False}}, "remove shuffle: False"),
    ({"Global__early_stop": 2, "Global__eval_interval": 0}, "Global.early_stop 2 counts evaluations"),
    ({"Loss__Eval": []}, "Loss.Eval is empty: name at least one of CELoss"),
    ({"Task__name": "MultiLabels"}, "Did you mean 'MultiLabel'"),
    ({"Task__name": "MultiLabel"}, r"DataLoader.Eval.dataset \(Digits\) has one label per image: set Task.name"),
    ({"Task__threshold": 0.3}, "'threshold' is unknown"),
])
def test_what_would_not_be_an_evaluation_or_a_task_is_refused(tmp_path, change, message):
    with pytest.raises(UserError, match=message) as error:
        experiment.train(digits(tmp_path, **change))
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_several_labels_without_the_task_are_refused_with_the_way_out(tags):
    tags.Task = {"name": "SingleLabel"}
    with pytest.raises(UserError, match="has several labels per image .5 classes.: set Task.name: MultiLabel"):
        experiment.train(tags)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_answers_that_are_not_finite_become_no_score_no_best_model_and_no_results(tmp_path, value):
    job, model = build.job(digits(tmp_path))
    job.adaptation = Broken(model.adaptation, value)
    with pytest.raises(UserError, match="^in epoch 1, after step 3, learning rate .* the network's answer to 1 of 40 "
                       "images is NaN or infinite"):
        experiment.run_training(job)
    assert not list(tmp_path.rglob("best_model.safetensors")) and not list(tmp_path.rglob("results.json"))


def test_a_metric_that_is_not_finite_is_no_score(tmp_path, monkeypatch):
    monkeypatch.setattr(TopkAcc, "compute", lambda self: {"top1": float("nan"), "top5": 1.0})
    with pytest.raises(UserError, match="top1 of this evaluation is NaN or infinite"):
        experiment.train(digits(tmp_path))


class Broken:
    """An adaptation that answers the first test image with something that is no number."""

    def __init__(self, adaptation, value):
        self.adaptation, self.value, self.evaluating, self.done = adaptation, value, False, False

    def __call__(self, images):
        logits = self.adaptation(images)
        if self.evaluating and not self.done:
            logits[0, 3] = self.value
            self.done = True
        return logits

    def eval(self):
        self.evaluating = True
        self.adaptation.eval()

    def __getattr__(self, name):
        return getattr(self.adaptation, name)


def test_weights_that_the_last_step_breaks_are_not_saved(tmp_path):
    job, model = build.job(digits(tmp_path, Global__epochs=1, Global__eval_during_train=False))
    step = job.optimizer.step

    def broken():
        step()
        if job.schedule.last_epoch == 2:  # the third of three steps: no loss shows it
            bias = model.adaptation.network.head[1].bias
            bias.set_value(paddle.full_like(bias, float("nan")))

    job.optimizer.step = broken
    with pytest.raises(UserError, match="^in epoch 1, after step 3, learning rate .*head.*bias holds NaN or inf"):
        experiment.run_training(job)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_fewer_classes_than_k_are_said_beside_it(tmp_path):
    for split, count in (("train", 6), ("test", 3)):
        for name in ("cat", "dog"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for k in range(count):
                pixels = np.random.default_rng(hash((split, name, k)) % 2**32).integers(0, 255, (8, 8, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / split / name / f"{k}.png")
    folder = {"name": "ImageFolder", "root": str(tmp_path / "data"), "transform_ops": OPS}
    results = experiment.train(digits(tmp_path, DataLoader={side: {"dataset": dict(folder)} for side in (
        "Train", "Eval")}))
    said = (Path(results["folder"]) / "train.log").read_text(encoding="utf-8")
    assert results["top5"] == 100 and results["notes"] == {"top5": "of 2 classes"}
    assert "top5: 100.00000 (of 2 classes)" in said and "100.00 (of 2 classes)" in said


@pytest.mark.parametrize("how", ["same file", "same content"])
def test_training_images_among_the_test_images_are_counted(tmp_path, how, caplog):
    rng, folder = np.random.default_rng(0), tmp_path / "data"
    for split, count in (("train", 6), ("test", 4)):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for k in range(count):
                Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(folder / split / name / f"{k}.png")
    source = folder / "train/cat/3.png"
    if how == "same file":
        (folder / "test/cat/linked.png").symlink_to(source)
    else:
        (folder / "test/cat/copied.png").write_bytes(source.read_bytes())
    dataset = {"name": "ImageFolder", "root": str(folder), "transform_ops": OPS}
    build.check(digits(tmp_path, DataLoader={side: {"dataset": dict(dataset)} for side in ("Train", "Eval")}))
    assert "1 of 9 test images are training images too (" in caplog.text
    assert f"test/cat/{'linked' if how == 'same file' else 'copied'}.png is {source})" in caplog.text


def test_arrays_are_compared_by_content(tmp_path, caplog):
    plan = digits(tmp_path)
    plan.DataLoader.Eval.dataset["split"] = "train"
    build.check(plan)
    assert "40 of 40 test images are training images too (Digits train image 0 is Digits train image 0)" in caplog.text


def test_of_many_classes_the_weakest_are_listed():
    rows = [{"class": f"c{i}", "images": 5, "f1": None if i == 7 else 90.0 - i} for i in range(25)]
    said = experiment.per_class({"per_class": rows}).splitlines()
    assert said[0] == "the 10 of 25 classes with the lowest f1:" and len(said) == 3 + 10
    assert said[3].startswith("| c24 ") and said[-1].startswith("| c15 ") and "66.00" in said[3]
    few = experiment.per_class({"per_class": rows[:20]}).splitlines()
    assert len(few) == 2 + 20 and few[0].startswith("| class") and experiment.per_class({}) == ""
