"""How an engine is to run, and the precisions there are."""

from __future__ import annotations

from dataclasses import dataclass

from vitsmith.engines.plan import Goal

PRECISIONS = ("auto", "fp32", "fp16", "bf16", "int8", "int8-weights", "fp8")
GPU_PRECISIONS = ("int8-weights", "fp8")
"""What torch makes of its weights on a GPU, through torchao: see `torch_quantized`."""


def shown_engine(name: str, precision: str, where: str, why: str) -> str:
    """How an opened engine shows itself: '<Engine onnx, float32, of runs/export/pets: asked for by name>'."""
    return f"<Engine {name}, {precision}, of {where}{f': {why}' if why else ''}>"


@dataclass(frozen=True)
class Settings:
    """How an engine is to run."""

    threads: int | None = None
    """Processor cores; None: all that this process may use."""
    precision: str = "fp32"
    goal: Goal = "throughput"
    measure: bool = False
    """Whether its plan may be found by measuring; else a remembered one or the usual one is taken."""


USUAL = Settings()
