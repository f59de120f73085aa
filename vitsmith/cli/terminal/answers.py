"""The answers of `predict` and `zeroshot`, image by image, as a table, JSON or CSV."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING

from vitsmith.cli.terminal.output import print_csv_line, print_json_line, print_line, progress, say

if TYPE_CHECKING:
    from vitsmith.predict import Prediction
    from vitsmith.specs import Head, Meaning
    from vitsmith.stream import Failure

LABEL_WIDTH = 24


class Style(StrEnum):
    """How results are written."""

    table = "table"
    json = "json"
    csv = "csv"


def style_of(*, json: bool, csv: bool) -> Style:
    """The style that two switches ask for. Raises InputError when both are given."""
    from vitsmith.errors import InputError

    if json and csv:
        raise InputError("--json and --csv exclude each other; choose one")
    return Style.json if json else Style.csv if csv else Style.table


def renamed(results: Iterable[Prediction | Failure], names: Sequence[str] | None) -> Iterator[Prediction | Failure]:
    """The results under these names, for images in a table or archive, which have no path; as they are for None."""
    from vitsmith.stream import Failure

    if names is None:
        yield from results
        return
    for result, name in zip(results, names, strict=True):
        if isinstance(result, Failure):
            yield result.named(name)
        else:
            yield replace(result, source=name)


def write_all(
    results: Iterable[Prediction | Failure],
    count: int,
    writer: Writer,
    *,
    doing: str,
    skip_unreadable: float | None = None,
) -> None:
    """Writes the results of `count` images as they come, under a bar.

    Up to a share of `skip_unreadable` may be unreadable. One more raises DatasetError, or, where none may be, its own
    error. With None all may be unreadable, and InputError is raised at the end.
    """
    from vitsmith.data.images.unreadable import most_unreadable
    from vitsmith.errors import DatasetError, InputError
    from vitsmith.stream import Failure

    most = count if skip_unreadable is None else most_unreadable(count, skip_unreadable)

    failures = 0
    with progress(unit="images") as bar:
        task = bar.add_task(doing, total=count, note="")
        for result in results:
            bar.advance(task)
            if isinstance(result, Failure):
                if not most:
                    raise result.error
                failures += 1
                say(f"skipped: {result.reason}")
                if failures > most:
                    raise DatasetError(
                        f"{failures} of {count} images cannot be read, --skip-unreadable {skip_unreadable:g} allows "
                        f"{most}: replace or remove them, or raise --skip-unreadable"
                    )
            writer.write(result)
    if failures and skip_unreadable is None:
        raise InputError(f"{failures} of {count} images could not be read or answered, and were skipped")


class Writer:
    """Writes results one by one in the chosen style; `meaning` is what the scores are, `head` what outputs mean."""

    def __init__(self, style: Style, top: int, *, meaning: Meaning = "probability", head: Head = "softmax") -> None:
        self._style, self._top, self._meaning, self._head = style, top, meaning, head
        if style is Style.csv:
            answers = [f"{what}{rank}" for rank in range(1, top + 1) for what in ("label", meaning)]
            print_csv_line(["image", *answers, "error"])

    def write(self, result: Prediction | Failure) -> None:
        from vitsmith.stream import Failure

        if isinstance(result, Failure):
            if self._style is Style.json:
                print_json_line({"image": result.source, "error": result.reason})
            elif self._style is Style.csv:
                print_csv_line([result.source, *[""] * (2 * self._top), result.reason])
            return
        best = result.top(self._top)
        if self._style is Style.json:
            answers = [
                {"label": label, "index": index, self._meaning: float(self._digits(score))}
                for index, (label, score) in zip(result.best(self._top), best, strict=True)
            ]
            told: dict[str, object] = {} if self._head == "softmax" else {"head": self._head}
            if self._head == "sigmoid":
                told["present"] = result.present
            print_json_line({"image": result.source, **told, "predictions": answers})
        elif self._style is Style.csv:
            cells = [cell for label, score in best for cell in (label, self._digits(score))]
            print_csv_line([result.source, *cells, *[""] * (2 * (self._top - len(best))), ""])
        else:
            from vitsmith.predict import show_score

            width = 10 if self._meaning == "value" else 6
            shown = ((label, show_score(score, self._meaning)) for label, score in best)
            answers_shown = "  ".join(f"{label:<{LABEL_WIDTH}} {score:>{width}}" for label, score in shown)
            print_line(f"{answers_shown}  {result.source}")

    def _digits(self, score: float) -> str:
        """Six decimals; of a value as many digits as float32 has, because it may be of any size, and of a small
        probability three, because labels that are judged one by one may all be improbable."""
        if self._meaning == "value":
            return f"{score:.9g}"
        return f"{score:.3g}" if self._meaning == "probability" and 0 < score < 1e-4 else f"{score:.6f}"
