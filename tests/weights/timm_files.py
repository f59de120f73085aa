"""Small files as timm saves them, of the recorded architectures, with stand-ins for their values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from tests import REFERENCE
from tests.reference.timm.record import values
from tests.weights.foreign_files import written

RECORDED: dict[str, Any] = json.loads((REFERENCE / "timm" / "families.json").read_text())
"""By architecture: `shapes` of the arrays, `config` and `outputs`."""


def state_of(architecture: str) -> dict[str, torch.Tensor]:
    return {name: values(name, tuple(shape)) for name, shape in RECORDED[architecture]["shapes"].items()}


def timm_file(folder: Path, architecture: str, tag: str = "") -> Path:
    config = RECORDED[architecture]["config"]
    described = {**config, "pretrained_cfg": {**config["pretrained_cfg"], "tag": tag}}
    return written(folder, state_of(architecture), described)
