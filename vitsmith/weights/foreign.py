"""Reads ViTs and Mixers of timm, and ViTs of HF transformers, with their preprocessing and labels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from vitsmith.errors import ConfigError, WeightsError
from vitsmith.fields import mistakes_in
from vitsmith.files.contents import content_of, not_weights
from vitsmith.models.build import ImageModel
from vitsmith.models.config import ImageModelConfig
from vitsmith.models.configure import change
from vitsmith.models.lit import LiT
from vitsmith.models.presets import check_name
from vitsmith.records import NOT_KNOWN, Publication
from vitsmith.specs import Head, ImageSpec, Labels
from vitsmith.weights.containers.tensors import SafetensorsFile, TorchFile, is_index
from vitsmith.weights.fill import ArrayFile, load_model
from vitsmith.weights.folders import weights_in
from vitsmith.weights.heads import assumed_head
from vitsmith.weights.hf.config import HFConfig, hf_head, hf_labels, infer_hf_config, unsaid
from vitsmith.weights.hf.images import HFPreprocessor, hf_images, hf_notes
from vitsmith.weights.hf.names import hf_slots, naming_of, prefix_of
from vitsmith.weights.jax.checkpoint import check_head
from vitsmith.weights.layouts import Slot
from vitsmith.weights.metadata import miscounted, read_metadata
from vitsmith.weights.timm.config import PATCHES, STEM, has_class_position, infer_timm_config, timm_notes
from vitsmith.weights.timm.images import TimmMetadata, timm_images, timm_labels, timm_publication
from vitsmith.weights.timm.names import timm_slots

HF_PATCHES = "embeddings.patch_embeddings.projection.weight"


@dataclass(frozen=True)
class ForeignModel:
    """A model in eval mode with what came with it; `notes` says what had to be assumed."""

    model: ImageModel
    images: ImageSpec
    labels: Labels | None
    format: Literal["timm", "hf"]
    notes: tuple[str, ...]
    head: Head = "softmax"
    """What its outputs mean."""
    publication: Publication = NOT_KNOWN
    """Its publisher and licence, if the JSON files have them."""


@dataclass(frozen=True)
class _Reading:
    """What was found in a file. `head` is the classifier's name there."""

    format: Literal["timm", "hf"]
    config: ImageModelConfig
    slots: dict[str, Slot]
    head: str
    images: ImageSpec
    labels: Callable[[], Labels | None]
    """Reads the labels, or raises WeightsError. Not called if the classifier is left out."""
    meaning: Callable[[ImageModel], tuple[Head, tuple[str, ...]]]
    """Returns what the classifier's outputs mean, and notes on it. Not called if the classifier is left out."""
    notes: tuple[str, ...]
    publication: Publication = NOT_KNOWN


def load_foreign(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    image_size: tuple[int, int] | None = None,
    headless: bool = False,
) -> ForeignModel:
    """A plain ViT or Mixer of timm, or a ViT of HF, with the preprocessing and labels it was published with.

    Args:
        path: a file of safetensors or of torch.save, whatever it is called, or a folder with such weights. A
            `config.json` (and HF's `preprocessor_config.json`) beside the weights is read: HF's must be there,
            without timm's the preprocessing is assumed.
        name: the expected architecture; another one in the file is a WeightsError.
        image_size: (height, width); needed only without a config.json, for grids that are not square and for timm's
            models that have no position for their class token.
        headless: leave the classifier out; the model then gives features.

    Raises WeightsError for anything missing, unexpected, misshapen, damaged or pickled, for what our models or
    preprocessing cannot do (each named), for a head of zeros, and for labels of another number of classes.
    """
    place, beside = Path(path), tuple[str, ...]()
    if place.is_dir():
        place, beside = weights_in(place)
    with _open(place) as file:
        reading = _read_hf(file, image_size) if _is_hf(file) else _read_timm(file, image_size)
        if name is not None:
            check_name(reading.config, name, str(file.path))
        config, slots, unused = reading.config, reading.slots, frozenset[str]()
        if headless:
            config = change(config, classes=0)
            heads = (reading.head, f"{reading.head}_dist")
            unused = frozenset(f"{head}.{kind}" for head in heads for kind in ("weight", "bias"))
            slots = {array: slot for array, slot in slots.items() if array not in unused}
        model = load_model(config, slots, file, unused=unused)
        assert not isinstance(model, LiT)
    check_head(model, str(file.path), headless=headless, kernel=f"{reading.head}.weight")
    labels = None if headless else _labels(reading, file)
    head, told = ("softmax", ()) if headless or not config.classes else reading.meaning(model)
    notes = (*reading.notes, *told, *_container_notes(file), *beside)
    return ForeignModel(model, reading.images, labels, reading.format, notes, head, reading.publication)


def _read_timm(file: ArrayFile, image_size: tuple[int, int] | None) -> _Reading:
    if PATCHES not in file.shapes and STEM not in file.shapes:
        shown = ", ".join(sorted(file.shapes)[:4]) or "nothing"
        raise WeightsError(f"{file.path}: not the arrays of a timm ViT or Mixer or an HF ViT (they begin with {shown})")
    metadata = read_metadata(file.path.with_name("config.json"), TimmMetadata)
    with _explained(file):
        config = infer_timm_config(file, metadata, image_size=image_size)
    slots = timm_slots(config, class_position=has_class_position(file, config))
    with _described(file):
        images = timm_images(config, metadata, str(file.path))
    labels = partial(timm_labels, metadata, str(file.path))
    notes = timm_notes(file, config, metadata, images, image_size=image_size is not None)
    meaning = partial(assumed_head, name=file.path.name)
    return _Reading("timm", config, slots, "head", images, labels, meaning, notes, timm_publication(metadata))


def _read_hf(file: ArrayFile, image_size: tuple[int, int] | None) -> _Reading:
    metadata = read_metadata(file.path.with_name("config.json"), HFConfig)
    if metadata is None:
        raise WeightsError(
            f"{file.path}: an HF model needs its config.json beside it: heads, GELU and LayerNorm eps are only there"
        )
    preprocessor = read_metadata(file.path.with_name("preprocessor_config.json"), HFPreprocessor)
    with _explained(file):
        config = infer_hf_config(file, metadata)
        if image_size is not None:
            config = change(config, image_size=image_size)
    names = set(file.shapes)
    slots = hf_slots(config, naming_of(names), prefix_of(names))
    with _described(file):
        images = hf_images(preprocessor, config.image_size, str(file.path))
    labels = partial(hf_labels, metadata, str(file.path))

    def meaning(_: ImageModel) -> tuple[Head, tuple[str, ...]]:
        return hf_head(metadata, config.classes, str(file.path))

    notes = (*unsaid(metadata), *hf_notes(preprocessor, config.image_size))
    return _Reading("hf", config, slots, "classifier", images, labels, meaning, notes)


def _labels(reading: _Reading, file: ArrayFile) -> Labels | None:
    with _described(file):
        labels = reading.labels()
    classes = reading.config.classes
    if labels and len(labels) != classes:
        hint = miscounted(labels.names, classes)
        raise WeightsError(f"{file.path}: has {classes} classes, the config.json beside it names {len(labels)}{hint}")
    return labels


def _is_hf(file: ArrayFile) -> bool:
    return any(name.endswith(HF_PATCHES) for name in file.shapes)


def _open(path: Path) -> SafetensorsFile | TorchFile:
    if not path.exists():
        raise WeightsError(f"{path}: no such file")
    found = content_of(path)
    if found.kind == "torch":
        return TorchFile(path)
    if found.kind in ("safetensors", "index") or is_index(path):
        return SafetensorsFile(path)
    raise WeightsError(f"{path} {not_weights(found)}")


def _container_notes(file: SafetensorsFile | TorchFile) -> tuple[str, ...]:
    notes = []
    if isinstance(file, TorchFile) and file.container.endswith("_ema"):
        notes.append(f"the file may hold several sets of weights: the averaged ones, {file.container!r}, were read")
    if isinstance(file, TorchFile) and not file.verified:
        notes.append("the file has no checksums, so damage to it would go unnoticed")
    return tuple(notes)


@contextmanager
def _explained(file: ArrayFile) -> Iterator[None]:
    """Adds the file's name to mistakes in an architecture: in arrays, JSON files or the caller's `image_size`."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{file.path}: {error}") from None
    except ValidationError as error:
        raise WeightsError(f"{file.path}: the JSON files beside it do not fit: {mistakes_in(error)}") from None


@contextmanager
def _described(file: ArrayFile) -> Iterator[None]:
    """Adds the file's name to mistakes in preprocessing and labels, which only the JSON files describe."""
    try:
        yield
    except ConfigError as error:
        raise WeightsError(f"{file.path}: the JSON files beside it do not fit: {error}") from None
