"""What people do with an `nn.Layer` works on an adaptation, and frozen layers stay in eval mode meanwhile."""
import copy
import threading

import numpy as np
import paddle
import pytest
from numpy_block import DIM, random_vit
from paddle import nn
from paddle.static import InputSpec

import ppadapt
from ppadapt.log import LOGGER
from ppadapt.models.heads import batchnorm_linear
from ppadapt.tuning import TuningError, attach
from ppadapt.tuning.methods import AdaptFormer, FullFineTuning, LoRA


class Images(paddle.io.Dataset):
    """Sixteen random images of four classes."""

    def __len__(self):
        return 16

    def __getitem__(self, i):
        return np.random.RandomState(i).normal(size=(3, 8, 8)).astype("float32"), np.array(i % 4)


IMAGES = paddle.to_tensor(np.stack([Images()[i][0] for i in range(4)]))


def adapted(method=None, seed=0):
    paddle.seed(seed)
    return attach(random_vit(drop_rate=0.3, drop_path_rate=0.3), method or AdaptFormer(3),
                  head=batchnorm_linear(8, 4))


def modes(adaptation):
    return {path for path, layer in adaptation.network.named_sublayers() if layer.training}


def test_it_has_the_layers_of_its_network_under_their_names():
    adaptation = adapted()
    network = adaptation.network
    assert isinstance(adaptation, nn.Layer)
    assert list(adaptation.state_dict()) == list(network.state_dict())
    assert [n for n, _ in adaptation.named_parameters()] == [n for n, _ in network.named_parameters()]
    assert [n for n, _ in adaptation.named_sublayers()] == [n for n, _ in network.named_sublayers()]
    assert all(a is b for a, b in zip(adaptation.parameters(), network.parameters()))
    assert list(adaptation.trained_parameters()) == adaptation.trained
    network.add_sublayer("later", nn.Linear(2, 2))
    assert adaptation.later is network.later
    state = {n: t.numpy() + 1 for n, t in adaptation.state_dict().items()}
    adaptation.set_state_dict(state)
    np.testing.assert_array_equal(network.blocks[0].adaptmlp.up_proj.bias.numpy(), np.ones(8, "float32"))
    adaptation.to(dtype="float64")
    assert network.head[0].running_mean.dtype == network.pos_embed.dtype == paddle.float64
    assert adaptation(IMAGES.astype("float64")).dtype == paddle.float64


def test_a_deep_copy_is_of_one_piece():
    twin = copy.deepcopy(adapted())
    twin.network.head[1].bias.set_value(paddle.full([4], 3.0))
    np.testing.assert_array_equal(twin.state()["head.1.bias"], 3)
    np.testing.assert_array_equal(twin.state_dict()["head.1.bias"].numpy(), 3)
    assert twin.detach().head is not None


@pytest.mark.parametrize("method", [AdaptFormer(3), FullFineTuning()])
def test_data_parallel_trains_what_trains(method):
    adaptation = adapted(method)
    adaptation.train()
    expected = modes(adaptation)
    parallel = paddle.DataParallel(adaptation)
    parallel.train()  # sets the mode of every layer below
    logits = parallel(IMAGES)
    assert modes(adaptation) == expected and ("blocks.0.attn.proj_drop" in expected) == (
        type(method) is FullFineTuning)
    logits.sum().backward()
    assert {n for n, p in adaptation.named_parameters() if p.grad is not None} == set(adaptation.trained)
    parallel.eval()
    parallel(IMAGES)
    assert not modes(adaptation) and not adaptation.training
    assert list(parallel.state_dict()) == list(adaptation.network.state_dict())


def test_summary_counts_what_trains(capsys):
    adaptation = adapted()
    adaptation.train()
    expected = modes(adaptation)
    counts = paddle.summary(adaptation, (1, 3, 8, 8))
    assert counts["trainable_params"] == adaptation.counts()[0]
    assert "AdaptMLP" in capsys.readouterr().out
    assert modes(adaptation) == expected


def test_model_fit_trains_saves_loads_and_exports(tmp_path):
    adaptation = adapted()
    frozen, seen = adaptation.frozen_digest(), []

    class Modes(paddle.callbacks.Callback):
        def on_train_batch_end(self, step, logs=None):
            seen.append(("train", adaptation.network.blocks[0].attn.proj_drop.training,
                         adaptation.network.blocks[0].adaptmlp.dropout.training, adaptation.network.head.training))

        def on_eval_batch_end(self, step, logs=None):
            seen.append(("eval", bool(modes(adaptation))))

    def model_of(adaptation):
        model = paddle.Model(adaptation, [InputSpec([None, 3, 8, 8], "float32", "image")],
                             [InputSpec([None], "int64", "label")])
        model.prepare(paddle.optimizer.Adam(paddle.optimizer.lr.CosineAnnealingDecay(1e-2, 8),
                                            parameters=model.parameters()),
                      nn.CrossEntropyLoss(), paddle.metric.Accuracy())
        return model

    model = model_of(adaptation)
    model.fit(Images(), Images(), batch_size=4, epochs=2, verbose=0, save_dir=str(tmp_path / "run"), callbacks=[
        Modes(), paddle.callbacks.LRScheduler(), paddle.callbacks.EarlyStopping(patience=5)])
    assert set(seen) == {("train", False, True, True), ("eval", False)}
    assert adaptation.frozen_digest() == frozen
    expected = model.predict(Images(), batch_size=4, verbose=0, stack_outputs=True)[0]

    again = model_of(adapted(seed=7))
    again.load(str(tmp_path / "run" / "final"))
    np.testing.assert_array_equal(
        again.predict(Images(), batch_size=4, verbose=0, stack_outputs=True)[0], expected)
    model.save(str(tmp_path / "served"), training=False)
    served = paddle.jit.load(str(tmp_path / "served"))
    np.testing.assert_allclose(served(IMAGES).numpy(), expected[:4], rtol=0, atol=1e-5)


def test_it_is_called_with_a_name_as_its_network_is():
    adaptation = adapted()
    np.testing.assert_array_equal(adaptation(x=IMAGES).numpy(), adaptation(IMAGES).numpy())


def test_threads_may_be_the_first_to_call_it():
    adaptation, found = adapted(), []
    adaptation.eval()

    def ask():
        with paddle.no_grad():
            found.extend(adaptation(IMAGES).numpy() for _ in range(20))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80 and all(np.array_equal(logits, found[0]) for logits in found)


def test_a_network_detached_from_half_precision_says_what_it_lost(monkeypatch):
    adaptation, said = adapted(), []
    monkeypatch.setattr(LOGGER, "warning", lambda text, *args: said.append(text % args))
    before = adaptation.network.blocks[0].mlp.fc1.weight.numpy()
    adaptation.store_frozen("bfloat16")
    network = adaptation.detach()
    assert len(said) == 1
    assert "16 parameters of VisionTransformer were kept in another type and have lost digits" in said[0]
    assert {str(p.dtype).rsplit(".", 1)[-1] for p in network.parameters()} == {"float32"}
    after = network.blocks[0].mlp.fc1.weight.numpy()
    assert 0 < np.abs(after - before).max() < 0.01 * np.abs(before).max()
    assert network(IMAGES).shape == [4, DIM]


def test_a_detached_adaptation_is_of_no_more_use():
    adaptation = adapted(LoRA(2))
    network = adaptation.detach()
    for use in (lambda: adaptation(IMAGES), lambda: adaptation.train(), lambda: adaptation.state(),
                lambda: adaptation.detach(), lambda: adaptation.merge(), lambda: adaptation.summary()):
        with pytest.raises(TuningError, match="was detached from its network. attach"):
            use()
    assert not adaptation.parameters() and network.parameters()


def test_the_running_statistics_of_a_network_are_given_back():
    network = nn.Sequential(nn.Conv2D(3, 4, 1), nn.BatchNorm2D(4), nn.Flatten(), nn.Linear(256, 4))
    before = {n: t.numpy() for n, t in network.state_dict().items()}
    adaptation = attach(network, FullFineTuning(), anatomy=ppadapt.Anatomy(head="3"))
    adaptation.train()
    adaptation(IMAGES).sum().backward()
    paddle.optimizer.SGD(0.1, parameters=adaptation.parameters()).step()
    moved = [n for n, t in network.state_dict().items() if not np.array_equal(t.numpy(), before[n])]
    assert {"1._mean", "1._variance", "1.weight", "0.bias"} & set(moved) >= {"1._mean", "1._variance"}
    for name, tensor in adaptation.detach().state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), before[name], err_msg=name)
