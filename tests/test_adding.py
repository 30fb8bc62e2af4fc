"""What CONTRIBUTING.md says of data sets and transforms holds from outside of the package: one class, one line.

Networks: models/test_catalogue.py. Methods: contract/. Tasks: tasks/.
"""
import numpy as np
import pytest

import ppadapt
from ppadapt import build, config
from ppadapt.data import Dataset
from ppadapt.errors import UserError
from ppadapt.runs import experiment
from ppadapt.weights import read_manifest


class Stripes(Dataset):
    """Stripes across or along, `width` pixels wide."""

    def __init__(self, split="train", transform=None, seed=0, on_error="raise", limit=None, width: int = 2):
        super().__init__(split, transform, seed, on_error, limit)
        self.classes = ["across", "along"]
        self.labels = np.arange(limit or 12, dtype=np.int64) % 2
        one = np.where(np.arange(8) // width % 2, 255, 0).astype(np.uint8)
        across = np.repeat(np.broadcast_to(one[:, None], (8, 8))[..., None], 3, axis=-1)
        self.images = np.stack([across.transpose(1, 0, 2) if label else across for label in self.labels])


class Invert:
    """255 minus the pixel, where `by` is 255."""

    random = False

    def __init__(self, by: int = 255):
        self.by = by

    def __call__(self, image, rng=None):
        return self.by - image


@pytest.fixture(autouse=True)
def added(monkeypatch):
    """The two lines."""
    monkeypatch.setitem(ppadapt.DATASETS, "Stripes", Stripes)
    monkeypatch.setitem(ppadapt.TRANSFORMS, "Invert", Invert)


def plan(tmp_path, **options):
    ops = [{"Invert": options}, {"NormalizeImage": {"order": ""}}, "ToCHWImage"]
    split = {"dataset": {"name": "Stripes", "transform_ops": ops},
             "sampler": {"batch_size": 6}}
    return config.parse({
        "Arch": {"name": "vit_micro_patch4_32", "img_size": 8, "embed_dim": 12, "depth": 1, "num_heads": 2},
        "Global": {"epochs": 1, "output_dir": str(tmp_path), "use_visualdl": False, "device": "cpu"},
        "Tuning": {"name": "AdaptFormer", "bottleneck": 2}, "Optimizer": {"name": "AdamW"},
        "DataLoader": {"Train": split, "Eval": split}})


def test_a_data_set_and_a_transform_from_outside_train_and_are_in_the_tuned_file(tmp_path):
    results = experiment.train(plan(tmp_path))
    file = f"{results['folder']}/best_model.safetensors"
    manifest = read_manifest(file)
    assert manifest["classes"] == ["across", "along"] and manifest["preprocess"][1] == {"Invert": {"by": 255}}
    again = plan(tmp_path)
    again.Global.pretrained_model = file
    assert experiment.evaluate(again)["top1"] == pytest.approx(results["top1"])
    other = plan(tmp_path, by=200)
    other.Global.pretrained_model = file
    with pytest.raises(UserError, match="Invert.by: 255 in the file, 200 here"):
        experiment.evaluate(other)


def test_their_options_are_checked(tmp_path):
    with pytest.raises(UserError, match="'bye' is unknown. Did you mean 'by'"):
        build.dataset(plan(tmp_path, bye=1).DataLoader.Eval, "test", 0)
    wrong = plan(tmp_path)
    wrong.DataLoader.Eval.dataset["widht"] = 2
    with pytest.raises(UserError, match="'widht' is unknown. Did you mean 'width'"):
        build.dataset(wrong.DataLoader.Eval, "test", 0)
