"""How a probe's setting was chosen: what was tried, how good each was on images left out, and what to know about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol

from torch import Tensor

UNCHOSEN = "every class has a single training image or group, so {what} is {value} and was not chosen"
"""The remark where no image can be left out."""
_BEYOND = {"weakest": "weaker", "strongest": "stronger", "largest": "larger"}


def told_end(setting: str, value: float, end: str) -> str:
    """The remark where the best value is the last one that was tried: the 'weakest', 'strongest' or 'largest'."""
    return f"the best {setting}, {value:.3g}, is the {end} that was tried: a {_BEYOND[end]} one may be better"


@dataclass(frozen=True)
class Tried:
    """One value of a setting, scored on training images that were left out."""

    value: float
    accuracy: float | None
    """Share of the images left out that are answered correctly; None where no image can be left out."""
    loss: float | None = None
    """What the choice is made by, where it is not accuracy: mean log-loss or squared error of the images left out."""
    converged: bool = True
    """Whether every fit of this value reached its optimum."""
    images: int | None = None
    """Images left out that it was scored on: not all, where the first folds were certainly worse than the best."""


@dataclass(frozen=True)
class Choice:
    """The value that was chosen for a setting, such as k, and all that were tried."""

    setting: str
    value: float
    tried: tuple[Tried, ...] = ()
    remarks: tuple[str, ...] = ()
    """Sentences that a user should read: the best is at the end of the range, a fit did not converge."""

    def __str__(self) -> str:
        return f"{self.setting} {self.value:.3g}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "setting": self.setting,
            "value": self.value,
            "tried": [asdict(one) for one in self.tried],
            "remarks": list(self.remarks),
        }


class FittedProbe(Protocol):
    """A classifier on features, fitted."""

    @property
    def method(self) -> str:
        """The name of the method, as tables show it."""

    @property
    def choice(self) -> Choice:
        """Its setting, and how that was chosen."""

    def classify(self, queries: Tensor) -> Tensor:
        """(M,) int64 classes of features (M, D); among equals the lower class. Raises InputError for another D."""
