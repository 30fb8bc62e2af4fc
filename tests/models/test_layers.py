"""Attention's two kernels compute the same; images of another form are named."""
import numpy as np
import paddle
import pytest

from ppadapt.errors import UserError
from ppadapt.models import layers


def test_without_a_gpu_attention_is_plain():
    layers.attention_kernel.cache_clear()
    assert layers.attention_kernel() == "plain" or paddle.get_device() != "cpu"


@pytest.mark.parametrize("training", [False, True])
def test_flash_attention_computes_what_plain_attention_does(monkeypatch, training):
    """Paddle's own function for it runs in float32 on a CPU, so the way there is tested; the kernel needs a GPU."""
    layer = layers.Attention(16, 2, attn_drop=0.0 if training else 0.5)
    layer.train() if training else layer.eval()
    x = paddle.to_tensor(np.random.default_rng(0).normal(size=(2, 5, 16)).astype("float32"))
    expected = layer(x).numpy()
    called = []
    function = layers.F.scaled_dot_product_attention
    monkeypatch.setattr(layers.F, "scaled_dot_product_attention", lambda *a, **k: called.append(k) or function(*a, **k))
    monkeypatch.setattr(layers, "attention_kernel", lambda: "flash")
    monkeypatch.setattr(layers, "HALF", (paddle.float32,))
    np.testing.assert_allclose(layer(x).numpy(), expected, atol=1e-5)
    assert called == [{"dropout_p": 0.0}]


@pytest.mark.parametrize("shape,says", [
    ([3, 8, 8], r"takes images \[N, 3, 8, 8\] and got \[3, 8, 8\]"), ([2, 8, 8, 3], "channels first"),
    ([2, 1, 8, 8], "3 channels and got 1"), ([2, 3, 8, 9], "8 x 8 images and got 8 x 9")])
def test_images_of_another_form_are_named(shape, says):
    with pytest.raises(UserError, match=says):
        layers.PatchEmbed(8, 4, 3, 16)(paddle.zeros(shape))
