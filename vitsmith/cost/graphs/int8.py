"""int8: a graph in float32 with its products rounded where `compress/quantize` rounds them, with ranges of no images.

Rounded tensors go through QuantizeLinear and DequantizeLinear, which both engines replace by products in int8.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
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


ONNX = Codes("int8", -3)
OPENVINO, SYMMETRIC = Codes("uint8", 125), Codes("int8", 0)
"""Of OpenVINO: of activations, and of queries and keys."""
HEADS = ("attention_pool", "representation", "unit", "head", "distillation_head")
"""Parts whose products stay in float for OpenVINO; their weights begin so."""
MOVES = ("Reshape", "Transpose")
"""Operations that only move numbers. OpenVINO rounds before them, and before a factor that is one number."""


def quantized_for_onnx(g: Graph) -> Graph:
    """The same graph for onnxruntime: products with matrices of weights in int8, as `OnnxPrograms` chooses them."""
    rounding = _Rounding(g)
    for node in g.nodes:
        if _has_matrix(g, node):
            x = rounding.own_input(node.inputs[0], ONNX)
            rounding.product(node, (x, rounding.weight(node.inputs[1], axis=1)))
        else:
            rounding.append(node)
    return rounding.made


def quantized_for_openvino(g: Graph) -> Graph:
    """The same graph for OpenVINO, as `OpenVinoPrograms` chooses: also convolutions, and queries and keys."""
    rounding = _Rounding(g)
    moved = dict(_moved(g))
    at_once = {moved.get(value, value): codes for value, codes in _needed(g) if value in moved or codes == SYMMETRIC}
    if any(node.kind == "Conv" and node.inputs[0] == g.input.name for node in g.nodes):
        at_once[g.input.name] = OPENVINO
        rounding.replace(g.input.name, OPENVINO)
    for node in g.nodes:
        if node.kind == "Conv":
            x = rounding.input(node.inputs[0], OPENVINO)
            rounding.product(node, (x, rounding.weight(node.inputs[1], axis=0)))
        elif _has_matrix(g, node):
            x, rounded = node.inputs[0], not _of_head(node)
            if rounded and moved.get(x, x) not in at_once:
                x = rounding.input(x, OPENVINO)
            rounding.product(node, (x, rounding.turned_weight(node.inputs[1], rounded=rounded)))
        else:
            rounding.append(node)
        if node.output in at_once:
            rounding.replace(node.output, at_once[node.output])
    return rounding.made


def _needed(g: Graph) -> Iterator[tuple[Value, Codes]]:
    """What OpenVINO multiplies in int8, convolutions aside: inputs of matrices, and queries and keys."""
    scores = {node.inputs[0] for node in g.nodes if node.kind == "Softmax"}
    for node in g.nodes:
        if _has_matrix(g, node) and not _of_head(node):
            yield node.inputs[0], OPENVINO
        elif node.kind == "MatMul" and node.output in scores:
            yield from ((value, SYMMETRIC) for value in node.inputs)


def _moved(g: Graph) -> Iterator[tuple[Value, Value]]:
    """(value, what it was before operations that only move its numbers, and that alone take it)."""
    users = Counter(name for node in g.nodes for name in node.inputs if node.kind != "Shape")
    before: dict[Value, Value] = {}
    for node in g.nodes:
        x = node.inputs[0] if node.inputs else ""
        scaled = node.kind == "Mul" and node.inputs[1] in g.constants
        if (node.kind in MOVES or scaled) and users[x] == 1:
            before[node.output] = before.get(x, x)
            yield node.output, before[node.output]


def _has_matrix(g: Graph, node: OnnxNode) -> bool:
    """Whether a node multiplies by a matrix of weights from the right."""
    return node.kind == "MatMul" and node.inputs[1] in g.weights and len(g.weights[node.inputs[1]].shape) == 2


def _of_head(node: OnnxNode) -> bool:
    """Whether a product by a matrix is one of `HEADS`."""
    return node.inputs[1].split(".")[0] in HEADS


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
        self._times: Counter[Value] = Counter()
        self._replaced: dict[Value, Value] = {}

    def append(self, node: OnnxNode) -> None:
        """Appends a node of the float graph."""
        inputs = tuple(self._replaced.get(one, one) for one in node.inputs)
        self.made.nodes.append(OnnxNode(node.kind, inputs, node.output, node.attributes))

    def product(self, node: OnnxNode, factors: tuple[Value, Value]) -> None:
        """Appends a product of other factors, with its bias."""
        inputs = (*factors, *node.inputs[2:])
        self.made.nodes.append(OnnxNode(node.kind, inputs, node.output, node.attributes))

    def replace(self, x: Value, codes: Codes) -> None:
        """Appends the rounding of an activation; all its users take that from now on."""
        self._replaced[x] = self._round(x, codes)

    def input(self, x: Value, codes: Codes) -> Value:
        """A rounded activation. Products share it where nothing else takes the activation, as NNCF makes it."""
        if x in self._replaced:
            return self._replaced[x]
        shared = all(_has_matrix(self._g, user) for user in self._users[x])
        if not shared or x not in self._rounded:
            self._rounded[x] = self._round(x, codes)
        return self._rounded[x]

    def own_input(self, x: Value, codes: Codes) -> Value:
        """A rounded activation for one product alone; see `compress/quantize/own_rounding.py`."""
        self._times[x] += 1
        return self._round(x, codes, SCALE * (1 + 1e-6 * self._times[x]))

    def _round(self, x: Value, codes: Codes, size: float = SCALE) -> Value:
        name = f"{x}/int8_{len(self.made.nodes)}"
        scale, zero = f"{name}/scale", f"{name}/zero"  # constants of its own, or engines would compute equal ones once
        self.made.constants[scale] = np.array(size, np.float32)
        self.made.constants[zero] = np.array(codes.zero, codes.dtype)
        self.made.nodes.append(OnnxNode("QuantizeLinear", (x, scale, zero), name))
        self.made.nodes.append(OnnxNode("DequantizeLinear", (name, scale, zero), f"{name}/float"))
        return f"{name}/float"

    def turned_weight(self, name: Value, *, rounded: bool) -> Value:
        """A matrix that is kept as (outputs, inputs), as OpenVINO multiplies by it, in int8 or, in heads, in float."""
        weight = self.made.weights[name]
        self.made.weights[name] = Weight(
            weight.shape[::-1], lambda state: weight.made(state).T, weight.centre, weight.spread
        )
        turned = OnnxNode(
            "Transpose", (self.weight(name, axis=0) if rounded else name,), f"{name}/turned", {"perm": (1, 0)}
        )
        self.made.nodes.append(turned)
        return turned.output

    def weight(self, name: Value, *, axis: int) -> Value:
        """A weight in int8, symmetric for each output, along `axis`."""
        weight = self.made.weights.pop(name)
        others = tuple(one for one in range(len(weight.shape)) if one != axis)
        outputs = (weight.shape[axis],)

        def scales(state: State) -> Array:
            return np.abs(weight.made(state)).max(others, keepdims=True) / CODES

        def codes(state: State) -> Array:
            return (weight.made(state) / scales(state)).round()

        self.made.weights[f"{name}/int8"] = Weight(weight.shape, codes, 0.0, CODES / LARGEST, "int8")
        scale = Weight(outputs, lambda state: scales(state).ravel(), LARGEST * weight.spread / CODES, 0.0)
        self.made.weights[f"{name}/scales"] = scale
        self.made.constants[f"{name}/zeros"] = np.zeros(outputs, np.int8)
        inputs = (f"{name}/int8", f"{name}/scales", f"{name}/zeros")
        self.made.nodes.append(OnnxNode("DequantizeLinear", inputs, f"{name}/float", {"axis": axis}))
        return f"{name}/float"
