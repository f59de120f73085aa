"""Options that are numbers: NaN and infinity are refused, for every verb at once."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import typer


def with_finite_numbers(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb, which refuses 'nan' and 'inf' for any option: Python reads them as numbers, and compares them as none.

    Raises typer.BadParameter that names the option.
    """

    @functools.wraps(verb)
    def checked(**given: object) -> None:
        for name, value in given.items():
            if isinstance(value, float) and not math.isfinite(value):
                option = "--" + name.strip("_").replace("_", "-")
                raise typer.BadParameter(f"{value} is no number to work with: give a finite one", param_hint=option)
        verb(**given)

    return checked
