"""Renders a report as one HTML file that loads nothing: no script, no font, no picture. It knows nothing of models.

templates/report.html is the page. All texts are escaped, and a content security policy forbids the page to load or run
anything.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from vitsmith.errors import MissingPackageError
from vitsmith.escapes import visible
from vitsmith.predict import show_probability
from vitsmith.report.figure import HEIGHT, WIDTH, Picture
from vitsmith.report.scatter import Scatter

if TYPE_CHECKING:
    from jinja2 import Template

_CSS_INCH = 96  # pixels


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
    wide: bool = False
    """Whether it has so many columns that cells break into lines on a desk, and each row is a block on a phone."""


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
    scatter: Scatter | None = None
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
    size = {"width": round(WIDTH * _CSS_INCH), "height": round(HEIGHT * _CSS_INCH)}
    return _template().render(report=report, **size)


@cache
def _template() -> Template:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError:
        raise MissingPackageError("jinja2", "plots") from None

    environment = Environment(
        loader=PackageLoader("vitsmith.report"),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"data_uri": _data_uri, "probability": show_probability, "lines": _lines}
    return environment.get_template("report.html")


def _shown(value: Any) -> Any:
    """What stands for a value on the page, before it is escaped for HTML: its text, one line of visible characters."""
    return value if hasattr(value, "__html__") else visible(str(value))


def _lines(text: str) -> Any:
    """The text of a point as HTML: the only one whose line breaks stay, as each line is made visible by itself."""
    from markupsafe import Markup, escape

    return Markup("\n").join(escape(visible(line)) for line in text.split("\n"))


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
