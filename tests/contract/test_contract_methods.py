"""What every tuning method promises, on every family of networks."""
import copy
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Callable

import numpy as np
import paddle
import pytest
from paddle import nn
from zoo_networks import away_from_start

from ppadapt.config import construct
from ppadapt.models.anatomy import VIT, Anatomy
from ppadapt.models.heads import batchnorm_linear
from ppadapt.models.vit import VisionTransformer
from ppadapt.tuning import METHODS, TuningError, attach
from ppadapt.tuning.frozen.recompute import recompute_blocks
from ppadapt.weights import load_tuned, save_tuned

CLASSES = 5


@dataclasses.dataclass
class Family:
    """A network as small as its family allows, with its own head of CLASSES classes on `dim` features."""

    build: Callable[..., nn.Layer]
    dim: int = 16
    image: int = 8
    anatomy: Anatomy = VIT


def tiny_vit(**options):
    return VisionTransformer(img_size=8, patch_size=4, class_num=CLASSES, embed_dim=16, depth=3, num_heads=2,
                             drop_rate=0.1, drop_path_rate=0.2, **options)


FAMILIES = {
    "vit_cls": Family(tiny_vit),
    "vit_avg": Family(lambda: tiny_vit(pool="avg")),
}
# id -> the sections of Tuning, as a config gives them.
CASES = {
    "adaptformer": [("AdaptFormer", {"bottleneck": 4})],
    "adaptformer_sequential": [("AdaptFormer", {"bottleneck": 4, "option": "sequential"})],
    "adaptformer_layernorm_in": [("AdaptFormer", {"bottleneck": 4, "layernorm": "in"})],
    "adaptformer_layernorm_out": [("AdaptFormer", {"bottleneck": 4, "layernorm": "out"})],
    "adaptformer_learnable": [("AdaptFormer", {"bottleneck": 4, "scale": "learnable"})],
    "adaptformer_last_block": [("AdaptFormer", {"bottleneck": 4, "blocks": [-1]})],
    "vpt_deep": [("VPT", {"num_prompts": 2})],
    "vpt_deep_blocks": [("VPT", {"num_prompts": 2, "blocks": "1:"})],
    "vpt_shallow": [("VPT", {"num_prompts": 2, "deep": False})],
    "adaptformer_vpt": [("AdaptFormer", {"bottleneck": 4}), ("VPT", {"num_prompts": 2})],
    "linear": [("LinearProbe", {})],
    "full": [("FullFineTuning", {})],
    "houlsby": [("Houlsby", {"bottleneck": 4})],
    "pfeiffer": [("Pfeiffer", {"bottleneck": 4})],
    "adapter_plus": [("AdapterPlus", {"bottleneck": 4})],
    "lora": [("LoRA", {"rank": 2})],
    "lora_everywhere": [("LoRA", {"rank": 2, "alpha": 4, "targets": ["q", "k", "v", "proj", "fc1", "fc2"]})],
    "ssf": [("SSF", {})],
    "bitfit": [("BitFit", {})],
    "layernorm": [("LayerNormTuning", {})],
    "convpass": [("Convpass", {"bottleneck": 4})],
    "repadapter": [("RepAdapter", {"bottleneck": 4})],
    "repadapter_attention": [("RepAdapter", {"bottleneck": 4, "scale": 0.5, "mlp": False, "blocks": "1:"})],
    "last_blocks": [("LastBlocks", {"count": 2})],
    "lora_bitfit_layernorm": [("LoRA", {"rank": 2}), ("BitFit", {}), ("LayerNormTuning", {})],
    "repadapter_ssf_lora": [("RepAdapter", {"bottleneck": 4}), ("SSF", {}), ("LoRA", {"targets": ["k", "fc1"]})],
}
EVERYWHERE = pytest.mark.parametrize("family,case", [(f, c) for f in FAMILIES for c in CASES])


def network_of(family):
    """The same network in every process."""
    paddle.seed(0)
    return away_from_start(FAMILIES[family].build())


def methods_of(case):
    return [METHODS[name](**options) for name, options in CASES[case]]


def adapt(family, case, head=True):
    network = network_of(family)
    paddle.seed(1)
    new = batchnorm_linear(FAMILIES[family].dim, CLASSES) if head else None
    return attach(network, *methods_of(case), anatomy=FAMILIES[family].anatomy, head=new)


def images(family, count=4):
    size = FAMILIES[family].image
    return paddle.to_tensor(np.random.RandomState(2).normal(size=(count, 3, size, size)).astype("float32"))


def train(adaptation, family, steps):
    x, y = images(family), paddle.to_tensor([0, 1, 2, 3])
    optimizer = paddle.optimizer.Adam(1e-2, parameters=list(adaptation.trained_parameters().values()))
    adaptation.train()
    for _ in range(steps):
        optimizer.clear_grad()
        nn.functional.cross_entropy(adaptation(x), y).backward()
        optimizer.step()


def shake(adaptation, names, scale=0.5):
    """Move these parameters at random."""
    draw = np.random.RandomState(3)
    for name, parameter in adaptation.trained_parameters().items():
        if name in names:
            parameter.set_value(parameter.numpy() + draw.normal(0, scale, parameter.shape).astype("float32"))


def logits(adaptation, family):
    adaptation.eval()
    with paddle.no_grad():
        return adaptation(images(family)).numpy()


def test_every_method_is_tested():
    assert {name for methods in CASES.values() for name, _ in methods} == set(METHODS)


@EVERYWHERE
def test_attaching_renames_and_changes_nothing(family, case):
    before = {n: p.numpy() for n, p in network_of(family).named_parameters()}
    adaptation = adapt(family, case, head=False)
    after = {n: p.numpy() for n, p in adaptation.network.named_parameters()}
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)
    assert set(after) - set(before) == set(adaptation.new)


@EVERYWHERE
def test_attaching_leaves_the_output_as_it_was(family, case):
    with paddle.no_grad():
        before = network_of(family)(images(family)).numpy()
    after = logits(adapt(family, case, head=False), family)
    if all(method.keeps_output for method in methods_of(case)):
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-6)
    else:
        assert np.abs(after - before).max() > 1e-6


@EVERYWHERE
def test_training_moves_all_that_trains_and_nothing_else(family, case):
    adaptation = adapt(family, case)
    frozen, before = adaptation.frozen_digest(), adaptation.state()
    train(adaptation, family, steps=3)  # an adapter's first matrix waits for its second to leave zero
    with_gradient = {n for n, p in adaptation.network.named_parameters() if p.grad is not None}
    assert with_gradient == set(adaptation.trained) == {
        n for n, p in adaptation.network.named_parameters() if not p.stop_gradient}
    assert adaptation.frozen_digest() == frozen
    still = [n for n, value in adaptation.state().items() if np.array_equal(value, before[n])]
    assert not still
    assert {"head.0.running_mean", "head.0.running_var"} < adaptation.state().keys()


@EVERYWHERE
def test_only_what_trains_is_in_train_mode(family, case):
    adaptation = adapt(family, case)
    adaptation.train()

    def check(layer, name):
        parameters = layer.parameters()
        if parameters:
            assert layer.training == all(not p.stop_gradient for p in parameters), name
        for child_name, child in layer.named_children():
            if not child.parameters():
                assert child.training == layer.training, f"{name}.{child_name}"
            check(child, f"{name}.{child_name}")

    check(adaptation.network, "network")
    adaptation.eval()
    assert not any(layer.training for layer in adaptation.network.sublayers(include_self=True))


@EVERYWHERE
def test_attaching_twice_is_refused(family, case):
    adaptation = adapt(family, case)
    with pytest.raises(TuningError, match="attached already.*detach"):
        attach(adaptation.network, *methods_of(case), anatomy=FAMILIES[family].anatomy)


@EVERYWHERE
def test_a_deep_copy_goes_its_own_way(family, case):
    adaptation = adapt(family, case)
    train(adaptation, family, steps=2)
    before = logits(adaptation, family)
    twin = copy.deepcopy(adaptation)
    np.testing.assert_array_equal(logits(twin, family), before)
    below_head = [n for n in twin.trained if not n.startswith("head.")]
    shake(twin, below_head or twin.trained)
    changed = logits(twin, family)
    assert np.abs(changed - before).max() > 1e-3
    np.testing.assert_array_equal(logits(adaptation, family), before)
    shake(adaptation, adaptation.trained)
    np.testing.assert_array_equal(logits(twin, family), changed)


@EVERYWHERE
def test_merging_gives_the_plain_network_back_or_says_why_not(family, case):
    adaptation = adapt(family, case)
    train(adaptation, family, steps=2)
    shake(adaptation, adaptation.trained, 0.1)
    before = logits(adaptation, family)
    if any(method.unmergeable for method in adaptation.methods):
        with pytest.raises(TuningError, match="cannot be merged into the network: its .*side by side"):
            adaptation.merge()
        return
    merged = adaptation.merge()
    with paddle.no_grad():
        np.testing.assert_allclose(merged(images(family)).numpy(), before, rtol=0, atol=1e-4)
    plain = attach(network_of(family), METHODS["LinearProbe"](), anatomy=FAMILIES[family].anatomy,
                   head=batchnorm_linear(FAMILIES[family].dim, CLASSES)).network
    assert merged.state_dict().keys() == plain.state_dict().keys()
    assert not any(layer._forward_pre_hooks or layer._forward_post_hooks
                   for layer in merged.sublayers(include_self=True))
    moved = any(not np.array_equal(p.numpy(), merged.state_dict()[n].numpy())
                for n, p in plain.named_parameters() if not n.startswith("head."))
    assert moved == (case != "linear")
    plain.set_state_dict(merged.state_dict())
    with paddle.no_grad():
        np.testing.assert_allclose(plain(images(family)).numpy(), before, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(logits(adaptation, family), before)


def everything_of(network):
    """All that a network is, but for what it computes: names, values, classes, hooks, flags, modes."""
    layers = {path: (type(layer), layer.training, len(layer._forward_pre_hooks), len(layer._forward_post_hooks))
              for path, layer in network.named_sublayers(include_self=True)}
    flags = {name: (p.stop_gradient, p.grad is None, str(p.dtype)) for name, p in network.named_parameters()}
    return layers, flags, {n: t.numpy().tobytes() for n, t in network.state_dict().items()}, sorted(vars(network))


@EVERYWHERE
def test_detaching_gives_the_network_back_bit_for_bit(family, case):
    network = network_of(family)
    network.blocks[1].train()
    network.pos_embed.stop_gradient = True
    head, before = network.head, everything_of(network)
    paddle.seed(4)
    with paddle.no_grad():
        answers = network(images(family)).numpy()
    paddle.seed(1)
    adaptation = attach(network, *methods_of(case), anatomy=FAMILIES[family].anatomy,
                        head=batchnorm_linear(FAMILIES[family].dim, CLASSES))
    train(adaptation, family, steps=2)
    recompute_blocks(network, adaptation.anatomy)
    assert everything_of(network) != before
    assert adaptation.detach() is network and network.head is head
    assert everything_of(network) == before
    paddle.seed(4)
    with paddle.no_grad():
        np.testing.assert_array_equal(network(images(family)).numpy(), answers)
    with pytest.raises(TuningError, match="was detached"):
        adaptation(images(family))

    logits_again = []  # another method now does what it does on a network of its own
    for one in (network, network_of(family)):
        paddle.seed(1)
        other = attach(one, METHODS["LoRA"](rank=2), METHODS["VPT"](2), anatomy=FAMILIES[family].anatomy,
                       head=batchnorm_linear(FAMILIES[family].dim, CLASSES))
        paddle.seed(2)
        train(other, family, steps=2)
        logits_again.append(logits(other, family))
    np.testing.assert_array_equal(*logits_again)


@pytest.mark.parametrize("case", CASES)
def test_the_options_are_plain_data_that_builds_the_method_again(case):
    for method in methods_of(case):
        name = type(method).__name__
        told = json.loads(json.dumps({"name": name, **method.options}))
        assert construct(METHODS, told, "Tuning").options == method.options


def test_a_fresh_process_computes_the_same_logits(tmp_path):
    expected = {}
    for family in FAMILIES:
        for case in CASES:
            adaptation = adapt(family, case)
            train(adaptation, family, steps=2)
            save_tuned(tmp_path / f"{family}-{case}.safetensors", adaptation.state(), {"format_version": 1})
            expected[f"{family}-{case}"] = logits(adaptation, family)
    assert_a_fresh_process_agrees(__file__, tmp_path, expected)


def assert_a_fresh_process_agrees(module, folder, expected):
    """`load_and_run(folder)` of the module, called in a process of its own, leaves these logits in logits.npz."""
    here = Path(module).resolve()
    path = os.pathsep.join([str(here.parent), str(here.parents[2]), os.environ.get("PYTHONPATH", "")])
    code = f"import pathlib, {here.stem} as t; t.load_and_run(pathlib.Path({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, check=True)
    found = np.load(folder / "logits.npz")
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def load_and_run(folder):
    """The fresh process: every tuned file of the folder on a network of its own, all logits into one file."""
    found = {}
    for path in folder.glob("*.safetensors"):
        family, case = path.stem.split("-")
        adaptation = adapt(family, case)
        for parameter in adaptation.trained_parameters().values():
            parameter.set_value(np.full(parameter.shape, 7.0, "float32"))  # nothing may be left of it
        adaptation.load_state(load_tuned(path)[0])
        found[path.stem] = logits(adaptation, family)
    np.savez(folder / "logits.npz", **found)
