"""One test a symbol of `ppadapt.paddle_compat`: what is private to Paddle, or differs between its versions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn

from ppadapt import paddle_compat

ROOT = Path(__file__).resolve().parent.parent


def test_the_version_is_a_tuple_of_numbers():
    assert ".".join(map(str, paddle_compat.VERSION)) == paddle.__version__.split("-")[0]
    assert (2, 6) <= paddle_compat.VERSION and paddle_compat.BEFORE_3 == (paddle_compat.VERSION < (3,))


@pytest.mark.parametrize("feature", paddle_compat.FEATURES)
def test_what_is_missing_is_said_with_what_to_do(feature, monkeypatch):
    assert not paddle_compat.missing(feature) or paddle_compat.VERSION < (3, 3)
    monkeypatch.setitem(paddle_compat.FEATURES, feature, (lambda: False, "do without"))
    assert paddle_compat.missing(feature) == f"Paddle {paddle.__version__} has no {feature}: do without"


def test_hooks_are_those_of_the_layer_and_can_be_taken_off():
    layer = nn.Linear(2, 2)
    assert not any(paddle_compat.hooks_of(layer))
    layer.register_forward_pre_hook(lambda layer, x: (2 * x[0],))
    layer.register_forward_post_hook(lambda layer, x, y: y + 1)
    before, after = paddle_compat.hooks_of(layer)
    assert len(before) == len(after) == 1
    x = paddle.ones([1, 2])
    np.testing.assert_allclose(layer(x), 2 * layer.weight.numpy().sum(axis=0, keepdims=True) + 1, rtol=1e-6)
    before.clear()
    np.testing.assert_allclose(layer(x), layer.weight.numpy().sum(axis=0, keepdims=True) + 1, rtol=1e-6)
    after.clear()
    np.testing.assert_allclose(layer(x), layer.weight.numpy().sum(axis=0, keepdims=True), rtol=1e-6)


def test_a_hook_that_is_added_while_the_layer_is_called_waits_for_the_next_call():
    layer, calls = nn.Identity(), []
    for when, after in (("before", False), ("after", True)):
        paddle_compat.add_hook(layer, lambda *_, when=when, after=after: paddle_compat.add_hook(
            layer, lambda *_: calls.append(when), after), after)
    layer(paddle.ones([1]))
    assert not calls
    layer(paddle.ones([1]))
    assert calls == ["before", "after"]


def test_a_layernorm_says_its_shape_and_epsilon():
    layer = nn.LayerNorm([3, 2], epsilon=0.25)
    assert list(paddle_compat.normalized_shape(layer)) == [3, 2]
    assert paddle_compat.epsilon(layer) == 0.25


def test_a_convolution_says_its_shape():
    layer = nn.Conv2D(4, 2, 3, stride=2, padding=1, dilation=[1, 2], groups=2)
    stride, padding, dilation, groups, mode = paddle_compat.convolution(layer)
    x = paddle.rand([1, 4, 9, 9])
    expected = nn.functional.conv2d(x, layer.weight, layer.bias, stride, padding, dilation, groups)
    np.testing.assert_array_equal(layer(x), expected)
    assert (groups, mode) == (2, "zeros")


def test_a_twin_has_other_tensors_and_children_and_leaves_the_layer_alone():
    layer = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1D(2))
    layer.eval()
    weight, bias = paddle.ones([2, 2]), layer[0].bias.numpy()
    before = layer[0].weight.numpy()
    linear = paddle_compat.twin(layer[0], nn.Linear, {"weight": weight}, {})
    made = paddle_compat.twin(layer, nn.Sequential, {}, {"0": linear, "1": layer[1]})
    assert not made.training and [name for name, _ in made.named_parameters()] == [
        name for name, _ in layer.named_parameters()]
    np.testing.assert_allclose(made(paddle.ones([1, 2])), (2 + bias)[None] / np.sqrt(1 + 1e-5), rtol=1e-6)
    np.testing.assert_array_equal(layer[0].weight, before)


def test_an_optimizer_tells_what_it_trains():
    layer = nn.Linear(2, 2)
    optimizer = paddle.optimizer.SGD(0.1, parameters=layer.parameters())
    assert [id(p) for p in paddle_compat.parameters_of(optimizer)] == [id(p) for p in layer.parameters()]


@pytest.mark.parametrize("kind", [nn.BatchNorm1D, nn.BatchNorm2D, nn.BatchNorm3D, nn.SyncBatchNorm])
def test_every_batchnorm_has_running_statistics(kind):
    layer = kind(4)
    assert isinstance(layer, paddle_compat.AnyBatchNorm)
    values = [getattr(layer, name).numpy() for name in paddle_compat.RUNNING_STATISTICS]
    np.testing.assert_array_equal(values, [[0] * 4, [1] * 4])
    assert not isinstance(nn.LayerNorm(4), paddle_compat.AnyBatchNorm)


@pytest.mark.parametrize("cut, most, spread", [(None, 0.2, 0.02), (0.04, 0.04, 0.02 * 0.8796)])
def test_a_normal_distribution_is_cut_where_asked(cut, most, spread):
    """The deviation of a normal distribution cut at two of its own is 0.8796 of it."""
    paddle.seed(0)
    layer = nn.Linear(500, 500, weight_attr=paddle.ParamAttr(initializer=paddle_compat.truncated_normal(0.02, cut)))
    values = layer.weight.numpy()
    assert values.std() == pytest.approx(spread, rel=0.01)
    assert abs(values.mean()) < 2e-4
    assert abs(values).max() <= most and (cut or abs(values).max() > 0.06)


@pytest.mark.skipif(not paddle_compat.BEFORE_3, reason="Paddle 3 cuts anywhere")
def test_a_cut_that_paddle_2_6_cannot_do_is_an_error():
    with pytest.raises(NotImplementedError, match="at two deviations, and 0.05 was asked for"):
        paddle_compat.truncated_normal(0.02, 0.05)


def test_autocasting_is_what_auto_cast_says():
    assert not paddle_compat.autocasting()
    with paddle.amp.auto_cast(enable=False):
        assert not paddle_compat.autocasting()


def test_the_type_of_autocasting(monkeypatch):
    """A CPU has no AMP, so its state is put there by hand."""
    tracer = paddle.base.framework._dygraph_tracer()
    before = tracer._amp_level, tracer._amp_dtype
    try:
        tracer._amp_level, tracer._amp_dtype = paddle.base.core.AmpLevel.O1, "bfloat16"
        assert paddle_compat.autocasting() and paddle_compat.autocast_dtype() == paddle.bfloat16
    finally:
        tracer._amp_level, tracer._amp_dtype = before


def test_names_of_types():
    assert paddle_compat.name_of(paddle.float32) == paddle_compat.name_of("float32") == "float32"


# Halfway cases go to the even neighbour; next to them, infinity and numbers that only float32 has.
EDGES = [1.0, 1 + 2.0 ** -8, 1 + 3 * 2.0 ** -8, 1 + 2.0 ** -8 + 2.0 ** -20, 2 - 2.0 ** -20, -1.005, 0.0, np.inf,
         -np.inf, 1 + 2.0 ** -11, 1 + 3 * 2.0 ** -11, 0.009916757, 65519.0]
ROUNDED = {
    "bfloat16": [1, 1, 1 + 2.0 ** -6, 1 + 2.0 ** -7, 2, -1.0078125, 0, np.inf, -np.inf, 1, 1, 0.0098876953125, 65536],
    "float16": [1, 1 + 2.0 ** -8, 1 + 3 * 2.0 ** -8, 1 + 2.0 ** -8, 2, -1.0048828125, 0, np.inf, -np.inf, 1,
                1 + 2.0 ** -9, 0.009918212890625, 65504]}


@pytest.mark.parametrize("dtype", ROUNDED)
def test_casting_rounds_to_the_nearest(dtype):
    tensor = paddle_compat.cast(paddle.to_tensor(EDGES, dtype="float32"), dtype)
    assert paddle_compat.name_of(tensor.dtype) == dtype
    np.testing.assert_array_equal(tensor.astype("float32").numpy(), np.float32(ROUNDED[dtype]))
    assert np.isnan(float(paddle_compat.cast(paddle.to_tensor(np.nan, dtype="float32"), dtype).astype("float32")))


@pytest.mark.parametrize("dtype", ROUNDED)
def test_so_does_keeping_a_layer_in_another_type(dtype):
    layer = nn.Linear(1, len(EDGES))
    layer.weight.set_value(np.float32([EDGES]))
    paddle_compat.cast_layer(layer, dtype)
    assert {paddle_compat.name_of(p.dtype) for p in layer.parameters()} == {dtype}
    np.testing.assert_array_equal(layer.weight.astype("float32").numpy(), np.float32([ROUNDED[dtype]]))


def test_bfloat16_of_the_processor():
    try:
        flags = next(line for line in open("/proc/cpuinfo", encoding="utf-8") if line.startswith("flags")).split()
    except (OSError, StopIteration):
        pytest.skip("the processor does not tell its flags")
    assert paddle_compat.cpu_has_bfloat16() == ({"avx512f", "avx512bw"} <= set(flags))


def test_recompute_draws_the_same_again():
    layer, dropout, calls = nn.Linear(8, 8), nn.Dropout(0.5), []

    def function(x, factor=1.0):
        calls.append(1)
        return dropout(layer(x)) * factor

    def gradients(run):
        paddle.seed(3)
        x = paddle.ones([4, 8])
        x.stop_gradient = False
        (run(run(x, factor=2.0)) * paddle.rand([4, 8])).sum().backward()
        found = [x.grad.numpy(), layer.weight.grad.numpy(), paddle.rand([3]).numpy()]
        layer.clear_gradients()
        return found

    expected = gradients(function)
    del calls[:]
    found = gradients(lambda *x, **named: paddle_compat.recompute(function, *x, **named))
    assert len(calls) == 4  # each a second time
    for ours, theirs in zip(found, expected):
        np.testing.assert_array_equal(ours, theirs)


def test_the_peak_of_tensors_and_its_reset():
    if not paddle_compat.reset_tensor_peak():
        assert paddle_compat.missing("count of a run's memory")
        return
    before, big = paddle_compat.tensor_peak(), paddle.ones([64, 2**20])
    assert paddle_compat.tensor_peak() - before == big.numel().item() * big.element_size()
    del big
    assert paddle_compat.reset_tensor_peak() and paddle_compat.tensor_peak() == before


def test_the_old_format_traces_with_given_operations_and_ends(tmp_path):
    seen, relu = [], paddle.nn.functional.relu

    def old_relu(x, name=None):
        seen.append(x)
        return paddle_compat.append_operation("relu", {"X": x}, {})

    layer = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    with paddle_compat.tracing_old_format({"relu": old_relu}):
        paddle.jit.save(paddle.jit.to_static(layer, full_graph=True, input_spec=[
            paddle.static.InputSpec([None, 3], "float32")]), str(tmp_path / "net"))
    assert (tmp_path / "net.pdmodel").is_file()
    assert bool(seen) != paddle_compat.BEFORE_3  # 2.6 traces its own functions
    assert paddle.nn.functional.relu is relu


def test_paddle_inference_reuses_memory():
    from paddle import inference

    config = inference.Config()
    paddle_compat.enable_memory_optimisation(config)
    assert config.enable_memory_optim() is None


HANDLER = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: os._exit(3))
sys.path.insert(0, sys.argv[1])
import paddle
from ppadapt import paddle_compat
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_programs_handler_of_sigterm_is_not_paddles():
    done = subprocess.run([sys.executable, "-c", HANDLER, str(ROOT)], capture_output=True, text=True)
    assert done.returncode == 3 and "Termination signal" not in done.stderr
