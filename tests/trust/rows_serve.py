"""Exported folders, what infer and export write, run folders, caches and records: files that others may have made."""
from __future__ import annotations

import functools
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import paddle
import yaml
from PIL import Image
from trust_inputs import flipped
from trust_table import Row, tool

from ppadapt import build, config
from ppadapt.config import load
from ppadapt.runs.record import Record
from ppadapt.serve import service as serving
from ppadapt.serve.export import default_kind
from ppadapt.tuning.frozen import features

OPS = [{"ResizeImage": {"size": 8}}, {"NormalizeImage": {"order": ""}}, {"ToCHWImage": None}]


@functools.lru_cache(maxsize=1)
def _made() -> Path:
    """A folder with an export of a tiny network (exported/), its tuned file and its config."""
    folder = Path(tempfile.mkdtemp(prefix="ppadapt-trust-"))
    split = {"dataset": {"name": "Digits", "transform_ops": OPS, "limit": 40}, "sampler": {"batch_size": 16}}
    plan = config.parse({
        "Arch": {"name": "vit_micro_patch4_32", "img_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2},
        "Tuning": {"name": "LinearProbe"}, "DataLoader": {"Train": split, "Eval": split}, "Global": {"device": "cpu"}})
    model = build.tuned_model(plan, [str(i) for i in range(10)])
    base = {n: p for n, p in model.adaptation.network.named_parameters() if not n.startswith("head")}
    paddle.save(base, str(folder / "base.pdparams"))
    plan.Arch.pretrained = str(folder / "base.pdparams")
    model = build.tuned_model(plan, model.classes)
    model.save(folder / "tuned.safetensors", {})
    plan.Global.pretrained_model = str(folder / "tuned.safetensors")
    (folder / "run.yaml").write_text(yaml.safe_dump(plan.to_dict()), encoding="utf-8")
    serving.export_model(plan, folder / "exported")
    return folder


def export(change=lambda folder: None, sums=False):
    """A copy of the export in ./exported, changed; an image and something of the user's beside it."""
    def make(folder):
        shutil.copytree(_made() / "exported", folder / "exported")
        Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(folder / "photo.png")
        (folder / "mine.txt").write_text("mine")
        (folder / "results").mkdir()
        change(folder / "exported")
        if not sums:
            (folder / "exported" / "SHA256SUMS").unlink(missing_ok=True)
        return folder / "exported"

    return make


def infer(folder, *more):
    return tool("infer.py", "--exported", folder, "-o", "Infer.infer_imgs=photo.png", *more)


def save_to(place):
    return lambda folder: infer(folder, "-o", f"Infer.save_path={place}")


def manifest(**changes):
    """inference.yml with entries of its ppadapt section changed, or others at the top."""
    def change(folder):
        path = folder / "inference.yml"
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        for key, value in changes.items():
            (tree if key[0].isupper() else tree["ppadapt"])[key] = value
        path.write_text(yaml.safe_dump(tree), encoding="utf-8")

    return change


def settings(**changes):
    """config.yaml with entries changed: Section_key=value."""
    def change(folder):
        path = folder / "config.yaml"
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        for key, value in changes.items():
            section, _, name = key.partition("_")
            tree[section][name] = value
        path.write_text(yaml.safe_dump(tree), encoding="utf-8")

    return change


def text(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def _flip(name, at):
    return lambda folder: (folder / name).write_bytes(flipped((folder / name).read_bytes(), at))


def _instead(name, make):
    def change(folder):
        (folder / name).unlink()
        make(folder / name)
    return change


def _without(part):
    def change(folder):
        path = folder / "SHA256SUMS"
        path.write_text("".join(line + "\n" for line in path.read_text().splitlines() if part not in line))
    return change


def refused(case, change, says, call=infer, **more):
    return Row("export", case, export(change, **more), call, says)


def right(case, change, test, call=infer, **more):
    return Row("export", case, export(change, **more), call, test)


def _labels(count):
    return manifest(PostProcess={"Topk": {"topk": 2, "label_list": [f"c{i}" for i in range(count)]}})


def _untouched(found):
    return Path("mine.txt").read_text() == "mine" and "photo.png: " in found


def export_again(folder):
    """tools/export_model.py --force over the folder."""
    return tool("export_model.py", "-c", _made() / "run.yaml", "--output", folder, "--force")


def _run_folder(folder):
    """A stranger's run: its config says where to write."""
    run = folder / "run"
    run.mkdir()
    shutil.copy(_made() / "tuned.safetensors", run / "latest.safetensors")
    tree = yaml.safe_load((_made() / "run.yaml").read_text(encoding="utf-8"))
    tree["Global"].update(output_dir="/tmp/owned", feature_cache="/tmp/owned")
    tree["Infer"]["save_path"] = "mine.txt"
    (run / "config.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    return run / "config.yaml"


def _places(loaded):
    notes = " ".join(loaded.notes)
    places = loaded.Global.output_dir, loaded.Global.feature_cache, loaded.Infer.save_path
    return places == ("output", None, None) and "Infer.save_path to 'mine.txt'" in notes and (
        "give -o Global.output_dir=" in notes)


def record(case, content, expect):
    def make(folder):
        (folder / "runs.json").write_bytes(content)
        return folder / "runs.json"

    return Row("record", case, make, Record, expect)


def cache(case, content):
    """Whatever lies in the place of kept features: they are computed anew."""
    class Batches:
        dataset = type("Data", (), {"__len__": lambda self: 2, "split": "test"})()

    def call(path):
        before = features._compute
        features._compute = lambda *_: np.ones((2, 3), np.float32)
        try:
            return features._kept_or_computed(None, Batches(), lambda items: items, None, path, "features")
        finally:
            features._compute = before

    def make(folder):
        (folder / "f.npz").write_bytes(content(folder) if callable(content) else content)
        return folder / "f.npz"

    return Row("cache", case, make, call, lambda found: found.tolist() == [[1, 1, 1]] * 2)


def _npz(**arrays):
    def content(folder):
        np.savez(folder / "x.npz", **arrays)
        return (folder / "x.npz").read_bytes()

    return content


MODEL = "inference" + {"paddle": ".json", "paddle-2.6": ".pdmodel"}[default_kind()]
ROWS = [
    right("good", lambda folder: None, _untouched),
    right("good, with its sums", lambda folder: None, _untouched, sums=True),
    refused("parameters flipped", _flip("inference.pdiparams", 500), "inference.pdiparams is not what was exported",
            sums=True),
    refused("network flipped", _flip(MODEL, 50), f"{MODEL} is not what was exported", sums=True),
    refused("class names flipped", _flip("inference.yml", 20), "inference.yml is not what was exported", sums=True),
    refused("config flipped", _flip("config.yaml", 5), "config", sums=True),
    refused("sums flipped", _flip("SHA256SUMS", 5), "is not what was exported|is no line of sha256sum", sums=True),
    refused("sums of nothing", text("SHA256SUMS", b""), "has no sum of config.yaml, inference", sums=True),
    refused("sums without the weights", _without("pdiparams"), "has no sum of inference.pdiparams", sums=True),
    refused("sums that are a pipe", _instead("SHA256SUMS", os.mkfifo), "SHA256SUMS is no file", sums=True),
    refused("sums that are a device", _instead("SHA256SUMS", lambda path: os.symlink("/dev/zero", path)),
            "SHA256SUMS is no file", sums=True),
    refused("sums of a path", text("SHA256SUMS", b"0" * 64 + b"  ../mine.txt\n"), "is no line of sha256sum", sums=True),
    refused("sums that are binary", text("SHA256SUMS", bytes(range(256))), "cannot be read", sums=True),
    refused("parameters gone", lambda folder: (folder / "inference.pdiparams").unlink(),
            "inference.pdiparams does not"),
    refused("manifest gone", lambda folder: (folder / "inference.yml").unlink(), "it has no inference.yml"),
    refused("manifest empty", text("inference.yml", b""), "inference.yml is not of `ppadapt export`"),
    refused("manifest binary", text("inference.yml", bytes(range(256))), "inference.yml is not of `ppadapt export`"),
    refused("manifest that runs", text("inference.yml", b"a: !!python/object/apply:os.mkdir [OWNED]\n"),
            "inference.yml is not of `ppadapt export`"),
    refused("manifest of aliases", text("inference.yml", b"a: &a [x,x]\n" + b"".join(
        b"%c: &%c [*%c,*%c]\n" % (c + 1, c + 1, c, c) for c in range(97, 120))), "PPADAPT_MAX_YAML_VALUES"),
    refused("format a list", manifest(format=["paddle"]), "is unknown.*Choose from: paddle"),
    refused("format unknown", manifest(format="tf"), "'tf' is unknown. Choose from: paddle"),
    refused("shape a text", manifest(input={"shape": "big"}), "input.shape is 'big'"),
    refused("shape huge", manifest(input={"shape": [None, 3, 10**9, 10**9]}), "input.shape is"),
    refused("too few names", _labels(3), "answers with .10. numbers and inference.yml names 3 classes"),
    refused("too many names", _labels(30), "answers with .10. numbers and inference.yml names 30 classes"),
    refused("names that are numbers", manifest(PostProcess={"Topk": {"topk": 1, "label_list": [1, 2]}}),
            "expected names"),
    right("names of control characters", manifest(PostProcess={"Topk": {"topk": 1, "label_list": [
        f"\x1b[2J\x07{i}\u202e" for i in range(10)]}}), lambda found: r"\x1b[2J\x07" in found and "\x1b" not in found),
    refused("transforms unknown", manifest(PreProcess={"transform_ops": [{"Evil": None}]}), "'Evil' is unknown"),
    right("config that sets save_path", settings(Infer_save_path="mine.txt"), _untouched),
    right("config that sets output_dir", settings(Global_output_dir="/tmp/owned"), _untouched),
    refused("save_path a folder", lambda folder: None, "results is a folder: give the name of a file",
            save_to("results")),
    refused("save_path the image", lambda folder: None, "is one of the images", save_to("photo.png")),
    refused("save_path the image, by another way", lambda folder: None, "is one of the images",
            save_to("results/../photo.png")),
    refused("save_path a file of the user", lambda folder: None, "holds no answers of an earlier call",
            save_to("mine.txt")),
    refused("save_path without its folder", lambda folder: None, "the folder none does not exist",
            save_to("none/a.csv")),
    right("save_path twice", lambda folder: None, lambda found: len(json.loads(Path("a.json").read_text())) == 1,
          lambda folder: (save_to("a.json")(folder), save_to("a.json")(folder))),
    right("save_path twice, csv", lambda folder: None, lambda found: Path("a.csv").read_text().startswith("file,rank"),
          lambda folder: (save_to("a.csv")(folder), save_to("a.csv")(folder))),
    refused("--force over a folder with more", text("thesis.txt", b"mine"), "holds thesis.txt beside an export",
            export_again),
    right("--force over an export", lambda folder: None, lambda found: Path("exported/SHA256SUMS").is_file(),
            export_again),
    Row("export", "--force over a folder that only has the name", lambda folder: _only_named(folder), export_again,
        "holds thesis.txt beside an export"),
    Row("run", "a run's config does not say where to write", _run_folder, load, _places),
    Row("run", "but its user does", _run_folder, lambda path: load(path, ["Global.output_dir=here"]),
        lambda loaded: loaded.Global.output_dir == "here"),
    record("good", b"[]", lambda found: found.runs == []), record("a text", b'"abc"',
            "cannot be read as a list of runs"),
    record("a list of texts", b'["abc"]', "cannot be read as a list of runs"),
    record("deep", b"[" * 100_000, "cannot be read as a list of runs"),
    record("binary", bytes(range(256)), "cannot be read as a list of runs"),
    record("a hundred thousand runs", b"[" + b'{"config": {"Arch": {"nam": 1}}},' * 100_000 + b"{}]",
           "100,001 runs, where"),
    record("cut", b'[{"config": ', "cannot be read as a list of runs"),
    record("a config that is none", b'[{"config": 5, "data": [1]}]', lambda found: len(found.runs) == 1),
    cache("text", b"hello"), cache("one array", lambda folder: _one_array(folder)),
    cache("not finite", _npz(features=np.full((2, 3), np.nan, "f4"))), cache("of others", _npz(other=np.ones(3))),
    cache("another shape", _npz(features=np.ones((3, 3), "f4"))),
    cache("objects", _npz(features=np.array([{}], object))),
]


def _one_array(folder):
    np.save(folder / "y.npy", np.ones(3))
    return (folder / "y.npy").read_bytes()


def _only_named(folder):
    (folder / "exported").mkdir()
    for name in ("inference.yml", "thesis.txt"):
        (folder / "exported" / name).touch()
    return folder / "exported"
