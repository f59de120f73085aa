"""`vitsmith inspect`: what is inside a bundle or a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitsmith.cli.arguments.inputs import choices_of, parse_size
from vitsmith.cli.arguments.options import ImageSizeOption, JsonOption, ReadAsOption
from vitsmith.cli.terminal.output import print_facts, print_json, print_table, say

if TYPE_CHECKING:
    from vitsmith.records import Measurement
    from vitsmith.specs import StoredProgram
    from vitsmith.weights.bundle.bundle import Bundle


def inspect(
    source: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="Bundle, run folder, weights file or hf:OWNER/NAME."),
    ],
    arrays: Annotated[bool, typer.Option("--arrays", help="List every array with its shape.")] = False,
    image_size: ImageSizeOption = "",
    read_as: ReadAsOption = None,
    upgrade: Annotated[
        bool,
        typer.Option("--upgrade", help="Rewrite a bundle of an earlier version in today's format, in place."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show what is in a bundle or weights file, and check that it is whole."""
    from vitsmith.weights.bundle.hashes import forget
    from vitsmith.weights.bundle.paths import find_bundle, names_program

    if upgrade:
        _upgrade(source)
    forget(find_bundle(source) or Path(source))
    bundle, head = _inspect(source, image_size=parse_size(image_size), **choices_of(read_as))
    if names_program(source):
        bundle = _alone(bundle)
    programs = [_program(bundle.using(stored), stored) for stored in bundle.programs]
    several = len(programs) > 1
    facts = _facts(bundle, head, programs if several else None)
    shapes = _shapes(bundle) if arrays else {}
    if json:
        extra = {"arrays": {name: list(shape) for name, shape in shapes.items()}} if arrays else {}
        print_json({**facts, "config": bundle.config.model_dump(mode="json"), **extra})
        return
    shown = [(name, value) for name, value in facts.items() if name not in ("labels", "measurements", "programs")]
    if bundle.labels:
        first = ", ".join(bundle.labels.shown[:10])
        shown.append(("labels", f"{first}{', ...' if len(bundle.labels) > 10 else ''}"))
    machines = {one.machine for one in bundle.measurements}
    apart = len(machines) > 1
    if machines and not apart:
        shown.append(("measured on", machines.pop()))
    print_facts(shown)
    if several:
        rows = [(one["program"], f"{one['size_mib']:.3g}", one["golden_answers"]) for one in programs]
        print_table(("program", "size MiB", "golden answers"), rows, right=("size MiB",))
    if bundle.measurements:
        left_out = {name for name, there in (("program", several), ("machine", apart)) if not there}
        measured = [_measured(one) for one in bundle.measurements]
        columns = [name for name in measured[0] if name not in left_out]
        print_table(columns, [[cells[name] for name in columns] for cells in measured])
    if arrays:
        print_table(("array", "shape"), [(name, "x".join(map(str, shape))) for name, shape in shapes.items()])


def _measured(one: Measurement) -> dict[str, str]:
    """Cell by column."""
    interval = f" [{one.low:.4g}, {one.high:.4g}]" if one.low is not None and one.high is not None else ""
    value = f"{one.value:.4g}{interval}{one.unit and ' ' + one.unit}"
    ran, batch = f"{one.engine} {one.precision}".strip(), "" if one.batch is None else str(one.batch)
    return {
        "measured": one.metric,
        "value": value,
        "program": one.program,
        "engine": ran,
        "batch": batch,
        "data": one.data,
        "machine": one.machine,
        "date": one.date,
    }


def _alone(bundle: Bundle) -> Bundle:
    """The bundle as if its folder held this program only, with what was measured of it."""
    from dataclasses import replace

    own = bundle.stored
    measured = tuple(one for one in bundle.measurements if one.program == own.title)
    return replace(bundle, programs=(own,), measurements=measured)


def _program(bundle: Bundle, stored: StoredProgram) -> dict[str, Any]:
    """The facts about one program of several."""
    from vitsmith.weights.bundle.folder import program_mib

    found = _compare_golden(bundle, stored)
    return {
        "program": stored.title,
        "folder": stored.folder,
        "size_mib": program_mib(bundle.place),
        "golden_answers": found,
    }


def _compare_golden(bundle: Bundle, stored: StoredProgram) -> str:
    """Runs the golden images and texts of one program, also if it was checked before.

    Returns 'held', 'none' for a bundle without golden images, or 'not compared', which it tells the user, where the
    engine is not installed. Raises BundleError for other answers.
    """
    from dataclasses import replace

    from vitsmith.engines.golden_answers import tolerance_of
    from vitsmith.engines.open import open_engine
    from vitsmith.errors import MissingPackageError

    alone = replace(bundle, verified=False, programs=(stored,))
    try:
        opened = open_engine(alone)
        if alone.text is not None:
            if alone.golden is not None and alone.golden.texts is not None:
                _ = alone.tokenizer  # without its library only the text tower would be compared
            alone.check_golden_texts(opened.run_texts, tolerance=tolerance_of(alone, "auto"))
    except MissingPackageError as error:
        say(f"the golden answers of {stored.title} were not compared: {error}")
        return "not compared"
    return "held" if bundle.golden is not None else "none"


def _upgrade(source: str) -> None:
    """Rewrites a bundle of an earlier format, and says so. Raises InputError for what is no bundle."""
    from vitsmith.errors import InputError
    from vitsmith.weights.bundle.folder import upgrade_bundle
    from vitsmith.weights.bundle.paths import find_bundle

    folder = find_bundle(source)
    if folder is None:
        raise InputError(f"--upgrade rewrites bundles, and {source} is none: save what vitsmith.load makes of it")
    told = "is in format 2 now: version 0.1 cannot read it any more" if upgrade_bundle(folder) else "is in format 2"
    say(f"{folder} {told}")


def _inspect(source: str, **options: Any) -> tuple[Bundle, str]:
    """The bundle and a description of its head; a head that cannot be used for prediction is left out, and why.

    `options` are those of `load`.
    """
    from vitsmith.errors import WeightsError
    from vitsmith.weights.load import load

    try:
        bundle = load(source, **options)
        return bundle, _head(bundle)
    except WeightsError as error:
        if "head" not in str(error):
            raise
        return load(source, **options, headless=True), f"not usable for prediction: {error}"


def _head(bundle: Bundle) -> str:
    from vitsmith.weights.bundle.summary import describe_head

    return describe_head(bundle.head, bundle.classes)


def _facts(bundle: Bundle, head: str, programs: list[dict[str, Any]] | None) -> dict[str, Any]:
    from vitsmith.models.cost import flops, parameters
    from vitsmith.weights.bundle.summary import (
        describe_calibration,
        describe_input,
        describe_license,
        describe_origin,
        describe_similarity,
        describe_text,
        title,
    )

    provenance = bundle.provenance
    text, refused = bundle.text, provenance.texts_refused or _unfit_vocabulary(bundle)
    there = bundle.vocabulary is not None and not refused
    read = "" if text is None else describe_text(text, vocabulary=there, refused=refused)
    return {
        "model": title(bundle.config, bundle.provenance),
        "program": bundle.stored.title,
        "parameters": f"{parameters(bundle.config):,}",
        "operations": f"{flops(bundle.config) / 1e9:.3g} GFLOPs an image",
        "head": head,
        "images": describe_input(bundle.preprocessing, provenance),
        "text": read or None,
        "scripts": (bundle.scripts or None) if there else None,
        "scores": describe_similarity(bundle.similarity) if text is not None else None,
        "programs": programs,
        "calibration": describe_calibration(bundle.calibration) if bundle.calibration is not None else None,
        "source": provenance.source,
        "made from": provenance.parent,
        "published as": describe_origin(provenance) or None,
        "licence": describe_license(provenance) or None,
        "date": provenance.date,
        "notes": "; ".join(provenance.notes),
        "split": str(bundle.split) if bundle.split is not None else None,
        "labels": list(bundle.labels.names) if bundle.labels else None,
        "measurements": [one.model_dump() for one in bundle.measurements],
    }


def _unfit_vocabulary(bundle: Bundle) -> str:
    """Why the vocabulary that is there is not the text tower's; '' where it is, or where its library is missing."""
    from vitsmith.errors import InputError, MissingPackageError, bare

    if bundle.vocabulary is None:
        return ""
    try:
        _ = bundle.tokenizer
    except MissingPackageError:
        return ""
    except InputError as error:
        return bare(bundle.where, str(error))
    return ""


def _shapes(bundle: Bundle) -> dict[str, tuple[int, ...]]:
    if bundle.program != "torch":
        return {}
    return {name: tuple(parameter.shape) for name, parameter in bundle.model.named_parameters()}
