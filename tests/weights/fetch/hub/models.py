"""Tiny models as the files of a repository."""

from __future__ import annotations

import io
import json
from typing import Any

import torch
from safetensors.torch import save

from tests.weights.fetch.hub.hub_server import Files
from tests.weights.foreign_files import HF_CONFIG, timm_config
from tests.weights.foreign_reference import CLASSES, State, hf_vit, timm_vit

CARD = b"---\nlicense: mit\ntags:\n- image-classification\n---\n# A model\n"


def timm_model(*, card: bytes = CARD, **config: Any) -> Files:
    """What timm's `push_to_hf_hub` uploads, without its `.bin`."""
    return {
        "config.json": json.dumps(timm_config(**config)).encode(),
        "model.safetensors": save(timm_vit()),
        "README.md": card,
        ".gitattributes": b"*.safetensors filter=lfs\n",
    }


def hf_model(*, card: bytes = CARD) -> Files:
    """What `push_to_hub` of transformers uploads."""
    names = {str(index): f"class {index}" for index in range(CLASSES)}
    return {
        "config.json": json.dumps({**HF_CONFIG, "id2label": names}).encode(),
        "preprocessor_config.json": json.dumps({"size": {"height": 32, "width": 32}, "do_resize": True}).encode(),
        "model.safetensors": save(hf_vit()),
        "README.md": card,
    }


def torch_file(state: State) -> bytes:
    """A file of `torch.save`."""
    stream = io.BytesIO()
    torch.save(state, stream)
    return stream.getvalue()


def sharded(files: Files) -> Files:
    """The same model with its weights in two files and an index, as transformers splits large ones."""
    from safetensors.torch import load

    state = load(files["model.safetensors"])
    names = sorted(state)
    parts = {f"model-0000{part + 1}-of-00002.safetensors": names[part::2] for part in range(2)}
    index = {"metadata": {}, "weight_map": {name: part for part, held in parts.items() for name in held}}
    rest = {name: content for name, content in files.items() if name != "model.safetensors"}
    shards = {part: save({name: state[name].clone() for name in held}) for part, held in parts.items()}
    return {**rest, **shards, "model.safetensors.index.json": json.dumps(index).encode()}
