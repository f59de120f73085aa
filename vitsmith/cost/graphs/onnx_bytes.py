"""Writes ONNX files without the onnx package: the few protobuf messages that a graph needs.

Source: onnx/onnx.proto3 of https://github.com/onnx/onnx (field numbers), and the encoding of protocol buffers,
https://protobuf.dev/programming-guides/encoding/: a message is a row of fields, and a field is its number and the kind
of its value, then the value; text, arrays and messages are preceded by their length.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vitsmith.arrays import Array, Shape

OPSET = 20
"""As in `exporters/onnx.py`, which needs torch."""
IR_VERSION = 10

Attribute = int | float | str | Sequence[int]
Piece = bytes | memoryview
Size = int | str
"""A size of an input or output: a number, or a name for one that may vary."""

_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int64": 7}
"""TensorProto.DataType of a NumPy dtype."""
_VARINT, _LENGTH, _FIXED32 = 0, 2, 5  # kinds of values


@dataclass(frozen=True)
class OnnxNode:
    """One operation of one output, which names it (NodeProto)."""

    kind: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True)
class OnnxPort:
    """An input, an output or an inner tensor of the graph, float32 (ValueInfoProto)."""

    name: str
    shape: tuple[Size, ...]


@dataclass(frozen=True)
class OnnxTensor:
    """A constant (TensorProto). Its numbers are given in pieces, in C order, so that repeats take no memory."""

    name: str
    shape: Shape
    dtype: str
    pieces: Sequence[Array]


def model_bytes(nodes: Iterable[OnnxNode], tensors: Iterable[OnnxTensor], ports: Sequence[OnnxPort]) -> list[Piece]:
    """The pieces of an ONNX file, in order, for `writelines` or `b"".join`.

    `ports` are the input of the graph, its output, and inner tensors whose shapes are noted.
    """
    kinds = [11, 12] + [13] * len(ports[2:])  # fields input, output and value_info of GraphProto
    pieces: list[Piece] = [_message(1, _node(node)) for node in nodes]
    pieces.append(_text(2, "main_graph"))
    for tensor in tensors:
        head = _tensor_head(tensor)
        raw = sum(piece.nbytes for piece in tensor.pieces)
        head += _key(9, _LENGTH) + _varint(raw)
        pieces += [_key(5, _LENGTH) + _varint(len(head) + raw) + head, *(piece.data for piece in tensor.pieces)]
    pieces += [_message(kind, _port(port)) for kind, port in zip(kinds, ports, strict=True)]
    size = sum(memoryview(piece).nbytes for piece in pieces)
    before = _number(1, IR_VERSION) + _text(2, "vitsmith") + _key(7, _LENGTH) + _varint(size)
    return [before, *pieces, _message(8, _number(2, OPSET))]


def _node(node: OnnxNode) -> bytes:
    """NodeProto."""
    names = b"".join([*(_text(1, name) for name in node.inputs), _text(2, node.output)])
    attributes = b"".join(_message(5, _attribute(name, value)) for name, value in node.attributes.items())
    return names + _text(3, node.output) + _text(4, node.kind) + attributes


def _attribute(name: str, value: Attribute) -> bytes:
    """AttributeProto: one of the fields f, i, s and ints, and which (`type`)."""
    if isinstance(value, float):
        return _text(1, name) + _key(2, _FIXED32) + struct.pack("<f", value) + _number(20, 1)
    if isinstance(value, int):
        return _text(1, name) + _number(3, value) + _number(20, 2)
    if isinstance(value, str):
        return _text(1, name) + _text(4, value) + _number(20, 3)
    return _text(1, name) + b"".join(_number(8, one) for one in value) + _number(20, 7)


def _tensor_head(tensor: OnnxTensor) -> bytes:
    """TensorProto up to its raw_data."""
    sizes = b"".join(_number(1, size) for size in tensor.shape)
    return sizes + _number(2, _TYPES[tensor.dtype]) + _text(8, tensor.name)


def _port(port: OnnxPort) -> bytes:
    """ValueInfoProto of a TypeProto.Tensor of floats."""
    sizes = [_number(1, size) if isinstance(size, int) else _text(2, size) for size in port.shape]
    shape = b"".join(_message(1, size) for size in sizes)
    tensor_type = _number(1, _TYPES["float32"]) + _message(2, shape)
    return _text(1, port.name) + _message(2, _message(1, tensor_type))


def _number(number: int, value: int) -> bytes:
    return _key(number, _VARINT) + _varint(value & (1 << 64) - 1)  # a negative one as its two's complement


def _text(number: int, value: str) -> bytes:
    return _message(number, value.encode())


def _message(number: int, value: bytes) -> bytes:
    return _key(number, _LENGTH) + _varint(len(value)) + value


def _key(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; all but the last byte have the eighth bit set."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
