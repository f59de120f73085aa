"""Programs of the newer image towers: each part becomes a graph of each engine that gives the same answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.exporting import export_executorch, export_onnx, export_openvino
from tests.tiny import pictures, tiny_inputs, tiny_model, towers
from vitsmith import Bundle
from vitsmith.engines.open import open_engine
from vitsmith.models.config import ViTConfig
from vitsmith.models.configure import change

AIMV2 = {"norm": "rms", "patch_norm": True, "block": {"gated": True}, "pooling": "gap", "attention_pool": None}


def tower(name: str) -> Bundle:
    """A small classifier of this family; 'aimv2' has its norms."""
    config = change(towers()["siglip"], **AIMV2) if name == "aimv2" else towers()[name]
    return Bundle.of(tiny_model(change(config, classes=5))).with_golden(pictures(2))


@pytest.mark.parametrize(
    ("name", "export"),
    [
        ("clip-quick", export_openvino),
        ("siglip", export_executorch),
        ("registers", export_onnx),
        ("dinov3-gated", export_executorch),
        ("eva02", export_onnx),
        ("pe", export_openvino),
        ("aimv2", export_onnx),
        ("aimv2", export_openvino),
        ("aimv2", export_executorch),
    ],
)
def test_a_program_of_a_tower_gives_its_answers_for_any_batch(tmp_path: Path, name: str, export: object) -> None:
    bundle = tower(name)
    assert callable(export) and isinstance(bundle.config, ViTConfig)
    exported, verdict = export(bundle, tmp_path / "model")
    assert verdict.passed and exported.program_spec.batch is None
    engine = open_engine(exported)
    images = tiny_inputs(bundle.config, 3)[0]
    expected = bundle.model(images).detach().numpy()
    for count in (1, 3):
        np.testing.assert_allclose(engine.run(images[:count].numpy()), expected[:count], rtol=0, atol=2e-5)
