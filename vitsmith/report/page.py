"""Renders a report as one HTML file that loads nothing: no script, no font, no picture. It knows nothing of models.

All texts are escaped, and a content security policy forbids the page to load or run anything.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable
from dataclasses import dataclass

from vitsmith.escapes import visible
from vitsmith.report.figure import HEIGHT, WIDTH, Picture
from vitsmith.report.style import STYLE

_CSS_INCH = 96  # pixels
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Headline:
    """A number to remember."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """A picture with its title, and a caption that says how to read it."""

    title: str
    picture: Picture
    caption: str


@dataclass(frozen=True)
class Table:
    """A table. The first column names the rows; the others are aligned to the right."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""


@dataclass(frozen=True)
class Sample:
    """One image and the model's prediction for it."""

    image: bytes
    """A PNG file."""
    predicted: str
    probability: float
    truth: str
    source: str
    truth_probability: float | None = None
    """The model's probability of the true class; shown when it is known and the prediction is wrong."""

    @property
    def right(self) -> bool:
        return self.predicted == self.truth


@dataclass(frozen=True)
class Section:
    """A heading and the parts below it; empty parts are left out."""

    title: str
    text: str = ""
    figures: tuple[Figure, ...] = ()
    table: Table | None = None
    samples: tuple[Sample, ...] = ()
    notes: tuple[str, ...] = ()
    """Sentences of a list."""


@dataclass(frozen=True)
class Command:
    """A command to try next."""

    purpose: str
    command: str


@dataclass(frozen=True)
class Report:
    """A page, from top to bottom."""

    title: str
    summary: str
    headlines: tuple[Headline, ...]
    sections: tuple[Section, ...]
    commands: tuple[Command, ...]
    facts: tuple[tuple[str, str], ...]
    """Name and value: machine, versions, date, command."""


def render(report: Report) -> str:
    """The page as HTML."""
    parts = [
        _tag("h1", report.title),
        _tag("p", report.summary, "summary"),
        _headlines(report.headlines),
        *map(_section, report.sections),
        _commands(report.commands),
        _facts(report.facts),
    ]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_text(report.title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{_lines(parts)}
</main>
</body>
</html>
"""


def _text(text: str) -> str:
    """The text, escaped for HTML."""
    return html.escape(visible(text))


def _tag(name: str, text: str, kind: str = "") -> str:
    """An element around text; '' for an empty text."""
    attribute = f' class="{kind}"' if kind else ""
    return f"<{name}{attribute}>{_text(text)}</{name}>" if text else ""


def _lines(parts: Iterable[str]) -> str:
    return "\n".join(part for part in parts if part)


def _headlines(headlines: Iterable[Headline]) -> str:
    rows = (
        f"<div>{_tag('dt', one.label)}{_tag('dd', one.value, 'value')}{_tag('dd', one.note, 'soft')}</div>"
        for one in headlines
    )
    return f'<dl class="headlines">\n{_lines(rows)}\n</dl>'


def _section(section: Section) -> str:
    parts = [_tag("h2", section.title), _tag("p", section.text)]
    if section.notes:
        parts.append(f"<ul>\n{_lines(_tag('li', note) for note in section.notes)}\n</ul>")
    if section.figures:
        parts.append(f'<div class="figures">\n{_lines(map(_figure, section.figures))}\n</div>')
    if section.samples:
        parts.append(f'<ul class="cards">\n{_lines(map(_sample, section.samples))}\n</ul>')
    if section.table is not None:
        parts.append(_table(section.table))
    return f"<section>\n{_lines(parts)}\n</section>"


def _figure(figure: Figure) -> str:
    shown = figure.picture
    return (
        f"<figure>{_tag('b', figure.title)}<picture>"
        f'<source media="screen and (prefers-color-scheme: dark)" srcset="{_data_uri(shown.dark)}">'
        f'<img src="{_data_uri(shown.light)}" alt="{_text(shown.alt)}" '
        f'width="{WIDTH * _CSS_INCH:.0f}" height="{HEIGHT * _CSS_INCH:.0f}">'
        f"</picture>{_tag('figcaption', figure.caption)}</figure>"
    )


def _sample(sample: Sample) -> str:
    mark, truth = ("✓", "right") if sample.right else ("✗", f"is {sample.truth}")
    if not sample.right and sample.truth_probability is not None:
        truth += f" ({show_probability(sample.truth_probability)})"
    return (
        f'<li class="{"right" if sample.right else "wrong"}">'
        f'<img src="{_data_uri(sample.image)}" alt="{_text(f"image of class {sample.truth}")}">'
        f'<span class="answer">{_text(sample.predicted)}</span> {show_probability(sample.probability)}<br>'
        f'<span class="mark">{mark} {_text(truth)}</span>'
        f"{_tag('span', sample.source, 'source')}</li>"
    )


def show_probability(probability: float) -> str:
    """'97.2%'; '>99.9%' and '<0.1%' where rounding would give 100.0% or 0.0%."""
    if 0 < probability < 0.0005:
        return "<0.1%"
    return ">99.9%" if 0.9995 <= probability < 1 else f"{probability:.1%}"


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{_text(column)}</th>' for column in table.columns)
    rows = (
        f'<tr><th scope="row">{_text(first)}</th>{"".join(f"<td>{_text(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in table.rows
    )
    return (
        f'<div class="sheet table"><table>{_tag("caption", table.caption)}\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{_lines(rows)}\n</tbody></table></div>"
    )


def _commands(commands: Iterable[Command]) -> str:
    parts = (f"{_tag('p', one.purpose)}\n<pre>{_tag('code', one.command)}</pre>" for one in commands)
    return f"<section>\n<h2>What to try next</h2>\n{_lines(parts)}\n</section>"


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    rows = (f"{_tag('dt', name)}{_tag('dd', value)}" for name, value in facts)
    return f'<section>\n<h2>How this was made</h2>\n<dl class="sheet facts">\n{_lines(rows)}\n</dl>\n</section>'


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
