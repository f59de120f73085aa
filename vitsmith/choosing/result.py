"""What `recommend` found: the ranked rows, why the first is first, what just missed, and what comes next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitsmith.choosing.commands import Step
from vitsmith.choosing.figures import Standing
from vitsmith.choosing.fit.device import DeviceFit
from vitsmith.choosing.near import Blame, Missed, Relaxation
from vitsmith.choosing.own_images.result import OwnAccuracies
from vitsmith.choosing.rank import Ranking
from vitsmith.choosing.recommendation import Recommendation
from vitsmith.choosing.request import Request
from vitsmith.choosing.words import COLUMNS, UNTIMED, blame_told, cells, missed_told, relaxation_told
from vitsmith.errors import GateError

SHOWN = 10
"""Rows of the table."""
PROPOSED = 3
"""Rows that are proposed to be measured."""


@dataclass(frozen=True)
class Counts:
    """How many checkpoints there were, and why the others were left out."""

    checkpoints: int
    other_task: int
    without_accuracy: int
    licence: int
    ranked: int
    """Checkpoints of which at least one setup was compared."""
    setups: int
    """Rows that were compared, before the best setup of each checkpoint was chosen."""

    def to_dict(self) -> dict[str, int]:
        """Plain data, ready for JSON."""
        return dict(vars(self))


@dataclass(frozen=True, repr=False)
class Recommendations(Sequence[Recommendation]):
    """The rows that pass every budget and those that may, the best first."""

    request: Request
    ranking: Ranking
    counts: Counts
    machine: str
    why: str
    """Why the first row is first; '' where there is none."""
    just_missed: tuple[Missed, ...] = ()
    relaxations: tuple[Relaxation, ...] = ()
    nearest: Missed | None = None
    """Where no row passes or may pass: the candidate that misses least."""
    blame: tuple[Blame, ...] = ()
    steps: tuple[Step, ...] = ()
    remarks: tuple[str, ...] = ()
    own_images: OwnAccuracies | None = None
    """What was found on the user's own images, where they rank."""
    fits: tuple[DeviceFit, ...] = ()
    """What fits into the device that was asked for, of the first rows."""
    folder: Path | None = field(default=None)

    @property
    def rows(self) -> tuple[Recommendation, ...]:
        """All rows that pass or may pass."""
        return (*self.ranking.within, *self.ranking.may_miss)

    @property
    def best(self) -> Recommendation | None:
        """The first row."""
        return self.ranking.best

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Recommendation]:
        return iter(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]

    def __bool__(self) -> bool:
        return bool(self.rows)

    def table(self, most: int = SHOWN) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """(columns, rows) for printing: two or three lines a row, the second with the intervals."""
        timed = self.request.timed
        lines = [line for row in self.rows[:most] for line in cells(row, timed=timed)]
        return COLUMNS if timed else UNTIMED, lines

    def to_dict(self, most: int = SHOWN) -> dict[str, Any]:
        """Plain data, ready for JSON; seconds, bytes and percent."""
        return {
            "request": self.request.to_dict(),
            "machine": self.machine,
            "counts": self.counts.to_dict(),
            "rows": [row.to_dict() for row in self.rows[:most]],
            "why": self.why,
            "just_missed": [one.to_dict() for one in self.just_missed],
            "relaxations": [one.to_dict() for one in self.relaxations],
            "nearest": self.nearest and self.nearest.to_dict(),
            "blame": [one.to_dict() for one in self.blame],
            "steps": [one.to_dict() for one in self.steps],
            "own_images": self.own_images and self.own_images.to_dict(),
            "fits": [one.to_dict() for one in self.fits],
            "remarks": list(self.remarks),
        }

    def sentences(self) -> Iterator[str]:
        """What stands below the table: why, what just missed, what would have to give; or what is to blame."""
        budgets, best = self.request.budgets, self.best
        if best is None:
            yield "nothing keeps every budget" if self.counts.ranked else "no checkpoint is left to rank"
            yield from (blame_told(one, budgets) for one in self.blame)
            if self.nearest and not self.blame:
                yield "no single budget is to blame: several are too tight together"
            if self.nearest:
                yield f"the nearest: {missed_told(self.nearest, budgets)}"
        else:
            yield f"first: {self.why}"
        yield from (f"just missed: {missed_told(one, budgets)}" for one in self.just_missed)
        if self._undecided:
            yield f"measuring decides what may miss: add  --measure {PROPOSED}  on the machine that it is for"
        more = "for more" if best else "possible"
        yield from (f"{more}: {relaxation_told(one, best)}" for one in self.relaxations)

    @property
    def _undecided(self) -> bool:
        """Whether nothing was measured, and something better than the first row may keep the budgets."""
        measured = any(row.standing == Standing.kept for row in self.rows)
        return bool(self) and not measured and any(one.row.standing == Standing.may_miss for one in self.just_missed)

    def require(self) -> None:
        """Raises GateError where nothing keeps every budget, not even perhaps."""
        if self.best is None:
            raise GateError(next(iter(self.sentences())) + ": relax a budget")

    def __repr__(self) -> str:
        return f"<Recommendations {len(self)}, best {self.best}>"

    def __str__(self) -> str:
        columns, rows = self.table()
        widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in (columns, *rows)
        ]
        return "\n".join([*lines, *self.sentences()])

    def _repr_html_(self) -> str:
        import html

        columns, rows = self.table()
        head = "".join(f"<th>{html.escape(one)}</th>" for one in columns)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        notes = "".join(f"<p>{html.escape(line)}</p>" for line in self.sentences())
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{notes}"
