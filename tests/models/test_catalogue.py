"""The catalogue: one table of all networks, and what it takes to add one from outside of the package."""
import importlib.util
import pickle

import numpy as np
import paddle
import pytest
from paddle import nn

import ppadapt
from ppadapt import build, catalogue, config
from ppadapt.errors import ConfigError, UserError
from ppadapt.models.anatomy import VIT
from ppadapt.models.vit import VisionTransformer
from ppadapt.weights import Converted, WeightsError, save_pdparams

needs_paddleclas = pytest.mark.skipif(importlib.util.find_spec("paddleclas") is None, reason="PaddleClas is missing")
SPLIT = {"dataset": {"name": "Digits", "limit": 20,
                     "transform_ops": [{"ResizeImage": {"size": 8}}, {"ToCHWImage": None}]}}


class TwoTowers(nn.Layer):
    """Somebody's own network: other names, other layers, options of its own."""

    def __init__(self, class_num: int = 0, width: int = 8, layers: int = 2, gain: float = 1.0):
        super().__init__()
        self.gain = gain
        self.stem = nn.Conv2D(3, width, 4, stride=4)
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(width, 2, 16, dropout=0.0, normalize_before=True), layers)
        self.last = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, class_num) if class_num else nn.Identity()

    def forward(self, x):
        x = self.encoder(self.stem(x).flatten(2).transpose([0, 2, 1]))
        return self.classifier(self.last(x.mean(1)) * self.gain)


ANATOMY = ppadapt.Anatomy(blocks="encoder.layers", branch_out="dropout2", head="classifier", head_extra=(),
                          norms=("last",), patches="stem", stem="stem")


@pytest.fixture
def own(monkeypatch):
    """The one line."""
    monkeypatch.setitem(catalogue.NETWORKS, "two_towers", catalogue.Entry(TwoTowers, ANATOMY, family="TwoTowers"))


def plan(tmp_path, **arch):
    return config.parse({
        "Arch": {"name": "two_towers", **arch}, "DataLoader": {"Train": SPLIT, "Eval": SPLIT},
        "Tuning": {"name": "AdaptFormer", "bottleneck": 2}, "Global": {"output_dir": str(tmp_path), "device": "cpu"}})


def test_a_network_from_outside_is_used_by_name(own, tmp_path):
    """Config, check of options, weights, tuned file: as for ours."""
    network = ppadapt.network("two_towers", layers=1)
    assert catalogue.anatomy_of(network) is ANATOMY
    assert network.built_as == {"name": "two_towers", "family": "TwoTowers",
                                "options": {"width": 8, "layers": 1, "gain": 1.0}}
    classes = [str(i) for i in range(10)]
    tuned = build.tuned_model(plan(tmp_path), classes)
    images = paddle.randn([2, 3, 8, 8])
    for parameter in tuned.adaptation.trained_parameters().values():
        parameter.set_value(paddle.randn(parameter.shape))
    tuned.adaptation.eval()
    expected = tuned.adaptation(images).numpy()
    tuned.save(tmp_path / "a.safetensors", {})
    again = plan(tmp_path)
    again.Global.pretrained_model = str(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(build.tuned_model(again, classes).adaptation(images).numpy(), expected)
    with pytest.raises(ConfigError, match=r"option of Arch \(two_towers\): 'layer' is unknown. Did you mean 'layers'"):
        build.tuned_model(plan(tmp_path, layer=1), classes)
    again.Arch.options["gain"] = 2.0
    with pytest.raises(UserError, match=r"gain: 1.0 in the file, 2.0 here"):
        build.tuned_model(again, classes)


def test_weights_of_a_network_from_outside(monkeypatch, tmp_path):
    source = TwoTowers(class_num=3)
    theirs = {f"tower.{n}": t.numpy() for n, t in source.state_dict().items()}
    save_pdparams(tmp_path / "theirs.pdparams", theirs)

    def convert(raw):
        ours = {n.removeprefix("tower."): a for n, a in raw.tensors.items() if n.startswith("tower.")}
        return Converted(ours, "towers", raw.path, unexpected=[n for n in raw.tensors if not n.startswith("tower.")])

    monkeypatch.setitem(catalogue.NETWORKS, "two_towers", catalogue.Entry(TwoTowers, ANATOMY, convert=convert))
    network = ppadapt.network("two_towers", pretrained=str(tmp_path / "theirs.pdparams"))
    np.testing.assert_array_equal(network.last.weight.numpy(), source.last.weight.numpy())
    save_pdparams(tmp_path / "more.pdparams", {**theirs, "gate": np.ones(2, "f4")})
    with pytest.raises(WeightsError, match="1: gate: our networks have nothing of such a name"):
        ppadapt.network("two_towers", pretrained=str(tmp_path / "more.pdparams"))
    monkeypatch.setitem(catalogue.NETWORKS, "two_towers", catalogue.Entry(TwoTowers, ANATOMY, own_names=True))
    save_pdparams(tmp_path / "own.pdparams", {n: t.numpy() for n, t in source.state_dict().items()})
    network = ppadapt.network("two_towers", pretrained=str(tmp_path / "own.pdparams"))
    np.testing.assert_array_equal(network.stem.weight.numpy(), source.stem.weight.numpy())
    state = {n: t.numpy() for n, t in source.state_dict().items()}
    averaged = {n: a + 1 for n, a in state.items()}
    (tmp_path / "two.pdparams").write_bytes(pickle.dumps({"model": state, "ema": averaged}, protocol=4))
    network = ppadapt.network("two_towers", pretrained=str(tmp_path / "two.pdparams"), pretrained_key="ema")
    np.testing.assert_array_equal(network.stem.weight.numpy(), averaged["stem.weight"])
    with pytest.raises(WeightsError, match="holds 2 networks: model, ema. Say which: Arch.pretrained_key"):
        ppadapt.network("two_towers", pretrained=str(tmp_path / "two.pdparams"))
    with pytest.raises(ConfigError, match="no weights of two_towers ship with ppadapt"):
        ppadapt.network("two_towers", pretrained=True)


def test_an_unknown_class_of_network_is_not_taken_for_a_vit():
    with pytest.raises(UserError, match="TwoTowers is not a network that ppadapt knows") as error:
        ppadapt.attach(TwoTowers(), ppadapt.AdaptFormer())
    for part in ("it has: stem (Conv2D), encoder (TransformerEncoder), last (LayerNorm)",
                 "attach(network, ..., anatomy=ppadapt.Anatomy(blocks=", "ppadapt.catalogue.NETWORKS['twotowers'] = "):
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_a_subclass_of_ours_is_one_of_ours():
    class Mine(VisionTransformer):
        pass

    assert catalogue.anatomy_of(Mine(img_size=8, patch_size=4, embed_dim=8, depth=1, num_heads=2)) is VIT


def test_the_catalogue_says_what_a_network_is_made_with():
    entry = catalogue.NETWORKS["vit_micro_patch4_32"]
    assert {**entry.defaults(), "in_chans": 3} == {
        "img_size": 32, "patch_size": 4, "embed_dim": 192, "depth": 6, "num_heads": 3, "in_chans": 3, "mlp_ratio": 4.0,
        "qkv_bias": True, "drop_rate": 0.0, "attn_drop_rate": 0.0, "drop_path_rate": 0.0, "pool": "cls",
        "epsilon": 1e-6, "act": "gelu", "pre_norm": False, "class_token": True, "registers": 0}
    assert entry.shipped.is_file()


@needs_paddleclas
def test_the_catalogue_says_what_paddleclas_makes_its_networks_with():
    """PaddleClas's constructors' defaults under its factories' values, and under our own names for the size."""
    defaults = catalogue.NETWORKS["DeiT_tiny_patch16_224"].defaults()
    said = [defaults[option] for option in ("embed_dim", "num_heads", "epsilon", "img_size")]
    assert said == [192, 3, 1e-6, 224]
    assert catalogue.NETWORKS["ViT_base_patch16_384"].defaults()["img_size"] == 384
    assert catalogue.NETWORKS["CSWinTransformer_base_384"].defaults()["img_size"] == 384
    assert "class_num" not in defaults and "model_name" not in catalogue.NETWORKS["MAE_vit_base_patch16"].defaults()
    network = ppadapt.network("SwinTransformer_tiny_patch4_window7_224", depths=[1], num_heads=[2], embed_dim=8,
                              img_size=16, window_size=2)
    assert network.built_as["family"] == "PaddleClas Swin" and network.built_as["options"]["depths"] == [1]
    assert catalogue.anatomy_of(network) is catalogue.NETWORKS["SwinTransformer_tiny_patch4_window7_224"].anatomy


@needs_paddleclas
@pytest.mark.parametrize("name", list(catalogue.NETWORKS))
def test_every_entry_can_say_its_options(name):
    assert isinstance(catalogue.NETWORKS[name].defaults(), dict) and catalogue.NETWORKS[name].family
