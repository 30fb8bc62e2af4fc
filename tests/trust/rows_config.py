"""Configs: files, `-o`, and values that are no values."""
from __future__ import annotations

import os

from trust_table import Row

from ppadapt import build, config
from ppadapt.runs.plans import seed_list

TINY = """
Global: {epochs: 1, output_dir: out, use_visualdl: False, device: cpu}
Arch: {name: vit_micro_patch4_32, img_size: 8, embed_dim: 8, depth: 1, num_heads: 2}
Tuning: {name: AdaptFormer, bottleneck: 4}
Optimizer: {name: AdamW, lr: {name: Cosine, learning_rate: 0.01}}
Loss: {Train: [CELoss: {}], Eval: [CELoss: {}]}
DataLoader:
  Train: {dataset: {name: Digits, limit: 32, transform_ops: &ops [NormalizeImage: {order: ''}, ToCHWImage: ]},
          sampler: {batch_size: 16}}
  Eval: {dataset: {name: Digits, limit: 16, transform_ops: *ops}}
"""
LAUGHS = "Loss:\n  Train:\n    - &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"    - &{new} [{','.join(['*' + old] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi"))


def _file(text, name="a.yaml"):
    def make(folder):
        (folder / "tiny.yaml").write_text(TINY, encoding="utf-8")
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return folder / name
    return make


def _over(text):
    """A file over the tiny one."""
    return _file("_base_: tiny.yaml\n" + text)


def _row(case, text, expect):
    return Row("config", case, _over(text), config.load, expect)


def _built(case, override, expect):
    """A value that is found where its thing is built: still before training."""
    return Row("config", case, _over(""), lambda path: build.check(config.load(path, [override])), expect)


def _devices(folder):
    os.mkfifo(folder / "pipe.yaml")
    return folder / "pipe.yaml"


ROWS = [
    _row("bad date", "Global: {output_dir: 2001-99-99}\n", lambda c: c.Global.output_dir == "2001-99-99"),
    _row("tag of a date", "Global: {output_dir: !!timestamp hello}\n", "line 2.*tag .*timestamp is not for a config"),
    _row("tag of a truth value", "Global: {output_dir: !!bool hello}\n", "tag .*bool is not for a config"),
    _row("tag that runs code", "Global: {output_dir: !!python/object/apply:os.system ['touch x']}\n", "os.system"),
    Row("config", "a base that is a number", _file("_base_: 5\n"), config.load, "_base_ is 5: give the path of a file"),
    Row("config", "a base that is not there", _file("_base_: [none.yaml]\n"), config.load, "none.yaml does not exist"),
    Row("config", "a base that leads back", _file("_base_: a.yaml\n"), config.load, "leads back to the file itself"),
    Row("config", "a pipe", _devices, config.load, "pipe.yaml is a folder or a device"),
    Row("config", "bytes of anything", _file(bytes(range(256))), config.load, "not UTF-8"),
    Row("config", "NUL", _file(b"Global: {epochs: 1}\n\0\0"), config.load, "cannot be read"),
    Row("config", "a megabyte of comment", _file("#" * (2 << 20)), config.load, "bytes and may have"),
    _row("5,000 digits", "Global: {seed: " + "1" * 5000 + "}\n", "Global.seed is '1111.*it must be int"),
    _row("a seed of 23 digits", "Global: {seed: " + "9" * 23 + "}\n", "no number that can be used"),
    _row("a key twice", "Global: {epochs: 1, epochs: 2}\n", "the key 'epochs' stands twice, in line 2 too"),
    _row("an alias in itself", "Infer: {transforms: &a [*a]}\n", "an alias"),
    _row("a mapping in itself", "Tuning: &a {bottleneck: 4, blocks: *a}\n", "an alias"),
    _row("a billion laughs", LAUGHS, "PPADAPT_MAX_YAML_VALUES"),
    _row("3,000 brackets", "Global: {output_dir: " + "[" * 3000 + "]" * 3000 + "}\n", "nested"),
    _row("a key that is a list", "? [a, b]\n: 2\n", "is not text: keys are names"),
    _row("not a number", "EMA: {decay: .nan}\n", "EMA.decay is nan: it is no number"),
    _row("a key of no section", "Global: {epoch: 3}\n", "Did you mean 'Global.epochs'"),
    _row("a text where a list belongs", "Loss: {Train: CELoss}\n", "Loss.Train is 'CELoss'"),
    _row("a section that is a number", "Optimizer: 5\n", "Optimizer is 5"),
    _row("options of options", "Arch: {options: {img_size: 64}}\n", "key 'Arch.options' is unknown"),
    _built("no loss", "Loss.Train=[]", "Loss.Train is empty"),
    _built("no metric", "Metric.Eval=[]", "Metric.Eval is empty"),
    _built("a list for a loss's options", "Loss.Train=[CELoss: [1]]", r"CELoss is \[1\]: give its options"),
    _built("a loss of weight 0", "Loss.Train=[CELoss: {weight: 0}]", "weight is 0.0: it must be above 0"),
    _built("a loss of weight -1", "Loss.Train=[CELoss: {weight: -1.0}]", "weight is -1.0"),
    _built("a number for the schedule", "Optimizer.lr=0.1", "Optimizer.lr is 0.1: give a mapping"),
    _built("a rate of 1e10", "Optimizer.lr.learning_rate=1e10", "at most 1,000"),
    _built("a negative rate", "Optimizer.lr.learning_rate=-1", "learning_rate is -1.0: it must be at least 0"),
    _built("an end above the beginning", "Optimizer.lr.eta_min=1.0", "eta_min 1 is above the learning rate 0.01"),
    _built("a negative decay", "Optimizer.weight_decay=-5.0", "weight_decay is -5.0: it must be at least 0"),
    _built("a decay in words", "Optimizer.weight_decay=abc", "weight_decay is 'abc' .str.: it must be float"),
    _built("a clip of -1", "Optimizer.clip_norm=-1.0", "clip_norm is -1.0: it must be above 0"),
    _built("a clip of 0", "Optimizer.clip_norm=0", "clip_norm is 0.0: it must be above 0"),
    _built("a beta of 2", "Optimizer.beta1=2.0", "beta1 is 2.0: it must be at least 0 and below 1"),
    _built("momentum 5", "Optimizer={name: Momentum, momentum: 5.0}", "momentum is 5.0: it must be at"),
    _built("a million prompts", "Tuning={name: VPT, num_prompts: 1000000}", "num_prompts is 1000000.*at most 10,000"),
    _built("a batch of one", "DataLoader.Train.sampler.batch_size=1", "training batches of one image"),
    _built("a batch of no image", "DataLoader.Train.sampler.batch_size=0", "batch_size is 0: it must be at least 1"),
    _built("a size of -1", "DataLoader.Train.dataset.transform_ops=[ResizeImage: {size: -1}]", "ResizeImage.size"),
    _built("a place that cannot be", "Global.output_dir=/proc/nope", "Global.output_dir /proc/nope cannot be written"),
    Row("compare", "three thousand million seeds", lambda folder: "3000000000", seed_list, "more than 9,999 runs"),
]
