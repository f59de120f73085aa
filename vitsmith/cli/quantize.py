"""`vitsmith quantize`: an int8 program, if one is found that answers as well and is faster."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from vitsmith.cli.arguments.images import expand
from vitsmith.cli.arguments.inputs import labelled, parse_size, reading_bar, tell_calibration
from vitsmith.cli.arguments.options import (
    ForceOption,
    ImageColumnOption,
    ImageSizeOption,
    JsonOption,
    LabelColumnOption,
    LabelsFileOption,
    OutOption,
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
from vitsmith.cli.terminal.output import lost_told, print_facts, print_json, print_table, progress, say
from vitsmith.cli.terminal.pictures import put_picture
from vitsmith.needs_torch import require_torch

if TYPE_CHECKING:
    from vitsmith.compress.images import Amounts, TaskImages
    from vitsmith.compress.quantize.measure import Step, Working
    from vitsmith.compress.quantize.result import Quantization, Quantized
    from vitsmith.compress.quantize.schemes import Attempt
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
    from vitsmith.gate import Requirements
    from vitsmith.verbs.quantize import quantize_by

    described = labelled(data, image_column, label_column, split)
    amounts = Amounts(calibration, limit, seed)
    result = quantize_by(
        model,
        described,
        out,
        Requirements(accuracy_drop=max_drop, agreement=min_agreement, speedup=min_speedup, strict=strict_gate),
        engine=engine.value,
        fastest=fastest,
        batch_size=batch_size,
        split=split,
        has_images=bool(images),
        images_of=lambda bundle: _images(bundle, described, split, images or [], amounts, skip_unreadable),
        run=_quantize,
        without_split=without_split,
        force=force,
        tell=say,
        labels_file=labels_file,
        image_size=parse_size(image_size),
    )
    if json:
        print_json(result.to_dict())
    else:
        _show(result)
    result.require()


def _quantize(target: Path, bundle: Bundle, images: TaskImages, settings: Quantization) -> Quantized:
    """Searches under bars, and puts a picture beside the result."""
    from vitsmith.compress.quantize.result import RESULT
    from vitsmith.compress.quantize.run import quantize_to
    from vitsmith.report.schemes import draw_schemes

    earlier = (target / RESULT).exists()
    with Bars() as bars:
        result = quantize_to(target, bundle, images, settings, listener=bars)
    if result.bundle is not None or not earlier:
        put_picture(target / "schemes.png", "the plot of the int8 programs", lambda: draw_schemes(result))
    else:
        say(f"the earlier run in {target} stays as it is")
    return result


class Bars:
    """Bars for the work under way, on a terminal, and a line for the result of each program, everywhere."""

    def __init__(self) -> None:
        self._progress = progress(unit="")
        self._task: Any = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, event: Working | Step | Attempt) -> None:
        from vitsmith.compress.quantize.measure import Working
        from vitsmith.compress.quantize.schemes import Attempt

        if isinstance(event, Attempt):
            if event.scheme:
                say(f"{event.name}, rest in {event.rest}: {event.reason or 'keeps what is required'}")
        elif isinstance(event, Working):
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task(event.what, total=event.steps, note="")
        elif self._task is not None:
            self._progress.advance(self._task)


def _images(bundle: Bundle, data: DataSpec, split: str, images: list[str], amounts: Amounts, skip: float) -> TaskImages:
    from vitsmith.compress.images import labelled_images, unlabelled_images

    tell_calibration(bundle, kept=True)
    sources = list(expand(images))
    how: dict[str, Any] = {"amounts": amounts, "skip_unreadable": skip}
    if data.path:
        with reading_bar() as on_images:
            return labelled_images(bundle, data, split, images=sources, on_images=on_images, tell=say, **how)
    return unlabelled_images(bundle, sources, **how)


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
