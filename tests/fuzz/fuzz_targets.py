"""Every reader of strangers' bytes, as a function of bytes that may only raise UserError.

No Paddle here: what reads files needs numpy and Pillow alone, so that a fuzzer makes thousands of calls a second.
"""
from __future__ import annotations

import atexit
import contextlib
import hashlib
import importlib.util
import io
import json
import logging
import os
import re
import shutil
import struct
import tempfile
import zipfile
from pathlib import Path
from typing import Callable, Iterator

import numpy as np

from ppadapt import config
from ppadapt.config import load, overrides
from ppadapt.config.reading import parse_yaml
from ppadapt.data import DATASETS, decode_image
from ppadapt.data.cifar import read_batch
from ppadapt.engine import old_checkpoint
from ppadapt.engine.checkpoint import read as read_checkpoint
from ppadapt.errors import UserError, printable
from ppadapt.serve.sums import check as check_sums
from ppadapt.weights import RawCheckpoint, load_tuned, read_file, read_peft, save_safetensors, to_ours
from ppadapt.weights.folder import read as read_weights
from ppadapt.weights.formats.paddle_file import read_paddle
from ppadapt.weights.formats.safetensors_file import read_safetensors
from ppadapt.weights.formats.torch_file import LEGACY_START, read_legacy
from ppadapt.weights.settings import read_settings

if importlib.util.find_spec("paddle") is None:  # which alone knows the optimizers' names
    config._complaints = lambda tree: []
logging.getLogger("ppadapt").setLevel(logging.CRITICAL)
QUICK = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # where files are made
FOLDER = Path(tempfile.mkdtemp(prefix="ppadapt-fuzz-", dir=QUICK))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
CORPUS = Path(__file__).with_name("corpus")
PNG = b"\x89PNG\r\n\x1a\n"


@contextlib.contextmanager
def a_folder() -> Iterator[None]:
    """Another folder for what the targets write, which goes, however a process ends that was forked meanwhile."""
    global FOLDER
    before, FOLDER = FOLDER, Path(tempfile.mkdtemp(prefix="ppadapt-fuzz-", dir=QUICK))
    try:
        yield
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER = before


def _file(name: str, data: bytes) -> str:
    path = FOLDER / name
    path.write_bytes(data)
    return str(path)


def _use(raw: RawCheckpoint) -> None:
    """What is read must also bear being looked at."""
    for name, array in raw.tensors.items():
        assert isinstance(name, str) and array.shape is not None
        np.asarray(array).sum(dtype=complex)


def pickle_paddle(data: bytes) -> None:
    """A pickle as a .pdparams."""
    _use(read_paddle(_file("a.pdparams", data or b".")))


def pickle_zip(data: bytes) -> None:
    """A pickle inside PyTorch's zip, over one storage."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a/data.pkl", data)
        archive.writestr("a/data/0", bytes(64))
    _use(read_file(_file("a.pth", stream.getvalue())))


def pickle_legacy(data: bytes) -> None:
    """The pickles and storages of PyTorch's old format, after its two fixed numbers."""
    _use(read_legacy(_file("b.pth", LEGACY_START + b"\x80\x02M\xe9\x03." + data)))


def any_file(data: bytes) -> None:
    """A file of any kind: zip, .npz, text ..."""
    _use(read_file(_file("c", data)))


def npz(data: bytes) -> None:
    """An array inside an .npz."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.npy", data)
    _use(read_file(_file("a.npz", stream.getvalue())))


def safetensors(data: bytes) -> None:
    """A .safetensors, whole; or its header, and then as many zeros as its last tensor wants."""
    if data[:1] == b"{":
        ends = [int(end) for end in re.findall(rb"(\d{1,4})\]\s*\}", data)]
        data = struct.pack("<Q", len(data)) + data + bytes(max(ends, default=0))
    _use(read_safetensors(_file("a.safetensors", data.ljust(8))))


def tuned_file(data: bytes) -> None:
    """The manifest of a tuned file."""
    path = str(FOLDER / "t.safetensors")
    save_safetensors(path, {"head.1.bias": np.zeros(3, "f4")}, {"ppadapt": data.decode("utf-8", "replace")})
    load_tuned(path)


def layouts(data: bytes) -> None:
    """Names and shapes of tensors, a line each: `blocks.0.norm1.weight 8 8`; the first line is a format."""
    lines = data.decode("utf-8", "replace").split("\n")
    tensors = _shapes(lines[1:])
    extras = {"format": "pt"} if len(data) % 2 else {"ppadapt": "{}"} if len(data) % 7 == 0 else {}
    to_ours(RawCheckpoint(tensors, lines[0][:20], "x", extras))


def yaml(data: bytes) -> None:
    """A config file."""
    load(_file("config.yaml", data))


def override(data: bytes) -> None:
    """`-o`."""
    text = data.decode("utf-8", "replace")
    overrides.apply({"Global": {"epochs": 1}, "Infer": {"transforms": [{"ResizeImage": {"size": 8}}]}}, text)
    overrides.values(text)


def yaml_text(data: bytes) -> None:
    """What a manifest of an export is read with."""
    try:
        parse_yaml(data.decode("utf-8", "replace"))
    except ValueError as error:  # its callers say which file
        raise UserError(str(error)) from None


def cifar(data: bytes) -> None:
    """A batch of CIFAR: read, and as the data set takes it."""
    batch = read_batch(data, "data_batch_1")
    assert all(isinstance(key, str) for key in batch)


def cifar_archive(data: bytes) -> None:
    """An archive of CIFAR-100."""
    DATASETS["CIFAR100"]("train", root=_file("cifar-100-python.tar.gz", data), download=False)


def cifar_folder(data: bytes) -> None:
    """The three files of CIFAR-100 in one, split at 0xFFFF: train, test, meta."""
    folder = FOLDER / "cifar-100-python"
    folder.mkdir(exist_ok=True)
    parts = (data.split(b"\xff\xff") + [b"", b""])[:3]
    for name, part in zip(("train", "test", "meta"), parts):
        (folder / name).write_bytes(part)
    os.utime(folder, ns=(1, len(data) * 10**6 + sum(data)))  # it is decoded once for each time stamp
    DATASETS["CIFAR100"]("train", root=folder, download=False)


def image_list(data: bytes) -> None:
    """PaddleClas's list of images, and of class names."""
    listing, _, names = data.partition(b"\0")
    options = {"class_id_map_file": _file("names.txt", names)} if names else {}
    DATASETS["ImageNetDataset"](image_root=FOLDER, cls_label_path=_file("list.txt", listing), on_error="skip",
                                **options)


def multi_label(data: bytes) -> None:
    """PaddleClas's list of several labels, and of class names."""
    listing, _, names = data.partition(b"\0")
    options = {"class_id_map_file": _file("names.txt", names)} if names else {}
    (FOLDER / "a.png").touch()
    DATASETS["MultiLabelDataset"](image_root=FOLDER, cls_label_path=_file("list.txt", listing), on_error="skip",
                                  **options)


def nus_wide(data: bytes) -> None:
    """NUS-WIDE's list of images, of concepts, and the labels of two, split at NUL."""
    root = FOLDER / "nus"
    parts = dict(zip(("ImageList/TrainImagelist.txt", "ConceptsList/Concepts81.txt",
                      "Groundtruth/TrainTestLabels/Labels_a_Train.txt",
                      "Groundtruth/TrainTestLabels/Labels_b_Train.txt"), data.split(b"\0")))
    for name, part in parts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(part)
    DATASETS["NUSWIDE"]("train", root=root, image_root=FOLDER, on_error="skip")


def settings(data: bytes) -> None:
    """config.json, open_clip_config.json and preprocessor_config.json beside a network, split at NUL."""
    folder = FOLDER / "settings"
    folder.mkdir(exist_ok=True)
    for name, part in zip(("config.json", "open_clip_config.json", "preprocessor_config.json"), data.split(b"\0")):
        (folder / name).write_bytes(part) if part else (folder / name).unlink(missing_ok=True)
    done = to_ours(_network(), settings=read_settings(str(folder / "model.safetensors")))
    assert all(printable(line) == line for line in done.notes())
    done.facts.arch_line(), done.facts.normalize_line()
    json.loads(done.facts.to_text())
    done.raise_if_incomplete()


def network_facts(data: bytes) -> None:
    """What a converted file says of its network, in its metadata."""
    facts = to_ours(_network(network=data.decode("utf-8", "replace"), format="ppadapt.network")).facts
    facts.arch_line(), facts.normalize_line(), facts.to_text()


def peft(data: bytes) -> None:
    """A peft folder: its config, then after NUL names and shapes of its tensors, a line each."""
    folder = FOLDER / "peft"
    folder.mkdir(exist_ok=True)
    config, _, names = data.partition(b"\0")
    (folder / "adapter_config.json").write_bytes(config)
    tensors = _shapes(names.decode("utf-8", "replace").split("\n")) or {
        f"base_model.model.blocks.0.attn.qkv.lora_{side}.weight": np.ones(shape, "f4")
        for side, shape in (("A", (2, 4)), ("B", (12, 2)))}
    try:
        save_safetensors(str(folder / "adapter_model.safetensors"), tensors, {"format": "pt"})
    except UnicodeEncodeError:
        return
    read_peft(folder, to_ours(_network()))


def sharded(data: bytes) -> None:
    """The index of weights in several files."""
    folder = FOLDER / "sharded"
    folder.mkdir(exist_ok=True)
    for name in "ab":
        save_safetensors(str(folder / f"{name}.safetensors"), {name: np.zeros(2, "f4")}, {"format": "pt"})
    (folder / "model.safetensors.index.json").write_bytes(data)
    read_weights(folder)


def sums(data: bytes) -> None:
    """SHA256SUMS of an exported folder."""
    folder = FOLDER / "exported"
    folder.mkdir(exist_ok=True)
    (folder / "a").touch()
    (folder / "SHA256SUMS").write_bytes(data)
    check_sums(folder)


def checkpoint(data: bytes) -> None:
    """progress.json of a checkpoint, with the checksums that fit it and its files, and its tensors after NUL."""
    folder = FOLDER / "step-000001"
    folder.mkdir(exist_ok=True)
    content, _, state = data.partition(b"\0")
    (folder / "state.safetensors").write_bytes(state)
    (folder / "tuned.safetensors").write_bytes(b"")
    sums = {f"{name}.safetensors": hashlib.sha256(held).hexdigest()
            for name, held in (("state", state), ("tuned", b""))}
    text = content.decode("utf-8", "replace").replace('"files": {}', f'"files": {json.dumps(sums)}')
    sealed = {"content": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    (folder / "progress.json").write_bytes(json.dumps(sealed).encode() if len(data) % 8 else content)
    read_checkpoint(folder)


def old_progress(data: bytes) -> None:
    """latest.pdstates of version 0.1."""
    old_checkpoint.read(Path(_file("latest.safetensors", b"")), Path(_file("latest.pdstates", data)))


def _network(**extras: str) -> RawCheckpoint:
    """A tiny network, Linear weights [out, in] as timm's, or [in, out] where `extras` say that it is ours."""
    draw, dim = np.random.default_rng(0), 4
    shapes = {"cls_token": (1, 1, dim), "pos_embed": (1, 5, dim), "patch_embed.proj.weight": (dim, 3, 2, 2),
              "patch_embed.proj.bias": (dim,), "norm.weight": (dim,), "norm.bias": (dim,)}
    for layer, width, out in (("attn.qkv", dim, 3 * dim), ("attn.proj", dim, dim), ("mlp.fc1", dim, 4 * dim),
                              ("mlp.fc2", 4 * dim, dim)):
        shapes[f"blocks.0.{layer}.weight"] = (width, out) if extras else (out, width)
        shapes[f"blocks.0.{layer}.bias"] = (out,)
    shapes.update({f"blocks.0.norm{i}.{what}": (dim,) for i in (1, 2) for what in ("weight", "bias")})
    return RawCheckpoint({name: draw.normal(0, 0.1, shape).astype("f4") for name, shape in shapes.items()},
                         "safetensors", str(FOLDER / "x.safetensors"), extras or {"format": "pt"})


def _shapes(lines: list[str]) -> dict[str, np.ndarray]:
    tensors = {}
    for line in lines[:60]:
        name, *shape = line.split(" ")
        if name:
            tensors[name] = np.zeros([min(int(n), 40) if n.isascii() and n.isdigit() else 1 for n in shape[:4]], "f4")
    return tensors


def image(data: bytes) -> None:
    """A picture."""
    pixels = decode_image(data)
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3


TARGETS: dict[str, Callable[[bytes], None]] = {function.__name__: function for function in (
    pickle_paddle, pickle_zip, pickle_legacy, any_file, npz, safetensors, tuned_file, layouts, yaml, override,
    yaml_text, cifar, cifar_archive, cifar_folder, image_list, multi_label, nus_wide, settings, network_facts, peft,
    sharded, sums, checkpoint, old_progress, image)}


def call(name: str, data: bytes) -> None:
    """One call of a target. Whatever leaves it is a finding."""
    try:
        TARGETS[name](data)
    except UserError as error:
        said = str(error)
        assert printable(said) == said, repr(said)


def seeds(name: str) -> list[bytes]:
    """What the corpus has for a target."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


def describe() -> str:
    """The corpus in numbers."""
    return json.dumps({name: [len(seeds(name)), sum(map(len, seeds(name)))] for name in TARGETS})
