"""Label names for checkpoints that have none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vitsmith.data.text.label_file import read_class_names
from vitsmith.errors import InputError
from vitsmith.specs import Labels
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.metadata import miscounted


def with_labels(bundle: Bundle, given: Path | Sequence[str] | None) -> Bundle:
    """The bundle with the names given, or with those in a file, one a line, in the order of the logits.

    None leaves it unchanged. Several classes may have the same name. Raises InputError for a file that is no such list,
    see `vitsmith.data.text.label_file`, and if the numbers of names and classes differ.
    """
    if given is None:
        return bundle
    where, names = (given, read_class_names(given)) if isinstance(given, Path) else ("`labels`", tuple(given))
    if len(names) != bundle.classes:
        hint = miscounted(names, bundle.classes)
        raise InputError(f"{where} names {len(names)} classes, the model has {bundle.classes}{hint}")
    return replace(bundle, labels=Labels(names=names))
