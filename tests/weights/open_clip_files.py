"""Folders as open_clip writes them, of the recorded models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from tests import REFERENCE
from tests.reference.open_clip.record import values

RECORDED: dict[str, Any] = json.loads((REFERENCE / "open_clip" / "models.json").read_text())


def state_of(model: str) -> dict[str, Tensor]:
    return {name: values(name, tuple(shape)) for name, shape in RECORDED[model]["shapes"].items()}


def folder_of(folder: Path, state: dict[str, Tensor], config: Any, preprocess: Any = None) -> Path:
    """What open_clip's `push_to_hf_hub` writes, without a tokenizer."""
    save_file(state, folder / "open_clip_model.safetensors")
    described = {"model_cfg": config} | ({} if preprocess is None else {"preprocess_cfg": preprocess})
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    return folder
