"""Pixels that a pretrained network was not trained on are warned of, with what it expects."""
import json
import logging
import re

import pytest

import ppadapt
from ppadapt import build, config
from ppadapt.weights import load_weights, save_safetensors

CIFAR = {"mean": [0.5071, 0.4865, 0.4409], "std": [0.2673, 0.2564, 0.2762]}
RIGHT = [{"ResizeImage": {"size": 32}}, {"NormalizeImage": {"scale": "1.0/255.0", **CIFAR, "order": ""}}, "ToCHWImage"]


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(logging.getLogger("ppadapt"), "warning", lambda text, *parts: lines.append(text % parts))
    return lines


def make(ops, pretrained=True):
    split = {"dataset": {"name": "Digits", "limit": 20, "transform_ops": ops}}
    build.tuned_model(config.parse({
        "Arch": {"name": "vit_micro_patch4_32", "pretrained": pretrained}, "Global": {"device": "cpu"},
        "Tuning": {"name": "LinearProbe"}, "DataLoader": {"Train": split, "Eval": split}}), ["a", "b"])


@pytest.mark.parametrize("ops, message", [
    (RIGHT, ""),
    ([{"DecodeImage": {"to_rgb": True}}, *RIGHT], ""),
    ([RIGHT[0], {"NormalizeImage": {**CIFAR, "order": ""}}], ""),
    ([{"DecodeImage": {"to_rgb": False}}, *RIGHT], "colours are not in the order RGB"),
    ([RIGHT[0], "ToCHWImage"], "pixels are 0..255, without NormalizeImage; .* was trained on other pixels: "
     "- NormalizeImage: {scale: 1.0/255.0, mean: .0.5071, 0.4865, 0.4409."),
    ([RIGHT[0], {"NormalizeImage": {"order": ""}}], "NormalizeImage.mean is .0.485, 0.456, 0.406.; NormalizeImage.std"),
    ([RIGHT[0], {"NormalizeImage": {**CIFAR, "scale": 1.0, "order": ""}}],
     "NormalizeImage.scale is 1 and not 1.0/255.0"),
])
def test_what_the_shipped_network_expects(said, ops, message):
    make(ops)
    assert len(said) == bool(message)
    if message:
        assert re.search(message, said[0]), said[0]


def test_the_shipped_file_tells_its_own_pixels(said):
    """By its path alone, as for any file whose settings were beside it when it was converted."""
    shipped = ppadapt.catalogue.NETWORKS["vit_micro_patch4_32"].shipped
    facts = load_weights(shipped).facts
    assert (facts.preprocess["mean"], facts.preprocess["std"]) == (CIFAR["mean"], CIFAR["std"])
    assert set(facts.assumed) == {"pool"} and facts.told["num_heads"] == "config.json"
    make([RIGHT[0], {"NormalizeImage": {"order": ""}}], str(shipped))
    assert "NormalizeImage.mean is [0.485, 0.456, 0.406]" in said[0] and "mean: [0.5071, 0.4865, 0.4409]" in said[0]


def test_what_a_file_does_not_tell_is_not_taken_for_sure(said, tmp_path):
    """mean and std are compared where settings stand beside the file; that there are any, always."""
    network = ppadapt.network("vit_micro_patch4_32", pretrained=True)
    save_safetensors(tmp_path / "model.safetensors", {n: t.numpy() for n, t in network.state_dict().items()},
                     {"format": "ppadapt.network"})
    make([RIGHT[0], {"NormalizeImage": {"order": ""}}], str(tmp_path / "model.safetensors"))
    assert said == []
    make([RIGHT[0]], str(tmp_path / "model.safetensors"))
    assert "without NormalizeImage" in said[0] and said[0].endswith("was trained on other pixels, normalised")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}))
    make([RIGHT[0], {"NormalizeImage": {"order": ""}}], str(tmp_path / "model.safetensors"))
    assert "NormalizeImage.mean is [0.485, 0.456, 0.406]" in said[1] and "mean: [0.5, 0.5, 0.5]" in said[1]


def test_a_network_of_random_weights_expects_nothing(said):
    make([RIGHT[0]], None)
    assert len(said) == 1 and "random weights" in said[0]
