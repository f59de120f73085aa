"""How OpenVINO runs a graph, from the runtime model of the compiled program."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from vitsmith.arrays import Shape
from vitsmith.engines.graph_report import GraphReport, Node, report_of
from vitsmith.machine import int8_dot_products
from vitsmith.weights.bundle.bundle import Bundle

_FUSED_ATTENTION = {"ScaledDotProductAttention", "MHA"}
_NO_WORK = {"Input", "Parameter", "Const", "Output", "Result"}
_PRECISIONS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "u8": "int8", "i8": "int8"}


def report_on_openvino(compiled: Any, bundle: Bundle, remarks: Sequence[str] = ()) -> GraphReport:
    """The report on a compiled program."""
    # In products with int8 weights the plugin rounds the inputs at run time, in groups, and still calls them float.
    rounds = bool(compiled.get_property("DYNAMIC_QUANTIZATION_GROUP_SIZE")) and int8_dot_products() is not False
    found = (_node(operation, rounds) for operation in compiled.get_runtime_model().get_ordered_ops())
    nodes = [node for node in found if node is not None]
    return report_of("openvino", nodes, compiled.input(0).shape[0], bundle, remarks)


def _node(operation: Any, rounds: bool) -> Node | None:
    """The node of an operation; None for constants, inputs and outputs. `rounds`: see `report_on_openvino`."""
    facts = operation.get_rt_info()

    def fact(name: str) -> str:
        return str(facts[name].astype(str)) if name in facts else ""

    kind = fact("layerType")
    if kind in _NO_WORK:
        return None
    inputs = [_shape(port) for port in operation.inputs()]
    outputs = [_shape(port) for port in operation.outputs()]
    fused = kind in _FUSED_ATTENTION or (kind == "Subgraph" and _is_attention(fact("originalLayersNames"), inputs))
    return Node(
        kind=kind,
        precision=_PRECISIONS.get(_computed_in(operation, rounds) or fact("runtimePrecision"), "other"),
        flops=_attention_flops(inputs) if fused else _flops(kind, inputs, outputs),
        optimised=not fact("primitiveType").startswith("ref"),
        attention=fused,
    )


def _computed_in(operation: Any, rounds: bool) -> str:
    """Type of the first input: `runtimePrecision` is that of the weights, which may be stored in fewer bits."""
    types = [str(port.get_element_type().get_type_name()) for port in operation.inputs()]
    if rounds and len(types) > 1 and types[1] in ("i8", "u8"):
        return types[1]
    return types[0] if types else ""


def _is_attention(names: str, inputs: Sequence[Shape]) -> bool:
    """Whether a subgraph compiled to one kernel is a whole attention: softmax between two products that fit."""
    if "softmax" not in names.lower() or len(inputs) < 3 or min(map(len, inputs[:3])) < 3:
        return False
    query, key, value = inputs[:3]
    return query[-1] in key[-2:] and key[-2] in (query[-1], value[-2])


def _attention_flops(inputs: Sequence[Shape]) -> int:
    """Scores and weighted sum of queries (..., M, d) and keys (..., d, N) or (..., N, d)."""
    query, key, _ = inputs[:3]
    others = prod(key[-2:]) // query[-1]
    return 4 * prod(query) * others


def _flops(kind: str, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    if not inputs or not outputs:
        return 0
    if kind in ("FullyConnected", "MatMul"):
        return 2 * prod(outputs[0]) * inputs[0][-1]
    if kind in ("Convolution", "GroupConvolution"):
        return 2 * prod(outputs[0]) * prod(inputs[1][1:])
    return 0


def _shape(port: Any) -> Shape:
    """Sizes; a dynamic one counts as 1."""
    partial = port.get_partial_shape()
    if partial.rank.is_dynamic:
        return ()
    return tuple(1 if size.is_dynamic else size.get_length() for size in partial)
