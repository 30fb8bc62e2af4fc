"""Several processes train and evaluate as one would, on CPU through Gloo; equal to one process by numbers."""
import copy
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import paddle
import pytest
from PIL import Image
from test_training import plan, same, tuned

from ppadapt import build, config
from ppadapt.engine import checkpoint, processes
from ppadapt.errors import UserError
from ppadapt.runs import experiment
from ppadapt.tuning import METHODS

ROOT = Path(__file__).resolve().parents[2]
WORKER = Path(__file__).with_name("together.py")
TEST_OPS = [{"ResizeImage": {"size": 32}}, {"NormalizeImage": {"mean": [0.5] * 3, "std": [0.5] * 3, "order": ""}},
            {"ToCHWImage": None}]


def tree(tmp_path, batch_size, **sections):
    """A config as plain data whose runs draw nothing but the order of images."""
    found = plan(tmp_path, **{"Tuning__dropout": 0.0, "Global__epochs": 2, **sections}).to_dict()
    # 147 images: the last of an epoch's 10 batches of 16 has three, which two processes cannot share evenly.
    found["DataLoader"]["Train"] = {"dataset": {"name": "Digits", "limit": 147, "transform_ops": TEST_OPS},
                                    "sampler": {"batch_size": batch_size}}
    return found


def start(count, cases, folder, **environment):
    """`count` processes of together.py, as paddle.distributed.launch would start them."""
    folder.mkdir(parents=True)
    (folder / "cases.json").write_text(json.dumps(cases), encoding="utf-8")
    sockets = [socket.socket() for _ in range(count + 1)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    master, *ends = (f"127.0.0.1:{one.getsockname()[1]}" for one in sockets)
    for one in sockets:
        one.close()
    shared = {**os.environ, **environment, "PYTHONPATH": str(ROOT), "PADDLE_MASTER": master,
              "PADDLE_TRAINERS_NUM": str(count), "PADDLE_TRAINER_ENDPOINTS": ",".join(ends),
              "PADDLE_LOCAL_SIZE": str(count)}
    started = []
    for rank in range(count):
        started.append(subprocess.Popen(
            [sys.executable, str(WORKER), str(folder / "cases.json"), str(folder)], text=True, cwd=folder,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**shared, "PADDLE_TRAINER_ID": str(rank), "PADDLE_CURRENT_ENDPOINT": ends[rank]}))
        time.sleep(0 if rank else 0.5)  # who finds rank 0 not listening yet asks again after three seconds
    return started


def together(count, cases, folder):
    """What each rank finds of the cases: a list of {name: results}."""
    said = [one.communicate(timeout=300)[0] for one in start(count, cases, folder)]
    assert all((folder / f"rank{rank}.json").is_file() for rank in range(count)), "\n".join(said)[-6000:]
    return [json.loads((folder / f"rank{rank}.json").read_text(encoding="utf-8")) for rank in range(count)]


MOMENTUM = {"name": "Momentum", "momentum": 0.9, "lr": {"name": "Cosine", "learning_rate": 0.05}}
CONSTANT = {"Optimizer": {**MOMENTUM, "lr": {"name": "Constant", "learning_rate": 0.02}}}


def adamw(epsilon):
    """Divided by gradients of about 0 rounding grows: a larger epsilon than 1e-8 bounds it."""
    return {"name": "AdamW", "epsilon": epsilon, "lr": {"name": "Cosine", "learning_rate": 0.01}}


# What one process does with batches of 16.
CASES = {
    "AdamW": {"Optimizer": adamw(1e-2)},
    "update_freq": {"Global__update_freq": 3, "Optimizer": MOMENTUM},
    "EMA, recompute": {"Optimizer": MOMENTUM, "EMA__decay": 0.9, "Global__recompute": True},
    "a linear probe on cached features": {"Tuning": {"name": "LinearProbe"}},
    "from a block on": {"Tuning__blocks": [1]},
    "clipped, without BatchNorm": {"Arch__head": "Linear", "Optimizer__clip_norm": 0.5},
}
BFLOAT16 = {"AMP": {"level": "O1", "dtype": "bfloat16"}, "Optimizer": {
    **MOMENTUM, "lr": {"name": "Cosine", "learning_rate": 0.01}}}
# Runs of which a second part goes on from inside the epoch; their dropout draws.
WHOLE = {"draws": {"Global__save_interval_steps": 8, "EMA__decay": 0.9},
         "draws, statistics per process": {"Global__save_interval_steps": 8, "Global__sync_batchnorm": False}}
QUICK_ADAMW = {"Global__update_freq": 3, "Global__epochs": 5, "Optimizer": adamw(1e-3)}


def whole_tree(folder, **options):
    """One of `WHOLE`, of 10 steps."""
    whole = tree(folder, 8, Tuning={"name": "AdaptFormer", "bottleneck": 4, "dropout": 0.3}, Global__epochs=1,
                 **options)
    whole["DataLoader"]["Train"]["dataset"]["limit"] = 148
    return whole



def method_tree(tmp_path, batch_size, name):
    """20 steps of a method, as small as may be, without evaluation."""
    still = {n: 0.0 for n in ("dropout", "drop_path") if n in METHODS[name]().options}
    plain = tree(tmp_path, batch_size, Tuning={"name": name, **still},
                 Optimizer={**MOMENTUM, "lr": {"name": "Constant", "learning_rate": 0.005}}, Global__epochs=1,
                 Global__eval_during_train=False, Global__cache_features=False)
    plain["Arch"].update(patch_size=16, depth=1)
    plain["DataLoader"]["Train"]["dataset"]["limit"] = 20 * 16
    return plain


class Reordered:
    """A loader whose batches have their images in another order: the same numbers but for rounding."""

    def __init__(self, loader, seed):
        self.loader, self.seed = loader, seed

    def __getattr__(self, name):
        return getattr(self.loader, name)

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        draw = np.random.RandomState(self.seed)
        for images, targets in self.loader:
            order = paddle.to_tensor(draw.permutation(len(targets)))
            yield images[order], targets[order]


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory):
    """Evaluations of 1,001 images, which 2 to 6 processes cannot share evenly: {name: config as plain data}."""
    folder = tmp_path_factory.mktemp("evaluations")
    draw, lines = np.random.RandomState(0), []
    for i in range(1001):
        Image.fromarray(draw.randint(0, 255, (4, 4, 3), dtype=np.uint8)).save(folder / f"{i}.png")
        lines.append(f"{i}.png\t{','.join(map(str, (draw.rand(5) < 0.3).astype(int)))}\n")
    (folder / "list.txt").write_text("".join(lines), encoding="utf-8")
    one, many = tree(folder, 8), tree(folder, 8)
    one["DataLoader"]["Eval"]["dataset"].update(split="train", limit=1001)
    one["Metric"]["Eval"] = [{"TopkAcc": {"topk": [1, 3]}}]
    listed = {"dataset": {"name": "MultiLabelDataset", "image_root": str(folder), "transform_ops": [
        {"DecodeImage": {}}, *TEST_OPS], "cls_label_path": str(folder / "list.txt")}, "sampler": {"batch_size": 50}}
    many.update(Task={"name": "MultiLabel"}, DataLoader={"Train": listed, "Eval": listed},
                Loss={"Train": [{"MultiLabelLoss": {}}], "Eval": [{"MultiLabelLoss": {}}]},
                Metric={"Train": [], "Eval": [{"MultiLabelMAP": {}}, {"MultiLabelF1": {}}, {"HammingDistance": {}}]})
    for name, plain, classes in (("one label", one, 10), ("several labels", many, 5)):
        model = build.tuned_model(config.parse(copy.deepcopy(plain)), [str(i) for i in range(classes)])
        for tensor in model.adaptation.trained_parameters().values():
            tensor.set_value(draw.normal(0, 0.3, tensor.shape).astype("float32"))
        model.save(folder / f"{name}.safetensors", {})
        plain["Global"]["pretrained_model"] = str(folder / f"{name}.safetensors")
    return {"one label": one, "several labels": many}


@pytest.fixture(scope="module")
def two(tmp_path_factory, evaluations):
    """The cases in two processes with half a batch each, and the evaluations."""
    folder = tmp_path_factory.mktemp("two")
    cases = {name: {"config": tree(folder / str(i), 8, **options)} for i, (name, options) in enumerate(CASES.items())}
    own = tree(folder / "own", 8, Global__sync_batchnorm=False)
    own["DataLoader"]["Train"]["dataset"]["limit"] = 148  # one image alone has no statistics
    cases["statistics per process"] = {"config": own}
    cases["bfloat16"] = {"config": tree(folder / "half", 8, **BFLOAT16)}
    cases["quick AdamW"] = {"config": tree(folder / "quick", 8, **QUICK_ADAMW)}
    cases.update({name: {"config": method_tree(folder / name, 8, name)} for name in METHODS})
    cases["one epoch of two"] = {"config": tree(folder / "cut", 8, Global__epochs=1, Global__save_interval_steps=6,
                                                       **CONSTANT)}
    for name, options in WHOLE.items():
        whole = whole_tree(folder / name, **options)
        cases[name] = {"config": whole}
        cases[f"{name}, cut"] = {"config": whole, "goes_on": [name, 8]}
    return together(2, {**cases, **_evaluated(evaluations)}, folder / "found")


@pytest.fixture(scope="module")
def three(tmp_path_factory, evaluations):
    """The evaluations in three processes."""
    return together(3, _evaluated(evaluations), tmp_path_factory.mktemp("three") / "found")


def _evaluated(evaluations):
    return {name: {"evaluate": True, "config": plain} for name, plain in evaluations.items()}


@pytest.mark.parametrize("name", CASES)
def test_two_processes_reach_the_weights_of_one(name, two, tmp_path):
    alone = experiment.train(config.parse(tree(tmp_path, 16, **CASES[name])))
    found, expected = tuned(two[0][name]), tuned(alone)
    assert found.keys() == expected.keys()
    for tensor, value in expected.items():
        np.testing.assert_allclose(found[tensor], value, rtol=0, atol=1e-5, err_msg=tensor)
    for ours, theirs in zip(two[0][name]["history"], alone["history"]):
        assert ours["lr"] == pytest.approx(theirs["lr"], rel=1e-9)
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-4)
        assert ours["train_top1"] == pytest.approx(theirs["train_top1"])
        assert ours["eval_loss"] == pytest.approx(theirs["eval_loss"], rel=1e-4)
        assert ours["eval_images"] == theirs["eval_images"] == 48


@pytest.mark.parametrize("name", METHODS)
def test_every_method_reaches_the_weights_of_one_process(name, two, tmp_path):
    found, expected = tuned(two[0][name]), tuned(experiment.train(config.parse(method_tree(tmp_path, 16, name))))
    assert found.keys() == expected.keys()
    for tensor, value in expected.items():
        np.testing.assert_allclose(found[tensor], value, rtol=1e-5, atol=1e-5, err_msg=tensor)


@pytest.mark.parametrize("name, options", [("bfloat16", BFLOAT16), ("quick AdamW", QUICK_ADAMW)])
def test_where_rounding_grows_two_differ_as_one_from_itself(name, options, two, tmp_path, monkeypatch):
    """The yardstick is one process with the images of each batch in other orders: the farthest of three."""
    alone = tuned(experiment.train(config.parse(tree(tmp_path / "alone", 16, **options))))
    make = build.job

    def in_order(seed):
        def reordered(plan, run):
            job, model = make(plan, run)
            job.train_loader = Reordered(job.train_loader, seed)
            return job, model

        monkeypatch.setattr(build, "job", reordered)
        return tuned(experiment.train(config.parse(tree(tmp_path / str(seed), 16, **options))))

    def apart(one):
        return max(np.abs(one[n] - alone[n]).max() for n in alone)

    yardstick = max(apart(in_order(seed)) for seed in range(3))
    assert apart(tuned(two[0][name])) < 3 * yardstick < 2e-3


def test_one_process_goes_on_with_a_run_of_two(two, tmp_path):
    """The samples come in the same order; with another batch of all together it is another run."""
    cut = two[0]["one epoch of two"]["folder"]
    alone = experiment.train(config.parse(tree(tmp_path / "alone", 16, **CONSTANT)))
    for number, inside in enumerate(("", "/ckpt/step-000006")):  # after its first epoch, and in the middle of that
        resumed = experiment.train(config.parse(tree(tmp_path / f"on{number}", 16, Global__checkpoints=f"{cut}{inside}",
                                                     **CONSTANT)))
        for tensor, value in tuned(alone).items():
            np.testing.assert_allclose(tuned(resumed)[tensor], value, rtol=0, atol=1e-5, err_msg=tensor)
    with pytest.raises(UserError, match="DataLoader.Train.sampler.batch_size was 16 and is 8"):
        experiment.train(config.parse(tree(tmp_path / "other", 8, Global__checkpoints=cut, **CONSTANT)))


@pytest.mark.needs_paddle("random state of a CPU")
@pytest.mark.parametrize("name", WHOLE)
def test_two_processes_go_on_inside_an_epoch_as_if_they_had_never_stopped(two, name):
    """To the last bit: what each has seen, drawn and, where statistics are its own, gathered comes along."""
    whole, rest = two[0][name], two[0][f"{name}, cut"]
    assert same(tuned(whole), tuned(rest)) and same(tuned(whole, "best_model"), tuned(rest, "best_model"))
    timing = ("train_ips", "train_seconds")
    for a, b in zip(whole["history"], rest["history"]):
        assert {k: v for k, v in a.items() if k not in timing} == {k: v for k, v in b.items() if k not in timing}
    inside = checkpoint.read(Path(whole["folder"]) / "ckpt" / "step-000008")
    assert inside.progress["batch"] == 8 and len(inside.progress["random_of_others"]) == 1
    assert int(inside.tensors["loss/images"]) == int(inside.tensors["rank1/loss/images"]) == 8 * 8


def test_every_rank_finds_the_same_and_the_first_alone_writes(two):
    for name in (*CASES, "statistics per process"):
        first, second = two[0][name], two[1][name]
        assert [row["eval_loss"] for row in first["history"]] == [row["eval_loss"] for row in second["history"]], name
        assert first["folder"] == second["folder"] and first["processes"] == 2
        assert [path.name for path in Path(first["folder"]).parent.iterdir()] == [Path(first["folder"]).name]


def test_what_travels_is_the_gradients_of_what_trains(two):
    """Per step 4 bytes a trained parameter and 8 beside them; a synchronised BatchNorm adds its sums."""
    width, steps = 24, 2 * 10
    for name in (*CASES, "statistics per process"):
        first = two[0][name]
        norm = {"clipped, without BatchNorm": 0, "statistics per process": 0}.get(name, 1)
        step_count = 2 * 4 if name == "update_freq" else steps
        # Mean with the number of images, and variance; where what is below the head trains, their gradients too.
        statistics = norm * 4 * steps * (2 * width + 1) * (1 if "probe" in name else 2)
        at_the_end = 2 * 4 * 2 * width if "BatchNorm" not in name else 0
        assert first["sent"] == 4 * step_count * (first["trained_parameters"] + 2) + statistics + at_the_end, name


def test_statistics_per_process_are_of_its_share_and_averaged(two):
    mine, synchronised = tuned(two[0]["statistics per process"]), tuned(two[0]["AdamW"])
    assert max(np.abs(mine[name] - synchronised[name]).max() for name in mine) > 1e-3
    pair, tensor = processes.Processes(0, 2), paddle.to_tensor([1.0, 2.0])
    pair.sum = lambda share: share + paddle.to_tensor([3.0, 5.0])
    pair.average([tensor])
    assert tensor.tolist() == [2.0, 3.5]


@pytest.mark.parametrize("name", ["one label", "several labels"])
def test_an_evaluation_counts_every_image_once(name, evaluations, two, three):
    alone = experiment.evaluate(config.parse(copy.deepcopy(evaluations[name])))
    assert alone["images"] == 1001 and len(alone) >= 4
    for found in (*two, *three):
        assert found[name].keys() - {"sent"} == alone.keys()
        for metric, value in alone.items():
            assert found[name][metric] == pytest.approx(value, rel=1e-6), metric


def test_where_one_process_ends_the_others_stop_and_say_so(tmp_path):
    case = {"config": tree(tmp_path, 8, Global__epochs=50), "at": 5, "then": "ends"}
    first, second = start(2, {"dies": case}, tmp_path / "found")
    second.wait(timeout=60)
    ended = time.monotonic()
    said, _ = first.communicate(timeout=60)
    assert second.returncode == 9 and first.returncode == 1
    assert time.monotonic() - ended < 30
    assert "rank 0 of 2 processes stops, for another one has ended or is out of reach" in said.splitlines()[-1]
    assert "Traceback" not in said


@pytest.mark.needs_paddle("random state of a CPU")
def test_a_run_of_which_one_process_was_killed_goes_on_to_the_same_end(two, tmp_path):
    """SIGKILL of rank 1 between two saved steps: what was saved is whole, and ends as the run that nobody killed."""
    whole = whole_tree(tmp_path, **WHOLE["draws"])
    first, second = start(2, {"dies": {"config": whole, "at": 10, "then": "is killed"}}, tmp_path / "found")
    said, _ = first.communicate(timeout=60)
    second.communicate(timeout=60)
    assert second.returncode == -9 and first.returncode == 1
    assert "rank 0 of 2 processes stops, for another one has ended or is out of reach" in said.splitlines()[-1]
    kept = checkpoint.steps(next(tmp_path.glob("out/run/*/ckpt")))
    assert [path.name for path in kept if checkpoint.is_whole(path)] == ["step-000008"]
    whole["Global"]["checkpoints"] = str(kept[-1])
    rest = together(2, {"rest": {"config": whole}}, tmp_path / "rest")[0]["rest"]
    assert same(tuned(two[0]["draws"]), tuned(rest)) and same(tuned(two[0]["draws"], "best_model"),
                                                              tuned(rest, "best_model"))


def test_where_one_process_hangs_the_others_stop_and_say_so(tmp_path):
    case = {"config": tree(tmp_path, 8, Global__epochs=50), "at": 5, "then": "hangs"}
    first, second = start(2, {"hangs": case}, tmp_path / "found", PPADAPT_WAIT_SECONDS="4")
    try:
        said, _ = first.communicate(timeout=90)
        assert first.returncode == 1 and second.poll() is None
    finally:
        second.kill()
        second.communicate(timeout=60)
    assert "rank 0 of 2 processes has waited" in said
    assert "rank 0 of 2 processes stops: it has waited 4 s for another one, which hangs or" in said.splitlines()[-1]
    assert "Traceback" not in said and list(tmp_path.glob("out/run/*/train.log"))


@pytest.mark.parametrize("variables", [{"PADDLE_MASTER": "127.0.0.1:{}"}, {"PADDLE_TRAINER_ENDPOINTS": "h:{},h:1"},
                                       {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "{}", "PADDLE_MASTER": "h:1"}])
def test_a_port_that_is_taken_is_named(variables, monkeypatch):
    """Paddle would abort."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        for name, value in {"PADDLE_TRAINERS_NUM": "2", "PADDLE_TRAINER_ID": "0", **variables}.items():
            monkeypatch.setenv(name, value.format(other.getsockname()[1]))
        monkeypatch.setenv("PADDLE_DISTRI_BACKEND", "gloo")  # which join sets
        with pytest.raises(processes.ProcessError, match=f"rank 0 cannot listen at '.*:{other.getsockname()[1]}', "
                                                         r"where the processes are to meet \(Address already in use"):
            processes.join()


@pytest.mark.parametrize("place", ["h:99999", "h", "h:x"])
def test_a_place_to_meet_that_is_none_is_named(place, monkeypatch):
    for name, value in {"PADDLE_TRAINERS_NUM": "2", "PADDLE_TRAINER_ID": "0", "PADDLE_MASTER": place}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PADDLE_DISTRI_BACKEND", "gloo")
    with pytest.raises(processes.ProcessError, match=f"rank 0 cannot listen at '{place}'"):
        processes.join()


def test_processes_that_never_come_are_named(monkeypatch):
    """Paddle waits 15 minutes for them, and raises this."""
    def alone():
        raise SystemError("(Fatal) _timeout:900 elapsed:901 (elapsed > _timeout)=1 (at tcp_store.cc:433)")

    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    monkeypatch.setenv("PADDLE_DISTRI_BACKEND", "gloo")  # which join sets
    monkeypatch.setattr(paddle.distributed, "init_parallel_env", alone)
    with pytest.raises(processes.ProcessError, match="the 2 processes .* do not find each other .*_timeout:900"):
        processes.join()


def test_how_long_to_wait_is_a_number_of_seconds(monkeypatch):
    for given in ("soon", "-1", "nan", "inf"):
        monkeypatch.setenv("PPADAPT_WAIT_SECONDS", given)
        with pytest.raises(UserError, match="^PPADAPT_WAIT_SECONDS is '.*': give seconds, 0 to wait for ever"):
            processes.Processes(0, 2)


def test_processes_of_different_configs_or_data_are_named(tmp_path):
    """Their shares would not be of one model; rank 1 is this one with other facts."""
    one, other = (build.resume.identity_of(plan(tmp_path, Optimizer__clip_norm=clip), data, None, 2) for clip, data in (
        (None, Labelled([0, 1])), (0.5, Labelled([1, 1]))))
    assert build.resume.shared_facts(one)["Optimizer.name"] == "AdamW"
    pair = processes.Processes(0, 2)
    for change, says in (({**one, "config": other["config"]}, "Optimizer.clip_norm: rank 0 has None, rank 1 0.5"),
                         ({**one, "data": other["data"]}, "the data of DataLoader.Train: rank 0 has")):
        pair.gather = lambda facts, change=change: [facts, build.resume.shared_facts(change)]
        with pytest.raises(processes.ProcessError, match=says):
            pair.agree(**build.resume.shared_facts(one))
    own = plan(tmp_path, Global__output_dir="elsewhere", Arch__pretrained="mine.pdparams", Global__print_batch_step=3)
    assert build.resume.shared_facts(build.resume.identity_of(own, Labelled([0, 1]), None, 2)) == (
        build.resume.shared_facts(build.resume.identity_of(plan(tmp_path), Labelled([0, 1]), None, 2)))


class Labelled:
    classes = ["a", "b"]

    def __init__(self, labels):
        self.labels = np.array(labels)

    def __len__(self):
        return len(self.labels)

    def sketch(self):
        return ""


def test_processes_that_do_not_agree_are_named():
    pair = processes.Processes(0, 2)
    pair.gather = lambda facts: [facts, {**facts, "the classes": ["a", "c"]}]
    pair.agree(**{"the number of training images": 3, "the classes": ["a", "c"]})
    with pytest.raises(processes.ProcessError, match=r"^the processes do not agree on the classes: rank 0 has \['a', "
                                                     r"'b'\], rank 1 \['a', 'c'\]\. Start all with the same command"):
        pair.agree(**{"the number of training images": 3, "the classes": ["a", "b"]})


def test_gradients_travel_in_buckets(monkeypatch):
    """In order, none is split, and one that is larger than a bucket is one of its own."""
    monkeypatch.setattr(processes, "BUCKET", 4)
    tensors = [paddle.zeros([n]) for n in (1, 3, 2, 7, 1, 1)]
    assert [[t.size for t in bucket] for bucket in processes._buckets(tensors)] == [[1, 3], [2], [7], [1, 1]]


@pytest.mark.parametrize("tool", ["compare.py", "infer.py", "export_model.py", "demo.py"])
def test_tools_that_share_no_work_are_refused_where_several_are_started(tool):
    done = subprocess.run([sys.executable, str(ROOT / "tools" / tool), *(
        [] if tool == "demo.py" else ["-c", "configs/digits/vit_micro_adaptformer.yaml"])], text=True,
        capture_output=True, env={**os.environ, "PADDLE_TRAINERS_NUM": "2"})
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: paddle.distributed.launch started 2 processes, and each would do all" in done.stderr.splitlines()[-1]


def test_one_device_for_all_processes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    with pytest.raises(UserError, match="Global.device is gpu:0 for all 2 processes: set it to gpu"):
        experiment.train(plan(tmp_path, Global__device="gpu:0"))
