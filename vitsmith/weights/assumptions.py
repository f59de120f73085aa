"""What has to be assumed about a model because arrays do not show it, in words for the user."""

from __future__ import annotations

from collections.abc import Sequence

from vitsmith.models.config import ImageModelConfig, show_size


def assumed_note(assumptions: Sequence[str]) -> tuple[str, ...]:
    """One note on all of them; none without any."""
    return (f"assumed, because arrays do not show it: {', '.join(assumptions)}",) if assumptions else ()


def square_grid(config: ImageModelConfig) -> str:
    """The assumption that the patches form a square."""
    return (
        f"a square grid of {show_size(config.grid)} patches for images of {show_size(config.image_size)} pixels "
        "(image_size= changes it)"
    )
