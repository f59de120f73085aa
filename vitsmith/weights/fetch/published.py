"""The published checkpoints of the original, as rows of data (published.csv): what exists, where, and its facts.

A checkpoint is named `<model>.<tag>`: `ViT-B_16.imagenet21k`, `ViT-B_16.imagenet21k+imagenet2012` (384 pixels; `-224`
is the other), `ViT-B_16.augreg-i21k`, `ViT-B_16.augreg-imagenet2012-384`, `ViT-B_16.sam`, `Mixer-B_16.gsam`,
`LiT-B16B_2.lit`. An empty cell means that no source says it; a source without a repository is a file of
google-research/vision_transformer. The 50,000 other AugReg files are found by augreg.py.
"""

from __future__ import annotations

import csv
import functools
from collections import defaultdict
from importlib import resources
from typing import Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field

from vitsmith.errors import InputError, UnknownNameError
from vitsmith.fields import Frozen
from vitsmith.models.presets import find_preset


class PublishedFile(Frozen):
    """One published file."""

    tag: str = Field(description="how the user names it: '<model>.<tag>'")
    model: str = Field(description="canonical name of its architecture; the ViTs trained with GSAM are mean-pooled")
    url: str = Field(description="address of the .npz, percent-encoded ('+' in a path is %2B)")
    size_mib: float | None = Field(None, description="as the source prints it; those over 1,000 are good to 5 MiB")
    resolution: int = Field(gt=0, description="side of the square images it was trained on, in pixels")
    classes: int | None = Field(None, gt=0, description="width of its head; None for LiT, which has none")
    dataset: str = Field(description="what it was trained on last")
    accuracy: float | None = Field(None, description="ImageNet top-1 in %; zero-shot for LiT")
    vocabulary: str = Field("", description="address of the tokenizer's vocabulary, for LiT (vit_jax/models_lit.py)")
    source: str = Field(description="where this row's facts come from")

    @property
    def stem(self) -> str:
        """The file's name without '.npz'."""
        return _stem(self.url)


class PublishedAccuracy(Frozen):
    """The best published accuracy of an architecture whose own files state none, as rows of accuracies.csv."""

    model: str = Field(description="canonical name of its architecture")
    accuracy: float = Field(gt=0, lt=100, description="ImageNet top-1 in %")
    resolution: int = Field(gt=0, description="side of the square images, in pixels")
    kind: Literal["fine-tuned", "linear probe", "zero-shot"]
    weights: str = Field(description="name of the weights there")
    source: str = Field(description="where this row's facts come from")


@functools.cache
def checkpoints() -> tuple[PublishedFile, ...]:
    """All published checkpoints with a row of their own, in the order of the table."""
    return tuple(PublishedFile.model_validate(row) for row in _rows("published.csv"))


@functools.cache
def accuracies() -> tuple[PublishedAccuracy, ...]:
    """The accuracies of architectures that no published checkpoint states, in the order of the table."""
    return tuple(PublishedAccuracy.model_validate(row) for row in _rows("accuracies.csv"))


def _rows(name: str) -> list[dict[str, str]]:
    """The cells of a table that are not empty."""
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    return [{name: cell for name, cell in row.items() if cell} for row in csv.DictReader(text.splitlines())]


def find_checkpoint(name: str) -> PublishedFile:
    """The checkpoint that `name` means: its tag in any case, its file's name, or its address (https:// or gs://).

    The model in a tag may be spelled in any way that `find_preset` knows: 'B/16.sam'. Raises UnknownNameError with
    the closest tags, and InputError for a file name that several buckets share ('ViT-B_16').
    """
    if "://" in name:
        found = [row for row in checkpoints() if _address(row.url) == _address(name)]
    else:
        found = _by_name().get(name.lower(), []) or _by_alias(name)
    if not found:
        raise UnknownNameError("checkpoint", name, [row.tag for row in checkpoints()])
    if len(found) > 1:
        raise InputError(f"{name!r} names {len(found)} checkpoints; choose one: {', '.join(row.tag for row in found)}")
    return found[0]


def checkpoints_of(model: str) -> tuple[PublishedFile, ...]:
    """The checkpoints of one architecture, by any of its names; () when none was published.

    Raises UnknownNameError for a name that is no architecture.
    """
    exact = tuple(row for row in checkpoints() if row.model == model)
    if exact:
        return exact
    canonical = find_preset(model)[0].name
    return tuple(row for row in checkpoints() if row.model == canonical)


@functools.cache
def _by_name() -> dict[str, list[PublishedFile]]:
    """Rows by tag, by architecture and tag, and by file name, all in lower case."""
    named = defaultdict(list)
    for row in checkpoints():
        kind = row.tag.partition(".")[2]
        for name in dict.fromkeys((row.tag.lower(), f"{row.model}.{kind}".lower(), row.stem.lower())):
            named[name].append(row)
    return dict(named)


def _by_alias(name: str) -> list[PublishedFile]:
    model, dot, kind = name.partition(".")
    if not dot:
        return []
    try:
        canonical = find_preset(model)[0].name
    except UnknownNameError:
        return []
    return _by_name().get(f"{canonical}.{kind}".lower(), [])


def _address(url: str) -> str:
    """'bucket/path', whatever the scheme, the host (a mirror) and the encoding."""
    parts = urlsplit(url)
    bucket = f"/{parts.netloc}" if parts.scheme == "gs" else ""
    return bucket + unquote(parts.path)


def _stem(url: str) -> str:
    return unquote(urlsplit(url).path).rpartition("/")[2].removesuffix(".npz")
