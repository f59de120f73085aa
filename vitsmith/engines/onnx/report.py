"""How onnxruntime runs a graph, from its own profile of one run: after all fusions, with the real shapes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from vitsmith.arrays import Array
from vitsmith.engines.graph_report import GraphReport, Node, report_of
from vitsmith.engines.onnx.session import open_session
from vitsmith.files.atomic import scratch
from vitsmith.weights.bundle.bundle import Bundle

TypedShape = tuple[str, list[int]]

FUSED_ATTENTION = {"Attention", "MultiHeadAttention", "QAttention", "PackedAttention", "GroupQueryAttention"}
_PRODUCTS = {"MatMul", "Gemm", "FusedMatMul", "FusedGemm", "TransposeMatMul", "DynamicQuantizeMatMul"}
_INT8_PRODUCTS = {"QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat", "QGemm", "DynamicQuantizeMatMul"}
_CONVOLUTIONS = {"Conv", "FusedConv", "QLinearConv", "ConvInteger", "NhwcFusedConv"}
_PRECISIONS = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "uint8": "int8", "int8": "int8"}


def report_on_onnx(path: Path, inputs: Array, bundle: Bundle) -> GraphReport:
    """The report. The program is opened a second time for it, and run once on `inputs`."""
    with scratch("profile") as place:
        session = open_session(path, enable_profiling=True, profile_file_prefix=str(place / "profile"))
        session.run(None, {session.get_inputs()[0].name: inputs})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    ran = [e["args"] for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]
    nodes = [_node(arguments) for arguments in ran]
    remarks = []
    if bundle.program_spec.precision == "fp16" and not any(node.precision == "fp16" for node in nodes if node.flops):
        remarks.append("onnxruntime has no fp16 products on this processor: they are computed in fp32")
    return report_of("onnx", nodes, len(inputs), bundle, remarks)


def _node(arguments: Mapping[str, Any]) -> Node:
    kind = str(arguments.get("op_name"))
    inputs, outputs = _shapes(arguments.get("input_type_shape")), _shapes(arguments.get("output_type_shape"))
    flops = _flops(kind, inputs, outputs)
    return Node(
        kind=kind,
        precision="int8" if kind in _INT8_PRODUCTS else _PRECISIONS.get(inputs[0][0] if inputs else "", "other"),
        flops=flops,
        optimised=arguments.get("provider") == "CPUExecutionProvider",
        attention=kind in FUSED_ATTENTION,
    )


def _flops(kind: str, inputs: Sequence[TypedShape], outputs: Sequence[TypedShape]) -> int:
    """FLOPs of products and convolutions; weights that were packed for the kernel are not among the inputs."""
    if not inputs or not outputs:
        return 0
    first, out = inputs[0][1], outputs[0][1]
    if kind in _PRODUCTS | _INT8_PRODUCTS and first:
        rows = prod(out[:-1])  # the first factor is (rows, terms), perhaps transposed within the product
        terms = prod(first) // rows if prod(first) % rows == 0 else first[-1]
        return 2 * prod(out) * terms
    if kind in _CONVOLUTIONS:
        kernels = [shape for _, shape in inputs[1:] if len(shape) == 4]
        return 2 * prod(out) * prod(kernels[0][1:]) if kernels else 0
    if kind in FUSED_ATTENTION and len(first) >= 3:
        return 4 * prod(first) * first[-2]
    return 0


def _shapes(described: Any) -> list[TypedShape]:
    """onnxruntime's [{'float': [2, 197, 192]}, ...] as [('float', [2, 197, 192]), ...]."""
    return [next(iter(one.items())) for one in described or [] if one]
