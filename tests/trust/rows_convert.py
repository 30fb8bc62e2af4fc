"""Weights files, through tools/convert_weights.py."""
from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
from trust_inputs import (
    doubled,
    entry,
    evil,
    flagged,
    flipped,
    nested,
    network,
    npy,
    safetensors,
    saved,
    shared_list,
    torch_zip,
    zipped,
)
from trust_table import Row, tool

from ppadapt.weights import read_file, save_pdparams, to_authors, write_torch

NORM = "blocks.0.norm1.weight"
REFUSED = r"refused (posix|nt)\.mkdir.*nothing was executed"


def _file(name, content):
    def make(folder):
        (folder / name).write_bytes(content() if callable(content) else content)
        return folder / name

    return make


def _convert(path, *options, out="out.pdparams"):
    return tool("convert_weights.py", "--input", path, "--output", out, *options)


def refused(name, content, says, case=None):
    return Row("convert", case or name, _file(name, content), _convert, says)


def _same(tensors):
    """Whether what was converted is what went in."""
    def same(_):
        found = read_file("out.pdparams").tensors
        return set(found) == set(tensors) and all(np.array_equal(found[n], a) for n, a in tensors.items())

    return same


def right(name, content, tensors=None):
    return Row("convert", name, _file(name, content), _convert, _same(network() if tensors is None else tensors))


def _paddle(change=lambda data: data):
    def content():
        save_pdparams("made", network())
        data = Path("made").read_bytes()
        Path("made").unlink()
        return change(data)

    return content


def _torch(change=lambda data: data):
    def content():
        write_torch("made", to_authors(network()))
        data = Path("made").read_bytes()
        Path("made").unlink()
        return change(data)

    return content


def _npz(change=lambda data: data, **arrays):
    def content():
        data = io.BytesIO()
        np.savez(data, **arrays)
        return change(data.getvalue())

    return content


def _header(change):
    """A file of ours, its header changed by hand."""
    def content():
        data = saved()
        length = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8:8 + length])
        header["__metadata__"] = {"format": "ppadapt.network"}
        change(header)
        return safetensors(header, data[8 + length:])

    return content


def _overlap(header):
    header["blocks.0.norm2.weight"] = dict(header[NORM])


def _twice():
    data = saved()
    length = struct.unpack("<Q", data[:8])[0]
    text = data[8:8 + length].decode().rstrip()
    return safetensors(None, data[8 + length:], f'{text[:-1]},"{NORM}":{json.dumps(entry([8], 0, 32))}}}')


def _deflated(data):
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return made.getvalue()


def _many_names():
    body = b"\0" * 4
    return safetensors({f"n{i}": entry([0], 0, 0) for i in range(60_000)} | {"x": entry([1], 0, 4)}, body)


def _broadcast():
    return torch_zip({f"blocks.{i}.mlp.fc1.weight": ((8000, 8000), (0, 0)) for i in range(12)})


def _list_copies():
    """list(list(...)) of half a million values, over and over."""
    code = b"\x80\x02]q\0(" + b"K\x01" * 500_000 + b"e0cbuiltins\nlist\nq\x010"
    return code + b"]q\x02" + b"(" + b"h\x01h\0\x85R" * 100_000 + b"e."


def _same_keys():
    """Whole numbers that all hash alike."""
    numbers = b"".join(b"\x8a\x0a" + (k * (2 ** 61 - 1)).to_bytes(10, "little") + b"K\x01" for k in range(1, 60_000))
    return b"\x80\x02}(" + numbers + b"u."


SAFETENSORS = [
    right("good.safetensors", saved),
    refused("trunc.safetensors", lambda: saved()[:3000], "cut short"),
    refused("trunc_hdr.safetensors", lambda: saved()[:500], "cut short: its header needs"),
    refused("empty.safetensors", b"", "is empty"),
    refused("bitflip.safetensors", lambda: flipped(saved(), -1000), "checksum .SHA-256. it was written with"),
    refused("bitflip_name.safetensors", lambda: flipped(saved(), 300, 1), "is damaged|does not have the checksum"),
    refused("bitflip_checksum.safetensors", lambda: flipped(saved(), 50, 1), "checksum"),
    refused("bitflip_key.safetensors", lambda: flipped(saved(), 30, 1), "is damaged, or another program changed it"),
    refused("lying_shape.safetensors", _header(lambda h: h[NORM].update(shape=[2, 3])),
            r"of shape \[2, 3\] has 32 bytes"),
    refused("overlap.safetensors", _header(_overlap), "may not overlap"),
    refused("hole.safetensors", _header(lambda h: h.pop(NORM)), "may not overlap or leave holes"),
    refused("tail.safetensors", lambda: safetensors({"a": entry([1], 0, 4)}, b"\0" * 12), "its tensors end at byte"),
    refused("negative.safetensors", _header(lambda h: h[NORM].update(data_offsets=[-8, 24])), "its header describes"),
    refused("hugeoff.safetensors", _header(lambda h: h[NORM].update(data_offsets=[0, 2**62])), "its header describes"),
    refused("dupkey.safetensors", _twice, f"its header has '{NORM}' twice"),
    refused("dupmeta.safetensors", safetensors(None, b"", '{"__metadata__":{"a":"1","a":"2"}}'), "'a' twice"),
    refused("dims70.safetensors", _header(lambda h: h[NORM].update(shape=[1] * 70)), "its header describes"),
    refused("zero_huge.safetensors", _header(lambda h: h.update(z=entry([0, 2**70], 0, 0))),
            "not the JSON it should be|its header describes"),
    refused("zero_large.safetensors", _header(lambda h: h.update(z=entry([0, 2**52, 2**40], 0, 0))),
            "header describes z"),
    refused("dtype_list.safetensors", _header(lambda h: h[NORM].update(dtype=["F32"])), "its header describes"),
    refused("dtype_unknown.safetensors", _header(lambda h: h[NORM].update(dtype="F4")), "has dtype 'F4'; choose from"),
    refused("shape_float.safetensors", _header(lambda h: h[NORM].update(shape=[8.0])), "its header describes"),
    refused("shape_true.safetensors", _header(lambda h: h[NORM].update(shape=[True])), "its header describes"),
    refused("meta_dict.safetensors", _header(lambda h: h.update(__metadata__={"ppadapt": {}})),
            "not the JSON it should"),
    Row("convert", "meta_5.safetensors", _file("meta_5.safetensors", lambda: saved({"ppadapt": "5"})),
        lambda path: _convert(path, out="out.safetensors"), "manifest is not a JSON object"),
    refused("hdr_nested.safetensors", struct.pack("<Q", 8_000_000) + b'{"a":' + b"[" * (8_000_000 - 5), "not the JSON"),
    refused("hdr_long.safetensors", struct.pack("<Q", 99_000_000) + b"{" + b" " * 99, "cut short: its header needs"),
    refused("hdr_many.safetensors", _many_names, "60,001 tensors of one file, where 50,000 are the limit"),
    refused("hdr_digits.safetensors", safetensors(None, b"", '{"a":' + "9" * 5000 + "}"), "not the JSON it should be"),
    refused("hdr_utf8.safetensors", struct.pack("<Q", 8) + b'{"\xff": 1}', "not the JSON it should be"),
    refused("name_surrogate.safetensors", safetensors(None, b"\0" * 4, '{"\\ud800":' + json.dumps(entry([1], 0,
            4)) + "}"),
            r"is no name of a tensor"),
    refused("name_control.safetensors", safetensors({"\x1b[2J\x07": entry([1], 0, 4)}, b"\0" * 4), r"\\x1b\[2J\\x07"),
    refused("name_long.safetensors", safetensors({"a" * 9_000: entry([1], 0, 4)}, b"\0" * 4), "is no name of a tensor"),
    refused("other.safetensors", lambda: saved({"format": "pt"}, **{n: None for n in network()}, conv1__weight=np.zeros(
        (3, 3), "f4")), "holds no ViT that is known here|is known"),
    refused("depth1e9.safetensors", safetensors({"__metadata__": {"format": "pt"},
            "blocks.999999999.norm1.weight": entry(
        [1], 0, 4)}, b"\0" * 4), "blocks"),
    refused("depth_digits.safetensors", safetensors({"__metadata__": {"format": "pt"}, "blocks." + "9" * 5000
            + ".norm1.weight": entry([1], 0, 4)}, b"\0" * 4), "is no name of a tensor"),
]
PICKLES = [
    right("good.pdparams", _paddle()),
    right("foreign.pdparams", lambda: pickle.dumps(network(), 2)),
    refused("trunc.pdparams", _paddle(lambda d: d[:3000]), "cut short"),
    refused("bitflip.pdparams", _paddle(lambda d: flipped(d, len(d) // 2)), "checksum .SHA-256. it was written with"),
    refused("bitflip_seal.pdparams", _paddle(lambda d: flipped(d, -78, 1)), "follows the end of its pickle"),
    refused("longer.pdparams", _paddle(lambda d: d + b"x"), "follows the end of its pickle"),
    *(refused(f"evil{p}.pdparams", evil(p), REFUSED) for p in (0, 1, 2, 3, 4)),
    refused("evil.pth", zipped({"a/data.pkl": evil(2)}, 0), REFUSED),
    refused("evil_legacy.pth", b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19." + pickle.dumps(1001, 2)
            + evil(2), REFUSED),
    refused("evil.npz", _npz(a=np.array([{}], object)), "an array of Python objects, which is a pickle"),
    refused("stack_global.pdparams", b"\x80\x04\x8c\x05posix\x8c\x05mkdir\x93\x8c\x05OWNED\x85R.", REFUSED),
    refused("inst.pdparams", b"\x80\x02(X\x05\0\0\0OWNEDiposix\nmkdir\n.", REFUSED),
    refused("obj.pdparams", b"\x80\x02(cposix\nmkdir\nX\x05\0\0\0OWNEDo.", REFUSED),
    refused("ext.pdparams", b"\x80\x04\x82\x01.", "opcode 0x82"),
    refused("buffer.pdparams", b"\x80\x05\x97.", "opcode 0x97"),
    refused("getattr.pdparams", b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93.", "refused builtins.getattr"),
    refused("dotted.pdparams", b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.__init__\x93.", "refused collections"),
    refused("name_control.pdparams", b"\x80\x02c\x1b[2J\nx\n.", r"refused \\x1b\[2J\.x"),
    refused("memo.pdparams", b"\x80\x04}r\xff\xff\xff\x7f.", "holds no tensors"),
    refused("memo_text.pdparams", b"\x80\x02}p2684354559999999999999\n.", "holds no tensors"),
    refused("bigbytes.pdparams", b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"abc.",
            "1099511627776 bytes are needed"),
    refused("bytearray.pdparams", b"\x80\x05\x96" + struct.pack("<Q", 8 << 30) + b"abc.", "bytes are needed"),
    refused("negative_text.pdparams", b"\x80\x02T\xff\xff\xff\xffabc.", "-1 bytes are needed"),
    refused("deep_list.pdparams", b"\x80\x02" + b"]" * 900_000 + b"a" * 899_999 + b".", "a list, not a dict"),
    refused("deep_dict.pdparams", b"\x80\x02" + b"}K\x01" * 300_000 + b"}" + b"s" * 300_000 + b".",
            "nested beyond reason"),
    refused("deep_tuple.pdparams", b"\x80\x02)" + b"\x85" * 3_000_000 + b".",
            "operations of one pickle, where 2,000,000"),
    refused("cycle.pdparams", b"\x80\x02}q\0K\x01h\0s.", "nested beyond reason"),
    refused("hash_bomb.pdparams", b"\x80\x02" + nested(60) + b"q\x63}h\x63K\x01s.", "as a key"),
    refused("hash_twins.pdparams", _same_keys, "over 1000 keys that are no text"),
    refused("str_bomb.pdparams", b"\x80\x02" + doubled(40) + b"cpathlib\nPath\nh\x28\x85R.", "makes a path"),
    refused("list_copies.pdparams", _list_copies, "operations of one pickle"),
    refused("bytes_copies.pdparams", b"\x80\x02c_codecs\nencode\nq\0X\x40\x42\x0f\0" + b"a" * 1_000_000 + b"q\x01"
            + b"h\0h\x01\x85R0" * 100_000 + b".", "copies its text or bytes over and over"),
    refused("extras_bomb.pdparams", lambda: pickle.dumps({**{f"k{i}": shared_list() for i in range(30)},
            NORM: np.zeros(3, "f4")}, 2),
            "where 2,000,000 are the limit; if you trust it, set PPADAPT_MAX_VALUES higher"),
    refused("beside_bomb.pdparams", lambda: pickle.dumps({"model": {NORM: np.zeros(3, "f4")},
            **{f"k{i}": shared_list() for i in range(30)}}, 2), "PPADAPT_MAX_VALUES"),
    refused("one_array_many_names.pdparams", lambda: pickle.dumps(dict.fromkeys(
        (f"n{i}" for i in range(3000)), np.zeros(10**5, "f4")), 2), "claims tensors of 1,200 MB"),
    refused("long_number.pdparams", b"\x80\x02\x8b\x00\x00\x10\x00" + b"9" * (1 << 20) + b".",
            "a whole number of 1048576"),
    refused("long_digits.pdparams", b"I" + b"9" * 5000 + b"\n.", "of 5000 digits|of an unknown format|a text file"),
    refused("object_array.pdparams", lambda: pickle.dumps({"w": np.array([{}], object)}, 4), "only numbers are taken"),
    refused("dtype_fields.pdparams", lambda: pickle.dumps({"w": np.zeros(2, "f4,i8")}, 2), "only numbers are taken"),
    refused("set_state.pdparams", b"\x80\x02cargparse\nNamespace\n}X\x01\x00\x00\x00aK\x01sb.", "tries to alter"),
    refused("list.pdparams", pickle.dumps([1, 2]), "holds a list"),
    refused("no_tensors.pdparams", pickle.dumps({"a": 1}), "holds no tensors"),
]
_FLOATS = "{{'descr': '<f4', 'fortran_order': False, 'shape': ({},), }}"
ZIPS = [
    right("good.pth", _torch()),
    right("deflated.pth", _torch(_deflated)),
    refused("trunc.pth", _torch(lambda d: d[:3000]), "cut short or damaged"),
    refused("bitflip.pth", _torch(lambda d: flipped(d, len(d) // 2)), r"checksum .CRC-32. it was written with"),
    refused("deflated_corrupt.pth", _torch(lambda d: flipped(_deflated(d), 60, 0xff)), "damaged|checksum"),
    refused("encrypted.pth", _torch(flagged), "is encrypted; unpack it with the password"),
    refused("zipbomb.pth", lambda: zipped({"a/data.pkl": bytes(64 << 20)}), "would unpack to 67 MB.*PPADAPT_MAX_RATIO"),
    refused("broadcast_bomb.pth", _broadcast, "claims tensors of 3,072 MB.*PPADAPT_MAX_RATIO"),
    refused("dims70.pth", lambda: torch_zip({NORM: ((1,) * 70, (1,) * 70)}), "its pickle is cut short or damaged"),
    refused("stride.pth", lambda: torch_zip({NORM: ((2,), (-1,))}), "a tensor with offset 0, shape .2,., strides"),
    refused("beyond.pth", lambda: torch_zip({NORM: ((5,), (1,))}), "reaches beyond its storage"),
    refused("script.pt", zipped({"m/data.pkl": b"\x80\x02N.", "m/constants.pkl": b"\x80\x02N."}, 0), "TorchScript"),
    refused("module.pth", zipped({"a/data.pkl": b"\x80\x02(X\x06\0\0\0moduleX\x01\0\0\0atQ."}, 0), "a whole nn.Module"),
    refused("twice.pth", lambda: _double_entry(), "has a name twice"),
    refused("bomb.npz", lambda: zipped({"cls.npy": npy(_FLOATS.format(16777216)) + bytes(64 << 20)}),
            "would unpack to 67 MB"),
    refused("hugeclaim.npz", zipped({"cls.npy": npy(_FLOATS.format(1 << 50))}), "of shape .1125899906842624,. has 0"),
    refused("badhdr.npz", zipped({"cls.npy": npy("{'descr': (((((")}), "the header of its array cls"),
    refused("calls.npz", zipped({"cls.npy": npy("{'descr': __import__('os').mkdir('OWNED'), 'fortran_order': False, "
                                                "'shape': (1,), }")}), "the header of its array cls"),
    refused("fields.npz", _npz(cls=np.zeros(3, "f4,i8")), "only arrays of numbers"),
    refused("strings.npz", _npz(cls=np.array(["a"])), "only arrays of numbers"),
    refused("bitflip.npz", _npz(lambda d: flipped(d, 200), cls=np.ones(100, "f4")), "checksum .CRC-32."),
    refused("not_npy.npz", zipped({"cls.npy": b"hello"}), "is no array of numpy"),
    refused("other.zip", zipped({"\x1b]0;owned\x07.txt": b"hello"}), r"zip archive of \\x1b"),
]
OTHERS = [
    refused("text.pth", b"hello world\n" * 30, "a text file"),
    refused("lfs.pth", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    refused("html.pth", b"<!DOCTYPE html><html>", "HTML"),
    refused("zeros.pth", bytes(4096), "begins with zeros only"),
    refused("gzip.pth", b"\x1f\x8b\x08\x00rest", "gzip archive"),
    refused("unknown.pth", b"\xde\xad\xbe\xef" * 40, "unknown format"),
    Row("convert", "a folder", lambda folder: folder, _convert, "is a folder"),
    Row("convert", "nothing there", lambda folder: folder / "none.pth", _convert, "does not exist"),
    Row("convert", "a pipe", lambda folder: _pipe(folder / "p.pth"), _convert, "is a pipe or a device"),
    Row("convert", "the output exists", lambda folder: _beside(folder, "out.pdparams"), _convert,
            "exists; give another"),
    Row("convert", "the output is the input", lambda folder: _file("in.pdparams", _paddle())(folder),
        lambda path: _convert(path, "--force", out="in.pdparams"), "is the file to be read"),
    Row("convert", "the output is a folder", lambda folder: _beside(folder, "out.pdparams", True), _convert,
        "is a folder; give a file name"),
    Row("convert", "another suffix", _file("good.pdparams", _paddle()),
        lambda path: _convert(path, out="out.bin"), "--output out.bin ends in .bin"),
    *(Row("convert", f"a name in the environment: {value}", _file("good.pdparams", _paddle()),
          lambda path, value=value: _with_environment("PPADAPT_MAX_RATIO", value, path),
          "PPADAPT_MAX_RATIO is .* give a whole number") for value in ("many", "1e3", "-1", "9" * 50)),
]


def _double_entry():
    import warnings
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for content in (b"\x80\x02N.", b"\x80\x02}."):
            archive.writestr("a/data.pkl", content)
    return data.getvalue()


def _pipe(path):
    import os
    os.mkfifo(path)
    return path


def _beside(folder, name, is_folder=False):
    (folder / name).mkdir() if is_folder else (folder / name).write_bytes(b"mine")
    return _file("good.pdparams", _paddle())(folder)


def _with_environment(name, value, path):
    import os
    os.environ[name] = value
    try:
        return _convert(path)
    finally:
        del os.environ[name]


ROWS = SAFETENSORS + PICKLES + ZIPS + OTHERS
