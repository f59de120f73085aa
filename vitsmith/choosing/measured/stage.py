"""`recommend --measure N`: the stage between a predicted ranking and one that is measured where it counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vitsmith.arguments import Tell
from vitsmith.choosing.catalogue import Checkpoint
from vitsmith.choosing.figures import Budgets
from vitsmith.choosing.local_weights import checkpoint_is_local
from vitsmith.choosing.measured.correct import Name, corrected, name_of
from vitsmith.choosing.measured.times import PACE, MeasuredRow, measure_built
from vitsmith.choosing.rank import TIE, Ranking, rank, shortlist
from vitsmith.choosing.recommendation import Recommendation
from vitsmith.errors import VitsmithError
from vitsmith.evaluation.timing import Pace
from vitsmith.files.atomic import scratch
from vitsmith.needs_torch import part, require_torch
from vitsmith.weights.bundle.bundle import Bundle

UNCHECKED = "timed with random weights: whether its answers are good, `export` and `quantize` measure"
Build = Callable[..., Bundle]
"""(checkpoint, setup, folder, local=) -> the bundle in that folder."""


@dataclass(frozen=True)
class MeasureStage:
    """Measures the best `count` rows, and then each row that comes first without having been measured.

    It is a `Stage` of `recommend`: called with the ranking and all rows, it returns the corrected rows. A row that
    cannot be built or run keeps its predictions, with the reason as a remark. Raises MissingPackageError without torch.
    """

    count: int
    budgets: Budgets
    photo: tuple[int, int]
    """(height, width) of the JPEG that answers are timed with."""
    tie: float = TIE
    pace: Pace = PACE
    build: Build | None = None
    is_local: Callable[[Checkpoint], object] = checkpoint_is_local
    tell: Tell = lambda _: None

    def __call__(self, ranking: Ranking, rows: Sequence[Recommendation]) -> Sequence[Recommendation]:
        require_torch()
        predicted = list(rows)
        measured: dict[Name, MeasuredRow] = {}
        failed: dict[Name, str] = {}
        chosen: Sequence[Recommendation] = shortlist(ranking, self.budgets, self.count, tie=self.tie)
        for _ in range(1 + self.count):  # a correction may bring up a row that was not measured: it is measured too
            self._measure(chosen, measured, failed)
            rows = [_told(row, failed) for row in corrected(predicted, measured)]
            best = rank(rows, self.budgets, tie=self.tie).best
            if best is None or _is_known(best, measured, failed):
                break
            chosen = [best]
        return rows

    def _measure(
        self, chosen: Sequence[Recommendation], measured: dict[Name, MeasuredRow], failed: dict[Name, str]
    ) -> None:
        """Builds and measures rows, side by side in turns."""
        build: Build = self.build or part("vitsmith.choosing.measured.build:build_to_time")
        with scratch("recommend") as place:
            built: list[tuple[Recommendation, Bundle]] = []
            for row in chosen:
                self.tell(f"building {row}")
                folder = Path(place) / str(len(built) + len(failed))
                try:
                    built.append((row, build(row.checkpoint, row.setup, folder, local=self._has_weights(row))))
                except (VitsmithError, MemoryError, RuntimeError) as error:
                    failed[name_of(row)] = str(error)
            self.tell(f"measuring {len(built)} in turns")
            found, reasons = measure_built(built, self.photo, pace=self.pace)
        for (row, _), one, reason in zip(built, found, reasons, strict=True):
            if one is None:
                failed[name_of(row)] = reason
                continue
            remarks = one.remarks if self._has_weights(row) else (*one.remarks, UNCHECKED)
            measured[name_of(row)] = replace(one, remarks=remarks)

    def _has_weights(self, row: Recommendation) -> bool:
        """Whether the row can be timed with its own weights: they are here, it merges nothing, and has one tower."""
        return row.setup.keep == 1 and "zeroshot" not in row.checkpoint.tasks and bool(self.is_local(row.checkpoint))


def _is_known(row: Recommendation, measured: dict[Name, MeasuredRow], failed: dict[Name, str]) -> bool:
    return name_of(row) in measured or name_of(row) in failed


def _told(row: Recommendation, failed: dict[Name, str]) -> Recommendation:
    reason = failed.get(name_of(row))
    return row if reason is None else replace(row, remarks=(*row.remarks, f"could not be measured here: {reason}"))
