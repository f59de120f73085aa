"""`vitsmith zeroshot`: which of your own words fits an image."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitsmith.cli.arguments.inputs import images_of, labelled, open_model, read_images, tell_choice
from vitsmith.cli.arguments.options import (
    BatchSizeOption,
    CsvOption,
    DataInsteadOption,
    EngineOption,
    ForceOption,
    ImageColumnOption,
    ImagesArgument,
    ImageSizeOption,
    JsonLinesOption,
    LabelColumnOption,
    PartOption,
    PrecisionOption,
    ReadAsOption,
    SkipAllOption,
    TemplatesFileOption,
    TemplatesOption,
    TopOption,
    VocabularyOption,
    model_argument,
)
from vitsmith.cli.arguments.texts import open_classifier, read_labels, read_prompts
from vitsmith.cli.terminal.answers import Writer, renamed, style_of, write_all
from vitsmith.cli.terminal.output import print_facts, print_json, say

if TYPE_CHECKING:
    from vitsmith.arrays import Array
    from vitsmith.data.images.sources import ImageSource
    from vitsmith.retrieval.index import Index
    from vitsmith.zeroshot.classifier import ZeroShotClassifier


class Scoring(StrEnum):
    """How labels are scored."""

    single = "single"
    independent = "independent"


def zeroshot(
    model: Annotated[str, model_argument("CLIP, SigLIP or LiT")],
    images: ImagesArgument = None,
    data: DataInsteadOption = "",
    split: PartOption = "",
    image_column: ImageColumnOption = "",
    label_column: LabelColumnOption = "",
    index: Annotated[
        Path | None,
        typer.Option(help="Index made by  vitsmith embed, in place of IMAGES: by its vectors; no image is read."),
    ] = None,
    where: Annotated[str, typer.Option(help='Condition on the columns of --index, as "width > 1000".')] = "",
    labels: Annotated[
        list[str] | None, typer.Option(help="Labels to choose from, separated by commas; may be repeated.")
    ] = None,
    labels_file: Annotated[
        Path | None,
        typer.Option(
            help="File with one label a line, in place of --labels; words for the prompts may follow after tabs."
        ),
    ] = None,
    templates: TemplatesOption = "",
    templates_file: TemplatesFileOption = None,
    scores: Annotated[
        Scoring, typer.Option(help="single: exactly one label fits; independent: each label is scored by itself.")
    ] = Scoring.single,
    top: TopOption = 1,
    json: JsonLinesOption = False,
    csv: CsvOption = False,
    batch_size: BatchSizeOption = 16,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    vocabulary: VocabularyOption = None,
    image_size: ImageSizeOption = "",
    read_as: ReadAsOption = None,
    cache: Annotated[bool, typer.Option(help="Keep the embeddings of labels on disk for the next run.")] = True,
    skip_unreadable: SkipAllOption = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write an ordinary classifier of these labels there; IMAGES, if any, only check it."),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Classify images by text labels. Unreadable images are reported and skipped, and the exit code is then 2."""
    from vitsmith.errors import InputError

    style = style_of(json=json, csv=csv)
    if out is None and force:
        raise InputError("--force replaces what an earlier --out wrote: give --out too")
    if out is not None and (csv or top != 1):
        raise InputError("--out writes a classifier and no answers: leave --csv and --top out")
    _check_out(out, force=force)
    words = read_labels(labels, labels_file)
    if words is None:
        raise InputError("no labels are given: write  --labels 'cat, dog' , or --labels-file FILE with one a line")
    prompts = read_prompts(templates, templates_file)
    described = labelled(data, image_column, label_column, split)
    indexed = None
    if index is not None:
        _check_indexed(images, data, out, skip_unreadable)
        indexed = _open_index(index, where)
    elif where:
        raise InputError("--where is a condition on columns of an index: give --index too")
    given = images or data or (out is None and indexed is None)
    sources, names = images_of(images or [], described, split) if given else ([], None)
    options = {"engine": engine, "batch_size": batch_size, "precision": precision, "num_images": len(sources)}
    bundle = open_model(model, image_size, read_as, headless=True, vocabulary=vocabulary)
    if indexed is not None:
        indexed[0].check_model(bundle, model)
    classifier = open_classifier(bundle, words, prompts, scores=scores.value, cache=cache, options=options)
    tell_choice(classifier.encoder.engine)
    if out is not None:
        _write_classifier(classifier, out, sources, skip_unreadable, force=force, json=json)
        return
    if classifier.score_meaning == "cosine":
        say(
            "scores are cosines, not probabilities: the model was trained with softmax and has no probability for a "
            "single label"
        )
    if classifier.head == "softmax" and classifier.similarity.bias is not None:
        say(
            "probabilities add up to 1 over the labels; the model was trained to judge each label by itself, as SigLIP "
            "is: --scores independent gives those probabilities"
        )
    writer = Writer(style, top, meaning=classifier.score_meaning)
    if indexed is not None:
        _classify_index(classifier, *indexed, writer)
        return
    results = renamed(classifier.stream(sources), names)
    write_all(results, len(sources), writer, doing="classifying", skip_unreadable=skip_unreadable)


def _check_indexed(images: list[str] | None, data: str, out: Path | None, skip_unreadable: float | None) -> None:
    """Raises InputError for what an index excludes."""
    from vitsmith.errors import InputError

    if images or data:
        raise InputError(f"--index takes the place of images: leave {'IMAGES' if images else '--data'} out")
    if out is not None:
        raise InputError("--out writes a classifier and no answers, for which no index is needed: leave --index out")
    if skip_unreadable is not None:
        raise InputError("--index takes the place of images, and none is read: leave --skip-unreadable out")


def _open_index(folder: Path, where: str) -> tuple[Index, Array | None]:
    """The index, and the rows that fulfil a condition."""
    from vitsmith.retrieval.index import open_index
    from vitsmith.retrieval.queries.classify import check_classifiable
    from vitsmith.retrieval.queries.where import matching

    opened = open_index(folder)
    check_classifiable(opened)
    return opened, matching(opened, where) if where else None


def _classify_index(classifier: ZeroShotClassifier, index: Index, allowed: Array | None, writer: Writer) -> None:
    import numpy as np

    from vitsmith.cli.terminal.found import tell_classified
    from vitsmith.retrieval.queries.classify import classify_index

    positions = np.arange(len(index)) if allowed is None else np.flatnonzero(allowed)
    copies = index.copies(positions)
    count = len(positions) + sum(map(len, copies))
    if not count:
        say(f"no image of {index.folder} " + ("is there: it is empty" if not len(index) else "fulfils --where"))
    write_all(classify_index(classifier, index, allowed=allowed), count, writer, doing="classifying")
    tell_classified(index, positions.tolist(), copies)


def _check_out(out: Path | None, *, force: bool) -> None:
    """Raises OutputError, before any work, where `--out` cannot be written or would replace something."""
    from vitsmith.runs.place import check_place
    from vitsmith.zeroshot.head import is_earlier

    check_place("zeroshot", out, force=force, is_earlier=is_earlier)


def _write_classifier(
    classifier: ZeroShotClassifier,
    out: Path,
    sources: Sequence[ImageSource],
    share: float | None,
    *,
    force: bool,
    json: bool,
) -> None:
    """Writes the bundle of `--out`, if its answers are those of the classifier on images or sample photographs.

    Up to a `share` of the images may be unreadable; with None all may be, and InputError is raised at the end.
    """
    from vitsmith.errors import InputError
    from vitsmith.runs.place import place_of
    from vitsmith.weights.bundle.folder import write_bundle
    from vitsmith.zeroshot.classifier import spread
    from vitsmith.zeroshot.head import is_earlier

    with place_of("zeroshot", "", out, force=force, is_earlier=is_earlier) as place:
        chosen = spread(sources)
        read = read_images(chosen, 1.0 if share is None else share)
        made = classifier.to_bundle(read)
        write_bundle(made, place)
    verdict = made.verdict
    assert verdict is not None
    if json:
        print_json({"written": str(out), "classes": made.classes, "head": made.head, "gate": verdict.to_dict()})
    else:
        facts = {
            "written": str(out),
            "classes": f"{made.classes:,}, {made.head}",
            "checked on": verdict.inputs,
            "difference": f"{verdict.relative:.2g} of the largest output",
            "top-1 agreement": f"{verdict.agreement:.1%}",
        }
        print_facts(facts.items())
    if share is None and len(read) < len(chosen):
        raise InputError(
            f"{len(chosen) - len(read)} of {len(chosen)} images could not be read, and did not check the classifier, "
            "which is written"
        )
