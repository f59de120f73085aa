"""Reads PLACES, which are indexes, image folders and images, for the verbs that sort them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitsmith.cli.arguments.completion import models
from vitsmith.cli.arguments.images import sources_of
from vitsmith.cli.arguments.inputs import open_model, tell_choice
from vitsmith.cli.terminal.output import progress, say

if TYPE_CHECKING:
    from vitsmith.encode import Encoder
    from vitsmith.retrieval.description import Space
    from vitsmith.sorting.places import Opener

PlacesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="PLACES", help="Index folders made by  vitsmith embed , image folders, files or globs; may be mixed."
    ),
]
PlacesModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        help="Model that embeds images that are in no index; default: the model of the index.",
        autocompletion=models,
    ),
]


def places_of(arguments: Sequence[str]) -> list[str]:
    """The indexes and images that arguments mean. Raises InputError as `sources_of`, and for the bytes of an image."""
    from vitsmith.errors import InputError
    from vitsmith.retrieval.description import is_index

    places: list[str] = []
    for argument in arguments:
        if is_index(argument):
            places.append(argument)
            continue
        for source in sources_of([argument]):
            if not isinstance(source, str | os.PathLike):
                raise InputError("an image on standard input is no place: give paths there, one a line")
            places.append(os.fspath(source))
    return places


def opener_of(model: str, *, engine: str, precision: str, batch_size: int, reading: dict[str, Any]) -> Opener:
    """Opens the model of `--model`, or of the index, where it is needed; `reading` are options of `open_model`."""
    from vitsmith.sorting.places import Opener

    def open_encoder(space: Space | None) -> Encoder:
        from vitsmith.encode import Encoder
        from vitsmith.errors import InputError

        try:
            bundle = open_model(model or (space.model if space is not None else ""), headless=True, **reading)
        except InputError as error:
            if model:
                raise
            raise InputError(f"the model of the index: {error} (or give its place with --model)") from error
        bundle.check_preprocessing()
        what = space.what if space is not None else "pooled"
        encoder = Encoder(bundle, engine, precision=precision, batch_size=batch_size, what=what)
        tell_choice(encoder.engine)
        return encoder

    return Opener(model or None, open_encoder)


@contextmanager
def steps() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each thing that is done, with how much of it is done."""
    with progress(unit="") as bar:
        tasks: dict[str, Any] = {}

        def on_step(doing: str, done: int, count: int) -> None:
            if doing not in tasks:
                tasks[doing] = bar.add_task(doing, total=count, note="")
            bar.update(tasks[doing], completed=done, total=count)

        yield on_step


def absolute(path: str) -> str | None:
    """The whole path of a file; None for a text, which has none."""
    return os.path.abspath(path) if path else None  # noqa: PTH100 - of any text, and links stay as they are


def show_sheet(place: Path, write: Callable[[Callable[[], None]], int]) -> None:
    """Writes a sheet under a bar, and says where it is. `write` returns how many groups have no place on it."""
    with progress(unit="pictures") as bar:
        task = bar.add_task("writing the sheet", total=None, note="")
        left_out = write(lambda: bar.advance(task))
    more = f", with the largest groups: {left_out:,} more have no place on it" if left_out else ""
    say(f"the sheet is {place}{more}")


def tell_unreadable(unreadable: Sequence[tuple[str, str]]) -> None:
    """Says what was skipped. Raises InputError where anything was."""
    from vitsmith.errors import InputError

    for _, reason in unreadable:
        say(f"skipped: {reason}")
    if unreadable:
        told = "1 image" if len(unreadable) == 1 else f"{len(unreadable):,} images"
        raise InputError(f"{told} could not be read or embedded: repair or remove what is named above")
