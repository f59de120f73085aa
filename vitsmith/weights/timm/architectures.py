"""What the arrays of timm's architectures do not show, by their names: rows of data.

All vision transformers of timm 1.0.31's registry were built, and these rows compared with what was built.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vitsmith.models.parts import NormKind, RotaryConfig


@dataclass(frozen=True)
class Architecture:
    """What the name decides. A field that is None follows from the arrays, or from what is usual for the width."""

    heads: int | None = None
    act_layer: str = "gelu"
    norm_eps: float | None = None
    norm: NormKind = "layer"
    global_pool: str | None = None
    rotary: RotaryConfig | Literal["unknown"] | None = "unknown"
    pool_heads: int | None = None
    pool_include_prefix: bool = False
    refused: str = ""
    """Arithmetic that our models do not have and that leaves no trace in the arrays."""


_EVA02 = RotaryConfig(base=10_000, places="index", reference=(16, 16))
_ROPE_VIT = RotaryConfig(base=100, places="index", first="columns")


def _perception(side: int, start: int = 1) -> RotaryConfig:
    return RotaryConfig(base=10_000, places="index", first="columns", start=start, reference=(side, side))


ROWS: Mapping[str, Mapping[str, Any]] = {
    r"aimv2_": {"norm": "rms", "norm_eps": 1e-5, "heads": 12, "rotary": None},
    r"aimv2_large_": {"heads": 8},
    r"aimv2_1b_": {"heads": 16},
    r"aimv2_3b_": {"heads": 24},
    r"vit_base_patch16_gap_": {"heads": 16},
    r"vit_giantopt_": {"heads": 16},
    r"test_vit2?$": {"heads": 2},
    r"test_vit3": {"heads": 3, "pool_include_prefix": True},
    r".*quickgelu": {"act_layer": "quick_gelu"},
    r"vit_base_patch32_siglip_|vit_giantopt_|vit_large_patch16_siglip_(gap_)?512|vit_so400m_patch16_siglip_": {
        "act_layer": "gelu_tanh"
    },
    r"beit3_|vit_.*_clip_|vit_pe_": {"norm_eps": 1e-5},
    r"vit_.*_(dinov3|lingbot)": {"norm_eps": 1e-5, "rotary": RotaryConfig()},
    r"vit_.*_dinov3": {"global_pool": "avg"},
    r"vit_huge_plus_patch16_dinov3": {"heads": 20},
    r"vit_7b_patch16_dinov3": {"heads": 32},
    r"eva_giant_": {"rotary": None},
    r"eva02_(tiny|small|base|large)_": {"rotary": _EVA02},
    r"vit_.*_rope_reg\d_gap_": {"rotary": _EVA02},
    r"vit_.*_rope_(ape_)?\d": {"rotary": _ROPE_VIT},
    r"vit_pe_core_": {"pool_heads": 8, "pool_include_prefix": True},
    r"vit_pe_core_base_patch16_224": {"rotary": _perception(14)},
    r"vit_pe_core_(tiny|small|large)_": {"rotary": _perception(24)},
    r"vit_pe_(lang|spatial)_": {"rotary": _perception(32), "global_pool": "avg"},
    r"vit_pe_.*_gigantic_": {"heads": 16, "rotary": _perception(32, start=0)},
    r"vit_base_patch16_rpn_": {"refused": "norms after attention and MLP in the place of before"},
    r"eva02_enormous_": {"rotary": None, "refused": "norms after attention and MLP in the place of before"},
}
"""Patterns of the beginnings of names, and what they decide; later rows go before earlier ones."""


def known_architecture(name: str) -> Architecture:
    """What the rows say of an architecture; the usual for a name that has none."""
    told: dict[str, Any] = {}
    for pattern, row in ROWS.items():
        if re.match(pattern, name):
            told |= row
    return Architecture(**told)


_OF_EVA = re.compile(r"\.(gamma_1|attn\.q_bias|attn\.q_proj\.weight|mlp\.fc1_g\.weight)$")


def turns_by_name(arrays: Collection[str]) -> bool:
    """Whether the arrays are of timm's module eva.py, most of whose models turn queries and keys by their places."""
    if any(_OF_EVA.search(name) for name in arrays):
        return True
    normed = "norm.weight" in arrays or "fc_norm.weight" in arrays
    return "norm_pre.weight" in arrays and ("attn_pool.latent" in arrays or not normed)  # Perception Encoder
