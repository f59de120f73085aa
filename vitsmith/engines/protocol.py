"""What every engine has: the protocol, and how an open engine is shown."""

from __future__ import annotations

from typing import Protocol

from vitsmith.arrays import Array
from vitsmith.engines.graph_report import GraphReport

PRECISION_WORDS = {
    "fp32": "float32",
    "fp16": "float16",
    "bf16": "bfloat16",
    "int8": "int8",
    "int8, rest bf16": "int8, rest bfloat16",
}
"""Arithmetic of a program -> the name that an engine shows."""


class Engine(Protocol):
    """Runs one bundle. `open_engine` opens it and checks its golden examples."""

    name: str
    precision: str
    """The precision it computes in: 'float32', 'bfloat16', 'float16', 'int8', 'int8, rest bfloat16'."""
    why: str
    """Why this engine was chosen, in a sentence."""

    def run(self, images: Array) -> Array:
        """float32 (batch, 3, height, width) in the range of the bundle's ImageSpec -> float32 outputs, any batch."""

    def run_pixels(self, pixels: Array) -> Array:
        """uint8 (batch, height, width, 3) at the model's size -> outputs. InputError if the program takes no pixels."""

    def run_texts(self, tokens: Array) -> Array:
        """int32 (batch, length) -> float32 (batch, E) unit vectors. Raises InputError without a text tower."""

    def report(self) -> GraphReport:
        """How the engine runs the graph; may run it once."""


def precision_of(engine: Engine) -> str:
    """The precision of an engine, as measurements write it: 'bf16' for 'bfloat16', 'int8, rest bf16'."""
    return next((short for short, words in PRECISION_WORDS.items() if words == engine.precision), engine.precision)


def shown_engine(name: str, precision: str, where: str, why: str) -> str:
    """The text that shows an open engine: '<Engine onnx, float32, of runs/export/pets: asked for by name>'."""
    return f"<Engine {name}, {precision}, of {where}{f': {why}' if why else ''}>"
