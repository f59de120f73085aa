"""What the caller of `load` says about a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from vitsmith.arguments import known_name
from vitsmith.errors import UnknownNameError
from vitsmith.models.parts import Gelu, Pooling
from vitsmith.specs import ImageSpec

Periods = Literal["float32", "bfloat16"]
Preprocessing = Literal["usual"]
CHOICES: dict[str, tuple[str, ...]] = {
    "gelu": get_args(Gelu),
    "pooling": get_args(Pooling),
    "periods": get_args(Periods),
    "preprocessing": get_args(Preprocessing),
}
"""What a caller may choose where the same arrays have several answers or files are missing, and the values."""


def check_choices(given: Mapping[str, Any], what: str) -> None:
    """Raises InputError for a name that is not among CHOICES, called `what`, and for a value that it does not have."""
    for name, value in given.items():
        if name not in CHOICES:
            raise UnknownNameError(what, name, CHOICES)
        known_name(value, name, CHOICES[name])


@dataclass(frozen=True)
class LoadOptions:
    """The options of `load` that are for checkpoints; a reader takes those that its files leave open."""

    name: str | None = None
    """The expected architecture; another one in the file is an error."""
    image_size: tuple[int, int] | None = None
    """(height, width) in pixels."""
    adapted_size: tuple[int, int] | None = None
    """The size to which fine-tuning will move the model: a reader that resizes stored positions goes there at once, as
    resizing twice gives others."""
    gelu: Gelu | None = None
    """The form of GELU, in both towers. This field and the next three are the CHOICES."""
    pooling: Pooling | None = None
    periods: Periods | None = None
    """How the periods of DINOv3's rotary positions are rounded."""
    preprocessing: Preprocessing | ImageSpec | None = None
    """The caller's own; or 'usual', that of the published models of its kind, where the file that says it is
    missing."""
    headless: bool | None = False
    """Leave the classifier out; the model then gives features. None: features only where the file has no classifier."""
    vocabulary: Path | None = None
    """The tokenizer's file of a LiT; None: the one that lies beside the weights."""
