"""`vitsmith zeroshot`: which of your own words fits an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitsmith.cli.checkpoint import ImageSizeOption, open_model
from vitsmith.cli.engine import EngineOption, PrecisionOption, tell_choice
from vitsmith.cli.images import expand
from vitsmith.cli.output import progress, say
from vitsmith.cli.predict import Style, Writer, write_all

if TYPE_CHECKING:
    from vitsmith.weights.bundle import Bundle
    from vitsmith.zeroshot.classifier import ZeroShotClassifier
    from vitsmith.zeroshot.words import Words

SHOWN = 5  # of labels that were cut

TemplatesOption = Annotated[
    str,
    typer.Option(help="clip, lit, simple, a file with one a line, or one like 'a photo of a {}.'; default: its own."),
]
VocabularyOption = Annotated[
    Path | None, typer.Option(help="Tokenizer file of a LiT .npz, when it is not beside it under the same name.")
]


class Scores(StrEnum):
    """How labels are judged."""

    single = "single"
    independent = "independent"


def zeroshot(
    model: Annotated[str, typer.Argument(help="A LiT bundle, checkpoint or published name.")],
    images: Annotated[list[str], typer.Argument(help="Files, folders, globs, or - for standard input.")],
    labels: Annotated[
        list[str], typer.Option(help="Labels parted by commas, or a file with one a line; may be repeated.")
    ],
    templates: TemplatesOption = "",
    scores: Annotated[
        Scores, typer.Option(help="single: labels exclude each other; independent: each by itself.")
    ] = Scores.single,
    top: Annotated[int, typer.Option(min=1, help="Answers for each image.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values with a header.")] = False,
    batch: Annotated[int, typer.Option(min=1, help="Images computed at once.")] = 16,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    vocabulary: VocabularyOption = None,
    image_size: ImageSizeOption = "",
    cache: Annotated[bool, typer.Option(help="Keep the embeddings of labels on disk for the next time.")] = True,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first image that cannot be read.")] = False,
) -> None:
    """Classify images with words. Unreadable images are reported, skipped, and make the exit code 2."""
    from vitsmith.errors import InputError
    from vitsmith.zeroshot.words import read_words

    if json and csv:
        raise InputError("--json and --csv exclude each other; choose one")
    style = Style.json if json else Style.csv if csv else Style.table
    words = read_words(labels)
    sources = list(expand(images))
    options = {"engine": engine, "batch_size": batch, "precision": precision}
    bundle = open_model(model, image_size, vocabulary=vocabulary)
    classifier = open_classifier(bundle, words, templates, scores=scores.value, cache=cache, options=options)
    tell_choice(classifier.encoder.engine)
    if classifier.score_meaning == "cosine":
        say(
            "scores are cosines, not probabilities: the model was trained with softmax, which has no zero for one label"
        )
    writer = Writer(style, top, meaning=classifier.score_meaning)
    write_all(classifier.stream(sources), len(sources), writer, doing="classifying", strict=strict)


def open_classifier(
    bundle: Bundle,
    words: Words,
    templates: str,
    *,
    options: dict[str, Any],
    scores: Any = "single",
    cache: bool = True,
) -> ZeroShotClassifier:
    """The classifier of a command line, with a bar while labels are embedded and a word on labels that were cut."""
    from vitsmith.zeroshot.classifier import ZeroShotClassifier

    with _labels_bar(len(words)) as on_labels:
        classifier = ZeroShotClassifier(
            bundle,
            words,
            templates=templates or None,
            scores=scores,
            cache=cache,
            on_labels=on_labels,
            on_remark=say,
            **options,
        )
    tell_cut(classifier.cut, classifier.encoder.bundle.tokenizer.spec.length)
    tell_unknown(classifier.unknown)
    return classifier


def tell_cut(labels: Sequence[str], length: int) -> None:
    """Says which labels have prompts whose ends go unread."""
    if labels:
        more = f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else ""
        shown = ", ".join(map(repr, labels[:SHOWN]))
        say(f"longer than the {length} tokens that the model reads, and cut in some prompt: {shown}{more}")


def tell_unknown(words: Mapping[str, Sequence[str]]) -> None:
    """Says which labels have words that the vocabulary lacks, by label."""
    if words:
        shown = ", ".join(
            f"{' '.join(map(repr, unknown))} of {name!r}" for name, unknown in list(words.items())[:SHOWN]
        )
        more = f", and in {len(words) - SHOWN} more labels" if len(words) > SHOWN else ""
        say(f"not in the model's vocabulary, so taken for any other unknown word: {shown}{more}")


@contextmanager
def _labels_bar(count: int) -> Iterator[Any]:
    with progress(unit="labels") as bar:
        task = bar.add_task("embedding labels", total=count, note="")
        yield lambda done: bar.update(task, completed=done)
