"""onnxruntime on the processor."""

from __future__ import annotations

from pathlib import Path

from vitsmith.engines.graph_report import GraphReport
from vitsmith.engines.onnx.graph import OnnxGraph, usual_plan
from vitsmith.engines.onnx.report import report_on_onnx
from vitsmith.engines.onnx.spinning import spinning_rates
from vitsmith.engines.plan import Plan
from vitsmith.engines.program import OpenProgram, ProgramEngine, is_small
from vitsmith.engines.sample_inputs import sample_inputs
from vitsmith.engines.settings import USUAL, Settings
from vitsmith.engines.tuning_cache import program_hash, question, recall, remember
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
        return OnnxGraph(path, self.plan, self._spec.batch)

    def report(self) -> GraphReport:
        images = sample_inputs(self._bundle, self._spec.batch or 1)
        return report_on_onnx(self._path("model"), images, self._bundle)


def _settled(bundle: Bundle, path: Path, settings: Settings) -> tuple[Plan, OnnxGraph]:
    """The plan and the program opened with it.

    For single images it is measured whether waiting threads should spin. With batches, beside decoding threads, they
    must not: spinning costs more than waking up (benchmarks/results/folder_prediction_amd-epyc_2026-11-23.md).
    """
    batch = bundle.program_spec.batch
    plan = usual_plan(settings, batch)
    if settings.goal != "latency" or plan.threads == 1 or is_small(bundle):
        return plan, OnnxGraph(path, plan, batch)
    asked = question("onnx plan", program_hash(bundle), ("onnxruntime",), threads=plan.threads, goal=settings.goal)
    kept = Plan.from_dict((recall(asked) or {}).get("plan"))
    if kept is not None:
        return kept, OnnxGraph(path, kept, batch)
    if not settings.measure:
        return plan, OnnxGraph(path, plan, batch)
    rates = spinning_rates(path, plan, batch, sample_inputs(bundle, 1))
    if rates:
        plan = max(rates, key=lambda one: rates[one])
        remember(asked, {"plan": plan.to_dict(), "rates": list(rates.values())})
    return plan, OnnxGraph(path, plan, batch)
