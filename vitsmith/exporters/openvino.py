"""OpenVINO programs: model.xml with model.bin, by way of ONNX, so that names stay and attention is fused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitsmith.arrays import Array
from vitsmith.engines.openvino.core import compile_program, import_openvino, openvino_core
from vitsmith.engines.openvino.engine import HINTS
from vitsmith.exporters.exporter import Exporter, LayerOutputs
from vitsmith.exporters.onnx import OPSET, as_computed, module_outputs, write_graph
from vitsmith.exporters.parts import Part
from vitsmith.files.atomic import scratch
from vitsmith.models.features import record
from vitsmith.specs import ProgramSpec
from vitsmith.weights.bundle.bundle import Bundle


def write_openvino(part: Part, path: Path, spec: ProgramSpec) -> None:
    """Writes `path`, an .xml, and the .bin beside it, unchecked.

    In fp16 the weights are halved on disk and in memory; OpenVINO computes with them in float32 on processors, and on
    GPUs in float16, except for operations that it knows to be sensitive. In bf16 the weights stay float32: the engine
    tells OpenVINO to compute in bfloat16.
    """
    openvino = import_openvino()
    with scratch("openvino") as place:
        graph = place / "graph.onnx"
        write_graph(part, graph, batch=spec.batch)
        openvino.save_model(openvino_from_onnx(graph), path, compress_to_fp16=spec.precision == "fp16")


def openvino_from_onnx(path: Path) -> Any:
    """The model that openvino.convert_model makes of an ONNX file; that function also reports its use online."""
    model = openvino_core().read_model(path)
    from openvino._offline_transformations import apply_moc_transformations

    apply_moc_transformations(model, cf=False, smart_reshape=True)
    return model


def layer_outputs(part: Part, path: Path, batch: Array, spec: ProgramSpec) -> LayerOutputs:
    """(layer, torch output, OpenVINO output) in the order of the graph, for a batch like the part's inputs.

    The output tensor of a module is found in the ONNX graph, which is made again; conversion keeps the names of
    tensors, except inside fused operations.
    """
    core = openvino_core()
    model = core.read_model(path)
    shape = model.input(0).get_partial_shape()
    if not shape[0].is_dynamic:
        batch = np.resize(batch, (shape[0].get_length(), *batch.shape[1:]))
    modules = dict(part.module.named_modules())
    there = {name for op in model.get_ops() for output in op.outputs() for name in output.get_names()}
    tensors = {name: one for name, one in _module_tensors(part, spec).items() if name in modules and one in there}
    names = [name for name in tensors if name]
    with record(part.module, names) as expected, torch.inference_mode():
        part.run_torch(batch)
    results = {name: model.add_outputs(tensors[name])[0].get_any_name() for name in names}
    computed = spec.precision.upper() in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    hint = {"INFERENCE_PRECISION_HINT": HINTS[spec.precision if computed else "fp32"]}
    compiled = compile_program(model, hint)
    given = compiled([np.ascontiguousarray(batch)])
    found = {name: np.array(given[port]) for port in compiled.outputs for name in port.get_names()}
    for name in names:
        output = found[results[name]]
        yield name, as_computed(expected[name].cpu().numpy(), output), output


def _module_tensors(part: Part, spec: ProgramSpec) -> dict[str, str]:
    """The name of the output tensor of each module."""
    import onnx

    with scratch("openvino") as place:
        graph = place / "graph.onnx"
        write_graph(part, graph, batch=spec.batch)
        return module_outputs(onnx.load(graph, load_external_data=False))


def _check(bundle: Bundle, spec: ProgramSpec) -> None:
    import_openvino()  # before any work


OPENVINO = Exporter(
    "openvino", f"vitsmith export --to openvino (opset {OPSET})", write_openvino, layer_outputs, check=_check
)
