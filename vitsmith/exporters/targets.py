"""The targets of an export: for each its precisions, what it can be made from, and the file that exports to it.

Nothing here needs torch: an exporter, and with it torch, is imported when it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitsmith.errors import InputError
from vitsmith.specs import Program, ProgramSpec
from vitsmith.weights.bundle.bundle import Bundle

if TYPE_CHECKING:
    from vitsmith.exporters.exporter import Exporter


@dataclass(frozen=True)
class Target:
    """A target before anything is exported."""

    name: str
    precisions: tuple[str, ...]
    """What its runtime computes in. `vitsmith quantize` makes int8 for the others, and measures what it costs."""
    exporter: Callable[[], Exporter]
    """Imports its file and returns the exporter that is defined there."""
    takes: tuple[Program, ...] = ("torch",)
    """What it is made from: torch weights, and for files around a program also such programs, which are copied."""
    addable: bool = False
    """Whether it is a program and nothing else, which an engine runs: it can be kept in the bundle it is made from."""
    page: bool = False
    """Whether it is a page: it takes labels for a LiT model, and whoever can read it gets all its files."""
    suffix: str = ""
    """Of a target that is one file of weights and not a program: the suffix of the file."""

    @property
    def gated(self) -> bool:
        """Whether there is something to compare: weights stay the same."""
        return not self.suffix

    def check(self, bundle: Bundle, spec: ProgramSpec, *, labels: bool = False) -> None:
        """Raises InputError for a precision that its runtime does not compute, for another program, and for labels."""
        if spec.precision not in self.precisions:
            raise InputError(self._why_not(spec.precision))
        if not self.gated and spec != ProgramSpec():
            raise InputError(
                f"an {self.suffix} holds weights, not a program: `fixed_batch` and `pixels` are for the other targets"
            )
        if bundle.program not in self.takes:
            raise InputError(
                f"{bundle.where} is already exported (model.{bundle.program}); export the torch one to {self.name}"
            )
        if bundle.program != "torch" and spec not in (ProgramSpec(), bundle.program_spec):
            raise InputError(
                f"{bundle.where} is already a program ({bundle.program_spec.arithmetic}), which is not changed: leave "
                "`precision`, `fixed_batch` and `pixels` out"
            )
        if labels:
            self.check_labels()

    def check_labels(self) -> None:
        """Raises InputError where labels have no use."""
        if not self.page:
            raise InputError(f"`labels` are for the page of a LiT model, not for {self.name}")

    def _why_not(self, precision: str) -> str:
        there = " or ".join(self.precisions)
        if precision == "int8":
            return f"int8 for {self.name} is made from real images:  vitsmith quantize MODEL --images FOLDER" + (
                f", then  vitsmith export RESULT --to {self.name}" if len(self.takes) > 1 else ""
            )
        if precision == "bf16":
            return f"no runtime of {self.name} computes in bf16 on a CPU: take {there}, or export to openvino"
        return f"{self.name} is written in {there}, not in {precision}"


def _onnx() -> Exporter:
    from vitsmith.exporters.onnx import ONNX

    return ONNX


def _openvino() -> Exporter:
    from vitsmith.exporters.openvino import OPENVINO

    return OPENVINO


def _executorch() -> Exporter:
    from vitsmith.exporters.executorch import EXECUTORCH

    return EXECUTORCH


def _web() -> Exporter:
    from vitsmith.exporters.web import WEB

    return WEB


def _triton() -> Exporter:
    from vitsmith.exporters.triton import TRITON

    return TRITON


def _npz() -> Exporter:
    from vitsmith.exporters.npz import NPZ

    return NPZ


TARGETS: dict[str, Target] = {
    one.name: one
    for one in (
        Target("onnx", ("fp32", "fp16"), _onnx, addable=True),
        Target("openvino", ("fp32", "fp16", "bf16"), _openvino, addable=True),
        Target("executorch", ("fp32", "int8"), _executorch, addable=True),
        Target("web", ("fp32", "fp16"), _web, takes=("torch", "onnx"), page=True),
        Target("triton", ("fp32", "fp16"), _triton, takes=("torch", "onnx", "openvino")),
        Target("npz", ("fp32",), _npz, suffix=".npz"),
    )
}
