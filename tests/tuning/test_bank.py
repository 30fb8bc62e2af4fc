"""Many tuned files on one network: who answers whom, what is refused, what threads and memory do."""
import dataclasses
import logging
import os
import threading

import numpy as np
import paddle
import pytest
from paddle import nn

import ppadapt
from ppadapt.models.heads import batchnorm_linear, head_linear
from ppadapt.models.vit import VisionTransformer
from ppadapt.tuning import METHODS, TuningError, attach
from ppadapt.tuning.bank import Bank, RoutingError, call, row
from ppadapt.tuning.slots import slots_of
from ppadapt.weights import MismatchError, WeightsError, load_tuned, save_tuned

PREPROCESS = [{"ResizeImage": {"size": 8}}, {"NormalizeImage": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}]
MIX = {"flowers": ("AdaptFormer", {"bottleneck": 4}), "cars": ("AdaptFormer", {"bottleneck": 4}),
       "birds": ("LoRA", {"rank": 2}), "pets": ("VPT", {"num_prompts": 2}), "dtd": ("BitFit", {}),
       "dogs": ("LinearProbe", {}), "food": ("SSF", {})}


def network(seed=0, depth=3, dim=16):
    """A network of which nothing is at zero or one."""
    paddle.seed(seed)
    net = VisionTransformer(img_size=8, patch_size=4, class_num=0, embed_dim=dim, depth=depth, num_heads=2)
    draw = np.random.RandomState(seed)
    for parameter in net.parameters():
        parameter.set_value(parameter.numpy() + draw.normal(0, 0.1, parameter.shape).astype("float32"))
    net.eval()
    return net


def tuned(net, *methods, classes=3, seed=0, head=batchnorm_linear, anatomy=None):
    """An adaptation away from its start."""
    paddle.seed(seed)
    adaptation = attach(net, *[METHODS[name](**options) for name, options in methods],
                        head=head(net.embed_dim, classes), anatomy=anatomy)
    draw = np.random.RandomState(seed)
    for tensor in adaptation.tensors().values():
        moved = tensor.numpy() + draw.normal(0, 0.1, tensor.shape).astype("float32")
        tensor.set_value(np.abs(moved) if tensor.ndim == 1 else moved)
    adaptation.eval()
    return adaptation


def save(path, adaptation, count=3, **changes):
    save_tuned(path, adaptation.state(), {
        "tuning": [{"name": type(m).__name__, **m.options} for m in adaptation.methods],
        "backbone": {"name": "tiny", "family": "ViT", "options": {"num_heads": 2},
                     "digest": adaptation.backbone_digest},
        "preprocess": PREPROCESS, "classes": [f"class {i}" for i in range(count)], **changes})
    return path


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """name -> (tuned file, the adaptation that it is of, on a network of its own)."""
    folder = tmp_path_factory.mktemp("tuned")
    made = {}
    for seed, (name, method) in enumerate(MIX.items()):
        classes = 2 + seed % 3
        head = (batchnorm_linear, head_linear)[seed % 2]
        adaptation = tuned(network(), method, classes=classes, seed=seed, head=head)
        made[name] = save(folder / f"{name}.safetensors", adaptation, classes), adaptation
    return made


@pytest.fixture
def bank(alone):
    made = Bank(network())
    for name, (path, _) in alone.items():
        made.add(name, path)
    return made


def images(count, seed=1):
    return np.random.RandomState(seed).normal(size=(count, 3, 8, 8)).astype("float32")


def expected(alone, name, batch):
    with paddle.no_grad():
        return alone[name][1](paddle.to_tensor(batch)).numpy()


def assert_right(found, alone, names, batch):
    for i, name in enumerate(names):
        np.testing.assert_allclose(found[i], expected(alone, name, batch[i:i + 1])[0], rtol=0, atol=1e-5, err_msg=name)


def test_each_sample_gets_its_own_tasks_logits_in_any_order(bank, alone):
    draw = np.random.RandomState(0)
    for count in (1, 2, 5, 12):
        names = [str(name) for name in draw.choice(list(MIX), count)]
        found = bank(images(count), names)
        assert_right(found, alone, names, images(count))
        assert found.tasks == tuple(names)
        assert found.digests == tuple(load_tuned(alone[name][0])[1]["digest"] for name in names)


def test_rows_are_an_array_where_the_numbers_of_classes_agree_and_a_list_where_not(bank):
    same, differ = bank(images(2), ["flowers", "pets"]), bank(images(2), ["flowers", "cars"])
    assert isinstance(same, np.ndarray) and same.shape == (2, 2) and same.dtype == np.float32
    assert isinstance(differ, list) and [row.shape for row in differ] == [(2,), (3,)]
    assert same[0:1].digests == ()  # what a part of it is of is not known any more


def test_several_questions_of_an_image_share_what_lies_below_their_first_block(alone, tmp_path):
    bank, net = Bank(network(depth=6)), network(depth=6)
    ours = {}
    for name, blocks in (("low", "2:"), ("high", "4:"), ("last", [5]), ("twin", "4:")):
        adaptation = tuned(network(depth=6), ("AdaptFormer", {"bottleneck": 4, "blocks": blocks}), seed=len(ours))
        ours[name] = save(tmp_path / f"{name}.safetensors", adaptation), adaptation
    probe = tuned(network(depth=6), ("LinearProbe", {}), seed=9, classes=5)
    ours["probe"] = save(tmp_path / "probe.safetensors", probe, 5), probe
    for name, (path, _) in ours.items():
        bank.add(name, path)
    seen = {}
    for i, block in enumerate(bank.network.blocks):
        block.register_forward_post_hook(lambda layer, x, y, i=i: seen.__setitem__(i, y.shape[0]))
    asked = [["high", "probe", "twin", "low"], ["probe"], ["last", "high", "high"]]
    found = bank(images(3), asked)
    for i, names in enumerate(asked):
        assert found[i].tasks == tuple(names) and len(found[i].digests) == len(names)
        assert_right(found[i], ours, names, np.repeat(images(3)[i:i + 1], len(names), 0))
    # Image 0 is one row, then "low" leaves it, then "high" and "twin"; image 2 is one row until "high", twice.
    assert [seen[i] for i in range(6)] == [3, 3, 4, 4, 8, 8]
    assert net.blocks[0] is not bank.network.blocks[0]


def test_a_mix_of_kinds_is_one_pass_over_the_network(bank):
    calls = []
    for path, layer in bank.network.named_sublayers():
        if path in ("patch_embed", "blocks.0", "blocks.1.mlp.fc1", "blocks.2.attn"):
            layer.register_forward_post_hook(lambda layer, x, y, path=path: calls.append((path, y.shape[0])))
    bank(images(7), list(MIX))
    assert sorted(calls) == [("blocks.0", 7), ("blocks.1.mlp.fc1", 7), ("blocks.2.attn", 7), ("patch_embed", 7)]


def test_other_inputs_that_people_try(bank, alone):
    assert len(bank(images(0), [])) == 0 and bank(images(2), [[], []]) == [[], []]
    one = bank(images(3), "birds")  # one name for all
    assert_right(one, alone, ["birds"] * 3, images(3))
    assert_right(bank(paddle.to_tensor(images(1)), ["dtd"]), alone, ["dtd"], images(1))
    assert_right(bank(images(1).astype("float64"), ("dtd",)), alone, ["dtd"], images(1))
    with pytest.raises(ppadapt.UserError, match="3 images .* 2 tasks"):
        bank(images(3), ["dtd", "dtd"])
    with pytest.raises(ppadapt.UserError, match="task 'flower' is unknown. Did you mean 'flowers'"):
        bank(images(1), ["flower"])
    with pytest.raises(ppadapt.UserError, match="not some of each"):
        bank(images(2), ["dtd", ["dtd"]])
    with pytest.raises(ppadapt.UserError, match="uint8: they must be float32"):
        bank(images(1).astype("uint8"), ["dtd"])
    with pytest.raises(ppadapt.UserError, match="8 x 8 images"):
        bank(np.zeros([1, 3, 9, 9], "float32"), ["dtd"])
    assert_right(bank(images(2), ["dtd", "food"]), alone, ["dtd", "food"], images(2))  # an error leaves nothing behind


def test_the_network_by_itself_computes_what_it_did_before(bank):
    with paddle.no_grad():
        before = network()(paddle.to_tensor(images(2))).numpy()
        np.testing.assert_allclose(bank.network(paddle.to_tensor(images(2))).numpy(), before, rtol=0, atol=1e-5)
        bank(images(2), ["flowers", "pets"])
        np.testing.assert_allclose(bank.network(paddle.to_tensor(images(2))).numpy(), before, rtol=0, atol=1e-5)
        net = bank.detach()
        np.testing.assert_array_equal(net(paddle.to_tensor(images(2))).numpy(), before)
    assert not any(layer._forward_pre_hooks or layer._forward_post_hooks for layer in net.sublayers(include_self=True))
    assert slots_of(net) is None
    with pytest.raises(ppadapt.UserError, match="unknown"):
        bank(images(1), ["flowers"])


def test_tasks_come_and_go(bank, alone):
    assert bank.tasks == list(MIX)
    bank.remove("cars")
    assert "cars" not in bank.tasks
    with pytest.raises(ppadapt.UserError, match="task 'cars' is unknown"):
        bank(images(1), ["cars"])
    with pytest.raises(ppadapt.UserError, match="task 'cars' is unknown"):
        bank.remove("cars")
    with pytest.raises(ppadapt.UserError, match="'birds' already.*replace=True"):
        bank.add("birds", alone["cars"][0])
    assert_right(bank(images(1), ["birds"]), alone, ["birds"], images(1))
    bank.add("birds", alone["cars"][0], replace=True)
    assert_right(bank(images(1), ["birds"]), {"birds": alone["cars"]}, ["birds"], images(1))
    bank.add("twin of dogs", alone["dogs"][0])  # the same file twice
    assert_right(bank(images(2), ["dogs", "twin of dogs"]), {**alone, "twin of dogs": alone["dogs"]},
                 ["dogs", "twin of dogs"], images(2))
    assert bank.manifest("birds")["classes"] == ["class 0", "class 1", "class 2"]
    assert bank.preprocess == PREPROCESS


@pytest.mark.parametrize("method,why", [
    (("FullFineTuning", {}), "FullFineTuning cannot be in a bank: it trains parameters of the network itself"),
    (("LastBlocks", {"count": 1}), "LastBlocks cannot be in a bank: it trains parameters of the network itself")])
def test_what_cannot_route_is_refused_by_name_with_the_reason(bank, tmp_path, method, why):
    path = save(tmp_path / "full.safetensors", tuned(network(), method))
    with pytest.raises(TuningError, match=f"{path}: {why}.*Serve it on a network of its own"):
        bank.add("full", path)
    assert bank.tasks == list(MIX)


@pytest.mark.parametrize("changes,words", [
    ({"backbone": {"name": "tiny", "digest": "0" * 64}}, ["another backbone", "000000"]),
    ({"backbone": {"name": "tiny", "family": "ViT", "options": {"num_heads": 4}, "digest": None}},
     ["num_heads", "4 in the file", "2 here"]),
    ({"preprocess": [{"ResizeImage": {"size": 9}}, PREPROCESS[1]]}, ["preprocessing", "size: 9 in the file, 8 here"]),
    ({"tuning": [{"name": "AdaptFromer"}]}, ["'AdaptFromer' is unknown. Did you mean 'AdaptFormer'"]),
    ({"tuning": [{"name": "AdaptFormer", "bottleneck": 5}]}, ["is [16, 4] in the file and [16, 5] here"]),
    ({"tuning": [{"name": "AdaptFormer", "botleneck": 4}]}, ["AdaptFormer has options", "botleneck"]),
    ({"tuning": None}, ["does not say which tuning method"]),
    ({"classes": ["one"]}, ["1 classes", "3"])])
def test_a_file_that_does_not_fit_is_refused_with_both_sides_and_the_bank_unchanged(bank, tmp_path, changes, words):
    adaptation = tuned(network(), ("AdaptFormer", {"bottleneck": 4}))
    path = save(tmp_path / "other.safetensors", adaptation, **changes)
    before = bank.memory
    with pytest.raises(ppadapt.UserError) as error:
        bank.add("other", path)
    assert all(word in str(error.value) for word in [str(path), *words]), error.value
    assert bank.tasks == list(MIX) and bank.memory == before
    with pytest.raises(ppadapt.UserError):
        bank.add_folder(tmp_path)
    assert bank.tasks == list(MIX)


def test_a_file_of_another_backbone_names_both_digests(bank, tmp_path):
    other = tuned(network(seed=5), ("LoRA", {"rank": 2}))
    path = save(tmp_path / "other.safetensors", other)
    with pytest.raises(MismatchError) as error:
        bank.add("other", path)
    ours = tuned(network(), ("LoRA", {"rank": 2})).backbone_digest
    assert other.backbone_digest[:12] in str(error.value) and ours[:12] in str(error.value)


def test_files_that_are_none(bank, tmp_path):
    (tmp_path / "junk.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    np.savez(tmp_path / "a.npz", a=np.zeros(2))
    for name, words in (("gone.safetensors", "does not exist"), ("junk.safetensors", "so not a tuned file"),
                        ("a.npz", "is npz without a ppadapt manifest")):
        with pytest.raises(WeightsError, match=words):
            bank.add("x", tmp_path / name)
    path = save(tmp_path / "new.safetensors", tuned(network(), ("LoRA", {"rank": 2})))
    data = path.read_bytes()
    path.write_bytes(data.replace(b'\\"format_version\\": 2', b'\\"format_version\\": 9'))
    with pytest.raises(WeightsError, match="format version 9; this ppadapt reads 1 and 2"):
        bank.add("x", path)
    path.write_bytes(data[:-3] + b"\0\0\1")
    with pytest.raises(WeightsError, match="is damaged"):
        bank.add("x", path)
    with pytest.raises(WeightsError, match="holds no tuned file"):
        bank.add_folder(tmp_path / "nowhere")
    for name in ("", 3, None):
        with pytest.raises(TuningError, match="name is a text"):
            bank.add(name, path)
    assert bank.tasks == list(MIX)


def test_a_network_that_cannot_hold_a_bank_says_why(alone, tmp_path):
    net = network()
    adaptation = attach(net, METHODS["LoRA"](rank=2))
    with pytest.raises(TuningError, match="attached already"):
        Bank(net)
    adaptation.detach()
    bank = Bank(net)
    with pytest.raises(TuningError, match="a bank attached already"):
        Bank(net)
    bank.add("birds", alone["birds"][0])
    net.train()
    with pytest.raises(TuningError, match="train mode: call network.eval"):
        bank(images(1), ["birds"])
    net.eval()
    assert_right(bank(images(1), ["birds"]), alone, ["birds"], images(1))
    half = network()
    half.to(dtype="float16")
    with pytest.raises(TuningError, match="float16.*make the bank first"):
        Bank(half)
    with pytest.raises(TuningError, match="max_memory -1 is not allowed"):
        Bank(network(), max_memory=-1)


def test_no_method_is_attached_to_a_network_that_a_bank_holds(bank, alone):
    with pytest.raises(TuningError, match="attached already.*or of the bank"):
        attach(bank.network, METHODS["Pfeiffer"](bottleneck=2))
    assert_right(bank(images(2), ["dogs", "pets"]), alone, ["dogs", "pets"], images(2))
    attach(bank.detach(), METHODS["Pfeiffer"](bottleneck=2))


def test_matrices_in_half_precision_are_shared_by_all_tasks(bank, alone):
    whole = bank(images(3), ["flowers", "dtd", "food"])
    assert bank.store_frozen("bfloat16") > 0
    half = bank(images(3), ["flowers", "dtd", "food"])
    for a, b in zip(whole, half):
        assert 0 < np.abs(a - b).max() < 0.05 * np.abs(a).max()


def test_headers_alone_are_read_to_list_a_folder(alone, monkeypatch):
    bank, read = Bank(network()), []
    load = row.Row.load
    monkeypatch.setattr(row.Row, "load", lambda one, *rest: (read.append(one.name), load(one, *rest))[1])
    monkeypatch.setattr(np, "fromfile", _noted(np.fromfile, read))
    folder = next(iter(alone.values()))[0].parent
    assert bank.add_folder(folder) == sorted(MIX) == bank.tasks
    assert not read and bank.memory == 0
    assert_right(bank(images(2), ["birds", "cars"]), alone, ["birds", "cars"], images(2))
    assert read == ["birds", str(alone["birds"][0]), "cars", str(alone["cars"][0])] and bank.memory > 0


def _noted(function, calls):
    def noting(what, *rest):
        calls.append(what)
        return function(what, *rest)
    return noting


def test_memory_keeps_what_was_used_last(alone):
    size = {name: sum(a.nbytes for a in load_tuned(path)[0].values()) for name, (path, _) in alone.items()}
    bank = Bank(network(), max_memory=size["flowers"] + size["cars"])
    for name in ("flowers", "cars"):
        bank.add(name, alone[name][0])
    assert bank.memory == size["flowers"] + size["cars"]
    bank(images(1), ["flowers"])
    bank.add("dogs", alone["dogs"][0])  # "cars" was not used for the longest time
    assert bank.memory == size["flowers"] + size["dogs"]
    names = ["cars", "flowers", "dogs"] * 2  # more than fits at once
    assert_right(bank(images(6), names), alone, names, images(6))
    assert bank.memory <= size["flowers"] + size["cars"]
    tiny = Bank(network(), max_memory=1)
    tiny.add("cars", alone["cars"][0])
    assert_right(tiny(images(1), ["cars"]), alone, ["cars"], images(1))
    assert tiny.memory == 0


def test_a_file_that_changed_on_disk_is_not_taken_for_the_one_that_was_added(alone, tmp_path):
    path = tmp_path / "cars.safetensors"
    path.write_bytes(alone["cars"][0].read_bytes())
    kept, lazy = Bank(network()), Bank(network(), max_memory=0)
    for bank in (kept, lazy):
        bank.add("cars", path)
    other = tuned(network(), MIX["cars"], seed=77)
    save(path, other)
    assert_right(kept(images(1), ["cars"]), alone, ["cars"], images(1))  # in memory: as it was
    with pytest.raises(WeightsError, match="another file than the one that was added.*Remove the task and add it anew"):
        lazy(images(1), ["cars"])
    lazy.remove("cars")
    lazy.add("cars", path)
    assert_right(lazy(images(1), ["cars"]), {"cars": (path, other)}, ["cars"], images(1))
    os.remove(path)
    with pytest.raises(WeightsError, match="is gone. Put it back, or remove the task"):
        lazy(images(1), ["cars"])


def test_what_files_do_not_say_is_said_once(alone, tmp_path, caplog):
    bank = Bank(network())
    adaptation = tuned(network(), ("LoRA", {"rank": 2}))
    for i in range(3):
        save(tmp_path / f"t{i}.safetensors", adaptation, backbone={"name": "tiny"})
    with caplog.at_level(logging.WARNING, "ppadapt"):
        bank.add_folder(tmp_path)
    told = [record.getMessage() for record in caplog.records if "could not be checked" in record.getMessage()]
    assert len(told) == 1 and "backbone.digest" in told[0]


def test_a_branch_that_does_not_stack_runs_task_by_task(alone, tmp_path, monkeypatch):
    bank = Bank(network())
    for name in ("flowers", "cars"):
        bank.add(name, alone[name][0])
    for branch in bank._table["flowers"].kind.branches:
        monkeypatch.setattr(branch, "stacks", False)
    names = ["cars", "flowers", "cars", "flowers", "flowers"]
    assert_right(bank(images(5), names), alone, names, images(5))


def test_others_predict_while_tasks_come_and_go(alone):
    bank = Bank(network(), max_memory=2000)
    steady, wrong, stop = ["flowers", "dtd", "dogs"], [], threading.Event()
    for name in steady:
        bank.add(name, alone[name][0])
    wanted = {name: expected(alone, name, images(6)) for name in MIX}

    def ask(seed):
        draw = np.random.RandomState(seed)
        while not stop.is_set():
            names = [str(name) for name in draw.choice(steady, draw.randint(1, 7))]
            try:
                found = bank(images(6)[:len(names)], names)
            except Exception as error:
                wrong.append(error)
                return
            if any(np.abs(found[i] - wanted[name][i]).max() > 1e-5 for i, name in enumerate(names)):
                wrong.append(names)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    try:
        for round_ in range(8):
            for name in ("cars", "birds", "pets", "food"):  # each kind brings hooks of its own
                bank.add(f"{name} {round_}", alone[name][0])
                found = bank(images(6)[:2], [f"{name} {round_}", "dogs"])
                assert np.abs(found[0] - wanted[name][0]).max() <= 1e-5
                bank.remove(f"{name} {round_}")
            bank.add("dtd", alone["dtd"][0], replace=True)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong and bank.tasks == ["flowers", "dtd", "dogs"]


def test_a_layer_that_the_network_never_calls_is_named(alone, monkeypatch):
    bank = Bank(network())
    bank.add("flowers", alone["flowers"][0])
    monkeypatch.setattr(VisionTransformer, "features", lambda self, x: self.blocks[0](self.patch_embed(x))[:, 0])
    with pytest.raises(TuningError, match="'flowers' acts at layers that the network never called: Beside.*blocks.1"):
        bank(images(1), ["flowers"])


class Toy(nn.Layer):
    """The least that has blocks and a head: [N, 4, 2] -> [N, 2]. Ten thousand batches of it are quick."""

    embed_dim = 2

    def __init__(self):
        super().__init__()
        self.blocks = nn.LayerList([ToyBlock(), ToyBlock()])
        self.norm, self.head = nn.LayerNorm(2), nn.Identity()

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, 0])


class ToyBlock(nn.Layer):
    def __init__(self):
        super().__init__()
        self.norm2, self.mlp, self.drop_path = nn.LayerNorm(2), nn.Linear(2, 2), nn.Identity()

    def forward(self, x):
        return x + self.drop_path(self.mlp(self.norm2(x)))


def toy():
    paddle.seed(0)
    return Toy()


class Faults:
    """What goes wrong on purpose, one at a time, somewhere in a call of a bank."""

    def __init__(self, patch, draw):
        self.patch, self.draw, self.happened, self.last = patch, draw, False, {}

    def swapped_row(self):
        """Two samples' weights change places where they are gathered, at one layer."""
        stack = call.stack

        def swapping(weights):
            weights = list(weights)
            i, j = self.draw.choice(len(weights), 2, replace=False)
            if not self.happened and weights[i] is not weights[j] and self.draw.rand() < 0.7:
                weights[i], weights[j], self.happened = weights[j], weights[i], True
            return stack(weights)
        self.patch.setattr(call, "stack", swapping)

    def stale_slot(self):
        """A layer goes on with the weights of the batch before."""
        with_weights = call.Call._with_weights

        def stale(one, branch, numbers):
            made, before = with_weights(one, branch, numbers), self.last.get((branch, len(numbers)))
            rows = [one.questions[number].row for number in numbers]
            self.last[branch, len(numbers)] = made, one.seen[-1][2], rows
            if not self.happened and before and before[2] != rows and self.draw.rand() < 0.7:
                self.happened = True
                one.seen[-1] = (branch, numbers, before[1])
                return before[0]
            return made
        self.patch.setattr(call.Call, "_with_weights", stale)

    def another_in_its_place(self):
        """What is kept under a row is another task's, put there when that one was removed."""
        memory = type(self.bank._memory)
        get, kept = memory.get, list(self.bank._table.values())

        def wrong(one, row, *rest):
            loaded = get(one, row, *rest)
            others = [other for other in kept if other is not row and other.kind is row.kind
                      and other.heads == row.heads]
            if not self.happened and others and self.draw.rand() < 0.7:
                self.happened = True
                return get(one, others[self.draw.randint(len(others))])
            return loaded
        self.patch.setattr(memory, "get", wrong)

    def two_threads(self):
        """A layer takes the questions of another call that is under way."""
        with_weights, earlier = call.Call._with_weights, self.last.setdefault("questions", [])

        def mixed(one, branch, numbers):
            mine = one.questions
            fitting = [other for other in earlier if len(other) >= len(mine)
                       and all(branch in other[n].loaded.weights for n in numbers)
                       and any(other[n].row is not mine[n].row for n in numbers)]
            if not self.happened and fitting and self.draw.rand() < 0.7:
                self.happened, one.questions = True, fitting[self.draw.randint(len(fitting))]
            try:
                return with_weights(one, branch, numbers)
            finally:
                one.questions = mine
                if not earlier or earlier[-1] is not mine:
                    earlier[:] = [*earlier[-9:], mine]
        self.patch.setattr(call.Call, "_with_weights", mixed)

    def swapped_images(self):
        """Two rows of the batch are taken for each other."""
        pick = call.Call._pick

        def wrong(one, stage, x):
            index = list(stage.index)
            i, j = self.draw.randint(len(index), size=2)
            if not self.happened and index[i] != index[j]:
                index[i], index[j], self.happened = index[j], index[i], True
            return pick(one, dataclasses.replace(stage, index=index), x)
        self.patch.setattr(call.Call, "_pick", wrong)

    def swapped_answers(self):
        """The heads' rows come back in another order."""
        argsort = np.argsort

        def wrong(order):
            found = argsort(order)
            i, j = self.draw.randint(len(found), size=2)
            if i != j:
                found[i], found[j], self.happened = found[j], found[i], True
            return found
        self.patch.setattr(call.np, "argsort", wrong)


FAULTS = [name for name in vars(Faults) if not name.startswith("_")]
# PPADAPT_FAULTY_BATCHES=10000 takes a minute; that many are tried before a release.
BATCHES = int(os.environ.get("PPADAPT_FAULTY_BATCHES", "1500"))


def test_no_fault_of_routing_goes_undetected(tmp_path, monkeypatch):
    monkeypatch.setenv("PPADAPT_PLAIN", "1")  # quick layers are not quick on a toy
    anatomy = ppadapt.Anatomy()
    bank = Bank(toy(), anatomy)
    for seed in range(6):
        method = ("AdaptFormer", {"bottleneck": 2, "blocks": "1:" if seed % 3 else "all"})
        adaptation = tuned(toy(), method, seed=seed, head=head_linear, anatomy=anatomy)
        bank.add(f"t{seed}", save(tmp_path / f"t{seed}.safetensors", adaptation))
    draw, caught, clean = np.random.RandomState(0), dict.fromkeys(FAULTS, 0), 0
    batch = draw.normal(size=(6, 4, 2)).astype("float32")
    with monkeypatch.context() as patch:
        faults = Faults(patch, draw)
        faults.bank = bank
        for number in range(BATCHES):
            kind = FAULTS[number % len(FAULTS)]
            patch.undo()
            faults.happened = False
            names = [f"t{i}" for i in draw.randint(6, size=draw.randint(2, 6))]
            asked = [names[:2]] + names[2:] if draw.rand() < 0.3 else names
            asked = [[one] if isinstance(one, str) else one for one in asked] if asked is not names else names
            getattr(faults, kind)()
            try:
                bank(batch[:len(asked)], asked)
            except RoutingError:
                assert faults.happened, kind
                caught[kind] += 1
            else:
                assert not faults.happened, f"{kind} was not found out in {asked}"
                clean += 1
    assert all(count > BATCHES / 20 for count in caught.values()), caught
    assert sum(caught.values()) + clean == BATCHES


def test_without_the_witness_nothing_is_compared(bank, monkeypatch):
    bank.witness = False
    monkeypatch.setattr(call.Call, "check", lambda *_: pytest.fail("compared"))
    bank(images(2), ["flowers", "cars"])


def test_a_bank_is_public():
    assert ppadapt.Bank is Bank
