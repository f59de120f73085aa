"""The figures of a training run and of an evaluation. Each returns a matplotlib Figure; `figure.png` makes a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vitsmith.escapes import columns
from vitsmith.evaluation.accuracy import wilson_interval
from vitsmith.evaluation.calibration import ReliabilityBin
from vitsmith.evaluation.scores import Scores
from vitsmith.report.figure import HEIGHT, LETTERS, LIGHT, WIDTH, Theme, add_legend, dress, new_figure, short_name
from vitsmith.training.monitor.events import Evaluated, StepDone

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMOOTHED = 25  # the smoothed loss averages over 1/25 of the run: short enough to show every turn
ROOM = 14  # columns of a class's name that leave the matrix its room; longer names are set smaller
MOST_COUNTS = 20  # classes up to which a confusion matrix has room for its numbers
MOST_NAMES = 30  # classes up to which it has room for their names
MOST_CELLS = 100  # classes up to which its cells can be told apart


def draw_loss(history: Sequence[StepDone], theme: Theme = LIGHT) -> Figure:
    """Draws the training loss over the updates, raw and smoothed, and the learning rate below it."""
    figure = new_figure(theme)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    _plot_loss(above, history, theme)
    _plot_rate(below, history, theme)
    return figure


def draw_held_out(evaluations: Sequence[Evaluated], theme: Theme = LIGHT) -> Figure:
    """Draws held-out accuracy over the updates with its 95% confidence interval, and writes the last value."""
    figure = new_figure(theme)
    axes = figure.subplots()
    _plot_held_out(axes, evaluations, theme)
    dress(axes, theme, x="updates", y="held-out top-1 accuracy (%)")
    return figure


def draw_curves(history: Sequence[StepDone], evaluations: Sequence[Evaluated], theme: Theme = LIGHT) -> Figure:
    """Draws loss, held-out accuracy and learning rate below each other, over the same updates."""
    figure = new_figure(theme)
    figure.set_size_inches(WIDTH, 2 * HEIGHT)
    loss, held_out, rate = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1))
    _plot_loss(loss, history, theme)
    _plot_held_out(held_out, evaluations, theme)
    dress(held_out, theme, y="held-out top-1 (%)")
    _plot_rate(rate, history, theme)
    return figure


def draw_confusion(scores: Scores, classes: Sequence[str], theme: Theme = LIGHT) -> Figure:
    """Draws the confusion matrix: rows are true classes, columns predicted ones; the colour is the share of the row."""
    figure = new_figure(theme)
    axes = figure.subplots()
    counts = scores.confusion
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap=theme.scale, vmin=0, vmax=100)
    bar = figure.colorbar(image, ax=axes, shrink=0.9)
    dress(bar.ax, theme, y="share of the true class (%)", grid=False)
    dress(axes, theme, x="predicted class", y="true class", grid=False)
    if len(classes) <= MOST_COUNTS:
        _write_counts(axes, counts, image.to_rgba(shares))
    if len(classes) <= MOST_NAMES:
        names = [short_name(name) for name in classes]
        longest = max(map(columns, names))
        axes.tick_params(labelsize=(LETTERS - 1) * min(1, ROOM / longest))
        axes.set_xticks(range(len(names)), names, rotation=90 if longest > 2 else 0)
        axes.set_yticks(range(len(names)), names)
    return figure


def draw_class_accuracies(scores: Scores, theme: Theme = LIGHT) -> Figure:
    """Draws a histogram of the classes' accuracies, for more classes than a matrix can show."""
    figure = new_figure(theme)
    axes = figure.subplots()
    shares = [100 * each.accuracy for each in scores.per_class if each.accuracy is not None]
    axes.hist(shares, bins=20, range=(0, 100), color=theme.first, edgecolor=theme.paper)
    axes.axvline(100 * scores.macro_recall, color=theme.second, linestyle="--", linewidth=2, label="mean of classes")
    axes.set_xlim(0, 100)
    dress(axes, theme, x="accuracy of a class (%)", y="classes")
    add_legend(axes, theme, loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def draw_reliability(bins: Sequence[ReliabilityBin], theme: Theme = LIGHT) -> Figure:
    """Draws accuracy against confidence, bin by bin with 95% intervals, and below it the images of each bin."""
    figure = new_figure(theme)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    points = np.array(
        [
            (100 * each.confidence, 100 * each.accuracy, *_interval(each))
            for each in bins
            if each.confidence is not None and each.accuracy is not None
        ]
    ).reshape(-1, 4)  # also where no bin has an image
    confidence, accuracy, low, high = points.T
    reach = np.clip([accuracy - low, high - accuracy], 0, None)  # rounding leaves -1e-15 where all are right
    above.plot([0, 100], [0, 100], color=theme.faint, linestyle="--", linewidth=1.5, label="perfect")
    label = "this model, 95% interval"
    above.errorbar(confidence, accuracy, reach, fmt="o", color=theme.first, label=label, clip_on=False)
    above.set_ylim(-3, 103)
    edges = [100 * each.low for each in bins]
    widths = [100 * (each.high - each.low) for each in bins]
    below.bar(edges, [each.count for each in bins], widths, align="edge", color=theme.second, edgecolor=theme.paper)
    below.set_yscale("log")
    below.set_ylim(bottom=0.7)  # so that a single image is a bar too
    below.minorticks_off()
    below.yaxis.set_major_formatter("{x:,.0f}")
    below.set_xlim(0, 100)
    dress(above, theme, y="accuracy (%)")
    dress(below, theme, x="confidence: probability of the first choice (%)", y="images")
    add_legend(above, theme, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)  # above: intervals may be anywhere
    return figure


def moving_average(values: NDArray[np.floating[Any]], window: int) -> NDArray[np.float64]:
    """The mean of each value and the `window` - 1 before it, or of fewer at the beginning."""
    with np.errstate(over="ignore", invalid="ignore"):  # a loss may be of any size
        sums = np.concatenate([[0.0], np.cumsum(values)])
        ends = np.arange(1, len(values) + 1)
        starts = np.maximum(ends - window, 0)
        means: NDArray[np.float64] = (sums[ends] - sums[starts]) / (ends - starts)
    return means


def _plot_loss(axes: Axes, history: Sequence[StepDone], theme: Theme) -> None:
    steps = [done.step for done in history]
    losses = np.array([done.loss for done in history])
    window = max(len(losses) // SMOOTHED, 2)
    axes.plot(steps, losses, color=theme.first, alpha=0.35, linewidth=1, label="each update")
    axes.plot(steps, moving_average(losses, window), color=theme.first, linewidth=2, label=f"mean of last {window}")
    axes.set_ylim(bottom=0)
    dress(axes, theme, y="training loss (nats)")
    add_legend(axes, theme)


def _plot_rate(axes: Axes, history: Sequence[StepDone], theme: Theme) -> None:
    rates = [done.learning_rate for done in history]
    axes.plot([done.step for done in history], rates, color=theme.second, linewidth=2)
    axes.set_ylim(bottom=0)
    axes.locator_params(axis="x", integer=True)
    dress(axes, theme, x="updates", y="learning\nrate")


def _plot_held_out(axes: Axes, evaluations: Sequence[Evaluated], theme: Theme) -> None:
    if not evaluations:
        axes.text(0.5, 0.5, "not evaluated", transform=axes.transAxes, ha="center", color=theme.faint)
        return
    steps = [each.step for each in evaluations]
    top1 = np.array([100 * each.scores.top1 for each in evaluations])
    low, high = (
        100 * np.array(ends) for ends in zip(*(each.scores.top1_interval for each in evaluations), strict=True)
    )
    if len(steps) == 1:  # a band would have no width
        reach = np.clip([top1 - low, high - top1], 0, None)
        axes.errorbar(steps, top1, reach, color=theme.first, alpha=0.5, capsize=8, linewidth=2, label="95% interval")
    else:
        axes.fill_between(steps, low, high, color=theme.first, alpha=0.2, linewidth=0, label="95% interval")
    axes.plot(steps, top1, color=theme.first, marker="o", markersize=5, linewidth=2, label="held-out top-1")
    last = axes.annotate(f"{top1[-1]:.1f}%", (steps[-1], low[-1]), xytext=(0, -4), textcoords="offset points")
    last.set(ha="right", va="top", color=theme.ink, fontsize=LETTERS + 1, fontweight="bold")
    top = 101 if high.max() > 60 else high.max() + 2
    axes.set_ylim(low.min() - max(0.15 * (top - low.min()), 2), top)  # room for the number below the band
    axes.locator_params(axis="x", integer=True)
    add_legend(axes, theme, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)  # above: the band may be anywhere


def _write_counts(axes: Axes, counts: NDArray[np.int64], colours: NDArray[np.float64]) -> None:
    """Writes the numbers that are not zero, dark on light cells and light on dark ones."""
    for row, column in np.argwhere(counts).tolist():
        bright = float(colours[row, column, :3] @ (0.299, 0.587, 0.114)) > 0.5  # luma of ITU-R BT.601
        text = axes.text(column, row, str(counts[row, column]), color="black" if bright else "white")
        text.set(ha="center", va="center", fontsize=LETTERS - 2, fontweight="normal" if row == column else "bold")


def _interval(each: ReliabilityBin) -> tuple[float, float]:
    low, high = wilson_interval(round((each.accuracy or 0) * each.count), each.count)
    return 100 * low, 100 * high
