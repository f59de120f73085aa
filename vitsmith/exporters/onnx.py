"""ONNX programs: model.onnx and, of LiT, text.onnx, which give unit vectors; and the outputs of their layers."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitsmith.arrays import Array
from vitsmith.engines.onnx.session import open_session
from vitsmith.errors import MissingPackageError
from vitsmith.exporters.exporter import Exporter, LayerOutputs
from vitsmith.exporters.folding import with_folded_layers
from vitsmith.exporters.parts import Part
from vitsmith.models.features import record
from vitsmith.process.quiet import quiet
from vitsmith.specs import ProgramSpec

OPSET = 20  # the first with a Gelu node, in both of its forms
LARGEST_SINGLE_FILE = 1_800_000_000
"""Bytes of weights beyond which they lie beside the graph: protobuf cannot hold 2 GiB."""


def write_onnx(part: Part, path: Path, spec: ProgramSpec) -> None:
    """Writes a graph in the precision asked for, fp32 or fp16, unchecked."""
    if spec.precision == "fp32":
        write_graph(part, path, batch=spec.batch)
        return
    from vitsmith.exporters.float16 import half_from_float

    float_path = path.with_name(f"float-{path.name}")
    write_graph(part, float_path, batch=spec.batch)
    half_from_float(float_path, path, inputs=part.inputs)
    for leftover in path.parent.glob(f"float-{path.name}*"):
        leftover.unlink()


def write_graph(part: Part, path: Path, *, batch: int | None = None) -> None:
    """Traces a module and writes its float32 graph, unchecked, for any batch or for batches of exactly `batch`."""
    try:
        import onnxscript  # noqa: F401  (torch.onnx needs it and says so only in a traceback)
    except ImportError:
        raise MissingPackageError("onnxscript", "export") from None
    example = torch.from_numpy(np.resize(part.inputs, (batch or 2, *part.inputs.shape[1:])))
    dynamic = ({0: torch.export.Dim("batch", min=1, max=65536)},) if batch is None else None
    with quiet():
        program = torch.onnx.export(
            with_folded_layers(part.module),
            (example.to(next(part.module.parameters()).device),),
            dynamo=True,
            opset_version=OPSET,
            input_names=[part.input_name],
            output_names=[part.output_name],
            dynamic_shapes=dynamic,
            verbose=False,
        )
        assert program is not None
        _forget_places(program.model)
        program.save(path, external_data=part.bytes > LARGEST_SINGLE_FILE)


def _forget_places(model: Any) -> None:
    """Drops the exporter's notes on the lines of Python that made each node: they name folders of this machine."""
    from onnxscript import ir

    for graph in (model.graph, *model.functions.values()):
        for node in ir.traversal.RecursiveGraphIterator(graph):
            node.metadata_props.pop("pkg.torch.onnx.stack_trace", None)


def layer_outputs(part: Part, path: Path, batch: Array, spec: ProgramSpec | None = None) -> LayerOutputs:
    """(layer, torch output, onnx output) in the order of the graph, for a batch like the part's inputs.

    The exporter notes on each node which module it came from; the last node of a module gives the module's output.
    """
    import onnx

    graph = onnx.load(path, load_external_data=False)
    frozen = graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    if frozen:
        batch = np.resize(batch, (frozen, *batch.shape[1:]))
    tensors = module_outputs(graph)
    modules = dict(part.module.named_modules())
    names = [name for name in tensors if name in modules and name]
    with record(part.module, names) as expected, torch.inference_mode():
        part.run_torch(batch)
    found = _run_with_outputs(path, [tensors[name] for name in names], {part.input_name: batch})
    for name, output in zip(names, found, strict=True):
        yield name, as_computed(expected[name].cpu().numpy(), output), output


def as_computed(expected: Array, found: Array) -> Array:
    """The torch output, without tokens that the program did not compute because the head does not use them."""
    return expected[:, : found.shape[1]] if expected.ndim == found.ndim == 3 else expected


def module_outputs(graph: Any) -> dict[str, str]:
    """Name of the output tensor of each module, in the order in which modules end in the graph."""
    outputs: dict[str, str] = {}
    for node in graph.graph.node:
        scopes = next((p.value for p in node.metadata_props if p.key == "pkg.torch.onnx.name_scopes"), "[]")
        for scope in reversed(ast.literal_eval(scopes)):
            outputs.pop(scope, None)
            outputs[scope] = node.output[0]
    return outputs


def _run_with_outputs(path: Path, tensors: list[str], inputs: dict[str, Array]) -> list[Array]:
    """Runs the file's own graph with inner tensors made visible."""
    import onnx

    graph = onnx.load(path, load_external_data=False)
    visible = {output.name for output in graph.graph.output}
    known = {info.name: info for info in graph.graph.value_info}
    for name in dict.fromkeys(tensors):
        if name not in visible:
            graph.graph.output.append(known.get(name, onnx.ValueInfoProto(name=name)))
    opened = path.with_name("layers.onnx")
    onnx.save(graph, opened)
    try:
        return list(open_session(opened).run(tensors, inputs))
    finally:
        opened.unlink()


ONNX = Exporter("onnx", f"vitsmith export --to onnx (opset {OPSET})", write_onnx, layer_outputs)
