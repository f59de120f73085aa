"""Predicted memory beside recorded measurements, and its parts: copies of weights, scores, chunks, golden images."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from tests.cost.machines import engine
from vitsmith.cost.memory import HELD, memory_above, model_memory, peak_memory_of
from vitsmith.cost.probes import REFERENCE
from vitsmith.cost.session import _bare_memory
from vitsmith.machine import peak_memory
from vitsmith.models.config import ModelConfig
from vitsmith.models.configure import configure
from vitsmith.models.cost import live_numbers, parameters

BASES = {"torch fp32": 335, "torch bf16": 320, "onnx fp32": 117, "openvino fp32": 164, "openvino bf16": 162}
"""MB of the process of calibration on the machine of MEASURED."""
MEASURED = [
    ("ViT-Ti/16", 224, "torch fp32", 32, 423), ("ViT-B/32", 224, "torch fp32", 1, 668),
    ("ViT-Ti/16", 384, "torch bf16", 8, 415), ("ViT-B/32", 224, "torch bf16", 8, 1013),
    ("ViT-Ti/16", 224, "onnx fp32", 32, 326), ("ViT-B/32", 224, "onnx fp32", 1, 511),
    ("ViT-Ti/16", 384, "onnx fp32", 8, 327), ("R+ViT-Ti/16", 224, "onnx fp32", 8, 304),
    ("Mixer-S/16", 224, "onnx fp32", 16, 438), ("ViT-Ti/16", 224, "openvino fp32", 1, 179),
    ("ViT-B/32", 224, "openvino fp32", 32, 886), ("ViT-B/32", 224, "openvino bf16", 1, 663),
]  # fmt: skip
"""MB, from benchmarks/results/memory_prediction-fitted_amd-epyc-zen5_2026-12-01.md."""
BASE: Any = configure("ViT-B/16")


def added(config: ModelConfig, way: str, batch: int = 1, threads: int = 2) -> int:
    engine_name, precision = way.split()
    return model_memory(config, engine_name, precision, threads, batch)


def test_predictions_are_near_what_was_measured() -> None:
    errors = []
    for name, side, way, batch, measured in MEASURED:
        config = configure(name, image_size=side)
        engine_name, precision = way.split()
        found = memory_above(BASES[way] * 1_000_000, config, engine_name, precision, 2, batch)
        errors.append(abs(found / (measured * 1e6) - 1))
    assert statistics.median(errors) < 0.1 and max(errors) < 0.25


def test_the_reference_model_takes_what_was_measured_of_it() -> None:
    profile = engine(peak=300_000_000)
    checked = added(REFERENCE.config, "torch fp32") - model_memory(
        REFERENCE.config, "torch", "fp32", 2, 1, checked=False
    )
    assert peak_memory_of(REFERENCE.config, profile, 1) == 300_000_000 + checked + HELD["torch", "fp32"].bundle


@pytest.mark.parametrize(
    ("way", "copies"),
    [("torch fp32", 1), ("torch bf16", 2), ("onnx fp32", 1.22), ("openvino fp32", 2), ("openvino bf16", 1.5)],
)
def test_weights_are_held_as_often_as_the_engine_copies_them(way: str, copies: float) -> None:
    deep = configure("ViT-B/16", depth=24)
    more = 4 * (parameters(deep) - parameters(BASE))
    assert added(deep, way) - added(BASE, way) == pytest.approx(copies * more, rel=0.03)


def test_a_copy_in_bf16_leaves_room_for_small_batches() -> None:
    assert added(BASE, "torch bf16", 8) == added(BASE, "torch bf16", 1) == 8 * parameters(BASE)
    assert added(BASE, "torch bf16", 64) > added(BASE, "torch bf16", 1)


def test_onnxruntime_holds_scores_and_plans_its_work_space_twice() -> None:
    small, large = configure("ViT-Ti/16"), configure("ViT-Ti/16", image_size=768)
    tokens = 48 * 48 + 1
    images = 4 * 3 * 768 * 768
    more = added(large, "onnx fp32", 3) - added(large, "onnx fp32", 2)
    assert more > 2 * 4 * (2 * 3 * tokens**2) + images  # two copies of scores, in two blocks
    assert live_numbers(large, fused=False) > 2 * live_numbers(large)  # type: ignore[arg-type]
    assert live_numbers(small, fused=False) < 1.1 * live_numbers(small)  # type: ignore[arg-type]


def test_openvino_computes_chunks_however_large_the_batch_is() -> None:
    image = 4 * 3 * 224 * 224
    assert added(BASE, "openvino fp32", 64) - added(BASE, "openvino fp32", 32) == 32 * image
    streams = added(BASE, "openvino fp32", 8, threads=8) - added(BASE, "openvino fp32", 8)
    assert streams == 6 * HELD["openvino", "fp32"].stream


def test_golden_images_are_run_before_single_ones() -> None:
    assert added(BASE, "torch fp32", 1) == added(BASE, "torch fp32", 2) < added(BASE, "torch fp32", 3)


def test_memory_is_counted_from_a_bare_interpreter() -> None:
    assert 2**21 < _bare_memory() < 0.5 * peak_memory()  # this process has torch
