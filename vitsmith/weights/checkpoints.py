"""Reads weights of other formats as bundles, writes bundles, and prepares a trained model for new classes."""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import Any

from vitsmith.arguments import flag, instance, known_name
from vitsmith.data.images.photos import sample_images
from vitsmith.errors import WeightsError
from vitsmith.files.atomic import replacing
from vitsmith.layers.positions import RESIZERS, ResizeMethod
from vitsmith.models.build import ImageModel, Model, build
from vitsmith.models.configure import change
from vitsmith.models.isolation import isolated
from vitsmith.records import NOT_KNOWN, Provenance, Publication
from vitsmith.weights.adapt import AdaptReport, adapt
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.folder import write_bundle
from vitsmith.weights.bundle.lit_text import vocabulary_suffix
from vitsmith.weights.fetch.augreg import find_augreg
from vitsmith.weights.fetch.download import download
from vitsmith.weights.fill import require_finite_model
from vitsmith.weights.foreign import load_foreign
from vitsmith.weights.heads import assumed_head
from vitsmith.weights.jax.checkpoint import check_fits_npz, load_npz, read_npz, save_npz
from vitsmith.weights.jax.vocabulary import check_text_fits_npz, find_vocabulary
from vitsmith.weights.load import load, size_of
from vitsmith.weights.sources import published_checkpoint

GOLDEN_IMAGES = 2


def save_as_bundle(bundle: Bundle, folder: Path) -> Bundle:
    """Writes a bundle of torch weights, with golden examples, and returns the one on disk. Raises OutputError."""
    return write_bundle(bundle.with_true_golden(sample_images(GOLDEN_IMAGES)), folder)


def save_as_npz(bundle: Bundle, target: Path) -> None:
    """Writes an `.npz`, and the vocabulary of a LiT beside it. Raises WeightsError for what the format cannot hold."""
    if bundle.calibration is not None:
        raise WeightsError(
            "the original's .npz format cannot hold a calibration, so probabilities would change; save a bundle "
            "instead, or leave the calibration out: dataclasses.replace(bundle, calibration=None)"
        )
    check_text_fits_npz(bundle)
    read_as, _ = assumed_head(bundle.model, target.name)
    if bundle.head not in (read_as, "none"):
        raise WeightsError(
            f"the original's .npz format cannot say what the outputs mean ({bundle.head}): they would be read as "
            f"{read_as}; save a bundle instead"
        )
    check_fits_npz(bundle.model)
    target = target if target.suffix.lower() == ".npz" else target.with_name(target.name + ".npz")
    if bundle.text is not None and bundle.vocabulary is not None:
        with replacing(target.with_suffix(vocabulary_suffix(bundle.text))) as partial:
            partial.write_bytes(bundle.vocabulary)
    save_npz(bundle.model, target)  # last, so that it is never there without its vocabulary


def init_for_finetune(
    source: str | os.PathLike[str] | Bundle | Model,
    *,
    classes: int,
    image_size: int | tuple[int, int] | None = None,
    positions: ResizeMethod = "zoom",
    keep_representation: bool = False,
    name: str | None = None,
    **overrides: Any,
) -> tuple[ImageModel, AdaptReport]:
    """A model for new classes from trained weights, in training mode, and a report of what became of each array.

    The head is reset to zeros. Position embeddings move to the grid of `image_size` (default: the source's own) by
    the original's zoom, or 'bicubic'. `overrides` are configuration fields such as dropout=0.1. A model given as an
    object must not be used afterwards.
    """
    size = size_of(image_size)
    known_name(positions, "way to resize position embeddings", RESIZERS)
    flag(keep_representation, "keep_representation")
    if isinstance(source, Bundle):
        model = source.model
    elif isinstance(source, str | os.PathLike):
        model = load(source, name=name, headless=True).model
    else:
        model = instance(
            source, Model, "what is fine-tuned", "a path, a published name, a bundle or a model of vitsmith"
        )
    require_finite_model(model, source.where if isinstance(source, Bundle) else "the model")
    return adapt(
        model,
        classes=classes,
        image_size=size,
        positions=positions,
        keep_representation=keep_representation,
        **overrides,
    )


_USUAL = {
    "npz": ("an .npz file", (".npz",)),
    "safetensors": ("a .safetensors file", (".safetensors",)),
    "torch": ("a file of torch.save", (".pth", ".pt", ".bin", ".ckpt", ".tar")),
}
"""The kinds of weights: name in messages, and usual suffixes."""


def _misnamed(path: Path, kind: str) -> tuple[str, ...]:
    """A note on a file whose suffix does not fit its contents."""
    what, suffixes = _USUAL.get(kind, ("", ()))
    if not what or path.suffix.lower() in suffixes:
        return ()
    return (f"{path.name} holds {what}, whatever its name says",)


def load_released(
    path: Path,
    *,
    name: str | None,
    image_size: tuple[int, int] | None,
    pooling: str | None,
    headless: bool,
    vocabulary: Path | None,
) -> Bundle:
    """A bundle of a `.npz` in the layout of the original. Raises WeightsError."""
    model, notes = read_npz(path, name=name, image_size=image_size, pooling=pooling, headless=headless)
    head, told = assumed_head(model, path.name)
    provenance = _provenance(str(path), "jax-npz", (*notes, *told, *_misnamed(path, "npz")))
    return Bundle.of(model, head=head, provenance=provenance, vocabulary=find_vocabulary(model, path, vocabulary))


def load_weights(
    path: Path, kind: str, *, name: str | None, image_size: tuple[int, int] | None, headless: bool
) -> Bundle:
    """A bundle of weights of timm or HF; `kind` is what `contents` says of the file. Raises WeightsError."""
    foreign = load_foreign(path, name=name, image_size=image_size, headless=headless)
    notes = (*foreign.notes, *_misnamed(path, kind))
    provenance = _provenance(str(path), foreign.format, notes, foreign.publication)
    return Bundle.of(
        foreign.model, preprocessing=foreign.images, labels=foreign.labels, head=foreign.head, provenance=provenance
    )


def load_published(
    source: str, *, name: str | None, image_size: tuple[int, int] | None, pooling: str | None, headless: bool
) -> Bundle:
    """Downloads the checkpoint of a tag or 'augreg:NAME' as a bundle. Raises InputError for an unknown name."""
    note = vocabulary = ""
    if source.startswith("augreg:"):
        file = find_augreg(source)
        url, architecture, note = file.url, file.model, file.note
    else:
        row = published_checkpoint(source)
        url, architecture, vocabulary = row.url, row.model, row.vocabulary
    path = download(url)
    model = load_npz(path, name=name or architecture, image_size=image_size, pooling=pooling, headless=headless)
    head, told = assumed_head(model, url.rpartition("/")[2])
    return Bundle.of(
        model,
        head=head,
        provenance=_provenance(url, "jax-npz", (*((note,) if note else ()), *told), Publication(origin=url)),
        vocabulary=download(vocabulary).read_bytes() if vocabulary else None,
    )


def without_head(bundle: Bundle) -> Bundle:
    """Returns a classifier without its head, which gives features."""
    config = change(bundle.config, classes=0)
    with isolated():
        model = build(config, device="meta")
        arrays = dict(bundle.model.named_parameters())
        model.load_state_dict({key: arrays[key].data for key, _ in model.named_parameters()}, assign=True)
    return bundle.derive(model, by=bundle.where, headless=True).with_split(None)


def _provenance(source: str, kind: str, notes: tuple[str, ...] = (), published: Publication = NOT_KNOWN) -> Provenance:
    from vitsmith.version import __version__

    today = datetime.date.today().isoformat()
    return Provenance(source=source, kind=kind, date=today, vitsmith=__version__, notes=notes, **published.model_dump())
