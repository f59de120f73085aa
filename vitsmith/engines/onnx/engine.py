"""onnxruntime on the processor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vitsmith.arrays import Array
from vitsmith.engines.chunks import check_batch, run_in_chunks
from vitsmith.engines.graph_report import GraphReport
from vitsmith.engines.onnx.report import report_on_onnx
from vitsmith.engines.onnx.session import open_session
from vitsmith.engines.plan import Plan, race
from vitsmith.engines.ports import Port, check_ports
from vitsmith.engines.program import OpenProgram, ProgramEngine, is_small
from vitsmith.engines.sample_inputs import sample_inputs
from vitsmith.engines.settings import USUAL, Settings
from vitsmith.engines.tuning_cache import program_hash, question, recall, remember
from vitsmith.machine import available_cores
from vitsmith.process.forks import keep_in_children
from vitsmith.weights.bundle.bundle import Bundle


class OnnxEngine(ProgramEngine):
    """Runs a bundle's model.onnx, and for LiT its text.onnx, which is opened on first use."""

    name = "onnx"

    def __init__(self, bundle: Bundle, settings: Settings = USUAL) -> None:
        super().__init__(bundle)
        self.plan, self._images = _settled(bundle, self._path("model"), settings)

    @property
    def _program(self) -> OpenProgram:
        return self._images

    @property
    def _survives_forks(self) -> bool:
        return self.plan.threads == 1

    def _open_texts(self, path: Path) -> OpenProgram:
        return _Graph(path, self.plan, self._spec.batch)

    def report(self) -> GraphReport:
        images = sample_inputs(self._bundle, self._spec.batch or 1)
        return report_on_onnx(self._path("model"), images, self._bundle)


class _Graph:
    """One graph of one input and one output, for any batch."""

    def __init__(self, path: Path, plan: Plan, batch: int | None) -> None:
        self._session = open_session(path, threads=plan.threads, spinning=plan.spinning)
        keep_in_children(self._session)
        check_ports(
            path, *(list(map(_port, ports)) for ports in (self._session.get_inputs(), self._session.get_outputs()))
        )
        self._input = self._session.get_inputs()[0]
        found = self._input.shape[0]
        check_batch(path, found if isinstance(found, int) else None, batch)
        self._batch = batch

    def run(self, inputs: Array) -> Array:
        if self._batch is None and len(inputs):
            return self._run(inputs)
        return run_in_chunks(self._run, inputs, self._batch or 1)

    def _run(self, inputs: Array) -> Array:
        outputs: Array = self._session.run(None, {self._input.name: inputs})[0]
        return outputs.astype(np.float32, copy=False)


def _port(node: Any) -> Port:
    """The port of an onnxruntime NodeArg, whose type is written as 'tensor(float16)'."""
    name = node.type.removeprefix("tensor(").removesuffix(")")
    kinds = {"float": "f", "float16": "f", "double": "f", "uint8": "u", "int32": "i", "int64": "i", "bool": "b"}
    return Port(kinds.get(name, ""), len(node.shape))


def _settled(bundle: Bundle, path: Path, settings: Settings) -> tuple[Plan, _Graph]:
    """The plan and the program opened with it.

    For single images it is measured whether waiting threads should spin. With batches, beside decoding threads, they
    must not: spinning costs more than waking up (benchmarks/results/folder_prediction_amd-epyc_2026-11-23.md).
    """
    batch = bundle.program_spec.batch
    plan = Plan(batch or 1, 1, settings.threads or available_cores())
    if settings.goal != "latency" or plan.threads == 1 or is_small(bundle):
        return plan, _Graph(path, plan, batch)
    asked = question("onnx plan", program_hash(bundle), ("onnxruntime",), threads=plan.threads, goal=settings.goal)
    kept = Plan.from_dict((recall(asked) or {}).get("plan"))
    if kept is not None:
        return kept, _Graph(path, kept, batch)
    if not settings.measure:
        return plan, _Graph(path, plan, batch)
    choices = [plan, Plan(plan.chunk, 1, plan.threads, spinning=True)]
    graphs = [_Graph(path, choice, batch) for choice in choices]
    images = sample_inputs(bundle, 1)
    runs: list[Callable[[], object]] = [lambda graph=graph: graph.run(images) for graph in graphs]  # type: ignore[misc]
    rates = race(runs, 1, seconds=1.0)
    best = rates.index(max(rates))
    remember(asked, {"plan": choices[best].to_dict(), "rates": rates})
    return choices[best], graphs[best]
