"""`vitsmith.quantize`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from vitsmith.arguments import path as argument_path
from vitsmith.data.datasets import DataSpec
from vitsmith.data.image_sources import ImageSource, several
from vitsmith.data.unreadable import SHARE
from vitsmith.errors import InputError
from vitsmith.gate import Requirements
from vitsmith.needs_torch import require_torch
from vitsmith.runs import place_of
from vitsmith.verbs.inputs import Model, Tell, check_bounds, described_data, run_name, warn
from vitsmith.weights.load import load

if TYPE_CHECKING:
    from vitsmith.compress.quantized import Quantized
    from vitsmith.compress.trials import Listener


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
    """An int8 program that answers as well and is faster on this machine, or "keep float": then its `bundle` is None.

    Args:
        bundle: torch weights.
        data: labelled images of your task: training images calibrate, held-out ones judge by accuracy.
        out: the folder of the run; default a new one below runs/quantize.
        images: images that calibrate with `data`, and judge too without it.
        split: 'val' or 'test', the part of `data` that judges; default the held-out images.
        engine: 'openvino', 'onnx', or 'auto': openvino where it is installed.
        max_drop: with `data`, percentage points of top-1 that may be lost; default 0.5.
        min_agreement: without, share of first choices that stay; default 0.99.
        min_speedup: images/s beside the fastest float program.
        fastest: try all programs and take the fastest that keeps what is required, not the first.
        batch_size: images at once where speed is measured.
        calibration: images that calibrate, at most. `limit`: images that judge, at most; `seed` decides which.
        strict_gate: refuse also where the images are too few to tell.
        skip_unreadable: share of the images that may be unreadable.
        without_split: do not keep the record of the images it was trained on.
        force: replace an earlier run at `out`.
        tell: hears what a user should know; by default only warnings are shown.
        listener: hears what is going on.

    `Quantized.require` raises GateError when float is to be kept. Raises InputError, DatasetError, OutputError,
    MissingPackageError.
    """
    require_torch("export")
    from vitsmith.compress.calibration import Amounts, labelled_photos, unlabelled_photos
    from vitsmith.compress.quantize import check_quantizable, quantize_to, usual_engine
    from vitsmith.compress.quantized import Settings
    from vitsmith.compress.schemes import REQUIRED

    sources, described = list(several(images)), described_data(data)
    if not described.path and not sources:
        raise InputError("int8 is calibrated on real images of your task: give images, or labelled data")
    if split and not described.path:
        raise InputError("split chooses a part of data: give that too")
    asked = Requirements(accuracy_drop=max_drop, agreement=min_agreement, speedup=min_speedup, strict=strict_gate)
    check_bounds(asked, bool(described.path))
    engine = usual_engine() if engine == "auto" else engine
    settings = Settings(engine, REQUIRED.with_changes(asked), fastest, batch_size)
    to = None if out is None else argument_path(out, "out")
    with place_of("quantize", f"{run_name(bundle)}-{engine}", to, force=force) as target:
        original = load(bundle)
        check_quantizable(original, engine)
        how: dict[str, Any] = {"amounts": Amounts(calibration, limit, seed), "skip_unreadable": skip_unreadable}
        photos = (
            labelled_photos(original, described, split, images=sources, tell=tell, **how)
            if described.path
            else unlabelled_photos(original, sources, **how)
        )
        original = original.with_split(None) if without_split else original
        result = quantize_to(target, original, photos, settings, listener=listener)
    for told in (*result.remarks, *result.doubts):
        tell(told)
    return result
