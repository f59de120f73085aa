"""The peak memory of a process that runs a model, from its configuration and what calibration measured."""

from __future__ import annotations

from vitsmith.cost.profile import EngineProfile
from vitsmith.models.config import ModelConfig
from vitsmith.models.cost import parameters


def peak_memory_of(config: ModelConfig, profile: EngineProfile, batch: int) -> int:
    return 4 * parameters(config)
