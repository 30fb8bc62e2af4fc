"""What a tuned file says of itself: the schema, the digest, and what is compared when it is used."""
import json
import struct

import numpy as np
import pytest

from ppadapt.weights import (
    MismatchError,
    WeightsError,
    compare,
    digest,
    load_tuned,
    read_manifest,
    save_safetensors,
    save_tuned,
)
from ppadapt.weights.manifest import parse_manifest
from ppadapt.weights.tuned_file import read_header, read_into_memory

TENSORS = {"blocks.0.adaptmlp.down_proj.weight": np.arange(6, dtype="f4").reshape(2, 3),
           "head.0.running_var": np.ones(3, "f4")}
TUNING = {"name": "AdaptFormer", "bottleneck": 4, "scale": 0.1, "dropout": 0.1}
MANIFEST = {
    "tuning": [TUNING], "head": "Linear", "classes": ["cat", "dog"], "task": {"kind": "single_label"}, "metrics": {},
    "backbone": {"name": "vit", "family": "ViT", "digest": "a" * 64, "frozen_dtype": "float32",
                 "options": {"num_heads": 3, "epsilon": 1e-6, "drop_path_rate": 0.1}},
    "preprocess": [{"DecodeImage": {"to_rgb": True}}, {"ResizeImage": {"size": [32, 32]}},
                   {"NormalizeImage": {"mean": [0.5], "order": ""}}, {"ToCHWImage": {}}]}


def changed(section, **values):
    return {**MANIFEST, section: {**MANIFEST[section], **values}}


def refusal(manifest, wanted=MANIFEST, filled=None):
    with pytest.raises(MismatchError) as error:
        compare(manifest, wanted, filled).raise_if_different("a.safetensors")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_same_is_the_same():
    found = compare(json.loads(json.dumps(MANIFEST)), MANIFEST)
    assert not found.differences and not found.warnings


@pytest.mark.parametrize("file, said", [
    ({**MANIFEST, "tuning": [{**TUNING, "scale": 7.0}]},
     "was trained with other Tuning (scale: 7.0 in the file, 0.1 here): use the Tuning section of the run"),
    ({**MANIFEST, "tuning": [{**TUNING, "bottleneck": "4"}]}, "other Tuning (bottleneck: '4' in the file, 4 here)"),
    ({**MANIFEST, "tuning": [{**TUNING, "name": "VPT"}]}, "other Tuning (name: ['VPT'] in the file, ['AdaptFormer']"),
    ({**MANIFEST, "tuning": [{**TUNING, "gate": True}]}, "other Tuning (gate: True in the file, (unknown here) here)"),
    (changed("backbone", options={"num_heads": 6, "epsilon": 1e-6}), "other Arch (num_heads: 6 in the file, 3 here)"),
    (changed("backbone", options={"num_heads": 3, "epsilon": 0.5}), "epsilon: 0.5 in the file, 1e-06 here"),
    (changed("backbone", options={**MANIFEST["backbone"]["options"], "qk_scale": 2.0}),
     "other Arch (qk_scale: 2.0 in the file, (unknown here) here)"),
    (changed("backbone", options={**MANIFEST["backbone"]["options"], "epsilon": None}),
     "other Arch (epsilon: None in the file, 1e-06 here)"),
    (changed("backbone", family="Swin"), "other Arch (family: Swin in the file, ViT here)"),
    (changed("backbone", digest="b" * 64), f"another backbone (digest: {'b' * 16} in the file, {'a' * 16} here)"),
    ({**MANIFEST, "head": "BatchNormLinear"}, "other head (BatchNormLinear in the file, Linear here): set Arch.head"),
    ({**MANIFEST, "preprocess": [{"DecodeImage": {"to_rgb": False}}, *MANIFEST["preprocess"][1:]]},
     "other preprocessing (colour order: BGR in the file, RGB here)"),
    ({**MANIFEST, "preprocess": [*MANIFEST["preprocess"][:2], {"NormalizeImage": {"mean": [0.4]}}]},
     "other preprocessing (NormalizeImage.mean: [0.4] in the file, [0.5] here)"),
    ({**MANIFEST, "preprocess": MANIFEST["preprocess"][:2]}, "other preprocessing (name: ['ResizeImage'] in the file, "
     "['ResizeImage', 'NormalizeImage'] here)"),
    ({**MANIFEST, "classes": ["dog", "cat"]}, "other classes (['dog', 'cat'] in the file, ['cat', 'dog'] here)"),
    ({**MANIFEST, "task": {"kind": "multi_label"}}, "other task (kind: multi_label in the file, single_label here)"),
])
def test_whatever_changes_the_answer_is_refused_with_both_sides(file, said):
    assert said in refusal(file)


def test_long_lists_that_begin_alike_are_told_apart():
    names = [f"c{i}" for i in range(100)]
    text = refusal({**MANIFEST, "classes": [*names[:98], "x", "c99"]}, {**MANIFEST, "classes": names})
    assert "100 (c0, c1, c2 ...), number 98 'x' in the file, 100 (c0, c1, c2 ...), 'c98' here" in text


def test_all_differences_are_named_at_once():
    text = refusal({**changed("backbone", digest="b" * 64), "tuning": [{**TUNING, "scale": 7.0}], "classes": ["x"]})
    assert all(part in text for part in ("other Tuning (scale", "another backbone (digest", "other classes (['x']"))


@pytest.mark.parametrize("file", [
    {**MANIFEST, "tuning": [{**TUNING, "dropout": 0.9}]},
    changed("backbone", options={"num_heads": 3, "epsilon": 1e-6, "drop_path_rate": 0.9}),
    {**MANIFEST, "preprocess": [{"DecodeImage": {"to_rgb": True, "to_np": True}}, MANIFEST["preprocess"][1],
                                "ToCHWImage", {"NormalizeImage": {"mean": [0.5], "order": "chw"}}]},
])
def test_what_changes_no_answer_may_differ(file):
    found = compare(file, MANIFEST)
    assert not found.differences and not found.warnings


def test_a_number_type_is_said_and_not_refused():
    found = compare(changed("backbone", frozen_dtype="bfloat16"), MANIFEST)
    assert not found.differences and found.warnings == [
        "trained with Arch.frozen_dtype bfloat16, used with float32: answers differ in last digits"]


def test_what_a_file_does_not_say_is_named():
    old = {**MANIFEST, "backbone": {"name": "vit", "digest": "a" * 64, "options": {}},
           "tuning": [{"name": "AdaptFormer", "bottleneck": 4}], "preprocess": MANIFEST["preprocess"][1:]}
    filled = {**old, "tuning": [TUNING], "backbone": {**old["backbone"], "options": {"num_heads": 3}}}
    found = compare(old, MANIFEST, filled)
    assert not found.differences and found.warnings == [
        "the file does not say, so that it could not be checked: Arch.family, Arch.frozen_dtype, Arch.epsilon, "
        "preprocessing.colour order",
        "the file does not say, so that defaults were taken: Tuning.scale 0.1, Arch.num_heads 3"]
    text = refusal(old, {**MANIFEST, "tuning": [{**TUNING, "scale": 0.5}]}, filled)
    assert "other Tuning (scale: 0.1 (its default) in the file, 0.5 here)" in text


def test_a_section_that_nobody_wants_is_not_compared():
    assert not compare(MANIFEST, {"backbone": {"digest": "a" * 64}}).differences


def test_two_methods_are_compared_by_name():
    two = {**MANIFEST, "tuning": [TUNING, {"name": "VPT", "deep": True}]}
    assert "VPT.deep: False in the file, True here" in refusal(
        {**two, "tuning": [TUNING, {"name": "VPT", "deep": False}]}, two)


@pytest.mark.parametrize("entry, value, said", [
    ("tuning", "AdaptFormer", "tuning AdaptFormer, which must be a list of methods"),
    ("tuning", [5], "must be a list of methods"),
    ("tuning", [{"bottleneck": 4}], "must be a list of methods"),
    ("tuning", [{"name": "VPT", "options": 5}], "must be a list of methods"),
    ("backbone", "vit", "backbone vit, which must be a table"),
    ("backbone", {"digest": 5}, "backbone.digest 5, which must be a sha256"),
    ("backbone", {"options": [1]}, "backbone.options"),
    ("preprocess", {"a": 1}, "must be a list of operators"),
    ("preprocess", [{"ResizeImage": 5}], "must be a list of operators"),
    ("classes", 10, "must be a list of names"),
    ("classes", [1, 2], "must be a list of names"),
    ("task", "single", "must be a table"),
    ("metrics", [1], "must be a table"),
])
def test_an_entry_of_another_form_is_one_line(tmp_path, entry, value, said):
    with pytest.raises(WeightsError, match="damaged") as error:
        parse_manifest(json.dumps({"format_version": 1, entry: value}), "a.safetensors")
    assert said in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(WeightsError, match="damaged"):
        save_tuned(tmp_path / "a.safetensors", TENSORS, {entry: value})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("version", [0, 3, True, "1", None])
def test_another_format_version_is_refused(version):
    with pytest.raises(WeightsError, match=f"format version {version!r}; this ppadapt reads 1 and 2"):
        parse_manifest(json.dumps({"format_version": version}), "a.safetensors")


def test_a_flipped_bit_is_found(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    save_tuned(path, TENSORS, MANIFEST)
    assert read_manifest(path) == {**MANIFEST, "format_version": 2, "digest": digest(TENSORS)}
    data = bytearray(path.read_bytes())
    begin = 8 + struct.unpack("<Q", data[:8])[0]
    data[begin + 5] ^= 0x40
    path.write_bytes(bytes(data))
    with pytest.raises(WeightsError, match="is damaged"):
        load_tuned(path)
    assert read_manifest(path)["classes"] == ["cat", "dog"]  # the header alone says nothing of the tensors
    monkeypatch.setenv("PPADAPT_NO_VERIFY", "1")
    assert not np.array_equal(load_tuned(path)[0][next(iter(TENSORS))], TENSORS[next(iter(TENSORS))])


def test_the_tensors_of_another_tuned_file_are_found(tmp_path):
    """Whole, and with a right checksum: somebody's tool wrote other tensors under an old manifest."""
    path = tmp_path / "a.safetensors"
    save_tuned(path, TENSORS, MANIFEST)
    text = json.dumps(read_manifest(path))
    save_safetensors(path, {name: array + 1 for name, array in TENSORS.items()}, {"ppadapt": text})
    with pytest.raises(WeightsError, match=f"its tensors have the digest .* written with {digest(TENSORS)[:16]}"):
        load_tuned(path)


@pytest.mark.parametrize("name, value, said", [
    ("head.1.weight", np.array([1, np.nan, np.nan], "f4"), "head.1.weight (2 of 3 NaN)"),
    ("head.1.weight", np.array([1, np.inf], "f2"), "head.1.weight (1 of 2 infinite)"),
    ("head.0.running_var", np.array([1, -1], "f4"), "head.0.running_var (a negative variance)"),
    ("head.1.weight", np.array([1, 2], "i4"), "no weights of float type: head.1.weight (int32)"),
])
def test_values_that_no_network_computes_with_are_refused_by_name(tmp_path, name, value, said):
    path = tmp_path / "a.safetensors"
    with pytest.raises(WeightsError, match=f"what was to be written to {path} holds") as error:
        save_tuned(path, {name: value}, MANIFEST)
    assert said in str(error.value) and not path.exists()
    save_tuned(path, TENSORS, MANIFEST)
    save_safetensors(path, {name: value}, {"ppadapt": json.dumps({**read_manifest(path), "digest": None})})
    with pytest.raises(WeightsError, match="holds (values that no network computes with|tensors that are)") as error:
        load_tuned(path)
    assert said in str(error.value)


def test_large_finite_values_are_no_infinity(tmp_path):
    save_tuned(tmp_path / "a.safetensors", {"head.1.weight": np.full([2, 2], 3e38, "f4")}, MANIFEST)
    assert load_tuned(tmp_path / "a.safetensors")[0]["head.1.weight"][0, 0] == np.float32(3e38)


def test_what_is_read_into_memory_is_checked_as_a_loaded_file_is(tmp_path):
    path = tmp_path / "tuned.safetensors"
    save_tuned(path, {"head.weight": np.arange(6, dtype="float32").reshape(2, 3)}, {"classes": ["a", "b", "c"]})
    manifest, shapes = read_header(path)
    assert manifest["classes"] == ["a", "b", "c"] and shapes == {"head.weight": (2, 3)}
    tensors, again, check = read_into_memory(path)
    check()
    assert again == manifest and tensors["head.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    broken = bytearray(path.read_bytes())
    broken[-1] ^= 1
    path.write_bytes(broken)
    assert read_header(path) == (manifest, shapes)
    with pytest.raises(WeightsError, match="is damaged"):
        read_into_memory(path)[2]()
