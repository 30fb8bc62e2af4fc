"""A network with its tuned state as a tuned file's manifest describes them, without a config."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping, Optional

import numpy as np

from .. import weights
from ..errors import choose
from ..models.catalogue import anatomy_of
from ..models.heads import HEADS
from ..networks import network_and_report
from ..tuning import METHODS, Adaptation, attach

KEEP_HEAD = "Pretrained"


def adaptation_of(manifest: Mapping[str, Any], state: Mapping[str, np.ndarray], path: Path, base: Path,
                  options: Mapping[str, Any], key: Optional[str] = None, of: Optional[str] = None) -> Adaptation:
    """The adaptation of the tuned file at `path`, on the weights `base` in a network of these options.

    `key`, `of`: of the base, as in `ppadapt.network`.

    Raises:
        WeightsError: for methods and heads that are not ours, and where the base is another network than the tuned one.
    """
    backbone, kind = manifest.get("backbone") or {}, manifest.get("head")
    if kind not in (*HEADS, KEEP_HEAD, None):
        raise weights.WeightsError(choose(f"{path}: the head", kind, HEADS))
    classes = next((a.shape[-1] for n, a in state.items() if n in ("head.bias", "head.1.bias")), 0)
    network, report = network_and_report(backbone.get("name") or "vit_base_patch16", str(base),
                                         classes if kind == KEEP_HEAD else 0, key, of, **options)
    anatomy = anatomy_of(network)
    chosen = []
    for method in manifest["tuning"]:
        if method.get("name") not in METHODS:
            raise weights.WeightsError(choose(f"{path}: the tuning method", method.get("name"), METHODS))
        chosen.append(METHODS[method["name"]](**{o: v for o, v in method.items() if o != "name"}))
    head = HEADS[kind](anatomy.feature_dim(network), classes) if kind in HEADS else None
    adaptation = attach(network, *chosen, head=head, also_train=[n for n in report.new if not anatomy.answers(n)])
    wanted = backbone.get("digest")
    if wanted and wanted != adaptation.backbone_digest:
        raise weights.WeightsError(f"{path} was tuned on a network of digest {str(wanted)[:16]}; {base} gives "
                                   f"{adaptation.backbone_digest[:16]}, another: give the weights that it was tuned on")
    adaptation.load_state(state)
    return adaptation
