"""Predicted sizes against programs that are really written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import tiny_inputs, tiny_model
from vitsmith.compress.quantize.run import PROGRAMS
from vitsmith.compress.quantize.schemes import Scheme
from vitsmith.cost.size import size_of
from vitsmith.exporters.parts import parts_of
from vitsmith.models.config import MixerConfig, ViTConfig
from vitsmith.models.parts import AttentionPoolConfig, BlockConfig, PositionEmbeddingConfig, RotaryConfig
from vitsmith.weights.bundle.bundle import Bundle

SMALL = ViTConfig(width=192, depth=3, heads=3, mlp_width=768, patch=(16, 16), image_size=(64, 96), classes=1000)
CONFIGS = {
    "plain": SMALL,
    "rotary, gated, pooled": SMALL.model_copy(
        update={
            "position_embedding": PositionEmbeddingConfig(learned="none", rotary=RotaryConfig()),
            "block": BlockConfig(gated=True), "class_token": False, "pooling": "attention",
            "attention_pool": AttentionPoolConfig(heads=3, mlp_width=768),
        }
    ),
    "mixer": MixerConfig(
        width=256, depth=3, tokens_mlp_width=128, channels_mlp_width=1024, patch=(16, 16), image_size=(64, 96)
    ),
}  # fmt: skip


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
@pytest.mark.parametrize("name", CONFIGS)
def test_the_size_of_a_program_is_predicted_within_two_percent(name: str, engine: str, tmp_path: Path) -> None:
    config = CONFIGS[name]
    images = tiny_inputs(config, 2)[0].numpy()
    programs = PROGRAMS[engine](parts_of(Bundle.of(tiny_model(config)), images), tmp_path)
    place = tmp_path / "int8"
    place.mkdir()
    programs.write(Scheme("static"), images, place)
    for precision, folder in (("fp32", tmp_path), ("int8", place)):
        written = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
        assert size_of(config, engine, precision) == pytest.approx(written, rel=0.02), precision
