"""`vitsmith export`: a program for another engine, behind the gate."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitsmith.cli.inputs import choose_images, labelled, open_model, read_images, readable, require_labels
from vitsmith.cli.options import (
    ForceOption,
    ImageColumnOption,
    ImageSizeOption,
    JsonOption,
    LabelColumnOption,
    ModelArgument,
    OutOption,
    SkipOption,
    StrictGateOption,
    WithoutSplitOption,
    data_option,
    images_option,
    max_drop_option,
    split_option,
)
from vitsmith.cli.output import drop_told, print_facts, print_json, say
from vitsmith.cli.texts import read_labels
from vitsmith.needs_torch import require_torch

if TYPE_CHECKING:
    from vitsmith.data.datasets import DataSpec
    from vitsmith.data.samples import Samples
    from vitsmith.exporters.program import Gate
    from vitsmith.gate import Verdict
    from vitsmith.specs import ProgramSpec
    from vitsmith.weights.bundle import Bundle
    from vitsmith.zeroshot.words import Words


class To(StrEnum):
    """What can be written."""

    onnx = "onnx"
    openvino = "openvino"
    executorch = "executorch"
    web = "web"
    triton = "triton"
    npz = "npz"


class ExportPrecision(StrEnum):
    """What the program is to compute in."""

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
    out: OutOption = None,
    images: Annotated[list[str] | None, images_option("for the gate")] = None,
    data: Annotated[str, data_option("the gate compares accuracy on it")] = "",
    split: Annotated[str, split_option("train, val, test or all", "images the model was not trained on")] = "",
    image_column: ImageColumnOption = "",
    label_column: LabelColumnOption = "",
    max_drop: Annotated[float, max_drop_option()] = 0.5,
    strict_gate: StrictGateOption = False,
    skip_unreadable: SkipOption = 0.01,
    labels: Annotated[
        list[str] | None, typer.Option(help="LiT model for web only: labels of the page, separated by commas.")
    ] = None,
    labels_file: Annotated[Path | None, typer.Option(help="File with one label a line, in place of --labels.")] = None,
    without_split: WithoutSplitOption = False,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Export a model and compare it with the original. If it differs, nothing is written (exit 3)."""
    require_torch("export")
    from vitsmith.exporters.program import Gate
    from vitsmith.exporters.targets import check
    from vitsmith.gate import Requirements
    from vitsmith.runs import model_name, place_of
    from vitsmith.specs import ProgramSpec

    _check_options(to, gated=bool(images or data), labels=bool(labels or labels_file))
    require_labels(strict_gate, data)
    words = read_labels(labels, labels_file)
    described = labelled(data, image_column, label_column, split)
    if out is not None and to is To.npz and out.suffix != ".npz":
        out = out.with_name(f"{out.name}.npz")
    name = f"{model_name(model)}-{to.value}" + ("" if precision is ExportPrecision.fp32 else f"-{precision.value}")
    with place_of("export", name, out, force=force, is_earlier=lambda place: _is_export(place, to)) as place:
        bundle = open_model(model, image_size)
        spec = ProgramSpec(precision=precision.value, batch=fixed_batch, pixels=pixels)
        check(bundle, to.value, spec)
        _check_gated(bundle, gated=bool(images or data))
        gate = Gate(
            read_images(images or [], skip_unreadable) or None,
            _open(bundle, described, split, skip_unreadable),
            Requirements(accuracy_drop=max_drop, strict=strict_gate),
        )
        target = place if out is not None else place / _inside(name, to)
        numbers = _write(_with_split(bundle, to, without_split), to, spec, gate, words, target, model_name(model))
    if json:
        print_json(numbers)
    else:
        print_facts(_facts(numbers).items())


def _check_options(to: To, *, gated: bool, labels: bool) -> None:
    """Raises InputError for options that a target has no use for."""
    from vitsmith.errors import InputError

    if to is To.npz and gated:
        raise InputError("an .npz holds the same weights, so there is no gate: leave --images and --data out")
    if labels and to is not To.web:
        raise InputError(f"--labels are for the page of a LiT model, not for {to.value}")


def _check_gated(bundle: Bundle, *, gated: bool) -> None:
    from vitsmith.errors import InputError

    if bundle.program != "torch" and gated:
        raise InputError(f"{bundle.where} is copied as it is, without a gate: leave --images and --data out")


def _inside(name: str, to: To) -> str:
    """What an export is called in a run folder."""
    from vitsmith.runs import default_place

    return f"{default_place('export', name).name}.npz" if to is To.npz else "model"


def _write(
    bundle: Bundle, to: To, spec: ProgramSpec, gate: Gate, words: Words | None, target: Path, name: str
) -> dict[str, Any]:
    """Writes the export, and says what JSON says of it."""
    from vitsmith.exporters.targets import export
    from vitsmith.weights.checkpoints import save

    if to is To.npz:
        save(bundle, target, format="npz")
        return {"written": str(target)}
    say("exporting and checking; this takes a few seconds to a minute")
    return _numbers(*export(bundle, target, to.value, spec, gate, labels=words, name=name), target)


def _is_export(place: Path, to: To) -> bool:
    """Whether this verb wrote what is there, as the same kind of thing."""
    from zipfile import is_zipfile

    from vitsmith.json_text import json_or_none
    from vitsmith.weights.description import DESCRIPTION

    if to is To.npz:
        return place.is_file() and is_zipfile(place)
    if to is To.triton:
        return any(place.glob("*/config.pbtxt"))
    try:
        made = json_or_none(place / DESCRIPTION)["provenance"]["source"]
    except (KeyError, TypeError):
        return False
    return str(made).startswith("vitsmith export")


def _numbers(exported: Bundle, verdict: Verdict | None, target: Path) -> dict[str, Any]:
    """What JSON says: where it is, and what the gate found, if there was one. Its doubts are told."""
    numbers: dict[str, Any] = {"written": str(target)}
    if exported.folder is not None and exported.folder != target:
        numbers["bundle"] = str(exported.folder)
    if verdict is None:
        return numbers | {"gate": None}
    for doubt in verdict.doubts:
        say(doubt)
    return numbers | {"gate": verdict.to_dict()}


def _facts(numbers: dict[str, Any]) -> dict[str, Any]:
    """The same in words."""
    facts: dict[str, Any] = {name: numbers[name] for name in ("written", "bundle") if name in numbers}
    if "gate" not in numbers:
        return facts
    found = numbers["gate"]
    if found is None:
        return facts | {"checked on": "the program was copied as it is; it passed its gate when it was made"}
    facts |= {
        "checked on": f"{found['images']} image{'s' * (found['images'] != 1)} in batches of 1, 2 and 7",
        "difference": f"{found['difference']:.2g} of the largest output",
        "lowest cosine": f"{found['lowest_cosine']:.6f}",
        "top-1 agreement": f"{found['agreement']:.1%}",
    }
    if "top1" in found:
        facts["top-1 on --data"] = f"{found['top1']:.2%} (before {found['top1_before']:.2%})"
        facts["drop of top-1"] = drop_told(found)
    return facts


def _open(bundle: Bundle, data: DataSpec, split: str, skip: float) -> Samples | None:
    """Labelled images for the gate, or None."""
    if not data.path:
        return None
    from vitsmith.evaluation.evaluation import match_classes
    from vitsmith.evaluation.held_out import ask

    asked = ask(data, split, tell=say)
    if bundle.labels is not None:
        match_classes(bundle, asked.samples)  # before any image is read
    return readable(choose_images([bundle], asked).samples, skip)


def _with_split(bundle: Bundle, to: To, without: bool) -> Bundle:
    """The bundle, with the record of its images unless that is not wanted; what it means on a page is said."""
    from vitsmith.data.split_record import SPLIT

    if without:
        return bundle.with_split(None)
    if to is To.web and bundle.split is not None:
        say(
            f"{SPLIT} goes with the page: anyone who has an image can find out by it whether the model "
            "was trained on that image; --without-split leaves it out"
        )
    return bundle
