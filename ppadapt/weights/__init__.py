"""Weights files <-> arrays: numpy only, no network classes, no PyTorch.

    tensors = load_weights("mae_pretrain_vit_base.pth").tensors      # our names, Linear [in, out]
    arrays, report = match(tensors, shapes_of_the_network, new=["head.*"])
    report.raise_if_incomplete()
"""

from .agree import check_agreement
from .authors import as_tuned_file, infer_name, infer_tuning, split_tuned, to_authors
from .checksum import check_finite, check_weights, digest, verify
from .convert import Converted, is_tuned, to_ours
from .errors import UnsafeCheckpointError, WeightsError
from .fill import Report, match
from .formats.paddle_file import save_pdparams
from .formats.safetensors_file import save_safetensors
from .formats.torch_write import write_torch
from .manifest import Comparison, Difference, MismatchError, compare
from .names import compact
from .once import load_weights, read_file, reading_once
from .peft_in import is_adapter, read_peft
from .peft_out import write_peft
from .pos_embed import RESIZES, resize_pos_embed
from .published import PUBLISHED, Published
from .raw import RawCheckpoint
from .timm_out import added_names, to_timm
from .tuned_file import KEY, load_tuned, read_manifest, save_tuned

__all__ = [
    "KEY", "PUBLISHED", "RESIZES", "Comparison", "Converted", "Difference", "MismatchError", "Published",
    "RawCheckpoint", "Report", "UnsafeCheckpointError", "WeightsError", "added_names", "as_tuned_file",
    "check_agreement", "check_finite", "check_weights", "compact", "compare", "digest", "infer_name",
    "infer_tuning", "is_adapter", "is_tuned", "load_tuned", "load_weights", "match", "read_file", "read_manifest",
    "read_peft", "reading_once", "resize_pos_embed", "save_pdparams", "save_safetensors", "save_tuned",
    "split_tuned", "to_authors", "to_ours", "to_timm", "verify", "write_peft", "write_torch",
]
