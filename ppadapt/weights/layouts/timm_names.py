"""timm's architectures by name: what their constructors give and no tensor shows (timm 1.0.31).

`tools/peers/timm_sweep.py` compares every name with timm.
"""

from __future__ import annotations

import re
from typing import Any

# Every line whose pattern matches a whole name adds its facts; the later ones win.
_FACTS: tuple[tuple[str, dict[str, Any]], ...] = (
    (r"(?:vit|flexivit|deit3?|test_vit|beit)_?\d*_.*|test_vit\d?|eva_(?:large|giant)_patch14_\d+|flexivit_.*",
     {"epsilon": 1e-6, "act": "gelu"}),
    (r".*_gap_.*", {"pool": "norm_avg"}),  # with an fc_norm, which a file shows, the mean comes first
    (r"vit_.*_clip_.*", {"epsilon": 1e-5}),
    (r"vit_.*_clip_quickgelu_.*", {"act": "quick_gelu"}),
    # The other names of SigLIP compute the erf form in timm, though Google's code has the tanh form.
    (r"vit_(?:base_patch32_siglip(?:_gap)?_256|large_patch16_siglip(?:_gap)?_512|so400m_patch16_siglip(?:_gap)?_\d+"
     r"|giantopt_patch16_siglip(?:_gap)?_\d+)", {"act": "gelu_tanh"}),
    (r"vit_base_patch16_gap_224|vit_giantopt_.*", {"num_heads": 16}),
    (r"test_vit2?", {"num_heads": 2}), (r"test_vit[34]", {"num_heads": 3}),
)
# What no name of a tensor shows.
_REFUSED = (
    (r".*_rpn_.*", "its blocks norm what attention and MLP return (res-post-norm), our networks what they read"),
    (r"vit_.*_radio_.*|vit_intern300m_.*", "no norm follows its last block, ours ends with one"),
    (r"test_vit3", "its pooling reads class token and registers too"),
    (r"vit_.*_(?:xp|18x2)_.*|vit_d?pwee_.*", "its blocks compute attention and MLP side by side, ours one after the "
                                             "other"),
    (r"vit_d(?:wee|little)_.*", "its attention is the difference of two, which our networks do not compute"),
    (r"aimv2_.*|test_vit4", "its norms are RMSNorm, ours LayerNorm"),
    (r"eva02_enormous_.*", "its blocks norm what attention and MLP return, our networks what they read"),
    (r"eva02_.*|vit_pe_.*|vit_.*(?:dinov3|lingbot).*|vit_.*rope.*",
     "it has rotary positions, which our networks do not compute"),
    (r"naflexvit.*", "it takes images of any shape, ours squares of one size"),
    (r"vit_.*relpos.*|beit_.*|beitv2_.*", "its attention adds biases of relative positions, which our networks do not "
                                          "compute"),
    (r"vit_.*_r\d+_s.*", "its patches come from a convolutional network, which ours does not have"),
)


def by_name(architecture: str) -> tuple[dict[str, Any], str]:
    """(options of our network, why it is refused or '') of an architecture of timm."""
    options: dict[str, Any] = {}
    for pattern, facts in _FACTS:
        if re.fullmatch(pattern, architecture):
            options.update(facts)
    refused = next((why for pattern, why in _REFUSED if re.fullmatch(pattern, architecture)), "")
    return options, refused
