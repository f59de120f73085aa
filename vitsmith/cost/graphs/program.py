"""Programs of a configuration with random weights, opened as engines open those of a bundle."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from vitsmith.arrays import Array
from vitsmith.cost.cost import UnpredictedError
from vitsmith.cost.graphs.graph import Graph
from vitsmith.cost.graphs.vit import vit_graph
from vitsmith.cost.graphs.weights import RandomNumbers
from vitsmith.engines.program import OpenProgram
from vitsmith.engines.settings import Settings
from vitsmith.files.atomic import scratch
from vitsmith.models.config import ModelConfig, ViTConfig

GraphEngine = Literal["onnx", "openvino"]
"""The engines whose programs are graphs that can be made here."""
PRECISIONS: dict[GraphEngine, tuple[str, ...]] = {"onnx": ("fp32",), "openvino": ("fp32", "bf16")}


class RandomProgram:
    """An open program; its file is removed with it."""

    def __init__(self, program: OpenProgram, files: ExitStack) -> None:
        self._program, self._files = program, files

    def run(self, images: Array) -> Array:
        """Normalised images, float32 (batch, 3, height, width) -> float32 (batch, classes)."""
        return self._program.run(images)

    def close(self) -> None:
        """Removes its file. Nothing can be run afterwards."""
        del self._program
        self._files.close()

    def __del__(self) -> None:
        self._files.close()


def open_program(config: ModelConfig, engine: GraphEngine, settings: Settings) -> RandomProgram:
    """A program of `config` with random weights, opened as `engine` opens a bundle, with the plan it takes untimed.

    Raises UnpredictedError for a model or a precision that is not covered, MissingPackageError and OutputError.
    """
    _check(engine, settings.precision)
    files = ExitStack()
    with ExitStack() as until_open:  # a failure removes the file at once
        path = until_open.enter_context(scratch("cost")) / "model.onnx"
        _write(graph_of(config), path)
        opened = RandomProgram(_open(path, engine, settings), files)
        files.push(until_open.pop_all())
    return opened


def graph_of(config: ModelConfig) -> Graph:
    """The graph in float32 of a configuration. Raises UnpredictedError for what is not covered."""
    if isinstance(config, ViTConfig):
        return vit_graph(config)
    raise UnpredictedError(f"no graph can be made of a model of the family {config.family!r}")


def _write(graph: Graph, path: Path) -> None:
    with path.open("wb") as file:
        file.writelines(graph.pieces(RandomNumbers()))


def _open(path: Path, engine: GraphEngine, settings: Settings) -> OpenProgram:
    if engine == "onnx":
        from vitsmith.engines.onnx.graph import OnnxGraph, usual_plan

        return OnnxGraph(path, usual_plan(settings, None), None)
    from vitsmith.engines.openvino.engine import HINTS
    from vitsmith.engines.openvino.graph import OpenVinoGraph
    from vitsmith.engines.plan import default_plan
    from vitsmith.machine import available_cores

    plan = default_plan(settings.goal, settings.threads or available_cores())
    return OpenVinoGraph(path, HINTS[settings.precision], plan)


def _check(engine: str, precision: str) -> None:
    """Raises UnpredictedError for an engine or a precision that is not covered, or not there on this processor."""
    if engine not in PRECISIONS or precision not in PRECISIONS[engine]:
        raise UnpredictedError(f"no graph can be made for the engine {engine!r} in the precision {precision!r}")
    if precision == "bf16":
        from vitsmith.engines.openvino.core import computed_in

        if computed_in("bf16") != "bf16":
            raise UnpredictedError("OpenVINO does not compute in bf16 on this processor: give fp32")
