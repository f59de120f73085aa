"""Every part of a ViT, a few at a time, in graphs made without torch: as in the export of the same model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cost.graphs.exports import assert_same_as_export
from tests.tiny import VIT
from vitsmith.models.configure import change
from vitsmith.models.parts import (
    AttentionPoolConfig,
    BlockConfig,
    PositionEmbeddingConfig,
    RotaryConfig,
    UnitConfig,
)

POOL = AttentionPoolConfig(heads=2, mlp_width=40)

PARTS: dict[str, dict[str, Any]] = {
    "rotary positions alone, registers": {
        "position_embedding": PositionEmbeddingConfig(learned="none", rotary=RotaryConfig(bfloat16=True)),
        "registers": 2,
    },
    "rotary beside learned positions, head norms, registers without a position": {
        "position_embedding": PositionEmbeddingConfig(
            learned="class", rotary=RotaryConfig(first="columns", places="index", start=1)
        ),
        "block": BlockConfig(qk_norm=True),
        "registers": 2,
    },
    "no token before the patches, an attention pool": {
        "position_embedding": PositionEmbeddingConfig(
            learned="none", rotary=RotaryConfig(places="index", reference=(4, 4))
        ),
        "head_width": 4, "pooling": "attention", "attention_pool": POOL, "class_token": False, "classes": 0,
    },
    "a distillation token, a representation": {"distillation_token": True, "registers": 1, "representation": 20},
    "a norm of the patches and after the mean, RMSNorm, unit features": {
        "patch_norm": True, "pooling": "gap", "norm_after_pooling": True, "norm": "rms", "unit": UnitConfig(width=12),
    },
    "all tokens, unit features, positions of the patches alone": {
        "position_embedding": PositionEmbeddingConfig(learned="patches"), "registers": 2,
        "pooling": "token_unpooled", "representation": 20, "unit": UnitConfig(width=12, bias=False),
    },
    "class token and mean, an edge that fills no patch, no last norm, no biases": {
        "pooling": "token_and_gap", "registers": 2, "image_size": (17, 25), "unseen_edge": True,
        "final_norm": False, "head_bias": False, "patch_bias": False, "block": BlockConfig(qkv_bias=False),
    },
}  # fmt: skip


@pytest.mark.parametrize("parts", PARTS)
def test_a_graph_with_these_parts_is_as_exported(parts: str, tmp_path: Path) -> None:
    assert_same_as_export(change(VIT, **PARTS[parts]), tmp_path)
