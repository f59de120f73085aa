"""What happened in a run of `lit`, and its events as lines of metrics.jsonl."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from vitsmith.training.lit.evaluation import LitEvaluation
from vitsmith.training.monitor.events import Saved, StepDone, Warned
from vitsmith.training.monitor.metrics_file import Row, past_from, row_of, rows_until


@dataclass(frozen=True)
class Embedded:
    """How many of the training, held-out or unseen images the locked tower has embedded."""

    which: str
    done: int
    of: int
    step: int = 0


LitEvent = StepDone | LitEvaluation | Warned | Saved | Embedded
LitListener = Callable[[LitEvent], None]

_EVENT = "judged"
_RENAMED = {"images": "num_images", "captions": "num_captions", "unseen_images": "num_unseen_images"}
"""The names of the counts in version 0.1, and now."""


def ignore(event: LitEvent) -> None:
    """A listener that does nothing."""


@dataclass(frozen=True)
class LitPast:
    """What happened before this process resumed the run."""

    step: int = 0
    """How many updates are done."""
    history: tuple[StepDone, ...] = ()
    evaluations: tuple[LitEvaluation, ...] = ()
    warnings: tuple[Warned, ...] = ()


@dataclass(frozen=True, repr=False)
class LitResult:
    """All that happened in a run. The model holds the weights of the last update, or their running mean."""

    history: tuple[StepDone, ...]
    evaluations: tuple[LitEvaluation, ...]
    warnings: tuple[Warned, ...]

    def __str__(self) -> str:
        final, updates = self.final, f"{len(self.history):,} updates"
        recall = f"image to text {final.image_to_text[1]:.2%}, text to image {final.text_to_image[1]:.2%}"
        return f"{updates}, held-out recall@1: {recall}, on {final.num_images:,} images"

    def __repr__(self) -> str:
        return f"<LitResult {self}>"

    @property
    def final(self) -> LitEvaluation:
        return self.evaluations[-1]


def lit_row_of(event: LitEvent) -> Row:
    """One line: the field `event` says which kind it is."""
    match event:
        case LitEvaluation():
            return {"event": _EVENT, **asdict(event)}
        case Embedded():
            return {"event": "embedded", **asdict(event)}
        case _:
            return row_of(event)


def lit_rows_until(rows: Iterable[Row], step: int, steps: int) -> list[Row]:
    """The lines of the first `step` updates. The last evaluation comes after the last checkpoint, and is made again."""
    kept = rows_until(rows, step)
    return [row for row in kept if step < steps or (row["event"], row.get("step")) != (_EVENT, steps)]


def lit_past_from(rows: Iterable[Row], step: int) -> LitPast:
    """What happened in the first `step` updates."""
    rows = list(rows)
    before = past_from(rows, step)
    evaluations = tuple(_evaluation_from(row) for row in rows_until(rows, step) if row["event"] == _EVENT)
    return LitPast(step, before.history, evaluations, before.warnings)


def _evaluation_from(row: dict[str, Any]) -> LitEvaluation:
    fields = {_RENAMED.get(name, name): value for name, value in row.items() if name != "event"}
    for name in ("image_to_text", "text_to_image"):  # keys in JSON are always text
        fields[name] = {int(k): share for k, share in fields[name].items()}
    return LitEvaluation(**fields)
