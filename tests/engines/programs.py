"""Tiny bundles with the programs of each engine, written without the gate, and what their answers may differ by."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.tiny import CONFIGS, pictures, tiny_lit, tiny_model
from vitsmith import Bundle
from vitsmith.engines.openvino.core import openvino_core
from vitsmith.exporters.onnx import write_graph
from vitsmith.exporters.parts import parts_of
from vitsmith.specs import ProgramSpec
from vitsmith.weights.bundle.folder import write_bundle

FLOAT = ProgramSpec()
FAMILIES = ["vit-token", "hybrid-stages", "mixer", "lit-bert"]


def torch_bundle(name: str) -> Bundle:
    bundle = tiny_lit(name) if name.startswith("lit") else Bundle.of(tiny_model(CONFIGS[name]))
    return bundle.with_golden(pictures(2))


def written(
    bundle: Bundle, folder: Path, program: Any, write: Callable[[Path], None], spec: ProgramSpec = FLOAT
) -> Bundle:
    """A bundle on disk with another program in it, without the gate."""
    similarity = bundle.similarity if bundle.text is not None else None
    other = dataclasses.replace(
        bundle, program=program, program_spec=spec, _model=None, _similarity=similarity, _weights_hash="0" * 64
    )
    return write_bundle(other, folder, write_program=write)


def onnx_bundle(bundle: Bundle, folder: Path, spec: ProgramSpec = FLOAT) -> Bundle:
    def write(place: Path) -> None:
        assert bundle.golden is not None
        for part in parts_of(bundle, bundle.golden.tensors, pixels=spec.pixels):
            write_graph(part, place / f"{part.name}.onnx", batch=spec.batch)

    return written(bundle, folder, "onnx", write, spec)


def openvino_bundle(bundle: Bundle, onnx: Bundle, folder: Path) -> Bundle:
    import openvino

    def write(place: Path) -> None:
        assert onnx.folder is not None
        for graph in onnx.folder.glob("*.onnx"):
            model = openvino_core().read_model(str(graph))
            openvino.save_model(model, str(place / f"{graph.stem}.xml"), compress_to_fp16=False)

    return written(bundle, folder, "openvino", write)


Programs = dict[str, Bundle]


def assert_close(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    assert found.dtype == np.float32 and found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(np.abs(expected).max(initial=0), 1e-9))


PAIRS = [("torch", "torch"), ("onnx", "onnx"), ("onnx", "openvino"), ("openvino", "openvino")]
