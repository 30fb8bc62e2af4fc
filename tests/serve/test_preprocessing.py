"""One preprocessing from training to serving: layouts, Infer.transforms, exports, both sides of the data."""
import logging

import numpy as np
import pytest
import yaml
from PIL import Image

from ppadapt import build, config
from ppadapt.build.preprocessing import check_sides
from ppadapt.data import DataError, build_transforms
from ppadapt.errors import UserError
from ppadapt.runs import experiment
from ppadapt.serve import service as serving

NORMALIZE = {"NormalizeImage": {"mean": [0.5] * 3, "std": [0.25] * 3, "order": ""}}
OTHER = {"NormalizeImage": {"mean": [0.9] * 3, "std": [0.25] * 3, "order": ""}}
CHW, RESIZE = {"ToCHWImage": None}, {"ResizeImage": {"size": 8}}


def plan(ops, train=None):
    splits = {side: {"dataset": {"name": "Digits", "limit": 20, "transform_ops": given}}
              for side, given in (("Train", train or ops), ("Eval", ops))}
    return config.parse({
        "Arch": {"name": "vit_micro_patch4_32", "img_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2},
        "Tuning": {"name": "LinearProbe"}, "DataLoader": splits,
        "Global": {"device": "cpu", "use_visualdl": False, "epochs": 1}})


def test_arrays_are_of_one_layout_where_tochwimage_is_left_out(tmp_path):
    """PaddleClas's transforms of an evaluation have none: training, infer and the export must agree all the same."""
    settings = plan([RESIZE, NORMALIZE])
    settings.Global.output_dir = str(tmp_path / "out")
    results = experiment.train(settings)
    settings.Global.pretrained_model = results["folder"] + "/best_model.safetensors"
    assert serving.export_model(settings, tmp_path / "exported") < 1e-4
    manifest = yaml.safe_load((tmp_path / "exported/inference.yml").read_text(encoding="utf-8"))
    assert manifest["PreProcess"]["transform_ops"] == [RESIZE, NORMALIZE, CHW]  # for servers that take it literally
    data = build.dataset(settings.DataLoader.Eval, "test", 0)
    Image.fromarray(data.image(3)).save(tmp_path / "3.png")
    settings.Infer.infer_imgs = str(tmp_path / "3.png")
    expected = serving.service(settings).predict(data[3][0][None])[0]
    for exported in (None, tmp_path / "exported"):
        answer, = experiment.infer(settings, exported=exported)
        assert {p["id"]: p["probability"] for p in answer["predictions"]} == pytest.approx(
            {i: expected[i] for i in expected.argsort()[::-1][:5]}, abs=1e-5)


def test_channels_come_first_once():
    image = np.zeros([4, 6, 3], np.uint8)
    for ops in ([], [NORMALIZE], [NORMALIZE, CHW], [CHW], [{"DecodeImage": {"channel_first": True}}]):
        assert build_transforms(ops).array(image).shape == (3, 4, 6)
    with pytest.raises(DataError, match="DecodeImage and ToCHWImage both put the channels first"):
        build_transforms([{"DecodeImage": {"channel_first": True}}, CHW])


@pytest.mark.parametrize("given, evaluated, served", [
    (None, [RESIZE, NORMALIZE, CHW], [RESIZE, NORMALIZE, CHW]),
    (None, None, [CHW]),
    ([{"DecodeImage": {"to_rgb": True}}, RESIZE, NORMALIZE], [RESIZE, NORMALIZE, CHW],
     [{"DecodeImage": {"to_rgb": True}}, RESIZE, NORMALIZE, CHW]),
    ([{"ResizeImage": {"size": [8, 8]}}, {"NormalizeImage": {**NORMALIZE["NormalizeImage"], "scale": "1.0/255.0"}},
      CHW], [RESIZE, NORMALIZE], None),
    ([RESIZE, NORMALIZE, CHW], [NORMALIZE, CHW], [RESIZE, NORMALIZE, CHW]),  # brought to the size that is evaluated
])
def test_infer_transforms_that_compute_what_was_evaluated_are_taken(given, evaluated, served):
    assert build.serving_ops(given, evaluated) == (served or given)


@pytest.mark.parametrize("given, message", [
    ([RESIZE, OTHER, CHW], r"NormalizeImage.mean: \[0.9, 0.9, 0.9\] in Infer.transforms, \[0.5, 0.5, 0.5\] evaluated"),
    ([RESIZE, CHW], r"name: \['ResizeImage'\] in Infer.transforms, \['ResizeImage', 'NormalizeImage'\] evaluated"),
    ([{"ResizeImage": {"size": 9}}, NORMALIZE, CHW], "ResizeImage.size"),
    ([{"DecodeImage": {"to_rgb": False}}, RESIZE, NORMALIZE, CHW], "colour order: BGR in Infer.transforms"),
    ([RESIZE, {"RandFlipImage": None}, NORMALIZE, CHW], "RandFlipImage"),
    ([NORMALIZE, RESIZE, CHW], "name: "),
])
def test_other_infer_transforms_are_refused_operator_by_operator(given, message):
    with pytest.raises(UserError, match="Infer.transforms differ from what was evaluated .*" + message):
        build.serving_ops(given, [RESIZE, NORMALIZE, CHW])


def test_an_export_is_evaluated_with_its_own_preprocessing_only():
    exported = [RESIZE, NORMALIZE, CHW]
    build.check_exported(exported, plan([RESIZE, NORMALIZE]))
    build.check_exported(exported, plan([NORMALIZE]))
    with pytest.raises(UserError, match=r"NormalizeImage.mean: \[0.5, 0.5, 0.5\] in the export, \[0.9, 0.9, 0.9\] in"):
        build.check_exported(exported, plan([RESIZE, OTHER]))


@pytest.mark.parametrize("test, train, message", [
    ([RESIZE, NORMALIZE], [RESIZE, {"RandFlipImage": None}, NORMALIZE], ""),
    ([RESIZE, NORMALIZE], [RESIZE, OTHER], "different pixels (NormalizeImage.mean: [0.9, 0.9, 0.9] in Train, [0.5"),
    ([RESIZE, NORMALIZE], [{"DecodeImage": {"to_rgb": False}}, RESIZE, NORMALIZE], "colour order: BGR in Train, RGB"),
    ([RESIZE], [RESIZE], "pixels go in as 0..255: add NormalizeImage"),
])
def test_training_that_sees_other_pixels_is_warned_of(monkeypatch, test, train, message):
    said = []
    monkeypatch.setattr(logging.getLogger("ppadapt"), "warning", lambda text, *parts: said.append(text % parts))
    check_sides(plan(test, train))
    assert len(said) == bool(message) and message in "".join(said)


def test_transforms_of_answers_that_differ_are_said_when_training_begins(caplog):
    settings = plan([RESIZE, NORMALIZE])
    settings.Infer.transforms = [RESIZE, NORMALIZE, CHW]
    check_sides(settings)
    assert not caplog.text
    settings.Infer.transforms = [RESIZE, OTHER, CHW]
    check_sides(settings)
    assert "Infer.transforms differ from what was evaluated" in caplog.text
