"""Reads PLACES, which are indexes, image folders and images, for the verbs that sort them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitsmith.cli.arguments.completion import models
from vitsmith.cli.arguments.images import sources_of
from vitsmith.cli.arguments.inputs import open_model, tell_choice

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
