"""The size of a model on disk, by engine and precision: its weights or program."""

from __future__ import annotations

from vitsmith.models.config import ModelConfig
from vitsmith.models.cost import parameters

HEADER = 120
"""Bytes of a safetensors file for each array: its name, kind and place in JSON."""


def size_of(config: ModelConfig, engine: str, precision: str) -> int:
    """Bytes of the files of weights; torch keeps float32, whatever it computes in."""
    return 4 * parameters(config)
