"""Prints what verbs report: results on standard output, progress and remarks on standard error.

Every name and message goes through here, and is shown as it is: nothing in it is markup, and nothing moves the cursor.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from vitsmith.cli.terminal.streams import is_utf8
from vitsmith.escapes import visible, with_short_names
from vitsmith.json_text import to_json, with_nulls

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, Task
    from rich.table import Table

    from vitsmith.gate import Paired

_ARGUMENT = re.compile(r"`([a-z]+(?:_[a-z]+)*)`")
_typed: dict[str, str] = {}
"""Arguments of the verb that runs, as they are typed."""
LEAST_WORD = 10
"""Columns of a terminal that a name in a table has at least, where it is so long."""


@contextmanager
def beside(what: str) -> Iterator[None]:
    """For what a verb makes after its result is written: if it fails or is interrupted, the result is still printed."""
    from vitsmith.errors import Interrupted
    from vitsmith.files.atomic import optional

    with optional(what):
        try:
            yield
        except KeyboardInterrupt:
            raise Interrupted("interrupted") from None


def know_options(typed: Mapping[str, str]) -> None:
    """Tells how the arguments of the verb that runs are typed: 'max_drop' -> '--max-drop', 'images' -> 'IMAGES'."""
    _typed.clear()
    _typed.update(typed)


def as_typed(message: str) -> str:
    """A message, with the arguments of Python that it names (`max_drop`) as they are typed here (--max-drop).

    Only arguments of the verb that runs: anything else in backquotes may be a name of the user's.
    """
    return _ARGUMENT.sub(lambda named: _typed.get(named[1], named[0]), message)


def as_remark(message: str) -> str:
    """A message as a person reads it, in one line: `as_typed`, and very long names are shortened."""
    return visible(with_short_names(as_typed(message)))


def print_line(text: str = "") -> None:
    """One line of results, flushed so that a reader sees it at once."""
    print(visible(text), flush=True)


def print_json(value: Any) -> None:
    """One JSON document; a number that is not finite is null in it."""
    print(to_json(with_nulls(value), indent=2, ascii_only=not is_utf8()))


def print_json_line(value: Any) -> None:
    """One line of JSON lines, flushed so that a reader sees it at once."""
    print(to_json(with_nulls(value), ascii_only=not is_utf8()), flush=True)


def print_csv_line(cells: Sequence[str]) -> None:
    """One row of comma-separated values. A terminal is shown no control characters; a file or program gets them."""
    import csv

    shown = sys.stdout.isatty()
    row = [visible(cell) if shown else _without_surrogates(cell) for cell in cells]
    # A carriage return by itself needs quotes too, which Python's writer does not know.
    quoting: Literal[0, 1] = csv.QUOTE_ALL if any("\r" in cell for cell in row) else csv.QUOTE_MINIMAL
    csv.writer(sys.stdout, lineterminator="\n", quoting=quoting).writerow(row)
    sys.stdout.flush()


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[str] = (), keys: int = 1
) -> None:
    """A plain table that fits any width; cells of the columns named in `right` are numbers, and set to the right.

    Words are folded where it is narrow. Numbers are not: columns that do not fit follow in tables of their own, each
    with the first `keys` columns again. Where not even one does, each row is a block of lines.
    """
    from rich.cells import cell_len

    console = _console(stderr=False)
    titles = [visible(name) for name in columns]
    cells = [["" if cell is None else visible(str(cell)) for cell in row] for row in rows]
    longest = [max(map(cell_len, (title, *(row[at] for row in cells)))) for at, title in enumerate(titles)]
    numbers = {at for at, name in enumerate(columns) if name in right}
    least = [size if at in numbers else min(size, LEAST_WORD) for at, size in enumerate(longest)]
    first = list(range(keys))

    def fits(*more: int) -> bool:
        return 1 + sum(least[at] + len(" | ") for at in (*first, *more)) <= console.width

    if not all(map(fits, range(keys, len(columns)))):
        for row in cells:
            print_line()
            print_facts(zip(columns, row, strict=True))
        return
    rest: list[int] = []
    for at in range(keys, len(columns)):
        if rest and not fits(*rest, at):
            console.print(_table(titles, cells, least, numbers, [*first, *rest]))
            rest = []
        rest.append(at)
    console.print(_table(titles, cells, least, numbers, [*first, *rest]))


def _table(
    titles: list[str],
    cells: list[list[str]],
    least: list[int],
    numbers: set[int],
    chosen: list[int],
) -> Table:
    """The columns at `chosen`, each at least as wide as `least` says; those at `numbers` are not folded."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for at in chosen:
        number = at in numbers
        justify: Literal["left", "right"] = "right" if number else "left"
        table.add_column(Text(titles[at]), justify=justify, overflow="fold", min_width=least[at], no_wrap=number)
    for row in cells:
        table.add_row(*(Text(row[at]) for at in chosen))
    return table


def print_facts(facts: Iterable[tuple[str, Any]]) -> None:
    """Name and value, one a line, those without a value left out."""
    shown = [(name, str(value)) for name, value in facts if value not in (None, "")]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        print_line(f"{name:<{width}}  {value}")


def drop_told(paired: dict[str, Any]) -> str:
    """Plain data of a `gate.Paired` in words: '0.20 points (95% interval -0.31 to 0.80) on 1,000 images'."""
    low, high = paired["drop_interval"]
    images = f"{paired['num_labelled_images']:,} images"
    return f"{paired['drop_points']:.2f} points (95% interval {low:.2f} to {high:.2f}) on {images}"


def lost_told(paired: Paired) -> str:
    """'0.20 (-0.31 to 0.80)': points lost and their 95% interval, for a cell of a table."""
    low, high = paired.interval
    return f"{paired.drop:.2f} ({low:.2f} to {high:.2f})"


def say(message: str) -> None:
    """A remark for the person at the terminal, on standard error: one line."""
    print(as_remark(message), file=sys.stderr, flush=True)


class _NoBar:
    """Stands in for a bar where nobody sees one, so that rich need not be imported."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[..., int]:
        return lambda *_, **__: 0


def progress(*, unit: str) -> Progress:
    """A bar with count, rate and time left, shown only on a terminal and gone when done."""
    if not sys.stderr.isatty():
        return cast("Progress", _NoBar())
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TimeRemainingColumn
    from rich.text import Text

    class PlainColumn(ProgressColumn):
        """Text of a task as it is: rich's own column would read markup in names."""

        def __init__(self, read: Callable[[Task], str]) -> None:
            super().__init__()
            self._read = read

        def render(self, task: Task) -> Text:
            return Text(visible(self._read(task)), no_wrap=True, overflow="ellipsis")

    console = _console(stderr=True)
    return Progress(
        PlainColumn(lambda task: task.description),
        BarColumn(bar_width=40 if console.width >= 120 else 10),
        MofNCompleteColumn(),
        PlainColumn(lambda task: unit),
        TimeRemainingColumn(),
        PlainColumn(lambda task: task.fields["note"]),  # the last, as it is what a narrow terminal cuts
        console=console,
        transient=True,
    )


def _without_surrogates(cell: str) -> str:
    """Only what no encoding can write is an escape."""
    return cell if cell.isascii() else "".join(visible(one) if "\ud800" <= one <= "\udfff" else one for one in cell)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 160, highlight=False)
