"""Reads texts and labels of a command line, and reports what the model cannot read of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitsmith.cli.terminal.output import progress, say
from vitsmith.cli.terminal.streams import read_standard_input

if TYPE_CHECKING:
    from vitsmith.encode import Encoder
    from vitsmith.weights.bundle.bundle import Bundle
    from vitsmith.zeroshot.classifier import ZeroShotClassifier
    from vitsmith.zeroshot.labels import Words

Names = Path | tuple[str, ...]
"""Names of classes: a file with one a line, or the names themselves."""
LARGEST_TEXTS = 1 << 40  # bytes: as many as there are


def read_texts(file: str, *, may_be_empty: bool = False) -> list[str]:
    """One text a line, blank lines left out; - is standard input. Raises InputError, also for none if not allowed."""
    from vitsmith.data.text.label_file import decode_text, split_lines
    from vitsmith.errors import InputError
    from vitsmith.files.regular import read_regular

    where = "standard input" if file == "-" else file
    try:
        data = read_standard_input() if file == "-" else read_regular(file, largest=LARGEST_TEXTS)
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}; check the path and its permissions") from error
    found = [line.strip() for line in split_lines(decode_text(data, where)) if line.strip()]
    if not found and not may_be_empty:
        raise InputError(f"{where} holds no texts: write one a line")
    return found


def read_labels(labels: Sequence[str] | None, file: Path | None) -> Words | None:
    """The labels of `--labels`, separated by commas, or of the file of `--labels-file`, one a line; None for neither.

    Raises InputError for both, and for a file where words are wanted.
    """
    from vitsmith.zeroshot.labels import read_word_file, read_words

    check_labels(labels, file)
    return read_word_file(str(file)) if file is not None else read_words(labels) if labels else None


def class_names(labels: Sequence[str] | None, file: Path | None) -> Names | None:
    """The names of a model's classes, in order, from the same options; the file is not read yet."""
    from vitsmith.zeroshot.labels import read_words

    check_labels(labels, file)
    return file if file is not None else read_words(labels).names if labels else None


def check_labels(labels: Sequence[str] | None, file: Path | None) -> None:
    """Raises InputError for `--labels` beside `--labels-file`, and for a file where words are wanted."""
    from vitsmith.data.text.prompts import is_file
    from vitsmith.errors import InputError, shown
    from vitsmith.zeroshot.labels import is_list_file

    if labels and file is not None:
        raise InputError("--labels and --labels-file both give the labels: give one of them")
    for one in labels or ():
        if is_file(one):
            raise InputError(f"--labels {shown(one)} is a file: give it with --labels-file")
        if is_list_file(one) and "\n" not in one and "\r" not in one:
            raise InputError(
                f"--labels {shown(one)} looks like a path: a file is given with --labels-file, and a label that looks "
                "like a path stands in quotes, as '\"AC/DC\"'"
            )


def read_prompts(templates: str, file: Path | None) -> Sequence[str] | None:
    """The prompts of `--templates` (a set's name, or one prompt) or of the `--templates-file`; None for neither.

    Raises InputError for both, and for a file where a prompt is wanted.
    """
    from vitsmith.data.text.prompts import is_file, read_template_file, read_templates, template_sets
    from vitsmith.errors import InputError, shown

    if templates and file is not None:
        raise InputError("--templates and --templates-file both give the prompts: give one of them")
    if file is not None:
        return read_template_file(str(file))
    if templates and templates not in template_sets() and "{}" not in templates and is_file(templates):
        raise InputError(f"--templates {shown(templates)} is a file: give it with --templates-file")
    return read_templates(templates) if templates else None


def tell_cut(encoder: Encoder, texts: Sequence[str]) -> int:
    """Reports which texts are longer than the model reads; returns how many."""
    from vitsmith.zeroshot.unread import cut_of_texts

    if cut := encoder.cut(texts):
        say(cut_of_texts(encoder, texts, cut))
    return len(cut)


def tell_unknown(encoder: Encoder, texts: Sequence[str]) -> None:
    """Says which words the model cannot tell from each other, and which it reads byte by byte: both lack a piece."""
    from vitsmith.zeroshot.unread import unread_of_texts

    for told in unread_of_texts(encoder, texts):
        say(told)


def open_classifier(
    bundle: Bundle,
    words: Words,
    templates: Sequence[str] | None,
    *,
    options: dict[str, Any],
    scores: Any = "single",
    cache: bool = True,
) -> ZeroShotClassifier:
    """The classifier of a command line, with a bar while labels are embedded and a remark on labels that were cut."""
    from vitsmith.zeroshot.classifier import ZeroShotClassifier
    from vitsmith.zeroshot.unread import unread_of_labels

    with _labels_bar(len(words)) as on_labels:
        classifier = ZeroShotClassifier(
            bundle,
            words,
            templates=templates,
            scores=scores,
            cache=cache,
            on_labels=on_labels,
            on_remark=say,
            **options,
        )
    for told in unread_of_labels(classifier):
        say(told)
    return classifier


@contextmanager
def _labels_bar(count: int) -> Iterator[Any]:
    with progress(unit="labels") as bar:
        task = bar.add_task("embedding labels", total=count, note="")
        yield lambda done: bar.update(task, completed=done)
