"""tools/convert_weights.py as a user runs it: files, exit codes, one line for a mistake."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ppadapt.cli import convert as tool
from ppadapt.weights import digest, load_tuned, load_weights, read_file, save_safetensors, write_torch

TOOL = Path(__file__).resolve().parents[2] / "tools" / "convert_weights.py"


def run(*arguments):
    return tool.main([str(a) for a in arguments])


def test_it_runs_from_anywhere_without_installation_or_torch(golden_dir, tmp_path):
    code = (
        "import os, runpy, sys; sys.modules['torch'] = sys.modules['paddle'] = None; sys.argv = sys.argv[1:]; "
        "sys.path[0] = os.path.dirname(sys.argv[0]); runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    source = golden_dir("jax_npz") / "checkpoint.npz"
    done = subprocess.run(
        [sys.executable, "-c", code, TOOL, "--input", source, "--output", tmp_path / "a.pdparams"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and done.stderr == ""
    for line in (
        "layout     jax",
        "mapped     56 names of the file -> 44 tensors",
        "missing    0",
        "unexpected 0",
        "digest",
    ):
        assert line in done.stdout
    assert (tmp_path / "a.pdparams").exists()


def test_formats_agree(golden_dir, tmp_path, capsys):
    source = golden_dir("timm_state_dict") / "legacy.pth"
    assert run("--input", source, "--output", tmp_path / "a.pdparams") == 0
    assert run("--input", source, "--output", tmp_path / "a.safetensors") == 0
    assert run("--input", tmp_path / "a.safetensors", "--output", tmp_path / "b.pdparams") == 0
    expected = digest(load_weights(source).tensors)
    assert digest(load_weights(tmp_path / "b.pdparams").tensors) == expected
    assert capsys.readouterr().out.count(expected) == 3
    assert run("--input", source, "--output", tmp_path / "h.pdparams", "--dtype", "float16") == 0
    half = load_weights(tmp_path / "h.pdparams").tensors
    assert (
        all(array.dtype == np.float16 for array in half.values()) and digest(half) in capsys.readouterr().out
    )


def test_a_finetuned_checkpoint_becomes_a_tuned_file_and_goes_back(golden_dir, tmp_path, capsys):
    folder = golden_dir("image_parallel_cls")
    tuned = tmp_path / "tuned.safetensors"
    assert run("--input", folder / "finetuned.pth", "--output", tuned) == 0
    assert "warning: the file does not tell the adapter's place" in capsys.readouterr().err
    tensors, manifest = load_tuned(tuned)
    assert len(tensors) == 16 and set(manifest) == {
        "format_version",
        "digest",
        "tuning",
        "backbone",
        "head",
        "preprocess",
        "classes",
        "metrics",
    }
    assert manifest["head"] == "BatchNormLinear" and manifest["backbone"]["options"] == {
        "embed_dim": 64,
        "patch_size": 8,
        "depth": 3,
        "img_size": 32,
        "mlp_ratio": 4.0,
        "pool": "cls",
    }
    assert manifest["backbone"]["digest"] == digest(load_weights(folder / "pretrain.pth").tensors)

    assert (
        run(
            "--to",
            "torch",
            "--input",
            tuned,
            "--base",
            folder / "pretrain.pth",
            "--output",
            tmp_path / "back.pth",
        )
        == 0
    )
    assert capsys.readouterr().err == ""
    back, theirs = read_file(tmp_path / "back.pth").tensors, read_file(folder / "finetuned.pth").tensors
    assert set(back) == set(theirs)
    assert all(np.array_equal(back[n], a) for n, a in theirs.items() if not n.endswith("num_batches_tracked"))

    assert (
        run(
            "--to",
            "torch",
            "--input",
            tuned,
            "--base",
            golden_dir("image_vpt") / "pretrain.pth",
            "--output",
            tmp_path / "other.pth",
        )
        == 0
    )
    assert "was tuned on a backbone of digest" in capsys.readouterr().err


def test_nothing_is_overwritten_without_force(golden_dir, tmp_path, capsys):
    source, target = golden_dir("timm_state_dict") / "legacy.pth", tmp_path / "a.pdparams"
    target.write_bytes(b"old")
    assert run("--input", source, "--output", target) == 1
    assert target.read_bytes() == b"old" and "--force" in capsys.readouterr().err
    assert run("--input", source, "--output", target, "--force") == 0
    assert run("--input", target, "--output", target, "--force") == 1
    assert "is the file to be read" in capsys.readouterr().err


def test_unaccounted_names_exit_with_1_and_write_nothing(golden_dir, tmp_path, capsys):
    tensors = dict(read_file(golden_dir("timm_state_dict") / "legacy.pth").tensors)
    target = tmp_path / "a.pdparams"
    for change in ("add", "remove"):
        if change == "add":
            broken = dict(tensors, **{"blocks.0.attn.q_norm.weight": np.ones(16, "f4")})
        else:
            broken = {name: array for name, array in tensors.items() if name != "blocks.2.mlp.fc2.bias"}
        write_torch(str(tmp_path / "x.pth"), broken)
        assert run("--input", tmp_path / "x.pth", "--output", target) == 1
        out, err = capsys.readouterr()
        assert ("q_norm" if change == "add" else "blocks.2.mlp.fc2.bias") in out
        assert "nothing was written" in err and not target.exists()


@pytest.mark.parametrize(
    "arguments,says",
    [
        (("--input", "none.pth", "--output", "a.pdparams"), "none.pth does not exist"),
        (("--input", "x", "--output", "a.txt"), r"ends in .txt.*\.pdparams or \.safetensors"),
        (("--input", "x", "--output", "a.pth"), "add --to torch"),
        (("--input", "x", "--output", "a.pdparams", "--base", "b"), "--base belongs to --to torch"),
        (("--input", "x", "--output", "a.pdparams", "--dtype", "int8"), "invalid choice"),
        (("--output", "a.pdparams"), "--input"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, monkeypatch, capsys, arguments, says):
    import re

    monkeypatch.chdir(tmp_path)
    try:
        code = run(*arguments)
    except SystemExit as stop:
        code = stop.code
    err = capsys.readouterr().err
    assert (
        code and len(err.strip().splitlines()) == 1 and re.search(says, err) and not list(tmp_path.iterdir())
    )


def test_a_failed_write_is_reported_and_leaves_nothing(golden_dir, tmp_path, capsys):
    source = golden_dir("timm_state_dict") / "legacy.pth"
    (tmp_path / "file").write_text("not a folder")
    assert run("--input", source, "--output", tmp_path / "file" / "a.pdparams") == 1
    assert capsys.readouterr().err.startswith("error: ")
    save_safetensors(
        str(tmp_path / "big.safetensors"),
        {n: a * np.float32(1e6) for n, a in load_weights(source).tensors.items()},
        {"format": "ppadapt.network"},
    )
    assert (
        run(
            "--input", tmp_path / "big.safetensors", "--output", tmp_path / "h.pdparams", "--dtype", "float16"
        )
        == 1
    )
    assert "use --dtype float32" in capsys.readouterr().err and not (tmp_path / "h.pdparams").exists()


def test_names_of_a_strangers_file_do_not_drive_the_terminal(golden_dir, tmp_path, capsys):
    tensors = dict(load_weights(golden_dir("jax_npz") / "checkpoint.npz").tensors)
    tensors["\x1b]0;owned\x07blocks.0.attn.q_norm.weight"] = np.ones(4, np.float32)
    save_safetensors(str(tmp_path / "a.safetensors"), tensors, {})
    run("--input", tmp_path / "a.safetensors", "--output", tmp_path / "b.pdparams")
    said = capsys.readouterr()
    assert "owned" in said.out + said.err and "\x1b" not in said.out + said.err and "\x07" not in said.out + said.err
