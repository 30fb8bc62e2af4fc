"""oneDNN's operations against Paddle's and numpy's, the layers made of them against plain ones, and the ways back."""
import threading

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F
from test_contract_methods import CASES, methods_of, network_of

import ppadapt
from ppadapt import half, paddle_compat
from ppadapt.models.heads import batchnorm_linear
from ppadapt.models.layers import Attention, Mlp, PatchEmbed
from ppadapt.tuning import attach
from ppadapt.tuning.frozen import layers as frozen
from ppadapt.tuning.frozen.layers import prepare_frozen
from ppadapt.tuning.frozen.onednn import operations, support

pytestmark = pytest.mark.skipif(not support.usable(), reason="oneDNN of Paddle's wheel cannot be used here")
TYPES = [pytest.param("float32", 1e-6), pytest.param("bfloat16", 1e-2, marks=pytest.mark.skipif(
    bool(support.usable() and support.bfloat16_obstacle()), reason="no bfloat16 on this processor"))]


def draw(*shape, seed=0):
    return paddle.to_tensor(np.random.RandomState(seed).standard_normal(shape).astype("float32"))


def close(found, wanted, tolerance):
    found, wanted = (np.asarray(t.astype("float32")) for t in (found, wanted))
    assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()


@pytest.mark.parametrize("dtype, tolerance", TYPES)
def test_operations_are_those_of_paddle(dtype, tolerance):
    dtype = getattr(paddle, dtype)
    x, w, b, grad = draw(5, 10, 32), draw(32, 48, seed=1), draw(48, seed=2), draw(5, 10, 48, seed=3)
    y = paddle.empty([50, 48])
    x_, w_ = operations.cast(x, dtype), operations.cast(w, dtype)
    operations.matmul(operations.rows(x_), operations.whole(w_), operations.whole(y), b)
    close(y, (x @ w + b).reshape([50, 48]), tolerance)
    hidden = (x @ w + b).detach()
    hidden.stop_gradient = False
    F.gelu(hidden).backward(grad)
    close(operations.gelu(operations.cast(hidden.detach(), dtype)), F.gelu(hidden), tolerance)
    close(operations.gelu_gradient(operations.cast(hidden.detach(), dtype), operations.cast(grad.clone(), dtype)),
          hidden.grad, tolerance)
    hidden.clear_gradient()
    F.softmax(hidden).backward(grad)
    close(operations.softmax(hidden.detach().clone(), dtype), F.softmax(hidden), tolerance)
    close(operations.softmax_gradient(operations.cast(F.softmax(hidden).detach(), dtype),
                                      operations.cast(grad.clone(), dtype)), hidden.grad, tolerance)


@pytest.mark.parametrize("rows", [1, 2, 100])
@pytest.mark.parametrize("inner", [1, 3])
@pytest.mark.parametrize("columns", [1, 12, 16])
def test_matrices_of_one_row_or_column(rows, inner, columns):
    """A bottleneck of 1: oneDNN took its transposed [1, N] for another layout, and added what lay in the result."""
    x, y = draw(rows, inner), draw(inner, columns, seed=1)
    wanted = x.numpy() @ y.numpy()
    for left in (operations.whole(x), operations.whole(paddle.to_tensor(x.numpy().T.copy())).transposed()):
        for right in (operations.whole(y), operations.whole(paddle.to_tensor(y.numpy().T.copy())).transposed()):
            out = paddle.full([rows, columns], float("nan"))
            operations.matmul(left, right, operations.whole(out))
            np.testing.assert_allclose(out.numpy(), wanted, rtol=0, atol=1e-5)


def run(layer, x, grad):
    """(output, gradient of the input, gradients of what trains)."""
    x = x.clone().detach()
    x.stop_gradient = False
    y = layer(x)
    y.backward(grad)
    return [y, x.grad, *(p.grad for p in layer.parameters() if not p.stop_gradient)]


def pair(make, trained):
    """The same layer twice: plain (it trains: Paddle's gradient of a frozen LayerNorm is wrong), and prepared."""
    layers = []
    for stop in (False, not trained):
        paddle.seed(3)
        layer = nn.Sequential(make())
        for p in layer.parameters():
            p.set_value(p + 0.1 * draw(*p.shape, seed=5))
            p.stop_gradient = stop
        layers.append(layer)
    prepare_frozen(layers[1])
    assert type(layers[0][0]) is not type(layers[1][0])
    return layers


@pytest.mark.parametrize("dtype, tolerance", TYPES)
@pytest.mark.parametrize("trained", [False, True], ids=["frozen", "trained"])
@pytest.mark.parametrize("make, width", [
    (lambda: nn.Linear(24, 40), 40), (lambda: nn.Linear(24, 24, bias_attr=False), 24), (lambda: nn.LayerNorm(24), 24),
    (lambda: nn.GELU(), 24), (lambda: Mlp(24, 96), 24), (lambda: Attention(24, 3), 24),
    (lambda: Attention(24, 3, qkv_bias=False), 24)],
    ids=["linear", "linear_without_bias", "layernorm", "gelu", "mlp", "attention", "attention_without_bias"])
def test_layers_and_their_gradients_are_those_of_plain_paddle(make, width, trained, dtype, tolerance):
    plain, quick = pair(make, trained)
    x, grad = draw(2, 7, 24), draw(2, 7, width, seed=1)
    with half.bfloat16_on_cpu(dtype == "bfloat16"):
        found = run(quick, x, grad)
        with paddle.no_grad():
            inferred = quick(x)
    wanted = run(plain, x, grad)
    assert len(found) == (len(wanted) if trained else 2)
    for a, b in zip(found, wanted):
        assert a.dtype == paddle.float32
        close(a, b, max(3 * tolerance, 5e-6))
    close(inferred, wanted[0], max(3 * tolerance, 5e-6))


@pytest.mark.parametrize("trained", [False, True], ids=["frozen", "trained"])
@pytest.mark.parametrize("side, patch", [(8, 4), (11, 3), (6, 6)])  # 11: the last two rows and columns are not seen
def test_patches_are_those_of_the_convolution(side, patch, trained):
    plain, quick = pair(lambda: PatchEmbed(side, patch, 3, 24), trained)
    x = draw(2, 3, side, side)
    grad = draw(*plain(x).shape, seed=1)
    for a, b in zip(run(quick, x, grad), run(plain, x, grad)):
        close(a, b, 5e-6)
    with paddle.no_grad():
        close(quick(x), plain(x), 5e-6)


def test_a_hook_on_the_convolution_still_runs():
    layer = PatchEmbed(8, 4, 3, 24)
    prepare_frozen(nn.Sequential(layer))
    seen = []
    layer.proj.register_forward_post_hook(lambda *_: seen.append(1))
    layer(draw(1, 3, 8, 8))
    assert seen


@pytest.mark.parametrize("dtype, tolerance", TYPES)
@pytest.mark.parametrize("bias", [True, False])
def test_what_the_class_token_gets_is_that_of_all_tokens(bias, dtype, tolerance):
    plain, (quick,) = pair(lambda: Attention(24, 3, qkv_bias=bias), False)
    x, grad = draw(5, 10, 24), draw(5, 1, 24, seed=1)

    def given(x):
        x = x.clone()
        x.stop_gradient = False
        return x

    theirs, ours = given(x), given(x)
    wanted = plain(theirs)[:, :1]
    wanted.backward(grad)
    with half.bfloat16_on_cpu(dtype == "bfloat16"):
        found = quick.of_class_token(ours)
        found.backward(grad)
    close(found, wanted, max(3 * tolerance, 5e-6))
    close(ours.grad, theirs.grad, max(3 * tolerance, 5e-6))
    hook = quick.proj.register_forward_post_hook(lambda layer, inputs, output: None)
    assert quick.of_class_token(x) is None  # who looks in between sees all tokens
    hook.remove()
    assert quick.of_class_token(x) is not None


def test_long_attention_is_made_again_and_gives_the_same_gradient():
    plain, quick = pair(lambda: Attention(8, 4), False)  # 4 heads x 30 tokens > 3 x 8 channels
    x, grad = draw(2, 30, 8), draw(2, 30, 8, seed=1)
    for a, b in zip(run(quick, x, grad), run(plain, x, grad)):
        close(a, b, 1e-5)


@pytest.mark.parametrize("case", [c for c in CASES if c != "linear"])
def test_every_method_has_the_gradients_of_float32_in_bfloat16(case):
    if support.bfloat16_obstacle():
        pytest.skip(support.bfloat16_obstacle())

    def gradients(half_precision):
        paddle.seed(1)
        adaptation = attach(network_of("vit_cls"), *methods_of(case), head=batchnorm_linear(16, 5))
        for p in adaptation.trained_parameters().values():
            p.set_value(p + 0.1 * draw(*p.shape, seed=7))
        adaptation.eval()
        with half.bfloat16_on_cpu(half_precision):
            loss = F.cross_entropy(adaptation(draw(4, 3, 8, 8)), paddle.to_tensor([0, 1, 2, 3]))
        loss.backward()
        return {n: p.grad.numpy().ravel() for n, p in adaptation.trained_parameters().items()}

    exact, rounded = gradients(False), gradients(True)
    assert any(not np.array_equal(exact[n], rounded[n]) for n in exact)
    whole, other = (np.concatenate([g[n] for n in exact]) for g in (exact, rounded))
    assert whole @ other / np.linalg.norm(whole) / np.linalg.norm(other) > 0.999


def test_weights_that_are_set_anew_count_at_once():
    _, quick = pair(lambda: nn.Linear(24, 24), False)
    before = quick(draw(2, 24))
    quick[0].weight.set_value(quick[0].weight * 2)
    quick[0].bias.set_value(quick[0].bias * 2)
    close(quick(draw(2, 24)), 2 * before, 1e-6)


def test_threads_do_not_mix_their_answers():
    _, quick = pair(lambda: Mlp(24, 96), False)
    inputs = [draw(3, 5, 24, seed=i) for i in range(8)]
    with paddle.no_grad():
        wanted = [quick(x).numpy() for x in inputs]
    wrong = []

    def work(i):
        with paddle.no_grad():
            wrong.extend(i for _ in range(30) if not np.array_equal(quick(inputs[i]).numpy(), wanted[i]))

    workers = [threading.Thread(target=work, args=[i]) for i in range(8)]
    [w.start() for w in workers]
    [w.join() for w in workers]
    assert not wrong


def test_what_does_not_fit_is_paddles_own(monkeypatch):
    plain, quick = pair(lambda: nn.Linear(24, 24), False)
    if not paddle_compat.missing("products of empty tensors"):
        assert quick(paddle.zeros([0, 24])).shape == [0, 24]
    assert quick.astype("float64")(draw(2, 24).astype("float64")).dtype == paddle.float64
    monkeypatch.setattr(frozen, "onednn_usable", lambda: False)
    _, without = pair(lambda: nn.Linear(24, 24), False)
    close(without(draw(2, 24)), plain(draw(2, 24)), 1e-6)


def test_a_library_that_computes_wrongly_is_not_trusted(monkeypatch, caplog):
    monkeypatch.setattr(support.operations, "matmul", lambda x, y, out, *rest, **named: out.tensor.fill_(1.0))
    with caplog.at_level("WARNING", "ppadapt"):
        assert support.usable.__wrapped__() is False
    assert "a float32 product differs" in caplog.text


def test_the_switch_and_a_missing_library(monkeypatch, caplog):
    monkeypatch.setenv(support.SWITCH, "1")
    assert support.usable.__wrapped__() is False
    monkeypatch.delenv(support.SWITCH)

    def absent():
        raise OSError("libdnnl.so.3: cannot open")

    monkeypatch.setattr(support, "loaded", absent)
    with caplog.at_level("INFO", "ppadapt"):
        assert support.usable.__wrapped__() is False
    assert "libdnnl.so.3: cannot open" in caplog.text


def test_half_precision_belongs_to_its_thread_and_ends():
    with half.bfloat16_on_cpu():
        assert half.enabled()
        later = half.as_now(half.enabled)
        seen = []
        other = threading.Thread(target=lambda: seen.append(half.enabled()))
        other.start()
        other.join()
        assert seen == [False]
    assert not half.enabled() and later()


@pytest.fixture
def views():
    """Paddle's slices and transposes are views, as they are where it was imported before ppadapt, or beside a GPU."""
    before = paddle.get_flags("FLAGS_use_stride_kernel")
    paddle.set_flags({"FLAGS_use_stride_kernel": True})
    yield
    paddle.set_flags(before)


@pytest.mark.parametrize("view", [lambda: draw(6, 5, 32)[:, 0], lambda: draw(32, 6, seed=3).t()])
def test_views_are_read_as_what_they_show(views, view):
    # Made anew each time: Paddle's own operations make a view dense where they find one.
    plain, grad = view().contiguous(), draw(6, 32, seed=6)
    plain.stop_gradient = False
    turned = grad.t().contiguous().t()
    w, b = draw(48, 32, seed=1).t(), draw(2, 48, seed=2)[1]
    weight, bias = draw(32, 2, seed=4)[:, 0], draw(32, 2, seed=5)[:, 1]
    assert not any(t.is_contiguous() for t in (view(), turned, w, weight, bias))
    close(frozen_product(view(), w, b), plain @ w + b, 1e-6)
    close(operations.gelu(view()), F.gelu(plain), 1e-6)
    close(operations.softmax(view(), paddle.float32), F.softmax(plain), 1e-6)
    close(operations.cast(view(), paddle.bfloat16), plain, 1e-2)
    found, mean, variance = operations.layer_norm(view(), weight, bias, 1e-5)
    close(found, F.layer_norm(plain, [32], weight, bias, 1e-5), 1e-5)
    found = operations.layer_norm_gradient(view(), grad.t().contiguous().t(), weight, bias, mean, variance, 1e-5)[0]
    wanted = layer_norm_gradient(*(t.numpy().astype("float64") for t in (plain, grad, weight)))
    close(found, paddle.to_tensor(wanted), 1e-5)
    F.gelu(plain).backward(grad)
    close(operations.gelu_gradient(view(), turned), plain.grad, 1e-5)


def layer_norm_gradient(x, grad, weight):
    spread = np.sqrt(x.var(1, keepdims=True) + 1e-5)
    normed, grad = (x - x.mean(1, keepdims=True)) / spread, grad * weight
    return (grad - grad.mean(1, keepdims=True) - normed * (grad * normed).mean(1, keepdims=True)) / spread


def frozen_product(x, w, b):
    from ppadapt.tuning.frozen.onednn.layers import product

    return product(x, w, b, paddle.float32)


@pytest.mark.parametrize("pool", ["cls", "avg", "map"])
def test_every_image_of_a_batch_counts_where_slices_are_views(views, pool):
    """The class tokens x[:, 0] are one: read in order, all but the first image were answered by its other tokens."""
    images, labels = draw(5, 3, 16, 16), paddle.arange(5) % 3
    found = []
    for plain in (True, False):
        paddle.seed(3)
        network = ppadapt.network("vit_micro_patch4_32", img_size=16, depth=2, embed_dim=24, num_heads=2, pool=pool)
        head = nn.Linear(24, 3)
        if plain:
            network.head = head
            network.eval()
            answers = network(images)
            F.cross_entropy(answers, labels).backward()
            found.append((answers, head.weight.grad))
        else:
            adaptation = attach(network, ppadapt.LinearProbe(), head=head).train()
            answers = adaptation(images)
            F.cross_entropy(answers, labels).backward()
            found.append((answers, adaptation.network.head.weight.grad))
            one = adaptation.eval()(paddle.concat([images[:1]] * 3))
            assert float((one - one[:1]).abs().max()) < 1e-5
    for ours, wanted in zip(found[1], found[0]):
        close(ours, wanted, 1e-5)
