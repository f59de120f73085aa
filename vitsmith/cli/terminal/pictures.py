"""The picture that a verb puts beside its result. If it fails, the result is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vitsmith.cli.terminal.output import beside, say

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def put_picture(path: Path, what: str, draw: Callable[[], Figure]) -> bool:
    """Writes what `draw` makes as a PNG file. If that fails it tells the user why, and returns False.

    `what` names the picture in messages: "the plot of the front".
    """
    from vitsmith.errors import MissingPackageError
    from vitsmith.files.atomic import replacing
    from vitsmith.report.figure import png

    with beside(what):
        try:
            image = png(draw())
        except MissingPackageError as error:
            say(f"{what} was not drawn: {error}")
            return False
        with replacing(path) as partial:
            partial.write_bytes(image)
        return True
    return False
