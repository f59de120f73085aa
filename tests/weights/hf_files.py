"""Small files as transformers saves them, by recorded names and shapes of arrays, with stand-ins for their values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from tests import REFERENCE
from tests.reference.hf.arrays import state_of

MODELS: dict[str, dict[str, Any]] = json.loads((REFERENCE / "hf" / "models.json").read_text())
"""By name: `config` (config.json), `arrays` (names and shapes), `outputs` (by image size, of `images_of` that size)."""


def written_model(folder: Path, name: str, **fields: Any) -> Path:
    """A folder with a recorded model; `fields` change its config.json."""
    save_file(state_of(MODELS[name]["arrays"]), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**MODELS[name]["config"], **fields}))
    return folder
