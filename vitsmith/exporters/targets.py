"""The targets of an export, their precisions, and why some combinations are refused."""

from __future__ import annotations

from pathlib import Path

from vitsmith.errors import InputError, OutputError
from vitsmith.exporters.program import Gate
from vitsmith.gate import Verdict
from vitsmith.specs import ProgramSpec
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.zeroshot.words import Words

TARGETS = ("onnx", "openvino", "executorch", "web", "triton", "npz")

PRECISIONS: dict[str, tuple[str, ...]] = {
    "onnx": ("fp32", "fp16"),
    "openvino": ("fp32", "fp16", "bf16"),
    "executorch": ("fp32", "int8"),
    "web": ("fp32", "fp16"),
    "triton": ("fp32", "fp16"),
    "npz": ("fp32",),
}
"""Precisions by target. `vitsmith quantize` makes int8 for the others, and measures what it costs."""

ONNX_INSIDE = ("web", "triton")
"""Targets that add files to an ONNX program: they also take a bundle that already is an ONNX program."""


def check(bundle: Bundle, target: str, spec: ProgramSpec) -> None:
    """Raises InputError for a precision that the target's runtime does not compute, and for another program."""
    if spec.precision not in PRECISIONS[target]:
        raise InputError(_why_not(target, spec.precision))
    if target == "npz" and spec != ProgramSpec():
        raise InputError("an .npz holds weights, not a program: `fixed_batch` and `pixels` are for the other targets")
    exported = bundle.program != "torch"
    if exported and not (target in ONNX_INSIDE and bundle.program in _accepted(target)):
        raise InputError(
            f"{bundle.where} is already exported (model.{bundle.program}); export the torch one to {target}"
        )
    if exported and spec not in (ProgramSpec(), bundle.program_spec):
        raise InputError(
            f"{bundle.where} is already a program ({bundle.program_spec.arithmetic}), which is not changed: leave "
            "`precision`, `fixed_batch` and `pixels` out"
        )


def _accepted(target: str) -> tuple[str, ...]:
    return ("onnx", "openvino") if target == "triton" else ("onnx",)


def _why_not(target: str, precision: str) -> str:
    there = " or ".join(PRECISIONS[target])
    if precision == "int8":
        return f"int8 for {target} is made from real images:  vitsmith quantize MODEL --images FOLDER" + (
            f", then  vitsmith export RESULT --to {target}" if target in ONNX_INSIDE else ""
        )
    if precision == "bf16":
        return f"no runtime of {target} computes in bf16 on a CPU: take {there}, or export to openvino"
    return f"{target} is written in {there}, not in {precision}"


def export(
    bundle: Bundle,
    folder: Path,
    target: str,
    spec: ProgramSpec,
    gate: Gate,
    *,
    labels: Words | None = None,
    name: str = "",
) -> tuple[Bundle, Verdict | None]:
    """Exports to one of the targets that are programs; the verdict is None if a program was copied unchanged.

    `labels` are for the page of a LiT model, `name` is that of a model in a Triton repository. Raises InputError for
    options that do not fit each other, GateError if the new program gives other answers, and MissingPackageError.
    """
    check(bundle, target, spec)
    if bundle.program == "torch" and bundle.folder is not None and folder.exists() and folder.samefile(bundle.folder):
        raise OutputError(f"{folder} is the model itself, whose weights would be lost: choose another output folder")
    if labels is not None and target != "web":
        raise InputError(f"`labels` are for the page of a LiT model, not for {target}")
    if target == "onnx":
        from vitsmith.exporters.onnx import export_onnx

        return export_onnx(bundle, folder, spec=spec, gate=gate)
    if target == "openvino":
        from vitsmith.exporters.openvino import export_openvino

        return export_openvino(bundle, folder, spec=spec, gate=gate)
    if target == "executorch":
        from vitsmith.exporters.executorch import export_executorch

        return export_executorch(bundle, folder, spec=spec, gate=gate)
    if target == "web":
        from vitsmith.exporters.web import export_web

        return export_web(bundle, folder, spec=_or_its_own(spec, bundle), gate=gate, labels=labels)
    from vitsmith.exporters.triton import export_triton

    return export_triton(bundle, folder, spec=_or_its_own(spec, bundle), gate=gate, name=name)


def _or_its_own(spec: ProgramSpec, bundle: Bundle) -> ProgramSpec | None:
    """`spec` for torch weights; None for a program, which keeps its own."""
    return spec if bundle.program == "torch" else None
