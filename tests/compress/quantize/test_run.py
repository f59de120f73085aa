"""int8 behind its gate: a whole run, what is written, and who is refused."""

from __future__ import annotations

import dataclasses
import errno
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from tests.compress.quantize.speeds import FAST, slow
from tests.exporting import export_onnx
from tests.tiny import CONFIGS, pictures, tiny_model, towers
from vitsmith import Bundle
from vitsmith.compress.images import TaskImages, read_tensors
from vitsmith.compress.quantize.onnx import OnnxPrograms
from vitsmith.compress.quantize.result import Quantization
from vitsmith.compress.quantize.run import quantize
from vitsmith.compress.quantize.schemes import (
    FIRST_SCHEMES,
    REQUIRED,
)
from vitsmith.data.sets.digits import open_digits
from vitsmith.engines.onnx.engine import OnnxEngine
from vitsmith.engines.open import open_engine
from vitsmith.errors import (
    GateError,
    InputError,
    MissingPackageError,
    OutputError,
    UnknownNameError,
)
from vitsmith.evaluation.evaluation import evaluate
from vitsmith.finite import require_finite_outputs
from vitsmith.machine import bf16_dot_products, int8_dot_products, processor_flags
from vitsmith.models.configure import change
from vitsmith.predict import Predictor
from vitsmith.weights.bundle.folder import read_bundle


def test_images_that_could_not_satisfy_a_strict_gate_are_told_before_work(tmp_path: Path) -> None:
    bundle = Bundle.of(tiny_model(CONFIGS["vit-token"]))
    photos = TaskImages.of([], pictures(9), "pictures", labels=np.zeros(9, np.int64))
    required = dataclasses.replace(REQUIRED, strict=True)
    with pytest.raises(InputError, match=r"9 evaluation images cannot tell .* at least 765 are needed"):
        quantize(bundle, photos, tmp_path / "model", Quantization("onnx", required))


@pytest.fixture(scope="module", params=["openvino", "onnx"])
def quantized(
    request: pytest.FixtureRequest, digits: Bundle, photos: TaskImages, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    folder = tmp_path_factory.mktemp(request.param) / "model"
    settings = Quantization(request.param)
    # The first of three is of float in bfloat16: where that pays, the rest of int8 programs is computed in it. With AMX
    # OpenVINO 2026.4 then answers this model wrongly (44 % as the original), which the gate refuses: float32 there.
    bfloat16 = 0.9 if "amx_int8" in processor_flags() else 1.5
    speeds = iter([bfloat16, 0.9, 2.0] if request.param == "openvino" and bf16_dot_products() else [0.9, 2.0])
    if request.param == "onnx" and not int8_dot_products():  # weights of 7 bits: dynamic errs too often to be raced
        speeds = iter([2.0])
    return quantize(digits, photos, folder, settings, race=lambda *_: slow(next(speeds)))


def test_digits_are_read_as_well_in_int8(quantized: Any, digits: Bundle) -> None:
    engine = quantized.settings.engine
    assert [one.name for one in quantized.search.attempts] == ["dynamic", "static min-max"]
    assert quantized.bundle.program == engine and quantized.bundle.program_spec.precision == "int8"
    rest = "bf16" if engine == "openvino" and bf16_dot_products() and "amx_int8" not in processor_flags() else "fp32"
    assert quantized.bundle.program_spec.rest == rest == quantized.base_rest
    evaluation_set = open_digits().val
    before = evaluate(Predictor(digits), evaluation_set).scores.top1
    after = evaluate(Predictor(quantized.bundle), evaluation_set).scores.top1
    assert before > 0.9 and before - after <= 0.005 + 1e-9
    assert quantized.top1 == pytest.approx(before)
    assert quantized.search.chosen.fidelity.top1 == pytest.approx(after)


def test_a_program_that_errs_in_batches_of_another_size_is_refused(
    digits: Bundle, photos: TaskImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = OnnxEngine.run

    def erring(engine: OnnxEngine, images: np.ndarray) -> np.ndarray:
        outputs = run(engine, images)
        return -outputs if engine.precision.startswith("int8") and len(images) == 1 else outputs

    monkeypatch.setattr(OnnxEngine, "run", erring)
    found = quantize(digits, photos, tmp_path / "model", Quantization("onnx"), race=lambda *_: FAST)
    reasons = {one.name: one.reason for one in found.search.attempts}
    assert found.bundle is None and "cosine" in reasons["static min-max"]


def test_the_bundle_says_what_it_is(quantized: Any, digits: Bundle) -> None:
    bundle = read_bundle(quantized.bundle.folder)
    assert "int8: static min-max, calibrated on 24 images" in bundle.provenance.notes
    assert bundle.identity == digits.identity and bundle.labels == digits.labels
    (top1,) = [one for one in bundle.measurements if one.metric == "top1"]
    assert top1.value == quantized.search.chosen.fidelity.top1 and top1.low < top1.value < top1.high
    assert any(one.metric == "images_per_second" and one.value == 100 for one in bundle.measurements)
    size = sum(path.stat().st_size for path in bundle.folder.glob("model.*")) / 2**20
    assert size == quantized.search.chosen.mib < quantized.floats[0].mib


def test_golden_answers_are_those_of_the_int8_program(quantized: Any, digits: Bundle) -> None:
    bundle = read_bundle(quantized.bundle.folder)
    golden = bundle.golden
    assert golden is not None and digits.golden is not None
    answers = open_engine(bundle, bundle.program).run(golden.tensors)
    np.testing.assert_allclose(golden.outputs, answers, rtol=0, atol=1e-5 * np.abs(answers).max())
    assert np.abs(golden.outputs - digits.golden.outputs).max() > 1e-4


def test_the_table_tells_all(quantized: Any) -> None:
    facts = json.loads(json.dumps(quantized.to_dict()))
    assert [one["program"] for one in facts["attempts"]][-2:] == ["dynamic", "static min-max"]
    assert facts["chosen"] == "static min-max" and facts["data"] == "digits, 359 held-out images"
    dynamic = facts["attempts"][-2]
    too_slow = 0.9, "it runs 0.90 times as fast in batches of 8 (required 1.2)"
    assert (dynamic["speedup"], dynamic["reason"]) == too_slow or dynamic["reason"].startswith("top-1 drops by")
    assert facts["attempts"][0]["top1"] == pytest.approx(facts["top1_before"]) and facts["labelled"]
    assert facts["attempts"][-1]["num_labelled_images"] == 359 and len(facts["attempts"][-1]["drop_interval"]) == 2
    assert any("only 24 calibration images" in remark for remark in facts["remarks"])
    quantized.require()


def test_a_broken_calibration_is_refused(
    digits: Bundle, photos: TaskImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pixels that were divided twice: all of the images end beyond the range that was found."""
    monkeypatch.setattr(
        "vitsmith.compress.quantize.run.FIRST_SCHEMES", (FIRST_SCHEMES[0], FIRST_SCHEMES[1], FIRST_SCHEMES[3])
    )
    monkeypatch.setattr("vitsmith.compress.quantize.run.float_choices", lambda _: [])
    wrong = read_tensors(digits, photos.calibration.sources) * 0.02
    result = quantize(
        digits,
        dataclasses.replace(photos, evaluation=photos.evaluation.select(range(100))),
        tmp_path / "model",
        Quantization("openvino"),
        calibration_tensors=wrong[:8],
        race=lambda *_: slow(0.9),  # the dynamic one, which needs no calibration
    )
    dynamic, *broken = result.search.attempts
    assert dynamic.reason.startswith("it runs 0.90 times") and dynamic.fidelity.top1 > 0.9
    assert (
        all(one.reason.startswith("top-1 drops by ") and one.fidelity.top1 < 0.5 for one in broken) and len(broken) >= 2
    )
    assert result.bundle is None and not (tmp_path / "model").exists()
    with pytest.raises(GateError, match=r"keep float: none of \d+ int8 programs .* meets the requirements"):
        result.require()


def test_an_exported_bundle_and_an_unknown_engine_are_refused(
    digits: Bundle, photos: TaskImages, tmp_path: Path
) -> None:
    exported, _ = export_onnx(digits, tmp_path / "exported")
    with pytest.raises(InputError, match=r"is an exported program \(model.onnx, fp32\): quantise the torch bundle"):
        quantize(exported, photos, tmp_path / "model", Quantization("onnx"))
    with pytest.raises(UnknownNameError, match="unknown engine 'torch'"):
        quantize(digits, photos, tmp_path / "model", Quantization("torch"))
    with pytest.raises(InputError, match="quantize does not measure latency_ms"):
        quantize(digits, photos, tmp_path / "model", Quantization("onnx", dataclasses.replace(REQUIRED, latency_ms=1)))


@pytest.mark.parametrize(
    ("engine", "package"), [("openvino", "nncf"), ("openvino", "openvino"), ("onnx", "onnxruntime")]
)
def test_a_missing_package_is_told_with_its_line(
    engine: str, package: str, digits: Bundle, photos: TaskImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    extra = "openvino" if package == "openvino" else "export"
    with pytest.raises(MissingPackageError, match=rf"needs {package}, .* pip install 'vitsmith\[{extra}\]'"):
        quantize(digits, photos, tmp_path / "model", Quantization(engine))
    assert not (tmp_path / "model").exists()


def test_a_full_disk_is_one_line_and_leaves_nothing(
    digits: Bundle, photos: TaskImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(OnnxPrograms, "write", full)
    with pytest.raises(OutputError, match="No space left on device") as caught:
        quantize(digits, photos, tmp_path / "model", Quantization("onnx"), race=lambda *_: FAST)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_models_that_merge_are_allowed_what_their_export_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another order of adding up may merge another of two equal pairs: 0.4 % of the largest output is no failure."""
    from vitsmith.exporters import onnx as exporter

    whole = exporter.write_graph

    def moved(part: Any, path: Path, **fields: Any) -> None:
        whole(part, path, **fields)
        graph = onnx.load(path)
        (bias,) = [array for array in graph.graph.initializer if array.name.endswith("head.bias")]
        shifted = onnx.numpy_helper.to_array(bias) + np.float32([0.004 * largest, 0, 0, 0, 0])
        bias.CopyFrom(onnx.numpy_helper.from_array(shifted, bias.name))
        onnx.save(graph, path)

    monkeypatch.setattr("vitsmith.compress.quantize.onnx.write_graph", moved)
    config = change(CONFIGS["vit-token"], depth=3, image_size=(40, 48))
    for merge, refused in (((), True), ((5, 4, 0), False)):
        bundle = Bundle.of(tiny_model(change(config, merge=merge)))
        chosen = TaskImages.of(pictures(8), pictures(8, seed=1), "pictures")
        largest = float(np.abs(bundle.run_torch(read_tensors(bundle, chosen.calibration.sources))).max())
        settings = Quantization("onnx", dataclasses.replace(REQUIRED, agreement=0))
        try:
            quantize(bundle, chosen, tmp_path / str(refused), settings, race=lambda *_: FAST)
        except GateError as error:
            assert refused, str(error)
        else:
            assert not refused


def test_images_of_one_class_are_told_of(tmp_path: Path) -> None:
    model = tiny_model(CONFIGS["vit-token"])
    with torch.no_grad():
        model.head.bias[0] += 100
    chosen = TaskImages.of(pictures(8), pictures(8, seed=1), "pictures")
    result = quantize(Bundle.of(model), chosen, tmp_path / "model", Quantization("onnx"), race=lambda *_: FAST)
    assert any("one class for all evaluation images" in remark for remark in result.remarks)


def test_a_float_program_that_differs_is_refused(
    digits: Bundle, photos: TaskImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vitsmith.exporters import onnx as exporter

    whole = exporter.write_graph

    def spoiled(part: Any, path: Path, **fields: Any) -> None:
        whole(part, path, **fields)
        graph = onnx.load(path)
        for array in graph.graph.initializer:
            if array.name.endswith("norm1.bias"):
                array.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(array) + 1, array.name))
        onnx.save(graph, path)

    monkeypatch.setattr("vitsmith.compress.quantize.onnx.write_graph", spoiled)
    with pytest.raises(GateError, match=r"the float onnx program of .* was refused"):
        quantize(digits, photos, tmp_path / "model", Quantization("onnx"), race=lambda *_: FAST)


def test_int8_without_an_answer_to_some_image_is_a_row_with_its_reason(
    digits: Bundle, photos: TaskImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(bundle: Bundle, *arguments: Any, **settings: Any) -> Any:
        engine = open_engine(bundle, *arguments, **settings)
        if bundle.program_spec.precision == "int8":
            engine.run = lambda images: require_finite_outputs(np.full((len(images), 10), np.nan), images, "it")
        return engine

    monkeypatch.setattr("vitsmith.compress.quantize.measure.open_engine", spoiled)
    result = quantize(digits, photos, tmp_path / "model", Quantization("onnx"), race=lambda *_: FAST)
    assert result.bundle is None and not (tmp_path / "model").exists()
    assert all("gives answers that are not finite" in one.reason for one in result.search.attempts)


def test_int8_that_does_not_run_is_a_row_with_its_reason_and_the_next_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime opens int8 products by a matrix a head, as attention pooling has them, and refuses to run them."""
    right = OnnxPrograms._write_dynamic

    def with_products_a_head(programs: OnnxPrograms, names: list[str], path: Path) -> None:
        graph = programs._graph.graph
        weights = {array.name for array in graph.initializer if len(array.dims) == 3}
        more = [node.name for node in graph.node if node.op_type == "MatMul" and weights & set(node.input)]
        assert more
        right(programs, [*names, *more], path)

    monkeypatch.setattr(OnnxPrograms, "_write_dynamic", with_products_a_head)
    bundle = Bundle.of(tiny_model(change(towers()["siglip"], classes=5)))
    chosen = TaskImages.of(pictures(8), pictures(8, seed=1), "pictures")
    settings = Quantization("onnx", dataclasses.replace(REQUIRED, agreement=0))
    result = quantize(bundle, chosen, tmp_path / "model", settings, race=lambda *_: FAST)
    first, second = result.search.attempts
    assert first.name == "dynamic" and first.reason.startswith("does not run ([ONNXRuntimeError]")
    assert second is result.search.chosen and result.bundle is not None
