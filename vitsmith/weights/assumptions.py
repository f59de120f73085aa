"""What has to be assumed about a model because arrays do not show it, in words for the user."""

from __future__ import annotations

from collections.abc import Sequence

from vitsmith.errors import WeightsError
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


def check_mixer_size(size: tuple[int, int], patch: Sequence[int], patches: int) -> None:
    """Raises WeightsError unless images of `size` have so many `patches`: a Mixer's first products are over them."""
    found = (size[0] // patch[0]) * (size[1] // patch[1])
    if found != patches:
        shown = show_size((patch[0], patch[1]))
        raise WeightsError(
            f"a Mixer takes as many patches as it was trained with, {patches} of {shown} pixels; images of "
            f"{show_size(size)} have {found}: leave the image size out"
        )
