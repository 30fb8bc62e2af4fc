"""Weights that ship with the package."""
from __future__ import annotations

from pathlib import Path

from .errors import ConfigError

FOLDER = Path(__file__).with_name("assets")
# What it is, how it was trained and what it reaches: assets/README.md.
PRETRAINED = {"vit_micro_patch4_32": "vit_micro_patch4_32_cifar100.safetensors"}


def pretrained(arch: str) -> Path:
    """The shipped weights of a network. Raises ConfigError where none ship."""
    if arch not in PRETRAINED:
        raise ConfigError(f"Arch.pretrained: True: no weights of {arch} ship with ppadapt (there are: "
                          f"{', '.join(PRETRAINED)}). Give the path of a file; tools/convert_weights.py makes one "
                          "from a published checkpoint")
    return FOLDER / PRETRAINED[arch]
