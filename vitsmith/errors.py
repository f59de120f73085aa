"""All errors of vitsmith, in one tree.

VitsmithError                 exit code 1
├── InputError                exit code 2: wrong use or bad input; nothing was changed
│   ├── UnknownNameError      a name that is not in a list; the message has similar names
│   ├── ConfigError           a configuration with mistakes; the message lists all of them
│   ├── ImageError            bytes that are not an image, or one that we refuse to decode
│   ├── DatasetError          a folder or data set that cannot be used
│   ├── WeightsError          arrays that are missing, unused, misshapen or unreadable
│   ├── BundleError           a bundle whose files are changed, missing or of another version
│   ├── NotFiniteError        weights, outputs or numbers that are NaN or infinite
│   ├── DownloadError         a checkpoint that could not be downloaded completely
│   ├── OutputError           a place that cannot be written
│   ├── MissingPackageError   an optional package is missing; the message has the install command
│   └── Interrupted           Ctrl-C or SIGTERM, with everything saved; the message says how to resume
└── GateError                 exit code 3: a transformation changed the outputs too much
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence


class VitsmithError(Exception):
    """Base of all errors that vitsmith raises on purpose. `exit_code` is what the command line returns."""

    exit_code = 1


class InputError(VitsmithError):
    """Wrong use or bad input: the user can correct it, and nothing was changed."""

    exit_code = 2


class UnknownNameError(InputError):
    """A name that is not in a known list. `aliases` are other spellings of the known names, to find similar ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str], aliases: Mapping[str, str] | None = None) -> None:
        name = name if isinstance(name, str) else shown(name)
        self.kind, self.name, self.known = kind, name, sorted(known)
        super().__init__(f"unknown {kind} {name!r}: {suggestion(name, self.known, aliases=aliases)}")


class ConfigError(InputError):
    """A configuration with mistakes; the message lists all of them."""


class ImageError(InputError):
    """Bytes that are not an image, or one we refuse to decode."""


class DatasetError(InputError):
    """A folder or data set that cannot be used as it is."""


class WeightsError(InputError):
    """Arrays that are missing, unused, misshapen or unreadable."""


class BundleError(InputError):
    """A bundle whose files are changed, missing or of another format version."""


NOT_FINITE = "not finite (NaN or infinity)"
"""The words for such a number in every message."""


class NotFiniteError(InputError):
    """Weights, outputs or numbers that are NaN or infinite: see `vitsmith.finite`."""


class DownloadError(InputError):
    """A checkpoint that could not be downloaded completely."""


class OutputError(InputError):
    """A place that cannot be written."""


class MissingPackageError(InputError):
    """An optional package that is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"this needs {package}, which is not installed: run  pip install 'vitsmith[{extra}]'")


EXTRAS = {"torch": "torch", "scipy": "torch", "accelerate": "torch", "onnx": "export", "onnxscript": "export"}
"""Packages that many files import first, and the extra that installs each."""


def missing_package(error: BaseException) -> MissingPackageError | None:
    """The error for a failed import of one of EXTRAS; None for any other error."""
    package = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    return MissingPackageError(package, EXTRAS[package]) if package in EXTRAS else None


class Interrupted(InputError):  # noqa: N818
    """Ended by Ctrl-C or SIGTERM after everything was saved; the message says how to resume."""


class GateError(VitsmithError):
    """A transformation changed the outputs more than allowed; nothing was written."""

    exit_code = 3


def about(name: str, message: str) -> str:
    """'name: message'; the message alone where it already begins with the name."""
    rest = message.removeprefix(name)
    return message if rest != message and rest[:1] in (":", " ") else f"{name}: {message}"


def bare(name: str, message: str) -> str:
    """The message without 'name: ' at its beginning, for a sentence that has said the name."""
    return message.removeprefix(f"{name}: ")


def suggestion(name: str, known: Iterable[str], *, aliases: Mapping[str, str] | None = None, limit: int = 4) -> str:
    """'did you mean ...?' with the closest of `known`, or the list when no name is similar; a short list sooner."""
    listed = sorted(known)
    least = 0.6 if len(listed) <= 12 else 0.5
    by_lower: dict[str, list[str]] = {}
    for spelling, meant in (*((candidate, candidate) for candidate in listed), *(aliases or {}).items()):
        by_lower.setdefault(spelling.lower(), []).append(meant)  # several: ViT-g_14 and ViT-G_14
    matches = difflib.get_close_matches(name.lower(), by_lower, n=3 * limit, cutoff=least)
    close = list(dict.fromkeys(meant for match in matches for meant in by_lower[match]))[:limit]
    if close:
        return "did you mean " + " or ".join(close) + "?"
    more = f", ... ({len(listed)} in all)" if len(listed) > 12 else ""
    return "known are " + ", ".join(listed[:12]) + more


def shown(value: object, most: int = 60) -> str:
    """The value for a message: its repr in one line, shortened when it is long."""
    try:
        text = repr(value[: most + 1] if isinstance(value, str | bytes) else value)
    except RecursionError:
        return f"a deeply nested {type(value).__name__}"
    text = " ".join(text.split())
    return text if len(text) <= most + 2 else f"{text[:most]}..."


def shown_names(names: Sequence[str], most: int = 3) -> str:
    """The first names for a message, in quotes: "'a.jpg', 'b.jpg', 'c.jpg', ..."."""
    return ", ".join(map(repr, names[:most])) + (", ..." if len(names) > most else "")


def counted(count: int, what: str) -> str:
    """'1 image', '1,200 images'."""
    return f"{count:,} {what}{'s' * (count != 1)}"
