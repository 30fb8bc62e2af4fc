"""What hostile and damaged files are made of."""
from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile

import numpy as np

from ppadapt.weights import save_safetensors
from ppadapt.weights.formats.pickle_write import Call, Global, Persistent, dump


def network(dim=8, depth=2):
    """A tiny ViT under our names, Linear weights [in, out]."""
    draw = np.random.default_rng(0)
    shapes = {"cls_token": (1, 1, dim), "pos_embed": (1, 5, dim), "patch_embed.proj.weight": (dim, 3, 4, 4),
              "patch_embed.proj.bias": (dim,), "norm.weight": (dim,), "norm.bias": (dim,)}
    for i in range(depth):
        for layer, (a, b) in (("attn.qkv", (dim, 3 * dim)), ("attn.proj", (dim, dim)), ("mlp.fc1", (dim, 4 * dim)),
                              ("mlp.fc2", (4 * dim, dim))):
            shapes[f"blocks.{i}.{layer}.weight"], shapes[f"blocks.{i}.{layer}.bias"] = (a, b), (b,)
        for layer in ("norm1", "norm2"):
            shapes[f"blocks.{i}.{layer}.weight"] = shapes[f"blocks.{i}.{layer}.bias"] = (dim,)
    return {name: draw.normal(0, 0.02, shape).astype("f4") for name, shape in shapes.items()}


def safetensors(header, body=b"", text=None):
    data = (json.dumps(header) if text is None else text).encode()
    data += b" " * (-len(data) % 8)
    return struct.pack("<Q", len(data)) + data + body


def entry(shape, first, last, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}


def saved(metadata=None, **changed):
    """The bytes of a .safetensors that this package wrote, with some tensors changed, None: left out."""
    tensors = {**network(), **{name.replace("__", "."): value for name, value in changed.items()}}
    save_safetensors("made.safetensors", {n: a for n, a in tensors.items() if a is not None},
                     {"format": "ppadapt.network"} if metadata is None else metadata)
    with open("made.safetensors", "rb") as file:
        data = file.read()
    os.remove("made.safetensors")
    return data


class Evil:
    """Pickles as a call of os.mkdir."""

    def __reduce__(self):
        return os.mkdir, ("OWNED",)


def torch_zip(tensors, storage=b"\0" * 16, compression=zipfile.ZIP_STORED, **extra):
    """A .pth: name -> (shape, strides) over one storage of 4 floats."""
    hooks = Call(Global("collections", "OrderedDict"), ())
    kept = Persistent(("storage", Global("torch", "FloatStorage"), "0", "cpu", len(storage) // 4))
    model = {name: Call(Global("torch._utils", "_rebuild_tensor_v2"), (kept, 0, shape, strides, False, hooks))
             for name, (shape, strides) in tensors.items()}
    pickled, data = io.BytesIO(), io.BytesIO()
    dump(pickled, {"model": model, **extra}, 2)
    with zipfile.ZipFile(data, "w", compression) as archive:
        archive.writestr("a/data.pkl", pickled.getvalue())
        archive.writestr("a/data/0", storage)
    return data.getvalue()


def zipped(entries, compression=zipfile.ZIP_DEFLATED):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return data.getvalue()


def npy(header):
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def flagged(data, bit=1):
    """A zip file whose entries are marked as encrypted."""
    data = bytearray(data)
    for sign, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = -1
        while (start := data.find(sign, start + 1)) >= 0:
            data[start + at] |= bit
    return bytes(data)


def flipped(data, at, bit=0x10):
    data = bytearray(data)
    data[at] ^= bit
    return bytes(data)


def nested(levels, opcode=b"\x86"):
    """Opcodes of a tuple of itself twice, memoised, `levels` deep: short to write, endless to look at."""
    code = b"K\x01q\0"
    for i in range(levels):
        code += b"h" + bytes([i]) + b"h" + bytes([i]) + opcode + b"q" + bytes([i + 1])
    return code + b"0h" + bytes([levels])


def doubled(levels):
    """Opcodes of a list of itself twice."""
    code = b"]q\0K\x01a"
    for i in range(levels):
        code += b"]q" + bytes([i + 1]) + b"(h" + bytes([i]) + b"h" + bytes([i]) + b"e"
    return code


def shared_list(depth=5):
    values = [1] * 10
    for _ in range(depth):
        values = [values] * 10
    return values


def evil(protocol):
    return pickle.dumps({"x": Evil()}, protocol)
