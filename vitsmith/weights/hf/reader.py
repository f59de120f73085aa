"""Reads models of Hugging Face's transformers, with the JSON files and the tokenizer beside them."""

from __future__ import annotations

from vitsmith.errors import WeightsError
from vitsmith.weights.conversion import Conversion
from vitsmith.weights.fill import ArrayFile
from vitsmith.weights.hf.config_json import read_hf_config
from vitsmith.weights.hf.image_model import read_image_model
from vitsmith.weights.hf.names import PATCHES, PATCHES_ALONE, TOWER_PATCHES, WORDS
from vitsmith.weights.hf.two_tower_types import SCALE, TwoTowerConfig
from vitsmith.weights.hf.two_towers import read_two_towers
from vitsmith.weights.options import LoadOptions


def recognises(file: ArrayFile) -> bool:
    """Whether it has the embedding of patches or words of HF's models, alone or within another, or is a DINOv3."""
    return PATCHES_ALONE in file.shapes or any(name.endswith((PATCHES, TOWER_PATCHES, WORDS)) for name in file.shapes)


def read(file: ArrayFile, options: LoadOptions) -> Conversion:
    """The model that `config.json` describes, which must be there, with its preprocessing. Raises WeightsError."""
    metadata = read_hf_config(file.path)
    if not isinstance(metadata, TwoTowerConfig):
        return read_image_model(file, metadata, options)
    if not any(name.endswith(TOWER_PATCHES) for name in file.shapes):
        raise WeightsError(f"{file.path}: has no image tower, whose patch embedding is {TOWER_PATCHES}")
    if SCALE not in file.shapes:  # a classifier, or a tower whose config.json is that of both
        return read_image_model(file, metadata.image, options)
    return read_two_towers(file, metadata, options)
