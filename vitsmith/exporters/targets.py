"""What can be exported to what: targets, precisions, and why some do not go together."""

from __future__ import annotations

from pathlib import Path

from vitsmith.errors import InputError, OutputError
from vitsmith.exporters.program import Gate
from vitsmith.gate import Verdict
from vitsmith.specs import ProgramSpec
from vitsmith.weights.bundle import Bundle
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
"""By target. int8 for the others is made by `vitsmith quantize`, which measures what it costs."""

ONNX_INSIDE = ("web", "triton")
"""Targets that are an ONNX program and files around it: they also take a bundle that is one already."""


def check(bundle: Bundle, target: str, spec: ProgramSpec) -> None:
    """Raises InputError for what cannot be: a precision that the target's runtime does not compute, another program."""
    if spec.precision not in PRECISIONS[target]:
        raise InputError(_why_not(target, spec.precision))
    if target == "npz" and spec != ProgramSpec():
        raise InputError("an .npz holds weights and no program: `fixed_batch` and `pixels` are for the other targets")
    exported = bundle.program != "torch"
    if exported and not (target in ONNX_INSIDE and bundle.program in _accepted(target)):
        raise InputError(
            f"{bundle.where} is already exported (model.{bundle.program}); export the torch one to {target}"
        )
    if exported and spec not in (ProgramSpec(), bundle.program_spec):
        raise InputError(
            f"{bundle.where} is already a program ({bundle.program_spec.arithmetic}): it is taken as it is, so leave "
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
    """Exports to one of the targets that are programs; the verdict is None where a program was taken as it is.

    `labels` are of a LiT model on a page, `name` of a model in a Triton repository. Raises InputError for what does not
    go together, GateError when the new program gives other answers, and MissingPackageError.
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
    """None, for what it is, of a bundle that is a program already."""
    return spec if bundle.program == "torch" else None
