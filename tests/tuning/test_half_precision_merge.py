"""What is kept in half precision is merged in float32, and a merge that cannot be says so."""
import numpy as np
import paddle
import pytest

import ppadapt
from ppadapt.serve.fold import for_inference


@pytest.mark.parametrize("method", [ppadapt.LoRA(rank=2), ppadapt.SSF(), ppadapt.RepAdapter()])
def test_merging_a_network_kept_in_bfloat16_rounds_nothing(method):
    paddle.seed(0)
    network = ppadapt.vit("vit_micro_patch4_32", img_size=16, depth=1, embed_dim=24, num_heads=2, patch_size=8)
    adaptation = ppadapt.attach(network, method)
    draw = np.random.default_rng(0)
    for parameter in adaptation.parameters():
        parameter.set_value(parameter.numpy() + draw.normal(0, 0.3, parameter.shape).astype("float32"))
    assert adaptation.store_frozen("bfloat16")
    adaptation.eval()
    images = paddle.to_tensor(draw.standard_normal([4, 3, 16, 16]).astype("float32"))
    with paddle.no_grad():
        expected = adaptation(images).numpy()
        for merged in (adaptation.merge(), for_inference(adaptation)[0]):
            assert np.abs(merged(images).numpy() - expected).max() < 1e-5 * np.abs(expected).max()
            assert all(p.dtype == paddle.float32 for p in merged.parameters())


def test_a_merge_that_fails_says_so():
    network = ppadapt.vit("vit_micro_patch4_32", img_size=16, depth=1, embed_dim=24, num_heads=2, patch_size=8,
                          qkv_bias=False)
    _, done = for_inference(ppadapt.attach(network, ppadapt.SSF()))
    assert [line for line in done if line.startswith("not merged: ") and "no bias" in line]
