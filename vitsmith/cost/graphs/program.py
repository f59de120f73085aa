"""Programs of a configuration with random weights, opened as engines open those of a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from vitsmith.cost.cost import UnpredictedError
from vitsmith.cost.graphs.graph import Graph
from vitsmith.cost.graphs.int8 import quantized_for_onnx, quantized_for_openvino
from vitsmith.cost.graphs.mixer import mixer_graph
from vitsmith.cost.graphs.vit import vit_graph
from vitsmith.cost.graphs.weights import RandomNumbers
from vitsmith.engines.program import OpenProgram
from vitsmith.engines.settings import Settings
from vitsmith.files.atomic import scratch
from vitsmith.models.config import MixerConfig, ModelConfig, ViTConfig

GraphEngine = Literal["onnx", "openvino"]
"""The engines whose programs are graphs that can be made here."""
PRECISIONS: dict[GraphEngine, tuple[str, ...]] = {"onnx": ("fp32", "int8"), "openvino": ("fp32", "bf16", "int8")}


def open_program(config: ModelConfig, engine: GraphEngine, settings: Settings) -> OpenProgram:
    """A program of `config` with random weights, opened as `engine` opens a bundle, with the plan it takes untimed.

    Its file is gone when this returns: engines have read it by then, and the memory of many files would slow the rest.

    Raises UnpredictedError for a model or a precision that is not covered, MissingPackageError and OutputError.
    """
    _check(engine, settings.precision)
    graph = graph_of(config)
    if settings.precision == "int8":
        graph = quantized_for_onnx(graph) if engine == "onnx" else quantized_for_openvino(graph)
    with scratch("cost") as place:
        path = place / "model.onnx"
        _write(graph, path)
        return _open(path, engine, settings)


def graph_of(config: ModelConfig) -> Graph:
    """The graph in float32 of a configuration. Raises UnpredictedError for what is not covered."""
    if isinstance(config, ViTConfig):
        return vit_graph(config)
    if isinstance(config, MixerConfig):
        return mixer_graph(config)
    raise UnpredictedError(f"no graph can be made of a model of the family {config.family!r}")


def _write(graph: Graph, path: Path) -> None:
    with path.open("wb") as file:
        file.writelines(graph.pieces(RandomNumbers()))


def _open(path: Path, engine: GraphEngine, settings: Settings) -> OpenProgram:
    if engine == "onnx":
        from vitsmith.engines.onnx.graph import OnnxGraph, usual_plan

        return OnnxGraph(path, usual_plan(settings, None), None)
    from vitsmith.engines.openvino.core import computed_in
    from vitsmith.engines.openvino.engine import HINTS
    from vitsmith.engines.openvino.graph import OpenVinoGraph
    from vitsmith.engines.plan import default_plan
    from vitsmith.machine import available_cores, bf16_dot_products

    plan = default_plan(settings.goal, settings.threads or available_cores())
    rest = "bf16" if bf16_dot_products() else "fp32"  # of an int8 program, as `quantize` chooses it
    floats = computed_in(rest) if settings.precision == "int8" else settings.precision
    return OpenVinoGraph(path, HINTS[floats], plan)


def _check(engine: str, precision: str) -> None:
    """Raises UnpredictedError for an engine or a precision that is not covered, or not there on this processor."""
    if engine not in PRECISIONS or precision not in PRECISIONS[engine]:
        raise UnpredictedError(f"no graph can be made for the engine {engine!r} in the precision {precision!r}")
    if precision == "bf16":
        from vitsmith.engines.openvino.core import computed_in

        if computed_in("bf16") != "bf16":
            raise UnpredictedError("OpenVINO does not compute in bf16 on this processor: give fp32")
