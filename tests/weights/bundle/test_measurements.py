"""One name for each thing that is measured; the newer replaces the older; and nothing is shown that is another's."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vitsmith as vs
from tests.command_line import call
from tests.exporting import export_onnx
from tests.tiny import VIT, pictures, tiny_model
from tests.training.small_runs import splits, write_folder
from vitsmith import Bundle, ImageSpec, Labels, Measurement
from vitsmith.compress.merge_tokens.run import merge_by
from vitsmith.evaluation.speed import MeasuredCost, Speed
from vitsmith.machine import describe_machine
from vitsmith.models.configure import change
from vitsmith.specs import ProgramSpec
from vitsmith.weights.bundle import measurements
from vitsmith.weights.bundle.folder import record_measurements

MACHINE = describe_machine()
LABELS = Labels(names=splits().classes)

EVERYTHING = (
    measurements.accuracy(0.9, "pets, 200 held-out images", MACHINE, interval=(0.85, 0.94)),
    measurements.accuracy(0.02, "pets, 200 held-out images", MACHINE, metric="calibration_error"),
    measurements.size(12.5),
    measurements.latency("torch", 1, 4.2, MACHINE),
    measurements.latency("torch", 8, 20.0, MACHINE, percentile=95),
    measurements.throughput("torch", 8, 300.0, MACHINE),
    measurements.peak_memory("torch", 1, 400.0, MACHINE),
    measurements.evaluated_speed("torch", 120.0, "pets, 200 held-out images", MACHINE),
    measurements.training_speed(80.0, "images", "pets", MACHINE, "fp32"),
)
COSTS = {one.metric for one in EVERYTHING[2:]}


def measured() -> Bundle:
    return Bundle.of(tiny_model(change(VIT, classes=3)), labels=LABELS).measured(*EVERYTHING)


def names(bundle: Bundle) -> set[str]:
    return {one.metric for one in bundle.measurements}


def test_names_are_what_bundles_have_had() -> None:
    assert [one.title for one in EVERYTHING] == [
        "top1",
        "calibration_error",
        "size",
        "latency_p50 (torch, one image)",
        "latency_p95 (torch, batches of 8)",
        "images_per_second (torch, batches of 8)",
        "peak_memory (torch, one image)",
        "end_to_end_images_per_second (torch)",
        "training_images_per_second",
    ]
    assert [measurements.is_cost(one) for one in EVERYTHING] == [False, False] + [True] * 7
    recall = measurements.recall(0.5, 5, "text_to_image", "x", MACHINE, (0.4, 0.6))
    assert (recall.metric, recall.low, recall.high, recall.data) == ("text_to_image_recall@5", 0.4, 0.6, "x")


@pytest.mark.parametrize(
    "newer",
    [
        measurements.peak_memory("onnx", 1, 2.0, MACHINE, precision="fp32"),
        measurements.latency("onnx", 1, 2.0, MACHINE, precision="fp32"),
        measurements.throughput("onnx", 8, 2.0, MACHINE, precision="fp32"),
        measurements.recall(2.0, 1, "image_to_text", "shapes", MACHINE, (1, 3), precision="fp32"),
        measurements.accuracy(2.0, "pets", MACHINE, precision="fp32"),
    ],
)
def test_a_newer_value_replaces_the_older_on_the_same_data_and_machine(tmp_path: Path, newer: Measurement) -> None:
    newer = newer.model_copy(update={"program": "torch"})
    old = newer.model_copy(update={"value": 1.0, "date": "2026-01-02"})
    vs.save(dataclasses.replace(measured(), measurements=(old,)), tmp_path / "model")
    bundle = vs.load(tmp_path / "model")
    assert bundle.measurements == (old,)
    record_measurements(bundle, [newer])
    assert vs.load(tmp_path / "model").measurements == (newer,)
    for other in (
        {"machine": "another"},
        {"data": "other data"},
        {"precision": "bf16"},
        {"batch": 16},
        {"program": "onnx"},
    ):
        elsewhere = old.model_copy(update=other)
        assert measurements.with_newer([elsewhere], [newer]) == (elsewhere, newer)
    by_another = old.model_copy(update={"engine": "another"})
    kept = measurements.with_newer([by_another], [newer])
    assert kept == ((by_another, newer) if measurements.is_cost(newer) else (newer,))


def test_what_does_not_say_its_precision_is_of_the_programs_own() -> None:
    assert {one.precision for one in measured().measurements} == {"fp32"}
    half = dataclasses.replace(measured(), program="onnx", program_spec=ProgramSpec(precision="fp16"))
    assert half.measured(measurements.size(3.0)).measurements[-1].precision == "fp16"


def test_evaluation_and_benchmark_and_quickstart_use_the_same_names() -> None:
    cost = MeasuredCost("x", "onnx", 1.5, 0.9, Speed(3.0, 90.0, 16))
    assert [one.title for one in cost.measurements()] == [
        "size",
        "latency_p50 (onnx, one image)",
        "images_per_second (onnx, batches of 16)",
    ]
    twice = measurements.with_newer(cost.measurements(), cost.measurements())
    assert len(twice) == 3


def test_an_exported_program_has_no_measurements_of_another(tmp_path: Path) -> None:
    exported, _ = export_onnx(measured(), tmp_path / "onnx")
    assert exported.measurements == ()
    note = exported.provenance.notes[-1]
    assert note.startswith("measured before export: top1 0.9 (pets, 200 held-out images); calibration_error 0.02")
    assert "images_per_second" not in note and "size" not in note
    assert "- top1" not in (tmp_path / "onnx" / "README.md").read_text()
    half, _ = export_onnx(measured(), tmp_path / "half", spec=vs.load(tmp_path / "onnx").program_spec)
    assert half.measurements == ()
    assert merge_by(measured(), 1.1).measurements == ()
    vs.save(measured(), tmp_path / "model")
    assert vs.load(tmp_path / "model", headless=True).measurements == ()


def test_a_bundle_that_is_saved_again_keeps_what_is_still_true(tmp_path: Path) -> None:
    vs.save(measured(), tmp_path / "first")
    everything = {one.metric for one in EVERYTHING}
    again = vs.save(vs.load(tmp_path / "first"), tmp_path / "again")
    assert names(again) == everything
    changed = vs.load(tmp_path / "first")
    with torch.no_grad():
        changed.model.head.bias += 1
    assert names(vs.save(changed, tmp_path / "weights")) == COSTS
    for name, fields in {
        "labels": {"labels": Labels(names=("a", "b", "c"))},
        "images": {"preprocessing": ImageSpec.pillow(VIT.image_size, resize="squash")},
        "head": {"head": "sigmoid"},
    }.items():
        other = dataclasses.replace(vs.load(tmp_path / "first"), golden=None, **fields)
        assert names(vs.save(other, tmp_path / name)) == COSTS
        newer = other.measured(measurements.accuracy(0.5, "pets, 200 held-out images", MACHINE))
        kept = vs.save(newer, tmp_path / f"{name}-newer")
        assert [one.value for one in kept.measurements if one.metric == "top1"] == [0.5]


def test_a_bundle_whose_weights_were_changed_does_not_refuse_itself(tmp_path: Path) -> None:
    first = vs.save(measured().with_golden(pictures(2)), tmp_path / "first")
    assert first is not None and first.golden is not None
    changed = vs.load(tmp_path / "first")
    with torch.no_grad():
        changed.model.head.bias += 5
    vs.save(changed, tmp_path / "changed")
    again = vs.load(tmp_path / "changed")
    assert again.golden is not None
    np.testing.assert_allclose(again.run_torch(again.golden.tensors), first.golden.outputs + 5, atol=1e-4)
    assert len(again.golden.images) == 2 and np.array_equal(again.golden.images[0], first.golden.images[0])
    exported, _ = export_onnx(changed, tmp_path / "onnx")
    np.testing.assert_allclose(exported.golden.outputs, again.golden.outputs, atol=1e-4)  # type: ignore[union-attr]


def test_export_and_evaluate_by_the_command_line(capsys: Any, tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", 12)
    vs.save(measured(), tmp_path / "model")
    assert call(capsys, "export", tmp_path / "model", "--to", "onnx", "--out", tmp_path / "onnx")[0] == 0
    code, out, _ = call(capsys, "inspect", tmp_path / "onnx", "--json")
    shown = json.loads(out)
    assert code == 0 and shown["measurements"] == [] and "measured before export: top1 0.9" in shown["notes"]
    arguments = ["evaluate", tmp_path / "onnx", "--data", data, "--record", "--out", tmp_path / "run"]
    assert call(capsys, *arguments)[0] == 0
    recorded = names(vs.load(tmp_path / "onnx"))
    assert recorded >= {"top1", "end_to_end_images_per_second"}
