"""Cached features: the same training, faster, and never where it would be another one."""
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn
from test_compare import OPS

from ppadapt import build, config, weights
from ppadapt.data import transforms
from ppadapt.errors import UserError
from ppadapt.runs import experiment
from ppadapt.tuning.frozen import features

ROOT = Path(__file__).resolve().parents[2]
RANDOM = [OPS[0], {"Pad": {"padding": 2}}, {"RandCropImageV2": {"size": 16}}, *OPS[1:]]


def plan(tmp_path, **sections):
    """A linear probe of a small network with fixed transforms; `Global__epochs=2` sets Global.epochs."""
    split = {"dataset": {"name": "Digits", "limit": 70, "transform_ops": OPS}, "sampler": {"batch_size": 16}}
    tree = {"Global": {"epochs": 3, "output_dir": str(tmp_path / "out"), "use_visualdl": False, "device": "cpu",
                       "feature_cache": str(tmp_path / "cache")},
            "Arch": {"name": "vit_micro_patch4_32", "img_size": 16, "embed_dim": 12, "depth": 2, "num_heads": 2,
                     "patch_size": 8},
            "Tuning": {"name": "LinearProbe"}, "EMA": {"decay": 0.5},
            "Optimizer": {"name": "AdamW", "lr": {"name": "Cosine", "learning_rate": 0.05}},
            "DataLoader": {"Train": split, "Eval": {**split, "dataset": {**split["dataset"], "limit": 50}}}}
    for key, value in sections.items():
        section, _, name = key.partition("__")
        tree[section] = {**tree[section], name: value} if name else value
    return config.parse(json.loads(json.dumps(tree)))


def cached(tmp_path):
    return sorted((tmp_path / "cache" / "features").glob("*.npz"))


def log_of(results):
    return (Path(results["folder"]) / "train.log").read_text(encoding="utf-8")


def same(a, b, name="latest"):
    a, b = (weights.load_tuned(f"{run['folder']}/{name}.safetensors") for run in (a, b))
    assert a[0].keys() == b[0].keys() and all(np.allclose(a[0][n], b[0][n], rtol=1e-4, atol=1e-5) for n in a[0])
    return {k: v for k, v in a[1].items() if k != "metrics"} == {k: v for k, v in b[1].items() if k != "metrics"}


def test_training_on_cached_features_is_the_same_training(tmp_path, monkeypatch):
    slow = experiment.train(plan(tmp_path, Global__cache_features=False))
    assert not cached(tmp_path) and not slow["cached_features"]
    cold = experiment.train(plan(tmp_path))
    assert len(cached(tmp_path)) == 2 and cold["cached_features"]
    assert "features of 70 train images: computed" in log_of(cold)
    monkeypatch.setattr(features, "_compute", None)  # nothing is computed again
    warm = experiment.train(plan(tmp_path))
    assert "features of 50 test images: from" in log_of(warm)
    for fast in (cold, warm):
        assert same(slow, fast) and same(slow, fast, "best_model")
        assert [r["eval_top1"] for r in slow["history"]] == [r["eval_top1"] for r in fast["history"]]
        assert fast["loss"] == pytest.approx(slow["loss"], rel=1e-4)
        assert {p.name for p in Path(fast["folder"]).iterdir()} == {p.name for p in Path(slow["folder"]).iterdir()}
    evaluated = experiment.evaluate(plan(tmp_path, Global__pretrained_model=f"{warm['folder']}/best_model.safetensors"))
    assert evaluated["top1"] == warm["best_top1"]


def test_a_run_without_the_cache_goes_on_with_it(tmp_path):
    whole = experiment.train(plan(tmp_path, Global__cache_features=False))
    job, _ = build.job(plan(tmp_path, Global__cache_features=False))
    job.epochs = 1
    experiment.run_training(job)
    rest = experiment.train(plan(tmp_path, Global__checkpoints=str(job.folder)))
    assert rest["cached_features"] and same(whole, rest)


@pytest.mark.parametrize("spoil", [lambda p: p.write_bytes(p.read_bytes()[:-200]), lambda p: p.write_bytes(b""),
                                   lambda p: np.savez(p, features=np.zeros((3, 12), "float32")),
                                   lambda p: p.write_bytes(p.read_bytes().replace(b"\x3f", b"\x40"))])
def test_a_broken_cache_file_is_computed_anew_and_said(tmp_path, spoil):
    first = experiment.train(plan(tmp_path))
    for path in cached(tmp_path):
        spoil(path)
    again = experiment.train(plan(tmp_path))
    assert log_of(again).count("is broken") == 2 and same(first, again)
    assert "is broken" not in log_of(experiment.train(plan(tmp_path)))


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "cache").write_text("a file")
    results = experiment.train(plan(tmp_path, Global__epochs=1))
    assert results["cached_features"] and log_of(results).count("cannot be written") == 2


@pytest.mark.parametrize("change", [{"Global__seed": 1}, {"Arch__epsilon": 1e-3}, {"Arch__pool": "avg"}])
def test_another_network_has_other_features(tmp_path, change):
    """A seed is another network here, whose frozen weights are random."""
    experiment.train(plan(tmp_path, Global__epochs=1))
    results = experiment.train(plan(tmp_path, Global__epochs=1, **change))
    assert len(cached(tmp_path)) == 4 and "images: from" not in log_of(results)


def test_other_images_or_another_transform_have_other_features(tmp_path):
    experiment.train(plan(tmp_path, Global__epochs=1))
    other = plan(tmp_path, Global__epochs=1)
    other.DataLoader.Train.dataset["limit"] = 60
    darker = {"NormalizeImage": {"order": "", "mean": [0.5] * 3}}
    other.DataLoader.Eval.dataset["transform_ops"] = [OPS[0], darker, OPS[2]]
    assert "images: from" not in log_of(experiment.train(other))


@pytest.mark.parametrize("data, message", [
    ({"transform_ops": RANDOM}, "RandCropImageV2"),
    ({"batch_transform_ops": [{"MixupOperator": {"alpha": 0.8}}]}, "MixupOperator"),
    ({"on_error": "skip"}, "on_error: raise")])
def test_what_is_not_the_same_in_every_epoch_is_not_cached_and_the_log_says_why(tmp_path, data, message):
    given = plan(tmp_path, Global__epochs=2)
    given.DataLoader.Train.dataset.update(data)
    results = experiment.train(given)
    said = [line for line in log_of(results).splitlines() if "features are not cached" in line]
    assert len(said) == 1 and message in said[0] and not results["cached_features"] and not cached(tmp_path)
    given.Global.cache_features = True
    before = list((tmp_path / "out" / "run").iterdir())
    with pytest.raises(UserError, match=f"cache_features is True, but .*{message}"):
        experiment.train(given)
    assert list((tmp_path / "out" / "run").iterdir()) == before


@pytest.mark.parametrize("tuning", [{"name": "AdaptFormer"}, {"name": "FullFineTuning"}, {"name": "BitFit"}])
def test_where_something_below_the_head_trains_there_is_nothing_to_cache_or_to_say(tmp_path, tuning):
    results = experiment.train(plan(tmp_path, Tuning=tuning, Global__epochs=1))
    assert "features" not in log_of(results) and not cached(tmp_path)
    with pytest.raises(UserError, match="what is below the head changes too"):
        experiment.train(plan(tmp_path, Tuning=tuning, Global__cache_features=True))


def test_a_wrong_choice_is_named(tmp_path):
    with pytest.raises(UserError, match=r"Global\.cache_features 'alway' is unknown"):
        experiment.train(plan(tmp_path, Global__cache_features="alway"))


def test_a_network_that_does_more_than_its_head_is_not_cached(tmp_path, monkeypatch):
    class Doubled(build.network(plan(tmp_path), 0)[0].__class__):
        def forward(self, x):
            return 2 * super().forward(x) + 1

    network = build.network
    def doubled(given, class_num):
        net, report = network(given, class_num)
        net.__class__ = Doubled
        return net, report

    monkeypatch.setattr(build.model, "network", doubled)
    results = experiment.train(plan(tmp_path, Global__epochs=1))
    assert "Doubled does more to an image than call its head" in log_of(results) and not results["cached_features"]


def test_the_head_is_back_in_its_place_when_computing_fails(tmp_path):
    job, model = build.job(plan(tmp_path))
    model.adaptation.network.forward = lambda images: paddle.zeros([2, 3]).reshape([5])
    with pytest.raises(ValueError):
        list(job.train_loader)
    assert isinstance(model.adaptation.network.head, nn.Sequential)


def test_other_code_computes_other_features(tmp_path, monkeypatch):
    before = experiment.train(plan(tmp_path))
    assert len(cached(tmp_path)) == 2
    real = transforms.NormalizeImage.__call__
    monkeypatch.setattr(transforms.NormalizeImage, "__call__", lambda self, image, rng=None: real(self, image, rng) * 2)
    after = experiment.train(plan(tmp_path))
    assert len(cached(tmp_path)) == 4 and "features of 70 train images: computed" in log_of(after)
    monkeypatch.undo()
    assert "features of 70 train images: from" in log_of(experiment.train(plan(tmp_path))) and before


def test_the_same_code_has_the_same_digest_in_every_process():
    """Constants that are sets have another order in each: what one process had kept no other found again."""
    said = []
    for seed in "12":
        code = ("import paddle\nfrom ppadapt.tuning.frozen.code import digest_of\n"
                "print(digest_of([paddle.nn.Conv2D(3, 4, 2)]))")
        said.append(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT,
                                   env={**os.environ, "PYTHONHASHSEED": seed}).stdout)
    assert said[0] == said[1] and len(said[0].strip()) == 64


def test_without_a_home_features_are_computed_and_not_kept(tmp_path, monkeypatch):
    monkeypatch.delenv("PPADAPT_CACHE", raising=False)
    monkeypatch.setattr(Path, "expanduser", lambda self: (_ for _ in ()).throw(RuntimeError("no home")) if str(
        self).startswith("~") else self)
    results = experiment.train(plan(tmp_path, Global__feature_cache=None))
    assert "this user has no home folder" in log_of(results) and results["cached_features"]
