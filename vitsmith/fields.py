"""The base of descriptions: checked numbers, and frozen fields whose mistakes are listed in one line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from vitsmith.errors import ConfigError, shown


def _number(value: Any) -> Any:
    """Refuse what is not a number: Pydantic would read True as 1 and '12' as 12."""
    if isinstance(value, bool | str | bytes):
        raise ValueError(f"must be a number, not {shown(value)}")
    return value


Number = BeforeValidator(_number)
"""For fields that take numbers only, not values that can be converted to one."""
PositiveInt = Annotated[int, Field(gt=0), Number]
Pixels = Annotated[int, Field(gt=0, le=32_768), Number]
"""A side of an image; the limit is far beyond what attention over patches can hold."""
Level = Annotated[int, Field(ge=0, le=255), Number]
"""A value of a pixel of 8 bits."""
Finite = Annotated[float, Field(allow_inf_nan=False), Number]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), Number]
Triple = tuple[Finite, Finite, Finite]

_MOST_TOLD = 10
_WORDS = {
    "extra_forbidden": "unknown field",
    "missing": "is missing",
    "tuple_type": "must be a list",
    "too_short": "has too few values",
    "too_long": "has too many values",
    "model_type": "must be an object",
}
"""Kinds of mistakes -> our words for them, where pydantic's own are those of its types."""
_CHOICE = re.compile(r"(function-\w+|tuple)\[")
"""How pydantic's names of the choices of a field begin, which it puts at the end of a place."""


def mistakes_in(error: ValidationError, *, skip: int = 0) -> str:
    """Every mistake in one line, as "mean.2: Input should be a valid number (got 'x')"; at most the first ten.

    `skip` leaves out this many parts at the beginning of each place.
    """
    told = []
    for mistake in error.errors()[:_MOST_TOLD]:
        where = ".".join(_part(part) for part in mistake["loc"][skip:] if not _CHOICE.match(str(part)))
        what = _WORDS.get(mistake["type"], mistake["msg"].removeprefix("Value error, "))
        plain = mistake["type"] == "value_error" or isinstance(mistake["input"], dict)
        got = "" if plain else f" (got {shown(mistake['input'])})"
        told.append(f"{where}: {what}{got}" if where else what)
    if (left := error.error_count() - _MOST_TOLD) > 0:
        told.append(f"and {left} more")
    return "; ".join(told)


def _part(part: int | str) -> str:
    return str(part) if isinstance(part, int) or part.isidentifier() else shown(part)


AS_FOUND = "as found"
"""Pydantic's context for reading files: names of classes are kept even if vitsmith would refuse to write them."""


if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)


class _Constructed(ModelMetaclass):
    def __call__(cls, *arguments: Any, **fields: Any) -> Any:  # noqa: N805 - of a metaclass
        """Turn mistakes of a caller into one line; validation of files keeps pydantic's own errors."""
        try:
            return super().__call__(*arguments, **fields)
        except ValidationError as error:
            raise ConfigError(f"{cls.__name__}: {mistakes_in(error)}") from None
        except TypeError as error:  # positional arguments
            raise ConfigError(f"{cls.__name__}: {error}") from None


class Frozen(BaseModel, metaclass=_Constructed):
    """A description: immutable; an unknown field is an error, and so is a number that is NaN or infinite.

    Raises ConfigError, with every mistake in one line, when it is constructed from wrong values.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
