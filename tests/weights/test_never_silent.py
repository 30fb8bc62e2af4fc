"""What a weight file does not show, or has beside what our networks compute, is never passed over."""
import importlib
import json
import math
import shutil

import numpy as np
import pytest
from test_published import FOLDER, of_case, relative

from ppadapt.weights import RawCheckpoint, WeightsError, load_weights, read_file, save_safetensors, to_ours, write_torch

paddle = pytest.importorskip("paddle")
import ppadapt  # noqa: E402

SMALL = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0}


def plain(**more):
    """The tensors of a small timm network, [out, in], and what is put among them."""
    found = dict(read_file(FOLDER / "timm_average_pool" / "average.pth").tensors)
    return {**{name.removeprefix("module."): array for name, array in found.items()}, **more}


@pytest.mark.parametrize("change,says", [
    ({"blocks.0.attn.q_norm.weight": np.ones(8, "f4")}, "qk-norm"),
    ({"blocks.1.mlp.fc2.weight": np.zeros((16, 16), "f4")}, "fc1 gives twice what fc2 takes, a gated MLP"),
    ({"blocks.1.attn.proj.bias": np.zeros(8, "f4")}, r"blocks.1.attn.proj.bias has shape \[8\].*\[16\] was expected"),
    ({"blocks.0.mlp.fc1.weight": np.ones((32, 16), "i1")}, r"fc1.weight \(int8\).*quantised"),
    ({"blocks.0.norm1.bias": np.full(16, np.nan, "f4")}, r"norm1.bias \(16 of 16 NaN\)"),
    ({"blocks.0.norm1.bias": np.full(16, np.inf, "f4")}, r"norm1.bias \(16 of 16 infinite\)"),
    ({"blocks.0.norm1.bias": np.full(16, 1e39, "f8")}, r"norm1.bias \(16 of 16 infinite\)"),  # in float32
    ({"rope.periods": np.ones(4, "f4")}, "rotary position"),
    ({"blocks.0.attn.relative_position_bias_table": np.ones((9, 2), "f4")}, "biases of relative positions"),
    ({"a.stranger": np.ones(4, "f4")}, "1: a.stranger: our networks have nothing of such a name")])
def test_what_is_not_computed_is_refused_by_loading_and_converting(tmp_path, change, says):
    write_torch(str(tmp_path / "x.pth"), plain(**change))
    with pytest.raises(WeightsError, match=says):
        load_weights(tmp_path / "x.pth").raise_if_incomplete()
    with pytest.raises(WeightsError, match=says):
        ppadapt.network("vit_base_patch16", pretrained=str(tmp_path / "x.pth"), pool="avg", **SMALL)


def test_layer_scale_is_in_the_network_or_nothing_is(tmp_path):
    """DINOv2 trained without its LayerScale, with the digest of another network."""
    path, expected, _ = of_case("dinov2_original")
    network = ppadapt.network("vit_base_patch16", pretrained=str(path), registers=4, **SMALL)
    network.eval()
    assert relative(network(paddle.to_tensor(np.load(FOLDER / "images.npy"))).numpy(), expected["features"]) < 1e-5
    with pytest.raises(WeightsError, match=r"reg_token, which the network does not.*registers: 4"):
        ppadapt.network("vit_base_patch16", pretrained=str(path), **SMALL)


@pytest.mark.parametrize("case,options,says", [
    ("transformers_vit", {"num_heads": 4, "epsilon": 1e-12}, r"num_heads is 2 \(config.json\) and the network has 4"),
    ("transformers_vit", {}, r"epsilon is 1e-12 \(config.json\) and the network has 1e-06"),
    ("openai_clip", {"pre_norm": True, "epsilon": 1e-5}, r"act is quick_gelu \(the file's input_resolution\)"),
    ("timm_clip_bare", {"pre_norm": True, "epsilon": 1e-5}, r"Arch.act has to be given.*quick_gelu \(OpenAI"),
    ("moco_v3_full", {"epsilon": 1e-5, "depth": 1, "pretrained_key": "module.base_encoder"}, "epsilon is 1e-06"),
    ("timm_gap", {"class_token": False, "pool": "avg"}, "lacks|pool is norm_avg")])
def test_a_network_that_computes_otherwise_is_refused_with_one_that_agrees(case, options, says):
    with pytest.raises(WeightsError, match=says) as caught:
        ppadapt.network("vit_base_patch16", pretrained=str(of_case(case)[0]), **{**SMALL, **options})
    assert "Arch: {name: vit_base_patch16, " in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_assumed_gives_way_to_what_is_said(tmp_path):
    """MoCo v3's ViT-S has 12 heads, everyone else's 6: the file has no word of it."""
    from ppadapt.weights.agree import check_agreement
    from ppadapt.weights.facts import Facts, usual_heads

    assert [usual_heads(dim) for dim in (384, 768, 1152, 1280, 1408, 1536, 64)] == [6, 12, 16, 16, 16, None, None]
    facts = Facts()
    facts.assume("num_heads", 6, "as most")
    with pytest.raises(WeightsError, match="taken for 6 .as most. and the network has 12; if that is right"):
        check_agreement(facts, {"num_heads": 12}, [], "x.pth")
    check_agreement(facts, {"num_heads": 12}, ["num_heads"], "x.pth")
    check_agreement(facts, {"num_heads": 12}, None, "x.pth")


@pytest.mark.parametrize("case,key,listed", [
    ("dino_full", "teacher", "student.module.backbone .timm, 18 tensors., teacher.backbone"),
    ("moco_v3_full", "module.base_encoder", "module.base_encoder .moco_v3, .*, module.momentum_encoder")])
def test_a_file_of_several_networks_is_never_a_silent_choice(case, key, listed):
    path = of_case(case)[0]
    with pytest.raises(WeightsError, match=f"holds 2 networks: {listed}.*--key .*Arch.pretrained_key"):
        load_weights(path)
    with pytest.raises(WeightsError, match="no network under 'ema'; there is: "):
        load_weights(path, "ema")
    assert load_weights(path, key).prefix.startswith(key)


def a_pickle_of(path, **entries):
    """A .pdparams of dicts of tensors; what it holds is found as in torch's files."""
    import pickle

    def paddles(value):
        return {n: a.T if np.ndim(a) == 2 else a for n, a in value.items()} if isinstance(value, dict) else value

    entries = {key: paddles(value) for key, value in entries.items()}
    path.write_bytes(pickle.dumps(entries, protocol=4))
    return path


@pytest.mark.parametrize("names", [
    ("model", "model_ema"), ("state_dict", "state_dict_ema"), ("teacher", "student"), ("model", "ema"),
    ("student", "teacher", "model"), ("net", "ema_net"), ("state_dict", "params_ema", "model")])
def test_an_ema_beside_the_weights_is_asked_for(tmp_path, names):
    """`model` was taken and the EMA beside it only listed."""
    states = {name: plain(**{"fc_norm.bias": np.full(16, i, "f4")}) for i, name in enumerate(names)}
    file = a_pickle_of(tmp_path / "x.pdparams", **states, optimizer={"state": {0: {"exp_avg": np.ones(3)}}})
    with pytest.raises(WeightsError, match=f"holds {len(names)} networks: .*--key .*Arch.pretrained_key"):
        load_weights(file)
    for i, name in enumerate(names):
        found = load_weights(file, name)
        assert (found.tensors["fc_norm.bias"] == i).all() and found.complete and "optimizer" in found.skipped
        network = ppadapt.network("vit_base_patch16", pretrained=str(file), pretrained_key=name, pool="avg", **SMALL)
        assert (network.fc_norm.bias.numpy() == i).all()


def test_what_is_no_second_network_asks_nothing(tmp_path):
    file = a_pickle_of(tmp_path / "x.pdparams", model=plain(), dino_loss={"center": np.ones((1, 4), "f4")},
                       optimizer_states=[{"exp_avg": plain()}], ema=[np.ones(3, "f4")] * 2, epoch=[3])
    found = load_weights(file)
    assert found.complete and found.extras["epoch"] == [3] and found.prefix == ""
    assert "without names: if they are an EMA, this is not it" in found.skipped["ema"]
    assert set(found.skipped) == {"dino_loss", "optimizer_states", "ema"}
    assert load_weights(file, "model").tensors.keys() == found.tensors.keys()
    with pytest.raises(WeightsError, match="no network under 'ema'; there is: model .paddle"):
        load_weights(file, "ema")


@pytest.mark.parametrize("prefix", [
    "model.", "net.", "backbone.", "module.base_encoder.", "momentum_encoder.", "encoder.", "visual.",
    "state_dict_ema.", "ema.", "network.", "weights.", "a.b.c.d.e."])
def test_whatever_stands_before_every_name(prefix):
    found = to_ours(RawCheckpoint({prefix + n: a for n, a in plain().items()}, "torch-zip", "x.pth"))
    assert found.complete and found.prefix == prefix and found.arch["depth"] == 2


@pytest.mark.parametrize("wrapper", ["_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."])
def test_wrappers_of_training_inside_names(wrapper):
    def named(name):
        block, _, rest = name.partition(".norm1")
        return f"{wrapper}{block}.{wrapper}norm1{rest}" if rest else wrapper + name

    tensors = {named(name): a for name, a in plain().items()}
    assert to_ours(RawCheckpoint(tensors, "torch-zip", "x.pth")).complete
    tensors["cls_token"] = plain()["cls_token"]
    with pytest.raises(WeightsError, match="holds tensors twice"):
        to_ours(RawCheckpoint(tensors, "torch-zip", "x.pth"))


def test_what_lies_beside_the_network_is_said():
    tensors = {**{f"backbone.{n}": a for n, a in plain().items()}, "neck.weight": np.ones(3, "f4")}
    found = to_ours(RawCheckpoint(tensors, "torch-zip", "x.pth"))
    assert found.dropped == {"neck.weight": "beside the network, which is under 'backbone.'"}


def test_a_folder_and_its_parts(tmp_path):
    folder = tmp_path / "vit"
    shutil.copytree(FOLDER / "transformers_vit_sharded", folder)
    index = folder / "model.safetensors.index.json"
    assert load_weights(index).complete and len(list(folder.glob("*.safetensors"))) > 1
    parts = json.loads(index.read_text())
    name, part = next(iter(parts["weight_map"].items()))
    for change, says in (({name: "../x.safetensors"}, "not beside it"), ({name: "gone.safetensors"}, "download every"),
                         ({"a.ghost": part}, "1 tensors that its files lack: a.ghost")):
        index.write_text(json.dumps({"weight_map": {**parts["weight_map"], **change}}))
        with pytest.raises(WeightsError, match=says):
            load_weights(folder)
    index.unlink()
    with pytest.raises(WeightsError, match="folder without weights: it holds config.json"):
        load_weights(folder)


def test_a_config_of_another_network_beside_the_file_is_refused(tmp_path):
    folder = tmp_path / "vit"
    shutil.copytree(FOLDER / "transformers_vit", folder)
    config = json.loads((folder / "config.json").read_text())
    for change, says in (({"hidden_size": 32}, "says embed_dim 32, the weights have 16"),
                         ({"hidden_act": "relu"}, "hidden_act 'relu': our networks compute gelu"),
                         ({"num_hidden_layers": 3}, "says depth 3, the weights have 2")):
        (folder / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(WeightsError, match=says):
            load_weights(folder).raise_if_incomplete()
    (folder / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="config.json, beside the weights, is not the JSON"):
        load_weights(folder)


@pytest.fixture
def small_model(monkeypatch):
    """A published model of the shapes of these tests."""
    from ppadapt.weights.published import PUBLISHED, Published

    facts = {**SMALL, "epsilon": 1e-6, "act": "gelu", "pool": "cls"}
    model = Published(facts, "x.pth", "", "", "", {"mean": [0.1] * 3, "std": [0.2] * 3}, "offset")
    monkeypatch.setitem(PUBLISHED, "a_small_model", model)
    return "a_small_model"


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_deit_iii_of_its_own_names_is_asked_for(tmp_path, small_model, suffix):
    """timm's networks with rotary positions have the very same names; a .pth of them was taken for DeiT III."""
    path, expected, _ = of_case("timm_deit3")
    tensors = {name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): a
               for name, a in read_file(path).tensors.items()}
    file = tmp_path / f"x.{suffix}"
    if suffix == "pth":
        write_torch(str(file), tensors)
    else:
        save_safetensors(str(file), tensors, {"format": "pt"})
    says = "rotary positions.*config.json, or say which published model it is, --of or Arch.pretrained_of .a_small"
    for read in (lambda: load_weights(file).raise_if_incomplete(),
                 lambda: ppadapt.network("vit_base_patch16", pretrained=str(file), **SMALL)):
        with pytest.raises(WeightsError, match=says):
            read()
    network = ppadapt.network("vit_base_patch16", pretrained=str(file), pretrained_of=small_model, **SMALL)
    network.eval()
    assert relative(network(paddle.to_tensor(np.load(FOLDER / "images.npy"))).numpy(), expected["features"]) < 1e-5
    facts = load_weights(file, of=small_model).facts
    assert facts.told["num_heads"] == "the published a_small_model" and facts.resize == "offset"
    assert "pretrained_of: a_small_model" in facts.arch_line() and facts.preprocess["mean"] == [0.1] * 3


def test_what_is_not_the_published_model_is_refused(small_model):
    path = of_case("timm_clip_bare")[0]
    with pytest.raises(WeightsError, match=r"not the published a_small_model: pre_norm is True \(the shapes\)"):
        load_weights(path, of=small_model)
    with pytest.raises(WeightsError, match="not the published openai_clip_vit_b32: embed_dim is 16 .* has 768"):
        load_weights(path, of="openai_clip_vit_b32")
    with pytest.raises(WeightsError, match="'openai_clip_b32' is unknown. Did you mean 'openai_clip_vit_b32'"):
        load_weights(path, of="openai_clip_b32")
    with pytest.raises(WeightsError, match=r"not the published a_small_model: epsilon is 1e-12 \(config.json\)"):
        load_weights(of_case("transformers_vit")[0], of=small_model)


def test_the_catalogue_of_published_models(monkeypatch):
    """`tools/peers/check_published.py` compares every line with timm's or transformers' network."""
    from ppadapt.models.vit import VisionTransformer
    from ppadapt.options import options_of
    from ppadapt.weights import PUBLISHED, RESIZES
    from ppadapt.weights.published import resembling

    known = options_of(VisionTransformer, ("class_num",))
    for name, model in PUBLISHED.items():
        assert set(model.facts) <= set(known) and model.resize in RESIZES and name in resembling(model.facts)
    assert PUBLISHED["moco_v3_vit_small"].facts["num_heads"] == 12
    assert resembling(PUBLISHED["openai_clip_vit_b32"].facts) == [
        "openai_clip_vit_b32", "laion2b_clip_vit_b32", "datacomp_clip_vit_b32"]
    monkeypatch.syspath_prepend(str(FOLDER.parents[2] / "tools"))
    table = importlib.import_module("published").table()
    text = (FOLDER.parents[2] / "docs" / "weights.md").read_text(encoding="utf-8")
    assert text.split("<!-- table -->\n")[1].split("\n<!-- /table -->")[0] == table, "python tools/published.py"


@pytest.mark.parametrize("change,says", [
    ({"model_args": {"act_layer": "relu"}}, "act_layer 'relu': our networks compute gelu"),
    ({"model_args": {"qk_norm": True, "pool_include_prefix": True}}, "model_args qk_norm, pool_include_prefix, which"),
    ({"global_pool": "avgmax"}, "global_pool 'avgmax', which our networks do not compute"),
    ({"model_args": {"img_size": [8, 32]}}, r"img_size \[8, 32\]: our networks take squares"),
    ({"model_args": {}, "pretrained_cfg": {"input_size": [3, 8, 32]}}, r"input_size \[3, 8, 32\]: our networks take"),
    ({"architecture": "vit_small_patch16_dinov3"}, "rotary positions, which our networks do not compute")])
def test_what_timms_config_says_is_not_passed_over(tmp_path, change, says):
    folder = tmp_path / "vit"
    shutil.copytree(FOLDER / "timm_gap", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(WeightsError, match=says):
        load_weights(folder).raise_if_incomplete()


def test_a_norm_of_the_mean_that_reads_the_class_token_is_refused(tmp_path):
    """timm's fc_norm=True with global_pool="token": the same tensors as with the mean."""
    folder = tmp_path / "vit"
    shutil.copytree(FOLDER / "timm_registers_gap", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "global_pool": "token"}))
    with pytest.raises(WeightsError, match="reads the class token .global_pool., the weights have the layers of"):
        load_weights(folder)


def a_torch_file(path, call):
    """A zip as torch.save writes it, whose one tensor is `call`."""
    import io
    import zipfile

    from ppadapt.weights.formats.pickle_write import dump

    data = io.BytesIO()
    dump(data, {"blocks.0.mlp.fc1.weight": call}, protocol=2)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", data.getvalue())
        archive.writestr("x/data/0", b"\0" * 16)
    return path


def storage(kind):
    from ppadapt.weights.formats.pickle_write import Global, Persistent

    return Persistent(("storage", Global("torch", kind), "0", "cpu", 4))


def no_plain_tensors():
    from ppadapt.weights.formats.pickle_write import Call, Global

    hooks = Call(Global("collections", "OrderedDict"), ())
    return {
        "float8": (Call(Global("torch._utils", "_rebuild_tensor_v3"), (
            storage("UntypedStorage"), 0, (4,), (1,), False, hooks, Global("torch", "float8_e4m3fn"))),
            "it holds tensors of torch.float8_e4m3fn"),
        "quantised": (Call(Global("torch._utils", "_rebuild_qtensor"), (storage("QInt8Storage"), 0, (4,), (1,))),
                      "holds quantised tensors .QInt8Storage."),
        "sparse": (Call(Global("torch._utils", "_rebuild_sparse_tensor"), (1, ())), "it holds sparse tensors")}


@pytest.mark.parametrize("kind", ["float8", "quantised", "sparse"])
def test_tensors_that_are_no_plain_floats_are_named(tmp_path, capsys, kind):
    from ppadapt.cli.convert import main

    call, says = no_plain_tensors()[kind]
    file = a_torch_file(tmp_path / "x.pth", call)
    with pytest.raises(WeightsError, match=f"{says}.*give the file in float32, float16 or bfloat16"):
        ppadapt.network("vit_base_patch16", pretrained=str(file), **SMALL)
    assert main(["--input", str(file), "--output", str(tmp_path / "y.safetensors")]) == 1
    error = capsys.readouterr().err
    assert "give the file in float32, float16 or bfloat16; nothing was written" in error


def test_the_classifiers_pooling_is_told_by_timms_config_and_may_be_another(tmp_path):
    folder = tmp_path / "vit"
    shutil.copytree(FOLDER / "timm_clip_quickgelu", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "global_pool": "avg"}))
    facts = load_weights(folder).facts
    assert facts.values["pool"] == "norm_avg" and facts.assumed["pool"] == "as the classifier of config.json"
    options = {**SMALL, "epsilon": 1e-5, "act": "quick_gelu", "pre_norm": True}
    with pytest.raises(WeightsError, match="pool is taken for norm_avg .as the classifier of config.json. and the"):
        ppadapt.network("vit_base_patch16", pretrained=str(folder), **options)
    assert ppadapt.network("vit_base_patch16", pretrained=str(folder), pool="cls", **options).pool == "cls"


def test_a_converted_file_keeps_what_its_library_told(tmp_path):
    done = load_weights(of_case("transformers_vit")[0])
    save_safetensors(str(tmp_path / "x.safetensors"), {n: np.ascontiguousarray(a) for n, a in done.tensors.items()},
                     {"format": "ppadapt.network", "network": done.facts.to_text()})
    again = load_weights(tmp_path / "x.safetensors")
    assert again.arch == done.arch and again.facts.told["epsilon"] == "config.json"
    assert again.facts.normalize_line() == done.facts.normalize_line() != ""
    with pytest.raises(WeightsError, match="epsilon is 1e-12"):
        ppadapt.network("vit_base_patch16", pretrained=str(tmp_path / "x.safetensors"), **SMALL)


def test_the_named_networks_of_the_report_are_those_that_are_built():
    from ppadapt.models.vit import VITS
    from ppadapt.weights.facts import NAMED

    for (dim, depth), (name, heads, patch, size) in NAMED.items():
        fixed = {"img_size": 224, **VITS[name].keywords}
        assert (fixed["embed_dim"], fixed["depth"], fixed["num_heads"], fixed["patch_size"],
                fixed["img_size"]) == (dim, depth, heads, patch, size)


def test_moco_v3s_small_network_has_12_heads():
    """Read with the 6 of everyone else's it was off by a third."""
    shapes = {"patch_embed.proj.weight": (384, 3, 16, 16), "patch_embed.proj.bias": (384,), "cls_token": (1, 1, 384),
              "pos_embed": (1, 197, 384), "norm.weight": (384,), "norm.bias": (384,), "head.0.weight": (4, 384)}
    raw = RawCheckpoint({n: np.zeros(s, "f4") for n, s in shapes.items()}, "torch-zip", "x.pth")
    found = to_ours(raw)
    assert found.layout == "moco_v3" and found.arch["num_heads"] == 12 and "num_heads" in found.facts.told
    del raw.tensors["head.0.weight"]
    found = to_ours(raw)
    assert found.layout == "timm" and "MoCo v3's ViT-S has 12" in found.facts.assumed["num_heads"]


@pytest.mark.parametrize(("first", "dtype", "heads"), (("row", "f4", 12), ("row", "f2", 12), ("column", "f4", 6)))
def test_moco_v3s_small_network_is_known_by_its_positions(first, dtype, heads):
    """A lone encoder has timm's names. Its fixed sine-cosines begin with the row, MAE's with the column."""
    pos = np.zeros((1, 197, 384))
    for token in range(196):
        place = divmod(token, 14) if first == "row" else divmod(token, 14)[::-1]
        for axis, at in enumerate(place):
            for i in range(96):
                angle = at / 10000 ** (i / 96)
                pos[0, 1 + token, 192 * axis + i] = math.sin(angle)
                pos[0, 1 + token, 192 * axis + 96 + i] = math.cos(angle)
    tensors = {"patch_embed.proj.weight": (384, 3, 16, 16), "patch_embed.proj.bias": (384,), "cls_token": (1, 1, 384),
               "norm.weight": (384,), "norm.bias": (384,)}
    raw = RawCheckpoint({**{n: np.zeros(s, dtype) for n, s in tensors.items()}, "pos_embed": pos.astype(dtype)},
                        "torch-zip", "x.pth")
    facts = to_ours(raw).facts
    assert facts.values["num_heads"] == heads and ("num_heads" in facts.told) == (heads == 12)


def test_a_block_of_number_a_billion_is_a_gap_and_not_a_billion_blocks():
    found = to_ours(RawCheckpoint(plain(**{"blocks.1000000000.norm1.weight": np.ones(16, "f4")}), "torch-zip", "x.pth"))
    with pytest.raises(WeightsError, match=r"it lacks \d+ tensors: blocks.1000000000.norm1.bias"):
        found.raise_if_incomplete()


def test_weights_of_zeros_only_are_warned_of(tmp_path, caplog):
    """What a download that was not finished leaves in a file that had its size from the start."""
    write_torch(str(tmp_path / "x.pth"), plain(**{"blocks.1.mlp.fc1.weight": np.zeros((32, 16), "f4")}))
    ppadapt.network("vit_base_patch16", pretrained=tmp_path / "x.pth", pool="avg", **SMALL)
    assert "x.pth: blocks.1.mlp.fc1.weight are zeros only" in caplog.text


@pytest.mark.parametrize("given", ["", 3, ["x.pth"]])
def test_what_is_no_path_names_no_file(tmp_path, monkeypatch, given):
    """An empty one was the current folder, whose weights were taken."""
    write_torch(str(tmp_path / "pytorch_model.bin"), plain())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ppadapt.UserError, match="Arch.pretrained is .*give a path, True"):
        ppadapt.network("vit_base_patch16", pretrained=given, pool="avg", **SMALL)
