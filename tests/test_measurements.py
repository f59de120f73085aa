"""One name for each thing that is measured; the newer replaces the older; and nothing is shown that is another's."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vitsmith as vs
from tests.test_cli import call
from tests.tiny import VIT, pictures, tiny_model
from tests.training import splits, write_folder
from vitsmith import Bundle, ImageSpec, Labels, Measurement
from vitsmith.compress.merge import merge_by
from vitsmith.errors import BundleError
from vitsmith.evaluate.speed import Cost, Speed
from vitsmith.export.onnx import export_onnx
from vitsmith.machine import describe_machine
from vitsmith.models.configure import change
from vitsmith.weights import measurements
from vitsmith.weights.bundle_folder import record_measurements

MACHINE = describe_machine()
LABELS = Labels(names=splits().classes)

EVERYTHING = (
    measurements.accuracy(0.9, "pets, 200 held-out images", MACHINE, interval=(0.85, 0.94)),
    measurements.accuracy(0.02, "pets, 200 held-out images", MACHINE, name="calibration_error"),
    measurements.size(12.5),
    measurements.latency("torch", 1, 4.2, MACHINE),
    measurements.latency("torch", 8, 20.0, MACHINE, share=95),
    measurements.throughput("torch", 8, 300.0, MACHINE),
    measurements.peak_memory("torch", 1, 400.0, MACHINE),
    measurements.evaluated_speed("torch", 120.0, "pets, 200 held-out images", MACHINE),
    measurements.training_speed(80.0, "images/s", "pets", MACHINE),
)
COSTS = {one.name for one in EVERYTHING[2:]}


def measured() -> Bundle:
    return Bundle.of(tiny_model(change(VIT, classes=3)), labels=LABELS).measured(*EVERYTHING)


def names(bundle: Bundle) -> set[str]:
    return {one.name for one in bundle.measurements}


def test_names_are_what_bundles_have_had() -> None:
    assert [one.name for one in EVERYTHING] == [
        "top1",
        "calibration_error",
        "size",
        "latency_p50 (torch, one image)",
        "latency_p95 (torch, batches of 8)",
        "images_per_second (torch, batches of 8)",
        "peak_memory (torch, one image)",
        "images_per_second (torch)",
        "training speed",
    ]
    assert [measurements.is_cost(one) for one in EVERYTHING] == [False, False] + [True] * 7
    recall = measurements.recall(0.5, 5, "text to image", "x", MACHINE, (0.4, 0.6))
    assert (recall.name, recall.low, recall.high, recall.data) == ("recall@5 (text to image)", 0.4, 0.6, "x")


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        # as `compress` wrote it, and as `benchmark` did
        ({"name": "peak memory (onnx, one image)"}, measurements.peak_memory("onnx", 1, 2.0, MACHINE)),
        ({"name": "peak_memory (onnx, one image)"}, measurements.peak_memory("onnx", 1, 2.0, MACHINE)),
        ({"name": "latency_p50 (onnx, one image)"}, measurements.latency("onnx", 1, 2.0, MACHINE)),
        (
            {"name": "images_per_second (onnx, batches of 8)", "data": "inference alone"},
            measurements.throughput("onnx", 8, 2.0, MACHINE),
        ),
        (
            {"name": "recall@1 image to text", "data": "shapes"},
            measurements.recall(2.0, 1, "image to text", "shapes", MACHINE, (1, 3)),
        ),
        ({"name": "top1", "data": "pets"}, measurements.accuracy(2.0, "pets", MACHINE)),
    ],
)
def test_a_newer_value_replaces_the_older_on_the_same_data_and_machine(
    tmp_path: Path, older: dict[str, Any], newer: Measurement
) -> None:
    old = Measurement(value=1.0, machine=MACHINE, **older)
    vs.save(dataclasses.replace(measured(), measurements=(old,)), tmp_path / "model")
    bundle = vs.load(tmp_path / "model")
    assert bundle.measurements == (old,)  # old names are read as they are
    record_measurements(bundle, [newer])
    assert vs.load(tmp_path / "model").measurements == (newer,)
    elsewhere = old.model_copy(update={"machine": "another"})
    assert measurements.with_newer([elsewhere], [newer]) == (elsewhere, newer)
    other = old.model_copy(update={"data": "other data"})
    assert measurements.with_newer([other], [newer]) == (other, newer)


def test_evaluation_and_benchmark_and_quickstart_use_the_same_names() -> None:
    cost = Cost("x", "onnx", 1.5, 0.9, Speed(3.0, 90.0, 16))
    assert [one.name for one in cost.measurements()] == [
        "size",
        "latency_p50 (onnx, one image)",
        "images_per_second (onnx, batches of 16)",
    ]
    assert {one.data for one in cost.measurements()[1:]} == {"inference alone"}
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
    everything = {one.name for one in EVERYTHING}
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
        assert [one.value for one in kept.measurements if one.name == "top1"] == [0.5]


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


def test_old_bundles_without_a_hash_of_weights_are_read(tmp_path: Path) -> None:
    vs.save(measured(), tmp_path / "old")
    path = tmp_path / "old" / "bundle.json"
    fields = json.loads(path.read_text())
    fields["weights"] = ""
    from vitsmith.weights.bundle_folder import _checksum

    fields["checksum"] = _checksum(fields)
    path.write_text(json.dumps(fields))
    assert names(vs.save(vs.load(tmp_path / "old"), tmp_path / "new")) == {one.name for one in EVERYTHING}


@pytest.mark.parametrize("number", ["Infinity", "-Infinity", "NaN"])
@pytest.mark.parametrize("field", ["value", "high"])
def test_old_bundles_with_a_measurement_that_is_not_finite_are_read_without_it(
    tmp_path: Path, capsys: Any, number: str, field: str
) -> None:
    vs.save(measured(), tmp_path / "old")
    path = tmp_path / "old" / "bundle.json"
    fields = json.loads(path.read_text())
    del fields["checksum"]
    fields["measurements"][1][field] = float(number)
    fields["checksum"] = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()  # as early versions
    path.write_text(json.dumps(fields))
    bad = EVERYTHING[1]
    loaded = vs.load(tmp_path / "old")
    assert names(loaded) == {one.name for one in EVERYTHING if one is not bad}
    assert np.isfinite(vs.Predictor(loaded, "torch").logits(pictures(1))).all()
    again = vs.save(loaded, tmp_path / "new")
    assert again is not None and names(again) == names(loaded)
    code, out, _ = call(capsys, "inspect", tmp_path / "new")
    assert code == 0 and f"not finite (NaN or infinity): {bad.name}" in " ".join(out.split())
    path.write_text(path.read_text().replace(number, "1.0"))
    with pytest.raises(BundleError, match="was changed after it was written"):
        vs.load(tmp_path / "old")


def test_export_and_evaluate_by_the_command_line(capsys: Any, tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", 12)
    vs.save(measured(), tmp_path / "model")
    assert call(capsys, "export", tmp_path / "model", "--to", "onnx", "--out", tmp_path / "onnx")[0] == 0
    code, out, _ = call(capsys, "inspect", tmp_path / "onnx", "--json")
    shown = json.loads(out)
    assert code == 0 and shown["measurements"] == [] and "measured before export: top1 0.9" in shown["notes"]
    arguments = ["evaluate", tmp_path / "onnx", "--data", data, "--record", "--out", tmp_path / "run"]
    assert call(capsys, *arguments)[0] == 0
    assert {one.name for one in vs.load(tmp_path / "onnx").measurements} >= {"top1", "images_per_second (onnx)"}
