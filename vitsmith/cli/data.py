"""`--data` and the columns of it, as every verb that judges by labels has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vitsmith.data.datasets import DataSpec

ImageColumnOption = Annotated[
    str, typer.Option(help="Column of --data with paths or images, where it has no usual name.")
]
LabelColumnOption = Annotated[str, typer.Option(help="Column of --data with labels, where it has no usual name.")]


def labelled(data: str, image_column: str = "", label_column: str = "") -> DataSpec:
    """What `--data` and its columns describe. Raises InputError for columns of no data."""
    from vitsmith.data.datasets import DataSpec
    from vitsmith.errors import InputError

    if not data and (image_column or label_column):
        raise InputError("--image-column and --label-column are of --data: give that too")
    return DataSpec(path=data, image_column=image_column, label_column=label_column)
