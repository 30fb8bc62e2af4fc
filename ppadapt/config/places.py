"""Where files are written is said by who runs a config, not by a folder that somebody gave them."""
from __future__ import annotations

from pathlib import Path
from typing import Sequence

from .sections import Config

# What says where to write: section, key.
_PLACES = (("Global", "output_dir"), ("Global", "feature_cache"), ("Infer", "save_path"))
_NAME = "config.yaml"  # what a run and an export write; they hold all that was set, these places too
_BESIDE = ("train.log", "results.json", "latest.safetensors", "best_model.safetensors", "ckpt", "inference.yml",
           "SHA256SUMS")


def forget_places(tree: dict, path: Path, overrides: Sequence[str] = ()) -> list[str]:
    """Drop, in place, the output paths of a config that lies in a run's or an exported folder; notes that say so."""
    if path.name != _NAME or not any((path.parent / name).exists() for name in _BESIDE):
        return []
    notes = []
    for section, key in _PLACES:
        given = tree.get(section)
        if not isinstance(given, dict) or given.get(key) is None:
            continue
        value, default = given.pop(key), getattr(Config.__dataclass_fields__[section].default_factory(), key)
        chosen = any(override.partition("=")[0].strip() == f"{section}.{key}" for override in overrides)
        if key == "output_dir" and _lies_in(path, value):
            given[key] = value  # further runs go beside it
        elif value != default and not chosen:
            notes.append(f"{path} sets {section}.{key} to {value!r}: what lies in a folder of a run or an export does "
                         f"not choose where files go. It is {default or 'not set'}; give -o {section}.{key}=...")
    return notes


def _lies_in(path: Path, output_dir: object) -> bool:
    """Whether a config is that of a run in this output folder: output_dir / name / time / config.yaml."""
    folders = path.resolve().parents
    return isinstance(output_dir, str) and len(folders) > 2 and Path(output_dir).expanduser().resolve() == folders[2]
