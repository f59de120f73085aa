"""The page of a recommendation: the ranked table with intervals and sources, and accuracy against time with budgets."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from vitsmith.choosing.figures import Mark, MarkedFigure, Standing
from vitsmith.choosing.rank import best_setups
from vitsmith.choosing.recommendation import Recommendation
from vitsmith.choosing.result import Recommendations
from vitsmith.choosing.words import (
    UNITS,
    amount,
    blame_told,
    missed_told,
    number,
    relaxation_told,
    with_interval,
)
from vitsmith.files.atomic import write_text
from vitsmith.models.config import show_size
from vitsmith.report.page import Command, Headline, Report, Section, Table, render
from vitsmith.report.run_facts import command_of
from vitsmith.report.scatter import Dot, Line, Scatter
from vitsmith.version import __version__

ROWS = 25
"""Rows of the table."""
DEPTH = 20.0
"""Points of accuracy below the most accurate that the picture goes down to."""
_KINDS = {
    Standing.kept: "within",
    Standing.within: "within",
    Standing.may_miss: "may",
    Standing.unknown: "may",
    Standing.misses: "misses",
}
_TO = "\N{NON-BREAKING HYPHEN}"
"""Between the ends of an interval, which stay on one line."""
_UNITS = {"latency": "ms", "median": "ms", "throughput": "images/s", "memory": "MB", "size": "MB", "gflops": "GFLOPs"}
_READ = {
    "latency": "the 95th percentile of one image, from bytes to answer",
    "median": "the engine's median of one image",
    "throughput": "images a second of the engine",
    "memory": "peak memory of the process, above a bare interpreter",
    "size": "size on disk",
}


def write_report(found: Recommendations, folder: Path) -> Path:
    """Writes `recommend.html` into the run's folder. Raises OutputError, and MissingPackageError without jinja2."""
    page = folder / "recommend.html"
    write_text(page, render(make_recommend_report(found, folder, command_of(folder))))
    return page


def make_recommend_report(found: Recommendations, folder: Path, command: str) -> Report:
    """The page."""
    sections = [_picture(found), _table(found), _near(found)]
    if notes := (*found.remarks, *_setup_notes(found)):
        sections.append(Section("What to know", notes=notes))
    best = found.best
    return Report(
        title="Which model, on which engine",
        summary=found.why + "." if found.why else "Nothing keeps every budget.",
        headlines=_headlines(best) if best else (),
        sections=tuple(one for one in sections if one is not None),
        commands=tuple(Command(step.purpose, step.command) for step in found.steps),
        facts=_facts(found, folder, command),
    )


def plot(found: Recommendations) -> Scatter:
    """Accuracy against time, or against operations where no time is known; a point for each checkpoint in its best
    setup."""
    timed = found.request.timed
    name = "latency" if timed else "gflops"
    rows = best_setups([*found.rows, *found.ranking.missed])
    least = max((row.accuracy.value for row in rows if row.accuracy), default=0.0) - DEPTH
    shown = [row for row in rows if row is found.best or (row.accuracy and row.accuracy.value >= least)]
    shown.sort(key=lambda row: (row is found.best, row.standing != Standing.misses, row.counted))
    points = [_point(row, name, ringed=row is found.best) for row in shown]
    limit = found.request.budgets.get(name)
    lines = [] if limit is None else [Line(limit * UNITS[name], f"{amount(name, limit)} asked")]
    what = "p95 of one image, bytes to answer (ms)" if timed else "operations of one image (GFLOPs)"
    drawn = tuple(point for point in points if point is not None)
    return Scatter(
        title="Accuracy against time" if timed else "Accuracy against operations",
        caption="Filled: within every budget. Hollow: may miss one. Grey: misses one. The ring is the first of the "
        "table. The line joins those that no other beats in both; bars are intervals. Point at one to see what it is."
        + (f" {len(rows) - len(shown)} are below the picture." if len(shown) < len(rows) else ""),
        alt=f"Accuracy of {len(points)} checkpoints against {what}.",
        x=what,
        y="top-1 (%)",
        points=drawn,
        front=_front(drawn),
        lines=tuple(lines),
    )


def _front(points: Iterable[Dot]) -> tuple[tuple[float, float], ...]:
    """(x, y) of the points that no other beats in both."""
    front: list[tuple[float, float]] = []
    for x, y in sorted(((one.x, one.y) for one in points), key=lambda place: (place[0], -place[1])):
        if not front or y > front[-1][1]:
            front.append((x, y))
    return tuple(front)


def _place(row: Recommendation, name: str) -> tuple[float, float] | None:
    figure = row.figure(name)
    if figure is None or row.accuracy is None:
        return None
    return figure.value * UNITS[name], row.accuracy.value


def _point(row: Recommendation, name: str, *, ringed: bool) -> Dot | None:
    figure, place = row.figure(name), _place(row, name)
    if figure is None or place is None:
        return None
    point = Dot(*place, text="\n".join(_hover(row)), kind=_KINDS[row.standing], ringed=ringed)
    if row.standing == Standing.misses or figure.low == figure.high:
        return point
    return replace(point, low=figure.low * UNITS[name], high=figure.high * UNITS[name])


def _hover(row: Recommendation) -> Iterable[str]:
    yield f"{row.checkpoint.name}, {show_size(row.image_size)}"
    yield f"{row.setup}: {row.standing.value}"
    if row.accuracy is not None:
        yield f"top-1 {row.accuracy.value:.2f} %, {row.accuracy.mark.value}"
    for name in ("latency", "median", "throughput", "memory", "size"):
        if (figure := row.figure(name)) is not None:
            yield f"{name} {with_interval(name, figure)}, {figure.mark.value}"
    yield f"licence {row.checkpoint.licence or 'unknown'}"


def _picture(found: Recommendations) -> Section | None:
    drawn = plot(found)
    return Section("Accuracy and cost", scatter=drawn) if drawn.points else None


def _headlines(best: Recommendation) -> tuple[Headline, ...]:
    lines = []
    if best.accuracy is not None:
        lines.append(Headline(f"{best.accuracy.value:.2f} %", "top-1", f"{best.accuracy.mark.value}, {best.metric}"))
    for name, label in (("latency", "p95, bytes to answer"), ("median", "engine's median"), ("size", "on disk")):
        if (figure := best.figure(name)) is not None:
            lines.append(Headline(amount(name, figure.value), label, _note(name, figure)))
    return tuple(lines)


def _note(name: str, figure: MarkedFigure) -> str:
    if figure.low == figure.high:
        return figure.mark.value
    low, high = (number(end * UNITS[name]) for end in (figure.low, figure.high))
    return f"{figure.mark.value}, {low} to {high}"


def _table(found: Recommendations) -> Section | None:
    rows = found.rows[:ROWS]
    if not rows:
        return None
    names = [name for name in _READ if any(row.figure(name) is not None for row in rows)]
    names += [] if found.request.timed else ["gflops"]
    columns = ("model", "runs on", "top-1 (%)", *(f"{name} ({_UNITS[name]})" for name in names), "budget")
    cells = tuple(
        (
            f"{row.checkpoint.name}, {show_size(row.image_size)}",
            str(row.setup),
            "" if row.accuracy is None else _accuracy(row.accuracy),
            *(_cell(row, name) for name in names),
            row.standing.value if row.standings else "",
        )
        for row in rows
    )
    more = f" The first {ROWS} of {len(found):,}." if len(found) > ROWS else ""
    marks = "~ is predicted, = is measured; intervals are of 90 %. Accuracy without a sign is published."
    read = "; ".join(f"{name}: {told}" for name, told in _READ.items() if name in names)
    return Section("The order", text=f"{read}. {marks}{more}", table=Table(columns, cells, wide=True))


def _accuracy(figure: MarkedFigure) -> str:
    if figure.mark != Mark.measured:
        return f"{figure.value:.2f}"
    return f"={figure.value:.1f} ({figure.low:.1f}{_TO}{figure.high:.1f})"


def _cell(row: Recommendation, name: str) -> str:
    figure = row.figure(name)
    if figure is None:
        return ""
    sign = {Mark.predicted: "~", Mark.measured: "="}.get(figure.mark, "")
    value, low, high = (number(one * UNITS[name]) for one in (figure.value, figure.low, figure.high))
    return f"{sign}{value}" + ("" if low == high else f" ({low}{_TO}{high})")


def _near(found: Recommendations) -> Section | None:
    budgets, best = found.request.budgets, found.best
    notes = [blame_told(one, budgets) for one in found.blame]
    if found.nearest:
        notes.append(f"The nearest: {missed_told(found.nearest, budgets)}")
    notes += [missed_told(one, budgets) for one in found.just_missed]
    notes += [relaxation_told(one, best) for one in found.relaxations]
    if not notes:
        return None
    return Section("What just missed, and what would have to give" if best else "Why nothing fits", notes=tuple(notes))


def _setup_notes(found: Recommendations) -> tuple[str, ...]:
    remarks = (f"{row.setup}: {remark}" for row in found.rows[:ROWS] for remark in row.remarks)
    sources = (f"top-1 of {row.checkpoint.name}: {row.accuracy.source}" for row in found.rows[:3] if row.accuracy)
    return tuple(dict.fromkeys((*remarks, *sources)))


def _facts(found: Recommendations, folder: Path, command: str) -> tuple[tuple[str, str], ...]:
    request, counts = found.request, found.counts
    budgets = ", ".join(f"{name} {amount(name, limit)}" for name, limit in request.budgets.items())
    left_out = (
        f"{counts.ranked:,} of {counts.checkpoints:,} ranked, in {counts.setups:,} setups; {counts.other_task:,} are "
        f"for other tasks, {counts.without_accuracy:,} have no published {request.metric}, {counts.licence:,} another "
        "licence"
    )
    height, width = request.scenario.photo
    facts = (
        ("command", command),
        ("run folder", str(folder)),
        ("date", datetime.date.today().isoformat()),
        ("scenario", f"{request.scenario.name}: {request.scenario.what}"),
        ("task", request.task),
        ("budgets", budgets or "none"),
        ("photo", f"a JPEG of {height} x {width} pixels is decoded for each answer" if request.timed else ""),
        ("checkpoints", left_out),
        ("machine", found.machine),
        ("versions", f"vitsmith {__version__}"),
    )
    return tuple((name, value) for name, value in facts if value)
