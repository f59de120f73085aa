"""A graph in the making: nodes in the order in which they run, and the constants that they use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Protocol

import numpy as np

from vitsmith.arrays import Array, Shape
from vitsmith.cost.graphs.onnx_bytes import Attribute, OnnxNode, OnnxPort, OnnxTensor, Piece, Size, model_bytes
from vitsmith.cost.graphs.weights import State, Weight

Value = str
"""The name of a tensor of the graph."""
END = np.iinfo(np.int64).max
"""The end of a slice that goes to the end of its axis."""


class Numbers(Protocol):
    """Gives weights their numbers."""

    def pieces(self, weight: Weight) -> Sequence[Array]: ...


@dataclass
class Graph:
    """A graph of one input and one output, for any batch."""

    nodes: list[OnnxNode] = field(default_factory=list)
    weights: dict[str, Weight] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    """Shapes, axes and factors."""
    shapes: dict[str, OnnxPort] = field(default_factory=dict)
    """Shapes that an engine cannot infer, because -1 in a reshape loses the name of the batch: fusions compare them."""
    input: OnnxPort = field(default_factory=lambda: OnnxPort("images", ()))
    output: OnnxPort = field(default_factory=lambda: OnnxPort("logits", ()))

    # ---------------------------------------------------------------- constants

    def weight(
        self, name: str, shape: Shape, made: Callable[[State], Array] | None = None, *, centre: float = 0.0
    ) -> Value:
        """A weight. `made` computes it from a model's weights; by default it is the one of that name."""
        spread = 0.02 if len(shape) == 1 or name.endswith(("embedding", "token")) else 0.0
        self.weights[name] = Weight(shape, made or (lambda state: state[name]), centre, spread or fan_in(shape) ** -0.5)
        return name

    def matrix(self, name: str, inputs: int, outputs: int, made: Callable[[State], Array] | None = None) -> Value:
        """A matrix (inputs, outputs) of a MatMul; `made` gives torch's, (outputs, inputs)."""
        torch = made or (lambda state: state[name])
        value = f"{name}.T"
        self.weights[value] = Weight((inputs, outputs), lambda state: torch(state).T, spread=inputs**-0.5)
        return value

    def ints(self, *numbers: int) -> Value:
        """A row of int64."""
        return self.constant(np.array(numbers, np.int64))

    def constant(self, array: Array) -> Value:
        """A constant that no weight decides. Equal ones are the same."""
        for name, there in self.constants.items():
            if there.dtype == array.dtype and np.array_equal(there, array) and there.shape == array.shape:
                return name
        name = f"constant_{len(self.constants)}"
        self.constants[name] = array
        return name

    # ---------------------------------------------------------------- operations

    def node(self, kind: str, *inputs: Value, **attributes: Attribute) -> Value:
        """Appends an operation and returns its output."""
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(OnnxNode(kind, inputs, name, attributes))
        return name

    def linear(self, x: Value, name: str, inputs: int, outputs: int, *, bias: bool = True) -> Value:
        """torch's Linear on (..., inputs)."""
        x = self.node("MatMul", x, self.matrix(f"{name}.weight", inputs, outputs))
        return self.node("Add", x, self.weight(f"{name}.bias", (outputs,))) if bias else x

    def gemm(self, x: Value, name: str, inputs: int, outputs: int, *, bias: bool = True) -> Value:
        """torch's Linear on (batch, inputs): the exporter writes another node for it."""
        weights = [self.weight(f"{name}.weight", (outputs, inputs))]
        if bias:
            weights.append(self.weight(f"{name}.bias", (outputs,)))
        return self.node("Gemm", x, *weights, alpha=1.0, beta=1.0, transA=0, transB=1)

    def add(self, x: Value, y: Value) -> Value:
        return self.node("Add", x, y)

    def mul(self, x: Value, y: Value) -> Value:
        return self.node("Mul", x, y)

    def reshape(self, x: Value, *sizes: int) -> Value:
        """`sizes` as in NumPy, with -1 for the batch."""
        return self.shaped(self.node("Reshape", x, self.ints(*sizes), allowzero=1), "batch", *sizes[1:])

    def shaped(self, x: Value, *shape: Size) -> Value:
        """The same; its shape is noted."""
        self.shapes[x] = OnnxPort(x, shape)
        return x

    def transpose(self, x: Value, *axes: int) -> Value:
        return self.node("Transpose", x, perm=axes)

    def slice(self, x: Value, start: int, end: int, axis: int, *, step: int = 1) -> Value:
        """x[..., start:end:step] along an axis."""
        return self.node("Slice", x, self.ints(start), self.ints(end), self.ints(axis), self.ints(step))

    def select(self, x: Value, index: int, axis: int) -> Value:
        """x[..., index] along an axis, which is gone."""
        return self.node("Gather", x, self.constant(np.array(index)), axis=axis)

    def concat(self, *parts: Value, axis: int) -> Value:
        return self.node("Concat", *parts, axis=axis)

    def convolution(
        self, x: Value, weights: Sequence[Value], kernel: tuple[int, int], strides: tuple[int, int]
    ) -> Value:
        """(batch, channels, height, width) -> the same, with `weights` a kernel and perhaps a bias."""
        return self.node(
            "Conv", x, *weights, auto_pad="NOTSET", dilations=(1, 1), group=1, kernel_shape=kernel,
            pads=(0, 0, 0, 0), strides=strides,
        )  # fmt: skip

    def softmax(self, x: Value) -> Value:
        return self.node("Softmax", x, axis=-1)

    def mean(self, x: Value, axis: int, *, keep: bool = False) -> Value:
        return self.node("ReduceMean", x, self.ints(axis), keepdims=int(keep), noop_with_empty_axes=0)

    # ---------------------------------------------------------------- the file

    def pieces(self, numbers: Numbers) -> list[Piece]:
        """The pieces of the ONNX file, in order."""
        constants = [OnnxTensor(name, one.shape, one.dtype.name, [one]) for name, one in self.constants.items()]
        weights = [
            OnnxTensor(name, one.shape, one.dtype, [piece.view() for piece in numbers.pieces(one)])
            for name, one in self.weights.items()
        ]
        return model_bytes(self.nodes, [*weights, *constants], [self.input, self.output, *self.shapes.values()])


def fan_in(shape: Shape) -> int:
    """Numbers that are added up for each output of a matrix or kernel, which torch keeps as (outputs, ...)."""
    return prod(shape[1:])
