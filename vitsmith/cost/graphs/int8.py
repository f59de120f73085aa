"""int8: a graph in float32 with its products rounded where `compress/quantize` rounds them, with ranges on no images.

Rounded tensors go through QuantizeLinear and DequantizeLinear, which both engines replace by products in int8.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from vitsmith.arrays import Array
from vitsmith.cost.graphs.graph import Graph, Value
from vitsmith.cost.graphs.onnx_bytes import OnnxNode
from vitsmith.cost.graphs.weights import LARGEST, State, Weight

SCALE = 8 / 255
"""Of all activations: they may lie within about -4 and 4. What they are costs no time."""
CODES = 127
"""The largest int8 of a weight; the least is its negative."""


@dataclass(frozen=True)
class Codes:
    """How activations are rounded: to int8 or uint8, with the code of zero."""

    dtype: str
    zero: int


def quantized_for_onnx(g: Graph) -> Graph:
    """The same graph for onnxruntime: products with matrices of weights in int8, as `OnnxPrograms` chooses them."""
    rounding = _Rounding(g)
    for node in g.nodes:
        if _has_matrix(g, node):
            rounding.product(node, Codes("int8", -3), axis=1)
        else:
            rounding.made.nodes.append(node)
    return rounding.made


def _has_matrix(g: Graph, node: OnnxNode) -> bool:
    """Whether a node multiplies by a matrix of weights from the right."""
    return node.kind == "MatMul" and node.inputs[1] in g.weights and len(g.weights[node.inputs[1]].shape) == 2


class _Rounding:
    """The graph that is made, node by node."""

    def __init__(self, g: Graph) -> None:
        self.made = Graph([], dict(g.weights), dict(g.constants), dict(g.shapes), g.input, g.output)
        self._g = g
        self._users: dict[Value, list[OnnxNode]] = defaultdict(list)
        for node in g.nodes:
            for name in node.inputs:
                self._users[name].append(node)
        self._rounded: dict[Value, Value] = {}

    def product(self, node: OnnxNode, codes: Codes, *, axis: int) -> None:
        """Appends a product of rounded inputs; `axis` is that of its weights' outputs."""
        x, weight, *bias = node.inputs
        inputs = (self._input(x, codes), self._weight(weight, axis), *bias)
        self.made.nodes.append(OnnxNode(node.kind, inputs, node.output, node.attributes))

    def _input(self, x: Value, codes: Codes) -> Value:
        """A rounded activation. Products share it where nothing else takes the activation, as NNCF makes it."""
        shared = all(_has_matrix(self._g, user) for user in self._users[x])
        if shared and x in self._rounded:
            return self._rounded[x]
        self._rounded[x] = self.activation(x, codes)
        return self._rounded[x]

    def activation(self, x: Value, codes: Codes) -> Value:
        """Appends its rounding."""
        name = f"{x}/int8_{len(self.made.nodes)}"
        scale, zero = f"{name}/scale", f"{name}/zero"  # constants of its own, or engines would compute equal ones once
        self.made.constants[scale] = np.array(SCALE, np.float32)
        self.made.constants[zero] = np.array(codes.zero, codes.dtype)
        self.made.nodes.append(OnnxNode("QuantizeLinear", (x, scale, zero), name))
        self.made.nodes.append(OnnxNode("DequantizeLinear", (name, scale, zero), f"{name}/float"))
        return f"{name}/float"

    def _weight(self, name: Value, axis: int) -> Value:
        """A weight in int8, symmetric for each output."""
        if name not in self._rounded:
            self._rounded[name] = self._add_weight(name, axis)
        return self._rounded[name]

    def _add_weight(self, name: Value, axis: int) -> Value:
        weight = self.made.weights.pop(name)
        others = tuple(one for one in range(len(weight.shape)) if one != axis)
        outputs = (weight.shape[axis],)

        def scales(state: State) -> Array:
            return np.abs(weight.made(state)).max(others, keepdims=True) / CODES

        def codes(state: State) -> Array:
            return (weight.made(state) / scales(state)).round()

        self.made.weights[f"{name}/int8"] = Weight(weight.shape, codes, 0.0, CODES / LARGEST, "int8")
        largest = LARGEST * weight.spread
        scale = Weight(outputs, lambda state: scales(state).ravel(), largest / CODES, 0.0)
        self.made.weights[f"{name}/scales"] = scale
        zero = self.made.constant(np.zeros(outputs, np.int8))
        inputs = (f"{name}/int8", f"{name}/scales", zero)
        self.made.nodes.append(OnnxNode("DequantizeLinear", inputs, f"{name}/float", {"axis": axis}))
        return f"{name}/float"
