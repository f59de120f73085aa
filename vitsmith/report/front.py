"""Draws the result of a search: accuracy against latency, with the front and the choice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vitsmith.compress.search.result import Candidate, SearchResult
from vitsmith.report.figure import HEIGHT, LETTERS, LIGHT, WIDTH, Theme, add_legend, dress, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = {"fp32": "o", "bf16": "s", "int8": "^"}
SMALLEST, LARGEST = 30.0, 260.0
"""Area of a marker, in square points, of the smallest and the largest program."""


def draw_front(found: SearchResult, theme: Theme = LIGHT) -> Figure:
    """Draws latency of one image (logarithmic) against top-1. A mark's shape is the precision, its area the size.

    A line joins the front in accuracy and latency; a ring is around the choice; the budget's bounds are dashed.
    """
    figure = new_figure(theme)
    figure.set_size_inches(1.5 * WIDTH, 1.15 * HEIGHT)
    axes = figure.subplots()
    largest = max((one.size_mib for one in found.candidates), default=1.0)
    for precision in dict.fromkeys(one.precision for one in found.candidates):
        group = [one for one in found.candidates if one.precision == precision]
        axes.scatter(
            [one.latency_ms for one in group],
            [100 * one.top1 for one in group],
            s=[SMALLEST + (LARGEST - SMALLEST) * one.size_mib / largest for one in group],
            marker=MARKERS.get(precision, "D"),
            color=theme.first,
            edgecolor=theme.paper,
            linewidth=0.8,
            alpha=0.85,
            label=precision,
            zorder=3,
        )
    _draw_line(axes, found, theme)
    _draw_bounds(axes, found, theme)
    if found.chosen is not None:
        _draw_choice(axes, found.chosen, theme)
    axes.set_xscale("log")
    _tick_plainly(axes)
    dress(axes, theme, x="latency of one image (ms)", y="top-1 (%)")
    add_legend(axes, theme, loc="lower right", bbox_to_anchor=(1, 1), ncols=3)
    legend: Any = axes.get_legend()
    for handle in legend.legend_handles:
        handle.set_sizes([2 * SMALLEST])
    return figure


def _draw_line(axes: Axes, found: SearchResult, theme: Theme) -> None:
    steps: list[Candidate] = []
    for one in found.front:
        if not steps or one.top1 > max(step.top1 for step in steps):
            steps.append(one)
    axes.plot(
        [one.latency_ms for one in steps], [100 * one.top1 for one in steps], color=theme.faint, linewidth=1.2, zorder=2
    )


def _draw_bounds(axes: Axes, found: SearchResult, theme: Theme) -> None:
    allowed, latency = found.required.accuracy_drop, found.required.latency_ms
    if allowed is not None:
        least = 100 * found.original_top1 - allowed
        axes.axhline(least, color=theme.second, linestyle="--", linewidth=1, zorder=1)
        axes.annotate(
            f"{allowed:g} point{'' if allowed == 1 else 's'} below the original",
            (0.01, least),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            color=theme.second,
            fontsize=LETTERS - 2,
        )
    if latency is not None:
        axes.axvline(latency, color=theme.second, linestyle="--", linewidth=1, zorder=1)


def _draw_choice(axes: Axes, chosen: Candidate, theme: Theme) -> None:
    place = (chosen.latency_ms, 100 * chosen.top1)
    axes.scatter([place[0]], [place[1]], s=420, facecolor="none", edgecolor=theme.second, linewidth=1.8, zorder=4)
    axes.set_title(f"taken: {chosen.title}", loc="left", color=theme.ink, fontsize=LETTERS)


def _tick_plainly(axes: Axes) -> None:
    """Writes milliseconds as plain numbers, not as powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
