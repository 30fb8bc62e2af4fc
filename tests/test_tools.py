"""The tools from the command line: what works, and that a user's mistake is one line without a traceback."""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ppadapt import config

ROOT = Path(__file__).resolve().parent.parent
DIGITS = "configs/digits/vit_micro_adaptformer.yaml"
# A run of seconds: three batches of the real network.
SHORT = ["Global.epochs=1", "Global.eval_interval=0", "DataLoader.Train.dataset.limit=48",
         "DataLoader.Train.sampler.batch_size=16", "DataLoader.Eval.dataset.limit=20", "Optimizer.lr.warmup_epoch=0"]


def tool(name, *arguments, overrides=(), cwd=ROOT):
    command = [sys.executable, str(ROOT / "tools" / name), *map(str, arguments)]
    for override in overrides:
        command += ["-o", str(override)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300,
                          env={**os.environ, "PYTHONIOENCODING": "utf-8"})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A short run of tools/train.py: its folder."""
    out = tmp_path_factory.mktemp("out")
    done = tool("train.py", "-c", DIGITS, overrides=[*SHORT, f"Global.output_dir={out}"])
    assert done.returncode == 0, done.stderr
    assert "| AdaptFormer" in done.stdout
    folder, = (out / "digits-vit_micro_adaptformer").iterdir()
    assert "training images are transformed in whole batches" in (folder / "train.log").read_text(encoding="utf-8")
    return folder


def test_eval_repeats_what_training_measured(trained):
    results = json.loads((trained / "results.json").read_text(encoding="utf-8"))
    done = tool("eval.py", "-c", DIGITS, overrides=[
        *SHORT, f"Global.pretrained_model={trained / 'best_model.safetensors'}"])
    assert done.returncode == 0, done.stderr
    assert f"loss: {results['loss']:.5f}, top1: {results['top1']:.5f}" in done.stdout


def test_infer_on_a_folder_and_a_broken_file(trained, tmp_path):
    photos = tmp_path / "照片"
    photos.mkdir()
    Image.fromarray(np.zeros((8, 8), "uint8")).save(photos / "a.png")
    Image.fromarray(np.full((20, 30, 3), 200, "uint8")).save(photos / "b.jpg")
    (photos / "c.png").write_bytes(b"not an image")
    tuned = f"Global.pretrained_model={trained / 'best_model.safetensors'}"
    done = tool("infer.py", "-c", DIGITS, overrides=[tuned, f"Infer.infer_imgs={photos}", "Infer.topk=2",
                                                     f"Infer.save_path={tmp_path / 'answers.json'}"])
    assert done.returncode == 0, done.stderr
    answers = json.loads((tmp_path / "answers.json").read_text(encoding="utf-8"))
    assert [Path(a["file"]).name for a in answers] == ["a.png", "b.jpg"]
    first = answers[0]["predictions"]
    assert len(first) == 2 and 1 >= first[0]["probability"] >= first[1]["probability"] > 0
    assert "c.png" in done.stderr
    answers = [line.partition(": ")[0] for line in done.stdout.splitlines()]
    assert answers == [str(photos / "a.png"), str(photos / "b.jpg")], "the log is not among what can be piped"


def test_resume_goes_on(trained, tmp_path):
    done = tool("train.py", "-c", DIGITS, overrides=[
        *SHORT, "Global.epochs=2", f"Global.output_dir={tmp_path}", f"Global.checkpoints={trained / 'latest'}"])
    assert done.returncode == 0, done.stderr
    assert "resumed after epoch 1" in done.stdout and "[Epoch 2/2]" in done.stdout


@pytest.mark.parametrize("name, arguments, message", [
    ("train.py", ["-c", "configs/digit.yaml"], "configs/digit.yaml does not exist"),
    ("train.py", ["-c", DIGITS, "-o", "Tuning.bottlenek=3"], "Did you mean 'bottleneck'?"),
    ("train.py", ["-c", "configs/cifar10/vit_micro_vpt.yaml", "-o", "DataLoader.Train.dataset.root=/nowhere.tar.gz"],
     "/nowhere.tar.gz"),
    ("eval.py", ["-c", DIGITS], "the head is not trained"),
    ("infer.py", ["-c", DIGITS], "Infer.infer_imgs is missing"),
    ("infer.py", ["-c", DIGITS, "-o", "Infer.infer_imgs=/nowhere", "-o", "Global.pretrained_model=x"], "/nowhere"),
    ("compare.py", ["-c", DIGITS, "--methods", "linaer"], "Did you mean 'linear'?"),
    ("compare.py", ["-c", DIGITS, "--seeds", "a"], "neither how many (3 means 0,1,2) nor a list"),
    ("compare.py", ["-c", DIGITS, "--methods", "adaptformer,linear", "--sweep", "Tuning.bottleneck=1,4"],
     "linear, bottleneck=1: option of Tuning (LinearProbe): 'bottleneck' is unknown"),
])
def test_mistakes_are_one_line(name, arguments, message):
    done = tool(name, *arguments)
    error = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1 and len(error) == 1 and message in error[0], done.stderr
    assert "Traceback" not in done.stderr


TOOLS = {"train": "train", "eval": "eval", "infer": "infer", "compare": "compare", "demo": "demo",
         "convert_weights": "convert", "export_model": "export", "make_mosaics": "mosaics"}


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_is_the_command_and_its_help_imports_no_paddle(name):
    path = str(ROOT / "tools" / f"{name}.py")
    code = (f"import runpy, sys\nsys.argv = ['x', '--help']\ntry:\n    runpy.run_path({path!r}, run_name='__main__')\n"
            "except SystemExit as end:\n    assert not end.code\nassert 'paddle' not in sys.modules")
    done = subprocess.run([sys.executable, "-c", code],
                          cwd=ROOT / "tools", capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "."})
    assert done.returncode == 0, done.stderr
    assert f"usage: ppadapt {TOOLS[name]} " in done.stdout


@pytest.mark.parametrize("path", sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("configs/**/*.yaml")
                                        if not p.name.startswith("_") and "_base_" not in p.parts))
def test_every_config_loads_and_says_how_to_run_it(path):
    loaded = config.load(ROOT / path)
    text = (ROOT / path).read_text(encoding="utf-8")
    name = path.removeprefix("configs/").removesuffix(".yaml")  # as a wheel without a checkout finds it
    assert config.find(name).samefile(ROOT / path)
    assert re.search(rf"ppadapt (train|eval) -c {re.escape(name)}\b", text)
    assert "# Needs:" in text and "# Result:" in text and "@" not in text
    assert config.parse(loaded.to_dict()) == loaded
