"""Run by test_mixed_precision.py with the device of device.cc: training under AMP, computed and not only arranged."""
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F

from ppadapt import build
from ppadapt.engine.amp import DTYPES, Precision
from ppadapt.runs import experiment
from ppadapt.tuning.frozen.last_block import set_training
from ppadapt.tuning.frozen.recompute import recompute_blocks

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "contract"), str(HERE.parent / "engine")]
from test_contract_methods import CASES, adapt, images, shake  # noqa: E402
from test_training import plan, tuned  # noqa: E402

DEVICE = "half_cpu"
EVERY_PRECISION = pytest.mark.parametrize("dtype", DTYPES)
EVERY_LEVEL = pytest.mark.parametrize("level", ["O1", "O2"])


@pytest.fixture(autouse=True)
def device(monkeypatch):
    # Paddle keeps a list, by name, of the devices that have bfloat16.
    monkeypatch.setattr(sys.modules["paddle.amp.auto_cast"], "_is_custom_device_bfloat16_supported", lambda: True)
    for module in (build, build.training):
        monkeypatch.setattr(module, "set_device", lambda name: paddle.set_device(DEVICE))
    paddle.set_device(DEVICE)


def gradients(case, level, dtype="float16", cheap=True, recompute=False, batches=1, dropout=True, all_tokens=False):
    """({name: gradient} of a batch of 4 that comes in `batches` parts, the types that fc1 computed in).

    `all_tokens` go through the last block: with fewer, dropout draws others and sums round otherwise.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PPADAPT_PLAIN", "0" if cheap else "1")
        adaptation = adapt("vit_cls", case)
    shake(adaptation, set(adaptation.trained_parameters()))  # a branch that starts at zero hides most gradients
    if recompute:
        recompute_blocks(adaptation.network)
    precision = Precision(level, dtype)
    precision.scaler = None  # scaling belongs to a step
    precision.prepare(adaptation)
    adaptation.train()
    if all_tokens:
        set_training(adaptation.network, False)
    kinds = set()
    for block in adaptation.network.blocks:
        block.mlp.fc1.register_forward_post_hook(lambda layer, x, y: kinds.add(y.dtype))
    for layer in adaptation.network.sublayers():
        if isinstance(layer, nn.Dropout) and not dropout:
            layer.p = 0.0
    paddle.seed(4)
    for x, y in zip(images("vit_cls").chunk(batches), paddle.to_tensor([0, 1, 2, 3]).chunk(batches)):
        with precision.context():
            loss = F.cross_entropy(adaptation(x), y) / batches
        precision.backward(loss)
    return {n: p.grad.numpy() for n, p in adaptation.trained_parameters().items()}, kinds


def assert_same(found, expected, relative=1e-5):
    assert found.keys() == expected.keys()
    for name, grad in expected.items():
        assert found[name].dtype == grad.dtype == np.float32
        assert np.abs(found[name] - grad).max() <= relative * np.abs(grad).max(), name


@pytest.mark.parametrize("level, dtype", [("O1", "float16"), ("O2", "bfloat16")])
@pytest.mark.parametrize("case", CASES)
def test_every_method_gets_the_gradients_of_plain_layers(case, level, dtype):
    found, kinds = gradients(case, level, dtype, all_tokens=True)
    expected, plain = gradients(case, level, dtype, cheap=False)
    assert kinds == plain
    half = getattr(paddle, dtype)
    if any(name.endswith("fc1.bias") for name in found):  # float32, and so is what it is added to
        assert kinds <= {half, paddle.float32}
    else:
        assert kinds == {half}
    assert_same(found, expected)


@EVERY_PRECISION
@EVERY_LEVEL
def test_adaptformers_are_those_of_float32_but_for_rounding(level, dtype):
    found, exact = (np.concatenate([g.ravel() for g in gradients("adaptformer", kind, dtype)[0].values()])
                    for kind in (level, "O0"))
    error = np.linalg.norm(found - exact) / np.linalg.norm(exact)
    assert 0 < error < {"float16": 0.02, "bfloat16": 0.15}[dtype]


@EVERY_PRECISION
@EVERY_LEVEL
def test_recompute_and_accumulation_change_nothing(level, dtype):
    # Without dropout: its draws are the CPU's, and recompute restores the generator of the device.
    expected, _ = gradients("adaptformer", level, dtype, cheap=False, batches=2, dropout=False)
    for recompute in (False, True):
        assert_same(gradients("adaptformer", level, dtype, recompute=recompute, batches=2, dropout=False)[0], expected)


@EVERY_PRECISION
@EVERY_LEVEL
def test_a_run_learns_what_it_learns_in_float32(tmp_path, level, dtype):
    exact = experiment.train(plan(tmp_path))
    mixed = experiment.train(plan(tmp_path, AMP={"level": level, "dtype": dtype}))
    assert mixed["loss"] != exact["loss"]
    assert mixed["loss"] == pytest.approx(exact["loss"], rel=0.02)
    kept = tuned(mixed)
    assert {array.dtype for array in kept.values()} == {np.dtype("float32")}
    log = (Path(mixed["folder"]) / "train.log").read_text(encoding="utf-8")
    assert "computes in float32" not in log
    # The tuned file is for the float32 network, which computes what was trained.
    full = plan(tmp_path, Global__pretrained_model=f"{mixed['folder']}/latest.safetensors")
    assert experiment.evaluate(full)["loss"] == pytest.approx(mixed["loss"], rel=0.02)


def test_a_step_whose_scaled_gradients_overflow_is_left_out():
    adaptation = adapt("vit_cls", "adaptformer")
    precision = Precision("O1", "float16", scale_loss=2.0 ** 40)
    precision.prepare(adaptation)
    optimizer = paddle.optimizer.SGD(0.1, parameters=list(adaptation.trained_parameters().values()))
    moved = []
    for _ in range(60):
        before = {n: p.numpy() for n, p in adaptation.trained_parameters().items()}
        with precision.context():
            loss = F.cross_entropy(adaptation(images("vit_cls")), paddle.to_tensor([0, 1, 2, 3]))
        precision.backward(loss)
        precision.step(optimizer)
        moved.append(any((p.numpy() != before[n]).any() for n, p in adaptation.trained_parameters().items()))
    assert not moved[0] and moved[-1]
    assert precision.steps == 60 and precision.left_out == moved.count(False)
    assert all(np.isfinite(p.numpy()).all() for p in adaptation.trained_parameters().values())
