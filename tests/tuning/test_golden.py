"""The authors' PyTorch code, number by number: outputs, gradients and five steps of training."""
import json

import numpy as np
import paddle
import pytest

from ppadapt.engine.amp import Precision
from ppadapt.models.heads import batchnorm_linear
from ppadapt.models.vit import VisionTransformer
from ppadapt.tuning import attach
from ppadapt.tuning.frozen.onednn.support import bfloat16_obstacle
from ppadapt.tuning.methods import VPT, AdaptFormer, FullFineTuning, LinearProbe
from ppadapt.weights import RawCheckpoint, load_weights, match, to_ours

CASES = ("full", "layernorm_in", "layernorm_out", "learnable_scale", "linear", "parallel_cls", "parallel_pool",
         "sequential", "vpt")


def method_of(meta):
    """Our method for the authors' options."""
    options = meta["tuning"]
    if meta["mode"] == "full":
        return FullFineTuning()
    if options["vpt_on"]:
        return VPT(options["vpt_num"])
    if not options["ffn_adapt"]:
        return LinearProbe()
    scale = options["ffn_adapter_scalar"]
    return AdaptFormer(options["ffn_num"], options["ffn_option"],
                       "learnable" if scale.startswith("learnable") else float(scale),
                       options["ffn_adapter_layernorm_option"], dropout=meta["adapter_dropout"])


def adapt(folder, meta):
    """The frozen network from pretrain.pth, what trains from finetuned.pth."""
    network = VisionTransformer(**meta["arch"], class_num=0, pool="avg" if meta["global_pool"] else "cls")
    shapes = {n: p.shape for n, p in network.named_parameters()}
    arrays, report = match(load_weights(folder / "pretrain.pth").tensors, shapes, new=["fc_norm.*"])
    report.raise_if_incomplete()
    for name, parameter in network.named_parameters():
        if name in arrays:
            parameter.set_value(arrays[name])
    adaptation = attach(network, method_of(meta), head=batchnorm_linear(meta["arch"]["embed_dim"], meta["num_classes"]),
                        also_train=report.new)
    tuned = load_weights(folder / "finetuned.pth").tensors
    adaptation.load_state({n: tuned[n] for n in adaptation.tensors()})
    return adaptation


@pytest.mark.parametrize("case", CASES)
def test_the_authors_numbers(case, golden_dir):
    folder = golden_dir(f"image_{case}", "expected.npz")
    meta, want = json.loads((folder / "meta.json").read_text()), np.load(folder / "expected.npz")
    adaptation = adapt(folder, meta)
    assert adaptation.counts()[0] == meta["trainable_params"]
    images, labels = paddle.to_tensor(want["images"]), paddle.to_tensor(want["labels"])
    np.testing.assert_allclose(adaptation(images).numpy(), want["logits"], rtol=0, atol=1e-4)

    frozen = adaptation.frozen_digest()
    optimizer = paddle.optimizer.Momentum(meta["optimizer"]["lr"], meta["optimizer"]["momentum"],
                                          parameters=list(adaptation.trained_parameters().values()))
    adaptation.train()
    losses = []
    for step in range(meta["optimizer"]["steps"]):
        loss = paddle.nn.functional.cross_entropy(adaptation(images), labels)
        loss.backward()
        if step == 0:
            compare_gradients(adaptation, want)
        optimizer.step()
        optimizer.clear_grad()
        losses.append(float(loss))
    np.testing.assert_allclose(losses, want["losses"], rtol=1e-4)
    adaptation.eval()
    np.testing.assert_allclose(adaptation(images).numpy(), want["logits_after"], rtol=0, atol=1e-4)
    assert adaptation.frozen_digest() == frozen


def compare_gradients(adaptation, want):
    """Every trained tensor within 1e-4 of its own largest gradient.

    Where the exact gradient is 0, or a float32 sum of terms that cancel, both sides hold rounding errors of
    the network's largest gradient, so 1e-6 of that is allowed: the key bias (softmax ignores what adds the
    same to every score), fc_norm.bias (the BatchNorm after it takes the mean out) and the learnable scale
    (one sum over all tokens and channels).
    """
    authors = {n[len("grad/"):]: want[n] for n in want.files if n.startswith("grad/")}
    expected = to_ours(RawCheckpoint(authors, "torch-zip")).tensors
    parameters = adaptation.trained_parameters()
    assert parameters.keys() == expected.keys()
    largest = max(np.abs(g).max() for g in expected.values())
    for name, parameter in parameters.items():
        error = np.abs(parameter.grad.numpy() - expected[name]).max()
        assert error <= max(1e-4 * np.abs(expected[name]).max(), 1e-6 * largest), (name, error)


@pytest.mark.needs_paddle("rounding of bfloat16 on a CPU")
@pytest.mark.parametrize("case", CASES)
def test_gradients_in_bfloat16_point_where_the_authors_do(case, golden_dir):
    """Each trained tensor's has a cosine of 0.999 to the authors' float32, which is float64's to 1e-5.

    Left out are tensors whose exact gradient is 0 or a sum of terms that cancel (`compare_gradients` says which): of
    rounding errors there is no direction.
    """
    if bfloat16_obstacle():
        pytest.skip(bfloat16_obstacle())
    folder = golden_dir(f"image_{case}", "expected.npz")
    meta, want = json.loads((folder / "meta.json").read_text()), np.load(folder / "expected.npz")
    adaptation, precision = adapt(folder, meta), Precision("O1", "bfloat16", cpu_obstacle=bfloat16_obstacle)
    precision.prepare(adaptation)
    adaptation.train()
    with precision.context():
        loss = paddle.nn.functional.cross_entropy(adaptation(paddle.to_tensor(want["images"])),
                                                  paddle.to_tensor(want["labels"]))
    loss.backward()
    authors = {n[len("grad/"):]: want[n] for n in want.files if n.startswith("grad/")}
    expected = to_ours(RawCheckpoint(authors, "torch-zip")).tensors
    largest, compared = max(np.abs(g).max() for g in expected.values()), 0
    for name, parameter in adaptation.trained_parameters().items():
        ours, theirs = parameter.grad.numpy().ravel().astype(np.float64), expected[name].ravel().astype(np.float64)
        if np.abs(theirs).max() > 1e-4 * largest and theirs.size > 1:
            cosine = ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs)
            compared += 1
            assert cosine >= 0.999, (name, cosine)
    assert compared >= 0.7 * len(expected)
