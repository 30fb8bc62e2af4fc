"""A tuned file and the network that it was trained on -> one plain network, where the algebra allows it."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import numpy as np

from .. import weights
from ..build.from_manifest import adaptation_of
from ..tuning import TuningError

# Matrices are merged whatever these are: where nobody told them, the result does not tell them either.
_ANY = {"num_heads": 1, "act": "gelu"}


def merged(tuned: Path, base: Path, key: Optional[str] = None,
           of: Optional[str] = None) -> tuple[dict[str, np.ndarray], dict[str, Any], str]:
    """(tensors, options of the network, why it is not merged or '').

    Tensors are under our names, of the merged network where every method merges, else of the network with the tuned
    state beside it. `key`, `of`: of the base, as in `ppadapt.network`.

    Raises:
        WeightsError: when the file is not of this network, does not say how it was tuned, or is of no ViT of ours.
    """
    state, manifest = weights.load_tuned(tuned)
    backbone = manifest.get("backbone") or {}
    if not manifest.get("tuning") or backbone.get("family") not in (None, "ViT"):
        raise weights.WeightsError(f"{tuned} is of {backbone.get('family') or 'no tuning method'}; a ViT of ours with "
                                   "its tuned state becomes timm's")
    facts = weights.load_weights(base, key, of).facts
    options = {**{o: v for o, v in facts.values.items() if o != "class_num"}, **(backbone.get("options") or {})}
    filled = {option: value for option, value in _ANY.items() if option in facts.asked and option not in options}
    adaptation = adaptation_of(manifest, state, tuned, base, {**filled, **options}, key, of)
    try:
        whole, why = adaptation.merge(), ""
    except TuningError as error:
        whole, why = adaptation.network, str(error)
    return {name: tensor.numpy() for name, tensor in whole.state_dict().items()}, options, why
