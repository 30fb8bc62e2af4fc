"""VPT's equations, its start and its options."""
import math

import numpy as np
import paddle
import pytest
from numpy_block import DIM, Block, random_vit, shaken

from ppadapt.tuning import TuningError, attach
from ppadapt.tuning.methods import VPT


def blocks_of(network):
    return [Block({n[len(f"blocks.{i}."):]: p.numpy().astype("f8") for n, p in network.named_parameters()
                   if n.startswith(f"blocks.{i}.")}) for i in range(2)]


def through(network, tokens):
    for block in network.blocks:
        tokens = block(tokens)
    return tokens.numpy()


def with_prompts(x, prompts):
    return np.concatenate([np.repeat(prompts, len(x), axis=0), x], axis=1)


@pytest.mark.parametrize("deep", (True, False))
def test_prompts_go_in_front_of_the_tokens(deep):
    adaptation = shaken(attach(random_vit(), VPT(3, deep=deep)))
    network, x = adaptation.network, np.random.RandomState(7).normal(size=(2, 5, DIM)).astype("float32")
    prompts = [p.numpy().astype("f8") for p in network.prompts]
    first, second = blocks_of(network)
    assert len(prompts) == (2 if deep else 1)
    if deep:  # equation 6: fresh prompts in every block, whose outputs are dropped
        expected = second(with_prompts(first(with_prompts(x, prompts[0]))[:, 3:], prompts[1]))[:, 3:]
    else:  # equations 4 and 5: the prompts go along to the end
        expected = second(first(with_prompts(x, prompts[0])))[:, 3:]
    np.testing.assert_allclose(through(network, paddle.to_tensor(x)), expected, rtol=0, atol=2e-5)


def test_chosen_blocks_only():
    adaptation = shaken(attach(random_vit(), VPT(3, blocks=[1])))
    network, x = adaptation.network, np.random.RandomState(7).normal(size=(2, 5, DIM)).astype("float32")
    first, second = blocks_of(network)
    expected = second(with_prompts(first(x), network.prompts[0].numpy()))[:, 3:]
    np.testing.assert_allclose(through(network, paddle.to_tensor(x)), expected, rtol=0, atol=2e-5)
    assert adaptation.trained == ["prompts.0"]


def test_the_start_is_xavier_uniform_as_the_authors_call_it():
    paddle.seed(0)
    network = random_vit()
    attach(network, VPT(500))
    prompts, bound = network.prompts[0].numpy(), math.sqrt(6 / (501 * DIM))
    assert 0.98 * bound < np.abs(prompts).max() <= bound
    assert abs(prompts.std() - bound / math.sqrt(3)) < 0.02 * bound


@pytest.mark.parametrize("options,words", [
    ({"num_prompts": 0}, "num_prompts 0.*at least 1"), ({"deep": False, "blocks": "1:"}, "deep prompts")])
def test_a_wrong_option_is_refused(options, words):
    with pytest.raises(TuningError, match=words):
        VPT(**options)
