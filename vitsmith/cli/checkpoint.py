"""What several verbs ask of a checkpoint, and what they say of one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitsmith.cli.output import say

if TYPE_CHECKING:
    from vitsmith.weights.bundle import Bundle

ImageSizeOption = Annotated[
    str,
    typer.Option(
        "--image-size",
        help="Of a checkpoint whose arrays do not show it: pixels, as 384, or as 224x320 (height x width).",
    ),
]


def open_model(model: str, image_size: str = "", *, labels: Path | None = None, **options: Any) -> Bundle:
    """The bundle that a verb was given, or what `load` makes of a checkpoint; tells what had to be assumed of one.

    `options` are those of `load`. Raises InputError as it does, and for a size that cannot be read.
    """
    from vitsmith.weights.checkpoints import assumed, load
    from vitsmith.weights.labels import with_labels

    bundle = load(model, image_size=parse_size(image_size), **options)
    for note in assumed(bundle):
        say(note)
    return with_labels(bundle, labels)


def parse_size(text: str) -> int | tuple[int, int] | None:
    """'384' -> 384, '224x320' -> (224, 320), '' -> None. Raises InputError."""
    from vitsmith.errors import InputError, shown

    if not text:
        return None
    match = re.fullmatch(r"(\d{1,6})(?:[x,](\d{1,6}))?", text.strip(), re.ASCII)
    if match is None:
        raise InputError(f"--image-size {shown(text)}: give pixels, as 384 or 224x320 (height x width)")
    return int(match[1]) if match[2] is None else (int(match[1]), int(match[2]))
