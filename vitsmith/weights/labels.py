"""Label names for checkpoints that have none: those that the user gives, and those of published files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vitsmith.data.text.class_lists import CLASS_LISTS, class_list, list_of_size
from vitsmith.data.text.label_file import read_class_names
from vitsmith.errors import InputError
from vitsmith.specs import Labels
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.metadata import miscounted


def with_labels(bundle: Bundle, given: Path | Sequence[str] | None) -> Bundle:
    """The bundle with the names given, or with those in a file, one a line, in the order of the logits.

    One of `CLASS_LISTS`, as 'imagenet-1k', stands for its names, and None leaves the bundle unchanged. Several classes
    may have the same name. Raises InputError for a file that is no such list, see `vitsmith.data.text.label_file`, and
    if the numbers of names and classes differ.
    """
    if given is None:
        return bundle
    if not isinstance(given, Path) and len(given) == 1 and given[0] in CLASS_LISTS:
        given = Path(given[0])
    if not bundle.classes and bundle.text is not None:
        raise InputError(
            f"{bundle.where} has no classes to be named, it matches images with words: give them to  vitsmith zeroshot"
        )
    where, names = (given, read_class_names(given)) if isinstance(given, Path) else ("`labels`", tuple(given))
    if len(names) != bundle.classes:
        hint = miscounted(names, bundle.classes)
        raise InputError(f"{where} names {len(names)} classes, the model has {bundle.classes}{hint}")
    return replace(bundle, labels=Labels(names=names))


_PUBLISHED = {"imagenet2012": "imagenet-1k", "imagenet21k": "imagenet-21k"}
"""What Google's files were trained on -> the list of its classes."""


def published_labels(dataset: str, classes: int) -> Labels | None:
    """The names of a published file's classes; None for another data set, and for a head of another width."""
    name = _PUBLISHED.get(dataset)
    return Labels(names=class_list(name)) if name is not None and name == list_of_size(classes) else None


def missing_labels(bundle: Bundle) -> str:
    """How to add names to a model that has none, if the number of its classes is ImageNet's; '' otherwise."""
    name = None if bundle.labels is not None else list_of_size(bundle.classes)
    if name is None:
        return ""
    return f"its {bundle.classes:,} classes have no names; if they are those of ImageNet, add  --labels-file {name}"
