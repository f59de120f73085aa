"""Hybrids, ViTs on a ResNet, made without torch: as in the export of the same model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cost.graphs.exports import assert_same_as_export
from tests.tiny import CONFIGS
from vitsmith.models.config import ResNetConfig, ViTConfig
from vitsmith.models.configure import change

TIMM = ResNetConfig(width_factor=0.5, divisor="variance")


@pytest.mark.parametrize(("name", "more"), [("hybrid-stem", {"resnet": TIMM}), ("hybrid-stages", {})])
def test_a_hybrid_is_as_exported(name: str, more: dict[str, ResNetConfig], tmp_path: Path) -> None:
    config = CONFIGS[name]
    assert isinstance(config, ViTConfig)
    assert_same_as_export(change(config, **more), tmp_path)
