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

TWO_TOWERS: dict[str, dict[str, Any]] = json.loads((REFERENCE / "hf" / "two_towers.json").read_text())
"""The same of models that read texts too: `texts` are features of `tokens_of` texts that end with `end`, `outputs` have
the features of images and the logits of all pairs."""


def written_model(folder: Path, name: str, **fields: Any) -> Path:
    """A folder with a recorded model; `fields` change its config.json."""
    model = (MODELS | TWO_TOWERS)[name]
    return written_arrays(folder, model["arrays"], {**model["config"], **fields})


def written_arrays(folder: Path, arrays: dict[str, Any], config: dict[str, Any]) -> Path:
    """A folder with stand-ins for arrays of these names and shapes."""
    save_file(state_of(arrays), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def written_with_texts(folder: Path, name: str, vocabulary: int, length: int) -> Path:
    """A folder with a recorded model of two towers whose texts are `length` tokens of a vocabulary of this size."""
    model = TWO_TOWERS[name]
    text = {**model["config"]["text_config"], "vocab_size": vocabulary, "max_position_embeddings": length}
    if "logit_bias" not in model["arrays"]:
        text["eos_token_id"] = vocabulary - 1
    changed = {"token_embedding": vocabulary, "position_embedding": length}
    arrays = {
        key: [changed[key.split(".")[2]], shape[1]] if key.startswith("text_model.embeddings.") else shape
        for key, shape in model["arrays"].items()
    }
    return written_arrays(folder, arrays, {**model["config"], "text_config": text})
