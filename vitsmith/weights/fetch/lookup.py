"""Which published file a name means, or what else it names: an architecture, a model of Hugging Face, nothing."""

from __future__ import annotations

import os
import re
from pathlib import Path

from vitsmith.errors import InputError, UnknownNameError, suggestion
from vitsmith.models.presets import find_preset
from vitsmith.weights.containers.file_choice import WEIGHTS_SUFFIXES
from vitsmith.weights.fetch.hub.known_models import close_names, weights_of
from vitsmith.weights.fetch.published import PublishedFile, checkpoints, checkpoints_of, find_checkpoint

_PAGE = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/([\w.-]+/[\w.-]+)")
"""The address of a model's page, and the model."""


def _of_hub(source: str) -> str:
    """Advice on a name that looks like one of Hugging Face, as 'google/vit-base-patch16-224'; '' for others."""
    if page := _PAGE.match(source):
        return f"; if it is a model of Hugging Face, write hf:{page[1]}"
    owner = source.partition("/")[0]
    if not re.fullmatch(r"[\w.-]+/[\w-]+", source) or source.startswith(".") or os.path.exists(owner):  # noqa: PTH110 - of any text
        return ""
    return f"; if it is a name of Hugging Face, write hf:{source}"


def _close_tags(source: str) -> str:
    """'nor a published checkpoint' and the closest, for an architecture and a variant, as 'B/16.san'; else ''."""
    model, _, variant = source.partition(".")
    preset = None if Path(source).suffix.lower() in WEIGHTS_SUFFIXES else _preset_name(model)
    if preset is None or not variant:
        return ""
    close = close_names(source) or close_names(f"{preset}.{variant}")
    return f", nor a published checkpoint{close and f': {close}'}"


def published_file(source: str) -> PublishedFile:
    """The published checkpoint of a tag. Raises InputError for a missing file or an unknown name."""
    try:
        checkpoint = find_checkpoint(source)
    except UnknownNameError:
        if Path(source).suffix or set("/\\") & set(source.strip("./")) or source.startswith((".", "~", "/")):
            raise InputError(f"{source}: no such file or folder{_of_hub(source) or _close_tags(source)}") from None
        preset = _preset_name(source)
        if preset is None:
            tags = [row.tag for row in checkpoints()]
            raise InputError(
                f"{source!r} is neither a file, a folder nor a published checkpoint: {suggestion(source, tags)}"
            ) from None
        rows = [row.tag for row in checkpoints_of(preset)]
        known = f"its published checkpoints: {', '.join(rows[:6])}" if rows else "it has no published checkpoint"
        if hub := weights_of(preset):
            known = f"weights of the hub: {', '.join(hub[:3])}"
        raise InputError(
            f"{source!r} is an architecture, not a file of weights: create_model() gives fresh ones; {known}"
        ) from None
    return checkpoint


def _preset_name(source: str) -> str | None:
    try:
        return find_preset(source)[0].name
    except UnknownNameError:
        return None
