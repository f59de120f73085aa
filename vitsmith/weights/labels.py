"""Label names from a file, for checkpoints that come without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from vitsmith.errors import InputError
from vitsmith.specs import Labels
from vitsmith.weights.bundle import Bundle


def with_labels(bundle: Bundle, path: Path | None) -> Bundle:
    """The bundle with the names in `path`, one a line in the order of the logits; unchanged for None.

    Raises InputError for a file that cannot be read, repeated names, or another number of names than classes.
    """
    if path is None:
        return bundle
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip())
        labels = Labels(names=names)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give a text file with one class name a line") from None
    except (ValidationError, UnicodeDecodeError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "it is not text"
        raise InputError(f"{path} is not a list of class names: {reason}") from None
    if len(labels) != bundle.classes:
        raise InputError(f"{path} names {len(labels)} classes, the model has {bundle.classes}")
    return replace(bundle, labels=labels)
