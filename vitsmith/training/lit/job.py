"""What all parts of a `lit` run need, and what its report repeats."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from vitsmith.data.sets.pairs import PairSplits
from vitsmith.training.recipes.lit import LitRecipe
from vitsmith.training.run import Job


@dataclass(eq=False, kw_only=True)
class LitJob(Job[LitRecipe, PairSplits]):
    """The things that all parts of one run of `lit` in this process need."""

    folder: Path
    """The run's folder, known to all processes."""
    told: list[str] = field(default_factory=list)

    def note(self, message: str) -> None:
        """Tells a message that the report repeats."""
        self.told.append(message)
        self.tell(message)
