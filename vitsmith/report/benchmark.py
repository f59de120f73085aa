"""Draws the result of a benchmark: the latency of one image, and the images per second in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vitsmith.benchmark.contenders import Contender
from vitsmith.benchmark.rows import Benchmark, BenchmarkRow
from vitsmith.escapes import visible
from vitsmith.report.figure import HEIGHT, LETTERS, LIGHT, WIDTH, Theme, dress, new_figure, short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINE = 0.34
"""Height of one contender's line, in inches."""
LONGEST_REASON = 76
"""Letters of a reason that fit beside the bars."""


def draw_benchmark(benchmark: Benchmark, theme: Theme = LIGHT) -> Figure:
    """Draws a line for each contender, and a panel for the smallest and one for the largest batch.

    For one image the bar is the median latency, for batches the images per second at the median; the thin line goes to
    the 95th percentile. Fastest first in the last panel. A contender that failed has its reason in place of a bar.
    """
    batches = sorted({row.batch for row in benchmark.rows})
    shown = list(dict.fromkeys((batches[0], batches[-1])))
    order = _order(benchmark.rows, shown[-1])
    figure = new_figure(theme)
    figure.set_size_inches(WIDTH * (1 + 0.8 * len(shown)), max(HEIGHT / 2, LINE * len(order) + 1.1))
    for axes, batch in zip(figure.subplots(1, len(shown), sharey=True, squeeze=False)[0], shown, strict=True):
        rows = {row.contender: row for row in benchmark.rows if row.batch == batch}
        _draw_panel(axes, [rows[one] for one in order], theme)
    first = figure.axes[0]
    first.set_yticks(range(len(order)), _labels(order))
    first.set_ylim(len(order) - 0.5, -0.5)  # the fastest above, and room for those without a bar
    return figure


def _draw_panel(axes: Axes, rows: Sequence[BenchmarkRow], theme: Theme) -> None:
    batch = rows[0].batch
    latency = batch == 1
    values = [_value(row, 50) for row in rows]
    largest = max((value for value in values if value is not None), default=1.0)
    for line, (row, value) in enumerate(zip(rows, values, strict=True)):
        if value is None:
            axes.text(0, line, f" {_short(row.reason)}", va="center", color=theme.second, fontsize=LETTERS - 3)
            continue
        other = _value(row, 95)
        assert other is not None
        axes.barh(line, value, height=0.62, color=theme.first, zorder=2)
        axes.plot([value, other], [line, line], color=theme.second, linewidth=2, solid_capstyle="butt", zorder=3)
        end = max(value, other)
        axes.text(end + 0.015 * largest, line, _number(value), va="center", color=theme.ink, fontsize=LETTERS - 2)
    axes.set_xlim(0, 1.16 * max([largest, *(_value(row, 95) or 0 for row in rows)]))
    what = "one image: milliseconds, fewer is better" if latency else f"batches of {batch}: images/s, more is better"
    dress(axes, theme, x=f"{what}\nbar and number: median, line: to the 95th percentile", grid=False)
    axes.grid(axis="x", color=theme.faint, alpha=0.25, linewidth=0.8)
    axes.tick_params(axis="y", length=0)


def _value(row: BenchmarkRow, share: float) -> float | None:
    """The value in the panel: milliseconds of one image, or images per second."""
    if row.timing is None:
        return None
    milliseconds = row.timing.percentile_ms(share)
    return milliseconds if row.batch == 1 else 1000 * row.batch / milliseconds


def _order(rows: Sequence[BenchmarkRow], batch: int) -> list[Contender]:
    """The fastest with this batch first, those that failed last."""
    there = [row for row in rows if row.batch == batch]
    there.sort(key=lambda row: row.timing.images_per_second if row.timing is not None else 0.0, reverse=True)
    return [row.contender for row in there]


def _labels(order: Sequence[Contender]) -> list[str]:
    several = len({one.subject.name for one in order}) > 1
    return [_label(one, short_name(one.subject.name) if several else "") for one in order]


def _label(one: Contender, model: str) -> str:
    return " · ".join(part for part in (model, one.subject.program, one.engine, one.precision) if part)


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _short(reason: str) -> str:
    reason = visible(reason)
    return reason if len(reason) <= LONGEST_REASON else f"{reason[: LONGEST_REASON - 1].rstrip()}…"
