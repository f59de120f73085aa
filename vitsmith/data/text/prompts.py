"""Prompt templates: they turn a label into a sentence like those that the text tower was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path

from vitsmith.data.text.label_file import parse_templates, read_text
from vitsmith.errors import InputError, UnknownNameError, suggestion
from vitsmith.text_spec import PLACE, wrong_templates


def template_sets() -> list[str]:
    """The names of the sets of templates that come with vitsmith."""
    folder = resources.files("vitsmith.data") / "templates"
    return sorted(entry.name.removesuffix(".txt") for entry in folder.iterdir() if entry.name.endswith(".txt"))


@cache
def named_templates(name: str) -> tuple[str, ...]:
    """The templates of a set: 'clip' (the 80 of its paper), 'lit' (the original's eight), 'simple' (one).

    Raises UnknownNameError.
    """
    if name not in template_sets():
        raise UnknownNameError("set of templates", name, template_sets())
    text = (resources.files("vitsmith.data") / "templates" / f"{name}.txt").read_text(encoding="utf-8")
    return tuple(parse_templates(text, name))


def read_templates(given: str) -> tuple[str, ...]:
    """A set by its name, a file with one template on each line ('#' begins a comment), or a template itself.

    Raises InputError for an unknown name, a file that cannot be read, and templates without exactly one {}.
    """
    if given in template_sets():
        return named_templates(given)
    if PLACE in given:
        if reason := wrong_templates((given,)):
            raise InputError(reason)
        return (given,)
    if is_file(given):
        return read_template_file(given)
    raise InputError(
        f"{given!r} is neither a set of templates, nor a file, nor a template with {PLACE}: "
        f"{suggestion(given, template_sets())}"
    )


def read_template_file(path: str) -> tuple[str, ...]:
    """The templates in a file, one on each line ('#' begins a comment). Raises InputError as `read_templates`."""
    templates = parse_templates(read_text(path, "templates"), path)
    if not templates:
        raise InputError(f"{path} holds no templates: write one on each line, as 'a photo of a {PLACE}.'")
    if reason := wrong_templates(templates):
        raise InputError(f"{path}: {reason}")
    return tuple(dict.fromkeys(templates))


def is_file(given: str) -> bool:
    """Whether there is a file of that name; a text that cannot be a file name, such as a very long one, is none."""
    try:
        return Path(given).is_file()
    except (OSError, ValueError):
        return False


def fill_templates(templates: Sequence[str], label: str) -> list[str]:
    """Put the label in place of the {} of each template; braces in the label itself have no meaning."""
    return [template.replace(PLACE, label) for template in templates]
