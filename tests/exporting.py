"""Exports as tests call them: one function a target, with the usual precision and gate."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from vitsmith import Bundle
from vitsmith.exporters.exporter import Extras
from vitsmith.exporters.gate import Gate
from vitsmith.exporters.run import export
from vitsmith.gate import Verdict
from vitsmith.specs import ProgramSpec
from vitsmith.zeroshot.labels import Words

Place = str | os.PathLike[str]


def _program(
    bundle: Bundle, folder: Place, target: str, spec: ProgramSpec | None, gate: Gate | None
) -> tuple[Bundle, Verdict]:
    exported, verdict = export(bundle, folder, target, spec, gate)
    assert verdict is not None
    return exported, verdict


def export_onnx(
    bundle: Bundle, folder: Place, *, spec: ProgramSpec | None = None, gate: Gate | None = None
) -> tuple[Bundle, Verdict]:
    return _program(bundle, folder, "onnx", spec, gate)


def export_openvino(
    bundle: Bundle, folder: Place, *, spec: ProgramSpec | None = None, gate: Gate | None = None
) -> tuple[Bundle, Verdict]:
    return _program(bundle, folder, "openvino", spec, gate)


def export_executorch(
    bundle: Bundle, folder: Place, *, spec: ProgramSpec | None = None, gate: Gate | None = None
) -> tuple[Bundle, Verdict]:
    return _program(bundle, folder, "executorch", spec, gate)


def export_web(
    bundle: Bundle,
    folder: Place,
    *,
    spec: ProgramSpec | None = None,
    labels: Words | Sequence[str] | None = None,
    templates: str | None = None,
) -> tuple[Bundle, Verdict | None]:
    return export(bundle, folder, "web", spec, extras=Extras(labels=labels, templates=templates))


def export_triton(
    bundle: Bundle, folder: Place, *, spec: ProgramSpec | None = None, name: str = "", device: Any = "auto"
) -> tuple[Bundle, Verdict | None]:
    return export(bundle, folder, "triton", spec, extras=Extras(name=name, device=device))
