"""The words of a recommendation: cells of its table, and sentences on why, what missed, and what would have to give."""

from __future__ import annotations

from vitsmith.choosing.figures import Budgets, Mark, MarkedFigure, Standing, excess
from vitsmith.choosing.near import Blame, Missed, Relaxation
from vitsmith.choosing.rank import TIE, Ranking
from vitsmith.choosing.recommendation import Recommendation
from vitsmith.escapes import shortened
from vitsmith.models.config import show_size

UNTIMED = ("model", "top-1", "GFLOPs", "size MB", "budget")
COLUMNS = ("model", "top-1", "p95 ms", "median", "images/s", "mem. MB", "size MB", "budget")
NUMBERS = (*COLUMNS[1:7], "GFLOPs")
LONGEST_NAME = 27
UNITS = {"latency": 1e3, "median": 1e3, "throughput": 1.0, "memory": 1e-6, "size": 1e-6, "gflops": 1.0}
"""MarkedFigure -> the factor to the unit in which it is shown: milliseconds, images/s, MB (1,000,000 bytes), GFLOPs."""
_NAMES = {"latency": "ms", "median": "ms", "throughput": "images/s", "memory": "MB", "size": "MB", "gflops": "GFLOPs"}
_STEADY = ("memory", "size")
"""Figures whose interval has the same width for all, which the legend says."""
LEGEND = (
    "top-1: published, in percent, of the whole model. ~ predicted, with its 90 % interval below (memory 25 %, size "
    "2 % to both sides); = measured. p95: one image from bytes to answer; median: the engine alone"
)


def shown_name(budget: str) -> str:
    """The name of a budget in sentences."""
    return "operations" if budget == "gflops" else budget


def number(value: float) -> str:
    """'8.42', '84.2', '842', '8,420', '84.2k': three digits or four."""
    if abs(value) >= 9_999.5:
        return f"{number(value / 1000)}k"
    if abs(value) >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}"


def amount(budget: str, value: float) -> str:
    """'28.1 ms', '310 MB'."""
    return f"{number(value * UNITS[budget])} {_NAMES[budget]}"


def cells(row: Recommendation, *, timed: bool) -> list[tuple[str, ...]]:
    """The lines of a row: numbers, then intervals, beside its name, which may need two lines, and how it runs."""
    shown = ("latency", "median", "throughput", "memory", "size") if timed else ("gflops", "size")
    figures = [(name, row.figure(name)) for name in shown]
    accuracy = row.accuracy
    numbers = (
        "" if accuracy is None else f"{'=' if accuracy.mark == Mark.measured else ''}{accuracy.value:.2f}",
        *(_marked(name, figure) for name, figure in figures),
        row.standing.value if row.standings else "",
    )
    intervals = (
        "" if accuracy is None or accuracy.low == accuracy.high else f"{accuracy.low:.1f}-{accuracy.high:.1f}",
        *(_short_interval(name, figure) if name not in _STEADY else "" for name, figure in figures),
        "",
    )
    setup = row.setup
    how = f"{show_size(row.image_size)}, {setup.engine} {setup.precision}"
    names = [*_lines(row.checkpoint.name), how, *([setup.merging] if setup.merging else [])]
    empty = ("",) * len(numbers)
    return [(name, *cell) for name, cell in zip(names, (numbers, intervals, *[empty] * len(names)), strict=False)]


def _lines(name: str) -> list[str]:
    """A name in one line, or, where it is long and has a point, in two."""
    if len(name) <= LONGEST_NAME or "." not in name:
        return [shortened(name, LONGEST_NAME)]
    first, _, rest = name.partition(".")
    return [shortened(first, LONGEST_NAME), shortened(f".{rest}", LONGEST_NAME)]


def why(ranking: Ranking, budgets: Budgets, tie: float = TIE) -> str:
    """Why the first row is first; '' where there is none."""
    best = ranking.best
    if best is None:
        return ""
    rows = ranking.within or ranking.may_miss
    among = _among(ranking, budgets)
    top = max(rows, key=lambda one: one.counted)
    if top is best:
        return f"{best.checkpoint.name} is the most accurate {among}{_counted(best)}"
    faster = top.pace / best.pace
    return (
        f"{best.checkpoint.name} is {top.counted - best.counted:.2f} points below the most accurate {among}, "
        f"{top.checkpoint.name}, and {faster:.3g} times as fast: within {tie:g} points the faster is first"
        f"{_counted(best)}"
    )


def _among(ranking: Ranking, budgets: Budgets) -> str:
    if ranking.within:
        kept = ranking.within[0].standing == Standing.kept
        count = len(ranking.within)
        if not budgets:
            return f"of {count:,} checkpoints, as there is no budget"
        word = "that keep" if kept else "predicted to keep"
        return f"of {count:,} checkpoints {word} every budget"
    return f"of {len(ranking.may_miss):,} checkpoints that may keep every budget: none surely does"


def _counted(row: Recommendation) -> str:
    if not row.setup.allowance:
        return ""
    return f"; its {row.setup} is counted {row.setup.allowance:g} points lower, which a gate may let pass"


def missed_told(missed: Missed, budgets: Budgets) -> str:
    """'NAME (84.20 %): 42.0 ms (31.0-55.0), 1.8 times the 30.0 ms of latency'."""
    row = missed.row
    parts = []
    for name, factor in sorted(missed.excess.items(), key=lambda one: -one[1]):
        figure = row.figure(name)
        assert figure is not None
        surely = excess(name, budgets[name], _at_best(figure)) > 1
        asked = amount(name, budgets[name])
        more = f"{100 * (factor - 1):.0f} % over" if factor < 2 else f"{factor:.1f} times"
        word = "misses" if surely else "may miss"
        parts.append(f"{word} {shown_name(name)}, {with_interval(name, figure)} for {asked} ({more} at worst)")
    return f"{_named(row)}: {'; '.join(parts)}"


def relaxation_told(one: Relaxation, best: Recommendation | None) -> str:
    """'latency 42.0 ms in place of 30.0 ms admits NAME (84.2 %, 1.3 points more)'."""
    gain = "" if best is None else f", {one.row.counted - best.counted:.2f} points more"
    limits = f"{amount(one.budget, one.limit)} in place of {amount(one.budget, one.asked)}"
    return f"{shown_name(one.budget)} {limits} would admit {_named(one.row, gain)}"


def blame_told(blame: Blame, budgets: Budgets) -> str:
    """Which budget is to blame, and what is the best there is."""
    asked, best = amount(blame.budget, budgets[blame.budget]), with_interval(blame.budget, blame.best)
    if blame.alone:
        return f"{shown_name(blame.budget)} {asked} is to blame: the best of all candidates has {best}"
    return (
        f"{shown_name(blame.budget)} {asked} is to blame: among those that keep the other budgets, the best has {best}"
    )


def _named(row: Recommendation, more: str = "") -> str:
    accuracy = "no published accuracy" if row.accuracy is None else f"{row.accuracy.value:.2f} %"
    return f"{row.checkpoint.name} at {show_size(row.image_size)}, {row.setup} ({accuracy}{more})"


def _at_best(figure: MarkedFigure) -> MarkedFigure:
    """The better end of an interval alone, whichever it is: both ends are swapped."""
    return MarkedFigure(figure.value, figure.high, figure.low, figure.mark, figure.source)


def _marked(name: str, figure: MarkedFigure | None) -> str:
    if figure is None:
        return ""
    sign = {Mark.predicted: "~", Mark.measured: "=", Mark.published: ""}[figure.mark]
    return f"{sign}{number(figure.value * UNITS[name])}"


def _interval(name: str, figure: MarkedFigure | None) -> str:
    if figure is None or figure.low == figure.high:
        return ""
    return f"{number(figure.low * UNITS[name])}-{number(figure.high * UNITS[name])}"


def _short_interval(name: str, figure: MarkedFigure | None) -> str:
    """With two digits below a hundred, as the interval is no sharper than that."""
    if figure is None or figure.low == figure.high:
        return ""
    ends = (figure.low * UNITS[name], figure.high * UNITS[name])
    return "-".join(map(_rounded, ends))


def _rounded(value: float) -> str:
    if value >= 9_999.5:
        return f"{value / 1000:.0f}k"
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"


def with_interval(name: str, figure: MarkedFigure) -> str:
    """'28.1 ms (21.0-37.0)'."""
    interval = _interval(name, figure)
    return amount(name, figure.value) + (f" ({interval})" if interval else "")
