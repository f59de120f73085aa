"""Options that say what runs a model, as several verbs have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vitsmith.cli.output import say

if TYPE_CHECKING:
    from vitsmith.engines.base import Engine

EngineOption = Annotated[str, typer.Option(help="auto, torch, torch-compiled, onnx, openvino or executorch.")]
PrecisionOption = Annotated[
    str, typer.Option(help="auto (the program's own; of weights fp32), fp32, or bf16 for torch and openvino.")
]


def tell_choice(engine: Engine) -> None:
    """Says why 'auto' took this one, where there was something to measure."""
    if "measured" in engine.why:
        say(f"engine: {engine.why}")
