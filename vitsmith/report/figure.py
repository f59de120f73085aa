"""The look of every figure: light and dark, for colour-blind readers too, and legible on a phone.

Nothing touches pyplot or matplotlib's global settings: a Figure is drawn, saved and forgotten. matplotlib is imported
when it is needed.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vitsmith.errors import MissingPackageError
from vitsmith.escapes import shortened, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 5.0, 4.0
"""Inches. Letters of 11 points are still 11 pixels high when the figure is squeezed to the 350 pixels of a phone."""
DPI = 192  # two image pixels to one of the page, for sharp screens and paper
LETTERS = 11  # points
LONGEST_NAME = 24
"""Columns of a class or model in a figure; longer ones are shown without their middle."""


@dataclass(frozen=True)
class Theme:
    """Colours. The two that carry meaning differ in lightness too."""

    ink: str
    faint: str
    paper: str
    first: str
    second: str
    scale: str
    """Name of the colour map for shares."""


# Blue and vermilion, sky blue and orange: the palette for colour-blind readers of M. Okabe and K. Ito,
# https://jfly.uni-koeln.de/color/
LIGHT = Theme(ink="#1f2328", faint="#6e7781", paper="#ffffff", first="#0072b2", second="#d55e00", scale="Blues")
DARK = Theme(ink="#e6edf3", faint="#8b949e", paper="#161b22", first="#56b4e9", second="#e69f00", scale="cividis")


@dataclass(frozen=True)
class Picture:
    """One figure as two PNG files."""

    light: bytes
    dark: bytes
    alt: str
    """A text that says what the picture shows."""


def picture(draw: Callable[[Theme], Figure], alt: str) -> Picture:
    """Draws the figure in both themes."""
    return Picture(png(draw(LIGHT)), png(draw(DARK)), alt)


def png(figure: Figure) -> bytes:
    """The figure as a PNG file of 192 pixels an inch. Texts are shown as they are: no mathematics is read in names.

    A letter that no font here has is drawn as a box, and what does not fit overlaps: neither is an error.
    """
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of glyphs, of layouts, of losses too large for an axis
        figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def short_name(name: str) -> str:
    """A name that fits beside an axis: one line of at most 24 columns."""
    return shortened(visible(name), LONGEST_NAME)


def new_figure(theme: Theme) -> Figure:
    """An empty figure on the theme's paper. Raises MissingPackageError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingPackageError("matplotlib", "plots") from None
    return Figure(figsize=(WIDTH, HEIGHT), layout="constrained", facecolor=theme.paper)


def dress(axes: Axes, theme: Theme, *, x: str = "", y: str = "", grid: bool = True) -> None:
    """Sets the labels, and the theme's colours and letters on what was drawn."""
    axes.set_facecolor(theme.paper)
    axes.set_xlabel(x, color=theme.ink, fontsize=LETTERS)
    axes.set_ylabel(y, color=theme.ink, fontsize=LETTERS)
    axes.tick_params(colors=theme.ink, labelsize=LETTERS - 1)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.faint)
    if grid:
        axes.grid(axis="y", color=theme.faint, alpha=0.25, linewidth=0.8)
        axes.set_axisbelow(True)


def add_legend(axes: Axes, theme: Theme, **where: Any) -> None:
    """A legend without a frame."""
    axes.legend(frameon=False, labelcolor=theme.ink, fontsize=LETTERS - 1, **where)
