"""The steps that change a text before it is cut into pieces, each as its source has it."""

from __future__ import annotations

import html
import re
import string
from collections.abc import Callable

from vitsmith.errors import InputError, MissingPackageError
from vitsmith.text_spec import Cleaning, TextSpec

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_CAPITALS = re.compile("[A-Z]+")


def clean(text: str, spec: TextSpec) -> str:
    """The text after the steps of `spec.cleaning`, and of `spec.canonicalize`, which comes first.

    Raises MissingPackageError for a text that needs ftfy where it is not installed, InputError for one with a word of
    `spec.reserved`, before or after a step.
    """
    if spec.canonicalize:
        text = canonicalize(text)
    _check_reserved(text, spec)
    for step in spec.cleaning:
        text = _STEPS[step](text)
        _check_reserved(text, spec)
    return text


def _check_reserved(text: str, spec: TextSpec) -> None:
    """Whatever the case: some sources lower it before they look for these words."""
    word = next((word for word in spec.reserved if word.lower() in text.lower()), None)
    if word is not None:
        raise InputError(
            f"{text!r} has {word!r}, of which this model's own tokenizer makes one token, and ours does not: leave "
            "that word out"
        )


def canonicalize(text: str) -> str:
    """Turn '_' into a space, drop ASCII punctuation, lower the case and join spaces, as big_vision does for SigLIP."""
    return _join_spaces(_drop_punctuation(text.replace("_", " ")).lower())


def _repair(text: str) -> str:
    """Mend text that was decoded wrongly, straighten quotes, drop control characters (`ftfy.fix_text`).

    Printable ASCII without '&' stays as it is: then ftfy is not needed.
    """
    if text.isascii() and text.isprintable() and "&" not in text:
        return text
    try:
        import ftfy
    except ImportError:
        raise MissingPackageError("ftfy", "text") from None
    repaired: str = ftfy.fix_text(text)
    return repaired


def _unescape_twice(text: str) -> str:
    """'&amp;lt;' becomes '<'; spaces at both ends go."""
    return html.unescape(html.unescape(text)).strip()


def _join_spaces(text: str) -> str:
    return " ".join(text.split())


def _lower_ascii(text: str) -> str:
    """Lower A to Z alone, as `tf.strings.lower` does."""
    return _CAPITALS.sub(lambda found: found[0].lower(), text)


def _drop_punctuation(text: str) -> str:
    return text.translate(_PUNCTUATION)


_STEPS: dict[Cleaning, Callable[[str], str]] = {
    "ftfy": _repair,
    "html": _unescape_twice,
    "spaces": _join_spaces,
    "lower": str.lower,
    "ascii_lower": _lower_ascii,
    "punctuation": _drop_punctuation,
    "canonical": canonicalize,
}
