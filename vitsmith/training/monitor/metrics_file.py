"""Converts events of a run to lines of its metrics.jsonl, and back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from vitsmith.evaluation.scores import Scores
from vitsmith.training.monitor.events import (
    Embedded,
    Evaluated,
    EvaluationEvent,
    Event,
    LitEvaluation,
    Saved,
    StepDone,
    Warned,
)
from vitsmith.training.monitor.journal import Past

MetricsRow = dict[str, Any]

_EVALUATIONS = ("evaluation", "judged")
_RENAMED = {"images": "num_images", "captions": "num_captions", "unseen_images": "num_unseen_images"}
"""The names of counts in version 0.1, and now."""


def row_of(event: Event) -> MetricsRow:
    """One line: the field `event` says which kind it is."""
    match event:
        case StepDone():
            return {"event": "step", **vars(event)}
        case Evaluated(step, scores, seconds):
            return {"event": "evaluation", "step": step, "seconds": seconds, **_score_fields(scores)}
        case LitEvaluation():
            return {"event": "judged", **asdict(event)}
        case Embedded():
            return {"event": "embedded", **asdict(event)}
        case Warned(step, message):
            return {"event": "warning", "step": step, "message": message}
        case Saved(step, folder):
            return {"event": "checkpoint", "step": step, "folder": folder.name}


def rows_until(rows: Iterable[MetricsRow], step: int) -> list[MetricsRow]:
    """The lines of the first `step` updates: a run that goes on from there writes the later ones again."""
    return [row for row in rows if row.get("step", 0) <= step]


def without_last_evaluation(rows: Iterable[MetricsRow], steps: int) -> list[MetricsRow]:
    """Without that after all `steps` updates: it comes after the last checkpoint, and is made again."""
    return [row for row in rows if row["event"] not in _EVALUATIONS or row.get("step") != steps]


def past_from(rows: Iterable[MetricsRow], step: int) -> Past:
    """What happened in the first `step` updates. Evaluations have their numbers only, without the matrices."""
    history: list[StepDone] = []
    evaluations: list[EvaluationEvent] = []
    warnings: list[Warned] = []
    for row in rows_until(rows, step):
        values = {name: value for name, value in row.items() if name != "event"}
        match row["event"]:
            case "step":
                history.append(StepDone(**values))
            case "evaluation":
                at, seconds = values.pop("step"), values.pop("seconds")
                evaluations.append(Evaluated(at, _scores_from(values), seconds))
            case "judged":
                evaluations.append(_lit_evaluation_from(values))
            case "warning":
                warnings.append(Warned(**values))
    return Past(step, tuple(history), tuple(evaluations), tuple(warnings))


def usable_rows(rows: Iterable[Any], step: int) -> tuple[list[MetricsRow], str]:
    """The lines of the first `step` updates that can be read back, and a remark on those that cannot; '' for none.

    Training does not depend on them: missing lines are missing in plots and reports only.
    """
    kept, updates = [], []
    unreadable = 0
    for row in rows:
        try:
            at = row.get("step", 0)
            if not all(_is_plain(value) for name, value in row.items() if name in _NUMBERS):
                raise ValueError("not a number")
            past_from([row], at)
        except (KeyError, TypeError, ValueError, AttributeError):
            unreadable += 1
            continue
        if at <= step:
            kept.append(row)
            updates += [at] if row["event"] == "step" else []
    if unreadable or updates != list(range(1, step + 1)):
        return kept, (
            f"metrics.jsonl has {len(set(updates)):,} of {step:,} updates and {unreadable:,} unreadable lines; "
            "the report will lack what is missing, and nothing else changes"
        )
    return kept, ""


_NUMBERS = {"step", *(field.name for field in fields(StepDone))}


def _is_plain(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _score_fields(scores: Scores) -> MetricsRow:
    names = ("num_images", "top1", "top1_interval", "top5", "macro_recall", "nll", "calibration_error")
    return {name: getattr(scores, name) for name in names}


def _scores_from(fields: MetricsRow) -> Scores:
    low, high = fields.pop("top1_interval")
    fields = {_RENAMED.get(name, name): value for name, value in fields.items()}
    nothing = np.zeros((0, 0), np.int64)
    return Scores(**fields, top1_interval=(low, high), per_class=(), reliability=(), confusion=nothing)


def _lit_evaluation_from(values: MetricsRow) -> LitEvaluation:
    fields = {_RENAMED.get(name, name): value for name, value in values.items()}
    for name in ("image_to_text", "text_to_image"):  # keys in JSON are always text
        fields[name] = {int(k): share for k, share in fields[name].items()}
    return LitEvaluation(**fields)
