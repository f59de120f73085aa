"""Check the arguments of Python callers: whole numbers, names from a list, flags."""

from __future__ import annotations

import functools
import operator
import os
import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import MISSING, fields, is_dataclass
from numbers import Real
from pathlib import Path
from types import UnionType
from typing import Any, ParamSpec, TypeVar

from vitsmith.errors import InputError, UnknownNameError, shown

P = ParamSpec("P")
R = TypeVar("R")
Tell = Callable[[str], None]
"""A function that is given messages, a line each."""


def warn(told: str) -> None:
    """Shows a verb's message as a Python warning if it is a warning, and drops it otherwise."""
    if told.startswith("warning: "):
        warnings.warn(told.removeprefix("warning: "), stacklevel=4)


MOST_THREADS = 1024
MOST_AT_ONCE = 65_536
"""Largest batch, in images: more than any memory holds as tensors of 224 x 224."""


def named_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, which refuses an argument by a name that it does not have, and says what to write.

    That is a similar name that it has, or the options object that has this one: `options=vitsmith.IndexOptions(...)`.
    """
    code = function.__code__
    known = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    called = function.__qualname__.removesuffix(".__init__")

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name, value in kwargs.items():
            if name not in known:
                if (written := _as_option(function, name, value)) is not None:
                    raise InputError(f"{called} has no argument {name!r}: write it as  {written}")
                raise UnknownNameError(f"argument of {called}", name, [one for one in known if one != "self"])
        return function(*args, **kwargs)

    return checked


def _as_option(function: Callable[..., Any], name: str, value: Any) -> str | None:
    """How `name` is given by an argument whose dataclass, all optional, has it as a field; None if none has."""
    for argument, annotation in function.__annotations__.items():
        for word in re.findall(r"\w+", str(annotation)) if argument != "return" else ():
            kind = function.__globals__.get(word)
            listed = fields(kind) if isinstance(kind, type) and is_dataclass(kind) else ()
            optional = all(one.default is not MISSING or one.default_factory is not MISSING for one in listed)
            if optional and any(one.name == name and one.init for one in listed):
                return f"{argument}=vitsmith.{word}({name}={shown(value)})"
    return None


def whole_number(value: Any, what: str, *, least: int = 1, most: int | None = None) -> int:
    """`value` as an int, also from NumPy; not True, 2.0 or '2'. Raises InputError, which names `what`."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        bounds = f"of at least {least:,}" if most is None else f"from {least:,} to {most:,}"
        raise InputError(f"{what} must be a whole number {bounds}, not {shown(value)}")
    return number


def share(value: Any, what: str) -> float:
    """`value` as a float, which is at least 0 and below 1, also from NumPy. Raises InputError, which names `what`."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value < 1:  # type: ignore[operator]
        raise InputError(f"{what} must be a number of at least 0 and below 1, not {shown(value)}")
    return float(value)


def flag(value: Any, what: str) -> bool:
    """`value` as a bool, from True, False, 1 or 0. Raises InputError: any other text or list would count as True."""
    if type(value).__name__ not in ("bool", "bool_", "int") or value not in (0, 1):
        raise InputError(f"{what} must be True or False, not {shown(value)}")
    return bool(value)


def instance(value: Any, kinds: type | tuple[type, ...] | UnionType, what: str, expected: str) -> Any:
    """`value`, one of `kinds`. Raises InputError: '`what` must be `expected`, not ...'."""
    if not isinstance(value, kinds):
        raise InputError(f"{what} must be {expected}, not {shown(value)}")
    return value


def function(value: Any, what: str) -> Any:
    """`value`, which can be called. Raises InputError."""
    if not callable(value):
        raise InputError(f"{what} must be a function, not {shown(value)}")
    return value


def path(value: Any, what: str) -> Path:
    """A path from text or bytes. Raises InputError for anything else, and for names that no file system allows."""
    instance(value, (str, bytes, os.PathLike), what, "a path")
    try:
        text = os.fsdecode(value)
        possible = bool(text) and b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        possible = False
    if not possible:
        raise InputError(f"{what} is {shown(value)}, which cannot be the name of a file: give a path")
    return Path(text)


def known_name(value: Any, what: str, known: Iterable[str]) -> str:
    """`value`, one of `known`. Raises InputError if it is not text, UnknownNameError with similar names."""
    listed = tuple(known)
    if not isinstance(value, str):
        raise InputError(f"{what} must be one of {', '.join(listed)}, not {shown(value)}")
    if value not in listed:
        raise UnknownNameError(what, value, listed)
    return value
