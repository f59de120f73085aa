"""The picture of AugReg's checkpoints: accuracy against speed, as in the original's notebook."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vitsmith.report.figure import LIGHT, Theme, add_legend, dress, new_figure
from vitsmith.weights.fetch.augreg_index import AugregRow

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARKERS = "o^sDvP"
"""A form for each resolution, the smallest first."""
_AREA = 22  # of a point, in square points
SPEED = "images a second on a V100, by timm"


def draw_augreg(rows: Sequence[AugregRow], theme: Theme = LIGHT) -> Figure:
    """Draws `adapt_final_val` over `infer_samples_per_sec`, a colour for each model and a form for each resolution.

    Rows without one of the two numbers are left out. Models are in the order of their speed, from dark to light.
    """
    import matplotlib

    figure = new_figure(theme)
    axes = figure.subplots()
    names, sizes = in_order_of_speed(rows), sorted({row.adapt_resolution for row in rows})
    colours = matplotlib.colormaps["viridis"].resampled(max(len(names), 2))
    forms = dict(zip(sizes, itertools.cycle(_MARKERS), strict=False))
    for at, name in enumerate(names):
        axes.scatter([], [], _AREA, color=colours(at), label=name)
        for size, marker in forms.items():
            alike = (row for row in rows if (row.name, row.adapt_resolution) == (name, size))
            points = [point for row in alike if (point := place_of(row))]
            speeds, accuracies = [point[0] for point in points], [point[1] for point in points]
            axes.scatter(speeds, accuracies, _AREA, color=colours(at), marker=marker, alpha=0.8)
    for size, marker in forms.items():
        axes.scatter([], [], _AREA, color=theme.faint, marker=marker, label=f"{size} pixels")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.minorticks_off()
    dress(axes, theme, x=SPEED, y="validation accuracy (%)")
    add_legend(axes, theme, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return figure


def place_of(row: AugregRow) -> tuple[float, float] | None:
    """Images a second and percent; None where one is not known."""
    speed, accuracy = row.infer_samples_per_sec, row.adapt_final_val
    return None if speed is None or accuracy is None else (speed, 100 * accuracy)


def in_order_of_speed(rows: Sequence[AugregRow]) -> list[str]:
    """The models of the rows, the slowest at its smallest resolution first, those of unknown speed last."""
    fastest: dict[str, float] = {}
    for row in rows:
        fastest[row.name] = max(fastest.get(row.name, 0.0), row.infer_samples_per_sec or 0.0)
    return sorted(fastest, key=lambda name: (fastest[name] == 0, fastest[name], name))
