"""Each product of an ONNX program rounds its input itself, so that onnxruntime computes all of them in int8.

NNCF rounds an activation once for all products that take it, as queries, keys and values do. onnxruntime 1.32 replaces
such products by int8 kernels only where nothing else takes the rounded activation: of 72 products of a ViT-S it left 33
in float. It also joins operations that are equal, so each product's scale is another float32 next to the first.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np


def with_own_rounding(model: Any) -> Any:
    """Gives all users but the first of a rounded activation a rounding of their own, in place; returns the ModelProto.

    Answers differ by the rounding of a scale to float32.
    """
    graph = model.graph
    constants = {one.name: one for one in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    users: dict[str, list[tuple[Any, int]]] = defaultdict(list)
    for node in graph.node:
        for place, name in enumerate(node.input):
            users[name].append((node, place))
    nodes: list[Any] = []
    for node in graph.node:
        nodes.append(node)
        rounding = makers.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if rounding is None or rounding.op_type != "QuantizeLinear" or node.input[1] not in constants:
            continue
        for number, (user, place) in enumerate(users[node.output[0]][1:], 1):
            scale = _next(constants[node.input[1]], number)
            graph.initializer.append(scale)
            pair = _pair(rounding, node, scale.name, number)
            user.input[place] = pair[1].output[0]
            nodes += pair
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def _pair(rounding: Any, back: Any, scale: str, number: int) -> list[Any]:
    """Copies of a QuantizeLinear and its DequantizeLinear with another scale."""
    pair = []
    for one in (rounding, back):
        copy = type(one)()
        copy.CopyFrom(one)
        copy.name, copy.output[0], copy.input[1] = f"{one.name}/{number}", f"{one.output[0]}/{number}", scale
        pair.append(copy)
    pair[1].input[0] = pair[0].output[0]
    return pair


def _next(scale: Any, number: int) -> Any:
    """The float32 that comes so many places after a scale, as a constant of its own."""
    from onnx import numpy_helper

    value = numpy_helper.to_array(scale)
    for _ in range(number):
        value = np.nextafter(value, np.float32(np.inf))
    return numpy_helper.from_array(value, f"{scale.name}/{number}")
