"""PaddleClas's networks by name: which there are, what they compute, how weights go in, what the errors say."""
import importlib.util
import inspect
import pkgutil
import re
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest

import ppadapt
from ppadapt.errors import ConfigError, UserError
from ppadapt.models.catalogue import NETWORKS
from ppadapt.models.paddleclas import families
from ppadapt.models.vit import VITS
from ppadapt.weights import WeightsError, save_pdparams

ROOT = Path(__file__).resolve().parents[2]
THEIRS = [name for family in families.FAMILIES for name in family.names]
TINY = {"img_size": 8, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
needs_paddleclas = pytest.mark.skipif(importlib.util.find_spec("paddleclas") is None,
                                      reason="PaddleClas is not installed: it needs Python <= 3.11")
# Modules of PaddleClas's backbones without transformers.
CONVOLUTIONS = set("""
    adaface_ir_net alexnet convnext cspnet darknet densenet dla dpn dsnet efficientnet efficientnet_v2 fasternet
    ghostnet googlenet hardnet inception_v4 micronet mixnet mobilefacenet mobilenet_v2 mobilenext peleenet rednet regnet
    repvgg res2net res2net_vd resnest resnet_vc resnext resnext101_wsl resnext_vd rexnet se_resnet_vd se_resnext
    se_resnext_vd shufflenet_v2 squeezenet starnet tinynet van wideresnet xception xception_deeplab
    custom_devices_layers esnet hrnet inception_v3 mobilenet_v1 mobilenet_v3 pp_hgnet pp_hgnet_v2 pp_lcnet pp_lcnet_v2
    resnet vgg efficientnet_variant pp_lcnet_variant pp_lcnetv2_variant resnet_variant vgg_variant""".split())


@needs_paddleclas
def test_every_transformer_of_paddleclas_is_known_or_left_out_with_a_reason():
    package = importlib.import_module("paddleclas.ppcls.arch.backbone")
    ours, new = set(THEIRS), []
    for folder in ("legendary_models", "model_zoo", "variant_models"):
        part = importlib.import_module(f"{package.__name__}.{folder}")
        for found in pkgutil.iter_modules(part.__path__):
            if found.name in CONVOLUTIONS:
                continue
            module = importlib.import_module(f"{part.__name__}.{found.name}")
            factories = {n for n, f in inspect.getmembers(module, inspect.isfunction)
                         if f.__module__ == module.__name__ and "pretrained" in inspect.signature(f).parameters
                         and not n.startswith("_")}
            new += [n for n in factories if n not in ours and not families.why_left_out(n)]
            ours -= factories
    assert not new, f"classify them in models/paddleclas/families.py: {new}"
    assert not ours, f"PaddleClas does not have them: {ours}"


def test_names_are_one_network_each():
    assert len(set(THEIRS)) == len(THEIRS) and list(NETWORKS) == [*VITS, *THEIRS]
    assert not set(NETWORKS) & set(dir(paddle.vision.models))
    assert not any(families.why_left_out(name) for name in THEIRS)


@needs_paddleclas
@pytest.mark.parametrize("name,made", [
    ("DeiT_tiny_patch16_224", "distilled_vision_transformer"), ("MOCOV3_vit_small", "foundation_vit"),
    ("SwinTransformer_tiny_patch4_window7_224", "legendary_models.swin_transformer")])
def test_a_network_is_paddleclass_own(name, made):
    """The same weights, then the same logits; at full size, as its name says."""
    folder = made if "." in made else f"model_zoo.{made}"
    theirs = getattr(importlib.import_module(f"paddleclas.ppcls.arch.backbone.{folder}"), name)(class_num=7)
    network = ppadapt.network(name, class_num=7)
    network.set_state_dict(theirs.state_dict())
    images = paddle.randn([1, 3, 224, 224])
    for one in (network, theirs):
        one.eval()
    with paddle.no_grad():
        np.testing.assert_array_equal(network(images).numpy(), theirs(images).numpy())
    assert network.state_dict().keys() == theirs.state_dict().keys()


@needs_paddleclas
def test_networks_of_foundation_vit_do_not_change_each_other():
    """PaddleClas's own do: it keeps what tells them apart in the module."""
    images = paddle.randn([2, 3, 8, 8])

    def logits(network):
        network.eval()
        with paddle.no_grad():
            return network(images).numpy()

    clip = ppadapt.network("CLIP_vit_base_patch16_224", **TINY)
    before = logits(clip)
    for other in ("MAE_vit_base_patch16", "BEiTv2_vit_base_patch16_224", "Unicom_vit_base_patch16_224"):
        logits(ppadapt.network(other, **TINY))
    np.testing.assert_array_equal(logits(clip), before)


@needs_paddleclas
@pytest.mark.parametrize("name,options", [
    ("DeiT_tiny_distilled_patch16_224", TINY), ("CLIP_vit_base_patch32_224", TINY),
    ("SwinTransformer_tiny_patch4_window7_224", {
        "img_size": 16, "embed_dim": 8, "depths": [2, 2], "num_heads": [2, 2], "window_size": 2})])
def test_a_pdparams_goes_in_by_paddleclass_names_and_nothing_is_lost_silently(tmp_path, name, options):
    source = ppadapt.network(name, class_num=4, **options)
    tensors = {n: t.numpy() for n, t in source.state_dict().items()}
    path = tmp_path / "published.pdparams"
    save_pdparams(path, {**tensors, "mask_token": np.ones(3, "float32")})

    network = ppadapt.network(name, pretrained=str(path), class_num=4, **options)
    ignored = NETWORKS[name].ignored
    for n, parameter in network.named_parameters():
        if n not in ignored:
            np.testing.assert_array_equal(parameter.numpy(), tensors[n], err_msg=n)
    task_network, report = ppadapt.networks.network_and_report(name, str(path), 0, **options)
    assert report.dropped["mask_token"] == "of a layer that the classifier does not have"
    assert all(n in ignored or "index" in n or n == "mask_token" for n in report.dropped) and not report.new
    assert all(n.startswith("head") for n in report.not_taken) and "mask_token" in str(report)
    with pytest.raises(WeightsError, match=r"head.*\[16, 4\] -> \[16, 9\]|head.*4\] -> "):
        ppadapt.network(name, pretrained=str(path), class_num=9, **options)
    some = next(n for n in tensors if n.endswith("attn.proj.weight"))
    save_pdparams(path, {n: a for n, a in tensors.items() if n != some})
    with pytest.raises(WeightsError, match=f"lacks {re.escape(some)}"):
        ppadapt.network(name, pretrained=str(path), **options)


@needs_paddleclas
def test_a_converted_checkpoint_goes_into_a_network_of_paddleclas(tmp_path):
    """Our converter writes timm's names, which are PaddleClas's: its ViT computes what ours computes."""
    ours = ppadapt.network("vit_base_patch16", class_num=4, **TINY)
    path = tmp_path / "vit.pdparams"
    save_pdparams(path, {n: p.numpy() for n, p in ours.named_parameters()})
    theirs = ppadapt.network("ViT_base_patch16_224", pretrained=str(path), class_num=4, **TINY)
    images = paddle.randn([2, 3, 8, 8])
    for one in (ours, theirs):
        one.eval()
    with paddle.no_grad():
        np.testing.assert_allclose(theirs(images).numpy(), ours(images).numpy(), rtol=0, atol=1e-5)
    bigger = ppadapt.network("ViT_base_patch16_224", pretrained=str(path), class_num=4, **{**TINY, "img_size": 16})
    assert bigger.pos_embed.shape == [1, 17, 16]


@needs_paddleclas
def test_a_bias_that_the_network_would_lose_is_refused(tmp_path):
    """PaddleClas's MAE has none in the patch convolution unless asked; MAE's authors publish one."""
    ours = ppadapt.network("vit_base_patch16", **TINY)
    ours.patch_embed.proj.bias.set_value(np.linspace(-1, 1, ours.embed_dim, dtype="float32"))
    path = tmp_path / "mae.pdparams"
    save_pdparams(path, {n: p.numpy() for n, p in ours.named_parameters()})
    with pytest.raises(WeightsError, match="has patch_embed.proj.bias, which the network does not"):
        ppadapt.network("MAE_vit_base_patch16", pretrained=str(path), **TINY)
    network = ppadapt.network("MAE_vit_base_patch16", pretrained=str(path), conv_bias=True, epsilon=1e-6, **TINY)
    images = paddle.randn([2, 3, 8, 8])
    for one in (ours, network):
        one.eval()
    with paddle.no_grad():
        np.testing.assert_allclose(network(images).numpy(), ours(images).numpy(), rtol=0, atol=1e-5)


@needs_paddleclas
def test_pretrained_true_is_paddleclass_download(tmp_path, monkeypatch):
    name = "DeiT_tiny_patch16_224"
    source = ppadapt.network(name, class_num=4, **TINY)
    save_pdparams(tmp_path / "file.pdparams", {n: p.numpy() for n, p in source.named_parameters()})
    asked = []
    download = importlib.import_module("paddleclas.ppcls.utils.download")
    monkeypatch.setattr(download, "get_weights_path_from_url",
                        lambda url: asked.append(url) or str(tmp_path / "file.pdparams"))
    network = ppadapt.network(name, pretrained=True, **TINY)
    assert asked == ["https://paddle-imagenet-models-name.bj.bcebos.com/dygraph/DeiT_tiny_patch16_224_pretrained.pdparams"]
    np.testing.assert_array_equal(network.blocks[1].mlp.fc2.weight.numpy(), source.blocks[1].mlp.fc2.weight.numpy())

    def no_network(url):
        raise RuntimeError(f"Download from {url} failed. Retry limit reached")

    monkeypatch.setattr(download, "get_weights_path_from_url", no_network)
    with pytest.raises(ConfigError, match="DeiT_tiny.* cannot be fetched .*give its path as Arch.pretrained"):
        ppadapt.network(name, pretrained=True, **TINY)
    with pytest.raises(ConfigError, match="PaddleClas publishes no weights of LaCLIP_vit_base_patch16_224"):
        ppadapt.network("LaCLIP_vit_base_patch16_224", pretrained=True, **TINY)


@pytest.mark.parametrize("name,said", [
    ("SwinTransformer_tiny_patch4_window7", "unknown. Did you mean 'SwinTransformer_tiny_patch4_window7_224'?"),
    ("vit_base_patch61", "Did you mean 'vit_base_patch16'?"),
    ("ResNet50", "is unknown. Choose from: vit_micro_patch4_32"),
    ("LeViT_128", "is not supported: its blocks have batch norms"),
    ("SwinTransformer_tiny_patch4_window7_224_SOLIDER", "is not supported: it does not run without CUDA"),
])
def test_an_unknown_name_gets_one_line(name, said):
    with pytest.raises(ConfigError) as error:
        ppadapt.network(name)
    assert said in str(error.value) and "\n" not in str(error.value) and "docs/backbones.md" in str(error.value)


@needs_paddleclas
def test_an_option_that_does_not_fit_gets_one_line():
    with pytest.raises(ConfigError, match="'dept' is unknown. Did you mean 'depth'"):
        ppadapt.network("MAE_vit_base_patch16", dept=2)
    with pytest.raises(ConfigError, match="embed_dim is 'x' .str.: it must be int or float"):
        ppadapt.network("DeiT_tiny_patch16_224", **{**TINY, "embed_dim": "x"})
    with pytest.raises(ConfigError, match="PaddleClas says: "):
        ppadapt.network("DeiT_tiny_patch16_224", **{**TINY, "embed_dim": 7.5})
    for name, options in (("DeiT_tiny_patch16_224", TINY), ("vit_tiny_patch16", TINY), (
            "SwinTransformerV2_tiny_patch4_window8_256", {
                "img_size": 8, "embed_dim": 8, "depths": [1], "num_heads": [2], "window_size": 2})):
        network = ppadapt.network(name, **options)
        with pytest.raises(UserError, match="[iI]mage.* set Arch.img_size"):
            ppadapt.attach(network, ppadapt.BitFit())(paddle.zeros([1, 3, 16, 16]))
    network = ppadapt.network("SwinTransformer_tiny_patch4_window7_224", img_size=16, embed_dim=8, depths=[1],
                              num_heads=[2], window_size=2)
    with pytest.raises(UserError, match="VPT does not fit SwinTransformer: .* Choose from: AdaptFormer, AdapterPlus, "):
        ppadapt.attach(network, ppadapt.VPT())


@pytest.mark.parametrize("error,version,said", [
    (ModuleNotFoundError("No module named 'paddleclas'", name="paddleclas"), (3, 12, 0),
     "pins numpy 1.24.4, which Python 3.12"),
    (ModuleNotFoundError("No module named 'paddleclas'", name="paddleclas"), (3, 10, 0),
     "pip install 'ppadapt[zoo]' (in a checkout: pip install '.[zoo]')"),
    (ImportError("libGL.so.1: cannot open shared object file"), (3, 10, 0), "pip install 'opencv-python-headless"),
    (ImportError("numpy.core.multiarray failed to import"), (3, 10, 0), "numpy.core.multiarray failed"),
])
def test_where_paddleclas_cannot_be_imported_the_error_says_why(monkeypatch, error, version, said):
    from ppadapt.models.paddleclas import zoo

    imported = importlib.import_module

    def fail(name, *rest):
        if name.startswith("paddleclas"):
            raise error
        return imported(name, *rest)

    monkeypatch.setattr(importlib, "import_module", fail)
    monkeypatch.setattr(sys, "version_info", version)
    zoo._module.cache_clear()
    with pytest.raises(ConfigError) as found:
        ppadapt.network("DeiT_small_patch16_224")
    assert said in str(found.value) and "\n" not in str(found.value)


def test_the_table_of_the_docs_is_that_of_the_code():
    sys.path.insert(0, str(ROOT / "tools"))
    backbones = importlib.import_module("backbones")
    text = (ROOT / "docs" / "backbones.md").read_text(encoding="utf-8")
    assert text.split("<!-- table -->\n")[1].split("\n<!-- /table -->")[0] == backbones.table()
    assert all(f"`{name}`" in text for name in NETWORKS)
