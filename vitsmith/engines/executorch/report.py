"""What is in an ExecuTorch program: which operators XNNPACK runs, and which fell back to portable ones."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from vitsmith.engines.graph_report import GraphReport, Node, report_of
from vitsmith.files.atomic import scratch
from vitsmith.weights.bundle.bundle import Bundle

_INT8 = ("xnn_datatype_qint8", "xnn_datatype_quint8", "xnn_datatype_qcint8", "xnn_datatype_qdint8")
_PORTABLE_PRODUCTS = {"aten::mm", "aten::bmm", "aten::addmm", "aten::linear", "aten::convolution"}
_NO_WORK = {"executorch_prim::et_view", "executorch_prim::et_copy_index"}
"""Views of memory."""


def report_on_executorch(path: Path, bundle: Bundle) -> GraphReport:
    """The report; reads the whole program."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the package
        from executorch.exir._serialize._program import deserialize_pte_binary

        program = deserialize_pte_binary(path.read_bytes()).program
        nodes = list(_nodes(program))
    portable = sorted({node.kind for node in nodes if not node.optimised})
    remarks = [f"not delegated to XNNPACK: {', '.join(portable)}"] if portable else []
    return report_of("executorch", nodes, _largest_batch(program), bundle, remarks)


def _largest_batch(program: Any) -> int:
    """The batch that all sizes in the program are for."""
    plan = program.execution_plan[0]
    sizes: Sequence[int] = plan.values[plan.inputs[0]].val.sizes
    return sizes[0]


def _nodes(program: Any) -> Iterator[Node]:
    plan = program.execution_plan[0]
    for instruction in plan.chains[0].instructions:
        call = instruction.instr_args
        if hasattr(call, "delegate_index"):
            reference = plan.delegates[call.delegate_index].processed
            yield from _delegated(bytes(program.backend_delegate_data[reference.index].data))
        elif hasattr(call, "op_index"):
            kind = plan.operators[call.op_index].name
            if kind not in _NO_WORK:
                yield Node(kind, "fp32", _portable_flops(kind, call.args, plan.values), optimised=False)


def _delegated(data: bytes) -> Iterator[Node]:
    """The nodes of an XNNPACK graph."""
    graph = _graph_of(data)
    values = [one["xvalue_union"] for one in graph["xvalues"]]
    tensors = [one.get("tensor_value", one) for one in values]  # quantised ones have scales around them
    by_id = {tensor["id_out"]: tensor for tensor in tensors}
    for node in graph["xnodes"]:
        kind, about = node["xnode_union_type"].removeprefix("_").removeprefix("XNN"), node["xnode_union"]
        used = [by_id[number] for name, number in about.items() if name.endswith("_id") and number in by_id]
        int8 = any(tensor["datatype"] in _INT8 for tensor in used)
        yield Node(kind, "int8" if int8 else "fp32", _delegated_flops(kind, about, by_id), optimised=True)


def _delegated_flops(kind: str, about: Mapping[str, Any], tensors: Mapping[int, Mapping[str, Any]]) -> int:
    if kind in ("FullyConnected", "BatchMatrixMultiply"):
        return 2 * prod(tensors[about["output_id"]]["dims"]) * tensors[about["input1_id"]]["dims"][-1]
    if kind in ("Conv2d", "DepthwiseConv2d"):
        window = about["kernel_height"] * about["kernel_width"] * about["group_input_channels"]
        return 2 * prod(tensors[about["output_id"]]["dims"]) * window
    return 0


def _portable_flops(kind: str, arguments: Sequence[int], values: Sequence[Any]) -> int:
    """FLOPs of an operator that was not delegated, from the sizes of its first two tensors."""
    if kind not in _PORTABLE_PRODUCTS:
        return 0
    sizes = [values[index].val.sizes for index in arguments if hasattr(values[index].val, "sizes")]
    if kind == "aten::addmm":
        sizes = sizes[1:]
    if kind == "aten::convolution":
        return 2 * prod(sizes[-1]) * prod(sizes[1][1:])
    return 2 * prod(sizes[-1]) * sizes[0][-1]


def _graph_of(data: bytes) -> Mapping[str, Any]:
    """XNNPACK's flatbuffer as JSON, by the compiler that comes with the package."""
    import executorch.backends.xnnpack.serialization as serialization
    from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader
    from executorch.exir._serialize._flatbuffer import _flatc_decompile

    header = XNNHeader.from_bytes(data[: XNNHeader.EXPECTED_LENGTH])
    start = header.flatbuffer_offset
    schema = Path(next(iter(serialization.__path__))) / "schema.fbs"
    with scratch("xnnpack") as place:
        packed = place / "graph.bin"
        packed.write_bytes(data[start : start + header.flatbuffer_size])
        _flatc_decompile(place, str(schema), str(packed), ["--raw-binary"])
        text = packed.with_suffix(".json").read_text(encoding="utf-8")
    # flatc writes infinite ranges of activations as C does.
    graph: Mapping[str, Any] = json.loads(re.sub(r"(?<=[\s:])(-?)inf\b", r"\1Infinity", text))
    return graph
