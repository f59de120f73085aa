"""`recommend --data DIR`: the stage that ranks by accuracy on the user's images in place of published accuracy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from vitsmith.arguments import Tell
from vitsmith.choosing.catalogue import Checkpoint
from vitsmith.choosing.figures import Mark, MarkedFigure
from vitsmith.choosing.local_weights import checkpoint_is_local
from vitsmith.choosing.own_images.result import TIE, OwnAccuracies, Scored
from vitsmith.choosing.rank import Ranking
from vitsmith.choosing.recommendation import Recommendation
from vitsmith.data.sets.datasets import DataSpec
from vitsmith.needs_torch import part

POINTS = 100 * TIE
"""Points of accuracy on these images that are no difference: for `Stages.tie`."""
MOST_MODELS = 8
"""Checkpoints that are scored: each needs a pass over the images."""
UNSCORED = "not scored on these images, so it comes after those that are: {why}"


@dataclass
class AccuracyStage:
    """Scores the first checkpoints of a ranking whose weights are here, and puts all others after them.

    It is a `Stage` of `recommend`, to be used with `tie=POINTS`. `found` is what it found, once it was called. Where
    the images can score none the rows stay as they are, and `found.instead` says why. Raises MissingPackageError
    without torch, and DatasetError where there are no data.
    """

    data: DataSpec
    most: int = MOST_MODELS
    seed: int = 0
    download: bool = False
    """Whether weights that are not here are fetched."""
    is_local: Callable[[Checkpoint], object] = checkpoint_is_local
    tell: Tell = lambda _: None
    options: dict[str, object] = field(default_factory=dict)
    """Other arguments of `accuracy_on`, as `watch` and `cache`."""
    found: OwnAccuracies | None = None

    def __call__(self, ranking: Ranking, rows: Sequence[Recommendation]) -> Sequence[Recommendation]:
        first = [row.checkpoint for row in (*ranking.within, *ranking.may_miss)]
        distinct = list({one.source: one for one in first}.values())
        able = [one for one in distinct if self.download or self.is_local(one)]
        chosen = able[: self.most] if able else distinct[: self.most]
        score = part("vitsmith.choosing.own_images.run:accuracy_on")
        is_here = (lambda _: True) if able else (lambda _: False)
        found: OwnAccuracies = score(self.data, chosen, seed=self.seed, is_here=is_here, tell=self.tell, **self.options)
        here = {one.source for one in able}
        unfetched = tuple(one.name for one in distinct if one.source not in here)
        self.found = found = replace(found, unfetched=unfetched)
        if not found.rows:
            return rows
        scored = {row.source: _figure(found, row) for row in found.rows}
        failed = dict(found.failed)
        return [self._scored(row, scored.get(row.source), failed, row.source in here) for row in rows]

    def _scored(
        self, row: Recommendation, figure: MarkedFigure | None, failed: dict[str, str], here: bool
    ) -> Recommendation:
        if figure is not None:
            return replace(row, accuracy=figure, metric="own-images")
        if row.checkpoint.name in failed:
            why = failed[row.checkpoint.name]
        elif here:
            why = f"only the first {self.most} are"
        else:
            why = "its weights are not on this machine, and `download` fetches them"
        return replace(row, accuracy=None, metric="own-images", remarks=(*row.remarks, UNSCORED.format(why=why)))


def _figure(found: OwnAccuracies, row: Scored) -> MarkedFigure:
    low, high = found.interval(row)
    told = f"mean of k-NN and ridge on {found.images:,} images of {found.data}, each answered by the others"
    return MarkedFigure(100 * row.accuracy, 100 * low, 100 * high, Mark.measured, told)
