"""A graph made without torch beside the export of the same model."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx

from tests.tiny import tiny_inputs, tiny_model
from vitsmith.cost.graphs.program import graph_of
from vitsmith.cost.graphs.weights import ModelNumbers
from vitsmith.engines.onnx.report import report_on_onnx
from vitsmith.engines.onnx.session import open_session
from vitsmith.engines.openvino.graph import compile_graph
from vitsmith.engines.openvino.report import report_on_openvino
from vitsmith.engines.plan import Plan
from vitsmith.exporters.onnx import write_graph
from vitsmith.exporters.parts import parts_of
from vitsmith.models.config import ImageModelConfig
from vitsmith.weights.bundle.bundle import Bundle


def assert_same_as_export(config: ImageModelConfig, place: Path) -> None:
    """The graph of `config` gives what its model gives, and both engines run it by the kernels of its export."""
    bundle, exported, made = _made(config, place)
    onnx.checker.check_model(onnx.load(made), full_check=True)
    images = tiny_inputs(config, 2)[0]

    reports = [report_on_onnx(path, images.numpy(), bundle) for path in (exported, made)]
    assert reports[0] == reports[1]

    compiled = [compile_graph(path, "f32", Plan(2, 1, 1)) for path in (exported, made)]
    layers = [layers_of(one) for one in compiled]
    assert layers[0] == layers[1]
    assert report_on_openvino(compiled[0], bundle) == report_on_openvino(compiled[1], bundle)

    expected = bundle.model(images).detach().numpy()
    np.testing.assert_allclose(compiled[1]([images.numpy()])[0], expected, atol=1e-5)
    np.testing.assert_allclose(open_session(made).run(None, {"images": images.numpy()})[0], expected, atol=1e-5)


def layers_of(compiled: object) -> Counter[tuple[str, str]]:
    """(kind, precision) of all layers that OpenVINO runs."""
    operations = compiled.get_runtime_model().get_ordered_ops()  # type: ignore[attr-defined]
    facts = [operation.get_rt_info() for operation in operations]
    return Counter((str(one["layerType"].astype(str)), str(one["runtimePrecision"].astype(str))) for one in facts)


def _made(config: ImageModelConfig, place: Path) -> tuple[Bundle, Path, Path]:
    """(a model, its export, its graph made here with its weights)."""
    bundle = Bundle.of(tiny_model(config))
    exported, made = place / "exported.onnx", place / "made.onnx"
    write_graph(parts_of(bundle, tiny_inputs(config, 2)[0].numpy())[0], exported)
    state = {name: weight.numpy() for name, weight in bundle.model.state_dict().items()}
    made.write_bytes(b"".join(graph_of(config).pieces(ModelNumbers(state))))
    return bundle, exported, made
