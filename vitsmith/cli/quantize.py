"""`vitsmith quantize`: an int8 program, if one is found that answers as well and is faster."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitsmith.cli.arguments.inputs import images_beside, labelled, open_model, reading_bar, tell_calibration
from vitsmith.cli.arguments.options import (
    ForceOption,
    ImageColumnOption,
    ImageSizeOption,
    JsonOption,
    LabelColumnOption,
    LabelsFileOption,
    OutOption,
    ReadAsOption,
    SkipOption,
    StrictGateOption,
    TorchModelArgument,
    WithoutSplitOption,
    calibration_option,
    data_option,
    images_option,
    limit_option,
    max_drop_option,
    min_agreement_option,
    min_speedup_option,
    seed_option,
    split_option,
)
from vitsmith.cli.terminal.compression_progress import CompressionProgress
from vitsmith.cli.terminal.output import lost_told, print_facts, print_json, print_table, say
from vitsmith.cli.terminal.pictures import put_picture
from vitsmith.needs_torch import require_torch

if TYPE_CHECKING:
    from vitsmith.compress.images import Amounts, TaskImages
    from vitsmith.compress.quantize.result import Quantization, Quantized
    from vitsmith.data.images.sources import ImageSource
    from vitsmith.data.sets.datasets import DataSpec
    from vitsmith.weights.bundle.bundle import Bundle


class IntegerEngine(StrEnum):
    """The engines of int8 programs."""

    auto = "auto"
    openvino = "openvino"
    onnx = "onnx"


def quantize(
    model: TorchModelArgument,
    data: Annotated[str, data_option("training images for calibration, held-out images for evaluation")] = "",
    images: Annotated[list[str] | None, images_option("for calibration; without --data also for evaluation")] = None,
    split: Annotated[str, split_option("val or test", "the held-out part")] = "",
    image_column: ImageColumnOption = "",
    label_column: LabelColumnOption = "",
    engine: Annotated[
        IntegerEngine, typer.Option(help="Engine of the int8 program; auto: openvino if it is installed, else onnx.")
    ] = IntegerEngine.auto,
    max_drop: Annotated[float | None, max_drop_option("on --data; default: 0.5")] = None,
    strict_gate: StrictGateOption = False,
    min_agreement: Annotated[float | None, min_agreement_option(0.99)] = None,
    min_speedup: Annotated[float, min_speedup_option("in images/s over the fastest float program")] = 1.2,
    fastest: Annotated[
        bool, typer.Option("--fastest", help="Try all programs and take the fastest that passes, not the first.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Batch size for the speed measurement.")] = 8,
    calibration: Annotated[int, calibration_option("they set the ranges of int8", most=300)] = 300,
    limit: Annotated[int, limit_option()] = 1000,
    image_size: ImageSizeOption = "",
    read_as: ReadAsOption = None,
    skip_unreadable: SkipOption = 0.01,
    labels_file: LabelsFileOption = None,
    seed: Annotated[int, seed_option("the choice of calibration and evaluation images")] = 0,
    without_split: WithoutSplitOption = False,
    out: OutOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Find an int8 program that answers as well and is faster on this machine, or say "keep float" (exit 3)."""
    require_torch("export")
    from vitsmith.compress.images import Amounts
    from vitsmith.compress.quantize.run import check_quantizable
    from vitsmith.gate import Requirements
    from vitsmith.runs.place import model_name, place_of
    from vitsmith.verbs.quantize import quantization

    described = labelled(data, image_column, label_column, split)
    asked = Requirements(accuracy_drop=max_drop, agreement=min_agreement, speedup=min_speedup, strict=strict_gate)
    settings = quantization(
        asked, data, split, images=bool(images), engine=engine.value, fastest=fastest, batch_size=batch_size
    )
    amounts = Amounts(calibration, limit, seed)
    with place_of("quantize", f"{model_name(model)}-{settings.engine}", out, force=force) as target:
        sources = images_beside(described, images or [])
        bundle = open_model(model, image_size, read_as, labels=labels_file, headless=None)
        check_quantizable(bundle, settings.engine)
        tell_calibration(bundle, kept=True)
        task_images = _images(bundle, described, split, sources, amounts, skip_unreadable)
        result = _quantize(target, bundle.with_split(None) if without_split else bundle, task_images, settings)
    for told in (*result.remarks, *result.doubts):
        say(told)
    if json:
        print_json(result.to_dict())
    else:
        _show(result)
    result.require()


def _quantize(target: Path, bundle: Bundle, images: TaskImages, settings: Quantization) -> Quantized:
    """Searches under a bar, and puts a picture beside the result."""
    from vitsmith.compress.quantize.run import quantize_to
    from vitsmith.report.schemes import draw_schemes
    from vitsmith.runs.folder import is_run_of

    earlier = is_run_of("quantize", target)
    with CompressionProgress() as listener:
        result = quantize_to(target, bundle, images, settings, listener=listener)
    if result.bundle is not None or not earlier:
        put_picture(target / "schemes.png", "the plot of the int8 programs", lambda: draw_schemes(result))
    else:
        say(f"the earlier run in {target} stays as it is")
    return result


def _images(
    bundle: Bundle, data: DataSpec, split: str, images: list[ImageSource], amounts: Amounts, skip: float
) -> TaskImages:
    from vitsmith.compress.images import labelled_images, unlabelled_images

    how: dict[str, Any] = {"amounts": amounts, "skip_unreadable": skip}
    if data.path:
        with reading_bar() as on_images:
            return labelled_images(bundle, data, split, images=images, on_images=on_images, tell=say, **how)
    return unlabelled_images(bundle, images, **how)


def _show(result: Quantized) -> None:
    labelled = result.images.labels is not None
    kept_columns = ("top-1", "points lost (95% interval)") if labelled else ("agreement",)
    speeds = (f"speed, {result.settings.batch} images", "one image")
    columns = ("program", "rest", *kept_columns, "cosine", *speeds, "size", "")
    rows = []
    for one in result.attempts:
        fidelity, speedup = one.fidelity, one.speedup
        kept = (fidelity.agreement if fidelity.top1 is None else fidelity.top1) if fidelity else None
        rows.append(
            (
                one.name,
                one.rest,
                None if kept is None else f"{kept:.2%}",
                *((fidelity and fidelity.accuracy and lost_told(fidelity.accuracy),) if labelled else ()),
                fidelity and f"{fidelity.cosine:.4f}",
                speedup and f"{speedup.batches:.2f}x",
                speedup and f"{speedup.single:.2f}x",
                None if one.mib is None else f"{one.mib:.1f} MiB",
                "taken" if one is result.search.chosen else one.reason and "refused",
            )
        )
    print_table(columns, rows, right=columns[2:-1])
    if reasons := [(one.name, one.rest, one.reason) for one in result.attempts if one.reason]:
        print_table(("refused", "rest", "why"), reasons)
    facts = {
        "evaluated on": result.images.name,
        "speeds are beside": f"float in {result.base_rest}, {result.settings.engine}{_of_float(result)}",
    }
    if result.top1 is not None:
        facts["the original's top-1"] = f"{result.top1:.2%}"
    if result.search.ranking:
        facts["most sensitive first"] = ", ".join(result.search.ranking)
    if result.bundle is not None:
        facts["written"] = str(result.bundle.folder)
    print_facts(facts.items())


def _of_float(result: Quantized) -> str:
    """A note on how fast float in another precision than fp32 is beside float in fp32; '' where there is none."""
    others = [one.rest for one in result.attempts if one.name == "float" and one.rest != "fp32" and one.speedup]
    return f" (that of float in {others[0]}: beside float in fp32)" if others else ""
