"""onnxruntime computes every product in int8 that a static program rounds."""

from __future__ import annotations

import collections
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.tiny import VIT, pictures, tiny_model
from vitsmith import Bundle
from vitsmith.compress.images import read_tensors
from vitsmith.compress.quantize import onnx as onnx_programs
from vitsmith.compress.quantize.onnx import OnnxPrograms
from vitsmith.compress.quantize.schemes import Scheme
from vitsmith.engines.onnx.session import open_session
from vitsmith.exporters.parts import parts_of


def _kernels(program: Path, optimised: Path) -> collections.Counter[str]:
    """The operations that onnxruntime runs in place of those of a program."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(optimised), 3
    onnxruntime.InferenceSession(program, options, providers=["CPUExecutionProvider"])
    return collections.Counter(node.op_type for node in onnx.load(optimised).graph.node)


def test_queries_keys_and_values_are_int8_and_answers_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle.of(tiny_model(VIT))
    images = read_tensors(bundle, pictures(8))
    (tmp_path / "float").mkdir()
    programs = OnnxPrograms(parts_of(bundle, images), tmp_path / "float")
    for name in ("own", "shared"):
        (tmp_path / name).mkdir()
        if name == "shared":
            monkeypatch.setattr(onnx_programs, "with_own_rounding", lambda model: model)
        programs.write(Scheme("static"), images, tmp_path / name)
    found = {name: _kernels(tmp_path / name / "model.onnx", tmp_path / f"{name}.onnx") for name in ("own", "shared")}
    products = 6 * VIT.depth  # query, key, value and out, and the two of the MLP
    assert found["own"]["MatMulIntegerToFloat"] == products
    assert found["own"]["MatMul"] == found["shared"]["MatMul"] - 3 * (VIT.depth - 1)
    own, shared = (
        open_session(tmp_path / name / "model.onnx").run(None, {"images": images})[0] for name in ("own", "shared")
    )
    np.testing.assert_allclose(own, shared, rtol=0, atol=0.02 * float(np.abs(shared).max()))
