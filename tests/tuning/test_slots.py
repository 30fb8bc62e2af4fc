"""Slots: what each place does, held against forwards written by hand; tasks, threads, interrupts."""
import copy
import gc
import threading
import weakref

import numpy as np
import paddle
import pytest
from paddle import nn

from ppadapt.errors import UserError
from ppadapt.models.anatomy import Anatomy
from ppadapt.tuning import After, Before, Beside, PartOfOutput, Tokens, TuningError, attach
from ppadapt.tuning.frozen.recompute import recompute_blocks
from ppadapt.tuning.methods import AdaptFormer, LoRA
from ppadapt.tuning.slots import Placed, Slots, slots_of

DIM = 6


class Block(nn.Layer):
    def __init__(self):
        super().__init__()
        self.norm1, self.attn, self.norm2, self.mlp = (nn.Linear(DIM, DIM) for _ in range(4))
        self.drop_path = nn.Identity()

    def forward(self, x):
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class Network(nn.Layer):
    def __init__(self):
        super().__init__()
        self.blocks = nn.LayerList([Block(), Block()])

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class Twice(nn.Layer):
    """A branch: `factor` times what it sees, squared."""

    def __init__(self, factor=2.0):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x * x


class Ones(nn.Layer):
    count = 2

    def forward(self, x):
        return paddle.ones([x.shape[0], 2, x.shape[2]])


@pytest.fixture
def network():
    paddle.seed(3)
    return Network()


@pytest.fixture
def x():
    return paddle.to_tensor(np.random.RandomState(4).normal(size=(2, 3, DIM)).astype("float32"))


def put(network, *pairs, task="t"):
    slots = slots_of(network) or Slots()
    slots.put(network, task, pairs)
    slots.default = task
    return slots


def b(x, factor=2.0):
    return factor * x * x


def forward(network, x, norm2=lambda x: x, attn=lambda x, y: y, mlp=lambda stream, x, y: y):
    """The network by hand; what is given acts in its second block."""
    for i, block in enumerate(network.blocks):
        own = i == 1
        n = block.norm1(x)
        x = x + (attn(n, block.attn(n)) if own else block.attn(n))
        n = block.norm2(norm2(x) if own else x)
        x = x + (mlp(x, n, block.mlp(n)) if own else block.mlp(n))
    return x


def third(y, update):
    return paddle.concat([y[..., :2], y[..., 2:4] + update[..., 2:4], y[..., 4:]], axis=-1)


class Part(nn.Layer):
    def forward(self, x):
        return b(x)[..., 2:4]


@pytest.mark.parametrize("place,branch,by_hand", [
    (Before("blocks.1.norm2"), Twice(), {"norm2": b}),
    (After("blocks.1.attn"), Twice(), {"attn": lambda x, y: y + b(y)}),
    (After("blocks.1.attn", reads="input"), Twice(), {"attn": lambda x, y: y + b(x)}),
    (After("blocks.1.attn", replaces=True), Twice(), {"attn": lambda x, y: b(y)}),
    (After("blocks.1.attn", reads="input", replaces=True), Twice(), {"attn": lambda x, y: b(x)}),
    (PartOfOutput("blocks.1.attn"), Twice(), {"attn": lambda x, y: y + b(x)}),
    (PartOfOutput("blocks.1.attn", 1, 3), Part(), {"attn": lambda x, y: third(y, b(x))}),
    (Beside("blocks.1", "blocks.1.norm2", "blocks.1.drop_path"), Twice(), {"mlp": lambda stream, x, y: y + b(stream)}),
    (Beside("blocks.1", "blocks.1.norm2", "blocks.1.drop_path", reads="end"), Twice(),
     {"mlp": lambda stream, x, y: y + b(y)}),
], ids=repr)
def test_what_a_place_does(network, x, place, branch, by_hand):
    expected = forward(network, x, **by_hand).numpy()
    plain = network(x).numpy()
    slots = put(network, (place, branch))
    np.testing.assert_allclose(network(x).numpy(), expected, rtol=1e-6)
    assert np.abs(expected - plain).max() > 0.1
    np.testing.assert_allclose(copy.deepcopy(network)(x).numpy(), expected, rtol=1e-6)
    slots.close(network)
    np.testing.assert_array_equal(network(x).numpy(), plain)


@pytest.mark.parametrize("last", [0, 1])
def test_tokens_go_in_before_a_block_and_come_out_after_one(network, x, last):
    tokens = paddle.concat([paddle.ones([2, 2, DIM]), x], axis=1)
    seen = []
    for block in network.blocks:
        block.attn.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0].shape[1]))
    expected = network(tokens)[:, 2:].numpy()  # the layers here work token by token
    seen.clear()
    put(network, (Tokens("blocks.0", f"blocks.{last}"), Ones()))
    np.testing.assert_allclose(network(x).numpy(), expected, rtol=1e-5)
    assert seen == [5, 5 if last else 3]


def test_one_hook_a_place_however_many_branches_and_tasks(network, x):
    place = After("blocks.1.mlp")
    both = forward(network, x, mlp=lambda stream, n, y: b(y + b(y, 1.0), 3.0)).numpy()
    one = forward(network, x, mlp=lambda stream, n, y: y + b(y, 5.0)).numpy()
    put(network, (place, Twice(1.0)), (After("blocks.1.mlp", replaces=True), Twice(3.0)))
    slots = put(network, (place, Twice(5.0)), task="u")
    assert len(network.blocks[1].mlp._forward_post_hooks) == 1
    hooks = [len(h) for layer in network.sublayers() for h in (layer._forward_pre_hooks, layer._forward_post_hooks)]
    assert sum(hooks) == 1
    with slots.using("t"):
        np.testing.assert_allclose(network(x).numpy(), both, rtol=1e-5)  # in the order in which they were put
    np.testing.assert_allclose(network(x).numpy(), one, rtol=1e-5)
    slots.drop(network, "t")
    assert len(network.blocks[1].mlp._forward_post_hooks) == 1
    slots.default = None
    slots.drop(network, "u")
    assert not network.blocks[1].mlp._forward_post_hooks


def test_a_task_is_chosen_by_name_for_one_thread(network, x):
    plain = network(x).numpy()
    place = Beside("blocks.0", "blocks.0.norm2", "blocks.0.drop_path")
    factors = {"a": 1.0, "b": 2.0, "c": 3.0}
    for task, factor in factors.items():
        slots = put(network, (place, Twice(factor)), task=task)
    expected = {}
    for task in factors:
        with slots.using(task):
            expected[task] = network(x).numpy()
    with slots.using("a"), slots.using(None):
        np.testing.assert_array_equal(network(x).numpy(), plain)
    np.testing.assert_array_equal(network(x).numpy(), expected["c"])  # the default
    with slots.using(Placed([(place, Twice(2.0))])):
        np.testing.assert_array_equal(network(x).numpy(), expected["b"])
    wrong = []

    def ask(task):
        with slots.using(task):
            wrong.extend(task for _ in range(50) if not np.array_equal(network(x).numpy(), expected[task]))

    threads = [threading.Thread(target=ask, args=(task,)) for task in factors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    with pytest.raises(TuningError, match="'d' is unknown. There are: a, b, c"), slots.using("d"):
        pass


def test_a_choice_is_for_its_own_network(network, x):
    other = Network()
    slots = put(network, (After("blocks.0.mlp"), Twice()))
    put(other, (After("blocks.0.mlp"), Twice()))
    expected = other(x).numpy()
    with slots.using(None):
        np.testing.assert_array_equal(other(x).numpy(), expected)


def test_a_path_that_is_not_there_changes_nothing(network):
    with pytest.raises(UserError, match="no layer 'mpl'.*attn"):
        put(network, (After("blocks.1.mlp"), Twice()), (After("blocks.1.mpl"), Twice()))
    assert slots_of(network) is None
    assert not any(layer._forward_post_hooks for layer in network.sublayers())


def test_a_layer_called_by_names_alone_is_said(network, x):
    class Named(Network):
        def forward(self, x):
            return self.blocks[0](x=x)

    named = Named()
    put(named, (Before("blocks.0"), Twice()))
    with pytest.raises(TuningError, match="blocks.0 is called with named arguments alone"):
        named(x)


def interrupt(layer, where="register_forward_pre_hook"):
    def stop(*_):
        raise KeyboardInterrupt

    return getattr(layer, where)(stop)


def test_an_interrupted_forward_leaves_nothing_behind(network, x):
    """What was remembered came back as the residual stream of the next call, whose attention calls drop_path first."""
    put(network, (Beside("blocks.0", "blocks.0.norm2", "blocks.0.drop_path"), Twice()))
    expected = network(x).numpy()
    streams = []
    network.blocks[0].norm2.register_forward_pre_hook(lambda layer, inputs: streams.append(weakref.ref(inputs[0])))
    handle = interrupt(network.blocks[0].mlp)
    with pytest.raises(KeyboardInterrupt):
        network(x + 1)
    handle.remove()
    copy.deepcopy(network)
    gc.collect()
    assert len(streams) == 1 and streams[0]() is None
    np.testing.assert_array_equal(network(x).numpy(), expected)


def test_recompute_computes_again_with_the_task_of_its_forward():
    gradients = []
    for recomputes in (False, True):
        paddle.seed(3)
        network = Network()
        anatomy = Anatomy(linears={"fc1": "mlp"})
        x = paddle.to_tensor(np.random.RandomState(4).normal(size=(2, 3, DIM)).astype("float32"), stop_gradient=False)
        place = Beside("blocks.1", "blocks.1.norm2", "blocks.1.drop_path")
        put(network, (place, Twice(1.0)), task="a")
        slots = put(network, (place, Twice(5.0)), task="b")
        if recomputes:
            recompute_blocks(network, anatomy)
        with slots.using("a"):
            loss = network(x).sum()
        loss.backward()  # the default is "b"
        gradients.append(x.grad.numpy())
    np.testing.assert_allclose(gradients[1], gradients[0], rtol=1e-6)


def test_the_class_of_a_block_that_remembers_is_given_back(network):
    slots = put(network, (Beside("blocks.0", "blocks.0.norm2", "blocks.0.drop_path"), Twice()))
    assert isinstance(network.blocks[0], Block) and type(network.blocks[0]) is not Block
    assert type(network.blocks[0]).__name__ == "Block" and type(network.blocks[1]) is Block
    slots.close(network)
    assert type(network.blocks[0]) is Block


def test_methods_at_one_layer_share_its_hook():
    """LoRA and what reads the same Linear: the hooks of a network are as many as its places."""
    from numpy_block import random_vit

    network = random_vit()
    attach(network, LoRA(targets=["q", "k", "v"]), AdaptFormer(3))
    counts = {path: (len(layer._forward_pre_hooks), len(layer._forward_post_hooks))
              for path, layer in network.named_sublayers() if layer._forward_pre_hooks or layer._forward_post_hooks}
    assert counts == {f"blocks.{i}.{name}": hooks for i in (0, 1) for name, hooks in (
        ("attn.qkv", (0, 1)), ("norm2", (1, 0)), ("drop_path", (0, 1)))}


def test_hooks_come_off_a_network_of_which_a_layer_is_gone(network):
    slots = put(network, (After("blocks.0.mlp"), Twice()), (After("blocks.1.mlp"), Twice()))
    del network.blocks[0].mlp
    slots.close(network)
    assert not network.blocks[1].mlp._forward_post_hooks and slots_of(network) is None
