"""ONNX graphs in float16: operators that need the range or the digits of float32 stay in float32."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vitsmith.arrays import Array
from vitsmith.engines.onnx.session import open_session
from vitsmith.errors import GateError, MissingPackageError
from vitsmith.process.quiet import quiet

KEPT = (
    "LayerNormalization",
    "GroupNormalization",
    "InstanceNormalization",
    "Softmax",
    "ReduceL2",
    "Pow",
    "ReduceMean",
)
"""Operators that stay in float32: all add up many values, or squares and exponentials of them. One exporter's LayerNorm
in pieces, in float16, left 19% of an ImageNet model's top-1."""

MASKING = ("Add", "Where", "Unsqueeze", "Expand")
"""Operators between a mask and the softmax."""

LARGEST = float(np.finfo(np.float16).max)
MARGIN = 2.0
"""Values on a few images must stay below LARGEST by this factor: other images reach further."""

LARGEST_SINGLE_FILE = 1_800_000_000
RANGE_INPUTS = 4


def half_from_float(
    path_in: Path, path_out: Path, *, keep: Collection[str] = KEPT, inputs: Array | None = None
) -> None:
    """Writes the graph of `path_in` in float16 to `path_out`; its inputs and outputs keep their types.

    Args:
        path_in: a float32 graph, with its weights inside or beside it.
        path_out: weights lie beside it when they are large.
        keep: operators that stay in float32.
        inputs: inputs of the graph. With them every tensor is computed in float32 first, to find overflows: onnxruntime
            hides them, because it computes float16 programs in float32 on processors.

    Raises GateError, naming the layer, for values that float16 cannot hold.
    """
    try:
        import onnx
        import onnx_ir
        from onnxruntime.transformers.float16 import convert_float_to_float16
    except ImportError:
        raise MissingPackageError("onnxruntime", "export") from None
    model = onnx.load(path_in)
    floats = _float_nodes(model.graph, keep)
    _require_weights(model.graph, floats)
    if inputs is not None:
        _require_range(path_in, floats, inputs)
    _forget_types_of_weights(model.graph)
    with quiet():
        model = convert_float_to_float16(
            model,
            keep_io_types=True,
            disable_shape_infer=True,  # the exporter wrote all types; inference cannot take more than 2 GiB
            op_block_list=[],
            node_block_list=sorted(floats),
        )
    graph = onnx_ir.from_proto(model)
    graph.graph.sort()  # the converter puts its casts at the end
    large = sum(len(one.raw_data) for one in model.graph.initializer) > LARGEST_SINGLE_FILE
    onnx_ir.save(graph, path_out, external_data=f"{path_out.name}.data" if large else None)


def _forget_types_of_weights(graph: Any) -> None:
    """Drops the second note of the weights' types: the converter would change it even for weights left in float32."""
    weights = {one.name for one in graph.initializer}
    kept = [one for one in graph.value_info if one.name not in weights]
    del graph.value_info[:]
    graph.value_info.extend(kept)


def _float_nodes(graph: Any, keep: Collection[str]) -> set[str]:
    """Names of the nodes that stay in float32: operators of `keep`; those that mask the scores of a softmax with very
    large numbers; and those that compute with weights alone, once, when the graph is opened."""
    names = {node.name for node in graph.node if node.op_type in keep}
    makers = {output: node for node in graph.node for output in node.output}
    waiting = [name for node in graph.node if node.op_type == "Softmax" for name in node.input]
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and node.op_type in MASKING:
            names.add(node.name)
            waiting.extend(node.input)
    known = {one.name for one in graph.initializer}
    for node in graph.node:
        if node.input and all(name in known for name in node.input if name):
            known.update(node.output)
            names.add(node.name)
    return names


def _require_weights(graph: Any, floats: set[str]) -> None:
    """Raises GateError for a weight that float16 cannot hold: the converter would clip it silently."""
    from onnx import TensorProto, numpy_helper

    halved = {name for node in graph.node if node.name not in floats for name in node.input}
    for one in graph.initializer:
        if one.data_type == TensorProto.FLOAT and one.name in halved:
            largest = float(np.abs(numpy_helper.to_array(one)).max(initial=0.0))
            if not largest <= LARGEST:
                raise GateError(_refusal(f"the weight {one.name} has {largest:.3g}"))


def _require_range(path: Path, floats: set[str], inputs: Array) -> None:
    """Raises GateError for the first tensor that comes near the end of float16's range."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    typed = {one.name for one in model.graph.value_info if one.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    halved = [node for node in model.graph.node if node.name not in floats]
    seen = {output: node for node in halved for output in node.output if output in typed}
    for name in seen:
        model.graph.node.append(onnx.helper.make_node("Abs", [name], [f"{name}/size"]))
        model.graph.node.append(onnx.helper.make_node("ReduceMax", [f"{name}/size"], [f"{name}/most"], keepdims=0))
        model.graph.output.append(onnx.helper.make_tensor_value_info(f"{name}/most", onnx.TensorProto.FLOAT, []))
    opened = path.with_name(f"range-{path.name}")
    onnx.save(model, opened)
    try:
        session = open_session(opened)
        wanted = [f"{name}/most" for name in seen]
        largest = np.max([session.run(wanted, given) for given in _batches(session, inputs)], axis=0)
    finally:
        opened.unlink()
    for (name, node), value in zip(seen.items(), largest, strict=True):
        if not value * MARGIN <= LARGEST:
            raise GateError(_refusal(f"{_layer(node) or name} gives {value:.3g}"))


def _batches(session: Any, inputs: Array) -> Iterator[dict[str, Array]]:
    """A few inputs, as many at a time as the graph takes."""
    taken = session.get_inputs()[0]
    size = taken.shape[0] if isinstance(taken.shape[0], int) else 1
    for at in range(0, min(len(inputs), RANGE_INPUTS), size):
        yield {taken.name: np.resize(inputs[at : at + size], (size, *inputs.shape[1:]))}


def _layer(node: Any) -> str:
    """The innermost module that a node was traced in."""
    scopes = next((p.value for p in node.metadata_props if p.key == "pkg.torch.onnx.name_scopes"), "[]")
    modules = [scope for scope in ast.literal_eval(scopes)[:-1] if scope]  # the last is the operation itself
    return modules[-1] if modules else ""


def _refusal(what: str) -> str:
    return (
        f"fp16 was refused, nothing was written: {what}, and the largest float16 is {LARGEST:.0f}; use fp32, or bf16 "
        "if the target has it"
    )
