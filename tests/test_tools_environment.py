"""Where tools run: consoles, locales, folders and devices that are not as one wishes."""
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
CONFIG = """
Global: {epochs: 1, use_visualdl: False, device: cpu, output_dir: out, cache_features: False}
Arch: {name: vit_micro_patch4_32, img_size: 16, embed_dim: 12, depth: 1, num_heads: 2, patch_size: 8}
Tuning: {name: LinearProbe}
DataLoader:
  Train: &side
    dataset: {name: ImageFolder, root: 数据 é, transform_ops: [ResizeImage: {size: 16}, NormalizeImage: {order: ''},
      ToCHWImage: ]}
  Eval: *side
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a config, images under names of all kinds, and the tuned file of a run on them."""
    folder = tmp_path_factory.mktemp("place")
    for split in ("train", "test"):
        for k in range(4):
            path = folder / "数据 é" / split / ("图", "b\x1b]0;owned\x07")[k % 2] / f"{k}-野.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.random.RandomState(k).randint(0, 255, (16, 16, 3), np.uint8)).save(path)
    (folder / "конфиг.yaml").write_text(CONFIG, encoding="utf-8")
    done = tool(folder, "train.py", "-c", "конфиг.yaml", "-o", "Global.seed=0")
    assert done.returncode == 0, done.stderr
    folder.joinpath("tuned.safetensors").write_bytes(next(folder.glob("out/*/*/best_model.safetensors")).read_bytes())
    return folder


def tool(folder, name, *arguments, environment=None, stdout=subprocess.PIPE, python=()):
    return subprocess.run([sys.executable, *python, str(ROOT / "tools" / name), *arguments], cwd=folder, stdout=stdout,
                          stderr=subprocess.PIPE, timeout=120, env={**os.environ, **(environment or {})})


def infer(folder, *arguments, **options):
    return tool(folder, "infer.py", "-c", "конфиг.yaml", "-o", "Global.pretrained_model=tuned.safetensors", "-o",
                "Infer.infer_imgs=数据 é/test", *arguments, **options)


@pytest.mark.skipif(os.name == "nt", reason="locales of POSIX")
def test_names_of_any_script_in_a_locale_without_them(place):
    plain = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = infer(place, "-o", "Infer.save_path=answers.json", environment=plain)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode("ascii").splitlines()  # the console has no more
    assert any(r"0-\u91ce.png: " in line for line in lines)
    assert "0-野.png" in (place / "answers.json").read_text(encoding="utf-8")


def test_a_console_that_cannot_show_a_name_shows_its_escape_and_goes_on(place):
    done = infer(place, environment={"PYTHONIOENCODING": "cp1252"})
    assert done.returncode == 0, done.stderr
    said = done.stdout.decode("cp1252")
    assert said.count(r"-\u91ce.png: ") == 4 and "数" not in said


def test_a_strangers_class_name_never_steers_the_terminal(place):
    done = infer(place)
    assert done.returncode == 0 and b"\x1b" not in done.stdout + done.stderr and b"\x07" not in done.stdout
    assert rb"b\x1b]0;owned\x07" in done.stdout
    log = next(place.glob("out/*/*/train.log")).read_bytes()
    assert b"\x1b" not in log


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device")
def test_a_full_device_in_the_place_of_the_screen(place, tmp_path):
    with open("/dev/full", "w") as full:
        done = tool(place, "train.py", "-c", "конфиг.yaml", "-o", f"Global.output_dir={tmp_path}", stdout=full)
        assert b"Traceback" not in done.stderr and b"the log is no longer shown (No space left" in done.stderr
        assert done.returncode == 0 and list(tmp_path.glob("*/*/results.json"))  # the run is not lost
        done = infer(place, stdout=full)
        assert done.returncode == 1 and b"Traceback" not in done.stderr and b"error: the output" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="folders in use cannot be removed")
def test_a_current_folder_that_is_gone_is_named(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    command = f"cd {gone}; rmdir {gone}; {sys.executable} {ROOT / 'tools' / 'train.py'} -c a.yaml"
    done = subprocess.run(command, shell=True, capture_output=True, timeout=60)
    assert done.returncode == 1 and b"Traceback" not in done.stderr and b"current folder does not exist" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="HOME")
def test_a_home_in_which_paddle_can_make_nothing_is_named(place):
    done = tool(place, "train.py", "-c", "конфиг.yaml", environment={"HOME": str(place / "конфиг.yaml")})
    assert done.returncode == 1 and b"Traceback" not in done.stderr
    assert "error: Paddle cannot make its folder" in done.stderr.decode() and b"set HOME to" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX")
def test_closed_streams_a_narrow_screen_and_no_place_for_temporary_files(place, tmp_path):
    """Files that are opened do not take the place of a closed stream, where Paddle's C++ would write into them."""
    command = f"{sys.executable} {ROOT / 'tools' / 'train.py'} -c конфиг.yaml -o Global.output_dir={tmp_path}"
    done = subprocess.run(f"{command} <&- >&- 2>&-", shell=True, cwd=place, timeout=120,
                          env={**os.environ, "COLUMNS": "3", "TMPDIR": "/nope", "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0 and len(list(tmp_path.glob("*/*/results.json"))) == 1
    log, = tmp_path.glob("*/*/train.log")
    assert "results.json, train.log" in log.read_text(encoding="utf-8").splitlines()[-1]


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX")
def test_a_reader_that_has_seen_enough_does_not_end_a_run(place, tmp_path):
    command = f"{sys.executable} {ROOT / 'tools' / 'train.py'} -c конфиг.yaml -o Global.output_dir={tmp_path}"
    done = subprocess.run(f"{command} | head -1", shell=True, cwd=place, timeout=120, capture_output=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert b"Traceback" not in done.stderr and b"the log is no longer shown (Broken pipe)" in done.stderr
    assert len(done.stdout.splitlines()) == 1 and list(tmp_path.glob("*/*/results.json"))
