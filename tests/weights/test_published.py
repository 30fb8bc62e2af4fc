"""Networks that their own libraries saved give, read without those libraries, their own features.

The files are of tools/peers/make_golden.py; each folder is of one library and kind.
"""
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ppadapt.weights import WeightsError, load_weights, match, read_peft

FOLDER = Path(__file__).parents[1] / "golden" / "weights"
ADAPTERS = sorted(path.name for path in FOLDER.glob("peft_*"))
CASES = sorted(path.name for path in FOLDER.iterdir() if path.is_dir() and path.name not in ADAPTERS
               and not path.name.startswith(("swin", "beit")))
SETTINGS = ("expected.npz", "meta.json", "config.json", "preprocessor_config.json", "open_clip_config.json")


def of_case(name):
    """(path of the weights, expected arrays, what no file tells)."""
    folder = FOLDER / name
    meta = json.loads((folder / "meta.json").read_text()) if (folder / "meta.json").is_file() else {}
    files = [file for file in folder.iterdir() if file.name not in SETTINGS]
    return (files[0] if len(files) == 1 else folder), np.load(folder / "expected.npz"), meta


def build(done, given, class_num=0):
    """The network that the report says, with the file's tensors."""
    import paddle

    from ppadapt.models.vit import VisionTransformer

    options = {option: value for option, value in {**done.arch, **given}.items() if option != "class_num"}
    network = VisionTransformer(**options, class_num=class_num)
    network.eval()
    shapes = {name: tuple(p.shape) for name, p in network.named_parameters()}
    arrays, report = match(done.tensors, shapes, () if class_num else ("head.*",), done.path)
    report.raise_if_incomplete()
    for name, parameter in network.named_parameters():
        if name in arrays:
            parameter.set_value(arrays[name])
    return lambda x: network(paddle.to_tensor(x)).numpy()


def relative(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("name", CASES)
def test_a_file_gives_its_librarys_features(name):
    pytest.importorskip("paddle")
    path, expected, meta = of_case(name)
    done = load_weights(path, meta.get("key"))
    done.raise_if_incomplete()
    images = np.load(FOLDER / "images.npy")
    assert set(meta.get("given", {})) >= set(done.facts.asked), "what is asked for is given by the case"
    features = build(done, meta.get("given", {}))(images)
    # Where two features stand side by side, the file's library calls the first one the feature.
    assert relative(features[:, :expected["features"].shape[1]], expected["features"]) < 1e-5
    if "logits" in expected and "head.weight" in done.tensors:
        classes = expected["logits"].shape[1]
        assert relative(build(done, meta.get("given", {}), classes)(images), expected["logits"]) < 1e-5


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_of_peft_gives_pefts_logits(name):
    paddle = pytest.importorskip("paddle")
    import ppadapt
    from ppadapt.models.vit import VisionTransformer

    folder, meta = FOLDER / name, json.loads((FOLDER / name / "meta.json").read_text())
    base = load_weights(of_case(meta["base"])[0])
    tensors, manifest = read_peft(folder, base)
    options = {option: value for option, value in {**base.arch, **meta.get("given", {})}.items()
               if option != "class_num"}
    network = VisionTransformer(**options, class_num=5)
    arrays, report = match(base.tensors, {n: tuple(p.shape) for n, p in network.named_parameters()})
    report.raise_if_incomplete()
    for parameter, array in ((p, arrays[n]) for n, p in network.named_parameters()):
        parameter.set_value(array)
    method = {key: value for key, value in manifest["tuning"][0].items() if key != "name"}
    head = ppadapt.heads.head_linear(network.feature_dim, 5)
    adaptation = ppadapt.attach(network, ppadapt.LoRA(**method), head=head)
    adaptation.load_state(tensors)
    adaptation.eval()
    images = np.load(FOLDER / "images.npy")
    assert relative(adaptation(paddle.to_tensor(images)).numpy(), np.load(folder / "expected.npz")["logits"]) < 1e-5


@pytest.mark.parametrize("change,says", [
    ({"use_dora": True}, "DoRA computes otherwise"), ({"peft_type": "LOHA"}, "peft_type 'LOHA' is not read"),
    ({"bias": "all"}, "own biases were trained"),
    ({"init_lora_weights": "pissa"}, "changed the network's own weights")])
def test_what_is_no_plain_lora_is_refused_by_name(tmp_path, change, says):
    shutil.copytree(FOLDER / "peft_transformers", tmp_path / "peft")
    file = tmp_path / "peft" / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    base = load_weights(of_case("transformers_vit")[0])
    with pytest.raises(WeightsError, match=says):
        read_peft(tmp_path / "peft", base)


def test_positions_in_other_sizes():
    from ppadapt.weights import RESIZES, resize_pos_embed

    found = np.load(FOLDER / "positions.npz")
    for way in RESIZES:
        for side in (3, 4, 8):
            resized = resize_pos_embed(found["source"], (side, side), 0, way)
            np.testing.assert_allclose(resized, found[f"{way}_{side}"], rtol=0, atol=2e-6)


def test_positions_are_resized_as_the_files_library_does():
    """timm with antialias, transformers without, DINOv2 by a factor: they differ."""
    paddle = pytest.importorskip("paddle")
    import ppadapt
    from ppadapt.errors import ConfigError
    from ppadapt.networks import network_and_report
    from ppadapt.weights import RESIZES, resize_pos_embed

    assert paddle
    options = {"img_size": 8, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0}
    for case, way, more in (
            ("transformers_vit", "plain", {"epsilon": 1e-12}), ("transformers_dinov2_registers", "antialias", {
                "registers": 3}), ("dinov2_chunked", "offset", {}), ("dinov2_original", "antialias", {"registers": 4}),
            ("timm_clip_quickgelu", "antialias", {"epsilon": 1e-5, "act": "quick_gelu", "pre_norm": True})):
        path = of_case(case)[0]
        source = load_weights(path).tensors["pos_embed"]
        expected = {name: resize_pos_embed(source, (2, 2), resize=name) for name in RESIZES}
        for given, wanted in ((None, way), *((name, name) for name in RESIZES)):
            network, report = network_and_report("vit_base_patch16", str(path), 0, pretrained_resize=given, **options,
                                                 **more)
            np.testing.assert_array_equal(network.pos_embed.numpy(), expected[wanted])
            assert f"positions resized: {RESIZES[wanted]} (Arch.pretrained_resize {wanted})" in str(report)
        for one, other in itertools.combinations(expected.values(), 2):
            assert relative(one, other) > 0.01
    with pytest.raises(ConfigError, match="Arch.pretrained_resize 'bilinear' is unknown"):
        ppadapt.network("vit_base_patch16", pretrained=str(path), pretrained_resize="bilinear", **options, **more)


@pytest.mark.parametrize("name", ["swin_v2_microsoft", "swin_v2_timm", "swin_timm", "swin_transformers"])
def test_swin_goes_into_paddleclass_networks(name):
    """v1 of PaddleClas differs from Microsoft's where the window is the whole map, which the report says."""
    paddle = pytest.importorskip("paddle")
    pytest.importorskip("paddleclas")
    from ppadapt.networks import network_and_report

    path, expected, meta = of_case(name)
    options = {"img_size": 32, "embed_dim": 8, "depths": meta.get("depths", [2, 2]), "num_heads": [1, 2],
               "window_size": 4}
    if "V2" in meta["network"]:
        options["pretrained_window_sizes"] = [0, 0]
    network, report = network_and_report(meta["network"], str(path), 5, **options)
    network.eval()
    images = paddle.to_tensor(np.load(FOLDER / "images_swin.npy"))
    if "V2" not in meta["network"]:
        assert "shifts and masks the last stage too" in str(report)
        for block in network.layers[-1].blocks:  # as Microsoft's: then they agree
            block.shift_size = 0
    assert relative(network(images).numpy(), expected["logits"]) < 1e-5


BEIT = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0,
        "conv_bias": True}


@pytest.mark.parametrize("name", ["beit_original", "beit_transformers"])
def test_beit_goes_into_paddleclass_networks(name):
    paddle = pytest.importorskip("paddle")
    pytest.importorskip("paddleclas")
    from ppadapt.networks import network_and_report

    path, expected, meta = of_case(name)
    network, _ = network_and_report(meta["network"], str(path), 5 if "logits" in expected else 0, **BEIT)
    network.eval()
    images = paddle.to_tensor(np.load(FOLDER / "images.npy"))
    assert relative(network.forward_features(images).numpy(), expected["features"]) < 1e-5
    if "logits" in expected:
        assert relative(network(images).numpy(), expected["logits"]) < 1e-5


def test_beit_is_refused_with_the_networks_that_compute_it(tmp_path):
    pytest.importorskip("paddle")
    import ppadapt
    from ppadapt.weights import save_safetensors

    path = of_case("beit_original")[0]
    with pytest.raises(WeightsError, match="biases of relative positions.*BEiTv2_vit_base_patch16_224.*conv_bias"):
        ppadapt.network("vit_base_patch16", pretrained=str(path))
    shutil.copytree(FOLDER / "swin_timm", tmp_path / "swin")
    with pytest.raises(WeightsError, match="it is a Swin, which our networks are not"):
        ppadapt.network("vit_base_patch16", pretrained=str(tmp_path / "swin"))
    from ppadapt.weights import read_file

    tensors = {name.replace("norm.", "fc_norm.") if name.startswith("norm.") else name: np.array(array)
               for name, array in read_file(path).tensors.items()}
    save_safetensors(str(tmp_path / "x.safetensors"), tensors, {"format": "pt"})
    with pytest.raises(WeightsError, match="norm of the patches' mean.*reads the class token"):
        load_weights(tmp_path / "x.safetensors").raise_if_incomplete()


def test_beit_of_another_epsilon_is_refused(tmp_path):
    pytest.importorskip("paddle")
    pytest.importorskip("paddleclas")
    import ppadapt

    folder = tmp_path / "beit"
    shutil.copytree(FOLDER / "beit_transformers", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 1e-12}))
    with pytest.raises(WeightsError, match=r"epsilon is 1e-12 \(config.json\) and the network has 1e-06"):
        ppadapt.network("BEiTv2_vit_base_patch16_224", pretrained=str(folder), **BEIT)
    network = ppadapt.network("BEiTv2_vit_base_patch16_224", pretrained=str(folder), epsilon=1e-12, **BEIT)
    assert network.norm._epsilon == 1e-12
