"""Loading weights: what the converter refuses, loading refuses; what is left out is in the report, with the reason."""

import numpy as np
import paddle
import pytest

import ppadapt
from ppadapt.cli import convert as tool
from ppadapt.errors import UserError
from ppadapt.networks import network_and_report
from ppadapt.weights import WeightsError, save_pdparams

SMALL = {"img_size": 8, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
NAME = "vit_micro_patch4_32"


@pytest.fixture(scope="module")
def tensors():
    paddle.seed(0)
    return {n: t.numpy() for n, t in ppadapt.network(NAME, class_num=3, **SMALL).state_dict().items()}


def load(tmp_path, tensors, **options):
    save_pdparams(tmp_path / "a.pdparams", tensors)
    return network_and_report(NAME, str(tmp_path / "a.pdparams"), 0, **{**SMALL, **options})


def with_one(tensors, name, change):
    return {**tensors, name: change(tensors[name].copy())}


def nan(array):
    array[0, 0] = np.nan
    return array


WRONG = {
    "a gate that nothing here computes": (lambda t: {**t, **{f"blocks.{i}.attn.gate": np.ones(16, "f4")
                                                             for i in range(2)}}, "blocks.0-1.attn.gate"),
    "norms of q and k": (lambda t: {**t, "blocks.0.attn.q_norm.weight": np.ones(8, "f4")},
                         "blocks.0.attn.q_norm.weight"),
    "a LoRA that is not merged": (lambda t: {**t, "blocks.1.attn.qkv.lora_A.weight": np.ones([2, 16], "f4")},
                                  "blocks.1.attn.qkv.lora_A.weight"),
    "a missing tensor": (lambda t: {n: a for n, a in t.items() if n != "blocks.1.mlp.fc2.bias"},
                         "lacks 1 tensors: blocks.1.mlp.fc2.bias"),
    "NaN": (lambda t: with_one(t, "blocks.0.attn.qkv.weight", nan), "blocks.0.attn.qkv.weight (1 of 768 NaN)"),
    "infinity": (lambda t: with_one(t, "head.bias", lambda a: a + np.inf), "head.bias (3 of 3 infinite)"),
    "int8": (lambda t: with_one(t, "blocks.0.mlp.fc1.weight", lambda a: a.astype("i1")),
             "blocks.0.mlp.fc1.weight (int8)"),
    "int64": (lambda t: with_one(t, "norm.weight", lambda a: a.astype("i8")), "norm.weight (int64)"),
    "bool": (lambda t: with_one(t, "norm.bias", lambda a: a.astype(bool)), "norm.bias (bool)"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_the_converter_refuses_loading_refuses(tmp_path, capsys, tensors, what):
    change, said = WRONG[what]
    with pytest.raises(WeightsError) as error:
        load(tmp_path, change(tensors))
    assert said in str(error.value) and "\n" not in str(error.value)
    assert tool.main(["--input", str(tmp_path / "a.pdparams"), "--output", str(tmp_path / "b.pdparams")]) == 1
    assert said in capsys.readouterr().err and not (tmp_path / "b.pdparams").exists()


def test_what_the_converter_knows_and_the_network_lacks_is_refused(tmp_path, tensors):
    with pytest.raises(WeightsError, match="has reg_token, which the network does not"):
        load(tmp_path, {**tensors, "register_tokens": np.ones([1, 4, 16], "f4")})


def test_what_is_left_out_is_in_the_report_with_its_reason(tmp_path, tensors):
    decoder = {"mask_token": np.ones([1, 1, 8], "f4"), "decoder_embed.weight": np.ones([16, 8], "f4")}
    network, report = load(tmp_path, {**tensors, **decoder})
    assert report.dropped == dict.fromkeys(decoder, "MAE's decoder, used in pre-training only")
    assert "dropped 2: mask_token, decoder_embed.weight: MAE's decoder" in str(report)
    assert "not taken 2: head.weight, head.bias" in str(report)
    np.testing.assert_array_equal(network.norm.weight.numpy(), tensors["norm.weight"])


def test_mean_pooling_from_a_file_of_the_class_token(tmp_path, tensors):
    """MAE's own default for fine-tuning: the encoder's `norm` is left out and `fc_norm` starts anew."""
    network, report = load(tmp_path, tensors, pool="avg")
    assert report.new == ["fc_norm.weight", "fc_norm.bias"] and set(report.dropped) == {"norm.weight", "norm.bias"}
    assert "fc_norm in its place" in report.dropped["norm.weight"]
    np.testing.assert_array_equal(network.blocks[1].mlp.fc1.weight.numpy(), tensors["blocks.1.mlp.fc1.weight"])
    shipped, report = network_and_report(NAME, True, 0, pool="avg")
    assert set(report.dropped) == {"norm.weight", "norm.bias"} and len(report.new) == 2
    with pytest.raises(WeightsError, match="lacks norm.weight, norm.bias"):
        load(tmp_path, {n: t.numpy() for n, t in network.state_dict().items()})


def test_a_tuned_file_is_no_network(tmp_path, tensors):
    from ppadapt.weights import save_tuned

    save_tuned(tmp_path / "tuned.safetensors", {"head.weight": tensors["head.weight"]}, {})
    with pytest.raises(WeightsError, match="is a tuned file, without the network.*as Global.pretrained_model"):
        ppadapt.network(NAME, pretrained=str(tmp_path / "tuned.safetensors"), **SMALL)


def test_a_path_that_is_none(tmp_path):
    with pytest.raises(UserError, match="does not exist. Give the path of a weight file"):
        ppadapt.network(NAME, pretrained=str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="is a folder"):
        ppadapt.network(NAME, pretrained=str(tmp_path))


