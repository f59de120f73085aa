"""OpenVINO on the processor: fixed shapes, several requests at once, and the precision always set."""

from __future__ import annotations

from pathlib import Path

from vitsmith.engines.graph_report import GraphReport
from vitsmith.engines.openvino.core import computed_in
from vitsmith.engines.openvino.graph import OpenVinoGraph
from vitsmith.engines.openvino.probe import EngineDied, probe
from vitsmith.engines.openvino.report import report_on_openvino
from vitsmith.engines.plan import Plan, default_plan, plans
from vitsmith.engines.program import OpenProgram, ProgramEngine, is_small
from vitsmith.engines.protocol import PRECISION_WORDS
from vitsmith.engines.settings import USUAL, Settings
from vitsmith.engines.tuning_cache import place_of, program_hash, question, recall, remember
from vitsmith.machine import available_cores
from vitsmith.weights.bundle.bundle import Bundle

HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
"""INFERENCE_PRECISION_HINT. Without it, OpenVINO computes float programs in bfloat16 if the processor can."""


class OpenVinoEngine(ProgramEngine):
    """Runs a bundle's model.xml or model.onnx, and for LiT its text program, which is opened on first use.

    A program is compiled and run once in a child process before it is used on a machine for the first time: releases of
    OpenVINO have died while compiling (SIGFPE on AMD, 2025.3 to 2026.1).
    """

    name = "openvino"

    def __init__(self, bundle: Bundle, settings: Settings = USUAL) -> None:
        super().__init__(bundle)
        self._settings = settings
        wanted = self._spec.rest if self._spec.precision == "int8" else settings.precision
        floats = computed_in(wanted)
        self._hint, self._missing = HINTS[floats], wanted if floats != wanted else ""
        int8 = "int8" + (f", rest {floats}" if floats != "fp32" else "")
        self.precision = PRECISION_WORDS[int8 if self._spec.precision == "int8" else floats]
        self._images = self._open(self._path("model"), settings.measure and not is_small(bundle))

    @property
    def plan(self) -> Plan:
        """The plan by which images are run."""
        return self._images.plan

    @property
    def _program(self) -> OpenProgram:
        return self._images

    def _open_texts(self, path: Path) -> OpenProgram:
        return self._open(path, False)

    def report(self) -> GraphReport:
        remarks = []
        if self._missing:
            remarks.append(f"this processor does not compute in {self._missing}: floats are computed in fp32")
        return report_on_openvino(self._images.compiled, self._bundle, remarks)

    def _open(self, path: Path, measure: bool) -> OpenVinoGraph:
        plan = self._settle(path, measure)
        return OpenVinoGraph(path, self._hint, plan, batch=self._spec.batch)

    def _settle(self, path: Path, measure: bool) -> Plan:
        """Returns a plan for a program that is known to run here. Raises EngineDied if it is known to crash."""
        threads, goal, batch = self._settings.threads or available_cores(), self._settings.goal, self._spec.batch
        asked = question(
            f"openvino {path.stem}",
            program_hash(self._bundle),
            ("openvino",),
            hint=self._hint,
            threads=threads,
            goal=goal,
        )
        known = recall(asked) or {}
        plan = Plan.from_dict(known.get("plan"))
        if isinstance(known.get("died"), str):
            raise EngineDied(self._died(path, known["died"], f" (remembered in {place_of(asked)})"), lasting=True)
        if plan is not None and batch in (None, plan.chunk) and (known.get("measured") or not measure):
            return plan
        choices = plans(goal, threads, batch=batch) if measure else [default_plan(goal, threads, batch=batch)]
        found = probe(path, self._hint, batch, choices)
        if found.died:
            if found.lasting:
                remember(asked, {"died": found.died})
            raise EngineDied(self._died(path, found.died), lasting=found.lasting)
        best = choices[found.rates.index(max(found.rates))]
        remember(asked, {"plan": best.to_dict(), "measured": measure, "rates": found.rates})
        return best

    def _died(self, path: Path, how: str, where: str = "") -> str:
        instead = "use engine 'onnx'" if self._bundle.program == "onnx" else "export the model to onnx and use that"
        return f"{path}: openvino, tried in a child process, {how}{where}: {instead}"
