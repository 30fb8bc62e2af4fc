"""Names, layouts, digests, reports: what the numbers mean once they are read."""

import numpy as np
import pytest

from ppadapt.weights import (
    RawCheckpoint,
    WeightsError,
    digest,
    infer_name,
    infer_tuning,
    load_tuned,
    load_weights,
    match,
    read_file,
    resize_pos_embed,
    save_pdparams,
    save_safetensors,
    save_tuned,
    split_tuned,
    to_authors,
    to_ours,
    write_torch,
)


def small(golden_dir):
    return load_weights(golden_dir("timm_state_dict") / "legacy.pth")


def test_square_weights_are_transposed_and_names_decide(golden_dir):
    raw = read_file(golden_dir("timm_state_dict") / "legacy.pth").tensors
    ours = small(golden_dir).tensors
    name = "blocks.1.attn.proj.weight"  # 64 x 64: a shape test would leave it as it is
    np.testing.assert_array_equal(ours[name], raw[name].T)
    assert ours["blocks.1.attn.qkv.weight"].shape == (64, 192) and ours["head.weight"].shape == (64, 10)
    np.testing.assert_array_equal(ours["patch_embed.proj.weight"], raw["patch_embed.proj.weight"])
    np.testing.assert_array_equal(ours["pos_embed"], raw["pos_embed"])


def test_the_converted_network_computes_timms_logits(golden_dir):
    # A forward pass in numpy: catches an order of q, k, v or of heads that names and shapes cannot show.
    folder = golden_dir("jax_npz")
    expected, w = np.load(folder / "expected.npz"), load_weights(folder / "checkpoint.npz").tensors

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x, name):
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    def gelu(x):
        import math

        return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))

    images = expected["images"].astype("f8")
    n = len(images)
    patches = images.reshape(n, 3, 4, 8, 4, 8).transpose(0, 2, 4, 1, 3, 5).reshape(n, 16, 192)
    x = patches @ w["patch_embed.proj.weight"].reshape(64, 192).T + w["patch_embed.proj.bias"]
    x = np.concatenate([np.broadcast_to(w["cls_token"], (n, 1, 64)), x], 1) + w["pos_embed"]
    for i in range(3):
        q, k, v = (
            linear(norm(x, f"blocks.{i}.norm1"), f"blocks.{i}.attn.qkv")
            .reshape(n, 17, 3, 4, 16)
            .transpose(2, 0, 3, 1, 4)
        )
        a = np.exp(q @ k.transpose(0, 1, 3, 2) / 4)
        a = (a / a.sum(-1, keepdims=True)) @ v
        x = x + linear(a.transpose(0, 2, 1, 3).reshape(n, 17, 64), f"blocks.{i}.attn.proj")
        x = x + linear(
            gelu(linear(norm(x, f"blocks.{i}.norm2"), f"blocks.{i}.mlp.fc1")), f"blocks.{i}.mlp.fc2"
        )
    np.testing.assert_allclose(linear(norm(x, "norm"), "head")[:, 0], expected["logits"], atol=1e-4)


def test_arch_is_read_from_the_shapes(golden_dir):
    arch = load_weights(golden_dir("jax_npz") / "checkpoint.npz").arch
    assert arch == {
        "embed_dim": 64,
        "patch_size": 8,
        "depth": 3,
        "img_size": 32,
        "mlp_ratio": 4.0,
        "num_heads": 4,
        "class_num": 10,
        "pool": "cls",
        "epsilon": 1e-6,
        "act": "gelu",
    }
    assert (
        infer_name({"embed_dim": 768, "depth": 12, "patch_size": 16, "img_size": 224, "mlp_ratio": 4.0})
        == "vit_base_patch16"
    )


def test_a_headless_encoder_is_complete(golden_dir):
    for case in ("image_parallel_cls", "image_parallel_pool"):  # the second has no final norm either
        found = load_weights(golden_dir(case) / "pretrain.pth")
        assert found.complete and not found.dropped


@pytest.mark.parametrize(
    "case",
    [
        "image_parallel_cls",
        "image_vpt",
        "image_parallel_pool",
        "image_layernorm_in",
        "image_learnable_scale",
        "image_linear",
        "image_full",
        "image_sequential",
    ],
)
def test_ours_to_authors_and_back_is_bit_exact(golden_dir, tmp_path, case):
    folder = golden_dir(case)
    theirs = read_file(folder / "finetuned.pth").tensors
    ours = load_weights(folder / "finetuned.pth")
    assert ours.complete and list(ours.dropped) == ["head.0.num_batches_tracked"]
    tuned, base = split_tuned(ours.tensors)
    back = to_authors(tuned, base)
    assert set(back) == set(theirs)
    for name, array in theirs.items():
        assert back[name].dtype == array.dtype
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(back[name], array)
    write_torch(str(tmp_path / "back.pth"), back)
    assert digest(load_weights(tmp_path / "back.pth").tensors) == digest(ours.tensors)


def test_frozen_backbone_of_finetuned_is_the_pretrained(golden_dir):
    folder = golden_dir("image_parallel_cls")
    base = split_tuned(load_weights(folder / "finetuned.pth").tensors)[1]
    assert digest(base) == digest(load_weights(folder / "pretrain.pth").tensors)


def test_tuning_is_inferred(golden_dir):
    def infer(case):
        found = load_weights(golden_dir(case) / "finetuned.pth")
        return infer_tuning(found.tensors, found.extras)

    assert infer("image_vpt")[0] == [{"name": "VPT", "num_prompts": 5, "deep": True, "blocks": "all"}]
    methods, warnings = infer("image_parallel_cls")
    assert methods == [
        {
            "name": "AdaptFormer",
            "bottleneck": 8,
            "option": "parallel",
            "layernorm": "none",
            "scale": 0.1,
            "blocks": "all",
        }
    ]
    assert any("parallel or sequential" in text for text in warnings)
    found = load_weights(golden_dir("image_parallel_cls") / "finetuned.pth")
    args = {"ffn_option": "sequential", "ffn_adapter_scalar": "0.5"}
    methods, warnings = infer_tuning(found.tensors, {"args": args})
    assert (
        methods[0]["scale"] == 0.5
        and methods[0]["option"] == "sequential"
        and not warnings
    )
    for name, shape, said in (("prompts.0", [5], "the prompts have the shapes [5]"),
                              ("blocks.0.adaptmlp.down_proj.bias", [], "down_proj.bias have the shapes []")):
        with pytest.raises(WeightsError) as error:
            infer_tuning({name: np.zeros(shape, "f4")}, {})
        assert said in str(error.value)
    with pytest.raises(WeightsError, match="not q, k and v side by side"):
        to_authors({"blocks.0.attn.qkv.bias": np.zeros(7, "f4")})


def test_mae_decoder_prefixes_and_strangers(golden_dir):
    raw = read_file(golden_dir("timm_state_dict") / "legacy.pth")
    tensors = {f"module.{name}": array for name, array in raw.tensors.items() if not name.startswith("head")}
    tensors["module.mask_token"] = tensors["module.decoder_embed.weight"] = np.zeros((1, 1, 4), "f4")
    tensors["module.rope.freqs"] = np.zeros(3, "f4")
    del tensors["module.blocks.1.norm2.bias"]
    found = to_ours(RawCheckpoint(tensors, "torch-zip", "x.pth"))
    assert found.layout == "mae" and set(found.dropped) == {
        "module.mask_token",
        "module.decoder_embed.weight",
    }
    assert found.unexpected == ["module.rope.freqs"] and found.missing == ["blocks.1.norm2.bias"]
    assert not found.complete


def test_jax_variants(golden_dir):
    raw = read_file(golden_dir("jax_npz") / "checkpoint.npz")
    renamed = {
        "opt/target/"
        + name.replace("MultiHeadDotProductAttention_1", "MultiHeadDotProductAttention_0")
        .replace("MlpBlock_3", "MlpBlock_0")
        .replace("LayerNorm_2", "LayerNorm_1"): array
        for name, array in raw.tensors.items()
    }
    same = to_ours(RawCheckpoint(renamed, "npz", "x.npz"))
    assert digest(same.tensors) == digest(to_ours(raw).tensors) and same.complete
    renamed["opt/target/pre_logits/kernel"] = np.zeros((64, 64), "f4")
    headless = to_ours(RawCheckpoint(renamed, "npz", "x.npz"))
    # The head was trained on what pre_logits gives: without it the head means nothing.
    assert "head.weight" not in headless.tensors and len(headless.dropped) == 3 and headless.complete


def test_video_attention_has_no_k_bias(golden_dir):
    found = load_weights(golden_dir("video_parallel", "finetuned.pth") / "finetuned.pth")
    bias = found.tensors["blocks.0.attn.qkv.bias"]
    assert found.complete and bias.shape == (144,) and not bias[48:96].any() and bias[:48].any()


def test_conflicts_and_strangers_are_errors(golden_dir):
    raw = read_file(golden_dir("timm_state_dict") / "legacy.pth")
    raw.tensors["blocks.0.fc1.weight"] = raw.tensors["blocks.0.mlp.fc1.weight"]
    with pytest.raises(WeightsError, match=r"two of its names mean blocks\.0\.mlp\.fc1\.weight"):
        to_ours(raw)
    with pytest.raises(WeightsError, match="no ViT.*conv1.weight"):
        to_ours(RawCheckpoint({"conv1.weight": np.zeros((2, 3, 7, 7))}, "torch-zip", "resnet.pth"))
    with pytest.raises(WeightsError, match="nothing says whether"):
        to_ours(
            RawCheckpoint({"blocks.0.attn.proj.weight": np.zeros((8, 8))}, "safetensors", "x.safetensors")
        )


def test_digest_ignores_order_format_and_memory_layout(golden_dir, tmp_path):
    tensors = small(golden_dir).tensors
    expected = digest(tensors)
    assert digest(dict(reversed(list(tensors.items())))) == expected
    assert digest({name: np.ascontiguousarray(array, ">f8") for name, array in tensors.items()}) == expected
    save_pdparams(str(tmp_path / "a.pdparams"), tensors)
    save_safetensors(str(tmp_path / "a.safetensors"), tensors, {"format": "ppadapt.network"})
    save_safetensors(str(tmp_path / "b.safetensors"), tensors)  # no metadata: shapes tell the layout
    for file, layout in (("a.pdparams", "paddle"), ("a.safetensors", "ppadapt"), ("b.safetensors", "timm")):
        found = load_weights(tmp_path / file)
        assert digest(found.tensors) == expected and found.layout == layout and found.complete
    changed = dict(tensors, **{"norm.bias": tensors["norm.bias"] + 1})
    assert digest(changed) != expected
    assert digest({"a": np.zeros((2, 3))}) != digest({"a": np.zeros((3, 2))})


def test_paddle_reads_what_is_written_and_the_other_way(golden_dir, tmp_path):
    paddle = pytest.importorskip("paddle", reason="needs paddle to check the file format with paddle itself")
    from ppadapt import paddle_compat

    tensors = small(golden_dir).tensors
    save_pdparams(str(tmp_path / "a.pdparams"), tensors)
    loaded = paddle.load(str(tmp_path / "a.pdparams"))
    assert set(loaded) == set(tensors)
    assert all(np.array_equal(loaded[name].numpy(), array) for name, array in tensors.items())
    nested = {"model": dict(loaded), "epoch": 3, "optimizer": {"m": paddle.ones([2])}}
    nested["model"]["norm.bias"] = paddle_compat.cast(loaded["norm.bias"], "bfloat16")
    paddle.save(nested, str(tmp_path / "b.pdparams"))
    found = load_weights(tmp_path / "b.pdparams")
    assert found.complete and found.extras["epoch"] == 3 and "optimizer" in found.skipped
    np.testing.assert_allclose(found.tensors["norm.bias"], tensors["norm.bias"], rtol=2**-8)
    paddle.save(loaded, str(tmp_path / "c.pdparams"), protocol=2)
    assert digest(load_weights(tmp_path / "c.pdparams").tensors) == digest(tensors)


def test_safetensors_agrees_with_the_package(tmp_path):
    package = pytest.importorskip("safetensors.numpy")
    tensors = {
        "b": np.arange(6, dtype="f4").reshape(2, 3),
        "a": np.arange(3, dtype="f2"),
        "c": np.zeros((), "i8"),
    }
    save_safetensors(str(tmp_path / "x.safetensors"), tensors, {"k": "v"})
    loaded = package.load_file(str(tmp_path / "x.safetensors"))
    assert all(
        np.array_equal(loaded[name], array) and loaded[name].dtype == array.dtype
        for name, array in tensors.items()
    )
    package.save_file(tensors, str(tmp_path / "y.safetensors"))
    assert {n: a.tolist() for n, a in read_file(tmp_path / "y.safetensors").tensors.items()} == {
        n: a.tolist() for n, a in tensors.items()
    }


def test_pos_embed_as_pytorch(golden_dir):
    expected = np.load(golden_dir("pos_embed") / "expected.npz")
    for side in (2, 6, 7):
        resized = resize_pos_embed(expected["source"], (side, side))
        np.testing.assert_allclose(resized, expected[f"to_{side}x{side}"], rtol=0, atol=3e-6)
    assert resize_pos_embed(expected["source"], (3, 5)).shape == (1, 16, 64)
    with pytest.raises(WeightsError, match="not a square"):
        resize_pos_embed(np.zeros((1, 18, 4)), (2, 2))


def test_pos_embed_with_antialias_as_pillow():
    """Pillow's bicubic of float images is that of PyTorch's antialias=True, as timm resizes."""
    from PIL import Image

    table = np.random.default_rng(0).standard_normal((1, 1 + 14 * 14, 3)).astype("f4")
    for grid in ((7, 7), (24, 24), (5, 9)):
        resized = resize_pos_embed(table, grid, resize="antialias")[0, 1:].reshape(*grid, 3)
        for channel in range(3):
            image = Image.fromarray(table[0, 1:, channel].reshape(14, 14)).resize(grid[::-1], Image.Resampling.BICUBIC)
            np.testing.assert_allclose(resized[:, :, channel], np.asarray(image), rtol=0, atol=2e-6)


def test_merge_reports_everything(golden_dir):
    tensors = small(golden_dir).tensors
    shapes = {name: array.shape for name, array in tensors.items()}
    arrays, report = match(tensors, shapes, file="a.pth")
    report.raise_if_incomplete()
    assert len(arrays) == len(report.mapped) == 44 and report.digest == digest(tensors)

    shapes.update(
        {"pos_embed": (1, 50, 64), "head.weight": (64, 3), "head.bias": (3,), "blocks.0.adaptmlp.scale": (1,)}
    )
    new = ["head.*", "*.adaptmlp.*"]
    arrays, report = match({n: a.astype("f2") for n, a in tensors.items()}, shapes, new, "a.pth")
    report.raise_if_incomplete()
    assert report.resized == [("pos_embed", (1, 17, 64), (1, 50, 64))]
    assert report.new == ["head.weight", "head.bias", "blocks.0.adaptmlp.scale"]
    assert all(
        array.dtype == np.float32 and array.flags.owndata and array.flags.writeable
        for array in arrays.values()
    )
    assert "resized 1" in str(report) and "pos_embed [1, 17, 64] -> [1, 50, 64]" in str(report)

    del shapes["norm.bias"]
    shapes["fc_norm.bias"], shapes["cls_token"] = (64,), (1, 1, 32)
    _, report = match(tensors, shapes, new, "a.pth")
    assert (report.missing, report.unexpected) == (["fc_norm.bias"], ["norm.bias"])
    with pytest.raises(WeightsError) as caught:
        report.raise_if_incomplete()
    for part in (
        "a.pth",
        "fc_norm.bias",
        "norm.bias",
        "cls_token [1, 1, 64] -> [1, 1, 32]",
        "declare as new",
    ):
        assert part in str(caught.value)


def test_a_tuned_file_is_written_and_read(tmp_path, golden_dir):
    path = tmp_path / "a.safetensors"
    tensors = {
        "head.1.weight": np.arange(6, dtype="f4").reshape(2, 3).T,
        "prompts.0": np.ones((1, 2, 3), "f4"),
    }
    manifest = {
        "tuning": [{"name": "VPT", "options": {}}],
        "classes": ["cat", "犬"],
        "metrics": {"top1": 0.5},
    }
    save_tuned(path, tensors, manifest)
    loaded, read = load_tuned(path)
    assert read == {"format_version": 2, "digest": digest(tensors), **manifest, "tuning": [{"name": "VPT"}]}
    assert all(np.array_equal(loaded[name], array) for name, array in tensors.items())
    before = path.read_bytes()
    for bad in ({"x": {1, 2}}, {"x": object()}):
        with pytest.raises(WeightsError, match="JSON"):
            save_tuned(path, tensors, bad)
    with pytest.raises(WeightsError, match="no weights of float type"):
        save_tuned(path, {"a": np.array(["text"])}, {})
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
    with pytest.raises(WeightsError, match="manifest"):
        load_tuned(golden_dir("timm_state_dict") / "plain.safetensors")


def test_a_failing_write_leaves_the_old_file(tmp_path):
    for save in (save_pdparams, write_torch, save_safetensors):
        path = tmp_path / f"{save.__name__}.x"
        path.write_bytes(b"old")
        with pytest.raises((TypeError, WeightsError, RuntimeError)):
            save(str(path), {"a": np.zeros(2, "f4"), "b": np.array([object()])})
        assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 3
