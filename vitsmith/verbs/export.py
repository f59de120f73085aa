"""`vitsmith.export`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from vitsmith.arguments import known_name
from vitsmith.arguments import path as argument_path
from vitsmith.data.images.sources import ImageSource, name_source, several
from vitsmith.data.images.unreadable import SHARE, read_all, sift
from vitsmith.data.sets.samples import Samples
from vitsmith.errors import InputError
from vitsmith.evaluation.evaluation import match_classes
from vitsmith.evaluation.held_out import Asked
from vitsmith.files.atomic import scratch
from vitsmith.gate import Requirements
from vitsmith.json_text import json_or_none
from vitsmith.models.config import LiTConfig
from vitsmith.needs_torch import require_torch
from vitsmith.runs import default_place, place_of
from vitsmith.specs import ProgramSpec
from vitsmith.verbs.adding import add_exported, check_add, check_program
from vitsmith.verbs.inputs import (
    Choose,
    Data,
    Model,
    Tell,
    asked_of,
    check_bounds,
    choosing,
    is_data,
    left_out,
    run_name,
    warn,
)
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.manifest import MANIFEST
from vitsmith.weights.labels import with_labels
from vitsmith.weights.load import assumed, load

if TYPE_CHECKING:
    from vitsmith.exporters.program import Gate
    from vitsmith.zeroshot.words import Words

_LEAVE_OUT = "leave `images`, `data`, `max_drop` and `strict_gate` out"


def export(
    bundle: Model,
    target: str,
    out: str | os.PathLike[str] | None = None,
    *,
    precision: str = "fp32",
    fixed_batch: int | None = None,
    pixels: bool = False,
    images: ImageSource | Iterable[ImageSource] = (),
    data: Data = "",
    split: str = "",
    max_drop: float | None = None,
    strict_gate: bool = False,
    skip_unreadable: float = SHARE,
    labels: Words | Sequence[str] | None = None,
    without_split: bool = False,
    add: bool = False,
    force: bool = False,
    tell: Tell = warn,
) -> Bundle:
    """A program for another runtime, behind the gate: the bundle that was written, whose `verdict` is the gate's.

    Args:
        bundle: torch weights; for 'web' and 'triton' also a program that they take, which is not compared again.
        target: 'onnx', 'openvino', 'executorch', 'web', 'triton', or 'npz' (weights alone, which pass no gate).
        out: the folder, or for 'npz' the file; default a new one below runs/export.
        precision: what the program computes in: 'fp32', 'fp16', 'bf16' or 'int8', as far as the target does.
        fixed_batch: the one batch size of the program; default any.
        pixels: the program takes uint8 pixels and normalises by itself.
        images: what both programs are compared on; default golden images and sample photographs.
        data: labelled images: accuracy is part of the gate then. `split` as for `evaluate`.
        max_drop: percentage points of top-1 that may be lost on `data`; default 0.5.
        strict_gate: refuse also where the images are too few to tell.
        skip_unreadable: share of the images that may be unreadable.
        labels: for a LiT model and 'web': the labels that the page chooses from.
        without_split: do not keep the record of the images it was trained on.
        add: keep the program in the folder of `bundle`, which is one on disk, beside what is there: the result is that
            bundle with the new program.
        force: replace an earlier export at `out`; with `add` the same program that was added before.
        tell: called with messages; by default only warnings are shown.

    Raises GateError, and leaves nothing, when the program gives other answers; InputError, OutputError,
    MissingPackageError.
    """
    spec = ProgramSpec(precision=cast(Any, precision), batch=fixed_batch, pixels=pixels)
    written, place = export_to(
        bundle, target, out, spec,
        images=images, data=data, split=split,
        required=Requirements(accuracy_drop=max_drop, strict=strict_gate),
        skip_unreadable=skip_unreadable, labels=labels, without_split=without_split, add=add, force=force, tell=tell,
    )  # fmt: skip
    return load(place) if written is None else written


def export_to(
    bundle: Model,
    target: str,
    out: str | os.PathLike[str] | None,
    spec: ProgramSpec,
    *,
    required: Requirements,
    images: ImageSource | Iterable[ImageSource] = (),
    data: Data = "",
    split: str = "",
    skip_unreadable: float = SHARE,
    labels: Words | Sequence[str] | None = None,
    labels_file: Path | None = None,
    image_size: int | tuple[int, int] | None = None,
    without_split: bool = False,
    add: bool = False,
    force: bool = False,
    tell: Tell = warn,
    choose: Choose | None = None,
) -> tuple[Bundle | None, Path]:
    """Exports for `export` and the command line. Returns the bundle (None for an .npz) and the path that was written.

    `labels_file` has the `labels`, or a classifier's class names, one a line; `image_size` is for a checkpoint that
    does not say its size; `choose` chooses the evaluation images of `data`, by default those that the model was not
    trained on.
    """
    require_torch("export")
    from vitsmith.exporters.targets import TARGETS, check
    from vitsmith.exporters.targets import export as export_program
    from vitsmith.weights.save import save
    from vitsmith.zeroshot.words import Words, check_words

    known_name(target, "target", TARGETS)
    sources, gated = list(several(images)), is_data(data)
    for_gate = bool(sources) or gated or required != Requirements()
    _check_use(target, for_gate=for_gate, labels=labels is not None, split=bool(split) and not gated)
    if labels_file is not None and target == "npz":
        raise InputError("an .npz has no class names: leave `labels_file` out")
    words = labels if labels is None or isinstance(labels, Words) else check_words(list(labels), where="labels")
    to = None if out is None else argument_path(out, "out")
    if to is not None and target == "npz" and to.suffix != ".npz":
        to = to.with_name(f"{to.name}.npz")
    called = run_name(bundle)
    name = f"{called}-{target}" + ("" if spec.precision == "fp32" else f"-{spec.precision}")
    if add:
        check_add(bundle, target, out=to is not None, labels_file=labels_file is not None, without_split=without_split)
        where: AbstractContextManager[Path] = scratch("program")
    else:
        where = place_of("export", name, to, force=force, is_earlier=lambda place: _is_export(place, target))
    with where as place:
        original = load(bundle, image_size=image_size)
        for note in assumed(original):
            tell(note)
        original, words = _named(original, target, labels_file, words)
        check(original, target, spec)
        if add:
            check_program(original, cast(Any, target), spec, force=force)
        if original.program != "torch" and for_gate:
            raise InputError(f"{original.where} is copied as it is, without a gate: {_LEAVE_OUT}")
        check_bounds(required, gated)
        asked = asked_of(data, split, tell) if gated else None
        gate = _gate(original, sources, asked, required, skip_unreadable, tell, choose or choosing(tell))
        inside = f"{default_place('export', name).name}.npz" if target == "npz" else "model"
        folder = place if to is not None else place / inside
        original = _with_split(original, target, without_split, tell)
        if target == "npz":
            save(original, folder, format="npz")
            return None, folder
        tell("exporting and checking; this takes a few seconds to a minute")
        written, verdict = export_program(original, folder, target, spec, gate, labels=words, name=called)
        for doubt in verdict.doubts if verdict is not None else ():
            tell(doubt)
        if add:
            written = add_exported(original, written, tell, force=force)
            folder = written.place
        written.verdict = verdict
        return written, folder


def _named(bundle: Bundle, target: str, labels_file: Path | None, words: Words | None) -> tuple[Bundle, Words | None]:
    """The bundle and the labels of a LiT's page, one of which the file names: its classes, or those labels."""
    from vitsmith.zeroshot.words import read_word_file

    if labels_file is not None and target == "web" and isinstance(bundle.config, LiTConfig):
        return bundle, read_word_file(str(labels_file))
    return with_labels(bundle, labels_file), words


def _gate(
    bundle: Bundle,
    sources: Sequence[ImageSource],
    asked: Asked | None,
    required: Requirements,
    share: float,
    tell: Tell,
    choose: Choose,
) -> Gate:
    """The gate with the images that can be read, at most a `share` of which may be unreadable."""
    from vitsmith.exporters.program import Gate

    images = read_all(sources, [name_source(one) for one in sources], share=share, tell=left_out(tell))
    labelled = None if asked is None else _labelled(bundle, asked, share, tell, choose)
    return Gate(images or None, labelled, required)


def _labelled(bundle: Bundle, asked: Asked, share: float, tell: Tell, choose: Choose) -> Samples:
    """Labelled images for the gate that can be read, none of which the bundle was trained on."""
    if bundle.labels is not None:
        match_classes(bundle, asked.samples)  # before any image is read
    samples = choose([bundle], asked).samples
    kept = sift(samples.sources, samples.names, share=share, tell=left_out(tell))
    return samples if len(kept) == len(samples) else samples.select(kept)


def _check_use(target: str, *, for_gate: bool, labels: bool, split: bool) -> None:
    """Raises InputError for options that a target does not use."""
    if target == "npz" and for_gate:
        raise InputError(f"an .npz holds the same weights, so there is no gate: {_LEAVE_OUT}")
    if labels and target != "web":
        raise InputError(f"`labels` are for the page of a LiT model, not for {target}")
    if split:
        raise InputError("`split` chooses a part of `data`: give `data` too")


def _is_export(place: Path, target: str) -> bool:
    """Whether an earlier export of the same kind wrote what is there."""
    from zipfile import is_zipfile

    if target == "npz":
        return place.is_file() and is_zipfile(place)
    if target == "triton":
        return any(place.glob("*/config.pbtxt"))
    try:
        made = json_or_none(place / MANIFEST)["provenance"]["source"]
    except (KeyError, TypeError):
        return False
    return str(made).startswith("vitsmith export")


def _with_split(bundle: Bundle, target: str, without: bool, tell: Tell) -> Bundle:
    """The bundle, with the record of its images unless `without`; tells the user what the record reveals on a page."""
    from vitsmith.data.sets.split_record import SPLIT

    if without:
        return bundle.with_split(None)
    if target == "web" and bundle.split is not None:
        tell(
            f"{SPLIT} goes with the page: anyone who has an image can find out by it whether the model "
            "was trained on that image; `without_split` leaves it out"
        )
    return bundle
