"""Writes the seeds of the corpus: small right files of every kind, and the bad ones of tests/trust.

    python tests/fuzz/make_corpus.py

What a fuzzer finds is added by hand, under a name that begins with found-.
"""
from __future__ import annotations

import hashlib
import io
import json
import pickle
import struct
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE), str(HERE.parent / "trust")]

import trust_inputs as made  # noqa: E402

from ppadapt.weights import save_safetensors, save_tuned  # noqa: E402
from ppadapt.weights.formats.pickle_write import dump  # noqa: E402

LARGEST = 5000  # bytes of a seed


def pickles() -> dict[str, bytes]:
    small = {"w": np.arange(6, dtype="f4").reshape(2, 3), "n": 3, "t": (1, 2.5, None, True), "s": {1, "a"}, "b": b"xy"}
    found = {f"protocol{p}": pickle.dumps(small, p) for p in (0, 1, 2, 4, 5)}
    for name, data in {"evil": made.evil(2), "hash": b"\x80\x02}" + made.nested(20) + b"K\x01s.",
                       "memo": b"\x80\x04}r\xff\xff\xff\x7f.", "inst": b"\x80\x02(X\x01\0\0\0aiposix\nmkdir\n.",
                       "long": b"\x80\x02\x8b\x04\0\0\0abcd.", "set": b"\x80\x04\x8f(K\x01K\x02\x90.",
                       "doubled": b"\x80\x02" + made.doubled(12) + b"."}.items():
        found[name] = data
    return found


def torch_pickle() -> bytes:
    import zipfile
    with zipfile.ZipFile(io.BytesIO(made.torch_zip({"w": ((2, 2), (2, 1))}, epoch=3, args={"lr": 0.1}))) as archive:
        return archive.read("a/data.pkl")


def legacy() -> bytes:
    tail = io.BytesIO()
    dump(tail, ["0"], 2)
    return (pickle.dumps({"little_endian": True}, 2) + torch_pickle() + tail.getvalue()
            + struct.pack("<q", 4) + bytes(16))


def saved(write) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write(f"{folder}/x")
        return Path(f"{folder}/x").read_bytes()


def images() -> dict[str, bytes]:
    draw = np.random.default_rng(0)
    picture = Image.fromarray(draw.integers(0, 256, (5, 7, 3)).astype(np.uint8))
    found = {}
    for kind, options in (("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("GIF", {}), ("BMP", {}),
                          ("WEBP", {}), ("WEBP", {"lossless": True}), ("TIFF", {}),
                          ("TIFF", {"compression": "tiff_lzw"}), ("PPM", {})):
        stream = io.BytesIO()
        picture.save(stream, kind, **options)
        found[f"{kind.lower()}-{'-'.join(map(str, options.values())) or 'plain'}".lower()] = stream.getvalue()
    for mode in ("L", "P", "1", "CMYK", "RGBA", "I;16"):
        stream = io.BytesIO()
        gray = Image.fromarray(draw.integers(0, 65536, (5, 7)).astype(np.uint16))
        (gray if mode == "I;16" else picture.convert(mode)).save(stream, "TIFF" if mode == "CMYK" else "PNG")
        found[f"mode-{mode.lower().replace(';', '')}"] = stream.getvalue()
    exif = picture.getexif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    picture.save(stream, "JPEG", exif=exif)
    return {**found, "exif": stream.getvalue(), "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n",
            "plain-ppm": b"P3\n2 1\n255\n1 2 3 4 5 6\n", "pfm": b"Pf\n1 1\n-1.0\n\0\0\0\0"}


def cifar() -> dict[str, bytes]:
    pixels = np.zeros((2, 3072), np.uint8)
    train = {b"data": pixels[:1], b"fine_labels": [1], b"coarse_labels": [0]}
    meta = {b"fine_label_names": [b"a", b"b"], b"coarse_label_names": [b"c"]}
    return {"train": pickle.dumps(train, 2), "meta": pickle.dumps(meta, 2),
            "negative": pickle.dumps({**train, b"fine_labels": [-1]}, 2), "float": pickle.dumps(
                {**train, b"fine_labels": [0.5]}, 2)}


def archive(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(f"cifar-100-python/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def settings() -> dict[str, bytes]:
    vit = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "layer_norm_eps": 1e-12,
           "hidden_act": "gelu", "image_size": 4, "patch_size": 2}
    pixels = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 4, "width": 4}, "resample": 2}
    clip = {"model_cfg": {"quick_gelu": True, "vision_cfg": {"image_size": 4, "layers": 1, "width": 4, "patch_size": 2,
                                                             "head_width": 2}}, "preprocess_cfg": {"mean": [0, 0, 0]}}
    timm = {"architecture": "vit_base_patch16_224.mae", "model_args": {"num_heads": 2, "act_layer": "gelu"},
            "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 4, 4], "crop_pct": 0.9}}
    found = {"vit": (vit, None, pixels), "clip": (None, clip, None), "timm": (timm, None, None),
             "vision": ({"vision_config": vit}, None, None), "nan": (dict(vit, hidden_size=float("nan")), None, None),
             "unhashable": (dict(vit, hidden_act=[]), None, dict(pixels, size=[])), "swiglu": (
                 dict(vit, use_swiglu_ffn=True, num_register_tokens=1e400), None, None)}
    return {name: b"\0".join(b"" if part is None else json.dumps(part).encode() for part in parts)
            for name, parts in found.items()}


def peft() -> dict[str, bytes]:
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "lora_dropout": 0.1, "bias": "none", "use_rslora": False,
              "alpha_pattern": {"attn.qkv": 3}}
    return {"good": json.dumps(config).encode(),
            "regex": json.dumps({**config, "alpha_pattern": {"(.+)+x": 1}}).encode(),
            "bracket": json.dumps({**config, "alpha_pattern": {"(": 1}}).encode(),
            "list": json.dumps({**config, "alpha_pattern": [1], "lora_dropout": "x"}).encode(),
            "rank0": json.dumps(config).encode() + b"\0base_model.model.blocks.0.attn.qkv.lora_A.weight 0 4\n"
                     b"base_model.model.blocks.0.attn.qkv.lora_B.weight 12 0",
            "head": json.dumps(config).encode() + b"\0base_model.model.blocks.0.attn.proj.lora_A.weight 1 4\n"
                    b"base_model.model.blocks.0.attn.proj.lora_B.weight 4 1\nbase_model.model.head.weight 3 4"}


def network_facts() -> dict[str, bytes]:
    said = {"told": {"act": ["gelu", "the file"]}, "assumed": {"num_heads": [2, "usual"]}, "asked": {"pool": "cls"},
            "preprocess": {"mean": [0.5] * 3, "std": [0.5] * 3}, "preprocess_from": "config.json", "resize": "plain"}
    return {"good": json.dumps(said).encode(), "mean": json.dumps({**said, "preprocess": {
        "mean": 5, "std": ["x"]}}).encode(), "depth": json.dumps({**said, "told": {"depth": [[1], "x"]}}).encode()}


def corpus() -> dict[str, dict[str, bytes]]:
    batches = cifar()
    files = {"train": batches["train"], "test": batches["train"], "meta": batches["meta"]}
    header = {"__metadata__": {"format": "pt"}, "a": made.entry([2, 2], 0, 16), "b": made.entry([2], 16, 20, "BF16")}
    network = made.network(4, 1)
    manifest = saved(lambda path: save_tuned(path, {"head.1.bias": np.zeros(2, "f4")}, {
        "tuning": [{"name": "AdaptFormer", "bottleneck": 4}], "backbone": {"name": "vit", "options": {}},
        "head": "Linear", "preprocess": [], "classes": ["a", "b"], "metrics": {}}))
    length = struct.unpack("<Q", manifest[:8])[0]
    names = "\n".join(f"{name} {' '.join(map(str, array.shape))}" for name, array in network.items())
    npy = {kind: saved(lambda path, array=array: np.save(open(path, "wb"), array)) for kind, array in {
        "f4": np.zeros((2, 3), "f4"), "fortran": np.asfortranarray(np.ones((2, 3))), "text": np.array(["a"]),
        "objects": np.array([None], object), "scalar": np.array(1.0)}.items()}
    return {
        "pickle_paddle": pickles(), "pickle_zip": {**pickles(), "torch": torch_pickle()},
        "pickle_legacy": {"good": legacy(), "cut": legacy()[:60]},
        "any_file": {"zip": made.zipped({"a": b"hello"}), "torch": made.torch_zip({"w": ((2,), (1,))}),
                     "deflated": made.torch_zip({"w": ((2,), (1,))}, compression=8), "html": b"<html>",
                     "npz": made.zipped({"a.npy": npy["f4"]}),
                     "encrypted": made.flagged(made.zipped({"a.npy": npy["f4"]}))},
        "npz": npy,
        "safetensors": {"header": json.dumps(header).encode(), "whole": made.safetensors(header, bytes(20)),
                        "ours": saved(lambda path: save_safetensors(path, {"a": np.zeros(3, "f4")}, {"format": "x"}))},
        "tuned_file": {"good": json.loads(manifest[8:8 + length])["__metadata__"]["ppadapt"].encode(), "empty": b"{}",
                       "list": b"[]"},
        "layouts": {"ours": f"paddle\n{names}".encode(), "torch": f"torch-zip\n{names}\n".encode(),
                    "jax": b"npz\nTransformer/encoderblock_0/LayerNorm_0/scale 4\nTransformer/encoderblock_0/"
                           b"MultiHeadDotProductAttention_1/query/kernel 4 2 2\nembedding/kernel 4 4 3 4",
                    "prompts": b"torch-zip\nprompts.0 5\nblocks.0.adaptmlp.down_proj.bias\nblocks.99.norm1.weight 4"},
        "yaml": {
            "whole": b"Arch: {name: vit_micro_patch4_32}\nDataLoader:\n  Train: &t\n    dataset: {name: Digits}\n"
                     b"  Eval: *t\nTuning: [{name: VPT, num_prompts: 3}]\nLoss: {Train: [CELoss: {weight: 1e-1}]}\n",
            "aliases": b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
            "tag": b"a: !!python/object/apply:os.system [x]\n",
            "date": b"a: 2001-99-99\nb: 1e5\nc: 0x1F\n"},
        "override": {"number": b"Global.epochs=5", "list": b"Infer.transforms.0.ResizeImage.size=3",
                     "text": b"Infer.infer_imgs=*.png", "map": b"Tuning={name: VPT, num_prompts: 3}"},
        "yaml_text": {"export": b"Global: {model_name: vit}\nppadapt:\n  input: {shape: [null, 3, 8, 8]}\n",
                      "block": b"a: |\n  x\n  y\nb: >-\n  z\n? c\n: d\n", "quotes": b"a: 'x''y'\nb: \"\\u00e9\\n\"\n"},
        "cifar": batches, "cifar_folder": {"good": b"\xff\xff".join(files.values())},
        "cifar_archive": {"good": archive(files), "empty": archive({}), "tar": b"cifar-100-python/train" + bytes(490)},
        "image_list": {"plain": b"a.png 0\nb c.png 1\n", "names": b"a.png 0\nb.png 1\n\x000 cat\n1 dog\n",
                       "large": b"a.png 1000000000\n", "sign": b"a.png -1\n", "other": "é.png ²\n".encode()},
        "multi_label": {"plain": b"a.png\t0,1,1\nb c.png\t1,0,0\n", "names": b"a.png\t0,1\n\x000 cat\n1 dog\n",
                        "short": b"a.png\t0,1\na.png\t0\n", "digits": b"a.png\t0,1\n\x00" + b"9" * 4400 + b" cat\n"},
        "nus_wide": {"plain": b"x\\a.png\nb.png\n\0a\nb\n\x000\n1\n\x001\n0\n", "short": b"a.png\n\0a\n\x000\n1\n",
                     "absent": b"a.png\n\0a\nc\n\x000\n\x001\n"},
        "settings": settings(), "peft": peft(), "network_facts": network_facts(),
        "sharded": {"good": json.dumps({"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}).encode(),
                    "out": b'{"weight_map": {"a": "../a.safetensors"}}', "itself": b'{"weight_map": {"a": '
                    b'"model.safetensors.index.json"}}', "number": b'{"weight_map": {"a": 5}}',
                    "missing": b'{"metadata": {"total_size": 1}, "weight_map": {"c": "a.safetensors"}}'},
        "sums": {"good": hashlib.sha256(b"").hexdigest().encode() + b"  a\n", "out": b"0" * 64 + b" *../a\n"},
        "checkpoint": {"good": json.dumps({"format": 1, "epoch": 1, "batch": 0, "files": {}}).encode() + b"\0"
                       + made.safetensors({"a": made.entry([2], 0, 8)}, bytes(8)), "format": b'{"format": "x"}',
                       "out": b'{"format": 1, "files": {"../../etc/passwd": "0"}}'},
        "old_progress": {"good": pickle.dumps({"epoch": 1, "optimizer": {"a": np.zeros(2, "f4")}, "history": [],
                                               "best": {}, "seconds": 1.0, "schedule": {"last_epoch": 3}}, 2),
                         "evil": made.evil(2)},
        "image": images()}


def main() -> None:
    for name, files in corpus().items():
        folder = HERE / "corpus" / name
        folder.mkdir(parents=True, exist_ok=True)
        if name == "cifar_folder":
            files = {**files, "cut": files["good"][:200]}
        for file, data in files.items():
            if len(data) <= LARGEST or name in ("cifar", "cifar_folder"):
                (folder / file).write_bytes(data)


if __name__ == "__main__":
    main()
