"""Which images judge: chosen with a bar while they are read, and said."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from vitsmith.cli.output import progress, say

if TYPE_CHECKING:
    from vitsmith.evaluate.held_out import Asked, Judging
    from vitsmith.weights.bundle import Bundle

WithoutSplitOption = Annotated[
    bool,
    typer.Option("--without-split", help="Do not write down which images it was trained on and which were held out."),
]


def choose_images(bundles: Sequence[Bundle], asked: Asked) -> Judging:
    """The images that judge `bundles`. Raises DatasetError when none is left."""
    from vitsmith.evaluate.held_out import choose

    with reading_bar() as on_images:
        judging = choose(bundles, asked, on_images=on_images)
    for told in judging.told:
        say(told)
    return judging


@contextmanager
def reading_bar() -> Iterator[Callable[[int], None]]:
    """A bar for images that are read once, to tell which the model knows."""
    with progress(unit="images") as bar:
        task = bar.add_task("telling held-out images from others", total=None, note="")
        yield lambda images: bar.advance(task, images)
