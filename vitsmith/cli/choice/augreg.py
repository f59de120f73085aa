"""`vitsmith models augreg`: the table of AugReg's checkpoints, as a table, JSON and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitsmith.cli.terminal.output import print_json, print_line, print_table, say
from vitsmith.cli.terminal.pictures import put_picture

if TYPE_CHECKING:
    from vitsmith.weights.fetch.augreg_table import Chosen, Group

_FACTS = ("adapt_ds", "adapt_resolution", "adapt_final_val", "adapt_final_test", "infer_samples_per_sec", "params")
"""Columns of the best of a group, in JSON."""


def show_augreg(index: Path | None, where: str, by: str, plot: Path | None, *, json: bool) -> None:
    """Prints the best fine-tuning of each group, and draws all rows. Raises InputError."""
    from vitsmith.errors import InputError
    from vitsmith.weights.fetch.augreg_table import choose, index_rows

    if plot is not None and plot.suffix.lower() != ".png":
        raise InputError(f"`plot` writes a PNG file: call it {plot.stem or 'augreg'}.png instead of {plot.name}")
    columns = [name.strip() for name in by.split(",") if name.strip()] or ["name"]
    chosen = choose(index_rows(index), where, columns)
    if chosen.added:
        say(f"only {chosen.added}: scores of several data sets are not ranked together (name adapt_ds for others)")
    if json:
        print_json(_as_json(chosen))
    else:
        _print(chosen)
    if plot is not None:
        _draw(chosen, plot)


def _print(chosen: Chosen) -> None:
    facts = [name for name in ("adapt_ds", "adapt_resolution") if name not in chosen.by]
    titles = {"adapt_ds": "fine-tuned on", "adapt_resolution": "pixels"}
    numbers = ("rows", "pixels", "validation %", "test %", "img/s", "M parameters")
    columns = (*chosen.by, "rows", *(titles[name] for name in facts), *numbers[2:], "best checkpoint")
    cells = [
        (
            *map(_plain, group.values),
            f"{group.count:,}",
            *(getattr(group.best, name) for name in facts),
            _percent(group.best.adapt_final_val),
            _percent(group.best.adapt_final_test),
            "" if group.best.infer_samples_per_sec is None else f"{group.best.infer_samples_per_sec:,.0f}",
            "" if group.best.params is None else f"{group.best.params / 1e6:.1f}",
            group.source,
        )
        for group in chosen.groups
    ]
    print_table(columns, cells, right=numbers, keys=len(chosen.by))
    print_line(f"{len(chosen.rows):,} rows with  {chosen.where}")
    print_line("The best of a group is that of the highest validation accuracy; img/s: a V100, measured with timm.")
    print_line(f"Load one:  vitsmith.load({chosen.groups[0].source!r})")


def _as_json(chosen: Chosen) -> dict[str, Any]:
    return {
        "where": chosen.where,
        "by": list(chosen.by),
        "rows": len(chosen.rows),
        "groups": [_group(chosen, group) for group in chosen.groups],
    }


def _group(chosen: Chosen, group: Group) -> dict[str, Any]:
    named = dict(zip(chosen.by, group.values, strict=True))
    facts = {name: getattr(group.best, name) for name in _FACTS}
    facts["params"] = None if group.best.params is None else int(group.best.params)
    return {**named, "count": group.count, **facts, **named, "source": group.source}


def _draw(chosen: Chosen, place: Path) -> None:
    from vitsmith.report.augreg import draw_augreg, place_of

    drawn = sum(place_of(row) is not None for row in chosen.rows)
    if put_picture(place, "the plot", lambda: draw_augreg(chosen.rows)):
        left = len(chosen.rows) - drawn
        told = f", without {left:,} whose speed or accuracy is not known" if left else ""
        say(f"the plot of {drawn:,} rows is {place}{told}")


def _plain(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f}"
