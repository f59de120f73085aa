"""Small files as the authors of DINOv2 and DINOv3 save them, with stand-ins for their values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests import REFERENCE
from tests.reference.hf.arrays import state_of

RECORDED = REFERENCE / "dino" / "models.json"


def periods_of(head_width: int, *, bfloat16: bool) -> Tensor:
    """The periods that a DINOv3 stores, (head_width / 4,) float32."""
    quarter = head_width // 4
    periods = torch.tensor([100 ** (k / quarter) for k in range(quarter)])
    return periods.bfloat16().float() if bfloat16 else periods


def without_keys(bias: Tensor) -> Tensor:
    """A bias of queries, keys and values times the mask of DINOv3."""
    query, key, value = bias.chunk(3)
    return torch.cat([query, 0 * key, value])


def recorded_models() -> dict[str, dict[str, Any]]:
    """By name: `arrays` (names and shapes) and `outputs` (by image size)."""
    models: dict[str, dict[str, Any]] = json.loads(RECORDED.read_text())
    return models


def authors_state(name: str) -> dict[str, Tensor]:
    model = recorded_models()[name]
    state = state_of(model["arrays"])
    if "bfloat16" in model:
        state["rope_embed.periods"] = periods_of(64, bfloat16=model["bfloat16"])
        for bias in [key for key in state if key.endswith("qkv.bias")]:
            state[f"{bias}_mask"] = without_keys(torch.ones_like(state[bias]))
    return state


def authors_file(folder: Path, name: str) -> Path:
    path = folder / f"{name}_pretrain.pth"
    torch.save(authors_state(name), path)
    return path
