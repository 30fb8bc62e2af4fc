"""Frozen layers: gradients equal to plain Paddle's and to NumPy's, less kept, plain wherever that is called for."""
import copy
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from numpy_block import Block
from paddle import nn
from paddle.base import core
from paddle.nn import functional as F

from ppadapt.models.heads import head_linear
from ppadapt.models.layers import Attention
from ppadapt.models.vit import VisionTransformer
from ppadapt.paddle_compat import recompute
from ppadapt.tuning import attach
from ppadapt.tuning.frozen import layers as frozen
from ppadapt.tuning.frozen.layers import CheapAttention, CheapLayerNorm, CheapLinear, prepare_frozen
from ppadapt.tuning.methods import VPT, AdaptFormer, FullFineTuning, LastBlocks, LayerNormTuning, LoRA
from ppadapt.tuning.methods.bitfit import BitFit

DIM, HEADS = 8, 2
CPU = paddle.get_device() == "cpu"
on_cpu = pytest.mark.skipif(not CPU, reason="what is measured here is for a CPU")


def draw(*shape, dtype="float32", seed=0):
    return paddle.to_tensor(np.random.default_rng(seed).normal(size=shape).astype(dtype))


def freeze(layer, dtype="float32", seed=1):
    """Random numbers in a layer of plain Paddle, frozen, then made cheap."""
    rng = np.random.default_rng(seed)
    layer.to(dtype=dtype)
    for p in layer.parameters():
        p.set_value((rng.normal(size=p.shape) * 0.5).astype(dtype))
        p.stop_gradient = True
    prepare_frozen(layer)
    layer.eval()
    return layer


def input_gradient(layer, x, weights):
    """The gradient of sum(weights * layer(x)) with respect to x."""
    x = x.detach()
    x.stop_gradient = False
    (layer(x) * weights).sum().backward()
    return x.grad.numpy()


def numpy_gradient(function, x, weights, step=1e-5):
    """The same by central differences in float64."""
    x, grad = x.astype("float64"), np.zeros(x.shape)
    for i in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[i] += step
        down[i] -= step
        grad[i] = ((function(up) - function(down)) * weights).sum() / (2 * step)
    return grad


def assert_close(found, expected, relative):
    assert np.abs(found - expected).max() <= relative * np.abs(expected).max()


def node(layer, x):
    """The name of the operation that autograd recorded for layer(x), empty for none."""
    y = layer(x)
    return "" if y.stop_gradient else y.grad_fn.name()


def wanted(*shape, **options):
    x = draw(*shape, **options)
    x.stop_gradient = False
    return x


class Reference(Block):
    """`numpy_block.Block` around one layer."""

    def __init__(self, name, layer):
        super().__init__({f"{name}.{n}": p.numpy().astype("float64") for n, p in layer.named_parameters()})
        for part in ("attn.qkv", "attn.proj"):
            if f"{part}.weight" in self.w:
                self.w.setdefault(f"{part}.bias", 0.0)


@on_cpu
def test_paddle_leaves_a_frozen_weight_out_of_layer_norms_gradient():
    """The fault FrozenLayerNorm is for. When this is skipped everywhere, its copy of the weight can go."""
    x, weights, weight = draw(2, 3, DIM), draw(2, 3, DIM, seed=2), draw(DIM, seed=3)
    grads = []
    for stop_gradient in (False, True):
        weight.stop_gradient = stop_gradient
        grads.append(input_gradient(lambda a: F.layer_norm(a, [DIM], weight, paddle.zeros([DIM])), x, weights))
    if np.allclose(*grads, atol=1e-4):
        pytest.skip(f"Paddle {paddle.__version__} does not have this fault")
    np.testing.assert_allclose(grads[1], input_gradient(lambda a: F.layer_norm(a, [DIM]), x, weights), atol=1e-5)


@pytest.mark.parametrize("dtype, relative", [("float32", 1e-5), ("float64", 1e-8)])
@pytest.mark.parametrize("cheap", [True, False])
def test_layer_norm_has_the_gradient_of_its_equation(cheap, dtype, relative):
    layer = nn.LayerNorm(DIM, epsilon=1e-3)
    layer.weight.stop_gradient = layer.bias.stop_gradient = True
    prepare_frozen(layer, cheap)
    layer = freeze(layer, dtype)
    x, weights = draw(2, 3, DIM, dtype=dtype) * 2 + 1, draw(2, 3, DIM, dtype=dtype, seed=2)
    reference = Reference("norm", layer)
    expected = numpy_gradient(lambda a: reference.norm("norm", a, 1e-3), x.numpy(), weights.numpy())
    assert_close(input_gradient(layer, x, weights), expected, relative)


@on_cpu
@pytest.mark.parametrize("mean, deviation", [(1.9, 1), (2.1, 1), (10, 1), (1000, 1), (100, 0.01), (0, 1e-4)])
def test_layer_norm_is_exact_far_from_zero_too(mean, deviation):
    layer = freeze(nn.LayerNorm(DIM, epsilon=1e-6))
    x, weights = draw(1, DIM) * deviation + mean, draw(1, DIM, seed=2)
    reference = Reference("norm", layer)
    expected = numpy_gradient(lambda a: reference.norm("norm", a), x.numpy(), weights.numpy(), step=1e-5 * deviation)
    assert_close(input_gradient(layer, x, weights), expected, 1e-5)


@pytest.mark.parametrize("dtype, relative", [("float32", 1e-5), ("float64", 1e-10)])
@pytest.mark.parametrize("bias", [None, False])
def test_linear_has_the_gradient_of_its_equation(bias, dtype, relative):
    layer = freeze(nn.Linear(DIM, 5, bias_attr=bias), dtype)
    x, weights = draw(2, 3, DIM, dtype=dtype), draw(2, 3, 5, dtype=dtype, seed=2)
    assert_close(input_gradient(layer, x, weights), weights.numpy() @ layer.weight.numpy().T, relative)
    expected = x.numpy() @ layer.weight.numpy() + (0 if bias is False else layer.bias.numpy())
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=0, atol=1e-5)


@on_cpu
@pytest.mark.parametrize("dtype, relative", [("float32", 1e-5), ("float64", 1e-8)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("tokens", [5, 20])  # softmax kept, and made again
def test_attention_has_the_gradient_of_its_equation(tokens, bias, dtype, relative):
    layer = freeze(Attention(DIM, HEADS, qkv_bias=bias), dtype)
    x, weights = draw(2, tokens, DIM, dtype=dtype), draw(2, tokens, DIM, dtype=dtype, seed=2)
    assert "_Attention" in node(layer, wanted(2, tokens, DIM, dtype=dtype))
    reference = Reference("attn", layer)
    expected = numpy_gradient(reference.attn, x.numpy(), weights.numpy())
    assert_close(input_gradient(layer, x, weights), expected, relative)
    x.stop_gradient = False
    np.testing.assert_allclose(layer(x).numpy(), reference.attn(x.numpy().astype("float64")), rtol=0, atol=1e-5)


METHODS = {
    "adaptformer": lambda: [AdaptFormer(4, dropout=0.0)],
    "sequential": lambda: [AdaptFormer(4, option="sequential", layernorm="in", scale="learnable", dropout=0.0)],
    "last block": lambda: [AdaptFormer(4, dropout=0.0, blocks=[-1])],
    "vpt": lambda: [VPT(3)],
    "lora": lambda: [LoRA(2, targets=["q", "v", "proj", "fc1"])],
    "bitfit": lambda: [BitFit()],
    "layernorm": lambda: [LayerNormTuning()],
    "last blocks": lambda: [LastBlocks(1)],
    "full": lambda: [FullFineTuning()],
}


def build(method, cheap=True, side=12, dtype="float32"):
    paddle.seed(5)
    network = VisionTransformer(img_size=side, patch_size=4, class_num=0, embed_dim=16, depth=3, num_heads=2)
    adaptation = attach(network, *METHODS[method](), head=head_linear(16, 5), cheap=cheap)
    network.to(dtype=dtype)
    rng = np.random.default_rng(6)
    for p in network.parameters():
        p.set_value((p.numpy() + rng.normal(size=p.shape) * 0.1).astype(dtype))
    adaptation.train()
    return adaptation


def batch(side=12, count=4, dtype="float32"):
    return draw(count, 3, side, side, dtype=dtype, seed=7), paddle.to_tensor(np.arange(count) % 5)


def gradients(adaptation, images, labels):
    for p in adaptation.trained_parameters().values():
        p.clear_gradient()
    F.cross_entropy(adaptation(images), labels).backward()
    return {n: p.grad.numpy().copy() for n, p in adaptation.trained_parameters().items()}


@pytest.mark.parametrize("dtype, relative", [("float32", 3e-5), ("float64", 1e-10)])
@pytest.mark.parametrize("side", [12, 48])  # softmax kept, and made again
@pytest.mark.parametrize("method", METHODS)
def test_every_method_gets_the_gradients_of_plain_layers(method, side, dtype, relative):
    images, labels = batch(side, dtype=dtype)
    found, expected = (gradients(build(method, cheap, side, dtype), images, labels) for cheap in (True, False))
    assert found.keys() == expected.keys()
    scale = max(np.abs(g).max() for g in expected.values())
    for name, grad in expected.items():
        # The bias of k has a gradient of nothing but rounding errors, so small ones are held to the largest.
        assert np.abs(found[name] - grad).max() <= relative * max(np.abs(grad).max(), 0.1 * scale), name


@on_cpu
@pytest.mark.parametrize("dtype, bits", [("bfloat16", 8), ("float16", 11)])
@pytest.mark.parametrize("cheap", [True, False])
def test_matrices_kept_in_half_precision_compute_in_float32(cheap, dtype, bits):
    """Their rounding is all that differs: a float32 network of the rounded matrices computes the same."""
    stored, rounded = build("adaptformer", cheap), build("adaptformer", cheap)
    parameters = dict(stored.network.named_parameters())
    count = stored.store_frozen(dtype)
    assert count == 3 * (16 * 48 + 48 + 16 * 16 + 16 + 2 * 16 * 64 + 64 + 16)
    for name, p in rounded.network.named_parameters():
        assert parameters[name] is dict(stored.network.named_parameters())[name]
        kept = parameters[name]
        if str(kept.dtype).endswith(dtype):
            assert kept.stop_gradient
            # float16 has fewer bits below 2^-14.
            np.testing.assert_allclose(kept.astype("float32").numpy(), p.numpy(), rtol=2.0 ** -bits, atol=2.0 ** -25)
            p.set_value(kept.astype("float32"))
    images, labels = batch()
    found, expected = (gradients(a, images, labels) for a in (stored, rounded))
    for name, grad in expected.items():
        assert found[name].dtype == np.float32
        assert_close(found[name], grad, 1e-5)


@on_cpu
def test_what_trains_is_never_kept_in_half_precision():
    adaptation = build("bitfit")
    assert adaptation.store_frozen("bfloat16") == 0
    adaptation = build("last blocks")
    adaptation.store_frozen("bfloat16")
    assert {str(p.dtype) for p in adaptation.trained_parameters().values()} <= {"float32", "paddle.float32"}


def test_under_amp_a_frozen_matrix_is_cast_once_not_in_every_step(monkeypatch):
    """Paddle is handed the very tensor that is stored, so that there is nothing left to cast."""
    adaptation, seen = build("adaptformer"), []
    adaptation.store_frozen("bfloat16")
    layer = adaptation.network.blocks[1].mlp.fc1
    monkeypatch.setattr(frozen, "autocasting", lambda: True)
    monkeypatch.setattr(frozen.F, "linear", lambda x, w, b: seen.append(w is layer.weight) or (
        paddle.matmul(x, w.astype(x.dtype)) + b.astype(x.dtype)))
    layer(wanted(2, 16))
    layer(draw(2, 16))
    assert seen == [True, True]


def test_names_and_parameters_stay():
    cheap, plain = build("adaptformer").network, build("adaptformer", cheap=False).network
    assert list(cheap.state_dict()) == list(plain.state_dict())
    assert {type(layer) for layer in cheap.sublayers()} >= {CheapLinear, CheapLayerNorm, CheapAttention}


def test_the_switches_leave_plain_layers(monkeypatch):
    plain = {type(layer) for layer in build("adaptformer", cheap=False).network.sublayers()}
    monkeypatch.setenv("PPADAPT_PLAIN", "1")
    assert {type(layer) for layer in build("adaptformer").network.sublayers()} == plain
    assert not plain & {CheapLinear, CheapLayerNorm, CheapAttention}


def test_full_fine_tuning_stays_plain():
    kinds = {type(layer).__module__ for layer in build("full").network.sublayers()}
    assert "ppadapt.tuning.frozen" not in kinds


def test_nothing_is_recorded_below_the_first_trained_block():
    adaptation, records = build("last block"), []
    for block in adaptation.network.blocks:
        block.register_forward_pre_hook(lambda layer, inputs: records.append(inputs[0].stop_gradient))
        block.mlp.fc2.register_forward_post_hook(lambda layer, i, out: records.append(out.stop_gradient))
    adaptation(batch()[0])
    assert records == [True] * 6  # the branch of the last block joins after its fc2


def kept(make, cheap):
    """Bytes that a chain of ten layers holds between forward and backward."""
    layers = nn.Sequential(*(make() for _ in range(10)))
    for p in layers.parameters():
        p.stop_gradient = True
    prepare_frozen(layers, cheap)
    x = wanted(64, 32, 64)
    before = core.host_memory_stat_current_value("Allocated", 0)
    y = layers(x)
    held = core.host_memory_stat_current_value("Allocated", 0) - before
    del y
    return held / (64 * 32 * 64 * 4)


@on_cpu
def test_a_frozen_linear_keeps_nothing():
    assert kept(lambda: nn.Linear(64, 64), cheap=False) >= 9.5
    assert kept(lambda: nn.Linear(64, 64), cheap=True) <= 1.5  # the output


@on_cpu
def test_attention_does_not_keep_a_softmax_longer_than_q_k_and_v():
    # In units of the input: q, k, v and the output; softmax would be 32 * 8 / 64 = 4, twice in plain layers.
    assert kept(lambda: Attention(64, 8), cheap=True) <= 10 * 4.2
    assert kept(lambda: Attention(64, 8), cheap=False) >= 10 * 7.5


def test_without_gradients_the_plain_operation_runs():
    for layer in (nn.Linear(DIM, DIM), nn.LayerNorm(DIM), Attention(DIM, HEADS)):
        layer = freeze(layer)
        assert node(layer, draw(2, 3, DIM)) == ""
        with paddle.no_grad():
            assert node(layer, wanted(2, 3, DIM)) == ""


@on_cpu
def test_a_layer_that_trains_again_gets_all_its_gradients():
    attention, plain = freeze(Attention(DIM, HEADS)), Attention(DIM, HEADS)
    plain.set_state_dict(attention.state_dict())
    for p in attention.parameters():
        p.stop_gradient = False
    x, weights = draw(2, 3, DIM), draw(2, 3, DIM, seed=2)
    for layer in (attention, plain):
        (layer(x) * weights).sum().backward()
    for p, q in zip(attention.parameters(), plain.parameters()):
        # k's bias has no gradient but rounding.
        assert_close(p.grad.numpy() + 1, q.grad.numpy() + 1, 1e-5)


def test_dropout_of_a_frozen_attention_in_train_mode_is_plain_paddles():
    layer = freeze(Attention(DIM, HEADS, attn_drop=0.5))
    assert ("_Attention" in node(layer, wanted(2, 3, DIM))) == CPU
    layer.train()
    assert "_Attention" not in node(layer, wanted(2, 3, DIM))
    paddle.seed(3)
    first = layer(wanted(2, 3, DIM)).numpy()
    assert np.abs(first - layer(wanted(2, 3, DIM)).numpy()).max() > 0.01


def test_hooks_inside_an_attention_still_run():
    layer, seen = freeze(Attention(DIM, HEADS)), []
    layer.qkv.register_forward_post_hook(lambda *args: seen.append(1))
    layer(wanted(2, 3, DIM))
    assert seen == [1]


def test_a_deep_copy_is_cheap_and_goes_its_own_way():
    layer = freeze(nn.Linear(DIM, DIM))
    other = copy.deepcopy(layer)
    other.weight.set_value(paddle.zeros([DIM, DIM]))
    assert "PyLayer" in node(other, wanted(2, DIM))
    assert input_gradient(other, draw(2, DIM), draw(2, DIM)).any() == 0
    assert input_gradient(layer, draw(2, DIM), draw(2, DIM)).any()


def test_gradients_accumulate_over_batches():
    adaptation, (images, labels) = build("adaptformer"), batch(count=8)
    whole = gradients(adaptation, images, labels)
    for p in adaptation.trained_parameters().values():
        p.clear_gradient()
    for half in (slice(0, 4), slice(4, 8)):
        (F.cross_entropy(adaptation(images[half]), labels[half]) / 2).backward()
    for name, p in adaptation.trained_parameters().items():
        np.testing.assert_allclose(p.grad.numpy(), whole[name], rtol=1e-4, atol=1e-6)


def test_two_processes_share_gradients_under_data_parallel():
    done = subprocess.run([sys.executable, str(Path(__file__).with_name("two_processes.py"))], capture_output=True,
                          text=True, env={**os.environ, "PYTHONPATH": str(Path(frozen.__file__).parents[3])})
    assert done.returncode == 0 and "equal" in done.stdout, done.stderr[-2000:]


def test_recompute_gives_the_same_gradients():
    images, labels = batch()
    expected = gradients(build("adaptformer"), images, labels)
    adaptation = build("adaptformer")
    for block in adaptation.network.blocks:
        forward = block.forward
        block.forward = lambda x, forward=forward: recompute(forward, x)
    found = gradients(adaptation, images, labels)
    for name, grad in expected.items():
        assert_close(found[name], grad, 1e-5)


@pytest.mark.parametrize("full_graph", [
    True, pytest.param(False, marks=pytest.mark.needs_paddle("tracing without full_graph"))])
def test_a_traced_block_computes_the_same(full_graph):
    block = build("adaptformer").network.blocks[0]
    block.eval()
    x = draw(2, 3, 16)
    expected = block(x).numpy()
    np.testing.assert_allclose(paddle.jit.to_static(block, full_graph=full_graph)(x).numpy(), expected, atol=1e-5)


def test_an_exported_network_computes_the_same(tmp_path):
    adaptation, (images, _) = build("adaptformer"), batch()
    adaptation.eval()
    expected = adaptation(images).numpy()
    spec = [paddle.static.InputSpec([None, *images.shape[1:]], "float32")]
    paddle.jit.save(adaptation.network, str(tmp_path / "net"), input_spec=spec)
    np.testing.assert_allclose(paddle.jit.load(str(tmp_path / "net"))(images).numpy(), expected, atol=1e-5)


def test_an_operation_that_changes_the_type_gets_gradients_of_the_right_type(monkeypatch):
    """As under AMP, which Paddle does not have on a CPU: the product is taken in another type than the input's."""
    monkeypatch.setattr(frozen, "autocasting", lambda: True)
    monkeypatch.setattr(frozen.F, "linear", lambda x, w, b: (
        paddle.matmul(x.astype("float64"), w.astype("float64")) + b.astype("float64")))
    layer, x = freeze(nn.Linear(DIM, DIM)), wanted(2, DIM)
    layer.bias.stop_gradient = False
    y = layer(x)
    assert y.dtype == paddle.float64 and "PyLayer" in y.grad_fn.name()
    y.sum().backward()
    assert x.grad.dtype == layer.bias.grad.dtype == paddle.float32
    np.testing.assert_allclose(x.grad.numpy(), np.tile(layer.weight.numpy().sum(1), (2, 1)), rtol=1e-5)
    np.testing.assert_allclose(layer.bias.grad.numpy(), np.full(DIM, 2.0))


@pytest.mark.skipif(CPU, reason="AMP needs a GPU")
@pytest.mark.parametrize("level", ["O1", "O2"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_mixed_precision_has_the_gradients_of_plain_layers(level, dtype):
    images, labels = batch()
    both = []
    for cheap in (True, False):
        adaptation = build("adaptformer", cheap)
        with paddle.amp.auto_cast(level=level, dtype=dtype):
            loss = F.cross_entropy(adaptation(images), labels)
        loss.backward()
        both.append({n: p.grad.numpy() for n, p in adaptation.trained_parameters().items()})
    for name, grad in both[1].items():
        assert_close(both[0][name], grad, 0.02)
