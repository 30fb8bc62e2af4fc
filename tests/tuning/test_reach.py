"""What is attached and takes no part is an error that names it, in the first forward and the first backward pass."""
import numpy as np
import paddle
import pytest
from numpy_block import random_vit, shaken
from paddle import nn

from ppadapt.errors import UserError
from ppadapt.models.anatomy import Anatomy
from ppadapt.models.heads import head_linear
from ppadapt.models.layers import Attention, Mlp
from ppadapt.tuning import Added, After, Method, TuningError, attach
from ppadapt.tuning.methods import AdaptFormer, BitFit, FullFineTuning, LastBlocks, LayerNormTuning, LinearProbe, LoRA

DIM = 16


class Block(nn.Layer):
    """A block without drop path: a layer of that name is there and not used."""

    def __init__(self):
        super().__init__()
        self.norm1, self.attn, self.norm2, self.mlp = (
            nn.LayerNorm(DIM), Attention(DIM, 2), nn.LayerNorm(DIM), Mlp(DIM, 32))
        self.drop_path = nn.Identity()

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Own(nn.Layer):
    """Its classifier is `fc`; a layer called `head` is there and not used."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.LayerList([Block(), Block()])
        self.norm, self.fc, self.head = nn.LayerNorm(DIM), nn.Linear(DIM, 5), nn.Linear(DIM, 5)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.fc(self.norm(x).mean(1))


RIGHT = Anatomy(branch_out="mlp", head="fc", unused=("head.*",))
TOKENS, LABELS = paddle.randn([4, 6, DIM]), paddle.to_tensor([0, 1, 2, 3])


def step(adaptation, optimizer=None):
    loss = nn.functional.cross_entropy(adaptation(TOKENS), LABELS)
    loss.backward()
    if optimizer:
        optimizer.step()
        optimizer.clear_grad()


def loop(adaptation, steps=3, set_to_zero=True):
    """A loop as a user writes it."""
    optimizer = paddle.optimizer.SGD(0.1, parameters=adaptation.parameters())
    adaptation.train()
    for _ in range(steps):
        nn.functional.cross_entropy(adaptation(TOKENS), LABELS).backward()
        optimizer.step()
        optimizer.clear_grad(set_to_zero)


@pytest.mark.parametrize("training", [True, False])
def test_a_place_that_no_forward_comes_by(training):
    adaptation = attach(Own(), AdaptFormer(4), anatomy=Anatomy(head="fc"))
    adaptation.train(training)
    for _ in range(2):  # it stays an error
        with pytest.raises(TuningError, match=r"Own does not call blocks.0.drop_path after blocks.0.norm2, "
                                              r"blocks.1.*, where AdaptFormer puts something.*anatomy="):
            adaptation(TOKENS)


def test_what_is_put_right_is_not_watched_any_more():
    adaptation = attach(Own(), AdaptFormer(4), anatomy=RIGHT)
    loop(adaptation)
    assert adaptation._watch is None
    assert not any(layer._forward_post_hooks for layer in adaptation.network.fc.sublayers(include_self=True))


@pytest.mark.parametrize("training", [True, False])
def test_a_new_head_that_nothing_calls(training):
    adaptation = attach(Own(), LoRA(2), head=head_linear(DIM, 3), anatomy=Anatomy())
    adaptation.train(training)
    with pytest.raises(TuningError, match=r"Own does not call head, the new head.*head=\.\.\."):
        adaptation(TOKENS)


def test_a_new_head_for_which_there_is_no_place():
    network = Own()
    with pytest.raises(UserError, match="no layer 'classifier'.*blocks, norm, fc, head"):
        attach(network, LinearProbe(), head=head_linear(DIM, 3), anatomy=Anatomy(head="classifier"))
    assert not hasattr(network, "classifier")


def test_an_output_that_depends_on_nothing_that_trains():
    adaptation = attach(Own(), LinearProbe(), anatomy=Anatomy())
    adaptation.eval()
    adaptation(TOKENS)
    adaptation.train()
    with pytest.raises(TuningError, match=r"Own returned does not depend on anything that trains \(head.weight, hea"):
        adaptation(TOKENS)


@pytest.mark.parametrize("set_to_zero", [True, False])
def test_a_trained_parameter_without_a_gradient(set_to_zero):
    adaptation = attach(Own(), LoRA(2, targets=["q"]), anatomy=Anatomy())  # the old head, which is not called
    with pytest.raises(TuningError, match=r"head.weight, head.bias should train and got no gradient.*unused"):
        loop(adaptation, 2, set_to_zero)


@pytest.mark.parametrize("asked", [lambda a: a.state(), lambda a: a.eval(), lambda a: a.train(), lambda a: a(TOKENS)])
def test_one_step_is_enough_to_know(asked):
    adaptation = attach(Own(), FullFineTuning(), anatomy=Anatomy(head="fc"))
    loop(adaptation, 1)
    with pytest.raises(TuningError, match="head.weight, head.bias should train and got no gradient"):
        asked(adaptation)


def test_what_a_network_does_not_use_can_be_said():
    adaptation = attach(Own(), FullFineTuning(), anatomy=RIGHT)
    loop(adaptation)
    assert adaptation._watch is None and "head.weight" in adaptation.trained


def test_several_forwards_before_one_backward():
    adaptation = attach(Own(), AdaptFormer(4), anatomy=RIGHT)
    adaptation.train()
    loss = sum(nn.functional.cross_entropy(adaptation(TOKENS), LABELS) for _ in range(3))
    adaptation.eval()
    adaptation(TOKENS)
    loss.backward()
    adaptation.state()
    assert adaptation._watch is None


def test_a_forward_without_gradients_is_not_the_first_of_training():
    adaptation = attach(Own(), AdaptFormer(4), anatomy=RIGHT)
    with paddle.no_grad():
        adaptation(TOKENS)
    loop(adaptation)
    assert adaptation._watch is None


def test_an_interrupted_first_forward_is_made_up_for():
    adaptation = attach(Own(), AdaptFormer(4), anatomy=RIGHT)

    def stop(*_):
        raise KeyboardInterrupt

    handle = adaptation.network.norm.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        loop(adaptation)
    handle.remove()
    loop(adaptation)
    assert adaptation._watch is None


class NoBias(nn.Layer):
    def __init__(self):
        super().__init__()
        self.blocks = nn.LayerList([nn.Linear(4, 4, bias_attr=False)])

    def forward(self, x):
        return self.blocks[0](x)


@pytest.mark.parametrize("method,words", [
    (BitFit(), "BitFit trains nothing of NoBias"), (LayerNormTuning(), "LayerNormTuning trains nothing of NoBias"),
    (LinearProbe(), r"LinearProbe trains nothing of NoBias, which has no classifier at 'head': give attach a head")])
def test_a_method_that_trains_nothing(method, words):
    network = NoBias()
    with pytest.raises(TuningError, match=words):
        attach(network, method, anatomy=Anatomy())
    assert not any(p.stop_gradient for p in network.parameters())  # as it was
    attach(network, LastBlocks(), anatomy=Anatomy())


class Wrong(Method):
    def __init__(self, what):
        self.what = what

    def adds(self, network, anatomy):
        layer = nn.Linear(4, 4)
        if self.what == "frozen":
            layer.bias.stop_gradient = True
        yield Added("blocks.0" if self.what != "taken" else "", "norm" if self.what == "taken" else "wrong", layer,
                    [(After("blocks.0.mlp" if self.what != "path" else "blocks.0.mpl"), layer)])

    def trains(self, network, anatomy):
        return ["blocks.9.weight"] if self.what == "name" else []


@pytest.mark.parametrize("what,words", [
    ("frozen", "bias of the layer 'wrong' does not train, and what does not train is in no tuned file"),
    ("taken", "Own at '' has a layer 'norm' already"), ("path", "no layer 'mpl'"),
    ("name", "Wrong trains blocks.9.weight, which Own does not have")])
def test_a_method_with_a_mistake_leaves_the_network_as_it_was(what, words):
    network = Own()
    before = list(network.state_dict())
    with pytest.raises(UserError, match=words):
        attach(network, Wrong(what), anatomy=RIGHT)
    assert list(network.state_dict()) == before
    assert not any(layer._forward_pre_hooks or layer._forward_post_hooks for layer in network.sublayers())
    assert not any(p.stop_gradient for p in network.parameters())
    loop(attach(network, AdaptFormer(4), anatomy=RIGHT))


def test_a_pattern_of_nothing_is_said():
    with pytest.raises(TuningError, match="also_train 'fc_nrom.*' is the name of no parameter"):
        attach(random_vit(), AdaptFormer(3), also_train=["fc_nrom.*"])


def test_watching_changes_no_gradient():
    found = []
    for watched in (True, False):
        paddle.seed(0)
        adaptation = shaken(attach(random_vit(), AdaptFormer(3, dropout=0.0)))
        if not watched:
            adaptation._watch = None
        images = paddle.to_tensor(np.random.RandomState(0).normal(size=(2, 3, 8, 8)).astype("float32"))
        adaptation(images).sum().backward()
        found.append({n: p.grad.numpy() for n, p in adaptation.trained_parameters().items()})
    for name, gradient in found[0].items():
        np.testing.assert_array_equal(found[1][name], gradient)
