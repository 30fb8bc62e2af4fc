"""What other libraries write beside weights, and folders of peft: JSON that a stranger may have written."""
from __future__ import annotations

import json

import numpy as np
from trust_inputs import network
from trust_table import Row

from ppadapt.weights import load_weights, read_peft, save_safetensors, to_authors

VIT = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_act": "gelu", "patch_size": 4}
LORA = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none"}
_QKV = "base_model.model.blocks.0.attn.qkv.lora_"


def _network(folder):
    save_safetensors(str(folder / "model.safetensors"), to_authors(network()), {"format": "pt"})
    return folder / "model.safetensors"


def _beside(case, expect, name="config.json", text=None, **changed):
    def make(folder):
        path = _network(folder)
        (folder / name).write_text(json.dumps({**VIT, **changed}) if text is None else text, encoding="utf-8")
        return path

    return Row("settings", case, make, load_weights, expect)


def _peft(case, expect, a=(2, 8), b=(24, 2), names=("A.weight", "B.weight"), **changed):
    def make(folder):
        (folder / "adapter_config.json").write_text(json.dumps({**LORA, **changed}), encoding="utf-8")
        save_safetensors(str(folder / "adapter_model.safetensors"), {
            _QKV + name: np.ones(shape, "f4") for name, shape in zip(names, (a, b))}, {"format": "pt"})
        return folder, load_weights(_network(folder.parent))

    def call(given):
        return read_peft(*given)

    return Row("peft", case, make, call, expect)


_NOT = "config.json, beside the weights, is not what its library writes"
ROWS = [
    _beside("right", lambda done: done.facts.told["num_heads"] == "config.json"),
    _beside("a width that is no number", f"{_NOT}.*hidden_size is nan", hidden_size=float("nan")),
    _beside("a width without end", f"{_NOT}.*hidden_size is inf", hidden_size=float("inf")),
    _beside("a width of 400 digits", f"{_NOT}.*hidden_size is", hidden_size=10**400),
    _beside("heads below zero", f"{_NOT}.*num_attention_heads is -1", num_attention_heads=-1),
    _beside("an activation that is a list", f"{_NOT}.*unhashable", hidden_act=[]),
    _beside("no JSON", "is not the JSON it should be", text="{"),
    _beside("deep", "is not the JSON it should be", text="[" * 100_000),
    _beside("of another network", "says embed_dim 16, the weights have 8", hidden_size=16),
    _beside("no width for a head", "open_clip_config.json, beside the weights, is not what", "open_clip_config.json",
            text=json.dumps({"model_cfg": {"vision_cfg": {"width": 8, "layers": 2, "head_width": 0.5}}})),
    _peft("right", lambda found: found[1]["tuning"][0]["name"] == "LoRA"),
    _peft("a pattern without end", "alpha_pattern .* is not read .*groups", alpha_pattern={"(.+)+x": 1}),
    _peft("a pattern of doubles", "alpha_pattern .* is not read .*groups", alpha_pattern={"(a|a)" * 20: 1}),
    _peft("a bracket", "alpha_pattern .* is not read", alpha_pattern={"[": 1}),
    _peft("a thousand patterns", "expected are at most 300", alpha_pattern={f"a{i}": 1 for i in range(1000)}),
    _peft("patterns in a list", "alpha_pattern is", alpha_pattern=[1]),
    _peft("a dropout in words", "lora_dropout 'x' is no rate", lora_dropout="x"),
    _peft("an alpha without end", "alpha inf", lora_alpha=float("inf")),
    _peft("rank 0", r"with a lora_A \[rank, in\]", (0, 8), (24, 0)),
    _peft("a lora_B alone", "attn.qkv has lora_B.weight; read are a lora_A.weight and", names=("B.weight",)),
    _peft("a name with more behind it", "attn.qkv has lora_A.weights, lora_B.weight", names=("A.weights", "B.weight")),
    _peft("lora_ twice in a name", r"attn.qkv(.lora_x)? has lora_[AB].weight; read are",
          names=("x.lora_A.weight", "B.weight")),
    _peft("another network", "is for a matrix .16, 24.*the network has .8, 24.", (2, 16)),
]
