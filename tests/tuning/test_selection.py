"""Methods that choose parameters: linear, full, BitFit, LayerNorms, last blocks.

And what attach and the choice of blocks refuse, and the tuned state's checks.
"""
import numpy as np
import paddle
import pytest
from numpy_block import DIM, Block, assert_follows, random_vit, shaken

from ppadapt.models.anatomy import VIT, Anatomy
from ppadapt.models.heads import batchnorm_linear
from ppadapt.tuning import TuningError, attach
from ppadapt.tuning.method import choose_blocks
from ppadapt.tuning.methods import AdaptFormer, BitFit, FullFineTuning, LastBlocks, LayerNormTuning, LinearProbe


def test_a_linear_probe_trains_the_head_alone():
    adaptation = attach(random_vit(), LinearProbe(), head=batchnorm_linear(DIM, 10))
    assert adaptation.trained == ["head.1.weight", "head.1.bias"]
    assert adaptation.counts()[0] == 10 * DIM + 10
    assert set(adaptation.state()) == {"head.1.weight", "head.1.bias", "head.0.running_mean", "head.0.running_var"}


def test_full_fine_tuning_trains_everything_with_right_gradients():
    adaptation = shaken(attach(random_vit(), FullFineTuning()))
    assert adaptation.counts()[0] == adaptation.counts()[1]
    assert len(assert_follows(adaptation, Block)) == 12


def test_bitfit_trains_every_bias_under_frozen_weights():
    adaptation = shaken(attach(random_vit(), BitFit()))
    everything = [n for n, _ in adaptation.network.named_parameters()]
    assert adaptation.trained == [n for n in everything if n.endswith(".bias")]
    assert assert_follows(adaptation, Block) == sorted(
        f"{n}.bias" for n in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"))


@pytest.mark.parametrize("pool,norm", [("cls", "norm"), ("avg", "fc_norm")])
def test_layernorm_tuning_trains_every_layernorm(pool, norm):
    adaptation = shaken(attach(random_vit(pool=pool), LayerNormTuning()))
    layers = [*(f"blocks.{i}.{n}" for i in (0, 1) for n in ("norm1", "norm2")), norm]
    assert adaptation.trained == [f"{layer}.{part}" for layer in layers for part in ("weight", "bias")]
    assert len(assert_follows(adaptation, Block)) == 4
    assert adaptation.methods[0].options == {}


def test_the_last_blocks_train_with_the_norm_after_them():
    adaptation = shaken(attach(random_vit(), LastBlocks(1)))
    assert adaptation.trained == [n for n, _ in adaptation.network.named_parameters()
                                  if n.startswith(("blocks.1.", "norm."))]
    assert assert_follows(adaptation, Block, index=0) == []
    assert len(assert_follows(adaptation, Block, index=1)) == 12
    assert adaptation.methods[0].options == {"count": 1}
    tokens = adaptation.network.patch_embed(paddle.randn([1, 3, 8, 8]))
    assert adaptation.network.blocks[0](tokens).stop_gradient  # nothing is kept for a backward pass below


def test_more_last_blocks_than_there_are():
    with pytest.raises(TuningError, match="count 3 is more than the 2 blocks.*FullFineTuning"):
        attach(random_vit(), LastBlocks(3))
    with pytest.raises(TuningError, match="count 0.*at least 1"):
        LastBlocks(0)


@pytest.mark.parametrize("which,indices", [
    ("all", [0, 1]), ([1], [1]), ([-1], [1]), ([1, 0], [1, 0]), ("1:", [1]), (":1", [0]), ("::2", [0])])
def test_blocks_are_chosen_by_index_or_slice(which, indices):
    network = random_vit()
    chosen = choose_blocks(network, VIT, which)
    assert [i for i, _, _ in chosen] == indices
    assert all(block is network.blocks[i] and path == f"blocks.{i}" for i, path, block in chosen)


@pytest.mark.parametrize("which", ["last", [2], [-3], [], [0, 0], [0, -2], "2:", "a:", 1, [True], ["0"], None])
def test_a_choice_of_blocks_that_does_not_fit_says_what_does(which):
    with pytest.raises(TuningError, match="2.*give 'all', a list of indices from -2 to 1, or a slice"):
        choose_blocks(random_vit(), VIT, which)


def test_a_path_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="no layer 'layers'.*blocks.*Anatomy"):
        attach(random_vit(), AdaptFormer(), anatomy=Anatomy(blocks="layers"))


def test_attach_wants_a_method():
    with pytest.raises(TuningError, match="at least one"):
        attach(random_vit())


def test_a_state_that_does_not_fit_is_refused_and_nothing_is_set():
    adaptation = attach(random_vit(), LinearProbe(), head=batchnorm_linear(DIM, 10))
    before = adaptation.state()
    wrong = {**before, "head.1.bias": np.ones(3, "float32"), "extra": np.ones(1)}
    wrong["head.1.weight"] = wrong["head.1.weight"] + 1
    del wrong["head.0.running_mean"]
    with pytest.raises(TuningError) as error:
        adaptation.load_state(wrong)
    for part in ("missing: head.0.running_mean", "not in this network: extra", "[3] in the file and [10] here"):
        assert part in str(error.value)
    for name, value in adaptation.state().items():
        np.testing.assert_array_equal(value, before[name])


def test_the_summary_says_count_share_and_names():
    adaptation = attach(random_vit(), AdaptFormer(3), head=batchnorm_linear(DIM, 10))
    trained, total = adaptation.counts()
    summary = adaptation.summary()
    for part in (f"AdaptFormer trains {trained:,} of {total:,} parameters ({trained / total:.2%})",
                 "blocks.*.adaptmlp.down_proj.weight", "head.1.bias"):
        assert part in summary
