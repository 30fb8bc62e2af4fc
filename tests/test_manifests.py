"""A tuned file is used as it was trained, or refused with both sides named; older files still load."""
import json
import logging
from pathlib import Path

import numpy as np
import paddle
import pytest

from ppadapt import build, config
from ppadapt.errors import ConfigError, UserError
from ppadapt.serve import service
from ppadapt.weights import read_manifest

GOLDEN = Path(__file__).resolve().parent / "golden"
CASE = GOLDEN / "image_parallel_cls"
META = json.loads((CASE / "meta.json").read_text(encoding="utf-8"))
OLD = GOLDEN / "tuned_v1"  # written by the ppadapt before manifests said every option: see its README
CLASSES = [str(i) for i in range(10)]
# As the files of tuned_v1 were trained.
OPS = [{"DecodeImage": {"to_rgb": True}}, {"ResizeImage": {"size": 32}},
       {"NormalizeImage": {"scale": "1.0/255.0", "mean": [0.5] * 3, "std": [0.5] * 3, "order": ""}},
       {"ToCHWImage": None}]


def plan(tuned=None, ops=OPS, bottleneck=2, **changes):
    """A config for the network of the golden case."""
    split = {"dataset": {"name": "Digits", "limit": 20, "transform_ops": ops}}
    tree = {"Arch": {"name": "vit_micro_patch4_32", "pretrained": str(CASE / "pretrain.pth"), **META["arch"]},
            "Tuning": {"name": "AdaptFormer", "bottleneck": bottleneck}, "DataLoader": {"Train": split, "Eval": split},
            "Global": {"device": "cpu", "pretrained_model": str(tuned) if tuned else None}}
    for key, value in changes.items():
        section, _, name = key.partition("__")
        tree[section] = {**tree[section], name: value}
    return config.parse(tree)


@pytest.fixture
def said(monkeypatch):
    """What was warned of."""
    lines = []
    monkeypatch.setattr(logging.getLogger("ppadapt"), "warning", lambda text, *parts: lines.append(text % parts))
    return lines


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A tuned file of today."""
    path = tmp_path_factory.mktemp("tuned") / "tuned.safetensors"
    build.tuned_model(plan(), CLASSES).save(path, {"top1": 10.0})
    return path


def logits(plan, classes=CLASSES):
    network = build.tuned_model(plan, classes).adaptation
    network.eval()
    return network(paddle.to_tensor(np.load(CASE / "expected.npz")["images"])).numpy()


def test_a_tuned_file_says_every_option(tuned, said):
    manifest = read_manifest(tuned)
    assert manifest["tuning"] == [{"name": "AdaptFormer", "bottleneck": 2, "option": "parallel", "scale": 0.1,
                                   "layernorm": "none", "dropout": 0.1, "blocks": "all"}]
    backbone = manifest["backbone"]
    assert backbone["options"].items() >= {**META["arch"], "epsilon": 1e-6, "pool": "cls", "mlp_ratio": 4.0}.items()
    assert (backbone["name"], backbone["family"], backbone["frozen_dtype"]) == ("vit_micro_patch4_32", "ViT", "float32")
    assert manifest["preprocess"][0] == {"DecodeImage": {"to_rgb": True, "to_np": False, "channel_first": False,
                                                         "backend": "pil"}}
    assert manifest["preprocess"][1] == {"ResizeImage": {"size": [32, 32], "resize_short": None,
                                                         "interpolation": "bilinear", "backend": "cv2"}}
    assert manifest["preprocess"][2]["NormalizeImage"]["mean"] == [0.5] * 3
    logits(plan(tuned))
    assert said == []


@pytest.mark.parametrize("change, message", [
    ({"Arch__num_heads": 2}, "other Arch (num_heads: 4 in the file, 2 here)"),
    ({"Arch__epsilon": 1e-3}, "other Arch (epsilon: 1e-06 in the file, 0.001 here)"),
    ({"Arch__head": "Linear"}, "other head (BatchNormLinear in the file, Linear here)"),
    ({"Tuning__scale": 7.0}, "other Tuning (scale: 0.1 in the file, 7.0 here)"),
    ({"Tuning__blocks": [0]}, "other Tuning (blocks: all in the file, [0] here)"),
    ({"ops": [{"DecodeImage": {"to_rgb": False}}, *OPS[1:]]}, "(colour order: RGB in the file, BGR here)"),
    ({"ops": [{"ResizeImage": {"size": 32, "backend": "pil"}}, *OPS[2:]]},
     "ResizeImage.interpolation: bilinear in the file, bicubic here; ResizeImage.backend: cv2 in the file, pil here"),
    ({"ops": [*OPS[:2], {"NormalizeImage": {"order": ""}}, OPS[3]]},
     "NormalizeImage.mean: [0.5, 0.5, 0.5] in the file, [0.485, 0.456, 0.406] here"),
    ({"ops": OPS[:2]},
     "other preprocessing (name: ['ResizeImage', 'NormalizeImage'] in the file, ['ResizeImage'] here)"),
])
def test_what_changes_the_answer_is_refused(tuned, change, message):
    with pytest.raises(UserError) as error:
        build.tuned_model(plan(tuned, **change), CLASSES)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("change", [
    {"Tuning__dropout": 0.5}, {"Arch__drop_path_rate": 0.2},
    {"ops": OPS[1:]},
    {"ops": [{"ResizeImage": {"size": [32, 32], "interpolation": "bilinear"}}, {"ToCHWImage": None},
             {"NormalizeImage": {"scale": 1 / 255, "mean": [0.5] * 3, "std": [0.5] * 3, "order": "chw"}}]},
])
def test_the_same_said_otherwise_is_the_same(tuned, said, change):
    np.testing.assert_array_equal(logits(plan(tuned, **change)), logits(plan(tuned)))
    assert said == []


def test_another_type_of_frozen_numbers_is_said(tuned, said):
    build.tuned_model(plan(tuned, Arch__frozen_dtype="bfloat16"), CLASSES)
    assert any("trained with Arch.frozen_dtype float32, used with bfloat16" in line for line in said)


def test_an_older_file_loads_with_the_same_logits_and_what_it_does_not_say_is_named(said):
    np.testing.assert_allclose(logits(plan(OLD / "own.safetensors")), np.load(OLD / "own_logits.npz")["logits"],
                               rtol=0, atol=1e-5)
    assert len(said) == 2 and "could not be checked: Arch.frozen_dtype, preprocessing.colour order" in said[0]
    assert "so that defaults were taken" in said[1] and "Arch.epsilon 1e-06" in said[1] and "num_heads" not in said[1]
    with pytest.raises(UserError, match=r"epsilon: 1e-06 \(its default\) in the file, 0.001 here"):
        build.tuned_model(plan(OLD / "own.safetensors", Arch__epsilon=1e-3), CLASSES)
    with pytest.raises(UserError, match="num_heads: 4 in the file, 2 here"):
        build.tuned_model(plan(OLD / "own.safetensors", Arch__num_heads=2), CLASSES)


@pytest.mark.parametrize("change, message", [
    ({}, ""), ({"Tuning__scale": 7.0}, "scale: 0.1 in the file, 7.0 here"),
    ({"Tuning__option": "sequential"}, "option: parallel in the file, sequential here"),
])
def test_an_older_converted_file_is_compared(said, change, message):
    """Version 1 nested the options of what it converted, and they were never looked at."""
    old = plan(OLD / "converted.safetensors", bottleneck=8, **change)
    if message:
        with pytest.raises(UserError, match=message):
            build.tuned_model(old, CLASSES)
        return
    expected = np.load(CASE / "expected.npz")["logits"]
    assert np.abs(logits(old) - expected).max() < 1e-4
    for fact in ("Arch.num_heads", "Arch.epsilon", "preprocessing.name", "classes", "head"):
        assert fact in said[0]


def test_other_classes_are_refused_or_a_start_without_the_head(tuned):
    others = ["cat", "dog", "hen"]
    with pytest.raises(UserError, match=r"classes \(10 \(0, 1, 2 ...\) in the file, \['cat', 'dog', 'hen'\] here\)"
                                        ".*Global.pretrained_head: False"):
        build.tuned_model(plan(tuned), others)
    donor = plan()
    built = build.tuned_model(donor, CLASSES)
    for name, parameter in built.adaptation.trained_parameters().items():
        parameter.set_value(paddle.full(parameter.shape, 0.5) if "adaptmlp" in name else parameter)
    path = tuned.with_name("donor.safetensors")
    built.save(path, {})
    start = build.tuned_model(plan(path, Global__pretrained_head=False), others)
    fresh = build.tuned_model(plan(), others).adaptation.state()
    for name, array in start.adaptation.state().items():
        expected = fresh[name] if name.startswith("head.") else np.full_like(array, 0.5)
        np.testing.assert_array_equal(array, expected, err_msg=name)
    assert any("pretrained_head: False" in note and "head.1.weight" in note for note in start.notes)
    with pytest.raises(UserError, match="other Tuning"):
        build.tuned_model(plan(path, Global__pretrained_head=False, Tuning__scale=1.0), others)


@pytest.mark.parametrize("path, message", [("", "is a folder"), ("none.safetensors", "does not exist")])
def test_a_path_of_no_tuned_file(tmp_path, path, message):
    with pytest.raises(ConfigError, match=f"{message}. Give a tuned file"):
        build.tuned_model(plan(tmp_path / path), CLASSES)


def test_no_head_of_no_file_is_said(said):
    build.tuned_model(plan(Global__pretrained_head=False), CLASSES)
    assert any("pretrained_head: False has no effect" in line for line in said)


def test_a_head_that_starts_anew_is_nothing_to_serve(tuned):
    with pytest.raises(ConfigError, match="the head is not trained"):
        service.need_something_tuned(plan(tuned, Global__pretrained_head=False))
    assert build.class_names(plan(tuned, Global__pretrained_head=False)) == CLASSES


@pytest.mark.parametrize("manifest", [{}, {"tuning": [{"name": "AdaptFormer"}]}, {"backbone": {"digest": "a" * 64}}])
def test_a_file_that_does_not_say_what_it_is_of_is_refused(tuned, manifest):
    from ppadapt.weights import load_tuned, save_tuned

    save_tuned(tuned.with_name("other.safetensors"), load_tuned(tuned)[0], manifest)
    with pytest.raises(UserError, match="does not say its (tuning|backbone|tuning and backbone), which every"):
        build.tuned_model(plan(tuned.with_name("other.safetensors")), CLASSES)
