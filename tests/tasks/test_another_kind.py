"""A kind of task, its loss, its metric and a data set from outside, in one file: regression of brightness."""
import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

import ppadapt
from ppadapt import config, weights
from ppadapt.data import DATASETS
from ppadapt.data.base import Dataset
from ppadapt.errors import UserError
from ppadapt.runs import comparison, experiment, pictures
from ppadapt.serve import service

OPS = [{"NormalizeImage": {"order": ""}}, {"ToCHWImage": None}]


class SquaredError(ppadapt.Loss):
    def per_image(self, logits, targets):
        return ((logits - targets) ** 2).mean(axis=-1)


class MeanError(ppadapt.Metric):
    def update(self, logits, targets):
        self.add(images=logits.shape[0], error=(logits - targets).abs().mean(axis=-1).sum())

    def names(self):
        return ["mae"]

    def compute(self):
        return {"mae": float(self.seen["error"]) / int(self.seen["images"])}


class Regression(ppadapt.Task):
    losses: ClassVar = {"SquaredError": SquaredError}
    metrics: ClassVar = {"MeanError": MeanError}
    default_losses: ClassVar = [{"SquaredError": {}}]
    default_metrics: ClassVar = [{"MeanError": {}}]
    headline: ClassVar = {"mae": "mean error"}
    axis, output = "mean error", "values"

    def check(self, labels, classes, where):
        if labels.dtype != np.float32 or labels.shape[1:] != (len(classes),):
            raise UserError(f"Task Regression takes a number per output, and {where} has labels of another kind")

    def score(self, result):
        return -result["mae"]

    def probabilities(self, logits):
        return logits

    def logits(self, values):
        return values

    def answer(self, values, classes, topk):
        return [{"name": name, "value": float(value)} for name, value in zip(classes, values)]

    def text(self, answer):
        return ", ".join(f"{part['name']} {part['value']:.2f}" for part in answer)


class Brightness(Dataset):
    """Images whose upper rows are white, and the share of them, from 0 to 1."""

    def __init__(self, split="train", transform=None, seed=0, on_error="raise", limit=None):
        super().__init__(split, transform, seed, on_error, limit)
        white = np.random.default_rng(split == "test").integers(0, 9, (64, 1))
        rows = 255 * (np.arange(8) < white)
        self.images = np.broadcast_to(rows[:, :, None, None], (64, 8, 8, 3)).astype(np.uint8)
        self.labels, self.classes = (white / 8).astype("float32"), ["brightness"]


@pytest.fixture
def plan(tmp_path, monkeypatch):
    monkeypatch.setitem(ppadapt.TASKS, "Regression", Regression)
    monkeypatch.setitem(DATASETS, "Brightness", Brightness)
    split = {"dataset": {"name": "Brightness", "transform_ops": OPS}, "sampler": {"batch_size": 16}}
    tree = {"Global": {"epochs": 12, "device": "cpu", "use_visualdl": False, "output_dir": str(tmp_path / "out"),
                       "cache_features": False},
            "Arch": {"name": "vit_micro_patch4_32", "img_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2,
                     "head": "Linear"},
            "Task": {"name": "Regression"}, "Tuning": {"name": "FullFineTuning"},
            "Optimizer": {"name": "AdamW", "lr": {"name": "Cosine", "learning_rate": 0.01}},
            "DataLoader": {"Train": split, "Eval": split}}
    return lambda **changes: config.parse({**tree, **changes})


def test_it_trains_evaluates_saves_exports_infers_and_is_compared(plan, tmp_path):
    results = experiment.train(plan())
    assert results["mae"] < 0.1 < results["history"][0]["eval_mae"] and results["best_mae"] <= results["mae"]
    folder = Path(results["folder"])
    record = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert record["task"] == {"kind": "Regression"} and "top1" not in record
    assert weights.load_tuned(folder / "best_model.safetensors")[1]["task"] == {"kind": "Regression"}

    saved = config.load(folder / "config.yaml", [f"Global.pretrained_model={folder / 'best_model.safetensors'}"])
    assert saved.Loss.Train == [{"SquaredError": {}}]  # what the task chose is written down
    evaluated = experiment.evaluate(saved)
    assert evaluated["mae"] == pytest.approx(results["best_mae"], abs=1e-6)
    assert service.export_model(saved, tmp_path / "exported", tolerance=1e-5) < 1e-5
    assert "output: values" in (tmp_path / "exported/inference.yml").read_text(encoding="utf-8")
    again = experiment.evaluate(saved, exported=tmp_path / "exported")
    assert again["mae"] == pytest.approx(evaluated["mae"], abs=1e-5)

    half = np.repeat([255, 0], 4)[:, None, None] * np.ones([1, 8, 3])
    Image.fromarray(half.astype(np.uint8)).save(tmp_path / "half.png")
    saved.Infer.infer_imgs, saved.Infer.save_path = str(tmp_path / "half.png"), str(tmp_path / "answers.csv")
    answer, = experiment.infer(saved)
    assert abs(answer["predictions"][0]["value"] - 0.5) < 0.2 and answer["text"].startswith("brightness 0.")
    assert (tmp_path / "answers.csv").read_text().splitlines()[0] == "file,rank,name,value"

    row = comparison.summarise("full", [{**results, "cached_features": False}])
    assert row["mae"] == results["mae"] and "mean error" in comparison.table([row])
    assert all(path.stat().st_size > 1000 for path in pictures.comparison([row], tmp_path))


def test_a_file_of_one_kind_is_refused_by_another(plan):
    folder = experiment.train(plan())["folder"]
    digits = {"dataset": {"name": "Digits", "limit": 20, "transform_ops": OPS}}
    other = plan(Task={"name": "SingleLabel"}, DataLoader={"Train": digits, "Eval": digits})
    other.Global.pretrained_model = f"{folder}/best_model.safetensors"
    with pytest.raises(UserError, match="kind: Regression in the file, SingleLabel here"):
        experiment.evaluate(other)


def test_losses_and_metrics_of_another_kind_name_their_task(plan):
    with pytest.raises(UserError, match="CELoss belongs to Task SingleLabel, and Task.name is Regression: choose from"):
        experiment.train(plan(Loss={"Train": [{"CELoss": {}}]}))
    with pytest.raises(UserError, match="MeanError belongs to Task Regression"):
        digits = {"dataset": {"name": "Digits", "limit": 20, "transform_ops": OPS}}
        experiment.train(plan(Task={"name": "SingleLabel"}, Metric={"Eval": [{"MeanError": {}}]},
                              DataLoader={"Train": digits, "Eval": digits}))
