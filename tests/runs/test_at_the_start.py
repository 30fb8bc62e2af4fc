"""What is knowable before training is said before training, and nothing is left behind."""
import copy
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ppadapt import build, config
from ppadapt.errors import UserError
from ppadapt.runs import experiment

OPS = [{"ResizeImage": {"size": 16}}, {"NormalizeImage": {"order": ""}}, {"ToCHWImage": None}]


@pytest.fixture
def plan(tmp_path):
    """`plan(Train={...}, Global__epochs=2)`: a tiny network on folders of two classes, 9 and 4 images."""
    for split, count in (("train", 9), ("test", 4)):
        for k in range(count):
            path = tmp_path / "data" / split / "ab"[k % 2] / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.random.RandomState(k).randint(0, 255, (16, 16, 3), np.uint8)).save(path)

    def plan(**sections):
        side = {"dataset": {"name": "ImageFolder", "root": str(tmp_path / "data"), "transform_ops": OPS},
                "sampler": {"batch_size": 4}}
        tree = {"Arch": {"name": "vit_micro_patch4_32", "img_size": 16, "embed_dim": 12, "depth": 1, "num_heads": 2,
                         "patch_size": 8},
                "Tuning": {"name": "LinearProbe"}, "DataLoader": {"Train": side, "Eval": copy.deepcopy(side)},
                "Optimizer": {"name": "SGD", "lr": {"learning_rate": 0.1}},
                "Global": {"epochs": 1, "device": "cpu", "output_dir": str(tmp_path / "out"), "use_visualdl": False,
                           "cache_features": False}}
        for key, value in sections.items():
            *where, last = key.split("__")
            node = tree
            for name in where:
                node = node.setdefault(name, {})
            node[last] = value
        return config.parse(tree)
    return plan


def log_of(results):
    return (Path(results["folder"]) / "train.log").read_text(encoding="utf-8")


def test_a_last_batch_of_one_joins_the_one_before_where_there_is_a_batchnorm(plan):
    job, _ = build.job(plan())
    job.train_loader.set_epoch(1)
    assert [len(labels) for _, labels in job.train_loader] == [4, 5] and len(job.train_loader) == 2
    seen = [i for batch in job.train_loader.order() for i in batch]
    assert sorted(seen) == list(range(9))
    results = experiment.train(plan())
    assert "it joins the one before, of 5 images then" in log_of(results)
    linear, _ = build.job(plan(Arch__head="Linear"))  # which needs no variance
    assert [len(labels) for _, labels in linear.train_loader] == [4, 4, 1]
    dropped, _ = build.job(plan(DataLoader__Train__sampler={"batch_size": 4, "drop_last": True}))
    assert [len(labels) for _, labels in dropped.train_loader] == [4, 4]


def test_batches_of_one_are_refused_where_there_is_a_batchnorm(plan, tmp_path):
    one = {"DataLoader__Train__sampler": {"batch_size": 1}}
    with pytest.raises(UserError, match="batch_size 1 gives training batches of one image.*Arch.head: Linear"):
        experiment.train(plan(**one))
    assert not (tmp_path / "out").exists()
    experiment.train(plan(Arch__head="Linear", **one))


def test_a_batch_that_broken_images_leave_alone_is_left_out(plan, tmp_path):
    for path in sorted((tmp_path / "data" / "train").rglob("*.png"))[:3]:
        path.write_bytes(b"no image")
    folder = {"name": "ImageFolder", "root": str(tmp_path / "data"), "transform_ops": OPS, "on_error": "skip"}
    results = experiment.train(plan(DataLoader__Train={"dataset": folder, "sampler": {"batch_size": 2}},
                                    Global__epochs=3))
    assert "has one readable image, which BatchNorm cannot train on" in log_of(results)


@pytest.mark.parametrize("change, message", [
    ({"Global__output_dir": "/proc/nope"}, "Global.output_dir /proc/nope cannot be written"),
    ({"Loss__Train": []}, "Loss.Train is empty"), ({"Metric__Eval": []}, "Metric.Eval is empty"),
    ({"Metric__Train": []}, "Metric.Train is empty"),
    ({"Loss__Train": [{"CELoss": 1.0}]}, "Loss.Train.0: CELoss is 1.0: give its options"),
    ({"Loss__Train": [{"CELoss": [1]}]}, r"CELoss is \[1\]: give its options"),
    ({"Optimizer": {"name": "SGD", "lr": 0.1}}, "Optimizer.lr is 0.1: give a mapping"),
    ({"Optimizer": {"name": "SGD", "regularizer": "L2"}}, "regularizer is 'L2' .str.: it must be dict"),
    ({"Optimizer": {"name": "AdamW", "no_weight_decay_name": 3}}, "no_weight_decay_name is 3"),
    ({"Optimizer": {"name": "Momentum", "momentum": 5.0}}, "momentum is 5.0: it must be at least 0 and below 1"),
    ({"Optimizer": {"name": "Momentum", "momentum": -0.1}}, "momentum is -0.1"),
    ({"Optimizer": {"name": "AdamW", "beta1": 2}}, "beta1 is 2.0"),
    ({"Optimizer": {"name": "AdamW", "weight_decay": -5.0}}, "weight_decay is -5.0: it must be at least 0"),
    ({"Optimizer": {"name": "AdamW", "weight_decay": "abc"}}, "weight_decay is 'abc'"),
    ({"Optimizer": {"name": "SGD", "clip_norm": 0.0}}, "clip_norm is 0.0: it must be above 0"),
    ({"Optimizer": {"name": "SGD", "clip_value": -1}}, "clip_value is -1.0"),
    ({"Optimizer": {"name": "SGD", "lr": {"learning_rate": -1}}}, "learning_rate is -1.0"),
    ({"Optimizer": {"name": "SGD", "lr": {"learning_rate": 1e10}}}, "at most 1,000"),
    ({"Optimizer": {"name": "SGD", "regularizer": {"name": "L2", "coeff": -1}}}, "coeff is -1"),
    ({"Optimizer": {"name": "SGD", "weight_decay": 0.1, "regularizer": {"name": "L2", "coeff": 0.1}}}, "keep one"),
    ({"DataLoader__Eval__dataset": {"name": "Digits", "holdout": 0.5}}, "Eval.dataset.holdout leaves a part"),
    ({"DataLoader__Train__dataset": {"name": "ImageFolder", "root": 2024}}, "root is 2024 .*as text: '2024'"),
    ({"DataLoader__Train__dataset": {"name": "ImageFolder", "root": "a\0b"}}, "a character of number 0"),
    ({"Global__output_dir": "a\0b"}, "Global.output_dir .*a character of number 0"),
])
def test_mistakes_are_said_before_anything_is_made(plan, tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        experiment.train(plan(**change))
    assert not (tmp_path / "out").exists()


def test_a_test_image_that_is_none_is_found_before_training(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "run_training", None)
    (tmp_path / "data" / "test" / "b" / "1.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"1.png cannot be read.*set on_error: skip"):
        experiment.train(plan())
    skip = {"name": "ImageFolder", "root": str(tmp_path / "data"), "transform_ops": OPS, "on_error": "skip"}
    build.check(plan(DataLoader__Eval={"dataset": skip}))
    for path in (tmp_path / "data" / "test").rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(UserError, match="none of the 4 test images can be read"):
        experiment.train(plan(DataLoader__Eval={"dataset": skip}))


@pytest.mark.parametrize("side", ["Train", "Eval"])
def test_images_of_another_size_are_said_before_training(plan, tmp_path, side):
    """Those of the evaluation were found out after the first epoch."""
    larger = [{"ResizeImage": {"size": 24}}, *OPS[1:]]
    folder = {"name": "ImageFolder", "root": str(tmp_path / "data"), "transform_ops": larger}
    with pytest.raises(UserError, match=f"DataLoader.{side}.dataset.transform_ops make images of 24 x 24 and the "
                                        "network takes 16 x 16"):
        experiment.train(plan(**{f"DataLoader__{side}": {"dataset": folder, "sampler": {"batch_size": 4}}}))
    assert not (tmp_path / "out").exists()


def test_an_operator_that_does_not_fit_the_test_images_is_said_before_training(plan, tmp_path):
    folder = {"name": "ImageFolder", "root": str(tmp_path / "data"), "transform_ops": [{"CropImage": {"size": 99}}]}
    with pytest.raises(UserError, match=r"test.a.0.png: CropImage"):
        experiment.train(plan(DataLoader__Eval={"dataset": folder}))
    assert not (tmp_path / "out").exists()


def test_what_was_said_before_the_folder_stands_in_its_log(plan, tmp_path):
    (tmp_path / "data" / "train" / "a" / "x.heic").touch()
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(plan().to_dict()), encoding="utf-8")
    results = experiment.train(config.load(path, ["Optimizer.name=Adam"]))
    assert "1 named .heic" in log_of(results) and "Optimizer.name is Adam in the place of SGD" in log_of(results)


def test_labels_that_are_seldom_meant_are_said_in_the_log(plan, tmp_path):
    for split, count in (("train", 9), ("test", 3)):
        lines = [f"{split}/{'ab'[k % 2]}/{k}.png {1 + k % 2 if split == 'train' else 1}" for k in range(count)]
        (tmp_path / f"{split}.txt").write_text("\n".join(lines))
    sides = {f"DataLoader__{side}__dataset": {
        "name": "ImageNetDataset", "image_root": str(tmp_path / "data"), "transform_ops": OPS,
        "cls_label_path": str(tmp_path / f"{split}.txt")} for side, split in (("Train", "train"), ("Eval", "test"))}
    results = experiment.train(plan(**sides))
    assert "1 of 3 classes have no training image ('0'): labels count from 0, and these begin at 1" in log_of(results)
    assert "2 of 3 classes have no test image ('0', '2')" in log_of(results)
    # The tuned file has three classes, and the list alone implies two.
    tuned = f"{results['folder']}/best_model.safetensors"
    assert experiment.evaluate(plan(Global__pretrained_model=tuned, **sides))["images"] == 3
    sides["DataLoader__Eval__dataset"]["cls_label_path"] = str(tmp_path / "more.txt")
    (tmp_path / "more.txt").write_text("test/a/0.png 0\ntest/b/1.png 5\n")
    with pytest.raises(UserError, match="DataLoader.Eval has 1 images of classes that DataLoader.Train lacks .'5'"):
        experiment.train(plan(**sides))
