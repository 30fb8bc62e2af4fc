"""A checkpoint's folder: whole or not there at every moment, whatever is killed, damaged, copied or mixed up."""
import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import paddle
import pytest
from test_training import plan, same, tuned

from ppadapt import build, weights
from ppadapt.engine import checkpoint
from ppadapt.engine.checkpoint import DamagedCheckpoint
from ppadapt.errors import ConfigError, UserError
from ppadapt.runs import experiment


class Killed(BaseException):
    """The process ends here."""


def write(parent, step, value=0.0):
    best = parent.parent / f"best-{step}"
    best.parent.mkdir(exist_ok=True, parents=True)
    best.write_bytes(b"best of %d" % step)
    return checkpoint.write(parent, step, lambda path: path.write_bytes(b"tuned of %d" % step),
                            {"x": np.full(3, value, np.float32)}, {"step": step, "value": value}, best)


def killed_at(monkeypatch, name, call):
    """The process ends before this call of os.rename or shutil.rmtree; what it would tidy up stays."""
    module, attribute = {"rename": (os, "rename"), "rmtree": (shutil, "rmtree")}[name]
    real, calls = getattr(module, attribute), []

    def killed(*args, **named):
        calls.append(1)
        if len(calls) >= call:
            raise Killed
        return real(*args, **named)

    monkeypatch.setattr(module, attribute, killed)


@pytest.mark.parametrize("name, call", [("rename", 1), ("rename", 2), ("rename", 3), ("rmtree", 1)])
def test_the_same_step_saved_again_is_there_at_every_moment(tmp_path, monkeypatch, name, call):
    """As at the end of an epoch whose last step was saved: the older goes only when the new one is in its place."""
    parent = tmp_path / "run" / "ckpt"
    write(parent, 2)
    write(parent, 4, 1.0)
    with monkeypatch.context() as patch:
        killed_at(patch, name, call)
        with pytest.raises(Killed):
            write(parent, 4, 2.0)
    found, wrong = checkpoint.newest(tmp_path)
    assert found.progress["step"] == 4 and not wrong and checkpoint.find(str(parent.parent)) == found.folder
    assert found.progress["value"] == (1.0 if (name, call) in (("rename", 1), ("rename", 2)) else 2.0)
    write(parent, 4, 3.0)
    assert [path.name for path in checkpoint.steps(parent)] == ["step-000002", "step-000004"]
    assert checkpoint.read(parent / "step-000004").progress["value"] == 3.0


def damage(folder, name, how):
    path = folder / name
    older = folder.with_name("step-000003") / (checkpoint.TUNED if name == checkpoint.BEST else name)
    data = bytearray(path.read_bytes())
    if how == "flipped":
        data[len(data) // 2] ^= 1
    elif how == "truncated":
        del data[len(data) // 2:]
    elif how == "empty":
        data.clear()
    elif how == "swapped":
        data = older.read_bytes()
    path.unlink()  # the best model may be one file with that of the run
    if how != "missing":
        path.write_bytes(data)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of six steps, whose checkpoints are of steps 3 and 6."""
    return experiment.train(plan(tmp_path_factory.mktemp("trained")))


@pytest.mark.parametrize("how", ["flipped", "truncated", "missing", "empty", "swapped"])
@pytest.mark.parametrize("name", [checkpoint.TUNED, checkpoint.STATE, checkpoint.BEST, checkpoint.PROGRESS])
def test_each_file_that_is_damaged_is_named_and_the_checkpoint_before_it(tmp_path, trained, name, how):
    parent = tmp_path / "run" / "now" / "ckpt"
    shutil.copytree(Path(trained["folder"]) / "ckpt", parent)
    newest = parent / "step-000006"
    damage(newest, name, how)
    with pytest.raises(DamagedCheckpoint) as error:
        checkpoint.read_or_advise(newest)
    assert str(error.value).startswith(f"{newest} is damaged: {name}: ") and len(str(error.value).splitlines()) == 1
    assert str(error.value).endswith(f"Go on from the one before: Global.checkpoints={parent / 'step-000003'}")
    found, wrong = checkpoint.newest(tmp_path / "run")
    assert found.folder.name == "step-000003" and len(wrong) == 1 and f"damaged: {name}" in wrong[0]


@pytest.mark.skipif(os.name == "nt", reason="links and pipes")
@pytest.mark.parametrize("name", [checkpoint.TUNED, checkpoint.STATE, checkpoint.BEST, checkpoint.PROGRESS])
@pytest.mark.parametrize("what", ["a device", "a pipe", "a folder"])
def test_what_is_no_file_is_not_read(tmp_path, name, what):
    """A device or a pipe of a stranger would be read for ever."""
    folder = write(tmp_path / "run" / "ckpt", 4)
    (folder / name).unlink()
    make = {"a device": lambda path: path.symlink_to("/dev/zero"), "a pipe": os.mkfifo, "a folder": os.mkdir}[what]
    make(folder / name)
    with pytest.raises(DamagedCheckpoint, match=f"is damaged: {name}: it is no file$"):
        checkpoint.read(folder)


@pytest.mark.parametrize("change", [dict.clear, lambda sums: sums.pop(checkpoint.TUNED),
                                    lambda sums: sums.update({"../../outside": "0"}),
                                    lambda sums: sums.update({"/dev/zero": "0"})])
def test_a_checkpoint_has_sums_of_its_own_files_and_no_others(tmp_path, change):
    """Of a file without one a flipped bit would pass; others are none of its business."""
    folder = write(tmp_path / "run" / "ckpt", 4)
    content = json.loads(json.loads((folder / checkpoint.PROGRESS).read_text(encoding="utf-8"))["content"])
    change(content["files"])
    text = json.dumps(content)
    (folder / checkpoint.PROGRESS).write_text(json.dumps(
        {"sha256": hashlib.sha256(text.encode()).hexdigest(), "content": text}), encoding="utf-8")
    with pytest.raises(DamagedCheckpoint, match="is damaged: progress.json: it names the files "):
        checkpoint.read(folder)


def test_where_none_is_whole_that_is_said(tmp_path, trained):
    parent = tmp_path / "run" / "now" / "ckpt"
    shutil.copytree(Path(trained["folder"]) / "ckpt", parent)
    for step in checkpoint.steps(parent):
        (step / checkpoint.STATE).write_bytes(b"")
    with pytest.raises(ConfigError, match="no whole one is beside it. Start from a tuned file alone"):
        checkpoint.read_or_advise(parent / "step-000006")
    found, wrong = checkpoint.newest(tmp_path / "run")
    assert found is None and len(wrong) == 2


def test_auto_takes_the_newest_step_of_a_copied_run(tmp_path):
    """Which has the times of its copying."""
    parent = tmp_path / "run" / "now" / "ckpt"
    older, newer = write(parent, 2), write(parent, 4)
    os.utime(newer, (1, 1))
    os.utime(older, (2, 2))
    assert checkpoint.newest(tmp_path / "run")[0].folder == newer


def test_a_run_that_was_cut_before_its_evaluation_keeps_the_learning_rate_of_its_last_step(tmp_path):
    """A checkpoint at the last step of an epoch, before the evaluation: no batch is left that would tell it."""
    whole = experiment.train(plan(tmp_path, Global__epochs=2, Global__save_interval_steps=3))
    job, _ = build.job(plan(tmp_path, Global__epochs=2, Global__save_interval_steps=3))
    job.eval_loader = Stops()
    with pytest.raises(Killed):
        experiment.run_training(job)
    rest = experiment.train(plan(tmp_path, Global__epochs=2, Global__checkpoints=str(job.folder)))
    assert [row["lr"] for row in rest["history"]] == [row["lr"] for row in whole["history"]]
    assert same(tuned(whole), tuned(rest))


class Stops:
    def __iter__(self):
        raise Killed

    def __len__(self):
        return 1


def test_a_run_with_nothing_left_has_its_files_nevertheless(tmp_path):
    first = experiment.train(plan(tmp_path, EMA__decay=0.9))
    again = experiment.train(plan(tmp_path, EMA__decay=0.9, Global__checkpoints=first["folder"]))
    for name in ("latest", "best_model"):
        assert same(tuned(first, name), tuned(again, name))
    assert weights.load_tuned(again["folder"] + "/latest.safetensors")[1]["metrics"]["epoch"] == 2


@pytest.mark.parametrize("value, said", [
    (float("nan"), "head.1.weight, head.1.weight: moment1_0.* holds NaN or infinity"),
    (1e25, "head.1.weight: moment2_0 holds NaN or infinity"),
], ids=["NaN", "too large to be squared"])
def test_a_gradient_that_is_no_number_stops_before_it_is_saved(tmp_path, monkeypatch, value, said):
    """With one too large for AdamW's square the weights stay finite, and never move again."""
    job, model = build.job(plan(tmp_path, Global__save_interval_steps=1))
    weight, step, steps = model.adaptation.trained_parameters()["head.1.weight"], job.optimizer.step, []

    def broken():
        steps.append(1)
        if len(steps) == 2:
            paddle.assign(paddle.full_like(weight.grad, value), weight.grad)
        step()

    monkeypatch.setattr(job.optimizer, "step", broken)
    with pytest.raises(UserError, match=rf"^in epoch 1, after step 2, learning rate 0\.00\d+, {said}") as error:
        experiment.run_training(job)
    assert str(error.value).endswith("lower Optimizer.lr.learning_rate, or clip with Optimizer.clip_norm=1.0")
    kept, = checkpoint.steps(job.folder / "ckpt")
    assert kept.name == "step-000001" and all(
        np.isfinite(array).all() for array in weights.load_tuned(checkpoint.read(kept).tuned)[0].values())
