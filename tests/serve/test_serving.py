"""Export, inference and evaluation through backends: from Python, from the command line, and their one-line errors."""
import csv
import importlib.util
import re
import runpy
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import paddle
import pytest
import yaml
from PIL import Image

from ppadapt import build, config, files
from ppadapt.errors import ConfigError, UserError
from ppadapt.runs import experiment
from ppadapt.serve import service as serving
from ppadapt.serve.export import SUFFIXES, check_kind, default_kind
from ppadapt.serve.infer import classify
from ppadapt.tasks import SingleLabel

TOOLS = Path(__file__).resolve().parent.parent.parent / "tools"
OPS = [{"ResizeImage": {"size": 8}}, {"NormalizeImage": {"order": ""}}, {"ToCHWImage": None}]


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """A tiny ViT for the digits with a tuned file whose branches are far from zero."""
    split = {"dataset": {"name": "Digits", "transform_ops": OPS, "limit": 40}, "sampler": {"batch_size": 16}}
    plan = config.parse({
        "Arch": {"name": "vit_micro_patch4_32", "img_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2},
        "Tuning": {"name": "AdaptFormer", "bottleneck": 4}, "DataLoader": {"Train": split, "Eval": split},
        "Global": {"device": "cpu"}})
    model = build.tuned_model(plan, [str(i) for i in range(10)])
    draw = np.random.RandomState(0)
    for parameter in model.adaptation.network.parameters():
        parameter.set_value(draw.normal(0, 0.3, parameter.shape).astype("float32"))
    weights = tmp_path_factory.mktemp("weights")
    base = {n: p for n, p in model.adaptation.network.named_parameters()
            if not n.startswith("head") and "adaptmlp" not in n}
    paddle.save(base, str(weights / "base.pdparams"))
    plan.Arch.pretrained = str(weights / "base.pdparams")
    state, model = model.adaptation.state(), build.tuned_model(plan, model.classes)
    model.adaptation.load_state(state)
    model.save(weights / "tuned.safetensors", {})
    plan.Global.pretrained_model = str(weights / "tuned.safetensors")
    return plan


@pytest.fixture(scope="module")
def exported(plan, tmp_path_factory):
    folder = tmp_path_factory.mktemp("服务") / "inference"
    assert serving.export_model(plan, folder) < 1e-5
    return folder


def test_what_paddle_2_6_writes_and_what_it_says_of_the_rest(monkeypatch):
    monkeypatch.setattr("ppadapt.paddle_compat.BEFORE_3", True)
    assert default_kind() == "paddle-2.6"
    check_kind("paddle-2.6")
    for kind, name in (("paddle", ".json"), ("onnx", "ONNX")):
        with pytest.raises(UserError, match=rf"^--format {kind}: Paddle [\d.]+ has no export to {name}: choose "):
            check_kind(kind)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    draw = np.random.RandomState(1)
    for name, size in (("a.png", (8, 8)), ("b.png", (20, 30)), ("c.png", (9, 7))):
        Image.fromarray(draw.randint(0, 255, (*size, 3), dtype=np.uint8)).save(folder / name)
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def tool(monkeypatch, name, *arguments):
    """Run a tool in this process; returns the line it ends with, None when it ends well."""
    monkeypatch.syspath_prepend(str(TOOLS))
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    try:
        runpy.run_path(str(TOOLS / name), run_name="__main__")
    except SystemExit as end:
        return end.code


def test_an_exported_folder_says_what_serving_needs(exported):
    assert sorted(path.name for path in exported.iterdir()) == [
        "SHA256SUMS", "config.yaml", *sorted([f"inference{SUFFIXES[default_kind()]}", "inference.pdiparams"]),
        "inference.yml"]
    manifest = yaml.safe_load((exported / "inference.yml").read_text(encoding="utf-8"))
    assert manifest["PreProcess"]["transform_ops"] == OPS
    assert manifest["PostProcess"]["Topk"] == {"topk": 5, "label_list": [str(i) for i in range(10)]}
    assert manifest["ppadapt"]["input"] == {"name": "x", "shape": [None, 3, 8, 8]}
    assert manifest["ppadapt"]["tuning"][0]["bottleneck"] == 4


def test_evaluation_through_a_backend_finds_the_same(plan, exported):
    expected = experiment.evaluate(plan)
    assert expected["images"] == 40
    for found in (experiment.evaluate(plan, "paddle_inference"), experiment.evaluate(plan, exported=exported)):
        assert found == pytest.approx(expected, abs=1e-5)


def test_infer_from_a_folder_alone(monkeypatch, exported, photos, plan, tmp_path, capsys):
    expected = list(experiment.infer(config.parse({
        **plan.to_dict(), "Infer": {"infer_imgs": str(photos), "topk": 2}})))
    capsys.readouterr()
    assert tool(monkeypatch, "infer.py", "--exported", exported, "-o", f"Infer.infer_imgs={photos}", "-o",
                "Infer.topk=2", "-o", "Infer.batch_size=2", "-o", f"Infer.save_path={tmp_path / 'answers.csv'}") is None
    said, logged = capsys.readouterr()
    assert re.search(r"3 images in [\d.]+ s, decoding included: [\d.]+ images/s", logged)
    assert "left out: Image" in logged and "broken.png" in logged
    with open(tmp_path / "answers.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["file"]).name for row in rows[::2]] == ["a.png", "b.png", "c.png"]
    for answer, first in zip(expected, rows[::2]):
        best = answer["predictions"][0]
        assert (first["rank"], first["class"]) == ("1", best["class"])
        assert float(first["probability"]) == pytest.approx(best["probability"], abs=1e-5)
        assert f"{answer['file']}: {best['class']} {best['probability']:.2%}" in said


def test_nothing_is_replaced_without_force_and_nothing_is_left_of_a_failure(plan, exported, tmp_path, monkeypatch):
    before = (exported / "inference.pdiparams").stat().st_mtime_ns
    with pytest.raises(UserError, match="exists already: .* --force"):
        serving.export_model(plan, exported)
    with pytest.raises(UserError, match="differs from dygraph by .* nothing was written"):
        serving.export_model(plan, exported, tolerance=0.0, force=True)
    assert (exported / "inference.pdiparams").stat().st_mtime_ns == before
    assert [path.name for path in exported.parent.iterdir()] == ["inference"]
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="is no exported network, so --force does not replace it"):
        serving.export_model(plan, tmp_path / "mine", force=True)
    serving.export_model(plan, exported, force=True)
    assert (exported / "inference.pdiparams").stat().st_mtime_ns != before


@pytest.mark.parametrize("arguments,message", [
    (["--exported", "{exported}", "--backend", "paddel_inference"], "Did you mean 'paddle_inference'?"),
    (["--exported", "{exported}", "--backend", "onnx"], "is for --backend paddle_inference, not onnx"),
    (["--exported", "{exported}", "--backend", "openvino"], "is for --backend paddle_inference, not openvino"),
    (["--exported", "{exported}", "--precision", "bf16"], "--precision 'bf16' is unknown"),
    (["--exported", "{exported}", "--precision", "float16"], "a CPU takes bfloat16 or float32"),
    (["-c", "{exported}/config.yaml", "--precision", "bfloat16"], "is for --backend paddle_inference"),
    (["--exported", "/nowhere"], "/nowhere is no folder"),
    (["--exported", "{photos}"], "config.yaml does not exist"),
    (["-c", "{exported}/config.yaml", "--exported", "{photos}"], "it has no inference.yml"),
    ([], "give a config with -c, a tuned file with --tuned, or an exported folder with --exported"),
    (["--exported", "{exported}", "-o", "Infer.transforms=[{{ToCHWImage: }}]"],
     "Infer.transforms differ from what was evaluated (name: [] in Infer.transforms, ['ResizeImage', "),
])
def test_mistakes_are_one_line(monkeypatch, exported, photos, arguments, message):
    filled = [argument.format(exported=exported, photos=photos) for argument in arguments]
    line = tool(monkeypatch, "infer.py", *filled, "-o", f"Infer.infer_imgs={photos}")
    assert line.startswith("error: ") and message in line and "\n" not in line


@pytest.mark.needs_paddle("export to ONNX")
def test_an_unknown_format_and_a_missing_package_are_one_line(monkeypatch, plan, exported, tmp_path):
    arguments = ["-c", exported / "config.yaml", "--output", tmp_path / "out"]
    assert "Did you mean 'onnx'?" in tool(monkeypatch, "export_model.py", *arguments, "--format", "onxx")
    monkeypatch.setitem(sys.modules, "paddle2onnx", None)
    line = tool(monkeypatch, "export_model.py", *arguments, "--format", "onnx")
    assert line.startswith("error: ONNX needs paddle2onnx") and "pip install 'ppadapt[onnx]'" in line
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_gone_or_damaged_is_named(exported, plan, tmp_path, caplog):
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in exported.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "inference.pdiparams").unlink()
    with pytest.raises(UserError, match=r"inference.pdiparams is missing: it is damaged, or was changed"):
        serving.service(plan, exported=folder)
    (folder / "SHA256SUMS").unlink()  # as in folders of older versions
    with pytest.raises(UserError, match=r"inference.pdiparams does not exist: export"):
        serving.service(plan, exported=folder)
    assert f"{folder} has no SHA256SUMS, which every export has since 0.2" in caplog.text
    (folder / "inference.yml").write_text("Global: {}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"inference.yml is not of `ppadapt export`"):
        serving.service(plan, exported=folder)


def test_evaluating_other_classes_is_refused(plan, exported, monkeypatch):
    monkeypatch.setenv("PPADAPT_NO_VERIFY", "1")
    other = config.parse(plan.to_dict())
    other.DataLoader.Eval.dataset["limit"] = 10
    manifest = exported / "inference.yml"
    text = manifest.read_text(encoding="utf-8")
    try:
        manifest.write_text(text.replace("- '9'", "- nine"), encoding="utf-8")
        with pytest.raises(UserError, match="1 images of classes that the network lacks .'9'"):
            experiment.evaluate(other, exported=exported)
    finally:
        manifest.write_text(text, encoding="utf-8")


def test_batches_and_order_of_answers(photos):
    given = []

    def predict(images):
        given.append(images.shape)
        means = images.reshape(len(images), -1).mean(1)
        return np.stack([means, 1 - means], 1)

    files = sorted(photos.glob("[abc].png"))
    transform = experiment.build_transforms(OPS[:1] + [{"NormalizeImage": {
        "mean": [0, 0, 0], "std": [1, 1, 1], "order": ""}}, {"ToCHWImage": None}])
    answers = list(classify(predict, transform, SingleLabel(), ["bright", "dark"], files, batch_size=2, topk=1))
    assert given == [(2, 3, 8, 8), (1, 3, 8, 8)]
    assert [Path(answer["file"]).name for answer in answers] == ["a.png", "b.png", "c.png"]
    assert all(answer["predictions"][0]["probability"] >= 0.5 for answer in answers)


@pytest.mark.parametrize("backend", ["dygraph", "paddle_inference", *(
    pytest.param(backend, marks=pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("paddle2onnx", package)), reason=f"no {package} here"))
    for backend, package in (("onnx", "onnxruntime"), ("openvino", "openvino")))])
def test_eight_threads_with_batches_of_other_sizes_get_their_own_answers(plan, backend):
    served = serving.service(plan, backend)
    batches = [np.random.default_rng(i).normal(size=(1 + i % 5, 3, 8, 8)).astype("float32") for i in range(8)]
    expected = [served.predict(batch) for batch in batches]

    def ask(i):
        return [served.predict(batches[i]) for _ in range(40)]

    with ThreadPoolExecutor(8) as threads:
        for i, answers in enumerate(threads.map(ask, range(8))):
            assert all(answer.shape == expected[i].shape for answer in answers)
            assert max(np.abs(answer - expected[i]).max() for answer in answers) < 1e-6


@pytest.mark.parametrize("folder", [True, False], ids=["exported", "dygraph"])
def test_arrays_of_another_kind_are_made_right_or_named(plan, exported, folder):
    """Paddle Inference ended the process on an empty batch, and had errors of its own for the others."""
    predict = serving.service(plan, exported=exported if folder else None).predict
    images = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype("float32")
    expected = predict(images)
    for same in (images.astype("float64"), images.astype(">f4"), np.asfortranarray(images), images.tolist(),
                 np.repeat(images, 2, axis=3)[..., ::2]):
        np.testing.assert_allclose(predict(same), expected, atol=1e-6)
    for wrong, says in ((images[:0], r"\[0, 3, 8, 8\]: give one or more"), (images.astype("uint8"), "are uint8"),
                        (images[0], r"\[N, 3, 8, 8\] and got \[3, 8, 8\]"), (images.transpose(0, 2, 3, 1), "and got"),
                        (images[..., :7], "and got")):
        with pytest.raises(UserError, match=says):
            predict(wrong)


@pytest.mark.parametrize("failures, said", [(1, "it is as it was"), (2, "what was there is in ")])
def test_an_export_that_cannot_be_put_in_place_loses_nothing(tmp_path, monkeypatch, failures, said):
    made, folder, left = tmp_path / "made", tmp_path / "exp", [None] * failures
    for place in (made, folder):
        place.mkdir()
        (place / "which").write_text(place.name, encoding="utf-8")
    real = serving.os.replace

    def fail(source, target):
        if str(target).endswith("exp") and left:
            left.pop()
            raise OSError("no")
        real(source, target)

    monkeypatch.setattr(serving.os, "replace", fail)
    with pytest.raises(ConfigError, match=said):
        serving._put_in_place(made, folder)
    kept = folder if failures == 1 else next(tmp_path.glob("exp.before-*"))
    assert (kept / "which").read_text(encoding="utf-8") == "exp"
    assert not files.remove_leftovers(tmp_path) and kept.is_dir()
