"""The reader of PyTorch files: every format gives the same numbers, and nothing is ever executed."""

import argparse
import io
import pickle
import shutil
import struct
import subprocess
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from ppadapt.weights import UnsafeCheckpointError, WeightsError, load_weights, read_file, write_torch
from ppadapt.weights.formats.pickle_write import Call, Global, Persistent, dump

FORMATS = {
    "plain.safetensors": 0,
    "plain.pth": 0,
    "wrapped.pth": 0,
    "legacy.pth": 0,
    "bfloat16.pth": 2**-8,
}


@pytest.mark.parametrize("file", list(FORMATS))
def test_every_format_holds_the_same_network(golden_dir, file):
    reference = load_weights(golden_dir("jax_npz") / "checkpoint.npz").tensors
    found = load_weights(golden_dir("timm_state_dict", file) / file)
    assert set(found.tensors) == set(reference) and found.complete and found.layout == "timm"
    for name, array in reference.items():
        np.testing.assert_allclose(
            found.tensors[name].astype("f4"), array, rtol=FORMATS[file], atol=1e-7 * bool(FORMATS[file])
        )


def test_finetuned_loads_beside_namespace_and_optimizer(golden_dir):
    raw = read_file(golden_dir("image_parallel_cls") / "finetuned.pth")
    assert raw.format == "torch-zip" and raw.extras["epoch"] == 7
    assert raw.extras["args"] == {"dataset": "cifar100", "ffn_num": 8, "lr": 0.1}
    assert set(raw.skipped) == {"optimizer", "scaler"}
    assert raw.tensors["head.0.num_batches_tracked"].dtype == np.int64


def test_suffix_does_not_matter(golden_dir, tmp_path):
    shutil.copy(golden_dir("jax_npz") / "checkpoint.npz", tmp_path / "a.pth")
    shutil.copy(golden_dir("timm_state_dict") / "legacy.pth", tmp_path / "b.safetensors")
    assert read_file(tmp_path / "a.pth").format == "npz"
    assert read_file(tmp_path / "b.safetensors").format == "torch-legacy"


def torch_zip(path, tree, storages, byteorder=b"little"):
    stream = io.BytesIO()
    dump(stream, tree, 2)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", stream.getvalue())
        archive.writestr("x/byteorder", byteorder)
        for key, data in storages.items():
            archive.writestr(f"x/data/{key}", data)


def tensor(kind, key, numel, offset, shape, strides):
    storage = Persistent(("storage", Global("torch", kind), key, "cpu", numel))
    return Call(
        Global("torch._utils", "_rebuild_tensor_v2"),
        (storage, offset, shape, strides, False, Call(Global("collections", "OrderedDict"), ())),
    )


def test_strides_offsets_shared_storages_parameters_and_byte_order(tmp_path):
    numbers = np.arange(12, dtype=">f4")
    tree = {
        "model": {
            "a": tensor("FloatStorage", "0", 12, 2, (2, 3), (1, 2)),
            "b": Call(
                Global("torch._utils", "_rebuild_parameter"),
                (tensor("FloatStorage", "0", 12, 0, (12,), (1,)), True, {}),
            ),
            "empty": tensor("FloatStorage", "0", 12, 0, (0, 4), (4, 1)),
        },
        "shape": Call(Global("torch", "Size"), ((1, 2),)),
        "kind": Global("torch", "float32"),
    }
    torch_zip(tmp_path / "x.pth", tree, {"0": numbers.tobytes()}, b"big")
    raw = read_file(tmp_path / "x.pth")
    assert raw.tensors["a"].tolist() == [[2, 4, 6], [3, 5, 7]]
    assert raw.tensors["b"].tolist() == list(range(12)) and raw.tensors["empty"].shape == (0, 4)
    assert raw.extras == {"shape": [1, 2], "kind": "torch.float32"}


@pytest.mark.parametrize(
    "bad",
    [
        tensor("FloatStorage", "0", 4, 1, (4,), (1,)),
        tensor("FloatStorage", "0", 4, 0, (4,), (-1,)),
        tensor("FloatStorage", "0", 4, 0, (1 << 40,), (0,)),
        tensor("FloatStorage", "0", 400, 0, (400,), (1,)),
        tensor("QInt8Storage", "0", 4, 0, (4,), (1,)),
    ],
)
def test_a_tensor_beyond_its_storage_is_an_error(tmp_path, bad):
    torch_zip(tmp_path / "x.pth", {"w": bad}, {"0": bytes(16)})
    with pytest.raises(WeightsError, match="x.pth"):
        read_file(tmp_path / "x.pth")


class Evil:
    """Pickles as `function(*args)`."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def evil_zip(path, payload):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", payload)
        archive.writestr("archive/data/0", bytes(16))


def evil_legacy(path, payload):
    head = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    path.write_bytes(b"".join(head) + payload)


def evil_plain(path, payload):
    path.write_bytes(payload)


def payloads(marker):
    import builtins
    import os

    touch = f"touch {marker}"
    nested = pickle.dumps({"model": {"w": 1}, "args": argparse.Namespace(x=[Evil(os.system, touch)])}, 2)
    return {
        "os.system": pickle.dumps({"model": Evil(os.system, touch)}, 2),
        "eval": pickle.dumps(Evil(builtins.eval, f"open({str(marker)!r}, 'w')"), 4),
        "exec in the first opcode, protocol 0": b'c__builtin__\nexec\n(S\'open("%s", "w")\'\ntR.'
        % str(marker).encode(),
        "subprocess": pickle.dumps(Evil(subprocess.Popen, ["touch", str(marker)]), 4),
        "nested in a Namespace": nested,
        "getattr": b"\x80\x02cbuiltins\ngetattr\n.",
        "dotted name": b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.__init__\x93.",
        "torch's nested load": b"\x80\x02ctorch.storage\n_load_from_bytes\nC\x01a\x85R.",
        "numpy's load": b"\x80\x02cnumpy\nload\n.",
        "extension code": b"\x80\x02ccopyreg\nadd_extension\n.",
    }


KINDS = list(payloads("x"))


@pytest.mark.parametrize("wrap", [evil_zip, evil_legacy, evil_plain])
@pytest.mark.parametrize("kind", KINDS)
def test_a_malicious_pickle_runs_nothing_and_is_named(tmp_path, kind, wrap):
    marker, path = tmp_path / "ran", tmp_path / "evil.pth"
    wrap(path, payloads(marker)[kind])
    with pytest.raises(
        UnsafeCheckpointError, match=r"evil.pth: refused \S+\.\S+.*nothing was executed"
    ) as caught:
        read_file(path)
    assert not marker.exists() and "\n" not in str(caught.value)


def test_a_pickle_cannot_alter_the_reader(golden_dir, tmp_path):
    # BUILD sets attributes on whatever lies on the stack: here on stand-in functions and classes.
    for i, target in enumerate(
        (
            b"ctorch._utils\n_rebuild_tensor_v2\n",
            b"cargparse\nNamespace\n",
            b"ccollections\nOrderedDict\n",
            b"ctorch\nFloatStorage\n",
        )
    ):
        path = tmp_path / f"{i}.pdparams"
        path.write_bytes(b"\x80\x02" + target + b"}X\x01\x00\x00\x00aK\x01sb.")
        with pytest.raises(WeightsError):
            read_file(path)
    assert len(load_weights(golden_dir("timm_state_dict") / "legacy.pth").tensors) == 44


def test_an_object_array_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.array([{}], object))
    with pytest.raises(UnsafeCheckpointError, match="refused a, an array of Python objects"):
        read_file(tmp_path / "x.npz")
    (tmp_path / "x.pdparams").write_bytes(pickle.dumps({"w": np.array([{}], object)}, 4))
    with pytest.raises(UnsafeCheckpointError, match="dtype"):
        read_file(tmp_path / "x.pdparams")


def test_a_whole_module_is_refused_with_the_way_out(tmp_path):
    torch_zip(
        tmp_path / "x.pth", {"m": Persistent(("module", Global("torch", "Tensor"), "a.py", "code"))}, {}
    )
    with pytest.raises(UnsafeCheckpointError, match="state_dict"):
        read_file(tmp_path / "x.pth")


@pytest.mark.parametrize(
    "case,file",
    [
        ("timm_state_dict", "legacy.pth"),
        ("timm_state_dict", "plain.safetensors"),
        ("jax_npz", "checkpoint.npz"),
    ],
)
@pytest.mark.parametrize("keep", [5, 12, 300, 0.5, 0.99])
def test_a_truncated_file_is_one_clear_line(golden_dir, tmp_path, case, file, keep):
    data = (golden_dir(case) / file).read_bytes()
    (tmp_path / file).write_bytes(data[: keep if isinstance(keep, int) else int(keep * len(data))])
    with pytest.raises(WeightsError) as caught:
        read_file(tmp_path / file)
    assert file in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content,says",
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"\x1f\x8b\x08\x00rest", "gzip"),
        (bytes(600), "zeros"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "git lfs pull"),
        (b"hello, world", "a text file"),
        (bytes(257) + b"ustar  " + b"a" * 300, "zeros|tar archive"),
        (b"a" * 257 + b"ustar" + b"a" * 300, "tar archive"),
        (b"\xde\xad\xbe\xef" * 40, "unknown format"),
        (struct.pack("<Q", 1 << 20) + b'{"a":', "cut short"),
        (struct.pack("<Q", 8) + b'{"a": 1 ', "JSON"),
        (pickle.dumps([1, 2]), "a list"),
        (pickle.dumps({"a": 1}), "no tensors"),
    ],
)
def test_what_is_no_checkpoint_is_called_by_its_name(tmp_path, content, says):
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=says) as caught:
        read_file(tmp_path / "x.pth")
    assert "\n" not in str(caught.value)


def test_other_archives_and_paths(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("m/data.pkl", b"\x80\x02N.")
        archive.writestr("m/constants.pkl", b"\x80\x02N.")
    for path, says in (
        ("a.zip", "readme.txt"),
        ("script.pt", "TorchScript"),
        ("none.pth", "does not exist"),
        ("", "folder"),
    ):
        with pytest.raises(WeightsError, match=says):
            read_file(tmp_path / path)


def test_written_files_read_back_bit_exactly(tmp_path):
    generator = np.random.default_rng(0)
    tensors = OrderedDict(
        a=generator.normal(size=(3, 4)).astype("f4").T,
        b=np.zeros((), "i8"),
        c=np.ones((0, 2), "f2"),
        d=np.array([True, False]),
        e=generator.normal(size=5),
    )
    write_torch(
        str(tmp_path / "x.pth"), tensors, {"epoch": 3, "args": {"lr": 0.1, "none": None, "big": 1 << 40}}
    )
    raw = read_file(tmp_path / "x.pth")
    assert raw.extras == {"epoch": 3, "args": {"lr": 0.1, "none": None, "big": 1 << 40}}
    for name, array in tensors.items():
        assert raw.tensors[name].dtype == array.dtype
        np.testing.assert_array_equal(raw.tensors[name], array)
    torch = pytest.importorskip(
        "torch", reason="the file was read back here; that PyTorch reads it needs PyTorch"
    )
    loaded = torch.load(tmp_path / "x.pth", weights_only=True)["model"]
    assert all(np.array_equal(loaded[name].numpy(), array) for name, array in tensors.items())
