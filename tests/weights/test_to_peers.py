"""--to timm and --to peft: what other libraries load. `tools/peers/round_trips.py` has them load it."""
import json

import numpy as np
import pytest
from test_published import FOLDER, of_case, relative

from ppadapt.cli.convert import main as convert
from ppadapt.weights import load_tuned, load_weights, read_file, read_peft, save_tuned, to_timm

paddle = pytest.importorskip("paddle")
import ppadapt  # noqa: E402


def run(capsys, *arguments):
    code = convert([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out + err


@pytest.mark.parametrize("case", ["timm_average_pool", "timm_clip_quickgelu", "timm_siglip"])
def test_timms_own_tensors_come_back(tmp_path, capsys, case):
    path = of_case(case)[0]
    code, said = run(capsys, "--to", "timm", "--input", path, "--output", tmp_path / "x.pth")
    assert code == 0 and "timm.models.vision_transformer.VisionTransformer(img_size=16, patch_size=4" in said
    theirs = {name.removeprefix("module."): a for name, a in read_file(path).tensors.items()}
    ours = read_file(tmp_path / "x.pth").tensors
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array)


@pytest.mark.parametrize("case", ["timm_distilled", "timm_registers_with_positions", "dinov2_original",
                                  "transformers_clip", "transformers_siglip", "timm_deit3"])
def test_what_is_written_for_timm_is_the_same_network(case):
    done = load_weights(of_case(case)[0])
    theirs, line = to_timm(done.tensors, done.arch)
    from ppadapt.weights import RawCheckpoint, to_ours

    again = to_ours(RawCheckpoint({n: np.array(a) for n, a in theirs.items()}, "torch-zip", "x.pth"))
    assert again.complete and again.tensors.keys() == done.tensors.keys()
    for name, array in done.tensors.items():
        np.testing.assert_allclose(again.tensors[name], array, rtol=1e-6, atol=1e-7)
    assert ("pre_norm=True" in line) == ("norm_pre.weight" in done.tensors)
    assert ("act_layer='?'" in line) == ("act" not in done.arch)


def lora(tmp_path, capsys, case, base):
    tuned = tmp_path / "tuned.safetensors"
    assert run(capsys, "--input", FOLDER / case, "--base", of_case(base)[0], "--output", tuned)[0] == 0
    return tuned


@pytest.mark.parametrize("case,base", [("peft_timm", "timm_deit3"), ("peft_transformers", "transformers_vit")])
def test_lora_there_and_back(tmp_path, capsys, case, base):
    """Through timm's fused qkv, and out of the LayerScale that ours has folded."""
    tuned, path = lora(tmp_path, capsys, case, base), of_case(base)[0]
    code, said = run(capsys, "--to", "peft", "--input", tuned, "--base", path, "--output", tmp_path / "adapter")
    assert code == 0 and "peft.PeftModel.from_pretrained(network, " in said
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["modules_to_save"] == (["head"] if case == "peft_transformers" else config["modules_to_save"])
    before, _ = load_tuned(tuned)
    after, _ = read_peft(tmp_path / "adapter", load_weights(path))

    def updates(tensors, manifest):
        method = manifest["tuning"][0]
        return {n.replace("down_proj", "matrix"): method["alpha"] / method["rank"] * a.astype("f8")
                @ tensors[n.replace("down_proj", "up_proj")] for n, a in tensors.items() if "down_proj" in n}

    one, other = (updates(*pair) for pair in ((before, load_tuned(tuned)[1]),
                                              read_peft(tmp_path / "adapter", load_weights(path))))
    for name, matrix in one.items():
        np.testing.assert_allclose(other[name], matrix, rtol=1e-5, atol=1e-6)
    assert all(not matrix.any() for name, matrix in other.items() if name not in one)
    for name in ("head.weight", "head.bias"):
        np.testing.assert_allclose(after[name], before[name], atol=1e-7)


def test_a_merged_network_gives_pefts_logits(tmp_path, capsys):
    tuned, path = lora(tmp_path, capsys, "peft_transformers", "transformers_vit"), of_case("transformers_vit")[0]
    code, said = run(capsys, "--to", "timm", "--input", tuned, "--base", path, "--output", tmp_path / "m.safetensors")
    assert code == 0 and "merged     into the network" in said and "eps=1e-12" in said
    network = ppadapt.network("vit_base_patch16", pretrained=str(tmp_path / "m.safetensors"), class_num=5, img_size=16,
                              patch_size=4, embed_dim=16, depth=2, num_heads=2, mlp_ratio=2.0, epsilon=1e-12)
    network.eval()
    images = paddle.to_tensor(np.load(FOLDER / "images.npy"))
    assert relative(network(images).numpy(), np.load(FOLDER / "peft_transformers" / "expected.npz")["logits"]) < 1e-5


def test_what_does_not_merge_stays_beside_the_network(tmp_path, capsys):
    """AdaptFormer with its BatchNorm head, which becomes one Linear."""
    options = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0,
               "epsilon": 1e-12}
    path = of_case("transformers_vit")[0]
    network = ppadapt.network("vit_base_patch16", pretrained=str(path), **options)
    built_as = network.built_as
    head = ppadapt.heads.batchnorm_linear(16, 3)
    head[0].running_mean.set_value(paddle.randn([16]))
    head[0].running_var.set_value(paddle.rand([16]) + 0.5)
    adaptation = ppadapt.attach(network, ppadapt.AdaptFormer(bottleneck=2), head=head)
    save_tuned(tmp_path / "t.safetensors", adaptation.state(), {
        "tuning": [{"name": "AdaptFormer", "bottleneck": 2}], "head": "BatchNormLinear",
        "backbone": {**built_as, "digest": adaptation.backbone_digest}})
    arguments = ("--input", tmp_path / "t.safetensors", "--base", path)
    code, said = run(capsys, "--to", "timm", *arguments, "--output", tmp_path / "x.safetensors")
    assert code == 0 and "not: AdaptFormer cannot be merged" in said and "beside     8 tensors of our methods" in said
    found = read_file(tmp_path / "x.safetensors").tensors
    np.testing.assert_array_equal(found["blocks.1.adaptmlp.down_proj.weight"],
                                  network.blocks[1].adaptmlp.down_proj.weight.numpy().T)
    features = paddle.randn([4, 16])
    head.eval()
    np.testing.assert_allclose(features.numpy() @ found["head.weight"].T + found["head.bias"], head(features).numpy(),
                               atol=1e-5)
    code, said = run(capsys, "--to", "peft", *arguments, "--output", tmp_path / "a")
    assert code == 1 and "is tuned with AdaptFormer: peft has LoRA alone" in said and not (tmp_path / "a").exists()
    code, said = run(capsys, "--to", "timm", "--input", tmp_path / "t.safetensors", "--base", of_case(
        "transformers_vit_sharded")[0], "--output", tmp_path / "y.safetensors")
    assert code == 1 and "was tuned on a network of digest" in said


@pytest.mark.parametrize("arguments,says", [
    (("--to", "peft", "--output", "a"), "--to peft needs --base"),
    (("--to", "peft", "--output", "a.pth", "--base", "x"), "with --to peft it is a folder"),
    (("--to", "timm", "--output", "a.pdparams"), "with --to timm it is .safetensors or .pth or .pt"),
    (("--to", "timm", "--output", "a.pth"), "no network of timm reads the class token and the mean")])
def test_what_cannot_be_written(tmp_path, capsys, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    code, said = run(capsys, "--input", of_case("transformers_dinov2")[0], *arguments)
    assert code == 1 and says in said and not list(tmp_path.iterdir())
