"""The cost of running a model in one way: predicted time with its interval, peak memory, and size on disk."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from vitsmith.errors import InputError


class UnpredictedError(InputError):
    """A model or a precision whose cost cannot be predicted on an engine; the message names the part."""


@dataclass(frozen=True)
class Cost:
    """What one call of `batch` images costs. Everything is predicted; nothing of the model itself was run."""

    latency: float
    """Seconds: the median of one call of `batch` images, opened for latency at batch 1, else for throughput.

    Reading and preprocessing of images is not in it.
    """
    low: float
    """Seconds: the lower end of the 90 % interval of `latency`."""
    high: float
    """Seconds: the upper end of the 90 % interval of `latency`."""
    peak_memory: int
    """Bytes of the process above those of a bare Python interpreter: libraries, weights and work space."""
    size: int
    """Bytes on disk."""
    engine: str
    precision: str
    batch: int
    threads: int
    remarks: tuple[str, ...] = ()
    """What makes the prediction less sure: 'wider than every model that was measured'."""

    @property
    def images_per_second(self) -> float:
        """Images a second of the median call."""
        return self.batch / self.latency

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON; seconds and bytes."""
        return asdict(self) | {"images_per_second": self.images_per_second, "remarks": list(self.remarks)}
