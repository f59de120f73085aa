"""MLP-Mixers made without torch: as in the export of the same model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cost.graphs.exports import assert_same_as_export
from tests.tiny import MIXER
from vitsmith.models.config import MixerConfig
from vitsmith.models.configure import change

CONFIGS = {"logits": MIXER, "mean token, exact GELU": change(MIXER, classes=0, gelu="erf")}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_mixer_is_as_exported(config: MixerConfig, tmp_path: Path) -> None:
    assert_same_as_export(config, tmp_path)
