"""Draws the search of `quantize`: the accuracy that each program loses, and its speed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitsmith.compress.quantize.result import Quantized
from vitsmith.compress.quantize.schemes import Attempt
from vitsmith.report.figure import HEIGHT, LETTERS, LIGHT, WIDTH, Theme, dress, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_schemes(result: Quantized, theme: Theme = LIGHT) -> Figure:
    """Draws a row for each program, in the order of the search: points lost on the left, speedup on the right.

    Dashed lines are the requirements; the chosen program is in the second colour. Programs whose answers were refused
    were not timed.
    """
    attempts = result.search.attempts
    figure = new_figure(theme)
    figure.set_size_inches(2 * WIDTH, max(0.42 * len(attempts) + 1.2, 0.5 * HEIGHT))
    left, right = figure.subplots(1, 2, sharey=True)
    labelled = result.top1 is not None
    required = result.settings.required
    _draw_bars(left, result, [_lost(one) for one in attempts], "{:.2f}", theme)
    share = required.agreement
    allowed = required.accuracy_drop if labelled else None if share is None else 100 * (1 - share)
    if allowed is not None:
        left.axvline(allowed, color=theme.faint, linestyle="--", linewidth=1)
    left.set_yticks(range(len(attempts)), [f"{one.name}" for one in attempts])
    left.invert_yaxis()
    times = [one.speedup.batches if one.speedup else None for one in attempts]
    _draw_bars(right, result, times, "{:.2f}x", theme)
    if required.speedup is not None:
        right.axvline(required.speedup, color=theme.faint, linestyle="--", linewidth=1)
    what = "points of top-1 lost" if labelled else "images with another answer (%)"
    taken = "" if result.search.chosen is None else "; the chosen program is in the other colour"
    dress(left, theme, x=f"{what}\ndashed: allowed{taken}", grid=False)
    dress(right, theme, x=f"times the speed of float in {result.base_rest}\ndashed: required", grid=False)
    return figure


def _lost(one: Attempt) -> float | None:
    if one.fidelity is None:
        return None
    paired = one.fidelity.accuracy
    return 100 * (1 - one.fidelity.agreement) if paired is None else paired.drop


def _draw_bars(axes: Axes, result: Quantized, values: list[float | None], style: str, theme: Theme) -> None:
    for row, (one, value) in enumerate(zip(result.search.attempts, values, strict=True)):
        colour = theme.second if one is result.search.chosen else theme.first
        axes.barh(row, value or 0.0, height=0.6, color=colour)
        axes.annotate(
            "not measured" if value is None else style.format(value),
            (max(value or 0.0, 0.0), row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=theme.faint if value is None else theme.ink,
            fontsize=LETTERS - 2,
        )
    axes.margins(x=0.2)
