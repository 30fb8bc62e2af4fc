"""Recompute: the gradients of the same network without it, for less memory."""
import copy

import numpy as np
import paddle
import pytest
from paddle.base import core
from paddle.nn import functional as F

from ppadapt.models.heads import head_linear
from ppadapt.models.vit import VisionTransformer
from ppadapt.tuning import attach
from ppadapt.tuning.frozen.recompute import recompute_blocks
from ppadapt.tuning.methods import VPT, AdaptFormer, FullFineTuning, LoRA

METHODS = {
    "adaptformer": lambda: AdaptFormer(4, dropout=0.5),
    "last block": lambda: AdaptFormer(4, blocks=[-1]),
    "vpt": lambda: VPT(3),
    "lora": lambda: LoRA(2, dropout=0.5),
    "full": lambda: FullFineTuning(),
}


def build(method, recomputes, depth=3, dim=16, dtype="float64"):
    paddle.seed(5)
    network = VisionTransformer(img_size=32, patch_size=4, class_num=0, embed_dim=dim, depth=depth, num_heads=2,
                                drop_path_rate=0.2)
    adaptation = attach(network, METHODS[method](), head=head_linear(dim, 5))
    network.to(dtype=dtype)
    rng = np.random.default_rng(6)
    for p in network.parameters():
        p.set_value((p.numpy() + rng.normal(size=p.shape) * 0.1).astype(dtype))
    if recomputes:
        recompute_blocks(network)
    adaptation.train()
    return adaptation


def batch(dtype="float64"):
    return (paddle.to_tensor(np.random.default_rng(7).normal(size=(4, 3, 32, 32)).astype(dtype)),
            paddle.to_tensor(np.arange(4)))


def gradients(adaptation):
    images, labels = batch()
    paddle.seed(11)
    F.cross_entropy(adaptation(images), labels).backward()
    return {n: p.grad.numpy() for n, p in adaptation.trained_parameters().items()}


@pytest.mark.parametrize("method", METHODS)
def test_gradients_stay_the_same_with_dropout_too(method):
    found, expected = gradients(build(method, True)), gradients(build(method, False))
    assert found.keys() == expected.keys()
    for name, grad in expected.items():
        np.testing.assert_allclose(found[name], grad, rtol=1e-8, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("method, count", [("adaptformer", 2), ("last block", 0), ("vpt", 3), ("full", 3)])
def test_it_says_how_many_blocks_run_twice(method, count):
    assert recompute_blocks(build(method, False).network) == count


def test_less_is_kept():
    kept = []
    for recomputes in (True, False):
        adaptation = build("adaptformer", recomputes, depth=6, dim=64, dtype="float32")
        images, _ = batch("float32")
        before = core.host_memory_stat_current_value("Allocated", 0)
        logits = adaptation(images)
        kept.append(core.host_memory_stat_current_value("Allocated", 0) - before)
        del logits
    assert kept[0] < 0.25 * kept[1]


def test_names_stay_and_calling_it_twice_is_harmless():
    adaptation = build("adaptformer", True)
    recompute_blocks(adaptation.network)
    assert list(adaptation.network.state_dict()) == list(build("adaptformer", False).network.state_dict())
    assert [c.__name__ for c in type(adaptation.network.blocks[0]).__mro__].count("_Recomputed") == 1


def test_a_deep_copy_goes_its_own_way():
    adaptation = build("adaptformer", True)
    other = copy.deepcopy(adaptation.network)
    other.blocks[0].mlp.fc2.weight.set_value(paddle.zeros_like(other.blocks[0].mlp.fc2.weight))
    adaptation.eval()
    other.eval()
    images, _ = batch()
    assert np.abs(other(images).numpy() - adaptation(images).numpy()).max() > 1e-3


def test_a_traced_network_computes_the_same():
    adaptation = build("adaptformer", True, dtype="float32")
    adaptation.eval()
    images, _ = batch("float32")
    expected = adaptation(images).numpy()
    static = paddle.jit.to_static(adaptation.network, full_graph=True)
    with paddle.no_grad():
        np.testing.assert_allclose(static(images).numpy(), expected, atol=1e-5)
