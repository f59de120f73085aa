"""ViTs and Mixers of timm, and ViTs of HF transformers: weights, preprocessing and labels from where they put them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from vitsmith.errors import WeightsError
from vitsmith.models.build import ImageModel, build
from vitsmith.models.config import ImageModelConfig
from vitsmith.models.configure import change
from vitsmith.models.lit import LiT
from vitsmith.models.presets import check_name
from vitsmith.specs import ImageSpec, Labels
from vitsmith.weights.fill import ArrayFile, check_arrays, fill_model
from vitsmith.weights.hf_config import HFConfig, hf_labels, infer_hf_config
from vitsmith.weights.hf_images import HFPreprocessor, hf_images, hf_notes
from vitsmith.weights.hf_names import hf_slots, naming_of, prefix_of
from vitsmith.weights.jax_npz import check_head
from vitsmith.weights.layouts import Slot
from vitsmith.weights.metadata import miscounted, read_metadata, told
from vitsmith.weights.tensors import INDEX_SUFFIX, SafetensorsFile, TorchFile
from vitsmith.weights.timm_config import PATCHES, STEM, has_class_position, infer_timm_config
from vitsmith.weights.timm_metadata import TimmMetadata, timm_images, timm_labels, timm_notes
from vitsmith.weights.timm_names import timm_slots

# What timm's `save_for_hf` and HF's `save_pretrained` write, the safest first.
FOLDER_FILES = ("model.safetensors", f"model{INDEX_SUFFIX}", "pytorch_model.bin")
TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt")
HF_PATCHES = "embeddings.patch_embeddings.projection.weight"


@dataclass(frozen=True)
class ForeignModel:
    """A model in eval mode with what came with it; `notes` says what had to be assumed."""

    model: ImageModel
    images: ImageSpec
    labels: Labels | None
    format: Literal["timm", "hf"]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Reading:
    """What a file turned out to be. `head` is their name of the classifier."""

    format: Literal["timm", "hf"]
    config: ImageModelConfig
    slots: dict[str, Slot]
    head: str
    images: ImageSpec
    labels: Callable[[], Labels | None]
    """Reads them, or raises WeightsError: who wants no classifier is not stopped by its labels."""
    notes: tuple[str, ...]


def load_foreign(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    image_size: tuple[int, int] | None = None,
    headless: bool = False,
) -> ForeignModel:
    """A plain ViT or Mixer of timm, or a ViT of HF, with the preprocessing and labels it was published with.

    Args:
        path: a .safetensors, .pth, .pt, .bin or .ckpt file, or a folder with `config.json` and the weights. A
            `config.json` (and HF's `preprocessor_config.json`) beside the weights is read: HF's must be there,
            without timm's the preprocessing is assumed.
        name: the architecture it is believed to be; another one in the file is a WeightsError.
        image_size: (height, width); needed only without a config.json, for grids that are not square and for timm's
            models that have no position for their class token.
        headless: leave the classifier out; the model then gives features.

    Raises WeightsError for anything missing, unexpected, misshapen, damaged or pickled, for what our models or
    preprocessing cannot do (each named), for a head of zeros, and for labels of another number of classes.
    """
    with _open(_weights_in(Path(path))) as file:
        reading = _read_hf(file, image_size) if _is_hf(file) else _read_timm(file, image_size)
        if name is not None:
            check_name(reading.config, name, str(file.path))
        config, slots, unused = reading.config, reading.slots, frozenset[str]()
        if headless:
            config = change(config, classes=0)
            heads = (reading.head, f"{reading.head}_dist")
            unused = frozenset(f"{head}.{kind}" for head in heads for kind in ("weight", "bias"))
            slots = {array: slot for array, slot in slots.items() if array not in unused}
        model = build(config, fresh=False)
        assert not isinstance(model, LiT)
        check_arrays(model, slots, file, unused=unused)
        fill_model(model, slots, file)
    check_head(model, str(file.path), headless=headless, kernel=f"{reading.head}.weight")
    labels = None if headless else _labels(reading, file)
    notes = (*reading.notes, *_container_notes(file))
    return ForeignModel(model.eval(), reading.images, labels, reading.format, notes)


def _read_timm(file: ArrayFile, image_size: tuple[int, int] | None) -> _Reading:
    if PATCHES not in file.shapes and STEM not in file.shapes:
        shown = ", ".join(sorted(file.shapes)[:4]) or "nothing"
        raise WeightsError(f"{file.path}: not the arrays of a timm ViT or Mixer or an HF ViT (they begin with {shown})")
    metadata = read_metadata(file.path.with_name("config.json"), TimmMetadata)
    config = infer_timm_config(file, metadata, image_size=image_size)
    slots = timm_slots(config, class_position=has_class_position(file, config))
    with _explained(file):
        images = timm_images(config, metadata, str(file.path))
    labels = partial(timm_labels, metadata, str(file.path))
    return _Reading("timm", config, slots, "head", images, labels, timm_notes(config, metadata, images))


def _read_hf(file: ArrayFile, image_size: tuple[int, int] | None) -> _Reading:
    metadata = read_metadata(file.path.with_name("config.json"), HFConfig)
    if metadata is None:
        raise WeightsError(
            f"{file.path}: an HF model needs its config.json beside it: heads, GELU and LayerNorm eps are only there"
        )
    preprocessor = read_metadata(file.path.with_name("preprocessor_config.json"), HFPreprocessor)
    config = infer_hf_config(file, metadata)
    if image_size is not None:
        config = change(config, image_size=image_size)
    names = set(file.shapes)
    slots = hf_slots(config, naming_of(names), prefix_of(names))
    with _explained(file):
        images = hf_images(preprocessor, config.image_size, str(file.path))
    labels = partial(hf_labels, metadata, str(file.path))
    return _Reading("hf", config, slots, "classifier", images, labels, hf_notes(preprocessor, config.image_size))


def _labels(reading: _Reading, file: ArrayFile) -> Labels | None:
    with _explained(file):
        labels = reading.labels()
    classes = reading.config.classes
    if labels and len(labels) != classes:
        hint = miscounted(labels.names, classes)
        raise WeightsError(f"{file.path}: has {classes} classes, the config.json beside it names {len(labels)}{hint}")
    return labels


def _is_hf(file: ArrayFile) -> bool:
    return any(name.endswith(HF_PATCHES) for name in file.shapes)


def _weights_in(path: Path) -> Path:
    """The file of weights: `path`, or the one in that folder."""
    if not path.is_dir():
        return path
    for name in FOLDER_FILES:
        if (path / name).is_file():
            return path / name
    raise WeightsError(f"{path}: none of {', '.join(FOLDER_FILES)} is in this folder")


def _open(path: Path) -> SafetensorsFile | TorchFile:
    if path.suffix == ".safetensors" or path.name.endswith(INDEX_SUFFIX):
        return SafetensorsFile(path)
    if path.suffix in TORCH_SUFFIXES:
        return TorchFile(path)
    raise WeightsError(f"{path}: known are .safetensors, {', '.join(TORCH_SUFFIXES)} and folders of timm and HF")


def _container_notes(file: SafetensorsFile | TorchFile) -> tuple[str, ...]:
    if isinstance(file, TorchFile) and file.container.endswith("_ema"):
        return (f"the file may hold several sets of weights: the averaged ones, {file.container!r}, were taken",)
    return ()


@contextmanager
def _explained(file: ArrayFile) -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        raise WeightsError(f"{file.path}: the JSON files beside it do not fit: {told(error)}") from None
