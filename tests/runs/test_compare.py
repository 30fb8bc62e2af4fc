"""Comparisons of a small network on the digits: rows, resuming, choices on held-out data, sharing, pictures."""
import copy
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ppadapt import build, config, weights
from ppadapt.data.digits import Digits
from ppadapt.errors import ConfigError, UserError
from ppadapt.runs import compare, comparison, experiment, pictures, plans
from ppadapt.runs.record import Identity, Record

ROOT = Path(__file__).resolve().parents[2]
OPS = [{"ResizeImage": {"size": 16}}, {"NormalizeImage": {"order": ""}}, {"ToCHWImage": None}]


@pytest.fixture
def small(tmp_path):
    """A folder of configs, tiny_linear.yaml and tiny_adaptformer.yaml, of a network that trains in a second."""
    split = {"dataset": {"name": "Digits", "limit": 60, "transform_ops": OPS}, "sampler": {"batch_size": 20}}
    base = {"Global": {"epochs": 1, "use_visualdl": False, "device": "cpu", "cache_features": False},
            "Arch": {"name": "vit_micro_patch4_32", "img_size": 16, "embed_dim": 12, "depth": 2, "num_heads": 2,
                     "patch_size": 8},
            "Optimizer": {"name": "AdamW", "lr": {"name": "Cosine", "learning_rate": 0.01}},
            "DataLoader": {"Train": split, "Eval": copy.deepcopy(split)}}
    for name, tuning in (("linear", {"name": "LinearProbe"}), ("adaptformer", {"name": "AdaptFormer"}),
                         ("full", {"name": "FullFineTuning"})):
        (tmp_path / f"tiny_{name}.yaml").write_text(yaml.safe_dump({**base, "Tuning": tuning}), encoding="utf-8")
    return tmp_path / "tiny_linear.yaml"


def runs(folder):
    return json.loads((folder / "runs.json").read_text(encoding="utf-8"))


def test_a_row_per_method_and_swept_value_and_what_is_done_is_not_done_again(small, tmp_path, capsys):
    arguments = dict(config=small, methods=["linear", "adaptformer"], seeds=[0, 1], folder=tmp_path / "out")
    rows = compare.compare(**arguments)
    assert [row["method"] for row in rows] == ["linear", "adaptformer"] and len(runs(tmp_path / "out")) == 4
    said = capsys.readouterr().out
    assert "run 4 of 4: adaptformer, seed 1\n" in said and said.count("[Eval]") == 4 and "files go to" not in said
    assert all("files go to" in path.read_text(encoding="utf-8") for path in (tmp_path / "out").glob("*/*/train.log"))
    before = sorted(p.as_posix() for p in (tmp_path / "out").glob("*/*"))
    assert compare.compare(**arguments) == rows
    assert len(re.findall(r"done before, top-1 \d+\.\d\d\n", capsys.readouterr().out)) == 4
    (tmp_path / "docs").mkdir()
    shutil.copy(tmp_path / "out" / "runs.json", tmp_path / "docs")
    assert compare.compare(**arguments, results=tmp_path / "docs") == rows
    assert (tmp_path / "docs" / "comparison.md").is_file()
    assert sorted(p.as_posix() for p in (tmp_path / "out").glob("*/*")) == before
    swept = compare.compare(**{**arguments, "methods": ["adaptformer"]}, sweep=["Tuning.bottleneck=1,4",
                                                                               "Tuning.scale=0.5,learnable"])
    assert [row["method"] for row in swept] == [f"adaptformer, bottleneck={b}, scale={s}"
                                                for b in (1, 4) for s in (0.5, "learnable")]
    each = [2 * (2 * 12 * b + 12 + b) + 130 for b in (1, 4)]
    assert [row["trained_parameters"] for row in swept] == [each[0], each[0] + 2, each[1], each[1] + 2]
    text = (tmp_path / "out" / "comparison.md").read_text(encoding="utf-8")
    assert text.count("\n| adaptformer, bottleneck=") == 4
    table = (tmp_path / "out" / "comparison.csv").read_text(encoding="utf-8").splitlines()
    assert table[0].startswith("method,seeds,top1,std,") and len(table) == 5


def test_a_mistake_in_the_last_row_is_said_before_the_first_trains(small, tmp_path):
    with pytest.raises(UserError, match=r"^adaptformer, blocks=\[7\]: blocks \[7\] does not fit a network of 2"):
        compare.compare(small, ["adaptformer"], [0], tmp_path / "out", sweep=["Tuning.blocks=all,[0],[7]"])
    assert not list((tmp_path / "out").glob("*/*"))


def test_the_same_run_is_known_elsewhere_and_other_data_or_weights_are_not(small, tmp_path):
    plan = config.load(small)
    arrays = {n: p.numpy() for n, p in build.network(plan, 10)[0].named_parameters()}
    identity = {}
    for place, scale in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / place).mkdir()
        weights.save_pdparams(tmp_path / place / "w.pdparams", {n: a * np.float32(scale) for n, a in arrays.items()})
        identity[place] = Identity()(config.load(small, [
            f"Arch.pretrained={tmp_path / place / 'w.pdparams'}", f"Global.output_dir={place}",
            f"Infer.infer_imgs={place}"]))
    assert identity["a"] == identity["b"] and identity["a"] != identity["c"]
    record = Record(tmp_path / "runs.json")
    record.add({"top1": 5.0, **identity["a"]})
    found = Record(tmp_path / "runs.json")
    assert found.find(identity["b"])["top1"] == 5.0 and found.find(identity["c"]) is None
    assert str(tmp_path) not in (tmp_path / "runs.json").read_text(encoding="utf-8")
    seeded = Identity()(config.load(small, ["Global.seed=1"]))
    less = Identity()(config.load(small, ["DataLoader.Eval.dataset.limit=59"]))
    assert seeded["config"] != Identity()(plan)["config"] and less["data"] != Identity()(plan)["data"]


def test_a_record_of_before_a_key_existed_is_still_found(small, tmp_path):
    plan = config.load(small)
    old = Identity()(plan)
    del old["config"]["EMA"], old["config"]["Global"]["update_freq"]
    (tmp_path / "runs.json").write_text(json.dumps([{"top1": 5.0, **old}, {"config": {"Gone": 1}}]), encoding="utf-8")
    assert Record(tmp_path / "runs.json").find(Identity()(plan))["top1"] == 5.0
    (tmp_path / "runs.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"runs\.json cannot be read"):
        Record(tmp_path / "runs.json")


def test_the_digest_of_a_data_set_is_of_its_images_labels_and_classes():
    data = Digits(limit=5)
    assert data.digest() == Digits(limit=5).digest() != Digits(limit=6).digest()
    data.images = data.images.copy()
    data.images[0, 0, 0, 0] ^= 1
    assert data.digest() != Digits(limit=5).digest()


def test_choices_are_made_on_held_out_training_data_and_never_read_the_test_data(small, tmp_path, monkeypatch):
    read = {"train": set(), "test": set()}
    image, log = Digits.image, []

    def watched(self, i):
        read[self.split].add(i)
        return image(self, i)

    monkeypatch.setattr(Digits, "image", watched)
    train = experiment.train

    def watched_train(plan, source):
        results = train(plan, source)
        log.append((plan.DataLoader.Train.dataset.get("holdout"), plan.Optimizer["lr"]["learning_rate"],
                    results["top1"], bool(read["test"])))
        return results

    monkeypatch.setattr(experiment, "train", watched_train)
    for digest in ("digest", "sketch"):  # which images they are, not what is answered to them
        monkeypatch.setattr(Digits, digest, lambda self: f"{self.split} {len(self)}")
    monkeypatch.setattr(Digits, "image_shape", lambda self: None)  # nor how large they are, which is looked at first
    arguments = dict(config=small, methods=["linear"], seeds=[0, 1], folder=tmp_path / "out", holdout=0.25,
                     overrides=[f"DataLoader.{side}.loader.transform_by=image" for side in ("Train", "Eval")],
                     choices=["Optimizer.lr.learning_rate=1e-6,0.3"])
    row, = compare.compare(**arguments)
    assert [entry[0] for entry in log] == [0.25, 0.25, None, None]
    assert [entry[3] for entry in log] == [False, False, True, True]  # the test data: only after the choice
    best = max(row["candidates"], key=lambda c: c["top1"])
    assert row["chosen"] == best["values"] == {"Optimizer.lr.learning_rate": log[2][1]} and log[2][1] == log[3][1]
    record = runs(tmp_path / "out")
    assert record[0]["config"]["DataLoader"]["Eval"]["dataset"]["split"] == "holdout"
    assert record[0]["config"]["DataLoader"]["Eval"]["dataset"]["holdout"] == 0.25
    assert [run["top1"] for run in record[:2]] == [c["top1"] for c in row["candidates"]]
    text = (tmp_path / "out" / "comparison.md").read_text(encoding="utf-8")
    assert f"learning_rate={log[2][1]}" in text.splitlines()[2] and "held-out top-1" in text
    assert compare.compare(**arguments) == [row] and len(log) == 4


def test_the_held_out_part_and_the_rest_are_all_of_the_limited_training_data(small):
    plan = config.load(small, ["DataLoader.Train.dataset.holdout=0.25"])
    rest = build.dataset(plan.DataLoader.Train, "train", 3)
    plan.DataLoader.Train.dataset["split"] = "holdout"
    part = build.dataset(plan.DataLoader.Train, "train", 4)
    assert (len(rest), len(part)) == (45, 15)
    whole = Digits(limit=60).images.reshape(60, -1).tolist()
    assert sorted(whole) == sorted([*rest.images.reshape(45, -1).tolist(), *part.images.reshape(15, -1).tolist()])
    assert all(whole[whole.index(i)] and rest.labels[n] == Digits(limit=60).labels[whole.index(i)]
               for n, i in enumerate(rest.images.reshape(45, -1).tolist()))


@pytest.mark.parametrize("change, message", [
    ({"holdout": 1.5}, "holdout is 1.5: give the share"), ({"holdout": 0.001}, "leaves one part empty"),
    ({"split": "holdout"}, "set DataLoader.Train.dataset.holdout"), ({"split": "tran"}, "Did you mean 'train'")])
def test_a_wrong_held_out_share_is_named(small, change, message):
    plan = config.load(small)
    plan.DataLoader.Train.dataset.update(change)
    with pytest.raises(UserError, match=message):
        build.dataset(plan.DataLoader.Train, "train", 0)


def test_runs_of_one_comparison_read_the_weights_once_and_equal_separate_runs(small, tmp_path, monkeypatch):
    """Full fine-tuning first: what it does to its network must not reach the next run."""
    file = tmp_path / "w.pdparams"
    network = build.network(config.load(small), 10)[0]
    weights.save_pdparams(file, {name: p.numpy() for name, p in network.named_parameters()})
    pretrained = [f"Arch.pretrained={file}"]
    reads = []
    read = weights.once.folder.any_file.read_file
    monkeypatch.setattr(weights.once.folder.any_file, "read_file", lambda path: reads.append(path) or read(path))
    rows = compare.compare(small, ["full", "linear"], [0, 1], tmp_path / "out", pretrained)
    assert len(reads) == 1
    alone = [experiment.train(config.load(small.with_name(f"tiny_{name}.yaml"), [
        *pretrained, "Global.seed=1", f"Global.output_dir={tmp_path / 'alone'}"])) for name in ("full", "linear")]
    assert len(reads) == 3  # outside a comparison nothing is kept
    for row, results in zip(rows, alone):
        places = tmp_path / "out" / row["runs"][1]["folder"], Path(results["folder"])
        a, b = (weights.load_tuned(place / "latest.safetensors")[0] for place in places)
        assert a.keys() == b.keys() and all(np.array_equal(a[n], b[n]) for n in a)
        assert row["runs"][1]["loss"] == results["loss"]


@pytest.mark.parametrize("text, seeds", [("3", [0, 1, 2]), ("0,1,5", [0, 1, 5]), ("7,", [7]), ("0,", [0]), ("1", [0])])
def test_seeds_are_a_number_or_a_list(text, seeds):
    assert plans.seed_list(text) == seeds


@pytest.mark.parametrize("text", ["0", "", "a", "1,1", "-1", ",", "1.5"])
def test_seeds_that_are_neither_are_refused(text):
    with pytest.raises(ConfigError, match="--seeds"):
        plans.seed_list(text)


def test_swept_values_are_yaml():
    assert plans.variants(["A.b=1,'6:',[0,1],1e-3", "C=x,y"])[3:6] == [
        {"A.b": "6:", "C": "y"}, {"A.b": [0, 1], "C": "x"}, {"A.b": [0, 1], "C": "y"}]
    assert plans.variants([]) == [{}]
    for wrong in ("A.b", "A.b=", "=1", "A.b=[1"):
        with pytest.raises(ConfigError, match="is not of the form"):
            plans.variants([wrong])


def test_means_and_deviations_of_a_method():
    run = {"trained_parameters": 10, "parameters": 100, "file_bytes": 5, "images_per_second": 1.0, "seconds": 2.0,
           "peak_memory_mb": 3.0}
    row = comparison.summarise("m", [{**run, "top1": t, "seed": s} for s, t in enumerate((50.0, 52.0, 54.0))])
    assert (row["top1"], row["std"], row["share"]) == (52.0, 2.0, 0.1)
    assert comparison.columns([row])["top-1"] == ["52.00 ± 2.00"]


def test_a_method_without_a_config_is_named():
    with pytest.raises(ConfigError, match="Did you mean 'vpt'.*Choose from: adaptformer, full, linear, vpt.$"):
        plans.find_config(ROOT / "configs/digits/vit_micro_adaptformer.yaml", "vtp")


def test_a_method_beside_a_combination_of_methods_is_the_method(tmp_path):
    folder = ROOT / "configs/cifar10"
    both = folder / "vit_micro_adaptformer_vpt.yaml"
    found = {m: plans.find_config(both, m).name for m in ("vpt", "adaptformer", "linear_features", "adaptformer_vpt")}
    assert found == {"vpt": "vit_micro_vpt.yaml", "adaptformer": "vit_micro_adaptformer.yaml",
                     "linear_features": "vit_micro_linear_features.yaml", "adaptformer_vpt": both.name}
    ablation = ROOT / "configs/ablation/adaptformer_bottleneck_1.yaml"
    assert plans.find_config(ablation, "16").name == "adaptformer_bottleneck_16.yaml"
    assert plans.find_config(ablation, "sequential").name == "adaptformer_sequential.yaml"
    for name in ("net_a_vpt", "net_b"):  # no net_vpt: the file that ends so is not it
        (tmp_path / f"{name}.yaml").touch()
    with pytest.raises(ConfigError, match="'vpt' is unknown. .*a_vpt"):
        plans.find_config(tmp_path / "net_a_vpt.yaml", "vpt")
    (tmp_path / "net_b.yaml").unlink()
    assert plans.find_config(tmp_path / "net_a_vpt.yaml", "vpt").name == "net_a_vpt.yaml"


def test_a_method_without_a_config_of_its_own_takes_the_settings_that_ship(tmp_path):
    mine = tmp_path / "my.yaml"
    mine.write_text("_base_: digits/vit_micro_adaptformer\nGlobal: {epochs: 3}\n")
    rows = {method: plans.row_of(mine, method, {}) for method in ("lora", "full", "adaptformer_vpt")}
    lora = rows["lora"].config([], {}, 5)
    assert lora.Tuning["name"] == "LoRA" and "bottleneck" not in lora.Tuning and lora.Tuning["rank"] == 8
    assert lora.Global.epochs == 3 and lora.Global.seed == 5 and lora.DataLoader.Train.dataset["name"] == "Digits"
    assert rows["lora"].told == "lora: my.yaml with the Tuning of cifar10/vit_micro_lora"
    assert lora.Optimizer["lr"]["learning_rate"] == rows["adaptformer_vpt"].config([], {}, 0).Optimizer["lr"][
        "learning_rate"] == 2e-3
    assert rows["full"].config([], {}, 0).Optimizer["lr"]["learning_rate"] == 2e-4
    assert rows["full"].told.endswith("with the Tuning and learning rate (0.0002) of cifar10/vit_micro_full")
    given = ["Optimizer.lr.learning_rate=1e-3", "Tuning.rank=2"]  # -o lies above what is in a file, of either kind
    assert plans.row_of(mine, "full", {}).config(given[:1], {}, 0).Optimizer["lr"]["learning_rate"] == 1e-3
    assert rows["lora"].config(given, {}, 0).Tuning["rank"] == 2
    sgd = ["Optimizer.name=Momentum", "Optimizer.lr.learning_rate=0.1"]  # whose rates are others
    assert plans.row_of(mine, "full", {}, sgd).told.endswith("with the Tuning of cifar10/vit_micro_full")
    assert plans.row_of(ROOT / "configs/digits/vit_micro_adaptformer.yaml", "vpt", {}).path.stem == "vit_micro_vpt"
    for name in ("net_a_b_c", "net_lora", "net_a_b_d", "net_a_e"):  # beside it, however short their common beginning
        (tmp_path / f"{name}.yaml").touch()
    assert plans.row_of(tmp_path / "net_a_b_c.yaml", "lora", {}).path.name == "net_lora.yaml"
    with pytest.raises(ConfigError, match="Did you mean 'lora'.*Choose from: adapter_plus.*, last_blocks, layernorm"):
        plans.row_of(mine, "lara", {})
    with pytest.raises(ConfigError, match="none.yaml does not exist"):
        plans.row_of(tmp_path / "none.yaml", "lora", {})


def test_names_in_the_picture_cover_nothing(tmp_path, monkeypatch):
    """Twelve methods close together: no name lies on another, nor outside the axes."""
    rows = [{"method": f"method {i}", "top1": 58 + i % 4 * 0.2, "std": 0.1 * (i % 3), "seeds": 3,
             "trained_parameters": 10_000 + 300 * i, "runs": [
                 {"tuning": [name], "top1": 58.0 + i % 4 * 0.2 + d} for d in (-0.1, 0, 0.1)]}
            for i, name in enumerate(["LinearProbe", "FullFineTuning", *["LoRA"] * 10])]
    boxes = []

    def look(figure, path):
        axes, = figure.axes
        inside = axes.get_window_extent()
        for text in [t for t in axes.texts if t.get_text()]:
            box = text.get_window_extent()
            assert not any(box.overlaps(other) for other in boxes), text
            assert inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
            boxes.append(box)
        save(figure, path)

    save = pictures.save
    monkeypatch.setattr(pictures, "save", look)
    pictures.by_parameters(rows, tmp_path / "p.png")
    assert len(boxes) == 12
    monkeypatch.setattr(pictures, "save", save)
    drawn = pictures.comparison(rows, tmp_path)
    assert all(min(Image.open(path).size) > 500 for path in drawn)
