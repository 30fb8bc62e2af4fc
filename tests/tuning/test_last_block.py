"""In training the last block of a ViT that reads its class token hands on that alone: the same loss and gradients."""
import numpy as np
import paddle
import pytest

import ppadapt
from ppadapt.models.vit import VisionTransformer
from ppadapt.tuning.frozen.last_block import ClassTokenLast

OPTIONS = {name: {"dropout": 0.0} for name in ("AdaptFormer", "Convpass", "RepAdapter")}
# Their branches mix tokens, or take off tokens behind the last block.
OF_ALL_TOKENS = ("Convpass", "VPT")


def trained(method, cheap, pool="cls"):
    """Loss and gradients of one batch, and what the last block is and returns."""
    paddle.seed(0)
    network = VisionTransformer(img_size=16, patch_size=4, embed_dim=24, depth=3, num_heads=3, class_num=5, pool=pool)
    adaptation = ppadapt.attach(network, ppadapt.METHODS[method](**OPTIONS.get(method, {})), cheap=cheap)
    for parameter in adaptation.trained_parameters().values():  # from zero, branches give the ones before no gradient
        parameter.set_value(parameter + 0.1 * paddle.randn(parameter.shape))
    seen = []
    network.blocks[-1].register_forward_post_hook(lambda layer, inputs, output: seen.append(output.shape[1]))
    adaptation.train()
    images = paddle.to_tensor(np.random.default_rng(0).normal(size=[4, 3, 16, 16]).astype("float32"))
    loss = paddle.nn.functional.cross_entropy(adaptation(images), paddle.arange(4))
    loss.backward()
    adaptation.eval()(images)
    gradients = {name: p.grad.numpy() for name, p in adaptation.trained_parameters().items() if p.grad is not None}
    return float(loss), gradients, seen, adaptation


@pytest.mark.parametrize("method", ppadapt.METHODS)
def test_loss_and_gradients_are_those_of_all_tokens(method):
    loss, gradients, seen, _ = trained(method, cheap=True)
    right_loss, right, all_seen, _ = trained(method, cheap=False)
    assert all_seen == [17, 17] and seen == [17 if method in OF_ALL_TOKENS else 1, 17]
    assert loss == pytest.approx(right_loss, rel=1e-5)
    assert set(gradients) == set(right)
    for name, gradient in right.items():
        np.testing.assert_allclose(gradients[name], gradient, rtol=2e-3, atol=1e-5 * np.abs(gradient).max() + 1e-9)


def test_where_the_head_reads_more_all_tokens_go_on():
    assert trained("AdaptFormer", True, pool="avg")[2] == [17, 17]


def test_a_method_that_does_not_say_how_it_treats_tokens_sees_all(monkeypatch):
    monkeypatch.setattr(ppadapt.AdaptFormer, "token_by_token", False)
    assert trained("AdaptFormer", True)[2] == [17, 17]


def test_detach_gives_the_block_back():
    adaptation = trained("AdaptFormer", True)[3]
    last = adaptation.network.blocks[-1]
    assert isinstance(last, ClassTokenLast)
    adaptation.detach()
    assert type(last) is ppadapt.models.layers.Block


def test_what_is_merged_while_training_returns_all_tokens():
    adaptation = trained("LoRA", True)[3].train()
    seen = []
    merged = adaptation.merge()
    merged.blocks[-1].register_forward_post_hook(lambda layer, inputs, output: seen.append(output.shape[1]))
    merged(paddle.zeros([1, 3, 16, 16]))
    assert seen == [17]
