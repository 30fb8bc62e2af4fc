"""Runs of a small network on the digits, as a user starts them: files, resuming, accumulation, stops."""
import json
from pathlib import Path

import numpy as np
import paddle
import pytest
import yaml
from paddle import nn

from ppadapt import build, config, paddle_compat, weights
from ppadapt.engine import checkpoint, memory
from ppadapt.engine import loop as train_module
from ppadapt.engine.amp import Precision
from ppadapt.engine.loop import TrainingError
from ppadapt.engine.progress import Progress, Saver
from ppadapt.engine.stopping import Stopping
from ppadapt.errors import UserError
from ppadapt.runs import experiment
from ppadapt.tuning.frozen.onednn.support import bfloat16_obstacle
from ppadapt.tuning.frozen.onednn.support import usable as onednn_usable

OPS = [{"ResizeImage": {"size": 32}}, {"NormalizeImage": {"mean": [0.5] * 3, "std": [0.5] * 3, "order": ""}},
       {"ToCHWImage": None}]


def plan(tmp_path, **sections):
    """A config of a small network; `Global__epochs=2` sets Global.epochs."""
    split = {"dataset": {"name": "Digits", "limit": 48, "transform_ops": OPS}, "sampler": {"batch_size": 16}}
    train = {**split, "dataset": {**split["dataset"], "transform_ops": [
        OPS[0], {"Pad": {"padding": 4}}, {"RandCropImageV2": {"size": 32}}, *OPS[1:]]}}
    tree = {"Global": {"epochs": 2, "output_dir": str(tmp_path / "out"), "use_visualdl": False, "device": "cpu"},
            "Arch": {"name": "vit_micro_patch4_32", "embed_dim": 24, "depth": 2, "num_heads": 2, "patch_size": 8},
            "Tuning": {"name": "AdaptFormer", "bottleneck": 4},
            "Optimizer": {"name": "AdamW", "lr": {"name": "Cosine", "learning_rate": 0.01}},
            "DataLoader": {"Train": train, "Eval": split}}
    for key, value in sections.items():
        section, _, name = key.partition("__")
        if name:
            tree.setdefault(section, {})[name] = value
        else:
            tree[section] = value
    return config.parse(tree)


def tuned(results, name="latest"):
    return weights.load_tuned(f"{results['folder']}/{name}.safetensors")[0]


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[n], b[n]) for n in a)


def test_a_run_leaves_its_files_and_its_results(tmp_path):
    results = experiment.train(plan(tmp_path, Global__use_visualdl=True))
    folder = tmp_path / "out" / "run"
    folder, = folder.iterdir()
    assert {p.name for p in folder.iterdir()} == {"config.yaml", "train.log", "best_model.safetensors",
                                                  "latest.safetensors", "confusion.png", "per_class.png",
                                                  "mistakes.png", "ckpt", "results.json", "vdl"}
    record = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert record["top1"] == pytest.approx(results["top1"]) and len(record["history"]) == 2
    assert record["trained_parameters"] == 2 * (2 * 24 * 4 + 24 + 4) + 24 * 10 + 10
    assert paddle_compat.missing("count of a run's memory") or record["peak_memory_mb"] > 0
    assert record["seconds"] > 0 and len(record["backbone_digest"]) == 64
    assert list((folder / "vdl").iterdir())
    log = (folder / "train.log").read_text(encoding="utf-8")
    assert "[Train][Epoch 1/2][Iter: 0/3]lr(Cosine)" in log and "eta:" in log and "[Eval][Epoch 2][Avg]loss" in log
    again = experiment.evaluate(config.load(folder / "config.yaml", [
        f"Global.pretrained_model={folder / 'latest.safetensors'}"]))
    assert again["top1"] == results["top1"] and again["loss"] == pytest.approx(results["loss"], rel=1e-6)


def test_a_resumed_run_equals_one_that_never_stopped(tmp_path):
    options = {"EMA__decay": 0.9, "Optimizer": {"name": "Momentum", "momentum": 0.9, "lr": {
        "name": "Cosine", "learning_rate": 0.05, "warmup_epoch": 1}}}
    whole = experiment.train(plan(tmp_path, Global__epochs=4, **options))
    job, model = build.job(plan(tmp_path, Global__epochs=4, **options))
    job.epochs = 2  # stopped half-way through the schedule of four epochs
    experiment.run_training(job)
    rest = experiment.train(plan(tmp_path, Global__epochs=4, Global__checkpoints=str(job.folder), **options))
    assert same(tuned(whole), tuned(rest))
    assert whole["loss"] == rest["loss"] and len(rest["history"]) == 4


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tmp_path):
    a, b, c = (tuned(experiment.train(plan(tmp_path, Global__seed=seed, Global__epochs=1))) for seed in (3, 3, 4))
    assert same(a, b) and not same(a, c)


def test_accumulated_batches_step_as_one(tmp_path):
    """With a head without BatchNorm and no dropout, two batches of 8 are one of 16."""
    common = {"Arch__head": "Linear", "Tuning": {"name": "AdaptFormer", "bottleneck": 4, "dropout": 0.0},
              "Global__epochs": 1}
    whole = plan(tmp_path, **common)
    halves = plan(tmp_path, Global__update_freq=2, **common)
    halves.DataLoader.Train.sampler.batch_size = 8
    a, b = tuned(experiment.train(whole)), tuned(experiment.train(halves))
    assert all(np.allclose(a[n], b[n], atol=2e-5) for n in a)


def test_a_loss_that_is_not_finite_stops_and_says_where(tmp_path):
    options = {"Optimizer": {"name": "SGD", "lr": {"name": "Constant", "learning_rate": 1000.0}},
               "Arch__head": "Linear", "Loss": {"Train": [{"CELoss": {"weight": 1e6}}]}}
    diverging = plan(tmp_path, **options)
    diverging.DataLoader.Train.sampler.batch_size = 8
    with pytest.raises(TrainingError, match=r"at epoch 1, step \d+, learning rate 1e\+03: lower"):
        experiment.train(diverging)


class Overflowing:
    """A loss scaler on a device with float16; the gradients of the first `steps` overflow."""

    def __init__(self, steps, dynamic=True):
        self.steps, self.dynamic, self._cache_found_inf = steps, dynamic, None

    def scale(self, loss):
        return loss

    def step(self, optimizer):
        self._cache_found_inf = self.steps > 0
        self.steps -= 1
        if not self._cache_found_inf:
            optimizer.step()

    def update(self):
        pass

    def is_use_dynamic_loss_scaling(self):
        return self.dynamic

    def state_dict(self):
        return {}


def overflowing(tmp_path, scaler, epochs):
    """A run of 12 steps an epoch."""
    made = plan(tmp_path, Global__epochs=epochs)
    made.DataLoader.Train.sampler.batch_size = 4
    job, _ = build.job(made)
    job.precision.scaler = scaler
    return job


def logged(job):
    return (job.folder / "train.log").read_text(encoding="utf-8")


def test_float16_whose_every_step_overflows_stops_and_keeps_what_was_learnt(tmp_path):
    job = overflowing(tmp_path, Overflowing(1000), 4)
    with pytest.raises(TrainingError, match=r"in epoch 2, .*none of its 12 steps was taken, .* overflowed float16: "
                                            r"nothing was learnt. Use AMP.dtype=bfloat16"):
        experiment.run_training(job)
    assert logged(job).count("the last 20 steps were left out") == 1
    assert checkpoint.is_whole(job.folder / "ckpt" / "step-000012")
    with pytest.raises(TrainingError, match="in epoch 1, .*none of its 12 steps"):  # a scale that stays will not fit
        experiment.run_training(overflowing(tmp_path / "fixed", Overflowing(12, dynamic=False), 2))


def test_float16_that_finds_its_scale_goes_on_and_says_what_was_left_out(tmp_path):
    job = overflowing(tmp_path, Overflowing(13), 2)
    assert len(experiment.run_training(job)["history"]) == 2 and "nothing is learnt" not in logged(job)
    assert "of epoch 1 12 of 12 steps were left out" in logged(job)
    assert "of epoch 2 1 of 12 steps were left out" in logged(job)


def test_memory_that_paddle_cannot_count_is_not_said(monkeypatch):
    monkeypatch.setattr(paddle_compat, "reset_tensor_peak", lambda: False)
    assert memory.Peak().mb() is None
    assert experiment.memory(None) == "-"


@pytest.mark.needs_paddle("count of a run's memory")
def test_the_memory_of_a_run_is_that_of_its_tensors():
    peak = memory.Peak()
    before = peak.mb()
    big = paddle.ones([3, 2**20])
    del big
    assert peak.mb() == pytest.approx(before + 12, abs=0.1)
    # What an earlier run freed is not this run's.
    assert memory.Peak().mb() == pytest.approx(before, abs=0.1)


def test_frozen_tensors_are_checked(tmp_path):
    job, model = build.job(plan(tmp_path, Global__epochs=1))
    job.schedule.step = lambda: model.adaptation.network.pos_embed.set_value(model.adaptation.network.pos_embed + 1)
    with pytest.raises(TrainingError, match="frozen tensor changed"):
        experiment.run_training(job)


def test_training_that_would_reach_nothing_is_said_in_the_first_step(tmp_path):
    job, model = build.job(plan(tmp_path, Global__epochs=1))
    model.adaptation.network.blocks[0].drop_path = nn.Identity()  # another than the one that was attached to
    with pytest.raises(UserError, match="does not call blocks.0.drop_path after blocks.0.norm2, where AdaptFormer"):
        experiment.run_training(job)


def test_ema_is_what_is_evaluated_and_saved(tmp_path):
    results = experiment.train(plan(tmp_path, EMA__decay=0.99))
    assert not same(tuned(results, "best_model"), tuned(results, "latest"))


@pytest.mark.parametrize("level, dtype, obstacle", [
    ("O1", "float16", "a CPU computes in bfloat16 or float32"), ("O2", "bfloat16", "no bfloat16 instructions")])
def test_mixed_precision_that_a_cpu_cannot_do_is_float32_and_says_so(tmp_path, monkeypatch, level, dtype, obstacle):
    monkeypatch.setattr(build.device, "bfloat16_obstacle", lambda: "this processor has no bfloat16 instructions")
    exact = experiment.train(plan(tmp_path, Global__epochs=1))
    mixed = experiment.train(plan(tmp_path, Global__epochs=1, AMP={"level": level, "dtype": dtype}))
    assert same(tuned(exact), tuned(mixed))
    said = (Path(mixed["folder"]) / "train.log").read_text(encoding="utf-8")
    assert "everything is computed in float32" in said and obstacle in said


def test_bfloat16_on_a_cpu_trains_what_float32_does(tmp_path):
    if bfloat16_obstacle():
        pytest.skip(bfloat16_obstacle())
    exact = experiment.train(plan(tmp_path, Global__epochs=2))
    mixed = experiment.train(plan(tmp_path, Global__epochs=2, AMP={"level": "O1", "dtype": "bfloat16"}))
    assert mixed["loss"] != exact["loss"] and mixed["loss"] == pytest.approx(exact["loss"], rel=0.02)
    assert all(tensor.dtype == np.float32 for tensor in tuned(mixed).values())


def test_o1_keeps_frozen_matrices_in_its_type_and_what_trains_in_float32(tmp_path):
    _, model = build.job(plan(tmp_path))
    precision = Precision(dtype="bfloat16")
    precision.level = "O1"  # as on a GPU
    precision.prepare(model.adaptation)
    network = model.adaptation.network
    assert network.blocks[0].mlp.fc1.weight.dtype == paddle.bfloat16
    assert network.blocks[0].norm1.weight.dtype == network.blocks[0].adaptmlp.up_proj.weight.dtype == paddle.float32


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_frozen_network_in_half_precision_takes_and_gives_the_same_tuned_files(tmp_path, dtype):
    results = experiment.train(plan(tmp_path, Arch__frozen_dtype=dtype))
    folder = Path(results["folder"])
    assert "parameters are kept in " + dtype in (folder / "train.log").read_text(encoding="utf-8")
    full = plan(tmp_path, Global__pretrained_model=str(folder / "latest.safetensors"))
    assert experiment.evaluate(full)["loss"] == pytest.approx(results["loss"], rel=0.02)
    half = config.load(folder / "config.yaml", [f"Global.pretrained_model={folder / 'latest.safetensors'}"])
    assert experiment.evaluate(half)["loss"] == pytest.approx(results["loss"], rel=1e-6)


def test_recompute_trains_the_same_and_says_what_it_costs(tmp_path):
    plain, again = (experiment.train(plan(tmp_path, Global__recompute=r, Global__epochs=1)) for r in (False, True))
    for name, tensor in tuned(plain).items():
        np.testing.assert_allclose(tuned(again)[name], tensor, rtol=1e-4, atol=1e-6, err_msg=name)
    said = (Path(again["folder"]) / "train.log").read_text(encoding="utf-8")
    assert "at most 1 of 2 blocks run forward twice" in said and "a half as long again" in said


@pytest.mark.parametrize("change, message", [
    ({"Global__recompute": True, "Tuning": {"name": "LinearProbe"}}, "Global.recompute has no effect"),
    ({"Arch__frozen_dtype": "float16", "Tuning": {"name": "FullFineTuning"}},
     "Arch.frozen_dtype float16 has no effect"),
])
def test_options_without_effect_say_so(tmp_path, capsys, change, message):
    experiment.train(plan(tmp_path, Global__epochs=0, **change))
    said = capsys.readouterr().out
    assert message in said and "results.json, train.log are in" in said  # no tuned file: nothing was trained


def test_the_host_waits_for_the_device_only_where_a_line_is_due(tmp_path, monkeypatch):
    job, _ = build.job(plan(tmp_path, Global__epochs=1, Global__print_batch_step=100))
    onednn_usable()  # is found out once, and reads
    reads, steps = [], []
    for name in ("numpy", "item", "tolist", "__float__", "__int__", "__bool__"):
        plain = getattr(paddle.Tensor, name)
        monkeypatch.setattr(paddle.Tensor, name, lambda self, *a, plain=plain, **k: (
            reads.append(len(steps)), plain(self, *a, **k))[1])
    step = job.optimizer.step
    monkeypatch.setattr(job.optimizer, "step", lambda: (step(), steps.append(1))[0])
    now = Progress()
    train_module._train_epoch(job, now, Saver(job, now), Stopping())
    assert set(reads) == {1, 3}  # after the first step and the last, where a line is due; not after the second


def test_mixup_and_label_smoothing_train(tmp_path):
    mixed = plan(tmp_path, Global__epochs=1, Loss={"Train": [{"CELoss": {"epsilon": 0.1}}]})
    mixed.DataLoader.Train.dataset["batch_transform_ops"] = [{"MixupOperator": {"alpha": 0.8}}]
    assert experiment.train(mixed)["history"][0]["train_loss"] > 0


@pytest.mark.parametrize("change, message", [
    ({"Tuning": {"name": "AdaptFormer", "bottleneck": 8}}, "was trained with other Tuning"),
    ({"Global__seed": 9}, "another backbone"),
    ({"Arch__depth": 3}, "another backbone"),
    ({"Arch__class_num": 7}, "the data set has 10 classes"),
])
def test_a_tuned_file_is_refused_where_it_does_not_fit(tmp_path, change, message):
    file = experiment.train(plan(tmp_path, Global__epochs=1))["folder"] + "/best_model.safetensors"
    with pytest.raises(UserError, match=message) as error:
        experiment.evaluate(plan(tmp_path, Global__pretrained_model=file, **change))
    assert "\n" not in str(error.value)


def test_other_preprocessing_is_refused(tmp_path):
    file = experiment.train(plan(tmp_path, Global__epochs=1))["folder"] + "/best_model.safetensors"
    other = plan(tmp_path, Global__pretrained_model=file)
    other.DataLoader.Eval.dataset["transform_ops"] = [OPS[0], {"NormalizeImage": {"order": ""}}, OPS[2]]
    with pytest.raises(UserError, match="other preprocessing"):
        experiment.evaluate(other)


@pytest.mark.parametrize("change, message", [
    ({"Global__device": "tpu"}, "Global.device 'tpu' is unknown"),
    ({"Global__pretrained_model": "nowhere.safetensors"}, "does not exist"),
    ({"Global__checkpoints": "nowhere"}, "Global.checkpoints nowhere: it does not exist"),
    ({"Global__update_freq": 0}, "at least 1"),
    ({"Arch__name": "vit_micro"}, "Did you mean 'vit_micro_patch4_32'"),
    ({"Arch__pretrained": "nowhere.pdparams"}, "does not exist"),
    ({"Arch__pretrained": True}, "is of another network: num_heads is 3"),
    ({"Arch__head": "Lin"}, "Arch.head 'Lin' is unknown"),
    ({"AMP": {"level": "O3"}}, "AMP.level 'O3' is unknown"),
    ({"Arch__frozen_dtype": "float8"}, "Arch.frozen_dtype 'float8' is unknown"),
    ({"Loss": {"Train": [{"CELos": {}}]}}, "Did you mean 'CELoss'"),
    ({"Metric": {"Eval": [{"TopkAcc": {"topk": [0]}}]}}, "whole numbers"),
    ({"Optimizer": {"name": "AdamW", "lr": {"name": "Cosine", "warmup_epoch": 9}}}, "warm-up must end"),
])
def test_mistakes_are_one_line_and_leave_no_folder(tmp_path, change, message):
    with pytest.raises(UserError, match=message) as error:
        experiment.train(plan(tmp_path, **change))
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_the_notebooks_experiment_in_small(tmp_path):
    """From scratch, then its file as the frozen network of another task, frozen and unfrozen."""
    scratch = experiment.train(plan(tmp_path, Tuning={"name": "FullFineTuning"}, Arch__head="Linear"))
    file = scratch["folder"] + "/best_model.safetensors"
    frozen = experiment.train(plan(tmp_path, Arch__pretrained=file, Global__epochs=1))
    unfrozen = experiment.train(plan(tmp_path, Arch__pretrained=file, Global__epochs=1, Tuning=[
        {"name": "AdaptFormer", "bottleneck": 4}, {"name": "FullFineTuning"}]))
    assert frozen["backbone_digest"] == unfrozen["backbone_digest"]
    assert frozen["trained_parameters"] < unfrozen["trained_parameters"] == unfrozen["parameters"]


def test_the_resolved_config_repeats_the_run(tmp_path):
    first = experiment.train(plan(tmp_path, Global__epochs=1))
    saved = yaml.safe_load(open(first["folder"] + "/config.yaml", encoding="utf-8"))
    assert same(tuned(experiment.train(config.parse(saved))), tuned(first))
    assert paddle.get_device() == "cpu"
