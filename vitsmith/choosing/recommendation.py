"""A row of the table: one checkpoint in one setup, with what it costs and how good it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vitsmith.choosing.catalogue import Checkpoint
from vitsmith.choosing.figures import Budgets, MarkedFigure, Standing, computed, judge
from vitsmith.models.cost import parameters

ALLOWANCE = {"fp32": 0.0, "fp16": 0.5, "bf16": 0.5, "int8": 0.5}
"""Points of accuracy that a precision may lose: what the gates of `export` and `quantize` let pass by default."""
MERGING_ALLOWANCE = 1.0
"""The same of `merge-tokens`."""
UNVERIFIED = "accuracy of the whole fp32 model; the gate of `{verb}` measures what is lost"


@dataclass(frozen=True)
class Setup:
    """How a checkpoint is run."""

    engine: str
    precision: str = "fp32"
    keep: float = 1.0
    """Share of the arithmetic that merging tokens leaves; 1 without merging."""

    @property
    def allowance(self) -> float:
        """Points by which published accuracy is counted less, as nothing was measured: the most that gates let pass."""
        return ALLOWANCE.get(self.precision, 0.5) + (MERGING_ALLOWANCE if self.keep < 1 else 0.0)

    @property
    def merging(self) -> str:
        """'' or 'merged 0.7'."""
        return f"merged {self.keep:g}" if self.keep < 1 else ""

    def __str__(self) -> str:
        return " ".join(part for part in (self.engine, self.precision, self.merging) if part)


@dataclass(frozen=True)
class Recommendation:
    """A row. Times are in seconds, memory and size in bytes; what is not known of a machine is None."""

    checkpoint: Checkpoint
    setup: Setup
    batch: int
    threads: int | None
    metric: str
    accuracy: MarkedFigure | None
    """Percent, of the whole model in fp32."""
    latency: MarkedFigure | None
    """The 95th percentile of one image from bytes to answer."""
    median: MarkedFigure | None
    """The engine's median of one image."""
    throughput: MarkedFigure | None
    """Images a second of the engine, in calls of `batch` images."""
    memory: MarkedFigure | None
    """Peak memory of the process above a bare interpreter."""
    size: MarkedFigure | None
    """Of the files on disk."""
    gflops: float
    """10^9 operations of one image, by the image tower alone where there are two."""
    remarks: tuple[str, ...] = ()
    standings: Mapping[str, Standing] = field(default_factory=dict)
    """What the figures say about each budget; empty before `judged`."""

    @property
    def source(self) -> str:
        """What `vitsmith.load` takes."""
        return self.checkpoint.source

    @property
    def key(self) -> tuple[str, tuple[int, int]]:
        """What is compared with others: a checkpoint at an image size, run in the best setup."""
        return self.source, self.image_size

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.checkpoint.image_size

    @property
    def counted(self) -> float:
        """The accuracy that ranks: without what the gate of a coarser precision or of merging may let pass."""
        if self.accuracy is None:
            return float("-inf")
        return self.accuracy.value - self.setup.allowance

    @property
    def pace(self) -> float:
        """What is compared for speed: the engine's median, or operations where no time is known."""
        return self.gflops if self.median is None else self.median.value

    @property
    def standing(self) -> Standing:
        """The worst of `standings`; `within` without budgets."""
        order = (Standing.misses, Standing.unknown, Standing.may_miss, Standing.within, Standing.kept)
        return min(self.standings.values(), key=order.index, default=Standing.within)

    def figure(self, budget: str) -> MarkedFigure | None:
        """The figure that a budget is about."""
        if budget == "gflops":
            return computed(self.gflops)
        found: MarkedFigure | None = getattr(self, budget)
        return found

    def judged(self, budgets: Budgets) -> Recommendation:
        """The same row with the standings on its figures as they are now."""
        return replace(self, standings={name: judge(name, limit, self.figure(name)) for name, limit in budgets.items()})

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON; seconds, bytes and percent."""
        figures = ("accuracy", "latency", "median", "throughput", "memory", "size")
        told: dict[str, MarkedFigure | None] = {name: getattr(self, name) for name in figures}
        return {
            "model": self.source,
            "name": self.checkpoint.name,
            "image_size": list(self.image_size),
            "engine": self.setup.engine,
            "precision": self.setup.precision,
            "keep": self.setup.keep,
            "batch": self.batch,
            "threads": self.threads,
            "metric": self.metric,
            **{name: figure and figure.to_dict() for name, figure in told.items()},
            "counted_accuracy": None if self.accuracy is None else self.counted,
            "gflops": self.gflops,
            "parameters": parameters(self.checkpoint.config),
            "licence": self.checkpoint.licence,
            "standing": self.standing.value,
            "standings": {name: standing.value for name, standing in self.standings.items()},
            "remarks": list(self.remarks),
        }

    def __str__(self) -> str:
        return f"{self.checkpoint.name}, {self.setup}"
