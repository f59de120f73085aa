"""What the caller of `load` says about a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LoadOptions:
    """The options of `load` that are for checkpoints; a reader takes those that its files leave open."""

    name: str | None = None
    """The expected architecture; another one in the file is an error."""
    image_size: tuple[int, int] | None = None
    """(height, width) in pixels."""
    pooling: str | None = None
    headless: bool = False
    """Leave the classifier out; the model then gives features."""
    vocabulary: Path | None = None
    """The tokenizer's file of a LiT; None: the one that lies beside the weights."""
