"""What every tuning method promises, on every family of PaddleClas's networks, small and random."""
import copy
import functools

import numpy as np
import paddle
import pytest
from paddle import nn
from test_contract_methods import CASES, assert_a_fresh_process_agrees, everything_of, methods_of, shake
from zoo_networks import TINY, away_from_start, tiny

from ppadapt import paddle_compat
from ppadapt.models.anatomy import find
from ppadapt.models.heads import batchnorm_linear
from ppadapt.models.paddleclas.families import FAMILIES
from ppadapt.tuning import METHODS, TuningError, attach
from ppadapt.tuning.frozen.layers import prepare_frozen
from ppadapt.tuning.frozen.recompute import recompute_blocks
from ppadapt.tuning.methods import LinearProbe
from ppadapt.weights import load_tuned, save_tuned

pytest.importorskip("paddleclas", reason="PaddleClas is not installed: it needs Python <= 3.11")
FAMILY = {family.title: family for family in FAMILIES}
# One case for each method, and those that reach what the first does not.
OPTIONS = ("adaptformer_sequential", "adaptformer_last_block", "lora_everywhere", "repadapter_attention")
ZOO_CASES = [*{sections[-1][0]: case for case, sections in reversed(CASES.items()) if len(sections) == 1}.values(),
             *OPTIONS]
EVERY_FAMILY = pytest.mark.parametrize("title", TINY)


@functools.lru_cache(maxsize=1)
def original(title):
    """Made once for the tests of a family."""
    return away_from_start(tiny(title))


def adapt(title, case, cheap=True):
    network = copy.deepcopy(original(title))
    paddle.seed(1)
    return attach(network, *methods_of(case), cheap=cheap)


def images(title):
    size = TINY[title].image
    return paddle.to_tensor(np.random.RandomState(2).normal(size=(4, 3, size, size)).astype("float32"))


def logits(network, title):
    network.eval()
    with paddle.no_grad():
        return network(images(title)).numpy()


def gradients(adaptation, title):
    nn.functional.cross_entropy(adaptation(images(title)), paddle.to_tensor([0, 1, 2, 3])).backward()
    return {n: p.grad.numpy() for n, p in adaptation.trained_parameters().items() if p.grad is not None}


def unsupported(title, case):
    """Whether the family's own words exclude a method of this case."""
    anatomy = FAMILY[title].anatomy
    return any(name in anatomy.without or name == "LoRA" and set(options.get("targets", "qv")) - set(anatomy.linears)
               for name, options in CASES[case])


@pytest.mark.parametrize("title,case", [(title, case) for title in TINY for case in ZOO_CASES])
def test_the_contract(title, case):
    network = original(title)
    if unsupported(title, case):
        with pytest.raises(TuningError, match="does not fit .* Choose from: AdaptFormer, |is not among this network's"):
            adapt(title, case)
        return
    adaptation = adapt(title, case)  # renames and changes nothing
    after = dict(adaptation.network.named_parameters())
    before = dict(network.named_parameters())
    assert set(after) - set(before) == set(adaptation.new)
    assert all(np.array_equal(after[name].numpy(), value.numpy()) for name, value in before.items())
    plain, with_quick_layers = logits(network, title), copy.deepcopy(network)
    prepare_frozen(with_quick_layers)  # those that `attach` puts in: on a CPU their products round in their own way
    quick = logits(with_quick_layers, title)
    np.testing.assert_allclose(quick, plain, rtol=0, atol=1e-5 * np.abs(plain).max())
    change = np.abs(logits(adaptation.network, title) - quick).max()
    assert change < 1e-6 if all(m.keeps_output for m in adaptation.methods) else change > 1e-7

    frozen, start = adaptation.frozen_digest(), adaptation.state()  # trains what it names, and nothing else
    # Matrices before one that starts at zero would wait for a second step.
    shake(adaptation, [n for n, value in start.items() if not value.any() and not n.endswith("bias")], 0.1)
    optimizer = paddle.optimizer.Adam(1e-2, parameters=list(adaptation.trained_parameters().values()))
    adaptation.train()
    found = gradients(adaptation, title)
    optimizer.step()
    assert set(found) == set(adaptation.trained) - set(FAMILY[title].unused)
    assert {n for n, p in adaptation.network.named_parameters() if p.grad is not None} == set(found)
    assert adaptation.frozen_digest() == frozen
    now = adaptation.state()
    still = [n for n in found if np.array_equal(now[n], start[n])]
    assert not [n for n in still if not n.startswith(TINY[title].idle)]

    expected = logits(adaptation.network, title)  # is its tuned state
    other = adapt(title, case)
    other.load_state(now)
    np.testing.assert_array_equal(logits(other.network, title), expected)

    if any(method.unmergeable for method in adaptation.methods):  # merges, or says why not
        with pytest.raises(TuningError, match="cannot be merged"):
            adaptation.merge()
    elif any(case.startswith(method) for method in TINY[title].no_bias):
        with pytest.raises(TuningError, match="has no bias to take"):
            adaptation.merge()
    else:
        merged = adaptation.merge()
        assert merged.state_dict().keys() == network.state_dict().keys()
        assert not any(layer._forward_pre_hooks or layer._forward_post_hooks for layer in merged.sublayers(True))
        np.testing.assert_allclose(logits(merged, title), expected, rtol=0, atol=1e-4)
    assert everything_of(adaptation.detach()) == everything_of(original(title))


@EVERY_FAMILY
def test_a_new_head_takes_the_place_of_every_classifier(title):
    network = copy.deepcopy(original(title))
    dim = FAMILY[title].anatomy.feature_dim(network)
    adaptation = attach(network, LinearProbe(), head=batchnorm_linear(dim, 3))
    count = 1 + len(FAMILY[title].anatomy.head_twins)
    assert adaptation.counts()[0] == count * (3 * dim + 3) and len(adaptation.tensors()) == count * 4
    adaptation.train()
    assert adaptation(images(title)).shape == [4, 3]
    assert set(adaptation.trained) == set(adaptation.new)


@EVERY_FAMILY
def test_adaptformer_reads_the_residual_stream_before_the_mlp(title):
    """The stream is what the network's own block returns when its MLP returns nothing."""
    adaptation = branches(title)
    seen = []
    blocks = adaptation.anatomy.block_list(adaptation.network)
    for block in blocks:
        block.register_forward_pre_hook(lambda layer, inputs: seen.append(_copies(inputs)))
        block.register_forward_post_hook(lambda layer, inputs, output: seen.append(_stream(output).clone()))
    with paddle.no_grad():
        adaptation(images(title))
        for i, own in enumerate(adaptation.anatomy.block_list(copy.deepcopy(original(title)))):
            inputs, found = seen[2 * i:2 * i + 2]
            whole = _stream(own(*_copies(inputs)))
            for name, parameter in own.named_parameters():
                if name.startswith("mlp.fc2") or title == "Swin v2" and name.startswith("norm2"):
                    parameter.set_value(paddle.zeros_like(parameter))
            stream = _stream(own(*_copies(inputs))).numpy()
            w = {n: p.numpy() for n, p in blocks[i].adaptmlp.named_parameters()}
            hidden = np.maximum(stream @ w["down_proj.weight"] + w["down_proj.bias"], 0)
            branch = 0.1 * (hidden @ w["up_proj.weight"] + w["up_proj.bias"])
            assert np.abs(branch).max() > 1e-2
            np.testing.assert_allclose(found.numpy(), whole.numpy() + branch, rtol=0, atol=1e-5)


def _copies(inputs):
    """TNT's blocks change what they are given."""
    return [x.clone() if isinstance(x, paddle.Tensor) else x for x in inputs]


def _stream(output):
    return output[-1] if isinstance(output, tuple) else output


@EVERY_FAMILY
def test_what_is_frozen_costs_less_and_changes_no_gradient(title):
    cheap, plain = (branches(title, cheap=cheap) for cheap in (True, False))
    found, expected = gradients(cheap, title), gradients(plain, title)
    assert found.keys() == expected.keys() and {type(m) for m in cheap.network.sublayers()} != {
        type(m) for m in plain.network.sublayers()}
    for name, gradient in expected.items():
        np.testing.assert_allclose(found[name], gradient, rtol=0, atol=1e-5 * np.abs(gradient).max(), err_msg=name)


@EVERY_FAMILY
def test_frozen_matrices_may_be_kept_in_half_precision(title):
    for cheap in (True, False):
        adaptation = branches(title, cheap)
        expected = logits(adaptation.network, title)
        count = adaptation.store_frozen("bfloat16")
        if "frozen_dtype" in FAMILY[title].anatomy.without:
            assert not count
        else:
            kept = {p.dtype for p in adaptation.network.parameters() if p.stop_gradient and p.ndim == 2}
            assert count and paddle.bfloat16 in kept
            assert {str(g.dtype) for g in gradients(adaptation, title).values()} == {"float32"}
        # bfloat16 has 8 bits: each matrix is off by up to 0.4%.
        np.testing.assert_allclose(logits(adaptation.network, title), expected, atol=0.02 * np.abs(expected).max())


@EVERY_FAMILY
def test_recompute_changes_no_gradient_or_is_refused(title):
    adaptation = branches(title)
    if "recompute" in FAMILY[title].anatomy.without:
        with pytest.raises(TuningError, match="recompute does not work on"):
            recompute_blocks(adaptation.network)
        return
    blocks = adaptation.anatomy.block_list(adaptation.network)
    if any(isinstance(layer, paddle_compat.AnyBatchNorm) for block in blocks for layer in block.sublayers()) \
            and paddle_compat.missing("recompute of a BatchNorm"):
        with pytest.raises(TuningError, match="recompute does not work on .* here: Paddle .* has no recompute of a"):
            recompute_blocks(adaptation.network)
        return
    expected = gradients(branches(title), title)
    recompute_blocks(adaptation.network)
    runs = []
    for block in adaptation.anatomy.block_list(adaptation.network):
        find(block, adaptation.anatomy.branch_in).register_forward_pre_hook(lambda layer, inputs: runs.append(layer))
    found = gradients(adaptation, title)
    blocks = len(adaptation.anatomy.block_list(adaptation.network))
    assert len(runs) == 2 * blocks - 1  # nothing below the first asks for a gradient
    for name, gradient in expected.items():
        np.testing.assert_allclose(found[name], gradient, rtol=0, atol=1e-6 * np.abs(gradient).max(), err_msg=name)


@pytest.mark.parametrize("title", ["Swin v2", "Unicom"])  # our own forward; a module of its own
def test_an_export_of_any_batch_size_computes_the_same(title):
    network = branches(title).network
    expected = logits(network, title)
    shape = paddle.static.InputSpec([None, *images(title).shape[1:]], "float32")
    static = paddle.jit.to_static(network, input_spec=[shape], full_graph=True)
    with paddle.no_grad():
        for count in (4, 3):
            np.testing.assert_allclose(static(images(title)[:count]).numpy(), expected[:count], rtol=0, atol=1e-5)


def branches(title, cheap=True):
    """AdaptFormer away from its start, where its gradients reach every block."""
    adaptation = adapt(title, "adaptformer", cheap)
    shake(adaptation, adaptation.trained)
    adaptation.eval()
    return adaptation


def test_a_fresh_process_computes_the_same_logits(tmp_path):
    expected = {}
    for title in TINY:
        adaptation = branches(title)
        save_tuned(tmp_path / f"{title}.safetensors", adaptation.state(), {"format_version": 1})
        expected[title] = logits(adaptation, title)
    assert_a_fresh_process_agrees(__file__, tmp_path, expected)


def load_and_run(folder):
    """The fresh process builds the families in another order: none may depend on what was built before."""
    found = {}
    for title in reversed(TINY):
        adaptation = adapt(title, "adaptformer")
        adaptation.load_state(load_tuned(folder / f"{title}.safetensors")[0])
        found[title] = logits(adaptation, title)
    np.savez(folder / "logits.npz", **found)


def test_every_family_is_here():
    assert TINY.keys() == FAMILY.keys()
    assert {name for case in ZOO_CASES for name, _ in CASES[case]} == set(METHODS)
