"""`vitsmith export`: a program for another engine, behind the gate."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitsmith.cli.arguments.images import sources_of
from vitsmith.cli.arguments.inputs import choices_of, choose_images, labelled, parse_size
from vitsmith.cli.arguments.options import (
    ImageColumnOption,
    ImageSizeOption,
    JsonOption,
    LabelColumnOption,
    ModelArgument,
    OutOption,
    ReadAsOption,
    SkipOption,
    StrictGateOption,
    WithoutSplitOption,
    data_option,
    images_option,
    max_drop_option,
    split_option,
)
from vitsmith.cli.arguments.texts import check_labels, read_labels
from vitsmith.cli.terminal.output import drop_told, print_facts, print_json, say

if TYPE_CHECKING:
    from vitsmith.gate import Verdict
    from vitsmith.weights.bundle.bundle import Bundle


class To(StrEnum):
    """The targets."""

    onnx = "onnx"
    openvino = "openvino"
    executorch = "executorch"
    web = "web"
    triton = "triton"
    npz = "npz"


class ExportPrecision(StrEnum):
    """The precisions of a program."""

    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"
    int8 = "int8"


def export(
    model: ModelArgument,
    to: Annotated[
        To,
        typer.Option(help="Target: onnx, openvino, executorch, web (a page), triton, or npz (Google's format)."),
    ],
    precision: Annotated[
        ExportPrecision, typer.Option(help="Precision: fp32, fp16, bf16 or int8, if the target supports it.")
    ] = ExportPrecision.fp32,
    fixed_batch: Annotated[
        int | None, typer.Option(min=1, help="Fixed batch size of the program; default: any.")
    ] = None,
    pixels: Annotated[
        bool, typer.Option("--pixels", help="The program takes uint8 pixels and normalises them itself.")
    ] = False,
    image_size: ImageSizeOption = "",
    read_as: ReadAsOption = None,
    out: OutOption = None,
    add: Annotated[
        bool, typer.Option("--add", help="Keep the program in the bundle itself, beside its others.")
    ] = False,
    images: Annotated[list[str] | None, images_option("for the gate")] = None,
    data: Annotated[str, data_option("the gate compares accuracy on it")] = "",
    split: Annotated[str, split_option("train, val, test or all", "images the model was not trained on")] = "",
    image_column: ImageColumnOption = "",
    label_column: LabelColumnOption = "",
    max_drop: Annotated[float | None, max_drop_option("on --data; default: 0.5")] = None,
    strict_gate: StrictGateOption = False,
    skip_unreadable: SkipOption = 0.01,
    labels: Annotated[
        list[str] | None, typer.Option(help="CLIP, SigLIP or LiT for web: labels of the page, separated by commas.")
    ] = None,
    labels_file: Annotated[
        Path | None,
        typer.Option(
            help="File with one name a line: class names in the order of the outputs, or the labels of a page."
        ),
    ] = None,
    without_split: WithoutSplitOption = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace an earlier export in --out, or the same program of --add; nothing else."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Export a model and compare it with the original. If it differs, nothing is written (exit 3)."""
    from vitsmith.gate import Requirements
    from vitsmith.specs import ProgramSpec
    from vitsmith.verbs.export import ExportRequest, export_for

    check_labels(labels, labels_file)
    request = ExportRequest(
        bundle=model,
        target=to.value,
        out=out,
        spec=ProgramSpec(precision=precision.value, batch=fixed_batch, pixels=pixels),
        required=Requirements(accuracy_drop=max_drop, strict=strict_gate),
        images=sources_of(images or []),
        data=labelled(data, image_column, label_column, split),
        split=split,
        skip_unreadable=skip_unreadable,
        labels=read_labels(labels, None),
        labels_file=labels_file,
        image_size=parse_size(image_size),
        choices=choices_of(read_as),
        without_split=without_split,
        add=add,
        force=force,
    )
    exported, target = export_for(request, say, choose_images)
    numbers = _numbers(exported, target)
    if json:
        print_json(numbers)
    else:
        print_facts(_facts(numbers, exported.verdict if exported is not None else None).items())


def _numbers(exported: Bundle | None, target: Path) -> dict[str, Any]:
    """The fields of the JSON: where the program is, and what the gate found, if there was one."""
    numbers: dict[str, Any] = {"written": str(target)}
    if exported is None:  # an .npz
        return numbers
    if exported.folder is not None and exported.folder != target:
        numbers["bundle"] = str(exported.folder)
    if exported.verdict is None:
        return numbers | {"gate": None}
    return numbers | {"gate": exported.verdict.to_dict()}


def _facts(numbers: dict[str, Any], verdict: Verdict | None) -> dict[str, Any]:
    """The same facts for printing."""
    facts: dict[str, Any] = {name: numbers[name] for name in ("written", "bundle") if name in numbers}
    if "gate" not in numbers:
        return facts
    found = numbers["gate"]
    if found is None or verdict is None:
        return facts | {"checked on": "the program was copied as it is; it passed its gate when it was made"}
    facts |= {
        "checked on": f"{verdict.inputs} in batches of 1, 2 and 7",
        "difference": f"{found['difference']:.2g} of the largest output",
        "lowest cosine": f"{found['lowest_cosine']:.6f}",
    }
    if "agreement" in found:
        facts["top-1 agreement"] = f"{found['agreement']:.1%}"
    if "top1" in found:
        facts["top-1 on --data"] = f"{found['top1']:.2%} (before {found['top1_before']:.2%})"
        facts["drop of top-1"] = drop_told(found)
    return facts
