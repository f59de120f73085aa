"""`vitsmith.quantize`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from vitsmith.arguments import Tell, named_arguments, warn
from vitsmith.arguments import path as argument_path
from vitsmith.data.images.sources import ImageSource, several
from vitsmith.data.images.unreadable import SHARE
from vitsmith.data.sets.datasets import DataSpec
from vitsmith.errors import InputError
from vitsmith.gate import Requirements
from vitsmith.needs_torch import require_torch
from vitsmith.runs.place import place_of
from vitsmith.verbs.inputs import Model, check_bounds, check_data, described_data, run_name
from vitsmith.weights.load import assumed, load

if TYPE_CHECKING:
    from vitsmith.compress.quantize.result import Quantization, Quantized
    from vitsmith.compress.result import Listener


@named_arguments
def quantize(
    bundle: Model,
    data: str | os.PathLike[str] | DataSpec = "",
    out: str | os.PathLike[str] | None = None,
    *,
    images: ImageSource | Iterable[ImageSource] = (),
    split: str = "",
    engine: str = "auto",
    max_drop: float | None = None,
    min_agreement: float | None = None,
    min_speedup: float = 1.2,
    fastest: bool = False,
    batch_size: int = 8,
    calibration: int = 300,
    limit: int = 1000,
    seed: int = 0,
    strict_gate: bool = False,
    skip_unreadable: float = SHARE,
    without_split: bool = False,
    force: bool = False,
    tell: Tell = warn,
    listener: Listener = lambda _: None,
) -> Quantized:
    """Finds an int8 program that answers as well and is faster on this machine, or "keep float": then `bundle` is None.

    Args:
        bundle: torch weights.
        data: labelled images of your task: training images for calibration, held-out ones to measure accuracy.
        out: the folder of the run; default a new one below runs/quantize.
        images: images for calibration beside `data`; without `data` also for evaluation.
        split: 'val' or 'test', the part of `data` to evaluate on; default the held-out images.
        engine: 'openvino', 'onnx', or 'auto': openvino where it is installed.
        max_drop: with `data`, percentage points of top-1 that may be lost; default 0.5.
        min_agreement: without `data`, share of first choices that stay; default 0.99.
        min_speedup: images/s relative to the fastest float program.
        fastest: try all programs and take the fastest that passes, not the first.
        batch_size: images at once where speed is measured.
        calibration: most images for calibration. `limit`: most images for evaluation; `seed` decides which.
        strict_gate: refuse also where the images are too few to tell.
        skip_unreadable: share of the images that may be unreadable.
        without_split: do not keep the record of the images it was trained on.
        force: replace an earlier run at `out`.
        tell: called with messages; by default only warnings are shown.
        listener: called with the steps of the work.

    `Quantized.require` raises GateError when float is to be kept. Raises InputError, DatasetError, OutputError,
    MissingPackageError.
    """
    require_torch("export")
    from vitsmith.compress.images import Amounts, labelled_images, unlabelled_images
    from vitsmith.compress.quantize.run import check_quantizable, quantize_to

    sources, described = list(several(images)), described_data(data)
    asked = Requirements(accuracy_drop=max_drop, agreement=min_agreement, speedup=min_speedup, strict=strict_gate)
    settings = quantization(
        asked, described.path, split, images=bool(sources), engine=engine, fastest=fastest, batch_size=batch_size
    )
    how: dict[str, Any] = {"amounts": Amounts(calibration, limit, seed), "skip_unreadable": skip_unreadable}
    to = None if out is None else argument_path(out, "out")
    with place_of("quantize", f"{run_name(bundle)}-{settings.engine}", to, force=force) as target:
        check_data(described)
        original = load(bundle)
        for note in assumed(original):
            tell(note)
        check_quantizable(original, settings.engine)
        if described.path:
            given = labelled_images(original, described, split, images=sources, tell=tell, **how)
        else:
            given = unlabelled_images(original, sources, **how)
        original = original.with_split(None) if without_split else original
        result = quantize_to(target, original, given, settings, listener=listener)
    for told in (*result.remarks, *result.doubts):
        tell(told)
    return result


def quantization(
    asked: Requirements, data: str, split: str, *, images: bool, engine: str, fastest: bool, batch_size: int
) -> Quantization:
    """The settings of a run, from what Python callers and the command line give.

    Raises InputError for options that do not go together.
    """
    from vitsmith.compress.quantize.result import Quantization
    from vitsmith.compress.quantize.run import usual_engine
    from vitsmith.compress.quantize.schemes import REQUIRED

    if not data and not images:
        raise InputError("int8 is calibrated on real images of your task: give `images` FOLDER or `data` DATA")
    if split and not data:
        raise InputError("`split` chooses a part of `data`: give `data` too")
    check_bounds(asked, bool(data))
    engine = usual_engine() if engine == "auto" else engine
    return Quantization(engine, REQUIRED.with_changes(asked), fastest, batch_size)
