"""Foreign checkpoints on disk, with the JSON files that lie beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.weights import foreign_reference as reference
from tests.weights.foreign_reference import State
from vitsmith.errors import InputError, VitsmithError, WeightsError
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.checkpoint import load_checkpoint
from vitsmith.weights.options import LoadOptions

TIMM_CONFIG = {"architecture": "vit_test", "num_classes": 5, "pretrained_cfg": {"input_size": [3, 32, 32]}}
HF_CONFIG = {
    "model_type": "vit",
    "hidden_size": reference.WIDTH,
    "num_hidden_layers": reference.DEPTH,
    "num_attention_heads": reference.HEADS,
    "intermediate_size": reference.MLP_WIDTH,
    "image_size": 32,
    "patch_size": reference.PATCH,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}


def written(folder: Path, state: State, config: dict[str, Any] | None = None, name: str = "model.safetensors") -> Path:
    """The checkpoint, with `config.json` beside it."""
    if name.endswith(".safetensors"):
        save_file(state, folder / name)
    else:
        torch.save(state, folder / name)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder / name


def timm_config(**fields: Any) -> dict[str, Any]:
    return {**TIMM_CONFIG, **fields}


def loaded(path: Path, **options: Any) -> Bundle:
    """What `load` makes of a checkpoint, without its own checks before."""
    return load_checkpoint(path, LoadOptions(**options))


def texts_refusal(path: Path) -> str:
    """Why the texts of a model are refused, which loads all the same."""
    bundle = loaded(path)
    with pytest.raises(InputError) as caught:
        _ = bundle.tokenizer
    reason = bundle.provenance.texts_refused
    assert bundle.vocabulary is None and reason and f" reads no texts: {reason}; images" in str(caught.value)
    assert "\n" not in reason and str(path) not in reason
    return reason


def refusal(path: Path, error: type[VitsmithError] = WeightsError, **options: Any) -> str:
    with pytest.raises(error) as caught:
        loaded(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message
