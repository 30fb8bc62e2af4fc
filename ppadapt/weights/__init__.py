"""Weights files <-> arrays: numpy only, no network classes, no PyTorch.

    tensors = load_weights("mae_pretrain_vit_base.pth").tensors      # our names, Linear [in, out]
    arrays, report = merge(tensors, shapes_of_the_network, new=["head.*"])
    report.raise_if_incomplete()
"""

from .adapter_file import load_adapter, save_adapter
from .authors import infer_name, infer_tuning, split_tuned, to_authors
from .checkpoint import RawCheckpoint
from .convert import Converted, is_tuned, to_ours
from .errors import UnsafeCheckpointError, WeightsError
from .merge import Report, compact, digest, merge
from .once import load_weights, read_file, reading_once
from .paddle_file import save_pdparams
from .pos_embed import resize_pos_embed
from .safetensors_file import save_safetensors
from .torch_write import write_torch

__all__ = [
    "Converted", "RawCheckpoint", "Report", "UnsafeCheckpointError", "WeightsError", "compact", "digest",
    "infer_name", "infer_tuning", "is_tuned", "load_adapter", "load_weights", "merge", "read_file",
    "reading_once", "resize_pos_embed", "save_adapter", "save_pdparams", "save_safetensors", "split_tuned",
    "to_authors", "to_ours", "write_torch",
]
