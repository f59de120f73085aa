"""The targets of an export: for each its precisions, what it can be made from, and the file that exports to it.

Nothing here needs torch: an exporter, and with it torch, is imported when it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitsmith.specs import Program

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
    gated: bool = True
    """Whether there is something to compare: weights stay the same."""
    suffix: str = ""
    """The suffix of a target that is one file and not a folder."""


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
        Target("npz", ("fp32",), _npz, gated=False, suffix=".npz"),
    )
}
