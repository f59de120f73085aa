"""`vitsmith.export`: from a model to a program in its place, by way of the images that the gate compares on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from vitsmith.arguments import Tell, known_name, named_arguments, warn
from vitsmith.arguments import path as argument_path
from vitsmith.data.images.sources import ImageSource, name_source, several
from vitsmith.data.images.unreadable import SHARE, read_all, sift
from vitsmith.data.sets.samples import Samples
from vitsmith.data.sets.split_record import SPLIT
from vitsmith.errors import InputError, shown
from vitsmith.evaluation.evaluation import match_classes
from vitsmith.evaluation.held_out import Asked
from vitsmith.exporters.targets import TARGETS, Target
from vitsmith.files.atomic import scratch
from vitsmith.gate import Requirements
from vitsmith.models.config import LiTConfig
from vitsmith.needs_torch import require_torch
from vitsmith.runs.place import default_place, place_of
from vitsmith.specs import ProgramSpec
from vitsmith.verbs.inputs import (
    Choose,
    Data,
    Model,
    asked_of,
    check_bounds,
    check_data,
    choosing,
    is_data,
    left_out,
    run_name,
)
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.manifest import FORMAT, read_manifest
from vitsmith.weights.bundle.paths import find_bundle
from vitsmith.weights.bundle.programs import add_program, check_addable
from vitsmith.weights.labels import with_labels
from vitsmith.weights.load import assumed, load
from vitsmith.zeroshot.labels import GivenLabels, Words, read_word_file, words_from

if TYPE_CHECKING:
    from vitsmith.exporters.gate import Gate

_LEAVE_OUT = "leave `images`, `data`, `max_drop` and `strict_gate` out"


@named_arguments
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
    labels: GivenLabels | None = None,
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
        labels: for a model that reads text and 'web': the labels that the page chooses from, as `ZeroShotClassifier`
            takes them: names, or a mapping from each to its own prompts.
        without_split: do not keep the record of the images it was trained on.
        add: keep the program in the folder of `bundle`, which is one on disk, beside what is there: the result is that
            bundle with the new program.
        force: replace an earlier export at `out`; with `add` the same program that was added before.
        tell: called with messages; by default only warnings are shown.

    Raises GateError, and leaves nothing, when the program gives other answers; InputError, OutputError,
    MissingPackageError.
    """
    request = ExportRequest(
        bundle=bundle, target=target, out=out,
        spec=ProgramSpec(precision=cast(Any, precision), batch=fixed_batch, pixels=pixels),
        images=list(several(images)), data=data, split=split,
        required=Requirements(accuracy_drop=max_drop, strict=strict_gate),
        skip_unreadable=skip_unreadable, labels=labels, without_split=without_split, add=add, force=force,
    )  # fmt: skip
    written, place = export_for(request, tell, choosing(tell))
    return load(place) if written is None else written


@dataclass(frozen=True, kw_only=True, eq=False)
class ExportRequest:
    """What is asked of an export: the arguments of `export`, and those that only the command line has."""

    bundle: Model
    target: str
    spec: ProgramSpec
    required: Requirements
    out: str | os.PathLike[str] | None = None
    images: Sequence[ImageSource] = ()
    data: Data = ""
    split: str = ""
    skip_unreadable: float = SHARE
    labels: GivenLabels | None = None
    labels_file: Path | None = None
    """A file with the `labels`, or with a classifier's class names, one a line."""
    image_size: int | tuple[int, int] | None = None
    """For a checkpoint that does not say its size: pixels, or (height, width)."""
    choices: Mapping[str, Any] = field(default_factory=dict)
    """For a checkpoint whose arrays have several answers: arguments of `load`."""
    without_split: bool = False
    add: bool = False
    force: bool = False

    @property
    def asks_gate(self) -> bool:
        """Whether something is asked of the gate."""
        return bool(self.images) or is_data(self.data) or self.required != Requirements()


def export_for(request: ExportRequest, tell: Tell, choose: Choose) -> tuple[Bundle | None, Path]:
    """Exports, for `export` and the command line. Returns the bundle (None for an .npz) and the path that was written.

    `choose` chooses the evaluation images of `data`.
    """
    require_torch("export")
    from vitsmith.exporters.exporter import Extras
    from vitsmith.exporters.npz import not_held
    from vitsmith.exporters.run import export as export_bundle

    target = TARGETS[known_name(request.target, "target", TARGETS)]
    _check_options(request, target)
    words = None if request.labels is None else words_from(request.labels)
    name = run_name(request.bundle)
    with _reserved(request, target, name) as folder:
        check_data(request.data)
        original, words = _load(request, target, words, tell)
        _check_bundle(request, target, original)
        gate = _gate(request, original, tell, choose)
        original = _with_split(request, target, original, tell)
        if target.gated:
            tell("exporting and checking; this takes a few seconds to a minute")
        extras = Extras(labels=words, name=name)
        written, verdict = export_bundle(original, folder, target.name, request.spec, gate, extras)
        if not target.gated:
            for told in not_held(original):
                tell(f"warning: {told}")
            return None, folder
        for doubt in verdict.doubts if verdict is not None else ():
            tell(doubt)
        if request.add:
            written = _add(original, written, tell, force=request.force)
            folder = written.place
        written.verdict = verdict
        return written, folder


def _check_options(request: ExportRequest, target: Target) -> None:
    """Raises InputError, before anything is read, for options that the target does not use."""
    if not target.gated and request.asks_gate:
        raise InputError(f"an {target.suffix} holds the same weights, so there is no gate: {_LEAVE_OUT}")
    if request.labels is not None and not target.page:
        raise InputError(f"`labels` are for the page of a LiT model, not for {target.name}")
    if request.split and not is_data(request.data):
        raise InputError("`split` chooses a part of `data`: give `data` too")
    if request.labels_file is not None and not target.gated:
        raise InputError(f"an {target.suffix} has no class names: leave `labels_file` out")


def _check_add(request: ExportRequest, target: Target) -> None:
    """Raises InputError, before anything is read, for what does not go with `add`."""
    if not target.addable:
        *names, last = (one.name for one in TARGETS.values() if one.addable)
        raise InputError(
            f"`add` keeps programs for {', '.join(names)} and {last} in a bundle; what is made for {target.name} is "
            "written elsewhere: leave `add` out"
        )
    if request.out is not None:
        raise InputError("`add` keeps the program in the bundle's own folder: leave `out` out")
    options = {"`labels_file`": request.labels_file is not None, "`without_split`": request.without_split}
    if unwanted := [option for option, given in options.items() if given]:
        raise InputError(f"`add` changes nothing but the programs of the bundle: leave {' and '.join(unwanted)} out")
    if not isinstance(request.bundle, Bundle) and find_bundle(request.bundle) is None:
        raise InputError(
            f"`add` keeps the program in a bundle's folder, and {shown(os.fsdecode(request.bundle))} is not a bundle "
            "on disk: save it as one first, or leave `add` out"
        )


@contextmanager
def _reserved(request: ExportRequest, target: Target, name: str) -> Iterator[Path]:
    """Where to write, reserved until it is written: `out`, a new run, or a temporary folder for a program to add."""
    from vitsmith.exporters.run import is_earlier

    out = None if request.out is None else argument_path(request.out, "out")
    if out is not None and target.suffix and out.suffix != target.suffix:
        out = out.with_name(f"{out.name}{target.suffix}")
    if request.add:
        _check_add(request, target)
        with scratch("program") as place:
            yield place / "model"
        return
    precision = request.spec.precision
    run = f"{name}-{target.name}" + ("" if precision == "fp32" else f"-{precision}")
    inside = f"{default_place('export', run).name}{target.suffix}" if target.suffix else "model"
    with place_of("export", run, out, force=request.force, is_earlier=partial(is_earlier, target)) as place:
        yield place if out is not None else place / inside


def _load(request: ExportRequest, target: Target, words: Words | None, tell: Tell) -> tuple[Bundle, Words | None]:
    """The bundle and the labels of a LiT's page, one of which the file names: its classes, or those labels."""
    bundle = load(request.bundle, image_size=request.image_size, headless=None, **request.choices)
    for note in assumed(bundle):
        tell(note)
    if request.labels_file is not None and target.page and isinstance(bundle.config, LiTConfig):
        return bundle, read_word_file(str(request.labels_file))
    return with_labels(bundle, request.labels_file), words


def _check_bundle(request: ExportRequest, target: Target, bundle: Bundle) -> None:
    """Raises InputError, before any image is read, for a bundle that does not become what is asked for."""
    from vitsmith.exporters.run import check

    check(bundle, target, request.spec)
    if request.add:
        if request.spec.pixels and bundle.preprocessing.quantize == "none":
            raise InputError(
                f"{bundle.where} takes resized pixels as they are, and a program made with `pixels` has them rounded, "
                "which is another preprocessing: leave `pixels` or `add` out"
            )
        check_addable(bundle, target.exporter().program, request.spec, force=request.force)
    if bundle.program != "torch" and request.asks_gate:
        raise InputError(f"{bundle.where} is copied as it is, without a gate: {_LEAVE_OUT}")
    check_bounds(request.required, is_data(request.data))


def _gate(request: ExportRequest, bundle: Bundle, tell: Tell, choose: Choose) -> Gate:
    """The gate with the images that can be read, at most a share of which may be unreadable."""
    from vitsmith.exporters.gate import Gate

    asked = asked_of(request.data, request.split, tell) if is_data(request.data) else None
    names = [name_source(one) for one in request.images]
    images = read_all(request.images, names, share=request.skip_unreadable, tell=left_out(tell))
    labelled = None if asked is None else _labelled(bundle, asked, request.skip_unreadable, tell, choose)
    return Gate(images or None, labelled, request.required)


def _labelled(bundle: Bundle, asked: Asked, share: float, tell: Tell, choose: Choose) -> Samples:
    """Labelled images for the gate that can be read, none of which the bundle was trained on."""
    if bundle.labels is not None:
        match_classes(bundle, asked.samples)  # before any image is read
    samples = choose([bundle], asked).samples
    kept = sift(samples.sources, samples.names, share=share, tell=left_out(tell))
    return samples if len(kept) == len(samples) else samples.select(kept)


def _with_split(request: ExportRequest, target: Target, bundle: Bundle, tell: Tell) -> Bundle:
    """The bundle, with the record of its images unless they asked to leave it out; tells what it reveals on a page."""
    if request.without_split:
        return bundle.with_split(None)
    if target.page and bundle.split is not None:
        tell(
            f"{SPLIT} goes with the page: anyone who has an image can find out by it whether the model "
            "was trained on that image; `without_split` leaves it out"
        )
    return bundle


def _add(bundle: Bundle, exported: Bundle, tell: Tell, *, force: bool) -> Bundle:
    """The bundle with the exported program, which is kept in its own folder from now on."""
    assert bundle.folder is not None
    old = read_manifest(bundle.folder)[1] != FORMAT
    joined = add_program(bundle, exported, force=force)
    if old:
        tell(f"{bundle.folder} is in format 2 now: version 0.1 cannot read it any more")
    return joined.using(next(one for one in joined.programs if one.is_(exported.program, exported.program_spec)))
